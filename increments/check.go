package increments

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"xmq/broker/disk"
	"xmq/broker/event"
)

// Report is what a Check found.
type Report struct {
	Log         event.LogID
	First, Last uint64    // what was looked at
	Records     uint64    // verified
	Segments    int       // looked at
	Damaged     []Finding // set aside
	Unreadable  []Finding // cannot be read now: nothing is known of them
	Missing     error     // acknowledged increments are missing, by the checkpoint
}

// Finding is one segment with something wrong, or a place where one should be.
type Finding struct {
	Segment string // its name
	Err     error  // what and where
}

// checkTurn is how many records Check verifies in one turn.
const checkTurn = 1000

// Check reads the log from sequence from (0: from its beginning) to the head as it is now, and verifies every
// record (CRC, sequence, chain), the borders of segments and the number of idempotency keys. Damaged segments
// are reported, and set aside as a damaged read would; so are those that cannot be read now, and it goes on behind them. It may
// run beside everything else; segments that are trimmed meanwhile are passed over. All is well when it reports nothing.
//
// progress, if not nil, is called about every 1,000 records with the sequence reached; it may block, to slow
// the check down. The error is ctx's, or that of a storage that has stopped; the report then covers what was done.
func (l *Log) Check(ctx context.Context, from uint64, progress func(seq uint64)) (Report, error) {
	head := l.Head()
	at := max(from, l.First())
	r := Report{Log: l.ID(), First: at, Last: head.Seq}
	var before event.Position // the end of the segment before, when that was sound
	for at <= head.Seq && at > 0 {
		if first := l.First(); at < first {
			at, before = first, event.Position{}
			continue
		}
		g := l.shelf.find(at)
		if g == nil && l.First() > at {
			continue // trimmed since
		}
		if g == nil { // an opened log has no hole, but one that is only looked at
			next := l.shelf.after(at)
			hole := span{at, next.First - 1}
			r.Damaged = append(r.Damaged, Finding{hole.String(), l.shelf.damage(hole.String(), "the segments of these increments are missing")})
			at, before = next.First, event.Position{}
			continue
		}
		end, err := l.checkSegment(ctx, g, at, head.Seq, before, &r, progress)
		switch {
		case errors.Is(err, ErrTrimmed):
			continue
		case errors.Is(err, ErrQuarantined):
			r.Damaged = append(r.Damaged, Finding{g.name, err})
		case err != nil && ctx.Err() == nil && !errors.Is(err, disk.ErrStopped):
			r.Unreadable = append(r.Unreadable, Finding{g.name, later(err)})
		case err != nil:
			return r, fmt.Errorf("check: %w", err)
		}
		r.Segments++
		before, at = end, g.Last+1
	}
	return r, nil
}

// checkSegment verifies the records of g between from and head and returns the position of the last one.
func (l *Log) checkSegment(ctx context.Context, g *segment, from, head uint64, before event.Position, r *Report, progress func(uint64)) (at event.Position, err error) {
	to := min(g.Last, head)
	whole, keyed := from == g.First && to == g.Last, 0
	for next := from; next <= to && next >= from; {
		if err := ctx.Err(); err != nil {
			return at, err
		}
		err := l.shelf.use(g, func(db *disk.DB, base event.Position) error {
			if next == g.First && !before.Zero() && before != base {
				return l.shelf.damage(g.name, "it says it begins at %s, but the segment before it ends at %s", base, before)
			}
			end := to
			if to-next >= checkTurn {
				end = next + checkTurn - 1
			}
			return l.walk(db, g, base, next, end, func(e event.Encoded) bool {
				at = event.Position{Log: l.ID(), Seq: e.Seq(), Chain: e.Chain()}
				if rec, err := e.Decode(); err == nil && rec.Key != "" {
					keyed++
				}
				r.Records++
				return true
			})
		})
		if err != nil {
			return event.Position{}, err
		}
		if next = at.Seq + 1; progress != nil {
			progress(at.Seq)
		}
	}
	if !whole {
		return at, nil
	}
	n := 0
	err = l.shelf.use(g, func(db *disk.DB, _ event.Position) (err error) { n, err = l.checkKeys(db, g); return err })
	if err == nil && n != keyed {
		err = l.checkRepeated(ctx, g, n, keyed)
	}
	return at, err
}

// checkKeys checks where the idempotency entries of a full segment lead to, and counts them.
func (l *Log) checkKeys(db *disk.DB, g *segment) (n int, err error) {
	c := db.Range(idemFrom, idemTo)
	for ; c.Next(); n++ {
		if e, perr := parseEntry(c.Value()); perr != nil || e.seq < g.First || e.seq > g.Last {
			err = l.shelf.damage(g.name, "the idempotency key %.80q leads to %d", bytes.ToValidUTF8(c.Key(), nil), e.seq)
		}
	}
	return n, errors.Join(err, c.Close())
}

