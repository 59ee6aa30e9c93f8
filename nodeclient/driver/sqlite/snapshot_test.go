package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
)

// fill makes a table of about mib MiB.
func (n *node) fill(mib int) {
	n.Helper()
	n.run("CREATE TABLE big (id INTEGER PRIMARY KEY, v BLOB)",
		fmt.Sprintf("WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < %d) INSERT INTO big SELECT "+
			"x, randomblob(8000) FROM i", mib*131))
}

// taken is a snapshot in memory.
func (n *node) taken() ([]byte, event.Position) { return drivertest.Taken(n.T, n.Database) }

// restored is a new node with the snapshot.
func restoredNode(t *testing.T, snapshot []byte, at event.Position) *node {
	t.Helper()
	n := newNode(t)
	drivertest.Load(t, n.Database, snapshot, at)
	return n
}

// TestXE07: "MVCC target: increments flow during a long copy, yet the snapshot holds exactly its position",
// also when pages all over the file are rewritten meanwhile and someone tries to checkpoint after each increment.
func TestXE07(t *testing.T) {
	n := newNode(t)
	n.fill(3)
	n.run("CREATE TABLE c (v INTEGER); INSERT INTO c VALUES (0)")
	sum := query[string](t, n.db, "SELECT group_concat(hex(substr(v, 1, 8))) FROM big")
	at := n.at()
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	require.True(t, s.Online())

	other := inspect(t, n.path)
	_, err = other.Exec("PRAGMA busy_timeout = 0")
	require.NoError(t, err)
	snapshot, increments := drivertest.WrittenDuring(t, s, func() {
		n.run("UPDATE c SET v = v + 1; UPDATE big SET v = randomblob(9000) WHERE id % 16 = (SELECT v % 16 FROM c); DELETE " +
			"FROM big WHERE id % 50 = 7")
		_, err := other.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
		require.NoError(t, err)
	})
	require.Equal(t, increments, query[int](t, n.db, "SELECT v FROM c"), "increments flowed")

	copied := restoredNode(t, snapshot, at)
	require.Equal(t, at, copied.at())
	require.Equal(t, 0, query[int](t, copied.db, "SELECT v FROM c"))
	require.Equal(t, sum, query[string](t, copied.db, "SELECT group_concat(hex(substr(v, 1, 8))) FROM big"))
}

// TestSS11: "the data is one moment: writes during a dump do not appear", with a writer beside the dump that
// is no node: another process that does not touch the position.
func TestSS11(t *testing.T) {
	n, copied := newNode(t), newNode(t)
	n.fill(2)
	n.run("CREATE TABLE c (v INTEGER)")
	other := inspect(t, n.path)
	n.shared().SnapshotIsOneMoment(func() {
		_, err := other.Exec("INSERT INTO c VALUES (1)")
		require.NoError(t, err)
	}, copied.shared())
}

// bytesRead is how much this process has read from files so far.
func bytesRead(t *testing.T) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	require.NoError(t, err)
	_, err = fmt.Sscanf(string(b), "rchar: %d", &n)
	require.NoError(t, err)
	return n
}

// TestXD13: "MVCC target: pause is short and does not grow with data size": what opening a snapshot reads is
// counted, not timed.
func TestXD13(t *testing.T) {
	cost := func(mib int) int {
		n := newNode(t)
		n.fill(mib)
		n.taken() // the WAL of the filling is in the file now
		n.run("CREATE TABLE c (v)")
		before := bytesRead(t)
		s, err := n.Snapshot(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		require.Greater(t, s.(*snapshot).head.size(), int64(mib)<<20)
		return bytesRead(t) - before
	}
	small, large := cost(1), cost(8)
	t.Logf("opening reads %d bytes of 1 MiB, %d bytes of 8 MiB", small, large)
	require.Less(t, large, small+64<<10)
}

func TestAReaderOfAnOldStateHoldsASnapshotUp(t *testing.T) {
	dir := t.TempDir()
	target, err := Open(t.Context(), filepath.Join(dir, "data.db"), Options{BusyTimeout: 20_000_000})
	require.NoError(t, err)
	defer func() { require.NoError(t, target.Close()) }()
	n := &node{t, target, drivertest.NewLog(7)}
	n.run("CREATE TABLE c (v)")
	old, err := inspect(t, n.path).Begin()
	require.NoError(t, err)
	var rows int
	require.NoError(t, old.QueryRow("SELECT count(*) FROM c").Scan(&rows))
	n.run("INSERT INTO c VALUES (1)")
	begun := time.Now()
	for range 20 { // none of them waits
		err = target.Prepare(t.Context())
		require.True(t, nodeclient.IsTransient(err), err)
		require.ErrorContains(t, err, "another connection reads an older state")
	}
	require.Less(t, time.Since(begun), 20*holdPatience)
	_, err = n.Snapshot(t.Context())
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "another connection reads an older state")
	n.run("INSERT INTO c VALUES (2)")
	require.NoError(t, old.Rollback())
	require.NoError(t, target.Prepare(t.Context()))
	snapshot, at := n.taken()
	require.Equal(t, 2, query[int](t, restoredNode(t, snapshot, at).db, "SELECT count(*) FROM c"))
}

