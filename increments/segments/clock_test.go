package segments

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk/disktest"
	"xmq/broker/event"
)

// No increment has a time before one that nodes were told: not when the broker's clock is set back, nor when the log
// is opened on a machine whose clock is behind. The time of the log goes on at half speed until the clock has caught
// up, and then with it.
func TestTheTimeOfTheLogDoesNotGoBackBehindWhatNodesWereTold(t *testing.T) {
	start := time.Unix(1000, 0)
	now := start
	o := Options{MaxRecords: 3, Now: func() time.Time { return now }}
	l, err := Create(disktest.NewMemory(), small(), o)
	require.NoError(t, err)
	last := func() time.Duration { // of the newest record, after the start
		put(t, l, drafts(1, "x")...)
		records, err := l.Read(l.Head().Seq, 1, 1)
		require.NoError(t, err)
		return time.Unix(0, records[0].Time()).Sub(start).Truncate(time.Millisecond)
	}
	mark := func() time.Duration {
		pos, clock := l.Mark()
		require.Equal(t, l.Head(), pos)
		return time.Unix(0, clock).Sub(start)
	}
	sets := func(d time.Duration) { now = start.Add(d) }
	require.Zero(t, last())
	sets(-5 * time.Second)
	require.Equal(t, -5*time.Second, last(), "nobody was told anything")
	sets(10 * time.Second)
	require.Equal(t, 10*time.Second, mark())
	sets(2 * time.Second)
	require.Equal(t, 10*time.Second, last())
	require.Equal(t, 10*time.Second, mark())
	sets(6 * time.Second)
	require.Equal(t, 12*time.Second, last())
	require.Equal(t, 12*time.Second, last(), "asking does not make it go")
	require.Equal(t, 12*time.Second, mark())
	sets(8 * time.Second)
	require.Equal(t, 13*time.Second, last())
	sets(14 * time.Second)
	require.Equal(t, 16*time.Second, last())
	sets(18 * time.Second) // it has caught up
	require.Equal(t, 18*time.Second, last())
	sets(22 * time.Second)
	require.Equal(t, 22*time.Second, mark())

	for range 5 {
		sets(-time.Hour)
		l = reopen(t, l, o)
		l.Advance(start.Add(30 * time.Second).UnixNano())
		l.Advance(start.Add(29 * time.Second).UnixNano())
		require.Equal(t, 30*time.Second, last())
		sets(-time.Hour + 2*time.Second)
		require.Equal(t, 31*time.Second, last())
		require.Equal(t, 31*time.Second, mark())
	}
	sets(3 * time.Hour)
	require.Equal(t, 3*time.Hour, mark())

	// What is prepared and not committed lies before the mark.
	var g AppendGroup
	out := make([]event.Outcome, 2)
	_, err = l.Prepare(&g, drafts(2, "y"), out)
	require.NoError(t, err)
	sets(4 * time.Hour)
	pos, clock := l.Mark()
	require.Equal(t, l.Head().Seq+2, pos.Seq)
	require.Equal(t, now.UnixNano(), clock)
	require.NoError(t, l.Commit(&g))
	require.Equal(t, l.Head(), pos)
	sets(time.Hour)
	require.Equal(t, 4*time.Hour, last())
	require.NoError(t, l.Close())
}

// However many increments come at once, each has a time of its own, which a database with microseconds can tell from
// those of all others.
func TestNoTwoIncrementsHaveTheSameTime(t *testing.T) {
	start := time.Unix(1000, 700)
	now := start
	l, err := Create(disktest.NewMemory(), small(), Options{Now: func() time.Time { return now }})
	require.NoError(t, err)
	for range 3 {
		put(t, l, drafts(3, "x")...)
		put(t, l, drafts(1, "y")...)
		now = now.Add(300 * time.Nanosecond)
	}
	last := int64(0)
	for seq := uint64(1); seq <= l.Head().Seq; seq++ {
		records, err := l.Read(seq, 1, 1)
		require.NoError(t, err)
		at := records[0].Time() / int64(time.Microsecond)
		require.Greater(t, at, last, seq)
		last = at
	}
	require.Equal(t, uint64(12), l.Head().Seq)
	require.WithinDuration(t, start, time.UnixMicro(last), 20*time.Microsecond)
}
