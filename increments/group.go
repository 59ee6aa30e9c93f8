package increments

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"

	"xmq/broker/disk"
	"xmq/broker/event"
)

// Group is drafts on their way into the log. Prepare puts them in, Commit makes them durable. The zero Group is empty;
// Reset makes one usable again that is committed.
type Group struct {
	batch   disk.Batch
	segment *segment // nil while nothing is to be written
	records []event.Encoded
	arena   []byte // where records lie; it becomes the ring's
	memory  int    // bytes of all its arenas
	due     int    // bytes of the drafts that are not prepared yet
	end     event.Position
	free    map[idem]uint64 // its keyed drafts whose keys do not count
	runs    []run           // those whose keys do
	listed  bool            // the log knows it as pending
	value   [entrySize]byte
}

// idem names a keyed draft without copying its strings.
type idem struct{ producer, key string }

// run is drafts of one producer with consecutive counters and sequences.
type run struct {
	producer     string
	counter, seq uint64
	n            uint64
}

// Reset empties a group that is committed. What it held of the records belongs to readers.
func (g *Group) Reset() {
	g.batch.Reset()
	clear(g.free)
	clear(g.runs)
	g.segment, g.records, g.arena, g.memory, g.runs, g.listed = nil, nil, nil, 0, g.runs[:0], false
}

// Records is how many drafts it will store.
func (g *Group) Records() int { return len(g.records) }

// find returns the sequence that the group gives to a keyed draft.
func (g *Group) find(d *event.Draft, n uint64, counts bool) (uint64, bool) {
	if !counts {
		seq, ok := g.free[idem{d.Producer, d.Key}]
		return seq, ok
	}
	for i := len(g.runs) - 1; i >= 0; i-- {
		if r := &g.runs[i]; n-r.counter < r.n && r.producer == d.Producer {
			return r.seq + n - r.counter, true
		}
	}
	return 0, false
}

// holds reports whether the record with the sequence seq, which is one of the group's, has the topic and the body of d.
func (g *Group) holds(seq uint64, d *event.Draft) bool {
	return same(g.records[seq-g.records[0].Seq()], d)
}

// same reports whether a record has the topic and the body of d.
func same(e event.Encoded, d *event.Draft) bool {
	return string(e.Topic()) == d.Topic && bytes.Equal(e.Body(), d.Body)
}

// Prepare gives drafts their sequences behind everything prepared before and puts them into g, which may hold some
// already. out, as long as drafts, is told what becomes of each, as Append says; it is true only once Commit has
// returned nil. It blocks for no sync, except of a new segment. It copies what it keeps.
//
// It returns how many drafts are settled: fewer than all when the newest segment is full. Then g and every group before it has
// to be committed before Prepare is called for the rest with an empty one. An error is as Append's; but with disk.ErrDescriptors,
// which comes when a new segment has to be made and no file descriptor is left, nothing has failed: Prepare is called again
// with the same group for the drafts that are not settled.
//
// It is for one writer that calls Prepare in the order of the drafts and Commit in the order of the groups, from two goroutines
// if it likes, so that one group is prepared while the one before it is synced. Append is not called meanwhile.
func (l *Log) Prepare(g *Group, drafts []event.Draft, out []Outcome) (int, error) {
	l.write.Lock()
	defer l.write.Unlock()
	if l.closed {
		return 0, ErrClosed
	}
	if err := l.storage.Latch().Err(); err != nil {
		return 0, fmt.Errorf("append: %w", err)
	}
	if len(l.pending) == 0 {
		l.ahead = l.Head()
	}
	if !g.listed {
		g.listed, l.pending = true, append(l.pending, g)
	}
	g.expect(drafts)
	n, err := l.fill(g, drafts, out)
	g.end = l.ahead
	if errors.Is(err, disk.ErrDescriptors) {
		return n, fmt.Errorf("append: %w", err)
	}
	if err != nil {
		return 0, fmt.Errorf("append: %w", l.storage.Latch().Trip(err))
	}
	return n, nil
}

// arenaSize is how much memory records are given at a time, in bytes.
const arenaSize = 64 << 10

// expect says what drafts may need: room is made as they turn out to be new, since most of them may be known.
func (g *Group) expect(drafts []event.Draft) {
	g.due = 0
	for i := range drafts {
		g.due += recordSize(&drafts[i])
	}
}

