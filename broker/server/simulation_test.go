package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/bus"
	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/increments"
	"xmq/increments/segments"
	"xmq/integration/shorttest"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/statedb"
	"xmq/statedb/leveldb"
	"xmq/worker"
)

// TestSimulation runs random histories of a broker and its nodes in fake time: real log, state store, workers,
// dispatcher, chunk service and agents, on a disk in memory that a crash may tear, a network that loses, repeats,
// reorders and cuts, and databases
// that fail, come back from old backups, and join by DUMP. Afterwards every node has applied 1 to the head, each
// increment once and in order, but for those about which an operator has decided, and every answered increment is in
// the log under its number.
//
// XMQ_SEED=n repeats one history (its schedule, not every interleaving); XMQ_SEEDS=n runs more of them.
func TestSimulation(t *testing.T) {
	seeds := 25
	if shorttest.Less() {
		seeds = 6
	}
	if n, err := strconv.Atoi(os.Getenv("XMQ_SEEDS")); err == nil {
		seeds = n
	}
	first := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("XMQ_SEED"), 10, 64); err == nil {
		first, seeds = n, 1
	}
	// the packers' channels must not belong to a bubble
	_, err := dumpflow.Pack(dumpflow.Put, 0, make([]byte, 100)).Unpack()
	require.NoError(t, err)
	for i := range seeds {
		seed := first + uint64(i)
		ok := t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { newSimulation(t, seed, dir).simulate() })
		})
		if !ok {
			t.Fatalf("repeat with XMQ_SEED=%d go test ./broker/server -run TestSimulation", seed)
		}
	}
}

// XD-9: "No timeout, no second send: one lost reply stalls the pair. Each message lost once: all goes on." A history
// with a master, a DUMP, an increment that fails and is tried again, and a clean restart of the broker is played once
// for every message in it, with that one lost.
func TestXD09EachMessageLostOnce(t *testing.T) {
	_, err := dumpflow.Pack(dumpflow.Put, 0, make([]byte, 100)).Unpack() // see TestSimulation
	require.NoError(t, err)
	history := func(t *testing.T, lose int) (messages int) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			s := newSimulation(t, 1, dir)
			s.network.SetFaults(bus.Faults{LoseNth: lose})
			s.startBroker()
			s.publish(20)
			s.addNode("master", "")
			time.Sleep(3 * time.Second)
			s.addNode("n1", "master")
			s.publish(20)
			time.Sleep(3 * time.Second)
			s.nodes["n1"].db.FailOnce(45)
			s.publish(10)
			time.Sleep(3 * time.Second)
			messages = s.network.Sent()
			s.heal()
			s.judge()
			_, loads, _ := s.nodes["n1"].db.Counts()
			require.GreaterOrEqual(t, loads, 1)
			for _, n := range s.nodes {
				n.stop()
			}
			s.up.stop()
			time.Sleep(3 * time.Second)
		})
		return messages
	}
	n := history(t, 0)
	require.Greater(t, n, 30)
	step := 1
	if shorttest.Less() {
		step = 5
	}
	for k := 1; k <= n; k += step {
		if !t.Run(fmt.Sprint("message ", k), func(t *testing.T) { history(t, k) }) {
			return
		}
	}
}

type simulation struct {
	t       *testing.T
	rng     *rand.Rand
	dir     string
	network *bus.Mem
	log     *disktest.Memory
	state   *disktest.Memory
	up      *simBroker
	nodes   map[string]*simNode
	names   []string

	acked map[uint64]string // what a producer was told: sequence and body
	// ordered are the increments that were to be skipped or replaced somewhere: the order may have come too late, and a
	// DUMP carries what it did to other nodes.
	ordered map[uint64]map[worker.Verb]bool
	next    int // number of the next body
	story   []string
}

func newSimulation(t *testing.T, seed uint64, dir string) *simulation {
	return &simulation{t: t, rng: rand.New(rand.NewPCG(seed, 3)), dir: dir, network: bus.NewMem(seed),
		log: disktest.NewMemory(), state: disktest.NewMemory(),
		nodes: map[string]*simNode{}, acked: map[uint64]string{}, ordered: map[uint64]map[worker.Verb]bool{}}
}

func (s *simulation) tell(format string, args ...any) {
	s.story = append(s.story, fmt.Sprintf("%s  %s", time.Now().Format("04:05.000"), fmt.Sprintf(format, args...)))
}

