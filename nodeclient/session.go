package nodeclient

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/dumpflow"
)

// Errors that end an agent. Each is wrapped with a sentence that says what to do.
var (
	// ErrFenced is returned when another process with this node's ID has taken over.
	ErrFenced = errors.New("replaced by a newer process")
	// ErrNeedsDump is returned when the node has to join by DUMP and was not told from whom, or may not.
	ErrNeedsDump = errors.New("this node has to join by DUMP")
	// ErrRefused is returned when the broker refuses what this node is or asks for.
	ErrRefused = errors.New("refused by the broker")
	// ErrTopics is returned when the database holds other topics than the node is told to follow.
	ErrTopics = errors.New("the database holds other topics")
	// ErrFailed is returned when an increment failed and the agent was told to end then (ExitOnFail).
	ErrFailed = errors.New("an increment failed")
)

// ending is one of these errors with a sentence of its own.
type ending struct {
	kind error
	text string
}

func (e *ending) Error() string { return e.text }
func (e *ending) Unwrap() error { return e.kind }

// phase is how far the conversation has come; the picture stands in doc.go.
type phase string

const (
	opening   phase = "opening"   // INCR_REQ/NONE is said and repeated
	following phase = "following" // increments come
	held      phase = "held"      // an increment failed; FAIL is said until heard; an operator decides
	lost      phase = "lost"      // the copy is lost; FATAL is said until heard
	joining   phase = "joining"   // DUMP_REQ is said and repeated; a snapshot may be loading
)

// rules of a session; all durations in ticks of the agent.
type rules struct {
	hello         event.Hello
	group, id     string
	from          string // DUMP target; "" for none
	replace       bool   // a foreign history in the database may be replaced by a DUMP
	rejoin        bool   // needs_dump is answered with a DUMP (only with from)
	exitOnFail    bool
	loads         func(format string) bool // what the target can restore
	windowRecords uint32
	windowBytes   uint32
	batchRecords  int
	batchBytes    int
	heartbeat     int // a heartbeat after so many ticks without a word of ours
	silence       int // a new session after so many ticks without a word of the broker
	tick          time.Duration
	maxBackoff    int // longest wait between tries of a DUMP or of a transient error
}

// task is what the session wants done by the agent's other goroutines; at most one of the fields is set.
type task struct {
	apply    []event.Item // after before
	before   event.Position
	seek     *event.Position
	expire   int64        // end what has lived until this time of the log, at before
	keep     bool         // store the topics
	prepare  event.DumpID // for the snapshot of that DUMP
	outside  *event.Item  // one increment that was passed over, at before, where the position stays
	snapshot event.DumpID // open one
	part     *event.Range // of a snapshot; nil for all
	restore  *restoreJob
	upload   event.DumpID // of the open snapshot
}

// arrival is a frame some of whose items are not applied yet: all of its bytes are in memory.
type arrival struct {
	end   uint64
	bytes int
}

type restoreJob struct {
	request event.RequestID
	dump    event.DumpID
	pos     event.Position
	size    int64 // about how many bytes it has; 0 when not known
	opened  int64 // ns since 1970; 0 when not known
}

