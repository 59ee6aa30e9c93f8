package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/broker/bus"
	"xmq/broker/disk"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/broker/monitor"
	"xmq/dumpflow"
	"xmq/increments"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/statedb"
	"xmq/worker"
)

// running is a broker in this process on free ports.
type running struct {
	*Broker
	t    *testing.T
	stop func() error
}

func testConfig(t *testing.T) Config {
	cfg := Default()
	cfg.Data = filepath.Join(t.TempDir(), "data")
	cfg.NATSAddr, cfg.HTTPAddr = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Watch.Ballast, cfg.Watch.MinFree, cfg.Watch.Every, cfg.Watch.SlowSync = false, 0, 20*time.Millisecond, 0
	cfg.Tick, cfg.Silent, cfg.Lease = 20*time.Millisecond, 400*time.Millisecond, time.Second
	cfg.Retention.Every, cfg.Retention.KeepAge = 20*time.Millisecond, 0
	return cfg
}

func startBroker(t *testing.T, cfg Config) *running {
	b, err := Open(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- b.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("the broker ended before it was ready: %v", err)
	}
	r := &running{Broker: b, t: t, stop: sync.OnceValue(func() error { cancel(); return <-done })}
	t.Cleanup(func() { _ = r.stop() })
	return r
}

func (r *running) put(bodies ...string) []event.Outcome {
	r.t.Helper()
	var drafts []event.Draft
	for _, b := range bodies {
		drafts = append(drafts, event.Draft{Body: []byte(b)})
	}
	out, err := door.Ingest(r.ingest.put).Wait(context.Background(), drafts)
	require.NoError(r.t, err)
	return out
}

// turn changes knobs while the broker reads them.
func (r *running) turn(change func(*Config)) {
	now := *r.knobs()
	change(&now)
	r.live.Store(&now)
	r.stores.knobs.Store(&now)
}

func (r *running) fill(n int) {
	for range n {
		r.put("increment")
	}
}

// node runs an agent on a database in memory.
func (r *running) node(id, from string, db *drivertest.Memory) (stop func() error) {
	conn, err := bus.Dial(r.NATSURL(), id)
	require.NoError(r.t, err)
	a, err := nodeclient.New(conn, db.Open(),
		nodeclient.Options{ID: id, From: from, Tick: 20 * time.Millisecond, Silence: 100, Stay: true,
			Log: slog.New(slog.DiscardHandler)})
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); err := <-done; conn.Close(); return err })
	r.t.Cleanup(func() { _ = stop() })
	return stop
}

func soon(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !f(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 2 minutes: ", what)
		}
	}
}

// XD-5: "a failed write is never answered as success." The storage fails under load: every waiter hears "unknown",
// what comes is refused, and Run returns at once with an error of class IsStorage (exit code 74).
func TestXD05FailedStorageStopsTheBroker(t *testing.T) {
	r := startBroker(t, testConfig(t))
	r.fill(3)
	failure := r.stores.storage.Latch().Trip(errors.New("the disk has gone"))
	require.ErrorIs(t, failure, disk.ErrStopped)
	var unknown atomic.Int64
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			_, err := door.Ingest(r.ingest.put).Wait(context.Background(), []event.Draft{{Body: []byte("x")}})
			var refused *door.Refusal
			if errors.As(err, &refused) && (refused.Code == door.Unknown || refused.Code == door.Closing) {
				unknown.Add(1)
			}
		})
	}
	group.Wait()
	require.EqualValues(t, 20, unknown.Load())
	err := r.stop()
	require.True(t, IsStorage(err), "%v", err)
	require.ErrorContains(t, err, "outcome")
	require.EqualValues(t, 3, r.stores.log.Head().Seq)
}

// A write that fails inside the log is answered as unknown, and the goroutine ends with the error.
func TestIngestAnswersUnknownWhenAWriteFails(t *testing.T) {
	in := newIngest(failingLog{}, func() {}, 100, 10, 1000)
	done := make(chan error, 3)
	for range 3 {
		in.put([]event.Draft{{Body: []byte("x")}}, func(_ []event.Outcome, err error) { done <- err })
	}
	require.ErrorIs(t, in.run(context.Background()), disk.ErrStopped)
	for range 3 {
		var refused *door.Refusal
		require.ErrorAs(t, <-done, &refused)
		require.Equal(t, door.Unknown, refused.Code)
	}
	in.refuse(nil) // the watch sees a healthy disk: it must not open the door again
	in.put([]event.Draft{{Body: []byte("x")}}, func(_ []event.Outcome, err error) { done <- err })
	require.Error(t, <-done)
}

// noGroup is the group of a log that stores nothing.
type noGroup struct{}

func (noGroup) Records() int { return 0 }
func (noGroup) Reset()       {}

type failingLog struct{}

func (failingLog) NewGroup() increments.AppendGroup { return noGroup{} }

func (failingLog) Prepare(_ increments.AppendGroup, d []event.Draft, _ []event.Outcome) (int, error) {
	return len(d), nil
}

func (failingLog) Commit(increments.AppendGroup) error {
	return fmt.Errorf("append: %w", disk.ErrStopped)
}

// Whoever comes at the very end is answered: a request that passed the check and was queued behind the last one is
// turned away, not forgotten.
func TestIngestAnswersWhoeverComesWhileItEnds(t *testing.T) {
	for range 200 {
		in := newIngest(&slowLog{gate: closedGate()}, func() {}, 100, 1000, 100_000)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- in.run(ctx) }()
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for range 20 {
					// answered, whatever it is
					_, _ = door.Ingest(in.put).Wait(context.Background(), []event.Draft{{Body: []byte("x")}})
				}
			})
		}
		cancel()
		require.NoError(t, <-ended)
		group.Wait()
		require.Zero(t, in.count.Load())
		require.Zero(t, in.bytes.Load())
	}
}

