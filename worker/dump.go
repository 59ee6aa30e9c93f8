package worker

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/dumpflow"
	"xmq/statedb"
)

// The transitions of a DUMP, seen from the target's machine (asked, advance, targetSays, sealed, left) and
// from the requester's (notice). The target's machine owns the record.

// --- the target's side ---

// asked takes a DUMP_REQ that names this client as its target. The requester repeats it until answered and
// while it downloads, which keeps its place.
func (m *Machine) asked(e *event.Event, log Log) {
	if e.Code == event.Sealed { // it has loaded the snapshot
		for _, d := range m.dumps {
			if d.ID == e.Dump && d.MayRead(e.Peer) && e.Text != "" && d.Without(e.Peer, e.Text, m.now) {
				m.saveDump(d)
			}
		}
		return
	}
	if e.Text != "" {
		listed := m.notLoaded(e)
		defer m.passOn(e, listed) // the answer comes first: it makes the record of a newcomer
	}
	if e.Code == event.Abandoned {
		m.leave(e.Peer, e.Request, false)
		return
	}
	h, err := event.DecodeHello(e.Body)
	m.asking, m.asks = e.Request, h
	defer func() { m.asking, m.asks = 0, event.Hello{} }()
	r := dumpflow.Requester{ID: e.Peer, Request: e.Request, Backup: h.Backup, Topics: h.Topics, Range: h.Range,
		Reuse: h.Reuse}
	if err == nil && r.Request == 0 {
		err = errors.New("a DUMP needs a request ID")
	}
	if err != nil {
		m.answer(r, nil, event.Refused, err.Error())
		return
	}
	d, code, text := m.dumpFor(r, log)
	if d == nil {
		m.answer(r, nil, code, text)
		return
	}
	if d.Phase == dumpflow.Failed {
		m.answer(r, nil, event.NotReady, d.Error)
		return
	}
	for _, q := range d.Requesters {
		if q.ID == r.ID {
			delete(m.leases, q.Request) // a new request of the same node replaces its older one
		}
	}
	if d.Join(r) {
		m.saveDump(d)
	}
	m.leases[r.Request] = 0
	m.answer(r, d, event.NoCode, "")
}

// dumpFor finds or starts the dump that serves r; nil with the reason why not. Rules: XE-2, XE-8, XE-10, SS-14.
func (m *Machine) dumpFor(r dumpflow.Requester, log Log) (d *dumpflow.Dump, code event.Code, why string) {
	c := &m.client
	for _, d := range m.dumps { // asked again: the same one, whatever has become of it
		if d.ID == r.Request.Dump() && d.Phase == dumpflow.Failed ||
			slices.ContainsFunc(d.Requesters, func(q dumpflow.Requester) bool {
				return q.ID == r.ID &&
					q.Request == r.Request
			}) {
			return d, 0, ""
		}
	}
	switch {
	case r.ID == c.ID:
		return nil, event.Refused, fmt.Sprintf("client %s cannot DUMP from itself: name another node", c.ID)
	case m.otherKind(r) != "":
		return nil, event.Refused, m.otherKind(r)
	case !m.known:
		return nil, event.NotReady, fmt.Sprintf("the target %s is not known to this broker: start its node first, or name "+
			"another target", c.ID)
	case !r.Backup && !slices.Equal(c.Topics, r.Topics):
		return nil, event.Refused, fmt.Sprintf("%s follows topics %v and %s follows %v: a DUMP needs the same topics on both",
			r.ID, show(r.Topics), c.ID, show(c.Topics))
	case c.State == statedb.Failed && c.LastError != nil:
		return nil, event.NotReady, fmt.Sprintf("the target %s has failed at increment %d: mend it (xmq client retry, "+
			"skip or replace %s) or name another target", c.ID, c.LastError.Seq, c.ID)
	case c.State != statedb.Following && c.State != statedb.Draining && c.State != statedb.Dumping, c.Seek != nil:
		return nil, event.NotReady, fmt.Sprintf("the target %s is not synchronised yet (%s): wait for it or name another "+
			"target", c.ID, c.State)
	}
	if d := m.running(); d != nil && d.Pin+1 >= log.First() {
		if !d.Range.Equal(r.Range) {
			return nil, event.NotReady, fmt.Sprintf("a DUMP of another part of %s runs: wait for its end", c.ID)
		}
		if !m.fresh(d, r.ID) {
			return nil, event.NotReady, fmt.Sprintf("a DUMP of %s runs whose snapshot was opened before the copy of %s or "+
				"its own was decided about: wait for its end", c.ID, r.ID)
		}
		return d, 0, ""
	}
	m.dropRunning("retention has freed increments after its position") // if there is one
	if d := m.reusable(r, log); d != nil && !r.Backup {                // a backup is to hold the data of now
		return d, 0, ""
	}
	if !m.Connected() {
		return nil, event.NotReady, fmt.Sprintf("the target %s is not connected: start its node or name another target", c.ID)
	}
	if n := m.rules.RunningDumps(); n >= m.rules.now().MaxDumps {
		return nil, event.NotReady, fmt.Sprintf("%s already, which is the limit (max_dumps): wait for one to end",
			units.Do(uint64(n), "DUMP", "runs", "run"))
	}
	if slices.ContainsFunc(m.dumps, func(d *dumpflow.Dump) bool { return d.ID == r.Request.Dump() }) {
		return nil, event.Refused, fmt.Sprintf("request id %s was used before: draw a new one", r.Request)
	}
	d = dumpflow.New(c.ID, event.TopicsOf(c.Topics), r, c.Acked.Seq, m.now)
	m.dumps = append(m.dumps, d)
	m.lease, m.age = 0, 0
	m.prepare(d)
	m.saveDump(d)
	m.happened(statedb.DumpAsked, c.Acked.Seq, fmt.Sprintf("DUMP %s of %s, for %s", d.ID, c.ID, r.ID))
	return d, 0, ""
}

