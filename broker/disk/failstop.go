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
// on every mutating call of every database of the Storage answers with that error and leaves the disk alone.
// Reads go on. A failed Remove alone does not trip: what it leaves behind is garbage, not a lie.
//
// To have no descriptor left is no failed write, because nothing was written: an open database waits for one.
type failstop struct {
	Files
	name    string // of the database, for errors
	latch   *Latch
	meter   *meter
	limit   time.Duration // a call that takes longer counts as failed
	short   *shortage
	patient atomic.Bool           // the database is open: calls wait for a descriptor
	refused atomic.Pointer[error] // the last call that found none and did not wait; goleveldb hides it

	keep sync.Mutex
	held int                       // who looks at the files: none is removed meanwhile
	late map[storage.FileDesc]bool // to be removed when nobody does
}

// do runs one mutating call. An error, or no answer within the limit, trips the latch. When another
// database tripped it meanwhile, this call's success is not believed either. A call that finds no descriptor is
// repeated while the database is open, and is otherwise answered with ErrDescriptors.
func (f *failstop) do(verb string, fd storage.FileDesc, call func() error) error {
	for {
		if err := f.latch.Err(); err != nil {
			return err
		}
		watch := time.AfterFunc(f.limit, func() {
			f.latch.Trip(fmt.Errorf("%s %s/%s: no answer from the disk for %s", verb, f.name, fd, f.limit))
		})
		err := call()
		watch.Stop()
		if err == nil {
			return f.latch.Err()
		}
		err = fmt.Errorf("%s %s/%s: %w", verb, f.name, fd, err)
		if !noDescriptor(err) {
			return f.latch.Trip(err)
		}
		if !f.patient.Load() {
			err = asDescriptors(err)
			f.refused.Store(&err)
			return err
		}
		f.short.wait(f.latch)
	}
}

// Open tells a file that cannot be read from one that cannot be opened.
func (f *failstop) Open(fd storage.FileDesc) (storage.Reader, error) {
	r, err := f.Files.Open(fd)
	if err != nil {
		return nil, err
	}
	return &reader{r, fd}, nil
}

// reader is one file being read.
type reader struct {
	storage.Reader
	fd storage.FileDesc
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	return n, r.failed(err)
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.Reader.ReadAt(p, off)
	return n, r.failed(err)
}

func (r *reader) failed(err error) error {
	if err == nil || err == io.EOF { // goleveldb compares without unwrapping
		return err
	}
	return &readError{r.fd, err}
}

// readError says that a file that could be opened could not be read.
type readError struct {
	fd  storage.FileDesc
	err error
}

func (e *readError) Error() string { return fmt.Sprintf("read %s: %v", e.fd, e.err) }
func (e *readError) Unwrap() error { return e.err }

// Create also syncs the directory, because goleveldb leaves the names of new journals and tables to luck.
func (f *failstop) Create(fd storage.FileDesc) (storage.Writer, error) {
	f.keep.Lock()
	delete(f.late, fd) // goleveldb gives the number of a file that it gave up to the next one
	f.keep.Unlock()
	var w storage.Writer
	err := f.do("create", fd, func() (err error) { w, err = f.Files.Create(fd); return err })
	if err == nil && fd.Type&(storage.TypeJournal|storage.TypeTable) != 0 {
		err = f.do("sync the name of", fd, f.SyncDir)
	}
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

// Remove says that it is done once the latch has tripped, and leaves the file for the next start. goleveldb drops a
// half-made table before it tries a compaction again, which it does a second later; when that fails it goes on with a
// writer that is gone, and panics.
func (f *failstop) Remove(fd storage.FileDesc) error {
	if f.latch.Err() != nil {
		return nil
	}
	f.keep.Lock()
	defer f.keep.Unlock()
	if f.held > 0 {
		f.late[fd] = true
		return nil
	}
	return f.Files.Remove(fd)
}

// hold keeps the files that goleveldb removes until the function that it returns is called: what the manifest names at
// any time meanwhile is there. What a crash leaves is removed by the next opening.
func (f *failstop) hold() (release func()) {
	f.keep.Lock()
	defer f.keep.Unlock()
	if f.held++; f.late == nil {
		f.late = make(map[storage.FileDesc]bool)
	}
	return sync.OnceFunc(func() {
		f.keep.Lock()
		defer f.keep.Unlock()
		if f.held--; f.held > 0 || f.latch.Err() != nil {
			return
		}
		for fd := range f.late {
			_ = f.Files.Remove(fd) // garbage; the next opening removes it
		}
		clear(f.late)
	})
}

// writer is one file being written. goleveldb uses it from one goroutine at a time.
type writer struct {
	storage.Writer
	f     *failstop
	fd    storage.FileDesc
	dirty bool // bytes were written since the last sync
	done  bool // it was closed, well or not
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

// Close syncs a journal that has unsynced bytes: a rotated journal must not be weaker than its successor. goleveldb
// closes a table again whose Close has failed; its error was told, and the latch keeps it.
func (w *writer) Close() error {
	if w.done {
		return nil
	}
	w.done = true
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

// meter counts what goes to the disk of one Storage.
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
