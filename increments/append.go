package increments

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"xmq/broker/disk"
	"xmq/broker/event"
)

// MaxRecord is the longest encoded record, in bytes: one must fit into a frame of one event.
const MaxRecord = event.MaxBody - 5

// Outcome is what became of one draft.
type Outcome struct {
	Seq       uint64 // its sequence; of a duplicate, the sequence it got at first; 0 when Err is set
	Duplicate bool   // it was there before, by its idempotency key: nothing was stored
	Err       error  // ErrTooOld, ErrTooLarge, ErrInvalid, ErrFull: refused, nothing was stored
}

// Append puts drafts at the end of the log in order and returns one outcome for each. A refused draft does
// not hinder the others. It copies what it keeps. It is Prepare and Commit in one.
//
// The drafts are written as one batch with one sync, or as several when they cross the border of a segment.
// It blocks for these syncs; calls exclude each other, so there should be one writer that groups (up to
// about 4,000 drafts and 2 MiB; there is no hard limit). When the error is nil everything that has a
// sequence survives kill and power loss and is visible to readers.
//
// An error means: the outcome of every draft is unknown, some may be in the log after a restart, every
// later call fails alike, and the process must end (the error wraps disk.ErrStopped). ErrClosed: nothing was done.
// disk.ErrDescriptors: the rest waits for a segment for which no file descriptor is left; nothing has failed, and drafts with
// keys may be appended again.
//
// A draft with a Key is stored once. A Key that is a decimal number of a named Producer counts: above the
// producer's highest it is new, at or below it is looked up within the window and answered with its
// sequence, or refused with ErrTooOld. Any other Key is looked up within the window and is otherwise new.
// Rules: XI-1, XQ-6.
func (l *Log) Append(drafts []event.Draft) ([]Outcome, error) {
	l.turn.Lock()
	defer l.turn.Unlock()
	out := make([]Outcome, len(drafts))
	for done := 0; done < len(drafts); {
		g := &l.own
		g.Reset()
		n, err := l.Prepare(g, drafts[done:], out[done:])
		if err == nil || errors.Is(err, disk.ErrDescriptors) {
			err = errors.Join(err, l.Commit(g))
		}
		if err != nil {
			return nil, err
		}
		done += n
	}
	return out, nil
}

// recordSize is the length of a draft once encoded.
func recordSize(d *event.Draft) int {
	n := 30 + len(d.Body) // see event's doc.go
	for _, h := range [...]string{d.Topic, d.ContentType, d.Origin, d.Producer, d.Key} {
		if h != "" {
			n += 3 + len(h)
		}
	}
	return n
}

// check refuses drafts that no record can hold.
func check(d *event.Draft) error {
	if len(d.Body) == 0 {
		return fmt.Errorf("%w: the body is empty", ErrInvalid)
	}
	if n := recordSize(d); n > MaxRecord {
		return fmt.Errorf("%w: %d bytes, allowed are %d", ErrTooLarge, n, MaxRecord)
	}
	for _, h := range [...]string{d.Topic, d.ContentType, d.Origin, d.Producer, d.Key} {
		if len(h) > event.MaxHeaderValue {
			return fmt.Errorf("%w: a header of %d bytes, allowed are %d", ErrTooLarge, len(h), event.MaxHeaderValue)
		}
	}
	if strings.IndexByte(d.Producer, 0) >= 0 {
		return fmt.Errorf("%w: the producer's name holds a NUL", ErrInvalid)
	}
	return nil
}

// lookup finds the sequence of an idempotency key, newest segment first, back to the window.
func (l *Log) lookup(h *event.Headers) (uint64, error) {
	l.key = idemKey(l.key[:0], h)
	head, list := l.Head().Seq, l.shelf.segments()
	for i := len(list) - 1; i >= 0; i-- {
		g := list[i]
		if g.Last < head && head-g.Last >= l.options.Window {
			break
		}
		var value []byte
		err := l.shelf.use(g, func(db *disk.DB, _ event.Position) (err error) {
			value, err = db.Get(l.key)
			return err
		})
		if errors.Is(err, disk.ErrNotFound) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("look up key %.80q: %w", h.Key, err)
		}
		seq, err := parseNumber(value)
		if err != nil || seq < g.First || seq > min(g.Last, head) {
			return 0, fmt.Errorf("look up key %.80q: %w", h.Key, l.shelf.judge(g, l.shelf.damage(g.name, "its entry leads to %d", seq)))
		}
		return seq, nil
	}
	return 0, disk.ErrNotFound
}

// roll seals the newest segment, which is full, and makes the next one.
func (l *Log) roll() error {
	head := l.ahead // which is durable: nothing is under way
	old := l.newest
	g, err := l.make(spanFrom(head.Seq+1, l.options.MaxRecords), head, l.First(), l.counters)
	if err != nil {
		return fmt.Errorf("roll behind %d: %w", head.Seq, err)
	}
	list := append([]*segment(nil), l.shelf.segments()...)
	list = append(list, g)
	l.shelf.list.Store(&list)
	l.newest = g
	old.active.Store(false)
	old.closeIfIdle() // readers open it again, with less memory
	return nil
}

// make creates a segment with everything that must outlive the segments before it.
func (l *Log) make(s span, base event.Position, low uint64, counters map[string]uint64) (*segment, error) {
	var first disk.Batch
	first.Put(keyLog, number(uint64(base.Log)))
	first.Put(keyBase, baseValue(base))
	first.Put(keyLow, number(low))
	for producer, n := range counters {
		first.Put(counterKey(producer), number(n))
	}
	g := newSegment(s)
	db, err := l.ground.Create(l.shelf.place, g.name, disk.Newest, &first)
	if errors.Is(err, fs.ErrExist) && l.begun == g.name { // an earlier try made it, and had no descriptor to open it
		if db, err = l.ground.Open(l.shelf.place, g.name, disk.Newest); err == nil {
			err = db.Write(&first) // what has changed since
		}
	}
	if errors.Is(err, disk.ErrDescriptors) {
		l.begun = g.name
	}
	if err != nil {
		return nil, err
	}
	g.db, g.base = db, base
	g.active.Store(true)
	return g, nil
}
