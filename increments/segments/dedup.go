package segments

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/increments"
)

// same reports whether a record has the topic and the body of d.
func same(e event.Encoded, d *event.Draft) bool {
	return string(e.Topic()) == d.Topic && bytes.Equal(e.Body(), d.Body)
}

// producerCounter is the counter of the producer whose drafts are being prepared: they mostly come in rows.
type producerCounter struct {
	producer string
	at       counter
	moved    bool   // it has to be written
	number   uint64 // of the draft at hand
	counts   bool   // the draft at hand has a number, n
}

// turn goes on to the draft d.
func (t *producerCounter) turn(l *Log, g *AppendGroup, d *event.Draft) {
	t.number, t.counts = d.Number()
	if !t.counts || d.Producer == t.producer {
		return
	}
	t.settle(l, g)
	t.producer, t.at = d.Producer, l.counters[d.Producer]
}

// settle notes where the producer's counter stands.
func (t *producerCounter) settle(l *Log, g *AppendGroup) {
	if t.moved {
		l.counters[t.producer] = t.at
		g.batch.Put(counterKey(t.producer), t.at.value())
		t.moved = false
	}
}

// clockAhead is how far the clock of a producer that numbers by it may be ahead of ours.
const clockAhead = 24 * time.Hour

// jumps reports whether the number at hand is so far above the highest one that it must be a mistake. It would make all
// numbers below it too old for ever.
func (t *producerCounter) jumps(d *event.Draft, now int64) bool {
	if !t.at.counted || t.at.sparse || t.number <= t.at.highest || t.number-t.at.highest <= increments.MaxJump {
		return false
	}
	return !d.Clock || t.number > uint64(now+int64(clockAhead))
}

// known returns the outcome of a draft that is refused or was stored before; false when it is new.
func (l *Log) known(d *event.Draft, t *producerCounter, now int64) (event.Outcome, bool) {
	if err := increments.CheckDraft(d); err != nil {
		return event.Outcome{Err: err}, true
	}
	if d.Key == "" {
		return event.Outcome{}, false
	}
	// What is above the highest is new, and nothing has to be looked up; unless the counter was reset since it was used.
	above := t.counts && (!t.at.counted || t.number > t.at.highest)
	if !above || t.at.reset > 0 && l.remembered(t.at.reset) {
		if out, found := l.before(d, t); found {
			return out, true
		}
	}
	switch {
	case !t.counts:
		return event.Outcome{}, false
	case t.at.counted && t.number <= t.at.highest:
		return event.Outcome{Err: fmt.Errorf("number %d of producer %s: %w: its highest is %d", t.number, d.Producer,
			increments.ErrTooOld, t.at.highest)}, true
	case t.jumps(d, now):
		return event.Outcome{Err: fmt.Errorf("number %d of producer %s: %w: its highest is %d, and a number is at "+
			"most %d above it, "+
			"unless the producer's first one says Xmq-Sparse: 1; `xmq producer reset %s` forgets the highest one",
			t.number, d.Producer, increments.ErrJump, t.at.highest, increments.MaxJump, d.Producer)}, true
	}
	return event.Outcome{}, false
}

// remembered reports whether the keys of the record with this sequence count, which is prepared or stored.
func (l *Log) remembered(seq uint64) bool { return l.ahead.Seq-seq < l.options.Window }

// before looks for an earlier draft with the key of d; false when there is none that counts.
func (l *Log) before(d *event.Draft, t *producerCounter) (event.Outcome, bool) {
	for _, g := range l.pending {
		if seq, ok := g.find(d, t.number, t.counts); ok && l.remembered(seq) {
			return repeated(d, seq, g.holds(seq, d)), true
		}
	}
	e, err := l.lookup(&d.Headers)
	switch {
	case errors.Is(err, disk.ErrNotFound):
		return event.Outcome{}, false
	case err != nil:
		return event.Outcome{Err: fmt.Errorf("look up key %.80q: %w", d.Key, err)}, true
	case e.old:
		is, err := l.holds(e.seq, d)
		if err != nil {
			return event.Outcome{Err: fmt.Errorf("look up key %.80q, read increment %d: %w", d.Key, e.seq, err)}, true
		}
		return repeated(d, e.seq, is), true
	}
	return repeated(d, e.seq, e.digest == digest(d.Topic, d.Body)), true
}

// repeated is the outcome of a draft whose key the record with the sequence seq has; is says whether that is the same
// increment.
func repeated(d *event.Draft, seq uint64, is bool) event.Outcome {
	if is {
		return event.Outcome{Seq: seq, Duplicate: true}
	}
	what := "key"
	if _, counts := d.Number(); counts {
		what = "number"
	}
	return event.Outcome{Err: fmt.Errorf("%s %.80q: %w: it is that of increment %d, which has another body or topic",
		what, d.Key, increments.ErrKeyReused, seq)}
}

