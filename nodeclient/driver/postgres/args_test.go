package postgres

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

// Each kind of argument becomes what the same literal becomes, in a column of each type that takes it, sent the first
// time and prepared: integers beyond 2^53, decimals of any length, bytes, times.
func TestArgumentsEqualLiterals(t *testing.T) {
	n := newNode(t)
	for i, c := range []struct{ column, arg, literal, want string }{
		{"int8", "9007199254740993", "9007199254740993", "9007199254740993"},
		{"int8", "-9223372036854775808", "-9223372036854775808", "-9223372036854775808"},
		{"numeric", "123456789012345678901234567890.10", "123456789012345678901234567890.10",
			"123456789012345678901234567890.10"},
		{"numeric", "-0.000000000000000000000000000010", "-0.000000000000000000000000000010",
			"-0.000000000000000000000000000010"},
		{"numeric", "1.50e3", "1.50e3", "1500"},
		{"float8", "0.1", "0.1", "0.1"},
		{"float8", "1e-300", "1e-300", "1e-300"},
		{"text", "1.10", "1.10", "1.10"},
		{"text", "9007199254740993", "9007199254740993", "9007199254740993"},
		{"bool", "true", "true", "true"},
		{"bool", "false", "false", "false"},
		{"text", "null", "NULL", ""},
		{"bytea", "null", "NULL", ""},
		{"text", `""`, "''", ""},
		{"text", `"it's \\ \"x\" ü 😀\n$1"`, "'it''s \\ \"x\" ü 😀\n$1'", "it's \\ \"x\" ü 😀\n$1"},
		{"bytea", `{"base64": ""}`, `'\x'`, `\x`},
		{"bytea", `{"base64": "AP+AJw=="}`, `'\x00ff8027'`, `\x00ff8027`},
		{"timestamptz", `"2026-11-30T09:57:58.123456Z"`, "'2026-11-30T09:57:58.123456Z'", "2026-11-30 09:57:58.123456+00"},
		{"timestamptz", `"2026-11-30 11:57:58+02:00"`, "'2026-11-30 11:57:58+02:00'", "2026-11-30 09:57:58+00"},
		{"timestamp", `"2026-11-30 09:57:58.123456"`, "'2026-11-30 09:57:58.123456'", "2026-11-30 09:57:58.123456"},
		{"date", `"2026-11-30"`, "'2026-11-30'", "2026-11-30"},
		{"interval", `"1 day 2 hours"`, "'1 day 2 hours'", "1 day 02:00:00"},
		{"jsonb", `{"a": [1, 2.50, "it's"]}`, `'{"a": [1, 2.50, "it''s"]}'`, `{"a": [1, 2.50, "it's"]}`},
		{"jsonb", `[]`, "'[]'", "[]"},
		{"int4[]", `"{1,2}"`, "'{1,2}'", "{1,2}"},
		{"uuid", `"7b8f27f4-91fd-4c4b-b5a3-8f7d1c7f2a10"`, "'7b8f27f4-91fd-4c4b-b5a3-8f7d1c7f2a10'",
			"7b8f27f4-91fd-4c4b-b5a3-8f7d1c7f2a10"},
	} {
		n.run(fmt.Sprintf("CREATE TABLE t%d (k int PRIMARY KEY, v %s)", i, c.column))
		insert := func(k int) string {
			return fmt.Sprintf(`{"sql": "INSERT INTO t%d VALUES ($1, $2)", "args": [%d, %s]}`, i, k, c.arg)
		}
		n.run(fmt.Sprintf("INSERT INTO t%d VALUES (0, %s)", i, c.literal), insert(1))
		n.run(insert(2))
		n.run(insert(3))
		n.run(fmt.Sprintf(`{"tx": [{"sql": "INSERT INTO t%d VALUES ($1, NULL)", "args": [4]}, {"sql": "UPDATE t%[1]d SET v `+
			`= $2 WHERE k = $1", "args": [4, %s]}]}`, i, c.arg))
		require.Equal(t, "5",
			n.value(fmt.Sprintf("SELECT count(*) FROM t%d WHERE v IS NOT DISTINCT FROM (SELECT v FROM t%[1]d WHERE k = 0)",
				i)), c)
		require.Equal(t, c.want, n.value(fmt.Sprintf("SELECT coalesce(v::text, '') FROM t%d WHERE k = 1", i)), c)
	}
	n.run("CREATE TABLE b (v text, i int)", `{"sql": "INSERT INTO b VALUES ($1)", "args": [{"base64": "YQ=="}]}`)
	require.Equal(t, `\x61`, n.value("SELECT v FROM b"), "bytes are a bytea wherever they stand")
	require.ErrorContains(t, n.fails(0, `{"sql": "INSERT INTO b (i) VALUES ($1)", "args": [{"base64": "YQ=="}]}`), "bytea")
}

// The same for values that nobody chose.
func TestArgumentsEqualLiteralsWhateverTheyAre(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE t (k serial, i int8, d numeric, f float8, x text, b bytea)")
	rapid.Check(t, func(r *rapid.T) {
		i := fmt.Sprint(rapid.Int64().Draw(r, "integer"))
		d := rapid.StringMatching(`-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?`).Draw(r, "number")
		s := strings.ReplaceAll(rapid.String().Draw(r, "text"), "\x00", "")
		b := rapid.SliceOf(rapid.Byte()).Draw(r, "bytes")
		text, err := json.Marshal(s)
		require.NoError(r, err)
		n.run("DELETE FROM t",
			fmt.Sprintf(`{"sql": "INSERT INTO t (i, d, f, x, b) VALUES ($1, $2, $3, $4, $5)", "args": [%s, %s, %s, %s, `+
				`{"base64": "%s"}]}`, i, d, d, text, base64.StdEncoding.EncodeToString(b)),
			fmt.Sprintf(`INSERT INTO t (i, d, f, x, b) VALUES (%s, %s, %s, '%s', '\x%s')`, i, d, d, strings.ReplaceAll(s, "'",
				"''"), hex.EncodeToString(b)))
		require.Equal(r, "1", n.value("SELECT count(*) FROM (SELECT DISTINCT i, d, d::text, f, x, b FROM t) AS rows"))
	})
}

