package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/filter"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Kind says how a database is used, and with that how much memory it may take.
type Kind int

// The kinds of databases.
const (
	Newest Kind = iota // the log's segment that is written
	Sealed             // a full segment, read alone: what goleveldb writes when it opens one stays in memory
	State              // the state store
	Index              // what can be made again: damage met by a write stops nobody
)

// Options of a Storage. Zero values mean the defaults that were measured; tests make them small so that
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

// Storage is what all databases of one data directory share: the latch, the caches, the meter. It is for
// concurrent use and needs no closing.
type Storage struct {
	options       Options
	latch         *Latch
	meter         meter
	short         shortage
	blocks, files opt.Cacher
}

// NewStorage returns a Storage without databases.
func NewStorage(o Options) *Storage {
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
	return &Storage{
		options: o, latch: NewLatch(o.OnPoison),
		blocks: opt.NewLRU(o.BlockCache), files: opt.NewLRU(o.OpenFiles),
	}
}

// Latch is the latch of all its databases, for callers that watch it.
func (s *Storage) Latch() *Latch { return s.latch }

// StorageStats is what the disk has done for the databases of a Storage so far.
type StorageStats struct {
	Writes, Syncs uint64        // of files
	SyncP99       time.Duration // of the last 1024 syncs
}

// Stats returns the counters now.
func (s *Storage) Stats() StorageStats {
	return StorageStats{s.meter.writes.Load(), s.meter.syncs.Load(), s.meter.p99()}
}

// keyFilter tells of most keys that are not there without reading a block: 10 bits a key.
var keyFilter = filter.NewBloomFilter(10)

func (s *Storage) leveldbOptions(kind Kind) *opt.Options {
	o := &opt.Options{
		// A set Strict replaces the default as a whole. Without StrictManifest goleveldb deletes tables
		// that a damaged manifest no longer names; StrictJournal would refuse legal torn tails.
		Strict:                       opt.DefaultStrict | opt.StrictManifest,
		DisableLargeBatchTransaction: true, // an error inside one would wedge the database
		NoWriteMerge:                 true, // one writer, which groups by itself
		DisableSeeksCompaction:       true, // reads must not start compactions
		WriteBuffer:                  s.options.WriteBuffer,
		CompactionTableSize:          s.options.TableSize,
		MaxManifestFileSize:          s.options.ManifestSize,
		BlockCacher:                  s.blocks,
		OpenFilesCacher:              s.files,
		Filter:                       keyFilter,
		WriteL0SlowdownTrigger:       16, // the default 8 sleeps 1 ms per write too early
		WriteL0PauseTrigger:          32, // the default 12 blocks the writer inside goleveldb
	}
	switch kind {
	case Sealed:
		// The buffer is allocated when a database is opened, and nothing is merged, since that would lie in memory.
		o.WriteBuffer = min(o.WriteBuffer, 1*opt.MiB)
		o.CompactionL0Trigger, o.CompactionTotalSize, o.CompactionTotalSizeMultiplier = math.MaxInt32, math.MaxInt, 1
	case State:
		o.WriteBuffer = min(o.WriteBuffer, 4*opt.MiB)
	case Index:
		o.WriteBuffer = min(o.WriteBuffer, 2*opt.MiB)
	}
	return o
}

// Open opens an existing database after scanning it. fs.ErrNotExist: there is none of that name. Damage:
// refused, see there. ErrDescriptors: try again later. A database that another process holds open is refused as well.
// It blocks for the time of reading the manifest and the journals. One of kind Sealed is never written: it opens on a
// full disk, and no trouble with it trips the latch. It takes as much memory as its journals hold (see Settle).
func (s *Storage) Open(place Place, name string, kind Kind) (*DB, error) {
	return s.open(place, name, kind, false)
}

// settled is how many bytes of journals a database may have for Settle to leave it as it is.
const settled = 1 << 20

// Settle opens a closed database for writing and closes it again when its journals hold much, so that all of it lies in
// tables and it can be looked at with little memory. It writes as much as the journals hold; there has to be room.
func (s *Storage) Settle(place Place, name string) error {
	n, err := journaled(place, name)
	if err != nil || n <= settled {
		return err
	}
	db, err := s.open(place, name, Newest, false)
	if err != nil {
		return err
	}
	return db.Close()
}

