package form

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	for body, want := range map[string][]Statement{
		`{"sql": "a"}`: {{"a", nil}},
		" \r\n\t{ \"sql\" :\"a\"\t,\n\"args\":null } ":           {{"a", nil}},
		`{"args": [], "sql": "a;\"b"}`:                           {{`a;"b`, []Arg{}}},
		`{"\u0073ql": "\u00e9\ud83d\ude00", "args": ["\u0000"]}`: {{"é😀", []Arg{{String, "\x00"}}}},
		`{"sql": "", "args": [null, true, false, -0.10, 12345678901234567890, 1E+5, "x", ` +
			`{}, [], {"a":{"base64": 1}}, {"base64": "AP8="}, {"base64":""}]}`: {{"", []Arg{
			{Null, ""}, {Bool, "true"}, {Bool, "false"}, {Number, "-0.10"}, {Number, "12345678901234567890"}, {Number, "1E+5"},
			{String, "x"}, {JSON, "{}"}, {JSON, "[]"},
			{JSON, `{"a":{"base64": 1}}`}, {Blob, "\x00\xff"}, {Blob, ""}}}},
		`{"sql":"","args":[{"base64":"x","name":"y"},[{"base64":"AA=="}]]}`: {{"", []Arg{{JSON,
			`{"base64":"x","name":"y"}`}, {JSON, `[{"base64":"AA=="}]`}}}},
		`{"sql":"","args":[{"base\u00364":"AA=="}]}`: {{"", []Arg{{Blob, "\x00"}}}},
	} {
		got, tx, err := Parse([]byte(body))
		require.NoError(t, err, body)
		require.False(t, tx)
		require.Equal(t, want, got, body)
	}
	got, tx, err := Parse([]byte(`{"tx": [{"sql": "a", "args": [1]}, {"args": ["}"], "sql": "]"} ]}`))
	require.NoError(t, err)
	require.True(t, tx)
	require.Equal(t, []Statement{{"a", []Arg{{Number, "1"}}}, {"]", []Arg{{String, "}"}}}}, got)
}

// Whatever is not exactly one of the forms is refused with a sentence, never guessed.
func TestParseRefuses(t *testing.T) {
	deep := func(n int) string {
		return `{"sql": "", "args": [` + strings.Repeat("[", n-2) + strings.Repeat("]", n-2) + `]}`
	}
	for body, why := range map[string]string{
		"{":                                     "unexpected end of JSON input",
		"{}":                                    `it has neither "sql" nor "tx"`,
		`{"args": []}`:                          `it has neither "sql" nor "tx"`,
		`{fn now()}`:                            "it begins with {, as no SQL does, so it has to be JSON",
		`{"sql": "a"} {}`:                       "invalid character '{' after top-level value",
		`{"sql": "a",}`:                         "invalid character '}'",
		`{"sql": 'a'}`:                          "invalid character '\\''",
		`{"sql": 1}`:                            `"sql" is not a string`,
		`{"sql": null}`:                         `"sql" is not a string`,
		`{"sql": ["a"]}`:                        `"sql" is not a string`,
		`{"sql": "a", "args": {"x": 1}}`:        `"args" is not a list`,
		`{"sql": "a", "args": 1}`:               `"args" is not a list`,
		`{"sql": "a", "arg": [1]}`:              `the field "arg" is not known`,
		`{"SQL": "a"}`:                          `the field "SQL" is not known`,
		`{"sql": "a", "sql": "b"}`:              `the field "sql" stands there twice`,
		`{"sql": "a", "s\u0071l": "b"}`:         `the field "sql" stands there twice`,
		`{"sql": "a", "args": [], "args": [1]}`: `the field "args" stands there twice`,
		`{"sql": "a", "tx": []}`:                `"tx" stands beside "sql" or "args"`,
		`{"tx": [{"sql": "a"}], "args": null}`:  `"tx" stands beside "sql" or "args"`,
		`{"tx": [{"sql": "a"}], "tx": []}`:      `the field "tx" stands there twice`,
		`{"tx": []}`:                            `"tx" has no statements`,
		`{"tx": {}}`:                            `"tx" is a list`,
		`{"tx": null}`:                          `"tx" is a list`,
		`{"tx": ["a"]}`:                         `statement 1: it is not {"sql": ..., "args": [...]}`,
		`{"tx": [{"sql": "a"}, {"args": [1]}]}`: `statement 2: it has no "sql"`,
		`{"tx": [{"sql": "a"}, {"sql": "b", "tx": []}]}`: `statement 2: the field "tx" is not known`,
		`{"tx": [{"sql": "a", "args": [1, {"base64": "*"}]}]}`: `statement 1: argument 2: {"base64": ...} is not ` +
			`standard base64`,
		`{"sql": "a", "args": [{"base64": "AA"}]}`:                 "argument 1: ",
		`{"sql": "a", "args": [{"base64": "AB=="}]}`:               "argument 1: ",
		`{"sql": "a", "args": [{"base64": "AA\n=="}]}`:             "argument 1: ",
		`{"sql": "a", "args": [{"base64": "A_-_"}]}`:               "argument 1: ",
		`{"sql": "a", "args": [{"base64": 1}]}`:                    "one string of base64",
		`{"sql": "a", "args": [{"base64": "", "base64": "AA=="}]}`: "one string of base64",
		`{"sql": "a", "args": ["\ud83d"]}`:                         "half a surrogate pair",
		"{\"sql\": \"a\xff\"}":                                     "it is not UTF-8",
		deep(MaxDepth + 1):                                         "more than 100 objects and arrays",
		deep(20000):                                                "exceeded max depth",
	} {
		_, _, err := Parse([]byte(body))
		require.ErrorContains(t, err, why, body)
		require.Less(t, len(err.Error()), 300)
	}
	many := func(n int, begin, one, end string) string { return begin + strings.Repeat(one+",", n-1) + one + end }
	for why, list := range map[string][2]string{
		"argument 65536: a statement has at most 65535": {`{"sql": "", "args": [`, "1"},
		"statement 65536: more than 65535 statements":   {`{"tx": [`, `{"sql": ""}`},
	} {
		_, _, err := Parse([]byte(many(Most, list[0], list[1], "]}")))
		require.NoError(t, err)
		_, _, err = Parse([]byte(many(Most+1, list[0], list[1], "]}")))
		require.ErrorContains(t, err, why)
	}
	_, _, err := Parse([]byte(deep(MaxDepth)))
	require.NoError(t, err)
}

