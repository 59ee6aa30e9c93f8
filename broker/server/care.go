package server

import (
	"fmt"
	"slices"
	"time"

	"xmq/broker/api"
	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/dumpflow"
	"xmq/statedb"
)

// wroteBackup takes the last word of whoever wanted the bytes of a snapshot alone: they are in a durable file. A backup
// is one that holds all of them, not a range of keys.
func (b *Broker) wroteBackup(e event.Event) {
	d, known := b.stores.state.Dump(e.Dump)
	if known && slices.ContainsFunc(d.Requesters,
		func(r dumpflow.Requester) bool { return r.ID == e.ID && r.Backup && r.Range == nil }) {
		b.backedUp.Store(time.Now().UnixNano())
	}
}

// lookAtCare raises notes about what nobody has done for long: a backup, a check of the log. They count from when it
// was done last, or from when the log was made; where an earlier build made it, from when this broker was started.
func (b *Broker) lookAtCare(batch *statedb.Batch, now time.Time) {
	meta := b.stores.state.Meta()
	if done := max(meta.Backup, b.backedUp.Load()); done != meta.Backup {
		meta.Backup = done
		batch.PutMeta(meta)
	}
	if done := max(meta.Checked, b.checked.Load()); done != meta.Checked {
		meta.Checked = done
		batch.PutMeta(meta)
	}
	began := b.started
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
		used := b.stores.log.Head().Seq > 0 && len(b.stores.state.Clients()) > 0
		return what + units.Span(now.Sub(since)), limit > 0 && used && now.Sub(since) > limit
	}
	backup := statedb.Alert{Key: "no-backup", Severity: statedb.Note, Last: now.UnixNano()}
	if ago, is := late(b.knobs().Watch.Backup, meta.Backup); is {
		backup.Text = fmt.Sprintf("nobody has taken a backup with xmq dump %s: xmq dump --from NODE --output FILE. "+
			"Backups made otherwise are not seen here; "+
			"who makes them sets watch.backup to 0", ago)
	}
	b.alerts.Set(batch, backup)
	check := statedb.Alert{Key: "unchecked", Severity: statedb.Note, Last: now.UnixNano()}
	if ago, is := late(b.knobs().Watch.Checked, meta.Checked); is {
		check.Text = fmt.Sprintf("the log has not been read for damage to its end %s: xmq log check", ago)
		if b.knobs().Watch.Scrub == 0 {
			check.Text += ". The broker does not do it by itself, since watch.scrub is 0"
		}
	}
	b.alerts.Set(batch, check)
}
