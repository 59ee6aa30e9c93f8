package disk

import (
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// lookCache is how many bytes of blocks a look keeps, lookFiles how many tables it keeps open.
const (
	lookCache = 1 * opt.MiB
	lookFiles = 16
)

// Look opens a database as it lies on the disk now, for reading: with files and caches of its own, beside readers that
// have it open as Sealed. Errors are those of Open; nothing is changed, and no damaged file is copied. See DB.Look.
func (s *Storage) Look(place Place, name string) (*DB, error) {
	files, err := place.Look(name)
	if err != nil {
		return nil, asDescriptors(err)
	}
	return s.look(place, name, files)
}

// Look opens a database as it lies on the disk now beside d, which has it open and may write to it. What d has written
// before is there. Files that d removes meanwhile stay until the look is closed, so they take their space until then.
// Once d is closed the look fails with an error that is no Damage, or as one of a file that is missing.
func (d *DB) Look() (*DB, error) {
	return d.storage.look(d.place, d.base, &beside{Files: d.files, release: d.guard.hold()})
}

func (s *Storage) look(place Place, name string, files Files) (*DB, error) {
	own := &Storage{options: s.options, latch: NewLatch(nil), blocks: opt.NewLRU(lookCache), files: opt.NewLRU(lookFiles)}
	return own.start(uncopied{place}, name, overlaid(files), Sealed, false)
}

// uncopied is a place whose damaged files are not copied: whoever opens them to write does that.
type uncopied struct{ Place }

func (uncopied) SetAside(string, string) (string, error) { return "", nil }

// beside is the files of a database that is open, for somebody else who reads them.
type beside struct {
	Files
	release func()
}

func (b *beside) Lock() (storage.Locker, error) { return unlocked{}, nil }
func (b *beside) Log(string)                    {}

// Close leaves the files open to the one who has them.
func (b *beside) Close() error {
	b.release()
	return nil
}

type unlocked struct{}

func (unlocked) Unlock() {}
