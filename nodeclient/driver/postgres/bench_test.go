package postgres

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
)

// BenchmarkApply is what one increment of one row costs in batches of 1000, as a script and as a template with
// arguments.
func BenchmarkApply(b *testing.B) {
	drivertest.BenchmarkApply(b, func(b *testing.B) nodeclient.Database {
		db := database(b.TempDir())
		require.NoError(b, server.Make(db))
		opened, err := Open(b.Context(), server.URL(db), Options{})
		require.NoError(b, err)
		return opened
	}, map[string]func(k int) string{
		"script": func(k int) string { return fmt.Sprintf("INSERT INTO c VALUES (%d, 'some text of a row')", k) },
		"template": func(k int) string {
			return fmt.Sprintf(`{"sql": "INSERT INTO c VALUES ($1, $2)", "args": [%d, "some text of a row"]}`, k)
		},
	})
}

// BenchmarkSequences is what it costs to keep 100 sequences, of which a batch moves one, some or all. Two databases
// get the same batches in turns, one of them without the sequences' part. Whoever comes first in a round may be
// slower, so that two rounds, in both orders, make one ratio; the median of those is what it costs. It is of the time
// that the session's process has worked and this one, which other programs on the machine disturb less than the time
// that has passed.
func BenchmarkSequences(b *testing.B) {
	const sequences = 100
	whole := look
	defer func() { look = whole }()
	for _, batch := range []int{100, 1000} {
		for _, of := range []int{1, 30, sequences} {
			b.Run(fmt.Sprintf("batches=%d/moved=%d", batch, of), func(b *testing.B) {
				targets, at := [2]*Database{}, [2]event.Position{}
				log := drivertest.NewLog(7)
				apply := func(i int, items []event.Item) time.Duration {
					look = whole
					if i == 1 { // as where there are no sequences
						look = strings.Replace(whole, sumSequences, "0", 1)
					}
					began := worked(b, targets[i])
					pos, err := targets[i].Apply(b.Context(), at[i], items)
					took := worked(b, targets[i]) - began
					require.NoError(b, err)
					at[i] = pos
					return took
				}
				for i := range targets {
					db := fmt.Sprintf("%s_%d", database(b.TempDir()), i)
					require.NoError(b, server.Exec("postgres", `CREATE DATABASE "`+db+`" OWNER xmq`))
					target, err := Open(b.Context(), server.URL(db), Options{})
					require.NoError(b, err)
					defer target.Close()
					targets[i], at[i] = target, log.At()
				}
				for k := range sequences {
					items := log.Scripts(fmt.Sprintf("CREATE TABLE c%d (id serial, v text)", k))
					apply(0, items)
					apply(1, items)
				}
				targets[1].numbers.settled, targets[1].numbers.looked = true, time.Now().Add(time.Hour)
				round := func(done int) (ratio float64) {
					items := make([]event.Item, 0, batch)
					for k := range batch {
						items = append(items, log.Next(fmt.Appendf(nil,
							`{"sql": "INSERT INTO c%d (v) VALUES ($1)", "args": ["some text of a row"]}`, k%of))...)
					}
					first := done % 2
					took := [2]time.Duration{}
					took[first] = apply(first, items)
					took[1-first] = apply(1-first, items)
					return float64(took[0]) / float64(took[1])
				}
				for k := range 20 {
					round(k)
				}
				var ratios []float64
				for b.Loop() {
					ratios = append(ratios, math.Sqrt(round(0)*round(1)))
				}
				slices.Sort(ratios)
				b.ReportMetric(100*(ratios[len(ratios)/2]-1), "%cost")
			})
		}
	}
}

// worked is how long the process of a target's session at the server, and this process, have worked.
func worked(b *testing.B, t *Database) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", t.pg.PID()))
	require.NoError(b, err)
	ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
	require.NoError(b, err)
	var own syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &own))
	return time.Duration(ns + own.Utime.Nano() + own.Stime.Nano())
}

// BenchmarkFunctions is what it costs to ask, after each batch of plain DML, for the settings that functions of the
// database may leave in the session: two databases with such a function get the same batches in turns, one of them as
// if it set nothing. It is measured as in BenchmarkSequences.
func BenchmarkFunctions(b *testing.B) {
	for _, batch := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("batches=%d", batch), func(b *testing.B) {
			targets, at := [2]*Database{}, [2]event.Position{}
			log := drivertest.NewLog(7)
			apply := func(i int, items []event.Item) time.Duration {
				if i == 1 {
					targets[1].remains.traces = traces{}
				}
				began := worked(b, targets[i])
				pos, err := targets[i].Apply(b.Context(), at[i], items)
				took := worked(b, targets[i]) - began
				require.NoError(b, err)
				at[i] = pos
				return took
			}
			for i := range targets {
				db := fmt.Sprintf("%s_%d", database(b.TempDir()), i)
				require.NoError(b, server.Exec("postgres", `CREATE DATABASE "`+db+`" OWNER xmq`))
				target, err := Open(b.Context(), server.URL(db), Options{})
				require.NoError(b, err)
				defer target.Close()
				targets[i], at[i] = target, log.At()
			}
			items := log.Scripts("CREATE TABLE c (id int, v text)",
				"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET LOCAL app.x = 5; RETURN 1; END $$")
			apply(0, items)
			apply(1, items)
			var ratios []float64
			round := func(first int) float64 {
				items := make([]event.Item, 0, batch)
				for k := range batch {
					items = append(items, log.Next(fmt.Appendf(nil,
						`{"sql": "INSERT INTO c VALUES ($1, $2)", "args": [%d, "some text of a row"]}`, k))...)
				}
				took := [2]time.Duration{}
				took[first] = apply(first, items)
				took[1-first] = apply(1-first, items)
				return float64(took[0]) / float64(took[1])
			}
			for range 20 {
				round(0)
			}
			for b.Loop() {
				ratios = append(ratios, math.Sqrt(round(0)*round(1)))
			}
			slices.Sort(ratios)
			b.ReportMetric(100*(ratios[len(ratios)/2]-1), "%cost")
		})
	}
}