// room makes room for a record of n bytes.
func (g *Group) room(n int) {
	if cap(g.arena)-len(g.arena) < n {
		g.arena = make([]byte, 0, max(n, min(g.due, arenaSize)))
		g.memory += cap(g.arena)
	}
}

// pack returns the records and the memory they keep alive, in bytes; those that take less than half of it are copied into
// memory of their own size. The group keeps its own: the next one is prepared beside it.
func (g *Group) pack() ([]event.Encoded, int) {
	size := 0
	for _, e := range g.records {
		size += len(e)
	}
	if size > g.memory/2 && len(g.records) > cap(g.records)/2 {
		return g.records, g.memory
	}
	arena, records := make([]byte, 0, size), make([]event.Encoded, len(g.records))
	for i, e := range g.records {
		at := len(arena)
		arena = append(arena, e...)
		records[i] = event.Encoded(arena[at:len(arena):len(arena)])
	}
	return records, cap(arena)
}

// fill prepares drafts one by one. Caller holds write.
func (l *Log) fill(g *Group, drafts []event.Draft, out []Outcome) (int, error) {
	read := l.options.Now()
	now, at := read.UnixNano(), l.clock.at(read)
	var tally tally
	defer func() { tally.settle(l, g) }()
	for n := range drafts {
		d := &drafts[n]
		size := recordSize(d)
		tally.turn(l, g, d)
		settled := false
		if out[n], settled = l.known(d, &tally, now); settled {
			g.due -= size
			continue
		}
		if l.ahead.Seq == math.MaxUint64 {
			out[n].Err = ErrFull
			g.due -= size
			continue
		}
		if l.ahead.Seq == l.newest.Last {
			if len(l.pending) > 1 || g.segment != nil {
				return n, nil
			}
			if err := l.roll(); err != nil {
				return n, err
			}
		}
		g.segment = l.newest
		g.room(size)
		g.due -= size
		l.put(g, d, at)
		out[n].Seq = l.ahead.Seq
		l.remember(g, d, &tally)
	}
	return len(drafts), nil
}

// put encodes one draft behind all before it.
func (l *Log) put(g *Group, d *event.Draft, at int64) {
	start := len(g.arena)
	g.arena, l.ahead.Chain = event.EncodeRecord(g.arena, l.ahead.Seq+1, at, l.ahead.Chain, *d)
	l.ahead.Seq++
	e := event.Encoded(g.arena[start:len(g.arena):len(g.arena)])
	g.records = append(g.records, e)
	l.key = recordKey(l.key[:0], l.ahead.Seq)
	g.batch.Put(l.key, e)
}

// tally is the counter of the producer whose drafts are being prepared: they mostly come in rows.
type tally struct {
	producer string
	at       counter
	moved    bool   // it has to be written
	n        uint64 // of the draft at hand
	counts   bool   // the draft at hand has a number, n
}

// turn goes on to the draft d.
func (t *tally) turn(l *Log, g *Group, d *event.Draft) {
	t.n, t.counts = d.Number()
	if !t.counts || d.Producer == t.producer {
		return
	}
	t.settle(l, g)
	t.producer, t.at = d.Producer, l.counters[d.Producer]
}

// settle notes where the producer's counter stands.
func (t *tally) settle(l *Log, g *Group) {
	if t.moved {
		l.counters[t.producer] = t.at
		g.batch.Put(counterKey(t.producer), t.at.value())
		t.moved = false
	}
}

// MaxJump is how far above its highest number a producer may count on at once.
const MaxJump = 1 << 20

// clockAhead is how far the clock of a producer that numbers by it may be ahead of ours.
const clockAhead = 24 * time.Hour

// jumps reports whether the number at hand is so far above the highest one that it must be a mistake. It would make all
// numbers below it too old for ever.
func (t *tally) jumps(d *event.Draft, now int64) bool {
	if !t.at.counted || t.at.sparse || t.n <= t.at.highest || t.n-t.at.highest <= MaxJump {
		return false
	}
	return !d.Clock || t.n > uint64(now+int64(clockAhead))
}

