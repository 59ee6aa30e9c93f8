package mysql

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/servertest/mysqltest"
)

// node is an open target on a database of its own, with the log that feeds it.
type node struct {
	*testing.T
	*Database
	db   string
	addr string
	log  *drivertest.Log
	srv  *mysqltest.Server
}

func newNode(t *testing.T) *node { return nodeOn(t, server, server.Addr()) }

// nodeOn makes a node whose way to the server is addr.
func nodeOn(t *testing.T, srv *mysqltest.Server, addr string) *node {
	t.Helper()
	db := database(t.TempDir())
	srv.Create(t, db)
	target, err := Open(t.Context(), mysqltest.URL(addr, db), Options{LockBeat: time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { _ = target.Close() })
	return &node{t, target, db, addr, drivertest.NewLog(7), srv}
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

// query reads as another client would.
func (n *node) query(sql string) []string {
	n.Helper()
	return n.srv.Query(n.T, n.db, sql)
}

// value is the one value of a query.
func (n *node) value(sql string) string {
	n.Helper()
	rows := n.query(sql)
	require.Len(n, rows, 1)
	return rows[0]
}

// reopen opens the target anew.
func (n *node) reopen() error {
	_ = n.Database.Close()
	target, err := Open(n.Context(), mysqltest.URL(n.addr, n.db), Options{LockBeat: time.Hour})
	if err == nil {
		n.Database = target
		n.Cleanup(func() { _ = target.Close() })
	}
	return err
}

// A batch costs a round trip, not each of its statements.
func TestABatchTakesThreeRoundTrips(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("CREATE TABLE c (id int PRIMARY KEY, v int)")
	var scripts []string
	for i := range 500 {
		scripts = append(scripts, fmt.Sprintf("INSERT INTO c VALUES (%d, 0); UPDATE c SET v = v + 1 WHERE id = %d", i, i))
	}
	before, batch := n.at(), n.log.Scripts(scripts...)
	trips := p.counted(func() {
		_, err := n.Apply(t.Context(), before, batch)
		require.NoError(t, err)
	})
	require.Equal(t, 3, trips, "begin with the position, everything, commit; for 1000 statements")
	require.Equal(t, "500|500", n.value("SELECT count(*), sum(v) FROM c"))
}

// A batch longer than a packet goes out in pieces, each FAIL in it still has its name, and a statement that the
// server would not take is refused before it is sent.
func TestABatchLongerThanAPacketIsCut(t *testing.T) {
	small := mysqltest.New(t, "--max-allowed-packet=1M")
	n := nodeOn(t, small, small.Addr())
	n.run("CREATE TABLE c (id int PRIMARY KEY, v longtext)")
	var scripts []string
	for i := range 40 {
		scripts = append(scripts, fmt.Sprintf("INSERT INTO c VALUES (%d, '%s')", i, strings.Repeat("x", 100_000)))
	}
	n.run(scripts...)
	require.Equal(t, "40|4000000", n.value("SELECT count(*), sum(length(v)) FROM c"))
	scripts[39] = "INSERT INTO c VALUES (1, 'twice')"
	for i := range 39 {
		scripts[i] = fmt.Sprintf("UPDATE c SET v = '%s' WHERE id = %d", strings.Repeat("y", 100_000), i)
	}
	require.ErrorContains(t, n.fails(39, scripts...), "Error 1062")
	require.ErrorContains(t, n.fails(1, "DELETE FROM c WHERE id = 1", "INSERT INTO c VALUES (99, '"+
		strings.Repeat("z", 1<<20)+"')", "DELETE FROM c"), "max_allowed_packet = 1048576")
	require.Equal(t, "39", n.value("SELECT count(*) FROM c"))
	almost := "INSERT INTO c VALUES (100, '')"
	n.run(almost[:len(almost)-2] + strings.Repeat("z", 1<<20-40) + "')") // with its pins it would be longer than a packet
	require.Equal(t, "40", n.value("SELECT count(*) FROM c"))
}

// An answer larger than all buffers of the connection does not block the batch.
func TestResultsOfAnyWidthAreReadAndDropped(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE done (v int)")
	n.run("SELECT repeat('x', 1000000) FROM "+series(20), "SELECT '"+strings.Repeat("y", 5<<20)+"'",
		"INSERT INTO done VALUES (1)")
	require.Equal(t, "1", n.value("SELECT count(*) FROM done"))
}

// TestXD28: "data and position in one transaction: a counter update is applied once", with the connection cut
// before the commit arrives, and after the server has done it, or has begun to, but before it says so.
func TestXD28CommitOnALostConnection(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("CREATE TABLE c (v int)", "INSERT INTO c VALUES (0)")

	before, batch := n.at(), n.log.Scripts("UPDATE c SET v = v + 1")
	p.Do(func() { p.cutOn = "XA END" })
	applied, err := n.Apply(t.Context(), before, batch)
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, before, applied, "nothing is stored")
	require.Equal(t, "0", n.value("SELECT v FROM c"))

	p.Do(func() { p.loseOf = "XA END" })
	applied, err = n.Apply(t.Context(), before, batch)
	require.NoError(t, err, "it is stored: read back, not guessed")
	require.Equal(t, batch[0].Pos, applied)
	require.Equal(t, "1", n.value("SELECT v FROM c"))

	_, err = n.Apply(t.Context(), before, batch)
	require.True(t, nodeclient.IsFatal(err), "a repetition is refused: %v", err)
	require.Equal(t, "1", n.value("SELECT v FROM c"), "nothing twice")

	for range 10 { // whether it was done, nobody knows but the database
		before, batch = n.at(), n.log.Scripts("UPDATE c SET v = v + 1")
		was := n.value("SELECT v FROM c")
		p.Do(func() { p.half = "XA END" })
		applied, err = n.Apply(t.Context(), before, batch)
		require.Equal(t, applied, n.at())
		if err != nil {
			require.True(t, nodeclient.IsTransient(err), err)
			require.Equal(t, before, applied)
			require.Equal(t, was, n.value("SELECT v FROM c"))
			_, err = n.Apply(t.Context(), before, batch)
			require.NoError(t, err)
		}
		require.NotEqual(t, was, n.value("SELECT v FROM c"))
	}
	require.Equal(t, "11", n.value("SELECT v FROM c"))

	// Outside the order the position stays, so it cannot tell: nothing is guessed.
	for _, lose := range []bool{false, true} {
		at, was := n.at(), n.value("SELECT v FROM c")
		outside := []event.Item{{Pos: at, Record: batch[0].Record, Decision: 1}}
		p.Do(func() {
			if lose {
				p.loseOf = "XA END"
			} else {
				p.cutOn = "XA END"
			}
		})
		_, err = n.Apply(t.Context(), at, outside)
		require.True(t, nodeclient.IsUnknown(err), err)
		require.True(t, nodeclient.IsTransient(err), err)
		require.Equal(t, at, n.at())
		require.Equal(t, lose, was != n.value("SELECT v FROM c"))
	}
}

// When the server cannot be asked either, the doubt is kept, and cleared by the next Apply, whatever was stored.
func TestADoubtIsKeptUntilTheServerAnswers(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("CREATE TABLE c (v int)", "INSERT INTO c VALUES (0)")
	before, batch := n.at(), n.log.Scripts("UPDATE c SET v = v + 1", "UPDATE c SET v = v + 10")

	p.Refuse(true)
	p.Do(func() { p.cutOn = "XA END" })
	applied, err := n.Apply(t.Context(), before, batch)
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, before, applied)
	p.Refuse(false)
	_, err = n.Apply(t.Context(), before, batch[:1])
	require.NoError(t, err, "nothing was stored, so all goes on")

	p.Refuse(true)
	p.Do(func() { p.loseOf = "XA END" })
	applied, err = n.Apply(t.Context(), batch[0].Pos, batch[1:])
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, batch[0].Pos, applied)
	p.Refuse(false)
	applied, err = n.Apply(t.Context(), batch[0].Pos, batch[1:])
	require.True(t, nodeclient.IsTransient(err), "it was stored: %v", err)
	require.Equal(t, batch[1].Pos, applied, "and the agent learns where to go on")
	n.run("UPDATE c SET v = v + 100")
	require.Equal(t, "111", n.value("SELECT v FROM c"))
}

