package apply

import (
	"errors"
	"fmt"
	"sync/atomic"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// Tries is how often an increment alone gets the same answer of the database before it is believed to be the
// increment's own doing.
const Tries = 5

// answer is what the database itself said to a statement of an increment: trouble that may pass, or that the statement
// has raised.
type answer struct {
	code string
	err  error
}

func (a *answer) Error() string { return a.err.Error() }
func (a *answer) Unwrap() error { return a.err }

// Said marks err as the answer of the database, by its code, to a statement of an increment. It is Transient: whether
// it passes is seen by trying again.
func Said(code string, err error) error { return nodeclient.Transient(&answer{code, err}) }

// said is the code of an answer in err; "" when it is none.
func said(err error) string {
	var a *answer
	if errors.As(err, &a) {
		return a.code
	}
	return ""
}

// Patience counts the same answers to one increment. The zero value has heard none.
type Patience struct {
	pos     event.Position // after the increment
	code    string
	count   int
	durable atomic.Uint64 // see Durable
}

// Durable is the sequence up to which Apply has committed, also while it runs; 0 before the first commit.
func (p *Patience) Durable() uint64 { return p.durable.Load() }

// judge answers for an increment that was tried alone: the same answer for the Tries-th time, while the position can
// be written, is its FAIL.
func (p *Patience) judge(durable event.Position, err error, pos event.Position, writable func() bool) (event.Position,
	error) {
	code := said(err)
	if code == "" {
		return durable, err
	}
	if p.pos != pos || p.code != code {
		p.pos, p.code, p.count = pos, code, 0
	}
	if p.count++; p.count < Tries || !writable() {
		return durable, err
	}
	p.pos, p.code, p.count = event.Position{}, "", 0
	return durable, fmt.Errorf("%v; it was tried alone %d times and always got this answer, while the position can be "+
		"written", err, Tries)
}