// TestXR05: "any payload can be carried", as far as SQL can: every byte arrives in a blob, and a NUL in the
// text, which SQLite cannot read, is refused instead of cutting the increment short.
func TestXR05(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	n := newNode(t)
	n.run(fmt.Sprintf("CREATE TABLE b (v BLOB); INSERT INTO b VALUES (x'%x')", every),
		"INSERT INTO b VALUES ('\n\xff\x01;''')")
	require.Equal(t, every, query[[]byte](t, n.db, "SELECT v FROM b WHERE rowid = 1"))
	require.Equal(t, "0AFF013B27", query[string](t, n.db, "SELECT hex(v) FROM b WHERE rowid = 2"))
	require.ErrorContains(t, n.fails(0, "INSERT INTO b VALUES (1)\x00; syntax error"), "NUL byte")
}

func TestARealSchemaSurvivesApplySnapshotAndRestore(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	n := newNode(t)
	n.run(`CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE);
		CREATE TABLE book (id INTEGER PRIMARY KEY AUTOINCREMENT, author INTEGER NOT NULL REFERENCES author ON DELETE CASCADE,
			title TEXT, cents INTEGER, euros REAL GENERATED ALWAYS AS (cents / 100.0) STORED, twice INTEGER AS (cents * 2)
			VIRTUAL, cover BLOB);
		CREATE INDEX cheap ON book (cents) WHERE cents < 1000;
		CREATE VIEW books AS SELECT name, title, euros, twice FROM book JOIN author ON author.id = book.author;
		CREATE TABLE audit (what TEXT, title TEXT);
		CREATE TRIGGER book_gone AFTER DELETE ON book BEGIN
			INSERT INTO audit VALUES (CASE WHEN old.title IS NULL THEN 'nameless' ELSE 'gone' END, old.title);
			UPDATE author SET name = name || '!' WHERE id = old.author;
		END;`,
		"INSERT INTO author VALUES (1, 'Zoë 𝄞 😀'), (2, ''), (3, 'semi;colon''s')",
		fmt.Sprintf("INSERT INTO book (author, title, cents, cover) VALUES (1, NULL, 950, x'%x'), (2, '', NULL, x''), (3, "+
			"'a\r\n\tb', -1, NULL)", every),
		"CREATE VIRTUAL TABLE words USING fts5(text); INSERT INTO words VALUES ('the quick brown fox')",
		"CREATE TABLE k (a TEXT, b TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID; INSERT INTO k VALUES ('', ''), ('a', '')",
		"DELETE FROM author WHERE id = 3", "DELETE FROM book WHERE title IS NULL AND cents = 0",
		"INSERT INTO book (author, title, cents) VALUES (1, 'last', 9007199254740993)")

	ask := []string{
		"SELECT group_concat(quote(id) || quote(name)) FROM author",
		"SELECT group_concat(quote(id) || quote(author) || quote(title) || quote(cents) || quote(euros) || quote(twice) " +
			"|| quote(cover)) FROM book",
		"SELECT group_concat(quote(what) || quote(title)) FROM audit",
		"SELECT group_concat(quote(name) || quote(twice)) FROM books",
		"SELECT count(*) || text FROM words WHERE words MATCH 'quick'",
		"SELECT group_concat(quote(a) || quote(b)) FROM k",
		"SELECT group_concat(name || coalesce(sql, '')) FROM sqlite_schema",
		"SELECT group_concat(seq || log_id || chain || updated_at) FROM xmq_position",
		"PRAGMA integrity_check", "PRAGMA journal_mode",
	}
	snapshot, at := n.taken()
	copied := restoredNode(t, snapshot, at)
	for _, q := range ask {
		want := query[string](t, n.db, q)
		require.NotEmpty(t, want)
		require.Equal(t, want, query[string](t, copied.db, q), q)
	}
	require.Contains(t, query[string](t, copied.db, ask[0]), "Zoë 𝄞 😀")
	require.Equal(t, every, query[[]byte](t, copied.db, "SELECT cover FROM book WHERE id = 1"))
	require.Equal(t, "'gone''a\r\n\tb'", query[string](t, copied.db, ask[2]))

	copied.log = n.log
	copied.run("INSERT INTO book (author, title) VALUES (2, 'after')")
	require.Equal(t, 5, query[int](t, copied.db, "SELECT id FROM book WHERE title = 'after'"), "the sequence goes on")
}

