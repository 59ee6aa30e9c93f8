package sqltext

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// taken are the increments of a script and what was counted.
func taken(t *testing.T, sp Splitter, script string) (texts []string, counts Counts) {
	t.Helper()
	for s, err := range sp.Scripts(strings.NewReader(script)) {
		require.NoError(t, err, script)
		texts = append(texts, s.Text)
	}
	return texts, sp.Counts
}

// What a dump says beside SQL is understood: settings stand before the increments for which they hold, the
// session's own are left
// out.
func TestADumpIsTakenAsItIs(t *testing.T) {
	for _, c := range []struct {
		name   string
		sp     Splitter
		script string
		want   []string
		counts Counts
	}{
		{"pg_dump", Splitter{Dialect: PostgreSQL}, "\\restrict x\nSET statement_timeout = 0;\nSET client_encoding = " +
			"'UTF8';\n" +
			"SELECT pg_catalog.set_config('search_path', '', false);\nSET check_function_bodies = false;\nSET xmloption " +
			"= content;\n" +
			"SET default_tablespace = '';\nSET default_table_access_method = heap;\nCREATE FUNCTION f() RETURNS int AS " +
			"$$;$$;\n" +
			"CREATE TABLE a (b int);\nSET check_function_bodies TO true;\nSET SESSION search_path = public, " +
			"\"$user\";\nCREATE VIEW v AS SELECT 1;\n",
			[]string{"SET LOCAL check_function_bodies = false;\nSET LOCAL search_path = '';\nCREATE FUNCTION f() RETURNS " +
				"int AS $$;$$;",
				"SET LOCAL search_path = '';\nCREATE TABLE a (b int);", "SET LOCAL search_path = public, \"$user\";\nCREATE " +
					"VIEW v AS SELECT 1;"},
			Counts{Settings: 9}},
		{"COPY", Splitter{Dialect: PostgreSQL}, "COPY public.a (b, \"c\") FROM " +
			"stdin;\n1\t\\N\n\\\\x41'\ta\\tb\\n\\\\\\101\\x42\n\\.\n\nSELECT 1;\nCOPY e FROM stdin;\n\\.\n" +
			"COPY o (x) FROM STDIN;\n\n\\.\n",
			[]string{"INSERT INTO public.a (b, \"c\") OVERRIDING SYSTEM VALUE VALUES\n('1', NULL),\n('\\x41''', " +
				"'a\tb\n\\AB');", "SELECT 1;",
				"INSERT INTO o (x) OVERRIDING SYSTEM VALUE VALUES\n('');"}, Counts{}},
		{"COPY in a transaction", Splitter{Dialect: PostgreSQL}, "BEGIN;\nCOPY a FROM stdin;\n1\n\\.\nSELECT 1;\nCOMMIT;",
			[]string{"INSERT INTO a OVERRIDING SYSTEM VALUE VALUES\n('1');\nSELECT 1;"}, Counts{}},
		{"COPY in pieces", Splitter{Dialect: PostgreSQL, Limit: 60, Longest: 1000},
			"COPY a FROM stdin;\n1\n2\n3\n4\n5\n\\.\n",
			[]string{"INSERT INTO a OVERRIDING SYSTEM VALUE VALUES\n('1'),\n('2');", "INSERT INTO a OVERRIDING SYSTEM " +
				"VALUE VALUES\n('3'),\n('4');",
				"INSERT INTO a OVERRIDING SYSTEM VALUE VALUES\n('5');"}, Counts{}},
		{"backslashes that escape", Splitter{Dialect: PostgreSQL},
			"SET standard_conforming_strings = off;\nINSERT INTO a VALUES ('it\\'s;', 'b', E'\\\\');\nSET " +
				"standard_conforming_strings = on;\nSELECT '\\';",
			[]string{"INSERT INTO a VALUES ( E'it\\'s;', 'b', E'\\\\');", "SELECT '\\';"}, Counts{Settings: 2}},
		{"psql's own commands", Splitter{Dialect: PostgreSQL, LeaveOutDatabases: true},
			"\\set ON_ERROR_STOP on\nDROP DATABASE IF EXISTS x;\nCREATE DATABASE x;\n\\c x;\n\\connect " +
				"-reuse-previous=on \"dbname='x'\"\nSELECT 1;",
			[]string{"SELECT 1;"}, Counts{Settings: 1, Databases: 4}},
		{"mariadb-dump", Splitter{Dialect: MariaDB}, "/*M!999999\\- enable the sandbox mode */ \n/*!40101 SET " +
			"@OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;\n" +
			"/*!40101 SET NAMES utf8mb4 */;\n/*!40103 SET @OLD_TIME_ZONE=@@TIME_ZONE */;\n/*!40103 SET " +
			"TIME_ZONE='+00:00' */;\n" +
			"/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;\n" +
			"/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;\n/*M!100616 SET " +
			"@OLD_NOTE_VERBOSITY=@@NOTE_VERBOSITY, NOTE_VERBOSITY=0 */;\n" +
			"CREATE TABLE a (b int) /*!50100 PARTITION BY HASH (b) */ /*!80000 ENCRYPTION='N' */;\nLOCK TABLES `a` " +
			"WRITE;\n/*!40000 ALTER TABLE `a` DISABLE KEYS */;\n" +
			"SET @OLD_AUTOCOMMIT=@@AUTOCOMMIT, @@AUTOCOMMIT=0;\nINSERT INTO `a` VALUES (1);\n/*!40000 ALTER TABLE `a` " +
			"ENABLE KEYS */;\nUNLOCK TABLES;\nCOMMIT;\n" +
			"SET AUTOCOMMIT=@OLD_AUTOCOMMIT;\n/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;\n/*!40014 SET " +
			"FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS */;\nINSERT INTO a VALUES (2);\n",
			[]string{"SET foreign_key_checks = 0;\nSET sql_mode = 'NO_AUTO_VALUE_ON_ZERO';\nCREATE TABLE a (b int) " +
				"PARTITION BY HASH (b);",
				"SET foreign_key_checks = 0;\nSET sql_mode = 'NO_AUTO_VALUE_ON_ZERO';\nINSERT INTO `a` VALUES (1);",
				"INSERT INTO a VALUES (2);"},
			Counts{Settings: 16}},
		{"mysqldump", Splitter{Dialect: MariaDB, MySQL: true}, "SET @@SESSION.SQL_LOG_BIN= 0;\nSET " +
			"@@GLOBAL.GTID_PURGED=/*!80000 '+'*/ 'x:1-5';\n" +
			"CREATE TABLE a (b int /*!80023 INVISIBLE */ /*!100301 y */) /*!100301 x */;\n/*!50003 SET sql_mode = " +
			"'STRICT_TRANS_TABLES' " +
			"*/ ;\nDELIMITER ;;\n" +
			"/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`%`*/ /*!50003 TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN SET " +
			"NEW.b = 1; END */;;\nDELIMITER ;\n",
			[]string{"CREATE TABLE a (b int INVISIBLE );",
				"SET sql_mode = 'STRICT_TRANS_TABLES';\nCREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW " +
					"BEGIN SET NEW.b = 1; END;"},
			Counts{Settings: 3, Owners: 1}},
		{"who owns what is made", Splitter{Dialect: PostgreSQL}, "ALTER TABLE a OWNER TO b;\nSET check_function_bodies = " +
			"false;\nALTER TABLE ONLY public.a OWNER TO \"b c\";\nALTER FUNCTION f(int, text) OWNER TO b;\nALTER TABLE a ADD " +
			"c int, OWNER TO b;\nALTER TABLE a RENAME owner TO b;\n",
			[]string{"ALTER TABLE a OWNER TO b;", "ALTER TABLE a ADD c int, OWNER TO b;", "ALTER TABLE a RENAME owner TO b;"},
			Counts{Settings: 1, Owners: 2}},
		{"who defines what is made", Splitter{Dialect: MariaDB}, "CREATE OR REPLACE ALGORITHM=MERGE DEFINER = 'a'@'b' SQL " +
			"SECURITY DEFINER VIEW v AS SELECT 1;\nCREATE DEFINER=CURRENT_USER VIEW w AS SELECT definer = a FROM b;",
			[]string{"CREATE OR REPLACE ALGORITHM=MERGE SQL SECURITY DEFINER VIEW v AS SELECT 1;",
				"CREATE DEFINER=CURRENT_USER VIEW w AS SELECT definer = a FROM b;"}, Counts{Owners: 1}},
		{"databases", Splitter{Dialect: MariaDB, LeaveOutDatabases: true}, "DROP SCHEMA IF EXISTS x;\nCREATE DATABASE " +
			"x;\nUSE x\nINSERT INTO a VALUES (1);\nUSE `y`; SELECT 2;",
			[]string{"INSERT INTO a VALUES (1);", "SELECT 2;"}, Counts{Databases: 4}},
		{"rows", Splitter{Dialect: MariaDB, Limit: 40, Longest: 1000}, "INSERT INTO `a` (b) VALUES " +
			"(1,'),('),(2,'x'),(3,NULL);REPLACE INTO a VALUES (1),(2);",
			[]string{"INSERT INTO `a` (b) VALUES (1,'),(');", "INSERT INTO `a` (b) VALUES (2,'x');",
				"INSERT INTO `a` (b) VALUES (3,NULL);",
				"REPLACE INTO a VALUES (1),(2);"}, Counts{Cut: 1}},
		{"rows that fit without the lines between them", Splitter{Dialect: MariaDB, Limit: 34, Longest: 1000},
			"INSERT INTO a VALUES (1),\r\n\r\n(2),\r\n\r\n(3);", []string{"INSERT INTO a VALUES (1),(2),(3);"}, Counts{}},
		{"no rows to cut between", Splitter{Dialect: MariaDB, Limit: 30, Longest: 1000},
			"INSERT INTO a VALUES (1),(2) ON DUPLICATE KEY UPDATE b = 1;",
			[]string{"INSERT INTO a VALUES (1),(2) ON DUPLICATE KEY UPDATE b = 1;"}, Counts{}},
		{"engines", Splitter{Dialect: MariaDB}, "CREATE TABLE a (engine int) ENGINE=MyISAM CHARSET=utf8;" +
			"CREATE TABLE b (c int) engine Aria;CREATE TABLE d (e int) COMMENT 'ENGINE=MyISAM' ENGINE=MEMORY;",
			[]string{"CREATE TABLE a (engine int) ENGINE=InnoDB CHARSET=utf8;", "CREATE TABLE b (c int) engine InnoDB;",
				"CREATE TABLE d (e int) COMMENT 'ENGINE=MyISAM' ENGINE=MEMORY;"}, Counts{Engines: 2}},
		{"what SQLite keeps of an index", Splitter{Dialect: SQLite}, "CREATE INDEX i ON t(a)\n;\nSELECT 1\n;",
			[]string{"CREATE INDEX i ON t(a)\n;", "SELECT 1;"}, Counts{}},
		{".dump", Splitter{Dialect: SQLite, Limit: 75, Longest: 1000}, "PRAGMA foreign_keys=OFF;\nBEGIN " +
			"TRANSACTION;\nCREATE TABLE t(a);\nINSERT INTO t VALUES(1);\n" +
			"INSERT INTO t VALUES(2);\nCOMMIT;\n",
			[]string{"PRAGMA foreign_keys = OFF;\nCREATE TABLE t(a);\nINSERT INTO t VALUES(1);",
				"PRAGMA foreign_keys = OFF;\nINSERT INTO t VALUES(2);"},
			Counts{Settings: 1}},
		{"virtual tables in a .dump", Splitter{Dialect: SQLite, Limit: 1000}, "PRAGMA foreign_keys=OFF;\nBEGIN " +
			"TRANSACTION;\nPRAGMA writable_schema=ON;\n" +
			"INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table','f t','f t',0,'CREATE VIRTUAL " +
			"TABLE \"f t\" using fts5(a, content=''x'')');\n" +
			"CREATE TABLE IF NOT EXISTS 'f t_data'(id INTEGER PRIMARY KEY, block BLOB);\nCREATE TABLE IF NOT EXISTS " +
			"'other'(a);\nPRAGMA writable_schema=OFF;\nCOMMIT;\n",
			[]string{"PRAGMA foreign_keys = OFF;\nCREATE VIRTUAL TABLE \"f t\" using fts5(a, content='x');\n" +
				"CREATE TABLE IF NOT EXISTS 'f t_data'(id INTEGER PRIMARY KEY, block BLOB);\nDELETE FROM 'f t_data';\n" +
				"CREATE TABLE IF NOT EXISTS 'other'(a);"},
			Counts{Settings: 3}},
		{"a change of a schema is one", Splitter{Dialect: SQLite, Limit: 1000},
			"SELECT 1;\nPRAGMA foreign_keys=OFF;\nBEGIN;\nDROP TABLE a;\nALTER TABLE b RENAME TO a;\nCOMMIT;",
			[]string{"SELECT 1;", "PRAGMA foreign_keys = OFF;\nDROP TABLE a;\nALTER TABLE b RENAME TO a;"}, Counts{Settings: 1}},
	} {
		if c.sp.Limit == 0 {
			c.sp.Limit = 10_000
		}
		texts, counts := taken(t, c.sp, c.script)
		require.Equal(t, c.want, texts, c.name)
		require.Equal(t, c.counts, counts, c.name)
	}
}

