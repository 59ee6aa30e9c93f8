package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/servertest/postgrestest"
	"xmq/nodeclient/driver/sqltext"
)

// What is refused as no SQL is a syntax error to the server, and no statement is refused that the server can read:
// every verb, and what looks wrong and is not.
func TestTheServerAgreesAboutWhatIsNoSQL(t *testing.T) {
	c, err := pgconn.Connect(t.Context(), postgrestest.URL("postgres", server.Addr(), "postgres"))
	require.NoError(t, err)
	defer closeConn(c)
	read := func(text string) string {
		_, err := c.Prepare(t.Context(), "", text, nil)
		return code(err)
	}
	for _, wrong := range []string{
		"SELEC 1", "hello", "1", "'a'", `"select" 1`, "= 1", ")", "(", "(SELEC 1)", "(INSERT INTO t VALUES (1))", "SELECT1",
		"SELECT 1)", "SELECT (1", "SELECT 1,", "SELECT f(,1)", "SELECT f(1,,2)", "SELECT f(1,)", "SELECT * FORM t",
		"SELECT 1 FROM", "DELETE FROM t WHERE", "INSERT INTO", "INSERT", "UPDATE", "DELETE", "MERGE", "CREATE", "ALTER",
		"DROP",
		"CALL", "DO", "SET", "WITH", "VALUES", "TABLE", "TRUNCATE", "GRANT", "REVOKE", "COMMENT", "REFRESH",
		"INSERT INOT t VALUES (1)", "DELETE FORM t", "UPDATE t a = 1", "UPDATE t ste a = 1", "INSERT INTO t (1)",
		"DELETE t", "CREATE TABEL t (a int)", "CREAT TABLE t (a int)", "ALTER TBALE t ADD a int", "DROP INDX i",
		"CREATE FUNTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "REFRESH MATERIALISED VIEW v", "COMMENT TABLE t IS 'x'",
		"MERGE INTO t WHEN MATCHED THEN DELETE", "REPLACE INTO t VALUES (1)", "PRAGMA user_version = 1", "SHOWW x",
		"SELECT 'a", `SELECT "a`, "SELECT $$a", "SELECT /* a", "SELECT\u00a01",
	} {
		if Check([]byte(wrong)) == nil {
			require.Contains(t, []string{"COMMENT TABLE t IS 'x'"}, wrong, "what is not known is left to the server")
		}
		require.Equal(t, "42601", read(wrong), wrong)
	}
	for _, right := range []string{
		"ABORT", "ALTER TABLE t ADD a int", "ANALYSE", "ANALYZE", "BEGIN", "CALL f()", "CHECKPOINT", "CLOSE x", "CLUSTER",
		"COMMENT ON TABLE t IS 'x'", "COMMIT", "COPY t TO STDOUT", "CREATE TABLE t ()", "DEALLOCATE x",
		"DECLARE x CURSOR FOR SELECT 1", "DELETE FROM t", "DISCARD ALL", "DO 'x'", "DROP TABLE t", "END", "EXECUTE x",
		"EXPLAIN SELECT 1", "FETCH x", "GRANT a TO b", "IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c",
		"INSERT INTO t DEFAULT VALUES",
		"LISTEN x", "LOAD 'x'", "LOCK t", "MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE", "MOVE x", "NOTIFY x",
		"PREPARE x AS SELECT 1", "REASSIGN OWNED BY a TO b", "REFRESH MATERIALIZED VIEW v", "REINDEX TABLE t", "RELEASE x",
		"RESET x", "REVOKE a FROM b", "ROLLBACK", "SAVEPOINT x", "SECURITY LABEL ON TABLE t IS 'x'", "SELECT", "SET a = 1",
		"SHOW x", "START TRANSACTION", "TABLE t", "TRUNCATE t", "UNLISTEN x", "UPDATE t SET a = 1", "VACUUM", "VALUES (1)",
		"WITH a AS (SELECT 1) INSERT INTO t TABLE a", "(SELECT 1)", "((SELECT 1) UNION (VALUES (2)))", "(TABLE t)",
		"(WITH a AS (SELECT 1) SELECT 1)", "SELECT*FROM t", "SELECT'a'", `SELECT"a"FROM t`, "-- a\n/* b /* c */ */ SELECT 1",
		"SELECT 1 AS from", "SELECT a.where FROM t a", "SELECT 'it''s (', $$)$$, $x$ $$( $x$", "SELECT a[1:2], '{}'::int[]",
		"INSERT INTO t SELECT 1", "INSERT INTO t (TABLE s)", "INSERT INTO t AS x (a) VALUES (1) ON CONFLICT DO NOTHING",
		"INSERT INTO t WITH a AS (SELECT 1) SELECT * FROM a", "DELETE FROM ONLY t USING s", "UPDATE t * SET (a, b) = (1, 2)",
		"CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "SELECT * INTO a FROM t",
		"CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC INSERT INTO t VALUES (1); SELECT 1; END",
		"CREATE ACCESS METHOD m TYPE TABLE HANDLER h", "CREATE AGGREGATE a (int) (SFUNC = f, STYPE = int)",
		"CREATE CAST (a AS b) WITHOUT FUNCTION", "CREATE COLLATION c (LOCALE = 'C')",
		"CREATE CONVERSION c FOR 'a' TO 'b' FROM f",
		"CREATE DEFAULT CONVERSION c FOR 'a' TO 'b' FROM f", "CREATE DOMAIN d AS int",
		"CREATE EVENT TRIGGER e ON a EXECUTE FUNCTION f()",
		"CREATE EXTENSION e", "CREATE FOREIGN TABLE f (a int) SERVER s", "CREATE GROUP g", "CREATE UNIQUE INDEX ON t (a)",
		"CREATE LANGUAGE l", "CREATE LOCAL TEMP TABLE t ()", "CREATE MATERIALIZED VIEW v AS SELECT 1",
		"CREATE OPERATOR = (PROCEDURE = f)", "CREATE OR REPLACE VIEW v AS SELECT 1", "CREATE POLICY p ON t",
		"CREATE PROCEDURAL LANGUAGE l", "CREATE PROCEDURE p() LANGUAGE sql AS ''", "CREATE PUBLICATION p",
		"CREATE RECURSIVE VIEW v (a) AS SELECT 1", "CREATE ROLE r", "CREATE SCHEMA s CREATE TABLE t ()", "CREATE SEQUENCE s",
		"CREATE SERVER s FOREIGN DATA WRAPPER w", "CREATE STATISTICS s ON a, b FROM t", "CREATE TABLESPACE s LOCATION 'x'",
		"CREATE TEXT SEARCH PARSER p (START = f)", "CREATE TRANSFORM FOR a LANGUAGE l (FROM SQL WITH FUNCTION f)",
		"CREATE CONSTRAINT TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()", "CREATE TRUSTED LANGUAGE l",
		"CREATE TYPE t",
		"CREATE USER u", "ALTER LARGE OBJECT 1 OWNER TO a", "ALTER ROUTINE f RENAME TO g", "ALTER SYSTEM SET a = 1",
		"DROP OWNED BY a",
		"CREATE UNLOGGED TABLE t ()", "DROP ACCESS METHOD m",
	} {
		if _, _, controls := sqltext.TransactionControl(sqltext.PostgreSQL,
			right); !controls { // which has a sentence of its own
			require.NoError(t, sqltext.Structure(sqltext.PostgreSQL, []byte(right)), right)
		}
		require.NotEqual(t, "42601", read(right), right)
	}
}
