package worker

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"xmq/broker/event"
	"xmq/broker/form"
	"xmq/broker/units"
	"xmq/dumpflow"
	"xmq/statedb"
)

// Rules are the knobs of machines. Ticks are counted by the worker, one a second by default.
type Rules struct {
	Group        string
	Masters      []string              // client IDs that may start without a DUMP
	Tick         time.Duration         // how long one tick is
	SilentTicks  int                   // a client not heard of for so long is shown as not connected
	LeaseTicks   int                   // a target's lease on its DUMP, and a requester's on its place in it
	DumpTicks    int                   // a DUMP is given up after so many ticks, whatever its lease; 0 never
	MaxDumps     int                   // DUMPs running at once in this broker
	SnapshotTTL  time.Duration         // a complete snapshot is kept for so long
	Reuse        bool                  // and serves later requesters, also of those who do not ask for that
	Decided      func(id string) int64 // when something was last decided about a client; nil: never
	Live         func() Live           // what may change while the broker runs; nil: as it stands here
	TurnRecords  int                   // increments read and sent in one turn
	TurnBytes    int                   // bytes of increments read and sent in one turn
	RunningDumps func() int            // how many DUMPs run now in the whole broker
	Budget       *Budget               // what all clients may have under way together; nil for no limit
	Pacer        *Pacer                // how many clients are connected; nil: a few
	Marks        *Marks                // the time of the log for nodes that ask for it; nil: none
	ClientQuota  *ClientQuota          // how many clients are known; nil: no limit
	Doubts       *Doubts               // what nodes say against the log; nil: nobody listens
	Situation    func() Situation      // on what a way out depends now; nil: no other copy is known
	SilenceTicks int                   // how often the silence of a client that is away is written down; 0 never

	// Fed says of which kind the database is in which a client is fed, and where it stands; nil: nobody knows.
	Fed func(id string) (kind string, seq uint64)
}

// Live is what may change while the broker runs: the fields of Rules with these names.
type Live struct {
	SnapshotTTL time.Duration
	Reuse       bool
	MaxDumps    int
	DumpTicks   int
}

// now is what holds now.
func (r *Rules) now() Live {
	if r.Live != nil {
		return r.Live()
	}
	return Live{r.SnapshotTTL, r.Reuse, r.MaxDumps, r.DumpTicks}
}

// lease is LeaseTicks, or the shortest one.
func (r *Rules) lease() int { return max(1, r.LeaseTicks) }

// Classes of trouble in a client's last error.
const (
	classFail    = "fail"
	classFatal   = "fatal"
	classRetry   = "transient"
	classRefused = "refused"
	classHeld    = "held"
	classJoin    = "join"
	orderedDump  = "redump"
)

// moves lists the changes of state that exist. "" is "no record". Rule: SS-21.
var moves = map[statedb.State][]statedb.State{
	"":                {statedb.Pending, statedb.Following},
	statedb.Pending:   {statedb.Loading, statedb.Following, ""},
	statedb.Loading:   {statedb.Following, statedb.Pending, ""},
	statedb.Following: {statedb.Draining, statedb.Failed, statedb.Fatal, statedb.NeedsDump, ""},
	statedb.Draining:  {statedb.Dumping, statedb.Following}, // whatever happens, the DUMP is given up first
	statedb.Dumping:   {statedb.Following},
	statedb.Failed:    {statedb.Following, statedb.Fatal, statedb.NeedsDump, ""},
	statedb.Fatal:     {statedb.Following, ""}, // only a new DUMP ends it (XD-8)
	statedb.NeedsDump: {statedb.Following, ""},
}

// Machine is one client. All its transitions stand in this file (conversation, increments, orders) and in
// dump.go (both sides of a DUMP). Invariant: c.Base <= c.Acked.Seq <= sent.Seq <= head.
type Machine struct {
	rules *Rules
	now   int64 // ns, from the last Step or Tick; for records people read, never for order

	client statedb.Client // the record as it should be on disk
	known  bool           // it is there, or will be with the next save

	offered  offer // a session that begins when the node uses it
	presence presence
	missing  bool // that it fell silent stands in the timeline
	window   window

	packs     bool          // the node wants packed frames
	applies   bool          // the node knows orders outside the order
	prepares  bool          // its database needs work before increments are held for a snapshot
	clocked   bool          // the node wants the time of the log
	lacks     form.Features // that concern the node and that it does not know
	barred    uint64        // the increment that it is not sent for want of one; 0 for none
	slow      bool          // it has said that an increment has been at its database for long
	slowSince int64         // ns since 1970
	slowText  string        // in its words
	disk      *Disk         // of its database; nil: not known
	nextTry   int64         // ns since 1970, of a node that is retrying; 0: it has not said when

	dumps  []*dumpflow.Dump        // of this client's data, oldest first; at most one runs
	leases map[event.RequestID]int // ticks since a requester was heard, by request id
	lease  int                     // ticks since the target was heard of the running dump
	age    int                     // ticks the dump has run, in this life of the broker
	asking event.RequestID         // the request that is being answered, of a requester's own word
	asks   event.Hello             // and what it says of itself
	up     map[string]bool         // alerts that may stand and end with the client's state
	held   int64                   // when the target's pause began, ns

	stray      int             // ticks since a process was refused beside the one at work, from 1; 0: no alert
	strayWhy   string          // it was refused
	strayWay   Way             // what helps, when none works after all
	joinSilent int             // ticks since the target's machine spoke of our join
	joinHeard  int             // ticks since our node did
	joinWait   joinWait        // what its node asks for in vain
	unable     event.RequestID // request with which the node has told last why it could not load a snapshot

	heardSaved int64 // when the last word of the node was last to be saved, ns

	waiting   event.Session // of a node whose database is away: nothing is said in it but that an operator has decided
	takeovers []int64       // when processes have replaced a connected one, ns, oldest first

	rate     float64
	rateSeen uint64 // acked at the last tick
	nonsense uint64

	work  Work
	dirty bool // c must be saved before anything leaves
	lag   bool // c should be saved soon
}

// offer is what a node said to open a session, and from where it was told it would be fed.
type offer struct {
	session event.Session
	hello   event.Hello
	pos     event.Position
	from    event.Position
}

// NewMachine starts the machine of client id, with its stored record and dumps if there are any.
func NewMachine(rules *Rules, id string, stored *statedb.Client, dumps []dumpflow.Dump) *Machine {
	m := &Machine{rules: rules, presence: newPresence(rules), client: statedb.Client{V: statedb.ClientVersion, ID: id},
		leases: map[event.RequestID]int{}, up: map[string]bool{}}
	if stored != nil {
		m.client, m.known = stored.Clone(), true
		m.window.reset(m.client.Acked)
		m.rateSeen = m.client.Acked.Seq
		m.presence.restore(m.client.Silent, m.placed() && m.client.Stopped == 0)
		for _, kind := range boundAlerts {
			m.up[kind] = true // of before this broker was started
		}
		rules.ClientQuota.restore()
		m.account()
	}
	for i := range dumps {
		d := dumps[i].Clone()
		m.dumps = append(m.dumps, &d)
		m.held = d.Started
	}
	m.client.Role = statedb.Follower
	if slices.Contains(rules.Masters, id) { // the configuration of now decides, not that of then
		m.client.Role = statedb.Master
	}
	if (m.client.State == statedb.Draining || m.client.State == statedb.Dumping) && m.running() == nil {
		m.become(statedb.Following) // a store that was put back from parts
	}
	return m
}

// Remember gives a machine without a record what is still known of the processes of its client, which was forgotten.
func (m *Machine) Remember(f statedb.Forgotten) {
	if !m.known {
		m.client.Session, m.client.Fenced, m.client.Decided = f.Session, f.Fenced, f.Time
	}
}

// Idle reports that nothing would be lost by forgetting this machine: no record, no dump, no session offered.
func (m *Machine) Idle() bool { return !m.known && len(m.dumps) == 0 && m.offered.session.Zero() }

// Step takes one input. now is the time in ns since 1970.
func (m *Machine) Step(in Input, log Log, now int64) {
	m.now = now
	switch {
	case in.Node != nil:
		m.node(in.Node, log)
	case in.Asked != nil:
		m.asked(in.Asked, log)
	case in.Notice != nil:
		m.notice(in.Notice)
	case in.Left != nil:
		m.left(in.Left)
	case in.Unable != nil:
		m.cannotLoad(in.Unable)
	case in.JoinForgotten:
		m.joinForgotten()
	case in.Sealed != nil:
		m.sealed(*in.Sealed)
	case in.Order != nil:
		m.order(in.Order, log)
	case in.Unstaged != 0:
		m.unstaged(in.Unstaged)
	case in.Trimmed:
		m.trimmed(log)
	case in.Evict != nil:
		m.evict(in.Evict)
	}
	m.advance()
	m.account()
}

