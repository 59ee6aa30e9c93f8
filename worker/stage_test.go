package worker

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/increments"
	"xmq/statedb"
)

// memLog is a log in memory that can be trimmed and grow.
type memLog struct {
	mu      sync.Mutex
	id      event.LogID
	first   uint64
	records []event.Encoded // of sequence 1 on
	refuse  error           // of every read of what is not the head
	body    func(seq uint64) []byte
}

func newLog(n int) *memLog {
	l := &memLog{id: 0xf00d, first: 1, body: func(seq uint64) []byte { return fmt.Appendf(nil, "increment %d", seq) }}
	l.push(n, "")
	return l
}

func (l *memLog) push(n int, topic string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.head()
	for range n {
		at.Seq++
		e, c := event.EncodeRecord(nil, at.Seq, int64(at.Seq), at.Chain,
			event.Draft{Headers: event.Headers{Topic: topic}, Body: l.body(at.Seq)})
		at.Chain = c
		l.records = append(l.records, e)
	}
}

func (l *memLog) trim(first uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first = first
}

func (l *memLog) First() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

func (l *memLog) Head() event.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head()
}

func (l *memLog) head() event.Position { return l.at(uint64(len(l.records))) }

func (l *memLog) at(seq uint64) event.Position {
	if seq == 0 {
		return event.Start(l.id)
	}
	return event.Position{Log: l.id, Seq: seq, Chain: l.records[seq-1].Chain()}
}

func (l *memLog) Position(seq uint64) (event.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq+1 < l.first {
		return event.Position{}, fmt.Errorf("position %d: %w", seq, increments.ErrTrimmed)
	}
	if seq > uint64(len(l.records)) {
		return event.Position{}, fmt.Errorf("position %d: %w", seq, increments.ErrBeyond)
	}
	if l.refuse != nil && seq < uint64(len(l.records)) {
		return event.Position{}, fmt.Errorf("position %d: %w", seq, l.refuse)
	}
	return l.at(seq), nil
}

func (l *memLog) Read(from uint64, maxRecords, maxBytes int) ([]event.Encoded, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from < l.first {
		return nil, fmt.Errorf("read from %d: %w", from, increments.ErrTrimmed)
	}
	if l.refuse != nil {
		return nil, fmt.Errorf("read from %d: %w", from, l.refuse)
	}
	end, bytes := from-1, 0
	for end < uint64(len(l.records)) && end-from+1 < uint64(maxRecords) {
		if bytes += len(l.records[end]); bytes > maxBytes && end >= from {
			break
		}
		end++
	}
	return l.records[from-1 : end], nil
}

// stage is a broker's machines without a broker: what they want saved is saved, what they route is stepped, what
// they want read is read, and everything they do is written down.
type stage struct {
	rules     Rules
	log       *memLog
	now       int64
	machines  map[string]*Machine
	clients   map[string]statedb.Client // as saved
	forgotten map[string]statedb.Forgotten
	dumps     map[event.DumpID]dumpflow.Dump
	alerts    map[string]bool
	moves     map[[2]statedb.State]bool // seen
	out       strings.Builder
	heard     func(*event.Event) // what nodes hear, if somebody listens
	ordered   map[string]bool    // "client verb seq" of every order that was taken
	audits    []statedb.Audit
	answer    OrderReply // the last one
	wrong     error      // the first invariant that did not hold
}

func newStage(n int) *stage {
	s := &stage{log: newLog(n), now: 1e9, machines: map[string]*Machine{}, clients: map[string]statedb.Client{},
		forgotten: map[string]statedb.Forgotten{},
		dumps:     map[event.DumpID]dumpflow.Dump{}, alerts: map[string]bool{}, moves: map[[2]statedb.State]bool{},
		ordered: map[string]bool{}, heard: func(*event.Event) {}}
	s.rules = Rules{Group: "main", Masters: []string{"master"}, Tick: time.Second, SilentTicks: 10, LeaseTicks: 3,
		DumpTicks: 60, MaxDumps: 2,
		SnapshotTTL: 20 * time.Second, TurnRecords: 100, TurnBytes: 1 << 16, RunningDumps: s.runningDumps, Reuse: true,
		Situation: s.situation}
	return s
}

// situation is what was saved.
func (s *stage) situation() Situation {
	h := statedb.HoldersOf(slices.Collect(maps.Values(s.clients)), nil, s.log.First(), nil)
	return Situation{Log: s.log.Head().Log, First: s.log.First(), Head: s.log.Head().Seq, Copies: h.Copies}
}

func (s *stage) runningDumps() (n int) {
	for _, d := range s.dumps {
		if d.Running() {
			n++
		}
	}
	return n
}

