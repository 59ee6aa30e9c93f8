package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/statedb"
	"xmq/worker"
)

// oncall is a group of real processes on real databases with a writer that never stops, and somebody who is told of
// what goes wrong.
type oncall struct {
	*site
	host   *site // whose processes live until the end of the test, whatever part of it starts them
	t      *testing.T
	config string // the broker's file
	broker *process
	calls  *calls
	writer *author
	nodes  map[string]*process
	places map[string]*place
	args   map[string][]string // of the node, besides those of all
	logs   strings.Builder     // of brokers that have ended
}

// What all brokers of the night are told, besides what changes.
const settings = `create: false
tick: 200ms
silent: 2s
lease: 2s
masters: [pg1, my1, sq1, rd1]
hooks: {url: %q}
watch: {every: 200ms, stopped: 2s, lag: 10m, slow_sync: 0s, ballast: false, min_free: %d}
`

// onCall makes an empty log and starts its broker and a writer.
func onCall(t *testing.T) *oncall {
	n := &oncall{site: newSite(t), t: t, nodes: map[string]*process{}, places: map[string]*place{},
		args: map[string][]string{}}
	whole := *n.site
	n.host = &whole
	n.config, n.calls = filepath.Join(n.dir, "broker.yaml"), &calls{}
	hook := httptest.NewServer(n.calls)
	t.Cleanup(hook.Close)
	n.calls.url = hook.URL
	n.configure(0)
	n.ok("", "init", "--data", n.data())
	n.up()
	return n
}

func (n *oncall) data() string { return filepath.Join(n.dir, "broker") }

// configure writes the broker's file, with these lines more.
func (n *oncall) configure(minFree uint64, more ...string) {
	text := fmt.Sprintf(settings, n.calls.url, minFree) + strings.Join(more, "\n") + "\n"
	require.NoError(n.t, os.WriteFile(n.config, []byte(text), 0o600))
}

// reload lets the broker read its file again, with these lines more.
func (n *oncall) reload(more ...string) {
	n.t.Helper()
	n.configure(0, more...)
	n.hangUp(n.broker)
}

// hangUp sends SIGHUP and waits until the process has said so.
func (n *oncall) hangUp(p *process) {
	n.t.Helper()
	said := strings.Count(p.log.String(), "SIGHUP")
	require.NoError(n.t, p.cmd.Process.Signal(syscall.SIGHUP))
	eventually(n.t, func() error {
		if strings.Count(p.log.String(), "SIGHUP") == said {
			return errors.New(p.name + " says nothing of SIGHUP")
		}
		return nil
	})
}

// starts starts the broker, which may refuse to run.
func (n *oncall) starts() *process {
	if n.broker != nil {
		n.logs.WriteString(n.broker.log.String())
	}
	n.broker = n.host.start("broker", "broker", "--config", n.config, "--data", n.data(), "--nats-addr", n.nats,
		"--http-addr", n.http)
	return n.broker
}

// up starts the broker and waits until it serves.
func (n *oncall) up() {
	n.t.Helper()
	p := n.starts()
	eventually(n.t, func() error {
		select {
		case <-p.done:
			n.t.Fatalf("the broker ended: %s", p.log)
		default:
		}
		if !strings.Contains(p.log.String(), "ready\n") {
			return fmt.Errorf("not ready: %s", p.log)
		}
		return nil
	})
}

// down stops the broker cleanly.
func (n *oncall) down() { require.Equal(n.t, 0, n.broker.stop(n.t)) }

// node starts the node of a client on its place.
func (n *oncall) node(id string, more ...string) *process {
	n.t.Helper()
	at := n.places[id]
	args := []string{"node", "--id", id, "--broker", "nats://" + n.nats, "--target", at.target, "--tick", "100ms",
		"--data", n.dir}
	path, err := binary()
	require.NoError(n.t, err)
	n.nodes[id] = n.host.launch(path, at.env, id, append(append(args, n.args[id]...), more...)...)
	return n.nodes[id]
}

// again starts nodes that have ended.
func (n *oncall) again() {
	for _, id := range slices.Sorted(maps.Keys(n.nodes)) {
		select {
		case <-n.nodes[id].done:
			n.node(id)
		default:
		}
	}
}

