package postgres

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What an increment does to the server beyond its data, by words that nobody sees, is its FAIL; a node that is
// restarted after it works as before.
func TestAnIncrementChangesNothingBeyondTheData(t *testing.T) {
	own := "the definition of xmq_position"
	for name, c := range map[string]struct{ makes, does, says string }{
		"a setting of the role": {"SELECT 1", "DO $$ BEGIN EXECUTE 'ALTER ROLE xmq SET search_path = nowhere'; END $$",
			"pg_db_role_setting"},
		"a setting of the database": {"SELECT 1", "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET " +
			"default_transaction_read_only = on', current_database()); END $$", "pg_db_role_setting"},
		"a password": {"SELECT 1", "DO $$ BEGIN EXECUTE 'ALTER ROLE xmq PASSWORD ''x'''; END $$", "pg_authid"},
		"a setting, in plain DML": {"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE " +
			"'ALTER ROLE xmq SET search_path = nowhere'; RETURN 1; END $$", "INSERT INTO c SELECT f()", "pg_db_role_setting"},
		"a trigger": {"SELECT 1", "DO $$ BEGIN EXECUTE 'ALTER TABLE xmq_' || 'position ADD x int'; END $$", own},
		"a rule": {"SELECT 1", "DO $$ BEGIN EXECUTE 'CREATE RULE r AS ON INSERT TO xmq_' || 'position DO NOTHING'; " +
			"END $$", own},
		"a lost position": {"SELECT 1", "DO $$ BEGIN EXECUTE 'DROP TABLE xmq_' || 'position'; END $$", "xmq_position"},
		"a column, in plain DML": {"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'ALTER TABLE " +
			"xmq_' || 'position ADD x int'; RETURN 1; END $$", "INSERT INTO c SELECT f()", own},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.run("CREATE TABLE c (v int)", c.makes)
			before := n.value("SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'xmq'")
			require.ErrorContains(t, n.fails(1, "INSERT INTO c VALUES (1)", c.does), c.says)
			require.NoError(t, n.reopen())
			n.run("INSERT INTO c VALUES (2)")
			require.Equal(t, "2", n.value("SELECT count(*) FROM c"))
			require.Equal(t, before, n.value("SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'xmq'"))
		})
	}
}

// Whatever an increment does to the table of the position is its FAIL; a node whose position a person has taken away
// ends, and says so.
func TestThePlaceIsNobodyElses(t *testing.T) {
	n := newNode(t)
	var hidden []string
	for _, sql := range []string{"ALTER TABLE # ADD x int", "CREATE INDEX ON # (seq)", "TRUNCATE #", "DROP TABLE #",
		"CREATE RULE r AS ON UPDATE TO # DO NOTHING", "ALTER TABLE # RENAME TO other"} {
		hidden = append(hidden, "DO $$ BEGIN EXECUTE '"+strings.ReplaceAll(sql, "#", "xmq_' || 'position")+"'; END $$")
	}
	n.shared().PlaceIsNobodyElses(func() { require.NoError(t, server.Exec(n.db, "DROP TABLE xmq_position")) }, hidden...)
}
