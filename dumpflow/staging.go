package dumpflow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"xmq/broker/disk"
	"xmq/broker/event"
)

// ErrNoSuchDump is returned for a dump that has no staging: unknown, given up, or older than is kept.
var ErrNoSuchDump = errors.New("no such dump is staged")

// ErrForeign is returned when something lies in staging that no Staging has made.
var ErrForeign = errors.New("it is not ours: move it away")

// Staging is the broker's area for snapshots on their way: one directory a dump, named by its ID, one file a
// chunk, and manifest.json, which appears (by rename) only when everything before it is durable. Paths are made
// of numbers only, so no name from outside reaches the file system (RS-14). Safe for concurrent use.
type Staging struct {
	dir   string
	room  func() error
	mu    sync.Mutex // taken after a stage's, never before one
	all   map[event.DumpID]*stage
	trash int // number of the last directory thrown away
	bg    sync.WaitGroup

	cleared []error // see Cleared
}

// stage is one dump. changed is closed and replaced whenever there is news for waiting readers.
//
// Chunks are written outside of mu, so that their syncs overlap: flying are those under way. Whoever ends or replaces the
// directory waits until there are none.
type stage struct {
	mu      sync.Mutex
	dir     string
	names   names
	have    map[uint32]bool   // durable chunks
	flying  map[uint32]bool   // chunks that somebody is writing
	landed  sync.Cond         // one of them is written, or failed
	early   map[uint32][]byte // data of a few durable chunks that came before their turn
	sum     hash.Hash         // over chunks 0 to hashed-1
	hashed  uint32
	size    int64
	sealed  *Manifest
	gone    error // why it was given up; wraps ErrNoSuchDump
	changed chan struct{}
}

const (
	manifestName = "manifest.json"
	trashPrefix  = "trash-"
)

// OpenStaging opens the area, creating dir when it is not there, and sweeps what a crash has left: trash and
// half-written files. A snapshot that is damaged is swept as well, since it can be made again (see Cleared). ErrForeign: something
// lies there that is not ours, and nothing is done about it. room (may be nil) is asked before every chunk; its error refuses the chunk.
func OpenStaging(dir string, room func() error) (*Staging, error) {
	s := &Staging{dir: dir, room: room, all: map[event.DumpID]*stage{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open staging: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open staging: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), trashPrefix) {
			if err := os.RemoveAll(path); err != nil {
				return nil, fmt.Errorf("sweep staging: %w", err)
			}
			continue
		}
		id, err := event.ParseDumpID(e.Name())
		if err != nil || !e.IsDir() {
			return nil, fmt.Errorf("staging holds %s: %w", path, ErrForeign)
		}
		st, err := openStage(path, id)
		if errors.Is(err, event.ErrDamaged) {
			s.cleared = append(s.cleared, err)
			if err := os.RemoveAll(path); err != nil {
				return nil, fmt.Errorf("sweep staging: %w", err)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		s.all[id] = st
	}
	if err := disk.SyncDir(dir); err != nil { // as in openStage
		return nil, fmt.Errorf("open staging: %w", err)
	}
	return s, nil
}

// Cleared says of every snapshot that OpenStaging found damaged, and removed, what was wrong.
func (s *Staging) Cleared() []error { return s.cleared }

func newStage(dir string) *stage {
	st := &stage{dir: dir, names: names{do: func() error { return disk.SyncDir(dir) }}, have: map[uint32]bool{}, flying: map[uint32]bool{}, early: map[uint32][]byte{}, sum: sha256.New(), changed: make(chan struct{})}
	st.landed.L = &st.mu
	return st
}

func openStage(dir string, id event.DumpID) (*stage, error) {
	st := newStage(dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open staging: %w", err)
	}
	for _, e := range entries {
		name, tmp := strings.CutSuffix(e.Name(), ".tmp")
		n, chunk := chunkNumber(name)
		switch {
		case !chunk && name != manifestName || !e.Type().IsRegular():
			err = ErrForeign
		case tmp:
			err = os.Remove(filepath.Join(dir, e.Name()))
		case chunk:
			st.have[n] = true
		default:
			st.sealed, err = readManifest(filepath.Join(dir, name), id)
		}
		if err != nil {
			return nil, fmt.Errorf("open staging %s: %s: %w", dir, e.Name(), err)
		}
	}
	if err := st.names.sync(); err != nil { // a kill may have come between a name and its sync: what is listed is durable
		return nil, fmt.Errorf("open staging: %w", err)
	}
	if st.sealed != nil && len(st.have) != int(st.sealed.Chunks) {
		return nil, fmt.Errorf("open staging %s: %d chunks are here, the manifest says %d: %w", dir, len(st.have), st.sealed.Chunks, event.ErrDamaged)
	}
	return st, nil
}

func readManifest(path string, id event.DumpID) (*Manifest, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, syscall.EIO) {
		return nil, fmt.Errorf("%w: %w", err, event.ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	m, err := DecodeManifest(b)
	if err == nil && m.Dump != id {
		err = fmt.Errorf("it is the manifest of dump %s: %w", m.Dump, event.ErrDamaged)
	}
	return &m, err
}

func chunkName(n uint32) string { return fmt.Sprintf("%010d.chunk", n) }

// chunkNumber reads exactly what chunkName writes.
func chunkNumber(name string) (uint32, bool) {
	digits, ok := strings.CutSuffix(name, ".chunk")
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), ok && err == nil && chunkName(uint32(n)) == name
}

// Dumps lists what is staged, complete or not.
func (s *Staging) Dumps() []event.DumpID {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]event.DumpID, 0, len(s.all))
	for id := range s.all {
		ids = append(ids, id)
	}
	return ids
}