func TestNeeds(t *testing.T) {
	for body, want := range map[string]Features{
		"":                                 0,
		"{":                                0,
		"\x00\xff":                         0,
		"INSERT INTO t VALUES ('{\"tx\"')": 0,
		`{"sql": "a"}`:                     Args,
		`{"sql": "a", "args": [1, {}, {"x": {"base64": ""}}, [{"base64": ""}], ` +
			`{"base64": "", "x": 1}, "base64"]}`: Args,
		`{"sql": "a", "args": [1, {"base64": "AA=="}]}`:        Args | Bytes,
		`{"s\u0071l": "a", "args": [{"b\u0061se64": "AA=="}]}`: Args | Bytes,
		" \n{\"tx\": [{\"sql\": \"a\"}]}":                      Tx,
		`{"t\u0078": [{"sql": "a", "args": []}]}`:              Tx,
		`{"method": "GET", "body": {"tx": 1}}`:                 0,
		"SET LOCAL search_path = a; INSERT INTO b VALUES (1)":  Settings,
		"-- x\n/* y */ ; set\tlocal check_function_bodies=0;":  Settings,
		"BEGIN;\nSET LOCAL search_path = a; COMMIT":            Settings,
		"START TRANSACTION; PRAGMA foreign_keys=OFF; COMMIT":   Settings,
		"\xEF\xBB\xBFPRAGMA foreign_keys = OFF; DELETE FROM t": Settings,
		"SET FOREIGN_KEY_CHECKS=0; DROP TABLE t":               Settings,
		"SET sql_mode = '', time_zone = '+00:00';":             Settings,
		"PRAGMA user_version = 3":                              0,
		"SET @a = 1; INSERT INTO t VALUES (@a)":                0,
		"SET CONSTRAINTS ALL DEFERRED":                         0,
		"BEGIN; INSERT INTO t VALUES (1); COMMIT":              0,
		"BEGIN":                        0,
		"/* SET LOCAL search_path = a": 0,
		"SET":                          0,
	} {
		require.Equal(t, want, Needs([]byte(body)), body)
	}
}