func closedGate() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// What waits for the log is bounded in count and bytes; one request alone always fits; refused drafts do not hinder the
// others of their request.
func TestIngestIsBounded(t *testing.T) {
	log := &slowLog{gate: make(chan struct{})}
	in := newIngest(log, func() {}, 100, 10, 2000)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- in.run(ctx) }()
	type answer struct {
		out []event.Outcome
		err error
	}
	answers := make(chan answer, 100)
	put := func(bodies ...string) {
		var drafts []event.Draft
		for _, b := range bodies {
			drafts = append(drafts, event.Draft{Body: []byte(b)})
		}
		in.put(drafts, func(out []event.Outcome, err error) { answers <- answer{out, err} })
	}
	put("first")
	soon(t, "the first is being written", func() bool { return len(in.queue) == 0 })
	for range 9 {
		put("waits")
	}
	put("too many")
	a := <-answers
	var refused *door.Refusal
	require.ErrorAs(t, a.err, &refused)
	require.Equal(t, door.Busy, refused.Code)
	close(log.gate)
	for range 10 {
		require.NoError(t, (<-answers).err)
	}
	put("good", "", strings.Repeat("x", 101), "good too")
	a = <-answers
	require.NoError(t, a.err)
	require.EqualValues(t, 11, a.out[0].Seq)
	require.Equal(t, door.Empty, door.RefusalOf(a.out[1]).Code)
	require.Equal(t, door.TooLarge, door.RefusalOf(a.out[2]).Code)
	require.EqualValues(t, 12, a.out[3].Seq)
	require.Zero(t, in.count.Load())
	require.Zero(t, in.bytes.Load())
	cancel()
	require.NoError(t, <-ended)
}

type slowLog struct {
	gate chan struct{}
	seq  uint64
}

func (l *slowLog) NewGroup() increments.AppendGroup { return noGroup{} }

func (l *slowLog) Prepare(_ increments.AppendGroup, d []event.Draft, out []event.Outcome) (int, error) {
	for i := range d {
		l.seq++
		out[i].Seq = l.seq
	}
	return len(d), nil
}

func (l *slowLog) Commit(increments.AppendGroup) error { <-l.gate; return nil }

// XQ-10: "list, ack, clear; webhook and exec hooks; a slow or failing hook delays nothing."
func TestXQ10Hooks(t *testing.T) {
	heard := make(chan api.AlertView, 100)
	release := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var a api.AlertView
		if json.NewDecoder(req.Body).Decode(&a) == nil {
			heard <- a
		}
		<-release
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer web.Close()
	defer close(release)
	cfg := testConfig(t)
	file := filepath.Join(t.TempDir(), "alerts")
	cfg.Hooks = monitor.Hooks{URL: web.URL, Command: []string{"/bin/sh", "-c", "cat >> " + file},
		Timeout: 100 * time.Millisecond}
	r := startBroker(t, cfg)
	raise := func(key string) {
		var b statedb.Batch
		b.Raise(statedb.Alert{Key: key, Severity: statedb.Warning, Text: "text of " + key, Last: 1})
		began := time.Now()
		require.NoError(t, r.stores.state.Write(&b))
		require.Less(t, time.Since(began), 5*time.Second, "a hanging hook delays nothing")
	}
	for i := range 20 {
		raise(fmt.Sprint("a", i))
	}
	require.Contains(t, (<-heard).Text, "text of a", "whichever comes first: no alert waits for another")
	r.fill(1) // and increments go on
	raised := 0
	for _, a := range r.stores.state.Alerts() { // a busy machine may add one of its own
		if strings.HasPrefix(a.Text, "text of a") {
			raised++
		}
	}
	require.Equal(t, 20, raised)
}

// SS-31: "Retention by count, size and age. Each limit alone and all together." With a client that never acks, and a
// policy. The limit in bytes spares the last copy: TestTheLogStaysBelowItsLimitInBytes.
func TestSS31RetentionLimits(t *testing.T) {
	for name, set := range map[string]func(*monitor.Retention){
		"count": func(r *monitor.Retention) { r.MaxRecords = 25 },
		"age":   func(r *monitor.Retention) { r.MaxAge = time.Millisecond },
		"all":   func(r *monitor.Retention) { r.MaxRecords, r.MaxAge = 25, time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.MaxRecords = 10
			set(&cfg.Retention)
			r := startBroker(t, cfg)
			db := drivertest.NewMemory()
			stop := r.node("master", "", db)
			r.fill(5)
			soon(t, "the master is level", func() bool { return db.Position().Seq == 5 })
			require.NoError(t, stop())
			r.fill(60)
			soon(t, "the log is cut", func() bool { return r.stores.log.First() > 35 })
			soon(t, "the client knows", func() bool {
				v, _, err := r.pool.View(context.Background(), "master")
				return err == nil && v.State == statedb.NeedsDump
			})
		})
	}
}

// XR-6, XD-1: "soak: retained size stays under its limit; nothing unacked by a registered client goes." Segments come
// and go while a client follows; its position always stays readable; disk and open databases stay bounded.
func TestXR06LogIsReclaimed(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxRecords = 20
	r := startBroker(t, cfg)
	db := drivertest.NewMemory()
	r.fill(30) // before anybody has come, nothing goes: the first master may still want it all
	require.EqualValues(t, 1, r.stores.log.First())
	stop := r.node("master", "", db)
	for range 20 {
		r.fill(30)
		h := r.keeping.Who()
		pin, _, held := h.Pin()
		require.True(t, !held || pin+1 >= r.stores.log.First(), "retention is never ahead of a durable position")
	}
	soon(t, "all is applied", func() bool { return db.Position().Seq == 630 })
	soon(t, "all full segments are gone", func() bool { return r.stores.log.First() == 621 })
	soon(t, "their directories are gone", func() bool {
		entries, err := os.ReadDir(filepath.Join(r.stores.dir, logDir))
		return err == nil && len(entries) == 1
	})
	st, err := r.stores.log.Stats()
	require.NoError(t, err)
	require.Equal(t, 1, st.Segments)
	require.LessOrEqual(t, st.OpenSegments, 8)
	require.NoError(t, stop())
	r.fill(50)
	require.EqualValues(t, 621, r.stores.log.First(), "a client that is away holds the log")
}

