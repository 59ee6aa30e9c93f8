package nodeclient

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"xmq/broker/bus"
	"xmq/broker/event"
	"xmq/broker/failpoint"
	"xmq/broker/form"
	"xmq/broker/units"
	"xmq/broker/version"
	"xmq/dumpflow"
)

// Options of an Agent. Zero values mean the defaults.
type Options struct {
	Group  string // default DefaultGroup
	ID     string // required, see event.CheckID
	Driver string // kind of the target driver, for people
	// Address is where the database is, for people: without secrets. A long one is cut.
	Address string
	Topics  []string // only increments of these topics are applied; none means all

	From    string // join by DUMP from this node when the database is empty or the broker says so
	Replace bool   // with From: a database of another history may be replaced
	Reuse   bool   // with From: a complete snapshot that the broker keeps will do
	Stay    bool   // with From: when the broker says "DUMP again", stop with ErrNeedsDump instead of doing it
	At      uint64 // explicit position: the next increment applied is number At (once, at start); 0 for none

	Stateless  bool // the driver cannot store a position
	ExitOnFail bool // end with ErrFailed when an increment fails, instead of waiting for an operator

	WindowRecords int           // increments in flight; more hides latency, costs memory; default 262144
	WindowBytes   int           // bytes in flight; default 32 MiB
	BatchRecords  int           // increments in one transaction; default 1000
	BatchBytes    int           // bytes in one transaction; default 4 MiB
	Tick          time.Duration // clock of the session; default 1 s
	Heartbeat     int           // ticks between heartbeats, more when the broker has thousands of clients; default 5
	Silence       int           // ticks of silence after which a new session is opened; default 30
	MaxBackoff    int           // longest wait in ticks between tries; default 30
	Compress      bool          // ask the broker for compressed frames: for a node at the end of a slow line
	DumpRate      int64         // bytes a second of a snapshot sent or fetched; 0 for no limit
	// ApplyLimit is how long an increment that names no limit itself may be at the database before it is a FAIL; 0 for
	// no limit.
	ApplyLimit time.Duration

	Log *slog.Logger // default slog.Default()
}

// DefaultGroup is the group of everybody who names none.
const DefaultGroup = "main"

// MinBytes is the smallest window and batch in bytes.
const MinBytes = 1024

// Agent is one node.
type Agent struct {
	opts Options
	conn bus.Conn
	db   Database
	log  *slog.Logger

	live     atomic.Pointer[live]
	reloaded chan struct{} // one slot: live has changed

	inbox   chan heard
	jobs    chan job       // to dbLoop; one at a time
	done    chan outcome   // from dbLoop and the transfers
	vain    chan struct{}  // one slot: nobody has listened to what was asked
	running sync.WaitGroup // dbLoop and the transfers
	// waiting is how many bytes of messages wait in the inbox, at most inboxLimit of them:
	// more than a broker that keeps to the window sends.
	waiting    atomic.Int64
	inboxLimit int64

	// Of the loop alone.
	stopTransfer context.CancelFunc      // of the newest transfer
	giveUp       context.CancelCauseFunc // of the newest task of dbLoop; nil before the first
	prevDone     <-chan struct{}         // closed when all transfers have ended; nil when there was none
	snap         Snapshot                // open, and its transfer has not begun
	part         *event.Range            // what it holds; nil for all
	lastTrouble  string                  // what was logged last of the connection; "" for nothing
	unserved     unserved                // since the broker was heard last
	asking       bool                    // the database is asked who blocks it
	// The disk is being measured; and in how many ticks it is measured again.
	measuring bool
	toMeasure int

	lost   error      // why the stored position could not be read at the start; nil when it was
	opened Snapshot   // the newest; of dbLoop, and of Run when dbLoop and the transfers have ended
	pauses pauseClock // of the open snapshots

	mu    sync.Mutex // guards what follows
	view  Status
	moved chan struct{} // closed when view changes; nil while nobody waits
}

// heard is an event in the inbox, of a message of so many bytes.
type heard struct {
	event.Event
	bytes int64
}

// job is a task for dbLoop.
type job struct {
	task
	after <-chan struct{} // a snapshot: the one before must be closed
	ctx   context.Context // of an Apply, or of the opening of a snapshot
	end   context.CancelCauseFunc
}

// errGivenUp ends an Apply that an operator's order has overtaken, and the opening of a snapshot that nobody waits for.
var errGivenUp = errors.New("an operator has ordered something else, or the snapshot is not wanted any more")

// Status is where an agent stands, for tests and people.
type Status struct {
	Phase    string
	Position event.Position
}

