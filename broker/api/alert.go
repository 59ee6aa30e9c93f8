package api

import (
	"time"

	"xmq/statedb"
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
