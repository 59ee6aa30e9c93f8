package worker

import (
	"fmt"

	"xmq/broker/event"
	"xmq/broker/form"
	"xmq/statedb"
)

// An increment that a client has passed over can be applied there later, outside the order. The client's position does
// not move, so nothing that is stored beside the data tells whether it was: one process is told, again and again until
// it answers, and remembers what it has done. When that process is gone without an answer the outcome is unknown, and
// said to be.

// applyOutside obeys apply. Whether the client has passed over the increment is for the caller to know.
func (m *Machine) applyOutside(o *Order) (refused string) {
	c := &m.client
	record := event.Encoded(o.Record)
	switch pending := c.Apply; {
	case o.Reason == "":
		return "apply needs a reason: it will stand in the audit list"
	case !m.placed():
		return fmt.Sprintf("client %s is %s: there is no copy in which increment %d could be applied", c.ID, c.State, o.Seq)
	case o.Seq > c.Acked.Seq:
		return Before(c.ID, c.Acked.Seq, o.Seq)
	case c.Seek != nil:
		return fmt.Sprintf("client %s is to move to %d first: order it again when its node has adopted that", c.ID,
			c.Seek.Seq)
	case c.State == statedb.Draining || c.State == statedb.Dumping:
		return fmt.Sprintf("a snapshot of client %s is being opened: order it again when that is done", c.ID)
	case !m.Connected():
		return fmt.Sprintf("the node of client %s is not connected, or cannot reach its database: nothing is ordered. "+
			"Order it again when it is "+
			"back", c.ID)
	case !m.applies:
		return fmt.Sprintf("the node of client %s is of an earlier build, which applies nothing outside the order: "+
			"upgrade it", c.ID)
	case pending != nil && pending.Outcome == "":
		return fmt.Sprintf("increment %d is on its way to client %s already: what becomes of it is seen in xmq client "+
			"show %s", pending.Seq, c.ID, c.ID)
	}
	if err := record.Verify(); err != nil || record.Seq() != o.Seq {
		return fmt.Sprintf("increment %d cannot be read from the log", o.Seq)
	}
	if lacks := m.lacks & form.Needs(record.Body()); lacks != 0 {
		return fmt.Sprintf("increment %d needs %s, which the node of client %s does not know: upgrade it", o.Seq, lacks, c.ID)
	}
	if refused = m.sure(o); refused != "" {
		return refused
	}
	m.clear("order")
	m.decided()             // a snapshot of before lacks it
	number := uint64(m.now) // no process has seen it, also of a client that was forgotten
	if pending := c.Apply; pending != nil {
		number = max(number, pending.Number+1)
	}
	c.Apply = &statedb.Apply{Seq: o.Seq, Number: number, Record: o.Record, Process: c.Session.Instance, Reason: o.Reason,
		By: o.By, Via: o.Via,
		Time: m.now}
	m.tellOutside()
	return ""
}

// Before refuses to apply an increment outside the order that comes in it.
func Before(id string, acked, seq uint64) string {
	return fmt.Sprintf("client %s stands at %d, before increment %d: it comes there in its order, and retry, skip and "+
		"replace are for that", id, acked, seq)
}

// tellOutside says the order that is not answered, if there is one.
func (m *Machine) tellOutside() {
	a := m.client.Apply
	if a == nil || a.Outcome != "" || !m.presence.open {
		return
	}
	m.reply(event.Event{Kind: event.IncrRep, Code: event.Apply, Pos: event.Position{Log: m.client.Acked.Log, Seq: a.Seq},
		Request: event.RequestID(a.Number),
		Body:    event.AppendDecision(nil, a.Record, a.Number)})
}

// answeredOutside takes the node's word for what became of the order. It reports whether e is such a word.
func (m *Machine) answeredOutside(e *event.Event) bool {
	outcome := map[event.Code]statedb.Outcome{event.Applied: statedb.Applied, event.NotApplied: statedb.NotApplied,
		event.MayApplied: statedb.MayApplied}[e.Code]
	if outcome == "" || e.State != event.Succ {
		return false
	}
	if a := m.client.Apply; a != nil && a.Outcome == "" && uint64(e.Request) == a.Number {
		m.settleOutside(outcome, e.Text)
	}
	return true
}

// settleOutside ends the order that is not answered, if there is one.
func (m *Machine) settleOutside(outcome statedb.Outcome, text string) {
	if m.client.Apply == nil || m.client.Apply.Outcome != "" {
		return
	}
	a := *m.client.Apply
	a.Outcome, a.Text, a.Time, a.Record = outcome, text, m.now, nil
	m.client.Apply = &a
	m.decided()
	reason := a.Reason
	if text != "" {
		reason += ": " + text
	}
	m.work.Audit = append(m.work.Audit,
		statedb.Audit{Time: m.now, Verb: outcome.Verb(), Client: m.client.ID, Seq: a.Seq,
			From: m.client.Acked.Seq, To: m.client.Acked.Seq,
			Reason: reason, By: a.By, Via: a.Via})
	switch outcome {
	case statedb.NotApplied:
		m.raise("order", statedb.Warning, a.Seq, fmt.Sprintf("increment %d was not applied at client %s, and nothing of "+
			"it is stored: %s", a.Seq, m.client.ID, text))
	case statedb.MayApplied:
		m.raise("order", statedb.Warning, a.Seq, fmt.Sprintf("whether increment %d was applied at client %s is not known: "+
			"%s. Look into its database; "+
			"`xmq client apply %s %d` runs it again", a.Seq, m.client.ID, text, m.client.ID, a.Seq))
	}
}

// leftOutside ends an order that was given to a process which is not the one that speaks now.
func (m *Machine) leftOutside(now event.Instance) {
	if a := m.client.Apply; a != nil && a.Outcome == "" && a.Process != now {
		m.settleOutside(statedb.MayApplied, "the process that was told has ended without an answer")
	}
}

// outside is what the outside sees of the newest order; nil for none.
func (m *Machine) outside() *Outside {
	a := m.client.Apply
	if a == nil {
		return nil
	}
	return &Outside{Seq: a.Seq, Number: a.Number, Outcome: a.Outcome, Text: a.Text, Time: at(a.Time)}
}
