package mysql

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/servertest/mysqltest"
	"xmq/nodeclient/driver/sqltext"
)

// TestXN08: "Error classes for SQL: duplicate key, constraint, syntax: FAIL; server lost: retry; schema missing:
// FATAL", one case per class on a real server. What only a broken machine says is asked of the table.
func TestXN08ErrorClasses(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (id int PRIMARY KEY, v tinyint CHECK (v >= 0), r int REFERENCES c (id), s varchar(3), d date)",
		"INSERT INTO c VALUES (1, 0, NULL, '', NULL)",
		"CREATE PROCEDURE raise(code int) SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = code, MESSAGE_TEXT = 'raised for a test'",
		"CREATE PROCEDURE says_no() SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'",
		"CREATE PROCEDURE commits() BEGIN UPDATE c SET v = 7; COMMIT; END",
		"CREATE PROCEDURE alters() BEGIN UPDATE c SET v = 7; CREATE TABLE made (a int); END")
	classes := map[string]int{
		"INSERT INTO c (id) VALUES (1)":        1062,
		"UPDATE c SET v = -1":                  either(4025, 3819),
		"INSERT INTO c (id, r) VALUES (2, 77)": 1452,
		"INSRT INTO c":                         0,
		"INSERT INTO c VALUES (":               1064,
		"INSERT INTO nowhere VALUES (1)":       1146,
		"UPDATE c SET w = 1":                   1054,
		"UPDATE c SET v = 'one'":               1366,
		"UPDATE c SET v = 1000":                1264,
		"UPDATE c SET s = 'four'":              1406,
		"UPDATE c SET d = '2024-02-31'":        1292,
		"UPDATE c SET v = 1/0":                 1365,
		"UPDATE c SET s = '\xff'":              1366,
		"INSERT INTO c (id) VALUES (NULL)":     1048,
		"CALL nowhere()":                       1305,
		"CALL commits()":                       1399,
		"CALL alters()":                        1399,
		"CALL says_no()":                       1644,
	}
	if !onMySQL {
		classes["BEGIN NOT ATOMIC UPDATE c SET v = 7; COMMIT; END"] = 1399
		classes["BEGIN NOT ATOMIC SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END"] = 1644
	}
	for script, code := range classes {
		err := n.fails(1, "UPDATE c SET v = v", script, "UPDATE c SET v = v")
		require.NotRegexp(t, "xmq_|UPDATE xmq|timestamp =", err.Error(), "%s: the writer's own text, and no more", script)
		if code > 0 {
			require.ErrorContains(t, err, fmt.Sprintf("Error %d", code), script)
			require.ErrorContains(t, err, "in line 1: ", script)
		}
	}
	require.Equal(t, "0", n.value("SELECT v FROM c"), "nothing of a procedure that commits")
	require.ErrorContains(t, n.fails(0, "CALL commits()"), "may neither commit")
	require.ErrorContains(t, n.fails(0, "UPDATE c SET v = 1;\n\nUPDATE c SET v = -1;"),
		"in line 3: \"UPDATE c SET v = -1\"")
	require.ErrorContains(t, n.fails(0, "CREATE DATABASE other"), "CREATE DATABASE")

	// Transient, as the real server says it. Each is tried again and then passes.
	passes := func(what string, script string, hinder, free func()) {
		t.Helper()
		before, batch := n.at(), n.log.Scripts(script)
		hinder()
		_, err := n.Apply(t.Context(), before, batch)
		require.True(t, nodeclient.IsTransient(err), "%s: %v", what, err)
		free()
		require.Equal(t, before, n.at(), what)
		_, err = n.Apply(t.Context(), before, batch)
		require.NoError(t, err, what)
	}
	require.NoError(t, server.Exec("mysql", "CREATE DATABASE "+n.db+"_free; CREATE TABLE "+n.db+
		"_free.c (v int); GRANT SELECT ON "+n.db+"_free.* TO xmq@'%'"))
	n.run("CREATE PROCEDURE raise_once(code int) BEGIN DECLARE n int; SELECT count(*) INTO n FROM " + n.db +
		"_free.c WHERE v = code; IF n = 0 THEN CALL raise(code); END IF; END")
	for _, code := range append(either([]int{1927, 1969}, []int{3024, 3058, 3101, 3168, 3169, 4031}), 1021, 1040, 1053,
		1114, 1158, 1161, 1180, 1203, 1205, 1213, 1290, 1317, 1412, 1836) {
		passes(fmt.Sprint(code), fmt.Sprintf("CALL raise_once(%d)", code), func() {}, func() {
			require.NoError(t, server.Exec(n.db+"_free", fmt.Sprintf("INSERT INTO c VALUES (%d)", code)))
		})
	}
	// Not raised but met: a killed session, a locked row.
	passes("an administrator ends the session", "UPDATE c SET v = v", func() {
		id := n.value("SELECT id FROM information_schema.processlist WHERE db = '" + n.db + "' AND user = 'xmq'")
		require.NoError(t, server.Exec("mysql", "KILL "+id))
	}, func() {})
	other, err := server.Connect(n.db)
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	tx, err := other.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, n.Database.s.do(t.Context(), "SET innodb_lock_wait_timeout = 1"))
	passes("a lock timeout", "UPDATE c SET v = 1", func() {
		_, err := tx.ExecContext(t.Context(), "UPDATE c SET v = 2")
		require.NoError(t, err)
	}, func() { require.NoError(t, tx.Rollback()) })

	// Fatal: the place is lost, or is another's.
	at := n.at()
	require.NoError(t, server.Exec(n.db, "DELETE FROM xmq_position"))
	_, err = n.Position(t.Context())
	require.True(t, nodeclient.IsFatal(err), err)
	require.ErrorContains(t, err, "0 rows instead of one")
	_, err = n.Apply(t.Context(), at, n.log.Scripts("UPDATE c SET v = v"))
	require.True(t, nodeclient.IsFatal(err), err)
	require.NoError(t, n.Seek(t.Context(), at))
	require.Equal(t, at, n.at())
	require.NoError(t, server.Exec(n.db, "UPDATE xmq_position SET log_id = '00000000000000ff'"))
	_, err = n.Apply(t.Context(), at, n.log.Scripts("UPDATE c SET v = v"))
	require.True(t, nodeclient.IsFatal(err), err)
	require.NoError(t, server.Exec(n.db, "UPDATE xmq_position SET log_id = 'x'"))
	_, err = n.Position(t.Context())
	require.True(t, nodeclient.IsFatal(err), err)
	require.NoError(t, server.Exec(n.db, "DROP TABLE xmq_position"))
	_, err = n.Apply(t.Context(), at, n.log.Scripts("UPDATE c SET v = v"))
	require.ErrorIs(t, err, nodeclient.ErrGone)
	require.True(t, nodeclient.IsTransient(err), err)
}

