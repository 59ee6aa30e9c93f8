package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/broker/monitor"
	"xmq/nodeclient/driver/drivertest"
	"xmq/statedb"
	"xmq/worker"
)

// quiet is a configuration whose retention and watch look only when the test says so.
func quiet(t *testing.T) Config {
	cfg := testConfig(t)
	cfg.MaxRecords, cfg.Retention.Every, cfg.Watch.Every, cfg.Silent = 10, time.Hour, time.Hour, 30*time.Second
	return cfg
}

// still is a broker of which only the workers and the ingest run: the test itself is its watch and its retention.
func still(t *testing.T, cfg Config) *running {
	b, err := Open(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = b.ingest.run(ctx) })
	for _, w := range b.pool.Workers() {
		group.Go(func() { _ = w.Run(ctx) })
	}
	r := &running{Broker: b, t: t, stop: sync.OnceValue(func() error { cancel(); group.Wait(); return b.close() })}
	t.Cleanup(func() { _ = r.stop() })
	return r
}

// keeps stores a client at seq as if its worker had.
func (r *running) keeps(id string, state statedb.State, seq uint64, topics ...string) {
	r.t.Helper()
	at, err := r.stores.log.Position(seq)
	require.NoError(r.t, err)
	r.record(statedb.Client{ID: id, State: state, Acked: at, Topics: topics})
}

func (r *running) record(c statedb.Client) {
	r.t.Helper()
	var b statedb.Batch
	b.PutClient(c)
	require.NoError(r.t, r.stores.state.Write(&b))
}

func (r *running) first(after func() (int, error)) uint64 {
	r.t.Helper()
	_, err := after()
	require.NoError(r.t, err)
	return r.stores.log.First()
}

func (r *running) alertText(key string) string {
	if a, stands := r.alerts.Stands(key); stands {
		return a.Text
	}
	return ""
}

