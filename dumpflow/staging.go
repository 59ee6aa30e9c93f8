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
	"strings"
	"sync"

	"xmq/broker/event"
)

// ErrNoSuchDump is returned for a dump that has no staging: unknown, given up, or older than is kept.
var ErrNoSuchDump = errors.New("no such dump is staged")

// Staging is the broker's area for snapshots on their way: one directory a dump, named by its ID, one file a
// chunk, and manifest.json, which appears (by rename) only when everything before it is durable. Paths are made
// of numbers only, so no name from outside reaches the file system (RS-14). Safe for concurrent use.
type Staging struct {
	dir  string
	room func() error
	mu   sync.Mutex
	all  map[event.DumpID]*stage
	bg   sync.WaitGroup
}

// stage is one dump. changed is closed and replaced whenever there is news for waiting readers.
type stage struct {
	mu      sync.Mutex
	dir     string
	have    map[uint32]bool // durable chunks
	sum     hash.Hash       // over chunks 0 to hashed-1
	hashed  uint32
	size    int64
	sealed  *Manifest
	gone    string // why it was given up
	changed chan struct{}
}

const (
	manifestName = "manifest.json"
	trashPrefix  = "trash-"
)

// OpenStaging opens the area, creating dir when it is not there, and sweeps what a crash has left: trash and
// half-written files. room (may be nil) is asked before every chunk; its error refuses the chunk.
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
			return nil, fmt.Errorf("staging holds %s, which is not ours: move it away", path)
		}
		if s.all[id], err = openStage(path); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func newStage(dir string) *stage {
	return &stage{dir: dir, have: map[uint32]bool{}, sum: sha256.New(), changed: make(chan struct{})}
}

func openStage(dir string) (*stage, error) {
	st := newStage(dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open staging: %w", err)
	}
	for _, e := range entries {
		var n uint32
		switch {
		case strings.HasSuffix(e.Name(), ".tmp"):
			err = os.Remove(filepath.Join(dir, e.Name()))
		case e.Name() == manifestName:
			var b []byte
			if b, err = os.ReadFile(filepath.Join(dir, manifestName)); err == nil {
				var m Manifest
				m, err = DecodeManifest(b)
				st.sealed = &m
			}
		default:
			if _, err = fmt.Sscanf(e.Name(), "%010d.chunk", &n); err == nil {
				st.have[n] = true
			}
		}
		if err != nil {
			return nil, fmt.Errorf("open staging %s: %s: %w", dir, e.Name(), err)
		}
	}
	return st, nil
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
	s.all[id] = newStage(dir)
	return syncDir(s.dir)
}

func (s *Staging) stage(id event.DumpID) (*stage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.all[id]; st != nil {
		return st, nil
	}
	return nil, fmt.Errorf("dump %s: %w", id, ErrNoSuchDump)
}

// Put stores a chunk durably. Chunks may come in any order and again; one that differs from what is there, or
// overlaps nothing legal, is refused. Blocks for one disk sync. Errors: event.ErrDamaged, ErrNoSuchDump, the
// disk's. After an error the chunk is not there and may be sent again.
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
	if s.room != nil {
		if err := s.room(); err != nil {
			return fmt.Errorf("stage chunk %d: %w", c.Number, err)
		}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.gone != "":
		return fmt.Errorf("dump %s was given up: %s: %w", id, st.gone, ErrNoSuchDump)
	case st.have[c.Number]:
		return st.same(c)
	case st.sealed != nil:
		return fmt.Errorf("chunk %d comes after the snapshot was sealed: %w", c.Number, event.ErrDamaged)
	}
	if err := writeFile(st.path(c.Number), c.Append(nil)); err != nil {
		return fmt.Errorf("stage chunk %d of dump %s: %w", c.Number, id, err)
	}
	st.have[c.Number] = true
	if c.Number == st.hashed {
		st.fold(data)
	}
	st.news()
	return nil
}

// same accepts a repetition and refuses another chunk under the same number.
func (st *stage) same(c Chunk) error {
	old, err := st.read(c.Number)
	if err == nil && (old.CRC != c.CRC || old.Length != c.Length) {
		err = fmt.Errorf("chunk %d was sent before with other content: %w", c.Number, event.ErrDamaged)
	}
	return err
}

func (st *stage) fold(data []byte) {
	st.sum.Write(data)
	st.size += int64(len(data))
	st.hashed++
}

func (st *stage) path(n uint32) string { return filepath.Join(st.dir, fmt.Sprintf("%010d.chunk", n)) }

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

// Get returns a chunk as soon as it is there; with Op Stat the manifest, when the snapshot ends before it. ok is
// false when ctx ended first. Errors: ErrNoSuchDump, also when the dump is given up meanwhile.
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
		case gone != "":
			return Chunk{}, false, fmt.Errorf("dump %s was given up: %s: %w", id, gone, ErrNoSuchDump)
		case have:
			c, err := st.read(number)
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
// publishes it. Sealing again with the same manifest answers the published one. After an error nothing is published.
func (s *Staging) Seal(id event.DumpID, m Manifest) (Manifest, error) {
	st, err := s.stage(id)
	if err != nil {
		return m, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.gone != "" {
		return m, fmt.Errorf("dump %s was given up: %s: %w", id, st.gone, ErrNoSuchDump)
	}
	if st.sealed != nil {
		return *st.sealed, st.sealed.Matches(m.Size, m.SHA256)
	}
	if m.Dump != id || len(st.have) != int(m.Chunks) {
		return m, fmt.Errorf("dump %s: %d chunks are here, its manifest says %d: %w", id, len(st.have), m.Chunks, event.ErrDamaged)
	}
	for st.hashed < m.Chunks {
		c, err := st.read(st.hashed)
		if err != nil {
			return m, err
		}
		data, err := c.Unpack()
		if err != nil {
			return m, err
		}
		st.fold(data)
	}
	if err := m.Matches(st.size, hex.EncodeToString(st.sum.Sum(nil))); err != nil {
		return m, err
	}
	if err := syncDir(st.dir); err != nil {
		return m, err
	}
	if err := writeFile(filepath.Join(st.dir, manifestName), m.Encode()); err != nil {
		return m, fmt.Errorf("publish manifest of dump %s: %w", id, err)
	}
	if err := syncDir(st.dir); err != nil {
		return m, err
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
// in the background (a crash leaves trash that the next OpenStaging sweeps). Unknown dumps are no error.
func (s *Staging) Drop(id event.DumpID, why string) {
	s.mu.Lock()
	st := s.all[id]
	delete(s.all, id)
	s.mu.Unlock()
	if st == nil {
		return
	}
	st.mu.Lock()
	st.gone = why
	st.news()
	trash := filepath.Join(s.dir, trashPrefix+id.String())
	err := os.Rename(st.dir, trash)
	st.mu.Unlock()
	if err == nil {
		s.bg.Go(func() { _ = os.RemoveAll(trash) }) // what stays is swept at the next start
	}
}

// Close waits for removals under way.
func (s *Staging) Close() { s.bg.Wait() }

// writeFile makes b durable under path, or nothing: temporary file, sync, rename. The name itself is durable after
// the directory's next sync.
func writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
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

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
