package mysql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/internal/snapstream"
	"xmq/nodeclient/driver/servertest/mysqltest"
)

// taken is a snapshot in memory.
func (n *node) taken() ([]byte, event.Position) { return drivertest.Taken(n.T, n.Database) }

// restoredNode is a new node with the snapshot.
func restoredNode(t *testing.T, snapshot []byte, at event.Position) *node {
	t.Helper()
	n := newNode(t)
	n.load(snapshot, at)
	return n
}

func (n *node) load(snapshot []byte, at event.Position) {
	n.Helper()
	drivertest.Load(n.T, n.Database, snapshot, at)
	require.Empty(n, leftovers(n.T, n.srv, n.db))
	require.Equal(n, at, n.at())
}

// fill makes a table of about mib MiB.
func (n *node) fill(mib int) {
	n.Helper()
	n.run("CREATE TABLE big (id int AUTO_INCREMENT PRIMARY KEY, v text)",
		"INSERT INTO big (v) SELECT repeat(sha2(seq, 256), 16) FROM "+series(mib*1024)+" ORDER BY seq")
}

// TestXE07: "MVCC target: increments flow during a long copy, yet the snapshot holds exactly its position".
func TestXE07(t *testing.T) {
	n := newNode(t)
	n.fill(3)
	n.run("CREATE TABLE c (v int)", "INSERT INTO c VALUES (0)",
		either("CREATE SEQUENCE s START WITH 7 NOCACHE", "SELECT 1"))
	sum := "SET group_concat_max_len = 1000000; SELECT sha2(group_concat(sha2(concat(id, v), 256) ORDER BY id), 256) " +
		"FROM big"
	n.query("ANALYZE TABLE big")
	want, at := n.value(sum), n.at()
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	require.True(t, s.Online())
	require.Greater(t, s.Size(), int64(1<<20))
	snapshot, increments := drivertest.WrittenDuring(t, s, func() {
		n.run("UPDATE c SET v = v + 1; UPDATE big SET v = 'new' WHERE id % 16 = (SELECT v % 16 FROM c); DELETE FROM big " +
			"WHERE id % 50 = 7; INSERT INTO big (v) VALUES ('more'); DO " + either("nextval(s)", "1"))
	})
	require.Equal(t, fmt.Sprint(increments), n.value("SELECT v FROM c"), "increments flowed")

	copied := restoredNode(t, snapshot, at)
	require.Equal(t, "0", copied.value("SELECT v FROM c"))
	require.Equal(t, want, copied.value(sum))
	require.Equal(t, "7", copied.value("SELECT "+either("nextval(s)", "7")),
		"sequences too hold the position, though they know no snapshots")
	_, err = copied.Apply(t.Context(), at, after(at, "INSERT INTO big (v) VALUES ('next')"))
	require.NoError(t, err)
	require.Equal(t, "4096", copied.value("SELECT max(id) FROM big"),
		"as does AUTO_INCREMENT, of which INSERT ... SELECT takes in powers of two")
}

// TestSS11: "the data is one moment: writes during a dump do not appear", with a writer beside the dump that
// is no node.
func TestSS11(t *testing.T) {
	n, copied := newNode(t), newNode(t)
	n.fill(2)
	n.run("CREATE TABLE c (v int)")
	n.shared().SnapshotIsOneMoment(func() {
		require.NoError(t, server.Exec(n.db, "INSERT INTO c VALUES (1)"))
	}, copied.shared())
}

// TestXD13: "MVCC target: pause is short and does not grow with data size": opening a snapshot asks the same few
// questions of a small and of a large database.
func TestXD13(t *testing.T) {
	p := newProxy(t, server.Addr())
	opening := func(mib int) (trips int, rows string) {
		n := nodeOn(t, server, p.Addr())
		n.fill(mib)
		trips = p.counted(func() {
			s, err := n.Snapshot(t.Context())
			require.NoError(t, err)
			require.NoError(t, s.Close())
		})
		return trips, n.value("SELECT count(*) FROM big")
	}
	small, few := opening(1)
	large, many := opening(24)
	require.Equal(t, "1024|24576", few+"|"+many)
	require.Equal(t, small, large, "round trips before increments flow again")
	require.LessOrEqual(t, large, 6)
}

// A change of the schema waits for the open snapshot, and for nothing longer than its context; other increments go on.
func TestAChangeOfTheSchemaWaitsForTheDump(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)", "INSERT INTO c VALUES (1)")
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	n.run("INSERT INTO c VALUES (2)")
	at, batch := n.at(), n.log.Scripts("TRUNCATE TABLE c")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	pos, err := n.Apply(ctx, at, batch)
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, at, pos)
	applied := make(chan error, 1)
	go func() {
		_, err := n.Apply(context.Background(), at, batch)
		applied <- err
	}()
	var b bytes.Buffer
	require.NoError(t, s.WriteTo(t.Context(), &b))
	require.Equal(t, "2", n.value("SELECT count(*) FROM c"))
	require.NoError(t, s.Close())
	require.NoError(t, <-applied)
	require.Equal(t, "0", n.value("SELECT count(*) FROM c"))
	require.Equal(t, "1", restoredNode(t, b.Bytes(), s.Position()).value("SELECT count(*) FROM c"))
}