// SS-35: "Long copy, heavy writes, small retention: no needs_dump; an old pin raises an alert." XQ-9: a client away
// for too long stops holding the log when the policy says so.
func TestSS35RunningDumpHoldsTheLog(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxRecords, cfg.Retention.MaxRecords, cfg.Retention.PinAlert = 10, 10, 20
	r := startBroker(t, cfg)
	db := drivertest.NewMemory()
	r.node("master", "", db)
	r.fill(5)
	soon(t, "the master follows", func() bool { return db.Position().Seq == 5 })
	// A requester that asks and then only keeps its place, like one whose copy takes long.
	conn, err := bus.Dial(r.NATSURL(), "slow")
	require.NoError(t, err)
	defer conn.Close()
	ask := event.Event{Kind: event.DumpReq, Group: "main", ID: "slow", Peer: "master", Request: 77,
		Body: event.Hello{}.Encode()}
	keep := func() {
		_ = conn.Publish(event.Subject("main", event.Up, "slow"), ask.Append(nil)) // repeated
	}
	soon(t, "the snapshot is complete", func() bool {
		keep()
		d, known := r.stores.state.Dump(77)
		return known && d.Phase == "sealed"
	})
	d, _ := r.stores.state.Dump(77)
	for range 12 {
		r.fill(10)
		keep()
	}
	require.LessOrEqual(t, r.stores.log.First(), d.Pos.Seq+1, "the log is held for the running DUMP, against the limit")
	soon(t, "somebody is told", func() bool {
		keep()
		for _, a := range r.stores.state.Alerts() {
			if a.Key == "pin" && a.Cleared == 0 && strings.Contains(a.Text, "DUMP") {
				return true
			}
		}
		return false
	})
	ask.Code = event.Abandoned
	soon(t, "the log is free when the requester has left", func() bool { keep(); return r.stores.log.First() > 100 })
}

// XQ-9: "a client that is away too long keeps its record but stops holding the log (policy)".
func TestXQ09AbsentClientHoldsNothing(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxRecords = 10
	r := startBroker(t, cfg)
	db := drivertest.NewMemory()
	stop := r.node("master", "", db)
	r.fill(5)
	soon(t, "the master follows", func() bool { return db.Position().Seq == 5 })
	require.NoError(t, stop())
	r.fill(40)
	require.EqualValues(t, 1, r.stores.log.First(), "without the policy it holds the log")
	require.NoError(t, r.stop())
	cfg.Retention.MaxAbsence = 300 * time.Millisecond
	r = startBroker(t, cfg)
	soon(t, "it holds nothing", func() bool { return r.stores.log.First() == 41 })
	_, known := r.stores.state.Client("master")
	require.True(t, known, "its record stays")
}

// XD-23: "positions, lag, rate, state per client, and match the truth."
func TestXD23PositionsAreTheTruth(t *testing.T) {
	r := startBroker(t, testConfig(t))
	db := drivertest.NewMemory()
	r.node("master", "", db)
	r.fill(40)
	soon(t, "level", func() bool { return db.Position().Seq == 40 })
	release := db.Hang()
	r.fill(10)
	var p api.Positions
	soon(t, "sent", func() bool {
		res, err := http.Get("http://" + r.HTTPAddr() + "/v1/positions")
		require.NoError(t, err)
		defer res.Body.Close()
		require.NoError(t, json.NewDecoder(res.Body).Decode(&p))
		return len(p.Clients) == 1 && p.Clients[0].Sent == 50 && p.Clients[0].Pin != nil && *p.Clients[0].Pin == 40
	})
	v := p.Clients[0]
	require.EqualValues(t, 50, p.Head)
	require.EqualValues(t, 1, p.First)
	require.Equal(t, r.LogID(), p.Log)
	require.Equal(t, "main", p.Group)
	require.EqualValues(t, 10, *v.Lag)
	require.Greater(t, *v.LagSeconds, 0.0)
	require.Equal(t, worker.View{ID: "master", Role: "master", State: "following",
		Condition: worker.Condition{Is: worker.IsFollowing},
		Sent:      50, Acked: 40, Lag: v.Lag, LagSeconds: v.LagSeconds, Rate: v.Rate, Heard: v.Heard, Process: v.Process,
		Connected: true, Log: r.LogID(), Chain: v.Chain, Pin: v.Pin, Session: v.Session, Worker: v.Worker, Created: v.Created,
		Updated: v.Updated}, v)
	require.Equal(t, os.Getpid(), v.Pid)
	release()
	soon(t, "level again", func() bool {
		v, _, err := r.pool.View(context.Background(), "master")
		return err == nil && *v.Lag == 0 && *v.LagSeconds == 0 && v.Rate > 0
	})
}

// A clean stop under load loses nothing: every answered increment is there, and starting again needs no repair.
func TestStopUnderLoadLosesNothing(t *testing.T) {
	cfg := testConfig(t)
	r := startBroker(t, cfg)
	var last atomic.Uint64
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for {
				out, err := door.Ingest(r.ingest.put).Wait(context.Background(), []event.Draft{{Body: []byte("x")}})
				if err != nil {
					return
				}
				for old := last.Load(); out[0].Seq > old && !last.CompareAndSwap(old, out[0].Seq); old = last.Load() {
				}
			}
		})
	}
	soon(t, "some load", func() bool { return last.Load() > 100 })
	require.NoError(t, r.stop())
	writers.Wait()
	r = startBroker(t, cfg)
	require.Equal(t, last.Load(), r.stores.log.Head().Seq)
	require.Equal(t, r.stores.log.Head(), r.stores.state.Checkpoint(), "the last checkpoint comes after the last commit")
}

