package redis

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/internal/hold"
	"xmq/nodeclient/driver/servertest/redistest"
)

// otherNode opens the database of n as another node.
func (n *node) otherNode() (*Database, error) {
	target, err := Open(n.Context(), n.url, Options{Node: "other", LockWait: 3 * lockLook})
	if err == nil {
		n.Cleanup(func() { _ = target.Close() })
	}
	return target, err
}

// shared is n for the tests that several drivers have. It waits for its lock only a moment.
func (n *node) shared() *drivertest.Node {
	n.opts.LockWait = 3 * lockLook
	return &drivertest.Node{T: n.T, Database: n.Database, Log: n.log, Make: "SET a 0", Add: "INCR a",
		Count:  func() string { return n.other.Get(n.Context(), "a").Val() },
		Server: n.srv, Other: func() (nodeclient.Database, error) { return n.otherNode() }, Named: "node other",
		Holder: n.lock, EndLock: func() { require.NoError(n, n.other.Del(n.Context(), lockKey).Err()) }}
}

// lock is the value of the key; "" when it is not there.
func (n *node) lock() string { return n.other.Get(n.Context(), lockKey).Val() }

// A second node is told who uses the database, and the first one goes on; when that ends the second one gets in.
func TestADatabaseBelongsToOneNode(t *testing.T) {
	n := newNode(t)
	n.opts.Node = "first"
	require.NoError(t, n.other.Del(t.Context(), lockKey).Err())
	n.run("SET a 1")
	require.True(t, strings.HasSuffix(n.lock(), " first"), n.lock())
	n.shared().BelongsToOneNode("): node first, connection ")
}

// The key is no data: no snapshot has it, it does not fill a database, no increment names it, and a FLUSHDB leaves
// it.
func TestTheLockIsNoData(t *testing.T) {
	n := newNode(t)
	require.NotEmpty(t, n.lock())
	empty, err := n.Empty(t.Context())
	require.NoError(t, err)
	require.True(t, empty)
	require.ErrorContains(t, n.fails(0, "DEL "+lockKey), "xmq_")
	n.run("SET a 1")
	snapshot, at := n.taken()
	require.NotContains(t, string(snapshot), lockKey)
	held := n.lock()
	n.run("FLUSHDB")
	require.Equal(t, held, n.lock())
	copied := newNode(t)
	copied.load(snapshot, at)
	require.NotEqual(t, held, copied.lock())
}

// A lock that is gone is taken again before anything is written, also after a restart of the server.
func TestALostLockIsTakenAgain(t *testing.T) {
	own := redistest.New(t)
	n := nodeOn(t, own, own.Addr())
	n.Database.hold.Close()
	n.Database.hold = hold.New("redis", "0", tick, n.take)
	n.shared().LostLockIsTakenAgain(true)
}

// The lock of a node that has nothing to do stays, and ends soon after the node.
func TestTheLockLivesAsLongAsItsNode(t *testing.T) {
	n := newNode(t)
	n.Database.hold.Close()
	n.Database.hold = hold.New("redis", "0", tick, n.take)
	_, err := n.Position(t.Context())
	require.NoError(t, err)
	ends := n.other.PExpireTime(t.Context(), lockKey).Val()
	require.Eventually(t, func() bool { return n.other.PExpireTime(t.Context(), lockKey).Val() > ends }, patience, tick)
	_, err = n.otherNode()
	require.ErrorIs(t, err, nodeclient.ErrTaken)

	n.Database.hold.Close()
	token := hold.NewToken()
	killed := n.newHolding(t.Context(), token)
	value, _, err := killed.lock(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, value)
	_, err = n.otherNode()
	require.ErrorIs(t, err, nodeclient.ErrTaken)
	killed.way.cut() // what the kernel does with the connections of a process
	second, err := n.otherNode()
	require.NoError(t, err, "it sees that the connection is gone")
	require.NoError(t, second.Close())

	killed = n.newHolding(t.Context(), token) // a machine that is gone: its connection stays, and says nothing
	value, _, err = killed.lock(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, value)
	defer func() { require.NoError(t, killed.way.Close()) }()
	second, err = Open(t.Context(), n.url, Options{Node: "other"})
	require.NoError(t, err, "it waits as long as the key lives")
	require.NoError(t, second.Close())
}

// A node that has lost its lock to another writes nothing, and what the other one has done makes neither of them
// FATAL.
func TestANodeWithoutItsLockWritesNothing(t *testing.T) {
	newNode(t).shared().WithoutItsLockWritesNothing()
}

// A switch to a restored database takes the lock along, and a node that lost it switches nothing.
func TestTheLockStaysThroughASwitch(t *testing.T) {
	newNode(t).shared().LockStaysThroughASwitch(newNode(t).shared())
}

// A server without memory stores no lock, and gets memory from increments that need none.
func TestAServerWithoutMemoryNeedsNoLock(t *testing.T) {
	own := redistest.New(t)
	n := nodeOn(t, own, own.Addr())
	n.run("SET a 1", "SET b 1")
	require.NoError(t, n.other.ConfigSet(t.Context(), "maxmemory", "1").Err())
	token, err := n.Database.hold.Ensure(t.Context())
	require.NoError(t, err)
	require.NoError(t, n.newHolding(t.Context(), token).Beat(context.Background()))
	require.NoError(t, n.other.Del(t.Context(), lockKey).Err())
	n.run("DEL b")
	require.NoError(t, n.other.ConfigSet(t.Context(), "maxmemory", "0").Err())
	n.run("SET c 1")
	require.NotEmpty(t, n.lock())
}
