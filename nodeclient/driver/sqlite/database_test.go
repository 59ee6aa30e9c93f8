package sqlite

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
)

// factory: each body makes the table when it is missing, so that any increment may be the first.
var factory = drivertest.Factory{
	Open: func(t *testing.T, dir string) nodeclient.Database { return open(t, dir) },
	Body: func(k uint64) []byte {
		return fmt.Appendf(nil, "CREATE TABLE IF NOT EXISTS n (at INTEGER PRIMARY KEY, k INTEGER, pad BLOB);\nINSERT INTO "+
			"n (k, pad) VALUES (%d, zeroblob(2000));", k)
	},
	Earlier: func(t *testing.T, dir string) {
		_, err := inspect(t, filepath.Join(dir, "data.db")).Exec("ALTER TABLE xmq_position DROP COLUMN topics")
		require.NoError(t, err)
	},
	Invalid: []byte("CREATE TABLE half (a); INSERT INTO nowhere VALUES (1)"),
	Applied: func(t *testing.T, dir string) (numbers []uint64) {
		db := inspect(t, filepath.Join(dir, "data.db"))
		if query[int](t, db, "SELECT count(*) FROM sqlite_schema WHERE name = 'n'") == 0 {
			return nil
		}
		rows, err := db.Query("SELECT k FROM n ORDER BY at")
		require.NoError(t, err)
		defer func() { require.NoError(t, rows.Close()) }()
		for rows.Next() {
			var k uint64
			require.NoError(t, rows.Scan(&k))
			numbers = append(numbers, k)
		}
		require.NoError(t, rows.Err())
		return numbers
	},
}

func open(t *testing.T, dir string) *Database {
	t.Helper()
	target, err := Open(t.Context(), filepath.Join(dir, "data.db"), Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = target.Close() })
	return target
}

// inspect opens a second connection, as another process would.
func inspect(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := openDB(path, "busy_timeout(2000)")
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// query returns the one value of a query.
func query[T any](t *testing.T, db *sql.DB, text string, args ...any) (v T) {
	t.Helper()
	require.NoError(t, db.QueryRow(text, args...).Scan(&v))
	return v
}

func TestTheDriverPassesTheConformanceSuite(t *testing.T) { drivertest.Run(t, factory) }

// A file that somebody brings may have what no increment may make: a table whose rows are the pages of the file, by
// whatever name. It is refused when the node starts; other virtual tables are not.
func TestATableThatWritesBehindSQLiteIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	do := func(text string) {
		t.Helper()
		db, err := sql.Open("sqlite", path)
		require.NoError(t, err)
		_, err = db.Exec(text)
		require.NoError(t, err)
		require.NoError(t, db.Close())
	}
	do(`CREATE TABLE pages_too (a, "sqlite_dbpage"); CREATE VIRTUAL TABLE words USING fts5(text);
		CREATE VIRTUAL TABLE boxes USING rtree(id, a, b); CREATE VIRTUAL TABLE pages USING "SQLite_DBPage"`)
	_, err := Open(t.Context(), path, Options{})
	require.ErrorContains(t, err, `the virtual table "pages" writes the pages of the file`)
	do("DROP TABLE pages")
	target, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	require.NoError(t, target.Close())
}
