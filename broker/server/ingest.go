package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"xmq/broker/disk"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/increments"
)

// appender is the log as ingest needs it.
type appender interface {
	NewGroup() increments.AppendGroup
	Prepare(increments.AppendGroup, []event.Draft, []event.Outcome) (int, error)
	Commit(increments.AppendGroup) error
}

// ingest is the entrance: it gathers what all doors bring and appends it in groups with one sync each. It is the only
// writer of the log, in two goroutines: run prepares a group while commit writes the one before it. A group grows
// while the sync before it runs, and goes when that has ended; nothing lingers. What waits is bounded in count and
// bytes: beyond that, requests are refused.
type ingest struct {
	log      appender
	moved    func() // the head has moved
	limit    int    // largest body
	maxCount int64
	maxBytes int64
	refusing atomic.Pointer[door.Refusal] // set while no input is taken at all
	since    atomic.Int64                 // of that, in ns since 1970
	held     atomic.Pointer[door.Refusal] // set while nodes speak against the log
	opening  atomic.Bool                  // it is not known yet whether another broker serves the group
	starved  func() bool                  // the stores wait for a file descriptor; nil: never
	accepts  door.Accepts
	waits    atomic.Bool // run does

	queue         chan *request
	count, bytes  atomic.Int64
	free          chan *group     // those that are not under way
	out           []event.Outcome // of run, to be used again
	broken        chan struct{}   // closed when a write has failed
	ended         atomic.Bool     // run appends no more
	commits, took atomic.Uint64
}

type request struct {
	all    []event.Outcome // one for each draft that came
	drafts []event.Draft   // those that were not refused at once
	next   int             // in all: the first draft whose outcome is open
	bytes  int64
	done   func([]event.Outcome, error)
}

// group is what goes into the log with one sync.
type group struct {
	increments.AppendGroup
	requests []*request // those whose last draft is in it
	count    int        // drafts
	bytes    int64
}

// The size of one group, beyond which it takes no further request. With the largest request it stays below a quarter
// of what the log's database buffers.
const (
	groupRecords = 4096
	groupBytes   = 2 << 20
)

func newIngest(log appender, moved func(), limit int, maxCount, maxBytes int64) *ingest {
	return &ingest{log: log, moved: moved, limit: limit, maxCount: maxCount, maxBytes: maxBytes,
		queue: make(chan *request, maxCount), free: make(chan *group, groups), broken: make(chan struct{})}
}

// groups is how many there are: one is prepared while another is written.
const groups = 2