// otherKind refuses a requester whose client is fed in a database of another kind than the one that it asks for; empty
// for none.
func (m *Machine) otherKind(r dumpflow.Requester) string {
	if r.Backup || m.rules.Fed == nil || m.asks.Target == "" {
		return ""
	}
	kind, seq := m.rules.Fed(r.ID)
	if kind == "" || kind == m.asks.Target {
		return ""
	}
	return sayOtherKind(r.ID, seq, kind, m.asks.Target)
}

// fresh reports that the snapshot of d holds what a requester means who asks now: nothing was decided about its copy,
// or that of the target, since it was opened. Who has had data and asks all the same has lost it, which nobody has
// noted when it was: only what is opened from now on is surely later.
func (m *Machine) fresh(d *dumpflow.Dump, requester string) bool {
	if m.rules.Fed != nil && !d.Waits(requester) {
		if kind, _ := m.rules.Fed(requester); kind != "" {
			return d.OpenedAt == 0
		}
	}
	since := m.client.Decided
	if m.rules.Decided != nil {
		since = max(since, m.rules.Decided(requester))
	}
	return d.OpenedAt == 0 || d.OpenedAt > since
}

// drop removes a complete snapshot that nobody is loading.
func (m *Machine) drop(o *Order) (refused string) {
	for _, d := range m.dumps {
		switch {
		case d.ID != o.Dump:
			continue
		case d.Running():
			return fmt.Sprintf("DUMP %s runs: xmq snapshots cancel gives it up", d.ID)
		case len(d.Requesters) > 0:
			return fmt.Sprintf("%s loads the snapshot of DUMP %s: stop its node first", d.Requesters[0].ID, d.ID)
		}
		m.remove(d)
		return ""
	}
	return fmt.Sprintf("there is no DUMP %s of %s", o.Dump, m.client.ID)
}

// remove forgets a dump that is over, and its snapshot.
func (m *Machine) remove(d *dumpflow.Dump) {
	m.clear("dump") // nothing tells of it any more
	for _, t := range d.NotLoaded {
		m.route(t.ID, Input{JoinForgotten: true})
	}
	m.work.DropDumps = append(m.work.DropDumps, d.ID)
	m.work.Discard = append(m.work.Discard, d.ID)
	m.dumps = slices.DeleteFunc(m.dumps, func(o *dumpflow.Dump) bool { return o == d })
}

