package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/increments"
	"xmq/statedb"
)

// network is a pool with nodes in memory that apply at once, unless they are told to stall.
type network struct {
	pool *Pool
	log  *memLog

	mu      sync.Mutex
	pos     map[string]event.Position
	stalled map[string]bool
	saves   int // that were not empty
	failing error
	sent    int
	dump    event.DumpID
}

func newNetwork(workers, records int, clients ...string) *network {
	n := &network{log: newLog(records), pos: map[string]event.Position{}, stalled: map[string]bool{}}
	rules := Rules{Group: "main", Masters: []string{"master"}, Tick: time.Second, SilentTicks: 15, LeaseTicks: 5,
		DumpTicks: 60, MaxDumps: 4, SnapshotTTL: time.Minute,
		TurnRecords: 50, TurnBytes: 1 << 16, RunningDumps: func() int { return 0 }}
	env := Env{Log: n.log, Now: time.Now, Tick: time.Second, SaveEvery: 100 * time.Millisecond, Send: n.hear,
		Discard: func(event.DumpID) {}, Save: n.save}
	var stored []statedb.Client
	for _, id := range clients {
		stored = append(stored, statedb.Client{V: statedb.ClientVersion, ID: id, State: statedb.Following,
			Acked: n.log.at(0)})
		n.pos[id] = n.log.at(0)
	}
	n.pool = NewPool(workers, rules, env, stored, nil)
	return n
}

func (n *network) save(b *statedb.Batch) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !b.Empty() {
		n.saves++
	}
	return n.failing
}

// run starts the workers and returns how to stop them.
func (n *network) run(t testing.TB) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, len(n.pool.Workers()))
	for _, w := range n.pool.Workers() {
		go func() { ended <- w.Run(ctx) }()
	}
	return func() error {
		cancel()
		var all error
		for range n.pool.Workers() {
			all = errors.Join(all, <-ended)
		}
		return all
	}
}

func session(id string) event.Session {
	return event.Session{Instance: event.Instance(len(id) + 1), Turn: 1}
}

func (n *network) open(id string, pos event.Position) {
	n.pool.Post(id, Input{Node: &event.Event{Kind: event.IncrReq, ID: id, Session: session(id), Pos: pos}})
}

// hear is a node that hears something.
func (n *network) hear(e *event.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent++
	if n.stalled[e.ID] {
		return
	}
	answer := event.Event{Kind: event.IncrReq, State: event.Succ, ID: e.ID, Session: e.Session, CreditRecords: 100,
		CreditBytes: 1 << 20}
	switch {
	case e.Kind == event.DumpReq && e.Code == event.NoCode:
		n.dump = e.Dump
		answer = event.Event{Kind: event.DumpRep, State: event.Succ, Code: event.Opened, ID: e.ID, Session: e.Session,
			Dump: e.Dump, Pos: n.pos[e.ID],
			Body: dumpflow.Opened{Format: "mem/1"}.Encode()}
	case e.Kind != event.IncrRep:
		return
	case e.Code == event.Welcome:
		n.pos[e.ID] = e.Pos
	case e.Code == event.Reopen:
		answer.State, answer.Pos = event.None, n.pos[e.ID]
		answer.Session.Turn++
		n.post(e.ID, answer)
		return
	case e.Code != event.NoCode || len(e.Body) == 0 || e.Pos != n.pos[e.ID]:
		return
	default:
		pos := e.Pos
		_ = event.Walk(e.Body, e.Pos, func(i event.Item) error { pos = i.Pos; return nil })
		n.pos[e.ID] = pos
	}
	if answer.Kind == event.IncrReq {
		answer.Pos = n.pos[e.ID]
	}
	n.post(e.ID, answer)
}

func (n *network) post(id string, e event.Event) { n.pool.Post(id, Input{Node: &e}) }

func (n *network) at(id string) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pos[id].Seq
}

func (n *network) saved() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.saves
}

func (n *network) heard() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent
}

func (n *network) grow(k int) {
	n.log.push(k, "")
	n.pool.Wake()
}

func names(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("node-%d", i))
	}
	return ids
}

// What must be durable before comes before: when the save fails, nothing of Send, Route, Answers and Discard leaves.
func TestNothingLeavesWhenTheSaveFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, 5, "n1")
		n.failing = errors.New("disk full")
		discarded := 0
		n.pool.workers[0].env.Discard = func(event.DumpID) { discarded++ }
		n.pool.workers[0].route = func(string, Input) { t.Error("something was routed") }
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		unknown := make(chan error, 1)
		go func() {
			_, err := n.pool.Order(ctx, "n1", Order{Verb: SeekTo, Seq: 2})
			unknown <- err
		}()
		synctest.Wait() // the order is in the inbox
		n.open("n1", n.log.at(0))
		n.pool.Post("n1", Input{Asked: &event.Event{Kind: event.DumpReq, ID: "n1", Peer: "n2", Request: 7}})
		ended := make(chan error, 1)
		go func() { ended <- n.pool.workers[0].Run(t.Context()) }()
		require.ErrorContains(t, <-ended, "disk full")
		require.ErrorIs(t, <-unknown, context.DeadlineExceeded)
		require.Zero(t, n.sent+discarded)
		require.Equal(t, 1, n.saved())
	})
}

