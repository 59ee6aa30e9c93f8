package mysql

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/servertest/mysqltest"
)

// numbered are tables whose keys the server makes: of themselves, by a trigger, by a procedure, and one with rows
// that go with those of another; lane has a key by which a lock can be held.
var numbered = append([]string{
	"CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, v int, UNIQUE (v))",
	"CREATE TABLE seen (k bigint AUTO_INCREMENT PRIMARY KEY, id int)",
	"CREATE TABLE parent (id int AUTO_INCREMENT PRIMARY KEY, v int)",
	"CREATE TABLE child (id int AUTO_INCREMENT PRIMARY KEY, p int, FOREIGN KEY (p) REFERENCES parent (id) ON " +
		"DELETE CASCADE)",
	"CREATE TABLE behind (n int AUTO_INCREMENT PRIMARY KEY, v int)",
	"CREATE TABLE lane (id int PRIMARY KEY, n int)",
	"INSERT INTO lane VALUES (1, 0)",
	"CREATE TRIGGER counts AFTER UPDATE ON lane FOR EACH ROW INSERT INTO seen (id) VALUES (NEW.n)",
	"CREATE PROCEDURE works(x int) INSERT INTO behind (v) SELECT x UNION ALL SELECT x + 1 UNION ALL SELECT x + 2",
	"CREATE VIEW few AS SELECT id, v FROM parent",
	"CREATE TABLE `ä \"o'\\dd\"``` (`k``\"` int AUTO_INCREMENT PRIMARY KEY, v int)",
}, either([]string{"CREATE SEQUENCE numbers NOCACHE",
	"CREATE TABLE drawn (id bigint DEFAULT nextval(numbers) PRIMARY KEY, v int)"},
	[]string{"CREATE TABLE drawn (id bigint AUTO_INCREMENT PRIMARY KEY, v int)"})...)

// takes are increments that take numbers, in all the ways that leave a counter elsewhere than one more than the largest
// row.
func takes(rng *rand.Rand, k int) string {
	ways := []string{
		"INSERT INTO t (v) VALUES (%[1]d)",
		"INSERT INTO t (v) VALUES (%[1]d), (1000 + %[1]d), (2000 + %[1]d)",
		"INSERT INTO t VALUES (NULL, 3000 + %[1]d), (%[1]d + 1000, 4000 + %[1]d), (NULL, 5000 + %[1]d)",
		"INSERT IGNORE INTO t (v) VALUES (%[1]d), (%[2]d), (6000 + %[1]d)",
		"INSERT INTO t (v) VALUES (%[2]d) ON DUPLICATE KEY UPDATE v = v + 10000",
		"REPLACE INTO t (v) VALUES (%[2]d)",
		"INSERT INTO t (v) SELECT 100000 + 10 * %[1]d + x FROM (SELECT 1 AS x UNION SELECT 2 UNION SELECT 3 UNION " +
			"SELECT 4 UNION SELECT 5) s",
		"DELETE FROM t WHERE id >= (SELECT m FROM (SELECT max(id) - 1 AS m FROM t) s)",
		"UPDATE t SET id = id + 7 WHERE v = %[2]d",
		"UPDATE t SET v = v + 20000 WHERE id = %[2]d",
		"UPDATE lane SET n = %[1]d",
		"INSERT INTO parent (v) VALUES (%[1]d); INSERT INTO child (p) VALUES (last_insert_id()), (last_insert_id())",
		"INSERT INTO few (v) VALUES (%[1]d)",
		"DELETE FROM parent WHERE id = (SELECT m FROM (SELECT max(id) AS m FROM parent) s)",
		"CALL works(%[1]d)",
		"DELETE FROM behind WHERE v > %[2]d",
		"INSERT INTO drawn (v) VALUES (%[1]d)",
		"SELECT count(*) FROM t",
		either("DO nextval(numbers)", "DO 1"),
		"INSERT INTO `ä \"o'\\dd\"``` (v) VALUES (%[1]d), (%[2]d)",
		"INSERT INTO `ä \"o'\\dd\"``` VALUES (%[1]d, 1), (NULL, %[2]d)",
		"DELETE FROM `ä \"o'\\dd\"``` WHERE v > %[2]d",
		"INSERT INTO t (v) VALUES (200000 + %[1]d); INSERT INTO seen (id) VALUES (1); INSERT INTO nowhere VALUES (1)",
		"INSERT INTO t (v) VALUES (300000 + %[1]d), (300000 + %[1]d)",
		"ALTER TABLE behind ADD COLUMN c%[1]d int",
		"TRUNCATE TABLE behind",
		"ALTER TABLE behind AUTO_INCREMENT = %[1]d",
	}
	return fmt.Sprintf(ways[rng.IntN(len(ways))], k, rng.IntN(k+1))
}

