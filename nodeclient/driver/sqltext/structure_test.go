package sqltext

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// What can begin no statement, or leaves one half of something out, is told with its line, in a script and in a {"tx"}.
func TestWhatNoServerCanReadIsTold(t *testing.T) {
	for _, c := range []struct {
		d           Dialect
		script, why string
	}{
		{PostgreSQL, "SELEC 1", `line 1: "SELEC" begins no statement of PostgreSQL; did you mean SELECT?`},
		{MariaDB, "SELEC 1", `line 1: "SELEC" begins no statement of MariaDB and MySQL; did you mean SELECT?`},
		{PostgreSQL, "SELECT 1;\n\n  hello world", `line 3: "hello" begins no statement of PostgreSQL`},
		{PostgreSQL, "INSERT INTO t\nVALUES (1,\n(2);", "line 1: a parenthesis of this INSERT INTO T is not closed"},
		{MariaDB, "INSERT INTO t\nVALUES (1,\n(2);", "line 2: a parenthesis is not closed"},
		{PostgreSQL, "SELECT 1\n);", "line 2: a parenthesis is closed that was not opened"},
		{PostgreSQL, "CREATE TABEL t (a int)", `line 1: "TABEL" cannot follow CREATE; did you mean TABLE?`},
		{MariaDB, "drop tabel t", `line 1: "tabel" cannot follow DROP; did you mean TABLE?`},
		{MariaDB, "INSERT INTO t VALUES (1,\n$2)",
			"line 2: $2 is no placeholder of MariaDB and MySQL: write ? for an argument, and `$2` for a name"},
		{MariaDB, "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)",
			"line 1: CONCURRENTLY is PostgreSQL's: leave it out; MariaDB and MySQL let others go on as far as they can"},
		{PostgreSQL, "UPDATE t a = 1", "line 1: this UPDATE has no SET"},
		{PostgreSQL, "INSERT INTO t (1)", "line 1: this INSERT has no VALUES and no SELECT"},
	} {
		require.EqualError(t, Structure(c.d, []byte(c.script)), c.why)
	}
	body, err := json.Marshal(map[string]any{"tx": []any{map[string]any{"sql": "SELECT 1"},
		map[string]any{"sql": "\nSELEC 1"}}})
	require.NoError(t, err)
	require.EqualError(t, Structure(PostgreSQL, body),
		`statement 2: line 2: "SELEC" begins no statement of PostgreSQL; did you mean SELECT?`)
}

// A word is taken for a slip of another only when one edit lies between them.
func TestASlipIsOneEdit(t *testing.T) {
	for _, w := range []string{"SELEC", "SELECTT", "SLECT", "SELCET", "seledt", "XSELECT", "SEELECT"} {
		require.Equal(t, "SELECT", Meant(SQLite, w), w)
	}
	for _, w := range []string{"SELECT", "select", "SEL", "SECLET1", "SLECTE", ""} {
		require.Empty(t, Meant(SQLite, w), w)
	}
}
