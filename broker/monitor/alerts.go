package monitor

import (
	"context"
	"slices"
	"time"

	"xmq/broker/api"
	"xmq/increments"
	"xmq/statedb"
	"xmq/worker"
)

// Alerts raises and ends the alerts of a broker, and tells of them in the words of now. What the state store says
// counts. Its fields are set before it is used; it is for concurrent use.
type Alerts struct {
	Log       increments.Log
	State     statedb.Store
	Knobs     func() Knobs
	Keeping   *Keeping
	Taken     *Rate                                            // increments into the log
	Clients   func(ctx context.Context) ([]worker.View, error) // all of them, by ID, as the outside sees them
	Situation func() worker.Situation                          // on what it depends what helps a client
	Now       func() time.Time

	fresh fresh
}

// List are all that are kept, by key.
func (l *Alerts) List(views []worker.View) []api.AlertView {
	all, now := []api.AlertView{}, l.Now()
	known := map[string]*worker.View{}
	for i := range views {
		known[views[i].ID] = &views[i]
	}
	for _, a := range l.State.Alerts() {
		v := api.AlertOf(a)
		if v.Standing() {
			v.Text = l.Text(a, known[a.Client], now)
		}
		all = append(all, v)
	}
	l.causes(all, views)
	return all
}

// Shown is what a hook says of an alert that stands: its text of now, and the others of its cause. When the workers do
// not answer at once it is what was stored.
func (l *Alerts) Shown(ctx context.Context, a statedb.Alert) api.AlertView {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	views, err := l.Clients(ctx)
	if err != nil {
		return api.AlertOf(a)
	}
	for _, v := range api.OneCause(l.List(views)) {
		if v.Standing() && (v.Key == a.Key || slices.Contains(v.Also, a.Key)) {
			return v
		}
	}
	return api.AlertOf(a) // it is over: that is told next
}

// Standing are those that last.
func (l *Alerts) Standing() []statedb.Alert {
	return slices.DeleteFunc(l.State.Alerts(), func(a statedb.Alert) bool { return a.Cleared != 0 })
}

// Stands returns the alert with this key and whether it stands.
func (l *Alerts) Stands(key string) (statedb.Alert, bool) {
	a, known := l.State.Alert(key)
	return a, known && a.Cleared == 0
}

// When raises or clears an alert of the broker itself when that changes. What the state store says counts: an
// Replace that an operator has cleared comes back as long as it is true.
func (l *Alerts) When(batch *statedb.Batch, key string, bad bool, now int64, text func() string) {
	a := statedb.Alert{Key: key, Severity: statedb.Critical, Last: now}
	if bad {
		a.Text = text()
	}
	l.Set(batch, a)
}

// Set is When for an alert that may be more or less severe; one without a text is over. Its text is made in
// every round.
func (l *Alerts) Set(batch *statedb.Batch, a statedb.Alert) {
	l.fresh.set(a.Key, a.Text)
	switch old, stands := l.Stands(a.Key); {
	case a.Text != "" && (!stands || old.Severity != a.Severity || old.Client != a.Client):
		batch.Raise(a)
	case a.Text == "" && stands:
		batch.Clear(a.Key, a.Last)
	}
}

// Replace is When for an alert whose text says what it is about: another one is raised anew.
func (l *Alerts) Replace(batch *statedb.Batch, a statedb.Alert, bad bool) {
	switch old, stands := l.Stands(a.Key); {
	case bad && (!stands || old.Text != a.Text):
		batch.Raise(a)
	case !bad && stands:
		batch.Clear(a.Key, a.Last)
	}
}
