package sqltext

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Words of blocks are names where the grammar has no place for a block, and block words where it has.
func TestABodyIsCutWhereTheServerEndsIt(t *testing.T) {
	for _, whole := range []string{
		"CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN SET NEW.end = 1; SET NEW.begin = NEW.end; END",
		"CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW FOLLOWS begin BEGIN SET NEW.n = 1; END",
		"CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW IF NEW.n < 0 THEN SET NEW.n = 0; ELSEIF NEW.n " +
			"> 9 THEN SET NEW.n = 9; ELSE SET NEW.n = 1; END IF",
		"CREATE TRIGGER end BEFORE INSERT ON begin FOR EACH ROW SET NEW.end = CASE WHEN end = 1 THEN begin ELSE end END",
		"CREATE PROCEDURE p() BEGIN SELECT begin, end, n AS end, n end FROM a; DELETE FROM a; END",
		"CREATE PROCEDURE p() BEGIN SELECT (SELECT n end FROM a LIMIT 1), CASE end WHEN 1 THEN 2 END end " +
			"FROM a; DELETE FROM a; END",
		"CREATE PROCEDURE p() WHILE @a < 3 DO SET @a = @a + 1; END WHILE",
		"CREATE PROCEDURE p() NOT DETERMINISTIC MODIFIES SQL DATA SQL SECURITY INVOKER COMMENT 'BEGIN;' " +
			"REPEAT SET @a = 1; UNTIL CASE WHEN 1 THEN 1 END END REPEAT",
		"CREATE PROCEDURE p() data: LOOP LEAVE data; END LOOP data",
		"CREATE PROCEDURE p() l: BEGIN l2: LOOP LEAVE l2; END LOOP l2; END l",
		"CREATE PROCEDURE p() BEGIN CASE 1 WHEN 1 THEN SELECT CASE WHEN 1 THEN 2 END; ELSE BEGIN END; " +
			"END CASE; IF IF(1, 2, 3) THEN SELECT REPEAT('x', 3); END IF; END",
		"CREATE PROCEDURE p() BEGIN DECLARE CONTINUE HANDLER FOR SQLSTATE VALUE '23000', NOT FOUND, 1062 " +
			"BEGIN SELECT 1; END; DECLARE EXIT HANDLER FOR SQLEXCEPTION l: BEGIN END; SELECT 1; END",
		"CREATE PROCEDURE p() BEGIN DECLARE handler CURSOR FOR SELECT 1; FOR r IN (SELECT 1 AS do) DO " +
			"SELECT r.do; END FOR; FOR i IN 1..3 DO SELECT i; END FOR; END",
		"CREATE PROCEDURE p(INOUT a enum('begin;', 'b')) BEGIN IF CASE WHEN 1 THEN 1 ELSE 0 END THEN SELECT 1; END IF; END",
		"CREATE OR REPLACE DEFINER=function@trigger FUNCTION IF NOT EXISTS f(a set('x')) RETURNS " +
			"set('a', 'b') CHARSET utf8mb4 RETURN a",
		"CREATE FUNCTION f() RETURNS TYPE OF a.begin l: BEGIN SELECT 1 INTO @x; RETURN 1; END",
		"CREATE FUNCTION f() RETURNS int IF 1 THEN RETURN 1; ELSE RETURN 2; END IF",
		"CREATE FUNCTION f RETURNS STRING SONAME 'x.so'",
		"CREATE EVENT do ON SCHEDULE EVERY 1 DAY STARTS '2026-01-01' ENDS '2027-01-01' COMMENT ';' DO " +
			"BEGIN DELETE FROM a; DELETE FROM b; END",
		"ALTER EVENT e RENAME TO f",
		"CREATE PACKAGE p AS PROCEDURE a(); FUNCTION b() RETURN int; END",
		"CREATE PACKAGE BODY p AS x int; PROCEDURE a() AS y int; BEGIN SELECT 1; END; FUNCTION b() " +
			"RETURN int AS BEGIN RETURN 1; END; BEGIN SET x = 1; END",
		"IF @a THEN DELETE FROM a; DELETE FROM b; END IF",
		"l: LOOP SELECT 1; LEAVE l; END LOOP l",
		"BEGIN NOT ATOMIC DECLARE x int; IF x THEN SET x = 1; END IF; END",
		"BEGIN NOT ATOMIC BEGIN END; SELECT 1; END",
		"CREATE TABLE trigger (event int, begin int, end int)", "ALTER TABLE a ADD begin int",
		"ALTER FUNCTION f COMMENT 'x'", "DROP TRIGGER t",
	} {
		got, err := split(MariaDB, whole+"; SELECT 'next';", 1<<10)
		require.NoError(t, err, whole)
		require.Equal(t, []string{strings.Replace(whole, "DEFINER=function@trigger ", "", 1) + ";", "SELECT 'next';"}, got)
		all, err := Increment(MariaDB, whole)
		require.NoError(t, err, whole)
		require.Len(t, all, 1, whole)
		require.Equal(t, whole, all[0].Text)
	}
	for d, all := range map[Dialect][]string{
		PostgreSQL: {
			"SELECT E'a'\n'b\\'; c', 'd' -- ;\n -- ;\n'\\', ';'",
			"SELECT 'a' /* no\n */ ';'", "SELECT ($$;$$;)", "SELECT 1) + (2;)",
			"CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1 AS end; SELECT a.end, CASE " +
				"WHEN true THEN 2 END AS case FROM a; END",
			"SELECT :'x', a[1:2], U&\"a;b\", U&'d\\0061t'",
		},
		SQLite: {
			"EXPLAIN CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; DELETE FROM c; END",
			"CREATE INDEX i ON trigger (a)", "EXPLAIN SELECT trigger FROM a",
		},
	} {
		for _, whole := range all {
			got, err := split(d, whole+"; SELECT 2", 1<<10)
			require.NoError(t, err, whole)
			require.Equal(t, []string{whole + ";", "SELECT 2;"}, got)
		}
	}
	for _, open := range []string{"SELECT 1; /* open", "SELECT 1 /* open; SELECT 2"} {
		got, err := split(SQLite, open, 1<<10)
		require.NoError(t, err)
		require.Equal(t, []string{"SELECT 1;"}, got, "SQLite takes the end of the text for the end of a comment")
	}
}

