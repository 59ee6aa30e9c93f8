// Package nats is the NATS door: one increment a request on xmq.<group>.pub.<producer>.
//
// The data of the message is the body, any bytes. Headers: Idempotency-Key (a decimal number counts per producer,
// see package increments), Content-Type, Xmq-Topic, Xmq-Origin, in exactly this spelling. The producer is the token of the subject. The
// answer is JSON: {"seq":N,"log":"..."} or {"error":"one sentence","code":"word"}. It goes only into the producer's
// own inbox, _INBOX_<producer>.> (nats.CustomInboxPrefix); a request with any other reply address is refused
// without an answer, so that nobody can make the broker speak to somebody else.
package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go"

	"xmq/broker/door"
	"xmq/broker/event"
)

// InFlight is how many requests wait for the log or their answer at once; beyond that they wait in the connection.
const InFlight = 16384

// Door is the open door.
type Door struct {
	ingest  door.Ingest
	group   string
	log     event.LogID
	logger  *slog.Logger
	sub     *nats.Subscription
	slots   chan struct{}  // a request holds one from its arrival until it is answered
	answers chan answer    // has room for every slot, so whoever brings an outcome never waits
	busy    sync.WaitGroup // requests without an answer
	mu      sync.Mutex
	closed  bool
}

type answer struct {
	m   *nats.Msg
	out []door.Outcome
	err error
}

// Open subscribes on nc, which the caller keeps and closes after Close. Run has to be running.
func Open(nc *nats.Conn, group string, log event.LogID, ingest door.Ingest, logger *slog.Logger) (*Door, error) {
	d := &Door{ingest: ingest, group: group, log: log, logger: logger, slots: make(chan struct{}, InFlight), answers: make(chan answer, InFlight)}
	sub, err := nc.Subscribe(event.AnySubject(group, event.Pub), d.take)
	if err != nil {
		return nil, fmt.Errorf("NATS door: %w", err)
	}
	if err := sub.SetPendingLimits(1<<20, 256<<20); err != nil {
		return nil, fmt.Errorf("NATS door: %w", err)
	}
	d.sub = sub
	return d, nil
}

// Close takes no further requests and waits until those taken are answered.
func (d *Door) Close() {
	_ = d.sub.Unsubscribe() // fails only when the connection is closed: then nothing comes any more
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.busy.Wait()
}

// take enqueues one request. Requests arrive here one after the other, so a producer's own order is kept (XQ-2).
func (d *Door) take(m *nats.Msg) {
	producer, ok := event.SubjectID(m.Subject, d.group, event.Pub)
	if !ok || m.Reply != "" && !event.ReplyAllowed(producer, m.Reply) {
		d.logger.Debug("request refused", "subject", m.Subject, "reply", m.Reply)
		return
	}
	draft := event.Draft{Headers: event.Headers{Topic: m.Header.Get("Xmq-Topic"), ContentType: m.Header.Get("Content-Type"),
		Origin: m.Header.Get("Xmq-Origin"), Producer: producer, Key: m.Header.Get("Idempotency-Key")}, Body: m.Data}
	if !d.enter() {
		return
	}
	d.slots <- struct{}{}
	d.ingest([]event.Draft{draft}, func(out []door.Outcome, err error) { d.answers <- answer{m, out, err} })
}

// enter counts a request in, unless the door is closed.
func (d *Door) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.busy.Add(1)
	return true
}

// Run answers until ctx ends. Close before ending it.
func (d *Door) Run(ctx context.Context) {
	for {
		select {
		case a := <-d.answers:
			d.reply(a)
			<-d.slots
			d.busy.Done()
		case <-ctx.Done():
			return
		}
	}
}

func (d *Door) reply(a answer) {
	if a.m.Reply == "" {
		return // the producer does not want to know
	}
	var r *door.Refusal
	if a.err != nil && !errors.As(a.err, &r) {
		r = door.Refuse(door.Unknown, "%v", a.err)
	} else if a.err == nil {
		r = a.out[0].Refused
	}
	body := struct {
		Seq       uint64       `json:"seq,omitempty"`
		Log       *event.LogID `json:"log,omitempty"`
		Duplicate bool         `json:"duplicate,omitempty"`
		Error     string       `json:"error,omitempty"`
		Code      door.Code    `json:"code,omitempty"`
	}{}
	if r != nil {
		body.Error, body.Code = r.Text, r.Code
	} else {
		body.Seq, body.Log, body.Duplicate = a.out[0].Seq, &d.log, a.out[0].Duplicate
	}
	b, err := json.Marshal(body)
	if err == nil {
		err = a.m.Respond(b)
	}
	if err != nil { // the producer repeats its request
		d.logger.Debug("answer lost", "subject", a.m.Subject, "err", err)
	}
}
