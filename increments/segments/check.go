package segments

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/increments"
)

// checkTurn is how many records Check verifies in one turn.
const checkTurn = 1000

// What helps where a start is refused.
const (
	helpNewest = "a start is refused with it (78): put this directory back from a copy; without one, a running broker " +
		"should go on until every node has applied what it lacks, and a new log, for which `log` and `state` are moved " +
		"away, begins with a DUMP of every node"
	helpMissing = "a start is refused without them (78): put their directories back"
	helpForeign = "it is not the broker's: move it away"
	helpOverlap = "two segments hold the same increments, and a start is refused (78): put the directory of the log " +
		"back as it was"
)

// Check implements increments.Log. It reads the files themselves, not what readers and the writer hold of them in
// memory, and disturbs neither: of the newest segment the tables and the journal as they are now, in which every record
// up to the head has to be. It also verifies the borders of segments and the number of idempotency keys;
// segments that are trimmed meanwhile are passed over.
func (l *Log) Check(ctx context.Context, from uint64, progress func(seq uint64)) (increments.Report, error) {
	head := l.Head()
	at := max(from, l.First())
	r := increments.Report{Log: l.ID(), First: at, Last: head.Seq}
	var before event.Position // the end of the segment before, when that was sound
	for at <= head.Seq && at > 0 {
		if first := l.First(); at < first {
			at, before = first, event.Position{}
			continue
		}
		g := l.set.find(at)
		if g == nil && l.First() > at {
			continue // trimmed since
		}
		if g == nil { // an opened log has no hole, but one that is only looked at
			next := l.set.after(at)
			hole := span{at, next.First - 1}
			r.Damaged = append(r.Damaged, increments.Finding{Segment: hole.String(),
				Err: l.set.damage(hole.String(), "the segments of these increments are missing"), Help: helpMissing})
			at, before = next.First, event.Position{}
			continue
		}
		end, err := l.checkSegment(ctx, g, at, head.Seq, before, &r, progress)
		switch {
		case errors.Is(err, increments.ErrTrimmed):
			continue
		case errors.Is(err, increments.ErrQuarantined), disk.IsDamage(err):
			f := increments.Finding{Segment: g.name, Err: err}
			if g.active.Load() {
				f.Help = helpNewest
			}
			r.Damaged = append(r.Damaged, f)
		case err != nil && ctx.Err() == nil && !errors.Is(err, disk.ErrStopped):
			r.Unreadable = append(r.Unreadable, increments.Finding{Segment: g.name, Err: later(err)})
		case err != nil:
			return r, fmt.Errorf("check: %w", err)
		}
		r.Segments++
		before, at = end, g.Last+1
	}
	return r, nil
}

// checkSegment verifies the records of g between from and head, as they lie on the disk, and returns the position of
// the last one. Damage sets a sealed segment aside. In the newest one it is looked for twice, and it is not set aside:
// what was not read from the disk yet is in memory, and sound.
func (l *Log) checkSegment(ctx context.Context, g *segment, from, head uint64, before event.Position,
	r *increments.Report, progress func(uint64)) (at event.Position, err error) {
	if err := l.set.use(g, func(*disk.DB, event.Position) error { return nil }); err != nil {
		return at, err
	}
	for again := false; ; again = true {
		newest, written := g.active.Load(), g.written()
		n := uint64(0)
		at, n, err = l.checkFiles(ctx, g, from, head, before, progress)
		changed := newest != g.active.Load() || written != g.written()
		g.mu.RLock()
		moved := g.gone || g.renamed != nil
		g.mu.RUnlock()
		switch {
		case err == nil:
			r.Records += n
			return at, nil
		case moved:
			return at, increments.ErrTrimmed // or it has another name: the caller looks again
		case changed || newest && !again && disk.IsDamage(err):
			continue
		case newest && disk.IsDamage(err):
			if l.options.OnUnsound != nil {
				l.options.OnUnsound(g.name, err)
			}
			return at, err
		}
		return at, l.set.quarantine(g, err)
	}
}

