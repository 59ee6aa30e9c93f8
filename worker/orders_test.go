package worker

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/statedb"
)

// What is ordered later wins, and an order never outlives the copy it was for: every pair of orders and of events that
// replace or condemn a copy, on a client that stands at 10 of 20 and has failed at 11.
func TestWhatComesLaterEndsEarlierOrders(t *testing.T) {
	session := event.Session{Instance: 0xb, Turn: 1}
	steps := map[string]func(s *stage){
		"seek":   func(s *stage) { s.step("n1", Input{Order: &Order{Verb: SeekTo, Seq: 6}}) },
		"skip":   func(s *stage) { s.step("n1", Input{Order: &Order{Verb: Skip, Reason: "it is there"}}) },
		"retry":  func(s *stage) { s.step("n1", Input{Order: &Order{Verb: Retry}}) },
		"redump": func(s *stage) { s.step("n1", Input{Order: &Order{Verb: Redump}}) },
		"forget": func(s *stage) { s.step("n1", Input{Order: &Order{Verb: Forget}}) },
		"evict":  func(s *stage) { s.step("n1", Input{Evict: &Evict{Reason: "the disk"}}) },
		"fatal": func(s *stage) {
			s.step("n1", Input{Node: &event.Event{Kind: event.IncrReq, State: event.Fatal, ID: "n1", Session: session,
				Pos: s.log.at(10), Text: "lost"}})
		},
		"dump": func(s *stage) { // a snapshot at 15 is loaded
			d := dumpflow.Dump{ID: 0x71, Target: "master", Phase: dumpflow.Sealed, Pos: s.log.at(15)}
			s.step("n1", Input{Notice: &Notice{Requester: dumpflow.Requester{ID: "n1", Request: 0x71}, Dump: d}})
			session.Turn++
			s.step("n1", Input{Node: &event.Event{Kind: event.IncrReq, ID: "n1", Session: session, Pos: s.log.at(15),
				Body: event.Hello{Loaded: 0x71}.Encode()}})
			s.step("n1", Input{Node: &event.Event{Kind: event.IncrReq, State: event.Succ, ID: "n1", Session: session,
				Pos: s.log.at(15), CreditRecords: 1, CreditBytes: 1}})
		},
	}
	// What is left of the client when the first came before the second: its state, what is pending, where it stands.
	for pair, want := range map[[2]string]string{
		{"seek", "skip"}: "failed seek@5 at 10", {"seek", "retry"}: "failed seek@5 at 10", // refused
		{"seek", "redump"}: "needs_dump at 10",
		{"seek", "forget"}: "unknown", {"seek", "evict"}: "needs_dump at 10", {"seek", "fatal"}: "fatal at 0",
		{"seek", "dump"}: "following at 15",
		{"seek", "seek"}: "failed seek@5 at 10",
		{"skip", "seek"}: "following seek@5 at 10", {"skip", "skip"}: "following skip@11 at 10",
		{"skip", "redump"}: "needs_dump at 10",
		{"skip", "forget"}: "unknown", {"skip", "evict"}: "needs_dump at 10", {"skip", "dump"}: "following at 15",
		{"retry", "seek"}: "following seek@5 at 10", {"retry", "redump"}: "needs_dump at 10",
		{"retry", "dump"}:  "following at 15",
		{"redump", "seek"}: "needs_dump seek@5 at 10", {"redump", "skip"}: "needs_dump at 10",
		{"redump", "dump"}:   "following at 15",
		{"redump", "forget"}: "unknown", {"redump", "evict"}: "needs_dump at 10", {"redump", "redump"}: "needs_dump at 10",
		{"fatal", "seek"}: "fatal at 0", {"fatal", "redump"}: "fatal at 0", {"fatal", "evict"}: "fatal at 0",
		{"fatal", "dump"}: "following at 15",
		{"evict", "seek"}: "needs_dump seek@5 at 10", {"evict", "dump"}: "following at 15",
		{"forget", "seek"}: "pending seek@5 at 0", {"forget", "redump"}: "unknown",
		{"dump", "seek"}: "following seek@5 at 15", {"dump", "redump"}: "needs_dump at 15",
	} {
		t.Run(fmt.Sprint(pair), func(t *testing.T) {
			session.Turn = 1
			s := newStage(20)
			s.clients["n1"] = statedb.Client{V: statedb.ClientVersion, ID: "n1", Role: statedb.Follower,
				State: statedb.Following, Acked: s.log.at(10)}
			s.revive("n1")
			for _, state := range []event.State{event.None, event.Succ, event.Fail} {
				s.step("n1", Input{Node: &event.Event{Kind: event.IncrReq, State: state, ID: "n1", Session: session,
					Pos:           s.log.at(10),
					CreditRecords: 5, CreditBytes: 1000, Body: event.Hello{}.Encode()}})
			}
			require.Equal(t, statedb.Failed, s.clients["n1"].State)
			steps[pair[0]](s)
			steps[pair[1]](s)
			require.NoError(t, s.wrong)
			left := func() string {
				c, known := s.clients["n1"]
				if !known {
					return "unknown"
				}
				text := string(c.State)
				if o := c.Override; o != nil {
					text += fmt.Sprintf(" %s@%d", map[bool]string{true: "skip", false: "retry"}[o.Skip], o.Seq)
				}
				if c.Seek != nil {
					text += fmt.Sprintf(" seek@%d", c.Seek.Seq)
				}
				return text + fmt.Sprintf(" at %d", c.Acked.Seq)
			}
			require.Equal(t, want, left())
			s.restart()
			require.Equal(t, want, left())
		})
	}
}

