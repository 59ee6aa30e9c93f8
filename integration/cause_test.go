package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/statedb"
)

// An increment that everybody refuses is one line of the alerts, which says that it is the increment; one order
// passes over it everywhere and tells what became of it at each.
func TestAnIncrementThatAllRefuseIsOneLineAndOneOrder(t *testing.T) {
	s := newSite(t)
	s.broker()
	s.ok("CREATE TABLE a (n INTEGER PRIMARY KEY)\nINSERT INTO a VALUES (1)\n", "publish")
	s.node("master", "")
	s.level("master")
	s.node("n1", "master")
	s.level("n1")
	s.ok("INSERT INTO a VALUES (1)\nINSERT INTO a VALUES (2)\n", "publish")
	eventually(t, func() error {
		for _, id := range []string{"master", "n1"} {
			if v := s.client(id); v.State != statedb.Failed {
				return fmt.Errorf("%s is %s", id, v.State)
			}
		}
		return nil
	})
	alerts := strings.Join(strings.Fields(s.ok("", "alerts")), " ")
	require.Contains(t, alerts, "increment 3 is refused by all 2 clients (master, n1): the increment is bad, not the "+
		"databases")
	require.Contains(t, alerts, "xmq client skip --seq 3 master n1 --reason TEXT")
	require.Equal(t, 1, strings.Count(alerts, "CRITICAL"), alerts)
	_, errs, code := s.tool("", "client", "retry", "master")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "master failed again at 3")
	s.ok("", "client", "skip", "--seq", "3", "n1", "--reason", "a test")
	s.level("n1") // master had failed before that
	require.Contains(t, strings.Join(strings.Fields(s.ok("", "alerts")), " "),
		"Earlier: increment 3 was skipped for client n1")
	_, errs, code = s.tool("", "client", "retry", "master")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "Earlier: increment 3 was skipped for client n1")
	out := s.ok("", "client", "skip", "--seq", "3", "--all", "--reason", "a test")
	require.Equal(t, 1, strings.Count(out, "done, it stands at"), out)
	s.level("master", "n1")
	require.Equal(t, "2", query(t, s.path("n1"), "SELECT count(*) FROM a"))

	_, errs, code = s.tool("", "log", "show", "3") // who meets it again finds out who decided what
	require.Equal(t, 0, code)
	require.Contains(t, errs, "increment 3 was skipped for client n1")
	require.Contains(t, errs, "a test")
	_, errs, code = s.tool("", "client", "seek", "n1", "3", "--confirm", "--reason", "again")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "n1 failed at 3")
	require.Contains(t, strings.Join(strings.Fields(s.ok("", "alerts")), " "),
		"increment 3 was skipped for client master at")
}
