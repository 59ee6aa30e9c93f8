package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/statedb"
)

// A snapshot that is open already serves those who come for the first time, and who have asked for it before: a client
// that has had data has lost it, and gets one that is opened afterwards.
func TestOnlyFirstJoinsShareASnapshot(t *testing.T) {
	rules := Rules{Fed: func(id string) (string, uint64) {
		return map[string]string{"fed": "sqlite"}[id], 7
	}}
	m := NewMachine(&rules, "master", nil, nil)
	d := dumpflow.New("master", event.TopicsOf(nil), dumpflow.Requester{ID: "new"}, 1, 1)
	require.True(t, m.fresh(d, "fed"), "it is not open yet")
	d.OpenedAt = 5
	require.True(t, m.fresh(d, "other"))
	require.False(t, m.fresh(d, "fed"))
	d.Requesters = append(d.Requesters, dumpflow.Requester{ID: "fed"})
	require.True(t, m.fresh(d, "fed"), "it goes on with its own")
}

// A snapshot of a client that was forgotten is not one of the client that comes back under its ID: it may have been
// restored from a backup.
func TestASnapshotOfAForgottenClientServesNobody(t *testing.T) {
	m, say := alone(t)
	say(1, "db1", time.Second)
	d := dumpflow.New("master", event.TopicsOf(nil), dumpflow.Requester{ID: "new"}, 1, 1)
	d.OpenedAt = int64(2 * time.Second)
	require.True(t, m.fresh(d, "other"))
	log := newLog(10)
	m.Step(Input{Order: &Order{Verb: Forget, Reason: "x"}}, log, int64(3*time.Second))
	w := m.Ready(log.Head())
	require.True(t, w.Gone)
	say(2, "db2", 4*time.Second)
	require.True(t, m.known)
	require.False(t, m.fresh(d, "other"))
	again := NewMachine(m.rules, "master", nil, nil) // the broker was restarted before it came back
	again.Remember(statedb.Forgotten{ID: "master", Time: int64(3 * time.Second)})
	require.False(t, again.fresh(d, "other"))
}

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
