package mysql

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/sqltext"
)

// bodies are statements with semicolons in them, as hard to cut as the grammar allows.
var bodies = append([]string{
	"CREATE TABLE a (n int, begin int, end int)",
	"CREATE TRIGGER t1 BEFORE INSERT ON a FOR EACH ROW BEGIN SET NEW.end = 1; SET NEW.begin = NEW.end; END",
	"CREATE TRIGGER t2 BEFORE UPDATE ON a FOR EACH ROW IF NEW.n < 0 THEN SET NEW.n = 0; ELSEIF NEW.n " +
		"> 9 THEN SET NEW.n = 9; ELSE SET NEW.n = 1; END IF",
	"CREATE TRIGGER t3 BEFORE UPDATE ON a FOR EACH ROW FOLLOWS t2 BEGIN SET NEW.begin = 3; END",
	"CREATE TRIGGER end AFTER DELETE ON a FOR EACH ROW SET @x = CASE WHEN OLD.end = 1 THEN OLD.begin ELSE OLD.end END",
	"CREATE PROCEDURE p1() BEGIN SELECT begin, end, n AS end FROM a; DELETE FROM a; END",
	"CREATE PROCEDURE p2() BEGIN SELECT (SELECT n AS end FROM a LIMIT 1), CASE end WHEN 1 THEN 2 END " +
		"AS end FROM a; DELETE FROM a; END",
	"CREATE PROCEDURE p3() WHILE @a < 3 DO SET @a = @a + 1; END WHILE",
	"CREATE PROCEDURE p4() NOT DETERMINISTIC MODIFIES SQL DATA SQL SECURITY INVOKER COMMENT 'BEGIN;' " +
		"REPEAT SET @a = 1; UNTIL CASE WHEN 1 THEN 1 END END REPEAT",
	"CREATE PROCEDURE p5() data: LOOP LEAVE data; END LOOP data",
	"CREATE PROCEDURE p6() l: BEGIN l2: LOOP LEAVE l2; END LOOP l2; END l",
	"CREATE PROCEDURE p7() BEGIN CASE 1 WHEN 1 THEN SELECT CASE WHEN 1 THEN 2 END; ELSE BEGIN END; " +
		"END CASE; IF IF(1, 2, 3) THEN SELECT REPEAT('x', 3); END IF; END",
	"CREATE PROCEDURE p8() BEGIN DECLARE CONTINUE HANDLER FOR SQLSTATE VALUE '23000', NOT FOUND, " +
		"1062 BEGIN SELECT 1; END; DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN END; SELECT 1; END",
	"CREATE PROCEDURE p9(INOUT a enum('begin;', 'b')) BEGIN IF CASE WHEN 1 THEN 1 ELSE 0 END THEN SELECT 1; END IF; END",
	"CREATE FUNCTION f1(a set('x')) RETURNS set('a', 'b') CHARSET utf8mb4 DETERMINISTIC RETURN a",
	"CREATE FUNCTION f2() RETURNS int DETERMINISTIC IF 1 THEN RETURN 1; ELSE RETURN 2; END IF",
	"CREATE FUNCTION f3() RETURNS int DETERMINISTIC l: BEGIN SELECT 1 INTO @x; RETURN 1; END",
	"CREATE EVENT do ON SCHEDULE EVERY 1 DAY STARTS '2036-01-01' ENDS '2037-01-01' COMMENT ';' DO " +
		"BEGIN DELETE FROM a; DELETE FROM a; END",
	"/*!50003 CREATE*/ /*!50003 PROCEDURE p10() BEGIN SELECT 1; END */",
}, either([]string{
	"CREATE PROCEDURE m1() BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION l: BEGIN END; SELECT n end " +
		"FROM a; SELECT CASE end WHEN begin THEN n ELSE end END end FROM a; END",
	"CREATE PROCEDURE m2() BEGIN DECLARE handler CURSOR FOR SELECT 1; FOR r IN (SELECT 1 AS end) DO " +
		"SELECT r.end; END FOR; FOR i IN 1..3 DO SELECT i; END FOR; END",
	"CREATE DEFINER=root@localhost FUNCTION IF NOT EXISTS m3(a int) RETURNS int RETURN a",
	"CREATE AGGREGATE FUNCTION m4(x int) RETURNS int BEGIN DECLARE CONTINUE HANDLER FOR NOT FOUND " +
		"RETURN 1; LOOP FETCH GROUP NEXT ROW; END LOOP; END",
	"IF @a IS NULL THEN INSERT INTO a VALUES (1, 2, 3); DELETE FROM a WHERE n = 7; END IF",
	"BEGIN NOT ATOMIC DECLARE x int; IF x IS NULL THEN INSERT INTO a VALUES (4, 5, 6); SET x = 1; END IF; END",
	"SET sql_mode = 'ORACLE'", "CREATE PACKAGE k AS PROCEDURE a(); FUNCTION b() RETURN int; END",
	"CREATE PACKAGE BODY k AS x int; PROCEDURE a() AS y int; BEGIN SELECT 1; END; FUNCTION b() " +
		"RETURN int AS BEGIN RETURN 1; END; BEGIN x := 1; END",
	"SET sql_mode = DEFAULT",
}, nil)...)

// A script is cut where the server cuts it: what the statements make one by one is what they make when the server
// gets them all in
// one text.
func TestAScriptIsCutWhereTheServerCutsIt(t *testing.T) {
	script := ""
	for _, s := range bodies {
		script += s + ";\nINSERT INTO passed VALUES (); -- ;\n"
	}
	const passed = "CREATE TABLE passed (n int AUTO_INCREMENT PRIMARY KEY);\n"
	whole, cut := database(t.Name()+"/whole"), database(t.Name()+"/cut")
	server.Create(t, whole)
	server.Create(t, cut)
	require.NoError(t, server.Exec(whole, passed+script))

	db, err := server.Connect(cut)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	c, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	var got []string
	for st, err := range sqltext.Statements(sqltext.MariaDB, passed+script) {
		require.NoError(t, err)
		got = append(got, st.Text)
		_, err = c.ExecContext(t.Context(), st.Text)
		require.NoError(t, err, st.Text)
	}
	require.Len(t, got, 1+2*len(bodies))
	require.Equal(t, strings.TrimSuffix(passed, ";\n"), got[0])
	for i, s := range bodies {
		require.Equal(t, s, got[1+2*i])
	}
	for _, sql := range []string{
		// MySQL keeps the ; after a statement of several as a part of its body
		"SELECT routine_name, routine_type, trim(TRAILING ';' FROM routine_definition), routine_comment FROM " +
			"information_schema.routines WHERE routine_schema = database() ORDER BY 1, 2",
		"SELECT trigger_name, action_timing, event_manipulation, action_order, trim(TRAILING ';' FROM " +
			"action_statement) FROM information_schema.triggers WHERE trigger_schema = database() ORDER BY 1",
		"SELECT event_name, trim(TRAILING ';' FROM event_definition) FROM information_schema.events WHERE event_schema = " +
			"database()",
		"SELECT * FROM a", "SELECT count(*) FROM passed",
	} {
		require.Equal(t, server.Query(t, whole, sql), server.Query(t, cut, sql), sql)
	}
}
