package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/apply"
	"xmq/nodeclient/driver/internal/freespace"
	"xmq/nodeclient/driver/internal/hold"
)

// DefaultMaintenance is the database that a restore connects to in order to create, rename and drop others.
const DefaultMaintenance = "postgres"

// settleTime is how long a lost answer is looked for before Apply reports the doubt. The next Apply looks again.
const settleTime = 10 * time.Second

// Options are the knobs of a Database. The zero value is right for most.
type Options struct {
	// Maintenance is a database the role may connect to, other than the target; "" means DefaultMaintenance.
	Maintenance string
	// RefreshViews lets a DUMP be made of materialized views that are not what their query gives now: a copy refreshes
	// them. In a target URL it is materialized_views=refresh.
	RefreshViews bool
	// Node is the ID of the node, for people: the server shows it beside the session that holds the database's lock.
	Node string
	// Password, when not nil, is asked before each connection, instead of what the URL says.
	Password func() (string, error)
	// LockWait is how long it waits for that lock while another session has it; 0 means hold.DefaultWait.
	LockWait time.Duration
	// LockBeat is how often the session that has it is used; 0 means hold.Beat.
	LockBeat time.Duration
}

// Database is one PostgreSQL database. Methods are called one at a time; a Snapshot is read meanwhile.
type Database struct {
	cfg     *pgconn.Config
	tls     []string // settings of TLS for programs, as environment
	opts    Options
	pg      *pgconn.PgConn // nil or closed until the next use
	backend atomic.Uint32  // pid of the session of pg at the server; 0 before the first
	shut    bool
	// spare is a second connection for the next snapshot; dump and version are its program and the server's it belongs
	// to.
	spare         spare
	dump, version string
	templates     templates // of pg
	// doubt is the position after a commit that nobody answered and that could not be looked for yet;
	// zero when there is none.
	doubt event.Position
	// used says that pg may hold what an increment has left in it: it is reset before the next transaction.
	used     bool
	hold     *hold.Hold
	patience apply.Patience
	powers   string // of the role, beyond the database; for people
	folder   freespace.Folder
	numbers  numbers
	asking   asking  // of the database of pg
	remains  remains // of it, too
	path     path
}

var (
	_ nodeclient.Database = (*Database)(nil)
	_ nodeclient.Noticer  = (*Database)(nil)
)

// pinned are the settings under which a statement means the same on every node.
var pinned = map[string]string{
	"timezone": "UTC", "client_encoding": "UTF8", "datestyle": "ISO, MDY", "intervalstyle": "postgres",
	"standard_conforming_strings": "on", "default_transaction_isolation": "read committed", "synchronous_commit": "on",
	"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "default_transaction_read_only": "off",
	"default_transaction_deferrable": "off", "extra_float_digits": "1", "bytea_output": "hex", "array_nulls": "on",
	"transform_null_equals": "off", "xmlbinary": "base64", "xmloption": "content", "row_security": "on",
	"check_function_bodies": "on", "timezone_abbreviations": "Default", "backslash_quote": "safe_encoding",
	"gin_fuzzy_search_limit": "0", "synchronize_seqscans": "off",
}

// chosen are those that a target URL may set otherwise, the same on every node.
var chosen = map[string]string{
	"default_text_search_config": "pg_catalog.english", "lc_monetary": "C", "lc_numeric": "C", "lc_time": "C",
}

