package worker

import (
	"slices"

	"xmq/broker/event"
)

// window is what one client was sent and has not acknowledged, and how much more its node takes. How far the client has
// acknowledged stands in its record, which is durable; a window lives as long as a session.
//
// Invariants: acked <= sent.Seq; the frames end in rising order, after acked, the last one at sent; bytes is their sum.
type window struct {
	sent   event.Position // of the last increment that was sent
	frames []sentFrame    // sent and not acknowledged as a whole, oldest first
	bytes  int            // of frames

	maxRecords uint64 // credit: so many increments after its acknowledged position the node takes
	maxBytes   int    // credit: so many bytes of frames the node takes
	full       bool   // the next increment does not fit into what is left: nothing is sent until the next credit

	charged int // of bytes, what the broker's Budget counts
}

// sentFrame is one frame under way to the node.
type sentFrame struct {
	end   uint64 // sequence of its last item
	bytes int
}

// reset forgets what is under way: it is sent again, from the increment after acked.
func (w *window) reset(acked event.Position) {
	w.sent, w.frames, w.bytes, w.full = acked, nil, 0, false
}

// grant sets the credit, as the node says it with every acknowledgement, and opens a window that was full.
func (w *window) grant(records uint64, bytes int) {
	w.maxRecords, w.maxBytes, w.full = records, bytes, false
}

// add notes a frame that ends at end, and so many bytes, as sent.
func (w *window) add(end event.Position, bytes int) {
	w.sent = end
	w.frames = append(w.frames, sentFrame{end.Seq, bytes})
	w.bytes += bytes
}

// ack frees the frames that end at seq or before it.
func (w *window) ack(seq uint64) {
	n := 0
	for n < len(w.frames) && w.frames[n].end <= seq {
		w.bytes -= w.frames[n].bytes
		n++
	}
	w.frames = slices.Delete(w.frames, 0, n)
}

// fill closes the window until the next credit.
func (w *window) fill() { w.full = true }

// left is how many increments may be sent now, 0 when the window is closed, and how many bytes of frames. The bytes may
// be 0 or less; an empty window takes one increment of any size all the same.
func (w *window) left(acked uint64) (records uint64, bytes int) {
	if inFlight := w.inFlight(acked); !w.full && inFlight < w.maxRecords {
		records = w.maxRecords - inFlight
	}
	return records, w.maxBytes - w.bytes
}

// inFlight is how many increments were sent and not acknowledged.
func (w *window) inFlight(acked uint64) uint64 { return w.sent.Seq - acked }

// charge makes the broker's Budget count what is under way. What was under way to a node that is gone is not.
func (w *window) charge(b *Budget, connected bool) {
	bytes := 0
	if connected {
		bytes = w.bytes
	}
	b.add(bytes - w.charged)
	w.charged = bytes
}
