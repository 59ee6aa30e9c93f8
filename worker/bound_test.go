package worker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/broker/form"
	"xmq/statedb"
)

// An alert that says what state a client is in ends with that state, whatever ends it: each way into such a state is
// followed by each way out of it, and by each other state. What is shown of the client is what the alerts say.
func TestAnAlertOfAStateEndsWithEveryExitFromIt(t *testing.T) {
	session := event.Session{Instance: 0xa, Turn: 1}
	says := func(e event.Event) func(*stage) {
		return func(s *stage) {
			e.Kind, e.ID, e.Session = event.IncrReq, "n1", s.machine("n1").client.Session
			if e.Pos.Zero() {
				e.Pos = s.log.at(10)
			}
			e.CreditRecords, e.CreditBytes = 100, 1<<20
			s.step("n1", Input{Node: &e})
		}
	}
	hello := func(of event.Session, pos uint64) func(*stage) {
		return func(s *stage) {
			for _, state := range []event.State{event.None, event.Succ} {
				s.step("n1", Input{Node: &event.Event{Kind: event.IncrReq, State: state, ID: "n1", Session: of, Pos: s.log.at(pos),
					CreditRecords: 100, CreditBytes: 1 << 20, Body: event.Hello{Target: "mem"}.Encode()}})
			}
		}
	}
	order := func(o Order) func(*stage) {
		return func(s *stage) {
			o := o
			o.Reason = "test"
			s.step("n1", Input{Order: &o})
		}
	}
	silent := func(s *stage) {
		for range 2 * s.rules.SilentTicks {
			s.tick()
		}
	}
	bye := says(event.Event{State: event.Succ, Code: event.Bye})
	away := func(s *stage) {
		s.step("n1", Input{Node: &event.Event{Kind: event.IncrReq, Code: event.Busy, ID: "n1",
			Session: event.Session{Instance: 0xc, Turn: 1}, Text: "connection refused", Body: event.Hello{Away: true}.Encode()}})
	}
	fed := func(is func(*Machine, int64)) func(*stage) { // what a worker finds when it feeds
		return func(s *stage) {
			if m := s.machine("n1"); m.feedable() {
				is(m, s.now)
				s.play("n1")
			}
		}
	}
	ways := map[string]func(*stage){
		"fails":                says(event.Event{State: event.Fail, Text: "no such table"}),
		"loses its copy":       says(event.Event{State: event.Fatal, Text: "position gone"}),
		"retries":              says(event.Event{State: event.Succ, Code: event.Retrying, Text: "refused"}),
		"is blocked":           says(event.Event{State: event.Succ, Code: event.Slow, Text: "runs for long"}),
		"is held":              fed(func(m *Machine, now int64) { m.Hold(form.Features(1), now) }),
		"falls silent":         silent,
		"says goodbye":         bye,
		"goes and waits":       func(s *stage) { bye(s); away(s) },
		"waits, falls silent":  func(s *stage) { bye(s); away(s); silent(s) },
		"goes on":              says(event.Event{State: event.Succ, Pos: newLog(20).at(12)}),
		"says that it is well": says(event.Event{State: event.Succ}),
		"comes again":          hello(event.Session{Instance: 0xa, Turn: 2}, 10),
		"is started again":     hello(event.Session{Instance: 0xb, Turn: 1}, 10),
		"is put back":          hello(event.Session{Instance: 0xb, Turn: 1}, 5),
		"comes emptied":        hello(event.Session{Instance: 0xb, Turn: 1}, 0),
		"retry":                order(Order{Verb: Retry, Seq: 11}),
		"skip":                 order(Order{Verb: Skip, Seq: 11}),
		"seek":                 order(Order{Verb: SeekTo, Seq: 15}),
		"redump":               order(Order{Verb: Redump}),
		"forget":               order(Order{Verb: Forget}),
		"the log is freed":     fed(func(m *Machine, now int64) { m.Lost("trimmed", now) }),
		"is evicted":           func(s *stage) { s.step("n1", Input{Evict: &Evict{Reason: "max_bytes"}}) },
		"the broker restarts":  func(s *stage) { s.restart(); s.tick() },
	}
	shows := map[string][]Is{
		"fail":    {IsFailed, IsReturning}, // an order ends it when the increment is passed
		"fatal":   {IsFatal},
		"retry":   {IsRetrying, IsReturning},
		"slow":    {IsBlocked, IsReturning, IsHeld},                              // with what precedes the one that is held
		"upgrade": {IsHeld, IsReturning, IsGone, IsStopped, IsAbsent, IsBlocked}, // its node may be away, too
		"offline": {IsGone, IsReturning},
	}
	required := map[Is][]string{IsFailed: {"fail"}, IsFatal: {"fatal"}, IsRetrying: {"retry"}, IsBlocked: {"slow"},
		IsHeld: {"upgrade"}, IsGone: {"offline"}}
	for _, kind := range boundAlerts {
		require.Contains(t, shows, kind)
	}
	for first, in := range ways {
		for second, out := range ways {
			s := newStage(20)
			s.clients["n1"] = statedb.Client{V: statedb.ClientVersion, ID: "n1", State: statedb.Following, Driver: "mem",
				Acked: s.log.at(10), Base: 0, Updated: 1}
			s.revive("n1")
			hello(session, 10)(s)
			for i, step := range []func(*stage){in, out} {
				step(s)
				m := s.machine("n1")
				is := m.condition().Is
				what := fmt.Sprintf("%s, then %s, step %d: it is %s, and the alerts are %v\n%s", first, second, i+1, is, s.alerts,
					s.out.String())
				for key := range s.alerts {
					kind, _, _ := strings.Cut(key, "/")
					if !m.known {
						require.False(t, slices.Contains(boundAlerts, kind), what)
						continue
					}
					if allowed, bound := shows[kind]; bound {
						require.Contains(t, allowed, is, what)
					}
				}
				if m.known {
					for _, kind := range required[is] {
						require.Contains(t, s.alerts, kind+"/n1", what)
					}
				}
			}
		}
	}
}

