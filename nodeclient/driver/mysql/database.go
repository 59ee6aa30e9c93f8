package mysql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/apply"
	"xmq/nodeclient/driver/internal/freespace"
	"xmq/nodeclient/driver/internal/hold"
)

// settleTime is how long a lost answer is looked for before Apply reports the doubt. The next Apply looks again.
const settleTime = 10 * time.Second

// Options are the knobs of a Database. The zero value is right for most.
type Options struct {
	// Node is the ID of the node, for people: some servers show it beside the session that holds the database's lock.
	Node string
	// Password, when not nil, is asked before each connection, instead of what the URL says.
	Password func() (string, error)
	// LockWait is how long it waits for that lock while another session has it; 0 means hold.DefaultWait.
	LockWait time.Duration
	// LockBeat is how often the session that has it is used; 0 means hold.Beat.
	LockBeat time.Duration
}

// Database is one database of a MariaDB server. Methods are called one at a time; a Snapshot is read meanwhile.
type Database struct {
	cfg     *mysql.Config
	opts    Options
	flavour *flavour     // of the server; nil until the first session asks
	name    string       // of the database, the same for all who mean it; lock names are made of it
	lock    string       // of the place, as a literal; transactions have the same name
	s       *session     // nil or dead until the next use
	running atomic.Value // the id of s at the server, a string
	hold    *hold.Hold
	shut    bool
	// doubt is the position after a commit that nobody answered and that could not be looked for yet;
	// zero when there is none.
	doubt    event.Position
	patience apply.Patience
	powers   string // of the user, beyond the database; for people
	folder   freespace.Folder
	counters counters
	// switching says that a switch may have been decided and is not finished: that comes before everything else.
	switching bool

	mu   sync.Mutex
	open chan struct{} // closed with the open snapshot; nil when there is none
}

var _ nodeclient.Database = (*Database)(nil)

