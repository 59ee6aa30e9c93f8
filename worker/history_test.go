package worker

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/statedb"
)

// actor is what a random history knows of one node: enough to say sensible things most of the time.
type actor struct {
	id        string
	session   event.Session
	pos       event.Position
	welcomed  bool
	opening   event.DumpID
	preparing event.DumpID
	request   event.RequestID
	loaded    event.RequestID
	join      *event.Event // the DUMP it waits for, as last told
	said      []event.Event
}

// history plays n random steps on the machines of four clients: sensible conversations, repetitions of anything
// said before, nonsense, orders, ticks, trimming, and restarts from what was saved.
func history(rng *rand.Rand, s *stage, n int) {
	ids := []string{"master", "n1", "n10", "xn1"}
	actors := map[string]*actor{}
	for i, id := range ids {
		actors[id] = &actor{id: id, session: event.Session{Instance: event.Instance(100 * (i + 1))}}
	}
	s.heard = func(e *event.Event) { actors[e.ID].hear(e, rng) }
	for range n {
		a := actors[ids[rng.IntN(len(ids))]]
		switch rng.IntN(30) {
		case 0, 1, 2:
			s.log.push(1+rng.IntN(8), "")
			for id := range s.machines {
				s.play(id)
			}
		case 3, 4, 5:
			s.tick()
		case 6:
			if rng.IntN(8) == 0 {
				s.restart()
			}
		case 7:
			if rng.IntN(10) == 0 {
				head := s.log.Head().Seq
				s.log.trim(max(s.log.First(), head/2))
				for _, id := range ids {
					s.step(id, Input{Trimmed: true})
				}
			}
		case 8, 9:
			verbs := []Verb{Add, Retry, Skip, Replace, SeekTo, Forget, Redump, Cancel, "dance"}
			o := Order{Verb: verbs[rng.IntN(len(verbs))], Seq: rng.Uint64N(s.log.Head().Seq + 3), Body: []byte("other"),
				Reason: "chance"}
			// of the increments the client may be at
			if m := s.machines[a.id]; m != nil && o.Verb != SeekTo && rng.IntN(2) == 0 {
				o.Seq = m.client.Acked.Seq + rng.Uint64N(4)
			}
			if o.Verb != SeekTo && rng.IntN(3) == 0 {
				o.Seq = 0
			}
			if rng.IntN(3) == 0 {
				o.Limit = event.NoLimit
			}
			s.step(a.id, Input{Order: &o})
		case 10, 11:
			if len(a.said) > 0 { // everything may be repeated
				s.hearNode(a, a.said[rng.IntN(len(a.said))])
			}
		case 12:
			nonsense := event.Event{Kind: event.Kind(1 + rng.IntN(6)), State: event.State(rng.IntN(4)),
				Code: event.Code(rng.IntN(40)), ID: a.id, Peer: ids[rng.IntN(4)],
				Session: a.session, Pos: a.pos, Dump: a.opening, Request: event.RequestID(rng.Uint64N(3)),
				CreditRecords: rng.Uint32N(20), CreditBytes: rng.Uint32N(300)}
			if rng.IntN(2) == 0 {
				nonsense.Pos = event.Position{Log: s.log.id, Seq: rng.Uint64N(100), Chain: event.Chain(rng.Uint64())}
			}
			s.hearNode(a, nonsense)
		case 13:
			s.step(a.id, Input{Sealed: &dumpflow.Manifest{Dump: a.opening, Target: a.id, Pos: a.pos}})
		case 14, 15, 16:
			a.ask(s, ids[rng.IntN(len(ids))], rng)
		case 17:
			if rng.IntN(3) == 0 { // a new process
				a.session = event.Session{Instance: a.session.Instance + 1}
				a.open(s, rng)
			}
		case 18, 19:
			if a.join != nil && a.join.State == event.Succ { // the snapshot is loaded
				a.pos, a.loaded = a.join.Pos, a.join.Request
				a.open(s, rng)
			}
		default:
			a.speak(s, rng)
		}
		if s.wrong != nil {
			return
		}
	}
}

func (s *stage) hearNode(a *actor, e event.Event) {
	if len(a.said) < 200 {
		a.said = append(a.said, e)
	}
	if e.Kind == event.DumpReq {
		swapped := dumpflow.Swap(e)
		s.step(swapped.ID, Input{Asked: &swapped})
		return
	}
	s.step(a.id, Input{Node: &e})
}