// session is one node's side of the conversation. Invariant: pos <= received.
type session struct {
	rules rules
	phase phase
	self  event.Session

	pos      event.Position // durable in the database
	received event.Position // last item queued, in this session
	queue    []event.Item   // received and not applied
	arrived  []arrival      // the frames after queue, oldest first
	kept     int            // bytes of arrived
	refused  event.Position // the last one that was not adopted
	busy     bool           // a task is at the database: only its result goes on
	welcomed bool           // the broker has spoken in this session

	heardTicks        int // since the last word of the broker
	saidTicks         int // since our last word in this session
	heartbeatInterval int // in ticks: the broker has many clients and lets us be silent for so long; 0 for as usual

	retry        *backoff // of what may pass: an increment, or a DUMP
	transientErr string   // of the database, told in heartbeats; "" for none
	troubled     bool     // the last line of the log about the database is of trouble
	failure      string   // held, lost: what is said
	fatalReason  string   // why the copy is lost: said in every session until a DUMP has replaced it; "" when it is not
	unread       string   // why the stored position could not be read at the start; "" when it was, or another was set
	leaving      bool     // nothing new is begun

	// What the database is doing.
	atDatabase      []event.Item // the increments it was given
	durable         int          // so many of them it has committed already
	atDatabaseTicks int          // for so long the others have been there
	batch           uint64       // counts what it was given, so that a late answer about a batch is known
	blocker         string       // who keeps it from going on, as far as that was seen; "" for nobody
	giveUp          bool         // its newest task is to be given up
	givenUp         bool         // it was, because an operator has decided about one of its increments
	moved           bool         // it was, because an operator has named another position
	oneByOne        int          // so many of the next increments are applied one by one
	seeking         *event.Position
	proved          bool        // the topics stand beside the position
	at              uint64      // explicit position that is still to be asked for
	disk            *event.Disk // to be said with the next word; nil: nothing new

	// The time of the log.
	clock   int64  // a time that all increments after clockAt have reached
	clockAt uint64 // sequence
	ended   int64  // what has lived until this time was ended

	// This node joins by DUMP.
	dump    requester
	loading *restoreJob     // given to the agent, until its outcome comes, also when it was cancelled
	loaded  event.RequestID // whose snapshot was just loaded, told with NONE

	// This node is the target of a DUMP.
	preparing  event.DumpID // for which the database was prepared last
	unprepared int          // so often without success
	prepares   bool         // it is to be prepared before the next batch
	snapping   event.DumpID // the one our snapshot is for; 0 for none
	snapOpen   *event.Event // DUMP_REP Opened, said again when asked again
	part       *event.Range // of the copy that the snapshot is to hold; nil for all
	snapWanted bool         // open the snapshot as soon as the database is at rest
	snapOpens  bool         // the database opens it
	pausedFor  event.DumpID // whose snapshot allows no Apply until it is closed; 0 for none

	outside     *outside                 // the newest order of an increment that was passed over; nil for none
	outsideSeen map[event.RequestID]bool // orders of that kind, of this process

	send  []event.Event
	tasks []task
	drop  bool // the transfers given so far are to be cancelled and the open snapshot closed
	notes []note
	end   error
}

func newSession(r rules, self event.Session, pos event.Position, proved bool, draw func() event.RequestID) *session {
	s := &session{rules: r, proved: proved || r.hello.Stateless, self: self, pos: pos, received: pos, at: r.hello.At,
		retry: &backoff{longest: r.maxBackoff}}
	s.dump = requester{from: r.from, hello: r.hello.Encode(), draw: draw, retry: s.retry}
	if !pos.Zero() && s.at != 0 {
		s.note("the database has a position already, %d: --at is not used", pos.Seq)
		s.at = 0
	}
	if pos.Zero() && r.from != "" && s.at != 0 && r.hello.Empty {
		s.note("the database is empty and its data comes from %s: --at is not used", r.from)
		s.at = 0
	}
	if pos.Zero() && r.from != "" && s.at == 0 && !r.hello.Stateless {
		s.join("this database is empty")
	} else {
		s.open()
	}
	return s
}

// open begins a new turn of the conversation with our position: the one way to recover. While a task is at the
// database the position is moving, so NONE is said when it is done.
func (s *session) open() {
	s.phase = opening
	s.queue = nil
	s.received = s.pos
	s.welcomed = false
	s.failure = ""
	s.heartbeatInterval = 0
	s.clock, s.ended = 0, 0
	s.self.Turn++
	s.heardTicks = 0
	if s.busy {
		s.sayBusy()
		return
	}
	s.sayNone()
}

// sayBusy says that the session has to wait for the increments at the database, so that an operator's order reaches
// them.
func (s *session) sayBusy() {
	if len(s.atDatabase) == 0 {
		return // the position is being set, or a snapshot opened
	}
	s.saidTicks = 0
	_, text := s.slow()
	s.say(event.Event{Kind: event.IncrReq, State: event.None, Code: event.Busy, Pos: s.stands(), Text: text,
		LeaseMS: s.inMS(s.atDatabaseTicks),
		Body:    s.rules.hello.Encode()})
}

func (s *session) sayNone() {
	h := s.rules.hello
	h.At, h.Loaded = s.at, s.loaded
	h.Holds, h.Empty = h.Holds && s.pos.Zero(), h.Empty && s.pos.Zero()
	s.saidTicks = 0
	s.say(event.Event{Kind: event.IncrReq, State: event.None, Pos: s.pos, Body: h.Encode()})
}

// say sends an event of the current session.
func (s *session) say(e event.Event) {
	e.Group, e.ID, e.Session = s.rules.group, s.rules.id, s.self
	s.send = append(s.send, e)
}

// report says where we are and what we can take: acknowledgement, credit and heartbeat in one.
func (s *session) report(code event.Code) {
	e := event.Event{Kind: event.IncrReq, State: event.Succ, Code: code, Pos: s.stands(),
		CreditRecords: s.rules.windowRecords, CreditBytes: s.rules.windowBytes}
	if code == event.NoCode && s.transientErr != "" {
		e.Code, e.Text, e.LeaseMS = event.Retrying, s.transientErr, s.inMS(s.retry.wait)
	} else if code == event.NoCode {
		if e.Code, e.Text = s.slow(); e.Code != event.NoCode {
			e.LeaseMS = s.inMS(s.atDatabaseTicks)
		}
	}
	if s.disk != nil {
		e.Body, s.disk = s.disk.Encode(), nil
	}
	s.saidTicks = 0
	s.say(e)
}

