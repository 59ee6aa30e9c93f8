package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/internal/hold"
	"xmq/nodeclient/driver/servertest/postgrestest"
)

// other opens the database of n as another node.
func (n *node) other() (*Database, error) {
	target, err := Open(n.Context(), n.srv.URL(n.db), Options{Node: "other", LockWait: 200 * time.Millisecond})
	if err == nil {
		n.Cleanup(func() { _ = target.Close() })
	}
	return target, err
}

// quiet lets n notice the loss of its lock only when it uses the database.
func (n *node) quiet() {
	n.Database.hold.Close()
	n.Database.hold = hold.New("postgres", n.db, 0, n.take)
	n.opts.LockWait = 200 * time.Millisecond
	n.at()
}

// shared is n for the tests that several drivers have. It waits for its lock only a moment, and notices the loss only
// when it uses the database.
func (n *node) shared() *drivertest.Node {
	n.quiet()
	return n.alike()
}

// alike is shared for a node that looks after its lock in its own way.
func (n *node) alike() *drivertest.Node {
	return &drivertest.Node{T: n.T, Database: n.Database, Log: n.log,
		Make: "CREATE TABLE c (v int)", Add: "INSERT INTO c VALUES (1)",
		Count:  func() string { return n.value("SELECT count(*) FROM c") },
		Server: n.srv, Other: func() (nodeclient.Database, error) { return n.other() }, Named: "node other",
		Holder: func() string { return strings.Join(n.query(holders(lockKey(n.db))), " ") },
		EndLock: func() {
			require.Equal(n, "t", n.value("SELECT pg_terminate_backend("+n.holder()+")"))
		}}
}

// holder is the pid of the session that holds the lock.
func (n *node) holder() string {
	n.Helper()
	return n.value(holders(lockKey(n.db)))
}

// A second node is told who uses the database, and the first one goes on; when that ends the second one gets in.
func TestADatabaseBelongsToOneNode(t *testing.T) {
	n := newNode(t)
	n.opts.Node = "first"
	shared := n.shared()
	shared.BelongsToOneNode("(" + n.db + "): node first, session " + n.holder() + " of the role xmq from 127.0.0.1")
}

// Whatever an increment unlocks, and however often the session is reset, the lock stays.
func TestNoIncrementTakesTheLockAway(t *testing.T) {
	n := newNode(t)
	n.run("CREATE FUNCTION free() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_unlock_all()'",
		"CREATE TABLE c (v int)")
	held := n.holder()
	n.run("SELECT free()", "INSERT INTO c VALUES (1)", "DO $$ BEGIN PERFORM free(); END $$", "INSERT INTO c VALUES (2)")
	require.Equal(t, held, n.holder())
	_, err := n.other()
	require.ErrorIs(t, err, nodeclient.ErrTaken)
}

// A lock whose session ends is taken again before anything is written, also after a restart of the server.
func TestALostLockIsTakenAgain(t *testing.T) {
	own := postgrestest.New(t)
	nodeOn(t, own, own.Addr()).shared().LostLockIsTakenAgain(false)
}

// A node that has lost its lock to another writes nothing, and what the other one has done makes neither of them
// FATAL.
func TestANodeWithoutItsLockWritesNothing(t *testing.T) {
	newNode(t).shared().WithoutItsLockWritesNothing("ALTER TABLE c ADD COLUMN w int")
}

// A restore keeps the lock through its switch, and a node that lost it switches nothing.
func TestTheLockStaysThroughASwitch(t *testing.T) {
	newNode(t).shared().LockStaysThroughASwitch(newNode(t).shared())
}

// A session of the node itself whose end the server has not noticed is no other node's, and is ended.
func TestANodeEndsItsOwnOldSession(t *testing.T) {
	n := newNode(t)
	n.Database.hold.Close()
	n.Database.hold = hold.New("postgres", n.db, 0, drivertest.Unheard(n.take))
	n.alike().OwnOldSessionIsEnded(n.Database.hold)
}

// The server ends the sessions of a machine that is gone by itself, also one in the middle of a statement: a process
// that was killed then does not keep the next one away.
func TestTheServerEndsSessionsOfAProcessThatIsGone(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	for _, c := range []string{"tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"} {
		rows, err := query(t.Context(), n.pg, "SELECT current_setting('"+c+"')")
		require.NoError(t, err)
		require.Equal(t, unanswered[c], rows[0][0])
	}
	before, batch := n.at(), n.log.Scripts("SELECT pg_sleep(120)")
	ended := make(chan error, 1)
	go func() {
		_, err := n.Apply(context.Background(), before, batch)
		ended <- err
	}()
	require.Eventually(t, func() bool {
		return n.value("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(120)%' AND datname = '"+n.db+
			"' AND pid <> pg_backend_pid()") == "1"
	}, patience, tick)
	require.NoError(t, n.pg.Conn().Close()) // what the kernel does with those of a process
	n.Database.hold.Close()
	require.True(t, nodeclient.IsTransient(<-ended))
	ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
	defer cancel()
	second, err := n.other()
	require.NoError(t, err)
	pos, err := second.Position(ctx)
	require.NoError(t, err)
	require.Equal(t, before, pos)
}

// A role that may not enter the maintenance database has the lock in its own, where others see it.
func TestALockWithoutTheMaintenanceDatabase(t *testing.T) {
	own := postgrestest.New(t)
	require.NoError(t, own.Exec("postgres", "REVOKE CONNECT ON DATABASE postgres FROM public"))
	n := nodeOn(t, own, own.Addr())
	n.run("CREATE TABLE c (v int)")
	require.Equal(t, n.db, n.value("SELECT datname FROM pg_stat_activity WHERE pid = "+n.holder()))
	_, err := n.other()
	require.ErrorIs(t, err, nodeclient.ErrTaken)
	require.NoError(t, own.Exec(n.db, "GRANT ALL ON xmq_position TO postgres"))
	_, err = Open(t.Context(), postgrestest.URL("postgres", own.Addr(), n.db), Options{LockWait: time.Second})
	require.ErrorIs(t, err, nodeclient.ErrTaken, "it has its lock elsewhere")
	n.run("INSERT INTO c VALUES (1)")
}

// The lock of a node that has nothing to do is taken again too.
func TestALostLockIsTakenAgainInTheBackground(t *testing.T) {
	n := newNode(t)
	n.Database.hold.Close()
	n.Database.hold = hold.New("postgres", n.db, tick, n.take)
	n.alike().LostLockIsTakenAgainInTheBackground()
}
