package nodeclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/bus"
	"xmq/broker/event"
	"xmq/dumpflow"
)

// memTarget is a database in memory. Its data is the list of increments it holds.
type memTarget struct {
	mu       sync.Mutex
	pos      event.Position
	topics   event.Topics
	data     []string
	open     int // snapshots
	switched int
	fresh    int // places of restores

	position func() error // before an answer, when set
	apply    func(ctx context.Context) error
	after    func() error // after a durable Apply: the outcome is lost
	loading  func(n int) error
	sending  func() // a snapshot is being read
	full     error  // there is no room for a restore
	asked    int64  // for how many bytes room was asked
}

func (m *memTarget) Position(context.Context) (event.Position, error) {
	if m.position != nil {
		if err := m.position(); err != nil {
			return event.Position{}, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pos, nil
}

func (m *memTarget) Apply(ctx context.Context, before event.Position, batch []event.Item) (event.Position, error) {
	if m.apply != nil {
		if err := m.apply(ctx); err != nil {
			return event.Position{}, err
		}
	}
	applied, err := m.commit(before, batch)
	if err == nil && m.after != nil {
		err = m.after()
	}
	return applied, err
}

func (m *memTarget) commit(before event.Position, batch []event.Item) (event.Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := CheckAdvance(m.pos, before); err != nil {
		return m.pos, err
	}
	for _, i := range batch {
		if i.Record != nil {
			r, err := i.Record.Decode()
			if err != nil {
				return m.pos, err
			}
			m.data = append(m.data, string(r.Body))
		}
		m.pos = i.Pos
	}
	return m.pos, nil
}

func (m *memTarget) Seek(_ context.Context, pos event.Position) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pos = pos
	return nil
}

func (m *memTarget) Topics(context.Context) (event.Topics, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.topics, nil
}

func (m *memTarget) Keep(_ context.Context, topics event.Topics) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.topics = topics
	return nil
}

func (m *memTarget) Empty(context.Context) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.data) == 0, nil
}

func (m *memTarget) CheckSpace(_ context.Context, size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = size
	return m.full
}

func (m *memTarget) Close() error { return nil }

type memSnapshot struct {
	of     *memTarget
	pos    event.Position
	bytes  []byte
	closed bool
}

func (m *memTarget) Snapshot(context.Context) (Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open > 0 {
		return nil, errors.New("a snapshot is open already")
	}
	m.open++
	s := &memSnapshot{of: m, pos: m.pos}
	for _, d := range m.data {
		s.bytes = append(append(s.bytes, d...), '\n')
	}
	return s, nil
}

func (s *memSnapshot) Position() event.Position { return s.pos }
func (s *memSnapshot) Format() string           { return "mem/1" }
func (s *memSnapshot) Size() int64              { return int64(len(s.bytes)) }
func (s *memSnapshot) Online() bool             { return true }
func (s *memSnapshot) WriteTo(ctx context.Context, w io.Writer) error {
	if s.of.sending != nil {
		s.of.sending()
	}
	_, err := w.Write(s.bytes)
	return err
}

func (s *memSnapshot) Close() error {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.of.open--
	}
	return nil
}

type memRestored struct {
	of     *memTarget
	pos    event.Position
	topics event.Topics
	data   []string
	done   bool
}

func (m *memTarget) Loads(format string) bool { return format == "mem/1" }

func (m *memTarget) Restore(_ context.Context, want event.Position, topics event.Topics, r io.Reader) (Restored,
	error) {
	b, err := io.ReadAll(r)
	if err == nil && m.loading != nil {
		err = m.loading(len(b))
	}
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.fresh++
	m.mu.Unlock()
	loaded := &memRestored{of: m, pos: want, topics: topics}
	for len(b) > 0 {
		var line []byte
		line, b, _ = cutLine(b)
		loaded.data = append(loaded.data, string(line))
	}
	return loaded, nil
}

func cutLine(b []byte) (line, rest []byte, ok bool) {
	for i, c := range b {
		if c == '\n' {
			return b[:i], b[i+1:], true
		}
	}
	return b, nil, false
}

func (r *memRestored) Switch(context.Context) error {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	r.of.pos, r.of.topics, r.of.data, r.done = r.pos, r.topics, r.data, true
	r.of.switched++
	r.of.fresh--
	return nil
}

func (r *memRestored) Discard() error {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	if !r.done {
		r.of.fresh--
	}
	return nil
}

func (m *memTarget) holds() (event.Position, []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pos, append([]string(nil), m.data...)
}

