package sqlite

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
)

// What a statement of an increment makes SQLite say is no damage of the database: a virtual table that finds its own
// content wanting takes nobody's copy.
func TestAnIncrementThatSpeaksOfDamageIsAFailOfAWholeDatabase(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT)",
		"CREATE VIRTUAL TABLE ft USING fts5(body, content='docs', content_rowid='id')",
		"INSERT INTO docs VALUES (1, 'hello world')")
	require.ErrorContains(t, n.fails(1, "INSERT INTO docs VALUES (2, 'b')",
		"INSERT INTO ft(ft, rank) VALUES ('integrity-check', 1)"), "malformed")
	n.run("INSERT INTO ft(ft) VALUES ('rebuild')", "INSERT INTO ft(ft, rank) VALUES ('integrity-check', 1)")

	n.run("CREATE VIRTUAL TABLE own USING fts5(body)", "INSERT INTO own VALUES ('a')", "UPDATE own_content SET c0 = 'b'")
	require.ErrorContains(t, n.fails(0, "INSERT INTO own(own) VALUES ('integrity-check')"), "malformed")
	c, release, err := n.conn(t.Context())
	require.NoError(t, err)
	defer release()
	require.NoError(t, whole(t.Context(), c), "nor is it one that keeps others from joining")
}

// Damage that is there is found, and is FATAL.
func TestDamageThatAnIncrementMeetsIsFatal(t *testing.T) {
	dir := t.TempDir()
	n := &node{t, open(t, dir), drivertest.NewLog(7)}
	n.run("CREATE TABLE a (v INTEGER PRIMARY KEY, pad TEXT)", "INSERT INTO a WITH RECURSIVE c(x) AS (SELECT 1 UNION "+
		"ALL SELECT x + 1 FROM c WHERE x < 500) SELECT x, hex(zeroblob(200)) FROM c")
	require.NoError(t, n.Close())
	path := filepath.Join(dir, "data.db")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for page := 10; page < 30; page++ { // leaves of the table
		copy(b[page*4096:], "no page of a tree")
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))

	again := &node{t, open(t, dir), n.log}
	_, err = again.Apply(t.Context(), again.at(), n.log.Scripts("UPDATE a SET pad = 'x'"))
	require.True(t, nodeclient.IsFatal(err), err)
	require.ErrorContains(t, err, "the database is damaged")
}

// A database may come from another node: its schema is not trusted, and neither its values nor its file grow without
// bound.
func TestAConnectionIsGuarded(t *testing.T) {
	path, o, err := ParsePath(filepath.Join(t.TempDir(), "data.db") + "?max_length=100000&max_pages=100")
	require.NoError(t, err)
	target, err := Open(t.Context(), path, o)
	require.NoError(t, err)
	defer func() { require.NoError(t, target.Close()) }()
	require.Equal(t, 0, query[int](t, target.db, "PRAGMA trusted_schema"))
	require.Equal(t, 1, query[int](t, target.db, "PRAGMA cell_size_check"))
	n := &node{t, target, drivertest.NewLog(7)}
	n.run("CREATE TABLE a (v)")
	require.ErrorContains(t, n.fails(1, "INSERT INTO a VALUES (zeroblob(99000))",
		"INSERT INTO a VALUES (zeroblob(101000))"), "too big")
	require.ErrorContains(t, n.fails(0, "INSERT INTO a SELECT zeroblob(99000) FROM a, (VALUES (1), (2), (3), (4), (5))"),
		"more than max_pages=100 pages")
	n.run("INSERT INTO a VALUES (1)")

	for text, want := range map[string]string{
		"x.db?max_pages=0": "is not a number from 1", "x.db?max_length=2000000000": "is not a number from 1",
		"x.db?mode=ro": `the setting "mode"`,
	} {
		_, _, err := ParsePath(text)
		require.ErrorContains(t, err, want)
	}
}

