package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
)

// Kind says how a database is used, and with that how much memory it may take.
type Kind int

// The kinds of databases.
const (
	Newest Kind = iota // the log's segment that is written
	Sealed             // a full segment, read only, though goleveldb writes a little when it opens one
	State              // the state store
)

// Options of a Ground. Zero values mean the defaults that were measured; tests make them small so that
// rare events become common.
type Options struct {
	OnPoison     func(error)   // see NewLatch
	SyncLimit    time.Duration // a disk operation that takes longer counts as failed; 0 means 30 s
	BlockCache   int           // bytes, shared by all databases; 0 means 32 MiB
	OpenFiles    int           // table files kept open, shared; 0 means 256
	WriteBuffer  int           // bytes, of the newest segment; 0 means 16 MiB
	TableSize    int           // bytes; 0 means 8 MiB
	ManifestSize int64         // bytes, after which a manifest is rewritten; 0 means goleveldb's
}

// Ground is what all databases of one data directory share: the latch, the caches, the meter. It is for
// concurrent use and needs no closing.
type Ground struct {
	options       Options
	latch         *Latch
	meter         meter
	blocks, files opt.Cacher
}

// NewGround returns a ground with no databases.
func NewGround(o Options) *Ground {
	or := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	or(&o.BlockCache, 32*opt.MiB)
	or(&o.OpenFiles, 256)
	or(&o.WriteBuffer, 16*opt.MiB)
	or(&o.TableSize, 8*opt.MiB)
	if o.SyncLimit == 0 {
		o.SyncLimit = 30 * time.Second
	}
	return &Ground{
		options: o, latch: NewLatch(o.OnPoison),
		blocks: opt.NewLRU(o.BlockCache), files: opt.NewLRU(o.OpenFiles),
	}
}

// Latch is the ground's latch, for callers that watch it.
func (g *Ground) Latch() *Latch { return g.latch }

// GroundStats is what the disk under a ground did so far.
type GroundStats struct {
	Writes, Syncs uint64        // of files
	SyncP99       time.Duration // of the last 1024 syncs
}

// Stats returns the counters now.
func (g *Ground) Stats() GroundStats {
	return GroundStats{g.meter.writes.Load(), g.meter.syncs.Load(), g.meter.p99()}
}

func (g *Ground) leveldbOptions(kind Kind) *opt.Options {
	o := &opt.Options{
		// A set Strict replaces the default as a whole. Without StrictManifest goleveldb deletes tables
		// that a damaged manifest no longer names; StrictJournal would refuse legal torn tails.
		Strict:                       opt.DefaultStrict | opt.StrictManifest,
		DisableLargeBatchTransaction: true, // an error inside one would wedge the database
		NoWriteMerge:                 true, // one writer, which groups by itself
		DisableSeeksCompaction:       true, // reads must not start compactions
		WriteBuffer:                  g.options.WriteBuffer,
		CompactionTableSize:          g.options.TableSize,
		MaxManifestFileSize:          g.options.ManifestSize,
		BlockCacher:                  g.blocks,
		OpenFilesCacher:              g.files,
		WriteL0SlowdownTrigger:       16, // the default 8 sleeps 1 ms per write too early
		WriteL0PauseTrigger:          32, // the default 12 blocks the writer inside goleveldb
	}
	switch kind {
	case Sealed: // the buffer is allocated when a database is opened
		o.WriteBuffer = min(o.WriteBuffer, 1*opt.MiB)
	case State:
		o.WriteBuffer = min(o.WriteBuffer, 4*opt.MiB)
	}
	return o
}

// Open opens an existing database after scanning it. fs.ErrNotExist: there is none of that name. Damage:
// refused, see there. A database that another process holds open is refused as well. It blocks for the
// time of reading the manifest and the journals.
func (g *Ground) Open(place Place, name string, kind Kind) (*DB, error) {
	return g.open(place, name, kind, false)
}

// Create makes a database that holds first, as one step: whatever crash comes, afterwards it exists under
// its name with first in it, or not at all. It is an error (fs.ErrExist) when the name is taken.
func (g *Ground) Create(place Place, name string, kind Kind, first *Batch) (*DB, error) {
	if names, err := place.List(); err != nil {
		return nil, err
	} else if slices.Contains(names, name) {
		return nil, fmt.Errorf("create database %s/%s: %w", place, name, fs.ErrExist)
	}
	db, err := g.open(place, making+name, kind, true)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(db.Write(first), db.Close()); err != nil {
		return nil, err
	}
	if err := g.rename(place, making+name, name); err != nil {
		return nil, err
	}
	return g.open(place, name, kind, false)
}

// Drop deletes a closed database. When it returns nil the name is gone durably and the space is free.
// A crash inside leaves the database whole or to Sweep.
func (g *Ground) Drop(place Place, name string) error {
	if err := g.rename(place, name, trash+name); err != nil {
		return err
	}
	return place.Remove(trash + name)
}

// Prefixes of names that are half made or half dropped.
const (
	making = "tmp-"
	trash  = "trash-"
)

// Sweep finishes what a crash interrupted inside Create and Drop and returns the names of the databases,
// sorted, and of whatever else lies there.
func (g *Ground) Sweep(place Place) ([]string, error) {
	names, err := place.List()
	if err != nil {
		return nil, err
	}
	var kept []string
	for _, name := range names {
		if !strings.HasPrefix(name, making) && !strings.HasPrefix(name, trash) {
			kept = append(kept, name)
		} else if err := place.Remove(name); err != nil && !errors.Is(err, errFrozen) {
			return nil, err
		}
	}
	return kept, nil
}

// rename is a mutating call like those of a database's files, and obeys the latch like them.
func (g *Ground) rename(place Place, old, new string) error {
	if err := g.latch.Err(); err != nil {
		return err
	}
	if err := place.Rename(old, new); err != nil {
		return g.latch.Trip(err)
	}
	return g.latch.Err()
}

func (g *Ground) open(place Place, name string, kind Kind, create bool) (*DB, error) {
	if err := g.latch.Err(); err != nil {
		return nil, err
	}
	full := place.String() + "/" + name
	files, err := place.Open(name, create)
	if err != nil && create {
		return nil, g.latch.Trip(err) // making a directory is a write like any other
	}
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*DB, error) {
		files.Close() // the first error matters
		if stopped := g.latch.Err(); stopped != nil {
			err = stopped // goleveldb hides it behind its own cleaning up
		}
		return nil, fmt.Errorf("open database %s: %w", full, asDamage(full, err))
	}
	o := g.leveldbOptions(kind)
	if o.ErrorIfExist, o.ErrorIfMissing = create, !create; !create {
		torn, err := prescan(place, name, files)
		if err != nil {
			return fail(err)
		}
		if torn { // the unsynced edit had no effect yet
			o.Strict &^= opt.StrictManifest
		}
	}
	db, err := leveldb.Open(&failstop{Files: files, name: full, latch: g.latch, meter: &g.meter, limit: g.options.SyncLimit}, o)
	if err != nil {
		return fail(err)
	}
	return &DB{db: db, files: files, ground: g, name: full}, nil
}
