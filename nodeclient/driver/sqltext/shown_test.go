package sqltext

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A statement of somebody else is shown without what may be a secret.
func TestAShownStatementHoldsNoSecret(t *testing.T) {
	for _, c := range []struct {
		d          Dialect
		text, want string
	}{
		{PostgreSQL, `LOCK TABLE "ev"  IN ACCESS EXCLUSIVE MODE`, `LOCK TABLE "ev" IN ACCESS EXCLUSIVE MODE`},
		{PostgreSQL, "ALTER ROLE app PASSWORD 's3cret' -- s3cret\n;", "ALTER ROLE app PASSWORD ? ;"},
		{PostgreSQL, "SELECT E's3cret', $x$s3cret$x$, 4711, U&'s3cret', B'10'", "SELECT ?, ?, ?, U&?, B?"},
		{PostgreSQL, "UPDATE t SET a = 's3cret", "UPDATE t SET a =..."},
		{MariaDB, "SET PASSWORD = \"s3cret\" /*!40101 , x = 's3cret' */", "SET PASSWORD = ?  , x = ? "},
		{MariaDB, "UPDATE `t` SET v = _utf8's3cret', h = X'5333'", "UPDATE `t` SET v = _utf8?, h = X?"},
		{SQLite, `SELECT [a b], "c", 's3cret', 1.5`, `SELECT [a b], "c", ?, ?.?`},
	} {
		got := Shown(c.d, c.text, 200)
		require.NotContains(t, got, "s3cret")
		require.NotContains(t, got, "4711")
		require.Equal(t, strings.Join(strings.Fields(c.want), " "), strings.Join(strings.Fields(got), " "))
	}
	long := Shown(PostgreSQL, "SELECT "+strings.Repeat("ä,", 1000), 80)
	require.LessOrEqual(t, len(long), 83)
	require.True(t, strings.HasSuffix(long, "..."), long)
}