// reusable is a complete snapshot that a requester can be served with, because it has asked for that very one before,
// or where that is wanted: of the topics that it names, which this client may not have followed always, young enough,
// and the log still reaches back to it.
func (m *Machine) reusable(r dumpflow.Requester, log Log) *dumpflow.Dump {
	for _, d := range slices.Backward(m.dumps) {
		if d.Topics != event.TopicsOf(r.Topics) || !m.rules.now().Reuse && !r.Reuse && !d.Waits(r.ID) || !m.fresh(d, r.ID) {
			continue
		}
		if d.Phase != dumpflow.Sealed || d.Range != nil || m.now-d.Ended >= int64(m.rules.now().SnapshotTTL) ||
			d.Pos.Seq > m.client.Acked.Seq {
			continue
		}
		if here, err := log.Position(d.Pos.Seq); err == nil && here == d.Pos {
			return d
		}
	}
	return nil
}

// running is the dump the target works on, or nil.
func (m *Machine) running() *dumpflow.Dump {
	for _, d := range m.dumps {
		if d.Running() {
			return d
		}
	}
	return nil
}

// prepare lets the target do what its snapshot needs while increments go on. They are held when that is done, at once
// where there is nothing to do.
func (m *Machine) prepare(d *dumpflow.Dump) {
	switch {
	case !m.presence.open || d.Phase != dumpflow.Draining || m.client.State != statedb.Following:
	case m.prepares:
		m.reply(event.Event{Kind: event.DumpReq, Code: event.Prepare, Dump: d.ID, Pos: m.client.Acked, LeaseMS: m.leaseMS()})
	default:
		m.become(statedb.Draining)
	}
}

// advance takes the step from draining to opening as soon as everything in flight is judged.
func (m *Machine) advance() {
	d := m.running()
	if d == nil || d.Phase != dumpflow.Draining || !m.presence.open || m.client.State != statedb.Draining ||
		m.window.inFlight(m.client.Acked.Seq) != 0 {
		return
	}
	d.Phase, d.Instance, d.Pin = dumpflow.Opening, m.client.Session.Instance, m.client.Acked.Seq
	m.held, m.lease = m.now, 0
	m.become(statedb.Dumping)
	m.saveDump(d)
	m.askTarget(d)
}

func (m *Machine) leaseMS() uint32 {
	return uint32(time.Duration(m.rules.LeaseTicks) * m.rules.Tick / time.Millisecond)
}

func (m *Machine) askTarget(d *dumpflow.Dump) {
	e := event.Event{Kind: event.DumpReq, Dump: d.ID, Pos: m.client.Acked, LeaseMS: m.leaseMS()}
	if d.Range != nil {
		e.Body = event.Hello{Backup: true, Range: d.Range}.Encode()
	}
	m.reply(e)
}

// targetSays takes the target's DUMP_REP.
func (m *Machine) targetSays(e *event.Event) {
	d := m.running()
	if d == nil || d.ID != e.Dump {
		m.nonsense++
		m.reply(event.Event{Kind: event.DumpReq, Code: event.Cancel, Dump: e.Dump, Text: "this DUMP is over"})
		return
	}
	m.lease = 0
	switch {
	case e.State == event.Fail || e.State == event.Fatal: // a dump cannot be FATAL (XS-5)
		m.dropRunning(fmt.Sprintf("the target %s could not make the snapshot: %s", m.client.ID, e.Text))
	case e.Code == event.Prepare && d.Phase == dumpflow.Draining && m.client.State == statedb.Following:
		m.become(statedb.Draining)
		m.advance()
	case e.Code == event.Opened && d.Phase == dumpflow.Opening:
		m.opened(d, e)
	}
}

// opened resumes increments at once when the target's database can read its past.
func (m *Machine) opened(d *dumpflow.Dump, e *event.Event) {
	o, err := dumpflow.DecodeOpened(e.Body)
	if err == nil && e.Pos != m.client.Acked {
		err = fmt.Errorf("it holds %s, but %s had applied %s", e.Pos, m.client.ID, m.client.Acked)
	}
	if err == nil {
		err = d.Open(e.Pos, o, m.now, m.pausedMS())
	}
	if err != nil {
		m.dropRunning(fmt.Sprintf("the snapshot of %s is of no use: %v", m.client.ID, err))
		return
	}
	if d.Online {
		m.become(statedb.Following)
	}
	m.saveDump(d)
	m.happened(statedb.DumpOpened, d.Pos.Seq, fmt.Sprintf("DUMP %s of %s", d.ID, m.client.ID))
	m.tellAll(d)
}

