package mysql

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/sqltext"
)

// What is refused as no SQL is a syntax error to the server, and no statement is refused that a server can read: every
// verb of MariaDB and of MySQL, and what looks wrong and is not.
func TestTheServerAgreesAboutWhatIsNoSQL(t *testing.T) {
	read := func(text string) error {
		return server.Exec("mysql", "PREPARE p FROM '"+strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text)+"'")
	}
	for _, wrong := range []string{
		"SELEC 1", "hello", "1", "'a'", "`select` 1", "= 1", ")", "(", "(SELEC 1)", "(INSERT INTO t VALUES (1))", "SELECT1",
		"SELECT 1)", "SELECT (1", "SELECT 1,", "SELECT f(,1)", "SELECT f(1,,2)", "SELECT f(1,)", "SELECT * FORM t",
		"SELECT 1 FROM",
		"DELETE FROM t WHERE", "INSERT INTO", "INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "ALTER", "DROP", "CALL",
		"DO",
		"SET", "WITH", "VALUES", "RENAME", "TRUNCATE", "UPDATE t a = 1", "INSERT INTO t (1)", "DELETE t",
		"CREATE TABEL t (a int)", "CREAT TABLE t (a int)", "ALTER TBALE t ADD a int", "DROP INDX i ON t", "ABORT",
		"MERGE INTO t USING s ON true", "CREATE INDEX CONCURRENTLY i ON t (a)", "DROP INDEX concurrently i ON t",
		"CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a)", "SELECT 'a", "SELECT `a", "SELECT /* a",
	} {
		require.Error(t, Check([]byte(wrong)), wrong)
		require.ErrorContains(t, read(wrong), "1064", wrong)
	}
	for _, right := range []string{
		"ALTER TABLE t ADD a int", "ANALYZE TABLE t", "BACKUP STAGE START", "BINLOG 'x'", "CACHE INDEX t IN k", "CALL f()",
		"CALL f",
		"CASE 1 WHEN 1 THEN SELECT 1; END CASE", "CHANGE MASTER TO MASTER_HOST = 'x'", "CHECK TABLE t", "CHECKSUM TABLE t",
		"CLONE LOCAL DATA DIRECTORY = 'x'", "CREATE TABLE t (a int)", "DEALLOCATE PREPARE x", "DELETE t1, t2 FROM t1 JOIN t2",
		"DELETE FROM t1 USING t1 JOIN t2", "DELETE QUICK FROM t", "DESC t", "DESCRIBE t", "DO 1", "DROP TABLE t",
		"EXECUTE IMMEDIATE 'x'", "EXPLAIN SELECT 1", "FLUSH TABLES", "GET DIAGNOSTICS @a = NUMBER", "GRANT a TO b",
		"HANDLER t OPEN",
		"HELP 'x'", "IF 1 THEN SELECT 1; END IF", "IMPORT TABLE FROM 'x'", "INSERT INTO t SET a = 1", "INSERT t VALUE (1)",
		"INSERT INTO t () VALUES ()", "INSERT INTO t TABLE s", "INSTALL PLUGIN p SONAME 'x'", "KILL 1",
		"LOAD DATA INFILE 'x' INTO TABLE t",
		"LOCK TABLES t READ", "OPTIMIZE TABLE t", "PREPARE x FROM 'x'", "PURGE BINARY LOGS TO 'x'", "RENAME TABLE a TO b",
		"REPAIR TABLE t", "REPLACE t SELECT 1", "RESET MASTER", "RESIGNAL", "RESTART", "REVOKE a FROM b", "SELECT 1",
		"SET @a = 1", "SHOW TABLES", "SHUTDOWN", "SIGNAL SQLSTATE '45000'", "START SLAVE", "STOP SLAVE", "TABLE t",
		"TRUNCATE t",
		"UNINSTALL PLUGIN p", "UNLOCK TABLES", "UPDATE t SET a = 1", "USE d", "VALUES (1)", "VALUES ROW(1)",
		"WITH a AS (SELECT 1) SELECT * FROM a", "(SELECT 1)", "((SELECT 1) UNION (SELECT 2))", "(TABLE t)", "(VALUES (1))",
		"CREATE INDEX concurrently ON t (a)", "CREATE INDEX concurrently USING BTREE ON t (a)",
		"DROP INDEX concurrently ON t", "SELECT '$1', `$1`, \"$1\", $a, a$1", "SELECT*FROM t", "SELECT@a",
		"SELECT'a'", "SELECT`a`FROM t", "# a\nSELECT 1", "/*!40101 SET @a = 1 */",
		"SELECT @from",
		"/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`b`*/ /*!50003 TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET @a = 1 */",
		"SELECT 1 /*!99999 ( */", "SELECT '(', \"(\", `(`", `SELECT '\'('`, "CREATE OR REPLACE TABLE t (a int)",
		"CREATE ALGORITHM = MERGE VIEW v AS SELECT 1", "CREATE DEFINER = a@b VIEW v AS SELECT 1",
		"CREATE SQL SECURITY INVOKER VIEW v AS SELECT 1",
		"CREATE FULLTEXT INDEX i ON t (a)", "CREATE SPATIAL INDEX i ON t (a)", "CREATE UNIQUE INDEX i ON t (a)",
		"CREATE SEQUENCE s",
		"CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (HOST 'x')", "CREATE TEMPORARY TABLE t (a int)", "CREATE USER u",
		"CREATE ROLE r",
		"CREATE LOGFILE GROUP g ADD UNDOFILE 'x'", "CREATE UNDO TABLESPACE t ADD DATAFILE 'x'",
		"CREATE RESOURCE GROUP g TYPE = USER",
		"CREATE AGGREGATE FUNCTION f RETURNS INT SONAME 'x'", "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
		"ALTER IGNORE TABLE t ADD a int",
		"ALTER INSTANCE ROTATE INNODB MASTER KEY", "ALTER ONLINE TABLE t ADD a int", "DROP PREPARE x", "DROP TABLES a, b",
		"SELECT MATCH (a) AGAINST ('x' IN NATURAL LANGUAGE MODE) FROM t", "lbl: BEGIN NOT ATOMIC SELECT 1; END",
		"BEGIN NOT ATOMIC IF (1) THEN SELECT 1; END IF; END", "UPDATE t1, t2 SET t1.a = 1", "SELECT * FROM t FOR UPDATE",
	} {
		require.NoError(t, sqltext.Structure(sqltext.MariaDB, []byte(right)), right)
	}
}

// A setting whose value is each server's own does not travel, in a script or in a {"tx"}.
func TestNoSettingTakesItsValueFromTheServer(t *testing.T) {
	for _, set := range []string{"time_zone = SYSTEM", "time_zone = 'system'", "time_zone = DEFAULT", "sql_mode = DEFAULT",
		"foreign_key_checks = default", "unique_checks = DEFAULT", "collation_connection = DEFAULT"} {
		require.ErrorContains(t, Check([]byte("SET "+set+"; INSERT INTO t VALUES (1)")), "changes the connection", set)
		require.ErrorContains(t, Check([]byte(`{"tx": [{"sql": "SET `+set+`"}, {"sql": "INSERT INTO t VALUES (1)"}]}`)),
			"changes the connection", set)
	}
	require.NoError(t, Check([]byte("SET time_zone = '+00:00', foreign_key_checks = 0; INSERT INTO t VALUES (1)")))
}
