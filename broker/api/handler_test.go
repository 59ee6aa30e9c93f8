package api

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/increments"
	"xmq/increments/segments"
	"xmq/statedb"
	"xmq/statedb/leveldb"
	"xmq/worker"
)

// fake is a Broker that is told what to say, and notes what it is ordered.
type fake struct {
	input     *Input
	clients   []worker.View
	newcomers []worker.View
	orders    []worker.Order
	reply     worker.OrderReply
	standing  []AlertView
	doubts    statedb.Doubts
	holder    string // "" for nobody
	freed     int
	trims     int
	checks    int
	mu        sync.Mutex // guards moved
	moved     chan struct{}
	leaving   chan struct{}
}

func (f *fake) Header() Header                               { return Header{Host: "h1"} }
func (f *fake) Input() *Input                                { return f.input }
func (f *fake) Figures() Figures                             { return Figures{MaxBytes: 7, Commits: 8} }
func (f *fake) Holder() (uint64, string, bool)               { return 5, f.holder, f.holder != "" }
func (f *fake) Views(context.Context) ([]worker.View, error) { return f.clients, nil }
func (f *fake) Newcomers() []worker.View                     { return f.newcomers }
func (f *fake) Chunks(event.DumpID) int                      { return 3 }
func (f *fake) Alerts([]worker.View) []AlertView             { return f.standing }
func (f *fake) Trim() (int, error)                           { f.trims++; return f.freed, nil }
func (f *fake) WhyKept() string                              { return "client n1 needs it" }
func (f *fake) Checked()                                     { f.checks++ }
func (f *fake) Doubts() statedb.Doubts                       { return f.doubts }
func (f *fake) Against(statedb.Doubts) string                { return "node n1 stands ahead" }
func (f *fake) Accept() statedb.Doubts                       { f.doubts = statedb.Doubts{}; return f.doubts }
func (f *fake) Leaving() <-chan struct{}                     { return f.leaving }
func (f *fake) view(id string) (v worker.View, known bool) {
	for _, v = range f.clients {
		if v.ID == id {
			return v, true
		}
	}
	return worker.View{}, false
}

func (f *fake) Moved() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.moved
}

// grow tells everybody that the log is longer.
func (f *fake) grow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.moved)
	f.moved = make(chan struct{})
}

func (f *fake) View(_ context.Context, id string) (worker.View, bool, error) {
	v, known := f.view(id)
	return v, known, nil
}

func (f *fake) Order(_ context.Context, id string, o worker.Order) (worker.OrderReply, error) {
	if _, known := f.view(id); !known {
		return worker.OrderReply{Refused: "there is no client " + id}, nil
	}
	f.orders = append(f.orders, o)
	return f.reply, nil
}

// fixture is a Handler with a log and a state store in memory, and a clock that stands still.
type fixture struct {
	*Handler
	*fake
	t   *testing.T
	mux *http.ServeMux
	now time.Time
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{fake: &fake{moved: make(chan struct{}), leaving: make(chan struct{})}, t: t, mux: http.NewServeMux(),
		now: time.Unix(1_800_000_000, 0)}
	storage := disk.NewStorage(disk.Options{})
	log, err := segments.Create(disktest.NewMemory(), storage, segments.Options{MaxRecords: 10, RingBytes: 1 << 16,
		Now: func() time.Time { return f.now }})
	require.NoError(t, err)
	state, err := leveldb.OpenOrCreate(storage, disktest.NewMemory(), statedb.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = log.Close(), state.Close() })
	f.Handler = &Handler{Group: "main", MaxIncrement: 100, Log: log, State: state, Broker: f.fake,
		Deciding: new(sync.Mutex), Now: func() time.Time { return f.now }, Beat: time.Hour}
	f.Routes(f.mux)
	return f
}

func (f *fixture) write(change func(*statedb.Batch)) {
	f.t.Helper()
	var b statedb.Batch
	change(&b)
	require.NoError(f.t, f.State.Write(&b))
}

func (f *fixture) append(bodies ...string) {
	f.t.Helper()
	for _, body := range bodies {
		_, err := f.Log.Append([]event.Draft{{Body: []byte(body)}})
		require.NoError(f.t, err)
	}
}