func (m *Machine) pausedMS() float64 { return float64(m.now-m.held) / 1e6 }

// sealed notes that the manifest of the running dump is published.
func (m *Machine) sealed(man dumpflow.Manifest) {
	d := m.running()
	if d == nil || d.ID != man.Dump || d.Phase != dumpflow.Uploading {
		m.nonsense++
		return
	}
	d.Seal(man, m.now, m.pausedMS())
	if m.client.State == statedb.Dumping {
		m.become(statedb.Following)
	}
	m.clear("dump")
	m.saveDump(d)
	m.happened(statedb.DumpComplete, d.Pos.Seq, fmt.Sprintf("DUMP %s of %s, %s", d.ID, m.client.ID, units.Bytes(d.Size)))
	m.tellAll(d)
}

// dropRunning gives the running dump up, if there is one: every requester gets FAIL with the text, staging
// goes, the target goes on (XS-4, XB-2, XE-6).
func (m *Machine) dropRunning(text string) {
	if d := m.running(); d != nil {
		m.abandon(d, text)
		m.happened(statedb.DumpFailed, d.Pos.Seq, fmt.Sprintf("DUMP %s of %s: %s", d.ID, m.client.ID, text))
		m.raise("dump", statedb.Warning, d.Pos.Seq, fmt.Sprintf("DUMP %s of %s failed: %s", d.ID, m.client.ID, text))
	}
}

// abandon is dropRunning without an alert: nobody misses the dump.
func (m *Machine) abandon(d *dumpflow.Dump, text string) {
	if d.Phase != dumpflow.Draining {
		m.reply(event.Event{Kind: event.DumpReq, Code: event.Cancel, Dump: d.ID, Text: text})
	}
	d.Fail(text, m.now, m.pausedMS())
	m.tellAll(d)
	for _, r := range d.Requesters {
		delete(m.leases, r.Request)
	}
	d.Requesters = nil
	m.saveDump(d)
	m.work.Discard = append(m.work.Discard, d.ID)
	if m.client.State == statedb.Draining || m.client.State == statedb.Dumping {
		m.become(statedb.Following)
	}
}

// unstaged notes that the files of a complete DUMP are gone, or were damaged: it has failed after all. Whoever waits
// for it gets FAIL and asks for another one.
func (m *Machine) unstaged(id event.DumpID) {
	for _, d := range m.dumps {
		if d.ID != id || d.Phase != dumpflow.Sealed {
			continue
		}
		text := "its files in the broker's staging are gone or damaged"
		d.Fail(text, m.now, 0)
		m.tellAll(d)
		for _, r := range d.Requesters {
			delete(m.leases, r.Request)
		}
		d.Requesters = nil
		m.saveDump(d)
		m.work.Discard = append(m.work.Discard, d.ID)
		m.raise("dump", statedb.Warning, d.Pos.Seq,
			fmt.Sprintf("DUMP %s of %s failed: %s; ask for it again", d.ID, m.client.ID, text))
	}
}

// targetReturned is called when a session of this client begins while a dump runs. The snapshot lives in the
// process that opened it: another process cannot go on with it.
func (m *Machine) targetReturned(newProcess bool) {
	d := m.running()
	if d == nil {
		return
	}
	if newProcess && d.Instance != 0 && d.Instance != m.client.Session.Instance {
		m.dropRunning(fmt.Sprintf("the node of the target %s was restarted", m.client.ID))
		return
	}
	if d.Phase == dumpflow.Opening {
		m.askTarget(d)
	}
	m.prepare(d)
}

// left takes the word of a requester's machine that it needs the dump no more.
func (m *Machine) left(l *Left) { m.leave(l.ID, l.Request, l.Served) }

func (m *Machine) leave(id string, request event.RequestID, served bool) {
	for _, d := range m.dumps {
		if !d.Leave(id, request, served) {
			continue
		}
		delete(m.leases, request)
		m.saveDump(d)
		if served {
			m.happened(statedb.DumpLoaded, d.Pos.Seq, fmt.Sprintf("DUMP %s of %s, by %s", d.ID, m.client.ID, id))
		}
		if len(d.Requesters) == 0 && d.Running() {
			m.abandon(d, "nobody waits for it any more")
		}
		return
	}
}

