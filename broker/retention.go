package broker

import (
	"context"
	"fmt"
	"time"

	"xmq/statedb"
	"xmq/worker"
)

// retain frees what nobody needs, every Retention.Every. It reads durable positions and pins only, never what is
// in memory alone (see package statedb).
func (b *Broker) retain(ctx context.Context) error {
	t := time.NewTicker(b.cfg.Retention.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if _, err := b.trim(); err != nil {
				if IsStorage(err) {
					return err
				}
				b.log.Warn("retention", "err", err)
			}
		}
	}
}

// trim frees segments once and returns how many. Nothing is freed while no client is known (the first master may
// still have to come) or while the state store is rebuilt and unconfirmed.
func (b *Broker) trim() (freed int, err error) {
	s, r := b.stores, &b.cfg.Retention
	now := time.Now()
	head := s.log.Head().Seq
	clients := s.state.Clients()
	if s.state.Meta().Rebuilt || len(clients) == 0 {
		return 0, nil
	}
	keep, holder := head+1, ""
	hold := func(seq uint64, who string) {
		if seq+1 < keep {
			keep, holder = seq+1, who
		}
	}
	for i := range clients {
		c := &clients[i]
		absent := r.MaxAbsence > 0 && now.Sub(time.Unix(0, max(c.Updated, b.started.UnixNano()))) > r.MaxAbsence
		if seq, held := c.Pin(); held && !(absent && !b.connected(c.ID)) {
			hold(seq, "client "+c.ID)
		}
	}
	keep, holder = b.limit(keep, holder)
	for _, d := range s.state.Dumps() { // a running DUMP holds the log against every limit (SS-35)
		if d.Pinned() {
			hold(d.Pin, fmt.Sprintf("DUMP %s of %s", d.ID, d.Target))
		}
	}
	if err := b.pinAlert(head, keep, holder, now); err != nil {
		return 0, err
	}
	freed, err = s.log.Trim(keep)
	if freed > 0 {
		b.log.Info("log trimmed", "segments", freed, "first", s.log.First())
		for i := range clients {
			if seq, held := clients[i].Pin(); held && seq+1 < s.log.First() {
				b.pool.Post(clients[i].ID, worker.Input{Trimmed: true})
			}
		}
	}
	return freed, err
}

// connected asks the client's worker; a worker that does not answer at once counts as yes.
func (b *Broker) connected(id string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	v, known, err := b.pool.View(ctx, id)
	return err != nil || known && v.Connected
}

// limit moves keep forward to what the limits of the configuration allow (SS-31).
func (b *Broker) limit(keep uint64, holder string) (uint64, string) {
	s, r := b.stores, &b.cfg.Retention
	head, first := s.log.Head().Seq, s.log.First()
	if r.MaxRecords > 0 && head > uint64(r.MaxRecords) && head-uint64(r.MaxRecords)+1 > keep {
		keep, holder = head-uint64(r.MaxRecords)+1, ""
	}
	if r.MaxBytes > 0 {
		if st, err := s.log.Stats(); err == nil && st.Bytes > r.MaxBytes && head >= first {
			perRecord := float64(st.Bytes) / float64(head-first+1)
			if k := head + 1 - min(head, uint64(float64(r.MaxBytes)/perRecord)); k > keep {
				keep, holder = k, ""
			}
		}
	}
	if r.MaxAge > 0 {
		if k := b.firstSince(time.Now().Add(-r.MaxAge)); k > keep {
			keep, holder = k, ""
		}
	}
	return keep, holder
}

// firstSince finds the first increment that is not older than t, by halving; head+1 when all are.
func (b *Broker) firstSince(t time.Time) uint64 {
	lo, hi := b.stores.log.First(), b.stores.log.Head().Seq+1
	for lo < hi {
		mid := lo + (hi-lo)/2
		e, err := b.stores.log.Read(mid, 1, 1)
		if err != nil || len(e) == 0 || e[0].Time() >= t.UnixNano() {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// pinAlert tells of somebody who holds very much.
func (b *Broker) pinAlert(head, keep uint64, holder string, now time.Time) error {
	const key = "pin"
	var batch statedb.Batch
	if n := b.cfg.Retention.PinAlert; n > 0 && holder != "" && head-keep > uint64(n) {
		text := fmt.Sprintf("%s holds the log from %d on: see why it does not go forward", holder, keep)
		if b.pinned == text {
			return nil
		}
		b.pinned = text
		batch.Raise(statedb.Alert{Key: key, Severity: statedb.Warning, Seq: keep, Text: text, Last: now.UnixNano()})
	} else if b.pinned != "" {
		b.pinned = ""
		batch.Clear(key, now.UnixNano())
	}
	return b.stores.state.Write(&batch)
}
