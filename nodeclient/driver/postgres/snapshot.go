package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/snapstream"
	"xmq/nodeclient/driver/internal/subprocess"
)

// Format is the name of the bytes a snapshot writes; doc.go draws them.
const Format = "postgres-dump/2"

// firstFormat is what earlier versions wrote; it is read.
const firstFormat = "postgres-dump/1"

// stream is what Format's bytes look like.
var stream = snapstream.Format{Name: Format, Magic: "XMQPGDMP", Version: 2, Oldest: 1}

// snapshot is a repeatable-read transaction on a connection of its own, whose snapshot pg_dump borrows.
type snapshot struct {
	db    *Database
	head  snapstream.Head
	name  string // of the exported snapshot
	dump  string // path of pg_dump
	major string // version of the server
	size  int64  // of the database, in bytes

	mu    sync.Mutex
	pg    *pgconn.PgConn // nil after Close
	close context.CancelFunc
	ctx   context.Context // ends with Close
}

// Snapshot implements nodeclient.Database; doc.go says how. It blocks for a few questions to the catalog, whatever
// the size of the data, and for sessions of others that hold a table exclusively.
func (t *Database) Snapshot(ctx context.Context) (nodeclient.Snapshot, error) {
	if _, err := t.Position(ctx); err != nil { // waits for what a lost connection left behind
		return nil, err
	}
	s := &snapshot{db: t}
	s.ctx, s.close = context.WithCancel(context.Background())
	err := errStale
	if s.pg = t.spare.take(); s.pg != nil {
		err = s.begin(ctx)
	}
	// it may have died while it was kept
	if err != nil && (connFailed(err) || errors.Is(err, errStale)) && ctx.Err() == nil {
		if s.pg != nil {
			closeConn(s.pg)
		}
		if s.pg, err = t.connect(ctx, t.cfg.Database); err != nil {
			return nil, err
		}
		err = s.begin(ctx)
	}
	if err != nil {
		return nil, errors.Join(classify(fmt.Errorf("postgres: open a snapshot: %w", err)), s.Close())
	}
	return s, nil
}

// errStale says that there is no connection to begin with.
var errStale = errors.New("no connection is kept")

// begin opens the snapshot on its connection.
func (s *snapshot) begin(ctx context.Context) (err error) {
	s.major = major(s.pg)
	if s.dump, err = s.db.dumper(ctx, s.major); err != nil {
		return err
	}
	return s.hold(ctx)
}

// spare keeps a connection ready, so that the increments that wait for a snapshot do not wait for a login.
type spare struct {
	mu   sync.Mutex
	conn *pgconn.PgConn // nil: none
	shut bool
}

// take takes the connection; nil when there is none.
func (s *spare) take() *pgconn.PgConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn
	s.conn = nil
	return c
}

// put keeps c, unless it is of no more use: then it closes it.
func (s *spare) put(c *pgconn.PgConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil || s.shut || c.IsClosed() || c.TxStatus() != 'I' {
		closeConn(c)
		return
	}
	s.conn = c
}

// close closes what is kept, and what will come.
func (s *spare) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	if s.conn != nil {
		closeConn(s.conn)
		s.conn = nil
	}
}

// hold locks the tables, opens the snapshot and reads what it holds.
func (s *snapshot) hold(ctx context.Context) error {
	tables, err := query(ctx, s.pg, "SELECT coalesce('LOCK TABLE ' || string_agg(format('%I.%I', n.nspname, "+
		"c.relname), ', ') || ' IN ACCESS SHARE MODE', '') "+
		fmt.Sprintf(relations, "'r', 'p'"))
	if err != nil {
		return err
	}
	err = execute(ctx, s.pg, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = "+lockPatience+
		"; "+tables[0][0]+"; SET LOCAL lock_timeout = 0")
	if code(err) == lockTimeout {
		return s.held(ctx, err)
	}
	if err != nil {
		return err
	}
	there, err := query(ctx, s.pg, look)
	if err != nil {
		return err
	}
	var stored map[string]kept
	if there[0][0] == "t" {
		if s.head.Pos, err = readPosition(ctx, s.pg, ""); err != nil {
			return err
		}
		if stored, _, _, err = readKept(ctx, s.pg); err != nil {
			return err
		}
	}
	if s.head.Preface, err = readPreface(ctx, s.pg, stored); err != nil {
		return err
	}
	name, err := query(ctx, s.pg, "SELECT pg_export_snapshot(), pg_database_size(current_database())")
	if err != nil {
		return err
	}
	s.name = name[0][0]
	s.size, err = strconv.ParseInt(name[0][1], 10, 64)
	return err
}

// lockPatience is how many milliseconds a snapshot waits for the locks of others while increments are held. The
// requester asks for another one later.
const lockPatience = "1000"

const lockTimeout = "55P03"

// held says who holds a table against a snapshot.
func (s *snapshot) held(ctx context.Context, err error) error {
	if e := execute(ctx, s.pg, "ROLLBACK"); e != nil {
		return e
	}
	rows, e := query(ctx, s.pg, "SELECT l.pid, l.relation::regclass FROM pg_catalog.pg_locks l JOIN "+
		"pg_catalog.pg_class c ON c.oid = l.relation "+
		"WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'AccessExclusiveLock' AND c.relkind IN ('r', 'p') AND "+
		"l.pid <> pg_backend_pid() "+
		"AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) ORDER BY 1, 2 LIMIT 1")
	if e != nil || len(rows) == 0 { // it has just let go
		return nodeclient.Transient(fmt.Errorf("a session of another held a table exclusively for longer than a second: %w",
			err))
	}
	return nodeclient.Transient(fmt.Errorf("the session with pid %s holds the table %s exclusively for longer than a "+
		"second: increments go on, and the snapshot is tried again: %w",
		rows[0][0], rows[0][1], err))
}

func (s *snapshot) Position() event.Position { return s.head.Pos }
func (s *snapshot) Format() string           { return Format }
func (s *snapshot) Size() int64              { return s.size }
func (s *snapshot) Online() bool             { return true }

// Close ends the transaction; a WriteTo that still runs fails.
func (s *snapshot) Close() error {
	s.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pg != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		giveBack(ctx, s.pg)
		s.db.spare.put(s.pg)
		s.pg = nil
	}
	return nil
}

// WriteTo implements nodeclient.Snapshot: it runs pg_dump.
func (s *snapshot) WriteTo(ctx context.Context, w io.Writer) error {
	if s.ctx.Err() != nil {
		return errors.New("postgres: write a snapshot: the snapshot has been closed")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	err := s.checkViews(ctx)
	if err == nil {
		err = s.write(ctx, w)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return fmt.Errorf("postgres: write a snapshot: %w", err)
	}
	return nil
}

func (s *snapshot) write(ctx context.Context, w io.Writer) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	data, err := stream.NewWriter(w, s.head)
	if err != nil {
		return err
	}
	args := []string{"--format=custom", "--compress=0", "--snapshot=" + s.name, "--no-password", "--no-publications",
		"--no-subscriptions"}
	if n, err := strconv.Atoi(s.major); err == nil && n >= 18 {
		args = append(args, "--no-statistics") // they are no data, and calls to a restore
	}
	cmd, stderr := s.db.program(ctx, s.dump, s.db.cfg.Database, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err = data.Fill(out); err != nil {
		_ = cmd.Process.Kill() // its output has nowhere to go
	}
	if exit := subprocess.Ended("pg_dump", stderr, cmd.Wait()); err == nil {
		err = exit
	}
	if err != nil {
		return err
	}
	return data.End()
}
