package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A role that can do more than an increment should is named at start, with the one to make.
func TestARoleThatMayDoTooMuchIsNamed(t *testing.T) {
	n := newNode(t)
	require.Empty(t, n.Powers())
	require.NoError(t, server.Exec("postgres", "GRANT pg_execute_server_program TO xmq"))
	err := n.reopen()
	require.NoError(t, server.Exec("postgres", "REVOKE pg_execute_server_program FROM xmq"))
	require.NoError(t, err)
	require.Contains(t, n.Powers(), `the role "xmq" may use pg_execute_server_program`)
	require.Contains(t, n.Powers(), "CREATE ROLE")
}

// The disk of a server on this machine is seen by the node whose role may know where the data lies, so that it is told
// before it is full.
func TestTheDiskOfAServerOnThisMachineIsSeen(t *testing.T) {
	n := newNode(t)
	require.NoError(t, server.Exec("postgres", "REVOKE pg_read_all_settings FROM xmq"))
	require.NoError(t, n.reopen())
	_, _, err := n.Space()
	require.ErrorContains(t, err, "cannot be seen")
	require.NoError(t, server.Exec("postgres", "GRANT pg_read_all_settings TO xmq"))
	err = n.reopen()
	require.NoError(t, server.Exec("postgres", "REVOKE pg_read_all_settings FROM xmq"))
	require.NoError(t, err)
	free, total, err := n.Space()
	require.NoError(t, err)
	require.Positive(t, free)
	require.Greater(t, total, free)
}
