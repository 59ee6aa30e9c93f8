package drivertest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// Grouping applies the same scripts to fresh places, one by one to the first and in random batches to the others, and
// requires that the same increments fail and that dump tells the same of all of them. An increment that fails is passed
// over, as by an operator. open makes a fresh place; scripts makes a log.
func Grouping(t *testing.T, rounds int, open func(t *testing.T) nodeclient.Database,
	scripts func(rng *rand.Rand) []string, dump func(t *testing.T, db nodeclient.Database) string) {
	t.Helper()
	for round := range rounds {
		rng := rand.New(rand.NewPCG(uint64(round), 5))
		all := scripts(rng)
		log := NewLog(7)
		items := log.Scripts(all...)
		failed, want := grouped(t, open, items, func() int { return 1 }, dump)
		for _, most := range []int{len(items), 3, 10} {
			var sizes []int
			again, got := grouped(t, open, items,
				func() int { sizes = append(sizes, 1+rng.IntN(most)); return sizes[len(sizes)-1] }, dump)
			require.Equal(t, failed, again, "round %d in batches of %v: which increments fail", round, sizes)
			require.Equal(t, want, got, "round %d in batches of %v", round, sizes)
		}
	}
}

// grouped applies items in batches of so many, and returns which of them failed and what the place holds then.
func grouped(t *testing.T, open func(t *testing.T) nodeclient.Database, items []event.Item, size func() int,
	dump func(t *testing.T, db nodeclient.Database) string) (failed []string, holds string) {
	t.Helper()
	db := open(t)
	defer func() { require.NoError(t, db.Close()) }()
	items = append([]event.Item(nil), items...)
	before := event.Start(items[0].Pos.Log)
	done := 0
	for tries := 0; done < len(items); tries++ {
		require.Less(t, tries, 50*len(items), "it comes to no end")
		n := min(size(), len(items)-done)
		pos, err := db.Apply(t.Context(), before, items[done:done+n])
		for done < len(items) && items[done].Pos.Seq <= pos.Seq {
			done++
		}
		if !pos.Zero() {
			before = pos
		}
		require.False(t, nodeclient.IsFatal(err), "%v", err)
		if err != nil && !nodeclient.IsTransient(err) {
			failed = append(failed, fmt.Sprint(items[done].Pos.Seq))
			items[done] = event.Item{Pos: items[done].Pos}
		}
	}
	return failed, dump(t, db)
}
