package server

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"xmq/broker/event"
	"xmq/statedb"
	"xmq/worker"
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

func alertView(a statedb.Alert) AlertView {
	return AlertView{Key: a.Key, Severity: a.Severity, Client: a.Client, Seq: a.Seq, Text: a.Text, First: at(a.First),
		Last:  at(a.Last),
		Count: a.Count, Acked: a.Acked, Cleared: at(a.Cleared)}
}

// at is ns since 1970 as the outside reads it; the zero time for 0.
func at(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// alerts are all that are kept, by key.
func (b *Broker) alerts(views []worker.View) []AlertView {
	all, now := []AlertView{}, time.Now()
	known := map[string]*worker.View{}
	for i := range views {
		known[views[i].ID] = &views[i]
	}
	for _, a := range b.stores.state.Alerts() {
		v := alertView(a)
		if v.Standing() {
			v.Text = b.textNow(a.Key, a.Text, known[a.Client], now)
		}
		all = append(all, v)
	}
	b.causes(all, views)
	return all
}

// told is what a hook says of an alert that stands: its text of now, and the others of its cause. When the workers do
// not answer at once it is what was stored.
func (b *Broker) told(ctx context.Context, a statedb.Alert) AlertView {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	views, err := b.views(ctx)
	if err != nil {
		return alertView(a)
	}
	for _, v := range OneCause(b.alerts(views)) {
		if v.Standing() && (v.Key == a.Key || slices.Contains(v.Also, a.Key)) {
			return v
		}
	}
	return alertView(a) // it is over: that is told next
}

func (b *Broker) apiAlerts(r *http.Request) (any, error) {
	views, err := b.views(r.Context())
	return b.alerts(views), err
}

// Status is the answer of GET /v1/status: what a person who has just been woken must know.
type Status struct {
	Broker   Header           `json:"broker"`
	Input    *Input           `json:"input"` // why no increments are taken; null while they are
	Group    string           `json:"group"`
	Log      event.LogID      `json:"log"`
	First    uint64           `json:"first"`
	Head     uint64           `json:"head"`
	Severity statedb.Severity `json:"severity,omitempty"` // of the worst of what is wrong; empty when all is well
	// Alerts are those that last, the worst first, of equals the oldest.
	Alerts []AlertView `json:"alerts"`
	// Clients is how many there are of which it is so.
	Clients map[worker.Is]int `json:"clients"`
	// Wrong are the clients with which something is wrong, the worst first.
	Wrong []worker.View `json:"wrong"`
}

func (b *Broker) apiStatus(r *http.Request) (any, error) { return b.status(r.Context()) }

func (b *Broker) status(ctx context.Context) (Status, error) {
	views, err := b.views(ctx)
	head := b.stores.log.Head()
	s := Status{Broker: b.header(), Input: b.input(), Group: b.cfg.Group, Log: head.Log, First: b.stores.log.First(),
		Head: head.Seq, Alerts: []AlertView{},
		Clients: map[worker.Is]int{}, Wrong: []worker.View{}}
	worst := func(v statedb.Severity) {
		if v.Rank() > s.Severity.Rank() {
			s.Severity = v
		}
	}
	if s.Input != nil {
		worst(statedb.Critical)
	}
	for _, a := range b.alerts(views) {
		if a.Standing() {
			s.Alerts = append(s.Alerts, a)
			worst(a.Severity)
		}
	}
	slices.SortStableFunc(s.Alerts, func(a, b AlertView) int {
		return cmp.Or(cmp.Compare(b.Severity.Rank(), a.Severity.Rank()), a.First.Compare(b.First))
	})
	for _, v := range views {
		s.Clients[v.Condition.Is]++
		if bad := v.Condition.Is.Severity(); bad != "" {
			s.Wrong = append(s.Wrong, v)
			worst(bad)
		}
	}
	slices.SortStableFunc(s.Wrong, worker.ByTrouble)
	return s, err
}

// AuditView is one act of an operator as the outside sees it.
type AuditView struct {
	Number uint64    `json:"number"`
	Time   time.Time `json:"time"`
	Verb   string    `json:"verb"`
	Client string    `json:"client,omitempty"`
	Seq    uint64    `json:"seq,omitempty"`
	Alert  string    `json:"alert,omitempty"` // the key of the alert that it is about
	From   uint64    `json:"from,omitempty"`  // the position of the client before and after it; both 0 where it moved none
	To     uint64    `json:"to,omitempty"`
	Limit  string    `json:"limit,omitempty"`
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"`
	Via    string    `json:"via,omitempty"`
}

func auditView(a statedb.Audit) AuditView {
	return AuditView{Number: a.Number, Time: at(a.Time), Verb: a.Verb, Client: a.Client, Seq: a.Seq, Alert: a.Alert,
		From: a.From, To: a.To, Limit: a.Limit, Reason: a.Reason,
		By: a.By, Via: a.Via}
}
