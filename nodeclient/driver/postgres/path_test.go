package postgres

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// By which search_path increments are applied stands beside the position: what a server gives to the role or database
// afterwards changes nothing, neither on this node nor on one that joins; the target URL may.
func TestTheServersSearchPathChangesNothing(t *testing.T) {
	set := func(n *node, path string) {
		require.NoError(t, server.Exec("postgres", "ALTER ROLE xmq IN DATABASE "+n.db+" SET search_path = "+path))
		require.NoError(t, n.reopen())
	}
	n := newNode(t)
	n.run("CREATE SCHEMA app; CREATE TABLE app.item (v int); CREATE TABLE public.item (v int)")
	require.NoError(t, server.Exec(n.db, "UPDATE xmq_position SET path = NULL")) // as an earlier version leaves it
	set(n, "app")
	n.run("INSERT INTO item VALUES (1)")
	require.Equal(t, "1", n.value("SELECT count(*) FROM app.item"))
	require.Equal(t, "app", n.value("SELECT path FROM xmq_position"))
	set(n, "public")
	require.Contains(t, strings.Join(n.Notices(), " "), "search_path")
	n.run("INSERT INTO item VALUES (2)", "DO $$ BEGIN NULL; END $$", "INSERT INTO item VALUES (3)")
	require.Equal(t, "3", n.value("SELECT count(*) FROM app.item"))

	snapshot, at := n.taken()
	copied := newNode(t)
	copied.loadSaying(snapshot, at)
	_, err := copied.Apply(t.Context(), at, after(at, "INSERT INTO item VALUES (4)"))
	require.NoError(t, err)
	require.Equal(t, "4", copied.value("SELECT count(*) FROM app.item"))
	require.NoError(t, copied.reopen())
	require.Equal(t, "app", copied.value("SELECT path FROM xmq_position"))

	before := n.at()
	require.NoError(t, n.Database.Close())
	target, err := Open(t.Context(), server.URL(n.db)+"&search_path=public", Options{})
	require.NoError(t, err)
	_, err = target.Apply(t.Context(), before, n.log.Scripts("INSERT INTO item VALUES (5)"))
	require.NoError(t, err)
	require.NoError(t, target.Close())
	require.Equal(t, "1", n.value("SELECT count(*) FROM public.item"))
	require.NoError(t, n.reopen())
	require.Equal(t, "public", n.value("SELECT path FROM xmq_position"))
}