// scripted is a broker that feeds whoever comes from where he stands, carries chunks, and does as told.
type scripted struct {
	mu     sync.Mutex
	h      *history
	head   int
	conn   bus.Conn
	heard  []event.Event
	mute   func(event.Event) bool // swallow this event
	chunks map[uint32]dumpflow.Chunk
	sealed *dumpflow.Manifest
	pos    event.Position // of the snapshot that is offered
}

func newScripted(t *testing.T, network *bus.Mem, head int) *scripted {
	b := &scripted{h: newHistory(100), head: head, conn: network.Connect("broker"), chunks: map[uint32]dumpflow.Chunk{}}
	_, err := b.conn.Subscribe(event.AnySubject("main", event.Up), b.up)
	require.NoError(t, err)
	_, err = b.conn.Subscribe(event.AnySubject("main", event.Snap), b.snap)
	require.NoError(t, err)
	return b
}

func (b *scripted) up(m bus.Msg) {
	e, err := event.Decode(m.Data)
	if err != nil {
		panic(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard = append(b.heard, e)
	if b.mute != nil && b.mute(e) {
		return
	}
	switch {
	case e.Kind == event.DumpReq && !b.pos.Zero():
		b.say(event.Event{Kind: event.DumpRep, State: event.Succ, Code: event.Opened, ID: e.ID, Request: e.Request, Dump: 99,
			Pos: b.pos, Body: dumpflow.Opened{Format: "mem/1"}.Encode()})
	case e.Kind != event.IncrReq:
	case e.State == event.None:
		pos := e.Pos
		if pos.Zero() {
			pos = b.h.pos[0]
		}
		b.say(event.Event{Kind: event.IncrRep, Code: event.Welcome, ID: e.ID, Session: e.Session, Pos: pos})
	case e.State == event.Succ && e.Code == event.NoCode:
		from := int(e.Pos.Seq)
		to := min(b.head, from+10)
		b.say(event.Event{Kind: event.IncrRep, State: event.Succ, ID: e.ID, Session: e.Session, Pos: e.Pos,
			Body: b.h.frame(from, to)})
	}
}

func (b *scripted) say(e event.Event) {
	e.Group = "main"
	_ = b.conn.Publish(event.Subject("main", event.Down, e.ID), e.Append(nil))
}

func (b *scripted) snap(m bus.Msg) {
	e, err := event.Decode(m.Data)
	if err != nil {
		panic(err)
	}
	c, err := dumpflow.DecodeChunk(e.Body)
	if err != nil {
		panic(err)
	}
	c.Data = append([]byte(nil), c.Data...)
	b.mu.Lock()
	defer b.mu.Unlock()
	a := dumpflow.ChunkReply{State: event.Succ}
	switch c.Op {
	case dumpflow.Put:
		b.chunks[c.Number] = c
	case dumpflow.Seal:
		manifest, err := dumpflow.DecodeManifest(c.Data)
		if err != nil {
			panic(err)
		}
		b.sealed = &manifest
		a.Chunk = dumpflow.Chunk{Op: dumpflow.Stat, Data: c.Data}
	default:
		if got, ok := b.chunks[c.Number]; ok && c.Op == dumpflow.Get {
			got.Op = dumpflow.Get
			a.Chunk = got
		} else if b.sealed != nil {
			a.Chunk = dumpflow.Chunk{Op: dumpflow.Stat, Data: b.sealed.Encode()}
		} else {
			a = dumpflow.ChunkReply{State: event.None, Text: "not yet"}
		}
	}
	_ = b.conn.Publish(m.Reply, a.Encode("main", e.ID, e.Dump))
}

// stages puts the snapshot of a copy at seq where requesters find it.
func (b *scripted) stages(t *testing.T, seq int) {
	var data []byte
	for i := 1; i <= seq; i++ {
		data = fmt.Appendf(data, "increment %d\n", i)
	}
	call := func(_ context.Context, _ event.DumpID, c dumpflow.Chunk) (dumpflow.ChunkReply, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if c.Op == dumpflow.Put {
			c.Data = append([]byte(nil), c.Data...)
			b.chunks[c.Number] = c
		}
		return dumpflow.ChunkReply{State: event.Succ, Chunk: dumpflow.Chunk{Op: dumpflow.Stat, Data: c.Data}}, nil
	}
	m, err := dumpflow.Upload(t.Context(), call,
		dumpflow.Manifest{Dump: 99, Target: "master", Pos: b.h.pos[seq], Format: "mem/1"},
		func(_ context.Context, w io.Writer) error { _, err := w.Write(data); return err }, dumpflow.Options{})
	require.NoError(t, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sealed, b.pos = &m, b.h.pos[seq]
}

func (b *scripted) count(match func(event.Event) bool) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.heard {
		if match(e) {
			n++
		}
	}
	return n
}

func isBye(e event.Event) bool { return e.Code == event.Bye }

// running is one agent in its goroutine; stop ends it and returns how it ended and how long that took.
type running struct {
	agent  *Agent
	cancel context.CancelFunc
	ended  chan error
}

func run(t *testing.T, network *bus.Mem, db Database, o Options) *running {
	t.Helper()
	o.ID = "n1"
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	conn := network.Connect("n1")
	a, err := New(conn, db, o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{agent: a, cancel: cancel, ended: make(chan error, 1)}
	go func() {
		defer conn.Close()
		r.ended <- a.Run(ctx)
	}()
	return r
}

func (r *running) stop(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	r.cancel()
	require.NoError(t, <-r.ended)
	return time.Since(began)
}

// world runs f in a bubble: time stands still while anybody works, and it ends only when all goroutines have.
func world(t *testing.T, head int, f func(t *testing.T, network *bus.Mem, b *scripted)) {
	packed := dumpflow.Pack(dumpflow.Put, 0, make([]byte, 1000)) // the codec's first use makes channels: outside
	_, err := packed.Unpack()
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		network := bus.NewMem(1)
		b := newScripted(t, network, head)
		f(t, network, b)
		b.conn.Close()
		synctest.Wait()
	})
}

func increments(n int) (all []string) {
	for i := 1; i <= n; i++ {
		all = append(all, fmt.Sprint("increment ", i))
	}
	return all
}

func requireHolds(t *testing.T, m *memTarget, b *scripted, n int) {
	t.Helper()
	pos, data := m.holds()
	require.Equal(t, b.h.pos[n], pos)
	require.Equal(t, increments(n), data)
}

// XI-6: a restart with increments in flight sends again from the stored position; the node drops repeats. Here
// the process dies between apply and ack.
func TestXI06NothingIsAppliedTwiceAfterAKillBetweenApplyAndAck(t *testing.T) {
	world(t, 30, func(t *testing.T, network *bus.Mem, b *scripted) {
		m := &memTarget{}
		died := make(chan struct{})
		hang := make(chan struct{})
		m.after = func() error { close(died); <-hang; return nil }
		r := run(t, network, m, Options{})
		<-died
		network.Cut("n1", true) // nothing of this process is heard any more
		r.cancel()
		close(hang)
		<-r.ended
		m.after = nil
		r = run(t, network, m, Options{})
		time.Sleep(20 * time.Second)
		requireHolds(t, m, b, 30)
		r.stop(t)
	})
}

// few is a target that gains nothing from many increments at once.
type few struct{ *memTarget }

func (few) BatchLimit() int { return 4 }

// What each increment makes durable by itself is reported soon: no more of them go to the database at once than its
// driver wants.
func TestABatchIsNoGreaterThanItsDriverWants(t *testing.T) {
	world(t, 30, func(t *testing.T, network *bus.Mem, b *scripted) {
		m := &memTarget{apply: func(context.Context) error { time.Sleep(time.Second); return nil }}
		r := run(t, network, few{m}, Options{})
		time.Sleep(2500 * time.Millisecond)
		pos, _ := m.holds()
		require.LessOrEqual(t, pos.Seq, uint64(12))
		time.Sleep(20 * time.Second)
		requireHolds(t, m, b, 30)
		r.stop(t)
	})
}

// finder is a target that has found something at its start, and finds something more while it applies.
type finder struct {
	*memTarget
	found []string
}

func (f *finder) Notices() (all []string) {
	all, f.found = f.found, nil
	return all
}

func (f *finder) Apply(ctx context.Context, before event.Position, batch []event.Item) (event.Position, error) {
	f.found = append(f.found, fmt.Sprint("found after ", before.Seq))
	return f.memTarget.Apply(ctx, before, batch)
}

// What a driver has to say is a warning of the node's log, each sentence once.
func TestWhatADriverFindsIsLogged(t *testing.T) {
	world(t, 8, func(t *testing.T, network *bus.Mem, b *scripted) {
		var log bytes.Buffer
		m := &memTarget{}
		r := run(t, network, &finder{m, []string{"found at the start"}},
			Options{BatchRecords: 4, Log: slog.New(slog.NewTextHandler(&log, nil))})
		time.Sleep(20 * time.Second)
		requireHolds(t, m, b, 8)
		r.stop(t)
		for _, sentence := range []string{"found at the start", "found after 0", "found after 4"} {
			require.Equal(t, 1, strings.Count(log.String(), "level=WARN msg=\""+sentence+"\" client=n1"), "%s in\n%s", sentence,
				&log)
		}
	})
}

// XB-1: a node that restarts is fed from its stored position; a clean stop finishes the batch and says so.
func TestXB01ACleanStopFinishesTheBatchAndSaysBye(t *testing.T) {
	world(t, 30, func(t *testing.T, network *bus.Mem, b *scripted) {
		m := &memTarget{apply: func(context.Context) error { time.Sleep(3 * time.Second); return nil }}
		r := run(t, network, m, Options{BatchRecords: 4})
		time.Sleep(time.Second) // the first batch is at the database, more is queued
		took := r.stop(t)
		require.Less(t, took, 3*time.Second)
		synctest.Wait()
		requireHolds(t, m, b, 4)
		require.Equal(t, 1, b.count(isBye))
		require.Equal(t, 1, b.count(func(e event.Event) bool { return isBye(e) && e.Pos == b.h.pos[4] }))
		m.apply = nil
		r = run(t, network, m, Options{})
		time.Sleep(20 * time.Second)
		requireHolds(t, m, b, 30)
		r.stop(t)
	})
}

func TestADatabaseThatHangsDelaysAStopByFiveSecondsAtMost(t *testing.T) {
	world(t, 30, func(t *testing.T, network *bus.Mem, b *scripted) {
		m := &memTarget{apply: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		r := run(t, network, m, Options{})
		time.Sleep(time.Second)
		require.Equal(t, 5*time.Second, r.stop(t))
		require.Zero(t, b.count(isBye), "nobody knows where it stands")
	})
}

// XR-4: a node that drops off reconnects by itself and goes on where it stopped; no process is restarted.
func TestXR04GoesOnAfterCutsAndOnABadConnection(t *testing.T) {
	world(t, 10, func(t *testing.T, network *bus.Mem, b *scripted) {
		m := &memTarget{}
		r := run(t, network, m, Options{Silence: 10})
		for i := range 9 {
			switch i % 3 {
			case 0:
				network.Cut("n1", true)
			case 1:
				network.SetFaults(bus.Faults{Lose: 0.3, Repeat: 0.3, Delay: 3 * time.Second})
			case 2:
				network.SetFaults(bus.Faults{})
			}
			b.mu.Lock()
			b.head += 10
			b.mu.Unlock()
			time.Sleep(5 * time.Second)
			network.Cut("n1", false)
			time.Sleep(5 * time.Second)
		}
		time.Sleep(time.Minute)
		requireHolds(t, m, b, 100)
		r.stop(t)
	})
}

// XN-6: any start order works: the database may come later, the broker too.
func TestXN06WaitsForTheDatabaseAtStart(t *testing.T) {
	world(t, 5, func(t *testing.T, network *bus.Mem, b *scripted) {
		tries := 0
		m := &memTarget{position: func() error {
			if tries++; tries < 6 {
				return Transient(errors.New("connection refused"))
			}
			return nil
		}}
		r := run(t, network, m, Options{})
		time.Sleep(time.Minute)
		requireHolds(t, m, b, 5)
		r.stop(t)

		m = &memTarget{position: func() error { return Transient(errors.New("connection refused")) }}
		r = run(t, network, m, Options{})
		time.Sleep(time.Minute)
		require.Zero(t, r.stop(t))

		r = run(t, network, &memTarget{position: func() error { return Fatal(errors.New("no position row")) }}, Options{})
		time.Sleep(time.Minute)
		require.Equal(t, "lost", r.agent.Status().Phase, "the broker is told")
		r.stop(t)
		r = run(t, network, &memTarget{position: func() error { return Fatal(errors.New("no position row")) }},
			Options{From: "master"})
		require.ErrorContains(t, <-r.ended, "--replace", "a DUMP over it has to be allowed")
		r.cancel()
	})
}

// That nobody serves the group is told after two seconds, once for each time, and changes nothing: the node goes on as
// soon as somebody does. A broker that is away for a moment is not told of.
func TestThatNobodyServesTheGroupIsTold(t *testing.T) {
	world(t, 5, func(t *testing.T, network *bus.Mem, b *scripted) {
		var log bytes.Buffer
		pass := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		told := func() int {
			return strings.Count(log.String(), `level=WARN msg="nobody serves group main at memory: is the broker running, `+
				`and is the group's name right? It keeps trying"`)
		}
		m := &memTarget{}
		r := run(t, network, m, Options{Silence: 6, Heartbeat: 2, Log: slog.New(slog.NewTextHandler(&log, nil))})
		pass(time.Minute)
		requireHolds(t, m, b, 5)
		require.Zero(t, told())
		for n := 1; n <= 2; n++ {
			b.conn.Close()
			pass(time.Minute)
			require.Equal(t, n, told(), "%s", &log)
			b = newScripted(t, network, 5)
			pass(time.Minute)
			require.Equal(t, "following", r.agent.Status().Phase)
		}
		r.stop(t)

		b.conn.Close()
		late := run(t, network, &memTarget{}, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		pass(1500 * time.Millisecond)
		b = newScripted(t, network, 5)
		pass(time.Minute)
		require.Equal(t, 2, told(), "%s", &log)
		late.stop(t)
		b.conn.Close()
	})
}

// XE-13: old positions and data stay in force until the new snapshot is loaded and switched: a restore that fails
// half way leaves them, and nothing half.
func TestXE13ARestoreThatFailsLeavesTheOldData(t *testing.T) {
	for name, o := range map[string]Options{"copy of this log": {From: "master"},
		"foreign, may be replaced": {From: "master", Replace: true}} {
		t.Run(name, func(t *testing.T) {
			world(t, 30, func(t *testing.T, network *bus.Mem, b *scripted) {
				b.stages(t, 20)
				m := &memTarget{pos: b.h.pos[3], data: increments(3)}
				if o.Replace {
					m.pos.Log++
				}
				old := m.pos
				fails := 3
				m.loading = func(int) error {
					if fails--; fails >= 0 {
						return errors.New("disk full")
					}
					return nil
				}
				refused := false
				b.mute = func(e event.Event) bool {
					if refused || e.State != event.None || e.Kind != event.IncrReq {
						return false
					}
					refused = true
					b.say(event.Event{Kind: event.IncrRep, State: event.Fatal,
						Code: map[bool]event.Code{true: event.Foreign, false: event.NeedsDump}[o.Replace], ID: e.ID, Session: e.Session})
					return true
				}
				r := run(t, network, m, o)
				time.Sleep(2 * time.Second)
				pos, data := m.holds()
				require.Equal(t, old, pos)
				require.Equal(t, increments(3), data)
				time.Sleep(time.Minute)
				synctest.Wait()
				requireHolds(t, m, b, 30)
				require.Equal(t, 1, m.switched)
				require.Zero(t, m.fresh)
				r.stop(t)
			})
		})
	}
}

func TestADatabaseThatIsNotACopyIsReplacedOnlyWhenAllowed(t *testing.T) {
	foreign := event.Position{Log: testLog + 1, Seq: 7}
	for name, c := range map[string]struct {
		target *memTarget
		allow  bool
		ok     bool
	}{
		"empty":       {&memTarget{}, false, true},
		"copy":        {&memTarget{pos: event.Start(testLog), data: []string{"x"}}, false, true},
		"foreign":     {&memTarget{pos: foreign, data: []string{"x"}}, false, false},
		"no position": {&memTarget{data: []string{"x"}}, false, false},
		"unreadable": {&memTarget{data: []string{"x"}, position: func() error { return errors.New("locked") }}, false,
			false},
		"foreign allowed": {&memTarget{pos: foreign, data: []string{"x"}}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			a := &Agent{db: c.target, opts: Options{Replace: c.allow}}
			err := a.mayReplace(t.Context(), testLog)
			if c.ok {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, errNotOurs)
			}
		})
	}
}

// XE-13: whatever is wrong is found before the switch: the old data and position stay, and nothing half.
func TestXE13ALoadThatIsNotWhatWasOfferedIsNotSwitched(t *testing.T) {
	for _, name := range []string{"another position", "another chain", "other topics", "cancelled", "not a copy",
		"no room"} {
		t.Run(name, func(t *testing.T) {
			world(t, 30, func(t *testing.T, network *bus.Mem, b *scripted) {
				b.stages(t, 20)
				m := &memTarget{pos: b.h.pos[3], data: increments(3)}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				switch name {
				case "another position":
					b.sealed.Pos = b.h.pos[19]
				case "another chain":
					b.sealed.Pos.Chain++
				case "other topics":
					b.sealed.Topics = []string{"shop"}
				case "cancelled":
					m.loading = func(int) error { cancel(); return nil }
				case "not a copy":
					m.pos.Log++
				case "no room":
					m.full = errors.New("make room")
				}
				old := m.pos
				conn := network.Connect("n1")
				defer conn.Close()
				a, err := New(conn, m, Options{ID: "n1", From: "master", Log: slog.New(slog.DiscardHandler)})
				require.NoError(t, err)
				_, err = a.load(ctx, restoreJob{request: 1, dump: 99, pos: b.h.pos[20], size: 4711})
				require.Error(t, err)
				if name != "not a copy" {
					require.EqualValues(t, 4711, m.asked, "room is asked for first")
				}
				pos, data := m.holds()
				require.Equal(t, old, pos)
				require.Equal(t, increments(3), data)
				require.Zero(t, m.switched)
				require.Zero(t, m.fresh)
			})
		})
	}
}

// XE-12: a backup of another kind, of other topics, or over a database that is not a copy is not loaded.
func TestXE12ABackupIsLoadedOnlyWhereItBelongs(t *testing.T) {
	at := newHistory(5).pos[5]
	for name, c := range map[string]struct {
		m  dumpflow.Manifest
		on event.LogID // what the database is a copy of
		ok bool
	}{
		"copy":         {dumpflow.Manifest{Pos: at, Format: "mem/1", Topics: []string{"a"}}, testLog, true},
		"other kind":   {dumpflow.Manifest{Pos: at, Format: "sql/1", Topics: []string{"a"}}, testLog, false},
		"other topics": {dumpflow.Manifest{Pos: at, Format: "mem/1", Topics: []string{"a", "b"}}, testLog, false},
		"all topics":   {dumpflow.Manifest{Pos: at, Format: "mem/1"}, testLog, false},
		"other log":    {dumpflow.Manifest{Pos: at, Format: "mem/1", Topics: []string{"a"}}, testLog + 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := &memTarget{pos: event.Start(c.on), data: []string{"x"}}
			a := &Agent{db: m, opts: Options{Topics: []string{"a"}}}
			err := a.LoadBackup(t.Context(), c.m, strings.NewReader("increment 1\n"))
			if c.ok {
				require.NoError(t, err)
				require.Equal(t, at, m.pos)
				return
			}
			require.Error(t, err)
			require.Equal(t, []string{"x"}, m.data)
			require.Zero(t, m.switched)
		})
	}
}

