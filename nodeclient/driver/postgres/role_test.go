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