// inMS is so many ticks in milliseconds.
func (s *session) inMS(ticks int) uint32 {
	return uint32(min(time.Duration(ticks)*s.rules.tick/time.Millisecond, math.MaxUint32))
}

// slowAfter is how long increments may be at the database before the broker is told.
const slowAfter = 10 * time.Second

// slow says which increments have been at the database for longer than that.
func (s *session) slow() (event.Code, string) {
	long := time.Duration(s.atDatabaseTicks) * s.rules.tick
	if len(s.atDatabase) == 0 || long <= slowAfter {
		return event.NoCode, ""
	}
	first, last := s.atDatabase[s.durable].Pos.Seq, s.atDatabase[len(s.atDatabase)-1].Pos.Seq
	which := fmt.Sprintf("increment %s has", units.Count(first))
	if first != last {
		which = fmt.Sprintf("increments %s to %s have", units.Count(first), units.Count(last))
	}
	text := fmt.Sprintf("%s been at the database for %s", which, units.Span(long))
	if s.blocker != "" {
		text += ", " + s.blocker
	}
	return event.Slow, text
}

// note is a line for the log file.
type note struct {
	text    string
	trouble bool
}

func (s *session) note(format string, args ...any) {
	s.notes = append(s.notes, note{text: fmt.Sprintf(format, args...)})
}

// warn is note for trouble.
func (s *session) warn(format string, args ...any) {
	s.notes = append(s.notes, note{fmt.Sprintf(format, args...), true})
}

func (s *session) stop(cause error, text string) {
	if s.end == nil {
		s.end = &ending{cause, text}
	}
}

// step takes one event from the broker. Stale speech is refused here and nowhere else.
func (s *session) step(e event.Event) {
	if e.Kind == event.DumpRep {
		s.dumpRep(e)
		return
	}
	if e.Session != s.self || e.ID != s.rules.id {
		return
	}
	s.heardTicks = 0
	switch e.Kind {
	case event.DumpReq:
		s.dumpReq(e)
	case event.IncrRep:
		s.incrRep(e)
	}
}

func (s *session) incrRep(e event.Event) {
	switch e.Code {
	case event.Welcome:
		s.pace(e)
		s.welcome(e)
	case event.NoCode:
		if len(e.Body) == 0 {
			s.pace(e)
		}
		s.frame(e)
	case event.Reopen:
		if s.phase == joining {
			return
		}
		s.decided(e.Pos)
		if s.phase != opening || !s.busy { // else the session is opened as soon as the database is done
			s.note("the broker asks for a new session: %s", e.Text)
			s.open()
		}
	case event.Seek:
		switch {
		case s.phase == joining || s.phase == lost || !s.mayAdopt(e.Pos):
		case len(s.atDatabase) > 0: // what it does is given up; the broker names the position in the session after that
			s.giveUp, s.moved = true, true
		case !s.busy:
			s.adopt(e.Pos)
		}
	case event.Apply:
		s.ordered(e)
	case event.Held:
		s.heldReply(e)
	case event.Fenced:
		s.stop(ErrFenced, e.Text)
	case event.NeedsDump, event.Unknown:
		s.mustJoin(e.Text, s.rules.rejoin)
	case event.Foreign:
		s.mustJoin(e.Text, s.rules.rejoin && s.rules.replace)
	default: // OutOfLog, or a code of a newer broker
		s.stop(ErrRefused, e.Text)
	}
}

// decided makes room for an operator's decision about the increment at pos, which comes with the next session: what is
// at the database up to there is given up, and nothing waits. The zero position is no decision.
func (s *session) decided(pos event.Position) {
	if pos.Zero() || pos.Log != s.pos.Log {
		return
	}
	s.retry.clear()
	s.transientErr = ""
	s.giveUp = s.giveUp || s.outsideRuns()
	if len(s.atDatabase) > 0 && s.atDatabase[0].Pos.Seq <= pos.Seq && !s.givenUp {
		s.note("the increments at the database are given up, because an operator has decided about increment %d",
			pos.Seq)
		s.giveUp, s.givenUp = true, true
	}
}

// maxInterval is the longest time between heartbeats that is believed.
const maxInterval = 5 * time.Minute