// An order about another increment than that of an order which is not carried out is refused: both were taken, and only
// the later one carried out. What drops a pending order says so, in the question too, and in the audit list; a seek to
// where the client stands drops none.
func TestNoOrderIsDroppedInSilence(t *testing.T) {
	fresh := func() *stage {
		s := newStage(20)
		s.clients["n1"] = statedb.Client{V: statedb.ClientVersion, ID: "n1", Role: statedb.Follower,
			State: statedb.Following, Acked: s.log.at(10), Stopped: 1}
		s.revive("n1")
		return s
	}
	order := func(s *stage, o Order) OrderReply {
		before := len(s.audits)
		s.step("n1", Input{Order: &o})
		r := s.answer
		require.NoError(t, s.wrong)
		if r.Refused != "" {
			require.Len(t, s.audits, before)
		}
		return r
	}
	pending := func(s *stage) string {
		o := s.clients["n1"].Override
		if o == nil {
			return ""
		}
		return fmt.Sprintf("%s %d", o.Verb(), o.Seq)
	}
	s := fresh()
	require.Empty(t, order(s, Order{Verb: Skip, Seq: 12, Reason: "r"}).Refused)
	for _, o := range []Order{{Verb: Skip, Seq: 13, Reason: "r"}, {Verb: Retry, Seq: 13},
		{Verb: Replace, Seq: 11, Body: []byte("b"), Reason: "r"}} {
		require.Contains(t, order(s, o).Refused, "skip of increment 12, ordered at 1970-")
		require.Equal(t, "skip 12", pending(s))
	}
	require.NotContains(t, order(s, Order{Verb: SeekTo, Seq: 11, Reason: "r", Ask: true}).Told, "dropped")
	require.Equal(t, "skip 12", pending(s)) // the position is that of before
	require.Contains(t, order(s, Order{Verb: Skip, Seq: 13, Reason: "r"}).Refused, "is to go on from 10")

	s = fresh()
	order(s, Order{Verb: Replace, Seq: 12, Body: []byte("b"), Reason: "r"})
	require.Contains(t, order(s, Order{Verb: Retry, Seq: 12}).Told, "The order to replace increment 12 is dropped")
	require.Equal(t, "dropped replace", s.audits[1].Verb)
	require.Contains(t, order(s, Order{Verb: Skip, Seq: 13, Reason: "r"}).Told, "The order to retry increment 12 is "+
		"dropped")
	require.Equal(t, "skip 13", pending(s))
	for _, verb := range []Verb{SeekTo, Redump, Forget} {
		s = fresh()
		order(s, Order{Verb: Skip, Seq: 12, Reason: "r"})
		o := Order{Verb: verb, Reason: "r", Ask: true}
		if verb == SeekTo {
			o.Seq = 15
		}
		asked := order(s, o)
		require.True(t, asked.Ask, verb)
		require.Contains(t, asked.Refused, "The order to skip increment 12 is dropped", verb)
		o.Ask = false
		require.Contains(t, order(s, o).Told, "The order to skip increment 12 is dropped", verb)
		require.Equal(t, "dropped skip", s.audits[1].Verb)
		require.Empty(t, s.clients["n1"].Override)
	}
	s = fresh()
	order(s, Order{Verb: Skip, Seq: 12, Reason: "r"})
	s.step("n1", Input{Evict: &Evict{Reason: "the disk"}})
	require.Equal(t, "dropped skip", s.audits[1].Verb)
}

