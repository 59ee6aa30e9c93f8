package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/statedb"
)

// A node that lives and asks for a snapshot that it cannot get is neither stopped nor level: it waits, its position is
// not known, and after a while an alert says for whom; of one that nobody knows, the alert about strangers does.
func TestANodeThatAsksInVainIsShown(t *testing.T) {
	s := newStage(20)
	s.rules.ClientQuota = NewClientQuota(2)
	for _, id := range []string{"n1", "m"} {
		s.clients[id] = statedb.Client{V: statedb.ClientVersion, ID: id, State: statedb.Following, Acked: s.log.at(20),
			Driver: "mem", Stopped: 1}
		s.revive(id)
	}
	asks := func(id, target string, request event.RequestID) {
		e := dumpflow.Swap(event.Event{Kind: event.DumpReq, ID: id, Peer: target, Request: request,
			Body: event.Hello{Target: "mem", Host: "db1"}.Encode()})
		s.step(target, Input{Asked: &e})
		require.NoError(t, s.wrong)
	}
	view := func(id string) View { return s.machine(id).View(s.log.Head()) }
	require.Equal(t, IsStopped, view("n1").Condition.Is)
	for range 130 { // each asks for the other's
		asks("n1", "m", 5)
		asks("m", "n1", 6)
		asks("x", "nobody", 7)
		for _, id := range []string{"n1", "m"} {
			v := view(id)
			require.Equal(t, IsWaiting, v.Condition.Is)
			require.Contains(t, v.Condition.Text, "is not connected")
			require.Nil(t, v.Lag)
		}
		s.tick()
	}
	require.True(t, s.alerts["join/n1"])
	require.True(t, s.alerts["join/m"])
	r := s.rules.ClientQuota.Refusals()
	require.Equal(t, []string{"x"}, r.IDs)
	shown := s.rules.ClientQuota.Newcomers(time.Unix(0, s.machine("m").now))
	require.Len(t, shown, 1)
	require.Equal(t, IsWaiting, shown[0].Condition.Is)
	require.Equal(t, "nobody", shown[0].Condition.By)
	require.Contains(t, r.Texts[0], "node x waits for the snapshot of nobody")
	require.Len(t, s.clients, 2)
	for range 70 { // they are given up
		s.tick()
	}
	require.False(t, s.alerts["join/n1"])
	require.Equal(t, IsStopped, view("n1").Condition.Is)
	require.NotNil(t, view("n1").Lag)
}
