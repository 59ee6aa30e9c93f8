package bench

import (
	"context"
	"errors"
	"time"

	"xmq/broker/event"
	"xmq/broker/server"
	"xmq/nodeclient/producer"
)

// logRecords is the length of a long log.
func logRecords(p *Params) int { return pick(p, 10_000_000, 20_000) }

func restart() Scenario {
	return Scenario{Name: "restart", Asks: "10 M increments and 10,000 clients' records: from the opening to the first " +
		"acknowledged append, after a clean end", Unit: "s", Less: true,
		Aim: "1 s", disk: everyAnswerSynced, ours: oursRestart}
}

// oursRestart builds once and opens three times; the figure is the median.
func oursRestart(ctx context.Context, dir string, p *Params) (float64, error) {
	ids := names(followerCount(p))
	h, err := newCluster(dir, func(c *server.Config) { c.Masters = ids })
	if err != nil {
		return 0, err
	}
	if err := errors.Join(settle(ctx, h, ids, logRecords(p), bodySize(p)), h.close()); err != nil {
		return 0, err
	}
	var took []float64
	for range 3 {
		began := time.Now()
		h, err := openCluster(h.cfg)
		if err != nil {
			return 0, err
		}
		w, err := producer.Dial(h.broker.NATSURL(), "first", producer.Options{})
		if err == nil {
			_, err = w.PublishWait(ctx, event.Draft{Body: newPayloads(bodySize(p), 1).body(0)})
			took = append(took, time.Since(began).Seconds())
			w.Close()
		}
		if err := errors.Join(err, h.close()); err != nil {
			return 0, err
		}
	}
	return median(took), nil
}

// settle gives a broker clients that stay where they are, and so many increments after them.
func settle(ctx context.Context, h *cluster, ids []string, n, size int) error {
	c, err := newFollowers(h.broker.NATSURL(), ids)
	if err != nil {
		return err
	}
	err = c.join(ctx, h.broker.LogID())
	c.close() // nobody follows while the log grows
	if err != nil {
		return err
	}
	w, err := natsWriters(h.broker.NATSURL())(0)
	if err != nil {
		return err
	}
	defer w.close()
	bodies := newPayloads(size, 1)
	for i := range n {
		if err := w.put(ctx, bodies.body(i)); err != nil {
			return err
		}
	}
	return w.flush(ctx)
}
