// Package nats is the NATS door: one increment a request on xmq.<group>.pub.<producer>.
//
// The data of the message is the body, any bytes. Headers: Idempotency-Key (any text) or Xmq-Number (see package
// increments) with Xmq-Sparse, Content-Type, Xmq-Topic, Xmq-Origin, in any case, each once. The producer is the token
// of the subject; an Xmq-Producer beside it says the same. The answer is JSON: {"seq":N,"log":"..."} or {"error":"one
// sentence","code":"word"}. It goes only into the producer's own inbox, _INBOX_<producer>.> (nats.CustomInboxPrefix);
// a request with any other reply address is refused without an answer, so that nobody can make the broker speak to
// somebody else.
//
// Producers that have much to say send many increments a request, on xmq.<group>.batch.<producer>: the data is an
// event.Batch, the reply an event.BatchReply, and everything else holds in the same way. A batch that comes before an
// earlier one of its producer is refused as a whole (door.Gap), so that order is kept with several under way.
package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"xmq/broker/door"
	"xmq/broker/event"
)

// InFlight is how many requests wait for the log or their answer at once; how many bytes they have is for the budget
// of all doors to say. Beyond that they wait in the subscription, which holds as many bytes; what does not fit there
// is lost, and its producer repeats it.
const InFlight = 16384

// Door is the open door.
type Door struct {
	ingest  door.Ingest
	group   string
	log     event.LogID
	logger  *slog.Logger
	subs    []*nats.Subscription
	streams streams
	answers chan answer // has room for all requests, so whoever brings an outcome never waits
	buf     []byte      // of Run, for answers
	drafts  sync.Pool   // of *[]event.Draft, empty

	mu     sync.Mutex
	room   sync.Cond  // requests or bytes have become fewer
	count  int        // requests from their arrival until they are answered
	bytes  door.Lease // of their data
	closed bool

	warnings warnings
}

type answer struct {
	message *nats.Msg
	drafts  *[]event.Draft // of a batch, when it reached the log; nobody uses them any more
	batch   bool
	out     []event.Outcome
	err     error
}

// Open subscribes on nc, which the caller keeps and closes after Close. budget is that of all doors. Run has to be
// running.
func Open(nc *nats.Conn, group string, log event.LogID, budget *door.Budget, ingest door.Ingest,
	logger *slog.Logger) (*Door, error) {
	d := &Door{bytes: door.Lease{Budget: budget}, ingest: ingest, group: group, log: log, logger: logger,
		streams: streams{next: make(map[string]stream)}, answers: make(chan answer, InFlight)}
	d.room.L = &d.mu
	for channel, take := range map[event.Channel]nats.MsgHandler{event.Pub: d.take, event.Many: d.takeBatch} {
		sub, err := nc.Subscribe(event.AnySubject(group, channel), take)
		if err != nil {
			return nil, fmt.Errorf("NATS door: %w", err)
		}
		if err := sub.SetPendingLimits(1<<20, int(budget.Half())); err != nil {
			return nil, fmt.Errorf("NATS door: %w", err)
		}
		d.subs = append(d.subs, sub)
	}
	return d, nil
}

// Close takes no further requests and waits until those taken are answered.
func (d *Door) Close() {
	for _, sub := range d.subs {
		_ = sub.Unsubscribe() // fails only when the connection is closed: then nothing comes any more
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.room.Broadcast()
	for d.count > 0 {
		d.room.Wait()
	}
}

// sender is the producer a message comes from; false when it is none, or wants its answer sent to somebody else.
func (d *Door) sender(m *nats.Msg, channel event.Channel) (string, bool) {
	producer, ok := event.SubjectID(m.Subject, d.group, channel)
	switch {
	case !ok:
		d.warn(m, "the subject does not end with the ID of a producer: 1 to 31 lower-case letters, digits and hyphens")
	case m.Reply != "" && !event.ReplyAllowed(producer, m.Reply):
		d.warn(m, "the producer cannot be answered there: its inbox prefix must be "+event.InboxPrefix(producer)+
			" (nats.CustomInboxPrefix)")
		ok = false
	}
	return producer, ok
}

// warn tells of a request that was dropped and of which its producer hears nothing. What is not told is counted.
func (d *Door) warn(m *nats.Msg, why string) {
	subject := clip(m.Subject)
	if count, tell := d.warnings.drop(subject, time.Now()); tell {
		d.logger.Warn("a request of a producer is dropped without an answer", "event", "producer_refused", "subject",
			subject, "reply", clip(m.Reply), "cause", why, "dropped", count)
	}
}

// take enqueues one request. Requests arrive here one after the other, so a producer's own order is kept (XQ-2).
func (d *Door) take(m *nats.Msg) {
	producer, ok := d.sender(m, event.Pub)
	if !ok || !d.enter(len(m.Data)) {
		return
	}
	draft, refused := draftOf(m, producer)
	if refused != nil {
		d.answers <- answer{message: m, err: refused}
		return
	}
	d.ingest([]event.Draft{draft}, func(out []event.Outcome, err error) {
		d.answers <- answer{message: m, out: out, err: err}
	})
}

// enter counts a request of size bytes in, when there is room; false when the door is closed.
func (d *Door) enter(size int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.closed && (d.count >= InFlight || !d.bytes.TakeWhole(int64(size))) {
		d.room.Wait() // somebody is under way and will leave
	}
	if d.closed {
		return false
	}
	d.count++
	return true
}

// leave counts a request out that is answered.
func (d *Door) leave(size int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count--
	d.bytes.Put(int64(size))
	d.room.Broadcast()
}

// Run answers until ctx ends. Close before ending it.
func (d *Door) Run(ctx context.Context) {
	for {
		select {
		case a := <-d.answers:
			if a.message.Reply != "" { // or the producer does not want to know
				d.reply(a)
			}
			d.reuse(a.drafts)
			d.leave(len(a.message.Data))
		case <-ctx.Done():
			return
		}
	}
}

func (d *Door) reply(a answer) {
	if a.batch {
		d.replyBatch(a)
		return
	}
	var r *door.Refusal
	if a.err != nil && !errors.As(a.err, &r) {
		r = door.Refuse(door.Unknown, "%v", a.err)
	} else if a.err == nil {
		r = door.RefusalOf(a.out[0])
	}
	body := struct {
		Seq       uint64       `json:"seq,omitempty"`
		Log       *event.LogID `json:"log,omitempty"`
		Duplicate bool         `json:"duplicate,omitempty"`
		Error     string       `json:"error,omitempty"`
		Code      door.Code    `json:"code,omitempty"`
		Retryable *bool        `json:"retryable,omitempty"`
	}{}
	if r != nil {
		again := r.Code.Retryable()
		body.Error, body.Code, body.Retryable = r.Text, r.Code, &again
	} else {
		body.Seq, body.Log, body.Duplicate = a.out[0].Seq, &d.log, a.out[0].Duplicate
	}
	b, err := json.Marshal(body)
	if err == nil {
		err = a.message.Respond(b)
	}
	if err != nil { // the producer repeats its request
		d.logger.Debug("answer lost", "subject", a.message.Subject, "err", err)
	}
}