// account counts the client and what is under way to it in the sums of the whole broker.
func (m *Machine) account() {
	m.window.charge(m.rules.Budget, m.Connected())
	m.presence.count()
}

// Tick says that one tick has passed.
func (m *Machine) Tick(now int64) {
	m.now = now
	m.presence.tick()
	if m.presence.silent > m.rules.SilentTicks {
		m.offered = offer{} // nobody took it
	}
	if m.known && !m.Connected() && m.rules.SilenceTicks > 0 && m.presence.silent%m.rules.SilenceTicks == 0 {
		m.client.Silent, m.lag = m.presence.silence(), true
	}
	m.tickTakeovers()
	m.tickRate()
	m.tickDumps()
	m.tickJoinWait()
	m.tickStray()
	m.advance()
	if m.Connected() && m.now-m.heardSaved >= int64(heardGrain) {
		m.heardSaved, m.lag = m.now, true
	}
	m.endAlerts()
	m.account()
	if m.known && m.presence.fellSilent() && !m.broken() {
		m.waiting = event.Session{}
		m.silentGone()
		m.raise("offline", statedb.Warning, 0, fmt.Sprintf("client %s has not been heard for %s: look at its node and the "+
			"network between", m.client.ID, m.rules.span(m.presence.silent)))
	}
}

// silentGone puts into the timeline that a node went without a goodbye, and where it ran; once, also when it was silent
// before the broker was restarted.
func (m *Machine) silentGone() {
	if m.presence.open || m.presence.silentSince == 0 {
		m.missing = true
		m.happened(statedb.ClientWent, m.client.Acked.Seq,
			strings.TrimSuffix("it is silent and has said no goodbye; it ran "+m.runs(), "; it ran "))
	}
}

// returned puts into the timeline that a node whose silence was told is heard again.
func (m *Machine) returned() {
	if m.missing && m.presence.open {
		m.missing = false
		m.happened(statedb.ClientCame, m.client.Acked.Seq, strings.TrimSuffix("it is heard again; it runs "+m.runs(),
			"; it runs "))
	}
}

// heardGrain is how old the last word of a connected node may be in its record: a broker that was killed says since
// when it has not been heard.
const heardGrain = time.Minute

// boundAlerts are those that say what state a client is in: they end with that state, however it ends.
var boundAlerts = []string{"fail", "fatal", "retry", "slow", "upgrade", "offline"}

// bound reports whether it is so what an alert of this kind says.
func (m *Machine) bound(kind string) bool {
	t, here := m.client.LastError, m.presence.expected() && !m.presence.missed()
	class := ""
	if t != nil {
		class = t.Class
	}
	back := here && !m.presence.open // its node has not said yet what is so now
	switch kind {
	case "fail": // until the increment is passed: the database may refuse it again, and that is no news (XR-3)
		return m.client.State == statedb.Failed || m.client.State == statedb.Following && class == classFail
	case "fatal":
		return m.client.State == statedb.Fatal
	case "retry":
		return here && m.placed() && m.client.State != statedb.Failed && class == classRetry
	case "slow":
		return here && m.placed() && m.client.State != statedb.Failed && (m.slow || back)
	case "upgrade":
		return m.placed() && class == classHeld
	case "offline":
		return (m.presence.missed() || m.presence.awaited && m.waiting.Zero()) && !m.broken()
	}
	return true
}

// endAlerts ends the alerts about a state in which the client is no longer. It is the one place that does so: no exit
// from a state has to think of it.
func (m *Machine) endAlerts() {
	for _, kind := range boundAlerts {
		if m.up[kind] && !m.bound(kind) {
			m.clear(kind)
			delete(m.up, kind)
		}
	}
}

// span is so many ticks, for people.
func (r *Rules) span(ticks int) string { return units.Span(time.Duration(ticks) * r.Tick) }

// broken reports that an alert stands for the client whatever its node does, which says that the node is away too: one
// cause is one alert.
func (m *Machine) broken() bool {
	return m.client.State == statedb.Failed || m.client.State == statedb.Fatal || m.client.State == statedb.NeedsDump
}

// Ready returns what is to be done, and forgets it: whoever takes it must do it. Feed is set when there is
// something to send within the window, and then a further turn may be due.
func (m *Machine) Ready(head event.Position) Work {
	m.endAlerts()
	w := m.work
	w.At = m.now
	m.work = Work{}
	if m.dirty && m.known {
		m.client.Updated = m.now
		c := m.client.Clone()
		w.Save = &c
		m.lag = false
	}
	w.Lag = m.lag
	m.dirty, m.lag = false, false
	w.Feed = m.feed(head)
	return w
}

// Quiet reports that Ready would return nothing but, perhaps, a Feed.
func (m *Machine) Quiet() bool {
	w := &m.work
	return !m.dirty && !m.lag && !w.Urgent() && len(w.Send)+len(w.Route)+len(w.Replies)+len(w.Discard) == 0
}

// Record is a copy of the record for a lagging save; false when there is none, or when Ready will have it
// saved with what belongs to it.
func (m *Machine) Record() (statedb.Client, bool) {
	if !m.known || m.dirty {
		return statedb.Client{}, false
	}
	return m.client.Clone(), true
}

// --- conversation ---

// node takes an event of the client's own node. An event of an older life is refused here and nowhere else.
func (m *Machine) node(e *event.Event, log Log) {
	if e.Kind == event.IncrReq && e.State == event.None {
		m.hello(e, log)
		return
	}
	if e.Kind != event.IncrReq && e.Kind != event.DumpRep {
		m.nonsense++
		return
	}
	if !m.current(e.Session, log) {
		return
	}
	if m.presence.silent >= m.presence.silentAfter {
		m.clear("offline")
	}
	m.heard()
	m.returned()
	switch {
	case e.Kind == event.DumpRep:
		m.targetSays(e)
	case m.answeredOutside(e):
	case e.State == event.Fatal:
		m.fatal(e)
	case m.client.Seek != nil:
		m.reply(event.Event{Kind: event.IncrRep, Code: event.Seek, Pos: *m.client.Seek})
	case e.State == event.Fail:
		m.failed(e, log)
	default:
		m.applied(e, log)
	}
}

// processOf is where a node runs, as it says itself.
func processOf(h event.Hello) statedb.Process {
	return statedb.Process{Host: h.Host, Pid: h.Pid, Version: h.Version, Address: h.Address}
}

// hello answers INCR_REQ/NONE. A session that would be accepted is only offered: it begins when the node
// uses it, so that a late repetition from a dead process cannot end a living conversation.
func (m *Machine) hello(e *event.Event, log Log) {
	cur := m.client.Session
	switch {
	case m.client.IsFenced(e.Session.Instance):
		m.fence(e.Session)
		return
	case e.Session.Zero(), m.presence.open && e.Session == cur, e.Session.Instance == cur.Instance &&
		e.Session.Turn < cur.Turn:
		m.nonsense++ // a repetition that comes late
		return
	case e.Session.Instance == cur.Instance && !cur.Token.Zero() && e.Session.Token != cur.Token:
		m.nonsense++ // a process has one token: whoever shows another has read the instance somewhere
		return
	}
	if e.Code == event.Busy {
		m.busy(e)
		return
	}
	if m.waitsToTakeOver(e.Session) {
		return
	}
	h, err := event.DecodeHello(e.Body)
	if err != nil {
		m.nonsense++
		m.say(event.Event{Kind: event.IncrRep, State: event.Fail, Code: event.Foreign, Session: e.Session, Text: err.Error()})
		return
	}
	v := m.admit(e.Pos, h, log)
	m.testify(e.Pos, h, v, log)
	if v.code == event.NoCode {
		return
	}
	if v.code == event.Welcome || v.code == event.Seek {
		if v.code == event.Welcome {
			m.offered = offer{e.Session, h, e.Pos, v.from}
		}
		if !m.presence.open {
			m.heard()
		}
		m.say(event.Event{Kind: event.IncrRep, State: event.None, Code: v.code, Session: e.Session, Pos: v.from,
			LeaseMS: m.presence.heartbeatInterval()})
		return
	}
	m.refuse(e.Session, e.Pos, h, v)
}

