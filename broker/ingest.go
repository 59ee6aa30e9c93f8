package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/increments"
)

// appender is the log as ingest needs it.
type appender interface {
	Append([]event.Draft) ([]increments.Outcome, error)
}

// ingest is the entrance: it gathers what all doors bring, and one goroutine (run), the only writer of the log,
// appends it in groups with one sync each. A group forms while the last sync runs; nothing lingers. What waits
// is bounded in count and bytes: beyond that, requests are refused.
type ingest struct {
	log      appender
	moved    func() // the head has moved
	limit    int    // largest body
	maxCount int64
	maxBytes int64
	refusing atomic.Pointer[door.Refusal] // set while no input is taken at all

	queue         chan *request
	count, bytes  atomic.Int64
	group         []*request
	drafts        []event.Draft
	ended         atomic.Bool // run appends no more
	commits, took atomic.Uint64
}

type request struct {
	all    []door.Outcome // one for each draft that came
	drafts []event.Draft  // those that were not refused at once
	bytes  int64
	done   func([]door.Outcome, error)
}

// The size of one group. A larger single request goes alone.
const (
	groupRecords = 1000
	groupBytes   = 1 << 20
)

func newIngest(log appender, moved func(), limit int, maxCount, maxBytes int64) *ingest {
	return &ingest{log: log, moved: moved, limit: limit, maxCount: maxCount, maxBytes: maxBytes,
		queue: make(chan *request, maxCount)}
}

// put is the door.Ingest of every door.
func (in *ingest) put(drafts []event.Draft, done func([]door.Outcome, error)) {
	if r := in.refusing.Load(); r != nil {
		done(nil, r)
		return
	}
	req := &request{all: make([]door.Outcome, len(drafts)), done: done}
	for i := range drafts {
		if req.all[i].Refused = door.Check(&drafts[i], in.limit); req.all[i].Refused == nil {
			req.drafts = append(req.drafts, drafts[i])
			req.bytes += int64(len(drafts[i].Body)) + 128
		}
	}
	if len(req.drafts) == 0 {
		done(req.all, nil)
		return
	}
	n := int64(len(req.drafts))
	count, bytes := in.count.Add(n), in.bytes.Add(req.bytes)
	if count > in.maxCount && count != n || bytes > in.maxBytes && bytes != req.bytes { // one alone always fits
		in.leave(req)
		done(nil, door.Refuse(door.Busy, "%d increments (%d bytes) wait already: try again", count-n, bytes-req.bytes))
		return
	}
	in.queue <- req // has room for maxCount requests, and none is empty
	if in.ended.Load() {
		in.turnAway() // whoever comes while the last ones are answered is answered, too
	}
}

// turnAway answers everybody who waits for a goroutine that appends no more: with what is refused since, or with
// Closing. None of these requests has reached the log.
func (in *ingest) turnAway() {
	r := in.refusing.Load()
	if r == nil {
		r = door.Refuse(door.Closing, "the broker is stopping: try again")
	}
	for {
		select {
		case req := <-in.queue:
			in.leave(req)
			req.done(nil, r)
		default:
			return
		}
	}
}

// leave takes a request out of what waits.
func (in *ingest) leave(req *request) {
	in.count.Add(-int64(len(req.drafts)))
	in.bytes.Add(-req.bytes)
}

// finish puts the log's outcomes into the places of the drafts that were not refused before, and answers.
func (req *request) finish(out []increments.Outcome) {
	all, next := req.all, 0
	for i := range all {
		if all[i].Refused != nil {
			continue
		}
		o := out[next]
		next++
		all[i].Seq, all[i].Duplicate = o.Seq, o.Duplicate
		switch {
		case o.Err == nil:
		case errors.Is(o.Err, increments.ErrTooOld):
			all[i].Refused = door.Refuse(door.TooOld, "%v", o.Err)
		case errors.Is(o.Err, increments.ErrTooLarge):
			all[i].Refused = door.Refuse(door.TooLarge, "%v", o.Err)
		default:
			all[i].Refused = door.Refuse(door.Invalid, "%v", o.Err)
		}
	}
	req.done(all, nil)
}

// run appends until ctx ends, and then everything that was queued before. An error means that a write failed:
// the process must end.
func (in *ingest) run(ctx context.Context) error {
	for {
		select {
		case req := <-in.queue:
			if err := in.commit(req); err != nil {
				return err
			}
		case <-ctx.Done():
			in.ended.Store(true)
			return in.drain()
		}
	}
}

func (in *ingest) drain() error {
	for {
		select {
		case req := <-in.queue:
			if err := in.commit(req); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// commit appends one group: first and what else waits, up to the group's size.
func (in *ingest) commit(first *request) error {
	in.group, in.drafts = append(in.group[:0], first), append(in.drafts[:0], first.drafts...)
	size := first.bytes
	for len(in.drafts) < groupRecords && size < groupBytes {
		var next *request
		select {
		case next = <-in.queue:
		default:
		}
		if next == nil {
			break
		}
		in.group, in.drafts = append(in.group, next), append(in.drafts, next.drafts...)
		size += next.bytes
	}
	out, err := in.log.Append(in.drafts)
	if err != nil {
		in.unknown()
		return fmt.Errorf("append %d increments, their outcome is unknown: %w", len(in.drafts), err)
	}
	in.moved()
	in.commits.Add(1)
	in.took.Add(uint64(len(in.drafts)))
	for _, req := range in.group {
		n := len(req.drafts)
		in.leave(req)
		req.finish(out[:n])
		out = out[n:]
	}
	clear(in.drafts)
	clear(in.group)
	return nil
}

// refuse makes put refuse everything with r, or take input again (nil). A broker that stops keeps its own refusal.
func (in *ingest) refuse(r *door.Refusal) {
	for {
		old := in.refusing.Load()
		if old != nil && (old.Code == door.Closing || old.Code == door.Unknown) || old == r {
			return
		}
		if in.refusing.CompareAndSwap(old, r) {
			return
		}
	}
}

// unknown answers everybody who waits after a failed write, and everybody who comes.
func (in *ingest) unknown() {
	r := door.Refuse(door.Unknown, "the broker's storage failed while this was written: the outcome is unknown, repeat it with the same idempotency key")
	in.refusing.Store(r)
	in.ended.Store(true)
	for _, req := range in.group {
		req.done(nil, r)
	}
	in.turnAway()
}
