package drivertest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// BenchmarkApply is what one increment of one row costs in batches of 1000, for each form of an increment. open makes
// a fresh database.
func BenchmarkApply(b *testing.B, open func(b *testing.B) nodeclient.Database, forms map[string]func(k int) string) {
	for name, body := range forms {
		b.Run(name, func(b *testing.B) {
			db := open(b)
			defer func() { require.NoError(b, db.Close()) }()
			log := NewLog(7)
			at := log.At()
			apply := func(items []event.Item) {
				pos, err := db.Apply(b.Context(), at, items)
				require.NoError(b, err)
				at = pos
			}
			apply(log.Scripts("CREATE TABLE c (id int, v text)"))
			b.ReportAllocs()
			for done := 0; done < b.N; {
				b.StopTimer()
				var items []event.Item
				for range min(1000, b.N-done) {
					items = append(items, log.Scripts(body(done))...)
					done++
				}
				b.StartTimer()
				apply(items)
			}
		})
	}
}
