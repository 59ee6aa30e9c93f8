package segments

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/increments"
)

// index holds the idempotency keys of sealed segments: those of the window outlive the segments of their records. It is
// a row of generations, each a database for a part of the window, so that old keys go as a whole. All of it is derived:
// what is missing or damaged is made again from the segments that are there.
//
// Keys of a sealed segment that are not in it yet are looked up in the segment itself; through says where that ends.
type index struct {
	place    disk.Place
	through  atomic.Uint64 // the keys of all records up to there are in it, or are lost; 0 while it is broken
	wake     chan struct{} // one slot: a segment was sealed, or the index is broken
	closing  atomic.Bool
	onForget func(from, to uint64, why error)

	work  sync.Mutex // of the one who changes it; before mu, when both are held
	begin uint64     // where the oldest generation begins; under work

	mu     sync.RWMutex // whoever reads holds it, so that nothing is closed under him
	list   []*generation
	broken error // found by a reader: nothing in list counts any more
}

// generation is one database of the index.
type generation struct {
	name           string
	first, through uint64 // of the records whose keys it holds, both included; through below first when there are none yet
	db             *disk.DB
}

// The names of generations, and the keys in them besides those that are copied from segments.
const generationPrefix = "keys-"

var (
	keyThrough = []byte("m/through")
	keyBegin   = []byte("m/begin")
)

// maxSearched is how many sealed segments are searched for a key at most. More are not yet indexed only at the first
// start on a log that has no index: then a draft whose key has to be looked up is told to come again.
const maxSearched = 8

// The size of one batch of keys that are copied.
const (
	copyKeys  = 4096
	copyBytes = 512 << 10
)

var (
	errNotIndexed = errors.New("the index of idempotency keys is still being built")
	errBroken     = errors.New("the index of idempotency keys is broken")
)

func newIndex(place disk.Place, o *Options) index {
	return index{place: place, onForget: o.OnForget, wake: make(chan struct{}, 1)}
}

func generationName(first uint64) string {
	return string(recordKey([]byte(generationPrefix), first))
}

func (ix *index) rouse() {
	select {
	case ix.wake <- struct{}{}:
	default:
	}
}

// get returns the newest entry of a key in a log that ends with head, for somebody who has searched the segments that
// end after through. errBroken: the index does not reach as far any more, because nothing in it counts; ask again.
func (ix *index) get(key []byte, through, head uint64) (entry, error) {
	e, err := ix.search(key, through, head)
	if disk.IsDamage(err) {
		ix.breakDown(err)
		return e, errBroken
	}
	return e, err
}

func (ix *index) search(key []byte, through, head uint64) (entry, error) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if ix.closing.Load() {
		return entry{}, increments.ErrClosed
	}
	if ix.through.Load() < through { // it broke meanwhile, and may even have been begun anew
		return entry{}, errBroken
	}
	if ix.broken != nil {
		return entry{}, disk.ErrNotFound // through is 0: the segments were searched
	}
	for i := len(ix.list) - 1; i >= 0; i-- {
		g := ix.list[i]
		value, err := g.db.Get(key)
		if errors.Is(err, disk.ErrNotFound) {
			continue
		}
		if err != nil {
			return entry{}, err
		}
		e, err := parseEntry(value)
		if err != nil || e.seq < g.first || e.seq > head {
			return e, &disk.Damage{File: ix.place.String() + "/" + g.name, Offset: -1,
				What: fmt.Sprintf("an entry leads to %d", e.seq)}
		}
		return e, nil
	}
	return entry{}, disk.ErrNotFound
}

// breakDown says that nothing in the index counts any more. It is made again by the next advance.
func (ix *index) breakDown(why error) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.broken == nil {
		ix.broken = why
		ix.through.Store(0)
	}
	ix.rouse()
}

// reach notes that the keys up to seq are in the index, unless it broke meanwhile.
func (ix *index) reach(seq uint64) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.broken == nil {
		ix.through.Store(seq)
	}
}

// names are those of its databases.
func (ix *index) names() (names []string) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	for _, g := range ix.list {
		names = append(names, g.name)
	}
	return names
}

