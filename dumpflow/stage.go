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
	"syscall"

	"xmq/broker/disk"
	"xmq/broker/event"
)

const manifestName = "manifest.json"

// stage is one dump. changed is closed and replaced whenever there is news for waiting readers.
//
// Chunks are written outside of mu, so that their syncs overlap: writing are those under way. Whoever ends or replaces
// the directory waits until there are none.
type stage struct {
	mu      sync.Mutex
	dir     string
	names   dirSyncer
	have    map[uint32]bool   // durable chunks
	writing map[uint32]bool   // chunks that somebody is writing
	written sync.Cond         // one of them is written, or failed
	early   map[uint32][]byte // data of a few durable chunks that came before their turn
	sum     hash.Hash         // over chunks 0 to hashed-1
	hashed  uint32
	size    int64
	sealed  *Manifest
	gone    error // why it was given up; wraps ErrNoSuchDump
	changed chan struct{}
}

func newStage(dir string) *stage {
	st := &stage{dir: dir, names: dirSyncer{do: func() error { return disk.SyncDir(dir) }}, have: map[uint32]bool{},
		writing: map[uint32]bool{}, early: map[uint32][]byte{}, sum: sha256.New(), changed: make(chan struct{})}
	st.written.L = &st.mu
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
	// a kill may have come between a name and its sync: what is listed is durable
	if err := st.names.sync(); err != nil {
		return nil, fmt.Errorf("open staging: %w", err)
	}
	if st.sealed != nil && len(st.have) != int(st.sealed.Chunks) {
		return nil, fmt.Errorf("open staging %s: %d chunks are here, the manifest says %d: %w", dir, len(st.have),
			st.sealed.Chunks, event.ErrDamaged)
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
		err = fmt.Errorf("it is the manifest of DUMP %s: %w", m.Dump, event.ErrDamaged)
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

// put is Staging.Put for one dump: data is what c unpacks to, space (nil: nobody) is asked before anything is written.
func (st *stage) put(id event.DumpID, c Chunk, data []byte, space func() error) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	for st.writing[c.Number] { // sent again while its first copy is written
		st.written.Wait()
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
	if space != nil {
		if err := space(); err != nil {
			return fmt.Errorf("stage chunk %d of DUMP %s: %w", c.Number, id, err)
		}
	}
	if err := st.write(c); err != nil {
		return fmt.Errorf("stage chunk %d of DUMP %s: %w", c.Number, id, err)
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

// write makes a chunk durable without holding mu, which the caller holds before and after it.
func (st *stage) write(c Chunk) error {
	st.writing[c.Number] = true
	st.mu.Unlock()
	err := writeFile(st.path(c.Number), c.appendHeader(nil), c.Data)
	if err == nil {
		err = st.names.sync()
	}
	st.mu.Lock()
	delete(st.writing, c.Number)
	st.written.Broadcast()
	return err
}

// settle waits until nothing is being written.
func (st *stage) settle() {
	for len(st.writing) > 0 {
		st.written.Wait()
	}
}

// same accepts a repetition and refuses another chunk under the same number.
func (st *stage) same(c Chunk) error {
	old, err := st.read(c.Number)
	if err == nil && (old.CRC != c.CRC || old.Length != c.Length) {
		err = fmt.Errorf("chunk %d was sent before with other content: %w", c.Number, event.ErrDamaged)
	}
	return err
}

// mayFollow refuses a chunk after one that is shorter than ChunkSize: that was the last.
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

// get is Staging.Get for one dump.
func (st *stage) get(ctx context.Context, number uint32) (c Chunk, ok bool, err error) {
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

// seal is Staging.Seal for one dump; m was checked.
func (st *stage) seal(id event.DumpID, m Manifest) (Manifest, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.settle()
	// after a restart: much, and a Drop must not wait for all of it
	for st.gone == nil && st.sealed == nil && st.have[st.hashed] {
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
			return m, fmt.Errorf("DUMP %s was sealed at %s, not at %s: %w", id, st.sealed.Pos, m.Pos, event.ErrDamaged)
		}
		return *st.sealed, st.sealed.Matches(m.Size, m.SHA256)
	}
	if st.hashed != m.Chunks || len(st.have) != int(m.Chunks) {
		return m, fmt.Errorf("DUMP %s: %d chunks are here (%d without a hole), its manifest says %d: %w", id, len(st.have),
			st.hashed, m.Chunks, event.ErrDamaged)
	}
	if err := m.Matches(st.size, hex.EncodeToString(st.sum.Sum(nil))); err != nil {
		return m, err
	}
	m.V = ManifestVersion
	if err := writeFile(filepath.Join(st.dir, manifestName), m.Encode()); err != nil {
		return m, fmt.Errorf("publish manifest of DUMP %s: %w", id, err)
	}
	if err := disk.SyncDir(st.dir); err != nil {
		return m, fmt.Errorf("publish manifest of DUMP %s: %w", id, err)
	}
	st.sealed = &m
	st.news()
	return m, nil
}

// drop refuses whatever comes, because of gone, and waits until nothing is being written; false when that was done
// before. The caller holds mu.
func (st *stage) drop(gone error) bool {
	if st.gone != nil {
		return false
	}
	st.gone = gone
	st.news()
	st.settle()
	return true
}

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