// outcome is the result of a task: a function that tells the session.
type outcome func(*session)

// New checks the options. The caller keeps conn and db and closes them after Run.
func New(conn bus.Conn, db Database, o Options) (*Agent, error) {
	o, err := o.WithDefaults()
	if err != nil {
		return nil, err
	}
	a := &Agent{opts: o, conn: conn, db: db, log: o.Log.With("client", o.ID), reloaded: make(chan struct{}, 1),
		inbox: make(chan heard, 1024), inboxLimit: int64(o.WindowBytes) + 2*event.MaxBody, jobs: make(chan job, 1),
		done: make(chan outcome, 4), vain: make(chan struct{}, 1)}
	a.live.Store(o.live())
	return a, nil
}

// WithDefaults is o with the defaults in the place of zero values; an error says in one sentence what is wrong.
func (o Options) WithDefaults() (Options, error) {
	o.Group = cmp.Or(o.Group, DefaultGroup)
	o.WindowRecords, o.WindowBytes = cmp.Or(o.WindowRecords, 262144), cmp.Or(o.WindowBytes, 32<<20)
	o.BatchRecords, o.BatchBytes = cmp.Or(o.BatchRecords, 1000), cmp.Or(o.BatchBytes, 4<<20)
	o.Tick, o.Heartbeat = cmp.Or(o.Tick, time.Second), cmp.Or(o.Heartbeat, 5)
	o.Silence, o.MaxBackoff = cmp.Or(o.Silence, 30), cmp.Or(o.MaxBackoff, 30)
	o.Log = cmp.Or(o.Log, slog.Default())
	for _, id := range []string{o.Group, o.ID} {
		if err := event.CheckID(id); err != nil {
			return o, err
		}
	}
	if o.From != "" {
		if err := event.CheckID(o.From); err != nil {
			return o, err
		}
		if o.From == o.ID {
			return o, fmt.Errorf("node %s cannot DUMP from itself: name another node", o.ID)
		}
	}
	topics, err := event.SortTopics(o.Topics)
	if err != nil {
		return o, err
	}
	o.Topics = topics
	if o.WindowRecords < 1 || o.BatchRecords < 1 || o.WindowBytes < MinBytes || o.BatchBytes < MinBytes || o.Tick <= 0 ||
		o.Heartbeat < 1 || o.Silence <= o.Heartbeat || o.MaxBackoff < 1 {
		return o, fmt.Errorf("node %s: window and batch need at least 1 increment and %d bytes, ticks must be positive "+
			"and silence longer than heartbeat", o.ID, MinBytes)
	}
	return o, nil
}

// Status says where the agent stands now. Safe for concurrent use.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.view
}

// Next is Status, and a channel that is closed as soon as that is another. Safe for concurrent use.
func (a *Agent) Next() (now Status, other <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.moved == nil {
		a.moved = make(chan struct{})
	}
	return a.view, a.moved
}

// show makes the session's place the Status.
func (a *Agent) show(s *session) {
	now := Status{string(s.phase), s.pos}
	a.mu.Lock()
	defer a.mu.Unlock()
	if now != a.view && a.moved != nil {
		close(a.moved)
		a.moved = nil
	}
	a.view = now
}