// keys are all rows of the tables, and where the next ones begin.
func (n *node) keys() string {
	n.Helper()
	fresh := either("", "SET SESSION information_schema_stats_expiry = 0; ")
	lines := n.query(fresh + "SELECT table_name, coalesce(auto_increment, 1) FROM information_schema.tables " +
		"WHERE table_schema = database() AND table_type = 'BASE TABLE' AND table_name <> 'xmq_position' ORDER BY 1")
	if !onMySQL {
		for _, s := range n.query("SELECT table_name FROM information_schema.tables WHERE table_schema = " +
			"database() AND table_type = 'SEQUENCE'") {
			lines = append(lines, s+" "+n.value("SELECT next_not_cached_value FROM "+s))
		}
	}
	for _, table := range n.query("SELECT table_name FROM information_schema.tables WHERE table_schema = " +
		"database() AND table_type = 'BASE TABLE' AND table_name <> 'xmq_position' ORDER BY 1") {
		lines = append(lines, table+": "+strings.Join(n.query("SELECT * FROM "+quoteName(table)+" ORDER BY 1"), " "))
	}
	return strings.Join(lines, "\n")
}

// feed applies items like an agent, in batches of size, and passes over what fails. trouble is called before each
// Apply and may open the target anew.
func (n *node) feed(items []event.Item, size func() int, trouble func()) (failed []uint64) {
	n.Helper()
	before := n.at()
	items = append([]event.Item(nil), items...)
	for tries := 0; len(items) > 0; tries++ {
		require.Less(n, tries, 2000, "it comes to no end")
		trouble()
		pos, err := n.Apply(n.Context(), before, items[:min(size(), len(items))])
		require.False(n, nodeclient.IsFatal(err), "%v", err)
		for len(items) > 0 && items[0].Pos.Seq <= pos.Seq {
			items = items[1:]
		}
		if !pos.Zero() {
			before = pos
		}
		if err != nil && !nodeclient.IsTransient(err) {
			failed = append(failed, items[0].Pos.Seq)
			items[0] = event.Item{Pos: items[0].Pos}
		}
	}
	return failed
}

// calmly applies items one by one.
func (n *node) calmly(items []event.Item) (failed []uint64) {
	n.Helper()
	return n.feed(items, func() int { return 1 }, func() {})
}

// again forgets all that the node keeps in memory, as if its agent had been killed.
func (n *node) again() {
	n.Helper()
	for {
		err := n.reopen()
		if err == nil {
			return
		}
		require.True(n, nodeclient.IsTransient(err), err)
	}
}

// Wherever the way to the server is cut, and whether the agent lives on or is killed with it, the numbers are those
// of a node that never had any trouble.
func TestGeneratedNumbersStandWithThePositionWhateverIsCut(t *testing.T) {
	for round := range 4 {
		rng := rand.New(rand.NewPCG(uint64(round), 19))
		calm := newNode(t)
		p := newProxy(t, server.Addr())
		n := nodeOn(t, server, p.Addr())
		items := calm.log.Scripts(numbered...)
		for k := range 60 {
			items = append(items, calm.log.Scripts(takes(rng, k))...)
		}
		want := calm.calmly(items)
		got := n.feed(items, func() int { return 1 + rng.IntN(9) }, func() {
			if rng.IntN(8) == 0 {
				n.again()
			}
			if rng.IntN(3) > 0 {
				p.Do(func() { p.nth, p.lose = 1+rng.IntN(12), rng.IntN(2) == 0 })
			}
		})
		p.Do(func() { p.nth = 0 })
		require.Equal(t, want, got, "round %d: which increments fail", round)
		n.calmly(calm.log.Scripts("SELECT 1"))
		require.Equal(t, calm.keys(), n.keys(), "round %d", round)
		require.Positive(t, p.cuts, "round %d", round)
	}
}

