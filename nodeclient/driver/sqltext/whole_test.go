package sqltext

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A line that stands for itself is told from a line of a script, without a judgement about its grammar.
func TestALineOfAScriptIsToldFromAWholeStatement(t *testing.T) {
	for _, d := range []Dialect{SQLite, PostgreSQL, MariaDB} {
		for _, whole := range []string{
			"INSERT INTO t VALUES (1)", "insert into t values (1);", "INSERT INTO t DEFAULT VALUES",
			"INSERT INTO t (a) SELECT 1",
			"UPDATE t SET a = 1 WHERE b = 'x;('", "DELETE FROM t", "CREATE TABLE t (a int)", "CREATE TABLE t AS SELECT 1",
			"WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", "VALUES (1)", "(SELECT 1) UNION (SELECT 2)",
			"SELECT 1; SELECT 2",
			"BEGIN; UPDATE t SET n = 1; COMMIT;", "DROP TABLE t", `{"sql": "SELECT 1"}`, `{"sqll": 1}`, "VACUUM",
			"CREATE INDEX i ON t (a)",
			"\uFEFFSELECT 1", "/* a comment */ SELECT 1", "ALTER TABLE t ADD COLUMN a int", "SELECT 1 --", "TRUNCATE TABLE t",
			"SET x = ON", "SET CONSTRAINTS ALL DEFERRED",
		} {
			require.NoError(t, Whole(d, whole), "%d %s", d, whole)
		}
		for _, piece := range []string{
			"INSERT INTO acct (id, n)", "INSERT INTO acct", "VALUES ('multi',", "CREATE TABLE t (", "  id int,", ");", "FROM t",
			"WHERE a = 1",
			"BEGIN;", "COMMIT;", "BEGIN; SELECT 1", "-- a comment", "/* one */ ;", "/* open", "SELECT 'open", "UPDATE t",
			"SELECT a,", "SELECT * FROM",
			"{", `"sql": "SELECT 1",`, "}", `{"sql":`, `\d`, `\connect x`, "INSRT INTO acct VALUES (1)", "AND b = 2", "DELETE",
			";", "ON CONFLICT DO NOTHING",
			"WITH a AS (SELECT 1)", "UPDATE t SET", "CREATE VIEW v AS",
		} {
			require.Error(t, Whole(d, piece), "%d %s", d, piece)
		}
	}
	require.Error(t, Whole(PostgreSQL, "CREATE FUNCTION f() RETURNS int AS $$"))
	require.NoError(t, Whole(PostgreSQL, "CREATE TRIGGER g AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()"))
	require.NoError(t, Whole(SQLite, "SELECT [a(b] FROM t"))
	require.NoError(t, Whole(MariaDB, "/*!40101 SET NAMES utf8mb4 */"))
	require.NoError(t, Whole(MariaDB, `SELECT 'it\'s'`))
}
