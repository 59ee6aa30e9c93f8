package worker

import (
	"errors"
	"fmt"
	"slices"

	"xmq/broker/event"
	"xmq/increments"
	"xmq/statedb"
)

// verdict says how a node that opens a session is to be fed, or why not.
type verdict struct {
	code    event.Code     // Welcome, or the refusal; NoCode: the log cannot say now, and the node asks again
	from    event.Position // Welcome: feed what comes after it; Seek: what to adopt
	text    string         // refusal: one sentence that says what to do
	way     Way            // refusal: what helps, where that depends on which other copies there are
	promote bool           // the snapshot of the running join has been loaded
}

// admit is the one place that compares a node's position with the log and with what the broker remembers,
// and says "follow from here" or "no, because". known: a client record c exists. Rules: XE-1, XE-2, XI-8,
// XI-9, XD-4, XD-8, SS-22.
func admit(c *statedb.Client, known bool, mayStart bool, pos event.Position, h event.Hello, log Log) verdict {
	head, first := log.Head(), log.First()
	if known && h.Stateless && c.Acked.Log == head.Log && !c.TurnedBack() && c.Placed() {
		h.At = 0 // the broker knows its position
	}
	// a flag that was left where a node is started moves nothing: it is for a database without a position, and of a
	// client that has stood somewhere only where its data is that of this place
	if !pos.Zero() || known && !h.Stateless && c.Acked.Seq > 0 && c.Acked.Log == head.Log &&
		(h.At != c.Acked.Seq+1 || h.Empty) {
		h.At = 0
	}
	known = known && !c.TurnedBack()
	refuse := func(code event.Code, way Way, format string, args ...any) verdict {
		return verdict{code: code, way: way, text: fmt.Sprintf(format, args...)}
	}
	join := known && c.Join != nil && c.Join.Opened && pos == c.Join.Pos
	// the node says so itself; else its position has to be proof enough
	loaded := join && h.Loaded == c.Join.Request
	asked := join && c.Join.Topics == event.TopicsOf(h.Topics) // it was restarted right after the load
	named := known && c.Registered && len(c.Topics) > 0        // by an operator, before any node came
	if (known && c.State != statedb.Pending && !loaded && !asked || named) && !slices.Equal(c.Topics, h.Topics) {
		return refuse(event.Foreign, WayTopics, "client %s follows topics %v but its node now names %v, so its data would "+
			"have holes: start it with the old topics", c.ID, show(c.Topics), show(h.Topics))
	}
	if known && !c.Unfed() && c.Driver != "" && h.Target != "" && c.Driver != h.Target {
		return refuse(event.Refused, WayNone, "%s", sayOtherKind(c.ID, c.Acked.Seq, c.Driver, h.Target))
	}
	if !pos.Zero() && pos.Log != head.Log {
		return refuse(event.Foreign, WayOther, "the database of %s stands at sequence %d of log %s, but this broker keeps "+
			"log %s", c.ID, pos.Seq, pos.Log, head.Log)
	}
	ordered := known && c.State == statedb.NeedsDump && c.LastError != nil && c.LastError.Class == orderedDump
	if loaded || join && c.State != statedb.Fatal && !ordered {
		return checkChain(c, pos, log, true)
	}
	if known && c.State == statedb.Fatal {
		return refuse(event.NeedsDump, WayLost, "the copy of client %s is lost (FATAL)", c.ID)
	}
	if known && c.Seek != nil && pos != *c.Seek {
		return verdict{code: event.Seek, from: *c.Seek}
	}
	if ordered && c.Seek == nil {
		return refuse(event.NeedsDump, WayOrdered, "%s", c.LastError.Text)
	}
	if _, err := explicit(h.At, log); h.At != 0 && !known && !mayStart && err == nil {
		return refuse(event.Refused, WayNone, "nobody knows client %s, so it cannot choose where it begins (--at %d): run "+
			"`xmq client add %s` or `xmq client seek %s %d --reason TEXT` first", c.ID, h.At, c.ID, c.ID, h.At)
	}
	if h.At != 0 && (!known || c.Seek == nil) {
		return admitExplicit(c.ID, h.At, log)
	}
	if pos.Zero() && h.Stateless && known && c.Acked.Log == head.Log {
		pos = c.Acked
	}
	if pos.Zero() {
		return admitFresh(c, known, mayStart, h, log)
	}
	if pos.Seq > head.Seq {
		return refuse(event.Foreign, WayAhead, "the database of %s stands at %d, ahead of this log, which ends at %d: the "+
			"broker lost increments or this is another history; compare them before anything else", c.ID, pos.Seq, head.Seq)
	}
	if pos.Seq+1 < first {
		return refuse(event.NeedsDump, WayTrimmed, "client %s stands at %d, but the log begins at %d", c.ID, pos.Seq, first)
	}
	return checkChain(c, pos, log, false)
}

