package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"xmq/broker/event"
	"xmq/broker/failpoint"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/apply"
)

// One call of the script holds so many bytes and words at most, unless a single increment has more: a server does
// nothing else meanwhile.
const (
	maxCallBytes = 8 << 20
	maxCallWords = 100_000
)

// settleTime is how long a lost answer is looked for before Apply reports the doubt. The next Apply looks again.
const settleTime = 10 * time.Second

// Apply implements nodeclient.Database. The text of a FAIL names the increment, the command, what the server said and
// the beginning of the command. A Transient may come with a position ahead of before: what precedes it is durable,
// and a call whose answer was lost may be stored. Everything is done in one pass: nothing is applied and rolled back
// as a whole.
func (t *Database) Apply(ctx context.Context, before event.Position, items []event.Item) (event.Position, error) {
	if ctx.Err() != nil {
		return before, nodeclient.Transient(fmt.Errorf("redis: apply: %w", context.Cause(ctx)))
	}
	if err := t.usable(); err != nil {
		return before, err
	}
	defer t.conn.until(ctx)()
	steps, refused := apply.Prepare("redis", before, items, t.table.parse)
	steps, refused, err := t.ready(ctx, steps, refused)
	if err != nil {
		return before, err
	}
	if err := t.keep(ctx, steps); err != nil {
		return before, err
	}
	if err := t.adopt(ctx); err != nil {
		return before, err
	}
	for len(steps) > 0 {
		n := portion(steps)
		n, done, again, err := t.call(ctx, before, steps[:n])
		if err != nil {
			return done, err
		}
		before, steps = done, steps[n:] // a server without memory does less, and so does one that ends keys first
		if again == late || again == soon && len(steps) == 0 {
			if err := t.stretch(ctx, before, last(steps[:min(1, len(steps))])); err != nil {
				return before, err
			}
		}
	}
	return before, refused
}

// again is why a call is to be made again, or what is to be done next.
type again int

const (
	enough again = iota
	more         // the same again: times count, or more keys are to be ended
	soon         // half of the time is over for which Redis keeps keys longer
	late         // all of it
)

// portion is how many of the steps go into one call.
func portion(steps []step) int {
	bytes, words := 0, 0
	for i, s := range steps {
		for _, o := range s.Work {
			words += len(o.words)
			for _, w := range o.words {
				bytes += len(w)
			}
		}
		if i > 0 && (bytes > maxCallBytes || words > maxCallWords) {
			return i
		}
	}
	return len(steps)
}

// arguments are what applyScript takes. timed: times to live count.
func (t *Database) arguments(before event.Position, steps []step, timed bool) []any {
	fresh, free := "0", 0
	if before.Zero() || before == event.Start(before.Log) {
		fresh = "1"
	}
	for free < len(steps) && !slices.ContainsFunc(steps[free].Work, func(o order) bool { return o.spec.hungry }) {
		free++
	}
	count := "0"
	if timed {
		count = "1"
	}
	args := append(words(before), fresh, strconv.Itoa(free), count, strconv.FormatInt(t.safe, 10), t.spares(),
		strconv.Itoa(dueKeys), strconv.Itoa(len(steps)))
	for _, s := range steps {
		args = append(append(args, words(s.Pos)...), brokerTime(s.Time), millis(s.Time), "", strconv.Itoa(len(s.Work)))
		begins := len(args)
		for i, o := range s.Work {
			keep := o.keys
			if i == len(s.Work)-1 && !timed { // what fails has changed nothing
				keep = nil
			}
			args = append(args, strconv.Itoa(len(keep)))
			for _, key := range keep {
				args = append(args, key)
			}
			args = append(args, strconv.Itoa(len(o.words)), o.manner())
			for _, word := range o.words {
				args = append(args, word)
			}
		}
		args[begins-2] = strconv.Itoa(len(args) - begins)
	}
	return args
}

// call runs steps in one call of the script and returns how many are durable then, and the position.
func (t *Database) call(ctx context.Context, before event.Position, steps []step) (int, event.Position, again, error) {
	timed := t.timed || slices.ContainsFunc(steps, func(s step) bool { return slices.ContainsFunc(s.Work, order.timed) })
	args := t.arguments(before, steps, timed)
	failpoint.Hit(failpoint.AppliedBeforeSeq) // the two are one here
	failpoint.Hit(failpoint.SeqBeforeCommit)
	answer, err := t.held(ctx, args)
	var none *unheld
	if errors.As(err, &none) {
		return 0, before, enough, none.error
	}
	t.timed = t.timed || timed
	if err != nil && said(err) == "" {
		pos, err := t.settle(ctx, before, steps, err)
		return len(steps), pos, enough, err
	}
	if err != nil { // the script has not run
		return 0, before, enough, unasked(classify(ctx, "apply", err))
	}
	fields, _ := answer.([]any)
	return t.outcome(before, steps, fields)
}

// unasked marks what a server said before it ran the script: that is never about an increment.
func unasked(err error) error {
	if nodeclient.IsTransient(err) {
		return err
	}
	return nodeclient.Transient(err)
}