func (s *stage) machine(id string) *Machine {
	m := s.machines[id]
	if m == nil {
		m = NewMachine(&s.rules, id, nil, nil)
		if f, there := s.forgotten[id]; there {
			m.Remember(f)
		}
		s.machines[id] = m
	}
	return m
}

// restart forgets everything that was not saved.
func (s *stage) restart() {
	s.machines = map[string]*Machine{}
	for id := range s.clients {
		s.revive(id)
	}
	for _, d := range s.dumps {
		if s.machines[d.Target] == nil {
			s.revive(d.Target)
		}
	}
}

func (s *stage) revive(id string) {
	var own []dumpflow.Dump
	for _, k := range slices.Sorted(maps.Keys(s.dumps)) {
		if s.dumps[k].Target == id {
			own = append(own, s.dumps[k])
		}
	}
	var stored *statedb.Client
	if c, ok := s.clients[id]; ok {
		stored = &c
	}
	s.machines[id] = NewMachine(&s.rules, id, stored, own)
}

// strict is the log as a worker shows it to a machine that steps: it panics when the machine asks for a position that
// Asks has not named, which would have to be read from the disk now.
type strict struct{ *increments.Lookup }

func (v strict) Position(seq uint64) (event.Position, error) {
	p, err := v.Lookup.Position(seq)
	if err != nil && strings.Contains(err.Error(), "not looked up before") {
		panic(err)
	}
	return p, err
}

// step gives the machine an input and plays on until nobody has anything to do.
func (s *stage) step(id string, in Input) {
	m := s.machine(id)
	from := m.client.State
	view := strict{increments.NewLookup(s.log)}
	view.Look(m.Asks(in, nil))
	m.Step(in, view, s.now)
	s.move(from, m.client.State)
	s.play(id)
}

func (s *stage) tick() {
	s.now += 1e9
	ids := slices.Sorted(maps.Keys(s.machines))
	for _, id := range ids {
		if m := s.machines[id]; m != nil { // it may have gone meanwhile
			from := m.client.State
			m.Tick(s.now)
			s.move(from, m.client.State)
			s.play(id)
		}
	}
}

// move notes a change of state. Only listed ones are possible (become panics), but one step may take two.
func (s *stage) move(from, to statedb.State) {
	s.moves[[2]statedb.State{from, to}] = true
}

// play takes turns with id, and then with whom it routes to.
func (s *stage) play(id string) {
	for range 10000 {
		m := s.machine(id)
		w := m.Ready(s.log.Head())
		s.save(id, &w)
		for i := range w.Send {
			s.say("%s hears %s", id, short(w.Send[i].String()))
			s.heard(&w.Send[i])
		}
		for _, a := range w.Replies {
			s.answer = a
			s.say("answer %d refused=%q", a.Token, a.Refused)
		}
		for _, d := range w.Discard {
			s.say("discard %x", uint64(d))
		}
		s.check()
		for _, r := range w.Route {
			s.say("%s tells %s %s", id, r.To, about(r.In))
			s.step(r.To, r.In)
		}
		if m.Idle() {
			delete(s.machines, id)
			return
		}
		if w.Feed == nil {
			return
		}
		if !s.feed(m, w.Feed) {
			return
		}
	}
	panic("a machine that never rests")
}

// feed is false when the log cannot be read now: the next tick tries again.
func (s *stage) feed(m *Machine, f *Feed) bool {
	before := m.window.bytes
	body, end, lacks, err := appendFrame(nil, s.log, f)
	switch {
	case err != nil && !final(err):
		s.say("%s is not fed now", m.client.ID)
		return false
	case err != nil:
		m.Lost(err.Error(), s.now)
	case end == f.From && lacks != 0:
		m.Hold(lacks, s.now)
	case end == f.From:
		m.Full()
	default:
		e := m.Fed(end, body)
		s.obeyed(m, &e)
		s.say("%s is fed %s", m.client.ID, items(&e))
		s.heard(&e)
		if before+len(body) > m.window.maxBytes && before > 0 || end.Seq-m.client.Acked.Seq > m.window.maxRecords {
			s.fail("%s: %d bytes and %d records in flight are more than %d and %d", m.client.ID, before+len(body),
				end.Seq-m.client.Acked.Seq, m.window.maxBytes, m.window.maxRecords)
		}
	}
	return true
}

