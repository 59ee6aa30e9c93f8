package server

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
	"sync"
	"syscall"
	"time"

	"github.com/sourcegraph/conc"

	"xmq/broker/secret"
	"xmq/statedb"
)

// hooks tells the outside of alerts, by a URL, by a command, or both. Neither waits for the other, and what one says of an alert waits
// for nothing but what it has to say of the same alert before. The queues are bounded: when a hook is slower than
// alerts come, alerts are dropped here (never from the store) and counted in the log.
type hooks struct {
	cfg Hooks
	log *slog.Logger
	web *http.Client
	all []*hook

	mu   sync.Mutex
	last map[string]time.Time // by alert that stands: when it was told last
}

// hook is one way to tell.
type hook struct {
	name  string
	tell  func(ctx context.Context, body []byte) error
	queue chan statedb.Alert
}

// Bounds of one hook.
const (
	hookQueue  = 256             // alerts that wait
	hookCalls  = 8               // calls under way at once
	hookOutput = 4 << 10         // bytes of a command's output that are kept
	hookLinger = 2 * time.Second // what a command leaves behind may hold its output for so long
)

func newHooks(cfg Hooks, log *slog.Logger) *hooks {
	h := &hooks{cfg: cfg, log: log, last: map[string]time.Time{}, web: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxResponseHeaderBytes: 64 << 10, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute},
		// An alert is for the address that was configured, and for none that it names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if cfg.URL != "" {
		h.all = append(h.all, &hook{"url", h.post, make(chan statedb.Alert, hookQueue)})
	}
	if len(cfg.Command) > 0 {
		h.all = append(h.all, &hook{"command", h.exec, make(chan statedb.Alert, hookQueue)})
	}
	return h
}

// tell never blocks. Of an alert that somebody has acknowledged nothing is told: one that becomes worse is not acknowledged any more.
func (h *hooks) tell(a statedb.Alert) {
	h.mu.Lock()
	if h.last[a.Key] = time.Now(); a.Cleared != 0 {
		delete(h.last, a.Key)
	}
	h.mu.Unlock()
	if a.Acked {
		return
	}
	for _, one := range h.all {
		select {
		case one.queue <- a:
		default:
			h.log.Warn("alert not told to a hook, it is too slow", "hook", one.name, "alert", a.Key)
		}
	}
}

// repeat tells those alerts again of which nothing was told for cfg.Repeat.
func (h *hooks) repeat(now time.Time, standing []statedb.Alert) {
	if h.cfg.Repeat == 0 {
		return
	}
	for _, a := range standing {
		h.mu.Lock()
		last, told := h.last[a.Key]
		if !told { // before this broker was started
			h.last[a.Key] = now
		}
		h.mu.Unlock()
		if told && now.Sub(last) >= h.cfg.Repeat {
			h.tell(a)
		}
	}
}

// run calls the hooks until ctx ends, which ends the calls under way. What has no end by itself holds it for hookLinger at most.
func (h *hooks) run(ctx context.Context) error {
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
func (h *hooks) serve(ctx context.Context, one *hook) {
	var group conc.WaitGroup
	defer group.Wait()
	behind := map[string][]statedb.Alert{} // by alert under way: what waits for it
	waiting := 0                           // in all of behind
	done := make(chan string, hookCalls)
	call := func(a statedb.Alert) {
		group.Go(func() {
			if err := secret.Hide(h.call(ctx, one, a), h.cfg.URL); err != nil {
				h.log.Warn("hook failed", "hook", one.name, "alert", a.Key, "err", err)
			}
			done <- a.Key
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
			if more, busy := behind[a.Key]; busy {
				behind[a.Key], waiting = append(more, a), waiting+1
				continue
			}
			behind[a.Key] = nil
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
func (h *hooks) call(ctx context.Context, one *hook, a statedb.Alert) error {
	body, err := json.Marshal(alertView(a))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	return one.tell(ctx, body)
}

// exec runs the command with body on its standard input. What it has started ends with it when the time is over, and when it holds the
// output of a command that has ended for longer than hookLinger.
func (h *hooks) exec(ctx context.Context, body []byte) error {
	var out head
	cmd := exec.CommandContext(ctx, h.cfg.Command[0], h.cfg.Command[1:]...)
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
		return fmt.Errorf("%s: it has left a process behind that held its output: that was ended", h.cfg.Command[0])
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %.200q", h.cfg.Command[0], err, out.kept)
	}
	return nil
}

// head keeps the first hookOutput bytes written to it.
type head struct{ kept []byte }

func (h *head) Write(p []byte) (int, error) {
	h.kept = append(h.kept, p[:min(len(p), hookOutput-len(h.kept))]...)
	return len(p), nil
}

func (h *hooks) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.cfg.URL, bytes.NewReader(body))
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
		return fmt.Errorf("%s answered %s", secret.URL(h.cfg.URL), res.Status)
	}
	return nil
}
