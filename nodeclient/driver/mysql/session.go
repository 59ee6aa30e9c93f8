package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/sqltext"
)

// idleTime is after how much idleness the server ends a session, and with it the locks of one whose node is cut off. A
// session idle for half of it is not used again.
const idleTime = 60 * time.Second

// lockSeconds is how long a statement waits for a lock before it is Transient.
const lockSeconds = "20"

// lockWait is lockSeconds.
const lockWait = 20 * time.Second

// session is one connection to the server. It is for one goroutine.
type session struct {
	conn   driver.Conn
	id     string    // at the server
	packet int       // bytes of the longest statement the server takes
	used   time.Time // for the last time
	place  bool      // it may hold the lock of the place
	xa     bool      // it may be in the transaction that goes with it
	dead   bool
	worn   bool     // an increment has run in it
	gone   []uint16 // error numbers that mean it was ended
	calls  calls    // what statements may call
}

// connect opens a session in a database of the target's server. Trouble is Transient: it says nothing about an
// increment.
func (t *Database) connect(ctx context.Context, database string) (*session, error) {
	s, err := t.dial(ctx, database)
	if err != nil {
		return nil, nodeclient.Transient(fmt.Errorf("mysql: connect: %w", err))
	}
	return s, nil
}

// connectSingle opens a session that takes one statement at a time, with the pins: what a snapshot brings cannot
// bring another statement along, however the text is read.
func (t *Database) connectSingle(ctx context.Context, database string) (*session, error) {
	cfg := t.cfg.Clone()
	cfg.DBName, cfg.MultiStatements = database, false
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	s, err := begin(ctx, cfg)
	if err != nil {
		return nil, nodeclient.Transient(fmt.Errorf("mysql: connect: %w", err))
	}
	err = s.each(ctx, t.flavour.pins)
	var rows [][]string
	if err == nil {
		rows, err = s.query(ctx, "SELECT @@max_allowed_packet, connection_id()")
	}
	if err == nil {
		s.id = rows[0][1]
		s.packet, err = strconv.Atoi(rows[0][0])
	}
	if err != nil {
		s.close()
		return nil, nodeclient.Transient(fmt.Errorf("mysql: connect: %w", err))
	}
	s.gone = t.flavour.gone
	return s, nil
}

