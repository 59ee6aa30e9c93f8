package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/servertest/postgrestest"
)

// postgresNode runs a node on a PostgreSQL database; the password stands in a file.
func (s *site) postgresNode(id, from string, server *postgrestest.Server) *process {
	pass := filepath.Join(s.dir, "pgpass")
	require.NoError(s.t, os.WriteFile(pass, []byte("*:*:*:*:"+strings.ReplaceAll(postgrestest.Password, ":", `\:`)+"\n"),
		0o600))
	args := []string{"node", "--id", id, "--broker", "nats://" + s.nats, "--tick", "100ms", "--data", s.dir,
		"--target", "postgres://xmq@" + server.Addr() + "/" + id + "?sslmode=disable&passfile=" + pass}
	if from != "" {
		args = append(args, "--from", from)
	}
	return s.start(id, args...)
}

// Two nodes on two PostgreSQL servers, the second joined by DUMP while increments flow; a node and a server are
// killed, and in the end both databases are equal, each increment applied once, keys that the databases make included.
func TestPostgreSQLNodesAreEqualAfterKills(t *testing.T) {
	s := newSite(t)
	servers := map[string]*postgrestest.Server{"master": postgrestest.New(t), "two": postgrestest.New(t)}
	for id, server := range servers {
		server.Create(t, id)
	}
	s.broker()
	k := 0
	publish := func(n int) {
		var lines strings.Builder
		for range n {
			k++
			fmt.Fprintf(&lines, "INSERT INTO item (k) VALUES (%d); UPDATE total SET n = n + 1\n", k)
		}
		s.ok(lines.String(), "publish")
	}
	s.ok("CREATE TABLE item (k int PRIMARY KEY, at timestamptz DEFAULT '2024-01-01', id serial, "+
		"g int GENERATED ALWAYS AS IDENTITY)\nCREATE TABLE total (n bigint)\nINSERT INTO total VALUES (0)\n", "publish")
	master := s.postgresNode("master", "", servers["master"])
	publish(200)
	s.level("master")
	two := s.postgresNode("two", "master", servers["two"])
	publish(200) // beside the DUMP
	s.level("master", "two")

	two.kill()
	publish(100)
	s.postgresNode("two", "master", servers["two"])
	publish(100)
	require.NoError(t, servers["master"].Kill())
	publish(100)
	require.NoError(t, servers["master"].Run())
	s.level("master", "two")
	publish(50)
	s.level("master", "two")

	for _, sql := range []string{"SELECT k, at, id, g FROM item ORDER BY k",
		"SELECT a.last_value, b.last_value FROM item_id_seq a, item_g_seq b",
		"SELECT log_id, seq, chain, updated_at FROM xmq_position"} {
		require.Equal(t, servers["master"].Query(t, "master", sql), servers["two"].Query(t, "two", sql), sql)
	}
	require.Equal(t, []string{"750|750"},
		servers["two"].Query(t, "two", "SELECT n, (SELECT count(*) FROM item) FROM total"))
	require.NotContains(t, master.log.String()+two.log.String(), "word of", "no log has the password")
}