// RS-12, XE-12: after a crash between the manifest and its record, the record is sealed at the next start; what has
// no record is removed from staging.
func TestReconcileStagingAndRecords(t *testing.T) {
	cfg := testConfig(t)
	r := startBroker(t, cfg)
	require.NoError(t, r.stores.staging.Create(0xdead))
	require.NoError(t, r.stop())
	r = startBroker(t, cfg)
	require.Empty(t, r.stores.staging.Dumps())
}

// XR-3: "FAIL and FATAL each give one alert (node, sequence, text), on the admin surface and through a hook; repeats
// are counted; it clears on recovery." XD-27: "Full text in alert, log and admin; long and binary text is cut
// safely."
func TestXR03FailuresAreTold(t *testing.T) {
	heard := make(chan api.AlertView, 100)
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		var a api.AlertView
		if json.NewDecoder(req.Body).Decode(&a) == nil {
			heard <- a
		}
	}))
	defer web.Close()
	cfg := testConfig(t)
	cfg.Hooks.URL = web.URL
	r := startBroker(t, cfg)
	db := drivertest.NewMemory()
	r.node("master", "", db)
	text := "the database says \xff\x00 " + strings.Repeat("very much ", 1000)
	next := func(key string) api.AlertView { // a slow machine may also think the node silent
		t.Helper()
		for {
			select {
			case a := <-heard:
				if a.Key == key {
					return a
				}
			case <-time.After(2 * time.Minute):
				t.Fatalf("no alert %s, and nothing else for 2 minutes", key)
			}
		}
	}
	db.FailWith(2, errors.New(text))
	r.fill(3)
	a := next("fail/master")
	require.Equal(t, "master", a.Client)
	require.EqualValues(t, 2, a.Seq)
	require.Contains(t, a.Text, "the database says \uFFFD\x00 very much very much")
	require.LessOrEqual(t, len(a.Text), statedb.MaxText+3)
	v, _, err := r.pool.View(context.Background(), "master")
	require.NoError(t, err)
	require.Contains(t, v.LastError.Text, "the database says")
	db.FailWith(2, errors.New(text))
	no, err := r.pool.Order(context.Background(), "master", worker.Order{Verb: worker.Retry})
	require.NoError(t, err)
	require.Empty(t, no.Refused)
	soon(t, "the same again is counted, and told to no hook", func() bool {
		a, stands := r.alerts.Stands("fail/master")
		return stands && a.Count == 2
	})
	_, err = r.pool.Order(context.Background(), "master", worker.Order{Verb: worker.Retry})
	require.NoError(t, err)
	require.NotZero(t, next("fail/master").Cleared, "recovery clears it")
	soon(t, "level", func() bool { return db.Position().Seq == 3 })
	db.FailWith(4, nodeclient.Fatal(errors.New("the copy is gone")))
	r.fill(1)
	a = next("fatal/master")
	require.Contains(t, a.Text, "the copy is gone")
}