// ask sends a request; a body makes it an order. It decodes the answer into into, unless that is nil.
func (f *fixture) ask(path, body string, into any) (status int, text string) {
	f.t.Helper()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	r, w := httptest.NewRequest(method, path, strings.NewReader(body)), httptest.NewRecorder()
	r.Header.Set("Content-Type", "application/json")
	f.mux.ServeHTTP(w, r)
	text = w.Body.String()
	if into != nil {
		require.NoError(f.t, json.Unmarshal(w.Body.Bytes(), into), text)
	}
	return w.Code, text
}

func (f *fixture) refuses(status int, says, path, body string) {
	f.t.Helper()
	got, text := f.ask(path, body, nil)
	require.Equal(f.t, status, got, text)
	require.Contains(f.t, text, says)
}

func (f *fixture) takes(path, body string) {
	f.t.Helper()
	status, text := f.ask(path, body, nil)
	require.Equal(f.t, http.StatusOK, status, text)
}

// An order reaches the machine of its client as it was given, with who gave it; what is wrong about it is said before.
func TestAnOrderReachesItsClientWhole(t *testing.T) {
	f := newFixture(t)
	f.clients = []worker.View{{ID: "n1"}}
	f.refuses(404, "there is no order", "/v1/clients/n1/sing", "{}")
	f.refuses(400, "seek needs a reason", "/v1/clients/n1/seek", `{"seq":3}`)
	f.refuses(400, "skip takes no limit", "/v1/clients/n1/skip", `{"seq":3,"limit":"5s"}`)
	f.refuses(413, "above the limit of 100", "/v1/clients/n1/replace", `{"body":"`+strings.Repeat("AAAA", 40)+`"}`)
	f.refuses(409, "there is no client n2", "/v1/clients/n2/retry", "{}")
	require.Empty(t, f.orders)
	f.takes("/v1/clients/n1/skip", `{"seq":3,"reason":"why","via":"ann"}`)
	require.Equal(t, []worker.Order{{Verb: worker.Skip, Seq: 3, Ask: true, Reason: "why", By: "192.0.2.1 (http)",
		Via: "ann", Topics: f.orders[0].Topics}}, f.orders)
	f.reply = worker.OrderReply{Ask: true, Refused: "it takes data away"}
	f.refuses(409, `"code":"confirm"`, "/v1/clients/n1/forget", `{"reason":"x"}`)
	f.Accepts = func([]byte) error { return context.Canceled }
	f.refuses(422, "no node of this group would take it", "/v1/clients/n1/replace", `{"seq":3,"body":"QQ=="}`)
}

// A retry of all is given to those who stand still, each for its own increment.
func TestARetryOfAllIsForThoseWhoStandStill(t *testing.T) {
	f := newFixture(t)
	f.clients = []worker.View{{ID: "a"}, {ID: "b", State: statedb.Failed,
		LastError: &worker.Trouble{Seq: 4, Class: "fail"}}}
	var done struct{ Retried []Retried }
	status, text := f.ask("/v1/clients/retry", `{"reason":"r"}`, &done)
	require.Equal(t, 200, status, text)
	require.Len(t, done.Retried, 1)
	require.Equal(t, "b", done.Retried[0].Client)
	require.EqualValues(t, 4, f.orders[0].Seq)
	f.refuses(400, "nothing else", "/v1/clients/retry", `{"seq":3}`)

	// Nodes that wait for their database stand still, too, one that nobody knows yet among them; they take no limit.
	waits := worker.Condition{Is: worker.IsRetrying}
	f.clients = []worker.View{{ID: "c", State: statedb.Following, Condition: waits, LastError: &worker.Trouble{}}}
	f.newcomers = []worker.View{{ID: "d", Condition: waits}, {ID: "e", Condition: worker.Condition{Is: worker.IsWaiting}}}
	_, _ = f.ask("/v1/clients/retry", `{}`, &done)
	require.Len(t, done.Retried, 2)
	require.Equal(t, "d", done.Retried[1].Client)
	require.Zero(t, f.orders[len(f.orders)-1].Seq)
	_, _ = f.ask("/v1/clients/retry", `{"limit":"1m"}`, &done)
	require.Empty(t, done.Retried)
	var p Positions
	_, _ = f.ask("/v1/positions", "", &p)
	require.Len(t, p.Clients, 1)
	require.Len(t, p.Newcomers, 2)
	var v worker.View
	_, _ = f.ask("/v1/clients/d", "", &v)
	require.Equal(t, worker.IsRetrying, v.Condition.Is)
}

