package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sqlite3 "modernc.org/sqlite/lib"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/sqltext"
)

// node is an open target in its own folder with the log that feeds it.
type node struct {
	*testing.T
	*Database
	log *drivertest.Log
}

func newNode(t *testing.T) *node {
	t.Helper()
	return &node{t, open(t, t.TempDir()), drivertest.NewLog(7)}
}

// shared is n for the tests that several drivers have.
func (n *node) shared() *drivertest.Node {
	return &drivertest.Node{T: n.T, Database: n.Database, Log: n.log,
		Count: func() string { return query[string](n.T, n.db, "SELECT count(*) FROM c") }}
}

// at is the stored position, or the start of the log.
func (n *node) at() event.Position {
	n.Helper()
	return drivertest.At(n.T, n.Database, n.log)
}

// run applies scripts as one batch.
func (n *node) run(scripts ...string) {
	n.Helper()
	for _, script := range scripts {
		require.NoError(n, Check([]byte(script)), "what the server takes is refused by no door: %s", script)
	}
	drivertest.Feed(n.T, n.Database, n.log, scripts...)
}

// fails applies scripts as one batch of which the i-th, from 0, must FAIL. The log then goes on after all of them.
func (n *node) fails(i int, scripts ...string) error {
	n.Helper()
	return drivertest.Fails(n.T, n.Database, n.log, i, scripts...)
}

// clone copies the files of a live database, as a crash would leave them, and returns the new path.
func (n *node) clone() string {
	n.Helper()
	path := filepath.Join(n.TempDir(), "data.db")
	for _, end := range []string{"", "-wal", ".xmq-restore", ".xmq-switch"} {
		b, err := os.ReadFile(n.path + end)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(n, err)
		require.NoError(n, os.WriteFile(path+end, b, 0o644))
	}
	return path
}

// TestXD28: "data and position in one transaction: a counter update is applied once", after a crash at any
// step of a transaction.
func TestXD28(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v INTEGER); INSERT INTO c VALUES (0)")
	before := n.at()
	batch := n.log.Scripts("UPDATE c SET v = v + 1", "UPDATE c SET v = v + 10")
	var inside string
	n.commit = func(ctx context.Context, c *sql.Conn) error {
		inside = n.clone()
		return commit(ctx, c)
	}
	_, err := n.Apply(t.Context(), before, batch)
	require.NoError(t, err)
	after := n.clone()

	for path, want := range map[string]int{inside: 0, after: 11} {
		back := open(t, filepath.Dir(path))
		require.Equal(t, want, query[int](t, back.db, "SELECT v FROM c"))
		pos, err := back.Position(t.Context())
		require.NoError(t, err)
		if want == 0 {
			require.Equal(t, before, pos, "neither data nor position")
		} else {
			require.Equal(t, batch[1].Pos, pos, "both")
		}
		_, err = back.Apply(t.Context(), before, batch) // the broker had no answer and sends again
		require.Equal(t, want == 11, nodeclient.IsFatal(err), err)
		require.Equal(t, 11, query[int](t, back.db, "SELECT v FROM c"), "applied once")
	}
}

// The outcome of a commit may be unknown: the answer is what is stored.
func TestACommitWithAnUnknownOutcomeIsReadBack(t *testing.T) {
	lost := errors.New("the answer was lost")
	n := newNode(t)
	n.run("CREATE TABLE c (v INTEGER); INSERT INTO c VALUES (0)")

	n.commit = func(ctx context.Context, c *sql.Conn) error { return errors.Join(commit(ctx, c), lost) }
	before := n.at()
	batch := n.log.Scripts("UPDATE c SET v = v + 1")
	applied, err := n.Apply(t.Context(), before, batch)
	require.NoError(t, err, "it is durable, so it is done")
	require.Equal(t, batch[0].Pos, applied)
	require.Equal(t, 1, query[int](t, n.db, "SELECT v FROM c"))

	n.commit = func(context.Context, *sql.Conn) error { return lost }
	before = n.at()
	batch = n.log.Scripts("UPDATE c SET v = v + 1")
	applied, err = n.Apply(t.Context(), before, batch)
	require.ErrorIs(t, err, lost)
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, before, applied)
	require.Equal(t, 1, query[int](t, n.db, "SELECT v FROM c"))

	n.commit = func(ctx context.Context, c *sql.Conn) error {
		return errors.Join(exec(ctx, c, "UPDATE xmq_position SET seq = 99"), commit(ctx, c), lost)
	}
	_, err = n.Apply(t.Context(), before, batch)
	require.True(t, nodeclient.IsFatal(err), err)
	require.ErrorIs(t, err, lost)
}