// obeyed checks that what is sent otherwise than it stands in the log was ordered, for this client and this very
// increment.
func (s *stage) obeyed(m *Machine, e *event.Event) {
	before := e.Pos.Seq
	_ = event.Walk(e.Body, e.Pos, func(i event.Item) error {
		o := m.client.Override
		for seq := before + 1; seq <= i.Pos.Seq; seq++ {
			verb, stored := "", s.log.records[seq-1]
			wanted := event.Wants(m.client.Topics, stored.Topic())
			switch {
			case i.Record == nil && wanted:
				verb = "skip"
			case i.Record != nil && !wanted:
				s.fail("%s is fed %d, of a topic that it does not follow", m.client.ID, seq)
			case i.Record != nil && !bytes.Equal(i.Record.Body(), stored.Body()):
				verb = "replace"
			case i.Decision != 0 || i.Record != nil && i.Record.Limit() != stored.Limit():
				verb = string(Retry)
				if o != nil {
					verb = o.Verb()
				}
			}
			if verb != "" && (!s.ordered[fmt.Sprint(m.client.ID, " ", verb, " ", seq)] || o == nil || o.Seq != seq ||
				o.Verb() != verb || o.Fresh) {
				s.fail("%s is sent %d as if %s had been ordered", m.client.ID, seq, verb)
			}
			if verb == "" && o != nil && o.Seq == seq && wanted {
				s.fail("%s is sent %d as if %s had not been ordered", m.client.ID, seq, o.Verb())
			}
		}
		before = i.Pos.Seq
		return nil
	})
}

func (s *stage) save(id string, w *Work) {
	if w.Gone {
		delete(s.clients, id)
		delete(s.forgotten, id)
		if w.Forgotten != nil {
			s.forgotten[id] = *w.Forgotten
		}
		s.say("save %s: gone", id)
	}
	if c := w.Save; c != nil {
		delete(s.forgotten, id)
		s.clients[id] = *c
		s.say("save %s", record(c))
	}
	for _, d := range w.Dumps {
		s.dumps[d.ID] = d
		s.say("save dump %x of %s: %s pin=%d waiting=%v%s%s%s", uint64(d.ID), d.Target, d.Phase, d.Pin, waiting(&d),
			when(d.Error != "", " error=%q", d.Error),
			when(d.Phase == dumpflow.Failed && d.PauseMS > 0, " "+
				"paused=%gms", d.PauseMS), when(len(d.NotLoaded) > 0, " not loaded=%q", troubles(&d)))
	}
	for _, d := range w.DropDumps {
		delete(s.dumps, d)
		s.say("drop dump %x", uint64(d))
	}
	for _, a := range w.Raise {
		s.alerts[a.Key] = true
		way := ""
		if a.Way != "" {
			way = " (" + a.Way + ")"
		}
		s.say("alert %s %s: %s%s", a.Severity, a.Key, a.Text, way)
	}
	for _, k := range w.Clear {
		if s.alerts[k] {
			delete(s.alerts, k)
			s.say("clear %s", k)
		}
	}
	s.audits = append(s.audits, w.Audit...)
	for _, a := range w.Audit {
		s.say("audit %s %s seq=%d%s reason=%q by=%q", a.Verb, a.Client, a.Seq, when(a.Limit != "", " limit=%s",
			a.Limit), a.Reason, a.By)
		s.ordered[fmt.Sprint(a.Client, " ", a.Verb, " ", a.Seq)] = true
	}
	if w.Lag {
		if c, ok := s.machine(id).Record(); ok {
			s.clients[id] = c
			s.say("save soon %s", record(&c))
		}
	}
}

// check looks at what must always hold: base <= acked <= sent <= head (XC-4), a window that is not exceeded, a
// running dump exactly with the states that stand for it, at most one of them.
func (s *stage) check() {
	for id, m := range s.machines {
		c := &m.client
		if c.Base > c.Acked.Seq || c.Acked.Seq > m.window.sent.Seq || m.window.sent.Seq > s.log.Head().Seq {
			s.fail("%s: base %d, acked %d, sent %d, head %d", id, c.Base, c.Acked.Seq, m.window.sent.Seq, s.log.Head().Seq)
		}
		running := 0
		for _, d := range m.dumps {
			if d.Running() {
				running++
			}
		}
		d := m.running()
		paused := c.State == statedb.Draining || c.State == statedb.Dumping
		prepares := d != nil && d.Phase == dumpflow.Draining && (m.prepares || !m.presence.open)
		if running > 1 || paused && d == nil || d != nil && !paused &&
			(d.Phase != dumpflow.Uploading && !prepares || c.State != statedb.Following) {
			s.fail("%s is %s with %d running dumps", id, c.State, running)
		}
		if !m.known && c.State != "" || m.known && c.State == "" {
			s.fail("%s: known is %v, state %q", id, m.known, c.State)
		}
		if saved, ok := s.clients[id]; ok {
			pin, held := saved.Pin()
			if now, holds := c.Pin(); held && holds && !m.dirty && pin > now {
				s.fail("%s: the saved pin %d leads the pin %d", id, pin, now)
			}
		}
		if m.presence.open && m.client.IsFenced(m.client.Session.Instance) {
			s.fail("%s: a fenced process speaks", id)
		}
	}
}

