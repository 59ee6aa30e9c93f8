package sqlite

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// kept is what the columns of a row hold: its storage class and value, as SQLite itself writes them.
func (n *node) kept(k int) string {
	n.Helper()
	const both = "typeof(%[1]s) || ' ' || quote(%[1]s)"
	var parts []string
	for _, column := range []string{"a", "i", "x", "r", "b", "d"} {
		parts = append(parts, fmt.Sprintf(both, column))
	}
	return query[string](n.T, n.db, "SELECT "+strings.Join(parts, " || '; ' || ")+" FROM t WHERE k = ?", k)
}

const everyAffinity = "CREATE TABLE t (k INTEGER PRIMARY KEY, a, i INTEGER, x TEXT, r REAL, b BLOB, d NUMERIC)"

// Each kind of argument becomes what the same literal becomes, in a column of each affinity; integers of 64 bits,
// bytes, texts with a NUL and numbers as they were written keep their value.
func TestArgumentsEqualLiterals(t *testing.T) {
	n := newNode(t)
	n.run(everyAffinity)
	k := 0
	for _, c := range []struct{ arg, literal, bare string }{
		{"null", "NULL", "null NULL"},
		{"true", "TRUE", "integer 1"},
		{"false", "FALSE", "integer 0"},
		{"0", "0", "integer 0"},
		{"-5", "-5", "integer -5"},
		{"9007199254740993", "9007199254740993", "integer 9007199254740993"},
		{"9223372036854775807", "9223372036854775807", "integer 9223372036854775807"},
		{"-9223372036854775808", "-9223372036854775808", "integer -9223372036854775808"},
		{"9223372036854775808", "9223372036854775808", "real 9.22337203685477"},
		{"1.10", "1.10", "real 1.1"},
		{"0.1", "0.1", "real 0.1"},
		{"1e3", "1e3", "real 1000.0"},
		{`""`, "''", "text ''"},
		{`"it's \\ \"x\" ü 😀\n?"`, "'it''s \\ \"x\" ü 😀\n?'", "text "},
		{`"9007199254740993"`, "'9007199254740993'", "text '9007199254740993'"},
		{`"12.50"`, "'12.50'", "text '12.50'"},
		{`"2026-11-30 09:57:58.123456"`, "'2026-11-30 09:57:58.123456'", "text '2026-11-30 09:57:58.123456'"},
		{`"a\u0000b"`, "+CAST(x'610062' AS TEXT)", "text "},
		{`{"base64": ""}`, "x''", "blob X''"},
		{`{"base64": "AP+AJw=="}`, "x'00ff8027'", "blob X'00FF8027'"},
		{`{"a": [1, 2.50, "it's"]}`, `'{"a": [1, 2.50, "it''s"]}'`, "text "},
		{`[]`, "'[]'", "text '[]'"},
	} {
		n.run(fmt.Sprintf(`{"sql": "INSERT INTO t VALUES (?1, ?2, $2, ?2, ?2, $2, ?2)", "args": [%d, %s]}`, k, c.arg),
			fmt.Sprintf("INSERT INTO t VALUES (%d%s)", k+1, strings.Repeat(", "+c.literal, 6)))
		require.Equal(t, n.kept(k+1), n.kept(k), c.arg)
		require.True(t, strings.HasPrefix(n.kept(k), c.bare), "%s: %s", c.arg, n.kept(k))
		k += 2
	}
	require.Equal(t, 3, query[int](t, n.db,
		"SELECT length(CAST(a AS BLOB)) FROM t WHERE typeof(a) = 'text' AND instr(CAST(a AS BLOB), x'00')"))
}

// The same for values that nobody chose.
func TestArgumentsEqualLiteralsWhateverTheyAre(t *testing.T) {
	n := newNode(t)
	n.run(everyAffinity)
	k := 0
	rapid.Check(t, func(r *rapid.T) {
		arg, literal := "", ""
		switch rapid.IntRange(0, 3).Draw(r, "kind") {
		case 0:
			arg = fmt.Sprint(rapid.Int64().Draw(r, "integer"))
			literal = arg
		case 1:
			arg = rapid.StringMatching(`-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?`).Draw(r, "number")
			literal = arg
		case 2:
			s := rapid.String().Draw(r, "text")
			b, err := json.Marshal(s)
			require.NoError(r, err)
			arg, literal = string(b), "+CAST(x'"+hex.EncodeToString([]byte(s))+"' AS TEXT)"
		case 3:
			b := rapid.SliceOf(rapid.Byte()).Draw(r, "bytes")
			arg, literal = `{"base64": "`+base64.StdEncoding.EncodeToString(b)+`"}`, "x'"+hex.EncodeToString(b)+"'"
		}
		n.run(fmt.Sprintf(`{"tx": [{"sql": "INSERT INTO t VALUES (?, ?, 0, 0, 0, 0, 0)", "args": [%d, %s]}, {"sql": `+
			`"UPDATE t SET (i, x, r, b, d) = (?1, ?1, ?1, ?1, ?1) WHERE k = ?2", "args": [%[2]s, %[1]d]}]}`, k, arg),
			fmt.Sprintf("INSERT INTO t VALUES (%d%s)", k+1, strings.Repeat(", "+literal, 6)))
		require.Equal(r, n.kept(k+1), n.kept(k), arg)
		k += 2
	})
}