// Several statements with arguments are one increment: all of them, or none, and the message says which one failed.
func TestAnIncrementOfSeveralStatementsIsOneTransaction(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE t (k int PRIMARY KEY, v text)",
		`{"tx": [{"sql": "INSERT INTO t VALUES ($1, $2)", "args": [1, "a;b"]}, {"sql": "UPDATE t SET v = v || k WHERE k = `+
			`$1;", "args": [1]}, {"sql": "INSERT INTO t SELECT k + 1, v FROM t"}]}`)
	require.Equal(t, "1 a;b1,2 a;b1", n.value("SELECT string_agg(k || ' ' || v, ',' ORDER BY k) FROM t"))
	err := n.fails(1, "DELETE FROM t WHERE k = 2",
		`{"tx": [{"sql": "DELETE FROM t"}, {"sql": "INSERT INTO t VALUES ($1, $2)", "args": [5, 5]}, {"sql": "INSERT INTO `+
			`t VALUES\n($1, $2)", "args": [5, 6]}]}`)
	require.ErrorContains(t, err, "duplicate key")
	require.ErrorContains(t, err, "in statement 3: ")
	require.Equal(t, "1", n.value("SELECT string_agg(k::text, ',') FROM t"))
	n.run(`{"tx": [{"sql": "SET LOCAL search_path = pg_catalog"}, {"sql": "INSERT INTO public.t VALUES ($1, `+
		`current_setting('search_path'))", "args": [7]}, {"sql": "CREATE TABLE public.u (a int)"}]}`,
		`{"sql": "INSERT INTO t SELECT $1::int, current_setting('search_path')", "args": [8]}`)
	require.Equal(t, "pg_catalog", n.value("SELECT v FROM t WHERE k = 7"))
	require.NotEqual(t, "pg_catalog", n.value("SELECT v FROM t WHERE k = 8"))
}

// What an argument says is data, whatever it looks like: it is no name, and no word that is refused.
func TestArgumentsAreData(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE t (k int PRIMARY KEY, v text)")
	for k, s := range []string{"xmq_position", "set_config", "pg_temp", "'); COMMIT; --", "$1", "$$", "\"", "\\", "/*",
		"--", "", ";", "NULL"} {
		arg, err := json.Marshal(s)
		require.NoError(t, err)
		n.run(fmt.Sprintf(`{"sql": "INSERT INTO t SELECT $1::int, $2 WHERE $2 = $2", "args": [%d, %s]}`, k, arg))
		require.Equal(t, s, n.value(fmt.Sprintf("SELECT v FROM t WHERE k = %d", k)))
	}
	require.Error(t, n.fails(0, `{"sql": "DELETE FROM $1", "args": ["xmq_position"]}`))
}

// What does not fit together is refused before anything runs, with a sentence that names the statement and argument.
func TestWrongArgumentsAreRefusedBeforeTheyRun(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE t (k int PRIMARY KEY, v text)")
	for body, why := range map[string]string{
		"INSERT INTO t VALUES (1, $1)": `line 1: it has the placeholder $1 and no ` +
			`arguments: send {"sql": ..., "args": [...]}`,
		`{"sql": "INSERT INTO t VALUES ($1, $2)"}`:                    "its placeholders go up to $2, and it has 0 arguments",
		`{"sql": "INSERT INTO t VALUES ($1, $3)", "args": [1, 2, 3]}`: "argument 2 has no placeholder",
		`{"sql": "INSERT INTO t VALUES (1, '$1')", "args": [1]}`:      "its placeholders go up to $0, and it has 1 argument",
		`{"tx": [{"sql": "DELETE FROM t"}, ` +
			`{"sql": "INSERT INTO t VALUES ($2, $1)", "args": [1]}]}`: "statement 2: line 1: its placeholders go up to $2, " +
			"and it has 1 argument",
		`{"tx": [{"sql": "DELETE FROM t"}, {"sql": "COMMIT"}]}`: "statement 2: line 1: COMMIT would control the transaction",
		`{"tx": [{"sql": "DELETE FROM t; DELETE FROM t"}]}`:     "statement 1: \"sql\" has 2 statements",
		`{"tx": [{"sql": "DELETE FROM xmq_position ` +
			`WHERE seq > $1", "args": [0]}]}`: "statement 1: it mentions xmq_position",
		`{"sql": "INSERT INTO t VALUES ($1, ` +
			`$2)", "args": [1, "a\u0000b"]}`: "argument 2: it has a NUL",
		`{"sql": "INSERT INTO t VALUES ($1, $2)", "args": [1, ` +
			`{"base64": "AA"}]}`: "argument 2: ",
		`{"sql": "INSERT INTO t VALUES ($1, ` +
			`$2)", "args": [1, 2], "args": [3, 4]}`: `the field "args" stands there twice`,
		`{"SQL": "INSERT INTO t VALUES (1, 2)"}`:               `the field "SQL" is not known`,
		`{"sql": "INSERT INTO t VALUES (1, 2)", "args": [1, }`: "it begins with {, as no SQL does, so it has to be JSON",
	} {
		require.ErrorContains(t, Check([]byte(body)), why, body)
		require.ErrorContains(t, n.fails(0, body), why, body)
	}
	require.Equal(t, "0", n.value("SELECT count(*) FROM t"))
}