// get asks the API; an error leaves open whether the broker lives.
func (n *oncall) get(path string, into any) error {
	return getJSON(n.t.Context(), "http://"+n.http+path, into)
}

// holds is nil when text, on one line, has all the words. Its error is the same however the clock in the text goes on.
func holds(text string, words ...string) error {
	text = strings.Join(strings.Fields(text), " ")
	for _, w := range words {
		if !strings.Contains(text, w) {
			return fmt.Errorf("%q is not said", w)
		}
	}
	return nil
}

// looks runs a command that looks until it ends with a code and says these words; ok judges the code.
func (n *oncall) looks(ok func(code int) bool, args, words []string) (out string) {
	n.t.Helper()
	var errs string
	var code int
	defer func() {
		if n.t.Failed() {
			n.t.Logf("xmq %v ends with %d:\n%s%s", args, code, out, errs)
		}
	}()
	eventually(n.t, func() error {
		if out, errs, code = n.tool("", args...); !ok(code) {
			return fmt.Errorf("xmq %v ends with %d", args, code)
		}
		return holds(out, words...)
	})
	return out
}

// toldWithin is how long it may take until somebody is told, on the busiest machine: most of it takes milliseconds, and
// what counts ticks of silence or of waiting a few seconds.
const toldWithin = time.Minute

// told waits until an alert of this severity stands with these words, and then until everybody who has to tell has
// told: the hook, the timeline, the broker's log, and the exit code and the text of xmq status.
func (n *oncall) told(key string, severity statedb.Severity, words ...string) api.AlertView {
	n.t.Helper()
	began := time.Now()
	var a api.AlertView
	eventually(n.t, func() error {
		var all []api.AlertView
		if err := n.get("/v1/alerts", &all); err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(a api.AlertView) bool { return a.Key == key && a.Standing() })
		if i < 0 {
			return fmt.Errorf("no alert %s", key)
		}
		if a = all[i]; a.Severity != severity {
			return fmt.Errorf("%s is %s", key, a.Severity)
		}
		if err := holds(a.Cause+". "+a.Text, words...); err != nil {
			return fmt.Errorf("%s: %w: %s", key, err, digits.ReplaceAllString(a.Cause+". "+a.Text, "0"))
		}
		return nil
	})
	require.Less(n.t, time.Since(began), toldWithin, "%s is told late", key)
	n.t.Logf("%s told after %s: %s", key, time.Since(began).Round(time.Millisecond), a.Text)
	eventually(n.t, func() error { return n.calls.said(a, false) })
	eventually(n.t, func() error { return n.happened(statedb.AlertRaised, key, a.First) })
	require.NoError(n.t, holds(n.broker.log.String(), `event="alert raised" alert=`+key))
	least := map[statedb.Severity]int{statedb.Warning: 1, statedb.Critical: 2}[severity]
	look := []string{"status"}
	if a.Cause != "" {
		look = []string{"alerts", "--check"} // alerts of one cause are one line there
		words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return holds(a.Cause, w) != nil })
	}
	said := strings.ToUpper(string(severity))
	if key == "held" { // the first line of every screen says it, and no row says it again
		said = "INPUT IS HELD"
	}
	n.looks(func(code int) bool { return code >= least }, look, append([]string{said}, words...))
	return a
}

// over waits until an alert is cleared, and everybody was told: the hook not of one that somebody has acknowledged.
func (n *oncall) over(was api.AlertView) {
	n.t.Helper()
	acked := false
	eventually(n.t, func() error {
		var all []api.AlertView
		if err := n.get("/v1/alerts", &all); err != nil {
			return err
		}
		for _, a := range all {
			if a.Key != was.Key {
				continue
			}
			if acked = a.Acked; a.Standing() {
				return fmt.Errorf("%s stands: %s", a.Key, digits.ReplaceAllString(a.Text, "0"))
			}
		}
		return nil
	})
	if !acked {
		eventually(n.t, func() error { return n.calls.said(was, true) })
	}
	eventually(n.t, func() error { return n.happened(statedb.AlertCleared, was.Key, was.First) })
}