// testify passes on what the node's database says of the log itself.
func (m *Machine) testify(pos event.Position, h event.Hello, v verdict, log Log) {
	switch {
	case h.Stateless: // the broker remembers for it
	case v.code == event.Welcome && v.from == pos && pos.Seq > 0:
		m.rules.Doubts.agree()
	default:
		m.rules.Doubts.hear(m.client.ID, m.known && !m.client.TurnedBack(), pos, log.Head(), m.now)
	}
}

// busy takes the word of a node that opens a session as soon as its database is done with increments. Only what an
// operator has ordered since ends them before.
func (m *Machine) busy(e *event.Event) {
	h, err := event.DecodeHello(e.Body)
	switch isAway := err == nil && h.Away; {
	case isAway && !m.known: // anybody can call himself anything: no record and no alert for each
		v := m.newcomer(Condition{Is: IsRetrying}, processOf(h))
		v.Target = h.Target
		v.LastError = &Trouble{Class: classRetry, Text: e.Text, Time: v.Heard, Since: v.Heard}
		m.rules.ClientQuota.awaits(v, e.Session, fmt.Sprintf("node %s (%s) lives and waits for its database, which does not "+
			"answer: %s", v.ID, process(v.Process), e.Text), int64(m.rules.SilentTicks)*int64(m.rules.Tick))
		return
	case !m.known:
		return
	case isAway:
		m.away(e, h)
		return
	}
	if !m.presence.open || e.Session.Instance == m.client.Session.Instance {
		m.heard()
		if e.Text != "" {
			m.sits(e)
		}
	}
	switch {
	case m.client.Seek != nil:
		m.say(event.Event{Kind: event.IncrRep, Code: event.Seek, Session: e.Session, Pos: *m.client.Seek})
	case m.client.Override != nil && m.client.Override.Fresh:
		m.anew(e.Session, fmt.Sprintf("an operator has decided about increment %d", m.client.Override.Seq))
	}
}

// newcomer is the node of an ID that nobody knows, as the outside sees it: it has no record.
func (m *Machine) newcomer(c Condition, p statedb.Process) View {
	c.Since = at(m.now)
	return View{ID: m.client.ID, State: statedb.Pending, Condition: c, Process: p, Heard: at(m.now)}
}

// away takes the word of a node whose database cannot be reached: it is shown and alerted. It opens no session and ends
// none, and its client stays what it is.
func (m *Machine) away(e *event.Event, h event.Hello) {
	if m.Connected() && e.Session.Instance != m.client.Session.Instance {
		return // another process is at work
	}
	if m.presence.silent >= m.presence.silentAfter {
		m.clear("offline")
	}
	m.heard()
	m.waiting, m.presence.awaited = e.Session, true
	m.client.Process, m.client.Stopped, m.lag = processOf(h), 0, true
	if m.placed() && m.client.State != statedb.Failed {
		text := fmt.Sprintf("its database does not answer: %s", e.Text)
		if t := m.client.LastError; t == nil || t.Class != classRetry || t.Text != text {
			m.trouble(m.client.Acked.Seq+1, classRetry, text)
		}
		m.raise("retry", statedb.Warning, 0, fmt.Sprintf("client %s: its node on %s lives, and %s. It tries again; `xmq "+
			"client retry %s` hurries it", m.client.ID, cmp.Or(h.Host, "a host it does not name"), text, m.client.ID))
	}
	if o := m.client.Override; o != nil && o.Fresh {
		m.anew(e.Session, fmt.Sprintf("an operator has decided about increment %d", o.Seq))
	}
}

func (m *Machine) admit(pos event.Position, h event.Hello, log Log) verdict {
	v := admit(&m.client, m.known, m.client.Role == statedb.Master, pos, h, log)
	if !m.known && (v.code == event.Welcome || v.code == event.Seek) && m.rules.ClientQuota.crowded() {
		return verdict{code: event.Refused, text: m.rules.ClientQuota.tooMany(m.client.ID)}
	}
	return v
}

// refuse answers a node that cannot be fed, whose database stands at pos. Its client's state changes only when nobody
// else speaks for the client: a stray process must not hurt a living one.
func (m *Machine) refuse(s event.Session, pos event.Position, h event.Hello, v verdict) {
	state := event.Fail
	if v.code == event.NeedsDump {
		state = event.Fatal
	}
	told := m.told(v.text, v.way, h, pos)
	m.say(event.Event{Kind: event.IncrRep, State: state, Code: v.code, Session: s, Text: told})
	if !m.known { // anybody can call himself anything: no record and no alert for each
		if v.code != event.Unknown && v.code != event.Refused {
			m.rules.ClientQuota.turnedAway(m.client.ID, told)
		}
		return
	}
	if v.code != event.NeedsDump || m.Connected() || !m.placed() {
		m.turnAway(v.text, v.way, processOf(h))
	}
	if v.code != event.NeedsDump || m.Connected() {
		return
	}
	if acked := m.client.Acked; !pos.Zero() && pos.Log == acked.Log && pos.Seq < acked.Seq {
		// an order counts from where the data is
		m.client.Acked, m.client.Base, m.rateSeen = pos, min(m.client.Base, pos.Seq), pos.Seq
		m.dirty = true
	}
	if m.placed() {
		m.needsDump(0, classRefused, v.text, v.way)
	}
}

// turnAway raises the alert that a process of this client was refused, and why. Beside one that works it is a stray: it
// hurts nobody, nothing is to be done to the copy, and the alert ends when it does not come back for a while.
func (m *Machine) turnAway(why string, way Way, p statedb.Process) {
	m.stray = 0
	if !m.Connected() {
		m.raiseWay("refused", 0, why, way)
		return
	}
	m.stray, m.strayWhy, m.strayWay = 1, why, way
	m.raise("refused", statedb.Warning, 0, fmt.Sprintf("another process of client %s (%s) was refused, and the one that "+
		"works goes on (%s): %s. Stop the other one, or give it an ID of its own", m.client.ID, process(p),
		process(m.client.Process), why))
}

// tickStray ends the alert about a stray process that does not come back.
func (m *Machine) tickStray() {
	switch {
	case m.stray == 0:
		return
	case !m.Connected(): // the one that seemed to work was gone already, or is now
		m.raiseWay("refused", 0, m.strayWhy, m.strayWay)
		return
	}
	if m.stray++; m.stray > m.joinWaitTicks() {
		m.stray = 0
		m.clear("refused")
	}
}

// told puts the way out that there is now after what has happened. h is what the node says of itself, and pos where its
// database stands; both may be empty.
func (m *Machine) told(what string, way Way, h event.Hello, pos event.Position) string {
	var g Situation
	if m.rules.Situation != nil && way != WayNone {
		g = m.rules.Situation()
	}
	s := Stranded{ID: m.client.ID, Kind: cmp.Or(h.Target, m.client.Driver), Topics: m.client.Topics,
		Role: m.client.Role, Known: m.known,
		Acked: m.client.Acked.Seq, Way: way}
	if h.Target != "" { // it said a hello
		s.Topics = h.Topics
	}
	if !pos.Zero() {
		s.Acked = pos.Seq
	}
	return Told(what, s.Out(g))
}

// needsDump stops the feeding until the node joins again. It raises the alert that says so, whoever wants it.
func (m *Machine) needsDump(seq uint64, class, text string, way Way) {
	m.dropRunning(text)
	m.supersede(fmt.Sprintf("the copy of client %s was given up", m.client.ID), class == orderedDump)
	m.decided()
	m.settleOutside(statedb.MayApplied, "the copy was given up before its node has answered")
	m.become(statedb.NeedsDump)
	m.trouble(seq, class, text)
	m.raiseWay("refused", seq, text, way)
	m.reply(event.Event{Kind: event.IncrRep, State: event.Fatal, Code: event.NeedsDump,
		Text: m.told(text, way, event.Hello{}, event.Position{})})
	m.presence.end()
	m.rewind()
}

// current reports whether s is the conversation of now. It begins an offered one.
func (m *Machine) current(s event.Session, log Log) bool {
	switch {
	case m.client.IsFenced(s.Instance):
		m.fence(s)
	case m.presence.open && s == m.client.Session:
		return true
	case !s.Zero() && s == m.offered.session:
		return m.begin(log)
	case s.Instance == m.client.Session.Instance && s.Turn < m.client.Session.Turn:
		m.nonsense++ // an older conversation of the same process
	default:
		m.anew(s, "this session is not open: the node has to open one")
	}
	return false
}

func (m *Machine) fence(s event.Session) {
	m.nonsense++
	m.say(event.Event{Kind: event.IncrRep, State: event.Fail, Code: event.Fenced, Session: s,
		Text: fmt.Sprintf("another process with the ID %s has taken over: this one has to stop", m.client.ID)})
}

