package worker

import (
	"fmt"

	"xmq/broker/event"
	"xmq/broker/form"
	"xmq/increments"
	"xmq/statedb"
)

// Reader is the log as a worker reads it.
type Reader = increments.Reader

// What an item of a frame costs besides its record, and what a pass costs (package event).
const (
	itemBytes = 5
	skipBytes = 17
	// decisionBytes comes on top for an increment that an operator sends again.
	decisionBytes = 8
)

// appendFrame reads what f asks for and appends the frame to dst. Increments of other topics and the one an operator
// skipped become passes: the node's position moves over them and their bodies are not sent. It returns the
// position after the last item, f.From when the window has no room for one, and which features the node lacks for
// the increment after that, when that is why the frame ends.
func appendFrame(dst []byte, log Reader, f *Feed) ([]byte, event.Position, form.Features, error) {
	records, err := log.Read(f.From.Seq+1, f.MaxRecords, f.MaxBytes)
	if err != nil {
		return dst, f.From, 0, err
	}
	var lacks form.Features
	end, passed := f.From, false
	fits := func(n int) bool { // with n bytes more, and a pass that may be due
		n += len(dst) + skipBytes
		return n <= f.Window && (n <= f.MaxBytes || end == f.From)
	}
	flush := func() {
		if passed {
			dst = event.AppendSkip(dst, end.Seq, end.Chain)
			passed = false
		}
	}
	for _, e := range records {
		o, record := f.Override, e
		mine := o != nil && o.Seq == e.Seq()
		if mine && (len(o.Body) > 0 || o.Limit != 0) {
			if record, err = reforge(e, o); err != nil {
				return dst, end, 0, err
			}
		}
		pass := mine && o.Skip || !event.Wants(f.Topics, e.Topic())
		size := len(record) + itemBytes
		if mine {
			size += decisionBytes
		}
		// An operator may send an increment all the same, but knew of no need of the body that replaces it.
		if replaced := mine && len(o.Body) > 0; f.Lacks != 0 && !pass && (!mine || replaced) {
			if lacks = f.Lacks & form.Needs(record.Body()); lacks != 0 {
				break
			}
		}
		if pass && !fits(0) || !pass && !fits(size) {
			break
		}
		switch {
		case pass:
			passed = true
		case mine:
			flush()
			dst = event.AppendDecision(dst, record, o.Decision)
		default:
			flush()
			dst = event.AppendRecord(dst, e)
		}
		end = event.Position{Log: end.Log, Seq: e.Seq(), Chain: e.Chain()}
	}
	flush()
	return dst, end, lacks, nil
}

// reforge is the record that an operator's decision makes of e.
func reforge(e event.Encoded, o *statedb.Override) (event.Encoded, error) {
	r, err := e.Decode()
	if err != nil {
		return nil, fmt.Errorf("%s increment %d: %w", o.Verb(), o.Seq, err)
	}
	if len(o.Body) > 0 {
		r.Body = o.Body
	}
	if o.Limit != 0 {
		r.Limit = o.Limit
	}
	return event.Reforge(r), nil
}

// frameCache is the newest frame of a worker. Clients that follow each other at the same position get the same one.
type frameCache struct {
	from, end    event.Position
	body, packed []byte        // packed is empty until a client wants it
	whole        bool          // it holds all increments in between: it suits every client that takes everything
	records      int           // it was built for at most so many increments: it may be short because of them
	bytes        int           // and for at most so many bytes
	lacks        form.Features // which were looked for in the increments
	needs        form.Features // those of them that the increment after end needs
}

// build makes c the frame that f asks for, unless it is that already.
func (c *frameCache) build(log Reader, f *Feed) (err error) {
	if c.fits(f) {
		return nil
	}
	c.from, c.lacks, c.packed = f.From, f.Lacks, c.packed[:0]
	c.records, c.bytes = f.MaxRecords, min(f.MaxBytes, f.Window)
	c.body, c.end, c.needs, err = appendFrame(c.body[:0], log, f)
	c.whole = err == nil && f.whole() && c.end != c.from
	return err
}

// fits reports whether the frame is one that f could get.
func (c *frameCache) fits(f *Feed) bool {
	return c.whole && f.whole() && c.from == f.From && c.lacks == f.Lacks &&
		f.MaxRecords <= c.records && min(f.MaxBytes, f.Window) <= c.bytes &&
		c.end.Seq-c.from.Seq <= uint64(f.MaxRecords) && len(c.body) <= min(f.Window, f.MaxBytes)
}

// pack returns the frame compressed, which is done once.
func (c *frameCache) pack() []byte {
	if len(c.packed) == 0 {
		c.packed = event.Pack(c.packed, c.body)
	}
	return c.packed
}
