package mysql

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Each kind of argument becomes what the same literal becomes, in a column of each type that takes it: integers
// beyond 2^53, decimals of any length, bytes, times.
func TestArgumentsEqualLiterals(t *testing.T) {
	n := newNode(t)
	for i, c := range []struct{ column, arg, literal, want string }{
		{"bigint", "9007199254740993", "9007199254740993", "9007199254740993"},
		{"bigint", "-9223372036854775808", "-9223372036854775808", "-9223372036854775808"},
		{"bigint unsigned", "18446744073709551615", "18446744073709551615", "18446744073709551615"},
		{"decimal(65,30)", "12345678901234567890123456789012345.123456789012345678901234567890",
			"12345678901234567890123456789012345.123456789012345678901234567890",
			"12345678901234567890123456789012345.123456789012345678901234567890"},
		{"decimal(65,30)", "-0.000000000000000000000000000010", "-0.000000000000000000000000000010",
			"-0.000000000000000000000000000010"},
		{"double", "0.1", "0.1", "0.1"},
		{"double", "1.5e3", "1.5e3", "1500"},
		{"varchar(99)", "1.10", "1.10", "1.10"},
		{"varchar(99)", "9007199254740993", "9007199254740993", "9007199254740993"},
		{"boolean", "true", "true", "1"},
		{"boolean", "false", "false", "0"},
		{"varchar(99)", "null", "NULL", "-"},
		{"blob", "null", "NULL", "-"},
		{"varchar(99)", `""`, "''", ""},
		{"varchar(99)", `"it's \\ \"x\" ü 😀\n?"`, `'it''s \\ "x" ü 😀\n?'`, "it's \\ \"x\" ü 😀\n?"},
		{"varchar(99)", `"a\u0000b"`, `'a\0b'`, "a\x00b"},
		{"blob", `{"base64": ""}`, `''`, ""},
		{"varbinary(9)", `{"base64": "AP+AJw=="}`, `x'00ff8027'`, "\x00\xff\x80'"},
		{"varchar(99)", `{"base64": "YcO8"}`, `'aü'`, "aü"},
		{"datetime(6)", `"2026-11-30 09:57:58.123456"`, "'2026-11-30 09:57:58.123456'", "2026-11-30 09:57:58.123456"},
		{"timestamp(6)", `"2026-11-30 09:57:58.123456"`, "'2026-11-30 09:57:58.123456'", "2026-11-30 09:57:58.123456"},
		{"date", `"2026-11-30"`, "'2026-11-30'", "2026-11-30"},
		{"time", `"09:57:58"`, "'09:57:58'", "09:57:58"},
		{"json", `{"a": [1, 2.5, "it's"]}`, `'{"a": [1, 2.5, "it\'s"]}'`, `{"a": [1, 2.5, "it's"]}`},
		{"json", `[]`, "'[]'", "[]"},
	} {
		n.run(fmt.Sprintf("CREATE TABLE t%d (k int PRIMARY KEY, v %s NULL)", i, c.column))
		n.run(fmt.Sprintf("INSERT INTO t%d VALUES (0, %s)", i, c.literal),
			fmt.Sprintf(`{"sql": "INSERT INTO t%d VALUES (?, ?)", "args": [1, %s]}`, i, c.arg),
			fmt.Sprintf(`{"tx": [{"sql": "INSERT INTO t%d VALUES (?, NULL)", "args": [2]}, {"sql": "UPDATE t%[1]d SET v = ? `+
				`WHERE k = ?", "args": [%s, 2]}]}`, i, c.arg))
		same := "v <=> (SELECT v FROM t%[1]d WHERE k = 0)"
		if c.column == "json" {
			same = "cast(v AS char) = (SELECT cast(v AS char) FROM t%[1]d WHERE k = 0)"
		}
		require.Equal(t, "3", n.value(fmt.Sprintf("SELECT count(*) FROM t%[1]d WHERE "+same, i)), c)
		require.Equal(t, c.want, n.value(fmt.Sprintf("SELECT coalesce(v, '-') FROM t%d WHERE k = 1", i)), c)
	}
	n.run("CREATE TABLE b (v int)")
	require.Error(t, n.fails(0, `{"sql": "INSERT INTO b VALUES (?)", "args": [{"base64": "QQ=="}]}`),
		"bytes are not made a number")
}

// The same for values that nobody chose.
func TestArgumentsEqualLiteralsWhateverTheyAre(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE t (k int AUTO_INCREMENT PRIMARY KEY, i bigint, d decimal(60,30), f double, x text CHARACTER " +
		"SET utf8mb4 COLLATE utf8mb4_bin, b blob)")
	rapid.Check(t, func(r *rapid.T) {
		i := fmt.Sprint(rapid.Int64().Draw(r, "integer"))
		d := rapid.StringMatching(`-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?`).Draw(r, "number")
		s := rapid.String().Draw(r, "text")
		b := rapid.SliceOf(rapid.Byte()).Draw(r, "bytes")
		text, err := json.Marshal(s)
		require.NoError(r, err)
		n.run("DELETE FROM t",
			fmt.Sprintf(`{"sql": "INSERT INTO t (i, d, f, x, b) VALUES (?, ?, ?, ?, ?)", "args": [%s, %s, %s, %s, {"base64": `+
				`"%s"}]}`, i, d, d, text, base64.StdEncoding.EncodeToString(b)),
			fmt.Sprintf(`INSERT INTO t (i, d, f, x, b) VALUES (%s, %s, %s, _utf8mb4 x'%s', x'%s')`, i, d, d,
				hex.EncodeToString([]byte(s)), hex.EncodeToString(b)))
		require.Equal(r, "1", n.value("SELECT count(*) FROM (SELECT DISTINCT i, d, f, hex(x), hex(b) FROM t) AS r"))
	})
}

