package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/statedb"
)

// endless is an increment that never ends by itself, for each kind of SQL database.
var endless = map[string]string{
	"sqlite":   "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
	"postgres": "SELECT pg_sleep(1000000)",
	"mysql":    "UPDATE total SET n = n + SLEEP(1000000)",
}

// onSQL runs a scenario on each of these kinds of database; broker kills and starts the broker.
func onSQL(t *testing.T, names []string, scenario func(c *course, broker func())) {
	for _, r := range rigs() {
		if slices.Contains(names, r.name) {
			t.Run(r.name, func(t *testing.T) {
				c := &course{site: newSite(t), rig: r}
				p := c.broker()
				c.post(c.setup...)
				scenario(c, func() { p.kill(); p = c.broker() })
			})
		}
	}
}

// sits waits until a client that has applied all before seq was sent it.
func (c *course) sits(id string, seq uint64) {
	c.t.Helper()
	eventually(c.t, func() error {
		if v := c.client(id); v.Acked != seq-1 || v.Sent < seq {
			return fmt.Errorf("acked %d, sent %d", v.Acked, v.Sent)
		}
		return nil
	})
}

// audited are the orders of the audit list, oldest first.
func (c *course) audited() (all []api.AuditView) {
	c.t.Helper()
	require.NoError(c.t, json.Unmarshal([]byte(c.ok("", "audit", "--json")), &all))
	return all
}

// A database that is busy with an increment that never ends is freed by an order, also when the broker was killed
// meanwhile and the node has no session, or the node was killed and the broker after it; no other increment is touched.
func TestAnOrderEndsAnIncrementThatNeverEnds(t *testing.T) {
	onSQL(t, slices.Collect(maps.Keys(endless)), func(c *course, broker func()) {
		t, at := c.t, c.place(c.t)
		node := c.runs("master", "", at, "--apply-limit", "0s")
		c.some(1)
		seq := c.level("master").Head + 1
		c.post(endless[c.rig.name])
		c.some(2)
		c.sits("master", seq)
		_, errs, code := c.tool("", "client", "skip", "master", "--reason", "endless")
		require.Equal(t, 1, code)
		require.Contains(t, errs, fmt.Sprintf("client master has not failed: say --seq %d to skip", seq))
		c.ok("", "client", "skip", "master", "--seq", fmt.Sprint(seq), "--reason", "endless")
		c.level("master")
		c.holds(at, 3)
		_, errs, code = c.tool("", "client", "skip", "master", "--seq", fmt.Sprint(seq), "--reason", "endless")
		require.Equal(t, 1, code)
		require.Contains(t, errs, fmt.Sprintf("past increment %d", seq))

		seq = c.level("master").Head + 1
		c.post(endless[c.rig.name])
		c.some(1)
		c.sits("master", seq)
		broker()
		c.ok("", "client", "replace", "master", "--seq", fmt.Sprint(seq), "--reason", "shorter", "--body",
			"INSERT INTO total SELECT n FROM total WHERE n < 0")
		c.level("master")
		c.holds(at, 4)
		if c.rig.name != "sqlite" {
			return // what a node that was killed has left at its server ends with the server
		}

		seq = c.level("master").Head + 1
		c.post(endless[c.rig.name])
		c.some(1)
		c.sits("master", seq)
		node.kill()
		c.ok("", "client", "skip", "master", "--seq", fmt.Sprint(seq), "--reason", "while it is away", "--no-wait")
		require.Contains(t, c.ok("", "client", "show", "master"), fmt.Sprintf("skip increment %d, not carried out yet",
			seq))
		broker()
		c.runs("master", "", at, "--apply-limit", "0s")
		c.level("master")
		c.holds(at, 5)
		require.NotContains(t, c.ok("", "client", "show", "master"), "not carried out")
		var verbs []string
		for _, a := range c.audited() {
			verbs = append(verbs, a.Verb)
		}
		require.ElementsMatch(t, []string{"skip", "replace", "skip"}, verbs,
			"one entry for each order, and none was dropped")
	})
}

