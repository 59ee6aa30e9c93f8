package drivertest

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// Taken is a snapshot in memory.
func Taken(t *testing.T, db nodeclient.Database) ([]byte, event.Position) {
	t.Helper()
	s, err := db.Snapshot(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	var b bytes.Buffer
	require.NoError(t, s.WriteTo(t.Context(), &b))
	return b.Bytes(), s.Position()
}

// Load makes a snapshot the content of a database.
func Load(t *testing.T, db nodeclient.Database, snapshot []byte, at event.Position) {
	t.Helper()
	r, err := db.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(t, err)
	require.NoError(t, r.Switch(t.Context()))
	require.NoError(t, r.Discard())
}

// EachWrite is a buffer that calls Do before each write.
type EachWrite struct {
	bytes.Buffer
	Do func()
}

// Write implements io.Writer.
func (w *EachWrite) Write(b []byte) (int, error) {
	w.Do()
	return w.Buffer.Write(b)
}

// WrittenDuring writes a whole snapshot, calls during before each write, and closes it. during must have run more than
// ten times: a copy that takes one write proves nothing.
func WrittenDuring(t *testing.T, s nodeclient.Snapshot, during func()) (written []byte, times int) {
	t.Helper()
	w := &EachWrite{Do: func() { during(); times++ }}
	require.NoError(t, s.WriteTo(t.Context(), w))
	require.Greater(t, times, 10)
	require.NoError(t, s.Close())
	return w.Bytes(), times
}

// SnapshotIsOneMoment guards SS-11, "the data is one moment: writes during a dump do not appear". write is another
// client's, which is no node and adds to the counter; copied is a fresh database. It needs Count.
func (n *Node) SnapshotIsOneMoment(write func(), copied *Node) {
	n.Helper()
	at := n.at()
	s, err := n.Snapshot(n.Context())
	require.NoError(n, err)
	written, _ := WrittenDuring(n.T, s, write)
	require.NotEqual(n, "0", n.Count())
	Load(n.T, copied.Database, written, at)
	require.Equal(n, "0", copied.Count())
}
