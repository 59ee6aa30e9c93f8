package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
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

// holder is the pid of the session that holds the lock.
func (n *node) holder() string {
	n.Helper()
	return n.value(holders(lockKey(n.db)))
}

// endLock ends that session, as an administrator or a lost connection would.
func (n *node) endLock() {
	n.Helper()
	require.Equal(n, "t", n.value("SELECT pg_terminate_backend("+n.holder()+")"))
	require.Eventually(n, func() bool { return len(n.query(holders(lockKey(n.db)))) == 0 }, patience, tick)
}

// A second node is told who uses the database, and the first one goes on; when that ends the second one gets in.
func TestADatabaseBelongsToOneNode(t *testing.T) {
	n := newNode(t)
	n.opts.Node = "first"
	n.quiet()
	n.run("CREATE TABLE c (v int)")
	before := n.at()
	_, err := n.other()
	require.ErrorIs(t, err, nodeclient.ErrTaken)
	require.True(t, nodeclient.IsTransient(err) && !nodeclient.IsFatal(err), err)
	require.ErrorContains(t, err, "another node uses this database ("+n.db+"): node first, session "+n.holder()+
		" of the role xmq from 127.0.0.1")
	require.Equal(t, before, n.at())
	n.run("INSERT INTO c VALUES (1)")
	require.NoError(t, n.Close())
	second, err := n.other()
	require.NoError(t, err)
	n.Database = second
	n.run("INSERT INTO c VALUES (2)")
	require.Equal(t, "2", n.value("SELECT count(*) FROM c"))
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
	n := nodeOn(t, own, own.Addr())
	n.quiet()
	n.run("CREATE TABLE c (v int)")
	for _, lose := range []func(){n.endLock, func() {
		require.NoError(t, own.Kill())
		require.NoError(t, own.Run())
	}} {
		before, batch := n.at(), n.log.Scripts("INSERT INTO c VALUES (1)")
		lose()
		require.Eventually(t, func() bool {
			_, err := n.Apply(t.Context(), before, batch)
			require.True(t, err == nil || nodeclient.IsTransient(err), err)
			return err == nil
		}, patience, tick)
		require.NotEmpty(t, n.holder())
		_, err := n.other()
		require.ErrorIs(t, err, nodeclient.ErrTaken)
	}
	require.Equal(t, "2", n.value("SELECT count(*) FROM c"))
	at := n.at()
	n.endLock()
	require.NoError(t, n.Seek(t.Context(), at))
	require.NotEmpty(t, n.holder())
}

// A node that has lost its lock to another writes nothing, and what the other one has done makes neither of them
// FATAL.
func TestANodeWithoutItsLockWritesNothing(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	before, batch := n.at(), n.log.Scripts("INSERT INTO c VALUES (1)")
	n.quiet()
	n.endLock()
	other, err := n.other()
	require.NoError(t, err)
	_, err = n.Apply(t.Context(), before, batch)
	require.ErrorIs(t, err, nodeclient.ErrTaken)
	require.ErrorContains(t, err, "node other")
	require.Equal(t, "0", n.value("SELECT count(*) FROM c"))
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
	loaded, err := copied.Restore(t.Context(), at, "", strings.NewReader(string(snapshot)))
	require.NoError(t, err)
	copied.quiet()
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

// A session of the node itself whose end the server has not noticed is no other node's, and is ended.
func TestANodeEndsItsOwnOldSession(t *testing.T) {
	n := newNode(t)
	h := hold.New("postgres", n.db, 0, func(ctx context.Context, token hold.Token, old []hold.Token) (hold.Session,
		error) {
		s, err := n.take(ctx, token, old)
		return deaf{s}, err
	})
	n.Database.hold.Close()
	n.Database.hold = h
	n.run("CREATE TABLE c (v int)")
	old := n.holder()
	token, err := h.Ensure(t.Context())
	require.NoError(t, err)
	h.Lost(token)
	require.Equal(t, old, n.holder())
	n.run("INSERT INTO c VALUES (1)")
	require.NotEqual(t, old, n.holder())
	_, err = n.other()
	require.ErrorIs(t, err, nodeclient.ErrTaken)
	n.endLock()
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
	n.at()
	old := n.holder()
	require.Equal(t, "t", n.value("SELECT pg_terminate_backend("+old+")"))
	require.Eventually(t, func() bool {
		now := n.query(holders(lockKey(n.db)))
		return len(now) == 1 && now[0] != old
	}, patience, tick)
	n.run("CREATE TABLE c (v int)")
}
