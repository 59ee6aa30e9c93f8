// Package batch is how target drivers apply many increments in one transaction: prepared before anything runs, rolled back
// whole when one fails, and applied again up to the failing one, so that exactly what precedes it is durable (XI-6, XS-3).
package batch

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// Step is one item of a batch, ready to run. W is what a driver has made of its body.
type Step[W any] struct {
	Pos  event.Position // after it
	Time int64          // broker time of the increment in nanoseconds since 1970; 0 for a pass
	Work W              // zero for a pass, which only moves the position
	// Answer is that of the item: not 0 when an operator has decided that it is tried again.
	Answer uint64
}

// Failure is a failing step: the FAIL of its increment, or classed trouble that ends the batch.
type Failure struct {
	At  int // index of the step
	Err error
}

// Fail is the failure err of the step with index at.
func Fail(at int, err error) *Failure { return &Failure{at, err} }

// ErrAlone is the failure of a batch that must be cut into single steps: one of them may say what happens at its commit only.
// Nothing of the batch may be durable then.
var ErrAlone = errors.New("these increments must be applied one by one")

// Transact runs steps and moves the position behind the last in one transaction. nil: all of it is durable. Otherwise nothing
// is, and the position that is durable is returned beside the failure.
type Transact[W any] func(before event.Position, steps []Step[W]) (event.Position, *Failure)

// Prepare makes steps of items, on all processors when there are many. Items that cannot be read are FAILs: steps ends before the
// first of them, and refused is its error, which begins with the driver's name and the increment. parse is called
// concurrently.
func Prepare[W any](driver string, items []event.Item, parse func(body []byte) (W, error)) (steps []Step[W], refused error) {
	steps = make([]Step[W], len(items))
	parts := min(runtime.GOMAXPROCS(0), 1+len(items)/few)
	ends, errs := make([]int, parts), make([]error, parts) // of each part: where it stops, and why not behind its last item
	var work sync.WaitGroup
	for i := range parts {
		from, to := i*len(items)/parts, (i+1)*len(items)/parts
		part := func() { ends[i], errs[i] = prepare(steps, items, from, to, parse) }
		if i == parts-1 {
			part()
		} else {
			work.Go(part)
		}
	}
	work.Wait()
	for i, err := range errs {
		if err != nil {
			return steps[:ends[i]], fmt.Errorf("%s: increment %d: %w", driver, items[ends[i]].Pos.Seq, err)
		}
	}
	return steps, nil
}

// few is how many items are not worth another goroutine.
const few = 64

// prepare makes the steps from to to, and returns where it stopped.
func prepare[W any](steps []Step[W], items []event.Item, from, to int, parse func(body []byte) (W, error)) (end int, err error) {
	for i := from; i < to; i++ {
		s := Step[W]{Pos: items[i].Pos, Answer: items[i].Answer}
		if record := items[i].Record; record != nil {
			if s.Work, err = parse(record.Body()); err != nil {
				return i, err
			}
			s.Time = record.Time()
		}
		steps[i] = s
	}
	return to, nil
}

// Apply commits steps, or those before the first that fails, and returns as nodeclient.Target's Apply does. refused is the
// answer when all steps are durable.
func Apply[W any](before event.Position, steps []Step[W], refused error, transact Transact[W]) (event.Position, error) {
	if len(steps) == 0 {
		return before, refused
	}
	pos, fail := transact(before, steps)
	switch {
	case fail == nil:
		return pos, refused
	case errors.Is(fail.Err, ErrAlone):
		return Alone(before, steps, refused, transact)
	case fail.At == 0 || nodeclient.IsTransient(fail.Err) || nodeclient.IsFatal(fail.Err):
		return pos, fail.Err
	}
	if pos, again := transact(before, steps[:fail.At]); again != nil {
		return pos, again.Err
	}
	return steps[fail.At-1].Pos, fail.Err
}

// Alone is Apply with a transaction for each step.
func Alone[W any](before event.Position, steps []Step[W], refused error, transact Transact[W]) (event.Position, error) {
	for i := range steps {
		pos, fail := transact(before, steps[i:i+1])
		if fail != nil {
			return pos, fail.Err
		}
		before = pos
	}
	return before, refused
}

// LastTime is the broker time of the last increment among steps; 0 when all of them are passes.
func LastTime[W any](steps []Step[W]) (ns int64) {
	for _, s := range steps {
		if s.Time != 0 {
			ns = s.Time
		}
	}
	return ns
}

// Start is the beginning of a statement for a message: at most 200 bytes of it, on one line.
func Start(statement string) string {
	return strconv.Quote(statement[:min(len(statement), 200)])
}