// A deadlock with another client is Transient, and passes.
func TestADeadlockIsTriedAgain(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (id int PRIMARY KEY, v int, pad int)", "INSERT INTO c VALUES (1, 0, 0), (2, 0, 0)")
	other, err := server.Connect(n.db)
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	tx, err := other.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	// the other weighs more
	_, err = tx.ExecContext(t.Context(),
		"UPDATE c SET v = 1, pad = 1 WHERE id = 2; INSERT INTO c SELECT 100 + seq, 0, 0 FROM "+series(3000))
	require.NoError(t, err)
	before, batch := n.at(), n.log.Scripts("UPDATE c SET v = v + 1 WHERE id = 1; UPDATE c SET v = v + 1 WHERE id = 2")
	got := make(chan error, 1)
	go func() {
		_, err := n.Apply(t.Context(), before, batch)
		got <- err
	}()
	locked := "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE " +
		"'%id = 2%'"
	require.Eventually(t, func() bool { return n.value(locked) == "1" }, patience, 200*time.Millisecond,
		"the server looks anew when nobody has asked for a while")
	_, err = tx.ExecContext(t.Context(), "UPDATE c SET v = 5 WHERE id = 1")
	require.NoError(t, err)
	err = <-got
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "Error 1213")
	require.NoError(t, tx.Rollback())
	_, err = n.Apply(t.Context(), before, batch)
	require.NoError(t, err)
	require.Equal(t, "1|1", n.value("SELECT max(v), min(v) FROM c"))
}

