package segments

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/increments"
)

// The defaults of Options.
const (
	DefaultMaxRecords = 2_000_000
	DefaultWindow     = 5_000_000
	DefaultRingBytes  = 64 << 20
	DefaultWalk       = 100_000
	DefaultOpen       = 8
)

// Options of a log. Zero values mean the defaults.
type Options struct {
	// MaxRecords is how many increments a segment holds. The newest one ends at the next append when it holds as many or
	// more; those before it keep their size. Retention frees whole segments, so it is also the grain of retention.
	MaxRecords uint64
	// RingBytes bounds the records kept in memory for readers near the head.
	RingBytes int
	// Window is for how many increments an idempotency key is remembered, whatever retention frees. 0 means DefaultWindow.
	Window uint64
	// Walk is how many of the last records Open verifies. 0 means DefaultWalk.
	Walk uint64
	// OpenSegments bounds the sealed segments that stay open for readers. 0 means DefaultOpen.
	OpenSegments int
	// Now is the clock from which records have their times (see clock). nil means time.Now.
	Now func() time.Time
	// CheckSpace is asked before the journal of a sealed segment is put into tables, which writes as much as the journal
	// holds, once; its error puts that off, and the segment is read all the same. nil allows all.
	CheckSpace func() error
	// SetAside lets Open set a sealed segment that it verifies and finds damaged aside, as a reader would. Without it
	// Open fails.
	SetAside bool
	// OnDamage is told once for each segment that is set aside. nil tells nobody. It is called from
	// readers and the writer and must not call the log.
	OnDamage func(segment string, err error)
	// OnUnsound is told when a check finds damage in the files of the newest segment, each time. It is not set aside: what
	// readers and the writer have of it in memory is sound, but the next Open fails. As OnDamage.
	OnUnsound func(segment string, err error)
	// OnForget is told when the keys of records from..to, which retention has freed, are not known though they lie within
	// the window, and why: their index was missing or damaged. As OnDamage.
	OnForget func(from, to uint64, why error)
}

func (o Options) withDefaults() Options {
	if o.MaxRecords == 0 {
		o.MaxRecords = DefaultMaxRecords
	}
	if o.RingBytes == 0 {
		o.RingBytes = DefaultRingBytes
	}
	if o.Window == 0 {
		o.Window = DefaultWindow
	}
	if o.Walk == 0 {
		o.Walk = DefaultWalk
	}
	if o.OpenSegments == 0 {
		o.OpenSegments = DefaultOpen
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Log is the log of one broker. Append, Trim and Close exclude each other, Prepare and Commit keep their own
// order; everything else is for any goroutine at any time. It starts no goroutines of its own.
type Log struct {
	options Options
	storage *disk.Storage
	set     segmentSet
	index   index
	ring    ring
	head    atomic.Pointer[event.Position]
	low     atomic.Uint64
	frozen  bool // it is only looked at

	turn sync.Mutex // of Append, which has a group of its own
	own  AppendGroup

	write     sync.Mutex // guards what is prepared: what follows
	closed    bool       // written under store as well
	newest    *segment
	left      []*segment         // trimmed, but their files are still there
	begun     string             // the segment that a roll without descriptors may have made
	ahead     event.Position     // the end of what is prepared
	clock     clock              // of the records
	pending   []*AppendGroup     // prepared and not committed, in order
	committed sync.Cond          // pending has become shorter
	indexed   bool               // there is an index of keys, or there was
	counters  map[string]counter // by producer
	key       []byte

	store sync.Mutex // whoever writes to a database; taken after write, when both are held
}

func prepare(place disk.Place, storage *disk.Storage, o Options) *Log {
	o = o.withDefaults()
	l := &Log{
		options: o, storage: storage, index: newIndex(place, &o),
		set: segmentSet{
			place: place, storage: storage, open: o.OpenSegments,
			onDamage: o.OnDamage,
		},
		ring:     ring{limit: o.RingBytes},
		counters: make(map[string]counter),
	}
	l.committed.L = &l.write
	return l
}

// Create makes a new log with an ID of its own in an empty place and opens it. Only an explicit "init" may
// call it: an emptied disk must not look like a new broker. fs.ErrExist: something lies there. When it
// returns nil the log survives power loss.
func Create(place disk.Place, storage *disk.Storage, o Options) (*Log, error) {
	var b [8]byte
	for binary.LittleEndian.Uint64(b[:]) == 0 {
		rand.Read(b[:]) // never fails
	}
	return create(place, storage, o, event.Start(event.LogID(binary.LittleEndian.Uint64(b[:]))))
}

// create makes a log that begins after base.
func create(place disk.Place, storage *disk.Storage, o Options, base event.Position) (*Log, error) {
	names, err := storage.Sweep(place)
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("create log in %s: %w: %q lies there", place, fs.ErrExist, names[0])
	}
	l := prepare(place, storage, o)
	l.set.log = base.Log
	g, err := l.make(spanFrom(base.Seq+1, l.options.MaxRecords), base, base.Seq+1, nil)
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	l.begin([]*segment{g}, base.Seq+1, base)
	l.set.settles(l.options.CheckSpace)
	l.index.reach(base.Seq)
	return l, nil
}

// Open opens the log that lies in place. Interrupted rolls and trims are finished first. The end is the last record;
// the last Options.Walk records are verified and the ring is filled with the newest of them, which takes about a
// second at most. fs.ErrNotExist: there is no log. disk.Damage: a segment is missing, foreign or damaged, or the disk
// cannot read it; nobody may be served (exit 78). Of a sealed one that is damaged it wraps ErrQuarantined, too: see
// Options.SetAside. ErrLater: a file could not be opened this time (exit 75). Nothing of a sealed segment is written.
// The caller compares its checkpoint next (VerifyCheckpoint). Rules: XI-1, XD-6, XD-7, XD-18, XQ-8.
func Open(place disk.Place, storage *disk.Storage, o Options) (*Log, error) {
	l := prepare(place, storage, o)
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("open log: %w", errors.Join(later(err), l.Close()))
	}
	l.set.settles(l.options.CheckSpace)
	return l, nil
}