// Whatever in the schema asks what the statement before has done hears of the same increment only: in one batch, in
// several, and after a restart.
func TestNobodyAsksWhatAnotherIncrementHasDone(t *testing.T) {
	for name, c := range map[string]struct{ makes, asks string }{
		"a trigger's key": {"CREATE TRIGGER tr AFTER INSERT ON other BEGIN INSERT INTO seen VALUES " +
			"(last_insert_rowid()); END", "INSERT OR REPLACE INTO other VALUES (1)"},
		"a trigger's count": {"CREATE TRIGGER tr BEFORE UPDATE ON other BEGIN INSERT INTO seen VALUES (changes()); END",
			"UPDATE other SET v = v"},
		"a view's count": {"CREATE VIEW w AS SELECT changes() AS v", "INSERT INTO seen SELECT v FROM w"},
		"a view's key":   {"CREATE VIEW w AS SELECT last_insert_rowid() AS v", "INSERT INTO seen SELECT v FROM w"},
		"a default": {"CREATE TABLE d (k, v DEFAULT (changes() + 100 * last_insert_rowid()))",
			"INSERT INTO d (k) VALUES (1); INSERT INTO seen SELECT max(v) FROM d"},
		"a default's total": {"CREATE TABLE d (k, v DEFAULT (total_changes()))",
			"INSERT INTO d (k) VALUES (1); INSERT INTO seen SELECT max(v) FROM d"},
		"a trigger's total": {"CREATE TRIGGER tr AFTER UPDATE ON other BEGIN INSERT INTO seen VALUES " +
			"(total_changes()); END", "UPDATE other SET v = v"},
		"the total of a view": {"CREATE VIEW w AS SELECT total_changes() AS v", "INSERT INTO seen SELECT v FROM w"},
	} {
		t.Run(name, func(t *testing.T) {
			leaves := "INSERT INTO c (v) VALUES (1), (2), (3)"
			scripts := []string{leaves, leaves, c.asks, leaves, c.asks, "UPDATE c SET v = 1", c.asks}
			var first string
			for _, size := range []int{0, len(scripts), 2, 1} { // 0 is 1, and a restart
				n := newNode(t)
				n.run("CREATE TABLE c (id INTEGER PRIMARY KEY, v); CREATE TABLE seen (v); CREATE TABLE other (v UNIQUE); INSERT " +
					"INTO other VALUES (5)")
				if strings.Contains(c.makes, "total") { // which no increment may make
					_, err := n.db.ExecContext(t.Context(), c.makes)
					require.NoError(t, err)
				} else if size == len(scripts) { // in the same batch
					scripts = append([]string{c.makes}, scripts...)
				} else {
					n.run(c.makes)
				}
				before, items := n.at(), n.log.Scripts(scripts...)
				if len(scripts) > 7 {
					scripts = scripts[1:]
				}
				for len(items) > 0 {
					if size == 0 {
						require.NoError(t, n.Database.Close())
						var err error
						n.Database, err = Open(t.Context(), n.path, Options{})
						require.NoError(t, err)
					}
					pos, err := n.Apply(t.Context(), before, items[:min(max(size, 1), len(items))])
					require.NoError(t, err)
					for len(items) > 0 && items[0].Pos.Seq <= pos.Seq {
						items = items[1:]
					}
					before = pos
				}
				rows := query[string](t, n.db, "SELECT count(*) || ': ' || group_concat(v) FROM seen")
				if size == 0 {
					first = rows
				}
				require.Equal(t, first, rows, "size %d", size)
				require.Contains(t, rows, "3: ")
				require.NoError(t, n.Database.Close())
			}
		})
	}
}

// However increments fall into batches, the same ones fail and the same data comes out.
func TestTheResultDoesNotDependOnBatches(t *testing.T) {
	open := func(t *testing.T) nodeclient.Database { return open(t, t.TempDir()) }
	scripts := func(rng *rand.Rand) (all []string) {
		kinds := []func(k int) string{
			func(k int) string { return fmt.Sprintf("INSERT INTO c (v) VALUES (%d)", rng.IntN(30)) },
			func(k int) string { return fmt.Sprintf("DELETE FROM c WHERE v = %d", rng.IntN(30)) },
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT changes(), %d", k) },
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT last_insert_rowid(), %d", k) },
			func(k int) string { return fmt.Sprintf("INSERT OR ROLLBACK INTO c (v) VALUES (%d)", rng.IntN(30)) },
			func(k int) string {
				return fmt.Sprintf("ALTER TABLE c ADD COLUMN c%d INTEGER DEFAULT %d", rng.IntN(6), k)
			},
			func(k int) string { return fmt.Sprintf("UPDATE c SET c%d = %d", rng.IntN(6), k) },
			func(k int) string { return fmt.Sprintf("CREATE TABLE temp.c (v); INSERT INTO c (v) VALUES (%d)", k) },
			func(k int) string { return fmt.Sprintf("INSERT INTO child VALUES (%d)", rng.IntN(30)) },
			func(k int) string {
				return fmt.Sprintf("PRAGMA defer_foreign_keys = ON; INSERT INTO child VALUES (%d)", rng.IntN(30))
			},
			func(k int) string {
				return fmt.Sprintf("INSERT INTO c (v) VALUES (%d); INSERT INTO nowhere VALUES (1)", 100+k)
			},
			func(k int) string { return fmt.Sprintf("INSERT INTO auto (v) VALUES (%d), (%d)", k, rng.IntN(30)) },
			func(k int) string { return fmt.Sprintf("DELETE FROM auto WHERE v < %d", rng.IntN(30)) },
			func(k int) string { return fmt.Sprintf("UPDATE sqlite_sequence SET seq = %d", rng.IntN(100)) },
			func(k int) string {
				return fmt.Sprintf("CREATE TRIGGER IF NOT EXISTS t%d AFTER DELETE ON c BEGIN INSERT INTO seen VALUES (old.v, "+
					"-1); END", rng.IntN(2))
			},
		}
		all = []string{"CREATE TABLE c (v INTEGER PRIMARY KEY)", "CREATE TABLE seen (n, k)",
			"CREATE TABLE child (v REFERENCES c)", "CREATE TABLE auto (id INTEGER PRIMARY KEY AUTOINCREMENT, v UNIQUE)"}
		for k := range 60 {
			all = append(all, kinds[rng.IntN(len(kinds))](k))
		}
		return all
	}
	dump := func(t *testing.T, target nodeclient.Database) string {
		db := target.(*Database).db
		var b strings.Builder
		for _, table := range []string{"c", "seen", "child", "auto", "sqlite_sequence"} {
			rows, err := db.Query("SELECT * FROM " + table + " ORDER BY rowid")
			require.NoError(t, err)
			columns, err := rows.Columns()
			require.NoError(t, err)
			for rows.Next() {
				values := make([]any, len(columns))
				for i := range values {
					values[i] = new(any)
				}
				require.NoError(t, rows.Scan(values...))
				for i, v := range values {
					fmt.Fprintf(&b, "%s.%s=%v ", table, columns[i], *v.(*any))
				}
				b.WriteByte('\n')
			}
			require.NoError(t, rows.Err())
		}
		return b.String()
	}
	drivertest.Grouping(t, 6, open, scripts, dump)
}
