package producer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/bus"
	"xmq/broker/event"
)

// XQ-2: the order of one producer is the order of its calls, and every draft has its own sequence.
func TestXQ02OrderIsThatOfTheCalls(t *testing.T) {
	f := newFar(t, 1)
	var told []uint64
	p := f.producer(Options{Done: func(draft, seq uint64, err error) {
		require.NoError(t, err)
		require.Equal(t, uint64(len(told)+1), draft)
		told = append(told, seq)
	}})
	f.pour(p, 0, 50_000)
	require.NoError(t, p.Flush(t.Context()))
	require.Equal(t, numbers(50_000), f.stored())
	require.Len(t, told, 50_000)
	for i, seq := range told {
		require.EqualValues(t, i+1, seq)
	}
	seq, err := p.PublishWait(t.Context(), body(50_000))
	require.NoError(t, err)
	require.EqualValues(t, 50_001, seq)
}

// Drafts gather while an earlier batch is under way, and go alone when none is.
func TestBatchesFormWhileOthersAreUnderWay(t *testing.T) {
	f := newFar(t, 1)
	f.hold = true
	p := f.producer(Options{})
	f.pour(p, 0, 1)
	soon(t, func() bool { return len(f.stored()) == 1 })
	f.pour(p, 1, 1000)
	require.Len(t, f.stored(), 1, "they wait for the first answer: they do not fill a batch")
	f.pour(p, 1000, 1+batchDrafts+1)
	soon(t, func() bool { return len(f.stored()) == 1+batchDrafts })
	f.letGo()
	require.NoError(t, p.Flush(t.Context()))
	require.Equal(t, 3, f.heard)
	require.Equal(t, numbers(1+batchDrafts+1), f.stored())
}

// Publish waits while the window is full, in records or in bytes, and no longer than its context.
func TestPublishWaitsForTheWindow(t *testing.T) {
	for name, o := range map[string]Options{"records": {Records: 10}, "bytes": {Bytes: 60}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFar(t, 1)
				f.hold = true
				p := f.producer(o)
				f.pour(p, 0, 10) // 6 bytes each
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				require.ErrorIs(t, p.Publish(ctx, body(10)), context.DeadlineExceeded)
				require.ErrorIs(t, p.Flush(ctx), context.DeadlineExceeded)
				done := make(chan error)
				go func() { done <- p.Publish(t.Context(), body(10)) }()
				synctest.Wait()
				f.letGo()
				require.NoError(t, <-done)
				require.NoError(t, p.Flush(t.Context()))
				require.Equal(t, numbers(11), f.stored())
			})
		})
	}
}

// A batch that is refused for now is not overtaken by those that were under way after it.
func TestRefusedForNowKeepsTheOrder(t *testing.T) {
	for _, code := range []string{"busy", "closing", "disk_full", "unknown"} {
		t.Run(code, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFar(t, 1)
				p := f.producer(Options{Records: 50_000, Bytes: 1 << 30})
				gate := make(chan struct{}) // the broker is slow: many batches are under way
				f.mu.Lock()
				f.refuse, f.times, f.gate = code, 3, gate
				f.mu.Unlock()
				f.pour(p, 0, 20_000)
				synctest.Wait()
				close(gate)
				require.NoError(t, p.Flush(t.Context()))
				require.Equal(t, numbers(20_000), f.stored())
			})
		})
	}
}

// Without Once, too, a refusal repeats only what was refused: what was taken before it and has no answer yet is not
// sent again.
func TestRefusedForNowDoublesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, 1)
		f.hold = true
		p := f.producer(Options{})
		f.pour(p, 0, 5000) // two batches go at once, and a part waits for the answer to the first
		synctest.Wait()
		taken := len(f.stored())
		require.Greater(t, taken, 0)
		f.mu.Lock()
		f.refuse, f.times = "busy", 7
		f.mu.Unlock()
		f.pour(p, 5000, 10_000)
		time.Sleep(4 * time.Second)
		require.Greater(t, len(f.stored()), taken, "it went on after the one that was taken")
		f.letGo()
		require.NoError(t, p.Flush(t.Context()))
		require.Equal(t, numbers(10_000), f.stored())
	})
}

// XQ-6: with Once, a batch whose answer is lost is stored once; so is one that is told to be unknown and was stored.
func TestXQ06LostAnswersStoreOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, 1)
		f.mute = 3
		p := f.producer(Options{Once: true})
		f.pour(p, 0, 10_000)
		require.NoError(t, p.Flush(t.Context()))
		require.Equal(t, numbers(10_000), f.stored())
		f.mute = 1
		seq, err := p.PublishWait(t.Context(), body(10_000))
		require.NoError(t, err)
		require.EqualValues(t, 10_001, seq, "the one it got at first")
	})
}

