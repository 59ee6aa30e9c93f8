package server

import (
	"fmt"
	"strings"
	"time"

	"xmq/broker/api"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/statedb"
	"xmq/worker"
)

// input is why nothing is taken now; nil while increments are taken.
func (b *Broker) input() *api.Input {
	if r := b.ingest.held.Load(); r != nil {
		d := b.doubts.Held()
		return &api.Input{Code: r.Code, Text: strings.TrimPrefix(r.Text, "input is held: "),
			Since: time.Unix(0, d.Since).UTC()}
	}
	if r := b.ingest.refusing.Load(); r != nil {
		return &api.Input{Code: r.Code, Text: r.Text, Since: time.Unix(0, b.ingest.since.Load()).UTC()}
	}
	if !b.ready.Load() {
		return &api.Input{Code: door.Opening, Text: "the broker starts: its doors are not open yet", Since: b.started.UTC()}
	}
	if !b.ingest.starves() {
		b.starvedSince.Store(0)
		return nil
	}
	b.starvedSince.CompareAndSwap(0, time.Now().UnixNano())
	r := starving()
	return &api.Input{Code: r.Code, Text: r.Text, Since: time.Unix(0, b.starvedSince.Load()).UTC()}
}

// newDoubts goes on with the doubts of before, and holds input before any door is open.
func (b *Broker) newDoubts() {
	anybody := func() bool { return b.admission.Refusals().Known == 0 || b.stores.state.Meta().Rebuilt }
	b.doubts = worker.NewDoubts(b.stores.state.Doubts(), anybody, func() {
		b.holdInput()
		select {
		case b.doubted <- struct{}{}:
		default:
		}
	})
	b.doubts.Reached(b.stores.log.Head())
	b.holdInput()
}

// holdInput lets the doors refuse everything while a node speaks against the log.
func (b *Broker) holdInput() {
	b.decide.Lock()
	defer b.decide.Unlock()
	if d := b.doubts.Held(); len(d.Witnesses) > 0 {
		b.ingest.held.Store(door.Refuse(door.Held, "input is held: %s", b.against(d)))
		return
	}
	b.ingest.held.Store(nil)
}

// against says what speaks against the log, and what to do.
func (b *Broker) against(d statedb.Doubts) string {
	const what = "Restore the data, or take this log as it is: xmq log accept --confirm --reason TEXT"
	head := b.stores.log.Head()
	var ids, others []string // ahead, of another log
	var most, last uint64
	var other event.LogID
	for _, w := range d.Witnesses {
		switch {
		case w.Ahead:
			ids, most = append(ids, w.ID), max(most, w.Pos.Seq)
		default:
			others = append(others, w.ID)
			if w.Pos.Seq >= last {
				last, other = w.Pos.Seq, w.Pos.Log
			}
		}
	}
	var all []string
	if len(ids) > 0 {
		all = append(all, fmt.Sprintf("%s at %s, and this log ends at %s: %s acknowledged increments are missing.",
			stand(ids),
			units.Count(most), units.Count(head.Seq), units.Count(most-min(most, head.Seq))))
	}
	switch {
	case len(others) == 1 && others[0] == "":
		all = append(all, fmt.Sprintf("the state store knows log %s up to %s, and beside it lies log %s%s: was a disk "+
			"exchanged?",
			other, units.Count(last), head.Log, b.since()))
	case len(others) > 0:
		all = append(all, fmt.Sprintf("%s log %s at %s, and this is log %s%s: was the disk exchanged?", hold(others), other,
			units.Count(last), head.Log, b.since()))
	}
	if !b.doubts.Agreed() {
		all = append(all, "No node that agrees with this log has been heard since the broker was started: when it is "+
			"taken as it is, there may be no other copy of it.")
	}
	return strings.Join(all, " ") + " " + what
}

// since says when the log began, as far as that is known.
func (b *Broker) since() string {
	if at := b.stores.state.Meta().Created; at != 0 {
		return ", which began " + time.Unix(0, at).UTC().Format("2006-01-02 15:04:05Z")
	}
	return ""
}

// named are up to three of the IDs; the state store has none.
func named(ids []string) string {
	var known []string
	for _, id := range ids {
		if id != "" {
			known = append(known, id)
		}
	}
	if len(known) > 3 {
		known = append(known[:3:3], "...")
	}
	return strings.Join(known, ", ")
}

func stand(ids []string) string {
	if len(ids) == 1 {
		return "node " + ids[0] + " stands"
	}
	return fmt.Sprintf("%s (%s) stand", units.Of(uint64(len(ids)), "node"), named(ids))
}

func hold(ids []string) string {
	if len(ids) == 1 {
		return "node " + ids[0] + " holds"
	}
	return fmt.Sprintf("%s (%s) hold", units.Of(uint64(len(ids)), "node"), named(ids))
}

// lookAtDoubts ends those that the log has reached, stores what has changed and raises the alert.
func (b *Broker) lookAtDoubts(batch *statedb.Batch, now int64) {
	b.doubts.Reached(b.stores.log.Head())
	d, changed := b.doubts.Changed()
	if changed {
		batch.PutDoubts(d)
	}
	held := len(d.Witnesses) > 0
	text := ""
	if held {
		text = "input is held: " + b.against(d)
		b.holdInput() // its numbers are those of now
	}
	b.alerts.Replace(batch, statedb.Alert{Key: api.HeldAlert, Severity: statedb.Critical, Last: now, Text: text}, held)
}
