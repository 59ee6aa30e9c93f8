package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	wire "encoding/binary" // binary is the program
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/broker/failpoint"
	"xmq/dumpflow"
	"xmq/nodeclient/driver"
	"xmq/statedb"
)

// These are the scenarios of the conformance suite that need a broker and real processes; what a driver promises by
// itself stands in nodeclient/driver/drivertest.

// course is one scenario on one kind of database.
type course struct {
	*site
	rig
	next  int // number of the last body
	pad   string
	topic string // of what it publishes
}

// onEveryDriver runs a scenario on each rig that suits.
func onEveryDriver(t *testing.T, suits func(rig) bool, scenario func(*course)) {
	for _, r := range rigs() {
		if suits == nil || suits(r) {
			t.Run(r.name, func(t *testing.T) {
				c := &course{site: newSite(t), rig: r}
				c.broker()
				c.post(c.setup...)
				scenario(c)
			})
		}
	}
}

// runs starts a node on a place.
func (c *course) runs(id, from string, at *place, more ...string) *process {
	path, err := binary()
	require.NoError(c.t, err)
	return c.launch(path, at.env, id, c.nodeArgs(id, from, at, more...)...)
}

func (c *course) nodeArgs(id, from string, at *place, more ...string) []string {
	args := []string{"node", "--id", id, "--broker", "nats://" + c.nats, "--target", at.target, "--tick", "100ms",
		"--data", c.dir}
	if from != "" {
		args = append(args, "--from", from)
	}
	return append(args, more...)
}

// dies starts a node that is killed by itself at the count-th time it passes a failpoint.
func (c *course) dies(point string, count int, id, from string, at *place, more ...string) *process {
	path, err := mortal()
	require.NoError(c.t, err)
	return c.launch(path, append([]string{fmt.Sprintf("XMQ_FAILPOINT=%s:kill:%d", point, count)}, at.env...), id,
		c.nodeArgs(id, from, at, more...)...)
}

// died waits until a process has killed itself.
func (c *course) died(p *process, point string) {
	c.t.Helper()
	p.wait(c.t)
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(c.t, ok && status.Signaled() && status.Signal() == syscall.SIGKILL, "%s: it ended otherwise: %v\n%s",
		point, p.cmd.ProcessState, p.log)
}

// post publishes bodies as one request.
func (c *course) post(bodies ...string) {
	c.t.Helper()
	if len(bodies) > 0 {
		require.NoError(c.t, c.send(c.topic, bodies...))
	}
}

// send publishes bodies of one topic as one request; an error leaves it open whether they are stored.
func (s *site) send(topic string, bodies ...string) error {
	var b bytes.Buffer
	for _, body := range bodies {
		if err := json.NewEncoder(&b).Encode(map[string]string{"body": body, "topic": topic}); err != nil {
			return err
		}
	}
	res, err := http.Post("http://"+s.http+"/v1/increments/batch", "application/x-ndjson", &b)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != 200 {
		return errors.Join(err, fmt.Errorf("status %d", res.StatusCode))
	}
	return nil
}

// some publishes n more numbers.
func (c *course) some(n int) {
	c.t.Helper()
	var bodies []string
	for range n {
		c.next++
		bodies = append(bodies, c.body(c.next, c.pad))
	}
	c.post(bodies...)
}

// holds checks that a place has the numbers 1 to n in order: each once, or for at least once each at least once, none
// before its first predecessor.
func (c *course) holds(at *place, n int) {
	c.t.Helper()
	got := at.numbers(c.t)
	if !c.once {
		got = firsts(got)
	}
	var want []int
	for k := 1; k <= n; k++ {
		want = append(want, k)
	}
	require.Equal(c.t, want, got)
}

// firsts leaves out what was there before.
func firsts(numbers []int) (all []int) {
	seen := map[int]bool{}
	for _, k := range numbers {
		if !seen[k] {
			all = append(all, k)
		}
		seen[k] = true
	}
	return all
}

// failedAt waits until a client has failed, and returns at which sequence.
func (c *course) failed(id string) (seq uint64) {
	c.t.Helper()
	eventually(c.t, func() error {
		v := c.client(id)
		if v.State != statedb.Failed || v.LastError == nil {
			return fmt.Errorf("%+v", v)
		}
		seq = v.LastError.Seq
		return nil
	})
	return seq
}

