package monitor

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/increments"
	"xmq/increments/segments"
	"xmq/statedb"
	"xmq/statedb/leveldb"
	"xmq/worker"
)

// entrance is an Input that notes what it is told.
type entrance struct {
	refusal        *door.Refusal
	commits, taken uint64
	waiting        int64
}

func (e *entrance) Refuse(r *door.Refusal) { e.refusal = r }
func (e *entrance) Commits() uint64        { return e.commits }
func (e *entrance) Taken() uint64          { return e.taken }
func (e *entrance) Waiting() int64         { return e.waiting }

// fixture is everything of this package around a log and a state store in memory, with segments of ten increments of
// about 1 KiB, a disk that says what the test wants, and a clock that stands still.
type fixture struct {
	t       *testing.T
	now     time.Time
	knobs   Knobs
	log     increments.Log
	state   statedb.Store
	clients []worker.View
	posted  map[string]worker.Input
	input   *entrance
	free    uint64
	full    error
	damage  chan Damage

	keeping *Keeping
	alerts  *Alerts
	trimmer *Trimmer
	watcher *Watcher
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, now: time.Unix(1_800_000_000, 0), posted: map[string]worker.Input{}, input: &entrance{},
		free: 500 << 30, damage: make(chan Damage, 1), knobs: Knobs{MaxRecords: 10, Watch: Watch{MinFree: -1}}}
	now := func() time.Time { return f.now }
	storage := disk.NewStorage(disk.Options{})
	log, err := segments.Create(disktest.NewMemory(), storage,
		segments.Options{MaxRecords: 10, RingBytes: 1 << 16, Now: now})
	require.NoError(t, err)
	state, err := leveldb.OpenOrCreate(storage, disktest.NewMemory(), statedb.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = log.Close(), state.Close() })
	f.log, f.state = log, state
	knobs := func() Knobs { return f.knobs }
	quiet := slog.New(slog.DiscardHandler)
	f.keeping = &Keeping{Log: log, State: state, Knobs: knobs,
		View: func(_ context.Context, id string) (worker.View, bool, error) {
			for _, v := range f.clients {
				if v.ID == id {
					return v, true, nil
				}
			}
			return worker.View{}, false, nil
		}}
	f.alerts = &Alerts{Log: log, State: state, Knobs: knobs, Keeping: f.keeping, Taken: new(Rate), Now: now,
		Clients:   func(context.Context) ([]worker.View, error) { return f.clients, nil },
		Situation: func() worker.Situation { return worker.Situation{} }}
	place := Disk{Dir: "/data", Space: func() (uint64, uint64, error) { return f.free, 1000 << 30, nil },
		Full: func() error { return f.full }}
	f.trimmer = &Trimmer{Log: log, State: state, Knobs: knobs, Keeping: f.keeping, Alerts: f.alerts, Disk: place,
		Post:   func(id string, in worker.Input) bool { f.posted[id] = in; return true },
		Logger: quiet, Now: now}
	f.watcher = &Watcher{Log: log, State: state, Knobs: knobs, Alerts: f.alerts, Trimmer: f.trimmer, Disk: place,
		Care:  &Care{Log: log, State: state, Knobs: knobs, Alerts: f.alerts, Started: f.now, Now: now},
		Input: f.input, Marks: new(worker.Marks), Damage: f.damage, Logger: quiet, Now: now,
		Doubts: func(*statedb.Batch, int64) {}, Doubted: func() bool { return false },
		Refusals: func() worker.Refusals { return worker.Refusals{} }, Payload: func() error { return nil },
		Repeat: func(time.Time, []statedb.Alert) {}, Looked: func() {}, Tick: time.Second, Started: f.now}
	return f
}

// fill appends n increments.
func (f *fixture) fill(n int) {
	f.t.Helper()
	for range n {
		_, err := f.log.Append([]event.Draft{{Body: make([]byte, 1000)}})
		require.NoError(f.t, err)
	}
}

