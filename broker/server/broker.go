package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc"

	"xmq/broker/api"
	"xmq/broker/bus"
	"xmq/broker/door"
	natsdoor "xmq/broker/door/nats"
	"xmq/broker/event"
	"xmq/broker/monitor"
	"xmq/broker/secret"
	"xmq/dumpflow"
	"xmq/statedb"
	"xmq/worker"
)

// Self is the broker's own name on the network.
const Self = "broker"

// Broker is one running broker. Open makes it, Run serves.
type Broker struct {
	cfg     *Config                // as it was at the start
	live    atomic.Pointer[Config] // with what Reload has changed
	changed bell                   // Reload has
	log     *slog.Logger
	started time.Time

	stores *stores
	server *server.Server // nil with an external one
	doors  *natsgo.Conn   // of the NATS door
	conn   bus.Conn
	http   net.Listener
	pprof  net.Listener // nil for none

	caps      caps         // of connections
	httpConns *connCounter // at all HTTP listeners
	budget    *door.Budget // of all doors
	flight    *worker.Budget
	marks     worker.Marks

	claim claim
	rival chan claim // one that this broker has to give way to

	ingest    *ingest
	dispatch  *dispatcher
	chunks    *chunkService
	admission *worker.ClientQuota
	doubts    *worker.Doubts
	decide    sync.Mutex    // guards what the doors are told of the doubts
	doubted   chan struct{} // they have changed
	pool      *worker.Pool
	keeping   *monitor.Keeping
	alerts    *monitor.Alerts
	trimmer   *monitor.Trimmer
	care      *monitor.Care
	watcher   *monitor.Watcher
	hooks     *monitor.Notifier
	publish   *natsdoor.Door
	api       *api.Handler

	poisoned     chan error // the storage has failed
	ready        atomic.Bool
	moved        bell          // the head of the log has moved
	leaving      chan struct{} // closed when the broker begins to stop
	starvedSince atomic.Int64  // since when the log waits for a file descriptor, in ns since 1970; 0: it does not
	progress     progress
	flow         monitor.Rate // of increments into the log
}

// Open opens the stores and all addresses. Nothing is served before Run. Errors are classed by IsTemporary (75),
// IsDamage (78) and IsStorage (74); others are of the configuration. After a failed write nothing is closed: the
// process ends.
func Open(cfg Config, log *slog.Logger) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	b := &Broker{cfg: &cfg, log: log, started: time.Now(), rival: make(chan claim, 1), poisoned: make(chan error, 1),
		hooks:     monitor.NewNotifier(cfg.Hooks, log),
		admission: worker.NewClientQuota(cfg.MaxClients), doubted: make(chan struct{}, 1), leaving: make(chan struct{})}
	b.live.Store(&cfg)
	err := classed(b.open())
	if b.stores != nil && err == nil {
		err = b.stores.storage.Latch().Err() // a compaction has failed meanwhile
	}
	if IsStorage(err) {
		return nil, fmt.Errorf("the storage has failed at the start; make sure that the disk has room and answers, then "+
			"start again (a full disk: %s): %w", reserveOf(b.cfg.Data), err)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *Broker) open() (err error) {
	poison := func(err error) {
		select {
		case b.poisoned <- err:
		default:
		}
	}
	if b.caps, err = connectionCaps(b.cfg, b.log); err != nil {
		return err
	}
	b.flight = worker.NewBudget(b.cfg.MemoryLimit / 4)
	b.httpConns, b.budget = newConnCounter(b.caps.http, b.cfg.HTTPConnsPerAddress), door.NewBudget(b.cfg.inflight())
	if b.stores, err = openStores(b.cfg, b.log, poison, b.hooks.Notify); err != nil {
		return err
	}
	b.newMonitor()
	b.hooks.Remember(b.alerts.Standing(), time.Now())
	if err := b.trimmer.RecordMaxBytes(); err != nil {
		return err
	}
	if b.http, err = listen("http_addr", b.cfg.HTTPAddr); err != nil {
		return err
	}
	if b.cfg.Pprof != "" {
		if b.pprof, err = listen("pprof", b.cfg.Pprof); err != nil {
			return err
		}
		b.log.Info("profiles are served", "pprof", "http://"+b.pprof.Addr().String()+"/debug/pprof/")
	}
	if err := b.connect(); err != nil {
		return err
	}
	b.claim = claim{b.started.UnixNano(), b.stores.log.ID(), rand.Uint64()}
	b.ingest = newIngest(b.stores.log, func() { b.pool.Wake(); b.moved.ring() }, b.cfg.MaxIncrement,
		int64(b.cfg.QueueCount), int64(b.cfg.QueueBytes))
	b.ingest.starved = b.stores.storage.Short
	b.newDoubts()
	b.dispatch = newDispatcher(b.cfg.Group, b.conn, b.log)
	b.dispatch.wrote = b.care.WroteBackup
	b.pool = b.newPool()
	b.hooks.View = b.alerts.Shown
	b.dispatch.post = b.pool.Post
	b.api = b.newHandler()
	b.reconcile()
	return nil
}