// A reader who goes away ends the dump, at once or when the snapshot is closed under it.
func TestADumpEndsWithItsReader(t *testing.T) {
	n := newNode(t)
	n.fill(3)
	gone := errors.New("gone")
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	calls := 0
	require.ErrorIs(t, s.WriteTo(t.Context(), failAfter(func() error {
		if calls++; calls == 3 {
			return gone
		}
		return nil
	})), gone)
	require.NoError(t, s.Close())
	s, err = n.Snapshot(t.Context())
	require.NoError(t, err)
	err = s.WriteTo(t.Context(), &drivertest.EachWrite{Do: func() { require.NoError(t, s.Close()) }})
	require.ErrorContains(t, err, "has been closed")
	n.run("ALTER TABLE big ADD COLUMN w int")
	sessions := "SELECT count(*) FROM information_schema.processlist WHERE db = '" + n.db + "' AND user = 'xmq'"
	require.Eventually(t, func() bool { return n.value(sessions) == "1" }, patience, tick, "no session is left behind")
}

// A server that is killed in a restore has the old data, and the trouble may pass.
func TestAServerKilledInARestoreHasTheOldData(t *testing.T) {
	own := mysqltest.New(t)
	n := nodeOn(t, own, own.Addr())
	n.fill(2)
	snapshot, at := n.taken()
	n.run("TRUNCATE TABLE big")
	then := n.at()
	r := &killing{Reader: bytes.NewReader(snapshot), at: len(snapshot) / 2, f: func() { _ = own.Kill() }}
	_, err := n.Restore(t.Context(), at, event.AllTopics, r)
	require.True(t, nodeclient.IsTransient(err), err)
	require.NoError(t, own.Run())
	require.Eventually(t, func() bool { return n.reopen() == nil }, patience, tick)
	require.Equal(t, then, n.at())
	require.Equal(t, "0", n.value("SELECT count(*) FROM big"))
	require.Empty(t, leftovers(t, own, n.db))
	n.load(snapshot, at)
	require.Equal(t, "2048", n.value("SELECT count(*) FROM big"))
}

// killing calls f once it was read half.
type killing struct {
	*bytes.Reader
	at int
	f  func()
}

func (k *killing) Read(b []byte) (int, error) {
	if k.at > 0 && k.Len() < k.at {
		k.at = 0
		k.f()
	}
	return k.Reader.Read(b)
}

type failAfter func() error

func (f failAfter) Write(b []byte) (int, error) { return len(b), f() }

// A row longer than the other server takes is refused with the name of the setting.
func TestARowTooLongForTheOtherServerIsNamed(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v longblob)", "INSERT INTO c VALUES (repeat('\\0', 700000))")
	snapshot, at := n.taken()
	small := mysqltest.New(t, "--max-allowed-packet=1M")
	m := nodeOn(t, small, small.Addr())
	_, err := m.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.ErrorContains(t, err, "raise max_allowed_packet")
	require.Empty(t, leftovers(t, small, m.db))
}

// A snapshot whose header and data disagree is refused, as is one whose rows are fewer than it says, or of a kind
// nobody knows, and its database dropped.
func TestASnapshotThatContradictsItselfIsRefused(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)", "INSERT INTO c VALUES (1), (2)")
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	lie := s.(*snapshot)
	lie.head.Pos.Seq++
	var b bytes.Buffer
	require.NoError(t, s.WriteTo(t.Context(), &b))
	_, err = n.Restore(t.Context(), lie.head.Pos, event.AllTopics, &b)
	require.ErrorIs(t, err, event.ErrDamaged)
	require.NoError(t, s.Close())

	snapshot, at := n.taken()
	r, head, err := n.flavour.stream.NewReader(bytes.NewReader(snapshot))
	require.NoError(t, err)
	var data bytes.Buffer
	_, err = data.ReadFrom(r)
	require.NoError(t, err)
	again := func(preface, data string) *bytes.Buffer {
		var b bytes.Buffer
		w, err := n.flavour.stream.NewWriter(&b, snapstream.Head{Pos: head.Pos, Preface: []byte(preface)})
		require.NoError(t, err)
		_, err = w.Write([]byte(data))
		require.NoError(t, err)
		require.NoError(t, w.End())
		return &b
	}
	good := data.String()
	for name, bad := range map[string]*bytes.Buffer{
		"other rows": again(string(head.Preface), strings.Replace(good, "(1),(2)", "(1),(3)", 1)),
		"cut":        again(string(head.Preface), good[:len(good)-3]),
		"no end":     again(string(head.Preface), good[:strings.Index(good, "INSERT")-5]),
		"a kind":     again(string(head.Preface), "?\x00\x00\x00\x00"+good),
		"no table":   again(string(head.Preface), "r\x00\x00\x00\x00"+good),
		"a script":   again(string(head.Preface), good+"x\x01\x00\x00\x00{"),
		"a length":   again(string(head.Preface), good+"x\xff\xff\xff\xff{"),
		"preface":    again("utf8mb4 x; DROP DATABASE mysql", good),
		"SQL":        again(string(head.Preface), strings.Replace(good, "CREATE TABLE `c`", "CREATE TABEL `c`", 1)),
	} {
		_, err = n.Restore(t.Context(), at, event.AllTopics, bad)
		require.Error(t, err, name)
		require.False(t, nodeclient.IsFatal(err), name)
		require.Empty(t, leftovers(t, server, n.db), name)
	}
	n.load(again(string(head.Preface), good).Bytes(), at)
}

