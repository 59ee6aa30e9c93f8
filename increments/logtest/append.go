package logtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
)

// Sequences begin with 1 and have no holes, across segments and restarts; each record follows the one before.
func order(t *testing.T, d Disk) {
	l := d.Open(t)
	require.NotZero(t, l.ID())
	require.Equal(t, event.Start(l.ID()), l.Head())
	require.EqualValues(t, 1, l.First())
	id, want := l.ID(), uint64(1)
	for _, n := range []int{1, Span - 2, Span, 3*Span + 1, 2} {
		require.Equal(t, want, put(t, l, drafts(n, "x")...))
		want += uint64(n)
		l = d.Open(t)
		require.Equal(t, id, l.ID())
	}
	require.Len(t, sound(t, l), int(want)-1)
}

// What was acknowledged is there after reopening, byte for byte.
func reopened(t *testing.T, d Disk) {
	l := d.Open(t)
	put(t, l, drafts(Span+3, "body")...)
	before := sound(t, l)
	l = d.Open(t)
	require.Equal(t, before, sound(t, l))
	require.NoError(t, l.VerifyCheckpoint(l.Head()))
}

// What was acknowledged survives a power cut, whatever the disk kept of the rest; record and key are one unit, and
// the log goes on.
func torn(t *testing.T, d Disk) {
	l := d.Open(t)
	for i := range uint64(20) {
		key := keyed("p", string(rune('a'+i)))
		put(t, l, key, event.Draft{Body: []byte("plain")})
		head := l.Head()
		_, err := l.Prepare(l.NewGroup(), drafts(1, "never acknowledged"), make([]event.Outcome, 1))
		require.NoError(t, err)
		l = d.Cut(t, i)
		require.Equal(t, head, l.Head(), "cut %d", i)
		require.NoError(t, l.VerifyCheckpoint(head))
		again, err := l.Append([]event.Draft{key})
		require.NoError(t, err)
		require.Equal(t, event.Outcome{Seq: head.Seq - 1, Duplicate: true}, again[0], "cut %d", i)
	}
	sound(t, l)
}

// A group is prepared while the one before it is under way: its sequences follow, its keys are known, nothing shows
// before Commit.
func groups(t *testing.T, d Disk) {
	l := d.Open(t)
	first, second := l.NewGroup(), l.NewGroup()
	out := make([]event.Outcome, 2)
	n, err := l.Prepare(first, []event.Draft{keyed("p", "1"), keyed("", "k")}, out)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, 2, first.Records())
	n, err = l.Prepare(second, []event.Draft{keyed("", "k"), {Body: []byte("x")}}, out)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, []event.Outcome{{Seq: 2, Duplicate: true}, {Seq: 3}}, out)
	require.Zero(t, l.Head().Seq)
	none, err := l.Read(1, 1, 1)
	require.NoError(t, err)
	require.Empty(t, none)
	require.NoError(t, l.Commit(first))
	require.EqualValues(t, 2, l.Head().Seq)
	require.NoError(t, l.Commit(second))
	require.EqualValues(t, 3, l.Head().Seq)
	first.Reset()
	require.Zero(t, first.Records())
	out = make([]event.Outcome, Span)
	n, err = l.Prepare(first, drafts(Span, "border"), out)
	require.NoError(t, err)
	require.Positive(t, n)
	require.NoError(t, l.Commit(first))
	if n < Span {
		second.Reset()
		m, err := l.Prepare(second, drafts(Span, "border")[n:], out[n:])
		require.NoError(t, err)
		require.Equal(t, Span-n, m)
		require.NoError(t, l.Commit(second))
	}
	require.EqualValues(t, 3+Span, out[Span-1].Seq)
	sound(t, l)
}

// After the first failed write the outcome is unknown, nothing of it is shown, and every later write fails alike.
// Reads go on.
func failedWrite(t *testing.T, d Disk, stopped error) {
	l := d.Open(t)
	put(t, l, drafts(3, "x")...)
	d.Fail()
	for range 2 {
		_, err := l.Append(drafts(1, "y"))
		require.ErrorIs(t, err, stopped)
	}
	require.EqualValues(t, 3, l.Head().Seq)
	records, err := l.Read(1, 10, 1<<20)
	require.NoError(t, err)
	require.Len(t, records, 3)
}

// No record has a time before one that nodes were told, whatever the clock of the machine shows.
func times(t *testing.T, d Disk) {
	l := d.Open(t)
	put(t, l, drafts(1, "x")...)
	pos, told := l.Mark()
	require.Equal(t, l.Head(), pos)
	future := told + int64(1e18)
	l.Advance(future)
	require.Positive(t, l.Ahead())
	for _, body := range []string{"y", "z"} {
		seq := put(t, l, drafts(1, body)...)
		records, err := l.Read(seq, 1, 1)
		require.NoError(t, err)
		require.GreaterOrEqual(t, records[0].Time(), future)
		l.Advance(1) // a told time is not taken back
	}
}
