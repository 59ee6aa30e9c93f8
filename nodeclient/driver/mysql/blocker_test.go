package mysql

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/servertest/mysqltest"
)

// blocked waits until the target says who blocks it. It asks as rarely as the server looks anew: what InnoDB tells of
// transactions stays the same while it was asked within a tenth of a second.
func (n *node) blocked(by string) (who string) {
	n.Helper()
	return drivertest.BlockedBy(n.T, n.Database, by, 300*time.Millisecond)
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
	end := drivertest.Applies(t.Context(), t, n.Database, n.log, "UPDATE ev SET v = 'b'")
	require.Contains(t, n.blocked("at work"), "this user may not see", "without the privilege PROCESS")
	require.NoError(t, srv.Exec(n.db, "GRANT PROCESS ON *.* TO xmq@'%'"))
	require.NoError(t, srv.Exec(n.db, "GRANT SELECT ON performance_schema.* TO xmq@'%'"))
	require.Regexp(t, `^blocked by session \d+ \(user root, from localhost, idle for [\d.]+ s with its locks\)\. To end `+
		`it: KILL \d+$`, n.blocked("blocked by"))
	_, err := app.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	end()

	root := n.rootSession("LOCK TABLES ev WRITE")
	end = drivertest.Applies(t.Context(), t, n.Database, n.log, "UPDATE ev SET v = 'c'")
	require.Regexp(t, `^blocked by session \d+ \(user root, from localhost, idle for [\d.]+ s with its locks\)\. To end `+
		`it: KILL \d+$`, n.blocked("blocked by"))
	_, err = root.ExecContext(t.Context(), "UNLOCK TABLES")
	require.NoError(t, err)
	end()

	ctx, cancel := context.WithCancel(t.Context())
	end = drivertest.Applies(ctx, t, n.Database, n.log, "UPDATE ev SET v = sleep(600) WHERE id = 1")
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
	end := drivertest.Applies(t.Context(), t, n.Database, n.log, "INSERT INTO ev VALUES (1)")
	require.Contains(t, n.blocked("metadata lock"), "the server does not show whose that is")
	_, err := root.ExecContext(t.Context(), "UNLOCK TABLES")
	require.NoError(t, err)
	end()
}

// A server that takes connections and answers none holds nobody who asks it for longer than they want to wait.
func TestAStoppedServerHoldsNobodyWhoAsksWhoBlocks(t *testing.T) {
	srv := mysqltest.New(t)
	nodeOn(t, srv, srv.Addr()).shared().StoppedServerHoldsNobody(srv.Signal)
}
