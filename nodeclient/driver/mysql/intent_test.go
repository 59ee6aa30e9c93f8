package mysql

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/servertest/mysqltest"
)

// cuts are the steps of a change of the schema at which the connection may be cut, in their order; of each script the
// arrival or the answer is lost.
var cuts = []struct {
	script string // "" is the statement itself
	skip   int
}{{"SELECT GET_LOCK", 0}, {"SELECT table_type", 0}, {"UPDATE xmq_position SET ddl_seq", 0}, {"XA END", 0},
	{countOne + "; SET @xmq_at = 0", 0}, {"", 0}, {"XA START", 0}, {"UPDATE xmq_position SET log_id", 0}, {"XA END", 1}}

// settles applies batch like an agent until it is applied or fails, and returns the failure.
func (n *node) settles(before event.Position, batch []event.Item) error {
	n.Helper()
	at := before
	for end := time.Now().Add(patience); time.Now().Before(end); {
		for len(batch) > 0 && batch[0].Pos.Seq <= at.Seq {
			batch = batch[1:]
		}
		if len(batch) == 0 {
			return nil
		}
		pos, err := n.Apply(n.Context(), at, batch)
		if err != nil && !nodeclient.IsTransient(err) {
			return err
		}
		at = pos
	}
	require.Fail(n, "it does not come to an end")
	return nil
}

// A change of the schema that cannot be done twice is done once, wherever the connection is cut, or the server killed,
// or the node started again.
func TestAChangeOfTheSchemaIsDoneOnceWhereverTheRoadIsCut(t *testing.T) {
	own := mysqltest.New(t)
	p := newProxy(t, own.Addr())
	n := nodeOn(t, own, p.Addr())
	n.run("CREATE TABLE c (v int)", "INSERT INTO c VALUES (1)")
	column := 0
	for _, killed := range []bool{false, true} {
		for _, lose := range []bool{false, true} {
			for _, c := range cuts {
				column++
				name := fmt.Sprintf("killed %v, answer lost %v, at %q %d", killed, lose, c.script, c.skip)
				statement := fmt.Sprintf("ALTER TABLE c ADD COLUMN x%d int", column)
				if c.script == "" {
					c.script = statement
				}
				before := n.at()
				batch := n.log.Scripts("UPDATE c SET v = v + 1", statement, fmt.Sprintf("UPDATE c SET x%d = 5", column))
				_, err := n.Apply(t.Context(), before, batch[:1])
				require.NoError(t, err)
				before, batch = batch[0].Pos, batch[1:]
				p.Do(func() {
					p.skip = c.skip
					if lose {
						p.loseOf = c.script
					} else {
						p.cutOn = c.script
					}
					if p.then = nil; killed {
						p.then = func() { _ = own.Kill() } // its end is waited for
					}
				})
				at, err := n.Apply(t.Context(), before, batch)
				if err != nil { // a lost answer to the last commit is settled at once
					require.True(t, nodeclient.IsTransient(err), "%s: %v", name, err)
				} else {
					require.False(t, killed, name)
					require.Contains(t, c.script, "XA END", name)
				}
				p.Do(func() { require.True(t, p.cutOn == "" && p.loseOf == "" && !p.armed, "%s: it was cut", name) })
				if killed {
					require.NoError(t, own.Run())
				}
				if column%2 == 0 {
					require.Eventually(t, func() bool { return n.reopen() == nil }, patience, tick)
					at = n.at() // as an agent begins
				}
				require.NoError(t, n.settles(at, batch), name)
				require.Equal(t, batch[len(batch)-1].Pos, n.at(), name)
				require.Equal(t, "5", n.value(fmt.Sprintf("SELECT x%d FROM c", column)), name)
				require.Equal(t, "NULL|NULL|NULL|NULL", n.value("SELECT ddl_seq, ddl_chain, ddl_before, ddl_answer FROM "+
					"xmq_position"), name)
			}
		}
	}
	require.Equal(t, fmt.Sprint(column+1), n.value("SELECT v FROM c"))
}

