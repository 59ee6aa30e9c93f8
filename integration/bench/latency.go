package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"xmq/broker/event"
	"xmq/broker/server"
)

// latency asks how long an increment takes from the producer's call to the handler of a node, its sync included.
func latency(percent int) Scenario {
	return Scenario{
		Name: fmt.Sprint("latency-p", percent), Asks: fmt.Sprintf("2,000 increments a second, from publish to a node's "+
			"handler: the %dth percentile", percent), Unit: "ms", Less: true,
		Aim:  "not above jetstream-sync",
		disk: everyAnswerSynced,
		ours: func(ctx context.Context, dir string, p *Params) (float64, error) {
			return oursLatency(ctx, dir, p, percent)
		},
		peers: jetstreams(func(ctx context.Context, j *jets, p *Params) (float64, error) {
			return jetstreamLatency(ctx, j, p, percent)
		}),
	}
}

// paceEvery is the distance of two publications.
const paceEvery = time.Second / 2000

// paceCount is how many are published, and those of them whose time does not count because nothing is warm yet.
func paceCount(p *Params) (all, cold int) { return pick(p, 6000, 200), pick(p, 1000, 20) }

// pace puts stamped bodies in even steps, by the clock and not by the answers: one that is late does not delay the
// next.
func pace(ctx context.Context, w writer, n, size int) error {
	bodies, began := newPayloads(max(size, 8), 1), time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range n {
		timer.Reset(time.Until(began.Add(time.Duration(i) * paceEvery)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		body := slices.Clone(bodies.body(i))
		binary.LittleEndian.PutUint64(body, uint64(time.Now().UnixNano()))
		if err := w.put(ctx, body); err != nil {
			return err
		}
	}
	return w.flush(ctx)
}

// delays gathers how long stamped bodies were under way.
type delays struct {
	mu    sync.Mutex
	times []float64 // ms
}

func (t *delays) arrived(body []byte) {
	took := time.Since(time.Unix(0, int64(binary.LittleEndian.Uint64(body))))
	t.add(took)
}

func (t *delays) add(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.times = append(t.times, float64(took)/float64(time.Millisecond))
}

// percentile is that of all after the first cold.
func (t *delays) percentile(percent, cold int) (float64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.times) <= cold {
		return 0, errors.New("nothing was measured")
	}
	sorted := slices.Sorted(slices.Values(t.times[cold:]))
	return sorted[(len(sorted)-1)*percent/100], nil
}

func oursLatency(ctx context.Context, dir string, p *Params, percent int) (v float64, err error) {
	h, err := newCluster(dir, func(c *server.Config) { c.Masters = names(1) })
	if err != nil {
		return 0, err
	}
	defer closing(&err, h.close)
	var t delays
	s := newSink()
	s.seen = func(i event.Item) {
		if record, err := i.Record.Decode(); err == nil { // it was checked on its way
			t.arrived(record.Body)
		}
	}
	n, err := start(h.broker.NATSURL(), names(1)[0], "", s)
	if err != nil {
		return 0, err
	}
	defer closing(&err, n.close)
	w, err := natsWriters(h.broker.NATSURL())(0)
	if err != nil {
		return 0, err
	}
	defer w.close()
	all, cold := paceCount(p)
	if err := errors.Join(pace(ctx, w, all, bodySize(p)), s.reaches(ctx, uint64(all))); err != nil {
		return 0, err
	}
	return t.percentile(percent, cold)
}

func jetstreamLatency(ctx context.Context, j *jets, p *Params, percent int) (v float64, err error) {
	var t delays
	r, err := j.reader(ctx, "n0", jetBatch, func(m jetstream.Msg) { t.arrived(m.Data()) })
	if err != nil {
		return 0, err
	}
	defer r.close()
	w, err := j.writer(0)
	if err != nil {
		return 0, err
	}
	defer w.close()
	all, cold := paceCount(p)
	if err := errors.Join(pace(ctx, w, all, bodySize(p)), r.takes(ctx, all)); err != nil {
		return 0, err
	}
	return t.percentile(percent, cold)
}