// Accept lets all doors refuse, with code Unfit, what check refuses. It is called before Run; check is called by many
// goroutines at a time.
func (b *Broker) Accept(check func(body []byte) error) {
	b.ingest.accepts, b.api.Accepts = check, check
}

// Kinds are the kinds of database that the known clients have.
func (b *Broker) Kinds() []string {
	var all []string
	for _, c := range b.stores.state.Clients() {
		if c.Driver != "" && !slices.Contains(all, c.Driver) {
			all = append(all, c.Driver)
		}
	}
	return all
}

// connect starts the embedded NATS server, or uses the external one, and connects to it twice: for events, and
// for the NATS door, whose load must not delay events.
func (b *Broker) connect() (err error) {
	url, extra := b.cfg.NATSURL, []natsgo.Option(nil)
	if url == "" {
		if b.server, err = startNATS(b.cfg, b.caps.nats, b.log); err != nil {
			return err
		}
		url, extra = b.server.ClientURL(), []natsgo.Option{natsgo.InProcessServer(b.server)}
	}
	if b.conn, err = bus.Dial(url, Self, extra...); err != nil {
		return err
	}
	b.doors, err = natsgo.Connect(url, append(extra, natsgo.Name("xmq "+Self+" door"), natsgo.MaxReconnects(-1),
		natsgo.RetryOnFailedConnect(true), natsgo.ErrorHandler(func(*natsgo.Conn, *natsgo.Subscription, error) {}))...)
	if err != nil {
		return fmt.Errorf("connect to NATS at %s: %w", secret.URL(url), secret.Hide(err, url))
	}
	return nil
}

func (b *Broker) newPool() *worker.Pool {
	c, s := b.cfg, b.stores
	ticks := func(d time.Duration) int { return int((d + c.Tick - 1) / c.Tick) }
	rules := worker.Rules{Group: c.Group, Masters: c.Masters, Tick: c.Tick, SilentTicks: ticks(c.Silent),
		LeaseTicks: ticks(c.Lease), DumpTicks: ticks(c.DumpLimit),
		MaxDumps: c.MaxDumps, SnapshotTTL: c.SnapshotTTL, TurnRecords: c.TurnRecords, TurnBytes: c.TurnBytes,
		RunningDumps: b.runningDumps,
		Budget:       b.flight, Pacer: new(worker.Pacer), Marks: &b.marks,
		ClientQuota: b.admission, Doubts: b.doubts, SilenceTicks: ticks(c.Retention.SilenceGrain())}
	rules.Situation = b.situation
	rules.Live = func() worker.Live {
		k := b.knobs()
		return worker.Live{SnapshotTTL: k.SnapshotTTL, Reuse: k.SnapshotReuse, MaxDumps: k.MaxDumps,
			DumpTicks: ticks(k.DumpLimit)}
	}
	rules.Reuse, rules.Decided = c.SnapshotReuse, func(id string) int64 {
		if known, there := s.state.Client(id); there {
			return known.Decided
		}
		f, _ := s.state.Forgotten(id)
		return f.Time
	}
	rules.Fed = func(id string) (kind string, seq uint64) {
		if c, known := s.state.Client(id); known && !c.Unfed() {
			return c.Driver, c.Acked.Seq
		}
		return "", 0
	}
	env := worker.Env{Log: s.log, Now: time.Now, Tick: c.Tick, Save: s.state.Write, SaveEvery: c.SaveEvery,
		Send:      b.dispatch.send,
		Forgotten: s.state.Forgotten,
		Discard:   func(id event.DumpID) { s.staging.Drop(id, "the DUMP is over") }}
	return worker.NewPool(c.Workers, rules, env, s.state.Clients(), s.state.Dumps())
}

// situation is on what a way out depends now.
func (b *Broker) situation() worker.Situation {
	first := b.stores.log.First()
	h := b.stores.state.Holders(first, nil)
	refused := func(id string) bool {
		a, known := b.stores.state.Alert("refused/" + id)
		return known && a.Cleared == 0
	}
	return worker.Situation{Log: b.stores.log.ID(), First: first, Head: b.stores.log.Head().Seq, Copies: h.Copies,
		Refused: refused, Started: b.started.UnixNano(), Taken: b.doubts.Held().AcceptedSeq}
}

func (b *Broker) runningDumps() int {
	n := 0
	for _, d := range b.stores.state.Dumps() {
		if d.Running() {
			n++
		}
	}
	return n
}