// pace takes the broker's word for how rarely we may speak.
func (s *session) pace(e event.Event) {
	s.heartbeatInterval = int(min(time.Duration(e.LeaseMS)*time.Millisecond, maxInterval) / s.rules.tick)
}

// mustJoin answers "you have to DUMP": by doing it where that is allowed, else by stopping with the sentence.
func (s *session) mustJoin(text string, allowed bool) {
	switch {
	case s.phase == joining:
	case (s.rules.from == "" || !allowed) && cmp.Or(s.fatalReason, s.unread) != "":
		s.stop(ErrNeedsDump, fmt.Sprintf("%s (%s)", text, cmp.Or(s.fatalReason, s.unread)))
	case s.rules.from == "" || !allowed:
		s.stop(ErrNeedsDump, text)
	default:
		s.join(text)
	}
}

// welcome begins the offered session by using it.
func (s *session) welcome(e event.Event) {
	if s.phase != opening || s.busy {
		return
	}
	if s.unread != "" { // nobody has named a position: it does not begin anew over the data
		s.fatalReason, s.pos = s.unread, e.Pos
		s.lose()
		return
	}
	if s.pos.Zero() {
		if s.mayAdopt(e.Pos) {
			// a fresh database, or one that remembers nothing: from here on it knows its place, and can serve DUMPs
			s.adopt(e.Pos)
		}
		return
	}
	if e.Pos != s.pos {
		return // not an answer to what we said: the next tick says it again
	}
	if !s.proved { // the broker has compared them with what it knows: from here on the database says it itself
		s.do(task{keep: true})
		return
	}
	s.received = s.pos
	s.retry.clear()
	s.at = 0
	if s.fatalReason != "" {
		s.lose()
		return
	}
	s.phase = following
	s.report(event.NoCode)
}

// mayAdopt reports whether the broker may set the stored position to pos: it must be of the log that the database
// follows, unless that follows none yet, or the operator allows another history (--replace).
func (s *session) mayAdopt(pos event.Position) bool {
	if pos.Log == 0 || !s.pos.Zero() && pos.Log != s.pos.Log && !s.rules.replace {
		if s.refused == pos {
			return false // it is said again and again
		}
		s.refused = pos
		s.warn("the broker wants to set this database, which stands at %s, to %s: refused, it is no position of that log"+
			" (start with --replace if the database is to follow another log)", s.pos, pos)
		return false
	}
	return true
}

// frame takes increments. They must begin right after what was received: a repetition is dropped, a gap means
// a new session. Damage means a new session too: nothing of such bytes is used. The same goes for more than was asked
// for: a broker that keeps to the window never sends that.
func (s *session) frame(e event.Event) {
	if s.phase == opening || s.phase == joining || s.phase == lost {
		return
	}
	s.welcomed = true
	if s.phase == held && s.failure != "" {
		return // sent before our FAIL was heard
	}
	if e.Pos != s.received {
		if e.Pos.Seq > s.received.Seq || e.Pos.Log != s.received.Log {
			s.warn("increments %d to %d did not arrive: asking again", s.received.Seq+1, e.Pos.Seq)
			s.open()
		}
		return
	}
	if s.phase == held {
		if len(e.Body) == 0 {
			return
		}
		s.phase = following // an operator has decided
	}
	s.loaded = 0
	queued := len(s.queue)
	if err := s.take(e.Body); err != nil {
		s.queue = s.queue[:queued]
		s.warn("a frame after %d was damaged on the way: %v", e.Pos.Seq, err)
		s.open()
		return
	}
	s.mark(e.Clock)
	s.work()
}

// mark notes the time that all increments after those received have reached.
func (s *session) mark(clock int64) {
	if clock > s.clock {
		s.clock, s.clockAt = clock, s.received.Seq
	}
}

// take queues the items of a frame. Memory is taken only within the window, and for a frame that is alone. On an error
// some of them may stand in the queue.
func (s *session) take(frame []byte) error {
	stands := s.stands().Seq // as the broker was told
	for len(s.arrived) > 0 && (len(s.queue) == 0 || s.arrived[0].end <= stands) {
		s.kept -= s.arrived[0].bytes
		s.arrived = s.arrived[1:]
	}
	most := event.MaxBody // one increment always fits, however small the window
	if len(s.queue) > 0 {
		most = min(most, int(s.rules.windowBytes)-s.kept)
	}
	items, err := event.Unpack(frame, most)
	if err != nil {
		return err
	}
	last := stands + uint64(s.rules.windowRecords)
	if s.received.Seq < last { // once a frame, not once and again within it
		s.queue = slices.Grow(s.queue, int(min(uint64(event.Count(items)), last-s.received.Seq)))
	}
	err = event.Walk(items, s.received, func(i event.Item) error {
		if i.Pos.Seq > last {
			return fmt.Errorf("it goes on to %d, more than the %d increments asked for after %d", i.Pos.Seq,
				s.rules.windowRecords, stands)
		}
		s.queue = append(s.queue, i)
		s.received = i.Pos
		return nil
	})
	s.arrived, s.kept = append(s.arrived, arrival{s.received.Seq, len(items)}), s.kept+len(items)
	return err
}

