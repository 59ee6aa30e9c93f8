package segments

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/increments"
)

// Read implements increments.Reader. Near the head the records are shared with all other readers, farther back they
// are read from disk; it ends with a segment.
func (l *Log) Read(from uint64, maxRecords, maxBytes int) ([]event.Encoded, error) {
	head := l.Head()
	switch {
	case from < l.First():
		return nil, fmt.Errorf("read from %d: %w: the log begins with %d", from, increments.ErrTrimmed, l.First())
	case from > head.Seq:
		if from-head.Seq == 1 {
			return nil, nil
		}
		return nil, fmt.Errorf("read from %d: %w: the log ends with %d", from, increments.ErrBeyond, head.Seq)
	}
	if records, ok := l.ring.read(from, head.Seq, maxRecords, maxBytes); ok {
		return records, nil
	}
	records, err := l.stored(from, head.Seq, maxRecords, maxBytes)
	if err != nil {
		return nil, fmt.Errorf("read from %d: %w", from, l.set.later(err))
	}
	return records, nil
}

// Unreadable implements increments.Log.
func (l *Log) Unreadable() (at time.Time, err error) {
	if f := l.set.failed.Load(); f != nil {
		return f.at, f.err
	}
	return time.Time{}, nil
}

// readChunk is how much memory a read from disk takes at a time, in bytes.
const readChunk = 64 << 10

// stored reads records of one segment from disk, from..to at most.
func (l *Log) stored(from, to uint64, maxRecords, maxBytes int) (out []event.Encoded, err error) {
	g := l.set.find(from)
	if g == nil {
		return nil, increments.ErrTrimmed // since the caller looked
	}
	to = min(to, g.Last)
	err = l.set.use(g, func(db *disk.DB, base event.Position) error {
		var arena []byte
		bytes := 0
		out = nil
		return l.walk(db, g, base, from, to, func(e event.Encoded) bool {
			if len(out) > 0 && (len(out) >= maxRecords || bytes+len(e) > maxBytes) {
				return false
			}
			if cap(arena)-len(arena) < len(e) {
				arena = make([]byte, 0, max(len(e), min(readChunk, maxBytes-bytes)))
			}
			at := len(arena)
			arena = append(arena, e...)
			out = append(out, event.Encoded(arena[at:len(arena):len(arena)]))
			bytes += len(e)
			return len(out) < maxRecords
		})
	})
	return out, err
}

// walk calls f with the records from..to of an open segment in order, each verified (CRC, sequence, chain)
// and borrowed until f returns; f returns false to end it. Whatever is missing or does not follow is Damage.
func (l *Log) walk(db *disk.DB, g *segment, base event.Position, from, to uint64, f func(event.Encoded) bool) error {
	first, limit := recordRange(max(from-1, g.First), to) // the predecessor has the chain to begin with
	c := db.Range(first, limit)
	at, err := base, error(nil)
	var key [digits]byte
	if from > g.First {
		at.Seq = from - 2
	}
	for at.Seq < to && c.Next() {
		e := event.Encoded(c.Value())
		if !bytes.Equal(c.Key(), recordKey(key[:0], at.Seq+1)) {
			err = l.set.damage(g.name, "record %d is missing, %q follows", at.Seq+1, c.Key())
			break
		}
		if verr := e.Verify(); verr != nil {
			err = l.set.damage(g.name, "under key %d: %v", at.Seq+1, verr)
			break
		}
		if follows := e.Seq() == at.Seq+1 && (e.Seq() < from || e.Follows(at)); !follows {
			err = l.set.damage(g.name, "record %d under key %d does not follow its predecessor", e.Seq(), at.Seq+1)
			break
		}
		at.Seq, at.Chain = e.Seq(), e.Chain()
		if at.Seq >= from && !f(e) {
			return c.Close()
		}
	}
	if cerr := c.Close(); cerr != nil || err != nil {
		return errors.Join(err, cerr)
	}
	if at.Seq != to {
		return l.set.damage(g.name, "record %d is missing", at.Seq+1)
	}
	return nil
}

// Position implements increments.Reader.
func (l *Log) Position(seq uint64) (event.Position, error) {
	head, first := l.Head(), l.First()
	switch {
	case seq < first-1:
		return event.Position{}, fmt.Errorf("position at %d: %w: the log begins with %d", seq, increments.ErrTrimmed, first)
	case seq > head.Seq:
		return event.Position{}, fmt.Errorf("position at %d: %w: the log ends with %d", seq, increments.ErrBeyond, head.Seq)
	case seq == head.Seq:
		return head, nil
	}
	if p, ok := l.ring.position(seq); ok {
		return p, nil
	}
	p := event.Position{Log: l.ID(), Seq: seq}
	g := l.set.find(max(seq, first))
	if g == nil {
		return p, fmt.Errorf("position at %d: %w", seq, increments.ErrTrimmed)
	}
	err := l.set.use(g, func(db *disk.DB, base event.Position) error {
		if seq == base.Seq {
			p = base
			return nil
		}
		value, err := db.Get(recordKey(nil, seq))
		if errors.Is(err, disk.ErrNotFound) {
			return l.set.damage(g.name, "record %d is missing", seq)
		}
		if err != nil {
			return err
		}
		e := event.Encoded(value)
		if err := e.Verify(); err != nil || e.Seq() != seq {
			return l.set.damage(g.name, "under key %d: not that record (%v)", seq, err)
		}
		p.Chain = e.Chain()
		return nil
	})
	if err != nil {
		return event.Position{}, fmt.Errorf("position at %d: %w", seq, l.set.later(err))
	}
	return p, nil
}

// VerifyCheckpoint implements increments.Log.
func (l *Log) VerifyCheckpoint(p event.Position) error {
	if p.Zero() {
		return nil
	}
	refuse := func(format string, args ...any) error {
		return &disk.Damage{File: l.set.place.String(), Offset: -1, What: fmt.Sprintf("acknowledged increments are missing: "+
			"the checkpoint is at %s, but ", p) + fmt.Sprintf(format, args...)}
	}
	head := l.Head()
	switch {
	case p.Log != l.ID():
		return refuse("this is log %s", l.ID())
	case p.Seq > head.Seq:
		return refuse("the log ends at %s", head)
	case p.Seq < l.First()-1:
		return nil
	}
	at, err := l.Position(p.Seq)
	if err != nil {
		return fmt.Errorf("verify checkpoint: %w", err)
	}
	if at != p {
		return refuse("the log has chain %s there", at.Chain)
	}
	return nil
}