// An ordered trim waits for the confirmation that all clients are back when the state store was lost, and says why
// nothing went.
func TestATrimAfterALostStateStoreIsConfirmed(t *testing.T) {
	f := newFixture(t)
	f.write(func(b *statedb.Batch) {
		b.PutMeta(statedb.Meta{Log: f.Log.ID(), Rebuilt: true})
		b.Raise(statedb.Alert{Key: RebuiltAlert, Severity: statedb.Critical, Last: 1})
	})
	f.refuses(409, "the state store was rebuilt", "/v1/log/trim", "{}")
	f.refuses(409, "xmq log trim --confirm", "/v1/alerts", `{"key":"rebuilt","do":"clear"}`)
	require.Zero(t, f.trims)
	var said map[string]any
	_, _ = f.ask("/v1/log/trim", `{"confirm":true,"via":"ann"}`, &said)
	require.Equal(t, "nothing was freed: client n1 needs it", said["note"])
	require.Equal(t, 1, f.trims)
	require.False(t, f.State.Meta().Rebuilt)
	a, _ := f.State.Alert(RebuiltAlert)
	require.Equal(t, f.now.UnixNano(), a.Cleared)
	f.freed = 2
	_, _ = f.ask("/v1/log/trim", "{}", &said)
	require.EqualValues(t, 2, said["freed_segments"])
	require.Equal(t, trimNote, said["note"])
	var audit []AuditView
	_, _ = f.ask("/v1/audit", "", &audit)
	require.Len(t, audit, 1)
	require.Equal(t, "confirm", audit[0].Verb)
	require.Equal(t, f.now.UTC(), audit[0].Time)
}

// A log that nodes speak against is accepted with a reason and a confirmation, which stand in the audit list.
func TestALogIsAcceptedWithAReason(t *testing.T) {
	f := newFixture(t)
	f.refuses(409, "nothing to accept", "/v1/log/accept", `{"confirm":true,"reason":"x"}`)
	f.doubts.Add(statedb.Witness{ID: "n1", Ahead: true, Pos: event.Position{Log: f.Log.ID(), Seq: 9}})
	f.refuses(400, "needs a reason", "/v1/log/accept", `{"confirm":true}`)
	f.refuses(409, "node n1 stands ahead", "/v1/log/accept", `{"reason":"x"}`)
	f.refuses(409, "xmq log accept", "/v1/alerts", `{"key":"held","do":"clear"}`)
	f.takes("/v1/log/accept", `{"confirm":true,"reason":"the disk is lost"}`)
	audits, err := f.State.Audits(10)
	require.NoError(t, err)
	require.Equal(t, "the disk is lost (node n1 stands ahead)", audits[0].Reason)
}

// GET /v1/log gathers what the log, the state store and the process know.
func TestTheLogIsDescribed(t *testing.T) {
	f := newFixture(t)
	f.append("a", "b", "c")
	var info LogInfo
	_, _ = f.ask("/v1/log", "", &info)
	require.EqualValues(t, 3, info.Head)
	require.EqualValues(t, 8, info.Commits)
	require.EqualValues(t, 100, info.MaxIncrement)
	require.Nil(t, info.Pin)
	f.holder = "client n1"
	_, _ = f.ask("/v1/log", "", &info)
	require.EqualValues(t, 5, *info.Pin)
	require.Equal(t, "client n1", info.Holder)
}

// slowLog is a log whose check ends when the test says so.
type slowLog struct {
	increments.Log
	begun, end chan struct{}
}

func (l *slowLog) Check(context.Context, uint64, func(uint64)) (increments.Report, error) {
	l.begun <- struct{}{}
	<-l.end
	return increments.Report{}, nil
}

// The whole log is read for one caller at a time.
func TestOneCheckOfTheLogAtATime(t *testing.T) {
	f := newFixture(t)
	slow := &slowLog{f.Log, make(chan struct{}), make(chan struct{})}
	f.Log = slow
	first := make(chan int)
	go func() { status, _ := f.ask("/v1/log/check", "{}", nil); first <- status }()
	<-slow.begun
	f.refuses(503, `"code":"busy","error":"a check of the log is running already`, "/v1/log/check", "{}")
	slow.end <- struct{}{}
	require.Equal(t, 200, <-first)
	require.Equal(t, 1, f.checks)
}