// split takes the names of generations out of those that lie in the log's place.
func split(names []string) (segments, generations []string) {
	for _, name := range names {
		if strings.HasPrefix(name, generationPrefix) {
			generations = append(generations, name)
		} else {
			segments = append(segments, name)
		}
	}
	return segments, generations
}

// openIndex opens what is there of the index. What does not fit together, or not to this log, is made again by the next
// advance. The head is known.
func (l *Log) openIndex(names []string) error {
	ix := &l.index
	for _, name := range slices.Backward(names) { // the newest one says where the oldest begins
		// it could not be removed
		if first, ok := parseSequence(strings.TrimPrefix(name, generationPrefix)); ok && first < ix.begin {
			if err := l.storage.Drop(l.set.place, name); err != nil {
				return err
			}
			continue
		}
		g, err := l.openGeneration(name)
		if disk.IsDamage(err) {
			ix.breakDown(err)
			g, err = &generation{name: name}, nil
		}
		if err != nil {
			return err
		}
		ix.list = append(ix.list, g)
	}
	slices.Reverse(ix.list)
	if err := l.fitIndex(); err != nil && ix.broken == nil {
		ix.breakDown(err)
	}
	if n := len(ix.list); n > 0 {
		l.indexed = true
		ix.reach(ix.list[n-1].through)
		return nil
	}
	if !l.indexed {
		return l.restartIndex(nil)
	}
	return l.restartIndex(errors.New("their index is missing"))
}