// work gives the database its next batch.
func (s *session) work() {
	if s.applyOutside() || s.busy || s.retry.wait > 0 || s.phase != following || s.pausedFor != 0 || s.leaving {
		return
	}
	if s.prepares {
		s.prepares = false
		s.do(task{prepare: s.preparing})
		return
	}
	if len(s.queue) == 0 {
		s.openSnapshot()
		s.expire()
		return
	}
	n, bytes, most := 0, 0, s.rules.batchRecords
	if s.oneByOne > 0 {
		most = 1
	}
	limit := limitOf(s.queue[0])
	for n < len(s.queue) && n < most && (n == 0 || bytes+len(s.queue[n].Record) <= s.rules.batchBytes &&
		limitOf(s.queue[n]) == limit) {
		bytes += len(s.queue[n].Record)
		n++
	}
	s.do(task{apply: s.queue[:n:n], before: s.pos})
}

// expire ends what has lived until the time of the log, when all is applied that comes before it.
func (s *session) expire() {
	if !s.busy && s.rules.hello.Clock && s.clock > s.ended && s.pos.Seq >= s.clockAt && !s.pos.Zero() {
		s.do(task{expire: s.clock, before: s.pos})
	}
}

// expired takes the outcome of an expire task that was to end what has lived until a time.
func (s *session) expired(until int64, more bool, pos event.Position, err error) {
	s.busy = false
	if err == nil && !more {
		s.ended = max(s.ended, until)
	}
	if err != nil && IsFatal(err) && s.phase != joining {
		s.fatalReason = err.Error()
	}
	switch {
	case s.phase == opening: // a new session was asked for meanwhile
		s.sayNone()
		return
	case s.phase != following:
		return
	case err == nil && s.transientErr != "" && len(s.queue) == 0:
		s.transientErr, s.retry.step = "", 0
		s.report(event.NoCode)
	case err == nil:
	case IsBack(err):
		s.pos = pos
		s.warn("going on from %d, where the database stands: %v", s.pos.Seq, err)
		s.open()
		return
	case IsFatal(err):
		s.lose()
		return
	default:
		s.transientErr = err.Error()
		s.retry.later()
		s.warn("keys whose time to live is over cannot be removed now, trying again: %v", err)
		s.report(event.NoCode)
	}
	s.work()
}

// do hands a task to the database.
func (s *session) do(t task) {
	s.busy, s.givenUp = true, false
	s.begins(t.apply)
	s.tasks = append(s.tasks, t)
}

// begins says that these are at the database from now on.
func (s *session) begins(items []event.Item) {
	s.atDatabase, s.durable, s.atDatabaseTicks, s.blocker = items, 0, 0, ""
	s.batch++
}

// applied takes the outcome of an apply task: what is durable now, and why not all.
func (s *session) applied(n int, pos event.Position, err error) {
	blocker := s.blocker
	s.busy = false
	s.begins(nil)
	if s.taken(err) {
		return
	}
	before, moved := s.pos, s.moved
	s.moved = false
	if !pos.Zero() {
		s.pos = pos
	}
	if s.pos.Log == before.Log && s.pos.Seq > before.Seq {
		s.oneByOne = max(0, s.oneByOne-int(min(s.pos.Seq-before.Seq, uint64(s.oneByOne))))
	}
	var over *overrun
	if errors.As(err, &over) {
		s.oneByOne = n
	}
	if err != nil && IsFatal(err) && s.phase != joining {
		s.fatalReason = err.Error()
	}
	if err == nil && n > 0 && s.troubled {
		s.troubled = false // also when a new session was asked for meanwhile, as by an order
		s.note("the trouble is over: the database takes increments again")
	}
	if s.phase == opening { // a new session was asked for meanwhile
		s.sayNone()
		return
	}
	if s.phase != following {
		return
	}
	if moved {
		s.note("the increments at the database were given up, because an operator has named another position")
		s.open()
		return
	}
	if err == nil {
		s.queue = s.queue[n:]
		s.retry.step, s.transientErr = 0, ""
		s.report(event.NoCode)
		s.work()
		return
	}
	if IsBack(err) {
		s.transientErr = ""
		s.warn("going on from %d, where the database stands: %v", s.pos.Seq, err)
		s.open()
		return
	}
	for len(s.queue) > 0 && s.queue[0].Pos.Seq <= s.pos.Seq {
		s.queue = s.queue[1:]
	}
	switch {
	case IsTransient(err):
		s.transientErr = err.Error()
		if blocker != "" {
			s.transientErr += " (" + blocker + ")"
		}
		s.retry.later()
		s.troubled = true
		s.warn("the database cannot take increment %d now, trying again: %s", s.pos.Seq+1, s.transientErr)
		s.report(event.NoCode)
	case IsFatal(err):
		s.lose()
	default:
		s.phase = held
		s.failure = err.Error()
		s.queue = nil
		s.received = s.pos
		s.transientErr = ""
		s.troubled = true
		s.warn("increment %d failed: %v", s.pos.Seq+1, err)
		s.sayFailure()
	}
}

