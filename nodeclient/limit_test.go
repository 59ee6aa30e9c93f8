package nodeclient

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/bus"
	"xmq/broker/event"
)

// stuck is a memTarget in which one increment never ends by itself.
type stuck struct {
	memTarget
	seq uint64
}

func (s *stuck) Apply(ctx context.Context, before event.Position, batch []event.Item) (event.Position, error) {
	if batch[0].Pos.Seq <= s.seq && s.seq <= batch[len(batch)-1].Pos.Seq {
		<-ctx.Done()
		return before, Transient(context.Cause(ctx))
	}
	return s.commit(before, batch)
}

// items are the increments from+1 to to.
func (h *history) items(from, to int) (items []event.Item) {
	for i := from; i < to; i++ {
		items = append(items, event.Item{Pos: h.pos[i+1], Record: h.records[i]})
	}
	return items
}

// An increment has a time limit of its own: a batch that overruns it is cut, and only the increment that overruns it
// alone is a FAIL.
func TestAnIncrementHasATimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := bus.NewMem(1)
		target := &stuck{seq: 7}
		a, err := New(network.Connect("n1"), target, Options{ID: "n1", ApplyLimit: time.Minute})
		require.NoError(t, err)
		h := newHistory(10)

		begun := time.Now()
		pos, err := a.apply(t.Context(), task{apply: h.items(0, 10), before: h.pos[0]})
		require.Equal(t, time.Minute, time.Since(begun))
		require.Equal(t, h.pos[0], pos)
		var over *overrun
		require.True(t, errors.As(err, &over) && IsTransient(err), err)

		_, err = a.apply(t.Context(), task{apply: h.items(0, 6), before: h.pos[0]})
		require.NoError(t, err)
		pos, err = a.apply(t.Context(), task{apply: h.items(6, 7), before: h.pos[6]})
		require.Equal(t, h.pos[6], pos)
		require.ErrorContains(t, err, "increment 7 took longer than 1m0s")
		require.False(t, IsTransient(err) || IsFatal(err), err)

		// A stop is no overrun, and what waits for a snapshot's end does not use its time up.
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		_, err = a.apply(ctx, task{apply: h.items(6, 7), before: h.pos[6]})
		require.True(t, IsTransient(err) && !errors.As(err, &over), err)
		snap, err := target.Snapshot(t.Context())
		require.NoError(t, err)
		a.pauses.begin(snap)
		begun = time.Now()
		time.AfterFunc(10*time.Hour, func() { a.closeSnapshot(snap) })
		_, err = a.apply(t.Context(), task{apply: h.items(6, 7), before: h.pos[6]})
		require.ErrorContains(t, err, "took longer")
		require.InDelta(t, 10*time.Hour+time.Minute, time.Since(begun), float64(time.Minute))

		a.live.Store(&live{})
		ctx, stop = context.WithTimeout(t.Context(), 100*time.Hour)
		defer stop()
		_, err = a.apply(ctx, task{apply: h.items(6, 7), before: h.pos[6]})
		require.ErrorIs(t, err, context.DeadlineExceeded, "no limit")
	})
}

// After an overrun the increments of the batch come one by one, then in batches again.
func TestSessionAppliesOneByOneAfterAnOverrun(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.welcomeAt(0)
	k.feed(0, 4)
	k.apply(0, Transient(&overrun{errors.New("too long")}))
	k.feed(4, 6)
	k.ticks(1)
	for i := 1; i <= 4; i++ {
		require.Len(t, k.jobs[0].apply, 1)
		k.apply(i, nil)
	}
	require.Len(t, k.jobs[0].apply, 2)
	k.apply(6, nil)
}

// Increments that have been at the database for long are told with the heartbeats, until they are done.
func TestSessionTellsOfAnIncrementThatTakesLong(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.welcomeAt(0)
	k.ticks(20)
	require.Equal(t, event.NoCode, k.last(event.IncrReq, event.Succ).Code, "nothing is at the database")
	k.feed(0, 3)
	k.ticks(10)
	require.Equal(t, event.NoCode, k.last(event.IncrReq, event.Succ).Code)
	k.ticks(5)
	e := k.last(event.IncrReq, event.Succ)
	require.Equal(t, event.Slow, e.Code)
	require.Contains(t, e.Text, "increments 1 to 3 have been at the database for 1")
	k.apply(3, nil)
	require.Equal(t, event.NoCode, k.last(event.IncrReq, event.Succ).Code)
}

// An operator's seek reaches a node whose database is busy: what it does is given up.
func TestASeekReachesABusyNode(t *testing.T) {
	world(t, 3, func(t *testing.T, network *bus.Mem, b *scripted) {
		target := &stuck{seq: 2}
		r := run(t, network, target, Options{BatchRecords: 1})
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, r.agent.Status().Position.Seq, "the second increment never ends")

		var session event.Session
		b.count(func(e event.Event) bool { session = e.Session; return false })
		seek := event.Event{Kind: event.IncrRep, Code: event.Seek, ID: "n1", Pos: b.h.pos[2]}
		b.mu.Lock()
		b.mute = func(e event.Event) bool { // a broker names the position until the node stands there
			if e.State == event.None && e.Pos.Seq < 2 {
				seek.Session = e.Session
				b.say(seek)
				return true
			}
			return false
		}
		seek.Session = session
		b.say(seek)
		b.mu.Unlock()
		time.Sleep(30 * time.Second)
		require.EqualValues(t, 3, r.agent.Status().Position.Seq)
		r.stop(t)
	})
}

