package worker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/statedb"
)

// alone is a machine with a log of its own, without a stage.
func alone(t *testing.T) (m *Machine, say func(instance uint64, host string, at time.Duration) Work) {
	log := newLog(10)
	rules := &Rules{Group: "main", Masters: []string{"master"}, Tick: time.Second, SilentTicks: 15, LeaseTicks: 15,
		TurnRecords: 10, TurnBytes: 1 << 16}
	m = NewMachine(rules, "master", nil, nil)
	return m, func(instance uint64, host string, at time.Duration) Work {
		s := event.Session{Instance: event.Instance(instance), Turn: 1}
		pos := log.Head()
		m.Step(Input{Node: &event.Event{Kind: event.IncrReq, ID: "master", Session: s, Pos: pos,
			Body: event.Hello{Target: "mysql", Product: "mariadb", Host: host, Pid: int(instance)}.Encode()}}, log, int64(at))
		m.Step(Input{Node: &event.Event{Kind: event.IncrReq, State: event.Succ, ID: "master", Session: s, Pos: pos,
			CreditRecords: 1, CreditBytes: 1}}, log, int64(at)+1)
		return m.Ready(pos)
	}
}

// Two supervisors that run the same ID are named, and neither can go on taking over at once.
func TestTwoSupervisorsOfOneIDAreSeen(t *testing.T) {
	m, say := alone(t)
	say(1, "db1", time.Second)
	var raised []statedb.Alert
	for i := uint64(2); i <= 4; i++ {
		w := say(i, fmt.Sprint("db", 1+i%2), time.Duration(i)*time.Second)
		require.Len(t, w.Audit, 1)
		require.Equal(t, "takeover", w.Audit[0].Verb)
		raised = append(raised, w.Raise...)
	}
	require.Len(t, raised, 1)
	require.Equal(t, "takeover/master", raised[0].Key)
	require.Contains(t, raised[0].Text, "pid 3 on db2 was replaced by pid 4 on db1")
	require.Empty(t, say(5, "db2", 5*time.Second).Audit, "it has to wait")
	require.Len(t, say(5, "db2", 10*time.Second).Audit, 1, "a while")
	m.Tick(int64(5 * time.Minute))
	require.Contains(t, strings.Join(m.Ready(m.client.Acked).Clear, " "), "takeover/master")
}

// Whose database it is where a driver knows several is shown.
func TestTheProductOfADatabaseIsShown(t *testing.T) {
	m, say := alone(t)
	say(1, "db1", time.Second)
	require.Equal(t, "mariadb", m.View(m.client.Acked).Product)
}

// A node whose database is away is told of, and nobody's state, position or session changes.
func TestANodeWhoseDatabaseIsAwayIsShownAndNotJudged(t *testing.T) {
	m, say := alone(t)
	say(1, "db1", time.Second)
	before := m.client.Clone()
	away := func(instance uint64) Work {
		m.Step(Input{Node: &event.Event{Kind: event.IncrReq, Code: event.Busy, ID: "master",
			Session: event.Session{Instance: event.Instance(instance), Turn: 1},
			Text:    "connection refused", Body: event.Hello{Away: true, Host: "db2"}.Encode()}}, newLog(10),
			int64(2*time.Second))
		return m.Ready(m.client.Acked)
	}
	require.Empty(t, away(2).Raise, "another process is at work")
	m.Step(Input{Node: &event.Event{Kind: event.IncrReq, State: event.Succ, Code: event.Bye, ID: "master",
		Session: before.Session, Pos: before.Acked}}, newLog(10), int64(3*time.Second))
	w := away(2)
	require.Equal(t, "retry/master", w.Raise[0].Key)
	require.Contains(t, w.Raise[0].Text, "its node on db2 lives, and its database does not answer: connection refused")
	require.Equal(t, before.State, m.client.State)
	require.Equal(t, before.Acked, m.client.Acked)
	require.Equal(t, before.Session, m.client.Session)
	require.False(t, m.presence.open)

	// A retry hurries it, also when no increment comes next: that is what the alert advises.
	log := newLog(int(m.client.Acked.Seq))
	m.Step(Input{Order: &Order{Verb: Retry}}, log, int64(4*time.Second))
	w = m.Ready(m.client.Acked)
	require.Empty(t, w.Replies[0].Refused)
	require.Equal(t, "the node of client master tries its database again now", w.Replies[0].Told)
	require.Equal(t, event.Reopen, w.Send[0].Code)
	require.EqualValues(t, 2, w.Send[0].Session.Instance)
	require.Nil(t, m.client.Override)
}

// A client that stood somewhere in one kind of database does not begin in another one without a word.
func TestAnotherKindOfTargetIsRefusedByName(t *testing.T) {
	log := newLog(10)
	c := &statedb.Client{ID: "master", State: statedb.Following, Driver: "sqlite", Acked: log.Head()}
	v := admit(c, true, true, event.Position{}, event.Hello{Target: "postgres"}, log)
	require.Equal(t, event.Refused, v.code)
	require.Contains(t, v.text, "kind sqlite")
	require.Contains(t, v.text, "kind postgres")
	require.Equal(t, event.Welcome, admit(c, true, true, log.Head(), event.Hello{Target: "sqlite"}, log).code)
}

// A node that falls silent went, and one that is heard again came: the timeline says so once each, with where it runs.
func TestANodeThatFallsSilentWent(t *testing.T) {
	m, say := alone(t)
	rows := func(w Work) (all []string) {
		for _, e := range w.Events {
			if e.Kind == statedb.ClientCame || e.Kind == statedb.ClientWent {
				all = append(all, fmt.Sprintf("%s at %d: %s", e.Kind, e.Seq, e.Cause))
			}
		}
		return all
	}
	silence := func(ticks int) []string {
		for i := range ticks {
			m.Tick(int64(time.Minute) + int64(i)*int64(time.Second))
		}
		return rows(m.Ready(m.client.Acked))
	}
	require.Equal(t, []string{"client came at 10: on db1, pid 1"}, rows(say(1, "db1", time.Second)))
	require.Empty(t, silence(14))
	require.Equal(t, []string{"client went at 10: it is silent and has said no goodbye; it ran on db1, pid 1"},
		silence(50))
	require.Equal(t, []string{"client came at 10: it is heard again; it runs on db1, pid 1"},
		rows(say(1, "db1", time.Hour)))
	require.Empty(t, rows(say(1, "db1", time.Hour+1)))
	require.Len(t, silence(50), 1)
	require.Equal(t, []string{"client came at 10: on db2, pid 2"}, rows(say(2, "db2", 2*time.Hour)), "another process")

	record := m.client.Clone()
	for _, silent := range []int64{0, int64(time.Hour)} { // before the broker was restarted
		record.Silent = silent
		m = NewMachine(m.rules, "master", &record, nil)
		require.Equal(t, silent == 0, len(silence(50)) == 1, "it is told once")
	}
}