// interrupted leaves the intent of script behind, with the statement done or not.
func (n *node) interrupted(p *proxy, script string, done bool) (event.Position, []event.Item) {
	n.Helper()
	before, batch := n.at(), n.log.Scripts(script)
	p.Do(func() {
		if p.then = nil; done {
			p.cutOn = "XA START"
		} else {
			p.cutOn = script[:10]
		}
	})
	_, err := n.Apply(n.Context(), before, batch)
	require.True(n, nodeclient.IsTransient(err), err)
	require.Equal(n, before, n.at())
	return before, batch
}

// What a statement empties, makes anew or takes away where it is there is looked at: what was done is not done again,
// and what was not is done, also by a node that is started again.
func TestWhatAStatementEmptiesIsLookedAt(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("CREATE TABLE c (id int AUTO_INCREMENT PRIMARY KEY, v int)",
		"CREATE TABLE y (id int, v int) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES "+
			"LESS THAN (20))",
		"CREATE TABLE `DROP`(v int)", "CREATE VIEW w AS SELECT 1 AS one")
	for _, script := range []string{"TRUNCATE TABLE c", "TRUNCATE `" + n.db + "` . c",
		"ALTER TABLE y TRUNCATE PARTITION p0, `p1`", "ALTER TABLE y TRUNCATE PARTITION ALL",
		either("CREATE OR REPLACE TABLE c (id int AUTO_INCREMENT PRIMARY KEY, v int)", "TRUNCATE c")} {
		for _, again := range []bool{false, true} {
			for _, done := range []bool{true, false} {
				n.run("INSERT INTO c (v) VALUES (1), (2), (3)", "INSERT INTO y VALUES (1, 1), (11, 1)")
				before, batch := n.interrupted(p, script, done)
				if again {
					require.NoError(t, n.reopen())
				}
				table := "c"
				if strings.Contains(script, " y ") {
					table = "y"
				}
				if done && table == "c" { // another run would show
					require.NoError(t, n.srv.Exec(n.db, "ALTER TABLE c AUTO_INCREMENT = 50"))
				}
				require.NoError(t, n.settles(before, batch), script)
				require.Equal(t, batch[0].Pos, n.at())
				require.Equal(t, "0", n.value("SELECT count(*) FROM "+table), script)
				if table == "c" {
					n.run("INSERT INTO c (v) VALUES (100)")
					require.Equal(t, map[bool]string{true: "50", false: "1"}[done], n.value("SELECT id FROM c WHERE v = 100"), script)
				}
				n.run("DELETE FROM c", "DELETE FROM y")
			}
		}
	}
	for _, script := range []string{"CREATE TABLE IF NOT EXISTS d (v int)", "DROP TABLE IF EXISTS d",
		"DROP TABLE IF EXISTS d", "CREATE OR REPLACE VIEW w AS SELECT 2 AS two",
		"CREATE OR REPLACE VIEW w AS SELECT 2 AS two"} {
		for _, done := range []bool{false, true} {
			before, batch := n.interrupted(p, script, done)
			require.NoError(t, n.settles(before, batch), script)
			require.Equal(t, batch[0].Pos, n.at())
		}
	}
	n.run("CREATE TABLE parent (id int PRIMARY KEY)",
		"CREATE TABLE child (id int, FOREIGN KEY (id) REFERENCES parent (id))")
	before, batch := n.interrupted(p, "TRUNCATE TABLE parent", false)
	require.ErrorContains(t, n.settles(before, batch), "Error 1701", "an empty table is no proof that it was done")
}

// A server that stops within OR REPLACE may have taken away what was there and made nothing: then it is made.
func TestWhatWasTakenAwayToBeReplacedIsMade(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("CREATE TABLE c (v int)", "CREATE PROCEDURE pr() SELECT 1", "CREATE VIEW w AS SELECT 1 AS a")
	cases := [][3]string{
		{"CREATE OR REPLACE VIEW w AS SELECT 1 AS a, 2 AS b", "DROP VIEW w",
			"SELECT count(*) FROM information_schema.columns WHERE table_schema = database() AND table_name = 'w'"},
		{"CREATE OR REPLACE TABLE c (v int, w int)", "DROP TABLE c",
			"SELECT count(*) FROM information_schema.columns WHERE table_schema = database() AND table_name = 'c'"},
		{"CREATE OR REPLACE PROCEDURE pr() SELECT 2", "DROP PROCEDURE pr",
			"SELECT 1 + count(*) FROM information_schema.routines WHERE routine_schema = database()"},
	}
	if onMySQL { // which replaces views only
		cases = cases[:1]
	}
	for _, c := range cases {
		before, batch := n.interrupted(p, c[0], false)
		require.NoError(t, n.srv.Exec(n.db, c[1]))
		require.NoError(t, n.settles(before, batch), c[0])
		require.Equal(t, "2", n.value(c[2]))
	}
}