// checkFiles is checkSegment for one look at the files. n is how many records were verified.
func (l *Log) checkFiles(ctx context.Context, g *segment, from, head uint64, before event.Position,
	progress func(uint64)) (at event.Position, n uint64, err error) {
	db, base, err := l.openToCheck(g)
	if err != nil {
		return at, 0, err
	}
	defer func() { // it was only read
		if !l.frozen {
			_ = db.Close()
		}
	}()
	if from == g.First && !before.Zero() && before != base {
		return at, 0, l.set.damage(g.name, "it says it begins at %s, but the segment before it ends at %s", base, before)
	}
	to := min(g.Last, head)
	whole, keyed := from == g.First && to == g.Last, 0
	for next := from; next <= to && next >= from; {
		if err := ctx.Err(); err != nil {
			return at, n, err
		}
		end := to
		if to-next >= checkTurn {
			end = next + checkTurn - 1
		}
		err := l.walk(db, g, base, next, end, func(e event.Encoded) bool {
			at = event.Position{Log: l.ID(), Seq: e.Seq(), Chain: e.Chain()}
			if rec, err := e.Decode(); err == nil && rec.Key != "" {
				keyed++
			}
			n++
			return true
		})
		if err != nil {
			return at, n, err
		}
		if next = at.Seq + 1; progress != nil {
			progress(at.Seq)
		}
	}
	if !whole {
		return at, n, nil
	}
	keys, err := l.checkKeys(db, g)
	if err == nil && keys != keyed {
		err = l.checkRepeated(ctx, db, g, base, keys, keyed)
	}
	return at, n, err
}

// openToCheck opens the files of a segment anew. A log that is only looked at has nothing in memory that its files do
// not hold, and its database is that of the readers.
func (l *Log) openToCheck(g *segment) (db *disk.DB, base event.Position, err error) {
	if !l.frozen {
		return l.set.look(g)
	}
	err = l.set.use(g, func(open *disk.DB, b event.Position) error {
		db, base = open, b
		return nil
	})
	return db, base, err
}

// checkKeys checks where the idempotency entries of a full segment lead to, and counts them.
func (l *Log) checkKeys(db *disk.DB, g *segment) (n int, err error) {
	c := db.Range(idemFrom, idemTo)
	for ; c.Next(); n++ {
		if e, perr := parseEntry(c.Value()); perr != nil || e.seq < g.First || e.seq > g.Last {
			err = l.set.damage(g.name, "the idempotency key %.80q leads to %d", bytes.ToValidUTF8(c.Key(), nil), e.seq)
		}
	}
	return n, errors.Join(err, c.Close())
}

// checkRepeated compares the entries of a segment, n of them, with its records that have a key, which are not as
// many: a key that was forgotten and used again within the segment leads to its last record.
func (l *Log) checkRepeated(ctx context.Context, db *disk.DB, g *segment, base event.Position, n, keyed int) error {
	found := 0
	var key []byte
	for next := g.First; next <= g.Last && next >= g.First; next += checkTurn {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		werr := l.walk(db, g, base, next, next+min(checkTurn-1, g.Last-next), func(e event.Encoded) bool {
			rec, derr := e.Decode()
			if derr != nil || rec.Key == "" {
				return true
			}
			key = idemKey(key[:0], &rec.Headers)
			value, gerr := db.Get(key)
			at, perr := parseEntry(value)
			switch {
			case gerr != nil && !errors.Is(gerr, disk.ErrNotFound):
				err = gerr
			case gerr != nil || perr != nil || at.seq < rec.Seq:
				err = l.set.damage(g.name, "the idempotency key of record %d is missing", rec.Seq)
			case at.seq == rec.Seq:
				found++
			}
			return err == nil
		})
		if err := cmp.Or(err, werr); err != nil {
			return err
		}
	}
	if found != n {
		return l.set.damage(g.name, "%d idempotency keys for %d records that have one, of which %d lead to theirs", n, keyed,
			found)
	}
	return nil
}

