package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	sqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/apply"
	"xmq/nodeclient/driver/internal/files"
	"xmq/nodeclient/driver/sqltext"
)

// DefaultBusyTimeout is how long a statement waits for a lock that another connection holds.
const DefaultBusyTimeout = 2 * time.Second

// DefaultMaxLength is how many bytes one value, or one row, may have.
const DefaultMaxLength = 64 << 20

// Options are the knobs of a Database. The zero value is right for most.
type Options struct {
	// BusyTimeout is how long to wait for another process's lock before answering Transient; 0 means
	// DefaultBusyTimeout. A cancelled context is noticed after at most this time.
	BusyTimeout time.Duration
	// IgnoreForeignKeys leaves foreign keys unchecked, as SQLite itself does by default: for data whose
	// writers did the same. All nodes of a group must agree, or an increment fails on some of them.
	IgnoreForeignKeys bool
	// MaxLength is how many bytes one value or one row may have: an increment that makes a longer one is a FAIL.
	// 0 means DefaultMaxLength. All nodes of a group must agree.
	MaxLength int
	// MaxPages is how many pages the database file may have: an increment that needs more is a FAIL. 0 means no
	// limit but SQLite's own, 4294967294.
	MaxPages uint32
}

// Database is one SQLite database file. Methods are called one at a time; a Snapshot is read meanwhile.
type Database struct {
	path string // absolute
	opts Options
	db   *sql.DB // nil after Close, or a Switch that could not open the new file
	// file is the database file, open from before db until after it: closing any descriptor of a file
	// drops all locks the process holds on it, SQLite's too.
	file     *os.File
	closed   bool
	patience apply.Patience
	// commit ends a write transaction. A test makes its outcome unknown.
	commit func(context.Context, *sql.Conn) error
}

var _ nodeclient.Database = (*Database)(nil)