// begin makes the offered session the current one. The newest wins; the process it replaces is told and
// refused from now on, also after a restart of the broker. The offer is judged once more: an order, a FATAL or
// the retention may have come between.
func (m *Machine) begin(log Log) bool {
	o := m.offered
	m.offered = offer{}
	v := m.admit(o.pos, o.hello, log)
	if v.code == event.NoCode { // the node says it again
		m.offered = o
		return false
	}
	if v.code != event.Welcome || v.from != o.from {
		m.say(event.Event{Kind: event.IncrRep, Code: event.Reopen, Session: o.session,
			Text: "the client was changed since this session was offered: the node has to open another one"})
		return false
	}
	if !m.known && !m.rules.ClientQuota.take() {
		m.refuse(o.session, o.pos, o.hello, verdict{code: event.Refused, text: m.rules.ClientQuota.tooMany(m.client.ID)})
		return false
	}
	old := m.client.Session
	newProcess := old.Instance != o.session.Instance
	if newProcess && old.Instance != 0 {
		m.client.Fence(old.Instance)
		if m.Connected() {
			m.fence(old)
			m.tookOver(m.client.Process, statedb.Process{Host: o.hello.Host, Pid: o.hello.Pid})
		}
	}
	m.client.Session, m.client.Driver, m.client.Topics, m.client.Stopped = o.session, o.hello.Target, o.hello.Topics, 0
	m.client.Process, m.client.Product = processOf(o.hello), o.hello.Product
	m.slow, m.slowSince, m.nextTry = false, 0, 0
	m.rules.Doubts.withdraw(m.client.ID)
	m.waiting = event.Session{}
	m.presence.begin()
	m.dirty, m.packs, m.clocked = true, o.hello.Packs, o.hello.Clock
	m.prepares, m.applies = o.hello.Prepares, o.hello.Applies
	m.clear("offline")
	m.clear("refused")
	m.stray = 0
	m.clear("slow")
	m.joinOver()
	if newProcess {
		m.disk, m.missing = nil, false // it may be another database
		m.happened(statedb.ClientCame, v.from.Seq, m.runs())
	}
	m.returned()
	if !v.promote {
		m.wentBack(v.from.Seq)
	}
	m.enter(v, newProcess)
	m.hear(v.from)
	if v.from.Seq < m.client.Acked.Seq { // it was put back
		m.decided()
		m.client.Anew = statedb.Anew{Time: m.now, From: v.from.Seq}
	}
	m.client.Acked = v.from
	m.client.Base = min(m.client.Base, v.from.Seq)
	m.passed(v.from.Seq)
	m.rateSeen = v.from.Seq
	m.rewind()
	m.window.grant(0, 0)
	m.lacks = form.Lacking(o.hello.Target, o.hello.Features)
	if m.lacks == 0 && m.client.LastError != nil && m.client.LastError.Class == classHeld {
		m.recovered() // its node was upgraded
	}
	m.targetReturned(newProcess)
	m.leftOutside(o.session.Instance)
	return true
}

// wentBack tells that the database stands before what its node had acknowledged, though nobody ordered that.
func (m *Machine) wentBack(seq uint64) {
	if acked := m.client.Acked.Seq; m.known && m.placed() && seq < acked && (m.client.Seek == nil ||
		m.client.Seek.Seq != seq) {
		m.happened(statedb.ClientCame, seq, fmt.Sprintf("its database stands at %d, and it had acknowledged %d: was a "+
			"backup restored? "+
			"%s again", seq, acked, units.Do(acked-seq, "increment", "runs", "run")))
	}
}

// enter moves the record to the state in which the new session is fed.
func (m *Machine) enter(v verdict, newProcess bool) {
	c := &m.client
	if !m.known {
		m.known, c.Created = true, m.now
		m.become(statedb.Following)
		c.Base = v.from.Seq
		return
	}
	if c.Seek != nil && *c.Seek == v.from {
		c.Seek, m.dirty = nil, true
		c.Base = v.from.Seq
		newProcess = true // an operator or the node itself chose this position: a failure before it is over
	}
	if v.promote {
		m.route(c.Join.Target, Input{Left: &Left{Dump: c.Join.Dump, ID: c.ID, Request: c.Join.Request, Served: true}})
		c.Joined, c.Join, c.Base = c.Join.Request, nil, v.from.Seq
		c.Anew = statedb.Anew{Time: m.now}
		m.supersede(fmt.Sprintf("the copy of client %s was replaced", c.ID), false)
		m.clear("dump")
	}
	if c.State == statedb.Draining || c.State == statedb.Dumping || c.State == statedb.Following {
		return
	}
	if c.State == statedb.Failed && !newProcess && !v.promote {
		return // a process that comes back after a cut has not been mended; a new one may have been
	}
	if c.State == statedb.Pending || c.State == statedb.Loading {
		c.Base = v.from.Seq
	}
	c.Registered = false
	m.recovered()
	m.become(statedb.Following)
}

// hear notes that a session begins in which the node hears of a decision about one increment. Had it applied that
// increment before, then the decision came too late: it ends, with a sentence, and touches no other increment.
func (m *Machine) hear(from event.Position) {
	o := m.client.Override
	if o == nil || !o.Fresh {
		return
	}
	if from.Seq >= o.Seq {
		m.undone(o, fmt.Sprintf("client %s had applied increment %d before the order to %s it reached its node: "+
			"nothing was done", m.client.ID, o.Seq, o.Verb()))
		m.client.Override, m.dirty = nil, true
		return
	}
	known := *o
	known.Fresh = false
	m.client.Override, m.dirty = &known, true
}

// undone tells that an order was not carried out. That a retry was not needed is no news for an alert.
func (m *Machine) undone(o *statedb.Override, text string) {
	m.dropped(o.Verb(), o.Seq, text)
	if o.Verb() != string(Retry) {
		m.raise("order", statedb.Warning, o.Seq, text)
	}
}

// dropped puts it into the audit list that an order was not carried out.
func (m *Machine) dropped(verb string, seq uint64, text string) {
	m.work.Audit = append(m.work.Audit, statedb.Audit{Time: m.now, Verb: statedb.Dropped + verb,
		Client: m.client.ID, Seq: seq,
		Reason: text})
}

// supersede drops what operators ordered before and the client has not carried out: a position to adopt, a decision
// about an increment. Whatever comes later wins: another order, or the end of the copy that the order was for (DUMP,
// FATAL, needs_dump); why says what it was. It is the one place where pending orders end without having been carried
// out, and none ends there in silence: the audit list says so, and, unless an operator has just been told (order), an
// alert.
func (m *Machine) supersede(why string, told bool) {
	if seek := m.client.Seek; seek != nil {
		m.dropped(string(SeekTo), seek.Seq+1, fmt.Sprintf("%s: the order to move client %s to %d was dropped", why,
			m.client.ID,
			seek.Seq))
	}
	if o := m.client.Override; o != nil {
		text := fmt.Sprintf("%s: the order to %s increment %d at client %s was dropped, and %s carried out", why, o.Verb(),
			o.Seq, m.client.ID, m.carried(o))
		if told {
			m.dropped(o.Verb(), o.Seq, text)
		} else {
			m.undone(o, text)
		}
	}
	m.settle()
}

// settle forgets the pending orders: they are carried out.
func (m *Machine) settle() {
	if m.client.Seek != nil || m.client.Override != nil {
		m.client.Seek, m.client.Override, m.dirty = nil, nil, true
	}
}

// carried says whether a pending order has been carried out, as far as the broker knows.
func (m *Machine) carried(o *statedb.Override) string {
	if !o.Fresh && m.client.State != statedb.Failed { // its node's word of that may be on the way
		return "may not have been"
	}
	return "was not"
}

// rewind forgets what is in flight: it will be sent again from acked.
func (m *Machine) rewind() {
	m.window.reset(m.client.Acked)
	m.barred = 0
}

func (m *Machine) heard() {
	m.presence.heard()
	m.client.Heard = m.now
	if m.client.Silent != 0 {
		m.client.Silent, m.lag = 0, true
	}
}

// Connected reports whether the node has been heard of lately.
func (m *Machine) Connected() bool { return m.presence.connected() }

// --- increments ---

