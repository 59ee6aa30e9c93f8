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

// decided is one earlier decision about an increment, for people.
func decided(a statedb.Audit) string {
	verb := map[string]string{"skip": "skipped", "replace": "replaced", statedb.Applied.Verb(): "applied all the same",
		statedb.MayApplied.Verb(): "ordered all the same, whether it was applied is not known,"}[a.Verb]
	who := a.Via
	if who == "" {
		who = a.By
	}
	return fmt.Sprintf("increment %d was %s for client %s at %s by %s (audit %d): %s", a.Seq, verb, a.Client,
		At(a.Time).Format("2006-01-02 15:04:05Z"), who, a.Number, a.Reason)
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
			a.Verb == "dropped "+string(worker.Skip)):
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

// outside is the increment that a client is told to apply outside the order, as it stands in the log.
func (h *Handler) outside(ctx context.Context, id string, seq uint64) ([]byte, error) {
	if seq == 0 {
		return nil, refuse(http.StatusBadRequest, "apply needs seq, the increment that the client has passed over")
	}
	v, known, err := h.Broker.View(ctx, id) // the stored position may lag
	c, stored := h.State.Client(id)
	switch {
	case err != nil:
		return nil, err
	case !known || !stored:
		return nil, refuse(http.StatusConflict, "there is no client %s", id)
	case seq > v.Acked:
		return nil, refuse(http.StatusConflict, "%s", worker.Before(id, v.Acked, seq))
	}
	audits, err := h.State.Audits(math.MaxInt / 4)
	if err != nil {
		return nil, err
	}
	if refused := passed(&c, seq, audits); refused != "" {
		return nil, refuse(http.StatusConflict, "%s", refused)
	}
	recs, err := h.Log.Read(seq, 1, 1)
	switch {
	case errors.Is(err, increments.ErrTrimmed):
		return nil, refuse(http.StatusConflict,
			"increment %d is not in the log any more, which begins at %d: publish again what it did", seq, h.Log.First())
	case err != nil:
		return nil, err
	case len(recs) == 0:
		return nil, refuse(http.StatusConflict, "there is no increment %d yet, the log ends at %d", seq,
			h.Log.Head().Seq)
	}
	return slices.Clone(recs[0]), nil // it is kept until it is answered
}

// Earlier is what operators have decided about an increment before, to follow a sentence; empty for nothing.
func Earlier(decisions []statedb.Audit) string {
	var all []string
	for _, a := range decisions {
		all = append(all, decided(a))
	}
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
	all := []string{}
	for _, a := range h.State.Decisions(seq) {
		all = append(all, decided(a))
	}
	return all, nil
}
