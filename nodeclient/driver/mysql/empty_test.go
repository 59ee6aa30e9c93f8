package mysql

import (
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
)

// A database that holds anything but our position is not empty.
func TestADatabaseWithAnythingInItIsNotEmpty(t *testing.T) {
	for _, script := range []string{
		"CREATE TABLE x (v int)", "CREATE VIEW x AS SELECT 1", "CREATE PROCEDURE x() SELECT 1",
		"CREATE FUNCTION x() RETURNS int DETERMINISTIC RETURN 1",
		"CREATE EVENT x ON SCHEDULE EVERY 1 DAY DISABLE DO DO 1",
		either("CREATE SEQUENCE x", "CREATE LIBRARY x LANGUAGE JAVASCRIPT AS 'export function f() { return 1; }'"),
	} {
		n := newNode(t)
		require.NoError(t, n.Seek(t.Context(), event.Start(7)))
		empty, err := n.Empty(t.Context())
		require.NoError(t, err)
		require.True(t, empty)
		require.NoError(t, n.srv.Exec(n.db, script))
		empty, err = n.Empty(t.Context())
		require.NoError(t, err)
		require.False(t, empty, script)
	}
}
