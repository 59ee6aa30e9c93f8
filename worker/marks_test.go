package worker

import (
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
)

// A node that asks for the time of the log gets it with heartbeats and increments, as soon as it stands where that
// time holds; nobody else gets it.
func TestNodesAreToldTheTimeOfTheLog(t *testing.T) {
	for _, asks := range []bool{true, false} {
		l := newLog(5)
		marks := new(Marks)
		rules := Rules{Group: "main", Masters: []string{"master"}, SilentTicks: 30, LeaseTicks: 3, TurnRecords: 3,
			TurnBytes: 1 << 20, Marks: marks}
		m := NewMachine(&rules, "master", nil, nil)
		session := event.Session{Instance: 7, Turn: 1, Token: event.Token{7}}
		hear := func(e event.Event) []event.Event {
			e.ID, e.Session = "master", session
			m.Step(Input{Node: &e}, l, 1)
			return m.Ready(l.Head()).Send
		}
		hear(event.Event{Kind: event.IncrReq, Pos: event.Start(l.id), Body: event.Hello{Clock: asks}.Encode()})
		report := event.Event{Kind: event.IncrReq, State: event.Succ, Pos: event.Start(l.id), CreditRecords: 100,
			CreditBytes: 1 << 20}
		heartbeat := func() int64 {
			said := hear(report)
			require.Len(t, said, 1)
			return said[0].Clock
		}
		require.Zero(t, heartbeat(), "nothing is known")
		require.Equal(t, asks, marks.Asked())
		require.False(t, marks.Asked())
		marks.Tell(l.at(4), 100)
		require.Zero(t, heartbeat(), "it stands before that")
		want := int64(0)
		if asks {
			want = 100
		}
		require.Zero(t, m.Fed(l.at(3), []byte("frame")).Clock)
		require.Equal(t, want, m.Fed(l.at(5), []byte("frame")).Clock)
		report.Pos = l.at(5)
		hear(report)
		require.Equal(t, want, heartbeat())
		other := l.at(5)
		other.Log++
		marks.Tell(other, 200)
		require.Zero(t, heartbeat(), "of another log")
	}
}