// keeps stores a client that has applied everything up to seq.
func (f *fixture) keeps(id string, state statedb.State, seq uint64, change ...func(*statedb.Client)) {
	f.t.Helper()
	at, err := f.log.(*segments.Log).Position(seq)
	require.NoError(f.t, err)
	c := statedb.Client{ID: id, State: state, Acked: at}
	for _, f := range change {
		f(&c)
	}
	var b statedb.Batch
	b.PutClient(c)
	require.NoError(f.t, f.state.Write(&b))
}

// first trims and returns where the log begins then.
func (f *fixture) first() uint64 {
	f.t.Helper()
	_, err := f.trimmer.Trim()
	require.NoError(f.t, err)
	return f.log.First()
}

func (f *fixture) look() { f.t.Helper(); require.NoError(f.t, f.watcher.Look()) }

func (f *fixture) text(key string) string {
	if a, stands := f.alerts.Stands(key); stands {
		return a.Text
	}
	return ""
}

// What every client has applied goes, in whole segments; keep_records and keep_age keep more, max_records less, and
// the timeline says what went.
func TestWhatEverybodyHasIsFreed(t *testing.T) {
	f := newFixture(t)
	f.fill(55)
	require.EqualValues(t, 1, f.first(), "no client is known")
	f.keeps("n1", statedb.Following, 35)
	f.keeps("n2", statedb.Following, 45)
	f.knobs.Retention.KeepRecords = 50
	require.EqualValues(t, 1, f.first())
	f.knobs.Retention.KeepRecords = 0
	f.knobs.Retention.KeepAge = time.Hour
	require.EqualValues(t, 1, f.first(), "all of it is younger than an hour")
	f.now = f.now.Add(2 * time.Hour)
	require.EqualValues(t, 31, f.first())
	var rows []statedb.Event
	require.NoError(t, f.state.Events(0, func(e statedb.Event) bool { rows = append(rows, e); return true }))
	require.Equal(t, "3 segments freed, the log begins at 31", rows[len(rows)-1].Cause)
	f.knobs.Retention.MaxRecords = 12
	require.EqualValues(t, 41, f.first(), "a limit is a limit")
	require.True(t, f.posted["n1"].Trimmed, "its worker is told that it has lost its place")
	require.Contains(t, f.text("limit"), "retention.max_records frees increments that client n1 has not applied")
}

// Nothing goes while the state store is rebuilt and nobody has confirmed that all clients are back.
func TestNothingIsFreedWhileClientsAreUnknown(t *testing.T) {
	f := newFixture(t)
	f.fill(25)
	f.keeps("n1", statedb.Following, 25)
	var b statedb.Batch
	b.PutMeta(statedb.Meta{Rebuilt: true})
	require.NoError(t, f.state.Write(&b))
	require.EqualValues(t, 1, f.first())
	b = statedb.Batch{}
	b.PutMeta(statedb.Meta{})
	require.NoError(t, f.state.Write(&b))
	require.EqualValues(t, 21, f.first())
}

// A client that has been silent for longer than max_absence holds nothing, unless its worker has heard it since.
func TestWhoIsAwayForLongHoldsNothing(t *testing.T) {
	f := newFixture(t)
	f.fill(25)
	f.keeps("n1", statedb.Following, 25)
	f.keeps("away", statedb.Following, 5, func(c *statedb.Client) { c.Silent = int64(2 * time.Hour) })
	is := func() string { h := f.keeping.Who(); return h.Name() }
	require.Equal(t, "client away", is())
	f.knobs.Retention.MaxAbsence = time.Hour
	f.clients = []worker.View{{ID: "away", SilentSeconds: 1}}
	require.Equal(t, "client away", is(), "it is back")
	f.clients[0].SilentSeconds = 7200
	require.Equal(t, "client n1", is())
	require.EqualValues(t, 21, f.first())
}