// Create makes room for a dump. Doing it twice changes nothing.
func (s *Staging) Create(id event.DumpID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[id] != nil {
		return nil
	}
	dir := filepath.Join(s.dir, id.String())
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("stage dump %s: %w", id, err)
	}
	if err := disk.SyncDir(s.dir); err != nil {
		return errors.Join(fmt.Errorf("stage dump %s: %w", id, err), os.Remove(dir))
	}
	s.all[id] = newStage(dir)
	return nil
}

func (s *Staging) stage(id event.DumpID) (*stage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.all[id]; st != nil {
		return st, nil
	}
	return nil, fmt.Errorf("dump %s: %w", id, ErrNoSuchDump)
}

// Put stores a chunk durably. Its data belongs to the Staging from then on, which may keep it until the dump is sealed. Chunks may
// come in any order and again; one that differs from what is there, or follows one that is shorter than ChunkSize, is
// refused. It blocks for the sync of the file and at most two of the directory; those of other chunks overlap with the first and
// share the others.
// Errors: event.ErrDamaged, ErrNoSuchDump, room's, the disk's. After an error the chunk counts as not sent.
// Rules: RS-6, RS-8.
func (s *Staging) Put(id event.DumpID, c Chunk) error {
	data, err := c.Unpack()
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return fmt.Errorf("chunk %d is empty: %w", c.Number, event.ErrDamaged)
	}
	st, err := s.stage(id)
	if err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	for st.flying[c.Number] { // sent again while its first copy is written
		st.landed.Wait()
	}
	switch {
	case st.gone != nil:
		return st.gone
	case st.have[c.Number]:
		return st.same(c)
	case st.sealed != nil:
		return fmt.Errorf("chunk %d comes after the snapshot was sealed: %w", c.Number, event.ErrDamaged)
	}
	if c.Number == st.hashed {
		if err := st.mayFollow(); err != nil {
			return err
		}
	}
	if s.room != nil {
		if err := s.room(); err != nil {
			return fmt.Errorf("stage chunk %d of dump %s: %w", c.Number, id, err)
		}
	}
	if err := st.write(c); err != nil {
		return fmt.Errorf("stage chunk %d of dump %s: %w", c.Number, id, err)
	}
	if st.gone != nil {
		return st.gone
	}
	st.have[c.Number] = true
	st.news()
	if len(st.early) < 2*Window {
		st.early[c.Number] = data
	}
	return st.catchUp(2 * Window)
}

// write makes a chunk durable without holding mu, which the caller holds before and behind it.
func (st *stage) write(c Chunk) error {
	st.flying[c.Number] = true
	st.mu.Unlock()
	err := writeFile(st.path(c.Number), c.appendHeader(nil), c.Data)
	if err == nil {
		err = st.names.sync()
	}
	st.mu.Lock()
	delete(st.flying, c.Number)
	st.landed.Broadcast()
	return err
}

