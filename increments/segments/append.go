package segments

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/increments"
)

// Append implements increments.Log. The drafts are written as one batch, or as several when they cross the border of
// a segment: up to about 4,000 drafts and 2 MiB make a good group; there is no hard limit.
func (l *Log) Append(drafts []event.Draft) ([]event.Outcome, error) {
	l.turn.Lock()
	defer l.turn.Unlock()
	out := make([]event.Outcome, len(drafts))
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

// border is the last sequence of the newest segment: what its name says, or earlier when MaxRecords has become smaller
// since it was made. It may lie before the end of the log; then the segment ends where that is. Caller holds write.
func (l *Log) border() uint64 {
	return min(l.newest.Last, spanFrom(l.newest.First, l.options.MaxRecords).Last)
}

// Resize implements increments.Log.
func (l *Log) Resize(records uint64) (end uint64) {
	l.write.Lock()
	defer l.write.Unlock()
	l.options.MaxRecords = records
	return max(l.border(), l.Head().Seq)
}

// roll seals the newest segment, which is full, and makes the next one.
func (l *Log) roll() error {
	head := l.ahead // which is durable: nothing is under way
	if l.newest.Last > head.Seq {
		if err := l.cut(head.Seq); err != nil {
			return fmt.Errorf("end the segment %s with %d: %w", l.newest.name, head.Seq, err)
		}
	}
	next := spanFrom(head.Seq+1, l.options.MaxRecords)
	if begun, err := parseSpan(l.begun); err == nil && begun.First == next.First {
		next = begun // it may lie there already, made while MaxRecords was another
	}
	old := l.newest
	g, err := l.make(next, head, l.First(), l.counters)
	if err != nil {
		return fmt.Errorf("roll after %d: %w", head.Seq, err)
	}
	list := append([]*segment(nil), l.set.segments()...)
	list = append(list, g)
	l.set.list.Store(&list)
	l.newest = g
	old.active.Store(false)
	old.closeIfIdle() // readers open it again, with less memory
	l.index.rouse()
	return nil
}

// cut gives the newest segment a name that ends with head, its last record, which is durable. That is one step, of
// which each side is a legal end of a log: a segment with room, or one that is full. The next segment is made after
// it, so no crash leaves two that overlap. Readers wait while the database is closed and opened.
func (l *Log) cut(head uint64) error {
	l.store.Lock()
	defer l.store.Unlock()
	old := l.newest
	old.mu.Lock()
	defer old.mu.Unlock()
	g := newSegment(span{old.First, head})
	g.base = old.base
	g.damaged.Store(old.damaged.Load())
	g.active.Store(true)
	if err := old.db.Close(); err != nil {
		return l.storage.Latch().Trip(err)
	}
	err := l.storage.Rename(l.set.place, old.name, g.name)
	later := errors.Is(err, disk.ErrDescriptors)
	if err != nil && !later {
		return err
	}
	name := g.name
	if later { // it has its old name still
		name = old.name
	}
	db, oerr := l.storage.Open(l.set.place, name, disk.Newest)
	if oerr != nil { // nothing can be written any more, also for want of a descriptor; the next start finds a whole log
		return l.storage.Latch().Trip(errors.New(oerr.Error()))
	}
	if later {
		old.db = db
		return err
	}
	g.db, old.db, old.renamed = db, nil, g
	list := slices.Clone(l.set.segments())
	list[len(list)-1] = g
	l.set.list.Store(&list)
	l.newest = g
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
	db, err := l.storage.Create(l.set.place, g.name, disk.Newest, &first)
	if errors.Is(err, fs.ErrExist) && l.begun == g.name { // an earlier try made it, and had no descriptor to open it
		if db, err = l.storage.Open(l.set.place, g.name, disk.Newest); err == nil {
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

// Group is drafts on their way into the log. Prepare puts them in, Commit makes them durable. The zero Group is empty;
// Reset makes one usable again that is committed.
type AppendGroup struct {
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

// Reset implements increments.AppendGroup. What it held of the records belongs to readers.
func (g *AppendGroup) Reset() {
	g.batch.Reset()
	clear(g.free)
	clear(g.runs)
	g.segment = nil
	g.records = nil
	g.arena = nil
	g.memory = 0
	g.runs = g.runs[:0]
	g.listed = false
}

// Records implements increments.AppendGroup.
func (g *AppendGroup) Records() int { return len(g.records) }

// find returns the sequence that the group gives to a keyed draft.
func (g *AppendGroup) find(d *event.Draft, n uint64, counts bool) (uint64, bool) {
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
func (g *AppendGroup) holds(seq uint64, d *event.Draft) bool {
	return same(g.records[seq-g.records[0].Seq()], d)
}

// NewGroup implements increments.Log.
func (l *Log) NewGroup() increments.AppendGroup { return new(AppendGroup) }

// Prepare implements increments.Log. A border is that of a segment: the newest one is full.
func (l *Log) Prepare(group increments.AppendGroup, drafts []event.Draft, out []event.Outcome) (int, error) {
	g := group.(*AppendGroup)
	l.write.Lock()
	defer l.write.Unlock()
	if l.closed {
		return 0, increments.ErrClosed
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
func (g *AppendGroup) expect(drafts []event.Draft) {
	g.due = 0
	for i := range drafts {
		g.due += increments.RecordSize(&drafts[i])
	}
}

// room makes room for a record of n bytes.
func (g *AppendGroup) room(n int) {
	if cap(g.arena)-len(g.arena) < n {
		g.arena = make([]byte, 0, max(n, min(g.due, arenaSize)))
		g.memory += cap(g.arena)
	}
}

// pack returns the records and the memory they keep alive, in bytes; those that take less than half of it are copied
// into memory of their own size. The group keeps its own: the next one is prepared beside it.
func (g *AppendGroup) pack() ([]event.Encoded, int) {
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
func (l *Log) fill(g *AppendGroup, drafts []event.Draft, out []event.Outcome) (int, error) {
	read := l.options.Now()
	now, at := read.UnixNano(), l.clock.at(read)
	var counter producerCounter
	defer func() { counter.settle(l, g) }()
	for n := range drafts {
		d := &drafts[n]
		size := increments.RecordSize(d)
		counter.turn(l, g, d)
		settled := false
		if out[n], settled = l.known(d, &counter, now); settled {
			g.due -= size
			continue
		}
		if l.ahead.Seq == math.MaxUint64 {
			out[n].Err = increments.ErrFull
			g.due -= size
			continue
		}
		if l.ahead.Seq >= l.border() {
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
		l.put(g, d, l.clock.next(at))
		out[n].Seq = l.ahead.Seq
		l.remember(g, d, &counter)
	}
	return len(drafts), nil
}

// put encodes one draft after all before it.
func (l *Log) put(g *AppendGroup, d *event.Draft, at int64) {
	start := len(g.arena)
	g.arena, l.ahead.Chain = event.EncodeRecord(g.arena, l.ahead.Seq+1, at, l.ahead.Chain, *d)
	l.ahead.Seq++
	e := event.Encoded(g.arena[start:len(g.arena):len(g.arena)])
	g.records = append(g.records, e)
	l.key = recordKey(l.key[:0], l.ahead.Seq)
	g.batch.Put(l.key, e)
}

// Commit implements increments.Log.
func (l *Log) Commit(group increments.AppendGroup) error {
	g := group.(*AppendGroup)
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

func (l *Log) persist(g *AppendGroup) error {
	l.store.Lock()
	defer l.store.Unlock()
	if l.closed {
		return increments.ErrClosed
	}
	if g.segment == nil {
		return nil // refused or known, all of them
	}
	if first, head := g.records[0].Seq(), l.Head().Seq; first != head+1 {
		return fmt.Errorf("append: %w", l.storage.Latch().Trip(fmt.Errorf("a group that begins with %d is committed after %d",
			first, head)))
	}
	if err := g.segment.db.Write(&g.batch); err != nil {
		return fmt.Errorf("append: %w", l.storage.Latch().Trip(err))
	}
	l.ring.add(g.pack())
	end := g.end
	l.head.Store(&end)
	return nil
}