// An alert is cleared when what it says is over, and acknowledged at any time; an order about one that is not there
// is refused.
func TestAnAlertIsClearedWhenItsCauseIsOver(t *testing.T) {
	f := newFixture(t)
	f.clients = []worker.View{{ID: "n1", State: statedb.Failed}}
	f.write(func(b *statedb.Batch) {
		b.Raise(statedb.Alert{Key: "fail/n1", Client: "n1", Seq: 7, Severity: statedb.Critical, Last: 1})
	})
	f.refuses(404, "there is no alert", "/v1/alerts", `{"key":"fail/n2","do":"ack"}`)
	f.refuses(400, "acked or cleared", "/v1/alerts", `{"key":"fail/n1","do":"sing"}`)
	f.refuses(409, "client n1 is failed, and it ends with that", "/v1/alerts", `{"key":"fail/n1","do":"clear"}`)
	f.takes("/v1/alerts", `{"key":"fail/n1","do":"ack"}`)
	f.clients[0].State = statedb.Following
	f.takes("/v1/alerts", `{"key":"fail/n1","do":"clear"}`)
	a, _ := f.State.Alert("fail/n1")
	f.refuses(409, "has ended already, at ", "/v1/alerts", `{"key":"fail/n1","do":"ack"}`)
	require.True(t, a.Acked)
	require.Equal(t, f.now.UnixNano(), a.Cleared)
	var audit []AuditView
	_, _ = f.ask("/v1/audit?client=n1&since=1h", "", &audit)
	require.Len(t, audit, 2)
	require.Equal(t, "clear alert", audit[1].Verb)
	require.EqualValues(t, 7, audit[1].Seq)
	var events []EventView
	_, _ = f.ask("/v1/events?client=n1&limit=1", "", &events)
	require.Len(t, events, 1)
	require.Equal(t, statedb.AlertCleared, events[0].Kind)
}

// The status names the worst first, and is as severe as that.
func TestTheStatusNamesTheWorstFirst(t *testing.T) {
	f := newFixture(t)
	var s Status
	_, _ = f.ask("/v1/status", "", &s)
	require.Empty(t, s.Severity)
	f.standing = []AlertView{{Key: "over", Severity: statedb.Critical, Cleared: f.now},
		{Key: "note", Severity: statedb.Note}, {Key: "bad", Severity: statedb.Warning}}
	f.clients = []worker.View{{ID: "n1", Condition: worker.Condition{Is: worker.IsStopped}}}
	_, _ = f.ask("/v1/status", "", &s)
	require.Equal(t, statedb.Warning, s.Severity)
	require.Equal(t, "bad", s.Alerts[0].Key)
	require.Len(t, s.Alerts, 2)
	require.Equal(t, map[worker.Is]int{worker.IsStopped: 1}, s.Clients)
	f.input = &Input{Code: door.DiskFull, Text: "no room"}
	_, _ = f.ask("/v1/status", "", &s)
	require.Equal(t, statedb.Critical, s.Severity)
}

// A load balancer hears whether increments are taken, and who lives hears that at any time.
func TestReadyAndAliveAreTwoQuestions(t *testing.T) {
	f := newFixture(t)
	f.takes("/readyz", "")
	f.input = &Input{Code: door.DiskFull, Text: "no room"}
	f.refuses(503, "no room", "/readyz", "")
	f.takes("/healthz", "")
}

// A snapshot on its way is told by the chunks that have come, one that is complete by its size.
func TestASnapshotOnItsWayIsToldByItsChunks(t *testing.T) {
	f := newFixture(t)
	d := dumpflow.Dump{ID: 1, Target: "n1", Phase: dumpflow.Uploading, Started: f.now.Add(-time.Minute).UnixNano(),
		Requesters: []dumpflow.Requester{{ID: "n2"}}}
	f.write(func(b *statedb.Batch) { b.PutDump(d) })
	var v DumpView
	_, _ = f.ask("/v1/dumps/"+d.ID.String(), "", &v)
	require.EqualValues(t, 3*dumpflow.ChunkSize, v.Bytes)
	require.EqualValues(t, 60_000, v.DurationMS)
	require.Equal(t, []string{"n2"}, v.Waiting)
	f.clients = []worker.View{{ID: "n1"}}
	f.takes("/v1/dumps/"+d.ID.String()+"/cancel", `{"reason":"r"}`)
	require.Equal(t, worker.Cancel, f.orders[0].Verb)
	require.Equal(t, d.ID, f.orders[0].Dump)
}