// outcome reads what the script returned.
func (t *Database) outcome(before event.Position, steps []step, f []any) (done int, pos event.Position, next again,
	err error) {
	field := func(i int) string {
		if i < len(f) {
			return text(f[i])
		}
		return ""
	}
	index := func(i int) int {
		if i < len(f) {
			return number(f[i])
		}
		return -1
	}
	at, which := index(1), index(2)
	switch what := field(0); {
	case what == "done" && at > 0 && at <= len(steps):
		t.doubt, t.timed = nil, index(2) == 1
		_ = t.hold.Advance(before, before) // it was found there
		if index(3) == 1 && t.timed {
			return at, steps[at-1].Pos, soon, nil
		}
		return at, steps[at-1].Pos, enough, nil
	case what == "timed":
		t.timed = true
		return 0, before, more, nil
	case (what == "due" || what == "late") && at >= 0 && at < len(steps):
		t.doubt = nil
		pos, next = before, more
		if at > 0 {
			pos = steps[at-1].Pos
		}
		if what == "late" {
			next = late
		}
		return at, pos, next, nil
	case what == "refused":
		err = fmt.Errorf("redis: apply: the server refuses to move the position: %s", field(1))
		return 0, before, enough, nodeclient.Transient(err)
	case what == "position":
		pos, err = t.compare(before, f)
		return 0, pos, enough, err
	case (what == "failed" || what == "half") && at >= 0 && at < len(steps) && which >= 0 && which < len(steps[at].Work):
		t.doubt = nil
		pos = before
		if at > 0 {
			pos = steps[at-1].Pos
		}
		err = fmt.Errorf("redis: increment %d: %s, in command %d: %s", steps[at].Seq(), field(3), which+1,
			steps[at].Work[which].words)
		switch {
		case what == "half":
			return at, pos, enough, nodeclient.Fatal(fmt.Errorf("%w; and what its earlier commands did could not be taken "+
				"back: %s", err, field(4)))
		case transient(field(3)):
			return at, pos, enough, nodeclient.Transient(err)
		}
		return at, pos, enough, err
	}
	return 0, before, enough, nodeclient.Transient(fmt.Errorf("redis: apply: the answer of the script is not known to "+
		"this version: %q", field(0)))
}

// compare answers for a stored position other than before: that of a call whose answer was lost, or someone else's.
func (t *Database) compare(before event.Position, f []any) (event.Position, error) {
	t.safe, t.timed = 0, true // it may be another state
	if len(f) == 2 {
		return before, lost(errors.New(text(f[1])))
	}
	var stored event.Position
	if len(f) == 5 && number(f[4]) == 1 {
		var err error
		if stored, err = parsePosition(text(f[1]), text(f[2]), text(f[3])); err != nil {
			return before, err
		}
	}
	if slices.Contains(t.doubt, stored) {
		t.doubt = nil
		return stored, nodeclient.Transient(fmt.Errorf("redis: a call whose answer was lost is stored after all: going on "+
			"after %d", stored.Seq))
	}
	return stored, t.hold.Advance(stored, before)
}

// settle answers for a call whose answer was lost, with the position read back over a new connection. A server does
// one thing at a time: it answers when a script that still runs has ended, or says BUSY. A call that is still under
// way and arrives later does nothing once the position has moved; until then it is a doubt, which the next Apply
// resolves.
func (t *Database) settle(ctx context.Context, before event.Position, steps []step, failed error) (event.Position,
	error) {
	t.conn.cut()
	for _, s := range steps {
		if !slices.Contains(t.doubt, s.Pos) {
			t.doubt = append(t.doubt, s.Pos)
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		failed = fmt.Errorf("%w: %w", cause, failed)
	}
	last := steps[len(steps)-1].Pos
	if last == before { // outside the order: the position tells nothing
		return before, nodeclient.Unknown(fmt.Errorf("redis: the answer was lost, and whether it is done is not known: %w",
			failed))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	defer t.conn.until(ctx)()
	now, err := readPosition(ctx, t.conn)
	for err != nil && (said(err) != "" && transient(said(err))) && ctx.Err() == nil { // a script runs
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
		now, err = readPosition(ctx, t.conn)
	}
	switch {
	case err != nil && !nodeclient.IsFatal(err):
		return before, nodeclient.Transient(fmt.Errorf("redis: whether %d is stored is unknown until the server answers "+
			"again: %w; %w", last.Seq, failed, err))
	case err != nil:
		return before, err
	case now == last:
		t.doubt = nil
		return now, nil
	case now == before || t.hold.Advance(now, before) == nil:
		return before, nodeclient.Transient(fmt.Errorf("redis: the call up to %d failed and nothing of it is stored: %w",
			last.Seq, failed))
	case slices.Contains(t.doubt, now):
		t.doubt = nil
		return now, nodeclient.Transient(fmt.Errorf("redis: the call up to %d ended after %d, and the answer that says "+
			"why is lost: %w", last.Seq, now.Seq, failed))
	}
	return now, fmt.Errorf("redis: after a lost answer: %w: %w", t.hold.Advance(now, before), failed)
}