// A node is killed with SIGKILL between each two steps: fetch, apply, position, commit, acknowledgement. What it had
// applied is there once, what not is applied when it comes back.
func TestEveryDriverKilledBetweenTwoSteps(t *testing.T) {
	onEveryDriver(t, nil, func(c *course) {
		at := c.place(c.t)
		for _, point := range append([]string{failpoint.FetchedBeforeApply, failpoint.CommittedBeforeAck, failpoint.Acked},
			c.steps...) {
			p := c.dies(point, 3, "master", "", at)
			for running := true; running; {
				if c.outstanding("master") < 300 { // a driver that is slow has enough to do
					c.some(5)
				}
				select {
				case <-p.done:
					running = false
				case <-time.After(20 * time.Millisecond):
					require.Less(c.t, c.next, 20_000, "%s was never passed:\n%s", point, p.log)
				}
			}
			c.died(p, point)
			c.some(5)
			alive := c.runs("master", "", at)
			c.level("master")
			c.holds(at, c.next)
			require.Zero(c.t, alive.stop(c.t))
		}
	})
}

// The server of a database is killed under load and comes back; the node is not restarted.
func TestEveryDriverDatabaseRestartedUnderLoad(t *testing.T) {
	onEveryDriver(t, func(r rig) bool { return r.server }, func(c *course) {
		at := c.place(c.t)
		p := c.runs("master", "", at)
		c.some(50)
		c.level("master")
		for range 2 {
			restarted := make(chan error, 1)
			go func() { restarted <- at.restart() }()
			for waiting := true; waiting; {
				c.some(20)
				select {
				case err := <-restarted:
					require.NoError(c.t, err)
					waiting = false
				case <-time.After(5 * time.Millisecond):
				}
			}
			c.some(20)
			c.level("master")
		}
		c.holds(at, c.next)
		require.NotContains(c.t, p.log.String(), at.secret)
		require.Zero(c.t, p.stop(c.t))
	})
}

// An increment that fails in the middle of others stops its client right before it; retry, skip and replace go on
// from there.
func TestEveryDriverFailRetrySkipReplace(t *testing.T) {
	onEveryDriver(t, func(r rig) bool { return r.invalid != "" }, func(c *course) {
		at := c.place(c.t)
		c.runs("master", "", at)
		good := func(k int) string { return c.body(k, "") }
		c.post(good(1), good(2), c.invalid, good(4), c.invalid, good(5))
		first := uint64(len(c.setup)) + 3
		require.Equal(c.t, first, c.failed("master"))
		c.holds(at, 2)
		_, errs, code := c.tool("", "client", "retry", "master")
		require.Equal(c.t, 1, code, errs)
		require.Contains(c.t, errs, fmt.Sprintf("master failed again at %d", first))
		require.Equal(c.t, first, c.failed("master"))
		c.holds(at, 2)
		c.ok("", "client", "replace", "--no-wait", "--reason", "a test", "--body", good(3), "master")
		eventually(c.t, func() error {
			if seq := c.failed("master"); seq != first+2 {
				return fmt.Errorf("failed at %d", seq)
			}
			return nil
		})
		c.holds(at, 4)
		c.ok("", "client", "skip", "--reason", "a test", "master")
		c.level("master")
		c.holds(at, 5)
	})
}