// A server that was made read only may become writable again.
func TestAReadOnlyServerIsWaitedFor(t *testing.T) {
	own := mysqltest.New(t)
	n := nodeOn(t, own, own.Addr())
	n.run("CREATE TABLE c (v int)")
	before, batch := n.at(), n.log.Scripts("INSERT INTO c VALUES (1)")
	change := append(batch[:1:1], n.log.Scripts("CREATE TABLE d (v int)")...)
	require.NoError(t, own.Exec("mysql", "SET GLOBAL read_only = 1"))
	require.Equal(t, before, n.at(), "the position can be read")
	_, err := n.Apply(t.Context(), before, batch)
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "Error 1290")
	require.NoError(t, own.Exec("mysql", "SET GLOBAL read_only = 0"))
	_, err = n.Apply(t.Context(), before, change)
	require.NoError(t, err)
	require.NoError(t, own.Halt())
	_, err = n.Position(t.Context())
	require.True(t, nodeclient.IsTransient(err), err)
	require.NoError(t, own.Run())
	require.Equal(t, change[1].Pos, n.at())
}

// TestXD20: "any unknown result of a target driver is FAIL; position unchanged", with a number nobody has heard of.
func TestXD20AnUnknownErrorIsAFail(t *testing.T) {
	n := newNode(t)
	n.run("CREATE PROCEDURE odd() SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 29999, MESSAGE_TEXT = 'odd'")
	require.ErrorContains(t, n.fails(0, "CALL odd()"), "Error 29999")
}

