package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"xmq/broker/disk"
	"xmq/broker/monitor"
	"xmq/broker/units"
	"xmq/increments"
	"xmq/statedb"
	"xmq/worker"
)

// retain frees what nobody needs, every Retention.Every. It reads durable positions and pins only, never what is
// in memory alone (see package statedb).
func (b *Broker) retain(ctx context.Context) error {
	return b.every(ctx.Done(), func(c *Config) time.Duration { return c.Retention.Every }, func() error {
		_, err := b.trim()
		if err != nil && !IsStorage(err) {
			b.log.Warn("retention", "err", err)
			err = nil
		}
		return err
	})
}

// trim frees segments once and returns how many.
func (b *Broker) trim() (freed int, err error) { return b.free(false) }

// free frees what everybody has applied, and what a limit says: segments below the lowest of all that the
// configuration keeps. With everything set keep_records and keep_age do not count. Nothing is freed while no client
// is known (the first master may still have to come), while no client has a copy, unless a limit says so, and while
// the state store is rebuilt and unconfirmed. One at a time.
func (b *Broker) free(everything bool) (freed int, err error) {
	b.trimming.Lock()
	defer b.trimming.Unlock()
	s := b.stores
	if s.state.Meta().Rebuilt {
		return 0, nil
	}
	h := b.keeping.Who()
	head, limited := h.Head, b.limit(h.Head)
	keep := h.Need
	if r := &b.knobs().Retention; !everything && h.Placed > 0 {
		if r.KeepRecords > 0 {
			keep = min(keep, head+1-min(head, uint64(r.KeepRecords)))
		}
		if r.KeepAge > 0 {
			keep = min(keep, b.firstSince(time.Now().Add(-r.KeepAge)))
		}
	}
	full, err := b.weigh(&h, limited.seq)
	if err != nil {
		return 0, err
	}
	keep = max(keep, min(full, h.Need))
	if h.Known == 0 {
		limited.seq = 0
	}
	keep = max(keep, limited.seq)
	keep = min(keep, h.UpTo()+1) // a running DUMP holds the log against every limit (SS-35)
	if err := b.holdAlerts(&h, keep, limited); err != nil {
		return 0, err
	}
	freed, err = s.log.Trim(keep)
	if freed > 0 {
		first := s.log.First()
		if err := b.happened(statedb.LogTrimmed, first,
			fmt.Sprintf("%s freed, the log begins at %s", units.Of(uint64(freed), "segment"), units.Count(first))); err != nil {
			return freed, err
		}
		for _, c := range s.state.Clients() {
			if seq, held := c.Pin(); held && seq+1 < first {
				b.pool.Post(c.ID, worker.Input{Trimmed: true})
			}
		}
	}
	return freed, err
}

// bound is a limit of the configuration and the first sequence that it allows to keep; the zero bound allows all.
type bound struct {
	seq  uint64
	name string
}

// limit is what max_records and max_age free even when a client still needs it (SS-31).
func (b *Broker) limit(head uint64) (l bound) {
	r := &b.knobs().Retention
	if r.MaxRecords > 0 && head > uint64(r.MaxRecords) {
		l = bound{head - uint64(r.MaxRecords) + 1, "retention.max_records"}
	}
	if r.MaxAge > 0 {
		if k := b.firstSince(time.Now().Add(-r.MaxAge)); k > l.seq {
			l = bound{k, "retention.max_age"}
		}
	}
	return l
}

