package bench

import (
	"cmp"
	"context"
	"errors"

	"xmq/broker"
)

func fanout() Scenario {
	return Scenario{
		Name: "fanout", Asks: "ingest, and 4 nodes (--nodes) that receive, check and acknowledge everything; until the last has all", Unit: "increments/s",
		Aim:  "30x jetstream-sync, 10x jetstream; with 16 nodes 10x jetstream",
		disk: everyAnswerSynced, ours: oursFanout,
		peers: jetstreams(jetstreamFanout),
	}
}

func nodeCount(p *Params) int { return cmp.Or(p.Nodes, 4) }

func oursFanout(ctx context.Context, dir string, p *Params) (v float64, err error) {
	ids := names(nodeCount(p))
	h, err := newHouse(dir, func(c *broker.Config) { c.Masters = ids })
	if err != nil {
		return 0, err
	}
	defer closing(&err, h.close)
	var sinks []*sink
	for _, id := range ids {
		s := newSink()
		n, err2 := start(h.broker.NATSURL(), id, "", s)
		if err2 != nil {
			return 0, err2
		}
		defer closing(&err, n.close)
		sinks = append(sinks, s)
	}
	for _, s := range sinks {
		if err := s.placed(ctx); err != nil {
			return 0, err
		}
	}
	total, began, err := pour(ctx, producers, bodySize(p), span(p), natsWriters(h.broker.NATSURL()))
	if err != nil {
		return 0, err
	}
	for _, s := range sinks {
		if err := s.reaches(ctx, uint64(total+producers)); err != nil {
			return 0, err
		}
	}
	return since(total, began), nil
}

// closing joins the error of f to the one that is being returned.
func closing(err *error, f func() error) { *err = errors.Join(*err, f()) }