// What is refused is refused before anything ran.
func TestWhatAnIncrementMayNotSayIsRefusedBeforeItRuns(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	for script, why := range map[string]string{
		"COMMIT": "COMMIT would control",
		"BEGIN; INSERT INTO c VALUES (1); ROLLBACK": "would control",
		"SAVEPOINT a":                          "SAVEPOINT would control",
		"XA START 'x'":                         "XA would control",
		"SET autocommit = 0":                   "AUTOCOMMIT would control",
		"/*!40000 COMMIT */":                   "COMMIT would control",
		"DELETE FROM xmq_position":             "xmq_position",
		"DELETE FROM `XMQ_Position`":           "xmq_position",
		"/*!50000 DELETE FROM xmq_position */": "xmq_position",
		"CREATE TRIGGER x BEFORE INSERT ON c FOR EACH ROW BEGIN DELETE FROM xmq_position; END": "xmq_position",
		"SET @a = 1, sql_mode = ''":                                      "SET SQL_MODE",
		"SET @a = (SELECT max(v), 2 FROM c), @@timestamp = 1":            "changes the connection",
		"SET NAMES latin1":                                               "SET NAMES",
		"SET STATEMENT sql_mode = '' FOR INSERT INTO c VALUES (1)":       "SET STATEMENT",
		"SET GLOBAL read_only = 1":                                       "SET GLOBAL",
		"SET @xmq_at = 1":                                                "xmq_at",
		"CREATE TEMPORARY TABLE x (a int)":                               "temporary",
		"DROP TEMPORARY TABLE x":                                         "temporary",
		"LOAD DATA INFILE '/etc/passwd' INTO TABLE c":                    "LOAD reads a file",
		"SELECT * FROM c INTO OUTFILE '/tmp/x'":                          "OUTFILE writes a file",
		"SELECT 1 INTO /*!50000 DUMPFILE */ '/tmp/x'":                    "DUMPFILE writes a file",
		"INSERT INTO c VALUES (length(LOAD_FILE('/etc/passwd')))":        "reads a file",
		"SELECT 1 /*!999999 '*/; COMMIT; -- '*/":                         "executed by some servers only",
		"/*!50000 DO 1 /*!50000 ; SET sql_mode = '' */ */":               "inside an executed comment",
		"/*!50000 SELECT /* a */ 1 */":                                   "inside an executed comment",
		"SELECT 1 /*M!100600 + 1 */":                                     "executed by some servers only",
		"LOCK TABLES c WRITE":                                            "LOCK TABLES commits",
		"USE mysql":                                                      "USE changes",
		"PREPARE p FROM 'SELECT 1'":                                      "PREPARE works on the connection",
		"EXECUTE IMMEDIATE 'COMMIT'":                                     "EXECUTE works on the connection",
		"HANDLER c OPEN":                                                 "HANDLER works on the connection",
		"KILL 1":                                                         "KILL is no statement",
		"FLUSH TABLES":                                                   "FLUSH is no statement",
		"ANALYZE TABLE c":                                                "ANALYZE is no statement",
		"OPTIMIZE TABLE c":                                               "OPTIMIZE is no statement",
		"SHUTDOWN":                                                       "SHUTDOWN is no statement",
		"GRANT ALL ON *.* TO x":                                          "GRANT belongs to one server",
		"CREATE USER x":                                                  "CREATE USER changes the server",
		"DROP TABLES x":                                                  "DROP TABLES: write DROP TABLE",
		"DROP DATABASE x":                                                "DROP DATABASE changes the server",
		"CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM c":        "CREATE EVENT changes the server",
		"CREATE FUNCTION f RETURNS STRING SONAME 'x.so'":                 "SONAME",
		"CREATE TABLE x (a int) ENGINE=MyISAM":                           "engine myisam",
		"CREATE TABLE x (a int) ENGINE Aria":                             "engine aria",
		"CREATE TABLE x (a int) /*!50000 ENGINE = MEMORY */":             "engine memory",
		"ALTER TABLE c ENGINE = 'MyISAM'":                                "engine myisam",
		"CREATE TABLE x (a int) WITH SYSTEM VERSIONING":                  "SYSTEM VERSIONING",
		"CREATE TABLE x AS SELECT * FROM c":                              "SELECT changes schema and data",
		"DROP TABLE c, x":                                                "stop in the middle",
		"ALTER TABLE c IMPORT TABLESPACE":                                "files of one server",
		"CREATE TABLE x (a int); INSERT INTO x VALUES (1)":               "an increment of its own",
		"BEGIN; CREATE TABLE x (a int); CREATE TABLE y (a int); COMMIT":  "an increment of its own",
		"IF 1 THEN DELETE FROM c; END IF":                                "BEGIN NOT ATOMIC",
		"DO GET_LOCK('x', 1)":                                            "GET_LOCK",
		"DO release_all_locks()":                                         "RELEASE_ALL_LOCKS",
		"?":                                                              "no word of SQL",
		"SELECT $$ ' $$; COMMIT; -- '":                                   "may begin a string on some servers",
		"SELECT 'open":                                                   "quote",
		`{"sql": "SELECT ?", "args": [1]`:                                "begins with {",
		`{"sql": "SELECT ?", "args": [1], "more": 1}`:                    "more",
		`{"sql": "SELECT ?", "args": [1, 2]}`:                            "1 placeholder ? and 2 arguments",
		`{"sql": "SELECT 1; SELECT 2"}`:                                  "2 statements",
		`{"sql": ""}`:                                                    "0 statements",
		`{"sql": "SELECT 1"} x`:                                          "invalid character",
		`{"sql": "DELETE FROM xmq_position WHERE seq > ?", "args": [0]}`: "xmq_position",
	} {
		require.ErrorContains(t, n.fails(0, script), why, script)
	}
	require.ErrorContains(t, n.fails(1, "INSERT INTO c VALUES (1)", "INSERT INTO c VALUES (2); COMMIT"), "COMMIT")
	require.Equal(t, "1", n.value("SELECT count(*) FROM c"))
	require.Equal(t, []string{"c", "xmq_position"}, n.query("SELECT table_name FROM information_schema.tables WHERE "+
		"table_schema = database() ORDER BY 1"))
	n.run("CREATE PROCEDURE hidden() BEGIN SET @s = concat('DELETE FROM xmq_', 'position'); PREPARE s FROM @s; EXECUTE " +
		"s; END")
	require.Contains(t, n.fails(1, "INSERT INTO c VALUES (2)", "CALL hidden()", "SELECT 1").Error(),
		"keeps its position", "words do not show it, the position does")
	require.Equal(t, "2", n.value("SELECT count(*) FROM c"))
}