// A server that is stopped, or killed in the middle of a batch, forgets numbers that were reserved and not used, and
// keeps those that were rolled back.
func TestGeneratedNumbersStandWithThePositionWhenTheServerStops(t *testing.T) {
	own := mysqltest.New(t)
	calm, n := newNode(t), nodeOn(t, own, own.Addr())
	five := "INSERT INTO t (v) SELECT %d + x FROM (SELECT 1 AS x UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 " +
		"UNION SELECT 5) s"
	items := calm.log.Scripts(numbered...)
	step := func(scripts ...string) {
		t.Helper()
		items = append(items, calm.log.Scripts(scripts...)...)
		require.Empty(t, calm.calmly(items))
		require.Empty(t, n.calmly(items))
		require.Equal(t, calm.keys(), n.keys())
		items = nil
	}
	step(fmt.Sprintf(five, 100), "CALL works(1)", "INSERT INTO drawn (v) VALUES (1), (2)",
		"DELETE FROM drawn WHERE v = 2")
	require.NoError(t, own.Halt())
	require.NoError(t, own.Run())
	step("INSERT INTO t (v) VALUES (1)", "CALL works(2)", "INSERT INTO drawn (v) VALUES (3)")

	for k := range 3 { // within a batch: the server knows of it and does not commit
		items = calm.log.Scripts(fmt.Sprintf(five, 1000*k+1000), "UPDATE lane SET n = n + 1",
			"INSERT INTO drawn (v) VALUES (3)", "CALL works(3)", "INSERT INTO t (v) VALUES (NULL)")
		holder := holdLane(t, own, n.db)
		applied := make(chan error, 1)
		before := n.at()
		go func() {
			_, err := n.Apply(context.Background(), before, items)
			applied <- err
		}()
		require.Eventually(t, func() bool {
			return len(own.Query(t, n.db, "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK "+
				"WAIT'")) > 0
		}, patience, 40*tick) // asked more often the server answers from memory
		require.NoError(t, own.Kill())
		err := <-applied
		require.True(t, nodeclient.IsTransient(err), err)
		require.Error(t, holder(), "its session is gone")
		require.NoError(t, own.Run())
		if k == 1 {
			n.again()
		}
		step(fmt.Sprintf("INSERT INTO t (v) VALUES (%d)", 50+k))
	}
}

// A node is sure of the numbers only while one session holds the database for it: whatever was started anew, or done by
// others, while none did, they are looked at again, also within the same second, and also when no other connection
// was lost.
func TestGeneratedNumbersAreComparedWheneverTheDatabaseWasLost(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, v int)", "INSERT INTO t (v) VALUES (1)")
	before := n.at()
	n.endLock()
	require.NoError(t, server.Exec(n.db, "ALTER TABLE t AUTO_INCREMENT = 9"))
	require.NoError(t, n.settles(before, n.log.Scripts("INSERT INTO t (v) VALUES (2)")))
	require.Equal(t, "2", n.value("SELECT id FROM t WHERE v = 2"))

	for _, ddl := range []string{"ALTER TABLE t ADD COLUMN w int", "CREATE TABLE u (id int)"} {
		before = n.at()
		n.endLock()
		require.NoError(t, server.Exec(n.db, "ALTER TABLE t AUTO_INCREMENT = 9"))
		require.NoError(t, n.settles(before, n.log.Scripts(ddl)))
		require.Equal(t, "3", n.value(either("", "SET SESSION information_schema_stats_expiry = 0; ")+"SELECT "+
			"auto_increment FROM information_schema.tables WHERE table_schema = database() AND table_name = 't'"), ddl)
	}
}

// Where somebody has put an earlier copy into the tables of a running node, its numbers are those of that copy,
// although the session that holds the database has never ended.
func TestGeneratedNumbersGoBackWithThePosition(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, v int)", "INSERT INTO t (v) VALUES (1)")
	require.NoError(t, server.Exec(n.db, "CREATE TABLE kept AS SELECT * FROM xmq_position"))
	back, items := n.at(), n.log.Scripts("INSERT INTO t (v) VALUES (2)", "INSERT INTO t (v) VALUES (3)")
	at, err := n.Apply(t.Context(), back, items)
	require.NoError(t, err)
	require.NoError(t, server.Exec(n.db, "DELETE FROM t WHERE v > 1; DELETE FROM xmq_position; "+
		"INSERT INTO xmq_position SELECT * FROM kept"))
	now, err := n.Apply(t.Context(), at, n.log.Scripts("INSERT INTO t (v) VALUES (4)"))
	require.True(t, nodeclient.IsBack(err), err)
	require.Equal(t, back, now)
	require.NoError(t, n.settles(back, items))
	require.Equal(t, []string{"1|1", "2|2", "3|3"}, n.query("SELECT id, v FROM t ORDER BY id"))
}