func (s *stage) fail(format string, args ...any) {
	if s.wrong == nil {
		s.wrong = fmt.Errorf(format, args...)
	}
	s.say("WRONG: "+format, args...)
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (s *stage) told() string {
	out := s.out.String()
	s.out.Reset()
	if out == "" {
		return "ok\n"
	}
	return out
}

var zeros = regexp.MustCompile(`\b0{4,}([0-9a-f]+)`)

func short(s string) string { return zeros.ReplaceAllString(s, "$1") }

func when(said bool, format string, args ...any) string {
	if !said {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

func record(c *statedb.Client) string {
	s := fmt.Sprintf("%s: %s base=%d acked=%d", c.ID, c.State, c.Base, c.Acked.Seq)
	if c.Session.Turn != 0 {
		s += " session=" + short(c.Session.String())
	}
	if len(c.Fenced) > 0 {
		s += " fenced=" + short(fmt.Sprint(c.Fenced))
	}
	if t := c.LastError; t != nil {
		s += fmt.Sprintf(" error=%s@%d", t.Class, t.Seq)
	}
	if o := c.Override; o != nil {
		s += fmt.Sprintf(" override=%d answer=%d skip=%v body=%q%s%s", o.Seq, o.Decision, o.Skip, o.Body,
			when(o.Limit != 0, " limit=%s", event.FormatLimit(o.Limit)), when(o.Fresh, " fresh"))
	}
	if a := c.Apply; a != nil {
		s += fmt.Sprintf(" apply=%d number=%d by=%x outcome=%q", a.Seq, a.Number, uint64(a.Process), a.Outcome)
	}
	if c.Seek != nil {
		s += fmt.Sprintf(" seek=%d", c.Seek.Seq)
	}
	if j := c.Join; j != nil {
		s += fmt.Sprintf(" join=%x@%d opened=%v", uint64(j.Request), j.Pos.Seq, j.Opened)
	}
	if pin, held := c.Pin(); held {
		s += fmt.Sprintf(" pin=%d", pin)
	}
	return s
}

func waiting(d *dumpflow.Dump) (ids []string) {
	for _, r := range d.Requesters {
		ids = append(ids, r.ID)
	}
	return ids
}

func troubles(d *dumpflow.Dump) (all []string) {
	for _, t := range d.NotLoaded {
		all = append(all, t.ID+": "+t.Text)
	}
	return all
}

func about(in Input) string {
	switch {
	case in.Notice != nil:
		n := in.Notice
		if n.Code != event.NoCode {
			return fmt.Sprintf("notice request=%x %s %q", uint64(n.Requester.Request), n.Code, n.Text)
		}
		return fmt.Sprintf("notice request=%x dump=%x %s", uint64(n.Requester.Request), uint64(n.Dump.ID), n.Dump.Phase)
	case in.Unable != nil:
		return fmt.Sprintf("unable request=%x quiet=%v %q", uint64(in.Unable.Request), in.Unable.Quiet, in.Unable.Text)
	case in.JoinForgotten:
		return "join forgotten"
	case in.Left != nil:
		return fmt.Sprintf("left dump=%x request=%x served=%v", uint64(in.Left.Dump), uint64(in.Left.Request), in.Left.Served)
	}
	return "something"
}

// items is what a frame carries.
func items(e *event.Event) string {
	var b strings.Builder
	first, at := e.Pos.Seq+1, e.Pos.Seq
	flush := func() {
		if at >= first {
			fmt.Fprintf(&b, " %d-%d", first, at)
		}
	}
	err := event.Walk(e.Body, e.Pos, func(i event.Item) error {
		if i.Record == nil {
			flush()
			fmt.Fprintf(&b, " pass-%d", i.Pos.Seq)
			first = i.Pos.Seq + 1
		} else if r, err := i.Record.Decode(); err == nil && !strings.HasPrefix(string(r.Body), "increment") {
			flush()
			fmt.Fprintf(&b, " %d=%q", r.Seq, r.Body)
			first = i.Pos.Seq + 1
		}
		at = i.Pos.Seq
		return nil
	})
	flush()
	if err != nil {
		fmt.Fprintf(&b, " DAMAGED %v", err)
	}
	return fmt.Sprintf("after %d:%s", e.Pos.Seq, b.String())
}