// An operator's decision about an increment reaches the node while that increment is at its database: it is given up,
// in whichever session the node is. What lies after that increment is not touched.
func TestSessionGivesUpWhatAnOperatorHasDecidedAbout(t *testing.T) {
	k := newTalk(t, 2, nil)
	k.welcomeAt(2)
	k.feed(2, 6)
	k.hear(event.Event{Code: event.Reopen, Pos: event.Position{Log: testLog, Seq: 2}})
	require.False(t, k.giveUp, "increment 2 is done")
	k.hear(event.Event{Code: event.Reopen, Pos: event.Position{Log: testLog + 1, Seq: 4}})
	require.False(t, k.giveUp, "another log")
	k.hear(event.Event{Code: event.Reopen})
	require.False(t, k.giveUp, "nothing was decided")

	require.Equal(t, opening, k.phase)
	require.Equal(t, event.Busy, k.last(event.IncrReq, event.None).Code)
	said, turn := len(k.said), k.self.Turn
	k.ticks(4)
	require.Len(t, k.said, said)
	k.ticks(1)
	require.Equal(t, event.Busy, k.last(event.IncrReq, event.None).Code, "again with every heartbeat")
	require.Empty(t, k.last(event.IncrReq, event.None).Text)
	k.ticks(10)
	require.Contains(t, k.last(event.IncrReq, event.None).Text, "increments 3 to 6 have been at the database")
	k.hear(event.Event{Code: event.Welcome, Pos: k.h.pos[2]})
	require.Equal(t, opening, k.phase, "of a broker that does not know that we are busy")

	k.hear(event.Event{Code: event.Reopen, Pos: event.Position{Log: testLog, Seq: 4}})
	require.True(t, k.giveUp)
	k.giveUp = false
	k.hear(event.Event{Code: event.Reopen, Pos: event.Position{Log: testLog, Seq: 4}})
	require.False(t, k.giveUp, "said twice")
	require.Equal(t, turn, k.self.Turn, "the session we ask for is the one we asked for")
	k.apply(2, Transient(errGivenUp))
	e := k.last(event.IncrReq, event.None)
	require.Equal(t, event.NoCode, e.Code)
	require.Equal(t, k.h.pos[2], e.Pos)
	k.welcomeAt(2)
	k.hear(event.Event{State: event.Succ, Pos: k.h.pos[2], Body: event.AppendSkip(k.h.frame(2, 3), 4,
		k.h.pos[4].Chain)})
	k.apply(4, nil)
}

// A node that waits to try again obeys at once.
func TestSessionObeysAtOnceWhileItWaitsToTryAgain(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.welcomeAt(0)
	k.feed(0, 3)
	for range 4 { // its backoff grows
		k.apply(0, Transient(errors.New("deadlock")))
		k.ticks(k.retry.wait)
	}
	k.apply(0, Transient(errors.New("deadlock")))
	require.Greater(t, k.retry.wait, 4)
	k.hear(event.Event{Code: event.Reopen, Pos: event.Position{Log: testLog, Seq: 1}})
	require.Equal(t, event.NoCode, k.last(event.IncrReq, event.None).Code)
	k.welcomeAt(0)
	require.Equal(t, event.NoCode, k.last(event.IncrReq, event.Succ).Code, "it is not retrying any more")
	k.hear(event.Event{State: event.Succ, Pos: k.h.pos[0], Body: event.AppendSkip(nil, 1, k.h.pos[1].Chain)})
	k.apply(1, nil)
}

// Increments that name a time limit are at the database with their like alone, and have that limit.
func TestIncrementsHaveTheLimitTheyName(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.h = newHistory(0)
	for i, limit := range []time.Duration{0, 0, time.Hour, time.Hour, event.NoLimit, 0} {
		e, c := event.EncodeRecord(nil, uint64(i+1), 1, k.h.pos[i].Chain,
			event.Draft{Headers: event.Headers{Limit: limit}, Body: []byte("x")})
		k.h.records, k.h.pos = append(k.h.records, e), append(k.h.pos, event.Position{Log: testLog, Seq: uint64(i + 1),
			Chain: c})
	}
	k.welcomeAt(0)
	k.feed(0, 6)
	a := &Agent{}
	a.live.Store(&live{applyLimit: time.Minute})
	for _, want := range []struct {
		upTo  int
		limit time.Duration
	}{{2, time.Minute}, {4, time.Hour}, {5, event.NoLimit}, {6, time.Minute}} {
		most, _ := a.limit(k.jobs[0])
		require.Equal(t, want.limit, most)
		k.apply(want.upTo, nil)
	}
	require.Empty(t, k.jobs)

	synctest.Test(t, func(t *testing.T) { // and it is obeyed, by the one that names it and no other
		target := &stuck{seq: 3}
		a, err := New(bus.NewMem(1).Connect("n1"), target, Options{ID: "n1"})
		require.NoError(t, err)
		begun := time.Now()
		_, err = a.apply(t.Context(), task{apply: k.h.items(2, 3), before: k.h.pos[2]})
		require.Equal(t, time.Hour, time.Since(begun))
		require.ErrorContains(t, err, "increment 3 took longer than 1h0m0s (its own limit)")
		require.ErrorContains(t, err, "xmq client retry n1 --limit 2h")
		require.False(t, IsTransient(err), err)
	})
}
