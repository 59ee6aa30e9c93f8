package postgres

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient/driver/drivertest"
)

// BenchmarkApply is what one increment of one row costs in batches of 1000, as a script and as a template with arguments.
func BenchmarkApply(b *testing.B) {
	for name, body := range map[string]func(k int) string{
		"script": func(k int) string { return fmt.Sprintf("INSERT INTO c VALUES (%d, 'some text of a row')", k) },
		"template": func(k int) string {
			return fmt.Sprintf(`{"sql": "INSERT INTO c VALUES ($1, $2)", "args": [%d, "some text of a row"]}`, k)
		},
	} {
		b.Run(name, func(b *testing.B) {
			db := database(b.TempDir())
			require.NoError(b, server.Exec("postgres", `CREATE DATABASE "`+db+`" OWNER xmq`))
			target, err := Open(b.Context(), server.URL(db), Options{})
			require.NoError(b, err)
			defer target.Close()
			log := drivertest.NewLog(7)
			at := log.At()
			apply := func(items []event.Item) {
				pos, err := target.Apply(b.Context(), at, items)
				require.NoError(b, err)
				at = pos
			}
			apply(log.Next([]byte("CREATE TABLE c (id int, v text)")))
			b.ReportAllocs()
			for done := 0; done < b.N; {
				b.StopTimer()
				var items []event.Item
				for range min(1000, b.N-done) {
					items = append(items, log.Next([]byte(body(done)))...)
					done++
				}
				b.StartTimer()
				apply(items)
			}
		})
	}
}

// BenchmarkSequences is what one increment costs that takes a number of one of 100 sequences: of one of them all the
// time, or of each in turn.
func BenchmarkSequences(b *testing.B) {
	const sequences = 100
	for name, of := range map[string]int{"one": 1, "all": sequences} {
		b.Run(name, func(b *testing.B) {
			db := database(b.TempDir())
			require.NoError(b, server.Exec("postgres", `CREATE DATABASE "`+db+`" OWNER xmq`))
			target, err := Open(b.Context(), server.URL(db), Options{})
			require.NoError(b, err)
			defer target.Close()
			log := drivertest.NewLog(7)
			at := log.At()
			apply := func(items []event.Item) {
				pos, err := target.Apply(b.Context(), at, items)
				require.NoError(b, err)
				at = pos
			}
			for i := range sequences {
				apply(log.Scripts(fmt.Sprintf("CREATE TABLE c%d (id serial, v text)", i)))
			}
			b.ReportAllocs()
			for done := 0; done < b.N; {
				b.StopTimer()
				var items []event.Item
				for range min(1000, b.N-done) {
					items = append(items, log.Next(fmt.Appendf(nil,
						`{"sql": "INSERT INTO c%d (v) VALUES ($1)", "args": ["some text of a row"]}`, done%of))...)
					done++
				}
				b.StartTimer()
				apply(items)
			}
		})
	}
}