// tickDumps counts leases: of the target on its work, of every requester on its place, of old snapshots on
// their disk space.
func (m *Machine) tickDumps() {
	if m.client.Join != nil {
		m.joinHeard++
		if m.joinSilent++; m.joinSilent > 3*m.rules.lease() {
			m.dropJoin(false)
		}
	}
	for _, d := range slices.Clone(m.dumps) {
		m.tickDump(d)
	}
}

func (m *Machine) tickDump(d *dumpflow.Dump) {
	lease := m.rules.lease()
	for _, r := range slices.Clone(d.Requesters) {
		if m.leases[r.Request]++; m.leases[r.Request] > 3*lease {
			gone := fmt.Sprintf("%s has not been heard for %s, and has not loaded the snapshot: look at its node",
				r.ID, m.rules.span(m.leases[r.Request]))
			m.note(d, r.ID, gone)
			m.answer(r, d, event.NotReady, gone)
			m.leave(r.ID, r.Request, false)
		} else if m.leases[r.Request]%lease == 0 {
			m.answer(r, d, event.NoCode, "") // heals a notice that was lost
		}
	}
	if d.Running() {
		m.lease++
		m.age++
		switch {
		case m.lease > lease && !m.alive():
			m.dropRunning(fmt.Sprintf("the target %s has been silent for %s, its lease has ended", m.client.ID,
				m.rules.span(m.presence.silent)))
		case m.lease > lease && d.Phase == dumpflow.Opening:
			m.dropRunning(fmt.Sprintf("the target %s is alive and busy: it has not opened the snapshot in %s; its "+
				"increments go on", m.client.ID, m.rules.span(m.lease)))
		case m.lease > lease && d.Phase == dumpflow.Uploading:
			m.dropRunning(fmt.Sprintf("the target %s is alive and has not spoken of the snapshot for %s", m.client.ID,
				m.rules.span(m.lease)))
		case m.rules.now().DumpTicks > 0 && m.age > m.rules.now().DumpTicks:
			m.dropRunning(fmt.Sprintf("it has taken longer than its deadline of %s (dump_limit)",
				m.rules.span(m.rules.now().DumpTicks)))
		case d.Phase == dumpflow.Opening:
			m.askTarget(d)
		default:
			m.prepare(d)
		}
		return
	}
	if len(d.Requesters) == 0 && m.now-d.Ended > int64(m.rules.now().SnapshotTTL) {
		m.remove(d)
	}
}

// alive reports that the target's node has spoken lately, of whatever it may be.
func (m *Machine) alive() bool {
	return m.presence.spoke(m.rules.lease())
}

// notLoaded takes what a requester says of a snapshot that it could not load. It reports whether that stands in a
// record now, with which it will be forgotten.
func (m *Machine) notLoaded(e *event.Event) (listed bool) {
	for _, d := range m.dumps {
		if d.ID == e.Dump && d.MayRead(e.Peer) { // what has failed says why itself
			m.note(d, e.Peer, e.Text)
			listed = true
		}
	}
	return listed
}

// note writes into the record of a DUMP why a requester has not loaded it.
func (m *Machine) note(d *dumpflow.Dump, id, text string) {
	changed, pushed := d.Note(id, text, m.now)
	if changed {
		m.saveDump(d)
	}
	if pushed != "" {
		m.route(pushed, Input{JoinForgotten: true})
	}
}

// passOn tells the requester's machine what its node says of the join that failed. What is listed nowhere raises no
// alert and keeps no record: nothing would end them.
func (m *Machine) passOn(e *event.Event, listed bool) {
	text := dumpflow.ShortTrouble(e.Text)
	n := &Notice{Requester: dumpflow.Requester{ID: e.Peer, Request: e.Request}, Dump: dumpflow.Dump{Target: m.client.ID},
		Code: event.Refused, Text: text, GivenUp: true}
	switch {
	case e.Code != event.Abandoned:
		m.route(e.Peer, Input{Unable: &Unable{Target: m.client.ID, Request: e.Request, Text: text, Quiet: !listed}})
	case listed:
		m.route(e.Peer, Input{Notice: n})
	default:
		n.Code, n.GivenUp, n.Dump.Phase, n.Dump.Error = event.NoCode, false, dumpflow.Failed, text
		m.route(e.Peer, Input{Notice: n})
	}
}

