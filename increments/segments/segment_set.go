package segments

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/increments"
)

// segment is one LevelDB database of the log. Whoever uses db holds mu for reading; opening and closing
// hold it for writing, so a database is never closed under a reader.
type segment struct {
	span
	name string

	active  atomic.Bool             // the writer's own: it stays open
	damaged atomic.Pointer[damaged] // set once: quarantined
	used    atomic.Uint64           // the set's clock when it was last used

	mu      sync.RWMutex
	settled bool           // its journal is in tables
	db      *disk.DB       // nil while closed
	base    event.Position // before the first record; known once db was open
	gone    bool           // retention has taken it
	renamed *segment       // what it is now: its name has become shorter. nil for most
}

type damaged struct{ err error }

func newSegment(s span) *segment { return &segment{span: s, name: s.String()} }

// segmentSet opens segments when they are read and closes those that were not used for longest.
type segmentSet struct {
	place    disk.Place
	storage  *disk.Storage
	log      event.LogID
	open     int // how many sealed segments stay open
	onDamage func(segment string, err error)
	room     atomic.Pointer[func() error] // nil: no journal is put into tables
	failed   atomic.Pointer[failure]      // the last read that could not be done

	clock atomic.Uint64
	list  atomic.Pointer[[]*segment] // by sequence, without gaps; the last one is written. Replaced, never changed
	tidy  sync.Mutex                 // one closes at a time
}

func (s *segmentSet) segments() []*segment { return *s.list.Load() }