// One worker, one dumping and one stalled client: the third keeps its latency (XC-6, XE-9, SS-9, SS-26).
func TestXC06XE09SS09OneClientNeverDelaysAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, 0, "dumping", "stalled", "third")
		stop := n.run(t)
		for _, id := range []string{"dumping", "stalled", "third"} {
			n.open(id, n.log.at(0))
		}
		synctest.Wait()
		n.mu.Lock()
		n.stalled["stalled"] = true
		n.mu.Unlock()
		n.pool.Post("dumping", Input{Asked: &event.Event{Kind: event.DumpReq, ID: "dumping", Peer: "new", Request: 7}})
		synctest.Wait()
		v, _, err := n.pool.View(t.Context(), "dumping")
		require.NoError(t, err)
		require.Equal(t, statedb.Dumping, v.State, "a plain target is held for the whole copy")
		began := time.Now()
		for i := range 100 {
			n.grow(10)
			synctest.Wait()
			require.EqualValues(t, 10*(i+1), n.at("third"))
		}
		require.Zero(t, time.Since(began), "nothing was waited for")
		require.Zero(t, n.at("dumping"))
		n.pool.Post("dumping", Input{Sealed: &dumpflow.Manifest{Dump: n.dump}})
		synctest.Wait()
		require.EqualValues(t, 1000, n.at("dumping"))
		require.NoError(t, stop())
	})
}

// 200 nodes on 2 workers all advance; anagram IDs spread; an ID always meets the same worker (XD-21).
func TestXD21AllAdvanceAndAnagramsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := names(200)
		n := newNetwork(2, 500, ids...)
		stop := n.run(t)
		for _, id := range ids {
			n.open(id, n.log.at(0))
		}
		synctest.Wait()
		for _, id := range ids {
			require.EqualValues(t, 500, n.at(id), id)
		}
		views, err := n.pool.Views(t.Context())
		require.NoError(t, err)
		count := map[int]int{}
		for _, v := range views {
			count[v.Worker]++
			require.Equal(t, n.pool.Number(v.ID), v.Worker)
		}
		require.InDelta(t, 100, count[0], 40)
		require.NoError(t, stop())
	})
	p, seen := newNetwork(8, 0).pool, map[int]bool{}
	for _, id := range []string{"abcd", "abdc", "acbd", "acdb", "adbc", "adcb", "bacd", "badc", "bcad", "bcda", "bdac",
		"bdca"} {
		seen[p.Number(id)] = true
		require.Equal(t, p.Number(id), p.Number(id))
	}
	require.Greater(t, len(seen), 3)
}

// An idle node gets a new increment without polling: no time passes, nothing is said meanwhile (XI-5).
func TestXI05AnIdleClientGetsTheNextIncrementAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, 3, "n1")
		stop := n.run(t)
		n.open("n1", n.log.at(0))
		synctest.Wait()
		said := n.heard()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, said, n.heard())
		began := time.Now()
		n.grow(1)
		synctest.Wait()
		require.EqualValues(t, 4, n.at("n1"))
		require.Zero(t, time.Since(began))
		require.NoError(t, stop())
	})
}

// Every ack is written down soon, many share one write; a clean stop writes what is left (XI-7).
func TestXI07AcksShareOneSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := names(50)
		n := newNetwork(1, 0, ids...)
		stop := n.run(t)
		for _, id := range ids {
			n.open(id, n.log.at(0))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		before := n.saved()
		n.grow(10)
		synctest.Wait()
		require.Equal(t, before, n.saved(), "acked may lag")
		time.Sleep(101 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, before+1, n.saved(), "one batch for all of them, in time")
		n.grow(1)
		synctest.Wait()
		require.NoError(t, stop())
		require.Equal(t, before+2, n.saved())
	})
}

// A log whose disk fails stops the worker; it does not send its clients into a DUMP.
func TestAFailingLogStopsTheWorkerAndHurtsNoClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, 5, "n1")
		n.pool.workers[0].env.Log = brokenLog{n.log}
		stop := n.run(t)
		n.open("n1", n.log.at(0))
		synctest.Wait()
		require.ErrorContains(t, stop(), "input/output error")
	})
}