func (m *Machine) saveDump(d *dumpflow.Dump) { m.work.Dumps = append(m.work.Dumps, d.Clone()) }

func (m *Machine) tellAll(d *dumpflow.Dump) {
	for _, r := range d.Requesters {
		m.answer(r, d, event.NoCode, "")
	}
}

// answer swaps back: the notice goes to the requester's machine.
func (m *Machine) answer(r dumpflow.Requester, d *dumpflow.Dump, code event.Code, text string) {
	n := &Notice{Requester: r, Code: code, Text: text, Dump: dumpflow.Dump{Target: m.client.ID},
		Heard: m.asking == r.Request}
	n.Away = d == nil && code == event.NotReady && !m.Connected()
	n.Other = d == nil && code == event.Refused && m.asking == r.Request && m.otherKind(r) != ""
	if d != nil {
		n.Dump = d.Clone()
	}
	if n.Heard {
		n.Kind, n.Process = m.asks.Target, processOf(m.asks)
	}
	m.route(r.ID, Input{Notice: n})
}

// --- the requester's side ---

// notice takes word from the target's machine: keeps the join, and tells the node.
func (m *Machine) notice(n *Notice) {
	d, r := &n.Dump, n.Requester
	e := event.Event{Kind: event.DumpRep, Peer: d.Target, Dump: d.ID, Request: r.Request, Text: n.Text}
	if n.Code != event.NoCode || d.Phase == dumpflow.Failed {
		e.State, e.Code = event.Fail, n.Code
		if n.Code == event.NoCode {
			e.Code, e.Text = event.NotReady, d.Error
		}
		if m.client.Join != nil && m.client.Join.Request == r.Request {
			listed := n.GivenUp || slices.ContainsFunc(d.NotLoaded, func(t dumpflow.Trouble) bool { return t.ID == m.client.ID })
			// Of a DUMP that has failed the alert of that says it. Where the record goes, and no DUMP lists why,
			// nothing would ever end an alert: the node hears it.
			if n.Code == event.NoCode || !listed && m.onlyJoins() {
				m.joinTrouble(e.Text)
			} else {
				m.joinFailed(d.Target, e.Text, n.GivenUp)
			}
			m.dropJoin(n.GivenUp)
		}
		if n.Heard && n.Other && m.known {
			m.turnAway(n.Text, WayNone, n.Process)
		} else if n.Heard {
			m.heardInVain(n)
		}
		m.say(e)
		return
	}
	if !r.Backup && !m.keepJoin(n) {
		return
	}
	switch d.Phase {
	case dumpflow.Uploading:
		e.State, e.Code, e.Pos = event.Succ, event.Opened, d.Pos
	case dumpflow.Sealed:
		e.State, e.Code, e.Pos = event.Succ, event.Sealed, d.Pos
	default:
		e.State, e.Code = event.None, event.Lease
	}
	e.Body = dumpflow.Opened{Format: d.Format, Online: d.Online, Size: d.About, Time: d.OpenedAt}.Encode()
	e.LeaseMS = m.leaseMS()
	m.say(e)
}

