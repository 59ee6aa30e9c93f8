package sqltext

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// A script with the line ends of Windows means what the database's own client makes of it: mariadb, mysql and sqlite3
// take CR LF for LF, in strings as well (seen with 10.11 and 3.40), and psql keeps the CR.
func TestLineEndsAreThoseOfTheClient(t *testing.T) {
	script := "CREATE TABLE t(a);\r\nINSERT INTO t VALUES ('x\r\ny\rz');\r\n"
	for d, want := range map[Dialect][]string{
		SQLite:     {"CREATE TABLE t(a);", "INSERT INTO t VALUES ('x\ny\rz');"},
		MariaDB:    {"CREATE TABLE t(a);", "INSERT INTO t VALUES ('x\ny\rz');"},
		PostgreSQL: {"CREATE TABLE t(a);", "INSERT INTO t VALUES ('x\r\ny\rz');"},
	} {
		var got []string
		for s, err := range (&Splitter{Dialect: d, Limit: 1000}).Scripts(strings.NewReader(script)) {
			require.NoError(t, err)
			got = append(got, s.Text)
		}
		require.Equal(t, want, got, d)
	}
}

// Wherever a read ends, the bytes are the same.
func TestLineEndsAreFoundAcrossReads(t *testing.T) {
	for _, n := range []int{0, 1, 4094, 4095, 4096, 4097, 8191, 8192} {
		fill := strings.Repeat("x", n)
		for _, ends := range []string{"\r\n", "\r", "\n", "\r\r\n", "\n\r", "\r\nlast", "\rlast", "\r\r", ""} {
			text := fill + ends + fill + ends
			want := strings.ReplaceAll(text, "\r\n", "\n")
			for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text)),
				iotest.DataErrReader(strings.NewReader(text))} {
				got, err := io.ReadAll(SQLite.lines(r))
				require.NoError(t, err)
				require.True(t, bytes.Equal([]byte(want), got), "%d bytes, %q", n, ends)
			}
		}
	}
	_, err := io.ReadAll(MariaDB.lines(iotest.ErrReader(io.ErrClosedPipe)))
	require.ErrorIs(t, err, io.ErrClosedPipe)
}
