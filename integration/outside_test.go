package integration

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/failpoint"
	"xmq/statedb"
)

// An increment that was skipped by mistake is applied later, at that client alone and outside the order, on every
// kind of database: once, audited, with its outcome told. What cannot be is refused with a sentence, and changes
// nothing.
func TestASkippedIncrementIsAppliedLater(t *testing.T) {
	for _, r := range rigs() {
		t.Run(r.name, func(t *testing.T) {
			c := &course{site: newSite(t), rig: r}
			c.broker()
			c.post(c.setup...)
			at := c.place(t)
			var more []string
			if r.name == "webhook" || r.name == "exec" {
				c.ok("", "client", "add", "master", "--reason", "it begins at 1")
				more = []string{"--at", "1"}
			}
			node := c.runs("master", "", at, more...)
			c.some(2)
			c.level("master")
			require.Equal(t, 0, node.stop(t))
			skipped := c.positions().Head + 1
			c.some(2) // 3 and 4
			c.ok("", "client", "skip", "master", "--seq", fmt.Sprint(skipped), "--reason", "the wrong one", "--no-wait")
			node = c.runs("master", "", at, more...)
			c.level("master")
			without(t, at, []int{1, 2, 4})

			apply := func(seq uint64, flags ...string) (string, string, int) {
				return c.tool("", append([]string{"client", "apply", "master", fmt.Sprint(seq), "--reason", "needed after all",
					"--wait", "1m"}, flags...)...)
			}
			refused := func(seq uint64, text string) {
				t.Helper()
				_, errs, code := apply(seq, "--confirm")
				require.Equal(t, 1, code, errs)
				require.Contains(t, errs, text)
			}
			refused(skipped+1, fmt.Sprintf("client master has not passed over increment %d", skipped+1))
			refused(skipped+2, fmt.Sprintf("client master stands at %d, before increment %d", skipped+1, skipped+2))
			_, errs, code := apply(skipped)
			require.Equal(t, 1, code)
			require.Contains(t, errs, "what came after it has run without it")
			require.Contains(t, errs, "nothing was done without --confirm: ")
			_, errs, code = c.tool("", "client", "apply", "master", fmt.Sprint(skipped), "--confirm")
			require.Equal(t, 64, code)
			require.Contains(t, errs, "needs --reason")
			without(t, at, []int{1, 2, 4})

			out, errs, code := apply(skipped, "--confirm")
			require.Equal(t, 0, code, errs)
			require.Contains(t, out, fmt.Sprintf("master: increment %d is applied, it stands at %d as before", skipped,
				skipped+1))
			without(t, at, []int{1, 2, 3, 4})
			refused(skipped, fmt.Sprintf("client master has applied increment %d already", skipped))
			require.Contains(t, c.ok("", "client", "show", "master"), fmt.Sprintf("increment %d, applied", skipped))
			_, errs, _ = c.tool("", "log", "show", fmt.Sprint(skipped))
			require.Contains(t, errs, "was applied all the same for client master")
			var verbs []string
			for _, a := range c.audited() {
				if a.Client == "master" && a.Seq == skipped {
					verbs = append(verbs, a.Verb)
				}
			}
			require.Equal(t, []string{"skip", "apply", "applied"}, verbs)

			c.some(1) // it goes on in its order
			c.level("master")
			without(t, at, []int{1, 2, 3, 4, 5})
			require.Equal(t, 0, node.stop(t))
			refused(skipped, "already")
		})
	}
}

// without checks which numbers a place holds, in whichever order.
func without(t *testing.T, at *place, want []int) {
	t.Helper()
	seen := map[int]bool{}
	for _, k := range at.numbers(t) {
		seen[k] = true
	}
	var got []int
	for k := range seen {
		got = append(got, k)
	}
	require.ElementsMatch(t, want, got)
}

// A node that is killed after the commit and before its answer leaves an outcome that nobody knows, and that is what
// is said; one that is not there is ordered nothing; a client that has failed for want of the row that was skipped
// gets it, and goes on.
func TestWhatBecameOfAnOrderIsNotGuessed(t *testing.T) {
	c := &course{site: newSite(t), rig: sqliteRig()}
	c.broker()
	c.post(c.setup...)
	at := c.place(t)
	node := c.runs("master", "", at)
	c.level("master")
	require.Equal(t, 0, node.stop(t))
	seq := c.positions().Head + 1
	c.post("CREATE TABLE note (n int)")
	c.ok("", "client", "skip", "master", "--seq", fmt.Sprint(seq), "--reason", "who needs notes", "--no-wait")
	_, errs, code := c.tool("", "client", "apply", "master", fmt.Sprint(seq), "--reason", "needed", "--confirm")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "before increment", "its node has not come past it")

	node = c.runs("master", "", at)
	c.level("master")
	require.Equal(t, 0, node.stop(t))
	_, errs, code = c.tool("", "client", "apply", "master", fmt.Sprint(seq), "--reason", "needed", "--confirm")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "is not connected")

	dying := c.dies(failpoint.CommittedBeforeAck, 1, "master", "", at)
	eventually(t, func() error {
		if !c.client("master").Connected {
			return fmt.Errorf("not connected")
		}
		return nil
	})
	c.ok("", "client", "apply", "master", fmt.Sprint(seq), "--reason", "needed", "--confirm", "--no-wait")
	c.died(dying, failpoint.CommittedBeforeAck)
	require.Equal(t, statedb.Outcome(""), c.client("master").Outside.Outcome, "it may come back")
	c.runs("master", "", at)
	eventually(t, func() error {
		if o := c.client("master").Outside; o.Outcome != statedb.MayApplied {
			return fmt.Errorf("%+v", o)
		}
		return nil
	})
	require.Contains(t, c.ok("", "alerts"),
		fmt.Sprintf("whether increment %d was applied at client master is not known", seq))
	_, errs, code = c.tool("", "client", "apply", "master", fmt.Sprint(seq), "--reason", "look again", "--confirm",
		"--wait", "1m")
	require.Equal(t, 1, code)
	require.Contains(t, errs, fmt.Sprintf("has not applied increment %d, and nothing of it is stored", seq))
	require.Contains(t, errs, "already exists")

	// The row that the next increment needs.
	row := c.positions().Head + 1
	c.post("INSERT INTO nowhere VALUES (1)")
	require.Equal(t, row, c.failed("master"))
	c.ok("", "client", "skip", "master", "--reason", "bad")
	c.level("master")
	c.post("INSERT INTO nowhere VALUES (2)")
	require.Equal(t, row+1, c.failed("master"))
	_, errs, code = c.tool("", "client", "apply", "master", fmt.Sprint(row), "--reason", "it failed", "--confirm",
		"--wait", "1m")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "no such table: nowhere")
	require.Equal(t, statedb.Failed, c.client("master").State)
	_, errs, code = c.tool("", "client", "retry", "--all", "--reason", "once more", "--wait", "1m")
	require.Equal(t, 1, code, "the outcome of each retry is waited for")
	require.Contains(t, errs, fmt.Sprintf("master failed again at %d", row+1))
}
