package nodeclient

import (
	"xmq/broker/event"
	"xmq/dumpflow"
)

// requester is the side of a DUMP that needs the snapshot: which request is asked now, when it is said again, and what
// an answer means. It is pure: events come in and go out. A session that joins and a Backup use the same one.
//
// A request is said until it is answered, and then too, because that keeps the requester's place in the DUMP. Each try
// has a request of its own, so that a late answer to an older one cannot be taken for an answer to this one.
type requester struct {
	from  string // the node whose copy is wanted
	hello []byte // what the requester is and wants, encoded; it goes with every request
	draw  func() event.RequestID
	retry *backoff // between tries

	request   event.RequestID
	since     int          // ticks since it was said last
	failure   string       // why the DUMP before it came to nothing, said with every request; "" for nothing
	notLoaded event.DumpID // which DUMP that was; 0 when the broker has said so itself
}

// dumpAnswer is what a DUMP_REP means for the requester.
type dumpAnswer int

const (
	dumpIgnored  dumpAnswer = iota // it is no answer to this request, or says nothing new
	dumpReady                      // the chunks of its Dump can be read
	dumpNotReady                   // this request has failed; another one, later, may be served
	dumpRefused                    // no request like this one can be served
)

// begin draws the request of a first try.
func (r *requester) begin() {
	r.request = r.draw()
	r.retry.wait = 0
	r.failure, r.notLoaded = "", 0
}

// again draws another request after one that came to nothing, because of dump (0: by the broker's word), and lets it
// wait for a while.
func (r *requester) again(dump event.DumpID, why string) {
	r.failure, r.notLoaded = short(why), dump
	r.retry.later()
	r.request = r.draw()
}

// ask returns the request, to be said now; false while it has to wait.
func (r *requester) ask() (e event.Event, now bool) {
	if r.retry.wait > 0 {
		return e, false
	}
	r.since = 0
	return r.event(event.NoCode, r.request, r.notLoaded, r.failure), true
}

// tick notes that one tick has passed, which the backoff counts itself. It returns the request when it has to be said
// again.
func (r *requester) tick() (e event.Event, now bool) {
	r.since++
	if r.since >= 2 || r.retry.step > 0 && r.since >= 1 {
		return r.ask()
	}
	return e, false
}

// answer says what e, a DUMP_REP, means.
func (r *requester) answer(e event.Event) dumpAnswer {
	switch {
	case e.Kind != event.DumpRep || e.Request != r.request:
		return dumpIgnored
	case e.State == event.Fail && e.Code == event.Refused:
		return dumpRefused
	case e.State == event.Fail || e.State == event.Fatal:
		return dumpNotReady
	case e.Code == event.Opened || e.Code == event.Sealed:
		return dumpReady
	}
	return dumpIgnored
}

// succeeded forgets the failures before.
func (r *requester) succeeded() {
	r.retry.wait = 0
	r.failure, r.notLoaded = "", 0
}

// abandon returns the word that nothing is wanted any more, and why: "" for no reason worth an alert. dump is the one
// that could not be used, 0 for none.
func (r *requester) abandon(dump event.DumpID, why string) event.Event {
	return r.event(event.Abandoned, r.request, dump, short(why))
}

// loadedWithout returns the word that the snapshot of dump was loaded for this request, but for what left says.
func (r *requester) loadedWithout(request event.RequestID, dump event.DumpID, left string) event.Event {
	return r.event(event.Sealed, request, dump, short(left))
}

func (r *requester) event(code event.Code, request event.RequestID, dump event.DumpID, text string) event.Event {
	return event.Event{Kind: event.DumpReq, Code: code, Peer: r.from, Request: request, Dump: dump, Text: text,
		Body: r.hello}
}

// short cuts a text to what the broker keeps of it.
func short(text string) string { return dumpflow.ShortTrouble(text) }

// backoff counts the ticks until the next try, which are twice as many after each failure, up to longest.
type backoff struct {
	longest int
	wait    int // before the next try; 0: it is due
	step    int // the last wait; 0: nothing has failed
}

func (b *backoff) later() {
	b.step = min(max(1, 2*b.step), b.longest)
	b.wait = b.step
}

// clear is for what has succeeded.
func (b *backoff) clear() { b.wait, b.step = 0, 0 }

// tick notes that one tick has passed.
func (b *backoff) tick() { b.wait = max(0, b.wait-1) }
