package disk

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// FrozenDir is the directory at path as a Place that is never changed: what goleveldb writes when it opens
// a database (it replays journals and starts new ones) goes to memory, and what it removes is only hidden.
// It is for tools that look at a stopped broker's data. Opening fails while another process has the
// database open. Rename and Remove are refused, and SetAside copies nothing.
func FrozenDir(path string) Place { return frozenDir{dir(path)} }

type frozenDir struct{ dir }

var errFrozen = errors.New("this data directory is opened for looking only")

func (d frozenDir) Open(name string, create bool) (Files, error) {
	if create {
		return nil, errFrozen
	}
	files, err := d.Look(name)
	if err != nil {
		return nil, err
	}
	return overlaid(files), nil
}

func (d frozenDir) Rename(string, string) error             { return errFrozen }
func (d frozenDir) Remove(string) error                     { return errFrozen }
func (d frozenDir) SetAside(string, string) (string, error) { return "", nil }

// overlay keeps new files in memory above files that must not change.
type overlay struct {
	Files // below
	above storage.Storage

	mu     sync.Mutex
	made   map[storage.FileDesc]bool // lies above
	hidden map[storage.FileDesc]bool // lies below, but was removed
}

func overlaid(files Files) *overlay {
	return &overlay{Files: files, above: storage.NewMemStorage(),
		made: make(map[storage.FileDesc]bool), hidden: make(map[storage.FileDesc]bool)}
}

func (o *overlay) place(fd storage.FileDesc) (storage.Storage, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.made[fd] {
		return o.above, nil
	}
	if o.hidden[fd] {
		return nil, os.ErrNotExist
	}
	return o.Files, nil
}

func (o *overlay) SyncDir() error { return nil }

func (o *overlay) SetMeta(fd storage.FileDesc) error { return o.above.SetMeta(fd) }

func (o *overlay) GetMeta() (storage.FileDesc, error) {
	if fd, err := o.above.GetMeta(); err == nil {
		return fd, nil
	}
	return o.Files.GetMeta()
}

func (o *overlay) List(t storage.FileType) ([]storage.FileDesc, error) {
	fds, err := o.Files.List(t)
	if err != nil {
		return nil, err
	}
	made, err := o.above.List(t)
	o.mu.Lock()
	defer o.mu.Unlock()
	fds = slices.DeleteFunc(fds, func(fd storage.FileDesc) bool { return o.hidden[fd] || o.made[fd] })
	return append(fds, made...), err
}

func (o *overlay) Open(fd storage.FileDesc) (storage.Reader, error) {
	s, err := o.place(fd)
	if err != nil {
		return nil, err
	}
	return s.Open(fd)
}

func (o *overlay) Create(fd storage.FileDesc) (storage.Writer, error) {
	o.mu.Lock()
	o.made[fd] = true
	o.mu.Unlock()
	return o.above.Create(fd)
}

func (o *overlay) Remove(fd storage.FileDesc) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.made[fd] {
		delete(o.made, fd)
		return o.above.Remove(fd)
	}
	o.hidden[fd] = true
	return nil
}

func (o *overlay) Rename(from, _ storage.FileDesc) error {
	return fmt.Errorf("rename %s: %w", from, errFrozen)
}
