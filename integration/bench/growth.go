package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
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

// growth asks whether a step costs the same on logs of each length. They are measured in turn, a step each, so that a machine that
// becomes slower does so for all of them.
func growth(name, asks string, steps int, step func(g *grower) error) Scenario {
	return Scenario{Name: name, Asks: asks + " on logs of 10^4, 10^5, 10^6 and 10^7 increments: the slowest by the fastest", Unit: "slowest/fastest", Less: true,
		Aim: "1.2", disk: "synced after every 1,000",
		ours: func(ctx context.Context, dir string, p *Params) (v float64, err error) {
			var all []*grower
			for _, n := range pick(p, []int{1e4, 1e5, 1e6, 1e7}, []int{2e3, 2e4}) {
				g, err2 := newGrower(filepath.Join(dir, strconv.Itoa(n)), p, increments.Options{})
				if err2 != nil {
					return 0, err2
				}
				defer closing(&err, g.log.Close)
				if err := g.to(ctx, n); err != nil {
					return 0, err
				}
				all = append(all, g)
			}
			took := make([][]time.Duration, len(all))
			for range steps {
				for i, g := range all {
					began := time.Now()
					if err := errors.Join(ctx.Err(), step(g)); err != nil {
						return 0, err
					}
					took[i] = append(took[i], time.Since(began))
				}
			}
			var costs []float64
			for i, g := range all {
				c := quietMean(took[i])
				p.say("%s: %s at %d increments", name, c, g.count)
				costs = append(costs, float64(c))
			}
			return slices.Max(costs) / slices.Min(costs), nil
		}}
}

// quietMean is the mean of all but the slowest twentieth, which are the machine's.
func quietMean(took []time.Duration) time.Duration {
	slices.Sort(took)
	took = took[:len(took)-len(took)/20]
	var sum time.Duration
	for _, t := range took {
		sum += t
	}
	return sum / time.Duration(len(took))
}

func growthAppend() Scenario {
	return growth("growth-append", "an append of 1,000 with its sync", 100, (*grower).append)
}

func growthTail() Scenario {
	return growth("growth-tail", "a read of the newest 1,000", 1000, func(g *grower) error {
		got, err := g.log.Read(uint64(g.count-groupSize+1), groupSize, 1<<20)
		if err == nil && len(got) != groupSize {
			err = errors.New("the log did not read what was asked for")
		}
		return err
	})
}