// A reader of the position waits for a transaction that a dead connection left behind: here a session that holds the
// place while Position asks.
func TestThePositionWaitsForAnOpenTransaction(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	at, next := n.at(), n.log.Next([]byte("SELECT 1"))[0].Pos
	ctx := t.Context()
	other, err := n.connect(ctx, n.db)
	require.NoError(t, err)
	defer other.close()
	_, err = n.begin(ctx, other)
	require.NoError(t, err)
	require.NoError(t, other.do(ctx, advance(at, next, 0, "")))

	got := make(chan event.Position, 1)
	go func() {
		pos, _ := n.Position(ctx)
		got <- pos
	}()
	waiting := "SELECT count(*) FROM information_schema.processlist WHERE db = '" + n.db + "' AND state = 'User lock'"
	require.Eventually(t, func() bool { return n.value(waiting) == "1" }, patience, tick)
	require.NoError(t, n.commit(ctx, other))
	require.Equal(t, next, <-got)
}

// A server that is killed under load comes back: every increment is there once, the position too, also where a binary
// log has its part in each commit.
func TestAServerKilledUnderLoadLosesAndRepeatsNothing(t *testing.T) {
	t.Run("plain", func(t *testing.T) { killedUnderLoad(t, mysqltest.New(t)) })
	t.Run("with a binary log", func(t *testing.T) {
		killedUnderLoad(t, mysqltest.New(t, "--log-bin=bin", "--binlog-format=MIXED"))
	})
}

func killedUnderLoad(t *testing.T, own *mysqltest.Server) {
	n := nodeOn(t, own, own.Addr())
	n.run("CREATE TABLE c (v int)", "INSERT INTO c VALUES (0)", "CREATE TABLE seen (k int)")
	const total = 3000
	n.shared().KilledUnderLoad(total, 2, func(k int) string {
		return fmt.Sprintf("UPDATE c SET v = v + 1; INSERT INTO seen VALUES (%d)", k)
	})
	require.Equal(t, fmt.Sprint(total), n.value("SELECT v FROM c"))
	require.Equal(t, fmt.Sprintf("%d|%d", total, total), n.value("SELECT count(*), count(DISTINCT k) FROM seen"))
}
