package mysql

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/internal/hold"
	"xmq/nodeclient/driver/servertest/mysqltest"
)

// moment is how long a node of these tests waits for its lock.
const moment = 200 * time.Millisecond

// other opens the database of n as another node.
func (n *node) other() (*Database, error) {
	other, err := Open(n.Context(), n.srv.URL(n.db), Options{Node: "other", LockWait: moment})
	if err == nil {
		n.Cleanup(func() { _ = other.Close() })
	}
	return other, err
}

// shared is n for the tests that several drivers have. It waits for its lock only a moment.
func (n *node) shared() *drivertest.Node {
	n.opts.LockWait = moment
	return &drivertest.Node{T: n.T, Database: n.Database, Log: n.log,
		Make: "CREATE TABLE c (v int)", Add: "INSERT INTO c VALUES (1)",
		Count:  func() string { return n.value("SELECT count(*) FROM c") },
		Server: n.srv, Other: func() (nodeclient.Database, error) { return n.other() },
		Holder:  func() string { return n.value("SELECT coalesce(IS_USED_LOCK(" + holdName(n.db) + "), '')") },
		EndLock: func() { require.NoError(n, n.srv.Exec(n.db, "KILL "+n.holder())) }}
}

// holder is the session that holds the lock of n; NULL when there is none.
func (n *node) holder() string {
	n.Helper()
	return n.value("SELECT IS_USED_LOCK(" + holdName(n.db) + ")")
}

// endLock ends that session, as an administrator or a lost connection would.
func (n *node) endLock() {
	n.Helper()
	n.opts.LockWait = moment
	require.NoError(n, n.srv.Exec(n.db, "KILL "+n.holder()))
	require.Eventually(n, func() bool { return n.holder() == "NULL" }, patience, tick)
}

// A second node is told who uses the database, and the first one goes on; when that ends the second one gets in.
func TestADatabaseBelongsToOneNode(t *testing.T) {
	own := mysqltest.New(t, "--performance-schema=ON")
	n := nodeOn(t, own, own.Addr())
	n.shared().BelongsToOneNode("(" + n.db + "): session " + n.holder() + " of the user xmq from 127.0.0.1")
}

// Two databases whose names differ in case only belong to two nodes, where the server tells them apart.
func TestCaseTellsDatabasesApartWhereItDoesForTheServer(t *testing.T) {
	for folds, args := range map[bool][]string{false: nil, true: {"--lower-case-table-names=1"}} {
		if folds && onMySQL {
			continue // it must be set when the server's files are made
		}
		own := mysqltest.New(t, args...)
		require.NoError(t, own.Make("shop"))
		if !folds {
			require.NoError(t, own.Make("sHop"))
		}
		first, err := Open(t.Context(), own.URL("shop"), Options{})
		require.NoError(t, err)
		defer func() { require.NoError(t, first.Close()) }()
		second, err := Open(t.Context(), own.URL("sHop"), Options{LockWait: moment})
		if folds {
			require.ErrorIs(t, err, nodeclient.ErrTaken)
			continue
		}
		require.NoError(t, err)
		for _, target := range []*Database{first, second} {
			_, err := target.Apply(t.Context(), event.Start(7), after(event.Start(7), "CREATE TABLE c (v int)"))
			require.NoError(t, err)
		}
		require.NoError(t, second.Close())
	}
}

// Whatever an increment unlocks, the lock stays.
func TestNoIncrementTakesTheLockAway(t *testing.T) {
	n := newNode(t)
	held := n.holder()
	n.run("CREATE TABLE c (v int)", "DELIMITER //\nCREATE PROCEDURE free() BEGIN "+
		"SET @s = concat('DO RELEASE', '_ALL_LOCKS()'); PREPARE p FROM @s; EXECUTE p; END//")
	n.run("CALL free()", "INSERT INTO c VALUES (1)")
	require.Equal(t, held, n.holder())
	_, err := n.other()
	require.ErrorIs(t, err, nodeclient.ErrTaken)
}

// A lock whose session ends is taken again before anything is written, also after a restart of the server.
func TestALostLockIsTakenAgain(t *testing.T) {
	own := mysqltest.New(t)
	nodeOn(t, own, own.Addr()).shared().LostLockIsTakenAgain(false)
}

// The lock of a node that has nothing to do is taken again too.
func TestALostLockIsTakenAgainInTheBackground(t *testing.T) {
	n := newNode(t)
	n.Database.hold.Close()
	n.Database.hold = hold.New("mysql", n.db, tick, n.take)
	n.shared().LostLockIsTakenAgainInTheBackground()
}

// A node that has lost its lock to another writes nothing, and what the other one has done makes neither of them
// FATAL.
func TestANodeWithoutItsLockWritesNothing(t *testing.T) {
	n := newNode(t)
	n.shared().WithoutItsLockWritesNothing("ALTER TABLE c ADD COLUMN w int")
	require.Equal(t, "1", n.value("SELECT count(*) FROM information_schema.columns WHERE table_schema = database() AND "+
		"table_name = 'c'"))
}

// A restore keeps the lock through its switch, and a node that lost it switches nothing.
func TestTheLockStaysThroughASwitch(t *testing.T) {
	n, copied := newNode(t), newNode(t)
	n.shared().LockStaysThroughASwitch(copied.shared())
	require.Empty(t, leftovers(t, copied.srv, copied.db))
}

// A session of the node itself whose end the server has not noticed is no other node's, and is ended; one of which
// the server hears nothing it ends by itself.
func TestSessionsThatAreGoneKeepNobodyAway(t *testing.T) {
	n := newNode(t)
	n.Database.hold.Close()
	n.Database.hold = hold.New("mysql", n.db, 0, drivertest.Unheard(n.take))
	n.shared().OwnOldSessionIsEnded(n.Database.hold)
	require.Eventually(t, func() bool { return n.holder() == "NULL" }, 2*hold.Silence, time.Second)
	_, err := n.other()
	require.NoError(t, err)
}