// Run keeps the conversation until ctx ends: then the batch at the database is finished (for up to 5 seconds),
// the broker is told, and nil is returned. Otherwise it returns why this node cannot go on: ErrFenced,
// ErrNeedsDump, ErrRefused, ErrFailed, ErrTopics, ErrTaken, ErrGone, or an error of the database's stored position. It
// may be called once.
func (a *Agent) Run(ctx context.Context) error {
	pos, topics, has, err := a.stored(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	a.notice()
	if pos, err = a.compare(pos, topics); err != nil {
		return err
	}
	if a.lost == nil {
		a.log.Info("this node goes on from the position of its database", "event", "position", "seq", pos.Seq, "log",
			pos.Log)
	}
	// dbLoop and the transfers outlive ctx until the batch is done
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.running.Go(func() { a.dbLoop(work) })
	defer func() {
		cancel()
		a.running.Wait()
		if a.opened != nil { // its outcome may never have reached the loop
			a.closeSnapshot(a.opened)
		}
	}()

	sub, err := a.conn.Subscribe(event.Subject(a.opts.Group, event.Down, a.opts.ID), a.receive)
	if err != nil {
		return fmt.Errorf("node %s: subscribe: %w", a.opts.ID, err)
	}
	defer sub.Stop()
	asked, err := a.listenUnserved()
	if err != nil {
		return fmt.Errorf("node %s: subscribe: %w", a.opts.ID, err)
	}
	defer asked.Stop()
	return a.loop(ctx, work, a.session(pos, topics.Known(), has))
}

func (a *Agent) session(pos event.Position, proved bool, has contents) *session {
	o := &a.opts
	host, _ := os.Hostname() // only for people
	_, timed := a.db.(Timed)
	_, prepares := a.db.(Preparer)
	s := newSession(rules{
		hello: event.Hello{Target: o.Driver, Topics: o.Topics, At: o.At, Stateless: o.Stateless,
			Holds: has == someData, Empty: has == noData,
			Packs: o.Compress, Reuse: o.Reuse,
			Features: form.Known(), Clock: timed, Prepares: prepares, Applies: true, Host: host, Pid: os.Getpid(),
			Version: version.Version, Product: product(a.db),
			Address: strings.ToValidUTF8(o.Address[:min(len(o.Address), event.MaxAddress)], "")},
		group: o.Group, id: o.ID, from: o.From, replace: o.Replace, loads: a.db.Loads,
		windowRecords: uint32(o.WindowRecords), windowBytes: uint32(o.WindowBytes),
		heartbeat: o.Heartbeat, silence: o.Silence, tick: o.Tick, maxBackoff: o.MaxBackoff,
	}, event.Session{Instance: event.Instance(random()), Token: newToken()}, pos, proved, drawRequest)
	if a.lost != nil {
		s.unread = a.lost.Error()
	}
	a.obey(s)
	return s
}

// product is whose database it is, where its driver knows several.
func product(db Database) string {
	if p, is := db.(interface{ Product() string }); is {
		return p.Product()
	}
	return ""
}

// random draws 64 bits that are not zero.
func random() uint64 {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		if v := binary.LittleEndian.Uint64(b[:]); v != 0 {
			return v
		}
	}
}

// drawRequest draws the ID of a request for a DUMP.
func drawRequest() event.RequestID { return event.RequestID(random()) }

// newToken draws a session's token.
func newToken() (t event.Token) {
	_, _ = rand.Read(t[:]) // never fails (crypto/rand)
	return t
}

// stored asks the database for its position and topics until it answers: it may not be there yet (any start order
// works, XN-6). has is what one without a position has.
func (a *Agent) stored(ctx context.Context) (pos event.Position, topics event.Topics, has contents, err error) {
	for wait := 1; ; wait = min(2*wait, a.opts.MaxBackoff) {
		pos, err = a.db.Position(ctx)
		switch {
		case err != nil:
		case !pos.Zero():
			topics, err = a.db.Topics(ctx)
		default:
			has, err = a.contents(ctx)
		}
		if err == nil || ctx.Err() != nil {
			return pos, topics, has, nil
		}
		if errors.Is(err, ErrTaken) {
			return pos, "", untold, fmt.Errorf("node %s: read the stored position: %w", a.opts.ID, err)
		}
		if !IsTransient(err) && a.opts.From == "" { // lost: the broker is told, and an operator may name one
			a.log.Warn("the stored position is lost", "err", err)
			a.lost = err
			return event.Position{}, "", someData, nil
		}
		if !IsTransient(err) { // lost: a DUMP replaces it, if it may
			if a.opts.Replace {
				a.log.Warn("the stored position is lost, joining by DUMP", "err", err)
				return event.Position{}, "", untold, nil
			}
			return pos, "", untold, fmt.Errorf("node %s: its copy is lost: start it with --replace, too, which loads the copy "+
				"of %s in its place, or without --from to learn what else helps (%w)", a.opts.ID, a.opts.From, err)
		}
		a.log.Warn("the database does not answer, trying again", "err", err, "in",
			units.Span(time.Duration(wait)*a.opts.Tick))
		select {
		case <-time.After(time.Duration(wait) * a.opts.Tick):
		case <-ctx.Done():
		}
	}
}

// unsure is a target that may not know whether its place is empty, and then says it is not.
type unsure interface{ Unsure() bool }

// contents is what a database without a position has.
type contents int

const (
	untold   contents = iota // its driver cannot tell
	noData                   // nothing at all
	someData                 // whose, nobody here can say
)

func (a *Agent) contents(ctx context.Context) (contents, error) {
	if t, is := a.db.(unsure); a.opts.Stateless || is && t.Unsure() {
		return untold, nil
	}
	empty, err := a.db.Empty(ctx)
	if err != nil {
		return untold, err
	}
	if empty {
		return noData, nil
	}
	return someData, nil
}