func (r *running) post(path, body string) (int, string) {
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Host = "127.0.0.1"
	w := httptest.NewRecorder()
	r.web().Handler.ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

// Whatever takes a client's place away frees nothing: what no copy has applied stays as long as no limit says
// otherwise, and when one does, somebody is told.
func TestNothingIsFreedThatNobodyHasApplied(t *testing.T) {
	for _, state := range []statedb.State{statedb.NeedsDump, statedb.Fatal, statedb.Pending, statedb.Loading} {
		r := startBroker(t, quiet(t))
		r.fill(55)
		r.keeps("master", state, 15)
		require.EqualValues(t, 1, r.first(r.trimmer.Trim), state)
		require.EqualValues(t, 1, r.first(func() (int, error) { return r.trimmer.Free(true) }), state)
		require.Equal(t, state == statedb.NeedsDump || state == statedb.Fatal, r.alertText("unplaced") != "", state)
		require.Empty(t, r.alertText("limit"))

		r.turn(func(c *Config) { c.Retention.MaxRecords = 20 })
		require.EqualValues(t, 31, r.first(r.trimmer.Trim), "a limit is a limit")
		require.Contains(t, r.alertText("limit"), "retention.max_records frees increments that no client has applied")
	}
	r := startBroker(t, quiet(t)) // the order itself, on a node that has applied little
	db := drivertest.NewMemory()
	r.fill(5)
	stop := r.node("master", "", db)
	soon(t, "the master follows", func() bool { return db.Position().Seq == 5 })
	require.NoError(t, stop())
	r.fill(50)
	no, err := r.pool.Order(context.Background(), "master", worker.Order{Verb: worker.Redump})
	require.NoError(t, err)
	require.Empty(t, no.Refused)
	require.EqualValues(t, 1, r.first(r.trimmer.Trim))
	r.keeps("n1", statedb.Following, 35) // another copy that has gone farther: now the lowest of all counts
	require.EqualValues(t, 31, r.first(r.trimmer.Trim))
	require.Empty(t, r.alertText("unplaced"))
}

// A client that was told to DUMP holds what it has not applied while nobody else has its topics.
func TestTheLastCopyOfATopicHoldsTheLog(t *testing.T) {
	r := startBroker(t, quiet(t))
	r.fill(55)
	r.keeps("all", statedb.NeedsDump, 15)
	r.keeps("shop", statedb.Following, 45, "shop")
	require.EqualValues(t, 11, r.first(r.trimmer.Trim))
	r.keeps("other", statedb.Following, 35)
	require.EqualValues(t, 31, r.first(r.trimmer.Trim))
}

// What everybody has stays for keep_records and keep_age, and goes when it is ordered to; a limit is stronger than
// both.
func TestWhatEverybodyHasIsKeptForAWhile(t *testing.T) {
	for name, set := range map[string]func(*monitor.Retention){
		"records": func(r *monitor.Retention) { r.KeepRecords = 28 },
		"age":     func(r *monitor.Retention) { r.KeepAge = time.Hour },
	} {
		cfg := quiet(t)
		set(&cfg.Retention)
		r := startBroker(t, cfg)
		r.fill(55)
		r.keeps("n1", statedb.Following, 55)
		require.EqualValues(t, map[string]int{"records": 21, "age": 1}[name], r.first(r.trimmer.Trim), name)
		r.turn(func(c *Config) { c.Retention.MaxRecords = 15 })
		require.EqualValues(t, 41, r.first(r.trimmer.Trim), name)
		code, text := r.post("/v1/log/trim", "{}")
		require.Equal(t, http.StatusOK, code)
		require.Contains(t, text, "retention.keep_age")
		require.EqualValues(t, 51, r.stores.log.First(), name)
	}
}

// The limit in bytes: two warnings, then the client that has been away the longest has to DUMP again, never the last
// copy of its topics. Then input is refused with a sentence that names it, until the limit is raised or the client is
// gone.
func TestTheLogStaysBelowItsLimitInBytes(t *testing.T) {
	cfg := quiet(t)
	cfg.Retention.KeepAge = time.Hour
	r := still(t, cfg)
	for range 5 {
		r.put(strings.Split(strings.Repeat(strings.Repeat("x", 20_000)+" ", 10), " ")[:10]...)
	}
	r.put("the newest segment")
	r.keeps("level", statedb.Following, 51)
	at, err := r.stores.log.Position(5)
	require.NoError(t, err)
	for id, silent := range map[string]int64{"short": 5e9, "long": 9e9} {
		// Their machines are made by the first input, so they know the record only by what they are asked.
		r.record(statedb.Client{ID: id, State: statedb.Following, Acked: at, Silent: silent})
	}
	require.NoError(t, r.stop())
	r = still(t, cfg)
	size := func() int64 {
		st, err := r.stores.log.Stats()
		require.NoError(t, err)
		return st.Bytes
	}
	require.EqualValues(t, 1, r.first(r.trimmer.Trim))
	require.Empty(t, r.alertText("max_bytes"), "half of the disk is far away")
	require.NotZero(t, r.stores.state.Meta().MaxBytes, "the default is recorded")

	r.turn(func(c *Config) { c.Retention.MaxBytes = size() * 10 / 7 })
	require.EqualValues(t, 1, r.first(r.trimmer.Trim))
	require.Contains(t, r.alertText("max_bytes"), "more than half")
	require.Contains(t, r.alertText("max_bytes"), "client long holds it")
	r.turn(func(c *Config) { c.Retention.MaxBytes = size() * 2 / 3 })
	require.EqualValues(t, 1, r.first(r.trimmer.Trim), "nobody goes who was not named before")
	require.Contains(t, r.alertText("max_bytes"), "four fifths")
	state := func(id string) statedb.State { c, _ := r.stores.state.Client(id); return c.State }
	_, err = r.trimmer.Trim()
	require.NoError(t, err)
	soon(t, "the one that has been away the longest goes first", func() bool { return state("long") == statedb.NeedsDump })
	require.Equal(t, statedb.Following, state("short"))
	require.Contains(t, r.alertText("refused/long"), "retention.max_bytes")
	soon(t, "then the next one", func() bool {
		_, err := r.trimmer.Trim()
		return err == nil &&
			state("short") == statedb.NeedsDump
	})
	soon(t, "and there is room, although keep_age would keep all",
		func() bool { _, err := r.trimmer.Trim(); return err == nil && size() <= r.knobs().Retention.MaxBytes })
	require.Greater(t, r.stores.log.First(), uint64(1))
	require.NoError(t, r.watcher.Look())
	require.Nil(t, r.ingest.refusing.Load())

	// The last copy stays, whatever it costs.
	c, _ := r.stores.state.Client("level")
	require.NoError(t, r.stores.state.Write(func() *statedb.Batch {
		var b statedb.Batch
		b.DeleteClient("level")
		b.DeleteClient("long")
		b.DeleteClient("short")
		c.ID, c.Acked = "last", func() event.Position {
			p, err := r.stores.log.Position(r.stores.log.First())
			require.NoError(t, err)
			return p
		}()
		b.PutClient(c)
		return &b
	}()))
	r.turn(func(c *Config) { c.Retention.MaxBytes = 1 })
	for range 3 {
		_, err = r.trimmer.Trim()
		require.NoError(t, err)
	}
	require.NoError(t, r.watcher.Look())
	require.Equal(t, statedb.Following, state("last"))
	var refused *door.Refusal
	_, err = door.Ingest(r.ingest.put).Wait(context.Background(), []event.Draft{{Body: []byte("x")}})
	require.ErrorAs(t, err, &refused)
	require.Equal(t, door.DiskFull, refused.Code)
	require.Contains(t, refused.Error(), "client last holds it")
	r.turn(func(c *Config) { c.Retention.MaxBytes = 0 })
	_, err = r.trimmer.Trim()
	require.NoError(t, err)
	require.NoError(t, r.watcher.Look())
	require.Len(t, r.put("again"), 1)
	require.Empty(t, r.alertText("max_bytes"))
}

// A position that was ordered for a client without a copy is in the way as anybody else is: the log does not grow
// beyond its limit for a node that never comes.
func TestAnOrderedPositionDoesNotHoldTheLogBeyondItsLimit(t *testing.T) {
	r := still(t, quiet(t))
	for range 6 {
		r.put(strings.Split(strings.Repeat(strings.Repeat("x", 20_000)+" ", 10), " ")[:10]...)
	}
	r.keeps("level", statedb.Following, 60)
	at, err := r.stores.log.Position(5)
	require.NoError(t, err)
	r.record(statedb.Client{ID: "awaited", State: statedb.NeedsDump, Acked: at, Seek: &at})
	require.NoError(t, r.stop())
	cfg := *r.cfg
	cfg.Retention.MaxBytes = 500_000
	r = still(t, cfg)
	require.EqualValues(t, 1, r.first(r.trimmer.Trim))
	require.Contains(t, r.alertText("max_bytes"), "client awaited holds it")
	soon(t, "the order ends, and there is room",
		func() bool { _, err := r.trimmer.Trim(); return err == nil && r.stores.log.First() > 31 })
	require.Contains(t, r.alertText("refused/awaited"), "retention.max_bytes")
	require.NoError(t, r.watcher.Look())
	require.Nil(t, r.ingest.refusing.Load())
}

// max_absence counts the silence of the node, not the age of its record; the broker's own absence is nobody's.
func TestAbsenceIsTheSilenceOfTheNode(t *testing.T) {
	cfg := quiet(t)
	cfg.Retention.MaxAbsence = time.Hour
	r := startBroker(t, cfg)
	r.fill(55)
	at, err := r.stores.log.Position(15)
	require.NoError(t, err)
	r.record(statedb.Client{ID: "n1", State: statedb.Failed, Acked: at, Updated: 1, Created: 1})
	require.EqualValues(t, 11, r.first(r.trimmer.Trim))
	r.record(statedb.Client{ID: "n1", State: statedb.Failed, Acked: at, Silent: int64(2 * time.Hour)})
	require.NoError(t, r.stop())
	r = startBroker(t, cfg)
	h := r.keeping.Who()
	require.Empty(t, h.Clients, "it has been away for longer than max_absence")
	require.EqualValues(t, 51, r.first(r.trimmer.Trim))
}

// Trims that are ordered run beside those of retention; alerts stand or fall once.
func TestTrimsDoNotRace(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxRecords, cfg.Retention.Every, cfg.Retention.PinAlert = 10, time.Millisecond, 1
	r := startBroker(t, cfg)
	r.fill(40)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for seq := range uint64(20) {
				if i == 0 {
					r.keeps("n1", statedb.Following, seq+15)
				}
				code, text := r.post("/v1/log/trim", "{}")
				require.Equal(t, http.StatusOK, code, text)
			}
		})
	}
	group.Wait()
	require.LessOrEqual(t, r.stores.log.First(), uint64(31))
}