// When the log has reached max_bytes, whoever holds it and was named before loses its place if another copy has its
// topics; else input is refused.
func TestALogAtItsLimitTakesAPlaceOrRefusesInput(t *testing.T) {
	f := newFixture(t)
	f.fill(55)
	st, err := f.log.Stats()
	require.NoError(t, err)
	f.knobs.Retention.MaxBytes = st.Bytes / 2
	f.keeps("n1", statedb.Following, 5)
	f.first()
	require.Contains(t, f.trimmer.Overfull(), "client n1 holds it, and no other copy that has come farther has its topics")
	f.look()
	require.Equal(t, door.DiskFull, f.input.refusal.Code)
	require.Empty(t, f.posted)
	f.keeps("n2", statedb.Following, 55)
	f.first()
	require.Empty(t, f.trimmer.Overfull())
	f.look()
	require.Nil(t, f.input.refusal)
	f.first()
	require.Contains(t, f.posted["n1"].Evict.Reason, "client n1 held the log from 6 on")
}

// A disk that is full refuses input with its own words, and the alert is a warning before that.
func TestAFullDiskRefusesInput(t *testing.T) {
	f := newFixture(t)
	f.look()
	require.Nil(t, f.input.refusal)
	require.Empty(t, f.text("disk"))
	f.free = 60 << 30 // of 1,000 GiB, of which 50 GiB have to stay free
	f.look()
	require.Contains(t, f.text("disk"),
		"60 GiB of 1,000 GiB are free on the disk of /data, and below 50 GiB input is refused")
	require.Nil(t, f.input.refusal)
	f.full = errors.New("no room")
	f.look()
	require.Equal(t, "the broker takes no increments: no room", f.input.refusal.Text)
	require.Equal(t, "the broker refuses increments: no room", f.text("disk"))
	f.full, f.free = nil, 500<<30
	f.look()
	require.Nil(t, f.input.refusal)
	require.Empty(t, f.text("disk"))
}

// The checkpoint follows the log, and the damage of a segment is an alert, of the newest one the end.
func TestARoundStoresTheCheckpointAndTellsOfDamage(t *testing.T) {
	f := newFixture(t)
	f.fill(15)
	f.damage <- Damage{Segment: "0000000000000001-0000000000000010", Err: errors.New("rot")}
	f.look()
	require.Equal(t, f.log.Head(), f.state.Checkpoint())
	require.Contains(t, f.text("damage/0000000000000001-0000000000000010"), "is damaged and set aside (rot)")
	f.damage <- Damage{Segment: "0000000000000011-0000000000000020", Err: errors.New("rot"), InMemory: true}
	require.NoError(t, f.watcher.Look(), "what is in memory is sound")
	f.damage <- Damage{Segment: "0000000000000011-0000000000000020", Err: errors.New("rot")}
	require.ErrorIs(t, f.watcher.Look(), ErrDamaged)
}

// A client that is behind for long is told once: an alert that says why becomes worse instead.
func TestAClientThatIsBehindIsToldOnce(t *testing.T) {
	f := newFixture(t)
	f.knobs.Watch.Lag = time.Minute
	late := 100.0
	f.clients = []worker.View{{ID: "n1", LagSeconds: &late}}
	f.look()
	require.NotEmpty(t, f.text("lag/n1"))
	var b statedb.Batch
	b.Raise(statedb.Alert{Key: "slow/n1", Client: "n1", Severity: statedb.Warning, Last: 1, Text: "it is slow"})
	require.NoError(t, f.state.Write(&b))
	f.now = f.now.Add(time.Minute)
	f.look()
	require.Empty(t, f.text("lag/n1"))
	a, _ := f.alerts.Stands("slow/n1")
	require.Equal(t, statedb.Critical, a.Severity)
}

// checks is a log that counts its readings.
type checks struct {
	increments.Log
	n atomic.Int64
}

func (c *checks) Check(context.Context, uint64, func(uint64)) (increments.Report, error) {
	c.n.Add(1)
	return increments.Report{}, nil
}