// What a statement does to another database the schema of this one does not show: a person is asked.
func TestAChangeOfAnotherDatabaseIsAsked(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("CREATE TABLE c (v int)")
	before, batch := n.interrupted(p, "ALTER TABLE `mysql`.c ADD COLUMN w int", false)
	require.ErrorContains(t, n.settles(before, batch), "cannot be seen")
	batch[0].Decision = 1
	require.ErrorContains(t, n.settles(before, batch), "Error 11", "retry runs it, and the server refuses it")
	before, batch = n.interrupted(p, "ALTER TABLE `"+n.db+"`.c ADD COLUMN w int", false)
	require.NoError(t, n.settles(before, batch), "its own name")
	for script, places := range map[string]string{
		"ALTER TABLE t ADD CHECK (t.v > 1.5e3)": "", "CREATE TABLE x (a decimal DEFAULT 2.75)": "",
		"ALTER TABLE t RENAME other.t":       "other",
		"CREATE VIEW v AS SELECT a.b FROM a": "", "CREATE INDEX i ON `other`.t (a)": "other", "TRUNCATE other . t": "other",
		"CREATE TRIGGER tr BEFORE INSERT ON other.t FOR EACH ROW SET NEW.a = 1.5": "other",
		"CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1":         "",
		"DROP TABLE IF EXISTS other.t":                                            "other",
		"CREATE PROCEDURE other.p() SELECT t.a FROM t":                            "other",
	} {
		w, err := parse([]byte(script))
		require.NoError(t, err, script)
		require.Equal(t, places, strings.Join(w.ddl.places, " "), script)
	}
}

// An order to retry that reaches the node when its change of the schema is done does not do it twice; one that brings
// another statement is obeyed.
func TestARetryThatComesTooLateChangesNothing(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("CREATE TABLE c (v int, w int)")
	indexes := func() string {
		return n.value("SELECT count(DISTINCT index_name) FROM information_schema.statistics " +
			"WHERE table_schema = database() AND table_name = 'c'")
	}
	for i, done := range []bool{true, false} {
		for k, again := range []bool{false, true} {
			before, batch := n.interrupted(p, "ALTER TABLE c ADD KEY ("+[]string{"v", "w", "w, v", "v, w"}[2*i+k]+")", done)
			if again {
				require.NoError(t, n.reopen())
			}
			batch[0].Decision = 1
			require.NoError(t, n.settles(before, batch))
			require.Equal(t, batch[0].Pos, n.at())
			require.Equal(t, fmt.Sprint(2*i+k+1), indexes())
		}
	}

	n.run("CREATE TABLE counted (id int AUTO_INCREMENT PRIMARY KEY)", "INSERT INTO counted VALUES (NULL), (NULL)")
	before, batch := n.interrupted(p, "TRUNCATE TABLE counted", true)
	replaced, err := batch[0].Record.Decode()
	require.NoError(t, err)
	replaced.Body = []byte("CREATE TABLE instead (v int)")
	batch[0].Record, batch[0].Decision = event.Reforge(replaced), 2
	require.NoError(t, n.reopen())
	require.NoError(t, n.settles(before, batch))
	require.Equal(t, "0", n.value("SELECT count(*) FROM instead"))
	n.run("INSERT INTO counted VALUES (NULL)")
	require.Equal(t, "1", n.value("SELECT id FROM counted"),
		"what the statement that was replaced did to the numbers stays")
}

