package nodeclient

import (
	"fmt"

	"xmq/broker/event"
)

// outside is an increment that this node has passed over and that an operator wants applied now, outside the order. It
// is given to the database once; what became of it is remembered as long as this process lives, because the broker asks
// until it has heard.
type outside struct {
	number event.RequestID // of the order
	item   event.Item      // its position is its own
	begun  bool            // it is at the database, or was
	code   event.Code      // what became of it; NoCode until that is known
	text   string
}

// ordered takes the order, which is repeated until answered.
func (s *session) ordered(e event.Event) {
	switch {
	case !s.talking() || e.Request == 0:
		return // it comes again
	case s.outside != nil && s.outside.number == e.Request:
		if s.outside.code != event.NoCode {
			s.answerOutside()
		}
		return
	case s.outside != nil && s.outside.code == event.NoCode, s.outsideSeen[e.Request]:
		return // one at a time, and each once
	}
	item, err := event.Outside(e.Body, s.pos.Log)
	if err != nil {
		s.warn("an order was damaged on the way: %v", err)
		return
	}
	if s.outsideSeen == nil {
		s.outsideSeen = map[event.RequestID]bool{}
	}
	s.outsideSeen[e.Request] = true
	s.outside = &outside{number: e.Request, item: item}
	s.note("an operator has ordered increment %d, which was passed over here, outside the order", item.Pos.Seq)
	s.work()
}

// applyOutside gives the increment to the database, which may be at rest after one that failed. It reports whether it
// has.
func (s *session) applyOutside() bool {
	o := s.outside
	if o == nil || o.begun || s.busy || !s.talking() || s.pausedFor != 0 || s.leaving {
		return false
	}
	o.begun = true
	item := o.item
	item.Pos = s.pos
	s.do(task{outside: &item, before: s.pos})
	return true
}

// outsideRuns reports that the increment is at the database.
func (s *session) outsideRuns() bool {
	return s.outside != nil && s.outside.begun && s.outside.code == event.NoCode
}

// outsideDone takes the outcome.
func (s *session) outsideDone(pos event.Position, err error) {
	s.busy = false
	o, seq := s.outside, s.outside.item.Pos.Seq
	switch {
	case err == nil:
		o.code = event.Applied
		s.note("increment %d was applied outside the order", seq)
	case IsUnknown(err) || IsFatal(err): // of a copy that is lost nobody knows what it holds
		o.code, o.text = event.MayApplied, err.Error()
		s.warn("whether increment %d was applied outside the order is not known: %v", seq, err)
	default:
		o.code, o.text = event.NotApplied, err.Error()
		s.warn("increment %d was not applied outside the order: %v", seq, err)
	}
	if s.taken(err) {
		return
	}
	if err != nil && IsFatal(err) && s.phase != joining {
		s.fatalReason = err.Error()
	}
	switch {
	case s.phase == opening: // a new session was asked for meanwhile; the broker asks again in it
		s.sayNone()
		return
	case !s.talking():
		return
	}
	s.answerOutside()
	switch {
	case err != nil && IsBack(err):
		s.pos = pos
		s.warn("going on from %d, where the database stands: %v", s.pos.Seq, err)
		s.open()
	case err != nil && IsFatal(err):
		s.lose()
	default:
		s.work()
	}
}

// answerOutside says what became of it; said again when it is asked again.
func (s *session) answerOutside() {
	o := s.outside
	s.say(event.Event{Kind: event.IncrReq, State: event.Succ, Code: o.code, Pos: s.pos, Request: o.number,
		Text:          short(o.text),
		CreditRecords: s.rules.windowRecords, CreditBytes: s.rules.windowBytes})
}

// dropOutside answers, before this node ends, for what has not begun.
func (s *session) dropOutside() {
	if o := s.outside; o != nil && !o.begun {
		o.begun, o.code, o.text = true, event.NotApplied, fmt.Sprintf("the node was stopped before increment %d was its "+
			"database's turn", o.item.Pos.Seq)
		s.answerOutside()
	}
}
