package mysql

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/servertest/mysqltest"
)

// twoWorlds is a schema in which everything says what it belongs to: tables with keys between them, views on views,
// routines, triggers.
func twoWorlds(world string) []string {
	return []string{
		"CREATE TABLE parent (id int PRIMARY KEY, v varchar(10))",
		"CREATE TABLE child (id int PRIMARY KEY, p int, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)",
		"CREATE TABLE only_" + world + " (v int)", either("CREATE SEQUENCE s NOCACHE", "CREATE TABLE s (v int)"),
		"CREATE TABLE numbered (id int " + either("DEFAULT nextval(s)", "AUTO_INCREMENT PRIMARY KEY") + ")",
		"CREATE FUNCTION f() RETURNS varchar(10) RETURN '" + world + "'", "CREATE VIEW b AS SELECT v, f() AS f FROM parent",
		"CREATE VIEW a AS SELECT * FROM b",
		"CREATE TRIGGER tr BEFORE INSERT ON child FOR EACH ROW SET NEW.p = NEW.p", "CREATE PROCEDURE p_" + world +
			"() SELECT 1",
		"INSERT INTO parent VALUES (1, '" + world + "')", "INSERT INTO child VALUES (1, 1)",
		"INSERT INTO numbered VALUES (DEFAULT), (DEFAULT)",
	}
}

// lives makes a world by another way than the driver, which takes less time.
func (n *node) lives(world string) {
	n.Helper()
	if onMySQL { // where what an administrator has made is not replaced
		n.run(append(twoWorlds(world), "INSERT INTO only_"+world+" VALUES (1)")...)
		return
	}
	require.NoError(n, n.srv.Exec(n.db, strings.Join(twoWorlds(world), "; ")))
	n.run("INSERT INTO only_" + world + " VALUES (1)")
}

// is checks that the node holds one world, whole.
func (n *node) is(world, name string) {
	n.Helper()
	require.Equal(n, world+"|"+world, n.value("SELECT * FROM a"), name)
	require.Equal(n, []string{"1|1", "2"},
		append(n.query("SELECT * FROM child"), n.query("SELECT count(*) FROM numbered")...), name)
	require.Equal(n, []string{"a", "b", "child", "numbered", "only_" + world, "parent", "s", "xmq_position"},
		n.query("SELECT table_name FROM information_schema.tables WHERE table_schema = database() ORDER BY 1"), name)
	require.Equal(n, []string{"f", "p_" + world}, n.query("SELECT routine_name FROM information_schema.routines WHERE "+
		"routine_schema = database() ORDER BY 1"), name)
	require.Equal(n, []string{"tr"}, n.query("SELECT trigger_name FROM information_schema.triggers WHERE "+
		"trigger_schema = database()"), name)
	require.Empty(n, leftovers(n.T, n.srv, n.db), name)
}

// TestXE13: "failure at each step leaves the old state": from one step of the switch on it leaves the new one. The
// connection is cut at each command of it, before it arrives or before it is answered; when the target is opened again,
// the old data or the new is live, whole, with everything that lies above it, and nothing is left beside it.
func TestXE13TheSwitchIsOneStep(t *testing.T) {
	source := newNode(t)
	source.run(twoWorlds("new")...)
	snapshot, at := source.taken()
	p := newProxy(t, server.Addr())
	for _, lose := range []bool{false, true} {
		old, switched, first, step := 0, 0, 1, 1
		if lose {
			first, step = 2, 3 // after the look at the lock; and to save time
		}
		for nth := first; ; nth += step {
			n := nodeOn(t, server, p.Addr())
			n.lives("old")
			before := n.at()
			r, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
			require.NoError(t, err)
			require.Equal(t, "old|old", n.value("SELECT * FROM a"), "the old data stays readable")
			var cuts int
			p.Do(func() { p.nth, p.lose, p.cuts = nth, lose, 0 })
			err = r.Switch(t.Context())
			p.Do(func() { p.nth, cuts = 0, p.cuts })
			name := fmt.Sprintf("command %d, answer lost %v: %v", nth, lose, err)
			if err != nil {
				require.True(t, nodeclient.IsTransient(err), name)
			}
			if nth%2 == 0 || err == nil {
				require.NoError(t, n.Database.Close())
				require.NoError(t, n.reopen(), name)
			} else {
				require.NoError(t, r.Discard(), "as an agent does; it takes back what is not decided only")
			}
			if got := n.at(); got == before {
				old++
				require.Error(t, err, name)
				require.Zero(t, switched, "%s: from one step on it is the new", name)
				n.is("old", name)
			} else {
				switched++
				require.Equal(t, at, got, name)
				n.is("new", name)
				_, err := n.Apply(t.Context(), at, after(at, "INSERT INTO numbered VALUES (DEFAULT)", "DELETE FROM parent"))
				require.NoError(t, err, "the default finds its sequence")
				require.Equal(t, "3|0", n.value("SELECT (SELECT max(id) FROM numbered), (SELECT count(*) FROM child)"), name)
			}
			require.NoError(t, n.Database.Close())
			if cuts == 0 {
				require.NoError(t, err)
				break
			}
		}
		require.Equal(t, !lose, old > 0, "the first command after the look at the lock decides")
		require.Greater(t, switched, 10)
	}
}

