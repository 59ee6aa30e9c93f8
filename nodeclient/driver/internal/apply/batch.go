// Package apply is how target drivers apply many increments in one transaction, so that the result is that of
// applying them one by one: what fails in company is rolled back, everything before it is applied again, and it runs
// once more alone before it is believed (XI-6, XS-3).
package apply

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
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
	// Decision is that of the item: not 0 when an operator has decided that it is tried again.
	Decision uint64
	// Outside is the sequence of an increment that is applied outside the order (nodeclient.Target.Apply); 0 for all
	// others.
	Outside uint64
}

// Seq is the sequence of the increment itself, for people and for what it draws by chance.
func (s *Step[W]) Seq() uint64 {
	if s.Outside != 0 {
		return s.Outside
	}
	return s.Pos.Seq
}

// Outside is the sequence of the one increment in items when it is applied outside the order; 0 for all others.
// before is where the database stands.
func Outside(before event.Position, items []event.Item) uint64 {
	if len(items) != 1 || items[0].Record == nil || items[0].Pos != before {
		return 0
	}
	return items[0].Record.Seq()
}

// Failure is why a transaction came to nothing: the FAIL of an increment, or classed trouble.
type Failure struct {
	At  int // index of the step; Unknown when nobody can tell
	Err error
}

// Unknown is the index of a failing step that nobody can tell.
const Unknown = -1

// Fail is the failure err of the step with index at.
func Fail(at int, err error) *Failure { return &Failure{at, err} }

// ErrAlone is the failure of steps that must be applied one by one: what one of them does is seen at its commit only,
// or would reach the next. Nothing of them may be durable then.
var ErrAlone = errors.New("these increments must be applied one by one")

// Transact runs steps and moves the position to that of the last in one transaction. nil: all of it is durable.
// Otherwise nothing is, and the position that is durable is returned beside the failure.
type Transact[W any] func(before event.Position, steps []Step[W]) (event.Position, *Failure)

// Prepare makes steps of items, on all processors when there are many. Items that cannot be read are FAILs: steps
// ends before the first of them, and refused is its error, which begins with the driver's name and the increment.
// parse is called concurrently. before is where the database stands.
func Prepare[W any](driver string, before event.Position, items []event.Item,
	parse func(body []byte) (W, error)) (steps []Step[W], refused error) {
	steps = make([]Step[W], len(items))
	parts := min(runtime.GOMAXPROCS(0), 1+len(items)/few)
	// of each part: where it stops, and why not after its last item
	ends, errs := make([]int, parts), make([]error, parts)
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
			return steps[:ends[i]], fmt.Errorf("%s: increment %d: %w", driver,
				cmp.Or(Outside(before, items), items[ends[i]].Pos.Seq), err)
		}
	}
	if seq := Outside(before, items); seq != 0 {
		steps[0].Outside = seq
	}
	return steps, nil
}

// few is how many items are not worth another goroutine.
const few = 64

// prepare makes the steps from to to, and returns where it stopped.
func prepare[W any](steps []Step[W], items []event.Item, from, to int, parse func(body []byte) (W, error)) (end int,
	err error) {
	for i := from; i < to; i++ {
		s := Step[W]{Pos: items[i].Pos, Decision: items[i].Decision}
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

// Apply commits steps, or those before the first that fails, and returns as nodeclient.Database's Apply does. refused
// is the answer when all steps are durable. A step for which alone answers true gets a transaction of its own; nil:
// no step needs one. p is the target's, kept from call to call.
func Apply[W any](before event.Position, steps []Step[W], refused error, p *Patience, alone func(*W) bool,
	transact Transact[W]) (event.Position, error) {
	p.durable.Store(before.Seq)
	for len(steps) > 0 {
		n := 1
		if p.pos != steps[0].Pos { // else it has failed alone, and is tried alone again
			n = together(steps, alone)
		}
		pos, err := apply(before, steps[:n], p, transact)
		if err != nil {
			return pos, err
		}
		before, steps = pos, steps[n:]
	}
	return before, refused
}

// together is how many of steps may share the first transaction.
func together[W any](steps []Step[W], alone func(*W) bool) int {
	if alone == nil {
		return len(steps)
	}
	n := 1
	for n < len(steps) && !alone(&steps[0].Work) && !alone(&steps[n].Work) {
		n++
	}
	return n
}

// apply commits steps that may share a transaction, in as few as their results allow.
func apply[W any](before event.Position, steps []Step[W], p *Patience, transact Transact[W]) (event.Position, error) {
	pos, fail := transact(before, steps)
	var parts [][]Step[W]
	switch {
	case fail == nil:
		p.durable.Store(pos.Seq)
		return pos, nil
	case len(steps) == 1:
		return p.judge(pos, fail.Err, steps[0].Pos, func() bool {
			_, fail := transact(before, []Step[W]{{Pos: before}})
			return fail == nil
		})
	case errors.Is(fail.Err, ErrAlone):
		for i := range steps {
			parts = append(parts, steps[i:i+1])
		}
	case nodeclient.IsFatal(fail.Err) || nodeclient.IsTransient(fail.Err) && said(fail.Err) == "":
		return pos, fail.Err // it is about none of them
	case fail.At == Unknown:
		parts = [][]Step[W]{steps[:len(steps)/2], steps[len(steps)/2:]}
	default:
		parts = [][]Step[W]{steps[:fail.At], steps[fail.At : fail.At+1]}
		// When it succeeds alone, company was too much for it: the rest comes in no greater company than went well.
		parts = slices.AppendSeq(parts, slices.Chunk(steps[fail.At+1:], max(1, fail.At)))
	}
	for _, part := range parts {
		if len(part) == 0 {
			continue
		}
		var err error
		if before, err = apply(before, part, p, transact); err != nil {
			return before, err
		}
	}
	return before, nil
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