// What may be said beside INSERT, UPDATE and DELETE.
func TestWhatAnIncrementMaySay(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (id int AUTO_INCREMENT PRIMARY KEY, v int, engine varchar(9), s varchar(20))",
		"CREATE PROCEDURE two(x int) BEGIN INSERT INTO c (v) VALUES (x); INSERT INTO c (v) VALUES (last_insert_id()); "+
			"SELECT * FROM c; END",
		"SET @a = 1, @`b c` = 2; SET @a.x := @a + 1; INSERT INTO c (v) VALUES (@a.x + @`b c`)",
		"CALL two(10)",
		either("BEGIN NOT ATOMIC DECLARE i int DEFAULT 0; WHILE i < 3 DO INSERT INTO c (v, engine) VALUES (i, 'x'); SET i "+
			"= i + 1; END WHILE; END", "SELECT 1"),
		"INSERT INTO c (v) VALUES (100), (101); INSERT INTO c (v) VALUES (row_count())",
		"DELIMITER //\nINSERT INTO c (v) VALUES (7)//\nDO 1//", "(SELECT 1)", "WITH a AS (SELECT 1) SELECT * FROM a",
		either("VALUES (1)", "VALUES ROW(1)"), "",
		"-- nothing\n", "START TRANSACTION; INSERT INTO c (v) VALUES (8); COMMIT;",
		"/*!40000 INSERT INTO c (s) VALUES ('/*!40101') */",
		`{"sql": "INSERT INTO c (v, engine, s) VALUES (?, ?, ?)", "args": [-5, null, "it's \\ ü 😀"]}`,
		"ALTER TABLE c ADD COLUMN x int DEFAULT 3, ADD KEY (v)", "ALTER TABLE c ENGINE=InnoDB",
		"CREATE OR REPLACE VIEW w AS SELECT * FROM c WHERE v > 5", "TRUNCATE c", "TRUNCATE TABLE c",
		"INSERT INTO c (v) SELECT seq FROM "+series(3)+" ORDER BY seq", "RENAME TABLE c TO d", "DROP VIEW w",
		"DROP PROCEDURE two", "CREATE TABLE e LIKE d", "DROP TABLE IF EXISTS nowhere")
	require.Equal(t, []string{"1|1|3", "2|2|3", "3|3|3"}, n.query("SELECT id, v, x FROM d"))
}

// NOW(), RAND(), LAST_INSERT_ID() and variables mean the same whether an increment comes alone or with others, and the
// same on another node.
func TestIncrementsMeanTheSameHoweverBatchesFall(t *testing.T) {
	scripts := []string{
		"INSERT INTO c (v, r, a, l) VALUES (NOW(6), RAND(), @a, LAST_INSERT_ID()); SET @a = 5",
		"INSERT INTO c (v, r, a) VALUES (NOW(6), RAND(), @A); INSERT INTO c (v, r, a, l) VALUES (CURRENT_TIMESTAMP(6), " +
			"RAND(), UNIX_TIMESTAMP(), LAST_INSERT_ID())",
		"INSERT INTO c (a, l) VALUES (@`a`, LAST_INSERT_ID())",
		"CALL p(); INSERT INTO c (v, a) VALUES (NOW(6), @@sql_mode <> '')",
		"CALL p()",
		"INSERT INTO c (v, r, a, l, s) VALUES (NOW(6), RAND(), @@sql_mode <> '', f(), @@time_zone)",
	}
	var all [][]string
	for _, together := range []bool{true, false} {
		n := newNode(t)
		n.run("CREATE TABLE c (id int AUTO_INCREMENT PRIMARY KEY, v datetime(6), r double, a int, l bigint, s text, t "+
			"timestamp DEFAULT CURRENT_TIMESTAMP)",
			"CREATE PROCEDURE p() BEGIN "+either("CREATE TEMPORARY TABLE scratch (v int); ", "")+
				"SET SESSION sql_mode = '', time_zone = '+05:00', timestamp = 1, autocommit = 0, @left = 3; END",
			"CREATE FUNCTION f() RETURNS int RETURN @left")
		if together {
			n.run(scripts...)
		} else {
			for _, s := range scripts {
				n.run(s)
				require.NoError(t, n.reopen())
			}
		}
		all = append(all, n.query("SELECT * FROM c ORDER BY id"))
	}
	require.Len(t, all[0], 6)
	require.Equal(t, all[0], all[1])
	require.Contains(t, all[0][0], "|2024-01-01 00:00:04", "broker time")
	require.Contains(t, all[0][5], "|1|NULL|+00:00|", "what a procedure sets does not stay")
	require.Equal(t, "NULL", strings.Split(all[0][1], "|")[3], "a variable of another increment is not there")
	require.NotEqual(t, strings.Split(all[0][0], "|")[2], strings.Split(all[0][1], "|")[2],
		"each increment has its own random numbers")
}