// A holder that goes forward is one alert, and an acknowledgement of it stays; an alert that is cleared while it is
// true comes back, or the clear is refused with a sentence.
func TestAStandingConditionIsOneAlertThatCannotBeClearedAway(t *testing.T) {
	cfg := quiet(t)
	cfg.Retention.PinAlert = 1
	r := still(t, cfg)
	r.fill(40)
	for seq := range uint64(10) {
		r.keeps("n1", statedb.Following, seq)
		_, err := r.trimmer.Trim()
		require.NoError(t, err)
		a, stands := r.alerts.Stands("pin")
		require.True(t, stands)
		require.EqualValues(t, 1, a.Count)
		require.Equal(t, seq > 0, a.Acked)
		code, _ := r.post("/v1/alerts", `{"key":"pin","do":"ack"}`)
		require.Equal(t, http.StatusOK, code)
	}
	code, _ := r.post("/v1/alerts", `{"key":"pin","do":"clear"}`)
	require.Equal(t, http.StatusOK, code)
	_, err := r.trimmer.Trim()
	require.NoError(t, err)
	require.Contains(t, r.alertText("pin"), "client n1 holds")

	r.turn(func(c *Config) { c.Watch.MinFree = 1 << 62 })
	require.NoError(t, r.watcher.Look())
	require.NotEmpty(t, r.alertText("disk"))
	code, _ = r.post("/v1/alerts", `{"key":"disk","do":"clear"}`)
	require.Equal(t, http.StatusOK, code)
	require.NoError(t, r.watcher.Look())
	require.NotEmpty(t, r.alertText("disk"), "it is still true")
	r.turn(func(c *Config) { c.Watch.MinFree = 0 })
	require.NoError(t, r.watcher.Look())
	require.Empty(t, r.alertText("disk"))

	at, err := r.stores.log.Position(9)
	require.NoError(t, err)
	r.record(statedb.Client{ID: "n2", State: statedb.Failed, Acked: at,
		LastError: &statedb.Trouble{Seq: 10, Class: "fail"}})
	require.NoError(t, r.stop())
	r = still(t, cfg)
	var b statedb.Batch
	for _, key := range []string{"fail/n2", "fail/n1", "dump/n1"} {
		b.Raise(statedb.Alert{Key: key, Text: "t", Last: 1})
	}
	require.NoError(t, r.stores.state.Write(&b))
	code, text := r.post("/v1/alerts", `{"key":"fail/n2","do":"clear"}`)
	require.Equal(t, http.StatusConflict, code)
	require.Contains(t, text, "client n2 is failed")
	for _, key := range []string{"fail/n1", "dump/n1"} { // it follows; a DUMP that failed is over
		code, _ = r.post("/v1/alerts", fmt.Sprintf(`{"key":%q,"do":"clear"}`, key))
		require.Equal(t, http.StatusOK, code)
	}
}