// Retry runs what a person was asked about, however the schema looks by then; an order that came before the question
// does not know of it.
func TestARetryAnswersTheQuestionThatCameBefore(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("CREATE TABLE a (v int)", "CREATE TABLE b (v int)", "INSERT INTO a VALUES (1)")
	before, batch := n.interrupted(p, "RENAME TABLE a TO c, b TO a, c TO b", true)
	batch[0].Decision = 3
	require.ErrorContains(t, n.settles(before, batch), "cannot be seen")
	require.NoError(t, n.reopen())
	require.ErrorContains(t, n.settles(before, batch), "cannot be seen", "the same order")
	require.Equal(t, "1", n.value("SELECT v FROM b"), "it ran once")
	require.NoError(t, n.srv.Exec(n.db, "RENAME TABLE a TO c, b TO a, c TO b; ALTER TABLE a ADD COLUMN byhand int"))
	batch[0].Decision = 4
	require.NoError(t, n.settles(before, batch))
	require.Equal(t, "1", n.value("SELECT v FROM b"))
	require.Equal(t, "NULL", n.value("SELECT ddl_statement FROM xmq_position"))
}

// Of a swap nobody can see whether it was done: a person is asked, and retry and skip do what they say.
func TestWhatCannotBeSeenIsAsked(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("CREATE TABLE a (v int)", "CREATE TABLE b (v int)", "INSERT INTO a VALUES (1)")
	swap := "RENAME TABLE a TO c, b TO a, c TO b"
	before, batch := n.interrupted(p, swap, false)
	err := n.settles(before, batch)
	require.ErrorContains(t, err, fmt.Sprintf("mysql: increment %d: whether its RENAME TABLE was done", batch[0].Pos.Seq))
	require.ErrorContains(t, err, "retry runs it (again), skip takes it as done")
	require.False(t, nodeclient.IsFatal(err))
	_, err = n.Snapshot(t.Context())
	require.True(t, nodeclient.IsTransient(err), "what it would hold is not known: %v", err)
	require.ErrorContains(t, n.settles(before, batch), "cannot be seen",
		"the failure was not heard of, and it is delivered again")
	require.NoError(t, n.reopen())
	require.ErrorContains(t, n.settles(before, batch), "cannot be seen", "a new process")
	require.Equal(t, "1", n.value("SELECT v FROM a"), "nothing ran unasked")
	batch[0].Decision = 1 // retry
	p.Do(func() { p.cutOn = swap[:10] })
	_, err = n.Apply(t.Context(), before, batch)
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, n.settles(before, batch), "cannot be seen", "one answer is for one run")
	require.NoError(t, n.reopen())
	require.ErrorContains(t, n.settles(before, batch), "cannot be seen")
	batch[0].Decision = 2
	require.NoError(t, n.settles(before, batch), "retry")
	require.Equal(t, "1", n.value("SELECT v FROM b"))

	before, batch = n.interrupted(p, swap, true)
	require.Error(t, n.settles(before, batch))
	_, err = n.Apply(t.Context(), before, []event.Item{{Pos: batch[0].Pos}}) // skip
	require.NoError(t, err)
	require.Equal(t, "1", n.value("SELECT v FROM a"), "it was done once")
	n.run("INSERT INTO a VALUES (2)")
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err, "the intent is gone")
	require.NoError(t, s.Close())
}

// The schema looks the same before and after these, and the data does not: each is asked about, done or not, and
// never runs twice.
func TestAChangeOfDataThatTheSchemaDoesNotShowIsAsked(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("CREATE TABLE s (id int PRIMARY KEY, a int, b int)", "INSERT INTO s VALUES (1, 10, 20)",
		"CREATE TABLE x (id int, v int)", "CREATE TABLE y (id int, v int) PARTITION BY RANGE (id) (PARTITION p0 VALUES "+
			"LESS THAN (10))",
		"INSERT INTO x VALUES (1, 1)", "INSERT INTO y VALUES (2, 2)")
	for _, c := range []struct {
		script string
		shows  bool // in the order of the columns
	}{
		{"ALTER TABLE s CHANGE b a INT AFTER id, CHANGE a b INT", false},
		{"ALTER TABLE s RENAME COLUMN a TO b, RENAME COLUMN b TO a", true},
		{"ALTER TABLE s DROP COLUMN a, ADD COLUMN `A` int FIRST, DROP COLUMN b, ADD (b int)", true},
		{"ALTER TABLE s DROP COLUMN a, ADD `A` int FIRST", false},
		{"ALTER TABLE x ORDER BY v", false},
		{"ALTER TABLE y EXCHANGE PARTITION p0 WITH TABLE x", false},
		{"RENAME TABLE x TO z, y TO x, z TO y", true},
	} {
		for _, done := range []bool{true, false} {
			before, batch := n.interrupted(p, c.script, done)
			was := n.query("SELECT * FROM s, x")
			if err := n.settles(before, batch); err != nil || !c.shows || !done {
				require.ErrorContains(t, err, "cannot be seen", "%v %s", done, c.script)
				_, err := n.Apply(t.Context(), before, []event.Item{{Pos: batch[0].Pos}}) // skip
				require.NoError(t, err)
			}
			require.Equal(t, was, n.query("SELECT * FROM s, x"), c.script)
		}
	}
}

