package door

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Who sends little is let in while many send much, and everything that was taken can be taken again.
func TestSmallRequestsFindRoomBesideLargeOnes(t *testing.T) {
	const total = 64 * Step
	b := NewBudget(total)
	var large []*Lease
	for { // bodies of 8 steps each, as many as there is room for
		l := &Lease{Budget: b}
		large = append(large, l)
		taken := 0
		for taken < 8 && l.Take(Step) {
			taken++
		}
		if taken < 8 {
			break
		}
	}
	require.LessOrEqual(t, b.large, int64(total/2), "beyond first steps")
	require.Greater(t, b.large, int64(total/2-8*Step), "and near it")
	door := &Lease{Budget: b}
	for door.TakeWhole(Step) {
	}
	require.LessOrEqual(t, door.used, b.Half())
	small := 0
	var all []*Lease
	for l := (&Lease{Budget: b}); l.Take(Step); l = (&Lease{Budget: b}) {
		all = append(all, l)
		small++
	}
	require.Positive(t, small, "first steps have room of their own")
	require.Equal(t, int64(total), b.Used())
	for _, l := range append(append(all, large...), door) {
		l.Release()
		l.Release()
	}
	require.Zero(t, b.Used())
	require.Zero(t, b.large)
}

// One request alone is let in, however small the budget is.
func TestOneRequestAloneIsLetIn(t *testing.T) {
	b := NewBudget(Step)
	first, second := &Lease{Budget: b}, &Lease{Budget: b}
	for range 100 {
		require.True(t, first.Take(Step))
	}
	require.False(t, second.Take(Step))
	first.Put(60 * Step)
	require.Equal(t, int64(40*Step), b.Used())
	first.Release()
	require.True(t, second.Take(100*Step))
	second.Release()
	door := &Lease{Budget: b}
	require.True(t, door.TakeWhole(100*Step))
	require.False(t, door.TakeWhole(1))
	door.Put(100 * Step)
	require.Zero(t, b.Used())
	require.Zero(t, b.large)
}