// The same with the server killed.
func TestAServerKilledInTheSwitchHasTheOldDataOrTheNew(t *testing.T) {
	own := mysqltest.New(t)
	p := newProxy(t, own.Addr())
	source := nodeOn(t, own, own.Addr())
	source.run(twoWorlds("new")...)
	snapshot, at := source.taken()
	for i, c := range []struct {
		script   string
		lose     bool
		skip     int
		switched bool
	}{{"RENAME TABLE", false, 0, false}, {"RENAME TABLE", true, 0, true}, {"RENAME TABLE", false, 1, true},
		{"RENAME TABLE", true, 1, true}, {"CREATE OR REPLACE VIEW", false, 0, true},
		{"CREATE OR REPLACE ALGORITHM", false, 0, true}, {"SET foreign_key_checks = 0; DROP", true, 1, true},
		{"SET foreign_key_checks = 0; DROP", true, 2, true}} {
		n := nodeOn(t, own, p.Addr())
		n.lives("old")
		r, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
		require.NoError(t, err)
		p.Do(func() {
			p.skip, p.then = c.skip, func() { _ = own.Kill() }
			if c.lose {
				p.loseOf = c.script
			} else {
				p.cutOn = c.script
			}
		})
		name := fmt.Sprint(i, c)
		err = r.Switch(t.Context())
		p.Do(func() { p.cutOn, p.loseOf, p.then, p.skip = "", "", nil, 0 })
		if err == nil { // it was not met
			require.Equal(t, "CREATE OR REPLACE VIEW", c.script, name)
		} else {
			require.NoError(t, own.Run())
		}
		require.Eventually(t, func() bool { return n.reopen() == nil }, patience, tick, name)
		if c.switched {
			require.Equal(t, at, n.at(), name)
			n.is("new", name)
		} else {
			n.is("old", name)
		}
	}
}

// Sessions of others that hold a table hold the switch up, and nothing is lost by that: Position goes on with it.
func TestTheSwitchWaitsForSessionsOfOthers(t *testing.T) {
	n := newNode(t)
	n.run(twoWorlds("new")...)
	snapshot, at := n.taken()
	m := newNode(t)
	m.run(twoWorlds("old")...)
	r, err := m.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(t, err)
	other, err := server.Connect(m.db)
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	tx, err := other.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "SELECT * FROM child")
	require.NoError(t, err)
	require.NoError(t, m.Database.s.do(t.Context(), "SET lock_wait_timeout = 1"))
	err = r.Switch(t.Context())
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "Error 1205")
	require.NoError(t, r.Discard())
	require.NoError(t, tx.Rollback())
	require.Equal(t, at, m.at())
	m.is("new", "")
}

// A user who may not make databases beside the target's is told so, and nothing changes.
func TestARestoreNeedsTheRightToItsDatabases(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	snapshot, at := n.taken()
	grant := "ALL ON `" + n.db + `\_xmq\_%` + "`.* "
	require.NoError(t, server.Exec("mysql", "REVOKE "+grant+"FROM xmq@'%'"))
	_, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(t, server.Exec("mysql", "GRANT "+grant+"TO xmq@'%'"))
	require.ErrorContains(t, err, "GRANT "+grant)
	require.Equal(t, at, n.at())
	n.load(snapshot, at)
}

// A routine whose text the user may not see cannot be carried, nor can a view on what is gone: they are named.
func TestWhatCannotBeCarriedIsNamed(t *testing.T) {
	n := newNode(t)
	require.NoError(t, server.Exec(n.db, "CREATE FUNCTION theirs() RETURNS int RETURN 1; CREATE VIEW w AS SELECT 1 AS "+
		"one; CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DO 1"))
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	require.ErrorContains(t, s.WriteTo(t.Context(), &bytes.Buffer{}),
		"the function theirs: its text may be seen by its definer only")
	require.NoError(t, s.Close())
	require.NoError(t, server.Exec(n.db, "DROP FUNCTION theirs"))
	n.run("CREATE TABLE gone (v int)", "CREATE VIEW stale AS SELECT * FROM gone", "DROP TABLE gone")
	s, err = n.Snapshot(t.Context())
	require.NoError(t, err)
	require.ErrorContains(t, s.WriteTo(t.Context(), &bytes.Buffer{}), "the view stale cannot be read")
	require.NoError(t, s.Close())
	n.run("CREATE OR REPLACE VIEW stale AS SELECT 1", "DROP VIEW stale")
	require.NoError(t, server.Exec(n.db, "DROP TABLE xmq_position"))
	snapshot, _ := n.taken()
	copied := newNode(t)
	copied.load(snapshot, event.Start(7))
	require.Equal(t, []string{"xmq@%"}, copied.query("SELECT definer FROM information_schema.views WHERE table_schema "+
		"= database()"), "the definer is who restores")
	require.Equal(t, "0", copied.value("SELECT count(*) FROM information_schema.events WHERE event_schema = database()"),
		"events stay where they are")
}

// Another node that gets the database between the look at the lock and the decision waits for the end of the switch:
// it finds the new data whole, and takes nothing of it away.
func TestWhoGetsTheDatabaseWithinASwitchWaitsForItsEnd(t *testing.T) {
	source := newNode(t)
	source.run(twoWorlds("new")...)
	snapshot, at := source.taken()
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.lives("old")
	r, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(t, err)
	opened := make(chan error, 1)
	var other *Database
	p.Do(func() {
		p.meet = "RENAME TABLE" // the first one decides
		p.met = func() {
			n.endLock()
			begun := make(chan struct{})
			go func() {
				close(begun)
				var err error
				other, err = n.other()
				opened <- err
			}()
			<-begun
			require.Eventually(t, func() bool { return n.holder() != "NULL" }, patience, tick)
		}
	})
	require.NoError(t, r.Switch(t.Context()))
	require.NoError(t, <-opened)
	now, err := other.Position(t.Context())
	require.NoError(t, err)
	require.Equal(t, at, now)
	require.ErrorIs(t, func() error { _, err := n.Position(t.Context()); return err }(), nodeclient.ErrTaken)
	n.is("new", "")
}