// checkRepeated compares the entries of a segment, n of them, with its records that have a key, which are not as many: a key that
// was forgotten and used again within the segment leads to its last record.
func (l *Log) checkRepeated(ctx context.Context, g *segment, n, keyed int) error {
	found := 0
	var key []byte
	for next := g.First; next <= g.Last && next >= g.First; next += checkTurn {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := l.shelf.use(g, func(db *disk.DB, base event.Position) (err error) {
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
					err = l.shelf.damage(g.name, "the idempotency key of record %d is missing", rec.Seq)
				case at.seq == rec.Seq:
					found++
				}
				return err == nil
			})
			return cmp.Or(err, werr)
		})
		if err != nil {
			return err
		}
	}
	if found != n {
		return l.shelf.use(g, func(*disk.DB, event.Position) error {
			return l.shelf.damage(g.name, "%d idempotency keys for %d records that have one, of which %d lead to theirs", n, keyed, found)
		})
	}
	return nil
}

// CheckOffline checks the log in a directory that no broker has open, without changing it: what opening writes stays in memory.
// Segments that cannot be opened are reported as well. checkpoint is as of VerifyCheckpoint; it is compared unless the newest
// segment is damaged. fs.ErrNotExist: there is no log. The error is otherwise as Check's, or that of a log in use.
func CheckOffline(ctx context.Context, dir string, checkpoint event.Position, progress func(seq uint64)) (Report, error) {
	place, storage := disk.FrozenDir(dir), disk.NewStorage(disk.Options{})
	names, err := storage.Sweep(place)
	names, _ = split(names) // the index can be made again
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("no segment: %w", fs.ErrNotExist)
	}
	if err != nil {
		return Report{}, fmt.Errorf("check %s: %w", dir, err)
	}
	var r Report
	var found []Finding
	var spans []span
	for _, name := range names {
		s, err := parseSpan(name)
		if n := len(spans); err == nil && n > 0 && spans[n-1].Last >= s.First {
			err = fmt.Errorf("the segment overlaps %s", spans[n-1])
		}
		if err != nil {
			found = append(found, Finding{name, err})
			continue
		}
		spans = append(spans, s)
	}
	for n := len(spans); n > 0; n-- { // the newest that can be opened is the end of what can be checked
		l := prepare(place, storage, Options{RingBytes: 1, Walk: 1})
		err := l.look(spans[:n])
		if err == nil {
			if r, err = l.Check(ctx, 0, progress); err == nil && n == len(spans) {
				err = r.compare(l, checkpoint)
			}
			r.Damaged = append(r.Damaged, found...)
			return r, errors.Join(err, l.Close())
		}
		if err = errors.Join(err, l.Close()); !disk.IsDamage(err) {
			return r, fmt.Errorf("check %s: %w", dir, later(err))
		}
		found = append(found, Finding{spans[n-1].String(), err})
	}
	r.Damaged = found
	return r, nil
}

// compare notes whether what the checkpoint vouches for is there.
func (r *Report) compare(l *Log, checkpoint event.Position) error {
	err := l.VerifyCheckpoint(checkpoint)
	switch {
	case errors.Is(err, ErrQuarantined):
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
	if newest.db, err = l.storage.Open(l.shelf.place, newest.name, disk.Newest); err != nil {
		return err
	}
	newest.active.Store(true)
	l.newest = newest
	l.shelf.list.Store(&list)
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

// Stats describes how the log fares.
type Stats struct {
	Head         event.Position
	First        uint64
	Segments     int
	Quarantined  []string // names of segments set aside
	OpenSegments int
	Bytes        int64  // on disk, without the index
	Indexed      uint64 // the keys of all records up to there are in the index; 0 while it is broken
	IndexBytes   int64  // on disk
	RingBytes    int
	Newest       disk.Stats // stalls announce themselves here
	Disk         disk.StorageStats
	SyncP99      time.Duration // of the last 1024 syncs
}

// Stats returns the figures now. It reads directories, so it is for once a second, not for once a record.
func (l *Log) Stats() (Stats, error) {
	l.write.Lock()
	newest, closed := l.newest, l.closed
	l.write.Unlock()
	if closed {
		return Stats{}, ErrClosed
	}
	d := l.storage.Stats()
	s := Stats{Head: l.Head(), First: l.First(), Disk: d, SyncP99: d.SyncP99, RingBytes: l.ring.size()}
	for _, g := range l.shelf.segments() {
		s.Segments++
		if g.isOpen() {
			s.OpenSegments++
		}
		if g.damaged.Load() != nil {
			s.Quarantined = append(s.Quarantined, g.name)
		}
		n, err := l.shelf.place.Size(g.name)
		if err != nil {
			return s, fmt.Errorf("stats: %w", err)
		}
		s.Bytes += n
	}
	s.Indexed = l.index.through.Load()
	for _, name := range l.index.names() {
		n, err := l.shelf.place.Size(name)
		if err != nil {
			return s, fmt.Errorf("stats: %w", err)
		}
		s.IndexBytes += n
	}
	err := l.shelf.use(newest, func(db *disk.DB, _ event.Position) (err error) {
		s.Newest, err = db.Stats()
		return err
	})
	if errors.Is(err, ErrQuarantined) {
		err = nil
	}
	return s, err
}