// These show that they were done, or come to the same twice as once: nobody is asked, whether they were done or not.
func TestAChangeThatShowsIsSettledByItself(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("CREATE TABLE s (id int PRIMARY KEY, a int, b int, KEY i (a), KEY `j k` (b))",
		"INSERT INTO s VALUES (1, 10, 20)")
	for _, script := range []string{
		"DROP INDEX i ON s", "DROP INDEX `j k` ON `s`", "CREATE INDEX i ON s (b)",
		"ALTER TABLE s DROP INDEX i, ADD INDEX i (b)", "ALTER TABLE s DROP INDEX i",
		"ALTER TABLE s CHANGE a c int", "ALTER TABLE s CHANGE c c bigint", "ALTER TABLE s MODIFY c bigint",
		"ALTER TABLE s RENAME COLUMN c TO a", "ALTER TABLE s ADD COLUMN d int, DROP COLUMN b",
		"ALTER TABLE s COMMENT = 'x', ALGORITHM = INPLACE", "ALTER TABLE s CONVERT TO CHARACTER SET utf8mb4",
		"ALTER TABLE s ENGINE = InnoDB", "DROP INDEX `PRIMARY` ON s",
	} {
		before, batch := n.interrupted(p, script, true)
		require.NoError(t, n.settles(before, batch), script)
		require.Equal(t, batch[0].Pos, n.at())
	}
	require.Equal(t, []string{"1|10|NULL"}, n.query("SELECT id, a, d FROM s"))
	for _, script := range []string{"CREATE INDEX i ON s (a)", "DROP INDEX i ON s"} { // not done: they run
		before, batch := n.interrupted(p, script, false)
		require.NoError(t, n.settles(before, batch), script)
		require.Equal(t, batch[0].Pos, n.at())
	}
	require.Equal(t, "0", n.value("SELECT count(*) FROM information_schema.statistics WHERE table_schema = database() "+
		"AND table_name = 's'"))
}

// What the server refuses is a FAIL, and leaves no intent behind.
func TestARefusedChangeLeavesNoIntent(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	for script, code := range map[string]string{
		"CREATE TABLE c (v int)": "Error 1050", "DROP TABLE nowhere": "Error 1051",
		"ALTER TABLE c ADD COLUMN v int": "Error 1060", "CREATE TABLE x (v nonsense)": either("Error 4161", "Error 1064"),
		"ALTER TABLE nowhere ADD COLUMN v int": "Error 1146", "CREATE VIEW w AS SELECT * FROM nowhere": "Error 1146",
		"CREATE TRIGGER tr BEFORE INSERT ON nowhere FOR EACH ROW SET @a = 1": "Error 1146",
		"CREATE TABLE x (v int": "Error 1064",
	} {
		require.ErrorContains(t, n.fails(1, "INSERT INTO c VALUES (1)", script, "INSERT INTO c VALUES (2)"), code, script)
		require.Equal(t, "NULL", n.value("SELECT ddl_seq FROM xmq_position"), script)
	}
	require.Equal(t, "8", n.value("SELECT count(*) FROM c"))
}

// A table that others hold makes a change of the schema wait, then Transient, then it is done.
func TestAHeldTableIsWaitedFor(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	other, err := server.Connect(n.db)
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	tx, err := other.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "SELECT * FROM c")
	require.NoError(t, err)
	require.NoError(t, n.Database.s.do(t.Context(), "SET lock_wait_timeout = 1"))
	before, batch := n.at(), n.log.Scripts("ALTER TABLE c ADD COLUMN w int")
	_, err = n.Apply(t.Context(), before, batch)
	require.True(t, nodeclient.IsTransient(err), err)
	require.NoError(t, tx.Rollback())
	_, err = n.Apply(t.Context(), before, batch)
	require.NoError(t, err)
}