// applied takes INCR_REQ/SUCC: acknowledgement, credit and heartbeat in one.
func (m *Machine) applied(e *event.Event, log Log) {
	moved, ok := m.ack(e, log)
	if !ok {
		return
	}
	switch {
	case e.Code == event.Bye:
		if d := m.running(); d != nil && d.Phase != dumpflow.Draining {
			m.dropRunning(fmt.Sprintf("the node of the target %s was stopped", m.client.ID))
		}
		m.settleOutside(statedb.MayApplied, "its node has ended without an answer")
		m.presence.end()
		m.client.Stopped, m.dirty = m.now, true
		m.happened(statedb.ClientWent, m.client.Acked.Seq,
			strings.TrimSuffix("its node said goodbye; it ran "+m.runs(), "; it ran "))
		m.clear("offline")
		m.clear("slow")
		return
	case m.client.State == statedb.Failed:
		m.hold()
		if !moved {
			m.tellOutside()
		}
		return
	case e.Code == event.Retrying:
		if m.nextTry = 0; e.LeaseMS > 0 {
			m.nextTry = m.now + int64(e.LeaseMS)*1e6
		}
		m.trouble(m.client.Acked.Seq+1, classRetry, e.Text)
		m.raise("retry", statedb.Warning, m.client.Acked.Seq+1, fmt.Sprintf("client %s cannot reach or use its database and "+
			"tries again: %s", m.client.ID, e.Text))
	case m.client.LastError != nil && m.client.LastError.Class == classRetry: // what is held is told of again
		m.recovered()
	case m.client.LastError != nil && m.client.LastError.Class == classHeld:
		// it may have had trouble with what precedes that
		m.clear("retry")
	}
	if d, err := event.DecodeDisk(e.Body); err == nil {
		m.disk = &Disk{d.Free, d.Total, at(m.now)}
	}
	if e.Code == event.Slow {
		m.sits(e)
	} else if m.slow {
		m.slow, m.slowSince = false, 0
		m.clear("slow")
	}
	if !moved { // a heartbeat: tell how far we have sent, so that a lost frame is noticed
		m.reply(event.Event{Kind: event.IncrRep, State: event.Succ, Pos: m.window.sent,
			LeaseMS: m.presence.heartbeatInterval(), Clock: m.clock(m.window.sent)})
		m.tellOutside()
	}
}

// sits tells of increments that have been at the database for long.
func (m *Machine) sits(e *event.Event) {
	text := e.Text
	m.slow, m.slowText = true, text
	if e.LeaseMS > 0 {
		m.slowSince = m.now - int64(e.LeaseMS)*1e6
	} else if m.slowSince == 0 {
		m.slowSince = m.now
	}
	seq := m.client.Acked.Seq + 1
	m.raise("slow", statedb.Warning, seq,
		fmt.Sprintf("client %s: %s. Look at what the database does; after its time limit the increment fails, and "+
			"`xmq client skip %s --seq N --reason TEXT` (or retry, replace) for increment N ends it now", m.client.ID, text,
			m.client.ID))
}

// ack moves acked forward to e.Pos, which must have been sent and lie on this log's chain (XI-3), and takes
// the window. ok is false when the event says something wrong or old; nothing has changed then.
func (m *Machine) ack(e *event.Event, log Log) (moved, ok bool) {
	if e.Pos.Seq < m.client.Acked.Seq && e.Pos.Log == m.client.Acked.Log {
		return false, false // a repetition
	}
	if e.Pos.Seq > m.window.sent.Seq || e.Pos.Log != m.client.Acked.Log {
		m.wrong(fmt.Sprintf("position %d of log %s was never sent (sent: %d of log %s)", e.Pos.Seq, e.Pos.Log,
			m.window.sent.Seq, m.window.sent.Log))
		return false, false
	}
	here, err := log.Position(e.Pos.Seq)
	if err != nil && !final(err) {
		return false, false // the node says it again
	}
	if err != nil {
		m.wrong(fmt.Sprintf("position %d cannot be compared: %v", e.Pos.Seq, err))
		return false, false
	}
	if here != e.Pos {
		m.wrong(fmt.Sprintf("position %d has chain %s there and %s here", e.Pos.Seq, e.Pos.Chain, here.Chain))
		return false, false
	}
	m.window.grant(uint64(e.CreditRecords), int(e.CreditBytes))
	if e.Pos.Seq == m.client.Acked.Seq {
		return false, true
	}
	m.client.Acked = e.Pos
	m.lag = true
	m.rules.Doubts.agree() // a database that follows
	m.window.ack(e.Pos.Seq)
	m.passed(e.Pos.Seq)
	return true, true
}

// passed ends the trouble with increments that the client has applied now.
func (m *Machine) passed(seq uint64) {
	if o := m.client.Override; o != nil && seq >= o.Seq {
		m.client.Override, m.dirty = nil, true
	}
	if t := m.client.LastError; t != nil && seq >= t.Seq && m.client.State != statedb.Failed && t.Class != orderedDump {
		m.recovered()
	}
}

// wrong answers what cannot be true. Only this session suffers: the node opens another one and is judged.
func (m *Machine) wrong(text string) {
	m.nonsense++
	m.reopen(text)
}

// reopen ends the session and asks for another one. Who does not come back for it is missed as any node that falls
// silent.
func (m *Machine) reopen(text string) {
	if m.presence.open {
		m.anew(m.client.Session, text)
	}
	m.presence.reopen()
}

// anew asks for another session than s. A decision of which the node has not heard is told with it: what is at its
// database up to the increment concerned is given up.
func (m *Machine) anew(s event.Session, text string) {
	e := event.Event{Kind: event.IncrRep, Code: event.Reopen, Session: s, Text: text}
	if o := m.client.Override; o != nil && o.Fresh {
		e.Pos = event.Position{Log: m.client.Acked.Log, Seq: o.Seq}
	}
	m.say(e)
}

// failed takes INCR_REQ/FAIL: the increment after e.Pos failed. Feeding stops until somebody acts (XS-3).
func (m *Machine) failed(e *event.Event, log Log) {
	if _, ok := m.ack(e, log); !ok {
		return
	}
	seq := m.client.Acked.Seq + 1
	if m.client.State == statedb.Failed {
		m.hold()
		return
	}
	if seq > m.window.sent.Seq {
		m.wrong(fmt.Sprintf("increment %d was never sent, it cannot have failed", seq))
		return
	}
	m.dropRunning(fmt.Sprintf("the target %s failed at increment %d: %s", m.client.ID, seq, e.Text))
	m.decided()
	m.become(statedb.Failed)
	m.trouble(seq, classFail, e.Text)
	m.replacementFailed(seq, e.Text)
	if o := m.client.Override; o == nil || o.Seq <= seq { // one about a later increment stands
		m.settle()
	}
	m.rewind()
	m.raise("fail", statedb.Critical, seq, fmt.Sprintf("client %s could not apply increment %d: %s. "+
		"See it: xmq log show %d; mend the database and run xmq client retry %s; or pass over it there: xmq client skip "+
		"%s --seq %d --reason TEXT (or replace)",
		m.client.ID, seq, e.Text, seq, m.client.ID, m.client.ID, seq))
	m.hold()
}

// replacementFailed puts it into the audit list that the database has refused the body that was ordered instead of an
// increment: nothing was replaced.
func (m *Machine) replacementFailed(seq uint64, text string) {
	if o := m.client.Override; o != nil && o.Seq == seq && o.Verb() == string(Replace) {
		m.work.Audit = append(m.work.Audit, statedb.Audit{Time: m.now, Verb: o.Verb() + statedb.Refused,
			Client: m.client.ID, Seq: seq, From: m.client.Acked.Seq, To: m.client.Acked.Seq,
			Reason: strings.ToValidUTF8(text[:min(len(text), longestWhy)], "")})
	}
}

// longestWhy is how much of a database's words the audit list keeps.
const longestWhy = 500

// hold tells a failed node that it was heard and waits for an operator.
func (m *Machine) hold() {
	text := ""
	if m.client.LastError != nil {
		text = fmt.Sprintf("increment %d failed: %s", m.client.LastError.Seq, m.client.LastError.Text)
	}
	m.reply(event.Event{Kind: event.IncrRep, State: event.Fail, Code: event.Held, Pos: m.client.Acked, Text: text})
}

// fatal takes INCR_REQ/FATAL: the copy is lost. The positions are cleared, durably (XS-5, XD-8).
func (m *Machine) fatal(e *event.Event) {
	m.dropRunning(fmt.Sprintf("the target %s lost its copy: %s", m.client.ID, e.Text))
	m.decided()
	m.settleOutside(statedb.MayApplied, "the copy was lost before its node has answered")
	m.become(statedb.Fatal)
	m.trouble(m.client.Acked.Seq, classFatal, e.Text)
	m.supersede(fmt.Sprintf("the copy of client %s was lost", m.client.ID), false)
	m.client.Acked, m.client.Base = event.Position{}, 0
	m.rewind()
	what := fmt.Sprintf("client %s lost its copy: %s", m.client.ID, e.Text)
	m.raiseWay("fatal", m.client.LastError.Seq, what, WayLost)
	m.reply(event.Event{Kind: event.IncrRep, State: event.Fatal, Code: event.NeedsDump,
		Text: m.told("its copy is lost", WayLost, event.Hello{}, event.Position{})})
	m.presence.end()
}

