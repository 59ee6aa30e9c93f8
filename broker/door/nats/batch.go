package nats

import (
	"errors"
	"sync"

	"github.com/nats-io/nats.go"

	"xmq/broker/door"
	"xmq/broker/event"
)

// streams knows how far each producer's numbered batches have come. What it does not know costs nobody anything
// but a repetition (see event.Batch), so it forgets what is too much.
type streams struct {
	mu   sync.Mutex
	next map[string]stream // by producer
}

type stream struct {
	life event.Instance
	next uint64 // number of the batch that follows those taken
}

// maxStreams bounds the producers that are remembered.
const maxStreams = 1 << 16

// take reports whether the batch follows those taken before, and takes it then.
func (s *streams) take(producer string, b *event.Batch) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, known := s.next[producer]; b.Number != b.Base && (!known || at.life != b.Stream || b.Number > at.next) {
		return false
	}
	if len(s.next) >= maxStreams {
		clear(s.next)
	}
	s.next[producer] = stream{b.Stream, b.Number + 1}
	return true
}

// giveBack takes back a batch that was refused as a whole: none after it may come before it does again.
func (s *streams) giveBack(producer string, b *event.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, known := s.next[producer]; known && at.life == b.Stream && at.next > b.Number {
		s.next[producer] = stream{b.Stream, b.Number}
	}
}

// takeBatch enqueues one batch. Batches arrive here one after the other.
func (d *Door) takeBatch(m *nats.Msg) {
	producer, ok := d.sender(m, event.Many)
	if !ok || !d.enter(len(m.Data)) {
		return
	}
	refused := readable(m)
	if refused == nil {
		refused = door.CheckBatchHeaders(m.Header)
	}
	if refused != nil {
		d.answers <- answer{message: m, batch: true, err: refused}
		return
	}
	into, again := d.drafts.Get().(*[]event.Draft)
	if !again {
		into = new([]event.Draft)
	}
	b, err := event.DecodeBatch(m.Data, (*into)[:0])
	if err != nil {
		d.answers <- answer{message: m, batch: true, err: door.Refuse(door.Invalid, "%v", err)}
		return
	}
	if !d.streams.take(producer, &b) {
		d.answers <- answer{message: m, batch: true, err: door.Refuse(door.Gap, "a batch before batch %d has not come: send "+
			"all from batch %d on again", b.Number, b.Base)}
		return
	}
	for i := range b.Drafts {
		b.Drafts[i].Producer = producer
		// Package producer numbers by the clock, and its first revision let its users count as they liked.
		b.Drafts[i].Clock = true
	}
	*into = b.Drafts
	d.ingest(b.Drafts, func(out []event.Outcome, err error) {
		if err != nil { // said before Ingest returns, or by a log that takes nothing any more: none after it is taken
			d.streams.giveBack(producer, &b)
		}
		d.answers <- answer{m, into, true, out, err}
	})
}

// reuse lets the next batch have the memory of one whose outcome has come.
func (d *Door) reuse(drafts *[]event.Draft) {
	if drafts != nil {
		clear(*drafts) // they must not hold the message
		d.drafts.Put(drafts)
	}
}

// replyBatch writes the answer to a batch.
func (d *Door) replyBatch(a answer) {
	said := event.BatchReply{Log: d.log}
	switch r := (*door.Refusal)(nil); {
	case errors.As(a.err, &r):
		said.Code, said.Text = string(r.Code), r.Text
	case a.err != nil:
		said.Code, said.Text = string(door.Unknown), a.err.Error()
	}
	for _, o := range a.out {
		if refused := door.RefusalOf(o); refused != nil {
			said.Refused(string(refused.Code), refused.Text)
		} else {
			said.Stored(o.Seq, o.Duplicate)
		}
	}
	d.buf = said.Append(d.buf[:0])
	if err := a.message.Respond(d.buf); err != nil { // the producer repeats its batch
		d.logger.Debug("answer lost", "subject", a.message.Subject, "err", err)
	}
}