func TestEventsOfAnotherGroupAreNotHeard(t *testing.T) {
	a, err := New(nil, nil, Options{ID: "n1", Group: "ours", Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	for _, group := range []string{"theirs", "ours"} {
		e := event.Event{Kind: event.IncrRep, Group: group, ID: "n1"}
		a.receive(bus.Msg{Data: e.Append(nil)})
	}
	require.Len(t, a.inbox, 1)
	require.Equal(t, "ours", (<-a.inbox).Group)
}

// A snapshot that is still being read is closed before the next one is opened and before a restore begins.
func TestTransfersOfOneNodeDoNotOverlap(t *testing.T) {
	world(t, 20, func(t *testing.T, network *bus.Mem, b *scripted) {
		m := &memTarget{sending: func() { time.Sleep(3 * time.Second) }}
		r := run(t, network, m, Options{From: "master", At: 1})
		time.Sleep(10 * time.Second)
		say := func(e event.Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			e.ID, e.Session = "n1", b.heard[len(b.heard)-1].Session
			b.say(e)
		}
		say(event.Event{Kind: event.DumpReq, Dump: 1})
		time.Sleep(time.Second)
		say(event.Event{Kind: event.DumpReq, Dump: 2})
		time.Sleep(4 * time.Second) // the second is being read
		require.Zero(t, b.count(func(e event.Event) bool { return e.Kind == event.DumpRep && e.State == event.Fail }))
		restored := false
		m.loading = func(int) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			restored = true
			require.Zero(t, m.open)
			return nil
		}
		b.stages(t, 20)
		say(event.Event{Kind: event.IncrRep, State: event.Fatal, Code: event.NeedsDump})
		time.Sleep(time.Minute)
		synctest.Wait()
		require.True(t, restored)
		requireHolds(t, m, b, 20)
		r.stop(t)
	})
}

// XB-2: the target's half of a DUMP: chunks and manifest arrive, increments go on, the snapshot is closed; a
// cancel, a newer DUMP and the end of the agent close it too.
func TestXB02TheSnapshotIsSentAndAlwaysClosed(t *testing.T) {
	world(t, 20, func(t *testing.T, network *bus.Mem, b *scripted) {
		m := &memTarget{}
		r := run(t, network, m, Options{})
		time.Sleep(10 * time.Second)
		ask := func(dump event.DumpID, code event.Code) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.say(event.Event{Kind: event.DumpReq, Code: code, ID: "n1", Dump: dump, Session: b.heard[len(b.heard)-1].Session})
		}
		ask(1, 0)
		time.Sleep(time.Second)
		synctest.Wait()
		require.NotNil(t, b.sealed)
		require.Equal(t, b.h.pos[20], b.sealed.Pos)
		require.Zero(t, m.open)
		b.mu.Lock()
		b.sealed = nil
		b.mu.Unlock()
		for dump := event.DumpID(2); dump < 6; dump++ {
			ask(dump, 0)
			if dump%2 == 0 {
				ask(dump, event.Cancel)
			}
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Zero(t, m.open)
		require.NotNil(t, b.sealed)
		require.EqualValues(t, 5, b.sealed.Dump)
		ask(6, 0)
		r.stop(t)
		require.Zero(t, m.open)
	})
}

func TestNewRefusesImpossibleOptions(t *testing.T) {
	for _, o := range []Options{{ID: "N1"}, {ID: "n1", From: "n1"}, {ID: "n1", From: "?"},
		{ID: "n1", Topics: []string{"A b"}}, {ID: "n1", WindowBytes: 5},
		{ID: "n1", Heartbeat: 30, Silence: 30}, {ID: "n1", Tick: -1}, {ID: "n1", Group: "a.b"}} {
		_, err := New(nil, nil, o)
		require.Error(t, err, "%+v", o)
	}
}

// A node whose topics are not those of its database says so, and nothing to the broker: its data would have holes,
// whatever the broker remembers or has forgotten.
func TestANodeWithOtherTopicsRefusesItself(t *testing.T) {
	for name, c := range map[string]struct {
		holds event.Topics
		o     Options
		says  string
	}{
		"fewer":              {"shop,users", Options{Topics: []string{"shop"}}, "(--topics shop,users)"},
		"all":                {"shop", Options{}, "(--topics shop)"},
		"some of all":        {event.AllTopics, Options{Topics: []string{"shop"}}, "(without --topics)"},
		"without --replace":  {"shop", Options{From: "master"}, "--from NODE --replace"},
		"with a position":    {"shop", Options{From: "master", Replace: true, At: 3}, "up to 5"},
		"that are no topics": {"Shop;\x1b", Options{Topics: []string{"shop"}}, "would have holes"},
	} {
		t.Run(name, func(t *testing.T) {
			world(t, 30, func(t *testing.T, network *bus.Mem, b *scripted) {
				m := &memTarget{pos: b.h.pos[5], data: increments(5), topics: c.holds}
				c.o.ID, c.o.Log = "n1", slog.New(slog.DiscardHandler)
				conn := network.Connect("n1")
				defer conn.Close()
				a, err := New(conn, m, c.o)
				require.NoError(t, err)
				err = a.Run(t.Context())
				require.ErrorIs(t, err, ErrTopics)
				require.ErrorContains(t, err, c.says)
				require.Zero(t, b.count(func(event.Event) bool { return true }))
				require.Equal(t, c.holds, m.topics)
				require.Equal(t, b.h.pos[5], m.pos)
			})
		})
	}
}

func TestADatabaseOfOtherTopicsIsReplacedWhenAllowed(t *testing.T) {
	world(t, 30, func(t *testing.T, network *bus.Mem, b *scripted) {
		b.stages(t, 20)
		m := &memTarget{pos: b.h.pos[5], data: increments(5), topics: "shop"}
		r := run(t, network, m, Options{ID: "n1", From: "master", Replace: true})
		time.Sleep(time.Minute)
		requireHolds(t, m, b, 30)
		require.Equal(t, 1, m.switched)
		require.Equal(t, event.AllTopics, m.topics)
		r.stop(t)
	})
}

// A database that does not say which topics it holds is one of the first revision, or fresh: it says so as soon as the
// broker has welcomed it, and before anything is applied to it.
func TestTopicsAreStoredAtTheFirstWelcome(t *testing.T) {
	for _, at := range []int{0, 5} {
		world(t, 30, func(t *testing.T, network *bus.Mem, b *scripted) {
			m := &memTarget{data: increments(at)}
			if at > 0 {
				m.pos = b.h.pos[at]
			}
			m.apply = func(context.Context) error {
				if topics, _ := m.Topics(t.Context()); topics != "a,b" {
					return Fatal(fmt.Errorf("topics %s", topics))
				}
				return nil
			}
			r := run(t, network, m, Options{ID: "n1", Topics: []string{"b", "a"}})
			time.Sleep(time.Minute)
			requireHolds(t, m, b, 30)
			r.stop(t)
		})
	}
	world(t, 30, func(t *testing.T, network *bus.Mem, b *scripted) {
		b.mute = func(e event.Event) bool {
			if e.State == event.None {
				b.say(event.Event{Kind: event.IncrRep, State: event.Fail, Code: event.OutOfLog, ID: e.ID, Session: e.Session,
					Text: "no"})
			}
			return true
		}
		m := &memTarget{pos: b.h.pos[5], data: increments(5)}
		conn := network.Connect("n1")
		defer conn.Close()
		a, err := New(conn, m, Options{ID: "n1", Topics: []string{"a"}, Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		require.ErrorIs(t, a.Run(t.Context()), ErrRefused)
		require.False(t, m.topics.Known(), "a broker that knows better has refused it")
	})
}

// A false broker, which reads what a node shows of itself and speaks on its subject, moves nothing: without the token
// of the session it is not heard, with it the node stays within its log, its chain and its window. The true broker then
// goes on.
func TestAFalseBrokerMovesNothing(t *testing.T) {
	other := event.Position{Log: 0xdead, Seq: 7, Chain: 9}
	forged := func(p event.Position, seq uint64) []byte {
		record, _ := event.EncodeRecord(nil, seq, 1, p.Chain, event.Draft{Body: []byte("forged")})
		return event.AppendRecord(nil, record)
	}
	bomb := event.Pack(nil, bytes.Repeat([]byte{9, 0, 0, 0, 0}, event.MaxBody/5))
	words := func(at event.Position) []event.Event {
		return []event.Event{
			{Code: event.Welcome, Pos: other},
			{Code: event.Seek, Pos: other},
			{Code: event.Seek},
			{State: event.Succ, Pos: at, Body: forged(other, at.Seq+1)},
			{State: event.Succ, Pos: at, Body: forged(at, at.Seq+2)},
			{State: event.Succ, Pos: other, Body: forged(other, 8)},
			{State: event.Succ, Pos: at, Body: event.AppendSkip(nil, at.Seq+1<<40, 3)},
			{State: event.Succ, Pos: at, Body: bomb},
			{State: event.Succ, Pos: at, Body: []byte{4, 9, 9}},
		}
	}
	blind := func(at event.Position) []event.Event { // what only a session's own broker may say
		return append(words(at), event.Event{Code: event.Fenced, Text: "stop"},
			event.Event{Code: event.NeedsDump, Text: "join"},
			event.Event{State: event.Succ, Pos: at, Body: forged(at, at.Seq+1)})
	}
	for name, knows := range map[string]bool{"who knows the process": false, "who knows the token": true} {
		t.Run(name, func(t *testing.T) {
			world(t, 10, func(t *testing.T, network *bus.Mem, b *scripted) {
				m := &memTarget{pos: b.h.pos[5], data: increments(5)}
				r := run(t, network, m, Options{ID: "n1"})
				time.Sleep(10 * time.Second)
				requireHolds(t, m, b, 10)
				n := len(blind(event.Position{}))
				if knows {
					n = len(words(event.Position{}))
				}
				for i := range n {
					b.mu.Lock()
					spoken := b.heard[len(b.heard)-1].Session
					require.False(t, spoken.Token.Zero())
					said := words(b.h.pos[10])[min(i, len(words(other))-1)]
					if !knows {
						said = blind(b.h.pos[10])[i]
						spoken.Token[0]++
					}
					said.Kind, said.ID, said.Session = event.IncrRep, "n1", spoken
					b.say(said)
					b.mu.Unlock()
					time.Sleep(10 * time.Second)
					requireHolds(t, m, b, 10)
				}
				b.mu.Lock()
				b.head = 20
				b.mu.Unlock()
				time.Sleep(time.Minute)
				requireHolds(t, m, b, 20)
				require.Equal(t, event.AllTopics, m.topics)
				r.stop(t)
			})
		})
	}
}

// What waits to be heard is bounded in bytes: a sender that keeps to the window never comes near.
func TestTheInboxIsBoundedInBytes(t *testing.T) {
	a, err := New(nil, nil, Options{ID: "n1", WindowBytes: MinBytes})
	require.NoError(t, err)
	e := event.Event{Kind: event.IncrRep, Group: DefaultGroup, ID: "n1", Body: make([]byte, 1<<20)}
	m := bus.Msg{Data: e.Append(nil)}
	for range 100 {
		a.receive(m)
	}
	n := len(a.inbox)
	require.Equal(t, (MinBytes+2*event.MaxBody)/len(m.Data), n)
	require.EqualValues(t, n*len(m.Data), a.waiting.Load())
}
