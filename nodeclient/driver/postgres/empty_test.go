package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
)

// A database that holds anything but our position is not empty, and what an administrator has prepared is nothing.
func TestADatabaseWithAnythingInItIsNotEmpty(t *testing.T) {
	for _, c := range []struct{ script, undo string }{
		{"CREATE TABLE x ()", "DROP TABLE x"},
		{"CREATE VIEW x AS SELECT 1", "DROP VIEW x"},
		{"CREATE SEQUENCE x", "DROP SEQUENCE x"},
		{"CREATE FUNCTION precious() RETURNS int LANGUAGE sql AS 'SELECT 42'", "DROP FUNCTION precious()"},
		{"CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 42'", "DROP PROCEDURE p()"},
		{"CREATE TYPE mood AS ENUM ('a')", "DROP TYPE mood"},
		{"CREATE TYPE pair AS (a int, b int)", "DROP TYPE pair"},
		{"CREATE DOMAIN d AS int", "DROP DOMAIN d"},
		{"CREATE TYPE span AS RANGE (subtype = int)", "DROP TYPE span"},
		{"CREATE SCHEMA app", "DROP SCHEMA app"},
		{"SELECT lo_from_bytea(99, 'only copy')", "SELECT lo_unlink(99)"},
		{"CREATE COLLATION c (provider = icu, locale = 'de')", "DROP COLLATION c"},
		{"CREATE TEXT SEARCH CONFIGURATION c (COPY = simple)", "DROP TEXT SEARCH CONFIGURATION c"},
		{"CREATE OPERATOR === (leftarg = int, rightarg = int, procedure = int4eq)", "DROP OPERATOR === (int, int)"},
		{"CREATE AGGREGATE total (int) (sfunc = int4pl, stype = int)", "DROP AGGREGATE total (int)"},
		{"CREATE CAST (int AS point) WITH INOUT", "DROP CAST (int AS point)"},
		{"CREATE FOREIGN DATA WRAPPER w", "DROP FOREIGN DATA WRAPPER w"},
		{"CREATE PUBLICATION p", "DROP PUBLICATION p"},
		{"CREATE TABLE x (id int GENERATED ALWAYS AS IDENTITY, t text)", "DROP TABLE x"},
		{"CREATE EXTENSION dblink; CREATE EXTENSION tablefunc; CREATE TYPE pair AS (a int)", "DROP TYPE pair"},
		{"CREATE EXTENSION citext; CREATE VIEW v AS SELECT 'a'::citext", "DROP VIEW v"},
	} {
		t.Run(c.script, func(t *testing.T) { // each gives its connections back
			n := newNode(t)
			require.NoError(t, n.Seek(t.Context(), event.Start(7)))
			check := func(want bool) {
				t.Helper()
				empty, err := n.Empty(t.Context())
				require.NoError(t, err)
				require.Equal(t, want, empty, c.script)
			}
			check(true)
			require.NoError(t, server.Exec(n.db, c.script))
			check(false)
			require.NoError(t, server.Exec(n.db, c.undo))
			check(true)
		})
	}
}
