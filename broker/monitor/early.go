package monitor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"xmq/broker/disk"
	"xmq/broker/units"
	"xmq/statedb"
	"xmq/worker"
)

// Least is how many bytes must stay free on a disk of total bytes.
func (k *Watch) Least(total uint64) uint64 {
	if k.MinFree >= 0 {
		return uint64(k.MinFree)
	}
	return disk.MinFree(total)
}

// leastFree is Watch.Least as it is now.
func (w *Watcher) leastFree(total uint64) uint64 {
	k := w.Knobs()
	return k.Watch.Least(total)
}

// lookAtDisk raises the alert of the disk: a warning before input is refused, critical when it is.
func (w *Watcher) lookAtDisk(batch *statedb.Batch, full error, now time.Time) {
	a := statedb.Alert{Key: "disk", Severity: statedb.Critical, Last: now.UnixNano()}
	if full != nil {
		a.Text = fmt.Sprintf("the broker refuses increments: %v", full)
	} else if a.Text = w.early(now); a.Text != "" {
		a.Severity = statedb.Warning
	}
	w.Alerts.Set(batch, a)
}

// early says that the disk's room comes to its end; empty when it does not.
func (w *Watcher) early(now time.Time) string {
	free, total, err := w.Disk.Space()
	if err != nil {
		return ""
	}
	least := w.leastFree(total)
	left, soon := w.trend.left(free, least, now)
	if free >= 2*least && !soon {
		return ""
	}
	text := fmt.Sprintf("%s of %s are free on the disk of %s, and below %s input is refused", units.Bytes(int64(free)),
		units.Bytes(int64(total)), w.Disk.Dir,
		units.Bytes(int64(least)))
	if soon {
		text += fmt.Sprintf(": as it goes, in about %s", units.Span(left))
	}
	return text + ". Make room, or see with xmq log head who holds the log"
}

// lookAtClients raises what only a look from outside shows: a client that is behind for long, and a node that was
// stopped and forgotten. One cause is one alert: whoever has an alert already that says why it is behind gets a more
// severe one instead of another.
func (w *Watcher) lookAtClients(batch *statedb.Batch, now time.Time) {
	if now.Before(w.nextLook) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	views, err := w.Alerts.Clients(ctx)
	w.nextLook = now.Add(20 * w.Now().Sub(now)) // with many clients, more rarely
	if err != nil {
		return // the workers are busy: the next look sees it
	}
	for i := range views {
		v := &views[i]
		w.lookAtNodeDisk(batch, v, now)
		stopped := v.Condition.Is == worker.IsStopped && w.Knobs().Watch.Stopped > 0 &&
			now.Sub(v.Condition.Since) >= w.Knobs().Watch.Stopped
		w.about(batch, "stopped", v, stopped, now)
		late := w.Knobs().Watch.Lag > 0 && v.LagSeconds != nil && *v.LagSeconds > w.Knobs().Watch.Lag.Seconds()
		for _, kind := range []string{"fail", "fatal", "refused", "upgrade", "stopped", "offline", "retry", "slow"} {
			if _, stands := w.Alerts.Stands(kind + "/" + v.ID); !stands || !late {
				continue
			}
			if late = false; kind == "offline" || kind == "retry" || kind == "slow" {
				batch.Worsen(kind+"/"+v.ID, statedb.Critical, now.UnixNano())
			}
		}
		w.about(batch, "lag", v, late, now)
	}
	for id := range w.trends {
		if !slices.ContainsFunc(views, func(v worker.View) bool { return v.ID == id }) {
			delete(w.trends, id)
		}
	}
}

// lookAtNodeDisk raises the alert of the disk on which the database of a client lies, where its node sees it: before
// its database refuses increments.
func (w *Watcher) lookAtNodeDisk(batch *statedb.Batch, v *worker.View, now time.Time) {
	a := statedb.Alert{Key: "node-disk/" + v.ID, Severity: statedb.Warning, Client: v.ID, Last: now.UnixNano()}
	if d := v.Disk; d != nil {
		if w.trends == nil {
			w.trends = map[string]*trend{}
		}
		t := w.trends[v.ID]
		if t == nil {
			t = &trend{}
			w.trends[v.ID] = t
		}
		left, soon := t.left(d.Free, 0, now)
		if d.Free < 2*disk.MinFree(d.Total) || soon {
			a.Text = fmt.Sprintf("the disk of the database of %s has %s of %s free", WhoIs(v), units.Bytes(int64(d.Free)),
				units.Bytes(int64(d.Total)))
			if v.Address != "" {
				a.Text += " (" + v.Address + ")"
			}
			if soon {
				a.Text += fmt.Sprintf(": as it goes, it is full in about %s", units.Span(left))
			}
			a.Text += fmt.Sprintf(". Make room; increments that do not fit are tried again, and xmq client retry %s "+
				"hurries that", v.ID)
		}
	}
	w.Alerts.Set(batch, a)
}

// about raises or clears an alert about a client when that changes. Its text is made when it is shown.
func (w *Watcher) about(batch *statedb.Batch, kind string, v *worker.View, bad bool, now time.Time) {
	key := kind + "/" + v.ID
	switch _, stands := w.Alerts.Stands(key); {
	case bad && !stands:
		batch.Raise(statedb.Alert{Key: key, Severity: statedb.Warning, Client: v.ID, Last: now.UnixNano(),
			Text: w.Alerts.Text(statedb.Alert{Key: key}, v, now)})
	case !bad && stands:
		batch.Clear(key, now.UnixNano())
	}
}

// roomForReserve reports whether the disk has room for the reserve without input being refused for it.
func (w *Watcher) roomForReserve() bool {
	free, total, err := w.Disk.Space()
	return err == nil && free > w.leastFree(total)+disk.BallastSize
}