// A node joins by DUMP while four producers write. Both connections are cut in mid-transfer and the transfer goes on;
// the newcomer is killed right before its switch and joins again. In the end both copies are equal and whole.
func TestEveryDriverDumpUnderLoadCutAndKilled(t *testing.T) {
	onEveryDriver(t, nil, func(c *course) {
		from, to := c.place(c.t), c.place(c.t)
		direct := c.nats
		link := newProxy(c.t, direct, 0)
		c.nats = link.addr()
		limit, size := []string{"--dump-rate", "3000000"}, 8000
		if c.slow {
			limit, size = []string{"--dump-rate", "600000"}, 1600
		}
		c.runs("master", "", from, limit...)
		c.pad = noise(size)
		for range 5 {
			c.some(100)
		}
		c.pad = ""
		c.level("master")

		stop := make(chan struct{})
		var producers sync.WaitGroup
		var mu sync.Mutex
		for range 4 {
			producers.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
					}
					mu.Lock()
					if c.next++; c.next > 800 { // enough to flow until the newcomer is there
						c.next--
						mu.Unlock()
						return
					}
					k := c.next
					err := c.send("", c.body(k, "")) // under the lock, so that numbers lie in the log in their order
					mu.Unlock()
					if err != nil {
						c.t.Errorf("publish %d: %v", k, err)
						return
					}
				}
			})
		}
		dying := c.dies(failpoint.LoadedBeforeSwitch, 1, "two", "master", to, limit...)
		for range 2 {
			eventually(c.t, func() error { return c.transferring() })
			link.cut(false)
		}
		c.died(dying, failpoint.LoadedBeforeSwitch)
		c.runs("two", "master", to, limit...)
		mu.Lock()
		published := c.next
		mu.Unlock()
		c.level2("two", published)
		close(stop)
		producers.Wait()
		c.nats = direct
		c.level("master", "two")
		c.holds(from, c.next)
		c.holds(to, c.next)
		var dumps []struct{ ID, State, Error string }
		require.NoError(c.t, getJSON(context.Background(), "http://"+c.http+"/v1/dumps", &dumps))
		for _, d := range dumps {
			require.Equal(c.t, "sealed", d.State, "no transfer began anew because its connection was cut: %+v", dumps)
		}
	})
}

// noise is text that cannot be compressed well.
func noise(size int) string {
	b := make([]byte, size/2)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// transferring is nil while a snapshot is being uploaded.
func (c *course) transferring() error {
	var dumps []struct{ State string }
	if err := getJSON(context.Background(), "http://"+c.http+"/v1/dumps", &dumps); err != nil {
		return err
	}
	for _, d := range dumps {
		if d.State == "uploading" {
			return nil
		}
	}
	return fmt.Errorf("%+v", dumps)
}

// outstanding is how many published increments a client has not acked.
func (c *course) outstanding(id string) int {
	for _, v := range c.positions().Clients {
		if v.ID == id {
			return c.next - int(v.Acked)
		}
	}
	return c.next
}

// level2 waits until a client has acked at least n increments.
func (c *course) level2(id string, n int) {
	c.t.Helper()
	eventually(c.t, func() error {
		for _, v := range c.positions().Clients {
			if v.ID == id && v.Acked >= uint64(n) {
				return nil
			}
			if v.ID == id {
				return fmt.Errorf("%s has acked %d of %d", id, v.Acked, n)
			}
		}
		return fmt.Errorf("%s is not known", id)
	})
}

// A copy restored from an old backup is behind and goes on. One that is ahead of the log, has another chain, or
// belongs to another log is refused with a sentence, and nothing is applied to it.
func TestEveryDriverOldBackupsAndForeignCopies(t *testing.T) {
	onEveryDriver(t, nil, func(c *course) {
		at := c.place(c.t)
		p := c.runs("master", "", at)
		c.some(20)
		c.level("master")
		backup := filepath.Join(c.dir, "old.xmq")
		c.ok("", "dump", "--from", "master", "-o", backup)
		c.some(20)
		c.level("master")
		require.Zero(c.t, p.stop(c.t))

		old := c.place(c.t)
		args := []string{"--restore", backup}
		if !c.once { // nothing but the broker knows where such a copy stands
			c.ok("", "client", "seek", "master", fmt.Sprint(len(c.setup)+21), "--confirm", "--reason", "an old copy")
			args = append(args, "--at", "1") // left from an earlier start
		}
		p = c.runs("master", "", old, args...)
		c.some(5)
		c.level("master")
		c.holds(old, c.next)
		require.Zero(c.t, p.stop(c.t))
		if !c.once {
			return
		}
		for says, move := range map[string]func(*event.Position){
			"ahead of this log":          func(p *event.Position) { p.Seq += 1000 },
			"comes from another history": func(p *event.Position) { p.Chain++ },
			"but this broker keeps log":  func(p *event.Position) { p.Log++ },
		} {
			stood := c.moved(old, move)
			p := c.runs("master", "", old)
			require.Equal(c.t, 78, p.wait(c.t), p.log)
			require.Contains(c.t, p.log.String(), says)
			c.holds(old, c.next)
			c.moved(old, func(p *event.Position) { *p = stood })
		}
		require.Contains(c.t, c.ok("", "alerts"), "acknowledged increments are missing")
		c.ok("", "log", "accept", "--confirm", "--reason", "a test moved the position")
		c.runs("master", "", old)
		c.some(1)
		c.level("master")
		c.holds(old, c.next)
	})
}

// moved changes the stored position of a place whose node does not run, and returns what it was.
func (c *course) moved(at *place, move func(*event.Position)) (was event.Position) {
	c.t.Helper()
	db, err := driver.Open(c.t.Context(), "course", at.target, "", c.dir)
	require.NoError(c.t, err)
	was, err = db.Position(c.t.Context())
	require.NoError(c.t, err)
	pos := was
	move(&pos)
	require.NoError(c.t, db.Seek(c.t.Context(), pos))
	require.NoError(c.t, db.Close())
	return was
}

// A password in a target URL is in no process title, log line, position or alert.
func TestEveryDriverKeepsItsPasswordToItself(t *testing.T) {
	onEveryDriver(t, func(r rig) bool { return r.server }, func(c *course) {
		at := c.place(c.t)
		p := c.runs("master", "", at, "--log-level", "debug")
		c.some(3)
		c.level("master")
		if c.invalid != "" {
			c.post(c.invalid)
			c.failed("master")
		}
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid))
		require.NoError(c.t, err)
		require.Contains(c.t, string(title), "node\x00--id\x00master")
		said := string(title) + p.log.String() + c.ok("", "positions", "--json") + c.ok("", "alerts", "--json") + c.ok("",
			"client", "show", "master", "--json")
		for _, form := range []string{at.secret, secretInURL(at.target)} {
			require.NotContains(c.t, said, form)
		}
	})
}

