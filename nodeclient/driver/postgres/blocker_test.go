package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/servertest/postgrestest"
)

// blocked waits until the target says who blocks it.
func (n *node) blocked(by string) (who string) {
	n.Helper()
	return drivertest.BlockedBy(n.T, n.Database, by, tick)
}

// While an increment waits for a lock the node can say whose it is, behind a queue of others too, and no secret of
// that session.
func TestWhoBlocksTheDatabaseIsTold(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE ev (id int PRIMARY KEY, v text)", "INSERT INTO ev VALUES (1, 'a')")
	who, err := n.Blocker(t.Context())
	require.NoError(t, err)
	require.Empty(t, who, "nothing is under way")

	connect := func(role, name string) *pgconn.PgConn {
		c, err := pgconn.Connect(t.Context(), postgrestest.URL(role, n.srv.Addr(), n.db)+"&application_name="+name)
		require.NoError(t, err)
		t.Cleanup(func() { closeConn(c) })
		return c
	}
	app := connect("xmq", "shop")
	require.NoError(t, execute(t.Context(), app, "BEGIN; UPDATE ev SET v = 's3cret' WHERE id = 1"))
	queue := make(chan error, 1)
	second := connect("xmq", "second")
	go func() { queue <- execute(t.Context(), second, "BEGIN; LOCK TABLE ev; COMMIT") }()
	require.Eventually(t, func() bool {
		return n.value("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ev'::regclass") == "1"
	}, patience, tick)
	end := drivertest.Applies(t.Context(), t, n.Database, n.log, "UPDATE ev SET v = 'b'")
	who = n.blocked("shop")
	require.Regexp(t, `^blocked by session \d+ \(shop, role xmq, idle in transaction for [\d.]+ s\), which ran `+
		`last: BEGIN; `+
		`UPDATE ev SET v = \? WHERE id = \?\. To end it: SELECT pg_terminate_backend\(\d+\)$`, who)
	require.NotContains(t, who, "s3cret")
	require.NoError(t, execute(t.Context(), app, "ROLLBACK"))
	require.NoError(t, <-queue)
	end()

	root := connect("postgres", "psql") // of whom this role sees little
	require.NoError(t, execute(t.Context(), root, "BEGIN; LOCK TABLE ev"))
	end = drivertest.Applies(t.Context(), t, n.Database, n.log, "UPDATE ev SET v = 'c'")
	require.Regexp(t, `^blocked by session \d+ \(psql, role postgres\)\. To end it: SELECT`, n.blocked("psql"))
	require.NoError(t, execute(t.Context(), root, "ROLLBACK"))
	end()

	ctx, cancel := context.WithCancel(t.Context())
	end = drivertest.Applies(ctx, t, n.Database, n.log, "DO $$ BEGIN PERFORM pg_sleep(600); END $$")
	require.Contains(t, n.blocked("no session blocks it"), "its own is at work")
	cancel()
	end()
}

// Behind a commit that takes several transactions it is told how far they are.
func TestHowFarABatchIsIsTold(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE ev (id int)", "CREATE TABLE other (id int)")
	letGo := n.held("other")
	before, items := n.at(), n.log.Scripts("INSERT INTO ev VALUES (1)", "CREATE TABLE alone (id int)",
		"INSERT INTO other VALUES (1)")
	done := make(chan error, 1)
	go func() {
		_, err := n.Apply(t.Context(), before, items)
		done <- err
	}()
	require.Eventually(t, func() bool { return n.Durable() == before.Seq+2 }, patience, tick)
	letGo()
	require.NoError(t, <-done)
	require.Equal(t, before.Seq+3, n.Durable())
}

// A server that takes connections and answers none holds nobody who asks it for longer than they want to wait.
func TestAStoppedServerHoldsNobodyWhoAsksWhoBlocks(t *testing.T) {
	srv := postgrestest.New(t)
	nodeOn(t, srv, srv.Addr()).shared().StoppedServerHoldsNobody(srv.Signal)
}