// A producer's numbers begin anew with a reason, and the audit list says up to where they had come.
func TestAProducerIsReset(t *testing.T) {
	f := newFixture(t)
	f.refuses(404, "there is nothing to reset", "/v1/producers/p1/reset", `{"reason":"x"}`)
	d := event.Draft{Body: []byte("a")}
	d.Producer, d.Key = "p1", "5"
	_, err := f.Log.Append([]event.Draft{d})
	require.NoError(t, err)
	f.refuses(400, "needs a reason", "/v1/producers/p1/reset", `{}`)
	var done ProducerReset
	_, _ = f.ask("/v1/producers/p1/reset", `{"reason":"x"}`, &done)
	require.EqualValues(t, 5, *done.Highest)
	audits, err := f.State.Audits(10)
	require.NoError(t, err)
	require.EqualValues(t, 5, audits[0].Seq)
}

// An increment that a client has passed over is ordered as it stands in the log; one that it has not is refused.
func TestAnIncrementIsAppliedOutsideTheOrderAsItStands(t *testing.T) {
	f := newFixture(t)
	f.append("a", "b", "c")
	f.clients = []worker.View{{ID: "n1", Acked: 3}}
	f.write(func(b *statedb.Batch) { b.PutClient(statedb.Client{ID: "n1", State: statedb.Following}) })
	f.refuses(409, "has not passed over increment 2", "/v1/clients/n1/apply", `{"seq":2,"reason":"r"}`)
	f.write(func(b *statedb.Batch) {
		b.Audit(statedb.Audit{Time: f.now.UnixNano(), Verb: string(worker.Skip), Client: "n1", Seq: 2, Reason: "bad"})
	})
	f.takes("/v1/clients/n1/apply", `{"seq":2,"reason":"r"}`)
	rec, err := event.Encoded(f.orders[0].Record).Decode()
	require.NoError(t, err)
	require.Equal(t, "b", string(rec.Body))
	var said []string
	_, _ = f.ask("/v1/decisions/2", "", &said)
	require.Len(t, said, 1)
	require.Contains(t, said[0], "increment 2 was skipped for client n1")
	require.Equal(t, ". Earlier: "+said[0], Earlier(f.State, 2))
	f.write(func(b *statedb.Batch) {
		b.Audit(statedb.Audit{Time: f.now.UnixNano(), Verb: statedb.MayApplied.Verb(), Client: "n1", Seq: 2, Reason: "gone"})
	})
	f.takes("/v1/clients/n1/apply", `{"seq":2,"reason":"r"}`)
	require.False(t, f.orders[0].MayRun)
	require.True(t, f.orders[1].MayRun)
	// One that was not carried out is not told as done, and apply agrees.
	f.write(func(b *statedb.Batch) {
		b.Audit(statedb.Audit{Time: f.now.UnixNano(), Verb: string(worker.Skip), Client: "n1", Seq: 3, Reason: "bad"})
		b.PutClient(statedb.Client{ID: "n1", State: statedb.Following, Override: &statedb.Override{Seq: 3, Skip: true}})
	})
	_, _ = f.ask("/v1/decisions/3", "", &said)
	require.Contains(t, said[0], "increment 3 was ordered to be skipped for client n1")
	require.Contains(t, said[0], "That is not carried out yet")
	f.write(func(b *statedb.Batch) {
		b.Audit(statedb.Audit{Time: f.now.UnixNano(), Verb: "dropped skip", Client: "n1", Seq: 3, Reason: "it was moved"})
		b.PutClient(statedb.Client{ID: "n1", State: statedb.Following})
	})
	_, _ = f.ask("/v1/decisions/3", "", &said)
	require.Len(t, said, 1)
	require.Contains(t, said[0], "increment 3 was ordered to be skipped for client n1")
	require.Contains(t, said[0], "That was dropped (audit 4): it was moved")
	f.refuses(409, "has not passed over increment 3", "/v1/clients/n1/apply", `{"seq":3,"reason":"r"}`)
}

