package sqltext

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/form"
)

// argued are the arguments of JSON values.
func argued(t require.TestingT, args ...string) []form.Arg {
	all, _, err := form.Parse([]byte(`{"sql": "", "args": [` + strings.Join(args, ", ") + `]}`))
	require.NoError(t, err)
	return all[0].Args
}

func TestBind(t *testing.T) {
	for _, c := range []struct {
		d    Dialect
		text string
		args []string
		want string
	}{
		{MariaDB, "SELECT 1", nil, "SELECT 1"},
		{MariaDB, "INSERT INTO t VALUES (?, ?,?)", []string{"null", "true", "-1.50"},
			"INSERT INTO t VALUES ( null ,  true , -1.50 )"},
		{MariaDB, "SELECT 5-?", []string{"-1"}, "SELECT 5- -1 "},
		{MariaDB, "SELECT '?', `?`, \"?\" /* ? */ -- ?\n, ? # ?", []string{`"x"`},
			"SELECT '?', `?`, \"?\" /* ? */ -- ?\n,  'x'  # ?"},
		{MariaDB, "SELECT ?", []string{`"it's \\ \u0000 ü 😀 \n"`}, "SELECT  'it\\'s \\\\ \\0 ü 😀 \n' "},
		{SQLite, "SELECT ?", []string{`"it's \\"`}, `SELECT  ('it''s \') `},
		{SQLite, "SELECT ?2 || ?1 || $2, ':a', [?] -- ?", []string{"1", `"b"`},
			`SELECT  ('b')  ||  1  ||  ('b') , ':a', [?] -- ?`},
		{SQLite, "SELECT x?, a$1, ?", []string{`"41"`, `{"base64": "QQA="}`}, `SELECT x ('41') , a$1,  x'4100' `},
		{SQLite, "SELECT ?, ?", []string{`"a\u0000b"`, `""`}, `SELECT  (+CAST(x'610062' AS TEXT)) ,  ('') `},
		{SQLite, "SELECT ?, ?, ?", []string{"9007199254740993", "-0.10", "1E+400"},
			`SELECT  9007199254740993 ,  -0.10 ,  1E+400 `},
		{MariaDB, "SELECT ?, ?", []string{`{"base64": "QQA="}`, `{"base64": ""}`}, `SELECT  _binary x'4100' ,  _binary x'' `},
		{MariaDB, "SELECT :a, @a, $1", nil, `SELECT :a, @a, $1`},
		{MariaDB, "SELECT ?, ?", []string{`{"a": "b'c"}`, `[1, "\\"]`}, `SELECT  '{"a": "b\'c"}' ,  '[1, "\\\\"]' `},
		{MariaDB, "SELECT x?, @?, 'a'?", []string{`"41"`, `"xmq_at"`, `"b"`}, "SELECT x '41' , @ 'xmq_at' , 'a' 'b' "},
		{MariaDB, "SELECT ?", []string{`"? ?"`}, "SELECT  '? ?' "},
		{MariaDB, "SELECT ?1", []string{"2"}, "SELECT  2 1"},
		{MariaDB, "/*!50000 SELECT ? */", []string{"2"}, "/*!50000 SELECT  2  */"},
	} {
		got, err := Bind(c.d, c.text, argued(t, c.args...))
		require.NoError(t, err, c.text)
		require.Equal(t, c.want, got)
	}
	for _, c := range []struct {
		d    Dialect
		text string
		args []string
		want string
	}{
		{MariaDB, "SELECT 1", []string{"1"}, "0 placeholders ? and 1 argument"},
		{MariaDB, "SELECT ?, ?", []string{"1"}, "2 placeholders ? and 1 argument"},
		{MariaDB, "SELECT '?", []string{"1"}, "a quote is not closed"},
		{MariaDB, "SELECT ? /* x", []string{"1"}, "a comment is not closed"},
		{SQLite, "SELECT ?, ?", []string{"1"}, "2 placeholders ? and 1 argument"},
		{SQLite, "SELECT ?3, ?1", []string{"1", "2"}, "go up to ?3, and it has 2 arguments"},
		{SQLite, "SELECT ?3, ?1", []string{"1", "2", "3"}, "argument 2 has no placeholder"},
		{SQLite, "SELECT $1, ?", []string{"1", "2"}, "with a number and without one"},
		{SQLite, "SELECT ?, ?1", []string{"1"}, "with a number and without one"},
		{SQLite, "SELECT ?0", []string{"1"}, "the placeholder ?0 has a name"},
		{SQLite, "SELECT ?99999999999999999999", []string{"1"}, "has a name"},
		{SQLite, "SELECT :a", []string{"1"}, "the placeholder :a has a name"},
		{SQLite, "SELECT @a", nil, "the placeholder @a has a name"},
		{SQLite, "SELECT $a", []string{"1"}, "the placeholder $a has a name"},
	} {
		_, err := Bind(c.d, c.text, argued(t, c.args...))
		require.ErrorContains(t, err, c.want, c.text)
	}
	_, err := Bind(PostgreSQL, "SELECT ?", argued(t, `"\u0000"`))
	require.ErrorContains(t, err, "NUL")
}