// Open connects to the database of a postgres:// URL, which must exist, and drops what an interrupted restore left
// beside it. Errors that may pass are Transient; a wrong URL, password or database name is not.
func Open(ctx context.Context, rawURL string, o Options) (*Database, error) {
	rawURL, refresh, err := viewsOption(rawURL)
	if err != nil {
		return nil, err
	}
	o.RefreshViews = o.RefreshViews || refresh
	cfg, err := pgconn.ParseConfig(rawURL)
	if err != nil { // its text may hold the password
		return nil, errors.New("postgres: the target URL, or a PG... variable it builds on, cannot be read: write " +
			"postgres://USER@HOST:PORT/DATABASE, the password percent-encoded or in PGPASSWORD")
	}
	for _, f := range cfg.Fallbacks {
		if f.Host != cfg.Host || f.Port != cfg.Port {
			return nil, errors.New("postgres: the target URL names several servers, but a node belongs to one: name one host")
		}
	}
	if o.Maintenance == "" {
		o.Maintenance = DefaultMaintenance
	}
	o.LockWait = cmp.Or(o.LockWait, hold.DefaultWait)
	if cfg.Database == "" {
		cfg.Database = cfg.User
	}
	if cfg.Database == o.Maintenance || len(oldName(cfg.Database)) > maxName || len(restoreName(cfg.Database)) > maxName {
		return nil, fmt.Errorf("postgres: the database %q cannot be a target: it must not be the maintenance database %q, "+
			"and its name must be at most %d bytes long", cfg.Database, o.Maintenance, maxName-len(restoreName("")))
	}
	if cfg.ConnectTimeout == 0 || cfg.ConnectTimeout > time.Minute {
		cfg.ConnectTimeout = 10 * time.Second
	}
	for name, value := range chosen {
		if cfg.RuntimeParams[name] == "" {
			cfg.RuntimeParams[name] = value
		}
	}
	maps.Copy(cfg.RuntimeParams, pinned)
	maps.Copy(cfg.RuntimeParams, unanswered)
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "xmq"
	}
	t := &Database{cfg: cfg, tls: tlsEnv(rawURL), opts: o}
	t.path.given = cfg.RuntimeParams["search_path"] != ""
	if t.pg, err = t.reach(ctx, cfg); err != nil {
		return nil, openError(cfg, o.Password != nil, err)
	}
	t.hold = hold.New("postgres", cfg.Database, cmp.Or(o.LockBeat, hold.Beat), t.take)
	t.learn(ctx, t.pg)
	closeConn(t.pg) // the next one has what it has learned
	if _, err = t.hold.Ensure(ctx); err == nil {
		_, err = t.conn(ctx)
	}
	if err == nil {
		err = t.tidy(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	if err := t.learnPowers(ctx, t.pg); err != nil {
		return nil, errors.Join(classify(fmt.Errorf("postgres: ask what the role may do: %w", err)), t.Close())
	}
	dir, err := dataFolder(ctx, t.pg)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.folder.Lies(cfg.Host, dir)
	t.beginSequences(ctx)
	// without one, and without the program, the first snapshot says so
	if c, err := t.connect(ctx, cfg.Database); err == nil {
		t.spare.put(c)
		_, _ = t.dumper(ctx, major(c))
	}
	return t, nil
}

// dumper is pg_dump of the server's major version. It is looked for once.
func (t *Database) dumper(ctx context.Context, version string) (path string, err error) {
	if t.version == version {
		return t.dump, nil
	}
	if path, err = findProgram(ctx, "pg_dump", version); err == nil {
		t.dump, t.version = path, version
	}
	return path, err
}

// openError classes what the first connection met: what the server refuses by name will not pass, but for a password
// that is read at each connection.
func openError(cfg *pgconn.Config, reads bool, err error) error {
	text := fmt.Errorf("postgres: connect: %w", err)
	switch c := code(err); {
	case c == wrongPassword && reads:
		return nodeclient.WrongPassword(text)
	case c == missingDatabase:
		return fmt.Errorf("postgres: there is no database %q: create it, empty, and start again: %w", cfg.Database, err)
	case c != "" && !transient(c):
		return text
	}
	return nodeclient.Transient(text)
}

// tlsEnv takes the TLS settings of a URL over for libpq programs.
func tlsEnv(rawURL string) (env []string) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil
	}
	for _, key := range []string{"sslmode", "sslrootcert", "sslcert", "sslkey", "sslnegotiation"} {
		if v := u.Query().Get(key); v != "" {
			env = append(env, "PG"+strings.ToUpper(key)+"="+v)
		}
	}
	return env
}

// reach opens a connection with the password of now.
func (t *Database) reach(ctx context.Context, cfg *pgconn.Config) (*pgconn.PgConn, error) {
	if t.opts.Password != nil {
		password, err := t.opts.Password()
		if err != nil {
			return nil, err
		}
		cfg = cfg.Copy()
		cfg.Password = password
	}
	return pgconn.ConnectConfig(ctx, cfg)
}

// connect opens a connection of its own to a database of the target's server. Trouble is Transient: it says
// nothing about an increment.
func (t *Database) connect(ctx context.Context, database string) (*pgconn.PgConn, error) {
	cfg := t.cfg.Copy()
	cfg.Database = database
	c, err := t.reach(ctx, cfg)
	if err != nil {
		return nil, nodeclient.Transient(fmt.Errorf("postgres: connect: %w", err))
	}
	return c, nil
}

// conn is the connection for increments, opened again when it was lost.
func (t *Database) conn(ctx context.Context) (*pgconn.PgConn, error) {
	if t.shut {
		return nil, fmt.Errorf("postgres: the target %s has been closed", t.cfg.Database)
	}
	if t.pg == nil || t.pg.IsClosed() {
		c, err := t.connect(ctx, t.cfg.Database)
		if err == nil && !t.remains.ended {
			c, err = t.follow(ctx, c)
		}
		if err != nil {
			return nil, err
		}
		t.pg, t.used = c, false
		t.backend.Store(c.PID())
		t.numbers.settled, t.numbers.begun = false, false
		t.asking.known = false
		t.remains.begins()
	}
	return t.pg, nil
}

