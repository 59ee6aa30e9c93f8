package nodeclient

import (
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"xmq/broker/bus"
	"xmq/broker/event"
	"xmq/dumpflow"
)

func newRequester() *requester {
	var drawn event.RequestID
	r := &requester{from: "master", hello: []byte("hello"), retry: &backoff{longest: 8},
		draw: func() event.RequestID { drawn++; return drawn }}
	r.begin()
	return r
}

// passes counts how often the request is said in n ticks.
func (r *requester) passes(n int) (said int) {
	for range n {
		r.retry.tick()
		if _, now := r.tick(); now {
			said++
		}
	}
	return said
}

// A request is said at once and again and again, also when it is answered; after one that came to nothing another one
// is said, after a wait that doubles, with the reason.
func TestARequesterAsksUntilItHasTheSnapshot(t *testing.T) {
	r := newRequester()
	first, now := r.ask()
	require.True(t, now)
	require.Equal(t, event.Event{Kind: event.DumpReq, Peer: "master", Request: 1, Body: []byte("hello")}, first)
	require.Equal(t, 5, r.passes(10), "every second tick")

	for _, wait := range []int{1, 2, 4, 8, 8} {
		r.again(99, "cut")
		require.Zero(t, r.passes(wait-1))
		require.Equal(t, 1, r.passes(1))
		require.Equal(t, 3, r.passes(3), "every tick, after a failure")
	}
	e, now := r.ask()
	require.True(t, now)
	require.Equal(t, event.Event{Kind: event.DumpReq, Peer: "master", Request: 6, Dump: 99, Text: "cut",
		Body: []byte("hello")}, e)

	r.succeeded()
	e, now = r.ask()
	require.True(t, now)
	require.Empty(t, e.Text)
	require.Zero(t, e.Dump)
}

// An answer counts only for the request of now; a lease says nothing new; FATAL, which a DUMP cannot be, counts as
// FAIL.
func TestARequesterKnowsTheAnswerToItsRequest(t *testing.T) {
	for name, c := range map[string]struct {
		e    event.Event
		want dumpAnswer
	}{
		"opened":          {event.Event{State: event.Succ, Code: event.Opened}, dumpReady},
		"sealed":          {event.Event{State: event.Succ, Code: event.Sealed}, dumpReady},
		"lease":           {event.Event{Code: event.Lease}, dumpIgnored},
		"not ready":       {event.Event{State: event.Fail, Code: event.NotReady}, dumpNotReady},
		"failed":          {event.Event{State: event.Fail}, dumpNotReady},
		"fatal":           {event.Event{State: event.Fatal}, dumpNotReady},
		"refused":         {event.Event{State: event.Fail, Code: event.Refused}, dumpRefused},
		"fatal, refused":  {event.Event{State: event.Fatal, Code: event.Refused}, dumpNotReady},
		"of a newer form": {event.Event{State: event.Succ, Code: 200}, dumpIgnored},
	} {
		r := newRequester()
		r.again(0, "")
		c.e.Kind, c.e.Request = event.DumpRep, 2
		require.Equal(t, c.want, r.answer(c.e), name)
		c.e.Request = 1
		require.Equal(t, dumpIgnored, r.answer(c.e), "%s, to the request before", name)
		c.e.Kind, c.e.Request = event.IncrRep, 2
		require.Equal(t, dumpIgnored, r.answer(c.e), "%s, of another kind", name)
	}
}

// What is said about a snapshot names its DUMP, and a text is cut to what the broker keeps.
func TestARequesterSaysWhatBecameOfTheSnapshot(t *testing.T) {
	r := newRequester()
	long := strings.Repeat("x", 2*dumpflow.MaxTrouble)
	e := r.abandon(99, long)
	require.Equal(t, event.Abandoned, e.Code)
	require.Equal(t, event.DumpID(99), e.Dump)
	require.Len(t, e.Text, dumpflow.MaxTrouble)
	e = r.loadedWithout(7, 99, "rights of role x")
	require.Equal(t, event.Event{Kind: event.DumpReq, Code: event.Sealed, Peer: "master", Request: 7, Dump: 99,
		Text: "rights of role x", Body: []byte("hello")}, e)
}

// A Backup is a requester like a session that joins: it asks until it is answered, writes the snapshot, and says that
// it wants nothing more; a FAIL ends it with the broker's sentence.
func TestABackupAsksAsASessionDoes(t *testing.T) {
	world(t, 20, func(t *testing.T, network *bus.Mem, b *scripted) {
		b.stages(t, 20)
		b.mute = func(e event.Event) bool { return len(b.heard) < 3 } // lost on the way
		path := filepath.Join(t.TempDir(), "backup")
		run2 := func(replace bool) (dumpflow.Manifest, error) {
			ops := network.Connect("ops")
			defer ops.Close()
			return Backup(t.Context(), ops, "main", "ops", "master", path, replace, nil, func(int64) {}, nil)
		}
		run := func() (dumpflow.Manifest, error) { return run2(true) }
		m, err := run()
		require.NoError(t, err)
		require.EqualValues(t, 20, m.Pos.Seq)
		synctest.Wait()
		requests := map[event.RequestID]bool{}
		for _, e := range b.heard {
			requests[e.Request] = true
			h, err := event.DecodeHello(e.Body)
			require.NoError(t, err)
			require.True(t, h.Backup)
		}
		require.Len(t, requests, 1)
		require.GreaterOrEqual(t, len(b.heard), 4)
		last := b.heard[len(b.heard)-1]
		require.Equal(t, event.Abandoned, last.Code)
		require.Equal(t, event.Succ, last.State, "it is in a durable file")
		require.NotZero(t, last.Dump)
		_, err = run2(false)
		require.Error(t, err, "the file is there already")
		synctest.Wait()
		last = b.heard[len(b.heard)-1]
		require.Equal(t, event.Abandoned, last.Code)
		require.Equal(t, event.None, last.State)

		b.mute = func(e event.Event) bool {
			b.say(event.Event{Kind: event.DumpRep, State: event.Fail, Code: event.NotReady, ID: e.ID, Request: e.Request,
				Text: "the target is not connected"})
			return true
		}
		_, err = run()
		require.ErrorIs(t, err, ErrRefused)
		require.ErrorContains(t, err, "the target is not connected")
	})
}