// Several statements with arguments are one increment: all of them, or none, and the message says which one failed.
func TestAnIncrementOfSeveralStatementsIsOneTransaction(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE t (k INTEGER PRIMARY KEY, v)",
		`{"tx": [{"sql": "INSERT INTO t VALUES (?, ?)", "args": [1, "a;b"]}, {"sql": "UPDATE t SET v = v || `+
			`last_insert_rowid() || changes() WHERE k = $1;", "args": [1]}, {"sql": "INSERT INTO t SELECT k + 1, v FROM t"}]}`)
	require.Equal(t, "1 a;b11,2 a;b11", query[string](t, n.db, "SELECT group_concat(k || ' ' || v) FROM t"))
	err := n.fails(1, "DELETE FROM t WHERE k = 2",
		`{"tx": [{"sql": "DELETE FROM t"}, {"sql": "INSERT INTO t VALUES (?, ?)", "args": [5, 5]}, {"sql": "INSERT INTO t `+
			`VALUES\n(?, ?)", "args": [5, 6]}]}`)
	require.ErrorContains(t, err, "UNIQUE constraint failed")
	require.ErrorContains(t, err, "in statement 3: ")
	require.Equal(t, "1", query[string](t, n.db, "SELECT group_concat(k) FROM t"))
	n.run(`{"tx": [{"sql": "PRAGMA foreign_keys = OFF"}, {"sql": "INSERT INTO t VALUES (7, ?)", "args": [null]}]}`,
		`{"sql": "CREATE TABLE u (a DEFAULT (?))", "args": [{"base64": "AA=="}]}`)
	require.Equal(t, 2, query[int](t, n.db, "SELECT count(*) FROM t"))
}

// What an argument says is data, whatever it looks like: it is no name, no word that is refused, and no table.
func TestArgumentsAreData(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE t (v)")
	hostile := []string{"xmq_position", "total_changes", "'); COMMIT; --", "?", "?1", ":a", "$1", "\"", "x'", "\\", "/*",
		"--", "", ";", "[", "NULL", "defer changes"}
	for _, s := range hostile {
		arg, err := json.Marshal(s)
		require.NoError(t, err)
		n.run(fmt.Sprintf(`{"sql": "INSERT INTO t SELECT ?1 WHERE ?1 = $1", "args": [%s]}`, arg))
		require.Equal(t, s, query[string](t, n.db, "SELECT v FROM t ORDER BY rowid DESC LIMIT 1"))
	}
	require.Equal(t, len(hostile), query[int](t, n.db, "SELECT count(*) FROM t"))
	for _, body := range []string{`{"sql": "DELETE FROM ?", "args": ["xmq_position"]}`,
		`{"sql": "DROP TABLE ?", "args": ["t"]}`, `{"sql": "UPDATE ? SET v = 1", "args": ["t"]}`} {
		require.ErrorContains(t, n.fails(0, body), "syntax error")
	}
}

// What does not fit together is refused before anything runs, with a sentence that names the statement and argument.
func TestWrongArgumentsAreRefusedBeforeTheyRun(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE t (k INTEGER PRIMARY KEY, v)")
	for body, why := range map[string]string{
		"INSERT INTO t VALUES (1, ?)": `line 1: it has the placeholder ? and no arguments: ` +
			`send {"sql": ..., "args": [...]}`,
		"SELECT 1;\nSELECT :v":                                      "line 2: it has the placeholder :v and no arguments",
		`{"sql": "INSERT INTO t VALUES (?, ?)", "args": [1]}`:       "it has 2 placeholders ? and 1 argument",
		`{"sql": "INSERT INTO t VALUES (?, ?)", "args": [1, 2, 3]}`: "it has 2 placeholders ? and 3 arguments",
		`{"sql": "INSERT INTO t VALUES (?, 1)"}`:                    "it has 1 placeholder ? and 0 arguments",
		`{"tx": [{"sql": "DELETE FROM t"}, ` +
			`{"sql": "INSERT INTO t VALUES (?2, ?1)", "args": [1]}]}`: "statement 2: its placeholders go up to ?2, and it has " +
			"1 argument",
		`{"tx": [{"sql": "DELETE FROM t"}, {"sql": "COMMIT"}]}`: "statement 2: line 1: COMMIT would control the transaction",
		`{"tx": [{"sql": "DELETE FROM t; DELETE FROM t"}]}`:     "statement 1: \"sql\" has 2 statements",
		`{"tx": [{"sql": "DELETE FROM xmq_position ` +
			`WHERE seq > ?", "args": [0]}]}`: "statement 1: it mentions xmq_position",
		`{"sql": "INSERT INTO t VALUES (?, ?)", "args": [1, ` +
			`{"base64": "AA"}]}`: "argument 2: ",
		`{"sql": "INSERT INTO t VALUES (?, ?)", ` +
			`"args": [1, 2], "sql": "DELETE FROM t"}`: `the field "sql" stands there twice`,
		`{"sql": "INSERT INTO t VALUES (?, ` +
			`?)", "args": [1, 2], "topic": "x"}`: `the field "topic" is not known`,
		`{"sql": "INSERT INTO t VALUES (1, 2)", "args": [1, }`: "it begins with {, as no SQL does, so it has to be JSON",
	} {
		require.ErrorContains(t, Check([]byte(body)), why, body)
		require.ErrorContains(t, n.fails(0, body), why, body)
	}
	require.Equal(t, 0, query[int](t, n.db, "SELECT count(*) FROM t"))
}