func TestEmptyRowsAndOtherPageSizesAreCopied(t *testing.T) {
	dir := t.TempDir()
	db := inspect(t, filepath.Join(dir, "data.db"))
	_, err := db.Exec("PRAGMA page_size = 16384; CREATE TABLE a (x)")
	require.NoError(t, err)
	require.NoError(t, db.Close())
	n := &node{t, open(t, dir), drivertest.NewLog(7)}
	n.run("INSERT INTO a VALUES (1)")
	snapshot, at := n.taken()
	require.Equal(t, 16384, query[int](t, restoredNode(t, snapshot, at).db, "PRAGMA page_size"))
}

// A kill between any two steps of a switch leaves the old database or the new one, whole; and the old WAL,
// which holds increments that are not in the old file yet, never meets the new file.
func TestASwitchSurvivesAKillAtEachStep(t *testing.T) {
	source := newNode(t)
	source.run("CREATE TABLE c (v TEXT); INSERT INTO c VALUES ('new')")
	source.fill(1)
	snapshot, newPos := source.taken()

	for steps := range 5 {
		n := newNode(t)
		n.run("CREATE TABLE c (v TEXT); INSERT INTO c VALUES ('old')")
		n.run("CREATE TABLE other (v TEXT)")
		oldPos := n.at()
		_, err := n.Restore(t.Context(), newPos, event.AllTopics, bytes.NewReader(snapshot))
		require.NoError(t, err)
		path := n.clone() // as a kill leaves it, with a WAL
		wal, err := os.Stat(path + "-wal")
		require.NoError(t, err)
		require.NotZero(t, wal.Size())
		for _, step := range []func(string) error{decide, dropSidecars, install, finishSwitch}[:steps] {
			require.NoError(t, step(path))
		}
		for range 2 { // and once more: nothing is left to finish
			back := open(t, filepath.Dir(path))
			pos, err := back.Position(t.Context())
			require.NoError(t, err)
			if steps == 0 {
				require.Equal(t, oldPos, pos)
				require.Equal(t, "old", query[string](t, back.db, "SELECT v FROM c"))
			} else {
				require.Equal(t, newPos, pos)
				require.Equal(t, "new", query[string](t, back.db, "SELECT v FROM c"))
			}
			require.Equal(t, "ok", query[string](t, back.db, "PRAGMA integrity_check"))
			require.NoError(t, back.Close())
		}
		left, err := filepath.Glob(path + "*")
		require.NoError(t, err)
		require.Equal(t, []string{path}, left)
	}
}

func TestASwitchThatCannotFinishIsFinishedLater(t *testing.T) {
	source := newNode(t)
	source.run("CREATE TABLE c (v TEXT)")
	snapshot, pos := source.taken()
	n := newNode(t)
	n.run("CREATE TABLE d (v TEXT)")
	r, err := n.Restore(t.Context(), pos, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = r.Switch(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, pos, n.at())
	require.NoError(t, n.Close())
	_, err = n.Position(t.Context())
	require.ErrorContains(t, err, "has been closed")
}

func TestARestoreAsksForRoomFirst(t *testing.T) {
	n := newNode(t)
	head := header{pageSize: 65536, pages: 1<<32 - 1}.append(nil)
	_, err := n.Restore(t.Context(), event.Start(7), event.AllTopics, io.MultiReader(bytes.NewReader(head), neverRead{t}))
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "262,143 GiB")
}