// Outside the order the position stays, so it cannot tell whether a commit without an answer was done: nothing is
// guessed.
func TestACommitOutsideTheOrderIsNotReadBack(t *testing.T) {
	lost := errors.New("the answer was lost")
	n := newNode(t)
	n.run("CREATE TABLE c (v INTEGER); INSERT INTO c VALUES (0)")
	at := n.at()
	record := n.log.Scripts("UPDATE c SET v = v + 1")[0].Record
	outside := []event.Item{{Pos: at, Record: record, Decision: 1}}
	for _, c := range []struct {
		commit  func(context.Context, *sql.Conn) error
		unknown bool
		v       int
	}{
		{func(ctx context.Context, c *sql.Conn) error { return errors.Join(commit(ctx, c), lost) }, true, 1},
		{func(context.Context, *sql.Conn) error { return lost }, false, 1}, // it can be rolled back, so it was not done
		{commit, false, 2},
	} {
		n.commit = c.commit
		_, err := n.Apply(t.Context(), at, outside)
		require.Equal(t, c.unknown, nodeclient.IsUnknown(err), "%v", err)
		require.Equal(t, c.v, query[int](t, n.db, "SELECT v FROM c"))
		require.Equal(t, at, n.at())
	}
}

// TestXI06: "The node drops repeats and refuses to go backwards", the driver's half: no batch but the one
// right after the stored position changes anything.
func TestXI06(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v INTEGER); INSERT INTO c VALUES (0)")
	var at []event.Position
	var all []event.Item
	for range 5 {
		at = append(at, n.at())
		all = append(all, n.log.Scripts("UPDATE c SET v = v + 1")...)
		_, err := n.Apply(t.Context(), n.at(), all[len(all)-1:])
		require.NoError(t, err)
	}
	for i := range all {
		_, err := n.Apply(t.Context(), at[i], all[i:])
		require.True(t, nodeclient.IsFatal(err), err)
	}
	require.Equal(t, 5, query[int](t, n.db, "SELECT v FROM c"))
	require.Equal(t, all[4].Pos, n.at())
}