// remember puts the draft's key into the batch of its record, which is the newest.
func (l *Log) remember(g *AppendGroup, d *event.Draft, t *producerCounter) {
	if d.Key == "" {
		return
	}
	seq := l.ahead.Seq
	entry{seq: seq, digest: digest(d.Topic, d.Body)}.put(&g.value)
	l.key = idemKey(l.key[:0], &d.Headers)
	g.batch.Put(l.key, g.value[:])
	if !t.counts {
		if g.free == nil {
			g.free = make(map[idem]uint64)
		}
		g.free[idem{d.Producer, d.Key}] = seq
		return
	}
	t.at.sparse = t.at.sparse || !t.at.counted && d.Sparse
	t.at.highest, t.at.counted, t.moved = t.number, true, true // above the highest, or known would have found it
	if i := len(g.runs) - 1; i >= 0 {
		if r := &g.runs[i]; t.number == r.counter+r.n && seq == r.seq+r.n && r.producer == d.Producer {
			r.n++
			return
		}
	}
	g.runs = append(g.runs, run{d.Producer, t.number, seq, 1})
}

// lookup finds the entry of an idempotency key that is remembered. Caller holds write.
func (l *Log) lookup(h *event.Headers) (entry, error) {
	l.key = idemKey(l.key[:0], h)
	e, err := l.find(l.key)
	before := event.Headers{Producer: h.Producer, Key: h.Key}
	n, counted := before.Number()
	if !errors.Is(err, disk.ErrNotFound) || !h.TextKey || !counted {
		return e, err
	}
	l.key = numberKey(l.key[:0], h.Producer, n) // the first revision took this key for a number
	if e, err = l.find(l.key); err == nil && !e.old {
		err = disk.ErrNotFound
	}
	return e, err
}

// find searches the segments that are not indexed, the newest first, and then the index.
func (l *Log) find(key []byte) (entry, error) {
	for {
		through := l.index.through.Load()
		e, err := l.searchSegments(key, through)
		if errors.Is(err, disk.ErrNotFound) {
			e, err = l.index.get(key, through, l.Head().Seq)
		}
		switch {
		case errors.Is(err, errBroken):
			continue // the segments have to be searched farther back
		case err == nil && !l.remembered(e.seq):
			err = disk.ErrNotFound
		}
		return e, err
	}
}

// searchSegments searches the segments that end after through and hold something of the window.
func (l *Log) searchSegments(key []byte, through uint64) (e entry, err error) {
	list := l.set.segments()
	for i := len(list) - 1; i >= 0; i-- {
		g := list[i]
		if g != l.newest && (g.Last <= through || !l.remembered(g.Last)) {
			break
		}
		if len(list)-1-i > maxSearched {
			return e, errNotIndexed
		}
		err := l.set.use(g, func(db *disk.DB, _ event.Position) (err error) {
			value, err := db.Get(key)
			if err != nil {
				return err
			}
			if e, err = parseEntry(value); err != nil || e.seq < g.First || e.seq > min(g.Last, l.ahead.Seq) {
				return l.set.damage(g.name, "an entry of its idempotency keys leads to %d", e.seq)
			}
			return nil
		})
		switch {
		case err == nil:
			return e, nil
		case errors.Is(err, disk.ErrNotFound), errors.Is(err, increments.ErrTrimmed) && g != l.newest,
			errors.Is(err, increments.ErrQuarantined) && g != l.newest:
			continue // what is set aside counts as freed; what was freed since was indexed before
		}
		return e, err
	}
	return e, disk.ErrNotFound
}

// holds reports whether the stored record with the sequence seq has the topic and the body of d; true when it cannot be
// read any more.
func (l *Log) holds(seq uint64, d *event.Draft) (bool, error) {
	records, err := l.Read(seq, 1, 1)
	switch {
	case errors.Is(err, increments.ErrTrimmed), errors.Is(err, increments.ErrQuarantined):
		return true, nil
	case err != nil:
		return false, err
	}
	return same(records[0], d), nil
}

// idemKey appends the idempotency key of a draft that has one.
func idemKey(dst []byte, h *event.Headers) []byte {
	if n, ok := h.Number(); ok {
		return numberKey(dst, h.Producer, n)
	}
	return append(append(append(append(dst, 'i'), h.Producer...), 0, '='), h.Key...)
}

// numberKey appends the key of a producer's number.
func numberKey(dst []byte, producer string, n uint64) []byte {
	return recordKey(append(append(append(dst, 'i'), producer...), 0, '#'), n)
}

func counterKey(producer string) []byte {
	return append(append([]byte(nil), counterFrom...), producer...)
}

// entry is what an idempotency key leads to.
type entry struct {
	seq    uint64
	digest uint64 // of topic and body
	old    bool   // written by the first revision: it has no digest
}

// entrySize is the length of an entry with a digest.
const entrySize = 17

func (e entry) put(b *[entrySize]byte) {
	b[0] = formatKeys
	binary.LittleEndian.PutUint64(b[1:], e.seq)
	binary.LittleEndian.PutUint64(b[9:], e.digest)
}

func parseEntry(b []byte) (entry, error) {
	if len(b) == entrySize && b[0] == formatKeys {
		return entry{seq: binary.LittleEndian.Uint64(b[1:]), digest: binary.LittleEndian.Uint64(b[9:])}, nil
	}
	n, err := parseNumber(b)
	return entry{seq: n, old: true}, err
}

// digest is the first 8 bytes of SHA-256 of the topic's length in 2 bytes, the topic and the body.
func digest(topic string, body []byte) uint64 {
	h := sha256.New()
	var b [2 + event.MaxHeaderValue]byte
	binary.LittleEndian.PutUint16(b[:], uint16(len(topic)))
	h.Write(b[:2+copy(b[2:], topic)])
	h.Write(body)
	var sum [sha256.Size]byte
	return binary.LittleEndian.Uint64(h.Sum(sum[:0]))
}
