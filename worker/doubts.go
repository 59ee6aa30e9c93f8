package worker

import (
	"slices"
	"sync"

	"xmq/broker/event"
	"xmq/statedb"
)

// Doubts gathers what nodes say that speaks against the log of this broker: databases that hold another log, or more
// of this one than it has. While any of it stands the broker takes no input, because it could be a log that was made
// by accident, or an old copy. Safe for concurrent use; nil hears nothing.
//
// A known client that is ahead of this very log is a doubt until the log reaches it, or an operator accepts the log.
// A database of another log is one only until a node is found in agreement: whose position lies on the chain of this
// log. Clients that the broker knows are heard; where it knows none, everybody is.
type Doubts struct {
	anybody func() bool // everybody is heard
	moved   func()      // the doubts have changed

	mu     sync.Mutex
	agreed bool // a node was found in agreement since this start
	rec    statedb.Doubts
	dirty  bool
}

// NewDoubts goes on with what is stored. anybody says whether nodes that are not known are heard as well; moved is
// called after every change, by any goroutine, and must not block.
func NewDoubts(stored statedb.Doubts, anybody func() bool, moved func()) *Doubts {
	return &Doubts{anybody: anybody, moved: moved, rec: stored.Clone()}
}

// Held returns what stands against the log; no witnesses: nothing does.
func (d *Doubts) Held() statedb.Doubts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rec.Clone()
}

// Changed is Held when that is not stored yet; Stored says that it was.
func (d *Doubts) Changed() (rec statedb.Doubts, changed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed, d.dirty = d.dirty, false
	return d.rec.Clone(), changed
}

// Accept takes the log as it is: whoever speaks against it now, and the logs that were named, are not heard again.
func (d *Doubts) Accept() statedb.Doubts {
	d.mu.Lock()
	for _, w := range d.rec.Witnesses {
		if w.Ahead {
			d.rec.AcceptedSeq = max(d.rec.AcceptedSeq, w.Pos.Seq)
		} else if !slices.Contains(d.rec.Accepted, w.Pos.Log) {
			d.rec.Accepted = append(d.rec.Accepted, w.Pos.Log)
		}
	}
	d.rec.Witnesses, d.rec.Since, d.dirty = nil, 0, true
	rec := d.rec.Clone()
	d.mu.Unlock()
	d.moved()
	return rec
}

// Reached ends the doubts of those whose position the log has now.
func (d *Doubts) Reached(head event.Position) {
	d.drop(func(w statedb.Witness) bool { return w.Ahead && w.Pos.Log == head.Log && w.Pos.Seq <= head.Seq })
}

// agree notes that a node stands on the chain of this log.
func (d *Doubts) agree() {
	if d == nil {
		return
	}
	d.mu.Lock()
	first := !d.agreed
	d.agreed = true
	d.mu.Unlock()
	if first && !d.drop(func(w statedb.Witness) bool { return !w.Ahead }) {
		d.moved() // what is said of them has changed
	}
}

// Agreed reports whether a node was found in agreement with the log since the broker was started.
func (d *Doubts) Agreed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.agreed
}

// withdraw drops what a node said of another log: its database follows this one now.
func (d *Doubts) withdraw(id string) {
	if d != nil {
		d.drop(func(w statedb.Witness) bool { return !w.Ahead && w.ID == id })
	}
}

// hear takes the position of a database with which a node opens a session. known: the broker knows the client.
func (d *Doubts) hear(id string, known bool, pos, head event.Position, now int64) {
	if d == nil || pos.Zero() || !known && !d.anybody() {
		return
	}
	ahead := pos.Log == head.Log
	if ahead && pos.Seq <= head.Seq {
		return // whether it lies on the chain is judged elsewhere
	}
	d.mu.Lock()
	settled := ahead && pos.Seq <= d.rec.AcceptedSeq || !ahead && (d.agreed || slices.Contains(d.rec.Accepted, pos.Log))
	if settled || !d.rec.Add(statedb.Witness{ID: id, Pos: pos, Ahead: ahead, Time: now}) {
		d.mu.Unlock()
		return
	}
	d.dirty = true
	d.mu.Unlock()
	d.moved()
}

// drop forgets witnesses; it reports whether there were any of these.
func (d *Doubts) drop(which func(statedb.Witness) bool) bool {
	d.mu.Lock()
	before := len(d.rec.Witnesses)
	d.rec.Witnesses = slices.DeleteFunc(d.rec.Witnesses, which)
	changed := len(d.rec.Witnesses) != before
	if d.dirty = d.dirty || changed; len(d.rec.Witnesses) == 0 {
		d.rec.Since = 0
	}
	d.mu.Unlock()
	if changed {
		d.moved()
	}
	return changed
}
