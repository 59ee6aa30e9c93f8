package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os/exec"

	"xmq/statedb"
)

// hooks tells the outside of alerts. The queue is bounded: when hooks are slower than alerts come, alerts are
// dropped here (never from the store) and counted in the log.
type hooks struct {
	cfg   Hooks
	log   *slog.Logger
	queue chan statedb.Alert
}

func newHooks(cfg Hooks, log *slog.Logger) *hooks {
	return &hooks{cfg: cfg, log: log, queue: make(chan statedb.Alert, 256)}
}

// tell never blocks.
func (h *hooks) tell(a statedb.Alert) {
	if h.cfg.URL == "" && len(h.cfg.Command) == 0 {
		return
	}
	select {
	case h.queue <- a:
	default:
		h.log.Warn("alert not told to the hooks, they are too slow", "alert", a.Key)
	}
}

// run calls the hooks, one alert after the other, until ctx ends.
func (h *hooks) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-h.queue:
			if err := h.call(ctx, a); err != nil {
				h.log.Warn("hook failed", "alert", a.Key, "err", err)
			}
		}
	}
}

func (h *hooks) call(ctx context.Context, a statedb.Alert) error {
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if h.cfg.URL != "" {
		if err := h.post(ctx, body); err != nil {
			return err
		}
	}
	if len(h.cfg.Command) > 0 {
		ctx, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, h.cfg.Command[0], h.cfg.Command[1:]...)
		cmd.Stdin = bytes.NewReader(body)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %.200q", h.cfg.Command[0], err, out)
		}
	}
	return nil
}

func (h *hooks) post(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s answered %s", h.cfg.URL, res.Status)
	}
	return nil
}
