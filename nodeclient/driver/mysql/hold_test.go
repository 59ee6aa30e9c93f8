package mysql

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
)

// Increments wait while a snapshot is opened: it waits for nobody's lock longer than it says.
func TestOpeningASnapshotHoldsIncrementsForASecondAtMost(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	locked := either("s", "t") // MySQL has no sequences
	if !onMySQL {
		n.run("CREATE SEQUENCE s")
	}
	other, err := n.Database.connect(t.Context(), n.db)
	require.NoError(t, err)
	defer other.close()
	require.NoError(t, other.do(t.Context(), "LOCK TABLES "+locked+" WRITE"))
	began := time.Now()
	s, err := n.Snapshot(t.Context())
	took := time.Since(began)
	require.Less(t, took, 12*time.Second, "a second and what a busy machine takes, not the 20 s of an increment")
	if err == nil { // which needs none of what is locked
		require.NoError(t, s.Close())
		require.True(t, onMySQL)
	} else {
		require.True(t, nodeclient.IsTransient(err), err)
		require.ErrorContains(t, err, "holds a table or a sequence")
	}
	require.NoError(t, other.do(t.Context(), "UNLOCK TABLES"))
	n.taken()
}