// Without Once a lost answer may store a draft twice, as the docs say, but never lose or reorder the first ones.
func TestWithoutOnceALostAnswerDoubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, 1)
		f.mute = 1
		p := f.producer(Options{})
		f.pour(p, 0, 1)
		require.NoError(t, p.Flush(t.Context()))
		require.Equal(t, []int{0, 0}, f.stored())
	})
}

// A network that loses, repeats and reorders: everything is stored once and in order.
func TestABadConnectionStoresOnceInOrder(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFar(t, seed)
				p := f.producer(Options{Once: true, Records: 1000})
				// no Repeat: NATS does not, and a repeated first batch would look like a foreign number
				f.network.SetFaults(bus.Faults{Lose: float64(seed%5) / 10, Delay: time.Duration(seed/5) * 4 * time.Millisecond})
				for i := range 3000 {
					require.NoError(t, p.Publish(t.Context(), body(i)))
					if i%37 == 0 {
						time.Sleep(time.Millisecond)
					}
				}
				require.NoError(t, p.Flush(t.Context()))
				require.Equal(t, numbers(3000), f.stored())
				time.Sleep(time.Minute) // what is late arrives in nobody's way
			})
		})
	}
}

// A cut connection: what is under way is repeated as soon as it is mended.
func TestCutRoadIsRepeatedWhenMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, 1)
		f.hold = true
		p := f.producer(Options{Once: true, Timeout: time.Hour})
		f.pour(p, 0, 5000)
		synctest.Wait()
		f.network.Cut("p1", true)
		f.letGo() // into the void
		f.pour(p, 5000, 6000)
		synctest.Wait()
		time.Sleep(10 * time.Second)
		began := time.Now()
		f.network.Cut("p1", false)
		require.NoError(t, p.Flush(t.Context()))
		require.Less(t, time.Since(began), time.Second)
		require.Equal(t, numbers(6000), f.stored())
	})
}

// Nobody listens yet: it waits for the broker.
func TestBrokerComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, 1)
		f.conn.Close()
		p := f.producer(Options{Once: true})
		f.pour(p, 0, 100)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := p.Flush(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "nobody serves group main at memory: is the broker running, and is the group's name "+
			"right?")
		require.ErrorIs(t, err, bus.ErrNobody)
		f.conn = f.network.Connect("broker")
		_, err = f.conn.Subscribe(event.AnySubject("main", event.Many), f.take)
		require.NoError(t, err)
		require.NoError(t, p.Flush(t.Context()))
		require.Equal(t, numbers(100), f.stored())
	})
}

// That nobody serves the group is told before anything is published, once, and so is that somebody does.
func TestThatNobodyServesTheGroupIsToldBeforeAnythingIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, 1)
		var told []error
		pass := func() { time.Sleep(time.Minute); synctest.Wait() }
		p := f.producer(Options{Group: "shop", Trouble: func(err error) { told = append(told, err) }})
		pass()
		require.Equal(t, []error{&bus.Unserved{Group: "shop", Server: "memory"}}, told)
		sub, err := f.conn.Subscribe(event.AnySubject("shop", event.Many), f.take)
		require.NoError(t, err)
		pass()
		require.Len(t, told, 2)
		require.NoError(t, told[1])
		require.Zero(t, f.heard, "no batch")

		sub.Stop()
		require.NoError(t, p.Publish(t.Context(), body(0)))
		pass()
		require.Len(t, told, 3, "it tries on and on, and tells it once")
		require.ErrorIs(t, told[2], bus.ErrNobody)
		_, err = f.conn.Subscribe(event.AnySubject("shop", event.Many), f.take)
		require.NoError(t, err)
		require.NoError(t, p.Flush(t.Context()))
		require.Equal(t, numbers(1), f.stored())
		f.network.Cut("p1", true)
		pass()
		f.network.Cut("p1", false)
		pass()
		require.NoError(t, p.Publish(t.Context(), body(1)))
		require.NoError(t, p.Flush(t.Context()))
		synctest.Wait()
		require.Len(t, told, 6)
		require.NoError(t, told[3])
		require.ErrorIs(t, told[4], bus.ErrDown)
		require.NoError(t, told[5])
	})
}

// A refusal names its draft, hinders no other, and Flush tells of it once.
func TestRefusalNamesTheDraft(t *testing.T) {
	f := newFar(t, 1)
	p := f.producer(Options{})
	f.pour(p, 0, 3)
	require.NoError(t, p.Publish(t.Context(), event.Draft{}))
	f.pour(p, 3, 6)
	var refused *Refused
	require.ErrorAs(t, p.Flush(t.Context()), &refused)
	require.Equal(t, Refused{4, "empty", "no body"}, *refused)
	require.Equal(t, "draft 4 was refused: no body", refused.Error())
	require.NoError(t, p.Flush(t.Context()))
	_, err := p.PublishWait(t.Context(), event.Draft{})
	require.ErrorAs(t, err, &refused)
	require.EqualValues(t, 8, refused.Draft)
	require.Equal(t, numbers(6), f.stored())
}