// A database that was put back too far to be fed stands where it says, not where it had been: who moves its position is
// told of every increment that would never run.
func TestAnOrderCountsFromWhereTheDatabaseStands(t *testing.T) {
	for _, state := range []statedb.State{statedb.Following, statedb.NeedsDump} {
		s := newStage(20)
		s.clients["n1"] = statedb.Client{V: statedb.ClientVersion, ID: "n1", Role: statedb.Follower, State: state,
			Acked: s.log.at(20)}
		s.revive("n1")
		back := s.log.at(5)
		s.log.trim(15)
		s.step("n1", Input{Node: &event.Event{Kind: event.IncrReq, State: event.None, ID: "n1",
			Session: event.Session{Instance: 7, Token: event.Token{1}, Turn: 1}, Pos: back, Body: event.Hello{}.Encode()}})
		require.NoError(t, s.wrong)
		require.Equal(t, statedb.NeedsDump, s.clients["n1"].State)
		require.Equal(t, back, s.clients["n1"].Acked)
		s.restart()
		order := &Order{Verb: SeekTo, Seq: 21, Reason: "go on", Ask: true}
		require.Contains(t, s.machines["n1"].execute(order, s.log), "client n1 stands at 5 and goes on from 20: 15 "+
			"increments never run there")
	}
}

// An order to begin at a position holds the log for a client that has no copy, but not for ever: it ends when a limit
// takes the room or has freed the log there already.
func TestAnOrderedPositionThatIsFreedHoldsNothing(t *testing.T) {
	for name, free := range map[string]func(s *stage){
		"evicted": func(s *stage) { s.step("n1", Input{Evict: &Evict{Reason: "the log is at its limit"}}) },
		"trimmed": func(s *stage) { s.log.trim(8); s.step("n1", Input{Trimmed: true}) },
	} {
		for _, state := range []statedb.State{statedb.NeedsDump, statedb.Pending} {
			s := newStage(20)
			c := statedb.Client{V: statedb.ClientVersion, ID: "n1", Role: statedb.Follower, State: state,
				Registered: state == statedb.Pending}
			s.clients["n1"] = c
			s.revive("n1")
			s.step("n1", Input{Order: &Order{Verb: SeekTo, Seq: 6}})
			c = s.clients["n1"]
			pin, held := c.Pin()
			require.True(t, held, "%s %s", name, state)
			require.EqualValues(t, 5, pin)
			free(s)
			require.NoError(t, s.wrong)
			c = s.clients["n1"]
			_, held = c.Pin()
			require.False(t, held, "%s %s", name, state)
			require.Equal(t, state, c.State)
			require.Contains(t, s.alerts, "refused/n1")
		}
	}
}

// Who orders again what may have run is told that it may run twice.
func TestWhatMayHaveRunIsAskedForWithThat(t *testing.T) {
	s := newStage(20)
	s.clients["n1"] = statedb.Client{V: statedb.ClientVersion, ID: "n1", State: statedb.Following, Acked: s.log.at(10)}
	s.revive("n1")
	m := s.machine("n1")
	require.NotContains(t, m.effect(&Order{Verb: Apply, Seq: 3}).text, "twice")
	require.Contains(t, m.effect(&Order{Verb: Apply, Seq: 3, MayRun: true}).text, "whether it ran is not known: if "+
		"it did, it runs twice")
}