// holdLane locks a row in a session of its own until it is called.
func holdLane(t *testing.T, srv *mysqltest.Server, db string) func() error {
	t.Helper()
	pool, err := srv.Connect(db)
	require.NoError(t, err)
	tx, err := pool.BeginTx(context.Background(), nil)
	require.NoError(t, err)
	_, err = tx.Exec("SELECT * FROM lane FOR UPDATE")
	require.NoError(t, err)
	return func() error {
		defer func() { _ = pool.Close() }() // the transaction has ended
		return tx.Rollback()
	}
}

// A lock makes a batch run twice, and the increments before the one that waits once more.
func TestGeneratedNumbersStandWithThePositionWhenABatchRunsTwice(t *testing.T) {
	calm, n := newNode(t), newNode(t)
	// a trigger would have each increment pinned anew
	items := calm.log.Scripts(slices.Concat(numbered[:7], numbered[11:])...)
	require.Empty(t, calm.calmly(items))
	require.Empty(t, n.calmly(items))
	items = calm.log.Scripts("INSERT INTO t (v) VALUES (1)", "INSERT INTO t (v) VALUES (2)",
		"UPDATE lane SET n = n + 1", "INSERT INTO drawn (v) VALUES (3)", "INSERT INTO t (v) VALUES (4)")
	release := holdLane(t, server, n.db)
	before := n.at()
	require.NoError(t, n.Database.s.do(t.Context(), "SET innodb_lock_wait_timeout = 1"))
	applied, err := n.Apply(t.Context(), before, items)
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, items[1].Pos, applied, "what comes before it")
	require.NoError(t, release())
	require.Empty(t, calm.calmly(items))
	require.Empty(t, n.feed(items[2:], func() int { return 5 }, func() {}))
	require.Equal(t, calm.keys(), n.keys())
}

// One node tries an increment that fails again and again until an operator skips it; the other never sees it.
func TestGeneratedNumbersStandWithThePositionWhenOneNodeSkips(t *testing.T) {
	calm, n := newNode(t), newNode(t)
	items := calm.log.Scripts(numbered...)
	require.Empty(t, calm.calmly(items))
	require.Empty(t, n.calmly(items))
	items = calm.log.Scripts("INSERT INTO t (v) VALUES (1)",
		"INSERT INTO t (v) VALUES (2), (3), (4); INSERT INTO drawn (v) VALUES (1); UPDATE lane SET n = 7; CALL "+
			"works(1); INSERT INTO nowhere VALUES (1)", "INSERT INTO t (v) VALUES (5)")
	before := n.at()
	for range 3 {
		applied, err := n.Apply(t.Context(), before, items)
		require.ErrorContains(t, err, "nowhere")
		for len(items) > 0 && items[0].Pos.Seq <= applied.Seq {
			require.Empty(t, calm.calmly(items[:1]))
			items = items[1:]
		}
		before = applied
	}
	items[0] = event.Item{Pos: items[0].Pos}
	items = append(items, calm.log.Scripts("UPDATE lane SET n = 8", "CALL works(5)",
		"INSERT INTO drawn (v) VALUES (1)")...)
	require.Empty(t, calm.calmly(items))
	require.Empty(t, n.feed(items, func() int { return 9 }, func() {}))
	require.Equal(t, calm.keys(), n.keys())
}

// A DUMP is taken of a node that has just rolled back, and which holds numbers that were reserved and not used.
func TestGeneratedNumbersStandWithThePositionInADump(t *testing.T) {
	calm := newNode(t)
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	items := calm.log.Scripts(append(numbered, "CALL works(1)", "INSERT INTO t (v) VALUES (1), (2), (3)",
		"DELETE FROM t WHERE v > 1", "INSERT INTO drawn (v) VALUES (1)", "DELETE FROM drawn")...)
	require.Empty(t, calm.calmly(items))
	require.Empty(t, n.calmly(items))
	want := calm.keys()
	items = calm.log.Scripts("INSERT INTO t (v) VALUES (7), (8), (9)", "INSERT INTO drawn (v) VALUES (7)",
		"CALL works(3)")
	p.Do(func() { p.cutOn = "XA END" })
	_, err := n.Apply(t.Context(), n.at(), items)
	require.True(t, nodeclient.IsTransient(err), err)

	copied := restoredNode(t, n.takenBytes(), n.at())
	next := calm.log.Scripts("SELECT 1")[0]
	next.Pos.Seq = n.at().Seq + 1
	_, err = copied.Apply(t.Context(), n.at(), []event.Item{next})
	require.NoError(t, err)
	require.Equal(t, want, copied.keys())
	require.Empty(t, calm.calmly(items))
	require.Empty(t, n.calmly(items))
	require.Equal(t, calm.keys(), n.keys())
}

