package server

import (
	"context"
	"runtime/metrics"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// pendingEvery is how often the memory is looked at: less than it takes to fill what is left of it.
const pendingEvery = 10 * time.Millisecond

// pending bounds what waits in the embedded NATS server for connections that do not read, all of them together: twice
// what is under way to nodes, which may have to be said again, and a sixteenth of memory_limit for everything else.
// The server has a bound for each connection alone. While most of the memory is free, it is let be.
func (b *Broker) pending(ctx context.Context) error {
	t := time.NewTicker(pendingEvery)
	defer t.Stop()
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if metrics.Read(heap); int64(heap[0].Value.Uint64()) > b.cfg.MemoryLimit/8*3 {
			b.endFullest(2*b.flight.Bytes() + b.cfg.MemoryLimit/16)
		}
	}
}

// endFullest ends the connections for which the most waits, until at most limit bytes wait for the others. Its nodes
// and producers connect again, and repeat what they have no answer to.
func (b *Broker) endFullest(limit int64) {
	all, err := b.server.Connz(&server.ConnzOptions{Sort: server.ByPending, Limit: 1 << 16})
	if err != nil {
		b.log.Warn("the connections of the embedded NATS server cannot be listed now", "err", err)
		return
	}
	waits := int64(0)
	for _, c := range all.Conns {
		waits += int64(c.Pending)
	}
	for _, c := range all.Conns { // the fullest first
		if waits <= limit {
			return
		}
		if c.Port == 0 {
			continue // the broker's own
		}
		waits -= int64(c.Pending)
		b.log.Warn("a NATS connection was closed: it does not read, and memory is short", "address", c.IP, "port", c.Port,
			"name", c.Name, "bytes", c.Pending)
		_ = b.server.DisconnectClientByID(c.Cid) // it may have ended
	}
}