// A node of an earlier build names no features: it lacks those that concern its driver, and no other.
func TestLacking(t *testing.T) {
	require.Equal(t, Settings|Args|Bytes|Tx, Lacking("sqlite", nil))
	require.Equal(t, Settings|Bytes|Tx, Lacking("postgres", nil))
	require.Equal(t, Settings|Bytes|Tx, Lacking("mysql", []string{"sql", "sqlite.args", "SQL.TX"}))
	require.Equal(t, Settings|Bytes, Lacking("postgres", []string{"sql.tx", "later"}))
	for _, driver := range []string{"sqlite", "postgres", "mysql"} {
		require.Zero(t, Lacking(driver, append(Known(), "sql.later")))
	}
	for _, driver := range []string{"", "redis", "kv", "file", "webhook", "exec"} {
		require.Zero(t, Lacking(driver, nil), driver)
	}
	require.Equal(t, `sqlite.args ({"sql", "args"} in SQLite), sql.tx ({"tx"})`, (Args | Tx).String())
	require.Empty(t, Features(0).String())
}

// What is written in any of the ways that JSON has is read as it was meant, and what it needs is seen.
func TestParseReadsWhatJSONWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.RuneFrom([]rune(`\"{}[],:u0 `))))
		var want []Statement
		needs := Args
		var list []map[string]any
		for range rapid.IntRange(1, 4).Draw(t, "statements") {
			st := Statement{SQL: text.Draw(t, "sql"), Args: []Arg{}}
			args := []any{}
			for range rapid.IntRange(0, 4).Draw(t, "args") {
				switch rapid.IntRange(0, 3).Draw(t, "kind") {
				case 0:
					n := rapid.StringMatching(`-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?`).Draw(t, "number")
					args, st.Args = append(args, json.Number(n)), append(st.Args, Arg{Number, n})
				case 1:
					s := text.Draw(t, "string")
					args, st.Args = append(args, s), append(st.Args, Arg{String, s})
				case 2:
					b := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
					args, st.Args = append(args, map[string]any{"base64": base64.StdEncoding.EncodeToString(b)}), append(st.Args,
						Arg{Blob, string(b)})
					needs |= Bytes
				case 3:
					s := text.Draw(t, "in JSON")
					doc, err := json.Marshal(map[string]any{"a": []any{s}})
					require.NoError(t, err)
					args, st.Args = append(args, json.RawMessage(doc)), append(st.Args, Arg{JSON, string(doc)})
				}
			}
			want, list = append(want, st), append(list, map[string]any{"sql": st.SQL, "args": args})
		}
		var whole any = map[string]any{"tx": list}
		tx := len(list) > 1
		if tx {
			needs = Tx
		} else {
			whole = list[0]
		}
		body, err := json.Marshal(whole)
		require.NoError(t, err)
		got, isTx, err := Parse(body)
		require.NoError(t, err, "%s", body)
		require.Equal(t, tx, isTx)
		require.Equal(t, want, got, "%s", body)
		require.Equal(t, needs, Needs(body), "%s", body)
	})
}

// FuzzParse: no body makes reading panic; what is read needs what its form says; what is refused is refused in a
// sentence.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"sql": "a", "args": [null, true, 1e400, "a", {}, [], {"base64": "AA=="}]}`,
		`{"tx": [{"sql": "a"}, {"sql": "b", "args": []}]}`, "{", "{}", `{"a":"\`, `{"tx":[`, "SET LOCAL x", "/*", "BEGIN;"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		needs := Needs(body)
		if !Is(body) {
			require.Zero(t, needs&^Settings)
			return
		}
		all, tx, err := Parse(body)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.NotEmpty(t, all)
		want := Args
		if tx {
			want = Tx
		} else if len(all[0].Args) > 0 {
			for _, a := range all[0].Args {
				if a.Kind == Blob {
					want |= Bytes
				}
			}
		}
		require.Equal(t, want, needs)
	})
}

// What the broker asks of each increment before it is sent to a node of an earlier build.
func BenchmarkNeeds(b *testing.B) {
	long := make([]byte, 6<<10)
	for i := range long {
		long[i] = byte('a' + rand.N(26))
	}
	for name, body := range map[string]string{
		"script": "INSERT INTO item (id, name) VALUES (1, 'some text of a row')",
		"args":   `{"sql": "INSERT INTO item (id, name) VALUES ($1, $2)", "args": [1, "some text of a row"]}`,
		"long":   fmt.Sprintf(`{"sql": "INSERT INTO item (id, name) VALUES ($1, $2)", "args": [1, %q]}`, long),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Needs([]byte(body))
			}
		})
	}
}