// Where the words of a statement say where it leaves a counter, nothing is read; else all are read that it may move.
func TestWhichCountersAStatementMayMove(t *testing.T) {
	n := newNode(t)
	n.run(slices.DeleteFunc(slices.Clone(numbered), func(sql string) bool { return strings.Contains(sql, "dd") })...)
	everything := either("behind child numbers parent seen t", "behind child drawn parent seen t")
	for sql, want := range map[string]string{
		"INSERT INTO t (v) VALUES (1)":                               "",
		"INSERT INTO t VALUES (5, (SELECT 1))":                       "",
		"INSERT INTO `T` SET v = 1":                                  "t",
		"INSERT INTO t (v) VALUES (1), (2)":                          "",
		"insert t () value ()":                                       "",
		"INSERT INTO t VALUES (1, 1), (NULL, 2)":                     "t",
		"INSERT INTO t (v, ID) VALUES (1, 1), (2, 2)":                "t",
		"INSERT IGNORE INTO t (v) VALUES (1)":                        "t",
		"INSERT INTO t (v) VALUES (1) ON DUPLICATE KEY UPDATE v = 2": "t",
		"INSERT INTO t (v) SELECT v FROM parent":                     "t",
		"INSERT INTO t (v) VALUES (works(1))":                        "behind",
		"REPLACE INTO parent (v) VALUES (1)":                         "child parent",
		"INSERT INTO few (v) VALUES (1)":                             "child parent",
		"INSERT INTO lane VALUES (2, 2)":                             "seen",
		"UPDATE lane SET n = 2 WHERE id = 1":                         "seen",
		"UPDATE t SET v = 2 WHERE id = 1":                            "",
		"UPDATE t SET v = (SELECT max(id) FROM parent), id = 3":      "child parent t",
		"UPDATE parent SET v = 1":                                    "",
		"UPDATE parent SET id = 1":                                   "child parent",
		"UPDATE t, parent SET parent.id = 1, t.v = 2":                "child parent t",
		"DELETE FROM t":                                              "t",
		"DELETE FROM parent":                                         "child parent",
		"SELECT * FROM t, parent":                                    "",
		"CALL works(1)":                                              "behind",
		"BEGIN NOT ATOMIC INSERT INTO t (v) VALUES (1); END":         "t",
		"BEGIN NOT ATOMIC EXECUTE IMMEDIATE 'x'; END":                everything,
		"INSERT INTO drawn (v) VALUES (1)":                           either("numbers", ""),
		"DO nextval(numbers)":                                        either("numbers", ""),
		"UPDATE t FOR PORTION OF p FROM 1 TO 2 SET v = 1":            "t",
		"WITH x AS (SELECT 1) SELECT * FROM x, t":                    "t",
	} {
		if onMySQL && (strings.Contains(sql, "ATOMIC") || strings.Contains(sql, "PORTION")) {
			continue
		}
		w, err := parse([]byte(sql))
		require.NoError(t, err, sql)
		r := n.counters.reach
		var got []string
		read, _, _ := r.follow([]step{{Work: w}}, nil)
		for _, i := range read {
			got = append(got, r.counters[i].name)
		}
		slices.Sort(got)
		require.Equal(t, want, strings.Join(got, " "), sql)
	}
	n.run("CREATE PROCEDURE free() BEGIN PREPARE s FROM 'DELETE FROM t'; EXECUTE s; END")
	w, err := parse([]byte("CALL free()"))
	require.NoError(t, err)
	read, _, _ := n.counters.reach.follow([]step{{Work: w}}, nil)
	require.Len(t, read, len(n.counters.reach.counters), "a body may do anything")
}

