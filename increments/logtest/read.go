package logtest

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/increments"
)

// Trim frees whole spans below keep and nothing else; the position before the first record stays known.
func trim(t *testing.T, d Disk) {
	l := d.Open(t)
	put(t, l, drafts(9*Span+5, "body")...)
	require.Len(t, l.Spans(), 10)
	at, err := l.Position(4 * Span)
	require.NoError(t, err)
	freed, err := l.Trim(5 * Span)
	require.NoError(t, err)
	require.Equal(t, 4, freed)
	for range 2 {
		require.EqualValues(t, 4*Span+1, l.First())
		require.Equal(t, l.First(), l.Spans()[0].First)
		_, err = l.Read(4*Span, 1, 1)
		require.ErrorIs(t, err, increments.ErrTrimmed)
		_, err = l.Position(4*Span - 1)
		require.ErrorIs(t, err, increments.ErrTrimmed)
		p, err := l.Position(4 * Span)
		require.NoError(t, err)
		require.Equal(t, at, p)
		sound(t, l)
		l = d.Open(t)
	}
	_, err = l.Trim(math.MaxUint64)
	require.NoError(t, err)
	require.EqualValues(t, 9*Span+1, l.First(), "the newest span stays")
	require.Len(t, sound(t, l), 5)
}

// Readers beside writers see one order, each writer's own order in it, and nothing beyond the head.
func readsBeside(t *testing.T, d Disk) { ReadsBeside(t, d.Open(t), 4, 60) }

// ReadsBeside lets writers append each so many drafts to an empty log, and as many readers read beside them. A reader
// at the head sleeps until a writer has moved it: one that asks again and again would take the processor from them.
func ReadsBeside(t *testing.T, l increments.Log, writers, each int) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	moved := sync.NewCond(&mu)
	failed := false // of mu: a writer has ended early
	errs := make(chan error, 2*writers)
	move := func(err error) {
		if err != nil {
			errs <- err
		}
		mu.Lock()
		failed = failed || err != nil
		mu.Unlock()
		moved.Broadcast()
	}
	waits := func(seq uint64) bool {
		mu.Lock()
		defer mu.Unlock()
		for !failed && l.Head().Seq == seq {
			moved.Wait()
		}
		return !failed
	}
	read := func() error {
		for at := event.Start(l.ID()); at.Seq < uint64(writers*each) && waits(at.Seq); {
			records, err := l.Read(at.Seq+1, 16, 10000)
			if err != nil {
				return err
			}
			for _, e := range records {
				if !e.Follows(at) {
					return fmt.Errorf("record %d does not follow", e.Seq())
				}
				at.Seq, at.Chain = e.Seq(), e.Chain()
			}
			if at.Seq > l.Head().Seq {
				return errors.New("read beyond the head")
			}
		}
		return nil
	}
	for p := range writers {
		wg.Go(func() {
			for i := range each {
				_, err := l.Append([]event.Draft{keyed(fmt.Sprint("p", p), fmt.Sprint(i))})
				move(err)
				if err != nil {
					return
				}
			}
		})
		wg.Go(func() {
			if err := read(); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	require.Empty(t, errs)
	next := map[string]int{}
	for _, e := range sound(t, l) {
		r, err := e.Decode()
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(next[r.Producer]), r.Key)
		next[r.Producer]++
	}
}

// The limits of reads, and which error says what.
func errorContract(t *testing.T, d Disk) {
	l := d.Open(t)
	none, err := l.Read(1, 10, 10)
	require.NoError(t, err)
	require.Empty(t, none)
	put(t, l, drafts(2*Span+5, "abc")...)
	for range 2 {
		head := l.Head()
		for from := uint64(1); from <= head.Seq; from++ {
			one, err := l.Read(from, 1000, 1)
			require.NoError(t, err)
			require.Len(t, one, 1, "at least one")
			require.Equal(t, from, one[0].Seq())
			three, err := l.Read(from, 3, 1<<20)
			require.NoError(t, err)
			require.LessOrEqual(t, len(three), 3)
		}
		none, err = l.Read(head.Seq+1, 1, 1)
		require.NoError(t, err)
		require.Empty(t, none)
		_, err = l.Read(head.Seq+2, 1, 1)
		require.ErrorIs(t, err, increments.ErrBeyond)
		_, err = l.Read(0, 1, 1)
		require.ErrorIs(t, err, increments.ErrTrimmed)
		_, err = l.Position(head.Seq + 1)
		require.ErrorIs(t, err, increments.ErrBeyond)
		for _, p := range []event.Position{{Log: head.Log, Seq: head.Seq + 1}, {Log: head.Log, Seq: 3, Chain: 1},
			{Log: 1, Seq: 1}} {
			require.Error(t, l.VerifyCheckpoint(p))
		}
		require.NoError(t, l.VerifyCheckpoint(event.Position{}))
		l = d.Open(t)
	}
	large := event.Draft{Body: make([]byte, increments.MaxRecord)}
	out, err := l.Append([]event.Draft{large, {Body: large.Body[:increments.MaxRecord-30]}})
	require.NoError(t, err)
	require.ErrorIs(t, out[0].Err, increments.ErrTooLarge)
	require.NoError(t, out[1].Err)
	require.NoError(t, l.Close())
	_, err = l.Append(drafts(1, "x"))
	require.ErrorIs(t, err, increments.ErrClosed)
	_, err = l.Trim(1)
	require.ErrorIs(t, err, increments.ErrClosed)
	_, _, err = l.Reset("p")
	require.ErrorIs(t, err, increments.ErrClosed)
}

// Nobody waits for a group that is prepared and not committed: readers are answered, and retention goes on.
func bounded(t *testing.T, d Disk) {
	l := d.Open(t)
	put(t, l, drafts(2*Span-1, "x")...)
	group := l.NewGroup()
	_, err := l.Prepare(group, drafts(1, "y"), make([]event.Outcome, 1))
	require.NoError(t, err)
	require.EqualValues(t, 2*Span-1, l.Head().Seq)
	for seq := range l.Head().Seq {
		_, err := l.Position(seq)
		require.NoError(t, err)
		_, err = l.Read(seq+1, 1, 1)
		require.NoError(t, err)
	}
	_, err = l.Stats()
	require.NoError(t, err)
	_, _ = l.Mark()
	_, err = l.Trim(Span + 1)
	require.NoError(t, err)
	require.NoError(t, l.Commit(group))
	require.Len(t, sound(t, l), Span)
}

// A View answers what was looked up, and the ends of the log as they are now; anything else is for later.
func view(t *testing.T, d Disk) {
	l := d.Open(t)
	put(t, l, drafts(2*Span, "x")...)
	v := increments.NewLookup(l)
	v.Look([]uint64{3, 3 * Span})
	want, err := l.Position(3)
	require.NoError(t, err)
	got, err := v.Position(3)
	require.NoError(t, err)
	require.Equal(t, want, got)
	_, err = v.Position(3 * Span)
	require.ErrorIs(t, err, increments.ErrBeyond)
	_, err = v.Position(4)
	require.ErrorIs(t, err, increments.ErrLater)
	put(t, l, drafts(Span, "x")...)
	require.Equal(t, l.Head(), v.Head())
	got, err = v.Position(3 * Span)
	require.NoError(t, err)
	require.Equal(t, l.Head(), got, "which is the head by now")
}
