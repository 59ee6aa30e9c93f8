package driver

import (
	"encoding/binary"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
)

// What people send by accident is named as what it is, and what only looks like it is taken.
func TestWhatIsSentByAccidentIsNamed(t *testing.T) {
	wide := func(order binary.AppendByteOrder, mark bool) string {
		var b []byte
		if mark {
			b = order.AppendUint16(b, 0xFEFF)
		}
		for _, unit := range utf16.Encode([]rune("INSERT INTO t VALUES ('é')")) {
			b = order.AppendUint16(b, unit)
		}
		return string(b)
	}
	for _, dialect := range []string{"sqlite", "postgres", "mariadb", "mysql"} {
		check, err := Check(dialect)
		require.NoError(t, err)
		for body, says := range map[string]string{
			" \r\n":                          "blank",
			";":                              "no statement",
			"-- a comment INSERT INTO t":     "only a comment",
			"/* one */ ; -- two\n":           "only a comment",
			"\uFEFF{\"sql\": \"SELECT 1\"}":  "byte order mark",
			`[{"sql": "SELECT 1"}]`:          `{"tx": [`,
			`"SELECT 1"`:                     "JSON string",
			`{"sqll": "SELECT 1"}`:           `did you mean "sql"`,
			`{"arg": 1}`:                     `did you mean "args"`,
			`{"statements": ["SELECT 1"]}`:   `the field "statements" is not known`,
			`{"sql":"SELECT 1", "args":[1,}`: "at byte 30",
			wide(binary.LittleEndian, true):  "UTF-16",
			wide(binary.BigEndian, true):     "UTF-16",
			wide(binary.LittleEndian, false): "UTF-16",
			wide(binary.BigEndian, false):    "UTF-16",
		} {
			require.ErrorContains(t, check([]byte(body)), says, "%s: %q", dialect, body)
		}
		for _, fine := range []string{"\uFEFFDELETE FROM t", "DELETE\r\nFROM t\r\n;", "-- one\nDELETE FROM t",
			"DELETE FROM t WHERE a = '{'"} {
			require.NoError(t, check([]byte(fine)), "%s: %q", dialect, fine)
		}
	}
	check, err := Check("pg")
	require.NoError(t, err)
	require.ErrorContains(t, check([]byte("INSERT INTO t\nVALUES ('M\xfcller')")),
		"line 2: its byte 25, 0xfc, is no UTF-8")
	require.ErrorContains(t, check([]byte(`{"sql": "INSERT INTO t VALUES (?, ?)", "args": [1, 2]}`)),
		"it has ? as placeholders: write $1 and $2")
}
