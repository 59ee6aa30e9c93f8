package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"xmq/broker/disk"
	"xmq/broker/units"
	"xmq/increments"
	"xmq/statedb"
	"xmq/worker"
)

// Trimmer frees what nobody needs of the log. Its fields are set before it is used; it is for concurrent use.
type Trimmer struct {
	Log     increments.Log
	State   statedb.Store
	Knobs   func() Knobs
	Keeping *Keeping
	Alerts  *Alerts
	Disk    Disk
	Post    func(id string, in worker.Input) bool // tells a client's worker, without waiting; see worker.Pool
	Logger  *slog.Logger
	Now     func() time.Time

	mu       sync.Mutex             // one trim at a time; guards sampled
	sampled  map[uint64][]int64     // times of increments of sealed segments, by first sequence
	overfull atomic.Pointer[string] // why the size of the log refuses input; nil: it does not
}

// Disk is the one on which the data of the broker lie.
type Disk struct {
	Dir   string                                 // the data directory
	Space func() (free, total uint64, err error) // in bytes
	Full  func() error                           // why nothing more may be written; nil: there is room
}

// Run frees what nobody needs, every Retention.Every, until ctx ends. changed is closed when the knobs change the next
// time. It reads durable positions and pins only, never what is in memory alone (see package statedb).
func (m *Trimmer) Run(ctx context.Context, changed func() <-chan struct{}) error {
	return every(ctx, changed, func() time.Duration { return m.Knobs().Retention.Every }, func() error {
		_, err := m.Trim()
		if err != nil && !errors.Is(err, disk.ErrStopped) {
			m.Logger.Warn("the log cannot be trimmed now", "err", err)
			err = nil
		}
		return err
	})
}

// every calls f again and again, after the pause that is said now, until ctx ends or f returns an error.
func every(ctx context.Context, changed func() <-chan struct{}, pause func() time.Duration, f func() error) error {
	last := time.Now()
	for {
		news := changed()
		timer := time.NewTimer(time.Until(last.Add(pause())))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-news:
			timer.Stop()
			continue
		case <-timer.C:
		}
		last = time.Now()
		if err := f(); err != nil {
			return err
		}
	}
}

// Trim frees segments once and returns how many.
func (m *Trimmer) Trim() (freed int, err error) { return m.Free(false) }

// Overfull says why the size of the log refuses input; "" when it does not.
func (m *Trimmer) Overfull() string {
	if why := m.overfull.Load(); why != nil {
		return *why
	}
	return ""
}