// The log is read for damage a minute after the start and then after every pause; a pause that is changed counts at
// once, and 0 ends it.
func TestTheLogIsReadForDamageFromTimeToTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pause, done atomic.Int64
		var news atomic.Pointer[chan struct{}]
		log, first := &checks{}, make(chan struct{})
		news.Store(&first)
		pause.Store(int64(time.Hour))
		s := Scrubber{Log: log, Pause: func() time.Duration { return time.Duration(pause.Load()) },
			Checked: func() { done.Add(1) }, Logger: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx, func() <-chan struct{} { return *news.Load() }) }()
		after := func(d time.Duration, want int64) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			require.Equal(t, want, log.n.Load())
			require.Equal(t, want, done.Load())
		}
		set := func(d time.Duration) {
			pause.Store(int64(d))
			next := make(chan struct{})
			close(*news.Swap(&next))
		}
		after(59*time.Second, 0)
		after(2*time.Second, 1)
		after(59*time.Minute, 1)
		after(2*time.Minute, 2)
		set(2 * time.Minute)
		after(90*time.Second, 3)
		set(0)
		after(24*time.Hour, 3)
		cancel()
		require.NoError(t, <-ended)
	})
}

// Storage that does not get on is told: increments that wait without a commit for 5 seconds.
func TestStuckIngestIsNoticed(t *testing.T) {
	in := &entrance{}
	w := &Watcher{Input: in}
	now := time.Unix(1000, 0)
	require.False(t, w.stuck(now))
	in.waiting = 3
	require.False(t, w.stuck(now.Add(time.Second)))
	require.False(t, w.stuck(now.Add(5*time.Second)))
	require.True(t, w.stuck(now.Add(6*time.Second)))
	in.commits++
	require.False(t, w.stuck(now.Add(20*time.Second)), "a commit")
	in.waiting = 0
	require.False(t, w.stuck(now.Add(60*time.Second)), "nothing waits")
}

// Times in the log are those of a clock that may have been wrong: nothing younger than the limit goes, whatever is
// written before or after it, and a time that lies ahead of us holds nothing for years.
func TestAgesSurviveClocksThatWereWrong(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, c := range map[string]struct {
		clocks []time.Time // of ten increments each
		want   uint64      // the first that may be younger than an hour
	}{
		"in order":               {[]time.Time{ago(3 * time.Hour), ago(2 * time.Hour), ago(time.Minute), now}, 21},
		"all young":              {[]time.Time{ago(time.Minute), ago(time.Minute), now}, 1},
		"all old":                {[]time.Time{ago(3 * time.Hour), ago(3 * time.Hour), ago(2 * time.Hour)}, 21},
		"behind for a while":     {[]time.Time{ago(time.Minute), time.Unix(0, 0), time.Unix(0, 0), now}, 1},
		"behind, and old before": {[]time.Time{ago(2 * time.Hour), time.Unix(0, 0), ago(time.Minute), now}, 21},
		"ahead for a while, long ago": {[]time.Time{ago(3 * time.Hour), now.Add(9999 * time.Hour), ago(2 * time.Hour), now},
			31},
		"ahead until a minute ago": {[]time.Time{ago(3 * time.Hour), now.Add(9999 * time.Hour), ago(time.Minute), now},
			11},
		"ahead since an hour and more": {[]time.Time{ago(3 * time.Hour), now.Add(time.Hour), now.Add(time.Hour)}, 11},
	} {
		t.Run(name, func(t *testing.T) {
			clock := now
			l, err := segments.Create(disktest.NewMemory(), disk.NewStorage(disk.Options{}),
				segments.Options{MaxRecords: 10, Now: func() time.Time { return clock }})
			require.NoError(t, err)
			defer l.Close()
			for _, clock = range c.clocks {
				for range 10 {
					_, err := l.Append([]event.Draft{{Body: []byte("x")}})
					require.NoError(t, err)
				}
			}
			m := &Trimmer{Log: l, Now: time.Now}
			for range 2 { // the second time from what was kept
				require.Equal(t, c.want, m.firstSince(ago(time.Hour)))
			}
		})
	}
}