// keepJoin brings the record up to the notice; false when the DUMP has been used already and the target's
// machine only does not know.
func (m *Machine) keepJoin(n *Notice) bool {
	c, d, r := &m.client, &n.Dump, n.Requester
	if c.Joined == r.Request {
		m.route(d.Target, Input{Left: &Left{Dump: d.ID, ID: c.ID, Request: r.Request, Served: true}})
		return false
	}
	if m.joinSilent = 0; n.Heard {
		m.joinHeard = 0
		m.joinWaitOver()
	}
	opened := d.Phase == dumpflow.Uploading || d.Phase == dumpflow.Sealed
	join := statedb.Join{Request: r.Request, Dump: d.ID, Target: d.Target, Topics: event.TopicsOf(r.Topics),
		Opened: opened, Pos: d.Pos}
	if n.Heard && m.known {
		m.cameToJoin(n)
	}
	if c.Join != nil && *c.Join == join {
		return true
	}
	if c.Join != nil && c.Join.Target != d.Target {
		m.route(c.Join.Target, Input{Left: &Left{Dump: c.Join.Dump, ID: c.ID, Request: c.Join.Request}})
	}
	if !m.known && !m.rules.ClientQuota.take() {
		m.route(d.Target, Input{Left: &Left{Dump: d.ID, ID: c.ID, Request: r.Request}})
		m.say(event.Event{Kind: event.DumpRep, Peer: d.Target, Dump: d.ID, Request: r.Request, State: event.Fail,
			Code: event.Refused,
			Text: m.rules.ClientQuota.tooMany(c.ID)})
		return false
	}
	if !m.known {
		m.known, c.Created, c.Topics = true, m.now, r.Topics
		m.become(statedb.Pending)
		if n.Heard {
			m.cameToJoin(n)
		}
	}
	c.Join, m.dirty = &join, true
	if opened && (c.State == statedb.Pending || c.State == statedb.Loading) {
		m.become(statedb.Loading) // it has applied nothing yet: base and acked come with its INCR_REQ/NONE at S
	}
	return true
}

// cameToJoin notes where the node runs that asks for a DUMP. Of which kind a database without data is may change.
func (m *Machine) cameToJoin(n *Notice) {
	c := &m.client
	c.Heard = m.now
	if n.Process != (statedb.Process{}) && n.Process != c.Process {
		c.Process, m.dirty = n.Process, true
	}
	if c.Unfed() && n.Kind != "" && n.Kind != c.Driver {
		c.Driver, m.dirty = n.Kind, true
	}
}

// dropJoin ends a DUMP that came to nothing: a client that had nothing else goes, unless keep says that its record
// holds the reason, which its node will not tell again; any other keeps its old position (XC-3, XE-13).
func (m *Machine) dropJoin(keep bool) {
	m.joinSilent = 0
	switch {
	case m.client.Registered, keep && m.client.State == statedb.Loading:
		m.become(statedb.Pending)
	case keep:
	case m.onlyJoins():
		m.gone()
		return
	}
	m.client.Join, m.dirty = nil, true
}

// onlyJoins reports whether a client is nothing but what has begun to join.
func (m *Machine) onlyJoins() bool {
	return !m.client.Registered && (m.client.State == statedb.Pending || m.client.State == statedb.Loading)
}

// joinFailed says where people look why the running DUMP was of no use to this client. ended says that its node has
// given up.
func (m *Machine) joinFailed(target, text string, ended bool) {
	m.joinWait.raised = false // this one says more
	severity, end := statedb.Warning, ""
	if ended {
		severity, end = statedb.Critical, " and its node has ended"
	}
	m.raise("join", severity, 0, fmt.Sprintf("client %s could not join by DUMP from %s%s: "+
		"%s", m.client.ID, target, end, text))
	m.joinTrouble(text)
}

// joinTrouble makes text the last error of the client, unless what stands there decides how the client goes on.
func (m *Machine) joinTrouble(text string) {
	t := m.client.LastError
	if m.known && m.client.State != statedb.Failed &&
		(t == nil || t.Class != orderedDump && t.Class != classHeld && (t.Class != classJoin || t.Text != text)) {
		m.trouble(0, classJoin, text)
	}
}

// cannotLoad takes what the client's own node says of the snapshot that it could not load.
func (m *Machine) cannotLoad(u *Unable) {
	switch {
	case !m.known: // anybody can call himself anything
	case u.Quiet:
		m.joinTrouble(u.Text)
	case m.unable != u.Request:
		m.unable = u.Request
		m.joinFailed(u.Target, u.Text, false)
	}
}

// joinOver ends the trouble of joining: the client follows, or an operator has decided otherwise.
func (m *Machine) joinOver() {
	m.joinWait = joinWait{}
	m.clear("join")
	if t := m.client.LastError; m.known && t != nil && t.Class == classJoin {
		m.client.LastError, m.dirty = nil, true
	}
}

// joinForgotten is called when the DUMP that this ID could not load is no longer listed. A newcomer that has not come
// again is forgotten with it.
func (m *Machine) joinForgotten() {
	if m.known && !m.client.TurnedBack() {
		return
	}
	m.clearAll()
	if m.known {
		m.gone()
	}
}
