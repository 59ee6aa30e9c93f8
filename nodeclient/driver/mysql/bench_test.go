package mysql

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
)

// BenchmarkApply is what one increment of one row costs in batches of 1000, as a script and with arguments.
func BenchmarkApply(b *testing.B) {
	drivertest.BenchmarkApply(b, func(b *testing.B) nodeclient.Database {
		db := database(b.TempDir())
		require.NoError(b, server.Make(db))
		opened, err := Open(b.Context(), server.URL(db), Options{})
		require.NoError(b, err)
		return opened
	}, map[string]func(k int) string{
		"script": func(k int) string { return fmt.Sprintf("INSERT INTO c VALUES (%d, 'some text of a row')", k) },
		"arguments": func(k int) string {
			return fmt.Sprintf(`{"sql": "INSERT INTO c VALUES (?, ?)", "args": [%d, "some text of a row"]}`, k)
		},
	})
}

// BenchmarkGeneratedNumbers is what generated numbers cost, in 100 tables with AUTO_INCREMENT: of rows whose place
// words tell, and where the counters must be read. Two databases get the same batches in turns, one of them without
// the numbers' part; the median of the pairs' ratios is what it costs.
func BenchmarkGeneratedNumbers(b *testing.B) {
	for _, kind := range []struct {
		name string
		body func(k int) string
	}{
		{"insert", func(k int) string { return fmt.Sprintf("INSERT INTO n%d (v) VALUES ('some text of a row')", k%100) }},
		{"mixed", func(k int) string {
			switch t := k % 100; k / 100 % 4 {
			case 2:
				return fmt.Sprintf("UPDATE n%d SET v = 'another text' WHERE id = %d", t, k/400+1)
			case 3:
				return fmt.Sprintf("DELETE FROM n%d WHERE id = %d", t, k/400)
			default:
				return fmt.Sprintf("INSERT INTO n%d (v) VALUES ('some text of a row')", t)
			}
		}},
		{"delete", func(k int) string { return fmt.Sprintf("DELETE FROM n%d WHERE id = %d", k%100, k) }},
	} {
		for _, size := range []int{1000, 100, 10, 1} {
			b.Run(fmt.Sprintf("%s/batch=%d", kind.name, size), func(b *testing.B) {
				var targets [2]*Database
				var logs [2]*drivertest.Log
				var at [2]event.Position
				apply := func(i int, items []event.Item) {
					pos, err := targets[i].Apply(b.Context(), at[i], items)
					require.NoError(b, err)
					at[i] = pos
				}
				for i := range targets {
					db := database(b.TempDir()) + fmt.Sprint(i)
					require.NoError(b, server.Make(db))
					var err error
					targets[i], err = Open(b.Context(), server.URL(db), Options{})
					require.NoError(b, err)
					defer targets[i].Close()
					logs[i] = drivertest.NewLog(7)
					at[i] = logs[i].At()
					for k := range 100 {
						apply(i, logs[i].Next([]byte(fmt.Sprintf("CREATE TABLE n%d (id int AUTO_INCREMENT PRIMARY KEY, "+
							"v text)", k))))
					}
				}
				targets[1].counters.reach = &reach{}
				var ratios []float64
				var took [2]time.Duration
				done := 0
				for round := 0; b.Loop(); round++ {
					var pair [2]time.Duration
					for turn := range 2 {
						i := (round + turn) % 2
						var items []event.Item
						for k := range size {
							items = append(items, logs[i].Next([]byte(kind.body(done+k)))...)
						}
						began := time.Now()
						apply(i, items)
						pair[i] = time.Since(began)
						took[i] += pair[i]
					}
					done += size
					ratios = append(ratios, float64(pair[0])/float64(pair[1]))
				}
				slices.Sort(ratios)
				b.ReportMetric(ratios[len(ratios)/2], "median-ratio")
				b.ReportMetric(float64(took[0])/float64(took[1]), "sum-ratio")
				b.ReportMetric(float64(took[0].Microseconds())/float64(done), "µs/increment")
				b.ReportMetric(0, "ns/op") // two batches a round
			})
		}
	}
}
