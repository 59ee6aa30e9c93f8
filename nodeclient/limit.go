package nodeclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"xmq/broker/event"
)

// errTooLong ends the context of an Apply that has taken longer than its increments may.
var errTooLong = errors.New("it took longer than its time limit")

// limitOf is the time limit that an increment, or the operator who retries it, names itself; 0 for none of its own.
func limitOf(i event.Item) time.Duration {
	if i.Record == nil {
		return 0
	}
	return i.Record.Limit()
}

// limit is how long the increments of t, which name the same limit, may be at the database, and which limit that is;
// NoLimit for any time.
func (a *Agent) limit(t task) (most time.Duration, which string) {
	most = a.live.Load().applyLimit
	switch own := limitOf(t.apply[0]); {
	case own != 0:
		return own, "its own limit"
	case most == 0:
		return event.NoLimit, ""
	}
	return most, "apply_limit"
}

// overrun is the outcome of a batch that took longer than one increment may: its increments are applied one by one, so
// that the limit is that of each.
type overrun struct{ error }

// ownLimit is implemented by a target that limits the time of an increment itself.
type ownLimit interface{ LimitsApply() bool }

// apply is the target's Apply within the limit of its increments. What a driver answers when its context ends is
// Transient; for an increment that was alone it becomes the increment's FAIL.
func (a *Agent) apply(work context.Context, t task) (pos event.Position, err error) {
	own, is := a.db.(ownLimit)
	most, which := a.limit(t)
	if most == event.NoLimit || is && own.LimitsApply() {
		return a.db.Apply(work, t.before, t.apply)
	}
	ctx, ended := a.pauses.limit(work, most)
	pos, err = a.db.Apply(ctx, t.before, t.apply)
	first, last := t.apply[0].Pos, t.apply[len(t.apply)-1].Pos
	switch long := ended(); {
	case !long || err == nil || !IsTransient(err) || IsBack(err) || pos.Seq >= last.Seq:
		return pos, err
	case len(t.apply) > 1:
		return pos, Transient(&overrun{fmt.Errorf("increments %d to %d took longer than %s (%s): trying one by one: %w",
			first.Seq, last.Seq, most, which, err)})
	}
	return pos, fmt.Errorf("increment %d took longer than %s (%s) and was given up; `xmq client retry %s --limit 2h` "+
		"gives "+
		"it more time: %v", first.Seq, most, which, a.opts.ID, err)
}

// pauseClock knows whether a snapshot is open. Changes of the schema wait for its end, and that time is not theirs.
type pauseClock struct {
	mu    sync.Mutex
	open  map[Snapshot]bool
	ended time.Time // of the last one
}

func (s *pauseClock) begin(snap Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[Snapshot]bool{}
	}
	s.open[snap] = true
}

// end may come twice for one snapshot.
func (s *pauseClock) end(snap Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[snap] {
		delete(s.open, snap)
		s.ended = time.Now()
	}
}

// spent is how much of the time since begun counts.
func (s *pauseClock) spent(begun time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.open) > 0:
		return 0
	case s.ended.After(begun):
		return time.Since(s.ended)
	}
	return time.Since(begun)
}

// limit is a context that ends with errTooLong when most of time is spent. ended gives it up and reports whether that
// came.
func (s *pauseClock) limit(work context.Context, most time.Duration) (ctx context.Context, ended func() bool) {
	ctx, cancel := context.WithCancelCause(work)
	begun := time.Now()
	var mu sync.Mutex
	var timer *time.Timer
	var look func()
	look = func() {
		if left := most - s.spent(begun); left > 0 {
			mu.Lock()
			defer mu.Unlock()
			if timer != nil {
				timer = time.AfterFunc(left, look)
			}
			return
		}
		cancel(errTooLong)
	}
	mu.Lock() // look may come before it is assigned
	timer = time.AfterFunc(most, look)
	mu.Unlock()
	return ctx, func() bool {
		mu.Lock()
		defer mu.Unlock()
		timer.Stop()
		timer = nil
		long := errors.Is(context.Cause(ctx), errTooLong)
		cancel(nil)
		return long
	}
}