// A thousand strangers are one alert, a broker that knows as many clients as it may is another, and both end.
func TestStrangersAreOneAlert(t *testing.T) {
	cfg := quiet(t)
	cfg.MaxClients = 1
	r := still(t, cfg)
	r.fill(5)
	foreign := event.Position{Log: 77, Seq: 3, Chain: 9}
	say := func(id string, pos event.Position) {
		require.NoError(t, r.pool.PostWait(context.Background(), id,
			worker.Input{Node: &event.Event{Kind: event.IncrReq, ID: id,
				Session: event.Session{Instance: 1, Turn: 1}, Pos: pos, Body: event.Hello{}.Encode()}}))
	}
	all := func(id string, n uint64) []statedb.Alert {
		t.Helper()
		for i := range 1000 {
			say(fmt.Sprint(id, i), foreign)
		}
		soon(t, "all are refused", func() bool { return r.admission.Refusals().Strays == n })
		for range 3 {
			require.NoError(t, r.watcher.Look())
		}
		return r.alerts.Standing()
	}
	first := all("x", 1000)
	require.Len(t, first, 1, "one cause is one alert")
	require.Equal(t, api.HeldAlert, first[0].Key, "who knows nobody hears everybody")
	code, text := r.post("/v1/log/accept", `{"confirm":true,"reason":"new"}`)
	require.Equal(t, http.StatusOK, code, text)
	code, text = r.post("/v1/clients/n1/add", `{"topics":["b","a"],"reason":"new"}`)
	require.Equal(t, http.StatusOK, code, text)
	second := all("y", 2000)
	require.Len(t, second, 1)
	require.Equal(t, "strangers", second[0].Key)
	require.EqualValues(t, 1, second[0].Count)
	r.watcher.Now = func() time.Time { return time.Now().Add(time.Hour) }
	require.NoError(t, r.watcher.Look())
	require.Empty(t, r.alertText("strangers"))

	v, known, err := r.pool.View(context.Background(), "n1")
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, statedb.Pending, v.State)
	require.Equal(t, []string{"a", "b"}, v.Topics)
	code, text = r.post("/v1/clients/n2/add", `{}`)
	require.Equal(t, http.StatusConflict, code)
	require.Contains(t, text, "max_clients")
	require.NoError(t, r.watcher.Look())
	require.Contains(t, r.alertText("max_clients"), "1 client,")
	code, _ = r.post("/v1/clients/n1/forget", `{"reason":"gone"}`)
	require.Equal(t, http.StatusOK, code)
	require.NoError(t, r.watcher.Look())
	require.Empty(t, r.alertText("max_clients"))
	code, text = r.post("/v1/clients/n2/seek", `{"seq":3,"reason":"x"}`)
	require.Equal(t, http.StatusOK, code, text)
}

