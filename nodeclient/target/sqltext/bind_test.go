package sqltext

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func raws(args ...string) (all []json.RawMessage) {
	for _, a := range args {
		all = append(all, json.RawMessage(a))
	}
	return all
}

func TestBind(t *testing.T) {
	for _, c := range []struct {
		d    Dialect
		text string
		args []string
		want string
	}{
		{MariaDB, "SELECT 1", nil, "SELECT 1"},
		{MariaDB, "INSERT INTO t VALUES (?, ?,?)", []string{"null", "true", "-1.50"}, "INSERT INTO t VALUES ( null ,  true , -1.50 )"},
		{MariaDB, "SELECT 5-?", []string{"-1"}, "SELECT 5- -1 "},
		{MariaDB, "SELECT '?', `?`, \"?\" /* ? */ -- ?\n, ? # ?", []string{`"x"`}, "SELECT '?', `?`, \"?\" /* ? */ -- ?\n, 'x' # ?"},
		{MariaDB, "SELECT ?", []string{`"it's \\ \u0000 ü 😀 \n"`}, "SELECT 'it\\'s \\\\ \\0 ü 😀 \n'"},
		{SQLite, "SELECT ?", []string{`"it's \\"`}, `SELECT 'it''s \'`},
		{MariaDB, "SELECT ?, ?", []string{`{"a": "b'c"}`, `[1, "\\"]`}, `SELECT '{"a": "b\'c"}', '[1, "\\\\"]'`},
		{MariaDB, "SELECT ?", []string{`"? ?"`}, "SELECT '? ?'"},
		{MariaDB, "SELECT ?1", []string{"2"}, "SELECT  2 1"},
		{MariaDB, "/*!50000 SELECT ? */", []string{"2"}, "/*!50000 SELECT  2  */"},
	} {
		got, err := Bind(c.d, c.text, raws(c.args...))
		require.NoError(t, err, c.text)
		require.Equal(t, c.want, got)
	}
	for text, c := range map[string]struct{ arg, want string }{
		"SELECT 1":      {"1", "0 placeholders ? and 1 arguments"},
		"SELECT ?, ?":   {"1", "2 placeholders ? and 1 arguments"},
		"SELECT '?":     {"1", "a quote is not closed"},
		"SELECT ? /* x": {"1", "a comment is not closed"},
		"SELECT ?":      {"", "argument 1: it is empty"},
	} {
		_, err := Bind(MariaDB, text, raws(c.arg))
		require.ErrorContains(t, err, c.want, text)
	}
	_, err := Bind(PostgreSQL, "SELECT ?", raws(`"\u0000"`))
	require.ErrorContains(t, err, "NUL")
}

// FuzzBind: what is bound is one string: no argument makes a text of more tokens.
func FuzzBind(f *testing.F) {
	for _, s := range []string{"", "'", `\`, `\'`, "a\x00b", "'; DROP TABLE t; --", "/*", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		raw, err := json.Marshal(arg)
		require.NoError(t, err)
		got, err := Bind(MariaDB, "SELECT ?, 'x'", []json.RawMessage{raw})
		require.NoError(t, err)
		tokens, err := Tokens(MariaDB, got)
		require.NoError(t, err)
		require.Len(t, tokens, 4, got)
	})
}

func TestTokens(t *testing.T) {
	tokens, err := Tokens(MariaDB, "set @a='b' /*!50000 x */ -- y")
	require.NoError(t, err)
	require.Equal(t, []Token{{Text: "set", Word: true}, {Text: "@", At: 4}, {Text: "a", At: 5, Word: true}, {Text: "=", At: 6}, {Text: "'b'", At: 7, Quoted: true},
		{Text: "/*!50000", At: 11, Mark: true}, {Text: "x", At: 20, Word: true}, {Text: "*/", At: 22, Mark: true}}, tokens)
	require.True(t, tokens[0].Is("SET"))
	require.False(t, tokens[4].Is("'B'"))
	tokens, err = Tokens(MariaDB, "a 'b")
	require.ErrorContains(t, err, "quote")
	require.Len(t, tokens, 1)
}