// taken ends the node when err says that another one uses its database, or that it is no longer there: another start
// finds out what is to be done, and nobody's state changes. The broker hears why, so that it is no silence to people.
func (s *session) taken(err error) bool {
	for _, kind := range []error{ErrTaken, ErrGone} {
		if errors.Is(err, kind) {
			s.stop(kind, err.Error())
			if s.talking() {
				s.transientErr = "its node has ended: " + err.Error()
				s.report(event.NoCode)
			}
			return true
		}
	}
	return false
}

// lose stops for good: until a DUMP has replaced the copy nothing is applied to it.
func (s *session) lose() {
	s.phase, s.failure, s.queue, s.received = lost, s.fatalReason, nil, s.pos
	s.sayFailure()
}

// sayFailure says FAIL or FATAL; it is repeated every tick until the broker has heard.
func (s *session) sayFailure() {
	state := event.Fail
	if s.phase == lost {
		state = event.Fatal
	}
	s.saidTicks = 0
	s.say(event.Event{Kind: event.IncrReq, State: state, Pos: s.pos, Text: s.failure,
		CreditRecords: s.rules.windowRecords, CreditBytes: s.rules.windowBytes})
}

// heldReply: the broker has heard of our failure, or remembers one.
func (s *session) heldReply(e event.Event) {
	s.welcomed = true
	if s.phase == following && len(s.queue) == 0 && !s.busy {
		s.phase = held
		s.warn("the broker holds this node: %s", e.Text)
	}
	if s.phase != held {
		return
	}
	s.failure = ""
	if s.rules.exitOnFail {
		s.stop(ErrFailed, e.Text)
	}
}

// adopt stores a position that the broker names, and opens a new session with it.
func (s *session) adopt(pos event.Position) {
	s.seeking = &pos
	s.do(task{seek: &pos})
}

// sought takes the outcome of a seek task.
func (s *session) sought(err error) {
	s.busy = false
	if s.taken(err) {
		return
	}
	if err != nil {
		s.warn("the position could not be set, trying again: %v", err)
		s.seeking = nil // the broker names it again when it is asked again
		return
	}
	if say := "the position of this database is now %d of log %s"; s.at != 0 {
		s.warn("--at says so, and nobody has looked at the data: "+say, s.seeking.Seq, s.seeking.Log)
	} else {
		s.note(say, s.seeking.Seq, s.seeking.Log)
	}
	s.pos, s.seeking, s.at, s.unread = *s.seeking, nil, 0, ""
	s.open()
}

// storedTopics takes the outcome of a keep task.
func (s *session) storedTopics(err error) {
	s.busy = false
	if s.taken(err) {
		return
	}
	if err != nil {
		s.warn("the topics of this database could not be stored, trying again: %v", err)
		return // the next tick says NONE again
	}
	s.proved = true
	s.open()
}

// tick says that one tick has passed.
func (s *session) tick() {
	s.heardTicks++
	s.saidTicks++
	s.atDatabaseTicks++
	if s.phase == joining && s.retry.wait > 0 {
		s.heardTicks = 0 // nothing was asked
	}
	s.retry.tick()
	if s.snapOpen != nil && s.talking() {
		s.say(event.Event{Kind: event.DumpRep, State: event.None, Code: event.Lease, Dump: s.snapping, Pos: s.snapOpen.Pos})
	}
	if s.heardTicks == s.rules.silence &&
		(s.phase == opening && !s.busy || s.phase == joining && s.loading == nil && s.retry.wait == 0) {
		s.warn("nothing has come from the broker for %s: is it up, of this node's group, and no older than this "+
			"node? It keeps trying", units.Span(time.Duration(s.heardTicks)*s.rules.tick))
	}
	switch {
	case s.phase == joining:
		s.sayIf(s.dump.tick())
		return
	case s.phase == opening && !s.busy:
		s.sayNone()
	case s.phase == opening:
		if s.saidTicks >= s.rules.heartbeat {
			s.sayBusy()
		}
	case s.heardTicks > max(s.rules.silence, 3*s.heartbeatInterval) && s.phase != opening:
		s.warn("the broker has been silent for %s: opening a new session",
			units.Span(time.Duration(s.heardTicks)*s.rules.tick))
		s.open()
	case s.failure != "":
		s.sayFailure()
	case s.phase == following && !s.welcomed, s.saidTicks >= max(s.rules.heartbeat, s.heartbeatInterval):
		s.report(event.NoCode)
	}
	s.work()
}

