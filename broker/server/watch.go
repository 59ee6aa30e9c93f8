package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"xmq/broker/disk"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/statedb"
	"xmq/worker"
)

// Level-0 tables of the newest segment at which an alert is raised, and at which input is refused.
const (
	level0Alert  = 12
	level0Refuse = 24
)

// stuckFor is when an ingest is called stuck.
const stuckFor = 5 * time.Second

// unreadableFor is how long the last read that failed makes the alert stand, at least: whoever needs the log tries
// again at each tick.
const unreadableFor = 10 * time.Second

// stuck reports whether increments have waited for stuckFor without any commit. Whoever is seen waiting for the first
// time has only just come, however long nobody has looked.
func (b *Broker) stuck(now time.Time) bool {
	n := b.ingest.commits.Load()
	if n != b.seenCommits || b.ingest.count.Load() == 0 {
		b.seenCommits, b.waitsSince = n, time.Time{}
		return false
	}
	if b.waitsSince.IsZero() {
		b.waitsSince = now
	}
	return now.Sub(b.waitsSince) >= stuckFor
}

// index copies idempotency keys of sealed segments to where retention does not reach them. What keeps it from that
// now is tried again; until then the keys are looked up where they are.
func (b *Broker) index(ctx context.Context) error {
	var said string
	for {
		err := b.stores.log.Index(ctx)
		if err == nil || IsStorage(err) {
			return err
		}
		if said != err.Error() {
			said = err.Error()
			b.log.Warn("idempotency keys are not indexed now", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(b.knobs().Watch.Every):
		}
	}
}

// scrub reads the whole log again and again, slowly: damage in a sealed segment is found, and the segment set aside,
// before a client needs it.
func (b *Broker) scrub(ctx context.Context) error {
	last, begun := time.Time{}, time.Now()
	for {
		changed := b.changed.next()
		wait := b.knobs().Watch.Scrub
		due := last.Add(wait)
		if last.IsZero() {
			due = begun.Add(min(scrubFirst, wait))
		}
		pause := time.NewTimer(time.Until(due))
		if wait == 0 {
			pause.Stop()
		}
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-changed:
			pause.Stop()
			continue
		case <-pause.C:
		}
		report, err := b.stores.log.Check(ctx, 0, func(uint64) {
			select { // about 1,000 records were read
			case <-time.After(scrubPace):
			case <-ctx.Done():
			}
		})
		if err != nil && ctx.Err() == nil {
			b.log.Warn("reading the log for damage", "err", err)
		}
		if err == nil && len(report.Unreadable) == 0 {
			b.checked.Store(time.Now().UnixNano())
		}
		for _, f := range report.Unreadable {
			b.log.Warn("a segment of the log cannot be read now", "segment", f.Segment, "err", f.Err)
		}
		b.log.Debug("the log was read for damage", "records", report.Records, "damaged", len(report.Damaged))
		last = time.Now()
	}
}

// scrubFirst is the longest wait before the first reading, scrubPace the pause after every 1,000 records: at most
// 100,000 a second.
const (
	scrubFirst = time.Minute
	scrubPace  = 10 * time.Millisecond
)

// watch writes the checkpoint of the log every Watch.Every, after the log's own sync, and looks whether disk and
// stores can go on taking input.
func (b *Broker) watch(ctx context.Context) error {
	for {
		changed := b.changed.next()
		if err := b.look(); err != nil {
			return err
		}
		pause := time.NewTimer(b.knobs().Watch.Every)
		select {
		case <-ctx.Done():
			pause.Stop()
			return b.checkpoint()
		case <-b.doubted: // it is to be stored soon
		case <-changed:
		case <-pause.C:
		}
		pause.Stop()
	}
}

// markFor is how long behind the last node that asked the time of the log is told: longer than nodes are silent.
const markFor = 10 * time.Minute

// checkpoint stores how far the log is durable and, when nodes want it, the time of the log, which they are told then.
func (b *Broker) checkpoint() error {
	var batch statedb.Batch
	if head := b.stores.log.Head(); head != b.stores.state.Checkpoint() {
		batch.Checkpoint(head)
	}
	if b.marks.Asked() {
		b.wanted = time.Now()
	}
	wanted := !b.wanted.IsZero() && time.Since(b.wanted) < markFor
	var pos event.Position
	var clock int64
	if wanted {
		pos, clock = b.stores.log.Mark()
		batch.Clock(clock)
	}
	if err := b.stores.state.Write(&batch); err != nil {
		return err
	}
	if wanted {
		b.marks.Tell(pos, clock)
	}
	return nil
}

