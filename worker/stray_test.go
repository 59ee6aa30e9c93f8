package worker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/statedb"
)

// A process that is refused beside the one that works is told of as that, with who they are and without advice to
// replace the copy, and the alert ends when it does not come back. A refusal of the client itself lasts.
func TestAStrayBesideTheOneThatWorksIsToldForAWhile(t *testing.T) {
	m, say := alone(t)
	say(1, "db1", time.Second)
	log, at := newLog(10), int64(2*time.Second)
	stray := func() Work {
		m.Step(Input{Node: &event.Event{Kind: event.IncrReq, ID: "master",
			Session: event.Session{Instance: 2, Turn: 1}, Pos: event.Position{Log: 77, Seq: 3},
			Body: event.Hello{Target: "sqlite", Host: "db2", Pid: 7}.Encode()}}, log, at)
		return m.Ready(log.Head())
	}
	w := stray()
	require.Len(t, w.Raise, 1)
	require.Equal(t, "refused/master", w.Raise[0].Key)
	require.Equal(t, statedb.Warning, w.Raise[0].Severity)
	require.Empty(t, w.Raise[0].Way)
	require.Contains(t, w.Raise[0].Text, "another process of client master (pid 7 on db2) was refused, and the one that "+
		"works goes on (pid 1 on db1): ")
	tick := func(n int) (cleared string) {
		for range n {
			m.Step(Input{Node: &event.Event{Kind: event.IncrReq, State: event.Succ, ID: "master",
				Session: event.Session{Instance: 1, Turn: 1}, Pos: log.Head(), CreditRecords: 1, CreditBytes: 1}}, log, at)
			at += int64(time.Second)
			m.Tick(at)
			cleared += strings.Join(m.Ready(log.Head()).Clear, " ")
		}
		return cleared
	}
	require.NotContains(t, tick(40), "refused/")
	stray() // it came again
	require.NotContains(t, tick(m.joinWaitTicks()-1), "refused/")
	require.Equal(t, 1, strings.Count(tick(200), "refused/master"))

	stray() // the one that seemed to work has been killed
	for range 20 {
		at += int64(time.Second)
		m.Tick(at)
		for _, a := range m.Ready(log.Head()).Raise {
			require.Equal(t, a.Key == "refused/master", a.Severity == statedb.Critical, a.Key)
		}
		if !m.Connected() {
			break
		}
	}
	require.Zero(t, m.stray)
	w = stray()
	require.Equal(t, statedb.Critical, w.Raise[0].Severity)
	for range 200 {
		at += int64(time.Second)
		m.Tick(at)
		require.NotContains(t, strings.Join(m.Ready(log.Head()).Clear, " "), "refused/")
	}
}

// The node of an ID that nobody knows whose database is away when it starts leaves no record, but is told of.
func TestANewcomerWhoseDatabaseIsAwayIsToldOf(t *testing.T) {
	m, _ := alone(t)
	m.rules.ClientQuota = NewClientQuota(0)
	m.Step(Input{Node: &event.Event{Kind: event.IncrReq, Code: event.Busy, ID: "master",
		Session: event.Session{Instance: 1, Turn: 1}, Text: "connection refused",
		Body: event.Hello{Away: true, Host: "db2", Pid: 5}.Encode()}}, newLog(10), int64(time.Second))
	r := m.rules.ClientQuota.Refusals()
	require.Equal(t, []string{"master"}, r.IDs)
	shown := m.rules.ClientQuota.Newcomers(time.Unix(1, 0))
	require.Len(t, shown, 1)
	require.Equal(t, Condition{Is: IsRetrying, Since: time.Unix(1, 0).UTC()}, shown[0].Condition)
	require.Equal(t, "connection refused", shown[0].LastError.Text)
	require.Equal(t, "db2", shown[0].Host)
	require.Nil(t, shown[0].Lag)
	w := m.Ready(newLog(10).Head())
	require.Empty(t, w.Send)
	m.Step(Input{Order: &Order{Verb: Retry}}, newLog(10), int64(2*time.Second))
	w = m.Ready(newLog(10).Head())
	require.Equal(t, event.Session{Instance: 1, Turn: 1}, w.Send[0].Session, "it hears that it is to try again")
	require.Equal(t, event.Reopen, w.Send[0].Code)
	require.Empty(t, w.Replies[0].Refused)
	silent := time.Unix(1, 1).Add(time.Duration(m.rules.SilentTicks) * m.rules.Tick)
	require.Empty(t, m.rules.ClientQuota.Newcomers(silent), "it is silent")
	require.Equal(t, []string{"node master (pid 5 on db2) lives and waits for its database, which does not answer: " +
		"connection refused"}, r.Texts)
	require.True(t, r.Waits)
	require.False(t, m.known)
	m.rules.ClientQuota.Forget()
	require.Empty(t, m.rules.ClientQuota.Refusals().IDs)
}

