package bench

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/increments"
)

// groupSize is how many increments one Append takes.
const groupSize = 1000

// grower appends groups to a log of its own.
type grower struct {
	log    *increments.Log
	bodies *payloads
	drafts []event.Draft
	count  int
}

func newGrower(dir string, p *Params, o increments.Options) (*grower, error) {
	log, err := increments.Create(disk.Dir(filepath.Join(dir, "log")), disk.NewGround(disk.Options{}), o)
	if err != nil {
		return nil, err
	}
	return &grower{log: log, bodies: newPayloads(bodySize(p), 1), drafts: make([]event.Draft, groupSize)}, nil
}

func (g *grower) append() error {
	for i := range g.drafts {
		g.drafts[i] = event.Draft{Body: g.bodies.body(g.count)}
		g.count++
	}
	_, err := g.log.Append(g.drafts)
	return err
}

// to appends until the log has n increments.
func (g *grower) to(ctx context.Context, n int) error {
	for g.count < n {
		if err := errors.Join(ctx.Err(), g.append()); err != nil {
			return err
		}
	}
	return nil
}

// growth asks whether cost, of a grower at some length, stays the same while the log grows.
func growth(name, asks string, cost func(g *grower) (time.Duration, error)) Scenario {
	return Scenario{Name: name, Asks: asks + " at 10^4, 10^5, 10^6 and 10^7 increments: the slowest by the fastest", Unit: "slowest/fastest", Less: true,
		Aim: "1.2", disk: "synced after every 1,000", most: 1,
		ours: func(ctx context.Context, dir string, p *Params) (v float64, err error) {
			g, err := newGrower(dir, p, increments.Options{})
			if err != nil {
				return 0, err
			}
			defer closing(&err, g.log.Close)
			var costs []float64
			for _, n := range pick(p, []int{1e4, 1e5, 1e6, 1e7}, []int{2e3, 2e4}) {
				if err := g.to(ctx, n); err != nil {
					return 0, err
				}
				c, err := cost(g)
				if err != nil {
					return 0, err
				}
				p.say("%s: %d increments, %s", name, n, c)
				costs = append(costs, float64(c))
			}
			return slices.Max(costs) / slices.Min(costs), nil
		}}
}

// quietMean is the mean of all but the slowest twentieth, which are the machine's.
func quietMean(n int, f func() error) (time.Duration, error) {
	var took []time.Duration
	for range n {
		began := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	took = took[:len(took)-len(took)/20]
	var sum time.Duration
	for _, t := range took {
		sum += t
	}
	return sum / time.Duration(len(took)), nil
}

func growthAppend() Scenario {
	return growth("growth-append", "an append of 1,000 with its sync", func(g *grower) (time.Duration, error) { return quietMean(60, g.append) })
}

func growthTail() Scenario {
	return growth("growth-tail", "a read of the newest 1,000", func(g *grower) (time.Duration, error) {
		return quietMean(1000, func() error {
			got, err := g.log.Read(uint64(g.count-groupSize+1), groupSize, 1<<20)
			if err == nil && len(got) != groupSize {
				err = errors.New("the log did not read what was asked for")
			}
			return err
		})
	})
}