func (l *Log) openGeneration(name string) (*generation, error) {
	first, ok := parseSequence(strings.TrimPrefix(name, generationPrefix))
	if !ok {
		return nil, l.set.damage(name, "%.60q is not the name of a part of the index of keys", name)
	}
	db, err := l.storage.Open(l.set.place, name, disk.Index)
	if err != nil {
		return nil, err
	}
	g := &generation{name: name, first: first, db: db}
	var log, begin uint64
	for _, m := range []struct {
		key  []byte
		into *uint64
	}{{keyLog, &log}, {keyThrough, &g.through}, {keyBegin, &begin}} {
		value, err := db.Get(m.key)
		if err == nil {
			*m.into, err = parseNumber(value)
		}
		if errors.Is(err, disk.ErrNotFound) || errors.Is(err, event.ErrDamaged) {
			err = l.set.damage(name, "its %s is not readable", m.key)
		}
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	if event.LogID(log) != l.ID() {
		return nil, errors.Join(l.set.damage(name, "it belongs to log %s, not to %s", event.LogID(log), l.ID()), db.Close())
	}
	if len(l.index.list) == 0 { // it is the newest
		l.index.begin = begin
	}
	return g, nil
}

// fitIndex checks that no generation is missing and that none is of a later log than this.
func (l *Log) fitIndex() error {
	list, head := l.index.list, l.Head().Seq
	for i, g := range list {
		switch {
		case g.db == nil:
			return nil // broken already
		case i == 0 && g.first > l.index.begin:
			return l.set.damage(g.name, "the part of the index before it is missing")
		case i > 0 && g.first != list[i-1].through+1:
			return l.set.damage(g.name, "the index before it ends with %d", list[i-1].through)
		case g.through > head:
			return l.set.damage(g.name, "it holds keys up to %d, but the log ends with %d", g.through, head)
		}
	}
	return nil
}

// oldest is the first sequence whose key is remembered when the log ends with head.
func (l *Log) oldest(head uint64) uint64 {
	return head + 1 - min(head, l.options.Window)
}

// restartIndex begins the index anew, with the first segment that holds keys of the window, and tells which keys of the
// window are lost; why is nil when there was none before. Its generations are gone.
func (l *Log) restartIndex(why error) error {
	ix, head := &l.index, l.Head().Seq
	oldest, list := l.oldest(head), l.set.segments()
	from := list[len(list)-1].First
	for _, g := range list {
		if g.Last >= oldest {
			from = g.First
			break
		}
	}
	ix.reach(from - 1)
	if from > oldest && why != nil && ix.onForget != nil {
		ix.onForget(oldest, from-1, why)
	}
	return nil
}

// Index copies the keys of sealed segments into the index, as segments are sealed, until ctx ends; then it returns
// nil. It is for one goroutine beside all others, which it does not hinder: until a segment is indexed its keys are
// looked up in the segment. Another error is ErrClosed, storage that has stopped (the process must end), or trouble
// that may pass: call it again later.
func (l *Log) Index(ctx context.Context) error {
	for {
		more, err := l.advance(ctx, l.options.CheckSpace)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("index of idempotency keys: %w", err)
		case more:
			continue
		}
		select {
		case <-l.index.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// indexBelow copies all keys of sealed segments below keep, which are about to be freed.
func (l *Log) indexBelow(keep uint64) error {
	for {
		if g := l.unindexed(); g == nil || g.Last >= keep {
			return nil
		}
		if _, err := l.advance(context.Background(), nil); err != nil {
			return err
		}
	}
}

// unindexed is the oldest sealed segment whose keys are not in the index; nil for none.
func (l *Log) unindexed() *segment {
	through, list := l.index.through.Load(), l.set.segments()
	for _, g := range list[:len(list)-1] {
		if g.Last > through {
			return g
		}
	}
	return nil
}

// advance copies the keys of one sealed segment, or makes a broken index anew; false when there is nothing to do.
// room, if not nil, says whether the disk has room for it.
func (l *Log) advance(ctx context.Context, room func() error) (more bool, err error) {
	ix := &l.index
	ix.work.Lock()
	defer ix.work.Unlock()
	if ix.closing.Load() {
		return false, increments.ErrClosed
	}
	if err := l.clearBroken(); err != nil {
		return false, err
	}
	g := l.unindexed()
	if g == nil {
		return false, nil
	}
	if room != nil {
		if err := room(); err != nil {
			return false, err
		}
	}
	if err = l.indexSegment(ctx, g); err == nil {
		err = l.dropOld()
	}
	if disk.IsDamage(err) { // of the index: a segment's own is ErrQuarantined
		ix.breakDown(err)
		err = nil
	}
	return err == nil, err
}

// clearBroken removes a broken index and begins a new one. What cannot be removed now is removed by the next call.
// Caller holds work.
func (l *Log) clearBroken() error {
	ix := &l.index
	ix.mu.RLock()
	why, old := ix.broken, ix.list
	ix.mu.RUnlock()
	if why == nil {
		return nil
	}
	for len(old) > 0 {
		g := old[0]
		ix.mu.Lock() // nobody reads a broken one any more
		ix.list = old
		ix.mu.Unlock()
		if err := l.dropGeneration(g); err != nil {
			return err
		}
		old = old[1:]
	}
	ix.mu.Lock()
	ix.list, ix.broken = nil, nil
	ix.mu.Unlock()
	return l.restartIndex(why)
}

func (l *Log) dropGeneration(g *generation) error {
	if g.db != nil {
		_ = g.db.Close() // it has nothing to lose
		g.db = nil
	}
	return l.storage.Drop(l.set.place, g.name)
}

// dropOld removes the generations that hold nothing of the window any more; the newest one stays. Caller holds work.
func (l *Log) dropOld() error {
	ix, oldest := &l.index, l.oldest(l.Head().Seq)
	n := 0
	for n < len(ix.list)-1 && ix.list[n].through < oldest {
		n++
	}
	if n == 0 {
		return nil
	}
	var b disk.Batch
	b.Put(keyBegin, number(ix.list[n].first))
	if err := ix.list[len(ix.list)-1].db.Write(&b); err != nil {
		return err
	}
	ix.begin = ix.list[n].first
	ix.mu.Lock()
	old := ix.list[:n:n]
	ix.list = ix.list[n:]
	ix.mu.Unlock()
	for _, g := range old {
		if err := l.dropGeneration(g); err != nil {
			return err
		}
	}
	return nil
}

// grow makes a new generation for the keys of the next segment when the newest covers a fourth of the window. Caller
// holds work.
func (l *Log) grow() error {
	ix := &l.index
	if n := len(ix.list); n > 0 {
		if g := ix.list[n-1]; g.through+1-g.first < max(l.options.Window/4, 1) {
			return nil
		}
	}
	through := ix.through.Load()
	if len(ix.list) == 0 {
		ix.begin = through + 1
	}
	g := &generation{name: generationName(through + 1), first: through + 1, through: through}
	var first disk.Batch
	first.Put(keyLog, number(uint64(l.ID())))
	first.Put(keyBegin, number(ix.begin))
	first.Put(keyThrough, number(through))
	var err error
	g.db, err = l.storage.Create(l.set.place, g.name, disk.Index, &first)
	if errors.Is(err, fs.ErrExist) { // an earlier try made it, and had no descriptor to open it
		if g.db, err = l.storage.Open(l.set.place, g.name, disk.Index); err == nil {
			err = g.db.Write(&first)
		}
	}
	if err != nil {
		return err
	}
	ix.mu.Lock()
	ix.list = append(ix.list[:len(ix.list):len(ix.list)], g)
	ix.mu.Unlock()
	return l.noteIndex()
}

// noteIndex writes into the newest segment that there is an index, so that a missing one is known for lost.
func (l *Log) noteIndex() error {
	l.write.Lock()
	defer l.write.Unlock()
	if l.closed {
		return increments.ErrClosed
	}
	l.indexed = true
	l.store.Lock()
	defer l.store.Unlock()
	var b disk.Batch
	b.Put(keyIndex, number(1))
	return l.newest.db.Write(&b)
}

// indexSegment copies the keys of g, which follows what is indexed, unless they are too old. A damaged segment is
// passed over: its keys count as those that were freed. Caller holds work.
func (l *Log) indexSegment(ctx context.Context, g *segment) error {
	ix := &l.index
	var batch disk.Batch
	if g.Last >= l.oldest(l.Head().Seq) {
		if err := l.copyKeys(ctx, g, &batch); err != nil && !errors.Is(err, increments.ErrQuarantined) {
			return err
		}
	}
	if n := len(ix.list); n > 0 { // without any, the segments are looked through again at the next start
		into := ix.list[n-1]
		batch.Put(keyThrough, number(g.Last))
		if err := into.db.Write(&batch); err != nil {
			return err
		}
		into.through = g.Last
	}
	ix.reach(g.Last)
	return nil
}

// copyKeys writes the keys of g into the newest generation, in synced batches, and leaves the last of them in batch.
func (l *Log) copyKeys(ctx context.Context, g *segment, batch *disk.Batch) error {
	from := idemFrom
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if l.index.closing.Load() {
			return increments.ErrClosed
		}
		if batch.Len() > 0 {
			if err := l.index.list[len(l.index.list)-1].db.Write(batch); err != nil {
				return err
			}
			batch.Reset()
		}
		err := l.set.use(g, func(db *disk.DB, _ event.Position) (err error) {
			from, more, err = l.takeKeys(db, g, from, batch)
			return err
		})
		if err == nil && batch.Len() > 0 {
			err = l.grow()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// takeKeys puts the keys of g from one on into a batch, and returns where it has to go on; false when those were all.
func (l *Log) takeKeys(db *disk.DB, g *segment, from []byte, batch *disk.Batch) (next []byte, more bool, err error) {
	c, bytes := db.Range(from, idemTo), 0
	for c.Next() {
		if batch.Len() >= copyKeys || bytes >= copyBytes {
			next, more = append(next, c.Key()...), true
			break
		}
		if e, perr := parseEntry(c.Value()); perr != nil || e.seq < g.First || e.seq > g.Last {
			err = l.set.damage(g.name, "an entry of its idempotency keys leads to %d", e.seq)
			break
		}
		batch.Put(c.Key(), c.Value())
		bytes += len(c.Key()) + entrySize
	}
	return next, more, errors.Join(err, c.Close())
}

// close ends whoever works at it and closes its databases.
func (ix *index) close() error {
	ix.closing.Store(true)
	ix.work.Lock()
	defer ix.work.Unlock()
	ix.mu.Lock()
	defer ix.mu.Unlock()
	var errs []error
	for _, g := range ix.list {
		if g.db != nil {
			errs = append(errs, g.db.Close())
		}
	}
	ix.list = nil
	return errors.Join(errs...)
}