// GET /v1/log says the same as retention does.
func TestTheLogSaysWhoHoldsIt(t *testing.T) {
	r := startBroker(t, quiet(t))
	r.fill(25)
	info := func() (i api.LogInfo) {
		require.NoError(t, json.NewDecoder(r.get("/v1/log").Body).Decode(&i))
		return i
	}
	require.Nil(t, info().Pin)
	r.keeps("n1", statedb.NeedsDump, 15)
	require.EqualValues(t, 0, *info().Pin)
	require.Equal(t, "no client", info().Holder)
	r.keeps("n1", statedb.Following, 15)
	require.EqualValues(t, 15, *info().Pin)
	require.Equal(t, "client n1", info().Holder)
	require.Equal(t, r.stores.state.Meta().MaxBytes, info().MaxBytes)
}

// Who holds the log is told in one way wherever it is asked: one record less in the state, and all places say so. A
// client that has been away for too long holds nothing, loses no place for it, and no alert says that it holds the
// log.
func TestAllSayTheSameOfWhoHoldsTheLog(t *testing.T) {
	cfg := quiet(t)
	cfg.Retention.PinAlert, cfg.Retention.MaxAbsence = 1, time.Hour
	r := still(t, cfg)
	r.fill(55)
	at := func(seq uint64) event.Position {
		p, err := r.stores.log.Position(seq)
		require.NoError(t, err)
		return p
	}
	r.record(statedb.Client{ID: "away", State: statedb.Failed, Acked: at(2), Silent: int64(2 * time.Hour)})
	r.record(statedb.Client{ID: "n1", State: statedb.Failed, Acked: at(5), Silent: int64(time.Minute)})
	r.record(statedb.Client{ID: "lost", State: statedb.NeedsDump, Acked: at(7), Topics: []string{"a"}})
	r.record(statedb.Client{ID: "n2", State: statedb.Failed, Acked: at(40)})
	require.NoError(t, r.stop())
	r = still(t, cfg)
	says := func() map[string]string {
		_, err := r.trimmer.Trim()
		require.NoError(t, err)
		var l api.LogInfo
		require.NoError(t, json.NewDecoder(r.get("/v1/log").Body).Decode(&l))
		views, err := r.views(t.Context())
		require.NoError(t, err)
		h := r.keeping.Who()
		first, fixed := h.InTheWay(10)
		said := map[string]string{"log": fmt.Sprint(*l.Pin, " ", l.Holder), "trim": r.keeping.Why(),
			"alert": r.alertText("pin"), "fixed": fixed}
		if first != nil {
			said["evict"] = first.ID
		}
		for _, v := range views {
			alone, _, err := r.view(t.Context(), v.ID)
			require.NoError(t, err)
			require.Equal(t, v.Pin, alone.Pin)
			text := r.alerts.Text(statedb.Alert{Key: "stopped/" + v.ID},
				&worker.View{ID: v.ID, Pin: v.Pin, Condition: worker.Condition{Is: worker.IsStopped}}, time.Now())
			if require.Equal(t, v.Pin != nil, strings.Contains(text, "it holds the log")); v.Pin != nil {
				said[v.ID] = fmt.Sprint(*v.Pin)
			}
		}
		return said
	}
	require.Equal(t, map[string]string{"log": "5 client n1", "fixed": "", "evict": "n1",
		"trim":  "segments are freed whole, and client n1 needs increment 6, which is in the oldest one (1 to 10)",
		"alert": "client n1 holds more than 1 increment of the log", "n1": "5", "n2": "40"}, says())

	var batch statedb.Batch
	batch.DeleteClient("n2")
	c, _ := r.stores.state.Client("n1")
	c.Topics = []string{"b"}
	batch.PutClient(c)
	require.NoError(t, r.stores.state.Write(&batch))
	h := r.keeping.Who()
	_, fixed := h.InTheWay(10)
	require.Equal(t, []string{"lost"}, h.Lost, "the copy of one that is away too long does not count")
	require.Contains(t, fixed, "client n1 holds it, and no other copy")
	require.Len(t, h.Clients, 2)
	require.Equal(t, "5 client n1", says()["log"])
}

// The alert about a node that nobody knew ends when it has joined.
func TestAStrangerThatHasJoinedIsNone(t *testing.T) {
	r := still(t, quiet(t))
	r.fill(5)
	require.NoError(t, r.pool.PostWait(context.Background(), "x1",
		worker.Input{Node: &event.Event{Kind: event.IncrReq, ID: "x1", Session: event.Session{Instance: 1, Turn: 1},
			Pos: event.Position{Log: r.stores.log.ID(), Seq: 3, Chain: 9}, Body: event.Hello{}.Encode()}}))
	soon(t, "it is refused", func() bool { return r.admission.Refusals().Strays == 1 })
	at, err := r.stores.log.Position(3)
	require.NoError(t, err)
	r.record(statedb.Client{ID: "m1", State: statedb.Following, Acked: at})
	require.NoError(t, r.watcher.Look())
	require.NotEmpty(t, r.alertText("strangers"))
	r.record(statedb.Client{ID: "x1", State: statedb.Following, Acked: at})
	require.NoError(t, r.watcher.Look())
	require.Empty(t, r.alertText("strangers"))
}
