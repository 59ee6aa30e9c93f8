package nodeclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"xmq/broker/event"
)

// errTooLong ends the context of an Apply that has taken longer than ApplyLimit.
var errTooLong = errors.New("it took longer than apply_limit")

// overrun is the outcome of a batch that took longer than one increment may: its increments are applied one by one, so that the
// limit is that of each.
type overrun struct{ error }

// ownLimit is implemented by a target that limits the time of an increment itself.
type ownLimit interface{ LimitsApply() bool }

// apply is the target's Apply within ApplyLimit. What a driver answers when its context ends is Transient; for an
// increment that was alone it becomes the increment's FAIL.
func (a *Agent) apply(work context.Context, t task) (pos event.Position, err error) {
	own, is := a.target.(ownLimit)
	if a.opts.ApplyLimit == 0 || is && own.LimitsApply() {
		return a.target.Apply(work, t.before, t.apply)
	}
	ctx, ended := a.still.limit(work, a.opts.ApplyLimit)
	pos, err = a.target.Apply(ctx, t.before, t.apply)
	first, last := t.apply[0].Pos, t.apply[len(t.apply)-1].Pos
	switch long := ended(); {
	case !long || err == nil || !IsTransient(err) || IsBack(err) || pos.Seq >= last.Seq:
		return pos, err
	case len(t.apply) > 1:
		return pos, Transient(&overrun{fmt.Errorf("increments %d to %d took longer than %s (apply_limit): trying one by one: %w", first.Seq, last.Seq, a.opts.ApplyLimit, err)})
	}
	return pos, fmt.Errorf("increment %d took longer than %s (apply_limit) and was given up; a node started with a greater --apply-limit gives it more time when it is retried: %v", first.Seq, a.opts.ApplyLimit, err)
}

// stillness knows whether a snapshot is open. Changes of the schema wait for its end, and that time is not theirs.
type stillness struct {
	mu    sync.Mutex
	open  map[Snapshot]bool
	ended time.Time // of the last one
}

func (s *stillness) begin(snap Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[Snapshot]bool{}
	}
	s.open[snap] = true
}

// end may come twice for one snapshot.
func (s *stillness) end(snap Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[snap] {
		delete(s.open, snap)
		s.ended = time.Now()
	}
}

// spent is how much of the time since begun counts.
func (s *stillness) spent(begun time.Time) time.Duration {
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

// limit is a context that ends with errTooLong when most of time is spent. ended gives it up and reports whether that came.
func (s *stillness) limit(work context.Context, most time.Duration) (ctx context.Context, ended func() bool) {
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
