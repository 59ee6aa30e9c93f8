package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/broker/bus"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
)

// refusedWith is the code and the sentence with which a door refuses an increment now; "" when it takes it.
func (r *running) refusedWith() (door.Code, string) {
	_, err := door.Ingest(r.ingest.put).Wait(context.Background(), []event.Draft{{Body: []byte("x")}})
	var no *door.Refusal
	if !errors.As(err, &no) {
		require.NoError(r.t, err)
		return "", ""
	}
	return no.Code, no.Text
}

func (r *running) accept(body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	req := httptest.NewRequest("POST", "/v1/log/accept", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	r.web().Handler.ServeHTTP(w, req)
	return w
}

// A broker on an exchanged disk takes nothing from the moment on at which a node of the old log comes, also after a
// restart; what ends that is an order, which is audited and counts for these nodes for ever.
func TestALogThatTheNodesDoNotKnowTakesNoInput(t *testing.T) {
	cfg := testConfig(t)
	old := startBroker(t, cfg)
	db := drivertest.NewMemory()
	stop := old.node("master", "", db)
	old.fill(7)
	soon(t, "the node follows", func() bool { return len(db.Bodies()) == 7 })
	require.NoError(t, stop())
	require.NoError(t, old.stop())

	require.NoError(t, os.Rename(cfg.Data, cfg.Data+".away"))
	r := startBroker(t, cfg)
	r.fill(2) // nobody knows better yet
	require.ErrorContains(t, r.ends("master", "", db), "log "+old.LogID().String())
	code, text := r.refusedWith()
	require.Equal(t, door.Held, code)
	require.Contains(t, text, "node master holds log "+old.LogID().String()+" at 7")
	require.Contains(t, text, "xmq log accept --confirm")
	soon(t, "the alert", func() bool { _, stands := r.alerts.Stands(api.HeldAlert); return stands })
	require.NoError(t, r.stop())

	r = startBroker(t, cfg)
	code, _ = r.refusedWith()
	require.Equal(t, door.Held, code, "a restart is no answer")
	require.NotNil(t, r.input())
	require.Equal(t, 1, strings.Count(strings.ToLower(r.input().String()), "input is held"),
		"the first line of screens says it once")
	require.Equal(t, http.StatusConflict, r.accept(`{"reason":"a new beginning"}`).Code)
	require.Equal(t, http.StatusBadRequest, r.accept(`{"confirm":true}`).Code)
	require.Equal(t, http.StatusOK, r.accept(`{"confirm":true,"reason":"a new beginning"}`).Code)
	r.fill(1)
	require.Nil(t, r.input())
	audits, err := r.stores.state.Audits(1)
	require.NoError(t, err)
	require.Equal(t, "accept log", audits[0].Verb)
	require.ErrorContains(t, r.ends("master", "", db), "log "+old.LogID().String())
	r.fill(1)
	require.Equal(t, http.StatusConflict, r.accept(`{"confirm":true,"reason":"again"}`).Code)
	require.NoError(t, r.stop())

	require.NoError(t, os.RemoveAll(cfg.Data))
	require.NoError(t, os.Rename(cfg.Data+".away", cfg.Data))
	r = startBroker(t, cfg)
	defer r.node("master", "", db)()
	r.fill(1)
	soon(t, "the node follows", func() bool { return len(db.Bodies()) == 8 })
}

// A database of another log under an ID that a healthy group does not know is refused, and nothing else happens; under
// a known ID it holds input only until a node agrees.
func TestAStrangerBesideAHealthyGroupHoldsNothing(t *testing.T) {
	other := startBroker(t, testConfig(t))
	foreign := drivertest.NewMemory()
	stop := other.node("master", "", foreign)
	other.fill(3)
	soon(t, "the node follows", func() bool { return len(foreign.Bodies()) == 3 })
	require.NoError(t, stop())

	cfg := testConfig(t)
	r := startBroker(t, cfg)
	db := drivertest.NewMemory()
	stop = r.node("master", "", db)
	r.fill(5)
	soon(t, "the node follows", func() bool { return len(db.Bodies()) == 5 })
	require.ErrorContains(t, r.ends("stray", "", foreign), "log "+other.LogID().String())
	r.fill(1)
	require.NoError(t, stop())
	require.NoError(t, r.stop())

	r = startBroker(t, cfg) // nobody has agreed since
	require.ErrorContains(t, r.ends("stray", "", foreign), "")
	r.fill(1)
	require.ErrorContains(t, r.ends("master", "", foreign), "")
	code, _ := r.refusedWith()
	require.Equal(t, door.Held, code)
	defer r.node("master", "", db)()
	soon(t, "input is taken again", func() bool { code, _ := r.refusedWith(); return code == "" })
	soon(t, "the alert ends", func() bool { _, stands := r.alerts.Stands(api.HeldAlert); return !stands })
}

// A known client that is ahead of this very log says that acknowledged increments are missing, whoever agrees.
func TestANodeAheadOfTheLogHoldsInputWhoeverAgrees(t *testing.T) {
	cfg := testConfig(t)
	r := startBroker(t, cfg)
	ahead, behind := drivertest.NewMemory(), drivertest.NewMemory()
	stops := []func() error{r.node("master", "", ahead)}
	r.fill(5)
	soon(t, "the node follows", func() bool { return len(ahead.Bodies()) == 5 })
	stopBehind := r.node("n1", "master", behind)
	soon(t, "n1 has joined", func() bool { return behind.Position().Seq == 5 })
	require.NoError(t, stopBehind())
	require.NoError(t, stops[0]())
	require.NoError(t, r.stop())
	require.NoError(t, os.CopyFS(cfg.Data+".copy", os.DirFS(cfg.Data)))
	r = startBroker(t, cfg)
	stops[0] = r.node("master", "", ahead)
	r.fill(4)
	soon(t, "the node follows", func() bool { return len(ahead.Bodies()) == 9 })
	require.NoError(t, stops[0]())
	require.NoError(t, r.stop())

	require.NoError(t, os.Rename(cfg.Data, cfg.Data+".new"))
	require.NoError(t, os.Rename(cfg.Data+".copy", cfg.Data))
	r = startBroker(t, cfg)
	require.ErrorContains(t, r.ends("master", "", ahead), "ahead of this log")
	_, text := r.refusedWith()
	require.Contains(t, text, "node master stands at 9, and this log ends at 5: 4 acknowledged increments are missing")
	stopBehind = r.node("n1", "master", behind)
	soon(t, "n1 agrees", func() bool { v, _, _ := r.pool.View(t.Context(), "n1"); return v.Connected })
	code, _ := r.refusedWith()
	require.Equal(t, door.Held, code)
	require.NoError(t, stopBehind())
	require.NoError(t, r.stop())

	require.NoError(t, os.RemoveAll(cfg.Data))
	require.NoError(t, os.Rename(cfg.Data+".new", cfg.Data))
	r = startBroker(t, cfg) // the log has reached it
	r.fill(1)
}

// ends is how a node ends by itself.
func (r *running) ends(id, from string, db *drivertest.Memory) error {
	conn, err := bus.Dial(r.NATSURL(), id)
	require.NoError(r.t, err)
	defer conn.Close()
	a, err := nodeclient.New(conn, db.Open(),
		nodeclient.Options{ID: id, From: from, Tick: 20 * time.Millisecond, Silence: 100, Stay: true,
			Log: slog.New(slog.DiscardHandler)})
	require.NoError(r.t, err)
	return a.Run(r.t.Context())
}
