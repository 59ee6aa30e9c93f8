package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/hold"
)

// Options are the knobs of a Database. The zero value is right for most: what differs from node to node stands in the
// URL.
type Options struct {
	// Node is the ID of the node, for people: it stands in the key that says whose the database is.
	Node string
	// Password, when not nil, is asked before each connection, instead of what the URL says.
	Password func() (string, error)
	// LockWait is how long it waits for that key while it is another's; 0 means DefaultLockWait.
	LockWait time.Duration
	// LockBeat is how often it keeps its own alive; 0 means hold.Beat.
	LockBeat time.Duration
}

// Database is one logical database of a Redis server. Methods are called one at a time; a Snapshot is read meanwhile.
type Database struct {
	place      place
	conn       *conn
	table      table
	opts       Options
	hold       *hold.Hold
	durability string
	shut       bool
	// doubt are the positions at which a call that nobody answered may have left the database; empty when there is
	// none.
	doubt []event.Position
	// spare is how long Redis itself keeps keys beyond their time; spareTime.
	spare time.Duration
	// safe is until when it ends none, in ms since 1970; 0 as long as nobody has looked. timed: some key may have a
	// time to live.
	safe  int64
	timed bool
	// open is the snapshot that is being read; nil when there is none.
	open *snapshot
}

var _ nodeclient.Database = (*Database)(nil)

// Open connects to the logical database of a URL redis://[USER[:PASSWORD]@]HOST[:PORT][/DB][?restore_db=N], rediss://
// for TLS, and empties what an interrupted restore left beside it. The password may also come from REDISCLI_AUTH; it
// stands in no error. Errors that may pass are Transient; a wrong URL, password, or a server that cannot be a target,
// is not.
func Open(ctx context.Context, rawURL string, o Options) (*Database, error) {
	p, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	if o.Password != nil {
		user := p.options.Username
		p.options.CredentialsProviderContext = func(context.Context) (string, string, error) {
			password, err := o.Password()
			return user, password, err
		}
	}
	o.LockWait = cmp.Or(o.LockWait, DefaultLockWait)
	t := &Database{place: p, opts: o, conn: newConn(p.options, p.db), spare: spareTime, timed: true}
	t.hold = hold.New("redis", strconv.Itoa(p.db), cmp.Or(o.LockBeat, hold.Beat), t.take)
	defer t.conn.until(ctx)()
	if err := t.look(ctx); err != nil {
		if text := said(err); o.Password != nil && (strings.HasPrefix(text, "NOAUTH") ||
			strings.HasPrefix(text, "WRONGPASS")) {
			err = nodeclient.WrongPassword(err)
		}
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// openError classes what the first connection met: what the server refuses by name will not pass, nor will a wrong
// password.
func openError(ctx context.Context, err error) error {
	text := said(err)
	if text != "" && !transient(text) || strings.HasPrefix(text, "NOAUTH") || strings.HasPrefix(text, "WRONGPASS") {
		return fmt.Errorf("redis: connect: %w", err)
	}
	return classify(ctx, "connect", err)
}

// look learns what must be known of the server and tidies up.
func (t *Database) look(ctx context.Context) error {
	i, err := readInfo(ctx, t.conn)
	if err != nil {
		return openError(ctx, err)
	}
	if err := i.check(); err != nil {
		return err
	}
	if t.table, err = readTable(ctx, t.conn); err != nil {
		return err
	}
	if _, err := t.hold.Ensure(ctx); err != nil {
		return err
	}
	fsync, databases := t.setting(ctx, "appendfsync"), t.setting(ctx, "databases")
	t.durability = durability(i, fsync)
	if t.place.restore < 0 {
		t.place.restore = 15
		if n, err := strconv.Atoi(databases); err == nil {
			t.place.restore = n - 1
		}
		if t.place.restore == t.place.db { // -1 when the server has no other
			t.place.restore--
		}
	}
	if err := t.drop(ctx, t.mark()); err != nil { // what an interrupted restore left
		return openError(ctx, err)
	}
	return nil
}

// setting is a setting of the server; "" when it does not tell.
func (t *Database) setting(ctx context.Context, name string) string {
	values, err := t.conn.ConfigGet(ctx, name).Result()
	if err != nil {
		return ""
	}
	return values[name]
}

// Durability says, as one sentence, what a crash of the server can take although it was acknowledged; "" when
// nothing. It is what the server was set to at Open, for a log.
func (t *Database) Durability() string { return t.durability }

func (t *Database) usable() error {
	if t.shut {
		return errors.New("redis: the target has been closed")
	}
	return nil
}

// Close implements nodeclient.Database.
func (t *Database) Close() error {
	if t.shut {
		return nil
	}
	t.shut = true
	defer t.hold.Close() // last: until then nobody else comes
	return t.conn.Close()
}

// Position implements nodeclient.Database. It waits for a script that a lost connection left behind.
func (t *Database) Position(ctx context.Context) (event.Position, error) {
	if err := t.usable(); err != nil {
		return event.Position{}, err
	}
	defer t.conn.until(ctx)()
	if err := t.holds(ctx); err != nil {
		return event.Position{}, err
	}
	return readPosition(ctx, t.conn)
}

// Empty implements nodeclient.Database: no key but XMQ's own.
func (t *Database) Empty(ctx context.Context) (bool, error) {
	if err := t.usable(); err != nil {
		return false, err
	}
	defer t.conn.until(ctx)()
	pipe := t.conn.TxPipeline()
	size, own := pipe.DBSize(ctx), pipe.Exists(ctx, heldKeys...)
	if _, err := pipe.Exec(ctx); err != nil {
		return false, classify(ctx, "count the keys", err)
	}
	return size.Val() == own.Val(), nil
}

// Seek implements nodeclient.Database. It also mends a position that is incomplete or of a wrong type.
func (t *Database) Seek(ctx context.Context, pos event.Position) error {
	if err := t.usable(); err != nil {
		return err
	}
	defer t.conn.until(ctx)()
	if err := t.holds(ctx); err != nil {
		return err
	}
	if _, err := seekScript.run(ctx, t.conn, []string{positionKey}, words(pos)); err != nil {
		return classify(ctx, fmt.Sprintf("store the position %d", pos.Seq), err)
	}
	t.doubt = nil
	if err := t.adopt(ctx); err != nil {
		return err
	}
	return t.accept(ctx)
}

// Topics implements nodeclient.Database.
func (t *Database) Topics(ctx context.Context) (event.Topics, error) {
	if err := t.usable(); err != nil {
		return "", err
	}
	defer t.conn.until(ctx)()
	topics, err := t.conn.HGet(ctx, positionKey, "topics").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", classify(ctx, "read the topics", err)
	}
	return event.Topics(topics), nil
}

// Keep implements nodeclient.Database.
func (t *Database) Keep(ctx context.Context, topics event.Topics) error {
	if err := t.usable(); err != nil {
		return err
	}
	defer t.conn.until(ctx)()
	if err := t.holds(ctx); err != nil {
		return err
	}
	return keepTopics(ctx, t.conn, topics)
}
