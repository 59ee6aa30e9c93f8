package disktest

import (
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"xmq/broker/disk"
)

// Verb is a kind of mutating operation.
type Verb string

// The operations a hook sees: those on files, then those on whole databases.
const (
	Create  Verb = "create"
	Write   Verb = "write"
	Sync    Verb = "sync"
	Close   Verb = "close"
	SetMeta Verb = "setmeta"
	Rename  Verb = "rename"
	Remove  Verb = "remove"
	SyncDir Verb = "syncdir"

	Open Verb = "open" // a file for reading: HookedReads only
	Read Verb = "read" // of an open file: HookedReads only

	MakeDB   Verb = "make database"
	RenameDB Verb = "rename database"
	RemoveDB Verb = "remove database"
)

// Op is one mutating operation that is about to happen.
type Op struct {
	Verb     Verb
	Database string
	File     storage.FileDesc // zero for operations on databases and directories
}

func (o Op) String() string { return fmt.Sprintf("%s %s/%s", o.Verb, o.Database, o.File) }

// ErrShort makes a hooked write put half of its bytes and then fail with ENOSPC; other operations fail.
var ErrShort = errors.New("short write")

// Hooked is place with a hook that is asked before every mutating operation, from whatever goroutine does
// it. An error fails the operation, which then has no effect. A hook may also wait, or look at the place.
func Hooked(place disk.Place, hook func(Op) error) disk.Place { return &hooked{place, hook} }

type hooked struct {
	disk.Place
	hook func(Op) error
}

func (h *hooked) Open(name string, create bool) (disk.Files, error) {
	if create {
		if err := h.hook(Op{Verb: MakeDB, Database: name}); err != nil {
			return nil, err
		}
	}
	f, err := h.Place.Open(name, create)
	if err != nil {
		return nil, err
	}
	return &hookedFiles{f, name, h.hook}, nil
}

func (h *hooked) Look(name string) (disk.Files, error) {
	f, err := h.Place.Look(name)
	if err != nil {
		return nil, err
	}
	return &hookedFiles{f, name, h.hook}, nil
}

func (h *hooked) Rename(old, new string) error {
	if err := h.hook(Op{Verb: RenameDB, Database: old}); err != nil {
		return err
	}
	return h.Place.Rename(old, new)
}

func (h *hooked) Remove(name string) error {
	if err := h.hook(Op{Verb: RemoveDB, Database: name}); err != nil {
		return err
	}
	return h.Place.Remove(name)
}

type hookedFiles struct {
	disk.Files
	name string
	hook func(Op) error
}

func (f *hookedFiles) ask(verb Verb, fd storage.FileDesc) error { return f.hook(Op{verb, f.name, fd}) }

func (f *hookedFiles) SyncDir() error {
	if err := f.ask(SyncDir, storage.FileDesc{}); err != nil {
		return err
	}
	return f.Files.SyncDir()
}

func (f *hookedFiles) SetMeta(fd storage.FileDesc) error {
	if err := f.ask(SetMeta, fd); err != nil {
		return err
	}
	return f.Files.SetMeta(fd)
}

func (f *hookedFiles) Create(fd storage.FileDesc) (storage.Writer, error) {
	if err := f.ask(Create, fd); err != nil {
		return nil, err
	}
	w, err := f.Files.Create(fd)
	if err != nil {
		return nil, err
	}
	return &hookedWriter{w, f, fd}, nil
}

func (f *hookedFiles) Remove(fd storage.FileDesc) error {
	if err := f.ask(Remove, fd); err != nil {
		return err
	}
	return f.Files.Remove(fd)
}

func (f *hookedFiles) Rename(from, to storage.FileDesc) error {
	if err := f.ask(Rename, from); err != nil {
		return err
	}
	return f.Files.Rename(from, to)
}

type hookedWriter struct {
	storage.Writer
	files *hookedFiles
	fd    storage.FileDesc
}

func (w *hookedWriter) Write(p []byte) (int, error) {
	err := w.files.ask(Write, w.fd)
	if errors.Is(err, ErrShort) {
		n, _ := w.Writer.Write(p[:len(p)/2])
		return n, syscall.ENOSPC
	}
	if err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
}

func (w *hookedWriter) Sync() error {
	if err := w.files.ask(Sync, w.fd); err != nil {
		return err
	}
	return w.Writer.Sync()
}

// Close closes the file underneath whatever the hook says: a failed close frees the handle too.
func (w *hookedWriter) Close() error {
	err := w.files.ask(Close, w.fd)
	return errors.Join(err, w.Writer.Close())
}

// HookedReads is place with a hook that is asked before every file is opened for reading and before every read of one.
func HookedReads(place disk.Place, hook func(Op) error) disk.Place { return &hookedReads{place, hook} }

type hookedReads struct {
	disk.Place
	hook func(Op) error
}

func (h *hookedReads) Open(name string, create bool) (disk.Files, error) {
	f, err := h.Place.Open(name, create)
	if err != nil {
		return nil, err
	}
	return &readFiles{f, name, h.hook}, nil
}

func (h *hookedReads) Look(name string) (disk.Files, error) {
	f, err := h.Place.Look(name)
	if err != nil {
		return nil, err
	}
	return &readFiles{f, name, h.hook}, nil
}

type readFiles struct {
	disk.Files
	name string
	hook func(Op) error
}

func (f *readFiles) Open(fd storage.FileDesc) (storage.Reader, error) {
	if err := f.hook(Op{Open, f.name, fd}); err != nil {
		return nil, err
	}
	r, err := f.Files.Open(fd)
	if err != nil {
		return nil, err
	}
	return &hookedReader{r, f, fd}, nil
}

type hookedReader struct {
	storage.Reader
	files *readFiles
	fd    storage.FileDesc
}

func (r *hookedReader) Read(p []byte) (int, error) {
	if err := r.files.hook(Op{Read, r.files.name, r.fd}); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

func (r *hookedReader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.files.hook(Op{Read, r.files.name, r.fd}); err != nil {
		return 0, err
	}
	return r.Reader.ReadAt(p, off)
}

// Fault is a hook that fails one operation. It is for concurrent use.
type Fault struct {
	Match func(Op) bool // which operations count; nil for all
	Nth   int           // the one that fails, from 1
	Err   error         // with this
	Stays bool          // and all matching ones after it

	mu   sync.Mutex
	seen int
	hit  int
}

// Hook is the function for Hooked.
func (f *Fault) Hook(op Op) error {
	if f.Match != nil && !f.Match(op) {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen++
	if f.seen == f.Nth || f.Stays && f.Nth > 0 && f.seen > f.Nth {
		f.hit++
		return fmt.Errorf("injected into %s: %w", op, f.Err)
	}
	return nil
}

// Seen is how many operations matched, Hit how many of them failed: a test asserts that its fault arrived.
func (f *Fault) Seen() int { f.mu.Lock(); defer f.mu.Unlock(); return f.seen }

// Hit: see Seen.
func (f *Fault) Hit() int { f.mu.Lock(); defer f.mu.Unlock(); return f.hit }

// On matches one verb on one type of file.
func On(verb Verb, t storage.FileType) func(Op) bool {
	return func(op Op) bool { return op.Verb == verb && op.File.Type == t }
}