// A script has no arguments: what SQLite would take for an unbound placeholder, and silently for NULL or an error, is
// found; what only looks like one is not.
func TestUnboundPlaceholdersAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"INSERT INTO t VALUES (?)": "?", "SELECT ?12": "?12", "SELECT :name": ":name", "SELECT @name": "@name",
		"SELECT $1": "$1", "SELECT $n + 1": "$n",
		"SELECT '?', \"?\", [?], `?` /* ? */ -- ?": "", "SELECT ':a @b $c 10:00'": "", "SELECT a$1, b->>'$.c' FROM t": "",
		"SELECT x'00'": "",
	} {
		all, err := Increment(SQLite, text)
		require.NoError(t, err)
		require.Len(t, all, 1)
		if err := Unbound(SQLite, all[0]); want == "" {
			require.NoError(t, err, text)
		} else {
			require.EqualError(t, err, "it has the placeholder "+want+` and no arguments: send {"sql": ..., "args": [...]}`)
		}
	}
	for text, want := range map[string]bool{"SELECT ?": true, "SELECT '?', @a, :b, $c # ?": false} {
		all, err := Increment(MariaDB, text)
		require.NoError(t, err)
		require.Equal(t, want, Unbound(MariaDB, all[0]) != nil, text)
	}
}

// FuzzBind: what is bound is one string: no argument makes a text of more tokens.
func FuzzBind(f *testing.F) {
	for _, s := range []string{"", "'", `\`, `\'`, "a\x00b", "'; DROP TABLE t; --", "/*", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		raw, err := json.Marshal(arg)
		require.NoError(t, err)
		for _, d := range []Dialect{MariaDB, SQLite} {
			got, err := Bind(d, "SELECT ?, 'x'", argued(t, string(raw)))
			require.NoError(t, err)
			tokens, err := Tokens(d, got)
			require.NoError(t, err)
			want := 4
			if d == SQLite {
				want += 2
				if strings.Contains(arg, "\x00") {
					want += 7
				}
			}
			require.Len(t, tokens, want, got)
		}
	})
}

func TestTokens(t *testing.T) {
	tokens, err := Tokens(MariaDB, "set @a='b' /*!50000 x */ -- y")
	require.NoError(t, err)
	require.Equal(t, []Token{{Text: "set", Word: true}, {Text: "@", At: 4}, {Text: "a", At: 5, Word: true},
		{Text: "=", At: 6}, {Text: "'b'", At: 7, Quoted: true},
		{Text: "/*!50000", At: 11, Mark: true}, {Text: "x", At: 20, Word: true}, {Text: "*/", At: 22, Mark: true}}, tokens)
	require.True(t, tokens[0].Is("SET"))
	require.False(t, tokens[4].Is("'B'"))
	tokens, err = Tokens(MariaDB, "a 'b")
	require.ErrorContains(t, err, "quote")
	require.Len(t, tokens, 1)
}
