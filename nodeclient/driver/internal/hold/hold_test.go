package hold

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// place is a database that one session has.
type place struct {
	by    Token // zero: nobody
	taker int   // sessions opened
	beats int
	away  bool
	lose  int // answers to those who take it
}

type session struct {
	p     *place
	token Token
}

func (s session) Beat(context.Context) error {
	s.p.beats++
	if s.p.away || s.p.by != s.token {
		return errors.New("lost")
	}
	return nil
}

func (s session) Close() {
	if s.p.by == s.token {
		s.p.by = 0
	}
}

func (p *place) take(_ context.Context, token Token, old []Token) (Session, error) {
	switch {
	case p.away:
		return nil, nodeclient.Transient(errors.New("away"))
	case p.by != 0 && !slices.Contains(old, p.by):
		return nil, nodeclient.Taken("test", "db", "somebody")
	}
	p.by = token
	p.taker++
	if p.lose > 0 {
		p.lose--
		return nil, nodeclient.Transient(errors.New("the answer was lost"))
	}
	return session{p, token}, nil
}

var (
	at0 = event.Position{Log: 7, Seq: 3, Chain: 3}
	at1 = event.Position{Log: 7, Seq: 4, Chain: 4}
)

// What another node does while this one has its database is someone else's, and while it has not, a reason to start
// again.
func TestOnlyWhatHappensUnderTheHoldIsFatal(t *testing.T) {
	p := &place{}
	h := New("test", "db", 0, p.take)
	defer h.Close()
	token, err := h.Ensure(t.Context())
	require.NoError(t, err)
	require.True(t, nodeclient.IsFatal(h.Advance(at1, at0)))
	require.True(t, nodeclient.IsBack(h.Advance(at0, at1)))
	h.Lost(token + 1)
	require.Equal(t, token, p.by, "that is another session")
	h.Lost(token)
	next, err := h.Ensure(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, token, next)
	require.ErrorIs(t, h.Advance(at1, at0), nodeclient.ErrTaken)
	require.ErrorIs(t, h.Advance(at1, at0), nodeclient.ErrTaken)
	require.NotContains(t, h.Advance(at1, at0).Error(), "test: ", "drivers put what was tried, and their name, before it")
	require.True(t, nodeclient.IsBack(h.Advance(at0, at1)))
	require.NoError(t, h.Advance(at0, at0))
	require.True(t, nodeclient.IsFatal(h.Advance(at1, at0)))

	p.by = 99
	h.Lost(next)
	_, err = h.Ensure(t.Context())
	require.ErrorIs(t, err, nodeclient.ErrTaken)
	require.True(t, nodeclient.IsTransient(err))
	p.by = 0
	_, err = h.Ensure(t.Context())
	require.NoError(t, err)
	h.Close()
	require.Zero(t, p.by, "it is given back")
	_, err = h.Ensure(t.Context())
	require.ErrorContains(t, err, "closed")
}

// A session is used while its node has nothing to do, and replaced when it is lost, as soon as the server is there
// and nobody else has the database.
func TestAHoldIsKeptAliveInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{}
		h := New("test", "db", Beat, p.take)
		defer h.Close()
		at := func(f func()) { // the beats, which run beside this test, hold the lock of h
			h.mu.Lock()
			defer h.mu.Unlock()
			f()
		}
		time.Sleep(3 * Beat)
		at(func() { require.Zero(t, p.taker, "nothing is taken before it is asked for") })
		_, err := h.Ensure(t.Context())
		require.NoError(t, err)
		time.Sleep(3*Beat + Beat/2)
		synctest.Wait()
		at(func() {
			require.GreaterOrEqual(t, p.beats, 3)
			require.Equal(t, 1, p.taker)
			p.away, p.by = true, 0
		})
		time.Sleep(3 * Beat)
		synctest.Wait()
		at(func() {
			require.Equal(t, 1, p.taker)
			p.away, p.by = false, 99
		})
		time.Sleep(3 * Beat)
		synctest.Wait()
		at(func() {
			require.EqualValues(t, 99, p.by)
			p.by = 0
		})
		time.Sleep(2 * Beat)
		synctest.Wait()
		at(func() { require.Equal(t, 2, p.taker) })
		require.ErrorIs(t, h.Advance(at1, at0), nodeclient.ErrTaken, "somebody may have had it")
	})
}

// A session that the server gave the database to, and whose node never heard of it, keeps that node not away: neither
// at the first use, nor later.
func TestASessionWhoseAnswerWasLostIsTheNodesOwn(t *testing.T) {
	p := &place{lose: 1}
	h := New("test", "db", 0, p.take)
	defer h.Close()
	token, err := h.Ensure(t.Context())
	require.NoError(t, err, "it asks again before it gives up")
	require.Equal(t, token, p.by)
	for lost := 1; lost < 6; lost++ {
		h.Lost(token)
		p.by, p.lose = token, lost // the server has not noticed
		next, err := h.Ensure(t.Context())
		for err != nil {
			require.NotErrorIs(t, err, nodeclient.ErrTaken)
			next, err = h.Ensure(t.Context())
		}
		require.NotEqual(t, token, next)
		require.Equal(t, next, p.by)
		token = next
	}
}