// What no batch holds is refused at once.
func TestPublishRefusesAtOnce(t *testing.T) {
	f := newFar(t, 1)
	p := f.producer(Options{Once: true})
	require.ErrorIs(t, p.Publish(t.Context(), event.Draft{Body: make([]byte, event.MaxBody)}), ErrTooLarge)
	require.ErrorIs(t, p.Publish(t.Context(),
		event.Draft{Headers: event.Headers{Topic: string(make([]byte, event.MaxHeaderValue+1))}, Body: []byte("x")}),
		ErrTooLarge)
	require.ErrorIs(t, p.Publish(t.Context(), event.Draft{Headers: event.Headers{Key: "k"}, Body: []byte("x")}), ErrKey)
	require.NoError(t, p.Publish(t.Context(), event.Draft{Body: make([]byte, 9<<20)}), "the connection decides")
	var refused *Refused
	require.ErrorAs(t, p.Flush(t.Context()), &refused)
	require.Equal(t, "too_large", refused.Code)
	_, err := New(f.conn, "Not An ID", Options{})
	require.Error(t, err)
}

// The number of a first try that is known already was given to something else: that is told, not taken for success.
func TestKnownNumberIsNoSuccess(t *testing.T) {
	f := newFar(t, 1)
	p := f.producer(Options{Once: true})
	f.mu.Lock()
	f.keys[fmt.Sprint(p.start+2)] = 77
	f.mu.Unlock()
	f.pour(p, 0, 3)
	require.ErrorIs(t, p.Flush(t.Context()), ErrNumber)
	require.Equal(t, []int{0, 2}, f.stored())
}

// Large drafts travel alone and are kept as they came, though the caller reuses its memory.
func TestMegabyteDrafts(t *testing.T) {
	f := newFar(t, 1)
	p := f.producer(Options{Once: true, Bytes: 4 << 20})
	d := big(0)
	for i := range 20 {
		copy(d.Body, big(i).Body)
		require.NoError(t, p.Publish(t.Context(), d))
		require.NoError(t, p.Publish(t.Context(), body(1000+i)))
	}
	require.NoError(t, p.Flush(t.Context()))
	require.Len(t, f.log, 40)
	for i := range 20 {
		require.Equal(t, string(big(i).Body), f.log[2*i])
	}
}

// Close tells of what has no answer that its outcome is unknown, and ends whoever waits.
func TestCloseLeavesTheUnknown(t *testing.T) {
	f := newFar(t, 1)
	f.hold = true
	told := 0
	p := f.producer(Options{Records: 3,
		Done: func(_, _ uint64, err error) { require.ErrorIs(t, err, ErrUnknown); told++ }})
	f.pour(p, 0, 2)
	errs := make(chan error, 3)
	var work sync.WaitGroup
	work.Go(func() { _, err := p.PublishWait(t.Context(), body(2)); errs <- err })
	soon(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.published == 3 })
	work.Go(func() { errs <- p.Publish(t.Context(), body(3)) })
	work.Go(func() { errs <- p.Flush(t.Context()) })
	p.Close()
	p.Close()
	work.Wait()
	var unknown, closed int
	for range 3 {
		switch err := <-errs; {
		case errors.Is(err, ErrUnknown):
			unknown++
		case errors.Is(err, ErrClosed):
			closed++
		}
	}
	require.Equal(t, 1, closed)
	require.GreaterOrEqual(t, unknown, 1)
	require.Equal(t, 3, told)
	require.ErrorIs(t, p.Publish(t.Context(), body(4)), ErrClosed)
}

// Numbers that an earlier run has used are told after a first try that was refused, and after one whose answer was
// lost when they are those of other drafts.
func TestNumbersOfAnEarlierRunAreToldBehindARepetition(t *testing.T) {
	for name, c := range map[string]struct {
		trouble func(f *far)
		from    int // the first draft of the second run; that of the first is 0
	}{
		"refused, other drafts":     {func(f *far) { f.refuse, f.times = "busy", 2 }, 100},
		"refused, equal drafts":     {func(f *far) { f.refuse, f.times = "opening", 2 }, 0},
		"lost answer, other drafts": {func(f *far) { f.mute = 1 }, 100},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFar(t, 1)
			first := f.producer(Options{Once: true})
			f.pour(first, 0, 10)
			require.NoError(t, first.Flush(t.Context()))
			first.Close()
			c.trouble(f)
			second := f.producer(Options{Once: true, Timeout: 100 * time.Millisecond})
			second.start = first.start // the clock was set back
			f.pour(second, c.from, c.from+10)
			require.ErrorIs(t, second.Flush(t.Context()), ErrNumber)
			require.Equal(t, numbers(10), f.stored())
		})
	}
}
