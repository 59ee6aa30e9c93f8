package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// Memory is a database in memory for tests of everything around drivers: the list of bodies applied and the
// position, always together. It checks that increments come one after the other and panics when they do not. It
// can fail, hang, and go back to an older state. Safe for concurrent use.
type Memory struct {
	mu     sync.Mutex
	gen    int // of the process that may use it
	now    memoryState
	past   []memoryState
	failAt uint64
	failBy error
	hang   chan struct{} // not nil: Apply waits until it is closed
	stuck  uint64        // the increment that never ends by itself; 0 for none

	fails, loads, backs int
}

type memoryState struct {
	pos    event.Position
	topics event.Topics
	bodies []string
}

// NewMemory is an empty one.
func NewMemory() *Memory { return new(Memory) }

// Open gives the database to a new process; the process before it cannot use it any more.
func (m *Memory) Open() nodeclient.Database {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gen++
	return &memoryTarget{db: m, gen: m.gen}
}

// Detach takes it away from its process: what that still does has no effect, as after kill -9.
func (m *Memory) Detach() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gen++
}

// Position is what it has applied.
func (m *Memory) Position() event.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now.pos
}

// Bodies are the increments applied, in order.
func (m *Memory) Bodies() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now.bodies
}

// Rollback puts a random older state back, data and position together: an old backup.
func (m *Memory) Rollback(rng *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.past) > 0 {
		m.now, m.backs = m.past[rng.IntN(len(m.past))], m.backs+1
	}
}

// FailOnce lets the increment seq fail the next time it comes; 0 for none.
func (m *Memory) FailOnce(seq uint64) { m.FailWith(seq, errors.New("told to fail")) }

// FailWith is FailOnce with an error of its own.
func (m *Memory) FailWith(seq uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failAt, m.failBy = seq, err
}

// Hang lets every Apply wait until the returned function is called, or its context ends.
func (m *Memory) Hang() (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan struct{})
	m.hang = c
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.hang = nil
		close(c)
	})
}

// Stick lets the increment seq stay at the database until Apply's context ends, each time it comes; 0 for none.
func (m *Memory) Stick(seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stuck = seq
}

// sticks reports whether one of batch never ends.
func (m *Memory) sticks(batch []event.Item) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(batch, func(i event.Item) bool { return i.Record != nil && i.Pos.Seq == m.stuck })
}

// Counts says how often it failed, loaded a snapshot, went back.
func (m *Memory) Counts() (fails, loads, backs int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fails, m.loads, m.backs
}

type memoryTarget struct {
	db  *Memory
	gen int
}

func (t *memoryTarget) locked(f func(*Memory) error) error {
	t.db.mu.Lock()
	defer t.db.mu.Unlock()
	if t.db.gen != t.gen {
		return nodeclient.Transient(errors.New("this process is dead"))
	}
	return f(t.db)
}

func (t *memoryTarget) Position(context.Context) (pos event.Position, err error) {
	return pos, t.locked(func(m *Memory) error { pos = m.now.pos; return nil })
}

func (t *memoryTarget) Apply(ctx context.Context, before event.Position, batch []event.Item) (pos event.Position,
	err error) {
	t.db.mu.Lock()
	hang := t.db.hang
	t.db.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return pos, nodeclient.Transient(ctx.Err())
		}
	}
	if t.db.sticks(batch) {
		<-ctx.Done()
		return before, nodeclient.Transient(ctx.Err())
	}
	err = t.locked(func(m *Memory) error {
		pos = m.now.pos
		if err := nodeclient.CheckAdvance(m.now.pos, before); err != nil {
			return err
		}
		m.past = append(m.past, m.now)
		next := m.now
		for _, i := range batch {
			if i.Pos.Seq == m.failAt {
				m.failAt, m.fails = 0, m.fails+1
				m.now, pos = next, next.pos
				return m.failBy
			}
			if i.Record != nil && i.Pos.Seq != next.pos.Seq+1 {
				panic(fmt.Sprintf("increment %d comes after %d", i.Pos.Seq, next.pos.Seq))
			}
			if i.Record != nil {
				next.bodies = append(next.bodies[:len(next.bodies):len(next.bodies)], string(i.Record.Body()))
			}
			next.pos = i.Pos
		}
		m.now, pos = next, next.pos
		return nil
	})
	return pos, err
}

func (t *memoryTarget) Seek(_ context.Context, pos event.Position) error {
	return t.locked(func(m *Memory) error { m.now.pos = pos; return nil })
}

func (t *memoryTarget) Topics(context.Context) (topics event.Topics, err error) {
	return topics, t.locked(func(m *Memory) error { topics = m.now.topics; return nil })
}

func (t *memoryTarget) Keep(_ context.Context, topics event.Topics) error {
	return t.locked(func(m *Memory) error { m.now.topics = topics; return nil })
}

func (t *memoryTarget) Empty(context.Context) (empty bool, err error) {
	return empty, t.locked(func(m *Memory) error { empty = m.now.pos.Zero(); return nil })
}

func (t *memoryTarget) CheckSpace(context.Context, int64) error { return nil }

func (t *memoryTarget) Close() error { return nil }

func (t *memoryTarget) Snapshot(context.Context) (s nodeclient.Snapshot, err error) {
	return s, t.locked(func(m *Memory) error { s = &memorySnapshot{m.now}; return nil })
}

type memorySnapshot struct{ state memoryState }

func (s memorySnapshot) Position() event.Position { return s.state.pos }
func (s memorySnapshot) Format() string           { return "mem/1" }
func (s memorySnapshot) Size() int64              { return 0 }
func (s memorySnapshot) Online() bool             { return true }
func (s memorySnapshot) Close() error             { return nil }

func (s memorySnapshot) WriteTo(ctx context.Context, w io.Writer) error {
	for _, b := range s.state.bodies {
		if _, err := fmt.Fprintln(w, b); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (t *memoryTarget) Loads(format string) bool { return format == "mem/1" }

func (t *memoryTarget) Restore(_ context.Context, want event.Position, topics event.Topics,
	r io.Reader) (nodeclient.Restored, error) {
	all, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	fresh := memoryState{pos: want, topics: topics}
	for line := range bytes.Lines(all) {
		fresh.bodies = append(fresh.bodies, string(bytes.TrimSuffix(line, []byte("\n"))))
	}
	return &memoryRestored{t, fresh}, nil
}

type memoryRestored struct {
	db    *memoryTarget
	fresh memoryState
}

func (r *memoryRestored) Discard() error { return nil }

func (r *memoryRestored) Switch(context.Context) error {
	return r.db.locked(func(m *Memory) error {
		m.now, m.past, m.loads = r.fresh, nil, m.loads+1
		return nil
	})
}