// Where a counter stands that nobody has asked is known all the same, after whatever increments: so many numbers
// further than the position says. What is deleted needs no question then.
func TestACounterThatNobodyAsksStandsWhereItIsCounted(t *testing.T) {
	n := newNode(t)
	n.run(numbered...)
	rng, known, told := rand.New(rand.NewPCG(1, 1)), 0, 0
	for round := range 60 {
		var scripts []string
		for k := range 1 + rng.IntN(6) {
			if s := takes(rng, 10*round+k); !strings.Contains(s, "nowhere") && !strings.Contains(s, "ALTER") {
				scripts = append(scripts, s)
			}
			scripts = append(scripts, fmt.Sprintf("INSERT INTO parent (v) VALUES (%d), (0)", round),
				"DELETE FROM parent WHERE v = 0")
		}
		for _, script := range scripts { // each is a batch of its own, or all are
			batch := n.log.Scripts(script)
			w, err := parse([]byte(script))
			require.NoError(t, err)
			_, more, _ := n.counters.reach.follow([]step{{Work: w}}, n.counters.gave)
			told += len(more)
			if n.settles(n.at(), batch) != nil { // a key that is there
				require.NoError(t, n.Seek(t.Context(), batch[0].Pos))
			}
			if len(n.counters.gave) == 0 {
				continue
			}
			var stored belong
			require.NoError(t, json.Unmarshal([]byte(n.value("SELECT counters FROM xmq_position")), &stored))
			for i, c := range n.counters.reach.counters {
				if gave := n.counters.gave[i]; gave != unknown && c.column != "" {
					known++
					at, err := stored[c.name].Int64()
					require.NoError(t, err)
					session, err := n.Database.session(t.Context())
					require.NoError(t, err)
					rows, err := session.query(t.Context(), "SELECT "+nextNumber+" FROM information_schema.tables "+
						"WHERE table_schema = database() AND table_name = "+quoteText(c.name))
					require.NoError(t, err)
					require.Equal(t, fmt.Sprint(at+int64(gave)), rows[0][0], "%s after %s", c.name, script)
				}
			}
		}
	}
	require.Greater(t, known, 100)
	require.Greater(t, told, 50)
}

// A foreign key carries values into an AUTO_INCREMENT column, and MariaDB does not move the counter along: it is
// moved on every node, not on those only that are started again.
func TestACounterFollowsWhatAForeignKeyCarries(t *testing.T) {
	calm, n := newNode(t), newNode(t)
	scripts := []string{"CREATE TABLE a (id int PRIMARY KEY)",
		"CREATE TABLE b (id int PRIMARY KEY, FOREIGN KEY (id) REFERENCES a (id) ON UPDATE CASCADE)",
		"CREATE TABLE c (id int AUTO_INCREMENT PRIMARY KEY, v int, FOREIGN KEY (id) REFERENCES b (id) ON UPDATE CASCADE)",
		"INSERT INTO a VALUES (1), (2), (100), (101), (102)", "INSERT INTO b SELECT id FROM a WHERE id <> 100",
		"INSERT INTO c (v) VALUES (1), (2)"}
	calm.run(scripts...)
	n.run(scripts...)
	last := []string{"DELETE FROM a WHERE id = 100", "UPDATE a SET id = 100 WHERE id = 2", "INSERT INTO c (v) VALUES (3)"}
	calm.run(last...) // one batch
	for _, script := range last {
		n.run(script)
		require.NoError(t, n.reopen())
	}
	require.Equal(t, []string{"1|1", "100|2", "101|3"}, calm.query("SELECT id, v FROM c ORDER BY id"))
	require.Equal(t, calm.query("SELECT id, v FROM c ORDER BY id"), n.query("SELECT id, v FROM c ORDER BY id"))
}

// The position table of an earlier revision gets its columns; what stands in them is worth nothing when a build of
// before has moved the position.
func TestAPositionTableOfAnEarlierRevisionLearnsTheCounters(t *testing.T) {
	calm, n := newNode(t), newNode(t)
	items := calm.log.Scripts(append(numbered, "INSERT INTO t (v) VALUES (1), (2)", "DELETE FROM t WHERE v = 2",
		"CALL works(1)", "DELETE FROM behind")...)
	require.Empty(t, calm.calmly(items))
	require.Empty(t, n.calmly(items))
	drop := "ALTER TABLE xmq_position DROP COLUMN counters, DROP COLUMN counters_seq"
	for k, before := range []string{drop, drop + ", DROP COLUMN topics",
		"UPDATE xmq_position SET counters = '{\"t\": 90}', counters_seq = seq - 1"} {
		require.NoError(t, server.Exec(n.db, before))
		require.NoError(t, n.reopen())
		items = calm.log.Scripts(fmt.Sprintf("INSERT INTO t (v) VALUES (%d)", 10+k), fmt.Sprintf("CALL works(%d)", k))
		require.Empty(t, calm.calmly(items))
		require.Empty(t, n.calmly(items))
		require.Equal(t, calm.keys(), n.keys(), before)
	}
}