// Several statements with arguments are one increment: all of them, or none, and the message says which one failed.
func TestAnIncrementOfSeveralStatementsIsOneTransaction(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE t (k int PRIMARY KEY, v varchar(999))",
		`{"tx": [{"sql": "INSERT INTO t VALUES (?, ?)", "args": [1, "a;b"]}, {"sql": "UPDATE t SET v = concat(v, `+
			`row_count(), k) WHERE k = ?;", "args": [1]}, {"sql": "INSERT INTO t SELECT k + 1, v FROM t"}]}`)
	require.Equal(t, []string{"1|a;b11", "2|a;b11"}, n.query("SELECT concat(k, '|', v) FROM t ORDER BY k"))
	err := n.fails(1, "DELETE FROM t WHERE k = 2",
		`{"tx": [{"sql": "DELETE FROM t"}, {"sql": "INSERT INTO t VALUES (?, ?)", "args": [5, 5]}, {"sql": "INSERT INTO t `+
			`VALUES\n(?, ?)", "args": [5, 6]}]}`)
	require.ErrorContains(t, err, "Duplicate")
	require.ErrorContains(t, err, "in statement 3: ")
	require.Equal(t, "1", n.value("SELECT group_concat(k) FROM t"))
	n.run(`{"tx": [{"sql": "SET sql_mode = ''"}, {"sql": "SET @a = ?", "args": [7]}, {"sql": "INSERT INTO t VALUES (@a, `+
		`@@sql_mode)"}]}`, `{"sql": "INSERT INTO t VALUES (?, concat(@@sql_mode, ifnull(@a, '!')))", "args": [8]}`)
	require.Equal(t, "", n.value("SELECT v FROM t WHERE k = 7"))
	require.Contains(t, n.value("SELECT v FROM t WHERE k = 8"), "STRICT")
	require.Contains(t, n.value("SELECT v FROM t WHERE k = 8"), "!")
}

// What an argument says is data, whatever it looks like: it is no name, and no word that is refused.
func TestArgumentsAreData(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE t (k int PRIMARY KEY, v varchar(99) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin)")
	for k, s := range []string{"xmq_position", "get_lock", "@xmq_at", "'); COMMIT; --", "?", "\"", "`", "\\", "\\'", "/*!",
		"*/", "--", "#", "", ";", "NULL", "DELIMITER //", "row_count()"} {
		arg, err := json.Marshal(s)
		require.NoError(t, err)
		n.run(fmt.Sprintf(`{"sql": "INSERT INTO t SELECT ?, ? /*!50000 WHERE ? = ? */", "args": [%d, %s, %[2]s, %[2]s]}`, k,
			arg))
		require.Equal(t, s, n.value(fmt.Sprintf("SELECT v FROM t WHERE k = %d", k)))
	}
	require.Error(t, n.fails(0, `{"sql": "DELETE FROM ?", "args": ["xmq_position"]}`))
}

// What does not fit together is refused before anything runs, with a sentence that names the statement and argument.
func TestWrongArgumentsAreRefusedBeforeTheyRun(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE t (k int PRIMARY KEY, v text)")
	for body, why := range map[string]string{
		"INSERT INTO t VALUES (1, ?)": `line 1: it has the placeholder ? and no arguments: send {"sql": ..., ` +
			`"args": [...]}`,
		`{"sql": "INSERT INTO t VALUES (?, ?)"}`: "it has 2 placeholders ? and 0 arguments",
		`{"tx": [{"sql": "DELETE FROM t"}, ` +
			`{"sql": "INSERT INTO t VALUES (?, ?)", "args": [1]}]}`: "statement 2: it has 2 placeholders ? and 1 argument",
		`{"tx": [{"sql": "DELETE FROM t"}, {"sql": "COMMIT"}]}`: "statement 2: line 1: COMMIT would control the " +
			"transaction",
		`{"tx": [{"sql": "DELETE FROM t"}, {"sql": "DROP TABLE t"}]}`: "make it an increment of its own",
		`{"tx": [{"sql": "DELETE FROM t; DELETE FROM t"}]}`:           "statement 1: \"sql\" has 2 statements",
		`{"tx": [{"sql": "DELETE FROM xmq_position ` +
			`WHERE seq > ?", "args": [0]}]}`: "statement 1: it mentions xmq_position",
		`{"sql": "INSERT INTO t VALUES (?, ?)", "args": [1, ` +
			`{"base64": "AA"}]}`: "argument 2: ",
		`{"sql": "INSERT INTO t VALUES (?, ` +
			`?)", "args": [1, 2], "args": [3, 4]}`: `the field "args" stands there twice`,
		`{"sql": "INSERT INTO t VALUES (1, 2)", "args": [1, }`: "it begins with {, as no SQL does, so it has to be JSON",
	} {
		require.ErrorContains(t, Check([]byte(body)), why, body)
		require.ErrorContains(t, n.fails(0, body), why, body)
	}
	require.Equal(t, "0", n.value("SELECT count(*) FROM t"))
}