// giveBack ends whatever transaction is open; a connection that cannot do that is closed.
func giveBack(ctx context.Context, c *pgconn.PgConn) {
	if c.IsClosed() || c.TxStatus() == 'I' {
		return
	}
	if ctx.Err() != nil || execute(ctx, c, "ROLLBACK") != nil {
		closeConn(c)
	}
}

// closeConn ends a connection; what the server thinks of that changes nothing.
func closeConn(c *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Close(ctx)
}

// Close implements nodeclient.Database.
func (t *Database) Close() error {
	t.shut = true
	t.spare.close()
	defer t.hold.Close() // last: until then nobody else comes
	if t.pg != nil {
		closeConn(t.pg)
		t.pg = nil
	}
	return nil
}

// Position implements nodeclient.Database. It waits for a transaction that a lost connection left behind.
func (t *Database) Position(ctx context.Context) (event.Position, error) {
	c, p, err := t.enter(ctx, "")
	if c != nil {
		giveBack(ctx, c)
	}
	return p.pos, err
}

// relations names the relations of users; %s is a list of kinds. Those of extensions are none.
const relations = `FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN (%s) AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
		WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`

// Seek implements nodeclient.Database. It also mends a position table that has lost its row or has two.
func (t *Database) Seek(ctx context.Context, pos event.Position) error {
	c, at, err := t.enter(ctx, "")
	if c != nil {
		defer giveBack(ctx, c)
	}
	if err != nil && !(at.held && nodeclient.IsFatal(err)) { // which is what a seek mends
		return fmt.Errorf("postgres: store the position %d: %w", pos.Seq, err)
	}
	giveBack(ctx, c)
	if !t.numbers.settled { // what has no values beside it takes those of now
		if err := t.putBack(ctx, c); err != nil {
			return err
		}
	}
	err = execute(ctx, c, "BEGIN; "+takePlace)
	if err == nil {
		err = replacePosition(ctx, c, pos)
	}
	if err == nil {
		err = execute(ctx, c, "COMMIT")
	}
	if err != nil {
		return classify(fmt.Errorf("postgres: store the position %d: %w", pos.Seq, err))
	}
	t.doubt, t.numbers.settled = event.Position{}, false
	return nil
}

// Topics implements nodeclient.Database.
func (t *Database) Topics(ctx context.Context) (event.Topics, error) {
	c, at, err := t.enter(ctx, "")
	if c != nil {
		defer giveBack(ctx, c)
	}
	if err != nil || at.pos.Zero() {
		return "", err
	}
	// whether there is such a column or not
	rows, err := query(ctx, c, "SELECT to_jsonb(p) ->> 'topics' FROM public.xmq_position p")
	if err != nil {
		return "", classify(fmt.Errorf("postgres: read the topics: %w", err))
	}
	return event.Topics(rows[0][0]), nil
}

// Keep implements nodeclient.Database.
func (t *Database) Keep(ctx context.Context, topics event.Topics) error {
	c, at, err := t.enter(ctx, "")
	if c != nil {
		defer giveBack(ctx, c)
	}
	switch {
	case err != nil:
		return err
	case at.pos.Zero():
		return errors.New("postgres: store the topics: there is no position beside which they could stand")
	}
	if err = keepTopics(ctx, c, topics); err == nil {
		err = execute(ctx, c, "COMMIT")
	}
	if err != nil {
		return classify(fmt.Errorf("postgres: store the topics: %w", err))
	}
	return nil
}

// execute runs a script, whose rows nobody needs.
func execute(ctx context.Context, c *pgconn.PgConn, script string) error {
	_, err := c.Exec(ctx, script).ReadAll()
	return err
}

// query returns the rows of one statement as text; NULL is "".
func query(ctx context.Context, c *pgconn.PgConn, sql string, args ...string) (rows [][]string, err error) {
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = []byte(a)
	}
	result := c.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	for _, row := range result.Rows {
		text := make([]string, len(row))
		for i, v := range row {
			text[i] = string(v)
		}
		rows = append(rows, text)
	}
	return rows, result.Err
}

// password is that of now, for a program; the last known when it cannot be read.
func (t *Database) password() string {
	if t.opts.Password != nil {
		if password, err := t.opts.Password(); err == nil {
			return password
		}
	}
	return t.cfg.Password
}
