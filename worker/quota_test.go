package worker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/statedb"
)

// The limit holds over every way by which an ID gets a record: proof of a position, a DUMP, an order. Whoever is
// refused leaves nothing: no record, no alert, no machine. A record that goes makes room; stored ones stay above the
// limit.
func TestTheQuotaBoundsTheClientsThatAreKnown(t *testing.T) {
	s := newStage(20)
	s.rules.ClientQuota = NewClientQuota(2)
	heard := map[string]event.Code{}
	s.heard = func(e *event.Event) { heard[e.ID] = e.Code }
	session := event.Session{Instance: 0xa, Turn: 1}
	comes := func(id string) event.Code {
		for _, state := range []event.State{event.None, event.Succ} {
			s.step(id, Input{Node: &event.Event{Kind: event.IncrReq, State: state, ID: id, Session: session, Pos: s.log.at(10),
				Body: event.Hello{}.Encode()}})
			if heard[id] == event.Refused {
				break
			}
		}
		return heard[id]
	}
	order := func(id string, verb Verb) string {
		s.out.Reset()
		s.step(id, Input{Order: &Order{Verb: verb, Seq: 5}})
		return s.out.String()
	}
	require.NotEqual(t, event.Refused, comes("n1"))
	require.Contains(t, order("n2", Add), `refused=""`)
	require.Equal(t, event.Refused, comes("n3"))
	require.Contains(t, order("n3", Add), "max_clients")
	require.Contains(t, order("n3", SeekTo), "max_clients")
	s.step("n3", Input{Notice: &Notice{Requester: dumpflow.Requester{ID: "n3", Request: 7},
		Dump: dumpflow.Dump{ID: 7, Target: "n1", Phase: dumpflow.Draining}}})
	require.Equal(t, event.Refused, heard["n3"])
	require.Len(t, s.clients, 2)
	require.Empty(t, s.alerts)
	require.NotContains(t, s.machines, "n3")
	require.NotZero(t, s.rules.ClientQuota.Refusals().Full)

	require.Contains(t, order("n2", Forget), `refused=""`)
	require.NotEqual(t, event.Refused, comes("n3"), "there is room again")
	require.Equal(t, 2, s.rules.ClientQuota.Refusals().Known)

	s.rules.ClientQuota = NewClientQuota(1)
	s.restart()
	require.Equal(t, 2, s.rules.ClientQuota.Refusals().Known, "a lower limit takes no place away")
	require.NoError(t, s.wrong)
}

// A thousand IDs that nobody knows leave one count, whatever they say; a known client's refusal is an alert of its own.
func TestStrangersLeaveNoAlertsBehind(t *testing.T) {
	s := newStage(20)
	s.rules.ClientQuota = NewClientQuota(0)
	hello := func(id string, pos event.Position, h event.Hello) {
		s.step(id, Input{Node: &event.Event{Kind: event.IncrReq, ID: id, Session: event.Session{Instance: 1, Turn: 1},
			Pos: pos, Body: h.Encode()}})
	}
	foreign, beyond := s.log.at(5), s.log.at(20)
	foreign.Log++
	beyond.Seq = 99
	for i := range 1000 {
		id := fmt.Sprintf("x%d", i)
		hello(id, foreign, event.Hello{})
		hello(id, beyond, event.Hello{})
		hello(id, event.Position{}, event.Hello{})
		hello(id, event.Position{}, event.Hello{At: 3})
		hello(id, event.Position{}, event.Hello{At: 300})
	}
	require.Empty(t, s.alerts)
	require.Empty(t, s.clients)
	require.Empty(t, s.machines)
	r := s.rules.ClientQuota.Refusals()
	require.EqualValues(t, 3000, r.Strays)
	require.Equal(t, "x0", r.IDs[0])
	require.Len(t, r.IDs, mostStrays)
	require.True(t, r.More)
	s.clients["n1"] = statedb.Client{V: statedb.ClientVersion, ID: "n1", State: statedb.Following, Acked: s.log.at(10)}
	s.revive("n1")
	hello("n1", foreign, event.Hello{})
	require.Contains(t, s.alerts, "refused/n1")
}

// Silence is counted while a broker runs, outlives its restarts, and ends with the first word. A node that is connected
// costs one write in a minute, of when it was heard last.
func TestSilenceIsCountedAcrossRestarts(t *testing.T) {
	s := newStage(20)
	s.rules.SilenceTicks = 5
	s.clients["n1"] = statedb.Client{V: statedb.ClientVersion, ID: "n1", State: statedb.Following, Acked: s.log.at(10),
		Updated: 1}
	s.revive("n1")
	for range 3 {
		for range 12 {
			s.tick()
		}
		s.now += 1e18 // the broker is away for a long time
		s.restart()
	}
	require.EqualValues(t, 3*10*1e9, s.clients["n1"].Silent)
	session := event.Session{Instance: 0xa, Turn: 1}
	for _, state := range []event.State{event.None, event.Succ} {
		s.step("n1", Input{Node: &event.Event{Kind: event.IncrReq, State: state, ID: "n1", Session: session,
			Pos: s.log.at(10), Body: event.Hello{}.Encode()}})
	}
	require.Zero(t, s.clients["n1"].Silent)
	s.out.Reset()
	for range 40 {
		for range 8 {
			s.tick()
		}
		s.step("n1", Input{Node: &event.Event{Kind: event.IncrReq, State: event.Succ, ID: "n1", Session: session,
			Pos: s.log.at(10)}})
	}
	require.LessOrEqual(t, strings.Count(s.out.String(), "save soon"), 1+40*8/60)
	require.NotContains(t, strings.ReplaceAll(s.out.String(), "save soon", ""), "save")
	require.InDelta(t, s.now, s.clients["n1"].Heard, float64(heardGrain+8e9), "a broker that is killed knows it")
	require.True(t, s.machine("n1").Connected())
}
