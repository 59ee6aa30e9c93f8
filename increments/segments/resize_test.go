package segments

import (
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/event"
	"xmq/increments"
)

// A smaller MaxRecords ends the newest segment at the next append, in a log that runs and in one that is opened; a
// larger one holds from the next segment on.
func TestASmallerMaxRecordsEndsTheNewestSegment(t *testing.T) {
	testResize(t, disktest.NewMemory())
	testResize(t, disk.Dir(t.TempDir()))
}

func testResize(t *testing.T, place disk.Place) {
	l, err := Create(place, small(), Options{MaxRecords: 100})
	require.NoError(t, err)
	is := func(want ...increments.Span) {
		t.Helper()
		require.Equal(t, want, l.Spans())
		requireSound(t, l)
	}
	require.EqualValues(t, 10, l.Resize(10), "an empty one has room")
	require.EqualValues(t, 100, l.Resize(100))
	put(t, l, drafts(30, "a")...)
	require.EqualValues(t, 40, l.Resize(40))
	put(t, l, drafts(2, "b")...)
	is(increments.Span{First: 1, Last: 100})
	require.EqualValues(t, 32, l.Resize(10))
	is(increments.Span{First: 1, Last: 100})
	put(t, l, drafts(6, "c")...)
	is(increments.Span{First: 1, Last: 32}, increments.Span{First: 33, Last: 42})
	require.EqualValues(t, 42, l.Resize(50), "a segment does not grow")
	l = reopen(t, l, Options{MaxRecords: 5, RingBytes: 1})
	is(increments.Span{First: 1, Last: 32}, increments.Span{First: 33, Last: 42})
	put(t, l, drafts(1, "d")...)
	is(increments.Span{First: 1, Last: 32}, increments.Span{First: 33, Last: 38}, increments.Span{First: 39, Last: 43})
	l = reopen(t, l, Options{MaxRecords: 4, RingBytes: 1})
	put(t, l, drafts(4, "e")...)
	is(increments.Span{First: 1, Last: 32}, increments.Span{First: 33, Last: 38}, increments.Span{First: 39, Last: 42},
		increments.Span{First: 43, Last: 46})
	freed, err := l.Trim(39)
	require.NoError(t, err)
	require.Equal(t, 2, freed)
	l = reopen(t, l, Options{MaxRecords: 1, RingBytes: 1})
	put(t, l, drafts(2, "f")...)
	is(increments.Span{First: 39, Last: 42}, increments.Span{First: 43, Last: 43}, increments.Span{First: 44, Last: 44},
		increments.Span{First: 45, Last: 45})
	require.NoError(t, l.Close())
}

// What is on its way is committed before the segment ends.
func TestResizeWaitsForWhatIsPrepared(t *testing.T) {
	l, err := Create(disktest.NewMemory(), small(), Options{MaxRecords: 100})
	require.NoError(t, err)
	var a, b AppendGroup
	a.prepare(t, l, 7, drafts(7, "a")...)
	require.EqualValues(t, 5, l.Resize(5), "nothing of it is stored yet")
	b.prepare(t, l, 0, drafts(2, "b")...)
	require.NoError(t, l.Commit(&a))
	require.NoError(t, l.Commit(&b))
	b.Reset()
	require.Equal(t, []event.Outcome{{Seq: 8}, {Seq: 9}}, b.prepare(t, l, 2, drafts(2, "b")...))
	require.NoError(t, l.Commit(&b))
	require.Equal(t, []increments.Span{{First: 1, Last: 7}, {First: 8, Last: 12}}, l.Spans())
	requireSound(t, reopen(t, l, Options{}))
}

// Readers, checks and statistics that have found the segment under its longer name go on.
func TestReadersOfASegmentThatEndsEarly(t *testing.T) {
	l, err := Create(disktest.NewMemory(), small(), Options{MaxRecords: 1000, RingBytes: 1, OpenSegments: 1})
	require.NoError(t, err)
	put(t, l, keyed("p", "1"))
	over := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				head := l.Head().Seq
				for seq := uint64(1); seq <= head; {
					records, err := l.Read(seq, 100, 1<<20)
					if err != nil || len(records) == 0 || records[0].Seq() != seq {
						t.Errorf("read from %d of %d: %d records, %v", seq, head, len(records), err)
						return
					}
					seq = records[len(records)-1].Seq() + 1
				}
				if r, err := l.Check(t.Context(), 0, nil); err != nil || len(r.Damaged) > 0 {
					t.Errorf("check: %+v, %v", r, err)
					return
				}
				if _, err := l.Stats(); err != nil {
					t.Errorf("stats: %v", err)
					return
				}
			}
		})
	}
	for range 30 {
		put(t, l, drafts(9, "x")...)
		l.Resize(5)
		put(t, l, drafts(1, "y")...)
		l.Resize(1000)
		put(t, l, drafts(5, "z")...) // six or more lie in it at the next turn
	}
	close(over)
	readers.Wait()
	require.Greater(t, len(l.Spans()), 30)
	requireSound(t, l)
	require.NoError(t, l.Close())
}

// A segment that ends early and finds no descriptor, at whichever step, waits, or stops the log: nothing is lost,
// nothing is twice, also when the size changes again before the next try.
func TestResizeWithoutDescriptors(t *testing.T) {
	waited, stopped := 0, 0
	for nth := 1; ; nth++ {
		mem := disktest.NewMemory()
		seen, armed := 0, false
		dry := func(op disktest.Op) error {
			switch op.Verb {
			case disktest.Create, disktest.SetMeta, disktest.SyncDir, disktest.MakeDB, disktest.RenameDB, disktest.Open:
				if armed {
					if seen++; seen == nth {
						return syscall.EMFILE
					}
				}
			}
			return nil
		}
		g := small()
		l, err := Create(disktest.HookedReads(disktest.Hooked(mem, dry), dry), g, Options{MaxRecords: 100})
		require.NoError(t, err)
		put(t, l, drafts(10, "old")...)
		l.Resize(5)
		armed = true
		again := []event.Draft{keyed("p", "1"), keyed("p", "2")}
		out, err := l.Append(again)
		done := seen < nth
		if err != nil && g.Latch().Err() == nil {
			waited++
			require.ErrorIs(t, err, disk.ErrDescriptors)
			l.Resize(3)
			out, err = l.Append(again)
		}
		armed = false
		if err != nil {
			stopped++
			require.ErrorIs(t, err, disk.ErrStopped)
			require.NotErrorIs(t, err, disk.ErrDescriptors, "it must not be tried again")
			_, _ = l.Trim(1) // whatever it says, it harms nothing
			_ = l.Close()
			l, err = Open(mem.Copy(), small(), Options{MaxRecords: 5})
			require.NoError(t, err)
			require.EqualValues(t, 10, l.Head().Seq)
			out, err = l.Append(again)
		}
		require.NoError(t, err)
		require.Equal(t, []event.Outcome{{Seq: 11}, {Seq: 12}}, out)
		l = reopen(t, l, Options{})
		require.EqualValues(t, 12, l.Head().Seq)
		requireSound(t, l)
		require.NoError(t, l.Close())
		if done {
			break
		}
	}
	require.Greater(t, waited, 3)
	require.Greater(t, stopped, 1)
}
