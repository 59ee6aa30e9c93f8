package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"xmq/statedb"
)

// Keys of alerts that end with an order of the API.
const (
	HeldAlert    = "held"    // input is held because of what nodes say of the log
	RebuiltAlert = "rebuilt" // the state store was rebuilt, and no operator has confirmed that all clients are back
)

// AlertView is one alert as the outside sees it. Its text is made when it is shown.
type AlertView struct {
	Key      string           `json:"key"`
	Severity statedb.Severity `json:"severity"`
	Client   string           `json:"client,omitempty"`
	Seq      uint64           `json:"seq,omitempty"`
	Text     string           `json:"text"`
	First    time.Time        `json:"first"`
	Last     time.Time        `json:"last"`
	Count    uint64           `json:"count"`
	Acked    bool             `json:"acked"`
	// one sentence that alerts of one cause share: they are one line on a screen
	Cause   string    `json:"cause,omitempty"`
	Also    []string  `json:"also,omitempty"` // the keys of others of the same cause, where they are told as one
	Cleared time.Time `json:"cleared,omitzero"`
}

// Standing reports that the alert lasts.
func (a *AlertView) Standing() bool { return a.Cleared.IsZero() }

// OneCause makes one alert of those that last and have the same cause, in the place of the first of them: as severe
// as the worst, as old as the oldest, seen when all were seen. Screens and hooks show what it returns.
func OneCause(all []AlertView) []AlertView {
	merged := []AlertView{}
	at := map[string]int{} // by cause, in merged
	for _, a := range all {
		i, known := at[a.Cause]
		switch {
		case a.Cause == "" || !a.Standing():
			merged = append(merged, a)
		case !known:
			at[a.Cause] = len(merged)
			a.Text = a.Cause + ". The first of them says: " + a.Text
			merged = append(merged, a)
		default:
			m := &merged[i]
			m.Also = append(m.Also, a.Key)
			m.Count, m.Acked = max(m.Count, a.Count), m.Acked && a.Acked
			if a.Severity.Rank() > m.Severity.Rank() {
				m.Severity = a.Severity
			}
			if a.First.Before(m.First) {
				m.First = a.First
			}
			if a.Last.After(m.Last) {
				m.Last = a.Last
			}
		}
	}
	return merged
}

// AlertOf is an alert as it was stored.
func AlertOf(a statedb.Alert) AlertView {
	return AlertView{Key: a.Key, Severity: a.Severity, Client: a.Client, Seq: a.Seq, Text: a.Text, First: At(a.First),
		Last:  At(a.Last),
		Count: a.Count, Acked: a.Acked, Cleared: At(a.Cleared)}
}

// At is ns since 1970 as the outside reads it; the zero time for 0.
func At(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

func (h *Handler) alerts(r *http.Request) (any, error) {
	views, err := h.Broker.Views(r.Context())
	return h.Broker.Alerts(views), err
}

func (h *Handler) changeAlert(r *http.Request) (any, error) {
	var req struct {
		Key string `json:"key"`
		Do  string `json:"do"` // "ack" or "clear"
		Caller
	}
	if err := parse(r, 4096, &req); err != nil {
		return nil, err
	}
	by, via, err := identify(req.Caller, r)
	if err != nil {
		return nil, err
	}
	var batch statedb.Batch
	now := h.Now().UnixNano()
	switch req.Do {
	case "ack":
		batch.AckAlert(req.Key)
		if strings.HasPrefix(req.Key, "order/") { // it tells of what is over, and lasts until somebody has seen that
			batch.Clear(req.Key, now)
		}
	case "clear":
		why, err := h.lasts(r.Context(), req.Key)
		if err != nil {
			return nil, err
		}
		if why != "" {
			return nil, refuse(http.StatusConflict, "the alert %.100q cannot be cleared: %s", req.Key, why)
		}
		batch.Clear(req.Key, now)
	default:
		return nil, refuse(http.StatusBadRequest, "an alert can be acked or cleared, not %.40q", req.Do)
	}
	for _, a := range h.State.Alerts() {
		if a.Key == req.Key && a.Cleared != 0 {
			return nil, refuse(http.StatusConflict, "the alert %.100q has ended already, at %s", req.Key,
				At(a.Cleared).Format("2006-01-02 15:04:05Z"))
		}
		if a.Key == req.Key {
			batch.Audit(statedb.Audit{Time: now, Verb: req.Do + " alert", Client: a.Client, Seq: a.Seq, Alert: a.Key, By: by,
				Via: via})
			return map[string]string{"alert": req.Key, "done": req.Do}, h.State.Write(&batch)
		}
	}
	return nil, refuse(http.StatusNotFound, "there is no alert %.100q", req.Key)
}

// lasts says why an alert about a client, a segment or the state store still stands; empty when it does not. Alerts
// of the broker itself come back at its next look.
func (h *Handler) lasts(ctx context.Context, key string) (why string, err error) {
	kind, about, _ := strings.Cut(key, "/")
	switch kind {
	case HeldAlert:
		if len(h.Broker.Doubts().Witnesses) > 0 {
			return "it ends when the data is restored, or with `xmq log accept --confirm --reason TEXT`", nil
		}
	case RebuiltAlert:
		if h.State.Meta().Rebuilt {
			return "it ends with `xmq log trim --confirm`", nil
		}
	case "damage":
		st, err := h.Log.Stats()
		if err == nil && slices.Contains(st.Quarantined, about) {
			why = "the segment is still there, set aside"
		}
		return why, err
	case "fail", "fatal", "refused", "retry", "offline", "upgrade", "join":
		v, known, err := h.Broker.View(ctx, about)
		if err != nil || !known {
			return "", err
		}
		lasts := map[string]bool{"fail": v.State == statedb.Failed, "fatal": v.State == statedb.Fatal,
			"refused": v.State == statedb.NeedsDump,
			"retry":   v.LastError != nil && v.LastError.Class == "transient", "offline": v.Missed,
			"upgrade": v.LastError != nil && v.LastError.Class == "held",
			"join":    v.Join != nil && v.LastError != nil && v.LastError.Class == "join"}[kind]
		if lasts {
			why = fmt.Sprintf("client %s is %s%s, and it ends with that", about, v.State,
				map[bool]string{true: " and not connected"}[kind == "offline"])
		}
	}
	return why, nil
}