// Lost says that the log cannot feed this client any further than it has: what comes next is damaged, or was trimmed
// by policy meanwhile.
func (m *Machine) Lost(why string, now int64) {
	m.now = now
	m.unfed(m.window.sent.Seq, why)
}

// unfed ends the feeding of a client for which the log has nothing after a sequence. Where the client stands is what
// its node has confirmed, never what was sent.
func (m *Machine) unfed(after uint64, why string) {
	where := "from there"
	if after != m.client.Acked.Seq {
		where = fmt.Sprintf("after %d", after)
	}
	text := fmt.Sprintf("client %s stands at %d and cannot be fed %s (%s)", m.client.ID, m.client.Acked.Seq, where, why)
	m.needsDump(after+1, classRefused, text, WayTrimmed)
}

// trimmed looks whether the log still reaches back to where this client stands (XR-6). A client that waits for
// a DUMP anyway loses nothing.
func (m *Machine) trimmed(log Log) {
	switch seq, first := m.from().Seq+1, log.First(); {
	case seq >= first:
	case m.placed():
		m.unfed(seq-1, "retention has freed the log below "+fmt.Sprint(first))
	case m.client.Seek != nil: // which would hold the log for ever
		m.supersede("retention has freed what it was about", true)
		m.raise("refused", statedb.Critical, seq, fmt.Sprintf("client %s was ordered to begin with %d, and its node has "+
			"not come before retention freed the log below %d: order another position", m.client.ID, seq, first))
	}
}

// evict takes the client's place in the log, which is at its limit: it has to join again with a DUMP.
func (m *Machine) evict(e *Evict) {
	seq := m.from().Seq + 1
	switch {
	case m.presence.silence() < e.Silent:
		return // it was heard since retention looked
	case !m.placed() && m.client.Seek != nil: // only the order holds the log: no node has come to adopt the position
		m.supersede("retention has freed what it was about", true)
		m.raiseWay("refused", seq, e.Reason, WayTrimmed)
		return
	case !m.placed():
		return
	}
	m.needsDump(seq, classRefused, e.Reason, WayTrimmed)
}

// from is after which increment the client is fed next: where it stands, or where an operator moves it to.
func (m *Machine) from() event.Position {
	if m.client.Seek != nil {
		return *m.client.Seek
	}
	return m.client.Acked
}

// feed says what to send next, or nil: only to a client that follows, is open, is not held for a DUMP and
// has window left. One increment always fits an empty window of at least one.
func (m *Machine) feed(head event.Position) *Feed {
	records, bytes := m.window.left(m.client.Acked.Seq)
	if !m.feedable() || records == 0 || m.barred != 0 || m.window.sent.Seq >= head.Seq {
		return nil
	}
	idle := m.window.inFlight(m.client.Acked.Seq) == 0
	if !idle && (bytes <= 0 || m.rules.Budget.full()) {
		return nil
	}
	records = min(records, uint64(m.rules.TurnRecords), head.Seq-m.window.sent.Seq)
	f := &Feed{From: m.window.sent, MaxRecords: int(records), MaxBytes: min(bytes, m.rules.TurnBytes), Window: bytes,
		Topics: m.client.Topics, Override: m.client.Override, Pack: m.packs, Lacks: m.lacks}
	if idle {
		f.Window = math.MaxInt
	}
	return f
}

func (m *Machine) feedable() bool {
	return m.Connected() && m.client.State == statedb.Following && m.client.Seek == nil
}

// Waiting reports that only news in the log would make this machine runnable.
func (m *Machine) Waiting() bool {
	records, _ := m.window.left(m.client.Acked.Seq)
	return m.feedable() && records > 0
}

// Full notes that the next increment does not fit into what is left of the window: the next acknowledgement
// makes room.
func (m *Machine) Full() { m.window.fill() }

// Hold notes that the increment after what was sent needs features that the node does not know: it would do
// something else with it. It waits, with all after it, until the node comes back with them or an operator
// decides.
func (m *Machine) Hold(needs form.Features, now int64) {
	m.now = now
	m.barred = m.window.sent.Seq + 1
	text := fmt.Sprintf("increment %d needs %s, which the node of client %s does not know: it is held until that node "+
		"is upgraded",
		m.barred, needs, m.client.ID)
	m.trouble(m.barred, classHeld, text)
	m.raise("upgrade", statedb.Critical, m.barred, fmt.Sprintf("%s, and goes on by itself then. To decide "+
		"otherwise about this increment alone: `xmq client skip %s --seq %d --reason TEXT` (or replace; or retry, which "+
		"sends it "+
		"all the same)", text, m.client.ID, m.barred))
}

// Fed notes that the frame up to end, of so many bytes, is on its way, and returns its event.
func (m *Machine) Fed(end event.Position, frame []byte) event.Event {
	e := event.Event{Kind: event.IncrRep, State: event.Succ, Group: m.rules.Group, ID: m.client.ID,
		Session: m.client.Session,
		Pos:     m.window.sent, Body: frame, Clock: m.clock(end)}
	m.window.add(end, len(frame))
	m.account()
	return e
}

// --- orders ---

func (m *Machine) order(o *Order, log Log) {
	before, drops := m.client.Acked.Seq, m.drops(o)
	e := m.effect(o)
	text := m.execute(o, log)
	if text == "" {
		if o.Verb == Retry || o.Verb == Skip || o.Verb == Replace {
			e = m.effect(o) // it names the increment now
			e.from = before
			e.text += drops
		}
		m.audit(o, e)
	}
	if text == "" && o.Verb != Cancel && o.Verb != Drop && o.Verb != Apply {
		m.joinOver()
	}
	m.work.Replies = append(m.work.Replies,
		OrderReply{Token: o.Token, Refused: text, Ask: o.asked, Told: e.text, Seq: o.Seq, From: e.from, To: e.to, At: m.now})
}

func (m *Machine) execute(o *Order, log Log) (refused string) {
	c := &m.client
	if !m.known && m.hurriesNewcomer(o) {
		return ""
	}
	if !m.known && o.Verb != Cancel && o.Verb != Drop && o.Verb != Add && o.Verb != SeekTo {
		return fmt.Sprintf("there is no client %s", c.ID)
	}
	switch o.Verb {
	case Retry, Skip, Replace:
		return m.repair(o, log)
	case SeekTo:
		return m.seek(o, log)
	case Add:
		return m.add(o)
	case Apply:
		return m.applyOutside(o)
	case Forget:
		if refused = m.sure(o); refused != "" {
			return refused
		}
		m.dropRunning(fmt.Sprintf("the target %s was forgotten", c.ID))
		if c.Join != nil {
			m.route(c.Join.Target, Input{Left: &Left{Dump: c.Join.Dump, ID: c.ID, Request: c.Join.Request}})
		}
		m.reply(event.Event{Kind: event.IncrRep, State: event.Fail, Code: event.Unknown,
			Text: fmt.Sprintf("an operator has forgotten client %s: to come back it has to join with a DUMP", c.ID)})
		m.settleOutside(statedb.MayApplied, "the client was forgotten before its node has answered")
		m.supersede("the client was forgotten", true)
		m.clearAll()
		m.gone()
	case Redump:
		if c.State == statedb.Pending || c.State == statedb.Loading || c.State == statedb.Fatal {
			return fmt.Sprintf("client %s is %s: it has to join with a DUMP anyway", c.ID, c.State)
		}
		if refused = m.sure(o); refused != "" {
			return refused
		}
		text := cmp.Or(o.By, "an operator") + " ordered client " + c.ID + " to join again"
		if o.Reason != "" {
			text += " (" + o.Reason + ")"
		}
		m.needsDump(0, orderedDump, text, WayOrdered)
	case Drop:
		return m.drop(o)
	case Cancel:
		d := m.running()
		if d == nil {
			return fmt.Sprintf("no DUMP runs at %s", c.ID)
		}
		m.abandon(d, "cancelled by an operator") // who ordered it needs no alert
		m.happened(statedb.DumpFailed, d.Pos.Seq, fmt.Sprintf("DUMP %s of %s: cancelled by an operator", d.ID, c.ID))
		m.clear("dump")
	default:
		return fmt.Sprintf("unknown order %q", o.Verb)
	}
	return ""
}

