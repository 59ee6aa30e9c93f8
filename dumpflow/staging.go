package dumpflow

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"xmq/broker/disk"
	"xmq/broker/event"
)

// ErrNoSuchDump is returned for a dump that has no staging: unknown, given up, or older than is kept.
var ErrNoSuchDump = errors.New("the broker has no snapshot of it")

// ErrForeign is returned when something lies in staging that no Staging has made.
var ErrForeign = errors.New("it is not the broker's: move it away")

// Staging is the broker's area for snapshots on their way: one directory a dump, named by its ID, one file a
// chunk, and manifest.json, which appears (by rename) only when everything before it is durable. Paths are made
// of numbers only, so no name from outside reaches the file system (RS-14). Safe for concurrent use.
type Staging struct {
	dir   string
	space func() error // asked before every chunk; nil: nobody is asked
	mu    sync.Mutex   // taken after a stage's, never before one
	all   map[event.DumpID]*stage
	trash int // number of the last directory thrown away
	bg    sync.WaitGroup

	cleared []error // see Cleared
}

const trashPrefix = "trash-"

// OpenStaging opens the area, creating dir when it is not there, and sweeps what a crash has left: trash and
// half-written files. A snapshot that is damaged is swept as well, since it can be made again (see Cleared).
// ErrForeign: something lies there that is not ours, and nothing is done about it. space (may be nil) is asked before
// every chunk; its error refuses the chunk.
func OpenStaging(dir string, space func() error) (*Staging, error) {
	s := &Staging{dir: dir, space: space, all: map[event.DumpID]*stage{}}
	if err := disk.NoDirectory(dir); err != nil {
		return nil, fmt.Errorf("open staging: %w", err)
	}
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
		if disk.IsLostFound(dir, e) {
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

// Create makes a place for a dump. Doing it twice changes nothing.
func (s *Staging) Create(id event.DumpID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[id] != nil {
		return nil
	}
	dir := filepath.Join(s.dir, id.String())
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("stage DUMP %s: %w", id, err)
	}
	if err := disk.SyncDir(s.dir); err != nil {
		return errors.Join(fmt.Errorf("stage DUMP %s: %w", id, err), os.Remove(dir))
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
	return nil, fmt.Errorf("DUMP %s: %w", id, ErrNoSuchDump)
}

// Put stores a chunk durably. Its data belongs to the Staging from then on, which may keep it until the dump is sealed.
// Chunks may come in any order and again; one that differs from what is there, or follows one that is shorter than
// ChunkSize, is refused. It blocks for the sync of the file and at most two of the directory; those of other chunks
// overlap with the first and share the others. Errors: event.ErrDamaged, ErrNoSuchDump, space's, the disk's. After an
// error the chunk counts as not sent. Rules: RS-6, RS-8.
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
	return st.put(id, c, data, s.space)
}

// Get returns a chunk as soon as it is there; with Op Stat the manifest, when the snapshot ends before it. It blocks
// until then; ok is false when ctx ended first. The chunk is the caller's; its CRC is for Unpack to check. Errors:
// ErrNoSuchDump, also when the dump is given up meanwhile; event.ErrDamaged; the disk's.
func (s *Staging) Get(ctx context.Context, id event.DumpID, number uint32) (c Chunk, ok bool, err error) {
	st, err := s.stage(id)
	if err != nil {
		return Chunk{}, false, err
	}
	return st.get(ctx, number)
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
		return m, fmt.Errorf("DUMP %s: the manifest is of DUMP %s: %w", id, m.Dump, event.ErrDamaged)
	}
	return st.seal(id, m)
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
	if !st.drop(fmt.Errorf("DUMP %s was given up: %s: %w", id, why, ErrNoSuchDump)) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, id)
	s.trash++
	trash := filepath.Join(s.dir, fmt.Sprintf("%s%s-%d", trashPrefix, id, s.trash)) // an older one may still be going
	// else its record is gone, and the next start drops it again
	if os.Rename(st.dir, trash) == nil {
		s.bg.Go(func() { _ = os.RemoveAll(trash) }) // what stays is swept at the next start
	}
}

// Close waits for removals under way. No other call may run or follow.
func (s *Staging) Close() { s.bg.Wait() }
