package server

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient/producer"
)

// BenchmarkIngest is the whole way in: producers over TCP, the NATS door, the log with one sync a group, and every
// answer.
func BenchmarkIngest(b *testing.B) {
	for _, c := range []struct {
		producers, size int
		once            bool
	}{{1, 128, false}, {2, 128, false}, {4, 128, false}, {4, 128, true}, {4, 1024, false}} {
		b.Run(fmt.Sprintf("producers=%d/size=%d/once=%v", c.producers, c.size, c.once), func(b *testing.B) {
			cfg := Default()
			cfg.Data = filepath.Join(b.TempDir(), "data")
			cfg.NATSAddr, cfg.HTTPAddr = "127.0.0.1:0", "127.0.0.1:0"
			cfg.Watch.Ballast, cfg.Watch.MinFree = false, 0
			r, err := Open(cfg, slog.New(slog.DiscardHandler))
			require.NoError(b, err)
			ctx, cancel := context.WithCancel(context.Background())
			ready, done := make(chan struct{}), make(chan error, 1)
			go func() { done <- r.Run(ctx, func() { close(ready) }) }()
			<-ready
			b.ReportAllocs()
			b.ResetTimer()
			var work sync.WaitGroup
			for i := range c.producers {
				work.Go(func() { pourBench(b, r.NATSURL(), fmt.Sprint("p", i), b.N/c.producers+1, c.size, c.once) })
			}
			work.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "increments/s")
			b.ReportMetric(float64(r.ingest.took.Load())/float64(max(1, r.ingest.commits.Load())), "increments/sync")
			cancel()
			require.NoError(b, <-done)
		})
	}
}

func pourBench(b *testing.B, url, id string, n, size int, once bool) {
	p, err := producer.Dial(url, id, producer.Options{Once: once})
	if err != nil {
		b.Error(err)
		return
	}
	defer p.Close()
	noise := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(noise) // never fails
	for i := range n {
		at := i * 61 % (len(noise) - size)
		if err := p.Publish(context.Background(), event.Draft{Body: noise[at : at+size]}); err != nil {
			b.Error(err)
			return
		}
	}
	if err := p.Flush(context.Background()); err != nil {
		b.Error(err)
	}
}