// A client that retries obeys at once, not at its next try, which here would be in ten minutes.
func TestAClientThatRetriesObeysAtOnce(t *testing.T) {
	onSQL(t, []string{"postgres"}, func(c *course, _ func()) {
		t, at := c.t, c.place(c.t)
		node := c.runs("master", "", at, "--tick", "10m")
		full := "DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END $$"
		retries := func(seq uint64, text string) {
			t.Helper()
			eventually(t, func() error {
				v := c.client("master")
				e := v.LastError
				if v.State != statedb.Following || e == nil || e.Class != "transient" || e.Seq != seq ||
					!strings.Contains(e.Text, text) {
					return fmt.Errorf("%s, %+v, acked %d", v.State, e, v.Acked)
				}
				return nil
			})
		}
		for _, order := range [][]string{{"skip", "--reason", "no room"}, {"replace", "--reason", "no room", "--body",
			"UPDATE total SET n = n"}} {
			seq := c.level("master").Head + 1
			c.post(full)
			c.some(1)
			retries(seq, "no room")
			require.Contains(t, c.ok("", "client", "retry", "--all", "--reason", "all of them", "--no-wait"),
				fmt.Sprintf("master: retry of increment %d\n", seq))
			eventually(t, func() error {
				if n := strings.Count(node.log.String(), fmt.Sprintf("cannot take increment %d now", seq)); n < 2 {
					return fmt.Errorf("it was tried %d times", n)
				}
				return nil
			})
			c.ok("", append([]string{"client", order[0], "master", "--seq", fmt.Sprint(seq)}, order[1:]...)...)
			c.level("master")
		}
		c.holds(at, 2)
		require.Equal(t, "no client has failed or is retrying\n", c.ok("", "client", "retry", "--all"))
		var all []string
		for _, a := range c.audited() {
			if a.Verb == "retry" {
				all = append(all, a.Client+" "+a.Reason)
			}
		}
		require.Equal(t, []string{"master all of them", "master all of them"}, all)
	})
}

// An increment has the time that it names, or the operator who retries it, on every node, and no other increment has.
func TestAnIncrementHasTheTimeThatItIsGiven(t *testing.T) {
	onSQL(t, []string{"postgres"}, func(c *course, _ func()) {
		t := c.t
		at, beside := c.place(t), c.place(t)
		c.runs("master", "", at, "--apply-limit", "4s")
		c.level("master")
		c.runs("n1", "master", beside, "--apply-limit", "4s")
		c.level("master", "n1")
		const slow = "SELECT pg_sleep(6)"
		for range 2 {
			seq := c.level("master", "n1").Head + 1
			c.post(slow)
			for _, id := range []string{"master", "n1"} {
				require.Equal(t, seq, c.failed(id))
				require.Contains(t, c.client(id).LastError.Text, "took longer than 4s (apply_limit)")
				require.Contains(t, c.client(id).LastError.Text, "xmq client retry "+id+" --limit 2h")
			}
			out := c.ok("", "client", "retry", "--all", "--limit", "1m", "--wait", "1m")
			require.Contains(t, out, fmt.Sprintf("master: retry of increment %d within 1m\n", seq))
			require.Contains(t, out, fmt.Sprintf("n1: retry of increment %d within 1m\n", seq))
			for _, id := range []string{"master", "n1"} { // it has waited for both
				require.Contains(t, out, fmt.Sprintf("%s: done, it stands at %d\n", id, seq))
				require.Equal(t, seq, c.client(id).Acked)
			}
		}
		orders := c.audited()
		require.Len(t, orders, 4, "one for each client and increment")
		for _, a := range orders {
			require.Equal(t, "1m0s", a.Limit)
		}

		c.ok(slow+"\n", "publish", "--apply-limit", "1m")
		seq := c.level("master", "n1").Head
		require.Len(t, c.audited(), 4, "nobody had to be ordered to retry it")
		res, err := http.Get(fmt.Sprintf("http://%s/v1/increments/%d", c.http, seq))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, "1m0s", res.Header.Get("Xmq-Apply-Limit"))

		_, errs, code := c.tool("x\n", "publish", "--apply-limit", "soon")
		require.Equal(t, 64, code)
		require.Contains(t, errs, `"soon" is no time limit: say 1s to 720h0m0s`)
		_, errs, code = c.tool("", "client", "retry", "master", "--seq", "1", "--limit", "31d")
		require.Equal(t, 64, code)
		require.Contains(t, errs, `"31d" is no time limit`)
	})
}