func (s *simulation) simulate() {
	defer func() {
		if s.t.Failed() {
			for _, line := range s.story {
				s.t.Log(line)
			}
		}
	}()
	s.startBroker()
	s.addNode("master", "")
	s.publish(20)
	for range 60 {
		s.act()
		time.Sleep(time.Duration(s.rng.IntN(1500)) * time.Millisecond)
	}
	s.heal()
	s.judge()
	var fails, loads, backs int
	for _, n := range s.nodes {
		f, l, b := n.db.Counts()
		fails, loads, backs = fails+f, loads+l, backs+b
	}
	s.t.Logf("%d increments from %d on, %d nodes, %d failures, %d snapshots loaded, %d old backups", s.next,
		s.up.log.First(), len(s.names), fails, loads, backs)
	for _, n := range s.nodes {
		n.stop()
	}
	s.up.stop()
	time.Sleep(3 * time.Second) // goroutines of goleveldb outlive Close by a second
}

// act does one thing at random.
func (s *simulation) act() {
	n := s.nodes[s.names[s.rng.IntN(len(s.names))]]
	switch p := s.rng.IntN(100); {
	case p < 40:
		s.publish(1 + s.rng.IntN(40))
	case p < 48:
		bad := bus.Faults{Lose: s.rng.Float64() * 0.3, Repeat: s.rng.Float64() * 0.3,
			Delay: time.Duration(s.rng.IntN(400)) * time.Millisecond}
		s.tell("network: %+v", bad)
		s.network.SetFaults(bad)
	case p < 55:
		s.tell("network is good")
		s.network.SetFaults(bus.Faults{})
	case p < 62:
		s.tell("%s killed and started", n.id)
		n.kill()
		n.start()
	case p < 67:
		s.tell("%s cut off", n.id)
		s.network.Cut(n.id, true)
	case p < 73:
		s.tell("everybody reachable")
		for _, id := range s.names {
			s.network.Cut(id, false)
		}
	case p < 80:
		s.tell("broker: kill -9")
		s.crashBroker(func(m *disktest.Memory) *disktest.Memory { return m.Copy() })
	case p < 85:
		s.tell("broker: power cut")
		s.crashBroker(func(m *disktest.Memory) *disktest.Memory { return m.Crash(s.rng) })
	case p < 88:
		s.tell("broker: clean restart")
		s.up.stop()
		s.startBroker()
	case p < 92 && len(s.names) < 5:
		from := s.names[s.rng.IntN(len(s.names))]
		id := fmt.Sprint("n", len(s.names))
		s.tell("%s joins from %s", id, from)
		s.addNode(id, from)
	case p < 95 && n.id != "master": // the one copy that was never lost: retention may have passed the backup
		s.tell("%s: its database is restored from an old backup", n.id)
		n.kill()
		n.db.Rollback(s.rng)
		n.start()
	case p < 98:
		seq := s.up.log.Head().Seq + 1 + uint64(s.rng.IntN(5))
		s.tell("%s will fail once at %d", n.id, seq)
		n.db.FailOnce(seq)
	default:
		s.decide(n.id)
	}
	if s.rng.IntN(12) == 0 {
		seq := n.db.Position().Seq + 1 + uint64(s.rng.IntN(5))
		s.tell("%s will sit at %d", n.id, seq)
		n.db.Stick(seq)
	}
	if s.rng.IntN(6) == 0 {
		s.decide(n.id)
	}
}

// decide gives an order about one of the increments at which a node may be.
func (s *simulation) decide(id string) {
	o := worker.Order{Verb: []worker.Verb{worker.Retry, worker.Skip, worker.Replace}[s.rng.IntN(3)], Reason: "chance",
		Seq: s.nodes[id].db.Position().Seq + uint64(s.rng.IntN(4))}
	if o.Verb == worker.Replace {
		o.Body = fmt.Appendf(nil, "instead of %d", o.Seq)
	}
	if s.ordered[o.Seq] == nil {
		s.ordered[o.Seq] = map[worker.Verb]bool{}
	}
	s.ordered[o.Seq][o.Verb] = true // whatever is answered
	refused, err := s.order(id, o)
	s.tell("operator: %s %d at %s: %q, %v", o.Verb, o.Seq, id, refused, err)
}

// order gives an order; nobody relies on its answer.
func (s *simulation) order(id string, o worker.Order) (refused string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	a, err := s.up.pool.Order(ctx, id, o)
	return a.Refused, err
}