// Open connects to the database of a mysql:// or mariadb:// URL, which must exist, finishes a switch that was decided
// and drops what an interrupted restore left beside it. Errors that may pass are Transient; a wrong URL, password or
// database name, a server that is too old and a table of another engine than InnoDB are not.
func Open(ctx context.Context, rawURL string, o Options) (*Database, error) {
	cfg, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	if o.Password != nil {
		if err := cfg.Apply(mysql.BeforeConnect(func(_ context.Context, c *mysql.Config) (err error) {
			c.Passwd, err = o.Password()
			return err
		})); err != nil {
			return nil, err
		}
	}
	o.LockWait = cmp.Or(o.LockWait, hold.DefaultWait)
	t := &Database{cfg: cfg, opts: o}
	if t.s, err = t.dial(ctx, cfg.DBName); err != nil {
		return nil, openError(cfg, o.Password != nil, err)
	}
	if t.name, err = folded(ctx, t.s, cfg.DBName); err != nil {
		return nil, errors.Join(classify(fmt.Errorf("mysql: ask whether names of databases have cases: %w", err)),
			t.s.conn.Close())
	}
	t.lock = lockName(t.name)
	t.hold = hold.New("mysql", cfg.DBName, cmp.Or(o.LockBeat, hold.Beat), t.take)
	if err = t.fits(ctx); err == nil {
		_, err = t.hold.Ensure(ctx)
	}
	if err == nil {
		err = t.learnPowers(ctx)
	}
	if err == nil {
		err = t.tidy(ctx)
	}
	if err == nil {
		err = t.engines(ctx, t.s)
	}
	if err == nil {
		err = t.nameCounters(ctx)
	}
	if err == nil {
		var host, dir string
		if host, dir, err = t.dataFolder(ctx, t.s); err == nil {
			t.folder.Lies(host, dir)
		}
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// folded is the name of a database in lower case where the server takes Shop and shop for the same.
func folded(ctx context.Context, s *session, database string) (string, error) {
	rows, err := s.query(ctx, "SELECT @@lower_case_table_names")
	if err == nil && rows[0][0] != "0" {
		database = strings.ToLower(database)
	}
	return database, err
}

// openError classes what the first connection met: what the server refuses by name will not pass, but for a password
// that is read at each connection.
func openError(cfg *mysql.Config, reads bool, err error) error {
	text := fmt.Errorf("mysql: connect: %w", err)
	switch n := number(err); {
	case n == wrongPassword && reads:
		return nodeclient.WrongPassword(text)
	case n == missingDatabase, n == deniedDatabase:
		return fmt.Errorf("mysql: there is no database %q that the user %q may use: create it, empty, and start again: %w",
			cfg.DBName, cfg.User, err)
	case n != 0 && !transient(n), errors.Is(err, errFlavour):
		return text
	}
	return nodeclient.Transient(text)
}

// fits refuses a server on which XMQ cannot keep its promises.
func (t *Database) fits(ctx context.Context) error {
	rows, err := t.s.query(ctx, t.flavour.unfit)
	if err != nil {
		return classify(fmt.Errorf("mysql: ask for the settings of the server: %w", err))
	}
	if why := rows[0][0]; why != "" {
		return errors.New("mysql: the server " + why)
	}
	return nil
}

// engines refuses tables whose data would not follow a transaction, or whose history a snapshot cannot carry.
func (t *Database) engines(ctx context.Context, s *session) error {
	rows, err := s.query(ctx, "SELECT table_name, coalesce(engine, '') FROM information_schema.tables WHERE "+
		"table_schema = "+quoteText(t.cfg.DBName)+
		" AND (table_type IN ('BASE TABLE', 'SEQUENCE') AND engine <> 'InnoDB' OR table_type = 'SYSTEM VERSIONED') LIMIT 1")
	if err != nil {
		return classify(fmt.Errorf("mysql: look at the engines of tables: %w", err))
	}
	if len(rows) == 0 {
		return nil
	}
	if rows[0][1] == "InnoDB" {
		return fmt.Errorf("mysql: the table %q keeps its history (SYSTEM VERSIONING), which a snapshot cannot carry: "+
			"ALTER TABLE %s DROP SYSTEM VERSIONING", rows[0][0], quoteName(rows[0][0]))
	}
	return fmt.Errorf("mysql: the table %q has the engine %s, which knows no transactions, so that its data and the "+
		"position could part: ALTER TABLE %s ENGINE=InnoDB", rows[0][0], rows[0][1], quoteName(rows[0][0]))
}

// session is the connection for increments, opened again when it was lost or idle for long. A switch that was decided
// is finished first.
func (t *Database) session(ctx context.Context) (*session, error) {
	if t.shut {
		return nil, fmt.Errorf("mysql: the target %s has been closed", t.cfg.DBName)
	}
	if t.s != nil && !t.s.dead && time.Since(t.s.used) > idleTime/2 {
		t.s.close()
	}
	if t.s == nil || t.s.dead {
		s, err := t.connect(ctx, t.cfg.DBName)
		if err != nil {
			return nil, err
		}
		t.s = s
	}
	if t.switching {
		if _, err := t.finish(ctx); err != nil {
			return nil, err
		}
	}
	t.running.Store(t.s.id)
	return t.s, nil
}

// Product tells whose server it is: mariadb or mysql.
func (t *Database) Product() string { return strings.ToLower(t.flavour.name) }

// Close implements nodeclient.Database.
func (t *Database) Close() error {
	t.shut = true
	defer t.hold.Close() // last: until then nobody else comes
	if t.s != nil {
		t.s.close()
		t.s = nil
	}
	return nil
}

// Position implements nodeclient.Database. It waits for a transaction that a lost connection left behind.
func (t *Database) Position(ctx context.Context) (event.Position, error) {
	s, err := t.session(ctx)
	if err != nil {
		return event.Position{}, err
	}
	defer t.giveBack(ctx, s)
	p, err := t.look(ctx, s)
	return p.pos, err
}

// Empty implements nodeclient.Database: no table, view, sequence, routine, package, event or library but the position
// table.
func (t *Database) Empty(ctx context.Context) (bool, error) {
	s, err := t.session(ctx)
	if err != nil {
		return false, err
	}
	name := quoteText(t.cfg.DBName)
	rows, err := s.query(ctx, "SELECT (SELECT count(*) FROM information_schema.tables WHERE table_schema = "+name+
		" AND table_name NOT IN ('xmq_position', 'xmq_position_new')) + "+
		"(SELECT count(*) FROM information_schema.routines WHERE routine_schema = "+name+
		") + (SELECT count(*) FROM information_schema.events WHERE event_schema = "+name+"), "+
		"(SELECT count(*) FROM information_schema.tables WHERE table_schema = 'information_schema' AND table_name = "+
		"'LIBRARIES')")
	libraries := err == nil && rows[0][1] != "0"
	empty := err == nil && rows[0][0] == "0"
	if libraries && empty {
		rows, err = s.query(ctx, "SELECT count(*) FROM information_schema.libraries WHERE library_schema = "+name)
		empty = err == nil && rows[0][0] == "0"
	}
	if err != nil {
		return false, classify(fmt.Errorf("mysql: look whether the database is empty: %w", err))
	}
	return empty, nil
}
