package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/nodeclient/driver/drivertest"
	"xmq/statedb"
)

// page is a log that may be read while it is written.
type page struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *page) count(text string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Count(p.b.String(), text)
}

// A night stands in the timeline and in the broker's log, each incident once and with the same keys: who came, what
// failed, who decided and why, who went, when the broker stopped.
func TestANightIsATimelineAndALog(t *testing.T) {
	cfg := testConfig(t)
	out := new(page)
	b, err := Open(cfg, slog.New(slog.NewTextHandler(out, nil)))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- b.Run(ctx, func() { close(ready) }) }()
	<-ready
	r := &running{Broker: b, t: t}
	db := drivertest.NewMemory()
	stop := r.node("master", "", db)
	db.FailWith(2, errors.New("duplicate key"))
	r.fill(3)
	soon(t, "it fails", func() bool { _, stands := r.alerts.Stands("fail/master"); return stands })
	status, _ := r.post("/v1/clients/master/skip", `{"seq":2,"reason":"nobody needs it","via":"ann@ops"}`)
	require.Equal(t, http.StatusOK, status)
	soon(t, "it goes on", func() bool { return db.Position().Seq == 3 })
	soon(t, "the alert is over", func() bool { _, stands := r.alerts.Stands("fail/master"); return !stands })
	require.NoError(t, stop())
	soon(t, "its goodbye is heard", func() bool { return out.count(`event="client went"`) == 1 })
	var rows []api.EventView
	require.NoError(t, json.NewDecoder(r.get("/v1/events").Body).Decode(&rows))
	var kinds []string
	for _, e := range rows {
		if e.Alert == "" || strings.HasPrefix(e.Alert, "fail/") { // a slow machine may find more
			kinds = append(kinds, string(e.Kind))
		}
	}
	require.Equal(t, []string{"started", "client came", "alert raised", "skip", "alert cleared", "client went"}, kinds)
	require.NoError(t, json.NewDecoder(r.get("/v1/events?client=master&limit=1").Body).Decode(&rows))
	require.Len(t, rows, 1)
	require.Equal(t, statedb.ClientWent, rows[0].Kind)
	require.NoError(t, json.NewDecoder(r.get("/v1/events?after=1&limit=1").Body).Decode(&rows))
	require.EqualValues(t, 2, rows[0].Number, "what comes next")
	cancel()
	require.NoError(t, <-ended)
	for _, line := range []string{`event="alert raised" alert=fail/master severity=critical client=master seq=2 ` +
		`cause="client master could not apply`,
		`event=skip client=master seq=2 cause="nobody needs it" by="`, `ann@ops"`, `event="client came" client=master`,
		`event=stopped seq=3 cause="it was told to"`} {
		require.Equal(t, 1, out.count(line), "%s in %s", line, out.b.String())
	}
}

// A pager hears that an alert begins, becomes worse and ends, and of one that nobody has acknowledged from time to
// time; after an acknowledgement nothing, until it becomes worse.
func TestHooksAreSilentAfterAnAcknowledgement(t *testing.T) {
	heard := make(chan api.AlertView, 100)
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		var a api.AlertView
		if json.NewDecoder(req.Body).Decode(&a) == nil {
			heard <- a
		}
	}))
	defer web.Close()
	cfg := testConfig(t)
	cfg.Hooks.URL, cfg.Hooks.Repeat, cfg.Watch.Every = web.URL, time.Hour, time.Hour
	r := startBroker(t, cfg)
	say := func(s statedb.Severity) {
		var b statedb.Batch
		b.Raise(statedb.Alert{Key: "k", Severity: s, Text: "text", Last: 1})
		require.NoError(t, r.stores.state.Write(&b))
	}
	do := func(f func(*statedb.Batch)) {
		var b statedb.Batch
		f(&b)
		require.NoError(t, r.stores.state.Write(&b))
	}
	silent := func(why string) { // what comes after it would have come behind it
		t.Helper()
		do(func(b *statedb.Batch) {
			b.Raise(statedb.Alert{Key: "mark", Severity: statedb.Note, Last: 1})
			b.Clear("other", 1)
		})
		require.Equal(t, "mark", (<-heard).Key, why)
		do(func(b *statedb.Batch) { b.Clear("mark", 2) })
		require.Equal(t, "mark", (<-heard).Key, why)
	}
	say(statedb.Warning)
	require.Equal(t, statedb.Warning, (<-heard).Severity)
	say(statedb.Warning)
	silent("a heartbeat is no news")
	standing := r.alerts.Standing()
	r.hooks.Repeat(time.Now(), standing)
	silent("not so soon")
	r.hooks.Repeat(time.Now().Add(2*time.Hour), standing)
	require.Equal(t, "k", (<-heard).Key)
	do(func(b *statedb.Batch) { b.AckAlert("k") })
	r.hooks.Repeat(time.Now().Add(5*time.Hour), r.alerts.Standing())
	say(statedb.Warning)
	silent("somebody has seen it")
	say(statedb.Critical)
	require.Equal(t, statedb.Critical, (<-heard).Severity)
	do(func(b *statedb.Batch) { b.Clear("k", 9) })
	require.False(t, (<-heard).Cleared.IsZero())
}