// A change of the schema that was done and not counted keeps the numbers that it set.
func TestAnInterruptedChangeOfTheSchemaKeepsTheNumbersThatItSet(t *testing.T) {
	calm := newNode(t)
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.log = calm.log
	items := calm.log.Scripts(append(numbered, "INSERT INTO t (v) VALUES (1), (2)", "CALL works(1)",
		"CALL works(4)", "DELETE FROM behind WHERE v > 2")...)
	require.Empty(t, calm.calmly(items))
	require.Empty(t, n.calmly(items))
	for _, script := range []string{"TRUNCATE TABLE behind", "ALTER TABLE behind AUTO_INCREMENT = 50",
		"ALTER TABLE t ADD COLUMN more int, AUTO_INCREMENT = 70", "ALTER TABLE t ADD COLUMN less int",
		"CREATE TABLE late (id int AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT = 9", "DROP TABLE late",
		"RENAME TABLE parent TO elder", "RENAME TABLE elder TO parent"} {
		for _, done := range []bool{true, false} {
			if done || strings.HasPrefix(script, "TRUNCATE") {
				before, batch := n.interrupted(p, script, done)
				n.again()
				require.NoError(t, n.settles(before, batch), script)
				require.Empty(t, calm.calmly(batch))
			}
			more := calm.log.Scripts("CALL works(7)", "INSERT INTO t (v) VALUES (NULL)", "UPDATE lane SET n = n + 1")
			require.Empty(t, calm.calmly(more))
			require.Empty(t, n.calmly(more))
			require.Equal(t, calm.keys(), n.keys(), "%s, done %v", script, done)
		}
	}
}

// What cannot be put back is named when the node starts, and what was put back then.
func TestWhatCannotBePutBackIsNamed(t *testing.T) {
	n := newNode(t)
	n.run(numbered...)
	n.run("INSERT INTO t (v) VALUES (1)")
	require.Empty(t, n.Notices())
	if !onMySQL {
		n.run("CREATE SEQUENCE jumps")
		require.Contains(t, strings.Join(n.Notices(), ""),
			"the sequence `jumps` has CACHE 1000, so that its numbers jump")
		require.NoError(t, n.reopen())
		require.Contains(t, strings.Join(n.Notices(), ""), "publish ALTER SEQUENCE `jumps` NOCACHE")
		n.run("ALTER SEQUENCE jumps NOCACHE")
		require.NoError(t, n.reopen())
	}
	require.Empty(t, n.Notices())
	require.NoError(t, server.Exec(n.db, "INSERT INTO t (v) VALUES (2), (3); DELETE FROM t WHERE v > 1"))
	require.NoError(t, n.reopen())
	n.run("INSERT INTO t (v) VALUES (4)")
	require.Contains(t, strings.Join(n.Notices(), ""),
		"the next numbers were put back to where the position says: of `t` from 4 to 2")
	require.Equal(t, "2", n.value("SELECT id FROM t WHERE v = 4"))

	require.NoError(t, server.Exec(n.db, "ALTER TABLE t AUTO_INCREMENT = 9"))
	require.NoError(t, server.Exec("mysql", "CREATE USER poor@'%' IDENTIFIED BY 'p'; GRANT SELECT, INSERT, UPDATE "+
		"ON `"+n.db+"`.* TO poor@'%'"))
	at := n.at()
	require.NoError(t, n.Close())
	poor, err := Open(t.Context(), "mysql://poor:p@"+server.Addr()+"/"+n.db, Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, poor.Close()) }()
	_, err = poor.Apply(t.Context(), at, n.log.Scripts("INSERT INTO t (v) VALUES (5)"))
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "`t` stands at 9 and belongs at 3: ALTER TABLE `t` AUTO_INCREMENT = 3")
}

// A table that an increment made in a mode of its own does not keep its counter from being put back.
func TestACounterIsPutBackWhateverModeTheTableWasMadeIn(t *testing.T) {
	n := newNode(t)
	n.run("SET sql_mode = 'ALLOW_INVALID_DATES'; CREATE TABLE old (id int AUTO_INCREMENT PRIMARY KEY, v int, "+
		"a date NOT NULL DEFAULT '0000-00-00', b date DEFAULT '2021-02-31')",
		"SET sql_mode = ''; INSERT INTO old (v) VALUES (1)")
	require.NoError(t, server.Exec(n.db, "SET sql_mode = 'ALLOW_INVALID_DATES'; ALTER TABLE old AUTO_INCREMENT = 9"))
	require.NoError(t, n.reopen())
	n.run("INSERT INTO old (v, a, b) VALUES (2, '2021-02-01', NULL)")
	require.Equal(t, "2", n.value("SELECT id FROM old WHERE v = 2"))
	err := n.fails(0, "INSERT INTO old (v, a) VALUES (3, '2021-02-31')")
	require.ErrorContains(t, err, "2021-02-31", "the modes of increments are what they were")
}