// talking reports that our session has begun, so that a DUMP can be spoken of in it.
func (s *session) talking() bool { return s.phase == following || s.phase == held }

// connected says that the connection is up again: the conversation is opened anew at once.
func (s *session) connected() {
	if s.phase == joining {
		s.sayIf(s.dump.ask())
		return
	}
	s.open()
}

// bye ends the conversation cleanly.
func (s *session) bye() {
	if s.talking() {
		s.dropOutside()
		s.report(event.Bye)
	}
}

// --- this node joins by DUMP ---

func (s *session) join(why string) {
	s.note("joining by DUMP from %s: %s", s.rules.from, why)
	s.phase, s.queue, s.received, s.failure = joining, nil, s.pos, ""
	s.self.Turn++
	s.dump.begin()
	if s.snapping != 0 {
		s.endSnapshot() // of data that will be replaced
	}
	if s.loaded != 0 { // the last one was of no use
		s.loaded, s.dump.failure = 0, short(why)
		s.retry.later()
	}
	s.sayIf(s.dump.ask())
}

func (s *session) sayIf(e event.Event, now bool) {
	if now {
		s.say(e)
	}
}

// abandon ends a join for good, and tells the broker why.
func (s *session) abandon(dump event.DumpID, cause error, text string) {
	s.say(s.dump.abandon(dump, text))
	s.stop(cause, text)
}

// dumpRep takes word of the DUMP we asked for.
func (s *session) dumpRep(e event.Event) {
	if s.phase != joining || e.Request != s.dump.request || e.ID != s.rules.id {
		return // of a DUMP that is no longer ours
	}
	s.heardTicks = 0
	switch s.dump.answer(e) {
	case dumpRefused:
		s.stop(ErrRefused, e.Text)
	case dumpNotReady:
		s.tryJoinLater(0, e.Text)
	case dumpReady:
		s.load(e)
	}
}

// load begins to load the snapshot that e is about, unless one is being loaded.
func (s *session) load(e event.Event) {
	switch {
	case s.loading != nil, s.busy:
	case !s.rules.loads(opened(e).Format):
		s.abandon(e.Dump, ErrRefused, fmt.Sprintf("the snapshot of %s is %s, which this kind of target cannot "+
			"load: join from a node with the same kind of target", s.rules.from, opened(e).Format))
	default:
		s.loading = &restoreJob{s.dump.request, e.Dump, e.Pos, opened(e).Size, opened(e).Time}
		s.tasks = append(s.tasks, task{restore: s.loading})
	}
}

// opened is what a DUMP_REP says of its snapshot; zero when it says nothing that makes sense.
func opened(e event.Event) dumpflow.Opened {
	o, err := dumpflow.DecodeOpened(e.Body)
	if err != nil {
		return dumpflow.Opened{}
	}
	return o
}

// tryJoinLater ends a join that came to nothing, because of dump (0: by the broker's word), and begins another after a
// while.
func (s *session) tryJoinLater(dump event.DumpID, why string) {
	s.dump.again(dump, why)
	s.warn("no snapshot was loaded, asking again in %s: %s",
		units.Span(time.Duration(s.retry.wait)*s.rules.tick), why)
	if s.loading != nil {
		s.drop = true
	}
}

// restored takes the outcome of a restore task: from here on the snapshot's data is live, or nothing changed. One
// that was cancelled may have come to its end all the same; then its data is what we have.
func (s *session) restored(job restoreJob, left string, err error) {
	s.loading = nil
	switch {
	case s.taken(err):
	case err == nil:
		s.note("snapshot loaded: this node goes on from %d", job.pos.Seq)
		if left != "" {
			s.warn("the snapshot was loaded without %s", left)
			s.say(s.dump.loadedWithout(job.request, job.dump, left))
		}
		s.pos, s.loaded, s.fatalReason, s.proved = job.pos, job.request, "", true
		s.dump.succeeded()
		s.open()
	case job.request != s.dump.request: // it was cancelled; the next word of the broker begins another
	case errors.Is(err, errNotOurs):
		s.abandon(job.dump, ErrNeedsDump, err.Error())
	case errors.Is(err, errOtherTopics):
		s.abandon(job.dump, ErrRefused, err.Error())
	case IsTransient(err):
		s.tryJoinLater(job.dump, "it may pass: "+err.Error())
	default:
		s.tryJoinLater(job.dump, err.Error())
	}
}