// What cannot be left out is left to the driver, which refuses it by name, or refused here.
func TestSettingsThatMeanSomethingAreNotLeftOut(t *testing.T) {
	for statement, d := range map[string]Dialect{
		"SET search_path = x; SET timezone = 'CET'": PostgreSQL, "SET client_encoding = 'LATIN1'": PostgreSQL,
		"SET ROLE x":                  PostgreSQL,
		"SET SESSION AUTHORIZATION x": PostgreSQL, "SET default_tablespace = fast": PostgreSQL, "SET LOCAL x = 1": PostgreSQL,
		"SET NAMES latin1": MariaDB, "SET GLOBAL foreign_key_checks = 0": MariaDB, "SET div_precision_increment = 9": MariaDB,
		"SET foreign_key_checks = 0, lc_time_names = 'de_DE'": MariaDB, "SET @a = 1": MariaDB,
	} {
		texts, _ := taken(t, Splitter{Dialect: d, Limit: 1000}, statement+";\nSELECT 1;")
		require.GreaterOrEqual(t, len(texts), 2, statement)
		require.Contains(t, texts[0], "SET", statement)
	}
	for statement, why := range map[string]string{
		"SET sql_mode = 'ANSI_QUOTES'": "changes how the text itself is read", "SET sql_mode = 4": "sql_mode 4 changes",
		`SET sql_mode = 'ANSI\_QUOTES'`: "or may do so", "SET sql_mode = 'TRADITIONAL,ORACLE '": "or may do so",
		"INSERT INTO a VALUES (1) /*M!110000 " +
			"RETURNING b */": "only newer servers execute",
	} {
		_, err := split(MariaDB, statement+";", 1000)
		require.ErrorContains(t, err, why)
	}
}

// Each line of an increment comes from a line of the input, after settings and DELIMITER as well.
func TestIncrementsKnowTheLinesOfTheInput(t *testing.T) {
	sp := Splitter{Dialect: MariaDB, Limit: 1000}
	var lines [][]int
	for s, err := range sp.Scripts(strings.NewReader("SET sql_mode = '', foreign_key_checks = " +
		"0;\nSELECT\n1;\nBEGIN;\n\nSELECT 2;\nSELECT 3;COMMIT;\nDELIMITER //\nCREATE PROCEDURE p AS\nEND//\n")) {
		require.NoError(t, err)
		var all []int
		for i := range strings.Count(s.Text, "\n") + 1 {
			all = append(all, s.Input(i+1))
		}
		lines = append(lines, all)
	}
	require.Equal(t, [][]int{{2, 2, 2, 3}, {4, 4, 6, 7}, {9, 9, 9, 9, 10, 11}}, lines)
}
