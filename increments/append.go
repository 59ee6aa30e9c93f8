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
	Err       error  // ErrTooOld, ErrKeyReused, ErrJump, ErrTooLarge, ErrInvalid, ErrFull: refused, nothing was stored; others: as Append says
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
// A draft with a Key is stored once as long as the key is remembered, which is for the last Options.Window increments. The
// same key with another body or topic is refused with ErrKeyReused. A key that is a number of its Producer (Headers.Number) counts:
// above the producer's highest it is new, at or below it is looked up and answered with its sequence, or refused with
// ErrTooOld. One that is more than MaxJump above the highest is refused with ErrJump, unless it is the producer's first,
// or the first said Sparse, or (Clock) it is not ahead of our own clock. Any other key is new when it is not found. Keys of
// drafts without a Producer are a name space of their own. An error of another kind says that the key cannot be looked up
// now: nothing was stored, and the same draft may come again. Rules: XI-1, XQ-6.
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
	if d.TextKey {
		n += event.TextKeySize
	}
	if d.Limit != 0 {
		n += event.LimitSize
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
	l.index.rouse()
	return nil
}

// make creates a segment with everything that must outlive the segments before it.
func (l *Log) make(s span, base event.Position, low uint64, counters map[string]counter) (*segment, error) {
	var first disk.Batch
	first.Put(keyLog, number(uint64(base.Log)))
	first.Put(keyBase, baseValue(base))
	first.Put(keyLow, number(low))
	if l.indexed {
		first.Put(keyIndex, number(1))
	}
	for producer, c := range counters {
		first.Put(counterKey(producer), c.value())
	}
	g := newSegment(s)
	db, err := l.storage.Create(l.shelf.place, g.name, disk.Newest, &first)
	if errors.Is(err, fs.ErrExist) && l.begun == g.name { // an earlier try made it, and had no descriptor to open it
		if db, err = l.storage.Open(l.shelf.place, g.name, disk.Newest); err == nil {
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