// TestXN08: "Error classes for SQL: duplicate key, constraint, syntax: FAIL", and trouble that passes is
// retried. The codes that cannot be provoked here are looked up in the same table.
func TestXN08(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE p (id INTEGER PRIMARY KEY, v TEXT NOT NULL CHECK (v <> 'no')) STRICT; INSERT INTO p VALUES (1, "+
		"'a')",
		"CREATE TABLE q (p INTEGER REFERENCES p)", "CREATE VIEW v AS SELECT * FROM p",
		"CREATE TRIGGER t BEFORE DELETE ON p BEGIN SELECT RAISE(ABORT, 'nobody deletes'); END")
	for script, text := range map[string]string{
		"INSERT INTO p VALUES (1, 'b')":                      "UNIQUE constraint failed: p.id",
		"INSERT INTO p VALUES (2, NULL)":                     "NOT NULL constraint failed",
		"INSERT INTO p VALUES (2, 'no')":                     "CHECK constraint failed",
		"INSERT INTO q VALUES (9)":                           "FOREIGN KEY constraint failed",
		"INSERT INTO p VALUES ('x', 'b')":                    "datatype mismatch",
		"DELETE FROM p":                                      "nobody deletes",
		"SELEC 1":                                            "syntax error",
		"INSERT INTO nowhere VALUES (1)":                     "no such table: nowhere",
		"UPDATE p SET w = 1":                                 "no such column: w",
		"SELECT unheard()":                                   "no such function: unheard",
		"INSERT INTO v VALUES (1, 'a')":                      "cannot modify v because it is a view",
		"CREATE TABLE p (a)":                                 "table p already exists",
		"VACUUM":                                             "VACUUM cannot run in a transaction",
		"SELECT zeroblob(2000000000)":                        "too big",
		"CREATE TABLE big AS SELECT zeroblob(70000000) AS b": "too big",
		"SELECT 1;\n\nSELECT 2 FROM there":                   `in line 3: "SELECT 2 FROM there"`,
		"SELECT unheard('" + strings.Repeat("ä", 300) + "')": `in line 1: "SELECT unheard('` + strings.Repeat("ä", 92),
	} {
		require.ErrorContains(t, n.fails(1, "INSERT INTO q VALUES (1)", script), text)
	}
	for code, want := range map[int]class{
		sqlite3.SQLITE_BUSY: transient, sqlite3.SQLITE_LOCKED: transient, sqlite3.SQLITE_FULL: transient,
		sqlite3.SQLITE_IOERR: transient, sqlite3.SQLITE_READONLY: transient, sqlite3.SQLITE_CANTOPEN: transient,
		sqlite3.SQLITE_CORRUPT: fatal, sqlite3.SQLITE_NOTADB: fatal,
		sqlite3.SQLITE_CONSTRAINT: failed, sqlite3.SQLITE_ERROR: failed, sqlite3.SQLITE_MISMATCH: failed, 250: failed,
	} {
		require.Equal(t, want, classOf(code), "code %d", code)
	}

	impatient, err := Open(t.Context(), n.path, Options{BusyTimeout: time.Millisecond})
	require.NoError(t, err)
	defer func() { require.NoError(t, impatient.Close()) }()
	blocker := inspect(t, n.path)
	_, err = blocker.Exec("BEGIN IMMEDIATE") // another process writes
	require.NoError(t, err)
	before := n.at()
	applied, err := impatient.Apply(t.Context(), before, n.log.Scripts("INSERT INTO q VALUES (1)"))
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "database is locked")
	require.Equal(t, before, applied)
}

// TestXD20: "any unknown result of a target driver is FAIL; position unchanged".
func TestXD20(t *testing.T) {
	odd := errors.New("something nobody thought of")
	require.Equal(t, odd, classify(odd), "neither transient nor fatal: a FAIL")
	n := newNode(t)
	n.run("CREATE TABLE c (v INTEGER)")
	err := n.fails(1, "INSERT INTO c VALUES (1)", "INSERT INTO c VALUES (?)", "INSERT INTO c VALUES (3)")
	require.Zero(t, code(err), "an error that is not even SQLite's")
	require.Equal(t, 1, query[int](t, n.db, "SELECT sum(v) FROM c"), "not skipped")
}

// Statements are run many at once. Which of them failed is known all the same, however many there are and whatever they
// end with, and everything before it is there.
func TestStatementsRunTogetherFailAlone(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v INTEGER PRIMARY KEY, pad TEXT)", "CREATE TABLE seen (k INTEGER)")
	pad := strings.Repeat("x", 999)
	var scripts []string
	for k := range 200 { // several chunks
		scripts = append(scripts, fmt.Sprintf("INSERT INTO c VALUES (%d, '%s'); INSERT INTO seen SELECT changes() -- a "+
			"comment", k, pad), "INSERT INTO seen SELECT changes() /* one */", "SELECT 1; -- nothing", "")
	}
	for _, at := range []int{0, 1, 300, len(scripts) - 1} {
		fails := slices.Clone(scripts)
		fails[at] = "DELETE FROM seen; INSERT INTO c SELECT max(v), '' FROM c UNION ALL SELECT 1, NULL UNION ALL SELECT " +
			"1, NULL"
		require.ErrorContains(t, n.fails(at, fails...), "UNIQUE")
		require.Equal(t, (at+3)/4, query[int](t, n.db, "SELECT count(*) FROM c"))
		n.run("DELETE FROM c", "DELETE FROM seen")
	}
	n.run(scripts...)
	require.Equal(t, 200, query[int](t, n.db, "SELECT count(*) FROM c"))
	require.Equal(t, 200, query[int](t, n.db, "SELECT sum(k) FROM seen"),
		"each is a statement of its own, and asks of its own increment")

	index := "CREATE INDEX by_pad ON c (pad, v)"
	n.run("DELETE FROM seen", index, "DELETE FROM c WHERE v = 1; CREATE VIEW w AS SELECT v FROM c; DELETE FROM c WHERE "+
		"v = 2")
	require.Equal(t, index, query[string](t, n.db, "SELECT sql FROM sqlite_schema WHERE name = 'by_pad'"),
		"SQLite keeps the text as it was published")
	require.Equal(t, "CREATE VIEW w AS SELECT v FROM c", query[string](t, n.db, "SELECT sql FROM sqlite_schema WHERE "+
		"name = 'w'"))
	require.Equal(t, 198, query[int](t, n.db, "SELECT count(*) FROM w"))
}