// SS-28: "Heartbeat carries the position, both intervals configurable. Idle lag is shown; a dead peer is noticed in
// time."
func TestSS28DeadPeerIsNoticed(t *testing.T) {
	cfg := testConfig(t)
	r := startBroker(t, cfg)
	db := drivertest.NewMemory()
	conn, err := bus.Dial(r.NATSURL(), "master")
	require.NoError(t, err)
	a, err := nodeclient.New(conn, db.Open(),
		nodeclient.Options{ID: "master", Tick: 20 * time.Millisecond, Heartbeat: 2, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	connected := func() bool {
		v, known, err := r.pool.View(context.Background(), "master")
		return err == nil && known && v.Connected
	}
	soon(t, "connected", connected)
	conn.Close() // without a word
	soon(t, "noticed", func() bool { return !connected() })
	told := func() (times uint64) { // 0 when the alert does not stand
		for _, a := range r.stores.state.Alerts() {
			if a.Key == "offline/master" && a.Cleared == 0 {
				times = a.Count
			}
		}
		return times
	}
	soon(t, "told", func() bool { return told() > 0 })
	before := told()
	cancel()
	require.NoError(t, <-done)
	require.NoError(t, r.stop())
	r = startBroker(t, cfg)
	soon(t, "told again, because it does not come back after a restart of the broker",
		func() bool { return told() > before })
	r.node("master", "", db)
	soon(t, "it is over when the node comes back", func() bool { return connected() && told() == 0 })
}

// RS-4: "Workers are bounded; all busy with sub-tasks is not a deadlock." Every place for readers is taken by one
// that waits for a chunk; the writer of chunks gets through all the same, and then all of them are served.
func TestRS04WaitingReadersDoNotStarveTheWriter(t *testing.T) {
	network := bus.NewMem(1)
	conn := network.Connect(Self)
	defer conn.Close()
	staging, err := dumpflow.OpenStaging(t.TempDir(), nil)
	require.NoError(t, err)
	rec := dumpflow.New("target", event.AllTopics, dumpflow.Requester{ID: "reader", Request: 5}, 0, 0)
	rec.Phase = dumpflow.Uploading
	d := &chunkService{group: "main", conn: conn, staging: staging,
		dump: func(event.DumpID) (dumpflow.Dump, bool) { return rec.Clone(), true },
		log:  slog.New(slog.DiscardHandler), puts: make(chan struct{}, chunkPuts), gets: make(chan struct{}, chunkGets),
		ctx: context.Background()}
	require.NoError(t, staging.Create(5))
	_, err = conn.Subscribe(event.AnySubject("main", event.Snap), d.take)
	require.NoError(t, err)
	call := func(c bus.Conn, id string, chunk dumpflow.Chunk) dumpflow.ChunkReply {
		e := event.Event{Kind: event.SnapReq, Group: "main", ID: id, Dump: 5, Body: chunk.Append(nil)}
		m, err := c.Request(context.Background(), event.Subject("main", event.Snap, id), e.Append(nil))
		require.NoError(t, err)
		a, err := dumpflow.DecodeChunkReply(m.Data, 5)
		require.NoError(t, err)
		return a
	}
	reader, writer := network.Connect("reader"), network.Connect("target")
	defer reader.Close()
	defer writer.Close()
	var waiting sync.WaitGroup
	var served atomic.Int64
	for range chunkGets {
		waiting.Go(func() {
			if call(reader, "reader", dumpflow.Chunk{Op: dumpflow.Get}).State == event.Succ {
				served.Add(1)
			}
		})
	}
	soon(t, "every place is taken", func() bool { return len(d.gets) == chunkGets })
	require.Equal(t, event.None, call(reader, "reader", dumpflow.Chunk{Op: dumpflow.Get}).State,
		"one more is asked to come again")
	require.Equal(t, event.Fail, call(reader, "reader", dumpflow.Pack(dumpflow.Put, 0, []byte("data"))).State,
		"a reader puts nothing")
	require.Equal(t, event.Succ, call(writer, "target", dumpflow.Pack(dumpflow.Put, 0, []byte("data"))).State)
	waiting.Wait()
	require.EqualValues(t, chunkGets, served.Load())
	d.wait()
}

// SS-10: "After the end nothing in flight is lost: slow reader gets all bytes; silent reader is cut at the deadline."
// The reader takes the snapshot byte by byte; then another asks and never speaks again: its place and its pin are
// gone after its lease.
func TestSS10SlowAndSilentReaders(t *testing.T) {
	cfg := testConfig(t)
	cfg.Lease = 100 * time.Millisecond
	r := startBroker(t, cfg)
	db := drivertest.NewMemory()
	r.node("master", "", db)
	r.put(strings.Repeat("0123456789", 100_000))
	soon(t, "the master follows", func() bool { return db.Position().Seq == 1 })
	conn, err := bus.Dial(r.NATSURL(), "slow")
	require.NoError(t, err)
	defer conn.Close()
	ask := event.Event{Kind: event.DumpReq, Group: "main", ID: "slow", Peer: "master", Request: 78,
		Body: event.Hello{Backup: true}.Encode()}
	soon(t, "the snapshot is complete", func() bool {
		_ = conn.Publish(event.Subject("main", event.Up, "slow"), ask.Append(nil)) // repeated
		d, known := r.stores.state.Dump(78)
		return known && d.Phase == dumpflow.Sealed
	})
	call := func(ctx context.Context, dump event.DumpID, c dumpflow.Chunk) (dumpflow.ChunkReply, error) {
		e := event.Event{Kind: event.SnapReq, Group: "main", ID: "slow", Dump: dump, Body: c.Append(nil)}
		m, err := conn.Request(ctx, event.Subject("main", event.Snap, "slow"), e.Append(nil))
		if err != nil {
			return dumpflow.ChunkReply{}, err
		}
		return dumpflow.DecodeChunkReply(m.Data, dump)
	}
	d := dumpflow.NewDownload(context.Background(), call, 78, dumpflow.Options{})
	defer d.Close()
	var got strings.Builder
	for one := make([]byte, 1); ; {
		n, err := d.Read(one)
		got.Write(one[:n])
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
	}
	require.Equal(t, strings.Repeat("0123456789", 100_000)+"\n", got.String())
	soon(t, "the silent reader is cut", func() bool {
		d, known := r.stores.state.Dump(78)
		return known && len(d.Requesters) == 0 && !d.Pinned()
	})
}

// XQ-8: "flipped byte: alert, that segment is set aside, nothing wrong is delivered." Nobody has to read the segment
// for that: the slow reading of the whole log finds it, and tells.
func TestXQ08ScrubFindsDamageInAnOldSegment(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxRecords, cfg.Watch.Scrub = 2000, 50*time.Millisecond
	r := startBroker(t, cfg)
	for range 115 { // beyond the 100,000 that every start verifies
		r.put(strings.Split(strings.Repeat("an increment of some length,", 1000), ",")[:1000]...)
	}
	require.NoError(t, r.stop())
	files, err := filepath.Glob(filepath.Join(cfg.Data, logDir, "*-00000000000000002000", "*.l*"))
	require.NoError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		if len(text) > 500 {
			text[len(text)/2] ^= 1
			require.NoError(t, os.WriteFile(f, text, 0o600))
		}
	}
	r = startBroker(t, cfg)
	soon(t, "it is told", func() bool {
		for _, a := range r.stores.state.Alerts() {
			if strings.HasPrefix(a.Key, "damage/") && a.Cleared == 0 {
				return true
			}
		}
		return false
	})
	_, err = r.stores.log.Read(10, 1, 1)
	require.ErrorIs(t, err, increments.ErrQuarantined)
	require.NotZero(t, r.put("goes on")[0].Seq)
}

// Two brokers cannot serve one group on one NATS server: the second one is refused before it says anything to a node.
// A server that takes only small messages is refused, too.
func TestOneBrokerAGroup(t *testing.T) {
	nats, err := startNATS(&Config{NATSAddr: "127.0.0.1:0", MaxIncrement: 1 << 20, MemoryLimit: 512 << 20}, 100,
		slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer nats.Shutdown()
	cfg := testConfig(t)
	cfg.NATSURL = nats.ClientURL()
	first := startBroker(t, cfg)
	first.fill(1)
	other := testConfig(t)
	other.NATSURL = cfg.NATSURL
	run := func(cfg Config) error {
		b, err := Open(cfg, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		return b.Run(context.Background(), nil)
	}
	err = run(other)
	require.True(t, IsTemporary(err), "%v", err)
	require.ErrorContains(t, err, first.LogID().String())
	other.Group = "other"
	startBroker(t, other)
	large := testConfig(t)
	large.NATSURL, large.Group, large.MaxIncrement = cfg.NATSURL, "large", 4<<20
	err = run(large)
	require.ErrorIs(t, err, ErrConfig)
	require.ErrorContains(t, err, "raise its max_payload")
}

// What cannot work is refused before anything is opened.
func TestValidateRefusesWithASentence(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"http_alias":          func(c *Config) { c.HTTPAlias = "/v1/log/trim" },
		"http_alias is \"/\"": func(c *Config) { c.HTTPAlias = "/" },
		"port up to":          func(c *Config) { c.HTTPAddr = "127.0.0.1:99999" },
		"longer than 0s":      func(c *Config) { c.Tick = 0 },
		"min_free":            func(c *Config) { c.Watch.MinFree = -5 },
		"hooks.url":           func(c *Config) { c.Hooks.URL = "ftp://x" },
		"workers":             func(c *Config) { c.Workers = 0 },
		"watch.slow_sync is -1.5s: it cannot be negative": func(c *Config) { c.Watch.SlowSync = -1500 * time.Millisecond },
		"dump_limit is -1h0m0s: it cannot be negative":    func(c *Config) { c.DumpLimit = -time.Hour },
		"watch.scrub is -1m0s: it cannot be negative":     func(c *Config) { c.Watch.Scrub = -time.Minute },
		"ring_bytes is -5: it cannot be negative":         func(c *Config) { c.RingBytes = -5 },
		"no RESP door": func(c *Config) { c.RESPAddr = "127.0.0.1:6380" },
		"group":        func(c *Config) { c.Group = "A.b" },
	} {
		cfg := Default()
		change(&cfg)
		require.ErrorContains(t, cfg.Validate(), want)
	}
	cfg := Default()
	require.NoError(t, cfg.Validate())
}

// What lies in the data directory is compared before anything of it is served.
func TestStoresAreServedOnlyWhenTheyVouchForEachOther(t *testing.T) {
	cfg := testConfig(t)
	open := func() (*stores, error) {
		return openStores(&cfg, slog.New(slog.DiscardHandler), func(error) {}, func(statedb.Alert) {})
	}
	good := func() *stores {
		t.Helper()
		s, err := open()
		require.NoError(t, err)
		return s
	}
	damaged := func(says string) {
		t.Helper()
		_, err := open()
		require.ErrorIs(t, err, ErrDamaged)
		require.ErrorContains(t, err, says)
	}
	grow := func(s *stores) { // by one increment that the state store vouches for
		t.Helper()
		_, err := s.log.Append([]event.Draft{{Body: []byte("x")}})
		require.NoError(t, err)
		var b statedb.Batch
		b.Checkpoint(s.log.Head())
		b.PutClient(statedb.Client{ID: "n1", State: statedb.Following, Acked: s.log.Head()})
		require.NoError(t, s.state.Write(&b))
		require.NoError(t, s.close())
	}

	cfg.Create = false
	damaged("there is no data directory")
	require.NoError(t, os.Mkdir(cfg.Data, 0o700))
	damaged("is empty")
	cfg.Create = true
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Data, "diary"), nil, 0o600))
	damaged("not the broker's")
	require.NoError(t, os.Remove(filepath.Join(cfg.Data, "diary")))

	log, old := filepath.Join(cfg.Data, logDir), filepath.Join(t.TempDir(), "old")
	grow(good())
	require.NoError(t, os.CopyFS(old, os.DirFS(log)))
	grow(good())
	require.NoError(t, os.RemoveAll(log))
	require.NoError(t, os.CopyFS(log, os.DirFS(old))) // a log put back from an old copy has lost what was acknowledged
	damaged("acknowledged increments are missing")

	require.NoError(t, os.RemoveAll(log))
	damaged("there is no log") // its disk may only not be mounted
	require.NoError(t, os.Mkdir(log, 0o700))
	damaged("there is no log")
	require.NoError(t, os.RemoveAll(filepath.Join(cfg.Data, stateDir)))
	grow(good()) // who wants a new log removes both

	require.NoError(t, os.RemoveAll(log))
	require.NoError(t, os.CopyFS(log, os.DirFS(old)))
	for range 2 { // a log of another life stands at its second start, too
		s := good()
		require.Empty(t, s.state.Clients(), "who stood in the other log has no place in this one")
		require.Equal(t, s.log.ID(), s.state.Meta().Log)
		require.True(t, s.state.Meta().Rebuilt, "who needs what it holds is unknown")
		require.Equal(t, s.log.Head(), s.state.Checkpoint())
		require.NoError(t, s.close())
	}

	grow(good())
	require.NoError(t, os.RemoveAll(filepath.Join(cfg.Data, stateDir)))
	for range 2 {
		s := good()
		require.True(t, s.state.Meta().Rebuilt, "nobody known is not nobody there")
		require.NoError(t, s.close())
	}
}