// load finds the segments and the end of the log.
func (l *Log) load() error {
	list, generations, err := l.listed()
	if err != nil {
		return err
	}
	newest := list[len(list)-1]
	if newest.db, err = l.storage.Open(l.set.place, newest.name, disk.Newest); err != nil {
		return err
	}
	newest.active.Store(true)
	l.newest = newest
	l.set.list.Store(&list) // so that Close finds it whatever follows
	low, err := l.readMeta()
	if err != nil {
		return err
	}
	if list, err = l.retained(list, low); err != nil {
		return err
	}
	l.begin(list, low, newest.base)
	end, err := l.end(newest)
	if err != nil {
		return err
	}
	l.head.Store(&end)
	if err := l.verifyTail(end); err != nil {
		return err
	}
	return l.openIndex(generations)
}

// begin sets the bounds of a log whose newest segment is open and taken as empty.
func (l *Log) begin(list []*segment, low uint64, head event.Position) {
	l.newest = list[len(list)-1]
	l.set.list.Store(&list)
	l.low.Store(low)
	l.head.Store(&head)
	l.ring.reset(head)
}

// listed returns the segments that lie in the place by their names, and the names of the parts of the index.
func (l *Log) listed() (list []*segment, generations []string, err error) {
	names, err := l.storage.Sweep(l.set.place)
	if err != nil {
		return nil, nil, err
	}
	names, generations = split(names)
	for _, name := range names {
		s, err := parseSpan(name)
		if err != nil {
			return nil, nil, l.set.damage(name, "%v", err)
		}
		if n := len(list); n > 0 && list[n-1].Last >= s.First {
			return nil, nil, l.set.damage(name, "the segment overlaps %s", list[n-1].name)
		}
		list = append(list, newSegment(s))
	}
	if len(list) == 0 {
		return nil, nil, fmt.Errorf("no segment in %s: %w", l.set.place, fs.ErrNotExist)
	}
	return list, generations, nil
}

// readMeta reads log ID, low-water mark, base and counters from the newest segment.
func (l *Log) readMeta() (low uint64, err error) {
	g := l.newest
	value, err := l.set.meta(g.db, g.span, keyLog)
	if err != nil {
		return 0, err
	}
	id, err := parseNumber(value)
	if err != nil || id == 0 {
		return 0, l.set.damage(g.name, "its log ID is not readable")
	}
	l.set.log = event.LogID(id)
	if g.base, err = l.set.inspect(g.db, g.span); err != nil {
		return 0, err
	}
	if value, err = l.set.meta(g.db, g.span, keyLow); err != nil {
		return 0, err
	}
	if low, err = parseNumber(value); err != nil || low == 0 {
		return 0, l.set.damage(g.name, "its low-water mark is not readable")
	}
	if _, err = g.db.Get(keyIndex); err != nil && !errors.Is(err, disk.ErrNotFound) {
		return 0, err
	}
	l.indexed, err = err == nil, nil
	c := g.db.Range(counterFrom, counterTo)
	for c.Next() {
		producer := strings.TrimPrefix(string(c.Key()), string(counterFrom))
		n, perr := parseCounter(c.Value())
		if perr != nil {
			err = l.set.damage(g.name, "the counter of producer %.40q is not readable", producer)
		}
		l.counters[producer] = n
	}
	return low, errors.Join(err, c.Close())
}