// A known client that comes with another kind of database is refused when it asks for a snapshot, before it has loaded
// one, and its record stays what it was.
func TestAnotherKindOfTargetGetsNoSnapshot(t *testing.T) {
	s := newStage(20)
	for id, kind := range map[string]string{"n1": "sqlite", "m": "kv"} {
		s.clients[id] = statedb.Client{V: statedb.ClientVersion, ID: id, State: statedb.Following, Acked: s.log.at(20),
			Driver: kind, Stopped: 1}
		s.revive(id)
	}
	s.rules.Fed = func(id string) (string, uint64) {
		c := s.clients[id]
		if c.Unfed() {
			return "", 0
		}
		return c.Driver, c.Acked.Seq
	}
	asks := func(id, kind string, backup bool) string {
		e := dumpflow.Swap(event.Event{Kind: event.DumpReq, ID: id, Peer: "m", Request: 5,
			Body: event.Hello{Target: kind, Host: "db1", Pid: 9, Backup: backup}.Encode()})
		s.out.Reset()
		s.step("m", Input{Asked: &e})
		require.NoError(t, s.wrong)
		return s.out.String()
	}
	said := asks("n1", "kv", false)
	require.Contains(t, said, "n1 hears DUMP_REP/FAIL code=refused")
	require.Contains(t, said, "n1 stands at 20 in a database of kind sqlite, and its node comes with one of kind kv")
	require.True(t, s.alerts["refused/n1"])
	require.Nil(t, s.clients["n1"].Join)
	require.NotContains(t, asks("n1", "sqlite", false), "of kind")
	require.NotContains(t, asks("n1", "kv", true), "of kind", "a backup is no client")
	require.NotContains(t, asks("n2", "kv", false), "of kind")
}

// An order about the increment at which a client stands still takes the place of one about a later increment, which
// cannot be carried out before that, and says so.
func TestAnOrderWhereAClientStandsStillComesBeforeALaterOne(t *testing.T) {
	for _, code := range []event.Code{event.Slow, event.Retrying} {
		m, say := alone(t)
		say(1, "db1", time.Second)
		log := newLog(30)
		session := event.Session{Instance: 1, Turn: 1}
		m.client.Acked = log.at(10)
		m.rewind()
		m.Fed(log.at(20), nil)
		order := func(o Order) OrderReply {
			m.Step(Input{Order: &o}, log, int64(3*time.Second))
			return m.Ready(log.Head()).Replies[0]
		}
		require.Empty(t, order(Order{Verb: Skip, Seq: 13, Reason: "r"}).Refused)
		require.Contains(t, order(Order{Verb: Skip, Seq: 11, Reason: "r"}).Refused, "skip of increment 13")
		session.Turn++
		for _, e := range []event.Event{{Pos: log.at(10), Body: event.Hello{Target: "mysql"}.Encode()},
			{State: event.Succ, Code: code, Pos: log.at(10), CreditRecords: 9, CreditBytes: 999, Text: "it is locked"}} {
			e.Kind, e.ID, e.Session = event.IncrReq, "master", session
			m.Step(Input{Node: &e}, log, int64(4*time.Second))
			m.Ready(log.Head())
		}
		said := order(Order{Verb: Skip, Seq: 11, Reason: "r"})
		require.Empty(t, said.Refused)
		require.Contains(t, said.Told, "The order to skip increment 13 is dropped")
		require.EqualValues(t, 11, m.client.Override.Seq)
	}
}

// A replacement that the database refuses, too, is told as that: nothing was replaced.
func TestARefusedReplacementIsTold(t *testing.T) {
	m, say := alone(t)
	say(1, "db1", time.Second)
	log := newLog(30)
	m.client.Acked = log.at(10)
	m.rewind()
	m.Fed(log.at(20), nil)
	m.Step(Input{Order: &Order{Verb: Replace, Seq: 11, Body: []byte("b"), Reason: "r"}}, log, int64(2*time.Second))
	m.Ready(log.Head())
	for _, e := range []event.Event{{Pos: log.at(10), Body: event.Hello{Target: "mysql"}.Encode()},
		{State: event.Succ, Pos: log.at(10), CreditRecords: 9, CreditBytes: 999}} {
		e.Kind, e.ID, e.Session = event.IncrReq, "master", event.Session{Instance: 1, Turn: 2}
		m.Step(Input{Node: &e}, log, int64(3*time.Second))
		m.Ready(log.Head())
	}
	m.Fed(log.at(20), nil)
	m.Step(Input{Node: &event.Event{Kind: event.IncrReq, State: event.Fail, ID: "master", Pos: log.at(10),
		Session: event.Session{Instance: 1, Turn: 2}, Text: "no such table"}}, log, int64(4*time.Second))
	w := m.Ready(log.Head())
	require.Len(t, w.Audit, 1)
	require.Equal(t, "replace refused", w.Audit[0].Verb)
	require.EqualValues(t, 11, w.Audit[0].Seq)
	require.Equal(t, "no such table", w.Audit[0].Reason)
}

// Whoever comes under many IDs takes no more memory than sixteen of them, and when those are silent others are shown.
func TestNewcomersAreFew(t *testing.T) {
	q := NewClientQuota(0)
	comes := func(id string, at time.Time) {
		q.awaits(View{ID: id, Heard: at}, event.Session{}, "it waits", int64(time.Second))
	}
	begin := time.Unix(100, 0)
	for i := range 1000 {
		comes(fmt.Sprint("many", i), begin)
	}
	require.Len(t, q.lives, mostStrays)
	require.Len(t, q.Newcomers(begin), mostStrays)
	later := begin.Add(2 * time.Second)
	require.Empty(t, q.Newcomers(later), "they are silent")
	comes("one", later)
	require.Len(t, q.lives, 1)
	require.Equal(t, "one", q.Newcomers(later)[0].ID)
}
