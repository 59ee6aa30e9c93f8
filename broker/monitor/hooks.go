package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sourcegraph/conc"

	"xmq/broker/api"
	"xmq/broker/secret"
	"xmq/statedb"
)

// Hooks are told of every alert that is raised, becomes worse or is cleared, and again while it lasts; of one that
// somebody has acknowledged nothing until it becomes worse. A slow or failing hook delays nothing.
type Hooks struct {
	URL     string        `yaml:"url"`
	Command []string      `yaml:"command"`
	Timeout time.Duration `yaml:"timeout"`
	Repeat  time.Duration `yaml:"repeat"`
}

// Meanings say what each knob does: the texts of the flags and of the example files.
func (Hooks) Meanings() map[string]string {
	return map[string]string{
		"url": "URL that gets a POST with each alert as JSON; empty for none",
		"command": "program and arguments that are run for each alert, with the alert as JSON on standard input; " +
			"empty for none",
		"timeout": "how long one call of url or command may take",
		"repeat":  "how often a lasting, unacknowledged alert is told again; 0 for never",
	}
}

// Notifier tells the outside of alerts, by a URL, by a command, or both. Neither waits for the other, and what one says
// of an alert waits for nothing but what it has to say of the same alert before. The queues are bounded: when a hook
// is slower than alerts come, alerts are dropped here (never from the store) and counted in the log.
type Notifier struct {
	cfg atomic.Pointer[Hooks] // of now
	log *slog.Logger
	web *http.Client
	all []*hook

	// View makes what the outside is told of an alert that stands, with the text of now and its others of one cause; nil:
	// what was stored. It is set before Run and called by many goroutines.
	View func(context.Context, statedb.Alert) api.AlertView

	mu     sync.Mutex
	causes map[string]*cause // that stand, see causeOf
	of     map[string]string // by alert that stands: its cause
}

// cause is what the alerts of one cause are told as: one that begins with the first of them and ends with the last.
type cause struct {
	key   string                   // of the first: under this one all is told
	stand map[string]statedb.Alert // by key
	told  time.Time                // when anything was told last
	worst int                      // the rank of what was told
}

// hook is one way to tell.
type hook struct {
	name  string
	tell  func(ctx context.Context, cfg *Hooks, body []byte) error
	there func(cfg *Hooks) bool // it is configured
	queue chan telling
}

// telling is one thing to tell: of an alert, under the key of the first of its cause.
type telling struct {
	key string
	statedb.Alert
}

// Configure lets cfg count from now on; calls under way go on as they are.
func (h *Notifier) Configure(cfg Hooks) { h.cfg.Store(&cfg) }

// Bounds of one hook.
const (
	hookQueue  = 256             // alerts that wait
	hookCalls  = 8               // calls under way at once
	hookOutput = 4 << 10         // bytes of a command's output that are kept
	hookLinger = 2 * time.Second // what a command leaves behind may hold its output for so long
)

// NewNotifier makes the hooks of cfg; nothing is called before Run.
func NewNotifier(cfg Hooks, log *slog.Logger) *Notifier {
	h := &Notifier{log: log, causes: map[string]*cause{}, of: map[string]string{}, web: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxResponseHeaderBytes: 64 << 10, MaxIdleConnsPerHost: 1,
			IdleConnTimeout: time.Minute},
		// An alert is for the address that was configured, and for none that it names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	h.cfg.Store(&cfg)
	h.all = []*hook{{"url", h.post, func(c *Hooks) bool { return c.URL != "" }, make(chan telling, hookQueue)},
		{"command", h.exec, func(c *Hooks) bool { return len(c.Command) > 0 }, make(chan telling, hookQueue)}}
	return h
}

// againAfter is how long after the start of a broker what stands since before is told again: the broker before may
// have ended between raising it and telling it.
const againAfter = time.Minute

// Remember takes note of alerts that stand already, at the start of a broker: they are told when they change, and again
// after againAfter.
func (h *Notifier) Remember(standing []statedb.Alert, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range standing {
		c, _ := h.join(a)
		repeat := h.cfg.Load().Repeat
		c.told, c.worst = now.Add(min(againAfter, repeat)-repeat), max(c.worst, a.Severity.Rank())
	}
}

// join puts an alert to its cause; first says that no other of it stands. Caller holds mu.
func (h *Notifier) join(a statedb.Alert) (c *cause, first bool) {
	name := causeOf(a)
	if old := h.of[a.Key]; old != "" && old != name { // the client stands at another increment now
		h.leave(a.Key)
	}
	if c = h.causes[name]; c == nil {
		c, first = &cause{key: a.Key, stand: map[string]statedb.Alert{}}, true
		h.causes[name] = c
	}
	c.stand[a.Key], h.of[a.Key] = a, name
	return c, first
}

// leave takes an alert from its cause. It returns the cause when nothing of it stands any more. Caller holds mu.
func (h *Notifier) leave(key string) *cause {
	name := h.of[key]
	c := h.causes[name]
	if c == nil {
		return &cause{key: key} // of an earlier build
	}
	delete(h.of, key)
	if delete(c.stand, key); len(c.stand) > 0 {
		return nil
	}
	delete(h.causes, name)
	return c
}