// A stream as it was written on the first day of format 1.
func TestTheFormatOfASnapshotStays(t *testing.T) {
	n := newNode(t)
	require.NoError(t, server.Exec(n.db, "ALTER DATABASE "+n.db+" CHARACTER SET latin1 COLLATE latin1_swedish_ci"))
	n.run("CREATE TABLE a (i int AUTO_INCREMENT PRIMARY KEY, s varchar(9), b blob) CHARACTER SET utf8mb4",
		"INSERT INTO a (s, b) VALUES ('ü\\'', x'00275cff'), (NULL, NULL)", "CREATE VIEW v AS SELECT 1 AS one")
	require.NoError(t, server.Exec(n.db, "DROP TABLE xmq_position"))
	snapshot, at := n.taken()
	require.True(t, at.Zero())
	require.Equal(t, either("584d514d59444d50", "584d514d38444d50")+"01000000"+strings.Repeat("00", 24)+"18000000",
		fmt.Sprintf("%x", snapshot[:40]))
	r, head, err := n.flavour.stream.NewReader(bytes.NewReader(snapshot))
	require.NoError(t, err)
	require.Equal(t, "latin1 latin1_swedish_ci", string(head.Preface))
	var data bytes.Buffer
	_, err = data.ReadFrom(r)
	require.NoError(t, err)
	require.Equal(t, either(golden, golden8), data.String())
	n.load(snapshot, event.Start(7))
	require.Equal(t, "latin1", n.value("SELECT default_character_set_name FROM information_schema.schemata WHERE "+
		"schema_name = database()"))
}

// golden is the table, its rows, what they count, and the view.
const golden = "t\xdb\x00\x00\x00a\x00CREATE TABLE `a` (\n  `i` int(11) NOT NULL AUTO_INCREMENT,\n  `s` varchar(9) " +
	"DEFAULT NULL,\n  `b` blob DEFAULT NULL,\n  PRIMARY KEY (`i`)\n" +
	") ENGINE=InnoDB AUTO_INCREMENT=3 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci" +
	"rX\x00\x00\x00INSERT INTO `a` (`i`, `s`, `b`) VALUES (1,_utf8mb4'ü\\'',_binary'\\0\\'\\\\\xff'),(2,NULL,NULL)" +
	"d\x10\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\\Zױ/ϛ\x87" +
	"x\xff\x00\x00\x00{\"kind\":\"VIEW\",\"name\":\"v\",\"mode\":\"STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO," +
	"NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION\",\"collation\":\"utf8mb4_general_ci\",\"sql\":\"CREATE OR REPLACE " +
	"ALGORITHM=UNDEFINED SQL SECURITY DEFINER VIEW `v` AS select 1 AS `one`\"}"

// golden8 is the same of MySQL.
const golden8 = "t\xca\x00\x00\x00a\x00CREATE TABLE `a` (\n  `i` int NOT NULL AUTO_INCREMENT,\n  `s` varchar(9) " +
	"DEFAULT NULL,\n  `b` blob,\n  PRIMARY KEY (`i`)\n" +
	") ENGINE=InnoDB AUTO_INCREMENT=3 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci" +
	"rX\x00\x00\x00INSERT INTO `a` (`i`, `s`, `b`) VALUES (1,_utf8mb4'ü\\'',_binary'\\0\\'\\\\\xff'),(2,NULL,NULL)" +
	"d\x10\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\\Zױ/ϛ\x87" +
	"x\x1b\x01\x00\x00{\"kind\":\"VIEW\",\"name\":\"v\",\"mode\":\"ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES," +
	"NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION\"," +
	"\"collation\":\"utf8mb4_0900_ai_ci\",\"sql\":\"CREATE OR REPLACE ALGORITHM=UNDEFINED SQL SECURITY DEFINER VIEW " +
	"`v` AS select 1 AS `one`\"}"