// compare refuses to go on from pos with other topics than are stored beside it: what was not for this node is not in
// its data. A database that may be replaced is taken for one without a position, and joins by DUMP.
func (a *Agent) compare(pos event.Position, stored event.Topics) (event.Position, error) {
	mine := event.TopicsOf(a.opts.Topics)
	if pos.Zero() || !stored.Known() || stored == mine {
		return pos, nil
	}
	if a.opts.From != "" && a.opts.Replace && a.opts.At == 0 {
		a.log.Warn("the database holds other topics than this node follows, joining by DUMP", "holds", stored, "follows",
			mine)
		return event.Position{}, nil
	}
	old := "--topics " + stored.String()
	if stored == event.AllTopics {
		old = "without --topics"
	}
	return pos, &ending{ErrTopics, fmt.Sprintf("node %s: the database holds topics %s up to %d, and this node is to "+
		"follow %s: its data would have holes."+
		" Start it with the topics it holds (%s), or, where a NODE has the new ones, replace the data by its copy: --from "+
		"NODE --replace",
		a.opts.ID, stored, pos.Seq, mine, old)}
}

// receive takes a message of the conn. An event that finds the inbox full is lost; its sender repeats it.
func (a *Agent) receive(m bus.Msg) {
	e, err := event.Decode(m.Data)
	if err != nil || e.Group != a.opts.Group {
		a.log.Debug("event refused", "err", err)
		return
	}
	h := heard{e, int64(len(m.Data))}
	if a.waiting.Add(h.bytes) <= a.inboxLimit {
		select {
		case a.inbox <- h:
			return
		default:
		}
	}
	a.waiting.Add(-h.bytes)
}

func (a *Agent) loop(ctx, work context.Context, s *session) error {
	tick := time.NewTicker(a.opts.Tick)
	defer tick.Stop()
	for {
		last := len(s.send) > 0
		a.flush(work, s)
		if s.end != nil {
			if last { // it says why
				a.deliver()
			}
			return fmt.Errorf("node %s: %w", a.opts.ID, s.end)
		}
		select {
		case <-ctx.Done():
			a.leave(s)
			return nil
		case h := <-a.inbox:
			a.waiting.Add(-h.bytes)
			a.unserved = unserved{}
			a.log.Debug("heard", "event", h.Event)
			s.step(h.Event)
		case <-a.vain:
			if a.unserved.again(time.Now()) {
				a.log.Warn(a.unservedError().Error()+" It keeps trying", "event", "unserved")
			}
		case o := <-a.done:
			o(s)
		case <-a.reloaded:
			a.obey(s)
		case <-tick.C:
			a.look(work, s)
			a.measure(work)
			s.tick()
		case <-a.conn.Changes():
			a.logConnection()
			if a.conn.Up() {
				s.connected()
			}
		}
	}
}

// logConnection logs what is wrong with the connection to the broker: each thing once, until it stands again.
func (a *Agent) logConnection() {
	switch err := a.conn.Trouble(); {
	case err == nil:
		a.lastTrouble = ""
	case err.Error() != a.lastTrouble:
		a.lastTrouble = err.Error()
		a.log.Warn("the broker's NATS server cannot be reached, or refuses this node: trying again", "cause", err)
	}
}

// flush does what the session wants done.
func (a *Agent) flush(work context.Context, s *session) {
	for _, n := range s.notes {
		level := slog.LevelInfo
		if n.trouble {
			level = slog.LevelWarn
		}
		a.log.Log(work, level, n.text, "seq", s.pos.Seq, "phase", string(s.phase))
	}
	if s.drop {
		a.dropTransfers()
	}
	if s.giveUp && a.giveUp != nil {
		a.giveUp(errGivenUp)
	}
	for i := range s.send {
		err := a.say(s, s.send[i])
		a.log.Debug("said", "event", s.send[i], "err", err) // one that could not leave is lost, and repeated
		if s.send[i].State == event.Succ {
			failpoint.Hit(failpoint.Acked)
		}
	}
	tasks := s.tasks
	s.notes = nil
	s.drop = false
	s.giveUp = false
	s.send = nil
	s.tasks = nil
	for _, t := range tasks {
		a.start(work, t)
	}
	a.show(s)
}

// say says an event; while the broker has not answered, so that it is known when there is none.
func (a *Agent) say(s *session, e event.Event) error {
	if s.phase == opening || s.phase == joining {
		return a.ask(e)
	}
	return a.conn.Publish(event.Subject(a.opts.Group, event.Up, a.opts.ID), e.Append(nil))
}