// Notify takes an alert that has changed. It never blocks. Alerts of one cause are told as one: when the first of them
// is raised, when one becomes worse than what was told, and when the last is over. Of an alert that somebody has
// acknowledged nothing is told: one that becomes worse is not acknowledged any more.
func (h *Notifier) Notify(a statedb.Alert) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.Cleared != 0 {
		if c := h.leave(a.Key); c != nil && !a.Acked {
			h.enqueue(telling{c.key, a})
		}
		return
	}
	_, stood := h.of[a.Key]
	c, first := h.join(a)
	if a.Acked || !stood && !first && a.Severity.Rank() <= c.worst {
		return
	}
	c.told, c.worst = time.Now(), max(c.worst, a.Severity.Rank())
	if first && causeOf(a) != a.Key { // the others follow within a moment, and then it can be said what is to blame
		time.AfterFunc(gatherFor, func() { h.enqueue(telling{c.key, a}) })
		return
	}
	h.enqueue(telling{c.key, a})
}

// gatherFor is how long the first alert of a cause that clients may share waits for the others.
const gatherFor = time.Second

// enqueue gives it to all hooks that are not too slow.
func (h *Notifier) enqueue(t telling) {
	for _, one := range h.all {
		if !one.there(h.cfg.Load()) {
			continue
		}
		select {
		case one.queue <- t:
		default:
			h.log.Warn("alert not told to a hook, it is too slow", "hook", one.name, "alert", t.key)
		}
	}
}

// Repeat tells those causes again of which nothing was told for Hooks.Repeat, unless all of their alerts were
// acknowledged.
func (h *Notifier) Repeat(now time.Time, standing []statedb.Alert) {
	repeat := h.cfg.Load().Repeat
	if repeat == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range standing {
		c := h.causes[h.of[a.Key]]
		if c == nil || a.Acked || now.Sub(c.told) < repeat {
			continue
		}
		c.told = now
		h.enqueue(telling{c.key, a})
	}
}

// Run calls the hooks until ctx ends, which ends the calls under way. What has no end by itself holds it for
// hookLinger at most.
func (h *Notifier) Run(ctx context.Context) error {
	defer h.web.CloseIdleConnections()
	var group conc.WaitGroup
	defer group.Wait()
	for _, one := range h.all {
		group.Go(func() { h.serve(ctx, one) })
	}
	<-ctx.Done() // without a hook, too
	return nil
}

// serve calls one hook, several times at once, but for one alert in the order in which it changed.
func (h *Notifier) serve(ctx context.Context, one *hook) {
	var group conc.WaitGroup
	defer group.Wait()
	behind := map[string][]telling{} // by alert under way: what waits for it
	waiting := 0                     // in all of behind
	done := make(chan string, hookCalls)
	call := func(a telling) {
		group.Go(func() {
			if err := h.call(ctx, one, a); err != nil {
				h.log.Warn("a hook has failed", "hook", one.name, "alert", a.key, "err", err)
			}
			done <- a.key
		})
	}
	for {
		queue := one.queue
		if len(behind) == hookCalls || waiting == hookQueue {
			queue = nil
		}
		select {
		case <-ctx.Done():
			return
		case a := <-queue:
			if more, busy := behind[a.key]; busy {
				behind[a.key], waiting = append(more, a), waiting+1
				continue
			}
			behind[a.key] = nil
			call(a)
		case key := <-done:
			more := behind[key]
			if len(more) == 0 {
				delete(behind, key)
				continue
			}
			behind[key], waiting = more[1:], waiting-1
			call(more[0])
		}
	}
}

// call tells one hook of an alert, within the timeout.
func (h *Notifier) call(ctx context.Context, one *hook, a telling) error {
	cfg := h.cfg.Load()
	if !one.there(cfg) { // it was taken away meanwhile
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	view := api.AlertOf(a.Alert)
	if h.View != nil && a.Cleared == 0 {
		view = h.View(ctx, a.Alert)
	}
	if view.Key != a.key {
		view.Also = append([]string{view.Key}, slices.DeleteFunc(view.Also, func(key string) bool { return key == a.key })...)
		view.Key = a.key
	}
	body, err := json.Marshal(view)
	if err != nil {
		return err
	}
	return secret.Hide(one.tell(ctx, cfg, body), cfg.URL)
}

// exec runs the command with body on its standard input. What it has started ends with it when the time is over, and
// when it holds the output of a command that has ended for longer than hookLinger.
func (h *Notifier) exec(ctx context.Context, cfg *Hooks, body []byte) error {
	var out head
	cmd := exec.CommandContext(ctx, cfg.Command[0], cfg.Command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(body), &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	end := func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return os.ErrProcessDone
	}
	cmd.Cancel, cmd.WaitDelay = end, hookLinger
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		_ = end() // the group may be empty: then it has left it
		return fmt.Errorf("%s: it has left a process behind that held its output: that was ended", cfg.Command[0])
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %.200q", cfg.Command[0], err, out.kept)
	}
	return nil
}

// head keeps the first hookOutput bytes written to it.
type head struct{ kept []byte }

func (h *head) Write(p []byte) (int, error) {
	h.kept = append(h.kept, p[:min(len(p), hookOutput-len(h.kept))]...)
	return len(p), nil
}

func (h *Notifier) post(ctx context.Context, cfg *Hooks, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, cfg.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := h.web.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s answered %s", secret.URL(cfg.URL), res.Status)
	}
	return nil
}

// causeOf names what an alert has in common with others of the same cause: one increment that several clients refuse.
// Everything else is a cause of its own.
func causeOf(a statedb.Alert) string {
	if a.Seq > 0 && strings.HasPrefix(a.Key, "fail/") {
		return fmt.Sprintf("fail at %d", a.Seq)
	}
	return a.Key
}