// SQLite may end the whole transaction of a group by itself; still exactly those before are committed.
func TestAFailureThatRollsBackTheWholeTransaction(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v INTEGER PRIMARY KEY)",
		"CREATE TRIGGER t BEFORE INSERT ON c WHEN new.v = 13 BEGIN SELECT RAISE(ROLLBACK, 'never 13'); END")
	require.ErrorContains(t, n.fails(2, "INSERT INTO c VALUES (1)", "INSERT INTO c VALUES (2)",
		"INSERT INTO c VALUES (3), (13)", "INSERT INTO c VALUES (4)"), "never 13")
	require.ErrorContains(t, n.fails(1, "INSERT INTO c VALUES (5)",
		"INSERT INTO c VALUES (6); INSERT OR ROLLBACK INTO c VALUES (1); INSERT INTO c VALUES (7)"), "UNIQUE")
	require.ErrorContains(t, n.fails(0, "INSERT OR ROLLBACK INTO c VALUES (1)"), "UNIQUE")
	require.Equal(t, "1,2,5", query[string](t, n.db, "SELECT group_concat(v) FROM (SELECT v FROM c ORDER BY v)"))
}

// A group of increments may not succeed where one of them alone fails: nodes group differently.
func TestADeferredKeyIsCheckedForEachIncrement(t *testing.T) {
	const parent, child = "INSERT INTO p VALUES (1)", "INSERT INTO c VALUES (1)"
	n := newNode(t)
	n.run("CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p DEFERRABLE INITIALLY DEFERRED); " +
		"CREATE TABLE d (p REFERENCES p)")
	require.ErrorContains(t, n.fails(1, "SELECT 1", child, parent), "FOREIGN KEY constraint failed")
	n.run(child + ";" + parent) // within one increment it is what deferring is for
	require.Equal(t, 1, query[int](t, n.db, "SELECT count(*) FROM c"))

	n.run("PRAGMA defer_foreign_keys = ON; INSERT INTO d VALUES (2); INSERT INTO p VALUES (2)")
	require.ErrorContains(t, n.fails(1, "PRAGMA defer_foreign_keys = ON", "INSERT INTO d VALUES (3)",
		"INSERT INTO p VALUES (3)"), "FOREIGN KEY")
}

func TestForeignKeysCanBeLeftUnchecked(t *testing.T) {
	target, err := Open(t.Context(), filepath.Join(t.TempDir(), "data.db"), Options{IgnoreForeignKeys: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, target.Close()) }()
	n := &node{t, target, drivertest.NewLog(7)}
	n.run("CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p); INSERT INTO c VALUES (5)")
}

