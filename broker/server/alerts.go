package server

import (
	"context"
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
			v.Text = b.textNow(a, known[a.Client], now)
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