// After the state store was lost nothing of the log is freed before an operator has confirmed.
func TestNothingIsFreedBeforeALostStateStoreIsConfirmed(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxRecords = 10
	r := startBroker(t, cfg)
	r.fill(35)
	require.NoError(t, r.stop())
	require.NoError(t, os.RemoveAll(filepath.Join(cfg.Data, stateDir)))
	r = startBroker(t, cfg)
	db := drivertest.NewMemory()
	r.node("master", "", db)
	soon(t, "one of perhaps many is back", func() bool {
		h := r.keeping.Who()
		pin, _, held := h.Pin()
		return held && pin == 35
	})
	call := func(method, path, kind, body string) int {
		req := httptest.NewRequest(method, path, strings.NewReader(body))
		req.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		r.web().Handler.ServeHTTP(w, req)
		return w.Code
	}
	trim := func(body string) int { return call(http.MethodPost, "/v1/log/trim", "application/json", body) }
	require.Equal(t, http.StatusUnsupportedMediaType,
		call(http.MethodPost, "/v1/log/trim", "text/plain", `{"confirm":true}`), "what a page of another site can send")
	require.Equal(t, http.StatusConflict, trim(`{}`))
	freed, err := r.trimmer.Trim()
	require.NoError(t, err)
	require.Zero(t, freed)
	require.EqualValues(t, 1, r.stores.log.First())
	require.Equal(t, http.StatusOK, trim(`{"confirm":true}`))
	require.EqualValues(t, 31, r.stores.log.First())
	require.Equal(t, http.StatusGone, call(http.MethodGet, "/v1/increments?from=30", "", ""),
		"a reader is told of the hole")
	require.Equal(t, http.StatusOK, call(http.MethodGet, "/v1/increments?from=31", "", ""))
}