// retained drops the segments an interrupted Trim left below low and refuses a hole above it.
func (l *Log) retained(list []*segment, low uint64) ([]*segment, error) {
	for len(list) > 1 && list[0].Last < low {
		if err := l.storage.Drop(l.set.place, list[0].name); err != nil {
			return nil, err
		}
		list = list[1:]
	}
	for i, want := 0, low; i < len(list); i++ {
		if list[i].First != want {
			return nil, l.set.damage(list[i].name, "the segment before it is missing: increments from %d on", want)
		}
		want = list[i].Last + 1
	}
	return slices.Clip(list), nil
}

// end returns the position at the last record of the newest segment.
func (l *Log) end(g *segment) (event.Position, error) {
	from, to := recordRange(0, g.Last)
	key, value, err := g.db.Last(from, to)
	if errors.Is(err, disk.ErrNotFound) {
		return g.base, nil
	}
	if err != nil {
		return event.Position{}, err
	}
	e := event.Encoded(value)
	if err := e.Verify(); err != nil {
		return event.Position{}, l.set.damage(g.name, "the last record: %v", err)
	}
	if string(key) != string(recordKey(nil, e.Seq())) || e.Seq() < g.First {
		return event.Position{}, l.set.damage(g.name, "the last record has sequence %d and key %q", e.Seq(), key)
	}
	return event.Position{Log: l.ID(), Seq: e.Seq(), Chain: e.Chain()}, nil
}

// verifyTail walks over the last records, across borders of segments, and fills the ring with the newest. A sealed
// segment that is damaged is an error; with Options.SetAside it is set aside, as a reader would do, and the walk goes
// on after it. Damage in the newest one, which holds the end of the log and is written to, is always an error.
func (l *Log) verifyTail(end event.Position) error {
	from := l.First()
	if end.Seq >= l.options.Walk {
		from = max(from, end.Seq-l.options.Walk+1)
	}
	before := event.Position{} // where the walk stands; zero at its beginning and after what was set aside
	for next := from; next <= end.Seq && next >= from; {
		g := l.set.find(next)
		at, err := l.verifySegment(g, next, end, before)
		if errors.Is(err, increments.ErrQuarantined) && g != l.newest && l.options.SetAside {
			before, next = event.Position{}, g.Last+1
			continue
		}
		if err != nil {
			return err
		}
		before, next = at, at.Seq+1
	}
	if !before.Zero() && before.Seq == end.Seq && before != end {
		return l.set.damage(l.newest.name, "it says it begins at %s, but the segment before it ends at %s", end, before)
	}
	return nil
}

// verifySegment walks over the records of g from next on, which follow before, and returns where they end.
func (l *Log) verifySegment(g *segment, next uint64, end, before event.Position) (at event.Position, err error) {
	err = l.set.use(g, func(_ *disk.DB, base event.Position) error {
		if at = before; before.Zero() && next == g.First {
			at = base
		}
		return nil
	})
	if err == nil && at.Zero() {
		at, err = l.Position(next - 1) // which lies in g
	}
	if err != nil {
		return at, err
	}
	if before.Zero() {
		l.ring.reset(at)
	}
	for to := min(end.Seq, g.Last); at.Seq < to; {
		records, err := l.stored(at.Seq+1, to, 1000, 1<<20)
		if err != nil {
			return at, err
		}
		if !records[0].Follows(at) {
			return at, l.set.quarantine(g, l.set.damage(g.name, "its first record does not follow the segment before it"))
		}
		bytes := 0
		for _, e := range records {
			bytes += len(e)
		}
		l.ring.add(records, (bytes/readChunk+1)*readChunk) // they were read in chunks
		last := records[len(records)-1]
		at.Seq, at.Chain = last.Seq(), last.Chain()
	}
	return at, nil
}

// ID implements increments.Log.
func (l *Log) ID() event.LogID { return l.set.log }

// Head implements increments.Reader.
func (l *Log) Head() event.Position { return *l.head.Load() }

// First implements increments.Reader.
func (l *Log) First() uint64 { return l.low.Load() }

// Close implements increments.Log.
func (l *Log) Close() error {
	errs := []error{l.index.close()} // before the locks, which whoever works at it may want
	l.write.Lock()
	defer l.write.Unlock()
	l.store.Lock()
	defer l.store.Unlock()
	if l.closed || l.set.list.Load() == nil {
		return errors.Join(errs...)
	}
	l.closed = true
	for _, g := range l.set.segments() {
		errs = append(errs, g.shut(true))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}
