// Package door is what all doors share: how a change comes in, and how it is refused. A door is a package below
// this one, named after its protocol; it parses requests, checks limits before it buffers, and calls Ingest.
package door

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"xmq/broker/event"
)

// Ingest takes drafts into the log as one request, after everything taken before, and calls done once with one
// outcome for each draft, in order, when all that was accepted is durable; or with a *Refusal for the whole
// request. With code Unknown some of it may be in the log: the producer repeats it with the same idempotency keys.
// An Err of an outcome is a *Refusal.
//
// Ingest itself does not block. done may be called before Ingest returns or later from another goroutine, and must
// not block. The drafts and their bodies belong to Ingest until done is called; it may change the slice.
type Ingest func(drafts []event.Draft, done func([]event.Outcome, error))

// Wait is Ingest for doors that serve one request in one goroutine. When ctx ends first the outcome is unknown.
func (in Ingest) Wait(ctx context.Context, drafts []event.Draft) ([]event.Outcome, error) {
	type result struct {
		out []event.Outcome
		err error
	}
	c := make(chan result, 1)
	in(drafts, func(out []event.Outcome, err error) { c <- result{out, err} })
	select {
	case r := <-c:
		return r.out, r.err
	case <-ctx.Done():
		return nil, Refuse(Unknown, "the request ended before its write: the outcome is unknown, repeat it with the same "+
			"idempotency key")
	}
}

// Code says in a word why a request is refused. Stable.
type Code string

// The codes.
const (
	Empty       Code = "empty"       // a body of no bytes
	TooLarge    Code = "too_large"   // above the limit
	Invalid     Code = "invalid"     // a header or the request breaks a rule
	Unfit       Code = "refused"     // no node of this group would take it: see Accepts
	TooOld      Code = "too_old"     // a producer's number from before what is remembered
	Gap         Code = "gap"         // a batch before this one is missing: repeat from there
	Busy        Code = "busy"        // too much waits already: try again
	Slow        Code = "slow"        // the body comes more slowly than anybody waits for
	Media       Code = "media"       // the body is wrapped in a way that is not taken
	DiskFull    Code = "disk_full"   // the broker's disk is nearly full
	Descriptors Code = "descriptors" // the broker has no file descriptor left: try again
	Held        Code = "held"        // nodes hold another log than this one: an operator decides
	Opening     Code = "opening"     // the broker starts: try again
	Closing     Code = "closing"     // the broker stops: try again
	Unknown     Code = "unknown"     // the outcome is unknown: repeat with the same idempotency key

	NotFound Code = "not_found" // there is no such thing
	Gone     Code = "gone"      // it is not kept any more
	Method   Code = "method"    // the path is there, and takes another method
	Conflict Code = "conflict"  // an order that what it is for cannot obey now
	Confirm  Code = "confirm"   // an order that takes something away: give it again with confirm
	Internal Code = "internal"  // none of the others

	KeyReused Code = "key_reused" // the key was used for another body or topic
	Jump      Code = "jump"       // a producer's number is too far above its highest
)

// Retryable reports whether the same request may be taken later as it is.
func (c Code) Retryable() bool {
	switch c {
	case Gap, Busy, DiskFull, Descriptors, Held, Opening, Closing, Unknown:
		return true
	}
	return false
}

// Refusal is a request that was not taken, with one sentence for people.
type Refusal struct {
	Code Code
	Text string
}

func (r *Refusal) Error() string { return r.Text }

// RefusalOf is why an outcome stored nothing; nil when it did. What is no Refusal is the broker's own trouble.
func RefusalOf(o event.Outcome) *Refusal {
	var r *Refusal
	if o.Err != nil && !errors.As(o.Err, &r) {
		r = Refuse(Busy, "nothing was stored, try again: %v", o.Err)
	}
	return r
}

// Refuse makes a Refusal.
func Refuse(c Code, format string, args ...any) *Refusal {
	return &Refusal{c, fmt.Sprintf(format, args...)}
}

// Accepts is an error for a body that no node of the group would take, in the words of its driver. nil takes
// everything.
type Accepts func(body []byte) error

// Check is a Refusal for a body that is not accepted.
func (a Accepts) Check(body []byte) *Refusal {
	if a == nil {
		return nil
	}
	if err := a(body); err != nil {
		return Refuse(Unfit, "no node of this group would take it: %v", err)
	}
	return nil
}

// MaxKey is the longest idempotency key in bytes.
const MaxKey = 256

// control reports whether s holds a control character: such a header could not be shown or sent on as it came.
func control(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7F })
}

// Check applies the rules that hold at every door: a body of 1 to limit bytes, headers in their grammar. nil: it may
// be stored.
func Check(d *event.Draft, limit int) *Refusal {
	switch {
	case len(d.Body) == 0:
		return Refuse(Empty, "an increment needs a body of at least one byte")
	case len(d.Body) > limit:
		return Refuse(TooLarge, "a body of %d bytes is above the limit of %d (max_increment)", len(d.Body), limit)
	case !utf8.ValidString(d.Key):
		return Refuse(Invalid, "an idempotency key is text in UTF-8: two keys that differ elsewhere would look the same")
	case len(d.Key) > MaxKey:
		return Refuse(Invalid, "an idempotency key of %d bytes is longer than %d", len(d.Key), MaxKey)
	case len(d.ContentType) > 255 || len(d.Origin) > 255:
		return Refuse(Invalid, "content type and origin have at most 255 bytes")
	case control(d.Key) || control(d.ContentType) || control(d.Origin):
		return Refuse(Invalid, "idempotency key, content type and origin hold no control characters")
	}
	if err := event.CheckLimit(d.Limit); err != nil {
		return Refuse(Invalid, "%v", err)
	}
	if d.Topic != "" {
		if err := event.CheckTopic(d.Topic); err != nil {
			return Refuse(Invalid, "%v", err)
		}
	}
	if d.Producer != "" {
		if err := event.CheckID(d.Producer); err != nil {
			return Refuse(Invalid, "producer: %v", err)
		}
	}
	return nil
}