// What does not follow the grammar is refused rather than cut, and DELIMITER says where it ends.
func TestWhatCannotBeToldApartIsRefused(t *testing.T) {
	for _, unsure := range []string{
		"CREATE PROCEDURE p AS BEGIN SELECT 1; END",
		"CREATE PROCEDURE p() BEGIN IF 1 THEN SELECT 1; END LOOP; END",
		"CREATE PROCEDURE p() BEGIN EXCEPTION WHEN x THEN IF 1 THEN DELETE FROM a; END IF; END",
		"CREATE PROCEDURE p() BEGIN SELECT (1; SELECT 2); END",
		"CREATE FUNCTION f() RETURNS int LANGUAGE JAVASCRIPT AS $$ a; b; $$",
		"CREATE TRIGGER t AFTER INSERT ON a WHENEVER BEGIN DELETE FROM a; END",
		"SET STATEMENT max_statement_time = 1 FOR BEGIN NOT ATOMIC DELETE FROM a; END",
	} {
		_, err := split(MariaDB, "SELECT 0;\n"+unsure+";\nSELECT 2;", 1<<10)
		require.ErrorContains(t, err, "line 2: it cannot be told where this", unsure)
		require.ErrorContains(t, err, "DELIMITER //", unsure)
		_, err = Increment(MariaDB, unsure)
		require.Error(t, err, unsure)

		got, err := split(MariaDB, "DELIMITER // -- speaks to the client\n"+unsure+"//\nDELIMITER ;\nSELECT 2;", 1<<10)
		require.NoError(t, err, unsure)
		require.Len(t, got, 2)
		all, err := Increment(MariaDB, got[0])
		require.NoError(t, err, "the increment says itself where the statement ends")
		require.Len(t, all, 1)
		require.Equal(t, unsure, all[0].Text)
	}
}

// A command of a client is no SQL, wherever the client would look for it.
func TestCommandsOfClientsAreRefused(t *testing.T) {
	for text, d := range map[string]Dialect{
		"SELECT 1 \\gset\n SELECT 2;": PostgreSQL, "\\copy a FROM 'x'\n": PostgreSQL, "\\.\n": PostgreSQL,
		"SELECT 1 \\; SELECT 2;": PostgreSQL,
		".read x.sql\nSELECT 1;": SQLite, "SELECT 1\\G\n": MariaDB, "\\! ls\n": MariaDB,
	} {
		_, err := split(d, text, 1<<10)
		require.ErrorContains(t, err, "is a command of", text)
	}
	got, err := split(MariaDB, "/*M!999999\\- enable the sandbox mode */\nINSERT INTO a VALUES (\\N);", 1<<10)
	require.NoError(t, err)
	require.Equal(t, []string{"INSERT INTO a VALUES (\\N);"}, got)
}