func TestRefusedBeforeAnythingRuns(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v INTEGER)")
	for script, text := range map[string]string{
		"INSERT INTO c VALUES (1); COMMIT; BEGIN":                  "line 1: COMMIT would control the transaction",
		"INSERT INTO c VALUES (1);\nEND":                           "line 2: END would",
		"INSERT INTO c VALUES (1); SAVEPOINT a":                    "SAVEPOINT would",
		"RELEASE xmq":                                              "RELEASE would",
		"BEGIN; INSERT INTO c VALUES (1); ROLLBACK":                "line 1: BEGIN would",
		"/**/;\xEF\xBB\xBF;ROLLBACK":                               "ROLLBACK would",
		"ATTACH 'x.db' AS x":                                       "ATTACH would reach other files",
		"detach main":                                              "DETACH would",
		"UPDATE xmq_position SET seq = 1":                          "mentions xmq_position",
		`DELETE FROM main."XMQ_Position"`:                          "mentions xmq_position",
		"DROP TABLE 'xmq_position'":                                "mentions xmq_position",
		"CREATE VIEW v AS SELECT * FROM [xmq_position]":            "mentions xmq_position",
		"PRAGMA writable_schema = ON":                              "PRAGMA writable_schema changes a connection",
		"PRAGMA main.journal_mode = DELETE":                        "PRAGMA main changes",
		"CREATE TEMP TABLE x (a)":                                  "temporary object",
		"SELECT total_changes()":                                   "calls total_changes",
		"SELECT load_extension('x')":                               "calls load_extension",
		"UPDATE sqlite_dbpage SET data = zeroblob(4096)":           "mentions sqlite_dbpage",
		"UPDATE 'SQLITE_dbpage' SET data = zeroblob(4096)":         "mentions sqlite_dbpage",
		"CREATE VIRTUAL TABLE v USING [sqlite_dbpage]":             "mentions sqlite_dbpage",
		"CREATE TABLE temp.c (v)":                                  `leaves the temporary table "c"`,
		`CREATE VIEW "temp".c AS SELECT 1`:                         `leaves the temporary view "c"`,
		"CREATE VIRTUAL TABLE temp.f USING fts5(a)":                `leaves the temporary table "f"`,
		"CREATE TEMPORARY VIEW c AS SELECT 1":                      "temporary object",
		"INSERT INTO c VALUES ('\x00')":                            "NUL byte",
		"INSERT INTO c VALUES (1); SELECT 'open":                   "line 1: a quote is not closed",
		"CREATE TRIGGER t AFTER INSERT ON c BEGIN SELECT 1; END x": "is not closed with END",
	} {
		require.ErrorContains(t, n.fails(1, "INSERT INTO c VALUES (100)", script, "INSERT INTO c VALUES (100)"), text)
	}
	require.Zero(t, query[int](t, n.db, "SELECT count(*) FROM c WHERE v <> 100"))
	n.run("BEGIN; INSERT INTO c VALUES (7); COMMIT;",
		"BEGIN IMMEDIATE TRANSACTION; INSERT INTO c VALUES (8); END TRANSACTION", " -- nothing\n", ";")
	n.run("PRAGMA foreign_keys=OFF", "PRAGMA user_version = 42",
		"INSERT INTO c VALUES ('xmq_position is a name') -- xmq_position")
	require.Equal(t, 42, query[int](t, n.db, "PRAGMA user_version"))
	require.Equal(t, 2, query[int](t, n.db, "SELECT count(*) FROM c WHERE v IN (7, 8)"))
	require.Equal(t, 1, query[int](t, n.db, "PRAGMA foreign_keys"))
}

func TestTheTimeStoredIsTheBrokersTime(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE a (x)", "CREATE TABLE b (x)")
	const text = "SELECT updated_at || '/' || seq || '/' || typeof(seq) || '/' || log_id || '/' || length(chain) FROM " +
		"xmq_position"
	require.Equal(t, "2024-01-01T00:00:02Z/2/integer/0000000000000007/16", query[string](t, n.db, text))
	before := n.at()
	_, err := n.Apply(t.Context(), before, []event.Item{n.log.Pass(5)})
	require.NoError(t, err)
	require.Equal(t, "2024-01-01T00:00:02Z/7/integer/0000000000000007/16", query[string](t, n.db, text),
		"a pass has no time")
	require.NoError(t, n.Seek(t.Context(), event.Start(8)))
	require.Equal(t, "2024-01-01T00:00:02Z/0/integer/0000000000000008/16", query[string](t, n.db, text))

	fresh := newNode(t)
	require.NoError(t, fresh.Seek(t.Context(), event.Start(8)))
	require.False(t, query[sql.NullString](t, fresh.db, "SELECT updated_at FROM xmq_position").Valid)
}

