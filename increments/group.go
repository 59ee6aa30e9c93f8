package increments

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

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
	number  [9]byte
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
	if err := l.ground.Latch().Err(); err != nil {
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
		return 0, fmt.Errorf("append: %w", l.ground.Latch().Trip(err))
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

// pack moves records that take less than half of the memory they keep alive into memory of their own size.
func (g *Group) pack() {
	size := 0
	for _, e := range g.records {
		size += len(e)
	}
	if size > g.memory/2 && len(g.records) > cap(g.records)/2 {
		return
	}
	arena, records := make([]byte, 0, size), make([]event.Encoded, len(g.records))
	for i, e := range g.records {
		at := len(arena)
		arena = append(arena, e...)
		records[i] = event.Encoded(arena[at:len(arena):len(arena)])
	}
	g.records, g.memory = records, cap(arena)
}

// fill prepares drafts one by one. Caller holds write.
func (l *Log) fill(g *Group, drafts []event.Draft, out []Outcome) (int, error) {
	now := l.options.Now().UnixNano()
	var tally tally
	defer func() { tally.settle(l, g) }()
	for n := range drafts {
		d := &drafts[n]
		size := recordSize(d)
		tally.turn(l, g, d)
		settled := false
		if out[n], settled = l.known(d, &tally); settled {
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
		l.put(g, d, now)
		out[n].Seq = l.ahead.Seq
		l.remember(g, d, &tally)
	}
	return len(drafts), nil
}

// put encodes one draft behind all before it.
func (l *Log) put(g *Group, d *event.Draft, now int64) {
	start := len(g.arena)
	g.arena, l.ahead.Chain = event.EncodeRecord(g.arena, l.ahead.Seq+1, now, l.ahead.Chain, *d)
	l.ahead.Seq++
	e := event.Encoded(g.arena[start:len(g.arena):len(g.arena)])
	g.records = append(g.records, e)
	l.key = recordKey(l.key[:0], l.ahead.Seq)
	g.batch.Put(l.key, e)
}

// tally is the highest counter of the producer whose drafts are being prepared: they mostly come in rows.
type tally struct {
	producer string
	highest  uint64
	known    bool // there is a highest one
	moved    bool // it has to be written
	n        uint64
	counts   bool // n is the counter of the draft at hand
}

// turn goes on to the draft d.
func (t *tally) turn(l *Log, g *Group, d *event.Draft) {
	if d.Key == "" {
		t.counts = false
		return
	}
	if d.Producer != t.producer {
		t.settle(l, g)
		t.producer = d.Producer
		t.highest, t.known = l.counters[d.Producer]
	}
	t.n, t.counts = counter(&d.Headers)
}

// settle notes where the producer's counter stands.
func (t *tally) settle(l *Log, g *Group) {
	if t.moved {
		l.counters[t.producer] = t.highest
		g.batch.Put(counterKey(t.producer), number(t.highest))
		t.moved = false
	}
}

// known returns the outcome of a draft that is refused or was stored before; false when it is new.
func (l *Log) known(d *event.Draft, t *tally) (Outcome, bool) {
	if err := check(d); err != nil {
		return Outcome{Err: err}, true
	}
	if d.Key == "" || t.counts && (!t.known || t.n > t.highest) {
		return Outcome{}, false
	}
	for _, g := range l.pending {
		if seq, ok := g.find(d, t.n, t.counts); ok {
			return Outcome{Seq: seq, Duplicate: true}, true
		}
	}
	seq, err := l.lookup(&d.Headers)
	switch {
	case err == nil:
		return Outcome{Seq: seq, Duplicate: true}, true
	case !errors.Is(err, disk.ErrNotFound):
		return Outcome{Err: err}, true
	case t.counts:
		return Outcome{Err: fmt.Errorf("number %d of producer %s: %w: its highest is %d", t.n, d.Producer, ErrTooOld, t.highest)}, true
	}
	return Outcome{}, false
}

// remember puts the draft's key into the batch of its record, which is the newest.
func (l *Log) remember(g *Group, d *event.Draft, t *tally) {
	if d.Key == "" {
		return
	}
	seq := l.ahead.Seq
	g.number[0] = format
	binary.LittleEndian.PutUint64(g.number[1:], seq)
	if !t.counts {
		l.key = idemKey(l.key[:0], &d.Headers)
		g.batch.Put(l.key, g.number[:])
		if g.free == nil {
			g.free = make(map[idem]uint64)
		}
		g.free[idem{d.Producer, d.Key}] = seq
		return
	}
	l.key = recordKey(append(append(append(l.key[:0], 'i'), d.Producer...), 0, '#'), t.n)
	g.batch.Put(l.key, g.number[:])
	t.highest, t.known, t.moved = t.n, true, true // above the highest, or known would have found it
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
		return fmt.Errorf("append: %w", l.ground.Latch().Trip(fmt.Errorf("a group that begins with %d is committed behind %d", first, head)))
	}
	if err := g.segment.db.Write(&g.batch); err != nil {
		return fmt.Errorf("append: %w", l.ground.Latch().Trip(err))
	}
	g.pack()
	l.ring.add(g.records, g.memory)
	end := g.end
	l.head.Store(&end)
	return nil
}