// happened is nil when the timeline has such a row about an alert or a client since then, with these words in its
// cause.
func (n *oncall) happened(kind statedb.Kind, about string, since time.Time, words ...string) error {
	var all []api.EventView
	if err := n.get("/v1/events?limit=1000", &all); err != nil {
		return err
	}
	rows := 0
	for _, e := range all {
		if e.Kind == kind && (e.Alert == about || e.Alert == "" && e.Client == about) && !e.Time.Before(since) {
			if holds(e.Cause, words...) == nil {
				return nil
			}
			rows++
		}
	}
	return fmt.Errorf("of %d rows %q of %s none says %q", rows, kind, about, words)
}

// digits are what changes in a text while nothing happens.
var digits = regexp.MustCompile(`[0-9]+`)

// named finds commands in what is said to people.
var named = regexp.MustCompile("xmq (?:client|log|snapshots|alerts) [^`.,;():]+")

// does runs the command that begins like that exactly as the text prints it, with TEXT for a reason and N for the
// increment concerned.
func (n *oncall) does(a api.AlertView, begins string) string {
	n.t.Helper()
	out, errs, code := n.tries(a, begins)
	require.Equal(n.t, 0, code, "%s%s", out, errs)
	return out
}

// hurries does so with a command that only shortens a wait, which may be over by itself.
func (n *oncall) hurries(a api.AlertView, begins string) {
	n.t.Helper()
	if _, errs, code := n.tries(a, begins); code != 0 {
		require.Regexp(n.t, "there is nothing to retry|has not failed: say --seq", errs)
	}
}

func (n *oncall) tries(a api.AlertView, begins string) (out, errs string, code int) {
	n.t.Helper()
	all := named.FindAllString(a.Cause+". "+a.Text, -1)
	i := slices.IndexFunc(all, func(c string) bool { return strings.HasPrefix(c, begins) })
	require.GreaterOrEqual(n.t, i, 0, "no command %q is named: %q", begins, a.Cause+". "+a.Text)
	command, _, _ := strings.Cut(all[i], " hurries ")
	if text, _, ends := strings.Cut(command, " TEXT "); ends { // the sentence goes on
		command = text + " TEXT"
	}
	words := strings.Fields(command)[1:]
	for j, w := range words {
		if w == "N" {
			words[j] = fmt.Sprint(a.Seq)
		}
	}
	return n.tool("", words...)
}

// well waits until every client follows and every screen is green, but for what others on this machine do to the
// disk. Nodes that have ended are started again.
func (n *oncall) well() {
	n.t.Helper()
	var s api.Status
	defer func() {
		if n.t.Failed() {
			n.t.Logf("the status: %+v", s)
		}
	}()
	eventually(n.t, func() error {
		n.again()
		s = api.Status{}
		if err := n.get("/v1/status", &s); err != nil {
			return err
		}
		others := slices.DeleteFunc(s.Alerts, func(a api.AlertView) bool { return a.Key == "disk" })
		if len(others) > 0 {
			return fmt.Errorf("%s stands", others[0].Key)
		}
		if s.Clients[worker.IsFollowing] != len(n.nodes) || len(s.Clients) != 1 {
			return fmt.Errorf("clients are %v", s.Clients)
		}
		if out, _, code := n.tool("", "status"); code != 0 && !strings.Contains(out, "input is refused") {
			return fmt.Errorf("xmq status ends with %d", code)
		}
		return nil
	})
}

// moved waits until a client has applied what is in the log now.
func (n *oncall) moved(ids ...string) {
	n.t.Helper()
	p := n.positions()
	for _, id := range ids {
		eventually(n.t, func() error {
			if v := n.client(id); v.Acked < p.Head {
				return fmt.Errorf("%s stands at %d of %d", id, v.Acked, p.Head)
			}
			return nil
		})
	}
}

// publish publishes one increment and returns its sequence.
func (n *oncall) publish(topic, body string) uint64 {
	n.t.Helper()
	var stored struct{ Last uint64 }
	require.NoError(n.t, json.Unmarshal([]byte(n.ok(body, "publish", "--lines", "--topic", topic, "--json")), &stored))
	return stored.Last
}

