package bench

import (
	"context"
	"net/url"
	"sync"
	"time"

	"xmq/broker/event"
	"xmq/broker/server"
)

// The line between broker and node.
const (
	wanDelay = 75 * time.Millisecond // one way
	wanRate  = 100_000_000 / 8       // bytes a second of the narrow one
)

// wan asks what distance costs. rate is the line's in bytes a second, 0 for no limit; the peer's line has the same
// and no delay.
func wan(name, asks string, rate int) Scenario {
	at := func(delay time.Duration) side {
		return func(ctx context.Context, dir string, p *Params) (float64, error) {
			return wanRateOf(ctx, dir, p, pick(p, delay, delay/5), rate)
		}
	}
	return Scenario{
		Name: name, Asks: asks, Unit: "increments/s",
		Aim:  "90 % of loopback or of the link",
		disk: everyAnswerSynced, ours: at(wanDelay),
		peers: []peer{{"loopback", everyAnswerSynced, at(0)}},
	}
}

// wanRateOf is what arrives at a node behind a link, from the first increment that arrives to the last, or to the last
// that has come a few seconds after everything was published.
func wanRateOf(ctx context.Context, dir string, p *Params, delay time.Duration, rate int) (v float64, err error) {
	h, err := newCluster(dir, func(c *server.Config) { c.Masters = names(1) })
	if err != nil {
		return 0, err
	}
	defer closing(&err, h.close)
	u, err := url.Parse(h.broker.NATSURL())
	if err != nil {
		return 0, err
	}
	line, err := newLink(u.Host, delay, rate)
	if err != nil {
		return 0, err
	}
	defer closing(&err, line.close)
	s := newSink()
	var mu sync.Mutex // guards what follows
	var first, last time.Time
	var count int
	s.seen = func(event.Item) {
		mu.Lock()
		defer mu.Unlock()
		if last = time.Now(); count == 0 {
			first = last
		}
		count++
	}
	n, err := start(line.url(), names(1)[0], "", s)
	if err != nil {
		return 0, err
	}
	defer closing(&err, n.close)
	if err := s.placed(ctx); err != nil {
		return 0, err
	}
	total, _, err := pour(ctx, producers, bodySize(p), span(p), natsWriters(h.broker.NATSURL()))
	if err != nil {
		return 0, err
	}
	enough, cancel := context.WithTimeout(ctx, 4*time.Second) // a slow line is known by then
	defer cancel()
	if err := s.reaches(enough, uint64(total+producers)); err != nil && ctx.Err() != nil {
		return 0, err
	}
	mu.Lock()
	defer mu.Unlock()
	return float64(count) / last.Sub(first).Seconds(), nil
}