// Pins that a statement carries are the same as pins in front of it, for what the statement, defaults and triggers
// ask; and what fails among them is named, with everything before it done.
func TestAStatementCarriesItsPins(t *testing.T) {
	var all [][]string
	for _, inline := range []bool{true, false} {
		n := newNode(t)
		own := *n.flavour
		own.inline = own.inline && inline
		n.flavour = &own
		n.run("CREATE TABLE c (id int AUTO_INCREMENT PRIMARY KEY, v datetime(6), r double, s double DEFAULT (RAND()), l "+
			"bigint, t timestamp(6) DEFAULT CURRENT_TIMESTAMP(6), u varchar(99) UNIQUE, n bigint)",
			"CREATE TRIGGER tr BEFORE INSERT ON c FOR EACH ROW SET NEW.n = LAST_INSERT_ID() * 1000 + RAND() * 100 + "+
				"UNIX_TIMESTAMP() % 7")
		n.run("INSERT INTO c (v, r, l, u) VALUES (NOW(6), RAND(), LAST_INSERT_ID(), 'a'), (NOW(6), RAND(), "+
			"LAST_INSERT_ID(), 'b')", "UPDATE c SET r = r + RAND(), v = NOW(6) WHERE id = 1",
			"insert into c (u, l) select concat(u, u), last_insert_id() from c",
			"REPLACE INTO c (u, l, r) VALUES ('b', LAST_INSERT_ID(), RAND())", "DELETE FROM c WHERE r > RAND() + 1.5",
			"SET @a = 1; INSERT INTO c (u, l, r, v) VALUES ('c', LAST_INSERT_ID(), RAND(), NOW(6)); INSERT INTO c (u, l, r, "+
				"v) VALUES ('d', LAST_INSERT_ID(), RAND(), NOW(6))",
			"INSERT INTO c (u, l) VALUES ('e', LAST_INSERT_ID())")
		err := n.fails(2, "INSERT INTO c (u) VALUES ('f')", "DELETE FROM c WHERE u = 'e'", "INSERT INTO c (u) VALUES ('a')",
			"DELETE FROM c")
		require.ErrorContains(t, err, "Error 1062")
		require.ErrorContains(t, err, "in line 1: \"INSERT INTO c (u) VALUES ('a')\"")
		n.run("INSERT INTO c (u, v) VALUES ('g', NOW(6))")
		all = append(all, n.query("SELECT v, r, s, l, t, u, n FROM c ORDER BY u"))
	}
	require.Len(t, all[0], 8)
	require.Equal(t, all[1], all[0])
}