// CheckOffline checks the log in a directory that no broker has open, without changing it: what opening writes stays
// in memory. Segments that cannot be opened are reported as well. checkpoint is as of VerifyCheckpoint; it is
// compared unless the newest segment is damaged. fs.ErrNotExist: there is no log. The error is otherwise as Check's,
// or that of a log in use.
func CheckOffline(ctx context.Context, dir string, checkpoint event.Position,
	progress func(seq uint64)) (increments.Report, error) {
	place, storage := disk.FrozenDir(dir), disk.NewStorage(disk.Options{})
	names, err := storage.Sweep(place)
	names, _ = split(names) // the index can be made again
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("no segment: %w", fs.ErrNotExist)
	}
	if err != nil {
		return increments.Report{}, fmt.Errorf("check %s: %w", dir, err)
	}
	var r increments.Report
	var found []increments.Finding
	var spans []span
	for _, name := range names {
		s, err := parseSpan(name)
		help := helpForeign
		if n := len(spans); err == nil && n > 0 && spans[n-1].Last >= s.First {
			err, help = fmt.Errorf("the segment overlaps %s", spans[n-1]), helpOverlap
		}
		if err != nil {
			found = append(found, increments.Finding{Segment: name, Err: err, Help: help})
			continue
		}
		spans = append(spans, s)
	}
	for n := len(spans); n > 0; n-- { // the newest that can be opened is the end of what can be checked
		l := prepare(place, storage, Options{RingBytes: 1, Walk: 1})
		err := l.look(spans[:n])
		if err == nil {
			if r, err = l.Check(ctx, 0, progress); err == nil && n == len(spans) {
				err = compare(&r, l, checkpoint)
			}
			for i := range r.Damaged {
				if n < len(spans) && r.Damaged[i].Segment == spans[n-1].String() {
					r.Damaged[i].Help = "" // it is not the newest of the log
				}
			}
			r.Damaged = append(r.Damaged, found...)
			return r, errors.Join(err, l.Close())
		}
		if err = errors.Join(err, l.Close()); !disk.IsDamage(err) {
			return r, fmt.Errorf("check %s: %w", dir, later(err))
		}
		f := increments.Finding{Segment: spans[n-1].String(), Err: err}
		if n == len(spans) {
			f.Help = helpNewest
		}
		found = append(found, f)
	}
	r.Damaged = found
	return r, nil
}

// compare notes whether what the checkpoint vouches for is there.
func compare(r *increments.Report, l *Log, checkpoint event.Position) error {
	err := l.VerifyCheckpoint(checkpoint)
	switch {
	case errors.Is(err, increments.ErrQuarantined):
		return nil // which is reported
	case disk.IsDamage(err):
		r.Missing, err = err, nil
	}
	return err
}

// look opens segments for Check, the last one as the newest.
func (l *Log) look(spans []span) (err error) {
	list := make([]*segment, len(spans))
	for i, s := range spans {
		list[i] = newSegment(s)
	}
	newest := list[len(list)-1]
	if newest.db, err = l.storage.Open(l.set.place, newest.name, disk.Newest); err != nil {
		return err
	}
	newest.active.Store(true)
	l.newest, l.frozen = newest, true
	l.set.list.Store(&list)
	low, err := l.readMeta()
	if err != nil {
		return err
	}
	for len(list) > 1 && list[0].Last < low {
		list = list[1:]
	}
	l.begin(list, low, newest.base)
	end, err := l.end(newest)
	if err == nil {
		l.head.Store(&end)
	}
	return err
}

// Stats implements increments.Log.
func (l *Log) Stats() (increments.Stats, error) {
	l.write.Lock()
	newest, closed := l.newest, l.closed
	l.write.Unlock()
	if closed {
		return increments.Stats{}, increments.ErrClosed
	}
	d := l.storage.Stats()
	s := increments.Stats{Head: l.Head(), First: l.First(), Syncs: d.Syncs, SyncP99: d.SyncP99, RingBytes: l.ring.size()}
	for _, g := range l.set.segments() {
		s.Segments++
		if g.isOpen() {
			s.OpenSegments++
		}
		if g.damaged.Load() != nil {
			s.Quarantined = append(s.Quarantined, g.name)
		}
		n, err := l.set.place.Size(g.name)
		if err != nil {
			return s, fmt.Errorf("stats: %w", err)
		}
		s.Bytes += n
	}
	s.Indexed = l.index.through.Load()
	for _, name := range l.index.names() {
		n, err := l.set.place.Size(name)
		if err != nil {
			return s, fmt.Errorf("stats: %w", err)
		}
		s.IndexBytes += n
	}
	err := l.set.use(newest, func(db *disk.DB, _ event.Position) (err error) {
		n, err := db.Stats()
		s.Unmerged, s.WritePaused = n.Level0, n.WritePaused
		return err
	})
	if errors.Is(err, increments.ErrQuarantined) {
		err = nil
	}
	return s, err
}
