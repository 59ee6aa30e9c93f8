package server

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"xmq/broker/api"
	"xmq/statedb"
	"xmq/worker"
)

// alerts are all that are kept, by key.
func (b *Broker) alerts(views []worker.View) []api.AlertView {
	all, now := []api.AlertView{}, time.Now()
	known := map[string]*worker.View{}
	for i := range views {
		known[views[i].ID] = &views[i]
	}
	for _, a := range b.stores.state.Alerts() {
		v := api.AlertOf(a)
		if v.Standing() {
			v.Text = b.textNow(a.Key, a.Text, known[a.Client], now)
		}
		all = append(all, v)
	}
	b.causes(all, views)
	return all
}

// shown is what a hook says of an alert that stands: its text of now, and the others of its cause. When the workers do
// not answer at once it is what was stored.
func (b *Broker) shown(ctx context.Context, a statedb.Alert) api.AlertView {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	views, err := b.views(ctx)
	if err != nil {
		return api.AlertOf(a)
	}
	for _, v := range api.OneCause(b.alerts(views)) {
		if v.Standing() && (v.Key == a.Key || slices.Contains(v.Also, a.Key)) {
			return v
		}
	}
	return api.AlertOf(a) // it is over: that is told next
}

func (b *Broker) apiAlerts(r *http.Request) (any, error) {
	views, err := b.views(r.Context())
	return b.alerts(views), err
}

func (b *Broker) apiStatus(r *http.Request) (any, error) { return b.status(r.Context()) }

func (b *Broker) status(ctx context.Context) (api.Status, error) {
	views, err := b.views(ctx)
	head := b.stores.log.Head()
	s := api.Status{Broker: b.header(), Input: b.input(), Group: b.cfg.Group, Log: head.Log, First: b.stores.log.First(),
		Head: head.Seq, Alerts: []api.AlertView{},
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
	slices.SortStableFunc(s.Alerts, func(a, b api.AlertView) int {
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

func auditView(a statedb.Audit) api.AuditView {
	return api.AuditView{Number: a.Number, Time: api.At(a.Time), Verb: a.Verb, Client: a.Client, Seq: a.Seq,
		Alert: a.Alert, From: a.From, To: a.To, Limit: a.Limit, Reason: a.Reason,
		By: a.By, Via: a.Via}
}