// An alert is as severe as its consequence: a slow sync wakes nobody, increments that wait do.
func TestASlowSyncIsANoteAndAStallIsCritical(t *testing.T) {
	f := newFixture(t)
	f.knobs.Watch.SlowSync = 100 * time.Millisecond
	is := func(tables int, stuck bool, sync time.Duration, severity statedb.Severity) {
		t.Helper()
		var b statedb.Batch
		f.watcher.lookAtStorage(&b, tables, false, stuck, sync, 1)
		require.NoError(t, f.state.Write(&b))
		a, stands := f.alerts.Stands("stall")
		require.Equal(t, severity != "", stands)
		require.True(t, !stands || a.Severity == severity, a.Severity)
	}
	is(0, false, 109*time.Millisecond, statedb.Note)
	is(level0Alert, false, 109*time.Millisecond, statedb.Critical)
	is(0, false, 109*time.Millisecond, statedb.Note)
	is(0, true, 0, statedb.Critical)
	is(0, false, 0, "")
}

// The disk of a database that its node sees is told before it is full, by its size and by how fast it fills.
func TestTheDiskOfANodeIsToldBeforeItIsFull(t *testing.T) {
	f := newFixture(t)
	now := f.now
	v := &worker.View{ID: "sq1", Process: statedb.Process{Host: "db1", Address: "sqlite:/srv/sq1.db"}}
	is := func(free, total uint64) string {
		t.Helper()
		if now = now.Add(trendEvery); total > 0 {
			v.Disk = &worker.Disk{Free: free, Total: total}
		}
		var b statedb.Batch
		f.watcher.lookAtNodeDisk(&b, v, now)
		require.NoError(t, f.state.Write(&b))
		a, stands := f.alerts.Stands("node-disk/sq1")
		if !stands {
			return ""
		}
		require.Equal(t, statedb.Warning, a.Severity)
		return f.alerts.Text(a, v, now)
	}
	require.Empty(t, is(0, 0), "it sees none")
	require.Empty(t, is(600<<20, 1000<<20))
	require.Equal(t, "the disk of the database of client sq1 on db1 has 500 MiB of 1,000 MiB free "+
		"(sqlite:/srv/sq1.db). Make room; increments that do not fit "+
		"are tried again, and xmq client retry sq1 hurries that", is(500<<20, 1000<<20))
	require.Contains(t, is(400<<20, 1000<<20), "has 400 MiB of 1,000 MiB free", "the number of now")
	require.Empty(t, is(600<<20, 1000<<20))
	delete(f.watcher.trends, "sq1")
	for i := range trendLeast - 1 {
		require.Empty(t, is(uint64(300_000-10_000*i)<<20, 1_000_000<<20))
	}
	require.Contains(t, is(220_000<<20, 1_000_000<<20), "as it goes, it is full in about")
}

// Increments that were seen waiting for five seconds without a commit are stuck; those of a young broker, or of one
// that nobody has looked at for long, are not.
func TestStuckMeansSeenWaiting(t *testing.T) {
	in := &entrance{}
	w := &Watcher{Input: in}
	at := time.Unix(1e9, 0)
	after := func(d time.Duration) bool { at = at.Add(d); return w.stuck(at) }
	in.waiting = 1
	require.False(t, after(0), "the first look")
	require.False(t, after(5*time.Second-time.Nanosecond))
	require.True(t, after(time.Nanosecond))
	in.commits++
	require.False(t, after(time.Hour), "nobody has looked for long")
	require.False(t, after(time.Second))
	require.True(t, after(6*time.Second))
	in.waiting = 0
	require.False(t, after(time.Hour))
	in.waiting = 1
	require.False(t, after(time.Hour))
	require.True(t, after(6*time.Second))
}
