package api

import (
	"math"
	"net/http"
	"strconv"

	"xmq/statedb"
)

// audit answers GET /v1/audit?client=ID&since=DURATION&limit=N: the newest, oldest first.
func (h *Handler) audit(r *http.Request) (any, error) {
	q, err := h.parseRange(r, 1000)
	if err != nil {
		return nil, err
	}
	most := q.limit
	if q.client != "" || !q.since.IsZero() {
		most = math.MaxInt / 4 // those of others are passed over
	}
	kept, err := h.State.Audits(most)
	all := []AuditView{}
	for _, a := range kept {
		if q.takes(a.Client, a.Time) {
			all = append(all, auditView(a))
		}
	}
	return all[max(0, len(all)-q.limit):], err
}

func auditView(a statedb.Audit) AuditView {
	return AuditView{Number: a.Number, Time: At(a.Time), Verb: a.Verb, Client: a.Client, Seq: a.Seq,
		Alert: a.Alert, From: a.From, To: a.To, Limit: a.Limit, Reason: a.Reason,
		By: a.By, Via: a.Via}
}

// timeline answers GET /v1/events?client=ID&since=DURATION&after=NUMBER&limit=N: the newest, oldest first; with
// after, what comes next.
func (h *Handler) timeline(r *http.Request) (any, error) {
	q, err := h.parseRange(r, 1000)
	if err != nil {
		return nil, err
	}
	after, next := uint64(0), r.URL.Query().Get("after")
	if next != "" {
		if after, err = strconv.ParseUint(next, 10, 64); err != nil {
			return nil, refuse(http.StatusBadRequest, "after is %.40q: it is the number of an event", next)
		}
	}
	all := []EventView{}
	err = h.State.Events(after, func(e statedb.Event) bool {
		if !q.takes(e.Client, e.Time) {
			return true
		}
		all = append(all, EventView{Number: e.Number, Time: At(e.Time), Kind: e.Kind, Alert: e.Alert,
			Severity: e.Severity, Client: e.Client, Seq: e.Seq, Cause: e.Cause, By: e.By})
		if next == "" && len(all) > 2*q.limit {
			all = append([]EventView{}, all[len(all)-q.limit:]...)
		}
		return next == "" || len(all) < q.limit
	})
	return all[max(0, len(all)-q.limit):], err
}