// calls are what the hook was told.
type calls struct {
	url string
	mu  sync.Mutex
	all []api.AlertView
}

func (c *calls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var a api.AlertView
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, a)
}

// since are the calls about this alert since it was raised. Of alerts of one cause, an increment that several clients
// refuse, one is told.
func (c *calls) since(was api.AlertView) (all []api.AlertView) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.all {
		oneCause := was.Seq > 0 && strings.HasPrefix(was.Key, "fail/") && strings.HasPrefix(a.Key, "fail/") &&
			a.Seq == was.Seq
		if oneCause || a.Key == was.Key && !a.First.Before(was.First) {
			all = append(all, a)
		}
	}
	return all
}

// said is nil when the hook was told that the alert stands, or that it is over.
func (c *calls) said(was api.AlertView, over bool) error {
	all := c.since(was)
	if !slices.ContainsFunc(all, func(a api.AlertView) bool { return a.Standing() != over }) {
		return fmt.Errorf("the hook was told %d times of %s, not that over is %v", len(all), was.Key, over)
	}
	return nil
}

// author publishes numbers in order all night, each until it is acknowledged: to the SQL databases as one topic, to
// Redis as another.
type author struct {
	n       *oncall
	stop    func() int
	gate    chan bool // taken while it does not write
	mu      sync.Mutex
	acked   int
	refused map[string]int // by code, or "unreachable"
}

// write starts the writer.
func (n *oncall) write() {
	w := &author{n: n, refused: map[string]int{}, gate: make(chan bool, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		sql, cache := sqliteRig(), redisRig()
		for k := 1; ; k++ {
			lines := ""
			for topic, body := range map[string]string{"shop": sql.body(k, ""), "cache": cache.body(k, "")} {
				line, _ := json.Marshal(map[string]string{"topic": topic, "body": body, "key": fmt.Sprint(topic, k)}) // of strings
				lines += string(line) + "\n"
			}
			for why := w.try(ctx, lines); why != ""; why = w.try(ctx, lines) {
				w.note(0, why)
				select {
				case <-ctx.Done():
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
			w.note(k, "")
			select {
			case <-ctx.Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	w.stop = sync.OnceValue(func() int {
		cancel()
		<-done
		return w.acked
	})
	n.t.Cleanup(func() { w.stop() })
	n.writer = w
}

// pause lets the writer write nothing until the returned function is called.
func (w *author) pause() (goOn func()) {
	w.gate <- true
	return func() { <-w.gate }
}

func (w *author) try(ctx context.Context, lines string) string {
	select {
	case w.gate <- true:
		defer func() { <-w.gate }()
		return w.post(lines) // what is under way is waited for: it may be stored
	case <-ctx.Done(): // it may be stopped while it pauses
		return "stopped"
	}
}

// post says why lines are not stored; "" when they are.
func (w *author) post(lines string) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.n.http+"/v1/increments/batch",
		strings.NewReader(lines))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "unreachable"
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode == http.StatusOK {
		return ""
	}
	var said struct{ Code string }
	if json.Unmarshal(body, &said) != nil || said.Code == "" {
		return "unreachable"
	}
	return said.Code
}

func (w *author) note(acked int, refused string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if refused != "" {
		w.refused[refused]++
		return
	}
	w.acked = acked
}

// hears waits until the writer was refused with this code once more.
func (w *author) hears(code string) {
	w.n.t.Helper()
	had := w.count(code)
	eventually(w.n.t, func() error {
		if w.count(code) == had {
			return errors.New("the writer was not told " + code)
		}
		return nil
	})
}

func (w *author) count(code string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refused[code]
}

// goes waits until the writer has had more acknowledged.
func (w *author) goes(more int) {
	w.n.t.Helper()
	want := w.done() + more
	eventually(w.n.t, func() error {
		if got := w.done(); got < want {
			return fmt.Errorf("%d of %d are acknowledged", got, want)
		}
		return nil
	})
}

func (w *author) done() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked
}
