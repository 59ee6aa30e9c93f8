package logtest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/increments"
)

// The same key is the same increment, in one call and in later ones, before and after reopening; keys of different
// producers, and numbers and texts, are different keys.
func idempotency(t *testing.T, d Disk) {
	l := d.Open(t)
	ds := []event.Draft{keyed("p", "1"), keyed("p", "2"), keyed("q", "1"), keyed("p", "free"), keyed("", "7"),
		keyed("p", "007")}
	put(t, l, ds...)
	for range 2 {
		out, err := l.Append(ds)
		require.NoError(t, err)
		for i := range ds {
			require.Equal(t, event.Outcome{Seq: uint64(i + 1), Duplicate: true}, out[i])
		}
		l = d.Open(t)
	}
	out, err := l.Append([]event.Draft{keyed("p", "x"), keyed("p", "x"), {}, keyed("p", "y")})
	require.NoError(t, err)
	require.Equal(t, event.Outcome{Seq: 7}, out[0])
	require.Equal(t, event.Outcome{Seq: 7, Duplicate: true}, out[1])
	require.ErrorIs(t, out[2].Err, increments.ErrInvalid, "a refused draft hinders nobody")
	require.Equal(t, event.Outcome{Seq: 8}, out[3])
	sound(t, l)
}

// A key that comes again with another body or topic is refused, and stores nothing.
func keyReused(t *testing.T, d Disk) {
	l := d.Open(t)
	put(t, l, keyed("p", "k"), keyed("p", "5"))
	for _, key := range []string{"k", "5"} {
		body, topic := keyed("p", key), keyed("p", key)
		body.Body, topic.Topic = []byte("another"), "t"
		out, err := l.Append([]event.Draft{body, topic})
		require.NoError(t, err)
		require.ErrorIs(t, out[0].Err, increments.ErrKeyReused)
		require.ErrorIs(t, out[1].Err, increments.ErrKeyReused)
	}
	require.EqualValues(t, 2, l.Head().Seq)
}

// A producer's numbers count: one that was jumped over is too old, one far above is refused; a reset lets them begin
// anew, and stores nothing twice.
func counters(t *testing.T, d Disk) {
	l := d.Open(t)
	put(t, l, keyed("p", "10"))
	out, err := l.Append([]event.Draft{keyed("p", "9"), keyed("p", fmt.Sprint(11+increments.MaxJump)), keyed("p", "12")})
	require.NoError(t, err)
	require.ErrorIs(t, out[0].Err, increments.ErrTooOld)
	require.ErrorIs(t, out[1].Err, increments.ErrJump)
	require.Equal(t, event.Outcome{Seq: 2}, out[2])
	_, _, err = l.Reset("nobody")
	require.ErrorIs(t, err, increments.ErrNoProducer)
	highest, counted, err := l.Reset("p")
	require.NoError(t, err)
	require.True(t, counted)
	require.EqualValues(t, 12, highest)
	l = d.Open(t)
	out, err = l.Append([]event.Draft{keyed("p", "3"), keyed("p", "10")})
	require.NoError(t, err)
	require.Equal(t, event.Outcome{Seq: 3}, out[0])
	require.Equal(t, event.Outcome{Seq: 1, Duplicate: true}, out[1])
	sound(t, l)
}

// Keys are remembered for Window increments, also when their records are freed, and forgotten after that; a number is
// never stored twice.
func keysOutlive(t *testing.T, d Disk) {
	l := d.Open(t)
	put(t, l, keyed("p", "1"), keyed("p", "free"))
	put(t, l, drafts(3*Span, "many")...)
	freed, err := l.Trim(2*Span + 1)
	require.NoError(t, err)
	require.Equal(t, 2, freed)
	for range 2 {
		out, err := l.Append([]event.Draft{keyed("p", "1"), keyed("p", "free")})
		require.NoError(t, err)
		require.Equal(t, []event.Outcome{{Seq: 1, Duplicate: true}, {Seq: 2, Duplicate: true}}, out)
		l = d.Open(t)
	}
	put(t, l, drafts(Window, "more")...)
	out, err := l.Append([]event.Draft{keyed("p", "1"), keyed("p", "free")})
	require.NoError(t, err)
	require.ErrorIs(t, out[0].Err, increments.ErrTooOld)
	require.Equal(t, event.Outcome{Seq: l.Head().Seq}, out[1], "a free key after its window is new")
	sound(t, l)
}