// holdAlerts raises and ends the alerts about who holds the log: their texts change only with what they are about.
func (b *Broker) holdAlerts(h *monitor.Holders, keep uint64, limited bound) error {
	var batch statedb.Batch
	now := time.Now().UnixNano()
	who, need, head := h.Name(), h.Need, h.Head
	n := b.knobs().Retention.PinAlert
	pin := statedb.Alert{Key: "pin", Severity: statedb.Warning, Last: now}
	first, held := h.First()
	if held && first.Client != nil {
		pin.Client = first.Client.ID
	}
	if n > 0 && h.Placed > 0 && need <= head && head-need > uint64(n) && (pin.Client == "" || !b.alerts.Explained(pin.Client)) {
		// the one of now has its numbers
		pin.Text = fmt.Sprintf("%s holds more than %s increments of the log", who, units.Count(uint64(n)))
	}
	b.alerts.Set(&batch, pin)
	b.alerts.Replace(&batch, statedb.Alert{Key: "unplaced", Severity: statedb.Critical, Last: now,
		Text: "no client has a copy any more, so nothing of the log is freed: bring one back (xmq client seek ID SEQ " +
			"--reason TEXT for a database that is whole, or an empty one as a master while the log begins at 1)"},
		h.Placed == 0 && len(h.Lost) > 0)
	_, stands := b.alerts.Stands("limit")
	frees := slices.ContainsFunc(b.stores.log.Spans(),
		func(s increments.Span) bool { return s.Last >= need && s.Last < keep })
	b.alerts.When(&batch, "limit", limited.seq > need && (frees || stands), now, func() string {
		if h.Placed == 0 {
			return limited.name + " frees increments that no client has applied"
		}
		return fmt.Sprintf("%s frees increments that %s has not applied: it has to join again with a DUMP", limited.name, who)
	})
	return b.stores.state.Write(&batch)
}

// maxBytes is the limit of the log in bytes; 0 for none. The default was recorded when this data directory was first
// served.
func (b *Broker) maxBytes() int64 {
	if n := b.knobs().Retention.MaxBytes; n >= 0 {
		return n
	}
	return b.stores.state.Meta().MaxBytes
}

// recordMaxBytes fixes the default of max_bytes: half of the disk, or twice of what a log of an earlier version takes
// already. A disk that is nearly full is left alone until the next start.
func (b *Broker) recordMaxBytes() error {
	meta := b.stores.state.Meta()
	if meta.MaxBytes != 0 || b.stores.checkSpace(b.knobs()) != nil {
		return nil
	}
	_, total, err := disk.Space(b.stores.dir)
	if err != nil {
		return err
	}
	st, err := b.stores.log.Stats()
	if err != nil {
		return err
	}
	meta.MaxBytes = max(int64(total/2), 2*st.Bytes)
	var batch statedb.Batch
	batch.PutMeta(meta)
	return b.stores.state.Write(&batch)
}

// weigh compares the log's size with max_bytes. It returns up to where increments that everybody has are to go
// whatever keep_* says, 0 for nowhere. When somebody holds the oldest segment beyond the limit, and has been named by
// an alert before, those who can be made anew by a DUMP lose their place (limited is what other limits free in any
// case), whoever is away the longest first; when there is no other copy of its topics, input is refused instead.
func (b *Broker) weigh(h *monitor.Holders, limited uint64) (full uint64, err error) {
	limit := b.maxBytes()
	st, err := b.stores.log.Stats()
	if err != nil {
		return 0, err
	}
	spans := b.stores.log.Spans()
	oldest := spans[0]
	held := len(spans) > 1 && max(h.Need, limited) <= oldest.Last && h.UpTo() >= oldest.Last
	var first *statedb.Client // who would go first
	var fixed string          // who cannot, and why
	if held && limit > 0 && st.Bytes > limit/2 {
		first, fixed = h.InTheWay(oldest.Last)
	}
	who := fixed
	if who == "" && first != nil {
		who = "client " + first.ID + " holds it and would have to DUMP again"
	}
	text := func(how string) string {
		return fmt.Sprintf("the log takes %s of its limit of %d MiB (retention.max_bytes), and %s: bring the node back, "+
			"forget it (xmq client forget ID --reason TEXT) or raise the limit", how, limit>>20, who)
	}
	var batch statedb.Batch
	warned, stands := b.alerts.Stands("max_bytes")
	warned80 := stands && warned.Severity == statedb.Critical
	a := statedb.Alert{Key: "max_bytes", Severity: statedb.Warning, Text: text("more than half"),
		Last: time.Now().UnixNano()}
	if st.Bytes > limit/5*4 {
		a.Severity, a.Text = statedb.Critical, text("more than four fifths")
	}
	b.alerts.Replace(&batch, a, who != "")
	if err := b.stores.state.Write(&batch); err != nil {
		return 0, err
	}
	over := limit > 0 && st.Bytes > limit
	switch {
	case over && fixed != "":
		refusal := fmt.Sprintf("the log has reached its limit of %d MiB (retention.max_bytes), and %s: bring the node "+
			"back, forget it (xmq client forget ID --reason TEXT) or raise the limit", limit>>20, fixed)
		b.overfull.Store(&refusal)
	default:
		b.overfull.Store(nil)
	}
	if !over {
		return 0, nil
	}
	if fixed == "" && first != nil && warned80 {
		reason := fmt.Sprintf("client %s held the log from %d on, which has reached its limit of %d MiB "+
			"(retention.max_bytes), and loses its place there", first.ID, h.Need, limit>>20)
		b.log.Warn("a client loses its place", "client", first.ID, "reason", reason)
		b.pool.Post(first.ID, worker.Input{Evict: &worker.Evict{Reason: reason, Silent: first.Silent}})
	}
	perRecord := max(1, st.Bytes/int64(max(1, st.Head.Seq+1-st.First)))
	k := st.Head.Seq + 1 - min(st.Head.Seq, uint64(limit/perRecord))
	for _, span := range spans[:len(spans)-1] { // whole segments go, until it is below the limit
		if span.First < k {
			full = span.Last + 1
		}
	}
	return full, nil
}