// settle waits until nothing is being written.
func (st *stage) settle() {
	for len(st.flying) > 0 {
		st.landed.Wait()
	}
}

// names syncs the names in a directory for many at once: one sync serves everybody who came before it began.
type names struct {
	do    func() error // syncs the directory
	mu    sync.Mutex   // held while a sync runs
	asked atomic.Uint64
	done  uint64 // what was asked before the last good sync began
	err   error  // of the first bad sync, and everybody's from then on: a second one may call good what the first one has lost
}

// sync returns when all names that were there when it was called are durable. It blocks for at most two disk syncs.
func (n *names) sync() error {
	mine := n.asked.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.done >= mine {
		return nil
	}
	if n.err != nil {
		return n.err
	}
	upTo := n.asked.Load()
	if n.err = n.do(); n.err == nil {
		n.done = upTo
	}
	return n.err
}

// same accepts a repetition and refuses another chunk under the same number.
func (st *stage) same(c Chunk) error {
	old, err := st.read(c.Number)
	if err == nil && (old.CRC != c.CRC || old.Length != c.Length) {
		err = fmt.Errorf("chunk %d was sent before with other content: %w", c.Number, event.ErrDamaged)
	}
	return err
}

// mayFollow refuses a chunk behind one that is shorter than ChunkSize: that was the last.
func (st *stage) mayFollow() error {
	if st.size != int64(st.hashed)*ChunkSize {
		return fmt.Errorf("chunk %d follows one that is shorter than %d bytes: %w", st.hashed, ChunkSize, event.ErrDamaged)
	}
	return nil
}

func (st *stage) fold(data []byte) {
	st.sum.Write(data)
	st.size += int64(len(data))
	st.hashed++
}

// catchUp folds up to limit chunks whose turn it is, so that Seal finds little left to read.
func (st *stage) catchUp(limit int) error {
	for ; limit > 0 && st.have[st.hashed]; limit-- {
		if err := st.mayFollow(); err != nil {
			return err
		}
		data, early := st.early[st.hashed]
		if delete(st.early, st.hashed); !early {
			c, err := st.read(st.hashed)
			if err != nil {
				return err
			}
			if data, err = c.Unpack(); err != nil {
				return err
			}
		}
		st.fold(data)
	}
	return nil
}

func (st *stage) path(n uint32) string { return filepath.Join(st.dir, chunkName(n)) }

func (st *stage) read(n uint32) (Chunk, error) {
	b, err := os.ReadFile(st.path(n))
	if err != nil {
		return Chunk{}, fmt.Errorf("staged chunk %d: %w", n, err)
	}
	return DecodeChunk(b)
}

func (st *stage) news() {
	close(st.changed)
	st.changed = make(chan struct{})
}

func (st *stage) givenUp() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.gone
}

// Get returns a chunk as soon as it is there; with Op Stat the manifest, when the snapshot ends before it. It blocks
// until then; ok is false when ctx ended first. The chunk is the caller's; its CRC is for Unpack to check. Errors:
// ErrNoSuchDump, also when the dump is given up meanwhile; event.ErrDamaged; the disk's.
func (s *Staging) Get(ctx context.Context, id event.DumpID, number uint32) (c Chunk, ok bool, err error) {
	st, err := s.stage(id)
	if err != nil {
		return Chunk{}, false, err
	}
	for {
		st.mu.Lock()
		have, sealed, gone, changed := st.have[number], st.sealed, st.gone, st.changed
		st.mu.Unlock()
		switch {
		case gone != nil:
			return Chunk{}, false, gone
		case have:
			c, err := st.read(number)
			if errors.Is(err, fs.ErrNotExist) {
				if gone := st.givenUp(); gone != nil { // between the look and the reading
					err = gone
				}
			}
			c.Op = Get
			return c, err == nil, err
		case sealed != nil:
			return Chunk{Op: Stat, Number: number, Data: sealed.Encode()}, true, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Chunk{}, false, nil
		}
	}
}

