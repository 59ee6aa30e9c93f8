package redis

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/servertest/redistest"
)

// cpu is how many seconds of processor time the server has used.
func cpu(b *testing.B, t *Database) (seconds float64) {
	b.Helper()
	i, err := readInfo(b.Context(), t.conn)
	require.NoError(b, err)
	for _, key := range []string{"used_cpu_user", "used_cpu_sys"} {
		n, err := strconv.ParseFloat(i[key], 64)
		require.NoError(b, err)
		seconds += n
	}
	return seconds
}

// BenchmarkApply is increments in batches of 1000: without times to live, the same in a database that has
// some, with them, and so that one ends with each.
func BenchmarkApply(b *testing.B) {
	for name, body := range map[string]string{"plain": "SET key:%d value", "among": "SET key:%d value",
		"times": "SET key:%d value EX 1000000000",
		"ends":  "SET key:%d value EX 600"} {
		b.Run(name, func(b *testing.B) {
			s, err := redistest.Start("--appendfsync", "no")
			require.NoError(b, err)
			defer func() { require.NoError(b, s.Stop()) }()
			target, err := Open(b.Context(), s.URL(0), Options{})
			require.NoError(b, err)
			defer func() { require.NoError(b, target.Close()) }()
			log, at := drivertest.NewLog(7), event.Start(7)
			apply := func(bodies ...[]byte) {
				items := log.Next(bodies...)
				at, err = target.Apply(b.Context(), at, items)
				require.NoError(b, err)
				at = items[len(items)-1].Pos
			}
			if name == "among" {
				apply([]byte("SET mortal x EX 1000000000"))
			}
			bodies := make([][]byte, 1000)
			for i := range bodies {
				bodies[i] = fmt.Appendf(nil, body, i)
			}
			before, n := cpu(b, target), 0
			for b.Loop() {
				apply(bodies...)
				n += len(bodies)
			}
			b.ReportMetric((cpu(b, target)-before)*1e6/float64(n), "server-µs/increment")
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "increments/s")
		})
	}
}
