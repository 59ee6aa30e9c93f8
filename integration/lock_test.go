package integration

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/statedb"
)

// Two nodes on one database: the second one says whose it is and ends with 75, whatever its ID; the first one goes
// on, and nobody's state changes. When the first is killed, the second gets in; a node that is started again gets its
// own database back.
func TestADatabaseBelongsToOneNode(t *testing.T) {
	own := []string{"sqlite", "file", "kv", "postgres", "mysql", "redis"}
	onEveryDriver(t, func(r rig) bool { return slices.Contains(own, r.name) }, func(c *course) {
		at := c.place(c.t)
		first := c.runs("master", "", at)
		c.some(20)
		c.level("master")
		for _, second := range []*process{c.runs("two", "master", at, "--replace"), c.runs("master", "", at)} {
			require.Equal(c.t, 75, second.wait(c.t))
			require.Contains(c.t, second.log.String(), "another node uses this database")
			if c.name != "mysql" { // whose server shows names only when it is set to
				require.Contains(c.t, second.log.String(), "node master")
			}
		}
		c.some(20)
		p := c.level("master")
		require.Len(c.t, p.Clients, 1, "nobody has heard of the second one")
		c.follows(p, "master")
		c.holds(at, c.next)

		first.kill()
		again := c.runs("master", "", at)
		c.some(20)
		c.follows(c.level("master"), "master")
		again.kill()
		two := c.runs("two", "master", at)
		eventually(c.t, func() error { // it has the database, and learns of the broker what it may do with it
			select {
			case <-two.done:
				return nil
			default:
			}
			if len(c.positions().Clients) < 2 {
				return fmt.Errorf("two has not come: %s", two.log)
			}
			return nil
		})
		require.NotContains(c.t, two.log.String(), "another node uses this database")
		two.kill()
		c.runs("master", "", at)
		c.some(20)
		c.follows(c.level("master"), "master")
		c.holds(at, c.next)
	})
}

// follows checks that a client is well.
func (c *course) follows(p api.Positions, id string) {
	c.t.Helper()
	for _, v := range p.Clients {
		if v.ID == id {
			require.Equal(c.t, statedb.Following, v.State, "%+v", v)
		}
	}
}

// A database whose position is gone while its data is there is not fed from 1 over that, and no copy is FATAL for it:
// its operator says where it stands. An empty one is fed from 1.
func TestADatabaseWithoutItsPositionIsNotFedFromOne(t *testing.T) {
	s := newSite(t)
	s.broker()
	server, err := shared.postgres()
	require.NoError(t, err)
	db := fmt.Sprint("place", shared.places.Add(1))
	server.Create(t, db)
	node := func(more ...string) *process {
		args := []string{"node", "--id", "master", "--broker", "nats://" + s.nats, "--target", server.URL(db)}
		return s.start("master", append(append(args, "--tick", "100ms", "--data", s.dir), more...)...)
	}
	running := node()
	s.ok("CREATE TABLE t (n int)\nINSERT INTO t VALUES (1)\nINSERT INTO t VALUES (2)\n", "publish")
	s.level("master")
	require.NoError(t, server.Exec(db, "DROP TABLE xmq_position"))
	s.ok("INSERT INTO t VALUES (3)\n", "publish")
	require.Equal(t, 75, running.wait(t))
	require.Contains(t, running.log.String(), "the database has no position any more")
	refused := node()
	require.Equal(t, 78, refused.wait(t))
	require.Contains(t, refused.log.String(), "had applied 3, and its database has data but no position any more")
	require.Equal(t, []string{"2"}, server.Query(t, db, "SELECT count(*) FROM t"))
	again := node("--at", "4")
	s.level("master")
	require.Equal(t, []string{"3"}, server.Query(t, db, "SELECT count(*) FROM t"))
	require.Equal(t, 0, again.stop(t))
	require.NoError(t, server.Exec(db, "DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION xmq"))
	node()
	s.ok("INSERT INTO t VALUES (4)\n", "publish")
	s.level("master")
	require.Equal(t, []string{"4"}, server.Query(t, db, "SELECT count(*) FROM t"))
}
