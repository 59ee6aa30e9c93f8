package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"xmq/broker/api"
	"xmq/broker/event"
	"xmq/broker/monitor"
	"xmq/dumpflow"
	"xmq/worker"
)

// progress is how far requesters are with the snapshots they fetch. It is for people: it is not kept over a restart,
// behind which it is estimated from the number of the next chunk.
type progress struct {
	mu    sync.Mutex
	loads map[fetch]*loaded
}

// fetch is one client's fetching of one snapshot.
type fetch struct {
	dump event.DumpID
	id   string
}

type loaded struct {
	next  uint32 // the chunk that has not been fetched
	bytes int64
	seen  time.Time
	flow  monitor.Rate
}

// sampleEvery is how far apart the samples are from which the rate is told.
const sampleEvery = time.Second

// took notes that a client has fetched a chunk. One that is fetched again counts once.
func (p *progress) took(dump event.DumpID, id string, c dumpflow.Chunk, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loads == nil {
		p.loads = map[fetch]*loaded{}
	}
	l := p.loads[fetch{dump, id}]
	if l == nil {
		l = &loaded{next: c.Number, bytes: int64(c.Number) * dumpflow.ChunkSize}
		p.loads[fetch{dump, id}] = l
		l.flow.Sample(uint64(l.bytes), now)
	}
	if l.seen = now; c.Number >= l.next {
		l.next, l.bytes = c.Number+1, l.bytes+int64(c.Length)
	}
	if now.Sub(l.flow.Sampled()) >= sampleEvery {
		l.flow.Sample(uint64(l.bytes), now)
	}
}

// of tells how far a client is with a snapshot of about size bytes; 0: that is not known.
func (p *progress) of(dump event.DumpID, id string, size int64) *worker.Loading {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.loads[fetch{dump, id}]
	if l == nil {
		return &worker.Loading{Of: size}
	}
	v := &worker.Loading{Bytes: l.bytes, Of: max(size, 0), Rate: l.flow.PerSecond()}
	if left := v.Of - v.Bytes; left > 0 && v.Rate > 0 {
		v.Left = float64(left) / v.Rate
	}
	return v
}

// forget drops what is known of snapshots for which keep is false.
func (p *progress) forget(keep func(event.DumpID) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for f := range p.loads {
		if !keep(f.dump) {
			delete(p.loads, f)
		}
	}
}

// views are all clients as the outside sees them.
func (b *Broker) views(ctx context.Context) ([]worker.View, error) {
	all, err := b.pool.Views(ctx)
	silent := make(map[string]float64, len(all))
	for i := range all {
		b.addLoading(&all[i])
		silent[all[i].ID] = all[i].SilentSeconds
	}
	h := b.keeping.Where(func(id string, d time.Duration) bool {
		seconds, known := silent[id]
		return !known || seconds < d.Seconds()
	})
	h.Pins(all)
	return all, err
}

// newcomers are the nodes that nobody knows, and that live and wait.
func (b *Broker) newcomers() []worker.View {
	return slices.DeleteFunc(b.admission.Newcomers(time.Now()), func(v worker.View) bool {
		_, known := b.stores.state.Client(v.ID)
		return known
	})
}

// view is one client as the outside sees it; false when there is none.
func (b *Broker) view(ctx context.Context, id string) (worker.View, bool, error) {
	v, known, err := b.pool.View(ctx, id)
	if known {
		one := []worker.View{v}
		b.addLoading(&one[0])
		h := b.keeping.Who()
		h.Pins(one)
		v = one[0]
	}
	return v, known, err
}

// addLoading adds how far the client is with its snapshot, which its machine cannot know.
func (b *Broker) addLoading(v *worker.View) {
	if v.Join == nil || v.Condition.Is != worker.IsLoading {
		return
	}
	d, known := b.stores.state.Dump(v.Join.Dump)
	if !known {
		return
	}
	size := d.About
	if d.Phase == dumpflow.Sealed {
		size = d.Size
	}
	v.Loading = b.progress.of(d.ID, v.ID, size)
	v.Loading.Opened, v.Loading.Seq = api.At(d.OpenedAt), d.Pos.Seq
}
