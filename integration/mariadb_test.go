package integration

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/failpoint"
)

// A node dies after a swap of names, of which nobody can see whether it was done. It is not run again before an
// operator has answered, by whatever process and after whatever restart, and once for each answer.
func TestMariaDBAsksUntilAnOperatorAnswers(t *testing.T) {
	c := &course{site: newSite(t), rig: mysqlRig()}
	c.broker()
	at := c.place(t)
	server, err := shared.mysql()
	require.NoError(t, err)
	place, err := url.Parse(at.target)
	require.NoError(t, err)
	inA := func() string {
		return server.Query(t, strings.TrimPrefix(place.Path, "/"), "SELECT count(*) FROM a")[0]
	}
	says := func(p *process) {
		t.Helper()
		eventually(t, func() error {
			if !strings.Contains(p.log.String(), "cannot be seen") {
				return errors.New(p.log.String())
			}
			return nil
		})
	}
	asks := func() {
		t.Helper()
		require.EqualValues(t, 4, c.failed("master"))
		require.Contains(t, c.client("master").LastError.Text, "cannot be seen")
	}
	c.post("CREATE TABLE a (v int)", "CREATE TABLE b (v int)", "INSERT INTO a VALUES (1)")
	node := c.runs("master", "", at)
	c.level("master")
	require.Zero(t, node.stop(t))

	c.post("RENAME TABLE a TO c, b TO a, c TO b", "INSERT INTO b VALUES (2)")
	c.died(c.dies(failpoint.SeqBeforeCommit, 1, "master", "", at), failpoint.SeqBeforeCommit)
	require.Equal(t, "0", inA(), "it was done")
	node = c.runs("master", "", at)
	asks()
	node.kill()
	dying := c.dies(failpoint.AppliedBeforeSeq, 1, "master", "", at)
	says(dying)
	asks()
	require.Equal(t, "0", inA(), "nothing ran unasked")
	c.ok("", "client", "retry", "--no-wait", "master")
	c.died(dying, failpoint.AppliedBeforeSeq)
	require.Equal(t, "1", inA(), "the answer was obeyed")
	node = c.runs("master", "", at)
	says(node)
	asks()
	require.Equal(t, "1", inA(), "once")
	c.ok("", "client", "skip", "--reason", "it was done", "master")
	c.level("master")
	require.Equal(t, "1", inA())
}
