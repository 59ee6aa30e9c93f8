package disktest

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"xmq/broker/disk"
)

// Memory is a disk.Place in memory that knows what a power cut would leave. It is for concurrent use; the
// zero value is not usable, see NewMemory.
type Memory struct {
	mu  sync.Mutex
	dbs map[string]*database
}

type database struct {
	place    *Memory
	durable  bool // its own name is
	open     bool // for writing
	looking  int  // who has it open for reading
	locked   bool
	now, ok  names // as programs see them, and as a directory sync left them
	setAside map[string][]byte
}

// names are the files of a database and the manifest CURRENT points to.
type names struct {
	files   map[storage.FileDesc]*file
	current storage.FileDesc
}

func (n names) clone() names { return names{maps.Clone(n.files), n.current} }

// file only grows. The first synced bytes survive.
type file struct {
	data   []byte
	synced int
}

// NewMemory returns an empty place.
func NewMemory() *Memory { return &Memory{dbs: make(map[string]*database)} }

func (m *Memory) newDatabase() *database {
	empty := names{files: make(map[storage.FileDesc]*file)}
	return &database{place: m, now: empty, ok: empty.clone(), setAside: make(map[string][]byte)}
}

func (m *Memory) String() string { return "memory" }

// List returns the names of the databases, sorted.
func (m *Memory) List() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.dbs)), nil
}

// Open opens a database; one that is open already is refused, as by the lock of a directory.
func (m *Memory) Open(name string, create bool) (disk.Files, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	db := m.dbs[name]
	if db == nil && !create {
		return nil, fmt.Errorf("open database %s: %w", name, fs.ErrNotExist)
	}
	if db == nil {
		db = m.newDatabase()
		m.dbs[name] = db
	}
	if db.open || db.looking > 0 {
		return nil, fmt.Errorf("open database %s: resource temporarily unavailable", name)
	}
	db.open = true
	return &files{db}, nil
}

// Look opens a database that is there, for reading: beside others who do, and not while it is open for writing.
func (m *Memory) Look(name string) (disk.Files, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	db := m.dbs[name]
	if db == nil {
		return nil, fmt.Errorf("open database %s: %w", name, fs.ErrNotExist)
	}
	if db.open {
		return nil, fmt.Errorf("open database %s: resource temporarily unavailable", name)
	}
	db.looking++
	return &looking{&files{db}}, nil
}

// looking is one database that is open for reading.
type looking struct{ *files }

func (l *looking) Lock() (storage.Locker, error) { return l, nil }

// Unlock ends Lock.
func (l *looking) Unlock() {}

func (l *looking) Close() error {
	l.place.mu.Lock()
	defer l.place.mu.Unlock()
	l.database.looking--
	return nil
}

// Rename renames a database, durably.
func (m *Memory) Rename(old, new string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	db := m.dbs[old]
	if db == nil || m.dbs[new] != nil {
		return fmt.Errorf("rename database %s to %s: no such database, or name taken", old, new)
	}
	delete(m.dbs, old)
	m.dbs[new] = db
	m.syncNames()
	return nil
}

// Remove deletes a database, durably.
func (m *Memory) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.dbs, name)
	m.syncNames()
	return nil
}

func (m *Memory) syncNames() {
	for _, db := range m.dbs {
		db.durable = true
	}
}

// SetAside copies a file to where Aside finds it.
func (m *Memory) SetAside(name, file string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	db := m.dbs[name]
	for fd, f := range db.now.files {
		if fd.String() == file {
			db.setAside["damaged-"+file] = bytes.Clone(f.data)
			return name + "/damaged-" + file, nil
		}
	}
	return "", fmt.Errorf("set damaged file aside: %w", fs.ErrNotExist)
}

// Size is the number of bytes of a database's files.
func (m *Memory) Size(name string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var n int64
	if db := m.dbs[name]; db != nil {
		for _, f := range db.now.files {
			n += int64(len(f.data))
		}
	}
	return n, nil
}

// Copy returns the place as it would be found after kill -9: everything written is there.
func (m *Memory) Copy() *Memory {
	return m.clone(func(db *database) names { return db.now.clone() }, func(f *file) []byte { return bytes.Clone(f.data) },
		func(*database) bool { return true })
}

// Crash returns the place as a power cut might leave it: all synced bytes under all synced names; of unsynced
// bytes a random subset of 512-byte or 4-KiB pieces, each kept, dropped, zeroed or torn; of unsynced names
// and removals a random subset. m goes on unharmed. The same state and seed give the same result.
func (m *Memory) Crash(rng *rand.Rand) *Memory {
	return m.clone(func(db *database) names { return db.crashNames(rng) }, func(f *file) []byte { return f.crash(rng) },
		func(db *database) bool { return db.durable || rng.IntN(2) == 0 })
}

func (m *Memory) clone(which func(*database) names, data func(*file) []byte, keep func(*database) bool) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := NewMemory()
	for _, name := range slices.Sorted(maps.Keys(m.dbs)) {
		db := m.dbs[name]
		if !keep(db) {
			continue
		}
		left := which(db)
		copied := out.newDatabase()
		copied.durable = true
		copied.now.current = left.current
		for _, fd := range sortedFiles(left.files) {
			b := data(left.files[fd])
			copied.now.files[fd] = &file{b, len(b)}
		}
		copied.ok = copied.now.clone()
		out.dbs[name] = copied
	}
	return out
}

func sortedFiles(files map[storage.FileDesc]*file) []storage.FileDesc {
	return slices.SortedFunc(maps.Keys(files), func(a, b storage.FileDesc) int {
		return int(a.Num<<4|int64(a.Type)) - int(b.Num<<4|int64(b.Type))
	})
}

