package mysql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/snapstream"
)

// snapshot is a transaction with a consistent read, in a session of its own.
type snapshot struct {
	db        *Database
	head      snapstream.Head
	tables    []tableState
	sequences []sequenceState
	size      int64

	close   context.CancelFunc
	ctx     context.Context // ends with Close
	mu      sync.Mutex
	session *session
	busy    bool          // WriteTo runs, and closes the session when it ends
	open    chan struct{} // closed by Close
	once    sync.Once
}

// tableState is what of a table knows no transactions: its next AUTO_INCREMENT; "" without one.
type tableState struct{ name, next string }

// sequenceState is where a sequence stands.
type sequenceState struct{ name, next, cycle string }

// Snapshot implements nodeclient.Database; doc.go says how. It blocks for a few questions, whatever the size of the
// data. Transient: whether an interrupted change of the schema was done is not settled yet; the next Apply does that.
func (t *Database) Snapshot(ctx context.Context) (nodeclient.Snapshot, error) {
	p, err := t.settled(ctx)
	if err != nil {
		return nil, err
	}
	c, err := t.connect(ctx, t.cfg.DBName)
	if err != nil {
		return nil, err
	}
	s := &snapshot{db: t, session: c, open: make(chan struct{})}
	s.ctx, s.close = context.WithCancel(context.Background())
	if err := s.hold(ctx, p.missing); err != nil {
		return nil, errors.Join(classify(fmt.Errorf("mysql: open a snapshot: %w", err)), s.Close())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = s.open
	return s, nil
}

// settled is the place, with no intent in it.
func (t *Database) settled(ctx context.Context) (place, error) {
	s, err := t.session(ctx)
	if err != nil {
		return place{}, err
	}
	defer t.giveBack(ctx, s)
	p, err := t.look(ctx, s)
	if err == nil && p.ddl.pos.Seq != 0 {
		err = nodeclient.Transient(fmt.Errorf("mysql: whether the change of the schema by %d was done is not settled yet",
			p.ddl.pos.Seq))
	}
	return p, err
}

// hold opens the consistent read and reads what is not subject to it.
func (s *snapshot) hold(ctx context.Context, missing bool) error {
	schema := quoteText(s.db.cfg.DBName)
	script := s.db.flavour.forLong + "SET SESSION lock_wait_timeout = " + holdSeconds + "; START TRANSACTION " +
		"WITH CONSISTENT SNAPSHOT, READ ONLY; " +
		"SELECT default_character_set_name, default_collation_name FROM information_schema.schemata WHERE schema_name = " +
		schema + "; " +
		"SELECT table_name, table_type, coalesce(auto_increment, ''), coalesce(data_length + index_length, 0) FROM " +
		"information_schema.tables WHERE table_schema = " + schema +
		" AND table_type IN ('BASE TABLE', 'SEQUENCE') AND table_name <> 'xmq_position_new' ORDER BY table_name"
	if !missing {
		script += "; " + readPosition
	}
	sets, err := s.session.results(ctx, script)
	if err != nil {
		return held(err)
	}
	if !missing {
		p, err := parsePlace(sets[2])
		if err != nil {
			return err
		}
		s.head.Pos = p.pos
	}
	s.head.Preface = []byte(sets[0][0][0] + " " + sets[0][0][1])
	var questions []string
	for _, row := range sets[1] {
		size, err := strconv.ParseInt(row[3], 10, 64)
		if err != nil {
			return err
		}
		s.size += size
		if row[1] == "SEQUENCE" {
			questions = append(questions, "SELECT "+quoteText(row[0])+", next_not_cached_value, cycle_count FROM "+
				quoteName(row[0]))
		} else {
			s.tables = append(s.tables, tableState{row[0], row[2]})
		}
	}
	if len(questions) == 0 {
		return nil
	}
	rows, err := s.session.query(ctx, strings.Join(questions, " UNION ALL "))
	for _, row := range rows {
		s.sequences = append(s.sequences, sequenceState{row[0], row[1], row[2]})
	}
	return held(err)
}

// holdSeconds is how long a snapshot waits for the locks of others while increments are held. The requester asks again
// later.
const holdSeconds = "1"

// held says what a lock against a snapshot means.
func held(err error) error {
	if number(err) == lockTimeout {
		return fmt.Errorf("a session of another holds a table or a sequence for longer than a second (SHOW "+
			"PROCESSLIST): increments go on, and the snapshot is tried again: %w", err)
	}
	return err
}

func (s *snapshot) Position() event.Position { return s.head.Pos }
func (s *snapshot) Format() string           { return s.db.flavour.stream.Name }
func (s *snapshot) Size() int64              { return s.size }
func (s *snapshot) Online() bool             { return true }

// Close ends the transaction; a WriteTo that still runs fails.
func (s *snapshot) Close() error {
	s.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.busy {
		s.session.close()
	}
	s.once.Do(func() { close(s.open) })
	return nil
}

// WriteTo implements nodeclient.Snapshot.
func (s *snapshot) WriteTo(ctx context.Context, w io.Writer) error {
	if !s.begin() {
		return errors.New("mysql: write a snapshot: the snapshot has been closed")
	}
	defer s.end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(errors.New("the snapshot has been closed")) })()
	err := context.Cause(ctx)
	if err == nil {
		err = s.write(ctx, w)
	}
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return fmt.Errorf("mysql: write a snapshot: %w", err)
}

// begin takes the session for WriteTo.
func (s *snapshot) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil || s.busy {
		return false
	}
	s.busy = true
	return true
}

func (s *snapshot) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	if s.ctx.Err() != nil {
		s.session.close()
	}
}

// untilClosed waits for the open snapshot to be closed: the schema is read while it is open.
func (t *Database) untilClosed(ctx context.Context) error {
	t.mu.Lock()
	open := t.open
	t.mu.Unlock()
	if open == nil {
		return nil
	}
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return nodeclient.Transient(fmt.Errorf("mysql: a change of the schema waits for the open snapshot: %w",
			context.Cause(ctx)))
	}
}
