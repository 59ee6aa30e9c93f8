package mysql

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient/target/targettest"
)

// BenchmarkApply is what one increment of one row costs in batches of 1000, as a script and with arguments.
func BenchmarkApply(b *testing.B) {
	for name, body := range map[string]func(k int) string{
		"script": func(k int) string { return fmt.Sprintf("INSERT INTO c VALUES (%d, 'some text of a row')", k) },
		"arguments": func(k int) string {
			return fmt.Sprintf(`{"sql": "INSERT INTO c VALUES (?, ?)", "args": [%d, "some text of a row"]}`, k)
		},
	} {
		b.Run(name, func(b *testing.B) {
			db := database(b.TempDir())
			require.NoError(b, server.Exec("mysql", "CREATE DATABASE `"+db+"`; GRANT ALL ON `"+db+"`.* TO xmq@'%'"))
			target, err := Open(b.Context(), server.URL(db), Options{})
			require.NoError(b, err)
			defer target.Close()
			log := targettest.NewLog(7)
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

// BenchmarkGeneratedNumbers is what generated numbers cost in batches of 1000, in 100 tables with AUTO_INCREMENT: of
// rows whose place
// words tell, and where the counters must be read. not is the same without the numbers' part.
func BenchmarkGeneratedNumbers(b *testing.B) {
	for name, body := range map[string]func(k int) string{
		"insert": func(k int) string { return fmt.Sprintf("INSERT INTO n%d (v) VALUES ('some text of a row')", k%100) },
		"mixed": func(k int) string {
			switch t := k % 100; k / 100 % 4 {
			case 2:
				return fmt.Sprintf("UPDATE n%d SET v = 'another text' WHERE id = %d", t, k/400+1)
			case 3:
				return fmt.Sprintf("DELETE FROM n%d WHERE id = %d", t, k/400)
			default:
				return fmt.Sprintf("INSERT INTO n%d (v) VALUES ('some text of a row')", t)
			}
		},
	} {
		for _, not := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/not=%v", name, not), func(b *testing.B) {
				db := database(b.TempDir())
				require.NoError(b, server.Make(db))
				target, err := Open(b.Context(), server.URL(db), Options{})
				require.NoError(b, err)
				defer target.Close()
				log := targettest.NewLog(7)
				at := log.At()
				apply := func(items []event.Item) {
					pos, err := target.Apply(b.Context(), at, items)
					require.NoError(b, err)
					at = pos
				}
				for k := range 100 {
					apply(log.Next([]byte(fmt.Sprintf("CREATE TABLE n%d (id int AUTO_INCREMENT PRIMARY KEY, v "+
						"text)", k))))
				}
				if not {
					target.counters.reach = &reach{}
				}
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
}