// repair carries out retry, skip and replace: an increment is delivered again, passed over, or delivered with another
// body, to this client only (XC-1). What the node says in the session of before is not heard any more; what its
// database does then is given up.
func (m *Machine) repair(o *Order, log Log) (refused string) {
	c := &m.client
	if m.hurries(o, log) {
		return ""
	}
	if refused = m.concerned(o, log); refused != "" {
		return refused
	}
	if o.Verb != Retry && o.Reason == "" {
		return fmt.Sprintf("%s needs a reason: it will stand in the audit list", o.Verb)
	}
	if o.Verb == Replace && len(o.Body) == 0 {
		return "replace needs a body"
	}
	if lacks := m.lacks & form.Needs(o.Body); o.Verb == Replace && lacks != 0 {
		return fmt.Sprintf("this body needs %s, which the node of client %s does not know: write it otherwise, or upgrade "+
			"the node", lacks, c.ID)
	}
	if o.Verb == Skip && o.Limit != 0 {
		return "an increment that is passed over needs no time limit"
	}
	m.clear("order") // it was about an order before
	m.supersede(fmt.Sprintf("%s of increment %d was ordered", o.Verb, o.Seq), c.Override == nil || c.Override.Seq == o.Seq)
	m.decided()
	c.Decisions++
	c.Override = &statedb.Override{Seq: o.Seq, Decision: c.Decisions, Skip: o.Verb == Skip, Limit: o.Limit,
		Reason: o.Reason, Fresh: true, Time: m.now}
	if o.Verb == Replace {
		c.Override.Body = o.Body
	}
	m.dirty = true
	m.rewind()
	if c.State == statedb.Failed {
		m.become(statedb.Following)
	}
	if !m.waiting.Zero() {
		m.anew(m.waiting, fmt.Sprintf("an operator has decided about increment %d", o.Seq))
	}
	m.reopen(fmt.Sprintf("an operator has decided about increment %d", o.Seq)) // a FAIL that is repeated is of before then
	return ""
}

// tryAgain is what the node hears that waits for its database.
const tryAgain = "an operator has ordered to try again"

// hurries obeys a retry of a client whose node waits for its database while no increment comes next: it tries again
// now. Nothing is decided about an increment, so nothing stays pending.
func (m *Machine) hurries(o *Order, log Log) bool {
	next, t := m.client.Acked.Seq+1, m.client.LastError
	if o.Verb != Retry || o.Limit != 0 || o.Seq != 0 && o.Seq != next || next <= log.Head().Seq || m.client.Seek != nil ||
		!m.placed() || m.client.State == statedb.Failed || t == nil || t.Class != classRetry ||
		!m.presence.open && m.waiting.Zero() {
		return false
	}
	o.Seq = 0
	for _, s := range []event.Session{m.waiting, m.client.Session} {
		if s == m.waiting && !s.Zero() || s == m.client.Session && m.presence.open {
			m.say(event.Event{Kind: event.IncrRep, Code: event.Reopen, Session: s, Text: tryAgain,
				Pos: event.Position{Log: m.client.Acked.Log, Seq: next}})
		}
	}
	if m.presence.open {
		m.presence.reopen()
	}
	return true
}

// hurriesNewcomer is hurries for a node that nobody knows.
func (m *Machine) hurriesNewcomer(o *Order) bool {
	if o.Verb != Retry || o.Limit != 0 || o.Seq != 0 {
		return false
	}
	s := m.rules.ClientQuota.hears(m.client.ID, m.now)
	if !s.Zero() {
		m.say(event.Event{Kind: event.IncrRep, Code: event.Reopen, Session: s, Text: tryAgain})
	}
	return !s.Zero()
}

// concerned finds the increment that retry, skip or replace is about: the one that failed, or, when it is named, one
// that may be at the database of a client that is fed.
func (m *Machine) concerned(o *Order, log Log) (refused string) {
	c := &m.client
	head, next := log.Head().Seq, c.Acked.Seq+1
	last := head // nobody knows how far a node has come that is not heard
	if m.presence.open {
		last = max(m.window.sent.Seq, next)
	}
	switch {
	case c.Seek != nil:
		return fmt.Sprintf("client %s is to go on from %d, and its node has not adopted that yet: wait until it has "+
			"come, or order another position, which takes the place of that: xmq client seek %s SEQ --reason TEXT", c.ID,
			c.Seek.Seq, c.ID)
	case c.State == statedb.Failed && c.LastError != nil: // one about a later increment cannot be carried out before this
		if o.Seq != 0 && o.Seq != c.LastError.Seq {
			return fmt.Sprintf("client %s failed at increment %d, not at %d", c.ID, c.LastError.Seq, o.Seq)
		}
		o.Seq = c.LastError.Seq
		return ""
	case !m.placed():
		return fmt.Sprintf("client %s has not failed, it is %s: there is nothing to %s", c.ID, c.State, o.Verb)
	case o.Seq != 0 && o.Seq < next:
		return fmt.Sprintf("client %s stands at %d, past increment %d: there is nothing to %s", c.ID, c.Acked.Seq,
			o.Seq, o.Verb)
	case next > head:
		return fmt.Sprintf("client %s has not failed and has applied all there is, up to %d: there is nothing to %s",
			c.ID, c.Acked.Seq, o.Verb)
	case o.Seq == 0 && o.Verb == Retry && c.LastError != nil && c.LastError.Class == classRetry && c.LastError.Seq == next:
		o.Seq = next // its node waits for the next try: this hurries it
	case o.Seq == 0 && c.Override != nil:
		return fmt.Sprintf("client %s has not failed, and the order to %s increment %d is on its way: say --seq %d to order "+
			"something else about it", c.ID, c.Override.Verb(), c.Override.Seq, c.Override.Seq)
	case o.Seq == 0:
		return fmt.Sprintf("client %s has not failed: say --seq %d to %s the increment that comes next there, or "+
			"another one that its node says it is at", c.ID, next, o.Verb)
	case o.Seq > last && (c.Override == nil || c.Override.Seq != o.Seq):
		return fmt.Sprintf("client %s has applied increments up to %d and can be at those up to %d: it is not at %d",
			c.ID, c.Acked.Seq, last, o.Seq)
	}
	return m.another(o)
}

// another refuses an order about another increment than that of an order which is not carried out: one is kept, and
// the later one would drop the earlier one. A retry that changes nothing gives way, and so does an order about a later
// increment than the one at which the client stands still, as it does when the client has failed.
func (m *Machine) another(o *Order) (refused string) {
	old := m.client.Override
	if old == nil || old.Seq == o.Seq || old.Verb() == string(Retry) && old.Limit == 0 {
		return ""
	}
	if o.Seq == m.client.Acked.Seq+1 && old.Seq > o.Seq && m.standsStill() {
		return "" // that one cannot be carried out before this; what is dropped is told
	}
	since := ""
	if old.Time != 0 {
		since = ", ordered at " + at(old.Time).UTC().Format("2006-01-02 15:04:05Z")
	}
	return fmt.Sprintf("client %s has an order that is not carried out yet, %s of increment %d%s, and keeps one at "+
		"a time: wait until its node has come past %d, or take that back with xmq client retry %s --seq %d", m.client.ID,
		old.Verb(), old.Seq, since, old.Seq, m.client.ID, old.Seq)
}

// standsStill reports that the node says of the increment that comes next that its database will not pass it now.
func (m *Machine) standsStill() bool {
	t := m.client.LastError
	return m.slow || t != nil && t.Class == classRetry && t.Seq == m.client.Acked.Seq+1
}

func (m *Machine) seek(o *Order, log Log) (refused string) {
	c := &m.client
	if c.State == statedb.Fatal || (c.State == statedb.Pending || c.State == statedb.Loading) &&
		(!c.Registered || c.Join != nil) {
		return fmt.Sprintf("client %s is %s: it has to finish a DUMP before it can be moved", c.ID, c.State)
	}
	pos, err := explicit(o.Seq, log)
	if err != nil {
		return fmt.Sprintf("client %s cannot be moved to %d: %v", c.ID, o.Seq, err)
	}
	if refused = m.sure(o); refused != "" {
		return refused
	}
	if !m.known {
		if refused = m.register(nil); refused != "" {
			return refused
		}
	}
	m.dropRunning(fmt.Sprintf("the target %s was moved to another position", c.ID))
	if !m.stays(o) {
		m.supersede(fmt.Sprintf("seek to %d was ordered", o.Seq), true)
	}
	if c.Override == nil {
		m.clear("order") // it was about an order before
	}
	m.decided()
	c.Seek, m.dirty = &pos, true
	m.reply(event.Event{Kind: event.IncrRep, Code: event.Seek, Pos: pos})
	return ""
}

