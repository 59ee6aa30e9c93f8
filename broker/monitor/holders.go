package monitor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"xmq/broker/api"
	"xmq/broker/units"
	"xmq/increments"
	"xmq/statedb"
	"xmq/worker"
)

// Keeping answers who holds the log. Its fields are set before it is used; it is for concurrent use.
type Keeping struct {
	Log   increments.Log
	State statedb.Store
	Knobs func() Knobs
	View  func(ctx context.Context, id string) (worker.View, bool, error) // of a client, as its worker knows it
}

// Holders is who holds the log at one moment, after the configuration has had its say.
type Holders struct {
	statedb.Holders
	Head uint64
	Need uint64 // the first sequence that somebody needs: all of the log while no client has a copy, head+1 for nobody
}

// Who answers who holds the log: retention and its limits, an ordered trim, GET /v1/log, positions and alerts
// all ask here. A client that has been away for longer than max_absence holds nothing; whether it still is away, its
// worker is asked.
func (k *Keeping) Who() Holders { return k.Where(k.heard) }

// Where is Who for somebody who knows already whom the broker has heard within d.
func (k *Keeping) Where(heard func(id string, d time.Duration) bool) Holders {
	first, limit := k.Log.First(), k.Knobs().Retention.MaxAbsence
	away := map[string]bool{}
	if limit > 0 {
		for _, c := range k.State.Clients() {
			if c.Silent >= int64(limit) && !heard(c.ID, limit) {
				away[c.ID] = true
			}
		}
	}
	h := Holders{Holders: k.State.Holders(first, func(c *statedb.Client) bool { return away[c.ID] }),
		Head: k.Log.Head().Seq}
	if h.Need = first; h.Placed > 0 {
		h.Need = h.Needed(h.Head)
	}
	return h
}

// heard reports whether the client has been heard within d; a worker that does not answer at once counts as yes.
func (k *Keeping) heard(id string, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	v, known, err := k.View(ctx, id)
	return err != nil || !known || v.SilentSeconds < d.Seconds()
}

// Name names who holds most of the log.
func (h *Holders) Name() string {
	if first, held := h.First(); held && h.Placed > 0 {
		return first.String()
	}
	return api.NoHolder
}

// Pin is the sequence after which the log is kept and who keeps it; false while nobody holds anything of it.
func (h *Holders) Pin() (seq uint64, who string, held bool) {
	_, held = h.First()
	if h.Known == 0 || !held && h.Need > h.Head {
		return 0, "", false
	}
	return h.Need - 1, h.Name(), true
}

// UpTo is the last sequence that a running DUMP lets go of; all of them when none runs.
func (h *Holders) UpTo() uint64 {
	if len(h.Dumps) == 0 {
		return h.Head
	}
	return h.Dumps[0].Seq
}

// wayOut says what can be done about a log that is too large for its limit.
func (h *Holders) wayOut() string {
	switch {
	case h.Known == 0:
		return "start the nodes that shall have it, or raise the limit"
	case h.Placed == 0:
		return "bring a copy back (xmq client seek ID SEQ --reason TEXT), or raise the limit"
	}
	return "bring the node back, forget it (xmq client forget ID --reason TEXT) or raise the limit"
}

// InTheWay finds who holds the log at last or below: first is the one of them that has been away the longest, fixed
// says why none of them can lose its place: no copy elsewhere has the topics of one, so taking that of the others
// would free nothing.
func (h *Holders) InTheWay(last uint64) (first *statedb.Client, fixed string) {
	switch {
	case h.Known == 0:
		return nil, "no client is known, so nothing can be freed"
	case h.Placed == 0:
		return nil, "no client has a copy, so nothing can be freed"
	}
	var below []*statedb.Client
	for _, x := range h.Clients {
		switch c := x.Client; {
		case x.Seq >= last:
		case x.Lost:
			fixed = fmt.Sprintf("client %s holds it, which was told to DUMP although no other copy has its topics", c.ID)
		case c.Placed() || c.Seek != nil:
			below = append(below, c)
		}
	}
	slices.SortFunc(below, func(a, b *statedb.Client) int {
		return cmp.Or(cmp.Compare(b.Silent, a.Silent), strings.Compare(a.ID, b.ID))
	})
	for _, c := range below {
		if first == nil {
			first = c
		}
		farther := func(o *statedb.Client) bool { return !slices.Contains(below, o) && o.Covers(c.Topics) }
		if c.Placed() && !slices.ContainsFunc(h.Copies, farther) {
			fixed = fmt.Sprintf("client %s holds it, and no other copy that has come farther has its topics", c.ID)
		}
	}
	return first, fixed
}

// Why says why an ordered trim frees nothing.
func (k *Keeping) Why() string {
	h, spans := k.Who(), k.Log.Spans()
	switch {
	case h.Head == 0 || len(spans) == 0:
		return "the log is empty"
	case h.Known == 0:
		return "no client is known yet, and the first one may still have to come"
	case h.Placed == 0:
		return "no client has a copy"
	}
	oldest := spans[0]
	if len(spans) == 1 {
		size := min(oldest.Last-oldest.First+1, uint64(k.Knobs().MaxRecords))
		if h.Head-oldest.First+1 >= size {
			return fmt.Sprintf("segments are freed whole, and the only one, from %s on, ends when the next increment comes",
				units.Count(oldest.First))
		}
		return fmt.Sprintf("segments are freed whole, and the only one, from %s on, is still written to until it has %s "+
			"increments (max_records; "+
			"write a smaller one and send SIGHUP, and it ends when the next increment comes)", units.Count(oldest.First),
			units.Count(size))
	}
	return fmt.Sprintf("segments are freed whole, and %s needs increment %s, which is in the oldest one (%s to %s)",
		h.Name(), units.Count(h.Need), units.Count(oldest.First), units.Count(oldest.Last))
}

// Pins tells each view what its client holds.
func (h *Holders) Pins(views []worker.View) {
	pins := map[string]uint64{}
	for _, x := range slices.Backward(h.Clients) { // the lowest of a client comes last
		pins[x.Client.ID] = x.Seq
	}
	for i := range views {
		if pin, held := pins[views[i].ID]; held {
			views[i].Pin = &pin
		}
	}
}