func TestAMasterAdoptsADatabaseThatHasData(t *testing.T) {
	dir := t.TempDir()
	db := inspect(t, filepath.Join(dir, "data.db"))
	_, err := db.Exec("CREATE TABLE old (x); INSERT INTO old VALUES (1)")
	require.NoError(t, err)
	n := &node{t, open(t, dir), drivertest.NewLog(7)}
	pos, err := n.Position(t.Context())
	require.NoError(t, err)
	require.True(t, pos.Zero())
	empty, err := n.Empty(t.Context())
	require.NoError(t, err)
	require.False(t, empty)
	require.Zero(t, query[int](t, db, "SELECT count(*) FROM sqlite_schema WHERE name = 'xmq_position'"),
		"looking leaves no trace")
	n.run("INSERT INTO old VALUES (2)")
	require.EqualValues(t, 1, n.at().Seq)
}

func TestALostPositionIsFatalUntilSomebodySeeks(t *testing.T) {
	for _, damage := range []string{
		"DELETE FROM xmq_position", "INSERT INTO xmq_position SELECT * FROM xmq_position",
		"UPDATE xmq_position SET chain = 'x'",
		"UPDATE xmq_position SET log_id = '0'", "DROP TABLE xmq_position; CREATE TABLE xmq_position (a)",
	} {
		n := newNode(t)
		n.run("CREATE TABLE c (v INTEGER)")
		pos := n.at()
		_, err := n.db.Exec(damage)
		require.NoError(t, err)
		_, err = n.Position(t.Context())
		require.True(t, nodeclient.IsFatal(err), "%s: %v", damage, err)
		_, err = n.Apply(t.Context(), pos, n.log.Scripts("INSERT INTO c VALUES (1)"))
		require.True(t, nodeclient.IsFatal(err), "%s: %v", damage, err)
		_, err = n.Snapshot(t.Context())
		require.True(t, nodeclient.IsFatal(err), "%s: %v", damage, err)
		require.Zero(t, query[int](t, n.db, "SELECT count(*) FROM c"))
		if !strings.HasPrefix(damage, "DROP") {
			require.NoError(t, n.Seek(t.Context(), pos))
			require.Equal(t, pos, n.at())
		}
	}
}

func TestWhatIsNoDatabaseIsFatal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "diary")
	diary := strings.Repeat("Dear reader, ", 1000)
	require.NoError(t, os.WriteFile(path, []byte(diary), 0o644))
	_, err := Open(t.Context(), path, Options{})
	require.True(t, nodeclient.IsFatal(err), err)
	there, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, diary, string(there))

	_, err = Open(t.Context(), filepath.Join(t.TempDir(), "no", "folder"), Options{})
	require.True(t, nodeclient.IsTransient(err), err)
}

func TestAReplacedFileIsNotWrittenTo(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v INTEGER)")
	before := n.at()
	require.NoError(t, os.Rename(n.path, n.path+".away"))
	batch := n.log.Scripts("INSERT INTO c VALUES (1)")
	_, err := n.Apply(t.Context(), before, batch)
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "removed or replaced")
	require.NoError(t, os.Rename(n.path+".away", n.path))
	_, err = n.Apply(t.Context(), before, batch)
	require.NoError(t, err)
}

func TestAPathMayHoldAnything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c#d%20&é")
	require.NoError(t, os.Mkdir(dir, 0o755))
	n := &node{t, open(t, dir), drivertest.NewLog(7)}
	n.run("CREATE TABLE c (v INTEGER)")
	_, err := os.Stat(filepath.Join(dir, "data.db"))
	require.NoError(t, err)
}