// secretInURL is the password as the URL writes it.
func secretInURL(target string) string {
	_, rest, _ := strings.Cut(target, "://")
	login, _, _ := strings.Cut(rest, "@")
	_, secret, _ := strings.Cut(login, ":")
	return secret
}

// A range excludes its start and includes its end: a backup of a part of a copy whose driver has keys, and a sentence
// where it has none (SS-4).
func TestSS04BackupOfARange(t *testing.T) {
	c := &course{site: newSite(t, "--masters", "kv,sql"), rig: kvRig(), topic: "kv"}
	c.broker()
	at, other := c.place(t), sqliteRig().place(t)
	c.runs("kv", "", at, "--topics", "kv")
	c.runs("sql", "", other, "--topics", "sql")
	c.some(9) // item:00000001 to item:00000009, and total
	c.level("kv", "sql")
	for i, part := range []struct {
		args []string
		want []string
	}{
		{[]string{"--start", "item:00000002", "--end", "item:00000005"}, []string{"3", "4", "5"}},
		{[]string{"--start", "item:00000002", "--limit", "2"}, []string{"3", "4"}},
		{[]string{"--end", "item:00000001"}, []string{"1"}},
		{[]string{"--start", "item:00000009", "--end", "item:00000009"}, nil},
	} {
		file := filepath.Join(c.dir, fmt.Sprint("part", i))
		c.ok("", append([]string{"dump", "--from", "kv", "-o", file}, part.args...)...)
		f, err := dumpflow.OpenArchive(file)
		require.NoError(t, err)
		b, err := io.ReadAll(f)
		b = b[40+wire.LittleEndian.Uint32(b[36:]):] // after the preface, which names the range
		require.NoError(t, err)
		require.NoError(t, f.Close())
		var got []string
		for _, m := range regexp.MustCompile(`item:0000000(\d)\x00`).FindAllSubmatch(b, -1) {
			got = append(got, string(m[1]))
		}
		require.Equal(t, part.want, got, part.args)
		require.NotNil(t, f.Manifest().Range)
	}
	file := filepath.Join(c.dir, "part0")
	_, errs, code := c.tool("", "node", "--id", "new", "--target", "kv:"+filepath.Join(c.dir, "new"), "--topics", "kv",
		"--restore", file)
	require.Equal(t, 1, code, errs)
	require.Contains(t, errs, "holds only a part of its keys")
	_, errs, code = c.tool("", "dump", "--from", "sql", "-o", filepath.Join(c.dir, "none"), "--limit", "3")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "has no ranges")
}