// Settings of the server and of the user do not change what an increment means.
func TestSessionSettingsArePinned(t *testing.T) {
	limit := either("max_statement_time", "max_execution_time")
	own := mysqltest.New(t, "--default-time-zone=+09:00", "--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES",
		"--transaction-isolation=SERIALIZABLE", either("--max-statement-time=0.001", "--max-execution-time=1"),
		"--autocommit=0", "--auto-increment-increment=7", "--character-set-server=latin1", "--completion-type=1",
		"--init-connect=SET sql_select_limit=1",
		either("--explicit-defaults-for-timestamp=OFF", "--explicit-defaults-for-timestamp=ON"))
	n := nodeOn(t, own, own.Addr())
	n.run("CREATE TABLE s (id int AUTO_INCREMENT PRIMARY KEY, k text, v text) CHARACTER SET utf8mb4",
		`INSERT INTO s (k, v) SELECT variable_name, variable_value FROM `+
			either("information_schema", "performance_schema")+`.session_variables WHERE variable_name IN
		('time_zone', 'sql_mode', '`+either("tx_isolation", "transaction_isolation")+`', '`+limit+`', 'autocommit',
		'auto_increment_increment', 'character_set_client', 'collation_connection', 'foreign_key_checks',
		'unique_checks', 'default_storage_engine', 'completion_type', 'in_transaction', 'sql_select_limit') ORDER BY 1;
		INSERT INTO s (k, v) VALUES ("it\'s", sleep(0.01))`)
	require.Equal(t, either([]string{"1|AUTOCOMMIT|ON", "2|AUTO_INCREMENT_INCREMENT|1", "3|CHARACTER_SET_CLIENT|utf8mb4",
		"4|COLLATION_CONNECTION|utf8mb4_general_ci", "5|COMPLETION_TYPE|NO_CHAIN",
		"6|DEFAULT_STORAGE_ENGINE|InnoDB", "7|FOREIGN_KEY_CHECKS|ON", "8|IN_TRANSACTION|1", "9|MAX_STATEMENT_TIME|0.000000",
		"10|SQL_MODE|" + mariaMode, "11|SQL_SELECT_LIMIT|18446744073709551615",
		"12|TIME_ZONE|+00:00", "13|TX_ISOLATION|REPEATABLE-READ", "14|UNIQUE_CHECKS|ON"},
		[]string{"1|auto_increment_increment|1", "2|autocommit|ON", "3|character_set_client|utf8mb4",
			"4|collation_connection|utf8mb4_0900_ai_ci", "5|completion_type|NO_CHAIN", "6|default_storage_engine|InnoDB",
			"7|foreign_key_checks|ON", "8|max_execution_time|0", "9|sql_mode|" + mysqlMode,
			"10|sql_select_limit|18446744073709551615", "11|time_zone|+00:00", "12|transaction_isolation|REPEATABLE-READ",
			"13|unique_checks|ON"}),
		n.query("SET SESSION "+limit+" = 0, sql_mode = ''; SELECT * FROM s WHERE k <> 'it''s'"))
	require.Equal(t, "2024-01-01 00:00:02.000000", n.value("SET "+limit+" = 0; SELECT updated_at FROM xmq_position"),
		"broker time")
	n.run("CREATE TABLE stamped (id int PRIMARY KEY, seen timestamp)", "INSERT INTO stamped (id) VALUES (1)")
	require.Equal(t, []string{"NULL"}, n.query("SELECT coalesce(seen, 'NULL') FROM stamped"),
		"a TIMESTAMP has no default of its own")
}

// A table whose data would not follow a transaction is found when the target is opened.
func TestTablesOfOtherEnginesAreRefused(t *testing.T) {
	for script, why := range either(map[string]string{
		"CREATE TABLE m (a int) ENGINE=MyISAM": "the engine MyISAM", "CREATE TABLE m (a int) ENGINE=Aria": "the engine Aria",
		"CREATE TABLE m (a int) WITH SYSTEM VERSIONING": "keeps its history",
	}, map[string]string{"CREATE TABLE m (a int) ENGINE=MyISAM": "the engine MyISAM",
		"CREATE TABLE m (a int) ENGINE=MEMORY": "the engine MEMORY"}) {
		n := newNode(t)
		require.NoError(t, server.Exec(n.db, script))
		err := n.reopen()
		require.ErrorContains(t, err, why)
		require.False(t, nodeclient.IsTransient(err))
		require.NoError(t, server.Exec(n.db, "DROP TABLE m; CREATE VIEW m AS SELECT 1"+either("; CREATE SEQUENCE q", "")))
		require.NoError(t, n.reopen())
	}
}

// A table whose engine its increment does not say is found after it.
func TestAnEngineThatWordsDoNotShowIsAFail(t *testing.T) {
	n := newNode(t)
	require.NoError(t, server.Exec("mysql", "CREATE DATABASE "+n.db+"_other; CREATE TABLE "+n.db+
		"_other.m (a int) ENGINE=MyISAM; GRANT SELECT ON "+n.db+"_other.* TO xmq@'%'"))
	before, batch := n.at(), n.log.Scripts("CREATE TABLE x LIKE "+n.db+"_other.m")
	pos, err := n.Apply(t.Context(), before, batch)
	require.ErrorContains(t, err, "was done, but is not counted")
	require.ErrorContains(t, err, "ALTER TABLE `x` ENGINE=InnoDB")
	require.False(t, nodeclient.IsTransient(err) || nodeclient.IsFatal(err))
	require.Equal(t, before.Seq, pos.Seq)
	require.NoError(t, server.Exec(n.db, "ALTER TABLE x ENGINE=InnoDB"))
	// skip
	_, err = n.Apply(t.Context(), before,
		append([]event.Item{{Pos: batch[0].Pos}}, n.log.Scripts("INSERT INTO x VALUES (1)")...))
	require.NoError(t, err)
}