// Why a client has failed names what was decided about that increment since, too, wherever it is read.
func TestAFailureNamesWhatWasDecidedAboutItsIncrement(t *testing.T) {
	f := newFixture(t)
	f.append("a", "b")
	failed := func(id string) worker.View {
		return worker.View{ID: id, State: statedb.Failed, Acked: 1,
			LastError: &worker.Trouble{Seq: 2, Class: "fail", Text: "no such table"}}
	}
	f.clients = []worker.View{failed("n1"), {ID: "n2", State: statedb.Following, Acked: 1,
		LastError: &worker.Trouble{Seq: 2, Class: "transient", Text: "it is away"}}}
	f.write(func(b *statedb.Batch) {
		b.Audit(statedb.Audit{Time: f.now.UnixNano(), Verb: string(worker.Skip), Client: "n3", Seq: 2, Reason: "bad",
			Via: "ann@vm"})
	})
	const told = ". Earlier: increment 2 was skipped for client n3 at "
	var v worker.View
	_, _ = f.ask("/v1/clients/n1", "", &v)
	require.Contains(t, v.LastError.Text, "no such table"+told)
	require.Contains(t, v.LastError.Text, " by ann@vm (audit 1): bad")
	var p Positions
	_, _ = f.ask("/v1/positions", "", &p)
	require.Contains(t, p.Clients[0].LastError.Text, "no such table"+told)
	require.Equal(t, "it is away", p.Clients[1].LastError.Text)
	_, _ = f.ask("/v1/positions", "", &p)
	require.Equal(t, 1, strings.Count(p.Clients[0].LastError.Text, "Earlier"))
}

// An alert about an order tells of what is over: it ends when somebody has seen it. Any other one stands.
func TestAnAlertAboutAnOrderEndsWhenItIsSeen(t *testing.T) {
	f := newFixture(t)
	f.write(func(b *statedb.Batch) {
		b.Raise(statedb.Alert{Key: "order/n1", Client: "n1", Text: "too late", Last: 1})
		b.Raise(statedb.Alert{Key: "fail/n1", Client: "n1", Text: "refused", Last: 1})
	})
	for _, key := range []string{"order/n1", "fail/n1"} {
		f.takes("/v1/alerts", `{"key":"`+key+`","do":"ack"}`)
	}
	seen := map[string]bool{}
	for _, a := range f.State.Alerts() {
		require.True(t, a.Acked, a.Key)
		seen[a.Key] = a.Cleared != 0
	}
	require.Equal(t, map[string]bool{"order/n1": true, "fail/n1": false}, seen)
}

// A reader of server-sent events hears from the broker every Beat while no increment comes, so that neither side, nor
// what is between them, takes the connection for dead.
func TestAReaderOfEventsHearsABeatWhileNothingComes(t *testing.T) {
	f := newFixture(t)
	f.append("a")
	f.Beat = time.Millisecond
	server := httptest.NewServer(f.mux)
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v1/increments", nil)
	require.NoError(t, err)
	req.Header.Set("Accept", "text/event-stream")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	next := func() string {
		for lines.Scan() {
			if lines.Text() != "" {
				return lines.Text()
			}
		}
		t.Fatal("the events ended")
		return ""
	}
	require.Equal(t, ": from 2", next())
	for range 3 {
		require.Equal(t, ": the log ends at 1", next())
	}
	f.append("b")
	f.grow()
	for line := next(); line != "id: 2"; line = next() {
		require.Equal(t, ": the log ends at 1", line)
	}
	require.Contains(t, next(), `"seq":2`)
}

// Without a Beat that has passed nothing is said: what comes first after the beginning is the increment.
func TestAReaderOfEventsHearsNothingBeforeABeat(t *testing.T) {
	f := newFixture(t)
	server := httptest.NewServer(f.mux)
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v1/increments?from=0", nil)
	require.NoError(t, err)
	req.Header.Set("Accept", "text/event-stream")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	require.True(t, lines.Scan())
	require.Equal(t, ": from 1", lines.Text())
	f.append("a")
	f.grow()
	for lines.Scan() && lines.Text() == "" {
	}
	require.Equal(t, "id: 1", lines.Text())
}
