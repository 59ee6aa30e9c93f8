package segments

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/event"
	"xmq/increments"
)

// prepare requires that n of the drafts are settled.
func (g *AppendGroup) prepare(t testing.TB, l *Log, n int, ds ...event.Draft) []event.Outcome {
	t.Helper()
	out := make([]event.Outcome, len(ds))
	got, err := l.Prepare(g, ds, out)
	require.NoError(t, err)
	require.Equal(t, n, got)
	return out[:n]
}

// One group is prepared while the one before it is not yet written: its sequences follow, nothing of either is visible
// before its Commit, and both survive.
func TestGroupsFollowEachOther(t *testing.T) {
	l, err := Create(disktest.NewMemory(), small(), Options{})
	require.NoError(t, err)
	var a, b AppendGroup
	require.Equal(t, []event.Outcome{{Seq: 1}, {Seq: 2}}, a.prepare(t, l, 2, drafts(2, "a")...))
	require.Equal(t, []event.Outcome{{Seq: 3}}, a.prepare(t, l, 1, drafts(1, "more")...))
	require.Equal(t, []event.Outcome{{Seq: 4}}, b.prepare(t, l, 1, drafts(1, "b")...))
	require.Zero(t, l.Head().Seq)
	require.NoError(t, l.Commit(&a))
	require.EqualValues(t, 3, l.Head().Seq)
	a.Reset()
	require.Equal(t, []event.Outcome{{Seq: 5}}, a.prepare(t, l, 1, drafts(1, "a again")...))
	require.NoError(t, l.Commit(&b))
	require.NoError(t, l.Commit(&a))
	require.EqualValues(t, 5, l.Head().Seq)
	require.EqualValues(t, 6, put(t, l, drafts(1, "append goes on")...))
	requireSound(t, l)
	requireSound(t, reopen(t, l, Options{}))
}

// XQ-6: a key is known from the moment its draft is prepared, in its own group and in the next one, counter or not.
func TestXQ06KeysOfGroupsUnderWayAreKnown(t *testing.T) {
	l, err := Create(disktest.NewMemory(), small(), Options{})
	require.NoError(t, err)
	var a, b AppendGroup
	first := []event.Draft{keyed("p", "7"), keyed("p", "8"), keyed("q", "8"), keyed("p", "x"), keyed("p", "12"),
		keyed("p", "8")}
	require.Equal(t, []event.Outcome{{Seq: 1}, {Seq: 2}, {Seq: 3}, {Seq: 4}, {Seq: 5}, {Seq: 2, Duplicate: true}},
		a.prepare(t, l, 6, first...))
	again := []event.Draft{keyed("p", "7"), keyed("p", "8"), keyed("q", "8"), keyed("p", "x"), keyed("p", "12"),
		keyed("p", "13")}
	want := []event.Outcome{{Seq: 1, Duplicate: true}, {Seq: 2, Duplicate: true}, {Seq: 3, Duplicate: true},
		{Seq: 4, Duplicate: true}, {Seq: 5, Duplicate: true}, {Seq: 6}}
	require.Equal(t, want, b.prepare(t, l, 6, again...))
	out := make([]event.Outcome, 1)
	_, err = l.Prepare(&b, []event.Draft{keyed("p", "9")}, out)
	require.NoError(t, err)
	require.ErrorIs(t, out[0].Err, increments.ErrTooOld, "below the highest, and never stored")
	require.NoError(t, l.Commit(&a))
	require.NoError(t, l.Commit(&b))
	want[5].Duplicate = true
	b.Reset()
	require.Equal(t, want, b.prepare(t, l, 6, again...), "all of it is on disk now")
	require.NoError(t, l.Commit(&b))
	requireSound(t, l)
	l = reopen(t, l, Options{})
	got, err := l.Append(again)
	require.NoError(t, err)
	require.Equal(t, want, got, "and the counters too")
}

// A group ends with its segment: the next one is made when everything before it is written.
func TestGroupEndsWithItsSegment(t *testing.T) {
	l, err := Create(disktest.NewMemory(), small(), Options{MaxRecords: 5})
	require.NoError(t, err)
	var a, b AppendGroup
	a.prepare(t, l, 3, drafts(3, "a")...)
	b.prepare(t, l, 2, drafts(4, "b")...)
	b.prepare(t, l, 0, drafts(2, "b")...)
	require.NoError(t, l.Commit(&a))
	a.Reset()
	a.prepare(t, l, 0, drafts(2, "b")...)
	require.NoError(t, l.Commit(&b))
	require.NoError(t, l.Commit(&a), "an empty group")
	a.Reset()
	require.Equal(t, []event.Outcome{{Seq: 6}, {Seq: 7}}, a.prepare(t, l, 2, drafts(2, "b")...))
	require.NoError(t, l.Commit(&a))
	requireSound(t, reopen(t, l, Options{}))
}

// Groups that are committed in the wrong order would tear the log: that stops it before anything is written.
func TestGroupOutOfOrderStopsTheLog(t *testing.T) {
	place := disktest.NewMemory()
	l, err := Create(place, small(), Options{})
	require.NoError(t, err)
	var a, b AppendGroup
	a.prepare(t, l, 1, drafts(1, "a")...)
	b.prepare(t, l, 1, drafts(1, "b")...)
	require.ErrorIs(t, l.Commit(&b), disk.ErrStopped)
	require.ErrorIs(t, l.Commit(&a), disk.ErrStopped)
	require.Zero(t, l.Head().Seq)
	_, err = l.Prepare(&a, drafts(1, "c"), make([]event.Outcome, 1))
	require.ErrorIs(t, err, disk.ErrStopped)
}

// Preparing costs no allocation per draft, keyed or not.
func TestPrepareDoesNotAllocatePerDraft(t *testing.T) {
	l, err := Create(disktest.NewMemory(), disk.NewStorage(disk.Options{}), Options{})
	require.NoError(t, err)
	for _, once := range []bool{false, true} {
		g, out, n := &AppendGroup{}, make([]event.Outcome, 1000), 0
		all := make([][]event.Draft, 12)
		for i := range all {
			all[i] = randomDrafts(1000)
			for j := range all[i] {
				if n++; once {
					all[i][j].Producer, all[i][j].Key = "p", fmt.Sprint(n)
				}
			}
		}
		i := 0
		require.Less(t, testing.AllocsPerRun(10, func() {
			g.Reset()
			if n, err := l.Prepare(g, all[i], out); n != 1000 || err != nil {
				panic(err)
			}
			if err := l.Commit(g); err != nil {
				panic(err)
			}
			i++
		}), 300.0, "for 1,000 drafts; those there are, are the database's")
	}
}