// reconcile makes staging and the records of dumps agree after a crash between the two: what has no record goes, and
// a manifest that was published before its record was sealed is told to the target's machine. So is a snapshot whose
// files are gone or were damaged: staging is a cache, and the DUMP has failed.
func (b *Broker) reconcile() {
	for _, id := range b.stores.staging.Dumps() {
		d, known := b.stores.state.Dump(id)
		if !known || d.Phase == dumpflow.Failed {
			b.stores.staging.Drop(id, "the DUMP is over")
			continue
		}
		if m, sealed := b.stores.staging.Manifest(id); sealed && d.Phase == dumpflow.Uploading {
			b.pool.Post(d.Target, worker.Input{Sealed: &m})
		}
	}
	for _, d := range b.stores.state.Dumps() {
		if _, sealed := b.stores.staging.Manifest(d.ID); d.Phase == dumpflow.Sealed && !sealed {
			b.pool.Post(d.Target, worker.Input{Unstaged: d.ID})
		}
	}
}

// HTTPAddr is where the HTTP door listens, with the port that was really taken.
func (b *Broker) HTTPAddr() string { return b.http.Addr().String() }

// NATSURL is where nodes connect to, without a password.
func (b *Broker) NATSURL() string {
	if b.server != nil {
		return b.server.ClientURL()
	}
	return secret.URL(b.cfg.NATSURL)
}

// LogID is the life of the log this broker keeps.
func (b *Broker) LogID() event.LogID { return b.stores.log.ID() }

// Run serves until ctx ends, then stops in order and returns nil; onReady (may be nil) is called when all doors are
// open. If the storage fails it returns at once with an error of class IsStorage, and the process must exit with 74:
// nothing is closed then. Any other failure of a part stops all of it and is returned. It may be called once.
func (b *Broker) Run(ctx context.Context, onReady func()) error {
	ended := make(chan *part, 1) // the first end is enough to know
	p := &parts{}
	for i, w := range b.pool.Workers() {
		p.workers = append(p.workers, start(fmt.Sprintf("worker %d", i), ended, w.Run))
	}
	p.ingest = start("ingest", ended, b.ingest.run)
	p.keepers = append(p.keepers, start("watch", ended, b.watch), start("retention", ended, b.trim),
		start("scrub", ended, b.scrub), start("index", ended, b.index), start("hooks", ended, b.hooks.Run))
	if b.server != nil {
		p.keepers = append(p.keepers, start("pending", ended, b.pending))
	}
	if b.pprof != nil {
		p.keepers = append(p.keepers, start("pprof", ended, func(ctx context.Context) error { return b.profiles(ctx) }))
	}
	b.ingest.opening.Store(true)
	web := b.web()
	p.http = start("http", ended, func(context.Context) error { return b.serve(web, b.http, b.cfg.HTTPAddr) })
	err := b.openDoors(ctx, p, ended)
	if ctx.Err() != nil { // told to end before it was ready
		err = nil
	} else if err == nil {
		b.ready.Store(true)
		b.ingest.opening.Store(false)
		err = b.hasStarted()
	}
	if ctx.Err() == nil && err == nil {
		if onReady != nil {
			onReady()
		}
		select {
		case <-ctx.Done():
		case part := <-ended:
			err = part.ended()
			part.err = nil // told once
		case err = <-b.poisoned:
		}
	}
	if cause := b.storageFailed(); cause != nil {
		b.ready.Store(false)
		b.ingest.refuse(door.Refuse(door.Closing, "the broker's storage has failed"))
		b.log.Error(string(statedb.Stopped), "event", string(statedb.Stopped), "cause", cause)
		return cause
	}
	why := "it was told to"
	if err != nil {
		why = err.Error()
	}
	return errors.Join(classed(err), b.shutdown(web, p, why))
}

// storageFailed says that a write has failed; nil when none has.
func (b *Broker) storageFailed() error {
	if cause := b.stores.storage.Latch().Err(); cause != nil {
		return fmt.Errorf("the storage has failed, the outcome of what was being written is unknown; "+
			"restart the broker, it will check its data: %w", cause)
	}
	return nil
}

// lastWrites is how long writes may still wait for a file descriptor when the broker ends. Closing the doors frees
// many.
const lastWrites = 8 * time.Second

// doorsWithin is how long NATS may take to open the doors.
const doorsWithin = 10 * time.Second