// Whoever cancels a DUMP, or lets its record go, needs no alert about it.
func TestTheAlertAboutADumpEndsWithIt(t *testing.T) {
	s := newStage(20)
	s.clients["n1"] = statedb.Client{V: statedb.ClientVersion, ID: "n1", State: statedb.Following, Driver: "mem",
		Acked: s.log.at(10), Updated: 1}
	s.revive("n1")
	ask := func(request event.RequestID) {
		for _, state := range []event.State{event.None, event.Succ} {
			s.step("n1", Input{Node: &event.Event{Kind: event.IncrReq, State: state, ID: "n1",
				Session: event.Session{Instance: 0xa, Turn: uint32(request)}, Pos: s.log.at(10), Body: event.Hello{}.Encode()}})
		}
		s.step("n1", Input{Asked: &event.Event{Kind: event.DumpReq, ID: "n1", Peer: "n2", Request: request,
			Body: event.Hello{Target: "mem", Host: "db7", Pid: 4, Address: "mem:2"}.Encode()}})
	}
	ask(1)
	n2 := s.machine("n2").View(s.log.Head())
	require.Equal(t, []any{"mem", "db7", 4, "mem:2"}, []any{n2.Target, n2.Host, n2.Pid, n2.Address},
		"a newcomer is shown with what its request says")
	s.step("n1", Input{Order: &Order{Verb: Cancel}})
	require.NotContains(t, s.alerts, "dump/n1")
	ask(2)
	for range 2 * s.rules.SilentTicks {
		s.tick()
	}
	require.Contains(t, s.alerts, "dump/n1")
	for range 10 * s.rules.SilentTicks {
		s.tick()
	}
	require.Empty(t, s.dumps)
	require.NotContains(t, s.alerts, "dump/n1")
}

// A node that follows this log now does not speak against it any more, whatever its database held before.
func TestAWitnessThatTookTheLogIsNotNamed(t *testing.T) {
	s := newStage(0)
	s.rules.Doubts = NewDoubts(statedb.Doubts{}, func() bool { return true }, func() {})
	other := event.Position{Log: 0xbad, Seq: 7}
	comes := func(id string, instance uint64, pos event.Position) {
		for _, state := range []event.State{event.None, event.Succ} {
			s.step(id, Input{Node: &event.Event{Kind: event.IncrReq, State: state, ID: id,
				Session: event.Session{Instance: event.Instance(instance), Turn: 1}, Pos: pos, Body: event.Hello{}.Encode()}})
		}
	}
	comes("n1", 1, other)
	comes("master", 2, other)
	require.Len(t, s.rules.Doubts.Held().Witnesses, 2)
	comes("master", 3, event.Position{}) // its position was removed
	held := s.rules.Doubts.Held().Witnesses
	require.Len(t, held, 1)
	require.Equal(t, "n1", held[0].ID)
}