func (a *actor) ask(s *stage, from string, rng *rand.Rand) {
	if a.request == 0 || rng.IntN(3) == 0 {
		a.request = event.RequestID(rng.Uint64() | 1)
	}
	s.hearNode(a, event.Event{Kind: event.DumpReq, ID: a.id, Peer: from, Request: a.request,
		Body: event.Hello{Backup: rng.IntN(5) == 0}.Encode()})
}

func (a *actor) open(s *stage, rng *rand.Rand) {
	a.session.Turn++
	a.welcomed = false
	if rng.IntN(4) == 0 { // its database is at something
		s.hearNode(a, event.Event{Kind: event.IncrReq, Code: event.Busy, ID: a.id, Session: a.session, Pos: a.pos,
			Text: "increment 1 has been there for long"})
	}
	s.hearNode(a, event.Event{Kind: event.IncrReq, ID: a.id, Session: a.session, Pos: a.pos,
		Body: event.Hello{Loaded: a.loaded, Prepares: a.session.Instance%2 == 0}.Encode()})
}

func (a *actor) speak(s *stage, rng *rand.Rand) {
	if !a.welcomed {
		if rng.IntN(8) == 0 { // its database was put back from elsewhere
			a.pos, _ = s.log.Position(s.log.First() + rng.Uint64N(s.log.Head().Seq+2-s.log.First()) - 1)
		}
		a.open(s, rng)
		return
	}
	e := event.Event{Kind: event.IncrReq, State: event.Succ, ID: a.id, Session: a.session, Pos: a.pos,
		CreditRecords: 1 + rng.Uint32N(20), CreditBytes: rng.Uint32N(400)}
	switch rng.IntN(16) {
	case 0:
		e.State, e.Text = event.Fail, "cannot"
	case 1:
		e.State, e.Text = event.Fatal, "lost"
	case 2:
		e.Code = event.Bye
	case 3:
		e.Code = event.Retrying
	case 4, 5, 6, 7:
		if a.preparing != 0 && rng.IntN(2) == 0 {
			e = event.Event{Kind: event.DumpRep, State: event.Succ, Code: event.Prepare, ID: a.id, Session: a.session,
				Pos: a.pos, Dump: a.preparing}
			if rng.IntN(4) == 0 {
				e.State, e.Code, e.Text = event.Fail, event.NoCode, "it could not be prepared"
			}
			a.preparing = 0
		} else if a.opening != 0 {
			e = event.Event{Kind: event.DumpRep, State: event.Succ, Code: event.Opened, ID: a.id, Session: a.session, Pos: a.pos,
				Dump: a.opening,
				Body: dumpflow.Opened{Format: "mem/1", Online: rng.IntN(2) == 0}.Encode()}
			if rng.IntN(5) == 0 {
				e.State = event.Fail
			}
		}
	}
	s.hearNode(a, e)
}

func (a *actor) hear(e *event.Event, rng *rand.Rand) {
	if rng.IntN(8) == 0 {
		return // lost
	}
	switch {
	case e.Kind == event.DumpReq:
		if e.Code == event.Prepare {
			a.preparing = e.Dump
		} else {
			a.opening = e.Dump
		}
	case e.Kind == event.DumpRep:
		a.join = e
	case e.Session != a.session:
	case e.Code == event.Welcome:
		a.welcomed, a.pos = true, e.Pos
	case e.Code == event.Seek:
		a.pos, a.welcomed = e.Pos, false
	case e.Code != event.NoCode:
		a.welcomed = a.welcomed && e.Code == event.Held
	case e.Pos == a.pos:
		_ = event.Walk(e.Body, e.Pos, func(i event.Item) error { a.pos = i.Pos; return nil })
	}
}

// Base <= acked <= sent at every step. Only listed changes of state are possible; each that is listed happens. Nothing
// anybody says can stop a worker (XC-4, SS-21, XD-2).
func TestXC04AndSS21InRandomHistories(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	seen := map[[2]statedb.State]bool{}
	missing := func() (all [][2]statedb.State) {
		for from, list := range moves {
			for _, to := range list {
				if move := [2]statedb.State{from, to}; !seen[move] {
					all = append(all, move)
				}
			}
		}
		return all
	}
	for i := uint64(0); i < 300 || i < 6000 && len(missing()) > 0; i++ { // a rare move may need more of them
		s := newStage(0)
		s.rules.TurnBytes = 300
		s.moves = seen
		playHistory(t, s, seed, i)
	}
	for _, move := range missing() {
		assert.Fail(t, "no history showed a move that is listed", "from %q to %q", move[0], move[1])
	}
}