// decided notes that the copy is not what it was: a snapshot of before is not what who asks for one now means.
func (m *Machine) decided() { m.client.Decided, m.dirty = m.now, true }

// add registers an ID of which no node has been heard: with --at it may choose where it begins.
func (m *Machine) add(o *Order) (refused string) {
	c := &m.client
	switch {
	case !m.known:
		return m.register(o.Topics)
	case c.Registered && slices.Equal(c.Topics, o.Topics):
		return "" // said twice
	}
	return fmt.Sprintf("client %s is there already, it is %s: there is nothing to add", c.ID, c.State)
}

// register makes the record of an ID that nobody knows, because an operator says so.
func (m *Machine) register(topics []string) (refused string) {
	if !m.rules.ClientQuota.take() {
		return m.rules.ClientQuota.tooMany(m.client.ID)
	}
	m.known, m.client.Created, m.client.Registered, m.client.Topics = true, m.now, true, slices.Clone(topics)
	m.become(statedb.Pending)
	return ""
}

// --- small tools of the transitions ---

// placed reports that the client has a position from which it is to be fed.
func (m *Machine) placed() bool { return m.client.Placed() }

// become changes the state, by the list of moves only: anything else is a bug of this package.
func (m *Machine) become(s statedb.State) {
	if s != m.client.State && !slices.Contains(moves[m.client.State], s) {
		panic(fmt.Sprintf("worker: client %s cannot go from %q to %q", m.client.ID, m.client.State, s))
	}
	m.client.State, m.dirty = s, true
}

// gone removes the record. What it knew of the client's processes stays: one that was replaced is refused when the ID
// comes back.
func (m *Machine) gone() {
	old := m.client
	m.become("")
	m.client = statedb.Client{V: statedb.ClientVersion, ID: old.ID, Role: old.Role,
		Session: old.Session, Fenced: old.Fenced}
	if !old.Unfed() { // a snapshot of before is not one of the client that comes back under this ID
		m.client.Decided = m.now
	}
	m.rules.ClientQuota.give()
	m.presence.forget()
	m.known, m.dirty, m.lag, m.offered = false, false, false, offer{}
	m.rewind()
	m.work.Gone = true
	if old.Session.Instance != 0 || len(old.Fenced) > 0 {
		m.work.Forgotten = &statedb.Forgotten{ID: old.ID, Session: old.Session, Fenced: old.Fenced}
	}
}

func (m *Machine) trouble(seq uint64, class, text string) {
	since := m.now
	if old := m.client.LastError; old != nil && old.Class == class && (old.Seq == seq || class == classRetry) {
		since = old.Began()
	}
	m.client.LastError, m.dirty = &statedb.Trouble{Seq: seq, Class: class, Text: text, Time: m.now, Since: since}, true
}

// recovered ends the last trouble and the alerts that stand for it.
func (m *Machine) recovered() {
	if m.client.LastError == nil {
		return
	}
	m.client.LastError, m.barred, m.dirty = nil, 0, true
	for _, kind := range []string{"fail", "fatal", "retry", "refused", "slow", "upgrade", "join"} {
		m.clear(kind)
	}
}

func (m *Machine) clearAll() {
	for _, kind := range []string{"fail", "fatal", "retry", "refused", "slow", "offline", "stopped", "lag", "dump",
		"order", "upgrade", "join", "takeover", "node-disk"} {
		m.clear(kind)
	}
}

func (m *Machine) raise(kind string, s statedb.Severity, seq uint64, text string) {
	m.alert(kind, statedb.Alert{Severity: s, Seq: seq, Text: text})
}

// raiseWay raises a critical alert whose end depends on which other copies there are: that is said when it is shown.
func (m *Machine) raiseWay(kind string, seq uint64, text string, way Way) {
	if kind == "refused" {
		m.stray = 0 // it is about the client itself
	}
	m.alert(kind, statedb.Alert{Severity: statedb.Critical, Seq: seq, Text: text, Way: string(way)})
}

func (m *Machine) alert(kind string, a statedb.Alert) {
	key := kind + "/" + m.client.ID
	if kind == "fail" || kind == "fatal" || kind == "refused" {
		m.clear("offline") // see broken
	}
	// what is raised last stands
	m.work.Clear = slices.DeleteFunc(m.work.Clear, func(k string) bool { return k == key })
	a.Key, a.Client, a.Last = key, m.client.ID, m.now
	m.up[kind] = slices.Contains(boundAlerts, kind)
	m.work.Raise = append(m.work.Raise, a)
}

// happened puts a row of this client into the timeline.
func (m *Machine) happened(kind statedb.Kind, seq uint64, cause string) {
	m.work.Events = append(m.work.Events, statedb.Event{Time: m.now, Kind: kind, Client: m.client.ID,
		Seq: seq, Cause: cause})
}

// runs says where the node runs, as far as it says so itself.
func (m *Machine) runs() string {
	p := m.client.Process
	if p.Host == "" && p.Pid == 0 {
		return ""
	}
	text := fmt.Sprintf("on %s, pid %d", cmp.Or(p.Host, "?"), p.Pid)
	if p.Version != "" {
		text += ", version " + p.Version
	}
	if p.Address != "" {
		text += ", " + p.Address
	}
	return text
}

func (m *Machine) clear(kind string) { m.work.Clear = append(m.work.Clear, kind+"/"+m.client.ID) }

func (m *Machine) audit(o *Order, e effect) {
	m.work.Audit = append(m.work.Audit,
		statedb.Audit{Time: m.now, Verb: string(o.Verb), Client: m.client.ID, Seq: o.Seq, From: e.from, To: e.to,
			Limit:  event.FormatLimit(o.Limit),
			Reason: o.Reason, By: o.By, Via: o.Via})
}

// reply says something in the current session.
func (m *Machine) reply(e event.Event) {
	if m.presence.open {
		e.Session = m.client.Session
		m.say(e)
	}
}

// say sends an event to this client's node.
func (m *Machine) say(e event.Event) {
	e.Group, e.ID = m.rules.Group, m.client.ID
	m.work.Send = append(m.work.Send, e)
}

func (m *Machine) route(to string, in Input) {
	m.work.Route = append(m.work.Route, Routed{to, in})
}

// tickRate smooths acked increments per tick over about five ticks.
func (m *Machine) tickRate() {
	now := m.client.Acked.Seq
	d := 0.0
	if now > m.rateSeen {
		d = float64(now - m.rateSeen)
	}
	m.rateSeen = now
	m.rate += (d - m.rate) / 5
	if m.rate < 0.01 {
		m.rate = 0
	}
}

// View is this client as the outside sees it; what the machine cannot know (lag in seconds, worker) is left
// to the caller.
func (m *Machine) View(head event.Position) View {
	c := m.client.Clone()
	v := View{ID: c.ID, Role: c.Role, State: c.State, Condition: m.condition(), Base: c.Base, Sent: m.window.sent.Seq,
		Acked:     c.Acked.Seq,
		Connected: m.Connected(), LastError: troubleOf(c.LastError), Target: c.Driver, Product: c.Product, Topics: c.Topics,
		Log:     c.Acked.Log,
		Chain:   c.Acked.Chain,
		Session: c.Session.String(), Nonsense: m.nonsense, Join: c.Join, Created: at(c.Created), Updated: at(c.Updated),
		Heard:   at(c.Heard),
		Process: c.Process, Disk: m.disk}
	if v.Connected && c.State == statedb.Following {
		v.Rate = m.rate
	}
	if m.placed() && !m.waitsToJoin() { // its database may be another one than the record tells of
		lag := head.Seq - min(head.Seq, c.Acked.Seq)
		v.Lag = &lag
	}
	v.Moves = m.moves()
	v.Outside = m.outside()
	if o := c.Override; o != nil {
		v.Order = &Pending{Verb: o.Verb(), Seq: o.Seq, Limit: event.FormatLimit(o.Limit)}
	}
	if !v.Connected {
		v.SilentSeconds = float64(m.presence.silence()) / 1e9
		v.Missed = m.presence.missed()
	}
	return v
}

// troubleOf is a record's trouble as the outside sees it; nil for none.
func troubleOf(t *statedb.Trouble) *Trouble {
	if t == nil {
		return nil
	}
	return &Trouble{Seq: t.Seq, Class: t.Class, Text: t.Text, Time: at(t.Time), Since: at(t.Began())}
}
