package nodeclient

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
)

// order is what the broker says of increment seq, which this node has passed over.
func (k *talk) order(seq, number int) {
	k.hear(event.Event{Code: event.Apply, Request: event.RequestID(number), Pos: k.h.pos[seq],
		Body: event.AppendDecision(nil, k.h.records[seq-1], uint64(number))})
}

// An order outside the order runs once in this process however often it is heard, and its outcome is told as often as
// it is asked for.
func TestAnOrderOutsideTheOrderRunsOnce(t *testing.T) {
	for _, c := range []struct {
		err  error
		code event.Code
	}{
		{nil, event.Applied},
		{errors.New("duplicate key"), event.NotApplied},
		{Transient(errors.New("lock timeout")), event.NotApplied},
		{Transient(fmt.Errorf("%w; %w", errors.New("gone"), Unknown(errors.New("the answer was lost")))), event.MayApplied},
	} {
		t.Run(c.code.String(), func(t *testing.T) {
			k := newTalk(t, 20, nil)
			k.welcomeAt(20)
			k.order(5, 1)
			job := k.job()
			require.EqualValues(t, 5, job.outside.Record.Seq())
			require.Equal(t, k.h.pos[20], job.outside.Pos, "where the database stands, and stays")
			k.order(5, 1)
			require.Empty(t, k.jobs, "it is at the database")
			k.outsideDone(k.h.pos[20], c.err)
			k.flush()
			answer := k.last(event.IncrReq, event.Succ)
			require.Equal(t, c.code, answer.Code)
			require.EqualValues(t, 1, answer.Request)

			k.said = nil
			k.order(5, 1)
			require.Equal(t, c.code, k.last(event.IncrReq, event.Succ).Code, "the answer was lost")
			require.Empty(t, k.jobs)

			k.order(6, 2)
			require.NotNil(t, k.job().outside)
			k.outsideDone(k.h.pos[20], nil)
			k.flush()
			k.order(5, 1) // it comes late
			require.Empty(t, k.jobs)
			require.Equal(t, k.h.pos[20], k.pos)
		})
	}
}

// While increments are at the database, or a snapshot that allows none, the order waits; after an increment that has
// failed it runs; a session that ends meanwhile takes nothing from it; a node that ends before its turn says so.
func TestAnOrderOutsideTheOrderWaitsForItsTurn(t *testing.T) {
	k := newTalk(t, 20, nil)
	k.welcomeAt(20)
	k.feed(20, 22)
	batch := k.job()
	k.order(5, 1)
	require.Empty(t, k.jobs)
	k.applied(len(batch.apply), k.h.pos[20], errors.New("no such row"))
	k.flush()
	require.Equal(t, held, k.phase)
	k.ticks(1)
	require.NotNil(t, k.job().outside, "the database is at rest")

	k.connected() // the network was away
	k.outsideDone(k.h.pos[20], nil)
	k.flush()
	require.Equal(t, event.None, k.said[len(k.said)-1].State)
	k.welcomeAt(20)
	k.said = nil
	k.order(5, 1)
	require.Equal(t, event.Applied, k.last(event.IncrReq, event.Succ).Code)
	require.Empty(t, k.jobs)

	k.feed(20, 22)
	require.NotEmpty(t, k.job().apply)
	k.order(6, 2)
	k.leaving = true
	k.applied(2, k.h.pos[22], nil)
	k.flush()
	k.said = nil
	k.bye()
	k.flush()
	require.Equal(t, event.NotApplied, k.said[0].Code)
	require.Equal(t, event.Bye, k.said[1].Code)
	require.Empty(t, k.jobs)
}

// What is damaged, or is not one increment, is never given to a database.
func TestADamagedOrderIsNone(t *testing.T) {
	k := newTalk(t, 20, nil)
	k.welcomeAt(20)
	whole := event.AppendDecision(nil, k.h.records[4], 1)
	for n := range len(whole) {
		k.hear(event.Event{Code: event.Apply, Request: 1, Body: whole[:n]})
		require.Empty(t, k.jobs, n)
	}
	k.hear(event.Event{Code: event.Apply, Request: 1, Body: event.AppendRecord(whole, k.h.records[5])})
	k.hear(event.Event{Code: event.Apply, Request: 1, Body: k.h.frame(4, 5)})
	require.Empty(t, k.jobs)
	k.order(5, 1)
	require.NotNil(t, k.job().outside)
}
