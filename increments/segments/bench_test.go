package segments

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/broker/event"
)

// BenchmarkAppend writes groups of 128 random bytes each to disk, one sync per group.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint("group=", size), func(b *testing.B) {
			l, err := Create(disk.Dir(b.TempDir()), disk.NewStorage(disk.Options{}), Options{})
			require.NoError(b, err)
			ds := randomDrafts(size)
			b.SetBytes(int64(size) * 128)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if _, err := l.Append(ds); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)*float64(size)/b.Elapsed().Seconds(), "increments/s")
			require.NoError(b, l.Close())
		})
	}
}

func randomDrafts(n int) []event.Draft {
	rng := rand.New(rand.NewPCG(1, 1))
	ds := make([]event.Draft, n)
	for i := range ds {
		ds[i].Body = noise(rng, 128)
	}
	return ds
}

// BenchmarkRead reads 1,000 records at a time, from memory and from disk.
func BenchmarkRead(b *testing.B) {
	const n = 100_000
	for where, ring := range map[string]int{"ring": 0, "disk": 1} {
		b.Run(where, func(b *testing.B) {
			l, err := Create(disk.Dir(b.TempDir()), disk.NewStorage(disk.Options{}), Options{RingBytes: ring})
			require.NoError(b, err)
			for range n / 1000 {
				put(b, l, randomDrafts(1000)...)
			}
			b.ReportAllocs()
			b.ResetTimer()
			read := 0
			for from := uint64(1); read < b.N*1000; from += 1000 {
				if from > n-2000 {
					from = 1
				}
				records, err := l.Read(from, 1000, 1<<20)
				if err != nil {
					b.Fatal(err)
				}
				read += len(records)
			}
			b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "increments/s")
			require.NoError(b, l.Close())
		})
	}
}

// BenchmarkLookup looks up keys that are not there and keys that are, with all of the window in one segment, in many,
// and in many that are not indexed.
func BenchmarkLookup(b *testing.B) {
	const n = 300_000
	for _, records := range []uint64{n + 1, 20_000, 1000} {
		for _, known := range []bool{false, true} {
			b.Run(fmt.Sprintf("segments=%d/known=%v", n/records+1, known), func(b *testing.B) {
				l, err := Create(disk.Dir(b.TempDir()), disk.NewStorage(disk.Options{}), Options{MaxRecords: records})
				require.NoError(b, err)
				key := func(i int) string { return fmt.Sprintf("%016x", uint64(i)*0x9E3779B97F4A7C15) }
				for done := 0; done < n; done += 1000 {
					ds := randomDrafts(1000)
					for i := range ds {
						ds[i].Key = key(done + i)
					}
					require.NoError(b, l.indexBelow(l.newest.First))
					put(b, l, ds...)
				}
				require.NoError(b, l.indexBelow(l.newest.First))
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					h := event.Headers{Key: key(i * 7919 % n)}
					if !known {
						h.Key = key(n + i)
					}
					if _, err := l.lookup(&h); (err == nil) != known {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				require.NoError(b, l.Close())
			})
		}
	}
}
