package worker

import (
	"sync/atomic"

	"xmq/broker/event"
)

// Marks is the newest time of the log that nodes may be told: after its position no increment has an earlier one,
// also when the broker is started anew. Safe for concurrent use; nil tells none.
type Marks struct {
	last  atomic.Pointer[mark]
	asked atomic.Bool
}

type mark struct {
	pos   event.Position
	clock int64
}

// Tell gives the next one, which is durable.
func (m *Marks) Tell(pos event.Position, clock int64) { m.last.Store(&mark{pos, clock}) }

// Asked reports whether a node has asked since the last call.
func (m *Marks) Asked() bool { return m.asked.Swap(false) }

// after is a time that all increments after pos have reached, in ns since 1970; 0 when none is known.
func (m *Marks) after(pos event.Position) int64 {
	if m == nil {
		return 0
	}
	m.asked.Store(true)
	last := m.last.Load()
	if last == nil || pos.Log != last.pos.Log || pos.Seq < last.pos.Seq {
		return 0
	}
	return last.clock
}

// clock is what a node that stands at pos, or goes on to it, is told.
func (m *Machine) clock(pos event.Position) int64 {
	if !m.clocked {
		return 0
	}
	return m.rules.Marks.after(pos)
}