// What cannot be read now is tried again at the next tick, not sooner, and not later than that.
func TestWhatCannotBeReadNowIsReadAtALaterTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, 5, "n1")
		log := &lateLog{memLog: n.log}
		log.late.Store(true)
		n.pool.workers[0].env.Log = log
		stop := n.run(t)
		n.open("n1", n.log.at(0))
		synctest.Wait()
		for range 20 {
			n.grow(1)
			synctest.Wait()
		}
		require.EqualValues(t, 1, log.reads.Load(), "news in the log and words of nodes are no reason to try")
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		require.LessOrEqual(t, log.reads.Load(), int64(12))
		require.GreaterOrEqual(t, log.reads.Load(), int64(9))
		require.Zero(t, n.at("n1"))
		log.late.Store(false)
		time.Sleep(time.Second)
		synctest.Wait()
		require.EqualValues(t, 25, n.at("n1"))
		v, _, err := n.pool.View(t.Context(), "n1")
		require.NoError(t, err)
		require.Equal(t, statedb.Following, v.State)
		require.NoError(t, stop())
	})
}

type lateLog struct {
	*memLog
	late  atomic.Bool
	reads atomic.Int64
}

func (l *lateLog) Read(from uint64, maxRecords, maxBytes int) ([]event.Encoded, error) {
	if l.late.Load() {
		if maxRecords > 1 { // View asks for one
			l.reads.Add(1)
		}
		return nil, increments.ErrLater
	}
	return l.memLog.Read(from, maxRecords, maxBytes)
}

type brokenLog struct{ *memLog }

func (brokenLog) Read(uint64, int, int) ([]event.Encoded, error) {
	return nil, errors.New("input/output error")
}

// Joins, FATALs, reconnects at random under the race detector (XD-15).
func TestXD15JoinsFatalsAndReconnectsAtRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	n := newNetwork(4, 200, append(names(20), "master")...)
	stop := n.run(t)
	var speakers sync.WaitGroup
	for i := range uint64(4) {
		speakers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, i))
			for range 2000 {
				id, other := fmt.Sprintf("node-%d", rng.IntN(25)), fmt.Sprintf("node-%d", rng.IntN(25))
				s := event.Session{Instance: event.Instance(1 + rng.IntN(3)), Turn: uint32(1 + rng.IntN(3))}
				at, _ := n.log.Position(rng.Uint64N(200))
				switch rng.IntN(6) {
				case 0:
					n.post(id, event.Event{Kind: event.IncrReq, ID: id, Session: s, Pos: at})
				case 1:
					n.post(id, event.Event{Kind: event.IncrReq, State: event.State(1 + rng.IntN(3)), ID: id, Session: s, Pos: at,
						CreditRecords: 10, CreditBytes: 1000})
				case 2:
					n.pool.Post(other, Input{Asked: &event.Event{Kind: event.DumpReq, ID: other, Peer: id,
						Request: event.RequestID(1 + rng.Uint64N(1<<40))}})
				case 3:
					n.grow(1)
				case 4:
					_, _ = n.pool.Order(t.Context(), id,
						Order{Verb: []Verb{Retry, Forget, Redump, SeekTo, Cancel}[rng.IntN(5)], Seq: 1 + rng.Uint64N(200)})
				default:
					_, err := n.pool.Views(t.Context())
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	speakers.Wait()
	require.NoError(t, stop())
}

// BenchmarkIdleClients is 10,000 clients that wait: bytes of memory each, and what it costs to bring one increment
// to all of them.
func BenchmarkIdleClients(b *testing.B) {
	const clients = 10000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := newStage(1)
	rules := s.rules
	w := newWorker(0, &rules, &Env{Log: s.log, Now: time.Now, Send: func(*event.Event) {},
		Save: func(*statedb.Batch) error { return nil }, Tick: time.Second, SaveEvery: time.Second}, nil)
	w.save = time.NewTimer(time.Hour)
	for _, id := range names(clients) {
		w.restore(id, &statedb.Client{ID: id, State: statedb.Following, Acked: s.log.at(1)}, nil)
		m := w.tasks[id].machine
		m.presence.open, m.client.Session = true, session(id)
		m.window.grant(1<<30, 1<<30)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() {
		s.log.push(1, "")
		for _, t := range w.tasks {
			t.machine.rewind()
			t.machine.window.sent = s.log.at(s.log.head().Seq - 1)
			w.enqueue(t)
		}
		for len(w.queue) > 0 {
			if err := w.round(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/clients, "B/client")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/clients, "ns/client")
}

// BenchmarkTurn is one client's turn of 100 increments; its allocations do not grow with their number.
func BenchmarkTurn(b *testing.B) {
	for _, records := range []int{1, 100} {
		b.Run(fmt.Sprint(records), func(b *testing.B) {
			l := newLog(records)
			f := &Feed{From: event.Start(l.id), MaxRecords: records, MaxBytes: 1 << 20, Window: 1 << 30}
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				body, end, _, err := appendFrame(buf[:0], l, f)
				if err != nil || end.Seq != uint64(records) {
					b.Fatal(end, err)
				}
				buf = body
			}
		})
	}
}
