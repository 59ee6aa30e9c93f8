package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
)

// keys is every generated key of a node and where its tables count on from.
func (n *node) keys() string {
	n.Helper()
	return query[string](n.T, n.db, "SELECT (SELECT group_concat(id || v ORDER BY id) FROM auto) || ' ' || "+
		"(SELECT group_concat(rowid || v ORDER BY rowid) FROM plain) || ' ' || "+
		"(SELECT group_concat(name || seq ORDER BY name) FROM sqlite_sequence)")
}

// SQLite rolls sqlite_sequence back with all else, and a table without AUTOINCREMENT counts from its rows: whatever
// happens to a node, its generated keys are those of a node that never had trouble.
func TestGeneratedKeysAreEqualAfterEveryTrouble(t *testing.T) {
	rows := func(k int) []string {
		return []string{
			fmt.Sprintf("INSERT INTO auto (v) VALUES ('a%d')", k),
			fmt.Sprintf("INSERT INTO plain VALUES ('b%d')", k),
			fmt.Sprintf("INSERT INTO auto (v) VALUES ('c%d'); DELETE FROM auto WHERE v = 'c%d'", k, k),
			fmt.Sprintf("DELETE FROM plain WHERE v = 'b%d'", k-2),
		}
	}
	schema := "CREATE TABLE auto (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT UNIQUE); CREATE TABLE plain (v)"
	calm, n := newNode(t), newNode(t)
	same := func(m *node, k int) {
		t.Helper()
		calm.run(rows(k)...)
		m.run(rows(k)...)
		require.Equal(t, calm.keys(), m.keys())
	}
	for _, n := range []*node{calm, n} {
		n.run(append([]string{schema}, rows(0)...)...)
	}

	// An increment fails, alone and in a batch, and is passed over.
	bad := "INSERT INTO auto (v) VALUES ('x'), ('y'); INSERT INTO plain VALUES ('x'); INSERT INTO auto (v) VALUES ('a0')"
	pass := calm.log.Scripts(bad)
	pass[0].Record = nil
	_, err := calm.Apply(t.Context(), calm.at(), pass)
	require.NoError(t, err)
	calm.run(rows(1)...)
	items := n.log.Scripts(append([]string{bad}, rows(1)...)...)
	for range 3 {
		_, err = n.Apply(t.Context(), n.at(), items)
		require.ErrorContains(t, err, "UNIQUE")
	}
	items[0].Record = nil
	_, err = n.Apply(t.Context(), n.at(), items)
	require.NoError(t, err)
	same(n, 2)

	// A commit is not made, and the batch comes again.
	n.commit = func(context.Context, *sql.Conn) error { return nodeclient.Transient(errors.New("cut off")) }
	before, items := n.at(), n.log.Scripts(rows(3)...)
	_, err = n.Apply(t.Context(), before, items)
	require.Error(t, err)
	var crashed string // the node dies in the middle of that batch
	n.commit = func(ctx context.Context, c *sql.Conn) error {
		crashed = n.clone()
		return commit(ctx, c)
	}
	_, err = n.Apply(t.Context(), before, items)
	require.NoError(t, err)
	n.commit = commit
	calm.run(rows(3)...)
	back := &node{t, open(t, filepath.Dir(crashed)), n.log}
	require.Equal(t, before, back.at())
	_, err = back.Apply(t.Context(), before, items)
	require.NoError(t, err)
	require.Equal(t, calm.keys(), back.keys())
	same(n, 4)

	// A newcomer counts on from where its source does.
	snapshot, at := n.taken()
	m := restoredNode(t, snapshot, at)
	m.log = n.log
	same(m, 5)
}