func TestAReplacementIsNoLargerThanAnIncrement(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxIncrement = 1000
	r := startBroker(t, cfg)
	body, err := json.Marshal(api.Order{Body: make([]byte, 1001), Reason: "mended"})
	require.NoError(t, err)
	req := httptest.NewRequest(http.MethodPost, "/v1/clients/n1/replace", bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	r.web().Handler.ServeHTTP(w, req)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
}

// The watch, which opens the door again when there is room, does not open one that is closed for good.
func TestIngestStaysClosed(t *testing.T) {
	for _, code := range []door.Code{door.Closing, door.Unknown} {
		in := newIngest(failingLog{}, func() {}, 100, 10, 1000)
		r := door.Refuse(code, "it ends")
		in.refuse(r)
		in.refuse(nil)
		require.Same(t, r, in.refusing.Load())
	}
}

// Damage in the segment that is appended to stops the broker; in an older one it is told.
func TestDamageOfTheNewestSegmentStopsTheBroker(t *testing.T) {
	b, err := Open(testConfig(t), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, b.stores.close()) }()
	b.stores.damage <- monitor.Damage{Segment: "00-00", Err: errors.New("rot")}
	require.NoError(t, b.watcher.Look())
	b.stores.damage <- monitor.Damage{Segment: "01-99", Err: errors.New("rot")}
	require.ErrorIs(t, b.watch(t.Context()), ErrDamaged)
}

// The increment behind a durable position stays: also when it is the last of its segment. A client that is
// connected is not away, however long ago its record was written.
func TestRetentionKeepsTheNextIncrementOfWhoeverIsThere(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxRecords, cfg.Retention.Every, cfg.Silent = 10, time.Hour, 30*time.Second
	r := startBroker(t, cfg)
	r.fill(25)
	var b statedb.Batch
	at, err := r.stores.log.Position(9)
	require.NoError(t, err)
	b.PutClient(statedb.Client{ID: "away", State: statedb.Following, Acked: at})
	require.NoError(t, r.stores.state.Write(&b))
	_, err = r.trimmer.Trim()
	require.NoError(t, err)
	require.EqualValues(t, 1, r.stores.log.First(), "it needs increment 10")

	db := drivertest.NewMemory()
	r.node("master", "", db)
	soon(t, "the master follows", func() bool { c, _ := r.stores.state.Client("master"); return c.Acked.Seq == 25 })
	b = statedb.Batch{}
	c, _ := r.stores.state.Client("master")
	c.Acked = at // as if nothing had been saved since
	b.PutClient(c)
	b.DeleteClient("away")
	require.NoError(t, r.stores.state.Write(&b))
	r.turn(func(c *Config) { c.Retention.MaxAbsence = time.Nanosecond })
	_, err = r.trimmer.Trim()
	require.NoError(t, err)
	require.EqualValues(t, 1, r.stores.log.First())
}

// deaf is a connection on which only what is published is noted.
type deaf struct {
	bus.Conn
	said []string // subjects
}

func (d *deaf) Publish(subject string, _ []byte) error {
	d.said = append(d.said, subject)
	return nil
}

// XD-16: identity is the token of the subject: who says otherwise in the body, or wants the answer elsewhere, is
// refused.
func TestXD16NobodySpeaksForAnother(t *testing.T) {
	conn, quiet := &deaf{}, slog.New(slog.DiscardHandler)
	d := newDispatcher("main", conn, quiet)
	heard := 0
	d.post = func(string, worker.Input) bool { heard++; return true }
	for _, id := range []string{"n2", "n1"} {
		e := event.Event{Kind: event.IncrReq, Group: "main", ID: id}
		d.up(bus.Msg{Subject: event.Subject("main", event.Up, "n1"), Data: e.Append(nil)})
	}
	require.Equal(t, 1, heard)
	require.EqualValues(t, 1, d.refused.Load())

	var asked atomic.Int32
	chunks := &chunkService{group: "main", conn: conn, log: quiet, puts: make(chan struct{}, 1),
		gets: make(chan struct{}, 1),
		ctx:  t.Context(),
		dump: func(event.DumpID) (dumpflow.Dump, bool) { asked.Add(1); return dumpflow.Dump{}, false }}
	snap := func(id, reply string) {
		e := event.Event{Kind: event.SnapReq, Group: "main", ID: id, Dump: 1,
			Body: dumpflow.Chunk{Op: dumpflow.Get}.Append(nil)}
		chunks.take(bus.Msg{Subject: event.Subject("main", event.Snap, "n1"), Reply: reply, Data: e.Append(nil)})
		chunks.wait()
	}
	snap("n2", "_INBOX_n1.a")
	require.Zero(t, asked.Load(), "the body says another")
	snap("n1", "_INBOX_n2.a")
	require.Zero(t, asked.Load())
	snap("n1", "_INBOX_n1.b")
	require.EqualValues(t, 1, asked.Load())
	require.Equal(t, []string{"_INBOX_n1.a", "_INBOX_n1.b"}, conn.said, "nothing goes into the inbox of another")
}

