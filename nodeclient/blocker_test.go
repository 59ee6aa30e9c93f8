package nodeclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/bus"
	"xmq/broker/event"
)

// blocking is a database that commits slowly, in parts, and knows why.
type blocking struct {
	memTarget
	durable atomic.Uint64
	asked   atomic.Int64
	silent  atomic.Bool // it does not answer who asks
}

func (b *blocking) Durable() uint64 { return b.durable.Load() }

func (b *blocking) Blocker(ctx context.Context) (string, error) {
	n := b.asked.Add(1)
	if b.silent.Load() {
		<-ctx.Done()
		return "", fmt.Errorf("connect: %w", ctx.Err())
	}
	return fmt.Sprintf("blocked by session %d", n), nil
}

// texts are those of the heartbeats with a code.
func (b *scripted) texts(code event.Code) (all []string) {
	b.count(func(e event.Event) bool {
		if e.Kind == event.IncrReq && e.Code == code {
			all = append(all, e.Text)
		}
		return false
	})
	return all
}

// Who blocks the database is asked beside the Apply that is under way, again and again, and said in the heartbeats and
// with the trouble that comes of it. A database that does not answer the question holds nothing. It runs in a synctest
// bubble, which world makes: its sleeps take no time.
func TestTheNodeSaysWhoBlocksItsDatabase(t *testing.T) {
	world(t, 3, func(t *testing.T, network *bus.Mem, b *scripted) {
		release := make(chan error)
		target := &blocking{}
		target.apply = func(ctx context.Context) error {
			select {
			case err := <-release:
				return err
			case <-ctx.Done():
				return Transient(ctx.Err())
			}
		}
		r := run(t, network, target, Options{Tick: time.Second, Heartbeat: 5, Silence: 300})
		time.Sleep(32 * time.Second)
		slow := b.texts(event.Slow)
		require.NotEmpty(t, slow)
		require.Regexp(t, `^increments 1 to 3 have been at the database for \d+ s, blocked by session [56]$`,
			slow[len(slow)-1])
		require.EqualValues(t, 6, target.asked.Load(), "every 5 s")

		target.silent.Store(true)
		time.Sleep(20 * time.Second)
		slow = b.texts(event.Slow)
		require.True(t, strings.HasSuffix(slow[len(slow)-1], ", and the database does not answer a second connection either"),
			slow[len(slow)-1])
		release <- Transient(errors.New("lock timeout"))
		time.Sleep(time.Second)
		retry := b.texts(event.Retrying)
		require.Equal(t, "lock timeout (and the database does not answer a second connection either)", retry[0])
		close(release)
		time.Sleep(20 * time.Second)
		requireHolds(t, &target.memTarget, b, 3)
		r.stop(t)
	})
}

// A batch that a driver has to cut is at the database for long, but what of it is durable is not: only the rest is
// slow, since then.
func TestACutBatchIsNotSlowAsAWhole(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.welcomeAt(0)
	k.feed(0, 3)
	k.ticks(9)
	k.advanced(1)
	k.flush()
	require.Equal(t, k.h.pos[1], k.last(event.IncrReq, event.Succ).Pos, "the broker hears of it at once")
	k.ticks(9)
	require.Equal(t, event.NoCode, k.last(event.IncrReq, event.Succ).Code, "it goes on")
	k.advanced(1)
	k.ticks(10)
	e := k.last(event.IncrReq, event.Succ)
	require.Equal(t, event.Slow, e.Code)
	require.Contains(t, e.Text, "increments 2 to 3 have been at the database for 1")
	k.advanced(3) // its outcome is on its way
	require.Contains(t, func() string { _, text := k.slow(); return text }(), "increments 2 to 3")
	k.apply(3, nil)
	require.Equal(t, event.NoCode, k.last(event.IncrReq, event.Succ).Code)
}