// --- this node is the target of a DUMP ---

// dumpReq takes the broker's request for a snapshot, which is repeated until answered.
func (s *session) dumpReq(e event.Event) {
	switch {
	case e.Code == event.Cancel:
		if e.Dump == s.snapping {
			s.warn("DUMP %s was cancelled: %s", e.Dump, e.Text)
			s.endSnapshot()
		}
	case e.Code == event.Prepare:
		s.prepare(e.Dump)
	case e.Dump == s.snapping && s.snapOpen != nil:
		s.say(*s.snapOpen)
	case e.Dump == s.snapping:
	default:
		if s.snapping != 0 {
			s.endSnapshot()
		}
		h, err := event.DecodeHello(e.Body)
		if err != nil {
			return // it comes again
		}
		s.snapping, s.snapWanted, s.part = e.Dump, true, h.Range
		s.work()
	}
}

// prepareTries is how often the database is prepared for one DUMP, in vain, before that is given up.
const prepareTries = 10

// prepare takes the word that increments will be held for a DUMP as soon as the database is prepared for it, which the
// broker repeats every tick.
func (s *session) prepare(dump event.DumpID) {
	if dump != s.preparing {
		s.preparing, s.unprepared = dump, 0
	}
	s.prepares = true
	s.work()
}

// prepared takes the outcome of a prepare task. What may pass is tried again when the broker asks again.
func (s *session) prepared(dump event.DumpID, err error) {
	s.busy = false
	if s.taken(err) {
		return
	}
	if err != nil {
		s.unprepared++
	}
	switch {
	case s.phase == opening: // a new session was asked for meanwhile
		s.sayNone()
		return
	case dump != s.preparing || s.phase != following:
	case err == nil:
		s.say(event.Event{Kind: event.DumpRep, State: event.Succ, Code: event.Prepare, Dump: dump, Pos: s.pos})
	case !IsTransient(err) || s.unprepared >= prepareTries:
		s.warn("this database could not be prepared for DUMP %s: %v", dump, err)
		s.say(event.Event{Kind: event.DumpRep, State: event.Fail, Dump: dump, Text: err.Error()})
		s.unprepared = 0
	}
	s.work()
}

// openSnapshot opens it as soon as everything received is applied.
func (s *session) openSnapshot() {
	if s.snapWanted {
		s.snapWanted, s.snapOpens = false, true
		s.do(task{snapshot: s.snapping, part: s.part})
	}
}

// opened takes the outcome of a snapshot task.
func (s *session) opened(dump event.DumpID, pos event.Position, o dumpflow.Opened, err error) {
	s.busy, s.snapOpens = false, false
	switch {
	case s.taken(err):
	case dump != s.snapping: // cancelled meanwhile
		s.drop = err == nil
	case err != nil:
		s.snapFailed(err)
	default:
		s.snapOpen = &event.Event{Kind: event.DumpRep, State: event.Succ, Code: event.Opened, Dump: dump, Pos: pos,
			Body: o.Encode()}
		if !o.Online {
			s.pausedFor = dump
		}
		if s.talking() { // else the broker asks again as soon as the new session has begun
			s.say(*s.snapOpen)
		}
		s.tasks = append(s.tasks, task{upload: dump})
	}
	if s.phase == opening {
		s.sayNone()
	}
	s.work()
}

func (s *session) snapFailed(err error) {
	s.warn("the snapshot for DUMP %s failed: %v", s.snapping, err)
	if s.talking() {
		s.say(event.Event{Kind: event.DumpRep, State: event.Fail, Dump: s.snapping, Text: err.Error()})
	}
	s.snapping, s.snapOpen = 0, nil
}

// uploaded takes the outcome of an upload task.
func (s *session) uploaded(dump event.DumpID, err error) {
	if dump == s.pausedFor {
		s.pausedFor = 0
	}
	switch {
	case dump != s.snapping: // cancelled meanwhile
	case err != nil:
		s.snapFailed(err)
	default:
		s.snapping, s.snapOpen = 0, nil
	}
	s.work()
}

func (s *session) endSnapshot() {
	s.giveUp = s.giveUp || s.snapOpens
	s.drop, s.snapping, s.snapOpen, s.snapWanted = true, 0, nil, false
}