// find returns the segment whose span holds seq, or nil.
func (s *segmentSet) find(seq uint64) *segment {
	list := s.segments()
	i, ok := slices.BinarySearchFunc(list, seq, func(g *segment, seq uint64) int {
		switch {
		case g.Last < seq:
			return -1
		case g.First > seq:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return list[i]
}

// after returns the first segment after seq. There is one for every sequence up to the head.
func (s *segmentSet) after(seq uint64) *segment {
	for _, g := range s.segments() {
		if g.First > seq {
			return g
		}
	}
	return nil
}

// use calls f with the segment's open database. f must be short. A Damage that f or the opening returns
// quarantines the segment: from then on use answers ErrQuarantined.
func (s *segmentSet) use(g *segment, f func(db *disk.DB, base event.Position) error) error {
	for {
		if d := g.damaged.Load(); d != nil {
			return fmt.Errorf("segment %s: %w: %w", g.name, increments.ErrQuarantined, d.err)
		}
		g.used.Store(s.clock.Add(1))
		g.mu.RLock()
		gone, renamed := g.gone, g.renamed
		if g.db != nil {
			err := f(g.db, g.base)
			g.mu.RUnlock()
			return s.quarantine(g, err)
		}
		g.mu.RUnlock()
		if renamed != nil { // since the caller found it
			g = renamed
			continue
		}
		if gone {
			return increments.ErrTrimmed
		}
		if err := s.quarantine(g, s.load(g)); err != nil {
			return err
		}
	}
}

// quarantine passes err on and quarantines the segment when it is Damage.
func (s *segmentSet) quarantine(g *segment, err error) error {
	if !disk.IsDamage(err) {
		return err
	}
	if g.damaged.CompareAndSwap(nil, &damaged{err}) && s.onDamage != nil {
		s.onDamage(g.name, err)
	}
	return fmt.Errorf("segment %s: %w: %w", g.name, increments.ErrQuarantined, err)
}

// load opens a sealed segment and checks that it is this log's and full.
func (s *segmentSet) load(g *segment) error {
	g.mu.Lock()
	defer s.closeIdle() // after the unlock
	defer g.mu.Unlock()
	if g.db != nil || g.gone || g.renamed != nil {
		return nil
	}
	if err := s.settle(g); err != nil {
		return err
	}
	db, err := s.storage.Open(s.place, g.name, disk.Sealed)
	if errors.Is(err, fs.ErrNotExist) {
		err = s.damage(g.name, "the segment is missing")
	}
	if err != nil {
		return err
	}
	base, err := s.inspect(db, g.span)
	if err == nil {
		err = s.full(db, g)
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	g.db, g.base = db, base
	return nil
}

// look opens a segment as it lies on the disk now, beside its readers and its writer, and checks that it is this log's
// and full. What it returns is closed by the caller, soon: see disk.DB.Look.
func (s *segmentSet) look(g *segment) (*disk.DB, event.Position, error) {
	db, err := s.reopen(g)
	if err != nil {
		return nil, event.Position{}, err
	}
	base, err := s.inspect(db, g.span)
	if err == nil && !g.active.Load() {
		err = s.full(db, g)
	}
	if err != nil {
		return nil, event.Position{}, errors.Join(err, db.Close())
	}
	return db, base, nil
}

// reopen opens the files of a segment anew. Nobody settles or renames it meanwhile.
func (s *segmentSet) reopen(g *segment) (*disk.DB, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	switch {
	case g.gone || g.renamed != nil:
		return nil, increments.ErrTrimmed
	case g.db != nil && g.db.Written():
		return g.db.Look()
	}
	db, err := s.storage.Look(s.place, g.name)
	if errors.Is(err, fs.ErrNotExist) {
		err = s.damage(g.name, "the segment is missing: put its directory back before the broker is stopped")
	}
	return db, err
}

// settles lets the journals of sealed segments be put into tables where room says nil.
func (s *segmentSet) settles(room func() error) {
	if room == nil {
		room = func() error { return nil }
	}
	s.room.Store(&room)
}

// settle puts the journal of a sealed segment into tables, once, when there is room. What hinders it hinders no
// reader, but for a failed write.
func (s *segmentSet) settle(g *segment) error {
	room := s.room.Load()
	if room == nil || g.settled || (*room)() != nil {
		return nil
	}
	err := s.storage.Settle(s.place, g.name)
	if g.settled = err == nil; errors.Is(err, disk.ErrStopped) {
		return err
	}
	return nil
}

// failure is a read that could not be done, and when.
type failure struct {
	err error
	at  time.Time
}

// later classes the error of a read: what is no verdict on the records says ErrLater.
func later(err error) error {
	if err == nil || disk.IsDamage(err) {
		return err
	}
	for _, verdict := range []error{increments.ErrTrimmed, increments.ErrBeyond, increments.ErrQuarantined,
		increments.ErrLater, disk.ErrStopped, fs.ErrNotExist} {
		if errors.Is(err, verdict) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", increments.ErrLater, err)
}

// later classes the error of a read and remembers it for Unreadable.
func (s *segmentSet) later(err error) error {
	err = later(err)
	if errors.Is(err, increments.ErrLater) {
		s.failed.Store(&failure{err, time.Now()})
	}
	return err
}

// inspect checks that an open database is a segment of this log at this place in it, and returns its base.
func (s *segmentSet) inspect(db *disk.DB, p span) (event.Position, error) {
	value, err := s.meta(db, p, keyLog)
	if err != nil {
		return event.Position{}, err
	}
	log, err := parseNumber(value)
	if err != nil || event.LogID(log) != s.log {
		return event.Position{}, s.damage(p.String(), "the segment belongs to log %s, not to %s", event.LogID(log), s.log)
	}
	if value, err = s.meta(db, p, keyBase); err != nil {
		return event.Position{}, err
	}
	base, err := parseBase(s.log, value)
	if err != nil || base.Seq != p.First-1 {
		return event.Position{}, s.damage(p.String(), "its m/base says it begins after %d", base.Seq)
	}
	return base, nil
}

// meta reads a key that every segment has.
func (s *segmentSet) meta(db *disk.DB, p span, key []byte) ([]byte, error) {
	value, err := db.Get(key)
	if errors.Is(err, disk.ErrNotFound) {
		return nil, s.damage(p.String(), "its %s is missing", key)
	}
	return value, err
}

// full checks that a sealed segment ends with the last sequence of its name.
func (s *segmentSet) full(db *disk.DB, g *segment) error {
	from, to := recordRange(g.First, g.Last)
	key, _, err := db.Last(from, to)
	if errors.Is(err, disk.ErrNotFound) {
		return s.damage(g.name, "a segment that is not the newest is empty")
	}
	if err == nil && string(key) != string(recordKey(nil, g.Last)) {
		return s.damage(g.name, "a segment that is not the newest ends with %s", key)
	}
	return err
}

// closeIdle closes the segments used longest ago until no more than the limit are open. One that is being
// read stays open.
func (s *segmentSet) closeIdle() {
	s.tidy.Lock()
	defer s.tidy.Unlock()
	var open []*segment
	for _, g := range s.segments() {
		if g.isOpen() && !g.active.Load() {
			open = append(open, g)
		}
	}
	slices.SortFunc(open, func(a, b *segment) int { return int(int64(a.used.Load() - b.used.Load())) })
	for _, g := range open[:max(0, len(open)-s.open)] {
		g.closeIfIdle()
	}
}

func (g *segment) isOpen() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.db != nil
}

// written returns the open database of the segment when it is, or was until now, the writer's; nil when it is not.
func (g *segment) written() *disk.DB {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.db == nil || !g.db.Written() {
		return nil
	}
	return g.db
}

// closeIfIdle closes the database unless somebody reads it. A sealed segment has nothing to lose: the
// error of its Close concerns nobody.
func (g *segment) closeIfIdle() {
	if g.mu.TryLock() {
		defer g.mu.Unlock()
		if g.db != nil {
			g.db.Close()
			g.db = nil
		}
	}
}

// shut waits for the readers and closes the database; gone says that it shall never be opened again.
func (g *segment) shut(gone bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone = gone
	if g.db == nil {
		return nil
	}
	db := g.db
	g.db = nil
	return db.Close()
}

func (s *segmentSet) damage(name, format string, args ...any) error {
	return &disk.Damage{File: s.place.String() + "/" + name, Offset: -1, What: fmt.Sprintf(format, args...)}
}