// A trigger that writes the key of its own table's rows leaves the counter where no words say.
func TestGeneratedNumbersStandWithThePositionWhereATriggerWritesThem(t *testing.T) {
	calm, n := newNode(t), newNode(t)
	items := calm.log.Scripts("CREATE TABLE own (id int AUTO_INCREMENT PRIMARY KEY, v int)",
		"CREATE TRIGGER gives BEFORE INSERT ON own FOR EACH ROW SET NEW.id = IF(NEW.v > 9, -NEW.v, NEW.id)",
		"INSERT INTO own (v) VALUES (1), (2), (20)")
	require.Empty(t, calm.calmly(items))
	require.Empty(t, n.calmly(items))
	for k := range 3 {
		require.NoError(t, n.reopen())
		n.counters.sure = false // as after any trouble
		items = calm.log.Scripts(fmt.Sprintf("INSERT INTO own (v) VALUES (5), (%d), (%[1]d + 1)", 50*(k+1)),
			"INSERT INTO own (v) VALUES (8)")
		require.Empty(t, calm.calmly(items))
		require.Empty(t, n.calmly(items))
		require.Equal(t, calm.keys(), n.keys())
	}
}

// Whoever reads a table for long keeps its counter from being put back, and other readers hardly wait for that.
func TestACounterThatWaitsForAReaderKeepsNoOthersWaiting(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE lane (id int AUTO_INCREMENT PRIMARY KEY, n int)", "INSERT INTO lane (n) VALUES (0)")
	require.NoError(t, server.Exec(n.db, "ALTER TABLE lane AUTO_INCREMENT = 9"))
	require.NoError(t, n.reopen())
	release := holdLane(t, server, n.db)
	before, items := n.at(), n.log.Scripts("INSERT INTO lane (n) VALUES (1)")
	applied := make(chan error, 1)
	go func() {
		_, err := n.Apply(t.Context(), before, items)
		applied <- err
	}()
	require.Eventually(t, func() bool {
		return n.value("SELECT count(*) FROM information_schema.processlist WHERE db = '"+n.db+"' AND info "+
			"LIKE 'ALTER TABLE%' AND state LIKE 'Waiting for table metadata lock'") == "1"
	}, 2*time.Minute, 10*time.Millisecond)
	require.NoError(t, server.Exec(n.db, "SET SESSION lock_wait_timeout = 10; SELECT * FROM lane"))
	err := <-applied
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "`lane` stands at 9 and belongs at 2")
	require.NoError(t, release())
	require.Empty(t, n.calmly(items))
	require.Equal(t, "2", n.value("SELECT id FROM lane WHERE n = 1"))
}

// A DUMP holds a table only while it reads it: a counter of another one can be put back meanwhile.
func TestADumpHoldsNoTableThatItHasRead(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE a (id int AUTO_INCREMENT PRIMARY KEY, v int)", "INSERT INTO a (v) VALUES (1)")
	n.fill(4)
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	altered := false
	w := &drivertest.EachWrite{}
	w.Do = func() {
		if !altered && w.Len() > 2<<20 {
			altered = true
			require.NoError(t, server.Exec(n.db, "SET SESSION lock_wait_timeout = 1; ALTER TABLE a AUTO_INCREMENT "+
				"= 50"))
		}
	}
	require.NoError(t, s.WriteTo(t.Context(), w))
	require.True(t, altered)
}

// A seek leaves the numbers as they stand, after what the node itself has rolled back: the data at that position is
// what the operator says it is.
func TestASeekTakesNumbersAsTheyStand(t *testing.T) {
	n := newNode(t)
	n.run(numbered...)
	n.run("INSERT INTO t (v) VALUES (1)")
	_ = n.fails(1, "INSERT INTO t (v) VALUES (2)", "INSERT INTO t (v) VALUES (3), (4), (2)")
	require.NoError(t, n.Seek(t.Context(), n.log.At()))
	n.run("INSERT INTO t (v) VALUES (5)")
	require.Equal(t, "3", n.value("SELECT id FROM t WHERE v = 5"))
	require.NoError(t, server.Exec(n.db, "INSERT INTO t (v) VALUES (6), (7); DELETE FROM t WHERE v > 5"))
	require.NoError(t, n.reopen())
	require.NoError(t, n.Seek(t.Context(), n.log.At()))
	n.run("INSERT INTO t (v) VALUES (8)")
	require.Equal(t, "6", n.value("SELECT id FROM t WHERE v = 8"))
}