// publish appends k increments as one group, repeating with the same keys while the outcome is unknown.
func (s *simulation) publish(k int) {
	drafts := make([]event.Draft, k)
	for i := range drafts {
		s.next++
		drafts[i] = event.Draft{Headers: event.Headers{Producer: "p", Key: fmt.Sprint(s.next)},
			Body: fmt.Appendf(nil, "body %d %x", s.next, s.rng.Uint64())}
	}
	out, err := s.up.log.Append(drafts)
	require.NoError(s.t, err)
	for i, o := range out {
		require.NoError(s.t, o.Err)
		s.acked[o.Seq] = string(drafts[i].Body)
	}
	s.up.pool.Wake()
}

// heal makes everything good again and waits until everybody is level.
func (s *simulation) heal() {
	s.tell("all is healed")
	s.network.SetFaults(bus.Faults{})
	for _, id := range s.names {
		s.network.Cut(id, false)
		s.nodes[id].db.FailOnce(0)
		s.nodes[id].db.Stick(0)
	}
	for end := time.Now().Add(10 * time.Minute); ; time.Sleep(time.Second) {
		level := true
		head := s.up.log.Head()
		for _, id := range s.names {
			if n := s.nodes[id]; n.db.Position() != head {
				level = false
				_, _ = s.order(id, worker.Order{Verb: worker.Retry}) // whoever failed
				if v, known, err := s.up.pool.View(context.Background(), id); err == nil && known && v.Order != nil {
					// one about another increment is taken back, or that of which the node sits is refused
					_, _ = s.order(id, worker.Order{Verb: worker.Retry, Seq: v.Order.Seq})
				}
				// whoever sits in one
				_, _ = s.order(id, worker.Order{Verb: worker.Retry, Seq: n.db.Position().Seq + 1})
				if n.ended() {
					s.t.Fatalf("%s has ended: %v", id, n.err)
				}
			}
		}
		if level {
			return
		}
		if time.Now().After(end) {
			views, err := s.up.pool.Views(context.Background())
			s.t.Fatalf("not level after 10 minutes: head %d, %+v, %v", head.Seq, views, err)
		}
	}
}

func (s *simulation) judge() {
	head := s.up.log.Head().Seq
	require.EqualValues(s.t, s.next, head, "every increment is in the log once")
	bodies := make([]string, head)
	for seq, body := range s.acked {
		bodies[seq-1] = body
		if e, err := s.up.log.Read(seq, 1, 1); err == nil {
			require.Equal(s.t, body, string(e[0].Body()), "what was answered as %d", seq)
		} else {
			require.ErrorIs(s.t, err, increments.ErrTrimmed)
		}
	}
	for _, id := range s.names {
		require.Equal(s.t, bodies, s.undecided(bodies, s.nodes[id].db.Bodies()),
			"%s has applied each increment once and in order", id)
	}
	for _, d := range s.up.state.Dumps() {
		require.False(s.t, d.Running(), "DUMP %s still runs", d.ID)
	}
}

// undecided is applied with the increments of the log in the places of those that an operator had skipped or replaced.
func (s *simulation) undecided(log, applied []string) (all []string) {
	for i, body := range log {
		seq := uint64(i + 1)
		switch {
		case len(applied) > 0 && applied[0] == body:
			applied = applied[1:]
		case len(applied) > 0 && s.ordered[seq][worker.Replace] && applied[0] == fmt.Sprint("instead of ", seq):
			applied = applied[1:]
		case s.ordered[seq][worker.Skip]:
		default:
			return append(all, applied...)
		}
		all = append(all, body)
	}
	return append(all, applied...)
}

// --- the broker of a simulation: all parts but the sockets ---

type simBroker struct {
	dead    *atomic.Bool // nothing it does has an effect any more
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	conn    bus.Conn
	log     increments.Log
	state   statedb.Store
	staging *dumpflow.Staging
	pool    *worker.Pool
	chunks  *chunkService
}

var errCrashed = errors.New("crashed")

