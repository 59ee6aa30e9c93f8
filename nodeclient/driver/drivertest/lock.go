package drivertest

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/hold"
)

// The tests of drivers whose database belongs to one node at a time. They need everything of a Node but Server, unless
// they say so. The node waits only a moment for its lock, and finds out that it is lost when it uses the database next.

// loses ends the lock and waits until the server shows it.
func (n *Node) loses() {
	n.Helper()
	held := n.Holder()
	n.EndLock()
	require.Eventually(n, func() bool { return n.Holder() != held }, 2*patience, tick)
}

// BelongsToOneNode requires that a second node is told who uses the database, in these words, and the first one goes
// on; when that ends the second one gets in.
func (n *Node) BelongsToOneNode(words ...string) {
	n.Helper()
	n.feed(n.Make)
	before := n.at()
	_, err := n.Other()
	n.isTaken(err)
	for _, w := range append(words, "another node uses this database (") {
		require.ErrorContains(n, err, w)
	}
	require.Equal(n, before, n.at())
	n.feed(n.Add)
	require.NoError(n, n.Close())
	require.Eventually(n, func() bool { return n.Holder() == "" }, 2*patience, tick)
	n.becomesOther()
	_, err = n.Other()
	n.isTaken(err)
	require.ErrorContains(n, err, "node other, ")
	n.feed(n.Add)
	require.Equal(n, "2", n.Count())
}

// LostLockIsTakenAgain requires that a lock that ends is taken again before anything is written, also after a restart
// of the server, which must be the node's own. persists says that the server remembers the lock then.
func (n *Node) LostLockIsTakenAgain(persists bool) {
	n.Helper()
	n.feed(n.Make)
	for _, restart := range []bool{false, true} {
		before, batch, held := n.at(), n.Log.Scripts(n.Add), n.Holder()
		if restart {
			require.NoError(n, n.Server.Kill())
			require.NoError(n, n.Server.Run())
		} else {
			n.loses() // before the node writes again
		}
		n.settles(before, batch)
		require.Eventually(n, func() bool { // a new server may give a new session the number of the old one
			return n.Holder() != "" && (n.Holder() != held || restart && !persists)
		}, 2*patience, tick)
		_, err := n.Other()
		n.isTaken(err)
	}
	require.Equal(n, "2", n.Count())
	for _, use := range []func(at event.Position) error{
		func(at event.Position) error { return n.Seek(n.Context(), at) },
		func(event.Position) error { return n.Keep(n.Context(), event.AllTopics) },
		func(event.Position) error { _, err := n.Position(n.Context()); return err },
	} {
		at := n.at()
		n.loses()
		require.NoError(n, use(at))
		require.NotEmpty(n, n.Holder())
	}
}

// LostLockIsTakenAgainInTheBackground requires that of a node that has nothing to do, whose lock is looked after every
// few milliseconds.
func (n *Node) LostLockIsTakenAgainInTheBackground() {
	n.Helper()
	n.at()
	old := n.Holder()
	n.EndLock()
	require.Eventually(n, func() bool { return n.Holder() != "" && n.Holder() != old }, 2*patience, tick)
	n.feed(n.Make)
}

// WithoutItsLockWritesNothing requires that of a node that has lost its lock to another, also of further increments,
// and that what the other one has done makes neither of them FATAL.
func (n *Node) WithoutItsLockWritesNothing(further ...string) {
	n.Helper()
	n.feed(n.Make)
	before, batch := n.at(), n.Log.Scripts(n.Add)
	n.loses()
	other, err := n.Other()
	require.NoError(n, err)
	for _, script := range append([]string{n.Add}, further...) {
		_, err = n.Apply(n.Context(), before, LogAt(before).Scripts(script))
		n.isTaken(err)
		require.ErrorContains(n, err, n.Named)
	}
	require.Equal(n, "0", n.Count())
	require.ErrorIs(n, n.Seek(n.Context(), before), nodeclient.ErrTaken)
	_, err = n.Position(n.Context())
	n.isTaken(err)
	_, err = other.Apply(n.Context(), before, batch)
	require.NoError(n, err)
	require.NoError(n, other.Close())
	for range 2 {
		_, err = n.Apply(n.Context(), before, batch)
		require.ErrorIs(n, err, nodeclient.ErrTaken, "it left the database elsewhere")
		require.ErrorContains(n, err, "had lost its lock")
		require.False(n, nodeclient.IsFatal(err))
	}
	require.NoError(n, n.Close())
	n.becomesOther()
	n.feed(n.Add)
	require.Equal(n, "2", n.Count())
	_, err = n.Apply(n.Context(), before, batch)
	require.True(n, nodeclient.IsFatal(err), "with the lock someone else has written: %v", err)
}

// LockStaysThroughASwitch requires that a restore into copied, a fresh database, keeps its lock, and that a node that
// has lost it switches nothing.
func (n *Node) LockStaysThroughASwitch(copied *Node) {
	n.Helper()
	n.feed(n.Make)
	snapshot, at := Taken(n.T, n.Database)
	held := copied.Holder()
	Load(n.T, copied.Database, snapshot, at)
	require.Equal(n, at, copied.at())
	require.Equal(n, held, copied.Holder())
	_, err := copied.Other()
	n.isTaken(err)
	loaded, err := copied.Restore(n.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(n, err)
	copied.loses()
	other, err := copied.Other()
	require.NoError(n, err)
	require.ErrorIs(n, loaded.Switch(n.Context()), nodeclient.ErrTaken)
	require.NoError(n, loaded.Discard())
	require.NoError(n, other.Close())
	require.Equal(n, at, copied.at())
}

// unheard is a session that is not told to end: its connection is gone and the server has not noticed.
type unheard struct{ hold.Session }

func (unheard) Close() {}

// Unheard makes sessions whose end the server does not notice.
func Unheard(take hold.Taker) hold.Taker {
	return func(ctx context.Context, token hold.Token, old []hold.Token) (hold.Session, error) {
		s, err := take(ctx, token, old)
		return unheard{s}, err
	}
}

// OwnOldSessionIsEnded requires that a session of the node itself whose end the server has not noticed (see Unheard) is
// taken for no other node's, and is ended. h is what the node holds its lock with.
func (n *Node) OwnOldSessionIsEnded(h *hold.Hold) {
	n.Helper()
	n.feed(n.Make)
	old := n.Holder()
	token, err := h.Ensure(n.Context())
	require.NoError(n, err)
	h.Lost(token)
	require.Equal(n, old, n.Holder())
	n.feed(n.Add)
	require.NotEqual(n, old, n.Holder())
	_, err = n.Other()
	n.isTaken(err)
}

// isTaken requires that another node has the database.
func (n *Node) isTaken(err error) {
	n.Helper()
	require.ErrorIs(n, err, nodeclient.ErrTaken)
	require.True(n, nodeclient.IsTransient(err) && !nodeclient.IsFatal(err), err)
}

// becomesOther opens the database as the node "other" as soon as nobody holds it.
func (n *Node) becomesOther() {
	n.Helper()
	for end := time.Now().Add(2 * patience); ; {
		db, err := n.Other()
		if err == nil {
			n.Database = db
			return
		}
		require.True(n, errors.Is(err, nodeclient.ErrTaken) && time.Now().Before(end), err)
	}
}
