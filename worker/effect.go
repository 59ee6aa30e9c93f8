package worker

import (
	"fmt"

	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/statedb"
)

// effect is what an order does to the position of a client, and to its data.
type effect struct {
	from, to uint64 // applied: before and after; the same when nothing moves
	text     string // for people
	ask      bool   // it takes something away, or runs something again: who orders it has to be sure
}

// effect says what o would do now.
func (m *Machine) effect(o *Order) effect {
	c := &m.client
	e := effect{from: c.Acked.Seq, to: c.Acked.Seq}
	switch o.Verb {
	case SeekTo:
		e.to = o.Seq - 1
		switch n := int64(e.to) - int64(e.from); {
		case c.Acked.Zero():
			e.text = fmt.Sprintf("client %s has no position: it begins with increment %d", c.ID, o.Seq)
		case n < 0:
			e.ask = true
			e.text = fmt.Sprintf("client %s stands at %d and goes back to %d: %s again there. %s", c.ID, e.from,
				e.to, units.Do(uint64(-n), "increment", "runs", "run"), again(c.Driver))
		case n > 0:
			e.ask = true
			e.text = fmt.Sprintf("client %s stands at %d and goes on from %d: %s there", c.ID, e.from, e.to,
				units.Do(uint64(n), "increment", "never runs", "never run"))
		default:
			e.text = fmt.Sprintf("client %s stays at %d", c.ID, e.from)
		}
		e.add(m.drops(o))
	case Forget:
		e.text, e.ask = fmt.Sprintf("client %s, which stands at %d, is forgotten: to come back it joins with a DUMP, or "+
			"proves its position", c.ID, e.from), m.Connected() || o.Last
		e.text += m.because(o)
		e.add(m.drops(o))
	case Redump:
		e.text, e.ask = fmt.Sprintf("client %s, which stands at %d, joins again: its data is replaced by that of "+
			"another node", c.ID, e.from), m.Connected() || o.Last
		e.add(m.drops(o))
		e.text = m.told(e.text+m.because(o), WayOrdered, event.Hello{}, event.Position{})
	case Apply:
		e.text, e.ask = fmt.Sprintf("increment %d runs now at client %s, which stands at %d and stays there: what came "+
			"after it has run without it",
			o.Seq, c.ID, e.from), true
		if o.MayRun {
			e.text += ". It was ordered before, and whether it ran is not known: if it did, it runs twice. Look into the " +
				"database first"
		}
		switch c.Driver {
		case "webhook":
			e.text += ". Its receiver must heed Xmq-Outside: true, or it takes the increment for an old one and does nothing"
		case "exec":
			e.text += ". Its command must heed XMQ_OUTSIDE, or it takes the increment for an old one and does nothing"
		}
	case Skip:
		e.to = o.Seq
		e.text = fmt.Sprintf("increment %d never runs at client %s, which stands at %d", o.Seq, c.ID, e.from)
	case Retry, Replace:
		if o.Seq == 0 {
			e.text = fmt.Sprintf("the node of client %s tries its database again now", c.ID)
			break
		}
		e.to = o.Seq
		e.text = fmt.Sprintf("%s of increment %d at client %s, which stands at %d", o.Verb, o.Seq, c.ID, e.from)
	default:
		e.text = fmt.Sprintf("client %s: %s", c.ID, o.Verb)
	}
	return e
}

// add says what an order drops, which its giver has to mean.
func (e *effect) add(drops string) {
	e.text, e.ask = e.text+drops, e.ask || drops != ""
}

// drops says which orders o drops that are not carried out; empty for none.
func (m *Machine) drops(o *Order) (text string) {
	switch o.Verb {
	case SeekTo:
		if m.stays(o) {
			return ""
		}
	case Retry, Skip, Replace, Forget, Redump:
	default:
		return ""
	}
	if m.client.Seek != nil {
		text = fmt.Sprintf(". The order to move it to %d is dropped", m.client.Seek.Seq)
	}
	if old := m.client.Override; old != nil {
		text += fmt.Sprintf(". The order to %s increment %d is dropped, which %s carried out", old.Verb(), old.Seq,
			m.carried(old))
	}
	return text
}

// stays reports that a seek names where the client stands: it drops no order.
func (m *Machine) stays(o *Order) bool {
	return m.placed() && m.client.Seek == nil && o.Seq == m.client.Acked.Seq+1
}

// because names what speaks against an order that ends a copy.
func (m *Machine) because(o *Order) (text string) {
	if m.Connected() {
		text = fmt.Sprintf(". Its node is connected, the client is %s", m.client.State)
	}
	if o.Last {
		text += ". No other client has a copy of its topics"
	}
	return text
}

// again says what a database makes of increments that it has applied already.
func again(driver string) string {
	switch driver {
	case "sqlite", "postgres", "mysql":
		return "What is no repetition of itself fails (INSERT) or counts twice (n = n + 1)"
	case "redis", "kv":
		return "INCR and its kind count twice, and nothing tells"
	case "file":
		return "They are appended once more"
	case "webhook", "exec":
		return "Its receiver gets them again and has to know them by their key"
	}
	return "Its database has to take them twice"
}

// sure refuses an order that hurts and whose giver has not said that he means it.
func (m *Machine) sure(o *Order) (refused string) {
	if e := m.effect(o); o.Ask && e.ask {
		o.asked = true
		return e.text
	}
	return ""
}

// moves is what the outside sees of a position that is still to be adopted; nil for none.
func (m *Machine) moves() *uint64 {
	if m.client.Seek == nil {
		return nil
	}
	to := m.client.Seek.Seq
	return &to
}

// Sole reports whether the client named is the only one of all with a copy of its topics.
func Sole(id string, all []statedb.Client) bool {
	for i := range all {
		if c := &all[i]; c.ID == id {
			for j := range all {
				if o := &all[j]; o.ID != id && o.Placed() && o.Covers(c.Topics) {
					return false
				}
			}
			return c.Placed()
		}
	}
	return false
}
