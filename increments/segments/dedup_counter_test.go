package segments

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk/disktest"
	"xmq/broker/event"
	"xmq/increments"
)

func sparse(d event.Draft) event.Draft { d.Sparse = true; return d }
func byClock(d event.Draft) event.Draft {
	d.Clock = true
	return d
}

// One number that is far too high does not make all others of its producer too old for ever.
func TestJumpIsRefused(t *testing.T) {
	now := time.Unix(2_000_000_000, 0)
	o := Options{MaxRecords: 5, Now: func() time.Time { return now }}
	l, err := Create(disktest.NewMemory(), small(), o)
	require.NoError(t, err)
	n := func(v uint64) event.Draft { return keyed("p", fmt.Sprint(v)) }
	clock := uint64(now.UnixNano())
	for i, c := range []struct {
		draft event.Draft
		err   error
	}{
		{n(1 << 40), nil}, // the first may be any
		{n(1<<40 + increments.MaxJump), nil},
		{n(1<<40 + 2*increments.MaxJump + 1), increments.ErrJump},
		{sparse(n(1<<40 + 2*increments.MaxJump + 1)), increments.ErrJump}, // said too late
		{n(1<<64 - 1), increments.ErrJump},
		{n(1<<40 + 2*increments.MaxJump), nil},
		{byClock(n(clock + uint64(clockAhead) + 1)), increments.ErrJump},
		{byClock(n(clock + uint64(clockAhead))), nil},
		{sparse(keyed("q", "3")), nil},
		{keyed("q", fmt.Sprint(uint64(1<<63))), nil},
		{keyed("q", fmt.Sprint(uint64(1<<64-1))), nil},
		{keyed("r", "0"), nil},
		{textKey("r", fmt.Sprint(uint64(1<<64-1))), nil}, // text does not count
		{keyed("r", "1"), nil},
	} {
		out := appendAll(t, l, c.draft)[0]
		if c.err != nil {
			require.ErrorIs(t, out.Err, c.err, i)
			require.Zero(t, out.Seq)
		} else {
			require.NoError(t, out.Err, i)
			require.False(t, out.Duplicate, i)
		}
		l = reopen(t, l, o) // what is remembered with the counter is stored
	}
	requireSound(t, l)
	require.NoError(t, l.Close())
}

// A counter that was reset begins anew wherever its producer likes, and what was stored before is not stored again.
func TestResetBeginsAnewAndStoresNothingTwice(t *testing.T) {
	o := Options{MaxRecords: 10, Window: 100}
	l, err := Create(disktest.NewMemory(), small(), o)
	require.NoError(t, err)
	_, _, err = l.Reset("p")
	require.ErrorIs(t, err, increments.ErrNoProducer)
	for n := uint64(1); n <= 30; n++ {
		put(t, l, keyed("p", fmt.Sprint(n)))
	}
	put(t, l, sparse(keyed("q", "5")), keyed("q", fmt.Sprint(uint64(1<<64-1))))
	require.ErrorIs(t, appendAll(t, l, keyed("q", "6"))[0].Err, increments.ErrTooOld)
	for _, c := range []struct {
		id      string
		highest uint64
	}{{"p", 30}, {"q", 1<<64 - 1}} {
		highest, counted, err := l.Reset(c.id)
		require.NoError(t, err)
		require.True(t, counted)
		require.Equal(t, c.highest, highest)
	}
	_, counted, err := l.Reset("p")
	require.NoError(t, err)
	require.False(t, counted)
	l = reopen(t, l, o)
	require.Equal(t, []event.Outcome{{Seq: 33}, {Seq: 34}}, appendAll(t, l, keyed("q", "6"), keyed("q", "7")))
	require.ErrorIs(t, appendAll(t, l, keyed("q", fmt.Sprint(8+uint64(increments.MaxJump))))[0].Err, increments.ErrJump,
		"and is sparse no more")
	require.Equal(t, event.Outcome{Seq: 31, Duplicate: true}, appendAll(t, l, keyed("q", "5"))[0])
	require.Equal(t, []event.Outcome{{Seq: 20, Duplicate: true}, {Seq: 21, Duplicate: true}},
		appendAll(t, l, keyed("p", "20"), keyed("p", "21")))
	l = reopen(t, l, o)
	put(t, l, drafts(60, "more")...)
	_, err = l.Trim(90)
	require.NoError(t, err)
	require.Equal(t, []event.Outcome{{Seq: 26, Duplicate: true}, {Seq: 95}},
		appendAll(t, l, keyed("p", "26"), keyed("p", "31")))
	require.Equal(t, event.Outcome{Seq: 30, Duplicate: true}, appendAll(t, l, keyed("p", "30"))[0])
	put(t, l, drafts(40, "out of the window")...)
	require.ErrorIs(t, appendAll(t, l, keyed("p", "30"))[0].Err, increments.ErrTooOld)
	require.Equal(t, event.Outcome{Seq: 136}, appendAll(t, l, keyed("p", "32"))[0])
	requireSound(t, l)
	require.NoError(t, l.Close())
}

// A reset waits for what is being written: no group that was prepared before it undoes it.
func TestResetIsNotUndoneByWhatIsUnderWay(t *testing.T) {
	l, err := Create(disktest.NewMemory(), small(), Options{})
	require.NoError(t, err)
	put(t, l, sparse(keyed("p", "1")))
	var a, b AppendGroup
	a.prepare(t, l, 1, keyed("p", fmt.Sprint(uint64(1<<64-1))))
	done := make(chan error, 1)
	go func() {
		_, _, err := l.Reset("p")
		done <- err
	}()
	require.Eventually(t, func() bool { l.write.Lock(); defer l.write.Unlock(); return !l.counters["p"].counted },
		2*time.Minute, time.Millisecond)
	select {
	case <-done:
		t.Fatal("it did not wait")
	default:
	}
	require.Equal(t, []event.Outcome{{Seq: 3}}, b.prepare(t, l, 1, keyed("p", "2")),
		"what comes after it goes on from it")
	require.NoError(t, l.Commit(&a))
	require.NoError(t, <-done)
	require.NoError(t, l.Commit(&b))
	l = reopen(t, l, Options{})
	require.Equal(t, []event.Outcome{{Seq: 3, Duplicate: true}, {Seq: 4}},
		appendAll(t, l, keyed("p", "2"), keyed("p", "3")))
	requireSound(t, l)
	require.NoError(t, l.Close())
}

// What was committed after a reset while that waited is not forgotten: the reset does not overwrite the counter of it.
func TestResetUndoesNothingThatFollowsIt(t *testing.T) {
	for range 20 {
		o := Options{Window: 10}
		l, err := Create(disktest.NewMemory(), small(), o)
		require.NoError(t, err)
		put(t, l, keyed("p", "1"))
		var a, b AppendGroup
		a.prepare(t, l, 1, keyed("p", "2"))
		done := make(chan error, 1)
		go func() {
			_, _, err := l.Reset("p")
			done <- err
		}()
		require.Eventually(t, func() bool { l.write.Lock(); defer l.write.Unlock(); return !l.counters["p"].counted },
			2*time.Minute, 10*time.Microsecond)
		b.prepare(t, l, 1, keyed("p", "3"))
		require.NoError(t, l.Commit(&a))
		require.NoError(t, l.Commit(&b))
		require.NoError(t, <-done)
		put(t, l, drafts(20, "out of the window")...)
		l = reopen(t, l, o)
		require.ErrorIs(t, appendAll(t, l, keyed("p", "3"))[0].Err, increments.ErrTooOld)
		require.NoError(t, l.Close())
	}
}