// start gives a task to dbLoop, whose channel cannot be full: one task at a time. Or it begins a transfer.
func (a *Agent) start(work context.Context, t task) {
	switch {
	case t.restore != nil:
		a.transfer(work, func(ctx context.Context) outcome { return a.restore(ctx, *t.restore) })
	case t.upload != 0:
		snap, part := a.snap, a.part
		a.snap = nil
		a.transfer(work, func(ctx context.Context) outcome { return a.upload(ctx, t.upload, snap, part) })
	default:
		ctx, end := context.WithCancelCause(work)
		a.giveUp = end
		a.jobs <- job{t, a.prevDone, ctx, end}
	}
}

// transfer cancels the transfer before and begins another as soon as that one has ended.
func (a *Agent) transfer(work context.Context, carry func(context.Context) outcome) {
	a.dropTransfers()
	ctx, cancel := context.WithCancel(work)
	before, ended := a.prevDone, make(chan struct{})
	a.stopTransfer, a.prevDone = cancel, ended
	a.running.Go(func() {
		defer close(ended)
		defer cancel()
		if before != nil {
			<-before
		}
		a.tell(work, carry(ctx))
	})
}

// dropTransfers cancels what is under way and closes a snapshot that nobody sends.
func (a *Agent) dropTransfers() {
	if a.stopTransfer != nil {
		a.stopTransfer()
	}
	if a.snap != nil {
		a.closeSnapshot(a.snap)
		a.snap = nil
	}
}

// leave ends cleanly: the batch at the database is finished and reported, so that nothing is sent again.
func (a *Agent) leave(s *session) {
	limit := time.NewTimer(5 * time.Second)
	defer limit.Stop()
	s.leaving = true
	for s.busy {
		select {
		case o := <-a.done:
			o(s)
		case <-limit.C:
			return
		}
	}
	s.bye()
	s.tasks = nil
	a.flush(context.Background(), s)
	a.deliver()
}

// deliver waits until what was said last has left. If the word does not get through, silence tells.
func (a *Agent) deliver() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = a.conn.Flush(ctx)
}

// tell hands an outcome to the loop, unless the loop has ended.
func (a *Agent) tell(work context.Context, o outcome) {
	select {
	case a.done <- o:
	case <-work.Done():
	}
}

// dbLoop makes all calls to the database but Restore and reading a snapshot.
func (a *Agent) dbLoop(work context.Context) {
	for {
		select {
		case <-work.Done():
			return
		case j := <-a.jobs:
			if j.snapshot != 0 && j.after != nil {
				<-j.after
			}
			o := a.serve(work, j)
			a.notice()
			if j.snapshot == 0 { // an open snapshot may live as long as its context
				j.end(nil)
			}
			a.tell(work, o)
		}
	}
}

// notice logs what the database's driver has to say.
func (a *Agent) notice() {
	if n, is := a.db.(Noticer); is {
		for _, sentence := range n.Notices() {
			a.log.Warn(sentence)
		}
	}
}

func (a *Agent) serve(work context.Context, j job) outcome {
	t := j.task
	switch {
	case t.keep:
		err := a.db.Keep(work, event.TopicsOf(a.opts.Topics))
		return func(s *session) { s.storedTopics(err) }
	case t.seek != nil:
		err := a.db.Seek(work, *t.seek)
		return func(s *session) { s.sought(err) }
	case t.outside != nil:
		pos, err := a.apply(j.ctx, task{apply: []event.Item{*t.outside}, before: t.before})
		failpoint.Hit(failpoint.CommittedBeforeAck)
		return func(s *session) { s.outsideDone(pos, err) }
	case t.snapshot != 0:
		return a.openSnapshot(j.ctx, t.snapshot, t.part)
	case t.prepare != 0:
		err := a.db.(Preparer).Prepare(j.ctx)
		return func(s *session) { s.prepared(t.prepare, err) }
	case t.expire != 0:
		pos, more, err := a.expire(j.ctx, t)
		return func(s *session) { s.expired(t.expire, more, pos, err) }
	default:
		failpoint.Hit(failpoint.FetchedBeforeApply)
		pos, err := a.apply(j.ctx, t)
		if err == nil {
			pos = t.apply[len(t.apply)-1].Pos
			failpoint.Hit(failpoint.CommittedBeforeAck)
		}
		return func(s *session) { s.applied(len(t.apply), pos, err) }
	}
}

// expire is the target's Expire, and where the database stands.
func (a *Agent) expire(ctx context.Context, t task) (pos event.Position, more bool, err error) {
	more, err = a.db.(Timed).Expire(ctx, t.before, t.expire)
	if !IsBack(err) {
		return t.before, more, err
	}
	if pos, lost := a.db.Position(ctx); lost == nil {
		return pos, false, err
	}
	return t.before, false, Transient(err) // found again by the next Apply
}

var _ dumpflow.Call = (*Agent)(nil).call
