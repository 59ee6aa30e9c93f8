package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/statedb"
)

// A broker with thousands of clients lets each be silent for longer, says so, and does not call it silent for that;
// connected clients are counted whatever they do.
func TestManyClientsSpeakRarely(t *testing.T) {
	l := newLog(1)
	pacer := &Pacer{}
	rules := &Rules{Group: "main", Masters: []string{"n1"}, Tick: time.Second, SilentTicks: 15, LeaseTicks: 15,
		TurnRecords: 100, TurnBytes: 1 << 16, Pacer: pacer}
	start, me := event.Start(l.id), event.Session{Instance: 1, Turn: 1}
	m := NewMachine(rules, "n1", nil, nil)
	hears := func(e event.Event) (said []event.Event) {
		e.Kind, e.Group, e.ID, e.Session = event.IncrReq, "main", "n1", me
		m.Step(Input{Node: &e}, l, 1)
		return m.Ready(l.Head()).Send
	}
	ticks := func(n int) (alerts int) {
		for range n {
			m.Tick(1)
			alerts += len(m.Ready(l.Head()).Raise)
		}
		return alerts
	}
	open := func() event.Event {
		me.Turn++
		said := hears(event.Event{State: event.None, Pos: start, Body: event.Hello{}.Encode()})
		require.Len(t, said, 1)
		require.Equal(t, event.Welcome, said[0].Code)
		hears(event.Event{State: event.Succ, Pos: start})
		return said[0]
	}
	beat := func() uint32 { return hears(event.Event{State: event.Succ, Pos: start})[0].LeaseMS }

	require.Zero(t, open().LeaseMS, "a few speak as usual")
	require.EqualValues(t, 1, pacer.clients.Load())
	require.Zero(t, beat())
	pacer.clients.Add(1999)
	require.Zero(t, beat(), "2000 in five seconds are as usual")
	pacer.clients.Add(2000)
	require.EqualValues(t, 10_000, beat())
	require.Zero(t, ticks(29))
	require.True(t, m.Connected())
	pacer.clients.Add(-2000)
	require.Equal(t, 1, ticks(1), "30 s after its last word, whatever has become of the others")
	require.False(t, m.Connected())
	require.EqualValues(t, 1999, pacer.clients.Load())
	require.Zero(t, ticks(100))

	pacer.clients.Add(2001)
	require.EqualValues(t, 10_000, open().LeaseMS)
	require.EqualValues(t, 4001, pacer.clients.Load())
	hears(event.Event{State: event.Succ, Code: event.Bye, Pos: start})
	require.EqualValues(t, 4000, pacer.clients.Load())
	open()
	hears(event.Event{State: event.Fatal, Pos: start, Text: "lost"})
	require.EqualValues(t, 4000, pacer.clients.Load())
}

// Behind a restart of the broker nodes that have not noticed it go on speaking as rarely as they were let.
func TestManyClientsAreAwaitedPatiently(t *testing.T) {
	rules := &Rules{Group: "main", Tick: time.Second, SilentTicks: 15, LeaseTicks: 15, Pacer: &Pacer{}}
	l := newLog(1)
	var all []*Machine
	for range 8000 {
		all = append(all, NewMachine(rules, "n", &statedb.Client{ID: "n", State: statedb.Following, Acked: event.Start(l.id)},
			nil))
	}
	require.EqualValues(t, 8000, rules.Pacer.clients.Load())
	alerts := func() (n int) {
		for _, m := range all {
			m.Tick(1)
			n += len(m.Ready(l.Head()).Raise)
		}
		return n
	}
	for range 59 {
		require.Zero(t, alerts())
	}
	require.Equal(t, 8000, alerts(), "three intervals of 20 s")
	require.Zero(t, rules.Pacer.clients.Load())
	require.Zero(t, alerts())
}

// A client that is forgotten before it has come back is expected no more: nobody ticks it, so it would be counted for
// ever.
func TestAForgottenClientIsNotAwaited(t *testing.T) {
	rules := &Rules{Group: "main", Tick: time.Second, SilentTicks: 15, LeaseTicks: 15, Pacer: &Pacer{}}
	l := newLog(1)
	m := NewMachine(rules, "n1", &statedb.Client{ID: "n1", State: statedb.Following, Acked: event.Start(l.id)}, nil)
	require.EqualValues(t, 1, rules.Pacer.clients.Load())
	m.Step(Input{Order: &Order{Verb: Forget}}, l, 1)
	require.True(t, m.Idle())
	require.Zero(t, rules.Pacer.clients.Load())
}

// The others going, a client is not called silent for being as silent as it was let when there were many.
func TestPatienceIsForWhatTheNodeWasTold(t *testing.T) {
	l := newLog(40)
	pacer := &Pacer{}
	rules := &Rules{Group: "main", Masters: []string{"n1"}, Tick: time.Second, SilentTicks: 15, LeaseTicks: 15,
		TurnRecords: 100, TurnBytes: 1 << 16, Pacer: pacer}
	me := event.Session{Instance: 1, Turn: 1}
	m := NewMachine(rules, "n1", nil, nil)
	hears := func(state event.State, seq uint64) event.Event {
		m.Step(Input{Node: &event.Event{Kind: event.IncrReq, State: state, Group: "main", ID: "n1", Session: me,
			Pos: l.at(seq), CreditRecords: 100, CreditBytes: 1 << 20}}, l, 1)
		w := m.Ready(l.Head())
		if w.Feed != nil {
			m.Fed(l.Head(), nil)
		}
		return append(w.Send, event.Event{})[0]
	}
	alerts := func(ticks int) (n int) {
		for range ticks {
			m.Tick(1)
			n += len(m.Ready(l.Head()).Raise)
		}
		return n
	}
	pacer.clients.Add(8000)
	require.EqualValues(t, 20_000, hears(event.None, 0).LeaseMS)
	require.Equal(t, event.Succ, hears(event.Succ, 0).State)
	pacer.clients.Add(-8000)
	require.Zero(t, hears(event.Succ, 40), "what moves is not answered")
	require.Zero(t, alerts(59))
	require.Equal(t, 1, alerts(1))
	require.Zero(t, hears(event.Succ, 40).LeaseMS, "it may not hear this")
	require.Zero(t, alerts(59))
	hears(event.Succ, 40)
	require.Zero(t, alerts(14))
	require.Equal(t, 1, alerts(1))
}