// Open opens the database file at path and creates it when it is not there; its folder must exist. A Switch
// that a crash interrupted is finished first, an unfinished restore removed. Errors of the database that
// may pass are Transient, a file that is no database is Fatal.
func Open(ctx context.Context, path string, o Options) (*Database, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if o.BusyTimeout == 0 {
		o.BusyTimeout = DefaultBusyTimeout
	}
	if o.MaxLength == 0 {
		o.MaxLength = DefaultMaxLength
	}
	t := &Database{path: abs, opts: o, commit: commit}
	if err := discard(restorePath(abs)); err != nil {
		return nil, nodeclient.Transient(fmt.Errorf("sqlite: remove an unfinished restore: %w", err))
	}
	if err := t.open(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// open finishes a decided switch and opens the file. On an error everything is closed again.
func (t *Database) open(ctx context.Context) (err error) {
	if err := finishSwitch(t.path); err != nil {
		return nodeclient.Transient(fmt.Errorf("sqlite: finish the switch to a restored database: %w", err))
	}
	t.file, err = files.Open(t.path)
	if err != nil {
		return nodeclient.Transient(fmt.Errorf("sqlite: %w", err))
	}
	t.db, err = t.pool()
	if err == nil {
		var mode string
		err = t.db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode)
		if err == nil && mode != "wal" {
			err = fmt.Errorf("the journal mode stays %q: the file system of %s cannot serve WAL, put the database on another",
				mode, t.path)
		}
		if err == nil {
			err = bypassed(ctx, t.db)
		}
	}
	if err != nil {
		return errors.Join(classify(fmt.Errorf("sqlite: open %s: %w", t.path, err)), t.shut())
	}
	return nil
}

// bypassed is an error for a database with a virtual table through which statements write pages that SQLite does not
// check. No increment can make one; views and triggers cannot use it.
func bypassed(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND rootpage = 0")
	if err != nil {
		return err
	}
	for rows.Next() {
		var name, text string
		if err := rows.Scan(&name, &text); err != nil {
			return errors.Join(err, rows.Close())
		}
		if sqltext.Mentions(sqltext.SQLite, text, dbpage) {
			return errors.Join(fmt.Errorf("the virtual table %q writes the pages of the file by the module %s, where SQLite "+
				"checks nothing, so that one increment could damage every copy: drop it, with the node stopped, and start the "+
				"node again", name, dbpage), rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// pool makes the connections to the file.
func (t *Database) pool() (*sql.DB, error) {
	foreignKeys := "foreign_keys(ON)"
	if t.opts.IgnoreForeignKeys {
		foreignKeys = "foreign_keys(OFF)"
	}
	return openDB(t.path, "busy_timeout("+strconv.FormatInt(t.opts.BusyTimeout.Milliseconds(), 10)+")",
		"journal_mode(WAL)", "synchronous(FULL)", "journal_size_limit(67108864)", foreignKeys,
		"max_page_count("+strconv.FormatUint(uint64(cmp.Or(t.opts.MaxPages, math.MaxUint32-1)), 10)+")")
}

// fresh is a connection that has changed nothing yet; done closes it.
func (t *Database) fresh(ctx context.Context) (c *sql.Conn, done func(), err error) {
	db, err := t.pool()
	if err != nil {
		return nil, nil, classify(fmt.Errorf("sqlite: connect: %w", err))
	}
	if c, err = t.lend(ctx, db); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return c, func() {
		giveBack(c)
		_ = db.Close() // what was committed is durable
	}, nil
}

// openDB makes a pool whose connections all begin with these pragmas, and with those that a file from elsewhere asks
// for: its schema may call no function and use no virtual table that could do harm, and the cells of each page are
// checked.
func openDB(path string, pragmas ...string) (*sql.DB, error) {
	pragmas = append([]string{"trusted_schema(OFF)", "cell_size_check(ON)"}, pragmas...)
	u := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{"_pragma": pragmas}.Encode()}
	return sql.Open("sqlite", u.String())
}

// dir is the folder of the database file.
func (t *Database) dir() string { return filepath.Dir(t.path) }

// Close implements nodeclient.Database.
func (t *Database) Close() error {
	t.closed = true
	return t.shut()
}

// shut closes the file; open may open it, or the one that takes its place, again.
func (t *Database) shut() error {
	var err error
	if t.db != nil {
		err = t.db.Close()
		t.db = nil
	}
	if t.file != nil {
		err = errors.Join(err, t.file.Close())
		t.file = nil
	}
	return err
}

// conn lends a connection; release gives it back, with a transaction still open on it or not. It refuses
// when another file has taken the database's place: what is written would be lost with the old one.
func (t *Database) conn(ctx context.Context) (c *sql.Conn, release func(), err error) {
	if t.closed {
		return nil, nil, fmt.Errorf("sqlite: %s has been closed", t.path)
	}
	if t.db == nil {
		if err := t.open(ctx); err != nil {
			return nil, nil, err
		}
	}
	ours, err := t.file.Stat()
	if err != nil {
		return nil, nil, nodeclient.Transient(fmt.Errorf("sqlite: %w", err))
	}
	if there, err := os.Stat(t.path); err != nil || !os.SameFile(ours, there) {
		return nil, nil, nodeclient.Transient(fmt.Errorf("sqlite: the file %s was removed or replaced under the node: put "+
			"it back or restart the node", t.path))
	}
	if c, err = t.lend(ctx, t.db); err != nil {
		return nil, nil, err
	}
	return c, func() { giveBack(c) }, nil
}

// lend takes a connection of a pool.
func (t *Database) lend(ctx context.Context, db *sql.DB) (*sql.Conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, classify(fmt.Errorf("sqlite: connect: %w", err))
	}
	if _, err := sqlite.Limit(c, sqlite3.SQLITE_LIMIT_LENGTH, t.opts.MaxLength); err != nil {
		giveBack(c)
		return nil, classify(fmt.Errorf("sqlite: limit the length of values: %w", err))
	}
	return c, nil
}

// giveBack ends whatever transaction is open. A connection that cannot even do that leaves the pool.
func giveBack(c *sql.Conn) {
	_ = c.Raw(func(dc any) error {
		_, err := dc.(driver.ExecerContext).ExecContext(context.Background(), "ROLLBACK", nil)
		if err == nil || code(err) == codeError { // "no transaction is active"
			return nil
		}
		return driver.ErrBadConn
	})
	_ = c.Close() // ErrConnDone when it has left the pool
}

func commit(ctx context.Context, c *sql.Conn) error {
	_, err := c.ExecContext(ctx, "COMMIT")
	return err
}

// Position implements nodeclient.Database.
func (t *Database) Position(ctx context.Context) (event.Position, error) {
	c, release, err := t.conn(ctx)
	if err != nil {
		return event.Position{}, err
	}
	defer release()
	return readPosition(ctx, c)
}

// Empty implements nodeclient.Database: no table, view or other object at all.
func (t *Database) Empty(ctx context.Context) (bool, error) {
	c, release, err := t.conn(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	var objects int
	if err := c.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&objects); err != nil {
		return false, classify(fmt.Errorf("sqlite: read the schema: %w", err))
	}
	return objects == 0, nil
}

// Seek implements nodeclient.Database. It also mends a position table that has lost its row or has two.
func (t *Database) Seek(ctx context.Context, pos event.Position) error {
	c, release, err := t.conn(ctx)
	if err != nil {
		return err
	}
	defer release()
	for _, step := range []func() error{
		func() error { return exec(ctx, c, "BEGIN IMMEDIATE") },
		func() error { return exec(ctx, c, createPosition) },
		func() error { return replacePosition(ctx, c, pos) },
		func() error { return t.commit(ctx, c) },
	} {
		if err := step(); err != nil {
			return classify(fmt.Errorf("sqlite: store the position %d: %w", pos.Seq, err))
		}
	}
	return nil
}

// Topics implements nodeclient.Database.
func (t *Database) Topics(ctx context.Context) (topics event.Topics, err error) {
	c, release, err := t.conn(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	found, err := hasTopics(ctx, c)
	if err == nil && found {
		err = c.QueryRowContext(ctx, "SELECT coalesce(max(topics), '') FROM main.xmq_position").Scan(&topics)
	}
	if err != nil {
		return "", classify(fmt.Errorf("sqlite: read the topics: %w", err))
	}
	return topics, nil
}

// Keep implements nodeclient.Database.
func (t *Database) Keep(ctx context.Context, topics event.Topics) error {
	c, release, err := t.conn(ctx)
	if err != nil {
		return err
	}
	defer release()
	err = exec(ctx, c, "BEGIN IMMEDIATE")
	if err == nil {
		err = keepTopics(ctx, c, topics)
	}
	if err == nil {
		err = t.commit(ctx, c)
	}
	if err != nil {
		return classify(fmt.Errorf("sqlite: store the topics: %w", err))
	}
	return nil
}

func exec(ctx context.Context, c *sql.Conn, query string, args ...any) error {
	_, err := c.ExecContext(ctx, query, args...)
	return err
}