// Free frees what everybody has applied, and what a limit says: segments below the lowest of all that the
// configuration keeps. With everything set keep_records and keep_age do not count. Nothing is freed while no client
// is known (the first master may still have to come), while no client has a copy, unless a limit says so, and while
// the state store is rebuilt and unconfirmed. One at a time.
func (m *Trimmer) Free(everything bool) (freed int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.State.Meta().Rebuilt {
		return 0, nil
	}
	h := m.Keeping.Who()
	head, limited := h.Head, m.limit(h.Head)
	keep := h.Need
	if r := m.Knobs().Retention; !everything && h.Placed > 0 {
		if r.KeepRecords > 0 {
			keep = min(keep, head+1-min(head, uint64(r.KeepRecords)))
		}
		if r.KeepAge > 0 {
			keep = min(keep, m.firstSince(m.Now().Add(-r.KeepAge)))
		}
	}
	full, err := m.weigh(&h, limited.seq)
	if err != nil {
		return 0, err
	}
	keep = max(keep, min(full, h.Need))
	if h.Known == 0 {
		limited.seq = 0
	}
	keep = max(keep, limited.seq)
	keep = min(keep, h.UpTo()+1) // a running DUMP holds the log against every limit (SS-35)
	if err := m.holdAlerts(&h, keep, limited); err != nil {
		return 0, err
	}
	freed, err = m.Log.Trim(keep)
	if freed > 0 {
		first := m.Log.First()
		var batch statedb.Batch
		batch.Event(statedb.Event{Time: m.Now().UnixNano(), Kind: statedb.LogTrimmed, Seq: first,
			Cause: fmt.Sprintf("%s freed, the log begins at %s", units.Of(uint64(freed), "segment"), units.Count(first))})
		if err := m.State.Write(&batch); err != nil {
			return freed, err
		}
		for _, c := range m.State.Clients() {
			if seq, held := c.Pin(); held && seq+1 < first {
				m.Post(c.ID, worker.Input{Trimmed: true})
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
func (m *Trimmer) limit(head uint64) (l bound) {
	r := m.Knobs().Retention
	if r.MaxRecords > 0 && head > uint64(r.MaxRecords) {
		l = bound{head - uint64(r.MaxRecords) + 1, "retention.max_records"}
	}
	if r.MaxAge > 0 {
		if k := m.firstSince(m.Now().Add(-r.MaxAge)); k > l.seq {
			l = bound{k, "retention.max_age"}
		}
	}
	return l
}

// holdAlerts raises and ends the alerts about who holds the log: their texts change only with what they are about.
func (m *Trimmer) holdAlerts(h *Holders, keep uint64, limited bound) error {
	var batch statedb.Batch
	now := m.Now().UnixNano()
	who, need, head := h.Name(), h.Need, h.Head
	n := m.Knobs().Retention.PinAlert
	pin := statedb.Alert{Key: "pin", Severity: statedb.Warning, Last: now}
	first, held := h.First()
	if held && first.Client != nil {
		pin.Client = first.Client.ID
	}
	told := pin.Client != "" && m.Alerts.Explained(pin.Client)
	if n > 0 && h.Placed > 0 && need <= head && head-need > uint64(n) && !told {
		// the one of now has its numbers
		pin.Text = fmt.Sprintf("%s holds more than %s of the log", who, units.Of(uint64(n), "increment"))
	}
	m.Alerts.Set(&batch, pin)
	m.Alerts.Replace(&batch, statedb.Alert{Key: "unplaced", Severity: statedb.Critical, Last: now,
		Text: "no client has a copy any more, so nothing of the log is freed: bring one back (xmq client seek ID SEQ " +
			"--reason TEXT for a database that is whole, or an empty one as a master while the log begins at 1)"},
		h.Placed == 0 && len(h.Lost) > 0)
	_, stands := m.Alerts.Stands("limit")
	frees := slices.ContainsFunc(m.Log.Spans(),
		func(s increments.Span) bool { return s.Last >= need && s.Last < keep })
	m.Alerts.When(&batch, "limit", limited.seq > need && (frees || stands), now, func() string {
		if h.Placed == 0 {
			return limited.name + " frees increments that no client has applied"
		}
		return fmt.Sprintf("%s frees increments that %s has not applied: it has to join again with a DUMP", limited.name, who)
	})
	return m.State.Write(&batch)
}

// MaxBytes is the limit of the log in bytes; 0 for none. The default was recorded when this data directory was first
// served.
func (m *Trimmer) MaxBytes() int64 {
	if n := m.Knobs().Retention.MaxBytes; n >= 0 {
		return n
	}
	return m.State.Meta().MaxBytes
}

// RecordMaxBytes fixes the default of max_bytes: half of the disk, or twice of what a log of an earlier version takes
// already. A disk that is nearly full is left alone until the next start.
func (m *Trimmer) RecordMaxBytes() error {
	meta := m.State.Meta()
	if meta.MaxBytes != 0 || m.Disk.Full() != nil {
		return nil
	}
	_, total, err := m.Disk.Space()
	if err != nil {
		return err
	}
	st, err := m.Log.Stats()
	if err != nil {
		return err
	}
	meta.MaxBytes = max(int64(total/2), 2*st.Bytes)
	var batch statedb.Batch
	batch.PutMeta(meta)
	return m.State.Write(&batch)
}

// weigh compares the log's size with max_bytes. It returns up to where increments that everybody has are to go
// whatever keep_* says, 0 for nowhere. When somebody holds the oldest segment beyond the limit, and has been named by
// an alert before, those who can be made anew by a DUMP lose their place (limited is what other limits free in any
// case), whoever is away the longest first; when there is no other copy of its topics, input is refused instead.
func (m *Trimmer) weigh(h *Holders, limited uint64) (full uint64, err error) {
	limit := m.MaxBytes()
	st, err := m.Log.Stats()
	if err != nil {
		return 0, err
	}
	spans := m.Log.Spans()
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
		return fmt.Sprintf("the log takes %s of its limit of %s (retention.max_bytes), and %s: %s", how, units.Bytes(limit),
			who, h.wayOut())
	}
	var batch statedb.Batch
	warned, stands := m.Alerts.Stands("max_bytes")
	warned80 := stands && warned.Severity == statedb.Critical
	a := statedb.Alert{Key: "max_bytes", Severity: statedb.Warning, Text: text("more than half"),
		Last: m.Now().UnixNano()}
	if st.Bytes > limit/5*4 {
		a.Severity, a.Text = statedb.Critical, text("more than four fifths")
	}
	m.Alerts.Replace(&batch, a, who != "")
	if err := m.State.Write(&batch); err != nil {
		return 0, err
	}
	over := limit > 0 && st.Bytes > limit
	switch {
	case over && fixed != "":
		refusal := fmt.Sprintf("the log has reached its limit of %s (retention.max_bytes), and %s: %s", units.Bytes(limit),
			fixed, h.wayOut())
		m.overfull.Store(&refusal)
	default:
		m.overfull.Store(nil)
	}
	if !over {
		return 0, nil
	}
	if fixed == "" && first != nil && warned80 {
		reason := fmt.Sprintf("client %s held the log from %d on, and the log has reached its limit of %s "+
			"(retention.max_bytes): what this client needs is freed", first.ID, h.Need, units.Bytes(limit))
		m.Logger.Warn("the log has reached its limit, and a client has to join again", "client", first.ID, "reason", reason)
		m.Post(first.ID, worker.Input{Evict: &worker.Evict{Reason: reason, Silent: first.Silent}})
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
func (m *Trimmer) firstSince(t time.Time) uint64 {
	spans := m.Log.Spans()
	for i, span := range spans {
		if i == len(spans)-1 || m.youngest(spans[i:]) >= t.UnixNano() {
			return span.First
		}
	}
	return m.Log.First()
}

// youngest is the latest time that the first of these segments can have been written to, in ns.
func (m *Trimmer) youngest(spans []increments.Span) int64 {
	now := m.Now()
	credible := func(ns int64) bool { return ns <= now.Add(ahead).UnixNano() }
	last, open := int64(0), true // open: what follows bounds the end
	for _, ns := range m.times(spans[0]) {
		if open = !credible(ns); !open {
			last = max(last, ns)
		}
	}
	for _, next := range spans[1:] {
		if !open {
			break
		}
		for _, ns := range m.times(next) {
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
func (m *Trimmer) times(span increments.Span) []int64 {
	if known, ok := m.sampled[span.First]; ok {
		return known
	}
	log := m.Log
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
			return []int64{m.Now().UnixNano()}
		}
		all = append(all, e[0].Time())
	}
	if span.Last > end {
		return all // it grows
	}
	if m.sampled == nil {
		m.sampled = map[uint64][]int64{}
	}
	for first := range m.sampled {
		if first < log.First() {
			delete(m.sampled, first)
		}
	}
	m.sampled[span.First] = all
	return all
}
