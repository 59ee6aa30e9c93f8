package sqlite

import (
	"database/sql"
	"os"
	shell "os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/sqltext"
)

// sameEverywhere are functions that SQLite does not call deterministic, though they answer the same on every node:
// aggregates
// and window functions, what counts within the increment's own transaction, and tools of full-text search.
const sameEverywhere = `avg bm25 changes count cume_dist dense_rank first_value fts5 fts5_get_locale fts5_insttoken
	fts5_locale geopoly_debug group_concat highlight lag last_insert_rowid last_value lead load_extension match max min
	nth_value ntile percent_rank rank row_number rtreecheck rtreedepth rtreenode snippet sqlite_log string_agg sum total`

// Every function of SQLite that is not deterministic is known to the lint, or known to be harmless.
func TestLintKnowsEveryVolatileFunction(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	rows, err := db.QueryContext(t.Context(), "SELECT DISTINCT name FROM pragma_function_list WHERE flags & 0x800 "+
		"= 0 ORDER BY 1")
	require.NoError(t, err)
	n := 0
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		n++
		call := name + "()"
		if strings.HasPrefix(name, "current_") {
			call = name
		}
		harmless := strings.Contains(" "+strings.Join(strings.Fields(sameEverywhere), " ")+" ", " "+name+" ")
		require.Equal(t, !harmless, len(sqltext.Lint(sqltext.SQLite, "SELECT "+call)) > 0, name)
	}
	require.NoError(t, rows.Close())
	require.Greater(t, n, 10)
	for _, name := range []string{"date", "time", "datetime", "julianday", "unixepoch"} {
		require.NotEmpty(t, sqltext.Lint(sqltext.SQLite, "SELECT "+name+"()"), name)
	}
}

// A node's own time zone changes nothing: 'localtime' and 'utc' are UTC on each.
func TestLocalTimeIsUTCOnEveryNode(t *testing.T) {
	const far = "NODE+5"
	if !slices.Contains(os.Args, "-test.run=^"+t.Name()+"$") { // a process of its own, in that zone
		cmd := shell.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "TZ="+far)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	require.Equal(t, far, os.Getenv("TZ"), "the zone of the process is its own")
	n := newNode(t)
	n.run("CREATE TABLE c AS SELECT datetime(1700000000, 'unixepoch', 'localtime') || datetime(1700000000, " +
		"'unixepoch', 'utc') AS at")
	var at string
	require.NoError(t, n.db.QueryRowContext(t.Context(), "SELECT at FROM c").Scan(&at))
	require.Equal(t, "2023-11-14 22:13:202023-11-14 22:13:20", at)
}
