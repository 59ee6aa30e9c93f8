package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/hold"
)

// A database belongs to one node. That one holds a lock as long as it lives, in a session that does nothing else: an
// advisory lock of the maintenance database, with a key made of the name of the target's, so that a switch to a
// restored database leaves it alone. A role that may not enter the maintenance database, and then cannot restore
// either, holds it in its own. The token of the session is a second lock.

// unanswered are the settings by which the server ends a session whose other end is gone, also one with a transaction
// in it: after about hold.Silence. Not every server knows those of watchful.
var (
	unanswered = map[string]string{"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5",
		"tcp_keepalives_count": "3",
		"tcp_user_timeout":     "25000"}
	watchful = map[string]string{"client_connection_check_interval": "5000", "idle_session_timeout": "0"}
)

// lockKey is the key of a database's lock.
func lockKey(database string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("xmq node " + database)) // a hash never fails
	return h.Sum64()
}

// takeKey is a call that waits for a lock.
func takeKey(key uint64) string {
	return "SELECT pg_catalog.pg_advisory_lock(" + strconv.FormatInt(int64(key), 10) + ")"
}

// locks are the rows of pg_locks that are about one of keys, in whatever database.
func locks(keys ...uint64) string {
	var these []string
	for _, key := range keys {
		these = append(these, fmt.Sprintf("classid = %d AND objid = %d", uint32(key>>32), uint32(key)))
	}
	return "FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND (" +
		strings.Join(these, " OR ") + ")"
}

// holders are the pids of the sessions of the server that hold a lock.
func holders(key uint64) string { return "SELECT pid " + locks(key) }

// heldBy is an expression of SQL: whether the session of token holds the database.
func (t *Database) heldBy(token hold.Token) string {
	return "EXISTS (SELECT " + locks(lockKey(t.cfg.Database), uint64(token)) + " GROUP BY pid HAVING count(*) = 2)"
}

// learn keeps the settings of watchful that the server of c takes, for the sessions that come after it.
func (t *Database) learn(ctx context.Context, c *pgconn.PgConn) {
	for name, value := range watchful {
		if execute(ctx, c, "BEGIN; SET LOCAL "+name+" = "+value) == nil {
			t.cfg.RuntimeParams[name] = value
		}
		giveBack(ctx, c)
	}
}

// holding is a session that holds the database.
type holding struct{ conn *pgconn.PgConn }

func (h holding) Beat(ctx context.Context) error { return execute(ctx, h.conn, "SELECT 1") }
func (h holding) Close()                         { closeConn(h.conn) }

// take is the target's hold.Taker.
func (t *Database) take(ctx context.Context, token hold.Token, old []hold.Token) (hold.Session, error) {
	c, err := t.lockSession(ctx)
	if err != nil {
		return nil, err
	}
	if err := t.takeIn(ctx, c, token, old); err != nil {
		closeConn(c)
		return nil, err
	}
	return holding{c}, nil
}

// lockSession opens the session for the lock, whose name says whose it is.
func (t *Database) lockSession(ctx context.Context) (*pgconn.PgConn, error) {
	cfg := t.cfg.Copy()
	cfg.Database = t.opts.Maintenance
	cfg.RuntimeParams["application_name"] = strings.TrimSpace(labelled + t.opts.Node)
	c, err := t.reach(ctx, cfg)
	if err != nil && !transient(code(err)) && code(err) != "" { // it is not there, or not for this role
		cfg.Database = t.cfg.Database
		c, err = t.reach(ctx, cfg)
	}
	if err != nil {
		return nil, nodeclient.Transient(fmt.Errorf("postgres: connect: %w", err))
	}
	return c, nil
}

// labelled is what the server shows of a session that holds a lock, before the ID of its node.
const labelled = "xmq node "

// takeIn takes the lock in c.
func (t *Database) takeIn(ctx context.Context, c *pgconn.PgConn, token hold.Token, old []hold.Token) error {
	for _, gone := range old { // sessions of this very process whose connection is gone, if the server has not noticed yet
		_, err := query(ctx, c, "SELECT pg_catalog.pg_terminate_backend(pid) FROM ("+holders(uint64(gone))+") l")
		if err != nil {
			return passing(fmt.Errorf("postgres: end the session that held the database for this node: %w", err))
		}
	}
	key, wait := lockKey(t.cfg.Database), strconv.FormatInt(t.opts.LockWait.Milliseconds(), 10)
	err := execute(ctx, c, "SET lock_timeout = "+wait+"; "+takeKey(key)+"; "+takeKey(uint64(token))+
		"; SET lock_timeout = 0")
	if err != nil && code(err) != lockTimeout {
		return passing(fmt.Errorf("postgres: take the lock of the database: %w", err))
	}
	// One that may not enter the maintenance database holds it elsewhere.
	others, e := query(ctx, c, "SELECT l.pid, a.application_name, a.usename, host(a.client_addr) FROM ("+holders(key)+
		" AND pid <> pg_catalog.pg_backend_pid()) l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid ORDER BY 1 "+
		"LIMIT 1")
	switch {
	case e != nil:
		return passing(fmt.Errorf("postgres: look who holds the lock of the database: %w", e))
	case len(others) > 0:
		return t.taken(others[0])
	case err != nil: // it has just been given back
		return nodeclient.Transient(errors.New("postgres: the lock of the database was held until now: trying again"))
	}
	return nil
}

// taken says who holds the lock: a row of pid, name, role and address.
func (t *Database) taken(row []string) error {
	holder := "session " + row[0]
	if name, found := strings.CutPrefix(row[1], labelled); found {
		holder = "node " + name + ", " + holder
	}
	if row[2] != "" {
		holder += " of the role " + row[2] + " from " + cmp.Or(row[3], "the server's own machine")
	}
	return nodeclient.Taken("postgres", t.cfg.Database, holder)
}

// enter begins a transaction, after the script clean, of the node that holds the database. When it has lost it, it
// takes it again before. The caller gives the connection back, also beside an error when it is not nil.
func (t *Database) enter(ctx context.Context, clean string) (*pgconn.PgConn, place, error) {
	for range 2 {
		c, err := t.conn(ctx)
		if err != nil {
			return nil, place{}, err
		}
		token, err := t.hold.Ensure(ctx)
		if err != nil {
			return nil, place{}, err
		}
		at, err := t.begin(ctx, c, clean, t.heldBy(token))
		if at.held || err != nil && !nodeclient.IsFatal(err) {
			return c, at, err
		}
		giveBack(ctx, c)
		t.hold.Lost(token)
	}
	return nil, place{}, nodeclient.Transient(fmt.Errorf("postgres: %w", hold.ErrLost))
}

// holds looks whether this node has the database, and takes it when it was lost.
func (t *Database) holds(ctx context.Context) error {
	c, at, err := t.enter(ctx, "")
	if c != nil {
		giveBack(ctx, c)
	}
	if at.held && nodeclient.IsFatal(err) { // of a position that is going to be replaced
		return nil
	}
	return err
}