// known returns the outcome of a draft that is refused or was stored before; false when it is new.
func (l *Log) known(d *event.Draft, t *tally, now int64) (Outcome, bool) {
	if err := check(d); err != nil {
		return Outcome{Err: err}, true
	}
	if d.Key == "" {
		return Outcome{}, false
	}
	// What is above the highest is new, and nothing has to be looked up; unless the counter was reset since it was used.
	if above := t.counts && (!t.at.counted || t.n > t.at.highest); !above || t.at.reset > 0 && l.remembered(t.at.reset) {
		if out, found := l.before(d, t); found {
			return out, true
		}
	}
	switch {
	case !t.counts:
		return Outcome{}, false
	case t.at.counted && t.n <= t.at.highest:
		return Outcome{Err: fmt.Errorf("number %d of producer %s: %w: its highest is %d", t.n, d.Producer, ErrTooOld, t.at.highest)}, true
	case t.jumps(d, now):
		return Outcome{Err: fmt.Errorf("number %d of producer %s: %w: its highest is %d, and a number is at most %d above it, "+
			"unless the producer's first one says Xmq-Sparse: 1; `xmq producer reset %s` lets it begin anew",
			t.n, d.Producer, ErrJump, t.at.highest, MaxJump, d.Producer)}, true
	}
	return Outcome{}, false
}

// remembered reports whether the keys of the record with this sequence count, which is prepared or stored.
func (l *Log) remembered(seq uint64) bool { return l.ahead.Seq-seq < l.options.Window }

// before looks for an earlier draft with the key of d; false when there is none that counts.
func (l *Log) before(d *event.Draft, t *tally) (Outcome, bool) {
	for _, g := range l.pending {
		if seq, ok := g.find(d, t.n, t.counts); ok && l.remembered(seq) {
			return repeated(d, seq, g.holds(seq, d)), true
		}
	}
	e, err := l.lookup(&d.Headers)
	switch {
	case errors.Is(err, disk.ErrNotFound):
		return Outcome{}, false
	case err != nil:
		return Outcome{Err: fmt.Errorf("look up key %.80q: %w", d.Key, err)}, true
	case e.old:
		is, err := l.holds(e.seq, d)
		if err != nil {
			return Outcome{Err: fmt.Errorf("look up key %.80q, read increment %d: %w", d.Key, e.seq, err)}, true
		}
		return repeated(d, e.seq, is), true
	}
	return repeated(d, e.seq, e.digest == digest(d.Topic, d.Body)), true
}

// repeated is the outcome of a draft whose key the record with the sequence seq has; is says whether that is the same
// increment.
func repeated(d *event.Draft, seq uint64, is bool) Outcome {
	if is {
		return Outcome{Seq: seq, Duplicate: true}
	}
	what := "key"
	if _, counts := d.Number(); counts {
		what = "number"
	}
	return Outcome{Err: fmt.Errorf("%s %.80q: %w: it is that of increment %d, which has another body or topic", what, d.Key, ErrKeyReused, seq)}
}

// remember puts the draft's key into the batch of its record, which is the newest.
func (l *Log) remember(g *Group, d *event.Draft, t *tally) {
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
	t.at.highest, t.at.counted, t.moved = t.n, true, true // above the highest, or known would have found it
	if i := len(g.runs) - 1; i >= 0 {
		if r := &g.runs[i]; t.n == r.counter+r.n && seq == r.seq+r.n && r.producer == d.Producer {
			r.n++
			return
		}
	}
	g.runs = append(g.runs, run{d.Producer, t.n, seq, 1})
}

// Commit writes a prepared group as one batch with one sync, for which it blocks. nil: everything in it that has a sequence
// survives kill and power loss and is visible to readers. An error is as Append's.
func (l *Log) Commit(g *Group) error {
	err := l.persist(g)
	l.write.Lock()
	defer l.write.Unlock()
	for i, p := range l.pending {
		if p == g {
			l.pending = append(l.pending[:i], l.pending[i+1:]...)
			l.committed.Broadcast()
			break
		}
	}
	return err
}

func (l *Log) persist(g *Group) error {
	l.store.Lock()
	defer l.store.Unlock()
	if l.closed {
		return ErrClosed
	}
	if g.segment == nil {
		return nil // refused or known, all of them
	}
	if first, head := g.records[0].Seq(), l.Head().Seq; first != head+1 {
		return fmt.Errorf("append: %w", l.storage.Latch().Trip(fmt.Errorf("a group that begins with %d is committed behind %d", first, head)))
	}
	if err := g.segment.db.Write(&g.batch); err != nil {
		return fmt.Errorf("append: %w", l.storage.Latch().Trip(err))
	}
	l.ring.add(g.pack())
	end := g.end
	l.head.Store(&end)
	return nil
}