// look makes one round. Errors of the state store stop the broker.
func (b *Broker) look() error {
	b.looking.Lock()
	defer b.looking.Unlock()
	if err := b.checkpoint(); err != nil {
		return err
	}
	var batch statedb.Batch
	now := time.Now().UnixNano()
	for more := true; more; {
		select {
		case d := <-b.stores.damage:
			batch.Raise(statedb.Alert{Key: "damage/" + d.segment, Severity: statedb.Critical, Last: now,
				Text: fmt.Sprintf("segment %s of the log is damaged and set aside (%v): clients that need it have to DUMP "+
					"again, and idempotency keys of its increments that were not indexed before count as freed: a repetition is "+
					"stored again", d.segment, d.err)})
			if d.newest(b.stores.log.Head().Seq) {
				return fmt.Errorf("%w: the newest segment of the log is damaged: %w", ErrDamaged,
					errors.Join(d.err, b.stores.state.Write(&batch)))
			}
		case a := <-b.stores.forgot:
			batch.Raise(a)
		default:
			more = false
		}
	}
	b.lookAtDoubts(&batch, now)
	b.alerts.When(&batch, "insecure", b.cfg.Insecure, now, func() string { return insecure })
	small := b.payloadTooSmall()
	b.alerts.When(&batch, "payload", small != nil, now,
		func() string { return small.Error() + "; until then nodes that are behind get nothing" })
	full := b.stores.checkSpace(b.knobs())
	b.lookAtDisk(&batch, full, time.Now())
	b.lookAtClients(&batch, time.Now())
	b.lookAtCare(&batch, time.Now())
	at, unread := b.stores.log.Unreadable()
	b.alerts.When(&batch, "unreadable", unread != nil && time.Since(at) < max(unreadableFor, 3*b.cfg.Tick), now,
		func() string {
			return fmt.Sprintf("a part of the log cannot be read now, and who needs it waits; it is tried again all the time: %v",
				unread)
		})
	st, err := b.stores.log.Stats()
	if err != nil {
		b.log.Warn("statistics of the log", "err", err)
	}
	stuck := b.stuck(time.Now())
	b.lookAtStorage(&batch, st.Unmerged, st.WritePaused, stuck, st.SyncP99, now)
	ahead := b.stores.log.Ahead()
	b.alerts.When(&batch, "clock", ahead > aheadAlert, now, func() string {
		return fmt.Sprintf("nodes were told a time of the log that is %s later than this machine's clock, which stood "+
			"later then, or stands too early now: "+
			"what ends by that time (keys of Redis) may have ended too early on every node; set the clock right; the log's "+
			"time goes on at half speed until the clock has caught up, which takes as long again", ahead.Round(time.Second))
	})
	refusals := b.admission.Refusals()
	b.alerts.When(&batch, "max_clients", refusals.Full > 0 && b.cfg.MaxClients > 0 && refusals.Known >= b.cfg.MaxClients, now,
		func() string {
			return fmt.Sprintf("this broker knows %d clients, which is its limit (max_clients), and refused others: forget "+
				"clients that are gone (xmq client forget ID --reason TEXT) or raise the limit", refusals.Known)
		})
	b.strays(&batch, refusals, now)
	overfull := b.overfull.Load()
	switch {
	case full == nil && overfull != nil:
		b.ingest.refuse(door.Refuse(door.DiskFull, "the broker takes no increments: %s", *overfull))
	case full != nil:
		b.ingest.refuse(door.Refuse(door.DiskFull, "the broker takes no increments: %v", full))
	case st.Unmerged >= level0Refuse:
		b.ingest.refuse(door.Refuse(door.Busy, "the broker's storage lags behind: try again"))
	default:
		b.ingest.refuse(nil)
	}
	b.hooks.Repeat(time.Now(), b.alerts.Standing())
	b.flow.Sample(b.ingest.took.Load(), time.Now())
	b.progress.forget(func(id event.DumpID) bool { _, known := b.stores.state.Dump(id); return known })
	b.input() // notes since when it is so
	if b.knobs().Watch.Ballast && full == nil && b.roomForReserve() && !disk.HasBallast(b.stores.dir) {
		if err := disk.AddBallast(b.stores.dir); err != nil {
			b.log.Warn("reserve space", "err", err)
		}
	}
	return b.stores.state.Write(&batch)
}

// aheadAlert is how far the time of the log may be ahead of the clock: clocks are set by seconds now and then.
const aheadAlert = time.Minute

// lookAtStorage raises the alert of the log's storage by its consequence: what is slow is a note, what keeps
// increments waiting is critical.
func (b *Broker) lookAtStorage(batch *statedb.Batch, tables int, paused, stuck bool, sync time.Duration, now int64) {
	a := statedb.Alert{Key: "stall", Last: now}
	switch {
	case stuck:
		a.Severity, a.Text = statedb.Critical, fmt.Sprintf("increments have waited for %s without a commit: look at the "+
			"disk of the log", stuckFor)
	case paused || tables >= level0Alert:
		a.Severity, a.Text = statedb.Critical, fmt.Sprintf("the log's storage lags behind: %d tables wait to be merged "+
			"(input is refused at %d); look at "+
			"the disk's load", tables, level0Refuse)
	case b.knobs().Watch.SlowSync > 0 && sync > b.knobs().Watch.SlowSync:
		a.Severity, a.Text = statedb.Note, fmt.Sprintf("one sync in a hundred of the log takes %s or longer: look at the "+
			"disk's load", sync.Round(time.Millisecond))
	}
	b.alerts.Set(batch, a)
}

// strayFor is how long the alert about refused IDs that nobody knows stands after the last of them.
const strayFor = 10 * time.Minute

// strays raises one alert for all IDs that are refused although nobody knows them; it names the first and ends by
// itself.
func (b *Broker) strays(batch *statedb.Batch, r worker.Refusals, now int64) {
	const key = "strangers"
	_, stands := b.alerts.Stands(key)
	if len(b.doubts.Held().Witnesses) > 0 { // they speak against the log, and the alert about that says what to do
		if b.seenStrays = r.Strays; stands {
			batch.Clear(key, now)
		}
		return
	}
	if r.Strays != b.seenStrays {
		b.seenStrays, b.strayAt = r.Strays, now
		if !stands {
			batch.Raise(statedb.Alert{Key: key, Severity: statedb.Warning, Last: now,
				Text: "nodes that this broker does not know were refused: " + r.Last})
		}
		return
	}
	if stands && now-max(b.strayAt, b.started.UnixNano()) > int64(strayFor) {
		batch.Clear(key, now)
	}
}