// FuzzScript: a script that passed the check leaves the transaction as it was, whatever it does: it cannot
// commit data apart from the position.
func FuzzScript(f *testing.F) {
	for _, s := range []string{
		"SELECT 1", "INSERT INTO c VALUES (1); COMMIT", "BEGIN; INSERT INTO c VALUES (1); COMMIT",
		"CREATE TRIGGER t AFTER INSERT ON c BEGIN SELECT 1; END; END",
		"SELECT [;COMMIT;]", "SELECT $a('); COMMIT; SELECT (')", "/*/; COMMIT; /*/", "EXPLAIN COMMIT", "-- \rCOMMIT",
		"\x0bCOMMIT", "\xEF\xBB\xBFCOMMIT;",
		"\xEF\xBBCOMMIT", "SELECT x'", "CREATE TABLE trigger (a); COMMIT", "SELECT 1--\n;COMMIT", "`;`;end",
		"CREATE TRIGGER x; END; COMMIT",
	} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, script string) {
		if len(script) > 1000 {
			return
		}
		statements, err := checkPiece(sqltext.Piece{Text: script})
		if err != nil {
			return
		}
		db, err := openDB(filepath.Join(dir, "memory"), "journal_mode(MEMORY)")
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		c, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		require.NoError(t, exec(t.Context(), c, "BEGIN"))
		require.NoError(t, exec(t.Context(), c, "CREATE TABLE IF NOT EXISTS guard (a)"))
		for _, st := range statements {
			if err = exec(t.Context(), c, st.Text); err != nil {
				break
			}
		}
		rollback := exec(t.Context(), c, "ROLLBACK")
		if err == nil {
			require.NoError(t, rollback, "the script ended the transaction")
		}
		require.Zero(t, query[int](t, db, "SELECT count(*) FROM sqlite_schema"), "the script committed")
	})
}

func TestAnEndlessIncrementEndsWithItsContext(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v INTEGER)")
	before := n.at()
	batch := n.log.Scripts("INSERT INTO c VALUES (1)",
		"INSERT INTO c VALUES (2); WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i) SELECT max(x) FROM i")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	applied, err := n.Apply(ctx, before, batch)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, before, applied)
	_, err = n.Apply(t.Context(), before, batch[:1])
	require.NoError(t, err)
	require.Equal(t, 1, query[int](t, n.db, "SELECT count(*) FROM c"), "nothing of the interrupted batch is left")
}

func BenchmarkApply(b *testing.B) {
	target, err := Open(b.Context(), filepath.Join(b.TempDir(), "data.db"), Options{})
	require.NoError(b, err)
	defer func() { require.NoError(b, target.Close()) }()
	log := drivertest.NewLog(7)
	at := log.At()
	_, err = target.Apply(b.Context(), at, log.Scripts("CREATE TABLE c (id INTEGER PRIMARY KEY, name TEXT, v INTEGER)"))
	require.NoError(b, err)
	for b.Loop() { // one operation is a group of 256 increments
		before := log.At()
		var group []event.Item
		for range 256 {
			group = append(group, log.Scripts("INSERT INTO c (name, v) VALUES ('somebody''s name', 12345)")...)
		}
		_, err := target.Apply(b.Context(), before, group)
		require.NoError(b, err)
	}
}

// Whatever an increment does to the table of the position is its FAIL; a node whose position a person has taken away
// ends, and says so.
func TestThePlaceIsNobodyElses(t *testing.T) {
	n := newNode(t)
	shared := n.shared()
	shared.Make, shared.Add = "CREATE TABLE c (v INTEGER)", "INSERT INTO c VALUES (1)"
	shared.PlaceIsNobodyElses(func() {
		_, err := n.db.Exec("DROP TABLE xmq_position")
		require.NoError(t, err)
	},
		`ALTER TABLE "xmq_position" ADD x`, "UPDATE xmq_position SET seq = seq + 7",
		"PRAGMA writable_schema = 1; UPDATE sqlite_schema SET sql = replace(sql, 'seq', 'sqe') WHERE name LIKE 'xmq%'")
}