// journaled is how many bytes the journals of a database hold.
func journaled(place Place, name string) (n int64, err error) {
	files, err := place.Look(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	journals, err := files.List(storage.TypeJournal)
	if err != nil {
		return 0, err
	}
	for _, fd := range journals {
		r, err := files.Open(fd)
		if err != nil {
			return 0, err
		}
		size, err := r.Seek(0, io.SeekEnd)
		if err = errors.Join(err, r.Close()); err != nil {
			return 0, err
		}
		n += size
	}
	return n, nil
}

// Create makes a database that holds first, as one step: whatever crash comes, afterwards it exists under its name
// with first in it, or not at all. It is an error (fs.ErrExist) when the name is taken. ErrDescriptors: the same call
// may be repeated; the database is not there, or is there whole and only not open.
func (s *Storage) Create(place Place, name string, kind Kind, first *Batch) (*DB, error) {
	if names, err := place.List(); err != nil {
		return nil, asDescriptors(err)
	} else if slices.Contains(names, name) {
		return nil, fmt.Errorf("create database %s/%s: %w", place, name, fs.ErrExist)
	} else if slices.Contains(names, making+name) { // an earlier try found no descriptor
		if err := place.Remove(making + name); err != nil {
			return nil, asDescriptors(err)
		}
	}
	db, err := s.open(place, making+name, kind, true)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(db.Write(first), db.Close()); err != nil {
		return nil, err
	}
	if err := s.Rename(place, making+name, name); err != nil {
		return nil, err
	}
	return s.open(place, name, kind, false)
}

// Drop deletes a closed database. When it returns nil the name is gone durably and the space is free. A crash inside
// leaves the database whole or to Sweep; after an error that does not wrap ErrStopped it may be called again.
func (s *Storage) Drop(place Place, name string) error {
	names, err := place.List()
	if err != nil {
		return asDescriptors(err)
	}
	if slices.Contains(names, name) {
		if err := s.Rename(place, name, trash+name); err != nil {
			return err
		}
	}
	return asDescriptors(place.Remove(trash + name))
}

// Prefixes of names that are half made or half dropped.
const (
	making = "tmp-"
	trash  = "trash-"
)

// Sweep finishes what a crash interrupted inside Create and Drop and returns the names of the databases,
// sorted, and of whatever else lies there.
func (s *Storage) Sweep(place Place) ([]string, error) {
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

// Rename gives a closed database another name, as one step: when it returns nil the new name survives power loss. It
// is a mutating call like those of a database's files, and obeys the latch like them. ErrDescriptors: it has its old
// name, and the same call may be repeated.
func (s *Storage) Rename(place Place, old, new string) error {
	if err := s.latch.Err(); err != nil {
		return err
	}
	err := place.Rename(old, new)
	if noDescriptor(err) {
		return asDescriptors(err)
	}
	if err != nil {
		return s.latch.Trip(err)
	}
	return s.latch.Err()
}

func (s *Storage) open(place Place, name string, kind Kind, create bool) (*DB, error) {
	if err := s.latch.Err(); err != nil && kind != Sealed {
		return nil, err
	}
	files, err := s.filesOf(place, name, kind, create)
	if err != nil {
		return nil, err
	}
	return s.start(place, name, files, kind, create)
}

// start opens the database in files, which it closes when that fails.
func (s *Storage) start(place Place, name string, files Files, kind Kind, create bool) (*DB, error) {
	full := place.String() + "/" + name
	f := &failstop{Files: files, name: full, latch: s.latch, meter: &s.meter, limit: s.options.SyncLimit, short: &s.short}
	if kind == Sealed {
		f.latch, f.meter = NewLatch(nil), new(meter) // memory
	}
	fail := func(err error) (*DB, error) {
		files.Close() // the first error matters
		if refused := f.refused.Load(); refused != nil {
			err = *refused // goleveldb hides it behind its own cleaning up
		}
		if stopped := f.latch.Err(); stopped != nil {
			err = stopped
		}
		return nil, named("open database", full, asDamage(full, err))
	}
	o := s.leveldbOptions(kind)
	if o.ErrorIfExist, o.ErrorIfMissing = create, !create; !create {
		torn, err := prescan(place, name, f)
		if err != nil {
			return fail(err)
		}
		if torn { // the unsynced edit had no effect yet
			o.Strict &^= opt.StrictManifest
		}
	}
	db, err := leveldb.Open(f, o)
	if err != nil {
		return fail(err)
	}
	f.patient.Store(true)
	return &DB{db: db, files: files, guard: f, storage: s, place: place, base: name, name: full, kind: kind}, nil
}

// filesOf opens the files of a database as its kind needs them.
func (s *Storage) filesOf(place Place, name string, kind Kind, create bool) (Files, error) {
	if kind == Sealed && !create {
		files, err := place.Look(name)
		if err != nil {
			return nil, asDescriptors(err)
		}
		return overlaid(files), nil
	}
	files, err := place.Open(name, create)
	if err != nil && create && !noDescriptor(err) {
		return nil, s.latch.Trip(err) // making a directory is a write like any other
	}
	return files, asDescriptors(err)
}
