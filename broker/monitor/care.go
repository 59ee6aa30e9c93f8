package monitor

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"xmq/broker/api"
	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/dumpflow"
	"xmq/increments"
	"xmq/statedb"
)

// Care is what somebody has to do from time to time: a backup, a check of the log. Its fields are set before it is
// used; it is for concurrent use.
type Care struct {
	Log     increments.Log
	State   statedb.Store
	Knobs   func() Knobs
	Alerts  *Alerts
	Started time.Time // when this broker was
	Now     func() time.Time

	backedUp atomic.Int64 // when a backup was written, in ns since 1970; 0: not since the start
	checked  atomic.Int64 // the same of the last complete check of the log
}

// Checked notes that the log was read to its end, and nothing could not be read.
func (c *Care) Checked() { c.checked.Store(c.Now().UnixNano()) }

// WroteBackup takes the last word of whoever wanted the bytes of a snapshot alone: they are in a durable file. A backup
// is one that holds all of them, not a range of keys.
func (c *Care) WroteBackup(e event.Event) {
	d, known := c.State.Dump(e.Dump)
	if known && slices.ContainsFunc(d.Requesters,
		func(r dumpflow.Requester) bool { return r.ID == e.ID && r.Backup && r.Range == nil }) {
		c.backedUp.Store(c.Now().UnixNano())
	}
}

// look raises notes about what nobody has done for long: a backup, a check of the log. They count from when it
// was done last, or from when the log was made; where an earlier build made it, from when this broker was started.
func (c *Care) look(batch *statedb.Batch, now time.Time) {
	meta := c.State.Meta()
	if done := max(meta.Backup, c.backedUp.Load()); done != meta.Backup {
		meta.Backup = done
		batch.PutMeta(meta)
	}
	if done := max(meta.Checked, c.checked.Load()); done != meta.Checked {
		meta.Checked = done
		batch.PutMeta(meta)
	}
	began := c.Started
	if meta.Created != 0 {
		began = api.At(meta.Created)
	}
	late := func(limit time.Duration, last int64) (ago string, is bool) {
		since, what := began, "since this log began, for "
		switch {
		case last != 0:
			since, what = api.At(last), "since "+units.Stamp(api.At(last))+", for "
		case meta.Created == 0:
			what = "since this broker was started, for "
		}
		used := c.Log.Head().Seq > 0 && len(c.State.Clients()) > 0
		return what + units.Span(now.Sub(since)), limit > 0 && used && now.Sub(since) > limit
	}
	backup := statedb.Alert{Key: "no-backup", Severity: statedb.Note, Last: now.UnixNano()}
	if ago, is := late(c.Knobs().Watch.Backup, meta.Backup); is {
		backup.Text = fmt.Sprintf("nobody has taken a backup with xmq dump %s: xmq dump --from NODE --output FILE. "+
			"Backups made otherwise are not seen here; "+
			"who makes them sets watch.backup to 0", ago)
	}
	c.Alerts.Set(batch, backup)
	check := statedb.Alert{Key: "unchecked", Severity: statedb.Note, Last: now.UnixNano()}
	if ago, is := late(c.Knobs().Watch.Checked, meta.Checked); is {
		check.Text = fmt.Sprintf("the log has not been read for damage to its end %s: xmq log check", ago)
		if c.Knobs().Watch.Scrub == 0 {
			check.Text += ". The broker does not do it by itself, since watch.scrub is 0"
		}
	}
	c.Alerts.Set(batch, check)
}