// A session that was idle for as long as the server lets it is not used.
func TestAnIdleSessionIsNotUsedAgain(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	id := "SELECT max(id) FROM information_schema.processlist WHERE db = '" + n.db + "' AND user = 'xmq'"
	was := n.value(id)
	n.Database.s.used = n.Database.s.used.Add(-idleTime)
	n.run("INSERT INTO c VALUES (1)")
	require.NotEqual(t, was, n.value(id))
}

// A session that the server has ended, as it does with idle ones, is no fault of the increment.
func TestASessionThatTheServerHasEndedIsReplaced(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	before, batch := n.at(), n.log.Scripts("INSERT INTO c VALUES (1)")
	require.NoError(t, n.Database.s.do(t.Context(), "SET SESSION wait_timeout = 1"))
	require.Eventually(t, func() bool {
		return n.value("SELECT count(*) FROM information_schema.processlist WHERE db = '"+n.db+"' AND user = 'xmq'") == "0"
	}, patience, tick)
	_, err := n.Apply(t.Context(), before, batch)
	require.True(t, nodeclient.IsTransient(err), err)
	_, err = n.Apply(t.Context(), before, batch)
	require.NoError(t, err)
	require.Equal(t, "1", n.value("SELECT count(*) FROM c"))
}

// A server with a setting that no session can change back is refused.
func TestAServerWithSettingsOfItsOwnIsRefused(t *testing.T) {
	for option, why := range either(map[string]string{"--secure-timestamp=YES": "runs with secure_timestamp=YES"},
		map[string]string{
			"--innodb-strict-mode=OFF":                "runs with innodb_strict_mode=OFF",
			"--sql-generate-invisible-primary-key=ON": "runs with sql_generate_invisible_primary_key=ON",
			"--explicit-defaults-for-timestamp=OFF":   "runs with explicit_defaults_for_timestamp=OFF"}) {
		own := mysqltest.New(t, option)
		own.Create(t, "d")
		_, err := Open(t.Context(), own.URL("d"), Options{})
		require.ErrorContains(t, err, why)
		require.False(t, nodeclient.IsTransient(err))
	}
}

// FuzzIncrement: no body makes the check panic; what passes has no transaction control, names no position, and a
// change of the schema stands alone.
func FuzzIncrement(f *testing.F) {
	for _, seed := range append([]string{`{"sql": "SELECT ?", "args": [null, true, 1e400, "a", {}, []]}`,
		`{"tx": [{"sql": "SELECT ?", "args": [{"base64": "AA=="}]}, {"sql": "DO 1"}]}`, "{", "{}", "BEGIN; SELECT 1; COMMIT",
		"/*!50000 x */", "SET @a=1,@@b=2", "@", "SET", "SET @", "RENAME TABLE",
		"CREATE", "DROP TABLE a", "(", "/*!", "SELECT @`", "CREATE TABLE t (a int) ENGINE", "TRUNCATE", "/*!*/",
		"/*!50000*/;SET"}, schema...) {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		w, err := parse(body)
		if err != nil {
			return
		}
		require.True(t, w.ddl == nil || len(w.statements) == 1)
		for _, st := range w.statements {
			_, _, found := sqltext.TransactionControl(sqltext.MariaDB, st.Text)
			require.False(t, found, st.Text)
			require.False(t, sqltext.Mentions(sqltext.MariaDB, st.Text, "xmq_position"), st.Text)
		}
	})
}

// Whatever an increment does to the table of the position is its FAIL; a node whose position a person has taken away
// ends, and says so.
func TestThePlaceIsNobodyElses(t *testing.T) {
	n := newNode(t)
	n.shared().PlaceIsNobodyElses(func() { require.NoError(t, server.Exec(n.db, "DROP TABLE xmq_position")) },
		"BEGIN NOT ATOMIC EXECUTE IMMEDIATE CONCAT('ALTER TABLE xmq_', 'position ADD x INT'); END",
		"BEGIN NOT ATOMIC EXECUTE IMMEDIATE CONCAT('UPDATE xmq_', 'position SET seq = seq + 7'); END",
		"EXECUTE IMMEDIATE CONCAT('ALTER TABLE xmq_', 'position ADD x INT')")
}