// openDoors subscribes to everything that comes in over NATS.
func (b *Broker) openDoors(ctx context.Context, p *parts, ended chan<- *part) (err error) {
	ctx, done := context.WithTimeout(ctx, doorsWithin)
	defer done()
	if err := b.claimGroup(ctx, p); err != nil {
		return err
	}
	var work context.Context
	work, p.endChunks = context.WithCancel(context.Background())
	b.chunks = newChunkService(work, b.cfg.Group, b.conn, b.stores, b.pool, b.log)
	b.chunks.took = b.progress.took
	for subject, take := range map[string]func(bus.Msg){
		event.AnySubject(b.cfg.Group, event.Up):   b.dispatch.up,
		event.AnySubject(b.cfg.Group, event.Snap): b.chunks.take,
	} {
		s, err := b.conn.Subscribe(subject, take)
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		p.subscriptions = append(p.subscriptions, s)
	}
	if b.publish, err = natsdoor.Open(b.doors, b.cfg.Group, b.stores.log.ID(), b.budget, b.ingest.put, b.log); err != nil {
		return err
	}
	p.nats = start("NATS door", ended, func(ctx context.Context) error { b.publish.Run(ctx); return nil })
	if err := cmp.Or(b.conn.Flush(ctx), b.doors.FlushWithContext(ctx)); err != nil {
		return b.awayNATS(err)
	}
	if b.server == nil {
		p.keepers = append(p.keepers, start("claim", ended, b.hold))
	}
	return nil
}

// silence is why NATS, or who is asked over it, has not answered.
func (b *Broker) silence(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("nothing came within %s", doorsWithin)
	}
	return secret.Hide(err, b.cfg.NATSURL)
}

func (b *Broker) awayNATS(err error) error {
	if trouble := b.conn.Trouble(); trouble != nil && !bus.Refused(trouble) {
		return say(errTemporary, "NATS at %s cannot be used: %v", b.NATSURL(), trouble)
	}
	return say(errTemporary, "NATS at %s does not answer (%v): is it running?", b.NATSURL(), b.silence(err))
}

// shutdown ends a healthy broker. The order matters:
//
//  1. refuse new increments, because whatever is accepted from here on would only delay the end
//  2. close the doors and let what they have taken be answered, because the ingest still runs
//  3. end the ingest, which commits everything it was given
//  4. stop listening to nodes and end the chunks, because workers must not get news while they save
//  5. end the workers, which save the positions that lag
//  6. end the keepers: the watch writes the last checkpoint, after the last commit
//  7. close connections, server and stores, because nobody uses them any more
func (b *Broker) shutdown(web *http.Server, p *parts, why string) error {
	b.ready.Store(false)
	close(b.leaving)
	b.ingest.refuse(door.Refuse(door.Closing, "the broker is stopping: try again"))
	b.stores.storage.Hurry(lastWrites)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := web.Shutdown(ctx); err != nil {
		_ = web.Close() // somebody did not finish in time
	}
	errs := []error{p.http.stop()}
	if p.nats != nil {
		b.publish.Close()
		errs = append(errs, p.nats.stop())
	}
	errs = append(errs, p.ingest.stop())
	for _, s := range p.subscriptions {
		s.Stop()
	}
	if p.endChunks != nil {
		p.endChunks()
		b.chunks.wait()
	}
	for _, w := range p.workers {
		errs = append(errs, w.stop())
	}
	for _, k := range p.keepers {
		errs = append(errs, k.stop())
	}
	if cause := b.storageFailed(); cause != nil { // nothing is closed then
		return cause
	}
	errs = append(errs, b.happened(statedb.Stopped, b.stores.log.Head().Seq, why))
	return errors.Join(append(errs, b.close())...)
}

// close closes what Open has opened.
func (b *Broker) close() error {
	var errs []error
	for _, l := range []net.Listener{b.http, b.pprof} {
		if l == nil {
			continue
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if b.doors != nil {
		b.doors.Close()
	}
	if b.conn != nil {
		b.conn.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	if b.stores != nil {
		errs = append(errs, b.stores.close())
	}
	return errors.Join(errs...)
}

// parts are the goroutines of a running broker.
type parts struct {
	workers, keepers   []*part
	ingest, http, nats *part
	subscriptions      []bus.Subscription
	endChunks          context.CancelFunc
}

// part is one goroutine with its own end.
type part struct {
	name   string
	cancel context.CancelFunc
	group  conc.WaitGroup
	err    error
}

// ended says that p has ended though nobody told it to, and why. A whole sentence for people says that by itself.
func (p *part) ended() error {
	if whole := new(sentence); errors.As(p.err, &whole) {
		return p.err
	}
	return fmt.Errorf("%s has ended: %w", p.name, cmp.Or(p.err, errors.New("nobody told it to")))
}

// start runs f until stop. A part that ends in any way is told to ended, unless that is full: nobody waits for it. A
// panic in it is raised again by stop.
func start(name string, ended chan<- *part, f func(context.Context) error) *part {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{name: name, cancel: cancel}
	p.group.Go(func() {
		defer func() {
			select {
			case ended <- p:
			default:
			}
		}()
		p.err = f(ctx)
	})
	return p
}

func (p *part) stop() error {
	p.cancel()
	p.group.Wait()
	return p.err
}
