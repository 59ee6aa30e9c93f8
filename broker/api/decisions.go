package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"xmq/increments"
	"xmq/statedb"
	"xmq/worker"
)

// decided tells for people what operators have decided about increment seq, a sentence each. What was ordered and not
// carried out is not told as done.
func decided(state statedb.Store, seq uint64) []string {
	all := []string{}
	list := state.Decisions(seq)
	for i, a := range list {
		verb, ordered := "", false
		switch a.Verb {
		case string(worker.Skip):
			verb, ordered = "skipped", true
		case string(worker.Replace):
			verb, ordered = "replaced", true
		case statedb.Applied.Verb():
			verb = "applied all the same"
		case statedb.MayApplied.Verb():
			verb = "ordered all the same, whether it was applied is not known,"
		default:
			continue // a dropped one is told with its order
		}
		who, end := a.Via, ""
		if who == "" {
			who = a.By
		}
		later := slices.IndexFunc(list[i+1:], func(b statedb.Audit) bool { return b.Client == a.Client })
		c, _ := state.Client(a.Client)
		switch o := c.Override; {
		case !ordered:
		case later >= 0 && list[i+1+later].Verb == statedb.Dropped+a.Verb:
			b := list[i+1+later]
			verb, end = "ordered to be "+verb, fmt.Sprintf(". That was dropped (audit %d): %s", b.Number, b.Reason)
		case later >= 0 && list[i+1+later].Verb == a.Verb+statedb.Refused:
			b := list[i+1+later]
			verb, end = "ordered to be "+verb, fmt.Sprintf(". The database refused that (audit %d): %s", b.Number, b.Reason)
		case later < 0 && o != nil && o.Seq == seq && o.Verb() == a.Verb:
			verb, end = "ordered to be "+verb, ". That is not carried out yet"
		}
		all = append(all, fmt.Sprintf("increment %d was %s for client %s at %s by %s (audit %d): %s%s", a.Seq, verb, a.Client,
			At(a.Time).Format("2006-01-02 15:04:05Z"), who, a.Number, a.Reason, end))
	}
	return all
}

// passed is why a client cannot be told to apply an increment outside the order; "" when it has passed over it in the
// data that it has. Its position is not looked at.
func passed(c *statedb.Client, seq uint64, audits []statedb.Audit) (refused string) {
	over, none := int64(0), fmt.Sprintf("client %s has not passed over increment %d: no skip of it stands in the audit "+
		"list", c.ID, seq)
	refused = none
	for _, a := range audits {
		switch mine := a.Client == c.ID; {
		case mine && a.Seq == seq && a.Verb == string(worker.Skip):
			over, refused = a.Time, ""
		case mine && a.Seq == seq && a.Verb == statedb.Applied.Verb():
			refused = fmt.Sprintf("client %s has applied increment %d already, at %s (audit %d)", c.ID, seq,
				At(a.Time).Format("2006-01-02 15:04:05Z"), a.Number)
		case mine && a.Seq == seq && (a.Verb == string(worker.Retry) || a.Verb == string(worker.Replace) ||
			a.Verb == statedb.Dropped+string(worker.Skip)):
			refused = none // it was taken back before it was carried out
		case mine && a.Verb == string(worker.Forget):
			refused = none
		case mine && a.Verb == string(worker.SeekTo) && a.To < seq && refused == "":
			refused = fmt.Sprintf("client %s has been moved back to %d since it passed over increment %d, which came there "+
				"again (audit %d)",
				c.ID, a.To, seq, a.Number)
		}
	}
	if refused == "" && over < c.Anew.Time && (c.Anew.From == 0 || c.Anew.From < seq) {
		refused = fmt.Sprintf("the data of client %s was replaced at %s, and it has not passed over increment %d since", c.ID,
			At(c.Anew.Time).Format("2006-01-02 15:04:05Z"), seq)
	}
	return refused
}

// outside is the increment that a client is told to apply outside the order, as it stands in the log; mayRun: that was
// ordered before, and nobody knows whether it ran.
func (h *Handler) outside(ctx context.Context, id string, seq uint64) (record []byte, mayRun bool, err error) {
	if seq == 0 {
		return nil, false, refuse(http.StatusBadRequest, "apply needs seq, the increment that the client has passed over")
	}
	v, known, err := h.Broker.View(ctx, id) // the stored position may lag
	c, stored := h.State.Client(id)
	switch {
	case err != nil:
		return nil, false, err
	case !known || !stored:
		return nil, false, refuse(http.StatusConflict, "there is no client %s", id)
	case seq > v.Acked:
		return nil, false, refuse(http.StatusConflict, "%s", worker.Before(id, v.Acked, seq))
	}
	audits, err := h.State.Audits(math.MaxInt / 4)
	if err != nil {
		return nil, false, err
	}
	if refused := passed(&c, seq, audits); refused != "" {
		return nil, false, refuse(http.StatusConflict, "%s", refused)
	}
	mayRun = slices.ContainsFunc(audits, func(a statedb.Audit) bool {
		return a.Client == id && a.Seq == seq && a.Verb == statedb.MayApplied.Verb()
	})
	recs, err := h.Log.Read(seq, 1, 1)
	switch {
	case errors.Is(err, increments.ErrTrimmed):
		return nil, false, refuse(http.StatusConflict,
			"increment %d is not in the log any more, which begins at %d: publish again what it did", seq, h.Log.First())
	case err != nil:
		return nil, false, err
	case len(recs) == 0:
		return nil, false, refuse(http.StatusConflict, "there is no increment %d yet, the log ends at %d", seq,
			h.Log.Head().Seq)
	}
	return slices.Clone(recs[0]), mayRun, nil // it is kept until it is answered
}

// Earlier is what operators have decided about increment seq before, to follow a sentence; empty for nothing.
func Earlier(state statedb.Store, seq uint64) string {
	all := decided(state, seq)
	if len(all) == 0 {
		return ""
	}
	return ". Earlier: " + strings.Join(all[max(0, len(all)-3):], "; ")
}

// decisions tells what was decided about one increment, a sentence each.
func (h *Handler) decisions(r *http.Request) (any, error) {
	seq, err := strconv.ParseUint(r.PathValue("seq"), 10, 64)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%.40q is no sequence", r.PathValue("seq"))
	}
	return decided(h.State, seq), nil
}
