package mysql

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/hold"
	"xmq/nodeclient/driver/servertest/mysqltest"
)

// other opens the database of n as another node.
func (n *node) other() (*Database, error) {
	target, err := Open(n.Context(), n.srv.URL(n.db), Options{Node: "other", LockWait: 200 * time.Millisecond})
	if err == nil {
		n.Cleanup(func() { _ = target.Close() })
	}
	return target, err
}

// holder is the session that holds the lock of n; NULL when there is none.
func (n *node) holder() string {
	n.Helper()
	return n.value("SELECT IS_USED_LOCK(" + holdName(n.db) + ")")
}

// endLock ends that session, as an administrator or a lost connection would.
func (n *node) endLock() {
	n.Helper()
	n.opts.LockWait = 200 * time.Millisecond
	require.NoError(n, n.srv.Exec(n.db, "KILL "+n.holder()))
	require.Eventually(n, func() bool { return n.holder() == "NULL" }, patience, tick)
}

// A second node is told who uses the database, and the first one goes on; when that ends the second one gets in.
func TestADatabaseBelongsToOneNode(t *testing.T) {
	own := mysqltest.New(t, "--performance-schema=ON")
	n := nodeOn(t, own, own.Addr())
	n.run("CREATE TABLE c (v int)")
	before := n.at()
	_, err := n.other()
	require.ErrorIs(t, err, nodeclient.ErrTaken)
	require.True(t, nodeclient.IsTransient(err) && !nodeclient.IsFatal(err), err)
	require.ErrorContains(t, err, "another node uses this database ("+n.db+"): session "+n.holder()+
		" of the user xmq from 127.0.0.1")
	require.Equal(t, before, n.at())
	n.run("INSERT INTO c VALUES (1)")
	require.NoError(t, n.Close())
	second, err := n.other()
	require.NoError(t, err)
	_, err = n.other()
	require.ErrorIs(t, err, nodeclient.ErrTaken)
	require.ErrorContains(t, err, "node other, session ")
	n.Database = second
	n.run("INSERT INTO c VALUES (2)")
	require.Equal(t, "2", n.value("SELECT count(*) FROM c"))
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
		second, err := Open(t.Context(), own.URL("sHop"), Options{LockWait: 200 * time.Millisecond})
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
	n := nodeOn(t, own, own.Addr())
	n.run("CREATE TABLE c (v int)")
	for _, lose := range []func(){n.endLock, func() {
		require.NoError(t, own.Kill())
		require.NoError(t, own.Run())
	}} {
		before, batch := n.at(), n.log.Scripts("INSERT INTO c VALUES (1)")
		lose()
		require.NoError(t, n.settles(before, batch))
		require.NotEqual(t, "NULL", n.holder())
		_, err := n.other()
		require.ErrorIs(t, err, nodeclient.ErrTaken)
	}
	require.Equal(t, "2", n.value("SELECT count(*) FROM c"))
	for _, use := range []func(at event.Position) error{
		func(at event.Position) error { return n.Seek(t.Context(), at) },
		func(event.Position) error { return n.Keep(t.Context(), event.AllTopics) },
		func(event.Position) error { _, err := n.Position(t.Context()); return err },
	} {
		at := n.at()
		n.endLock()
		require.NoError(t, use(at))
		require.NotEqual(t, "NULL", n.holder())
	}
}

// The lock of a node that has nothing to do is taken again too.
func TestALostLockIsTakenAgainInTheBackground(t *testing.T) {
	n := newNode(t)
	n.Database.hold.Close()
	n.Database.hold = hold.New("mysql", n.db, tick, n.take)
	n.at()
	old := n.holder()
	require.NoError(t, n.srv.Exec(n.db, "KILL "+old))
	require.Eventually(t, func() bool { return n.holder() != "NULL" && n.holder() != old }, patience, tick)
	n.run("CREATE TABLE c (v int)")
}

// A node that has lost its lock to another writes nothing, and what the other one has done makes neither of them
// FATAL.
func TestANodeWithoutItsLockWritesNothing(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	before, batch := n.at(), n.log.Scripts("INSERT INTO c VALUES (1)")
	n.endLock()
	other, err := n.other()
	require.NoError(t, err)
	for _, script := range []string{"INSERT INTO c VALUES (1)", "ALTER TABLE c ADD COLUMN w int"} {
		_, err = n.Apply(t.Context(), before, after(before, script))
		require.ErrorIs(t, err, nodeclient.ErrTaken)
	}
	require.Equal(t, "0", n.value("SELECT count(*) FROM c"))
	require.Equal(t, "1", n.value("SELECT count(*) FROM information_schema.columns WHERE table_schema = database() AND "+
		"table_name = 'c'"))
	require.ErrorIs(t, n.Seek(t.Context(), before), nodeclient.ErrTaken)
	_, err = n.Position(t.Context())
	require.ErrorIs(t, err, nodeclient.ErrTaken)
	_, err = other.Apply(t.Context(), before, batch)
	require.NoError(t, err)
	require.NoError(t, other.Close())
	for range 2 {
		_, err = n.Apply(t.Context(), before, batch)
		require.ErrorIs(t, err, nodeclient.ErrTaken, "it left the database elsewhere")
		require.ErrorContains(t, err, "had lost its lock")
		require.False(t, nodeclient.IsFatal(err))
	}
	require.NoError(t, n.reopen())
	n.run("INSERT INTO c VALUES (2)")
	require.Equal(t, "2", n.value("SELECT count(*) FROM c"))
	_, err = n.Apply(t.Context(), before, batch)
	require.True(t, nodeclient.IsFatal(err), "with the lock it is another hand: %v", err)
}

// A restore keeps the lock through its switch, and a node that lost it switches nothing.
func TestTheLockStaysThroughASwitch(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	snapshot, at := n.taken()
	copied := newNode(t)
	held := copied.holder()
	copied.load(snapshot, at)
	require.Equal(t, at, copied.at())
	require.Equal(t, held, copied.holder())
	_, err := copied.other()
	require.ErrorIs(t, err, nodeclient.ErrTaken)
	loaded, err := copied.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(t, err)
	copied.endLock()
	other, err := copied.other()
	require.NoError(t, err)
	require.ErrorIs(t, loaded.Switch(t.Context()), nodeclient.ErrTaken)
	require.NoError(t, loaded.Discard())
	require.NoError(t, other.Close())
	require.Equal(t, at, copied.at())
}

// deaf is a session that is not told to end: its connection is gone and the server has not noticed.
type deaf struct{ hold.Session }

func (deaf) Close() {}

// A session of the node itself whose end the server has not noticed is no other node's, and is ended; one of which
// the server hears nothing it ends by itself.
func TestSessionsThatAreGoneKeepNobodyAway(t *testing.T) {
	n := newNode(t)
	n.Database.hold.Close()
	n.Database.hold = hold.New("mysql", n.db, 0,
		func(ctx context.Context, token hold.Token, old []hold.Token) (hold.Session, error) {
			s, err := n.take(ctx, token, old)
			return deaf{s}, err
		})
	n.run("CREATE TABLE c (v int)")
	old := n.holder()
	token, err := n.Database.hold.Ensure(t.Context())
	require.NoError(t, err)
	n.Database.hold.Lost(token)
	require.Equal(t, old, n.holder())
	n.run("INSERT INTO c VALUES (1)")
	require.NotEqual(t, old, n.holder())
	_, err = n.other()
	require.ErrorIs(t, err, nodeclient.ErrTaken)
	require.Eventually(t, func() bool { return n.holder() == "NULL" }, 2*hold.Silence, time.Second)
	_, err = n.other()
	require.NoError(t, err)
}
