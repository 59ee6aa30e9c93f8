package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"xmq/broker/server"
)

func fanout(name string, nodes int, aim string) Scenario {
	manned := func(p *Params) *Params {
		q := *p
		q.Nodes = cmp.Or(p.Nodes, nodes)
		return &q
	}
	return Scenario{
		Name: name, Asks: fmt.Sprintf("ingest, and %d nodes (--nodes) that receive, check and acknowledge everything; "+
			"until the last has all", nodes), Unit: "increments/s",
		Aim: aim, disk: everyAnswerSynced,
		ours: func(ctx context.Context, dir string, p *Params) (float64, error) {
			return oursFanout(ctx, dir, manned(p))
		},
		peers: jetstreams(func(ctx context.Context, j *jets, p *Params) (float64, error) {
			return jetstreamFanout(ctx, j, manned(p))
		}),
	}
}

func oursFanout(ctx context.Context, dir string, p *Params) (v float64, err error) {
	ids := names(p.Nodes)
	h, err := newCluster(dir, func(c *server.Config) { c.Masters = ids })
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
