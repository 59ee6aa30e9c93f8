package server

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"xmq/broker/bus"
	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/worker"
)

// dispatcher takes what nodes say and gives it to the worker of the client concerned. Identity is the token of
// the subject; an event whose body says otherwise is refused. A DUMP request is swapped first, so that it lands
// at its target (XE-4). It never waits: an event for a full inbox is dropped and its sender repeats it.
type dispatcher struct {
	group    string
	conn     bus.Conn
	post     func(id string, in worker.Input) bool
	wrote    func(event.Event) // a requester has a snapshot in a durable file; nil: nobody asks
	log      *slog.Logger
	refused  atomic.Uint64 // events that made no sense
	dropped  atomic.Uint64 // events for a full inbox
	unsent   atomic.Uint64 // events that could not leave
	messages sync.Pool     // *[]byte
}

func newDispatcher(group string, conn bus.Conn, log *slog.Logger) *dispatcher {
	return &dispatcher{group: group, conn: conn, log: log, messages: sync.Pool{New: func() any { return new([]byte) }}}
}

// up takes one message of a node.
func (d *dispatcher) up(m bus.Msg) {
	id, ok := event.SubjectID(m.Subject, d.group, event.Up)
	if !ok {
		d.refuse("subject", m.Subject, "not an ID")
		return
	}
	e, err := event.Decode(m.Data)
	if err != nil {
		d.refuse("client", id, err.Error())
		return
	}
	if e.ID != id || e.Group != d.group {
		d.refuse("client", id, fmt.Sprintf("the event says it is from %s of group %s", e.ID, e.Group))
		return
	}
	switch e.Kind {
	case event.IncrReq, event.DumpRep:
		d.deliver(id, worker.Input{Node: &e})
	case event.DumpReq:
		d.askDump(e)
	default:
		d.refuse("client", id, fmt.Sprintf("%s does not belong on this subject", e.Kind))
	}
}

// askDump swaps requester and target. A request without a target is answered, never dropped in silence (XE-11).
func (d *dispatcher) askDump(e event.Event) {
	if e.Peer == "" {
		d.send(&event.Event{Kind: event.DumpRep, State: event.Fail, Code: event.Refused, Group: d.group, ID: e.ID,
			Request: e.Request,
			Text:    "a DUMP needs a target: name with --from a client that follows, as xmq positions lists them"})
		return
	}
	if e.Code == event.Abandoned && e.State == event.Succ && d.wrote != nil {
		d.wrote(e)
	}
	swapped := dumpflow.Swap(e)
	d.deliver(swapped.ID, worker.Input{Asked: &swapped})
}

func (d *dispatcher) deliver(id string, in worker.Input) {
	if !d.post(id, in) {
		d.dropped.Add(1)
	}
}

// send is worker.Env.Send.
func (d *dispatcher) send(e *event.Event) {
	buf := d.messages.Get().(*[]byte)
	*buf = e.Append((*buf)[:0])
	if err := d.conn.Publish(event.Subject(d.group, event.Down, e.ID), *buf); err != nil {
		d.unsent.Add(1)
		if errors.Is(err, bus.ErrTooLarge) {
			d.log.Debug("an event is larger than the NATS server carries: raise its max_payload", "client", e.ID, "seq",
				e.Pos.Seq+1, "bytes", len(*buf), "max_payload", d.conn.MaxPayload())
		}
	}
	if cap(*buf) <= 1<<20 {
		d.messages.Put(buf)
	}
}

func (d *dispatcher) refuse(key, value, why string) {
	d.refused.Add(1)
	d.log.Debug("event refused", key, value, "err", why)
}