func playHistory(t *testing.T, s *stage, seed, i uint64) {
	defer func() {
		if p := recover(); p != nil {
			out := s.out.String()
			panic(fmt.Sprintf("history %d of seed %d: %v\n%s", i, seed, p, out[max(0, len(out)-3000):]))
		}
	}()
	history(rand.New(rand.NewPCG(seed, i)), s, 600)
	if s.wrong != nil {
		out := s.out.String()
		t.Fatalf("history %d of seed %d: %v\n%s", i, seed, s.wrong, out[max(0, len(out)-3000):])
	}
}

// Requests queued during an outage arrive late or twice: each is replayed once and ten times, and the records end the
// same (XB-7).
func TestXB07RepetitionsChangeNothing(t *testing.T) {
	tell := func(times int) *stage {
		s := newStage(20)
		say := func(id string, e event.Event) {
			e.ID = id
			for range times {
				again := e
				if e.Kind == event.DumpReq {
					again = dumpflow.Swap(e)
					s.step(again.ID, Input{Asked: &again})
				} else {
					s.step(id, Input{Node: &again})
				}
			}
		}
		a, b := event.Session{Instance: 0xa, Turn: 1}, event.Session{Instance: 0xb, Turn: 1}
		reports := func(id string, session event.Session, seq uint64, state event.State) {
			pos, err := s.log.Position(seq)
			require.NoError(t, err)
			say(id, event.Event{Kind: event.IncrReq, State: state, Session: session, Pos: pos, CreditRecords: 10,
				CreditBytes: 1 << 20})
		}
		reports("master", a, 0, event.None)
		reports("master", a, 0, event.Succ)
		reports("master", a, 10, event.Succ)
		say("n1", event.Event{Kind: event.DumpReq, Peer: "master", Request: 0x71})
		reports("master", a, 20, event.Succ)
		at := s.log.Head()
		say("master", event.Event{Kind: event.DumpRep, State: event.Succ, Code: event.Opened, Session: a, Dump: 0x71, Pos: at,
			Body: dumpflow.Opened{Format: "mem/1", Online: true}.Encode()})
		for range times {
			s.step("master", Input{Sealed: &dumpflow.Manifest{Dump: 0x71, Pos: at, Size: 9}})
		}
		say("n1", event.Event{Kind: event.IncrReq, Session: b, Pos: at, Body: event.Hello{Loaded: 0x71}.Encode()})
		reports("n1", b, 20, event.Succ)
		s.log.push(5, "")
		s.play("n1")
		reports("n1", b, 22, event.Fail)
		for range times {
			s.step("n1", Input{Order: &Order{Verb: Retry}})
		}
		reports("n1", b, 22, event.Fail) // late: it undoes no order
		b.Turn++
		reports("n1", b, 22, event.None)
		reports("n1", b, 22, event.Succ)
		reports("n1", b, 25, event.Succ)
		say("n1", event.Event{Kind: event.DumpReq, Peer: "master", Request: 0x71}) // very late
		require.NoError(t, s.wrong)
		return s
	}
	once, often := tell(1), tell(10)
	require.Equal(t, once.clients, often.clients)
	require.Equal(t, once.dumps, often.dumps)
	require.Equal(t, once.alerts, often.alerts)
	require.EqualValues(t, 25, once.clients["n1"].Acked.Seq)
	require.EqualValues(t, 20, once.clients["n1"].Base)
}

// What a turn is to save goes with the DUMPs and alerts of that turn: a lagging save must not run ahead of them.
func TestALaggingSaveDoesNotOvertakeATurn(t *testing.T) {
	s := newStage(5)
	s.clients["n1"] = statedb.Client{V: statedb.ClientVersion, ID: "n1", State: statedb.Following, Acked: s.log.at(3)}
	s.revive("n1")
	m := s.machine("n1")
	_, ok := m.Record()
	require.True(t, ok)
	m.Step(Input{Order: &Order{Verb: Redump}}, s.log, 1)
	_, ok = m.Record()
	require.False(t, ok)
	m.Ready(s.log.Head())
	_, ok = m.Record()
	require.True(t, ok)
}