// Seal verifies that the chunks are exactly what the manifest says (count, size, SHA-256 over all bytes) and
// publishes it, durably. It reads again what came out of order long before its turn, so it may block for as long as
// that takes. Sealing again with the same position and bytes answers the published manifest. After an error nothing
// is published (if the disk's last sync failed, a later start may find it: it is complete). Rules: RS-12, XD-14.
func (s *Staging) Seal(id event.DumpID, m Manifest) (Manifest, error) {
	st, err := s.stage(id)
	if err != nil {
		return m, err
	}
	if err := m.check(); err != nil {
		return m, err
	}
	if m.Dump != id {
		return m, fmt.Errorf("dump %s: the manifest is of dump %s: %w", id, m.Dump, event.ErrDamaged)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.settle()
	for st.gone == nil && st.sealed == nil && st.have[st.hashed] { // behind a restart: much, and a Drop must not wait for all of it
		if err := st.catchUp(2 * Window); err != nil {
			return m, err
		}
		st.mu.Unlock()
		st.mu.Lock()
		st.settle()
	}
	if st.gone != nil {
		return m, st.gone
	}
	if st.sealed != nil {
		if m.Pos != st.sealed.Pos {
			return m, fmt.Errorf("dump %s was sealed at %s, not at %s: %w", id, st.sealed.Pos, m.Pos, event.ErrDamaged)
		}
		return *st.sealed, st.sealed.Matches(m.Size, m.SHA256)
	}
	if st.hashed != m.Chunks || len(st.have) != int(m.Chunks) {
		return m, fmt.Errorf("dump %s: %d chunks are here (%d without a hole), its manifest says %d: %w", id, len(st.have), st.hashed, m.Chunks, event.ErrDamaged)
	}
	if err := m.Matches(st.size, hex.EncodeToString(st.sum.Sum(nil))); err != nil {
		return m, err
	}
	m.V = ManifestVersion
	if err := writeFile(filepath.Join(st.dir, manifestName), m.Encode()); err != nil {
		return m, fmt.Errorf("publish manifest of dump %s: %w", id, err)
	}
	if err := disk.SyncDir(st.dir); err != nil {
		return m, fmt.Errorf("publish manifest of dump %s: %w", id, err)
	}
	st.sealed = &m
	st.news()
	return m, nil
}

// Manifest returns the published manifest, if there is one.
func (s *Staging) Manifest(id event.DumpID) (Manifest, bool) {
	st, err := s.stage(id)
	if err != nil {
		return Manifest{}, false
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.sealed == nil {
		return Manifest{}, false
	}
	return *st.sealed, true
}

// Progress says how many chunks are durable.
func (s *Staging) Progress(id event.DumpID) int {
	st, err := s.stage(id)
	if err != nil {
		return 0
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.have)
}

// Drop gives a dump up: waiting readers and later chunks are refused with the reason, and the files are removed
// in the background (a crash leaves trash that the next OpenStaging sweeps). The same ID may be created again at
// once. Unknown dumps are no error.
func (s *Staging) Drop(id event.DumpID, why string) {
	st, err := s.stage(id)
	if err != nil {
		return
	}
	st.mu.Lock() // it waits for a part of a Seal under way at most; other dumps do not wait
	defer st.mu.Unlock()
	if st.gone != nil {
		return
	}
	st.gone = fmt.Errorf("dump %s was given up: %s: %w", id, why, ErrNoSuchDump)
	st.news()
	st.settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, id)
	s.trash++
	trash := filepath.Join(s.dir, fmt.Sprintf("%s%s-%d", trashPrefix, id, s.trash)) // an older one may still be going
	if os.Rename(st.dir, trash) == nil {                                            // else its record is gone, and the next start drops it again
		s.bg.Go(func() { _ = os.RemoveAll(trash) }) // what stays is swept at the next start
	}
}

// Close waits for removals under way. No other call may run or follow.
func (s *Staging) Close() { s.bg.Wait() }

// writeFile makes parts durable under path, or nothing: temporary file, sync, rename. The name itself is durable after
// the directory's next sync.
func writeFile(path string, parts ...[]byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for i := 0; err == nil && i < len(parts); i++ {
		_, err = f.Write(parts[i])
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		if rm := os.Remove(path + ".tmp"); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
			err = errors.Join(err, rm)
		}
	}
	return err
}
