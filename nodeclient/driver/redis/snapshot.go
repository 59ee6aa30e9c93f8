package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/snapstream"
)

const (
	// scanCount is about how many names a step of the walk asks for.
	scanCount = 1000
	// readBytes is about how many bytes of values are read at once.
	readBytes = 4 << 20
	// maxWaiting is how many bytes of old values may wait to be written before Apply waits for the writer.
	maxWaiting = 64 << 20
	// maxTouched is how many bytes of names of changed keys a snapshot remembers before Apply waits for its end.
	maxTouched = 256 << 20
)

var errClosed = errors.New("redis: the snapshot has been closed")

// snapshot is a walk over all keys, with a copy of the old value of each key that Apply changes before the walk has
// come to it. The driver is the only writer, so that this is a consistent read.
type snapshot struct {
	db    *Database
	pos   event.Position
	size  int64
	runID string // of the server: another one may have lost data together with its position
	conn  *conn
	// turn is taken by whoever reads values: the walk for a piece of it, or Apply for the keys it is about to change.
	turn    chan struct{}
	drained chan struct{} // one slot: waiting was taken
	limit   int           // bytes of old values that may wait; maxWaiting
	done    chan struct{} // closed when nothing more needs to be kept: the walk is over, or was given up
	finish  sync.Once
	closing sync.Once

	// Under turn:
	touched      map[string]struct{} // keys that Apply has changed since the opening; the walk passes over them
	touchedBytes int

	mu           sync.Mutex
	waiting      []entry // old values for the writer
	waitingBytes int
	started      bool
}

// Snapshot implements nodeclient.Database: one round trip, whatever the size of the database. The old values of keys
// that change while it is open are kept; see maxWaiting and maxTouched for when Apply waits. FLUSHDB waits for its
// end.
func (t *Database) Snapshot(ctx context.Context) (nodeclient.Snapshot, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	if t.open != nil && !t.open.over() {
		return nil, errors.New("redis: a snapshot is open already")
	}
	defer t.conn.until(ctx)()
	if err := t.adopt(ctx); err != nil {
		return nil, err
	}
	pos, err := readPosition(ctx, t.conn)
	if err != nil {
		return nil, err
	}
	i, err := readInfo(ctx, t.conn)
	if err != nil {
		return nil, classify(ctx, "open a snapshot", err)
	}
	s := &snapshot{
		db: t, pos: pos, limit: maxWaiting, size: i.number("used_memory_dataset"), runID: i["run_id"],
		conn: newConn(t.place.options, t.place.db),
		turn: make(chan struct{}, 1), drained: make(chan struct{}, 1), done: make(chan struct{}),
		touched: make(map[string]struct{}),
	}
	t.open = s
	return s, nil
}

func (s *snapshot) Position() event.Position { return s.pos }
func (s *snapshot) Format() string           { return Format }
func (s *snapshot) Size() int64              { return s.size }
func (s *snapshot) Online() bool             { return true }

// over reports whether nothing needs to be kept any more.
func (s *snapshot) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// end says that nothing needs to be kept any more.
func (s *snapshot) end() { s.finish.Do(func() { close(s.done) }) }

// Close implements nodeclient.Snapshot.
func (s *snapshot) Close() (err error) {
	s.end()
	s.closing.Do(func() {
		s.mu.Lock()
		s.started, s.waiting, s.waitingBytes = true, nil, 0
		s.mu.Unlock()
		s.conn.cut()
		err = s.conn.Close()
	})
	return err
}

// take waits for the turn.
func (s *snapshot) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return nodeclient.Transient(fmt.Errorf("redis: wait for a snapshot: %w", context.Cause(ctx)))
	}
}

func (s *snapshot) give() { <-s.turn }

// WriteTo implements nodeclient.Snapshot; doc.go draws what it writes.
func (s *snapshot) WriteTo(ctx context.Context, w io.Writer) error {
	s.mu.Lock()
	started := s.started
	s.started = true
	s.mu.Unlock()
	if started {
		return errClosed
	}
	defer s.end()
	defer s.conn.until(ctx)()
	if err := s.write(ctx, w); err != nil {
		return classify(ctx, "write a snapshot", err)
	}
	return nil
}

func (s *snapshot) write(ctx context.Context, w io.Writer) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	out, err := stream.NewWriter(w, snapstream.Head{Pos: s.pos})
	if err != nil {
		return err
	}
	p := &pack{Writer: bufio.NewWriterSize(out, snapstream.MaxFrame)}
	for cursor := uint64(0); ; {
		var names []string
		names, cursor, err = s.conn.Scan(ctx, cursor, "", scanCount).Result()
		if err != nil {
			return err
		}
		if err := s.walk(ctx, p, names); err != nil {
			return err
		}
		if cursor == 0 {
			break
		}
	}
	if err := s.last(ctx, p); err != nil {
		return err
	}
	i, err := readInfo(ctx, s.conn)
	if err != nil {
		return err
	}
	if i["run_id"] != s.runID {
		return nodeclient.Transient(errors.New("redis: the server was started anew while the snapshot was written, and " +
			"may have lost data: nothing of it counts"))
	}
	if err := writeEnd(p, p.count); err != nil {
		return err
	}
	if err := p.Flush(); err != nil {
		return err
	}
	return out.End()
}

// walk writes the keys of one step, those that Apply has changed as they were before.
func (s *snapshot) walk(ctx context.Context, p *pack, names []string) error {
	for len(names) > 0 {
		if err := s.take(ctx); err != nil {
			return err
		}
		left := names[:0]
		for _, name := range names {
			if _, changed := s.touched[name]; !changed && !strings.HasPrefix(name, reserved) {
				left = append(left, name)
			}
		}
		entries, n, err := readKeys(ctx, s.conn, left)
		s.give()
		if err != nil {
			return err
		}
		if err := p.write(append(s.taken(), entries...)); err != nil {
			return err
		}
		names = left[n:]
	}
	return p.write(s.taken())
}

// last ends the walk: after it Apply keeps nothing more, and what it has kept is written.
func (s *snapshot) last(ctx context.Context, p *pack) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	s.end()
	s.give()
	return p.write(s.taken())
}

// taken takes the old values that wait.
func (s *snapshot) taken() []entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := s.waiting
	s.waiting, s.waitingBytes = nil, 0
	select {
	case s.drained <- struct{}{}:
	default:
	}
	return entries
}
