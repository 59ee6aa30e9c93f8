package sqlite

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What SQLite cannot read is refused in its words, with the line.
func TestWhatSQLiteCannotReadIsRefused(t *testing.T) {
	for script, why := range map[string]string{
		"SELEC 1":                           `line 1: near "SELEC": syntax error; did you mean SELECT?`,
		"SELECT 1;\n\nhello":                `line 3: near "hello": syntax error`,
		"INSERT INTO t VALUES (1":           "line 1: it is not complete",
		"CREATE TABLE t (a int,)":           `near ")": syntax error`,
		"CREATE TABEL t (a int)":            `near "TABEL": syntax error`,
		"UPDATE t a = 1":                    `near "a": syntax error`,
		"INSERT INOT t VALUES (1)":          `near "INOT": syntax error`,
		"SELECT 1 FROM":                     "it is not complete",
		"SELECT * FORM t":                   `near "FORM": syntax error`,
		"SELECT 1)":                         `near ")": syntax error`,
		"SELECT 0x":                         `unrecognized token: "0x"`,
		"INSERT INTO t VALUES (x'0')":       `unrecognized token: "x'0'"`,
		"SHOW TABLES":                       `near "SHOW": syntax error`,
		"CREATE TABLE a (b); SELECT ! FROM": "unrecognized token",
		"CREATE TRIGGER a AFTER INSERT ON b BEGIN SELEC 1; END": `near "SELEC": syntax error`,
		"CREATE TRIGGER main.a INSTEAD OF UPDATE OF x ON [b] " +
			"FOR EACH ROW WHEN new.x > 1\nBEGIN DELETE FORM b; END": `near "FORM": syntax error`,
	} {
		require.ErrorContains(t, Check([]byte(script)), why, script)
	}
	body, err := json.Marshal(map[string]any{"tx": []any{map[string]any{"sql": "SELECT 1"},
		map[string]any{"sql": "SELEC ?", "args": []any{"it's"}}}})
	require.NoError(t, err)
	require.ErrorContains(t, Check(body), `statement 2: near "SELEC": syntax error; did you mean SELECT?`)
}

// Nothing is refused for what the parser's empty database does not have; whatever takes its time is not asked of it,
// and nothing is done.
func TestOnlyTheGrammarIsAsked(t *testing.T) {
	var bomb strings.Builder // each part of it doubles what a plan would be made of
	bomb.WriteString("WITH c0 AS (SELECT 1 AS x)")
	for i := range 60 {
		fmt.Fprintf(&bomb, ", c%d AS (SELECT p.x FROM c%d p, c%d q)", i+1, i, i)
	}
	bomb.WriteString(" SELECT * FROM c60")
	for _, right := range []string{
		"ALTER TABLE t RENAME TO u", "ALTER TABLE t ADD COLUMN a", "ANALYZE", "ANALYZE t", "DELETE FROM t WHERE a = 1",
		"DROP TABLE t",
		"DROP TABLE IF EXISTS t", "EXPLAIN SELECT 1", "EXPLAIN QUERY PLAN SELECT * FROM t", "INSERT INTO t DEFAULT VALUES",
		"INSERT INTO t SELECT * FROM u WHERE nofunction(a)", "PRAGMA user_version = 7", "PRAGMA foreign_keys = OFF",
		"REINDEX", "REINDEX t",
		"REPLACE INTO t VALUES (1)", "SELECT * FROM t", "SELECT nofunction(1)", "UPDATE t SET a = 1", "VALUES (1), (2)",
		"WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", "CREATE TABLE t (a, b) STRICT",
		"CREATE TABLE t AS SELECT * FROM u",
		"CREATE VIRTUAL TABLE f USING nomodule(a, b)", "CREATE VIRTUAL TABLE f USING fts5(a)", "CREATE INDEX i ON t (a)",
		"CREATE VIEW v AS SELECT * FROM t", "CREATE TRIGGER r AFTER INSERT ON t BEGIN UPDATE u SET a = 1; SELECT 1; END",
		"CREATE TRIGGER IF NOT EXISTS \"on\" INSTEAD OF INSERT ON v BEGIN INSERT INTO t VALUES (new.a); END",
		"CREATE TRIGGER r BEFORE UPDATE OF a, b ON \"t t\" WHEN new.a IS NOT old.a BEGIN SELECT RAISE(ABORT, 'no'); END",
		"INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2 RETURNING *", "DROP TABLE sqlite_sequence",
		"DELETE FROM sqlite_sequence", "SELECT 'near \"x\": syntax error'", "UPDATE t SET a = 1 FROM u",
		"CREATE TABLE sqlite_x (a)", `SELECT "near ""x"": syntax error" FROM t`, "INSERT INTO t VALUES " +
			strings.Repeat("(1, 'a'), ", 30000) + "(1, 'a')", bomb.String(), "CREATE TABLE big AS " + bomb.String(),
		"SELECT 1 WHERE 1 = " + strings.Repeat("1 + ", 5000) + "1",
	} {
		require.NoError(t, Check([]byte(right)), "%.200s", right)
	}
}

// What would stand in another schema than main is refused before it is stored, in whatever quotes the schema stands:
// every node would say FAIL to it, or that there is no such database.
func TestWhatWouldStandInAnotherSchemaIsRefused(t *testing.T) {
	for script, why := range map[string]string{
		"CREATE TABLE temp.c (v)":                                                   "line 1: a temporary object",
		"CREATE TABLE IF NOT EXISTS [Temp].c (v)":                                   "line 1: a temporary object",
		"INSERT INTO c VALUES (1);\nCREATE VIEW \"temp\".c AS SELECT 1":             "line 2: a temporary object",
		"CREATE VIRTUAL TABLE `temp`.f USING fts5(a)":                               "line 1: a temporary object",
		"CREATE TRIGGER 'temp' . r AFTER INSERT ON t BEGIN SELECT 1; END":           "line 1: a temporary object",
		"CREATE TABLE other.x (a)":                                                  "line 1: it makes something in other",
		"CREATE UNIQUE INDEX temp.i ON c (v)":                                       "line 1: a temporary object",
		`{"tx": [{"sql": "SELECT 1"}, {"sql": "CREATE TABLE temp.x AS SELECT 1"}]}`: "statement 2",
	} {
		require.ErrorContains(t, Check([]byte(script)), why, script)
	}
	for _, right := range []string{
		"CREATE TABLE main.x (a)", "CREATE TABLE temp (c)", "CREATE TABLE x (temp, c)", "CREATE INDEX i ON temp (c)",
		"CREATE TABLE temp.x (a); INSERT INTO c SELECT * FROM x; DROP TABLE temp.x", "CREATE TABLE x AS SELECT * FROM a.b",
		"CREATE TRIGGER main.r AFTER INSERT ON temp BEGIN SELECT 1; END",
	} {
		require.NoError(t, Check([]byte(right)), right)
	}
}