// samples is at how many places of a sealed segment its increments' times are looked at.
const samples = 16

// ahead is how far a time may lie before us and still be taken for right.
const ahead = time.Minute

// firstSince is the first sequence of the first segment that holds an increment which is not older than t. Times are
// the broker's clock of then, which may have been wrong, so no order is assumed: a segment is as young as the
// youngest of its samples, and one that ends with times that have not come yet is as young as what follows it.
func (b *Broker) firstSince(t time.Time) uint64 {
	spans := b.stores.log.Spans()
	for i, span := range spans {
		if i == len(spans)-1 || b.youngest(spans[i:]) >= t.UnixNano() {
			return span.First
		}
	}
	return b.stores.log.First()
}

// youngest is the latest time that the first of these segments can have been written to, in ns.
func (b *Broker) youngest(spans []increments.Span) int64 {
	now := time.Now()
	credible := func(ns int64) bool { return ns <= now.Add(ahead).UnixNano() }
	last, open := int64(0), true // open: what follows bounds the end
	for _, ns := range b.times(spans[0]) {
		if open = !credible(ns); !open {
			last = max(last, ns)
		}
	}
	for _, next := range spans[1:] {
		if !open {
			break
		}
		for _, ns := range b.times(next) {
			if credible(ns) {
				last, open = max(last, ns), false
				break
			}
		}
	}
	if open {
		return now.UnixNano()
	}
	return last
}

// times samples when the increments of a segment were written. A segment that cannot be read now has been written to
// just now, one that is set aside never.
func (b *Broker) times(span increments.Span) []int64 {
	if known, ok := b.sampled[span.First]; ok {
		return known
	}
	log := b.stores.log
	end := min(span.Last, log.Head().Seq)
	var all []int64
	for i := range uint64(samples + 1) {
		e, err := log.Read(span.First+(end-span.First)/samples*i, 1, 1)
		if i == samples {
			e, err = log.Read(end, 1, 1)
		}
		switch {
		case errors.Is(err, increments.ErrQuarantined):
			return []int64{0}
		case err != nil || len(e) == 0:
			return []int64{time.Now().UnixNano()}
		}
		all = append(all, e[0].Time())
	}
	if span.Last > end {
		return all // it grows
	}
	if b.sampled == nil {
		b.sampled = map[uint64][]int64{}
	}
	for first := range b.sampled {
		if first < log.First() {
			delete(b.sampled, first)
		}
	}
	b.sampled[span.First] = all
	return all
}