// sayOtherKind says that the node of a known client comes with another kind of database.
func sayOtherKind(id string, seq uint64, old, now string) string {
	return fmt.Sprintf("client %s stands at %d in a database of kind %s, and its node comes with one of kind %s now: "+
		"give that one an ID of its own, or, if the old one is given up, run `xmq client forget %s --reason TEXT` first",
		id, seq, old, now, id)
}

// final reports whether the error of a read is a verdict on what was to be read. Any other one says only that it could
// not be read this time, and then nothing changes.
func final(err error) bool {
	return errors.Is(err, increments.ErrTrimmed) || errors.Is(err, increments.ErrQuarantined)
}

// checkChain checks the chain: the position must be of this very history.
func checkChain(c *statedb.Client, pos event.Position, log Log, promote bool) verdict {
	here, err := log.Position(pos.Seq)
	if errors.Is(err, increments.ErrBeyond) {
		return verdict{code: event.Foreign, way: WayAhead,
			text: fmt.Sprintf("the database of %s stands at %d, ahead of this log, which "+
				"ends at %d: the broker lost increments or this is another history; compare them before anything else", c.ID,
				pos.Seq, log.Head().Seq)}
	}
	if err != nil && !final(err) {
		return verdict{}
	}
	if err != nil {
		return verdict{code: event.NeedsDump, way: WayTrimmed, text: fmt.Sprintf("client %s stands at %d, which this log "+
			"cannot confirm (%v)", c.ID, pos.Seq, err)}
	}
	if here != pos {
		return verdict{code: event.Foreign, way: WayOther, text: fmt.Sprintf("the database of %s has chain %s at %d, but "+
			"this log has %s there: its data comes from another history", c.ID, pos.Chain, pos.Seq, here.Chain)}
	}
	return verdict{code: event.Welcome, from: pos, promote: promote}
}

// admitFresh decides for a database that has applied nothing, as far as it knows; h.Holds says that it has data all the
// same.
func admitFresh(c *statedb.Client, known, mayStart bool, h event.Hello, log Log) verdict {
	refuse := func(code event.Code, way Way, format string, args ...any) verdict {
		return verdict{code: code, way: way, text: fmt.Sprintf(format, args...)}
	}
	switch {
	case known && h.Holds && c.Acked.Seq > 0 && c.Acked.Log == log.Head().Log:
		return refuse(event.NeedsDump, WayData, "client %s had applied %d, and its database has data but no position any "+
			"more: it is not fed from 1 over that. If its data is that of %d, start its node once with --at %d", c.ID,
			c.Acked.Seq, c.Acked.Seq, c.Acked.Seq+1)
	case known && c.Registered:
		return refuse(event.NeedsDump, WayData, "client %s is registered and its database is empty. When its data is there, "+
			"start its node with --at SEQ, the increment that it applies next", c.ID)
	case known && (c.Base > 0 || c.State == statedb.Pending || c.State == statedb.Loading):
		return refuse(event.NeedsDump, WayEmpty, "the database of %s is empty, but its data began with a snapshot", c.ID)
	case !known && !mayStart && h.Stateless:
		return refuse(event.Unknown, WayNone, "nobody knows client %s, and the broker alone would know where it stands: "+
			"make it known with `xmq client add %s`, and start its node with --at SEQ, the increment that it applies next "+
			"(1 for all of them)", c.ID, c.ID)
	case !known && !mayStart:
		return refuse(event.Unknown, WayEmpty, "nobody knows client %s and its database is empty", c.ID)
	case log.First() > 1:
		return refuse(event.NeedsDump, WayEmpty, "the database of %s is empty and the log begins at %d", c.ID, log.First())
	}
	return verdict{code: event.Welcome, from: event.Start(log.Head().Log)}
}

// admitExplicit decides for "the next increment I apply is number at".
func admitExplicit(id string, at uint64, log Log) verdict {
	pos, err := explicit(at, log)
	if errors.Is(err, increments.ErrLater) {
		return verdict{}
	}
	if err != nil {
		return verdict{code: event.OutOfLog, text: fmt.Sprintf("client %s cannot start at %d: %v", id, at, err)}
	}
	return verdict{code: event.Seek, from: pos}
}

// explicit is the position right before the increment at, which must be in the log or the next one.
func explicit(at uint64, log Log) (event.Position, error) {
	first, head := log.First(), log.Head().Seq
	if at < first || at > head+1 {
		return event.Position{}, fmt.Errorf("the log holds %d to %d, so an explicit position can be %d to %d", first, head,
			first, head+1)
	}
	return log.Position(at - 1)
}

func show(topics []string) any {
	if len(topics) == 0 {
		return "(all)"
	}
	return topics
}