// put is the door.Ingest of every door.
func (in *ingest) put(drafts []event.Draft, done func([]event.Outcome, error)) {
	if r := in.refusing.Load(); r != nil {
		done(nil, r)
		return
	}
	if r := in.held.Load(); r != nil {
		done(nil, r)
		return
	}
	if in.opening.Load() {
		done(nil, door.Refuse(door.Opening, "the broker starts, and looks whether another one serves its group: try again"))
		return
	}
	if in.starves() {
		done(nil, starving())
		return
	}
	req := &request{all: make([]event.Outcome, len(drafts)), drafts: drafts, done: done}
	kept := 0
	for i := range drafts {
		refused := door.Check(&drafts[i], in.limit)
		if refused == nil {
			refused = in.accepts.Check(drafts[i].Body)
		}
		if refused != nil {
			req.all[i].Err = refused
			continue
		}
		req.bytes += int64(len(drafts[i].Body)) + 128
		if kept != i {
			drafts[kept] = drafts[i]
		}
		kept++
	}
	req.drafts = drafts[:kept]
	if len(req.drafts) == 0 {
		done(req.all, nil)
		return
	}
	n := int64(len(req.drafts))
	count, bytes := in.count.Add(n), in.bytes.Add(req.bytes)
	if count > in.maxCount && count != n || bytes > in.maxBytes && bytes != req.bytes { // one alone always fits
		in.leave(req)
		done(nil, door.Refuse(door.Busy, "%s already (%d bytes): try again",
			units.Do(uint64(count-n), "increment", "waits", "wait"), bytes-req.bytes))
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

// take puts the log's outcomes into the places of the next drafts that were not refused before, and says in the words
// of the doors why the log refuses one.
func (req *request) take(out []event.Outcome) {
	for _, o := range out {
		for req.all[req.next].Err != nil {
			req.next++
		}
		at := &req.all[req.next]
		req.next++
		*at = o
		switch {
		case o.Err == nil:
		case errors.Is(o.Err, increments.ErrTooOld):
			at.Err = door.Refuse(door.TooOld, "%v", o.Err)
		case errors.Is(o.Err, increments.ErrTooLarge):
			at.Err = door.Refuse(door.TooLarge, "%v", o.Err)
		case errors.Is(o.Err, increments.ErrKeyReused):
			at.Err = door.Refuse(door.KeyReused, "%v", o.Err)
		case errors.Is(o.Err, increments.ErrJump):
			at.Err = door.Refuse(door.Jump, "%v", o.Err)
		case errors.Is(o.Err, increments.ErrInvalid):
			at.Err = door.Refuse(door.Invalid, "%v", o.Err)
		default: // whatever it is, the producer did nothing wrong
			at.Err = door.Refuse(door.Busy, "nothing was stored, try again: %v", o.Err)
		}
	}
}

// run appends until ctx ends, and then everything that was queued before. An error means that a write failed:
// the process must end.
func (in *ingest) run(ctx context.Context) error {
	for range groups {
		in.free <- &group{AppendGroup: in.log.NewGroup()}
	}
	work, failed := make(chan *group), make(chan error, 1)
	go func() { failed <- in.commit(work) }()
	err := in.prepare(ctx, work)
	close(work)
	err = cmp.Or(<-failed, err)
	if err != nil {
		in.turnAway()
	}
	return err
}

// prepare fills groups and hands them to work, until ctx ends and the queue is empty, or a write has failed.
func (in *ingest) prepare(ctx context.Context, work chan<- *group) error {
	for {
		var req *request
		select {
		case req = <-in.queue:
		case <-in.broken:
			return nil
		case <-ctx.Done():
			in.ended.Store(true)
			select {
			case req = <-in.queue:
			default:
				return nil
			}
		}
		if err := in.gather(ctx, req, work); err != nil {
			return err
		}
	}
}

// gather makes one group of first and of what else comes until the group before it is written, up to the group's size.
func (in *ingest) gather(ctx context.Context, first *request, work chan<- *group) error {
	g := <-in.free
	for req := first; ; {
		var err error
		if g, err = in.add(ctx, g, req, work); err != nil {
			in.fail(g, req)
			in.free <- g
			return fmt.Errorf("whether %s stored is not known: %w", units.Do(uint64(len(req.drafts)), "increment", "is", "are"),
				err)
		}
		queue := in.queue
		if g.count >= groupRecords || g.bytes >= groupBytes {
			queue = nil
		}
		select { // what waits already goes with it
		case req = <-queue:
			continue
		default:
		}
		select {
		case work <- g:
			return nil
		case req = <-queue:
		}
	}
}

// add puts all of a request into g; when the newest segment of the log is full, into the groups behind it. It returns
// the group that holds the request's last draft.
func (in *ingest) add(ctx context.Context, g *group, req *request, work chan<- *group) (*group, error) {
	for rest := req.drafts; ; {
		if cap(in.out) < len(rest) {
			in.out = make([]event.Outcome, len(rest))
		}
		out := in.out[:len(rest)]
		clear(out)
		n, err := in.log.Prepare(g.AppendGroup, rest, out)
		wait := errors.Is(err, disk.ErrDescriptors)
		if err != nil && (!wait || !in.pause(ctx)) {
			return g, err
		}
		if !wait && in.waits.Load() {
			in.waits.Store(false)
		}
		req.take(out[:n])
		g.count += n
		if wait {
			rest = rest[n:]
			continue
		}
		if n == len(rest) {
			g.bytes += req.bytes
			g.requests = append(g.requests, req)
			return g, nil
		}
		rest = rest[n:]
		work <- g
		g = <-in.free
		other := <-in.free // both are there: everything is written
		in.free <- other
	}
}

// pause waits before the log is asked again for a segment that no file descriptor is left for. Nothing has failed:
// increments are refused meanwhile. It is false when ctx has ended: a broker that stops has closed its doors, and
// does not wait for others.
func (in *ingest) pause(ctx context.Context) bool {
	in.waits.Store(true) // until there is one: whoever came between two tries would wait, too
	select {
	case <-time.After(50 * time.Millisecond):
		return true
	case <-ctx.Done():
		return false
	}
}

// commit writes what comes from work, in order, and answers. After a failed write it answers that everything is
// unknown.
func (in *ingest) commit(work <-chan *group) (failed error) {
	for g := range work {
		if failed == nil {
			if err := in.log.Commit(g.AppendGroup); err != nil {
				failed = fmt.Errorf("whether %s stored is not known: %w", units.Do(uint64(g.count), "increment", "is", "are"), err)
			}
		}
		if failed != nil {
			in.fail(g)
		} else {
			in.moved()
			in.commits.Add(1)
			in.took.Add(uint64(g.count))
			for _, req := range g.requests {
				in.leave(req)
				req.done(req.all, nil)
			}
		}
		clear(g.requests)
		g.requests, g.count, g.bytes = g.requests[:0], 0, 0
		g.Reset()
		in.free <- g
	}
	return failed
}

// refuse makes put refuse everything with r, or take input again (nil). A broker that stops keeps its own refusal.
func (in *ingest) refuse(r *door.Refusal) {
	for {
		old := in.refusing.Load()
		if old != nil && (old.Code == door.Closing || old.Code == door.Unknown) || old == r {
			return
		}
		if in.refusing.CompareAndSwap(old, r) {
			if r != nil && (old == nil || old.Code != r.Code) {
				in.since.Store(time.Now().UnixNano())
			}
			return
		}
	}
}

// starves reports that the log waits for a file descriptor.
func (in *ingest) starves() bool { return in.waits.Load() || in.starved != nil && in.starved() }

func starving() *door.Refusal {
	return door.Refuse(door.Descriptors,
		"the broker has no file descriptor left for its log: try again, and close connections or raise its limit")
}

// fail answers whoever has something in g, and more, after a failed write, and everybody who comes.
func (in *ingest) fail(g *group, more ...*request) {
	r := door.Refuse(door.Unknown, "the broker's storage failed while this was written: the outcome is unknown, repeat "+
		"it with the same idempotency key")
	in.refusing.Store(r)
	in.since.Store(time.Now().UnixNano())
	if !in.ended.Swap(true) {
		close(in.broken)
	}
	for _, req := range slices.Concat(g.requests, more) {
		req.done(nil, r)
	}
}