func (db *database) crashNames(rng *rand.Rand) names {
	left := names{make(map[storage.FileDesc]*file), db.ok.current} // CURRENT is replaced durably
	all := maps.Clone(db.ok.files)
	maps.Copy(all, db.now.files)
	for _, fd := range sortedFiles(all) {
		from := db.now.files
		if db.now.files[fd] != db.ok.files[fd] && rng.IntN(2) == 0 {
			from = db.ok.files
		}
		if f := from[fd]; f != nil {
			left.files[fd] = f
		}
	}
	return left
}

func (f *file) crash(rng *rand.Rand) []byte {
	out := bytes.Clone(f.data[:f.synced])
	size := 512
	if rng.IntN(2) == 0 {
		size = 4096
	}
	end := len(out)
	for rest := f.data[f.synced:]; len(rest) > 0; {
		n := min(size-len(out)%size, len(rest))
		piece := make([]byte, n) // zeroed or dropped
		fate := rng.IntN(4)
		switch fate {
		case 0: // kept
			copy(piece, rest)
		case 1: // torn
			copy(piece, rest[:rng.IntN(n+1)])
		}
		out, rest = append(out, piece...), rest[n:]
		if fate != 3 { // dropped pieces at the end leave a shorter file
			end = len(out)
		}
	}
	return out[:end]
}

// Files returns the names of the files of a database as "000003.log", for tests that damage them.
func (m *Memory) Files(name string) []storage.FileDesc {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sortedFiles(m.dbs[name].now.files)
}

// Edit replaces the bytes of one file by what f makes of them; nil removes the file. Both are durable.
func (m *Memory) Edit(name string, fd storage.FileDesc, f func(data []byte) []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	db := m.dbs[name]
	old := db.now.files[fd]
	delete(db.now.files, fd)
	if b := f(bytes.Clone(old.data)); b != nil {
		db.now.files[fd] = &file{b, len(b)}
	}
	db.ok = db.now.clone()
}

// Aside returns a copy that SetAside made, or nil.
func (m *Memory) Aside(name, file string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dbs[name].setAside["damaged-"+file]
}

// files is one open database.
type files struct{ *database }

func (f *files) SyncDir() error {
	f.place.mu.Lock()
	defer f.place.mu.Unlock()
	f.ok = f.now.clone()
	return nil
}

func (f *files) Lock() (storage.Locker, error) {
	f.place.mu.Lock()
	defer f.place.mu.Unlock()
	if f.locked {
		return nil, storage.ErrLocked
	}
	f.locked = true
	return f, nil
}

// Unlock ends Lock.
func (f *files) Unlock() {
	f.place.mu.Lock()
	defer f.place.mu.Unlock()
	f.locked = false
}

func (f *files) Log(string) {}

func (f *files) Close() error {
	f.place.mu.Lock()
	defer f.place.mu.Unlock()
	f.open = false
	return nil
}

// SetMeta writes a new CURRENT, renames it over the old one and syncs the directory.
func (f *files) SetMeta(fd storage.FileDesc) error {
	f.place.mu.Lock()
	defer f.place.mu.Unlock()
	f.now.current = fd
	f.ok = f.now.clone()
	return nil
}

func (f *files) GetMeta() (storage.FileDesc, error) {
	f.place.mu.Lock()
	defer f.place.mu.Unlock()
	if f.now.files[f.now.current] == nil {
		return storage.FileDesc{}, os.ErrNotExist
	}
	return f.now.current, nil
}

func (f *files) List(t storage.FileType) ([]storage.FileDesc, error) {
	f.place.mu.Lock()
	defer f.place.mu.Unlock()
	return slices.DeleteFunc(sortedFiles(f.now.files), func(fd storage.FileDesc) bool { return fd.Type&t == 0 }), nil
}

func (f *files) Open(fd storage.FileDesc) (storage.Reader, error) {
	f.place.mu.Lock()
	defer f.place.mu.Unlock()
	if file := f.now.files[fd]; file != nil {
		return reader{bytes.NewReader(file.data[:len(file.data):len(file.data)])}, nil
	}
	return nil, os.ErrNotExist
}

func (f *files) Create(fd storage.FileDesc) (storage.Writer, error) {
	f.place.mu.Lock()
	defer f.place.mu.Unlock()
	f.now.files[fd] = &file{}
	return &writer{f, fd, f.now.files[fd]}, nil
}

func (f *files) Remove(fd storage.FileDesc) error {
	f.place.mu.Lock()
	defer f.place.mu.Unlock()
	if f.now.files[fd] == nil {
		return os.ErrNotExist
	}
	delete(f.now.files, fd)
	return nil
}

func (f *files) Rename(from, to storage.FileDesc) error {
	f.place.mu.Lock()
	defer f.place.mu.Unlock()
	if f.now.files[from] == nil {
		return os.ErrNotExist
	}
	f.now.files[to] = f.now.files[from]
	delete(f.now.files, from)
	return nil
}

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

type writer struct {
	files *files
	fd    storage.FileDesc
	file  *file
}

func (w *writer) Write(p []byte) (int, error) {
	w.files.place.mu.Lock()
	defer w.files.place.mu.Unlock()
	w.file.data = append(w.file.data, p...)
	return len(p), nil
}

// Sync syncs a manifest's directory too, as goleveldb's own files do.
func (w *writer) Sync() error {
	w.files.place.mu.Lock()
	defer w.files.place.mu.Unlock()
	w.file.synced = len(w.file.data)
	if w.fd.Type == storage.TypeManifest {
		w.files.ok = w.files.now.clone()
	}
	return nil
}

func (w *writer) Close() error { return nil }