func (s *simulation) startBroker() {
	dead := new(atomic.Bool)
	hook := func(disktest.Op) error {
		if dead.Load() {
			return errCrashed
		}
		return nil
	}
	small := disk.Options{WriteBuffer: 32 << 10, TableSize: 32 << 10, SyncLimit: time.Hour}
	storage := disk.NewStorage(small)
	b := &simBroker{dead: dead, conn: s.network.Connect(Self)}
	o := segments.Options{MaxRecords: 60, RingBytes: 4 << 10}
	place := disktest.Hooked(s.log, hook)
	var err error
	if b.log, err = segments.Open(place, storage, o); errors.Is(err, os.ErrNotExist) {
		b.log, err = segments.Create(place, storage, o)
	}
	require.NoError(s.t, err)
	b.state, err = leveldb.OpenOrCreate(storage, disktest.Hooked(s.state, hook), statedb.Options{})
	require.NoError(s.t, err)
	require.NoError(s.t, b.log.VerifyCheckpoint(b.state.Checkpoint()))
	b.staging, err = dumpflow.OpenStaging(filepath.Join(s.dir, "staging"), nil)
	require.NoError(s.t, err)

	quiet := slog.New(slog.DiscardHandler)
	d := newDispatcher("main", b.conn, quiet)
	rules := worker.Rules{Group: "main", Masters: []string{"master"}, Tick: time.Second, SilentTicks: 15, LeaseTicks: 10,
		DumpTicks: 600, MaxDumps: 4,
		SnapshotTTL: 20 * time.Second, TurnRecords: 16, TurnBytes: 2 << 10, RunningDumps: func() int { return 0 }}
	env := worker.Env{Log: b.log, Now: time.Now, Tick: time.Second, SaveEvery: 200 * time.Millisecond,
		Save: b.state.Write,
		Send: func(e *event.Event) {
			if !dead.Load() {
				d.send(e)
			}
		},
		Discard: func(id event.DumpID) {
			if !dead.Load() {
				b.staging.Drop(id, "the DUMP is over")
			}
		}}
	b.pool = worker.NewPool(2, rules, env, b.state.Clients(), b.state.Dumps())
	d.post = b.pool.Post
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	whole := &Broker{cfg: new(Config), started: time.Now(),
		stores: &stores{log: b.log, state: b.state, staging: b.staging}, pool: b.pool, log: quiet}
	whole.live.Store(whole.cfg)
	whole.newMonitor()
	whole.reconcile()
	b.chunks = newChunkService(ctx, "main", b.conn, whole.stores, b.pool, quiet)
	for _, w := range b.pool.Workers() {
		b.wg.Go(func() { _ = w.Run(ctx) }) // a crashed one ends with the error of its save
	}
	b.wg.Go(func() { // the watch's checkpoint, and retention
		for tick := time.NewTicker(time.Second); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
				_ = whole.watcher.Checkpoint() // both fail after a crash
				_, _ = whole.trimmer.Trim()
			}
		}
	})
	_, err = b.conn.Subscribe(event.AnySubject("main", event.Up), func(m bus.Msg) {
		if !dead.Load() {
			d.up(m)
		}
	})
	require.NoError(s.t, err)
	_, err = b.conn.Subscribe(event.AnySubject("main", event.Snap), func(m bus.Msg) {
		if !dead.Load() {
			b.chunks.take(m)
		}
	})
	require.NoError(s.t, err)
	s.up = b
}

func (b *simBroker) stop() {
	b.conn.Close()
	b.cancel()
	b.wg.Wait()
	b.chunks.wait()
	b.staging.Close()
	_, _ = b.state.Close(), b.log.Close() // of a crashed one they may fail
}

// crashBroker ends the broker at this instant: what it does from now on has no effect, and its disks are what a kill
// or a power cut leaves.
func (s *simulation) crashBroker(after func(*disktest.Memory) *disktest.Memory) {
	s.up.dead.Store(true)
	s.log, s.state = after(s.log), after(s.state)
	s.up.stop()
	s.startBroker()
}

// --- a node of a simulation ---

type simNode struct {
	s        *simulation
	id, from string
	db       *drivertest.Memory
	conn     bus.Conn
	cancel   context.CancelFunc
	done     chan struct{}
	err      error
}

func (s *simulation) addNode(id, from string) {
	n := &simNode{s: s, id: id, from: from, db: drivertest.NewMemory()}
	s.nodes[id], s.names = n, append(s.names, id)
	n.start()
}

func (n *simNode) start() {
	n.conn = n.s.network.Connect(n.id)
	a, err := nodeclient.New(n.conn, n.db.Open(),
		nodeclient.Options{ID: n.id, From: n.from, Driver: "mem", WindowRecords: 30, WindowBytes: 4096, BatchRecords: 7,
			Silence: 12, MaxBackoff: 5, Log: slog.New(slog.DiscardHandler)})
	require.NoError(n.s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.cancel, n.done = cancel, done
	go func() {
		n.err = a.Run(ctx)
		close(done)
	}()
}

func (n *simNode) ended() bool {
	select {
	case <-n.done:
		return true
	default:
		return false
	}
}

// kill ends it without a word: its connection goes first, and its database takes nothing more from it.
func (n *simNode) kill() {
	n.conn.Close()
	n.db.Detach()
	n.cancel()
	<-n.done
}

func (n *simNode) stop() {
	n.cancel()
	<-n.done
	n.conn.Close()
}
