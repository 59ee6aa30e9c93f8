package kv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/nodeclient"
)

const (
	positionKey = "position"
	topicsKey   = "topics"
	versionKey  = "version"
	version     = 1
	dataPrefix  = 'k'
)

// dataKey is a key as the database has it.
func dataKey[T string | []byte](key T) []byte {
	return append(append(make([]byte, 0, 1+len(key)), dataPrefix), key...)
}

// Database is one database. Methods are called one at a time; a Snapshot, Get and Scan are read meanwhile.
type Database struct {
	place disk.Place
	dir   string // where the place lies
	name  string // of the database in it
	// storage has the latch: it is this database's alone, and new with each opening.
	storage *disk.Storage
	db      *disk.DB       // nil after Close, or a Switch or failed write after which it could not be opened again
	pos     event.Position // as stored
	closed  bool
	// doubt is the position of a write that failed: whether it is stored is seen when the database has been opened
	// again. Zero when there is none.
	doubt   event.Position
	reading atomic.Int32 // open snapshots
	reads   sync.RWMutex // held by Get and Scan, and by whoever closes db
}

var _ nodeclient.Database = (*Database)(nil)

// Open opens the database in the folder path and makes it when it is not there; the folder around it must exist. A
// Switch that a crash interrupted is finished first, an unfinished restore removed. A database that is damaged is
// Fatal; what is no database of this driver, or a path that cannot be one, is an error without a mark.
func Open(path string) (*Database, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("kv: %w", err)
	}
	info, err := os.Stat(filepath.Dir(abs))
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, fmt.Errorf("kv: the folder around %s is not there: %w", abs, withoutPath(err))
	}
	if info, err := os.Stat(abs); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("kv: %s is no folder: %w", abs, syscall.ENOTDIR)
	}
	return openIn(disk.Dir(filepath.Dir(abs)), filepath.Dir(abs), filepath.Base(abs))
}

