package disk

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// failstop is a database's files behind the latch. The first error of a mutating call trips it; from then
// on every mutating call of every database on the ground answers with that error and leaves the disk alone.
// Reads go on. A failed Remove alone does not trip: what it leaves behind is garbage, not a lie.
type failstop struct {
	Files
	name  string // of the database, for errors
	latch *Latch
	meter *meter
	limit time.Duration // a call that takes longer counts as failed
}

// do runs one mutating call. An error, or no answer within the limit, trips the latch. When another
// database tripped it meanwhile, this call's success is not believed either.
func (f *failstop) do(verb string, fd storage.FileDesc, call func() error) error {
	if err := f.latch.Err(); err != nil {
		return err
	}
	watch := time.AfterFunc(f.limit, func() {
		f.latch.Trip(fmt.Errorf("%s %s/%s: no answer from the disk for %s", verb, f.name, fd, f.limit))
	})
	err := call()
	watch.Stop()
	if err != nil {
		return f.latch.Trip(fmt.Errorf("%s %s/%s: %w", verb, f.name, fd, err))
	}
	return f.latch.Err()
}

// Create also syncs the directory, because goleveldb leaves the names of new journals and tables to luck.
func (f *failstop) Create(fd storage.FileDesc) (storage.Writer, error) {
	var w storage.Writer
	err := f.do("create", fd, func() (err error) {
		if w, err = f.Files.Create(fd); err != nil || fd.Type&(storage.TypeJournal|storage.TypeTable) == 0 {
			return err
		}
		return f.SyncDir()
	})
	if err != nil {
		if w != nil {
			w.Close() // the latch already holds the cause
		}
		return nil, err
	}
	return &writer{Writer: w, f: f, fd: fd}, nil
}

func (f *failstop) SetMeta(fd storage.FileDesc) error {
	return f.do("point CURRENT to", fd, func() error { return f.Files.SetMeta(fd) })
}

func (f *failstop) Rename(from, to storage.FileDesc) error {
	return f.do("rename", from, func() error { return f.Files.Rename(from, to) })
}

func (f *failstop) Remove(fd storage.FileDesc) error {
	if err := f.latch.Err(); err != nil {
		return err
	}
	return f.Files.Remove(fd)
}

// writer is one file being written. goleveldb uses it from one goroutine at a time.
type writer struct {
	storage.Writer
	f     *failstop
	fd    storage.FileDesc
	dirty bool // bytes were written since the last sync
}

func (w *writer) Write(p []byte) (n int, err error) {
	err = w.f.do("write", w.fd, func() (err error) {
		if n, err = w.Writer.Write(p); err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		return err
	})
	w.dirty = true
	w.f.meter.writes.Add(1)
	return n, err
}

func (w *writer) Sync() error {
	begin := time.Now()
	err := w.f.do("sync", w.fd, w.Writer.Sync)
	if err == nil {
		w.dirty = false
		w.f.meter.sync(time.Since(begin))
	}
	return err
}

// Close syncs a journal that has unsynced bytes: a rotated journal must not be weaker than its successor.
func (w *writer) Close() error {
	var err error
	if w.dirty && w.fd.Type == storage.TypeJournal {
		err = w.Sync()
	}
	closed := w.Writer.Close() // the file handle is freed even when the latch is closed
	if err == nil && closed != nil {
		err = w.f.latch.Trip(fmt.Errorf("close %s/%s: %w", w.f.name, w.fd, closed))
	}
	return err
}

// meterWindow is how many of the last syncs the percentile is taken of.
const meterWindow = 1024

// meter counts what goes to disk on one ground.
type meter struct {
	writes, syncs atomic.Uint64

	mu   sync.Mutex
	last [meterWindow]time.Duration
}

func (m *meter) sync(d time.Duration) {
	n := m.syncs.Add(1)
	m.mu.Lock()
	m.last[n%meterWindow] = d
	m.mu.Unlock()
}

// p99 of the last syncs. Of fewer than 200 it is the second slowest, and of one it is 0: a single slow sync, such as
// the first one beside a machine that starts, says nothing of one in a hundred.
func (m *meter) p99() time.Duration {
	m.mu.Lock()
	last := m.last
	m.mu.Unlock()
	slices.Sort(last[:])
	n := min(int(m.syncs.Load()), meterWindow)
	return last[meterWindow-1-max(1, n/100)]
}
