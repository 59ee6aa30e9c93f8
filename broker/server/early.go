package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"xmq/broker/disk"
	"xmq/broker/monitor"
	"xmq/broker/units"
	"xmq/statedb"
	"xmq/worker"
)

// minFree is how many bytes must stay free on a disk of total bytes.
func (c *Config) minFree(total uint64) uint64 {
	if c.Watch.MinFree >= 0 {
		return uint64(c.Watch.MinFree)
	}
	return disk.MinFree(total)
}

// lookAtDisk raises the alert of the disk: a warning before input is refused, critical when it is.
func (b *Broker) lookAtDisk(batch *statedb.Batch, full error, now time.Time) {
	a := statedb.Alert{Key: "disk", Severity: statedb.Critical, Last: now.UnixNano()}
	if full != nil {
		a.Text = fmt.Sprintf("the broker refuses increments: %v", full)
	} else if a.Text = b.early(now); a.Text != "" {
		a.Severity = statedb.Warning
	}
	b.alerts.Set(batch, a)
}

// early says that the disk's room comes to its end; empty when it does not.
func (b *Broker) early(now time.Time) string {
	free, total, err := disk.Space(b.stores.dir)
	if err != nil {
		return ""
	}
	least := b.knobs().minFree(total)
	left, soon := b.trend.left(free, least, now)
	if free >= 2*least && !soon {
		return ""
	}
	text := fmt.Sprintf("%s of %s are free on the disk of %s, and below %s input is refused", units.Bytes(int64(free)),
		units.Bytes(int64(total)), b.stores.dir,
		units.Bytes(int64(least)))
	if soon {
		text += fmt.Sprintf(": as it goes, in about %s", units.Span(left))
	}
	return text + ". Make room, or see with xmq log head who holds the log"
}

// lookAtClients raises what only a look from outside shows: a client that is behind for long, and a node that was
// stopped and forgotten. One cause is one alert: whoever has an alert already that says why it is behind gets a more
// severe one instead of another.
func (b *Broker) lookAtClients(batch *statedb.Batch, now time.Time) {
	if now.Before(b.nextLook) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	views, err := b.views(ctx)
	b.nextLook = now.Add(20 * time.Since(now)) // with many clients, more rarely
	if err != nil {
		return // the workers are busy: the next look sees it
	}
	for i := range views {
		v := &views[i]
		b.lookAtNodeDisk(batch, v, now)
		stopped := v.Condition.Is == worker.IsStopped && b.knobs().Watch.Stopped > 0 &&
			now.Sub(v.Condition.Since) >= b.knobs().Watch.Stopped
		b.about(batch, "stopped", v, stopped, now)
		late := b.knobs().Watch.Lag > 0 && v.LagSeconds != nil && *v.LagSeconds > b.knobs().Watch.Lag.Seconds()
		for _, kind := range []string{"fail", "fatal", "refused", "upgrade", "stopped", "offline", "retry", "slow"} {
			if _, stands := b.alerts.Stands(kind + "/" + v.ID); !stands || !late {
				continue
			}
			if late = false; kind == "offline" || kind == "retry" || kind == "slow" {
				batch.Worsen(kind+"/"+v.ID, statedb.Critical, now.UnixNano())
			}
		}
		b.about(batch, "lag", v, late, now)
	}
	for id := range b.trends {
		if !slices.ContainsFunc(views, func(v worker.View) bool { return v.ID == id }) {
			delete(b.trends, id)
		}
	}
}

// lookAtNodeDisk raises the alert of the disk on which the database of a client lies, where its node sees it: before
// its database refuses increments.
func (b *Broker) lookAtNodeDisk(batch *statedb.Batch, v *worker.View, now time.Time) {
	a := statedb.Alert{Key: "node-disk/" + v.ID, Severity: statedb.Warning, Client: v.ID, Last: now.UnixNano()}
	if d := v.Disk; d != nil {
		if b.trends == nil {
			b.trends = map[string]*trend{}
		}
		t := b.trends[v.ID]
		if t == nil {
			t = &trend{}
			b.trends[v.ID] = t
		}
		left, soon := t.left(d.Free, 0, now)
		if d.Free < 2*disk.MinFree(d.Total) || soon {
			a.Text = fmt.Sprintf("the disk of the database of %s has %s of %s free", monitor.WhoIs(v), units.Bytes(int64(d.Free)),
				units.Bytes(int64(d.Total)))
			if v.Address != "" {
				a.Text += " (" + v.Address + ")"
			}
			if soon {
				a.Text += fmt.Sprintf(": as it goes, it is full in about %s", units.Span(left))
			}
			a.Text += fmt.Sprintf(". Make room; increments that do not fit are tried again, and xmq client retry %s hurries that", v.ID)
		}
	}
	b.alerts.Set(batch, a)
}

// about raises or clears an alert about a client when that changes. Its text is made when it is shown.
func (b *Broker) about(batch *statedb.Batch, kind string, v *worker.View, bad bool, now time.Time) {
	key := kind + "/" + v.ID
	switch _, stands := b.alerts.Stands(key); {
	case bad && !stands:
		batch.Raise(statedb.Alert{Key: key, Severity: statedb.Warning, Client: v.ID, Last: now.UnixNano(),
			Text: b.alerts.Text(statedb.Alert{Key: key}, v, now)})
	case !bad && stands:
		batch.Clear(key, now.UnixNano())
	}
}

// roomForReserve reports whether the disk has room for the reserve without input being refused for it.
func (b *Broker) roomForReserve() bool {
	free, total, err := disk.Space(b.stores.dir)
	return err == nil && free > b.knobs().minFree(total)+disk.BallastSize
}