type neverRead struct{ t *testing.T }

func (r neverRead) Read([]byte) (int, error) {
	r.t.Error("the pages were asked for")
	return 0, errors.New("never")
}

// A file whose pages are as sent but are no good database, so that only SQLite can tell.
func TestARestoreHasSQLiteCheckThePages(t *testing.T) {
	source := newNode(t)
	source.fill(1)
	snapshot, pos := source.taken()
	h, err := parseHeader(snapshot[:headerLen])
	require.NoError(t, err)
	for _, damage := range []func([]byte){
		func(pages []byte) { clear(pages[100:200]) },
		func(pages []byte) { clear(pages[:16]) },
		func(pages []byte) { copy(pages[5*h.pageSize:], bytes.Repeat([]byte{0xff}, int(h.pageSize))) },
	} {
		pages := bytes.Clone(snapshot[headerLen : len(snapshot)-4])
		damage(pages)
		sum := newSum()
		_, _ = sum.Write(pages)
		n := newNode(t)
		_, err := n.Restore(t.Context(), pos, event.AllTopics,
			io.MultiReader(bytes.NewReader(h.append(nil)), bytes.NewReader(pages), bytes.NewReader(appendSum(nil, sum))))
		require.ErrorIs(t, err, event.ErrDamaged)
		require.False(t, nodeclient.IsFatal(err), err)
		left, err := filepath.Glob(n.path + ".xmq*")
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

func TestGoldenHeader(t *testing.T) {
	b := header{pageSize: 4096, pages: 3}.append(nil)
	require.Equal(t, "XMQPAGES\x01\x00\x00\x00\x00\x10\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00", string(b[:24]))
	require.Len(t, b, headerLen)
}

func FuzzHeader(f *testing.F) {
	f.Add(header{pageSize: 4096, pages: 3}.append(nil))
	f.Add(header{pageSize: 512, pages: 1<<32 - 1}.append(nil))
	f.Add([]byte(strings.Repeat("x", headerLen)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != headerLen {
			return
		}
		if h, err := parseHeader(b); err == nil {
			require.Equal(t, b, h.append(nil))
			require.Positive(t, h.size())
		} else {
			require.ErrorIs(t, err, event.ErrDamaged)
		}
	})
}

// Increments wait while a snapshot is opened, so it waits no longer than it says for a reader or a writer that does not
// let go.
func TestOpeningASnapshotHoldsIncrementsForASecondAtMost(t *testing.T) {
	for name, hold := range map[string]string{"an old reader": "BEGIN; SELECT count(*) FROM c", "a " +
		"writer": "BEGIN IMMEDIATE"} {
		t.Run(name, func(t *testing.T) {
			target, err := Open(t.Context(), filepath.Join(t.TempDir(), "data.db"), Options{BusyTimeout: time.Minute})
			require.NoError(t, err)
			defer func() { require.NoError(t, target.Close()) }()
			n := &node{t, target, drivertest.NewLog(7)}
			n.run("CREATE TABLE c (v)")
			other, err := inspect(t, n.path).Conn(t.Context())
			require.NoError(t, err)
			_, err = other.ExecContext(t.Context(), hold)
			require.NoError(t, err)
			if name == "an old reader" {
				n.run("INSERT INTO c VALUES (1)")
			}
			began := time.Now()
			_, err = n.Snapshot(t.Context())
			require.True(t, nodeclient.IsTransient(err), err)
			require.Less(t, time.Since(began), holdPatience+10*time.Second, "and not a minute")
			_, err = other.ExecContext(t.Context(), "ROLLBACK")
			require.NoError(t, err)
			n.taken()
			require.Equal(t, 60000, query[int](t, n.db, "PRAGMA busy_timeout"), "increments wait as long as before")
		})
	}
}
