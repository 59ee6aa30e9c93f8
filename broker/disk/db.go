package disk

import (
	"errors"
	"fmt"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/iterator"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"
)

// Batch is a group of puts and deletes that is written as one unit.
type Batch = leveldb.Batch

// ErrNotFound is returned by Get for a key that is not there.
var ErrNotFound = leveldb.ErrNotFound

// DB is one open database. Reads are for concurrent use beside one writer. Close comes after the last
// reader has finished.
type DB struct {
	db      *leveldb.DB
	files   Files
	guard   *failstop // above files
	storage *Storage
	place   Place
	base    string // its name there
	name    string // with the place
	kind    Kind
}

// Written reports whether the database is open for writing.
func (d *DB) Written() bool { return d.kind != Sealed }

// Write writes a batch and syncs it; the batch may be reused afterwards. It blocks for one sync, longer while
// goleveldb's compactions lag. nil: all of it survives power loss. An error wraps ErrStopped: the outcome is unknown,
// every database of this Storage is stopped, and the process must end. Of an Index it may be Damage.
func (d *DB) Write(b *Batch) error {
	for {
		if err := d.storage.latch.Err(); err != nil {
			return err
		}
		err := d.db.Write(b, &opt.WriteOptions{Sync: true})
		if err == nil {
			return d.storage.latch.Err()
		}
		if damage := asDamage(d.name, err); d.kind == Index && d.storage.latch.Err() == nil && IsDamage(damage) {
			return damage // a compaction met it; nothing is lost but what can be made again
		}
		if !noDescriptor(err) {
			return d.storage.latch.Trip(fmt.Errorf("write %s: %w", d.name, err))
		}
		d.storage.short.wait(d.storage.latch) // a compaction could not open a table; the same batch twice is the same batch
	}
}

// Get returns a copy of the value, ErrNotFound, Damage or a read error.
func (d *DB) Get(key []byte) ([]byte, error) {
	v, err := d.db.Get(key, nil)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("read %s: %w", d.name, asDamage(d.name, err))
	}
	return v, err
}

// Range returns a cursor before the first of the keys from <= key < to. The caller closes it soon: an open
// cursor keeps old tables on the disk.
func (d *DB) Range(from, to []byte) *Cursor {
	return &Cursor{d.db.NewIterator(&util.Range{Start: from, Limit: to}, nil), d.name}
}

// Last returns a copy of the greatest key with from <= key < to and of its value; ErrNotFound when none.
func (d *DB) Last(from, to []byte) (key, value []byte, err error) {
	c := d.Range(from, to)
	c.it.Seek(to)
	if c.it.Prev() {
		key, value = append(key, c.Key()...), append(value, c.Value()...)
	}
	if err := c.Close(); err != nil {
		return nil, nil, err
	}
	if key == nil {
		return nil, nil, ErrNotFound
	}
	return key, value, nil
}

// Cursor walks over a range of keys, for one goroutine.
type Cursor struct {
	it   iterator.Iterator
	name string
}

// Next moves to the next key, at first to the first one; false at the end or on an error (see Close).
func (c *Cursor) Next() bool { return c.it.Next() }

// Key is the current key, borrowed until Next or Close.
func (c *Cursor) Key() []byte { return c.it.Key() }

// Value is the current value, borrowed until Next or Close.
func (c *Cursor) Value() []byte { return c.it.Value() }

// Close ends the walk and returns the error that cut it short: Damage or a read error. A damaged block may
// also show as keys that are missing; the reader must know what to expect.
func (c *Cursor) Close() error {
	err := c.it.Error()
	c.it.Release()
	if err != nil {
		return fmt.Errorf("read %s: %w", c.name, asDamage(c.name, err))
	}
	return nil
}

// Stats describes how a database fares.
type Stats struct {
	Level0      int   // tables not yet merged: from 12 alert, from 24 refuse input
	WriteDelays int32 // writes that goleveldb slowed down, so far
	WritePaused bool  // a write waits for compactions now
	Iterators   int32 // open cursors
	Bytes       int64 // in tables
}

// Stats returns the figures now.
func (d *DB) Stats() (Stats, error) {
	var s leveldb.DBStats
	if err := d.db.Stats(&s); err != nil {
		return Stats{}, fmt.Errorf("stats of %s: %w", d.name, err)
	}
	out := Stats{WriteDelays: s.WriteDelayCount, WritePaused: s.WritePaused, Iterators: s.AliveIterators,
		Bytes: s.LevelSizes.Sum()}
	if len(s.LevelTablesCounts) > 0 {
		out.Level0 = s.LevelTablesCounts[0]
	}
	return out, nil
}

// Close closes the database and frees its lock. It may wait for a running compaction; after the latch has
// tripped the process ends without it.
func (d *DB) Close() error {
	if err := errors.Join(d.db.Close(), d.files.Close()); err != nil {
		return fmt.Errorf("close %s: %w", d.name, err)
	}
	return nil
}
