package worker

import (
	"xmq/broker/event"
	"xmq/dumpflow"
)

// Asks appends to dst the sequences whose positions Step may ask the log for when it gets in: they are looked up
// before, so that Step itself waits for nothing.
func (m *Machine) Asks(in Input, dst []uint64) []uint64 {
	at := func(pos event.Position) {
		if !pos.Zero() {
			dst = append(dst, pos.Seq)
		}
	}
	before := func(seq uint64) {
		if seq > 0 {
			dst = append(dst, seq-1)
		}
	}
	admit := func(pos event.Position, h event.Hello) {
		at(pos)
		before(h.At)
		if h.Stateless {
			at(m.client.Acked)
		}
	}
	if e := in.Node; e != nil {
		at(e.Pos)
		if e.Kind == event.IncrReq && e.State == event.None {
			if h, err := event.DecodeHello(e.Body); err == nil {
				admit(e.Pos, h)
			}
		} else if e.Session == m.offered.session {
			admit(m.offered.pos, m.offered.hello) // the offer is judged once more
		}
	}
	if o := in.Order; o != nil && o.Verb == SeekTo {
		before(o.Seq)
	}
	if in.Asked != nil {
		for _, d := range m.dumps { // is one of them of this very history?
			if d.Phase == dumpflow.Sealed {
				at(d.Pos)
			}
		}
	}
	return dst
}