// withoutPath is the cause of an error about a file whose name is said already.
func withoutPath(err error) error {
	if e := (*os.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

func openIn(place disk.Place, dir, name string) (*Database, error) {
	t := &Database{place: place, dir: dir, name: name}
	if err := t.open(); err != nil {
		return nil, err
	}
	return t, nil
}

// newStorage is a Storage whose latch is that of one database.
func newStorage() *disk.Storage {
	return disk.NewStorage(disk.Options{BlockCache: 8 << 20, OpenFiles: 64})
}

// open finishes a decided switch, tidies up and opens the database. On an error everything is closed again.
func (t *Database) open() error {
	if err := t.settle(); err != nil {
		return nodeclient.Transient(fmt.Errorf("kv: finish what a restore of %s left: %w", t.name, err))
	}
	t.storage = newStorage()
	names, err := t.place.List()
	if err != nil {
		return nodeclient.Transient(fmt.Errorf("kv: %w", err))
	}
	if slices.Contains(names, t.name) {
		t.db, err = t.storage.Open(t.place, t.name, disk.State)
	} else {
		t.db, err = t.storage.Create(t.place, t.name, disk.State, first())
	}
	if err != nil {
		t.db = nil
		return t.trouble("open", err)
	}
	if t.pos, err = readPosition(t.db); err != nil {
		err = t.trouble("open", err)
		return errors.Join(err, t.shut())
	}
	return nil
}

// first is what a new database holds.
func first() *disk.Batch {
	var b disk.Batch
	b.Put([]byte(versionKey), []byte{version})
	return &b
}

var errForeign = errors.New("it holds no data of this driver, or of a later version")

// readPosition reads the position, zero when there is none, and checks the version.
func readPosition(db *disk.DB) (event.Position, error) {
	v, err := db.Get([]byte(versionKey))
	if errors.Is(err, disk.ErrNotFound) || err == nil && (len(v) != 1 || v[0] != version) {
		return event.Position{}, errForeign
	}
	if err != nil {
		return event.Position{}, err
	}
	b, err := db.Get([]byte(positionKey))
	if errors.Is(err, disk.ErrNotFound) {
		empty, err := empty(db)
		if err == nil && !empty {
			err = nodeclient.Fatal(errors.New("it has data but no position: this copy has lost its position; restore it from " +
				"another node"))
		}
		return event.Position{}, err
	}
	if err != nil {
		return event.Position{}, err
	}
	if len(b) != 24 {
		return event.Position{}, nodeclient.Fatal(fmt.Errorf("its position has %d bytes: %w", len(b), event.ErrDamaged))
	}
	le := binary.LittleEndian
	return event.Position{Log: event.LogID(le.Uint64(b)), Seq: le.Uint64(b[8:]), Chain: event.Chain(le.Uint64(b[16:]))},
		nil
}

func encodePosition(pos event.Position) (b []byte) {
	for _, v := range [...]uint64{uint64(pos.Log), pos.Seq, uint64(pos.Chain)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// empty reports whether there is no value.
func empty(db *disk.DB) (bool, error) {
	c := db.Range([]byte{dataPrefix}, []byte{dataPrefix + 1})
	found := c.Next()
	return !found, c.Close()
}

// trouble classes an error of the database.
func (t *Database) trouble(what string, err error) error {
	text := fmt.Errorf("kv: %s %s: %w", what, t.name, err)
	if strings.Contains(err.Error(), filepath.Join(t.dir, t.name)) {
		text = fmt.Errorf("kv: %w", err)
	}
	switch {
	case nodeclient.IsFatal(err) || nodeclient.IsTransient(err):
		return text
	case errors.Is(err, errForeign):
		return text
	case disk.IsDamage(err):
		return nodeclient.Fatal(fmt.Errorf("%w; restore it from another node", text))
	}
	return nodeclient.Transient(text)
}

// usable opens the database again after a failed write, or when a Switch could not. What a failed write has left is
// unknown until then. It fails as long as the disk does.
func (t *Database) usable() error {
	if t.closed {
		return fmt.Errorf("kv: %s has been closed", t.name)
	}
	if t.db != nil {
		failed := t.storage.Latch().Err()
		switch {
		case failed == nil:
			return nil
		case t.reading.Load() > 0: // it reads the database that would be closed
			return nodeclient.Transient(fmt.Errorf("kv: %s takes nothing more since a write failed; it is opened again when "+
				"the snapshot being read is closed: %w", t.name, failed))
		}
		if !t.reads.TryLock() {
			return nodeclient.Transient(fmt.Errorf("kv: %s takes nothing more since a write failed; it is opened again when "+
				"nobody reads it: %w", t.name, failed))
		}
		defer t.reads.Unlock()
		_ = t.shut() // the failed write was told
	}
	return t.open()
}

// Close implements nodeclient.Database.
func (t *Database) Close() error {
	t.closed = true
	return t.shut()
}

func (t *Database) shut() error {
	if t.db == nil {
		return nil
	}
	err := t.db.Close()
	t.db = nil
	if errors.Is(err, disk.ErrStopped) { // told already
		return nil
	}
	return err
}

// Position implements nodeclient.Database.
func (t *Database) Position(context.Context) (event.Position, error) {
	err := t.usable()
	return t.pos, err
}

// Empty implements nodeclient.Database.
func (t *Database) Empty(context.Context) (bool, error) {
	if err := t.usable(); err != nil {
		return false, err
	}
	none, err := empty(t.db)
	if err != nil {
		return false, t.trouble("read", err)
	}
	return none && t.pos.Zero(), nil
}

// Seek implements nodeclient.Database.
func (t *Database) Seek(ctx context.Context, pos event.Position) error {
	if err := t.usable(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nodeclient.Transient(fmt.Errorf("kv: seek %d: %w", pos.Seq, context.Cause(ctx)))
	}
	return t.write(nil, pos)
}

// Topics implements nodeclient.Database.
func (t *Database) Topics(context.Context) (event.Topics, error) {
	if err := t.usable(); err != nil {
		return "", err
	}
	b, err := t.db.Get([]byte(topicsKey))
	if err != nil && !errors.Is(err, disk.ErrNotFound) {
		return "", t.trouble("read the topics of", err)
	}
	return event.Topics(b), nil
}

// Keep implements nodeclient.Database.
func (t *Database) Keep(ctx context.Context, topics event.Topics) error {
	if err := t.usable(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nodeclient.Transient(fmt.Errorf("kv: store the topics: %w", context.Cause(ctx)))
	}
	if t.pos.Zero() {
		return errors.New("kv: store the topics: there is no position beside which they could stand")
	}
	var b disk.Batch
	b.Put([]byte(topicsKey), []byte(topics))
	if err := t.db.Write(&b); err != nil {
		return t.trouble("store the topics of", err)
	}
	return nil
}

// ErrNotFound is returned by Get for a key that is not there.
var ErrNotFound = disk.ErrNotFound

// Get returns a copy of a key's value, or ErrNotFound.
func (t *Database) Get(key []byte) ([]byte, error) {
	t.reads.RLock()
	defer t.reads.RUnlock()
	if t.db == nil {
		return nil, fmt.Errorf("kv: %s has been closed", t.name)
	}
	return t.db.Get(dataKey(key))
}

// Scan hands out the pairs of a range, as SnapshotRange has it, in the order of their keys, borrowed until each
// returns. It sees one moment, and ends with the error of each.
func (t *Database) Scan(start, end []byte, limit uint64, each func(key, value []byte) error) error {
	t.reads.RLock()
	defer t.reads.RUnlock()
	if t.db == nil {
		return fmt.Errorf("kv: %s has been closed", t.name)
	}
	c := span{start, end, limit}.cursor(t.db)
	var err error
	for n := uint64(0); (limit == 0 || n < limit) && err == nil && c.Next(); n++ {
		err = each(c.Key()[1:], c.Value())
	}
	return errors.Join(err, c.Close())
}