// each runs our own statements, which have "; " between them and nowhere else, one by one.
func (s *session) each(ctx context.Context, script string) error {
	for one := range strings.SplitSeq(strings.TrimSuffix(script, "; "), "; ") {
		if err := s.do(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

func (t *Database) dial(ctx context.Context, database string) (*session, error) {
	cfg := t.cfg.Clone()
	cfg.DBName = database
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	s, err := begin(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := t.pin(ctx, s); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// begin opens a session without settings.
func begin(ctx context.Context, cfg *mysql.Config) (*session, error) {
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	c, err := connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &session{conn: c, used: time.Now()}, nil
}

// pin sets a new session as its server's flavour wants it. The first session of a target asks which that is.
func (t *Database) pin(ctx context.Context, s *session) error {
	if t.flavour == nil {
		rows, err := s.query(ctx, "SELECT version()")
		if err != nil {
			return err
		}
		if t.flavour, err = flavourOf(rows[0][0]); err != nil {
			return err
		}
	}
	s.gone = t.flavour.gone
	rows, err := s.query(ctx, t.flavour.pins+", "+t.flavour.idle+"; SELECT @@max_allowed_packet, connection_id()")
	if err != nil {
		return err
	}
	s.id = rows[0][1]
	if s.packet, err = strconv.Atoi(rows[0][0]); err != nil {
		return err
	}
	return t.learn(ctx, s)
}

// exec runs a script, whose rows nobody needs, and returns how many rows its last statement found.
func (s *session) exec(ctx context.Context, script string) (found int64, err error) {
	execer, ok := s.conn.(driver.ExecerContext)
	if !ok {
		return 0, errors.New("the connection runs no scripts")
	}
	result, err := execer.ExecContext(ctx, script, nil)
	if err = s.note(ctx, err); err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// do is exec without the number.
func (s *session) do(ctx context.Context, script string) error {
	_, err := s.exec(ctx, script)
	return err
}

// query returns the rows of a script's last result as text; NULL is "".
func (s *session) query(ctx context.Context, script string) ([][]string, error) {
	sets, err := s.results(ctx, script)
	if err != nil {
		return nil, err
	}
	if len(sets) == 0 {
		return nil, errors.New("the server sent no rows")
	}
	return sets[len(sets)-1], nil
}

// results returns the rows of all results of a script as text; NULL is "".
func (s *session) results(ctx context.Context, script string) (sets [][][]string, err error) {
	queryer, ok := s.conn.(driver.QueryerContext)
	if !ok {
		return nil, errors.New("the connection answers no queries")
	}
	rows, err := queryer.QueryContext(ctx, script, nil)
	if err = s.note(ctx, err); err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // everything of it was read, or the session is at its end
	more, ok := rows.(driver.RowsNextResultSet)
	if !ok {
		return nil, errors.New("the connection knows one result only")
	}
	for {
		set, err := readAll(rows)
		if err = s.note(ctx, err); err != nil {
			return nil, err
		}
		if len(rows.Columns()) > 0 {
			sets = append(sets, set)
		}
		if err := more.NextResultSet(); err == io.EOF {
			return sets, nil
		} else if err = s.note(ctx, err); err != nil {
			return nil, err
		}
	}
}

// prepare lets the server look at a statement. The caller closes it.
func (s *session) prepare(ctx context.Context, statement string) (driver.Stmt, error) {
	preparer, ok := s.conn.(driver.ConnPrepareContext)
	if !ok {
		return nil, errors.New("the connection prepares no statements")
	}
	stmt, err := preparer.PrepareContext(ctx, statement)
	return stmt, s.note(ctx, err)
}

func readAll(rows driver.Rows) (all [][]string, err error) {
	values := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(values); {
		case err == io.EOF:
			return all, nil
		case err != nil:
			return nil, err
		}
		text := make([]string, len(values))
		for i, v := range values {
			switch v := v.(type) {
			case nil:
			case []byte:
				text[i] = string(v)
			default:
				text[i] = fmt.Sprint(v)
			}
		}
		all = append(all, text)
	}
}

// note keeps in mind that the session was used, and whether it can be used again. When the wait for an answer was
// given up it says so.
func (s *session) note(ctx context.Context, err error) error {
	s.used = time.Now()
	if n := number(err); n != 0 && (connFailed(err) || slices.Contains(s.gone, n)) && s.answers(ctx) {
		return &raised{err}
	} else if n != 0 && slices.Contains(s.gone, n) {
		err = fmt.Errorf("the server has ended the session: %v", err) // the number means something else elsewhere
	}
	if err == nil || !connFailed(err) {
		return err
	}
	s.close()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// raised is an error with the number of a lost connection, over a session that still answers: a function or procedure
// of the increment has raised it (SIGNAL).
type raised struct{ error }

func (r *raised) Unwrap() error { return r.error }

// answers reports whether the server still answers to a session.
func (s *session) answers(ctx context.Context) bool {
	p, ok := s.conn.(driver.Pinger)
	return ok && p.Ping(ctx) == nil
}

// killTime is how long the server may take to be told that a session is to end.
const killTime = 5 * time.Second

// kill ends a session at the server whose answer nobody waits for any more: a statement would run to its end there,
// and hold the place so long.
func (t *Database) kill(s *session) {
	ctx, cancel := context.WithTimeout(context.Background(), killTime)
	defer cancel()
	if other, err := t.dial(ctx, t.cfg.DBName); err == nil { // else the server is away, and with it the session
		_ = other.do(ctx, "KILL "+s.id) // it may have ended by itself
		other.close()
	}
}

// close ends the session; what the server thinks of that changes nothing.
func (s *session) close() {
	if !s.dead {
		s.dead = true
		_ = s.conn.Close()
	}
}

// quoteName quotes an identifier.
func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// quoteText is a string literal.
func quoteText(s string) string {
	quoted, _ := sqltext.Quote(sqltext.MariaDB, s) // both have a literal for every string
	return quoted
}
