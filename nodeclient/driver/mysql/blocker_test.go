package mysql

import (
	"context"
	"database/sql"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/servertest/mysqltest"
)

// applies runs a script in the background and returns how to wait for its end.
func (n *node) applies(ctx context.Context, script string) (end func()) {
	before, items := n.at(), n.log.Scripts(script)
	done := make(chan error, 1)
	go func() {
		_, err := n.Apply(ctx, before, items)
		done <- err
	}()
	return func() {
		n.Helper()
		if err := <-done; ctx.Err() == nil {
			require.NoError(n, err)
		}
	}
}

// blocked waits until the target says who blocks it. It asks as rarely as the server looks anew: what InnoDB tells of
// transactions stays the same while it was asked within a tenth of a second.
func (n *node) blocked(by string) (who string) {
	n.Helper()
	heard := map[string]bool{}
	require.Eventually(n, func() bool {
		var err error
		who, err = n.Blocker(n.Context())
		require.NoError(n, err)
		heard[who] = true
		return strings.Contains(who, by)
	}, patience, 300*time.Millisecond, "waiting for %q, heard %q", by, &heard)
	return who
}

// session is a session of root, in which statements were run.
func (n *node) rootSession(statements ...string) *sql.Conn {
	n.Helper()
	db, err := n.srv.Connect(n.db)
	require.NoError(n, err)
	n.Cleanup(func() { _ = db.Close() })
	c, err := db.Conn(n.Context())
	require.NoError(n, err)
	for _, s := range statements {
		_, err := c.ExecContext(n.Context(), s)
		require.NoError(n, err)
	}
	return c
}

// While an increment waits for a lock the node can say whose it is, of rows and of tables, and no secret of that
// session.
func TestWhoBlocksTheDatabaseIsTold(t *testing.T) {
	srv := mysqltest.New(t, "--performance-schema=ON", "--performance-schema-instrument=wait/lock/metadata/sql/mdl=ON")
	n := nodeOn(t, srv, srv.Addr())
	n.run("CREATE TABLE ev (id int PRIMARY KEY, v varchar(10))", "INSERT INTO ev VALUES (1, 'a')")
	require.Eventually(t, func() bool {
		who, err := n.Blocker(t.Context())
		require.NoError(t, err)
		return who == ""
	}, patience, tick, "nothing is under way")

	app := n.rootSession("BEGIN", "UPDATE ev SET v = 's3cret' WHERE id = 1")
	end := n.applies(t.Context(), "UPDATE ev SET v = 'b'")
	require.Contains(t, n.blocked("at work"), "this user may not see", "without the privilege PROCESS")
	require.NoError(t, srv.Exec(n.db, "GRANT PROCESS ON *.* TO xmq@'%'"))
	require.NoError(t, srv.Exec(n.db, "GRANT SELECT ON performance_schema.* TO xmq@'%'"))
	require.Regexp(t, `^blocked by session \d+ \(user root, from localhost, idle for \d+ s with its locks\)\. To end it: KILL \d+$`, n.blocked("blocked by"))
	_, err := app.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	end()

	root := n.rootSession("LOCK TABLES ev WRITE")
	end = n.applies(t.Context(), "UPDATE ev SET v = 'c'")
	require.Regexp(t, `^blocked by session \d+ \(user root, from localhost, idle for \d+ s with its locks\)\. To end it: KILL \d+$`, n.blocked("blocked by"))
	_, err = root.ExecContext(t.Context(), "UNLOCK TABLES")
	require.NoError(t, err)
	end()

	ctx, cancel := context.WithCancel(t.Context())
	end = n.applies(ctx, "UPDATE ev SET v = sleep(600) WHERE id = 1")
	require.Contains(t, n.blocked("no session blocks it"), "is at work (")
	cancel()
	end()
}

// Where the server shows nobody who has a table, that is said.
func TestWhatTheServerDoesNotShowIsNotGuessed(t *testing.T) {
	srv := mysqltest.New(t, "--performance-schema=OFF")
	n := nodeOn(t, srv, srv.Addr())
	n.run("CREATE TABLE ev (id int PRIMARY KEY)")
	root := n.rootSession("LOCK TABLES ev WRITE")
	end := n.applies(t.Context(), "INSERT INTO ev VALUES (1)")
	require.Contains(t, n.blocked("metadata lock"), "the server does not show whose that is")
	_, err := root.ExecContext(t.Context(), "UNLOCK TABLES")
	require.NoError(t, err)
	end()
}

// A server that takes connections and answers none holds nobody who asks it for longer than they want to wait.
func TestAStoppedServerHoldsNobodyWhoAsksWhoBlocks(t *testing.T) {
	srv := mysqltest.New(t)
	n := nodeOn(t, srv, srv.Addr())
	n.run("CREATE TABLE ev (id int)")
	require.NoError(t, srv.Signal(syscall.SIGSTOP))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := n.Blocker(ctx)
	require.NoError(t, srv.Signal(syscall.SIGCONT))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	n.run("INSERT INTO ev VALUES (1)")
}