// XD-14: a manifest of another position than was opened is not published. Only its target writes a snapshot, only its
// requesters read it.
func TestXD14TheDeskServesOnlyWhatTheRecordSays(t *testing.T) {
	staging, err := dumpflow.OpenStaging(t.TempDir(), nil)
	require.NoError(t, err)
	defer staging.Close()
	rec := dumpflow.Dump{ID: 1, Target: "master", Phase: dumpflow.Uploading, Format: "mem/1",
		Pos:        event.Position{Log: 1, Seq: 7, Chain: 9},
		Requesters: []dumpflow.Requester{{ID: "n1", Request: 1}}}
	d := &chunkService{staging: staging, dump: func(event.DumpID) (dumpflow.Dump, bool) { return rec, true },
		ctx:  t.Context(),
		post: func(context.Context, string, worker.Input) error { return nil }}
	chunk := dumpflow.Pack(dumpflow.Put, 0, []byte("x"))
	require.Equal(t, event.Fail, d.serve("n1", 1, chunk).State)
	require.Equal(t, event.Succ, d.serve("master", 1, chunk).State)
	get := dumpflow.Chunk{Op: dumpflow.Get}
	require.Equal(t, event.Fail, d.serve("n2", 1, get).State)
	require.Equal(t, event.Succ, d.serve("n1", 1, get).State)
	sum := sha256.Sum256([]byte("x"))
	m := dumpflow.Manifest{V: dumpflow.ManifestVersion, Dump: 1, Target: "master", Pos: rec.Pos, Format: "mem/1", Size: 1,
		Chunks: 1, SHA256: hex.EncodeToString(sum[:])}
	seal := func(m dumpflow.Manifest) event.State {
		return d.serve("master", 1, dumpflow.Chunk{Op: dumpflow.Seal, Data: m.Encode()}).State
	}
	other := m
	other.Pos.Chain++
	require.Equal(t, event.Fail, seal(other))
	other = m
	other.Pos.Seq++
	require.Equal(t, event.Fail, seal(other))
	rec.Topics = event.AllTopics
	other = m
	other.Topics = []string{"shop"}
	require.Equal(t, event.Fail, seal(other))
	_, sealed := staging.Manifest(1)
	require.False(t, sealed)
	require.Equal(t, event.Succ, seal(m))
}

// A clock that was set forward and back again is told: what ends by the time of the log has ended too early.
func TestAClockThatWasSetBackIsTold(t *testing.T) {
	r := startBroker(t, testConfig(t))
	told := func() bool {
		return slices.ContainsFunc(r.stores.state.Alerts(),
			func(a statedb.Alert) bool { return a.Key == "clock" && a.Cleared == 0 })
	}
	for _, ahead := range []time.Duration{time.Second, time.Hour} {
		r.stores.log.Advance(time.Now().Add(ahead).UnixNano())
		require.NoError(t, r.watcher.Look())
		require.Equal(t, ahead == time.Hour, told(), ahead)
	}
}

// A disk that syncs slowly raises one alert, unless the operator expects it to.
func TestSlowDiskIsTold(t *testing.T) {
	for bound, want := range map[time.Duration]bool{time.Nanosecond: true, 0: false, time.Hour: false} {
		cfg := testConfig(t)
		cfg.Watch.SlowSync = bound
		r := startBroker(t, cfg)
		r.fill(3)
		for range 3 {
			r.put("one at a time")
		}
		told := func() bool {
			for _, a := range r.stores.state.Alerts() {
				if a.Key == "stall" && a.Cleared == 0 {
					require.Contains(t, a.Text, "one sync in a hundred of the log takes")
					return true
				}
			}
			return false
		}
		if want {
			require.Eventually(t, told, 2*time.Minute, 5*time.Millisecond)
		} else {
			for range 2 { // what was looked at before the second checkpoint has been judged
				r.put("once more")
				require.Eventually(t, func() bool { return r.stores.state.Checkpoint() == r.stores.log.Head() }, 2*time.Minute,
					5*time.Millisecond)
			}
			require.False(t, told(), bound)
		}
		require.NoError(t, r.stop())
	}
}

// The ring grows with the memory, unless it is given its own size.
func TestRingIsSizedByTheMemoryLimit(t *testing.T) {
	cfg := Default()
	require.Equal(t, 64<<20, cfg.ring())
	cfg.MemoryLimit = 4 << 30
	require.Equal(t, 512<<20, cfg.ring())
	require.NoError(t, cfg.Validate())
	cfg.MemoryLimit = 100 << 20
	require.ErrorContains(t, cfg.Validate(),
		"memory_limit is 104857600: it must be at least twice queue_bytes and ring_bytes together")
	var need int64
	_, err := fmt.Sscanf(cfg.Validate().Error(),
		"memory_limit is 104857600: it must be at least twice queue_bytes and ring_bytes together, which is %d", &need)
	require.NoError(t, err)
	cfg.MemoryLimit = need
	require.NoError(t, cfg.Validate(), "what the sentence says is enough")
	require.LessOrEqual(t, 2*int64(cfg.QueueBytes+cfg.ring()), need+2)
	cfg.MemoryLimit--
	require.Error(t, cfg.Validate())
	cfg.QueueBytes = 1 << 20
	require.NoError(t, cfg.Validate())
	cfg.RingBytes = 1 << 10
	require.Equal(t, 1<<10, cfg.ring())
}

// Any number of workers ends.
func TestAnyNumberOfWorkersEnds(t *testing.T) {
	cfg := testConfig(t)
	cfg.Workers = 1024
	r := startBroker(t, cfg)
	r.fill(1)
	began := time.Now()
	require.NoError(t, r.stop())
	require.Less(t, time.Since(began), 20*time.Second)
}
