package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/broker/server"
	"xmq/increments/segments"
)

// groupSize is how many increments one Append takes.
const groupSize = 1000

// grower appends groups to a log of its own.
type grower struct {
	place  disk.Place
	log    *segments.Log
	bodies *payloads
	drafts []event.Draft
	count  int
}

func newGrower(dir string, p *Params, o segments.Options) (*grower, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	place := disk.Dir(filepath.Join(dir, "log"))
	log, err := segments.Create(place, disk.NewStorage(disk.Options{}), o)
	if err != nil {
		return nil, err
	}
	return &grower{place: place, log: log, bodies: newPayloads(bodySize(p), 1), drafts: make([]event.Draft, groupSize)},
		nil
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

// growth asks whether a step costs the same on logs of each length. They are measured in turn, a step each, so that a
// machine that becomes slower does so for all of them.
func growth(name, asks string, steps int, step func(g *grower) error, lengths ...int) Scenario {
	var logs []string
	for _, n := range lengths {
		logs = append(logs, fmt.Sprintf("%g", float64(n)))
	}
	return Scenario{Name: name, Asks: asks + " on logs of " + strings.Join(logs, ", ") +
		" increments: the slowest by the fastest", Unit: "slowest/fastest", Less: true,
		Aim: "1.2", disk: "synced after every 1,000",
		ours: func(ctx context.Context, dir string, p *Params) (v float64, err error) {
			var all []*grower
			for _, n := range pick(p, lengths, []int{2e3, 2e4}) {
				g, err2 := newGrower(filepath.Join(dir, strconv.Itoa(n)), p, segments.Options{})
				if err2 != nil {
					return 0, err2
				}
				defer closing(&err, func() error { return g.log.Close() })
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
	return growth("growth-append", "an append of 1,000 with its sync", 100, (*grower).append, 1e4, 1e5, 1e6, 1e7)
}

func growthTail() Scenario {
	return growth("growth-tail", "a read of the newest 1,000", 1000, func(g *grower) error {
		got, err := g.log.Read(uint64(g.count-groupSize+1), groupSize, 1<<20)
		if err == nil && len(got) != groupSize {
			err = errors.New("the log did not read what was asked for")
		}
		return err
	}, 1e4, 1e5, 1e6, 1e7)
}

// growthRestart leaves 10^4 out: opening walks over the end of the log, at most 100,000 increments, so that less is
// done there.
func growthRestart() Scenario {
	return growth("growth-restart", "closing the log, opening it and appending 1,000", 20, func(g *grower) (err error) {
		if err := g.log.Close(); err != nil {
			return err
		}
		if g.log, err = segments.Open(g.place, disk.NewStorage(disk.Options{}), segments.Options{}); err != nil {
			return err
		}
		return g.append()
	}, 1e5, 1e6, 1e7)
}

// growthPositions asks whether the listing costs the same for each client, however many there are and however long
// the log is.
func growthPositions() Scenario {
	return Scenario{Name: "growth-positions", Asks: "GET /v1/positions, by the client, of 1,000 and 10,000 clients on " +
		"logs of 10^4 and 10^6 increments: the slowest by the fastest", Unit: "slowest/fastest", Less: true,
		Aim: "1.2", disk: everyAnswerSynced,
		ours: func(ctx context.Context, dir string, p *Params) (v float64, err error) {
			few, many := followerCount(p)/10, followerCount(p)
			short, long := pick(p, 10_000, 1_000), pick(p, 1_000_000, 5_000)
			var all []*cluster
			for i, c := range []struct{ clients, increments int }{{few, short}, {few, long}, {many, short}, {many, long}} {
				ids := names(c.clients)
				h, err2 := newCluster(filepath.Join(dir, strconv.Itoa(i)), func(cfg *server.Config) { cfg.Masters = ids })
				if err2 != nil {
					return 0, err2
				}
				defer closing(&err, h.close)
				if err := settle(ctx, h, ids, c.increments, bodySize(p)); err != nil {
					return 0, err
				}
				all = append(all, h)
			}
			took := make([][]time.Duration, len(all))
			for range pick(p, 40, 5) {
				for i, h := range all {
					began := time.Now()
					if err := positions(ctx, h); err != nil {
						return 0, err
					}
					took[i] = append(took[i], time.Since(began)/time.Duration(len(h.cfg.Masters)))
				}
			}
			var costs []float64
			for i, h := range all {
				c := quietMean(took[i])
				p.say("growth-positions: %s a client of %d", c, len(h.cfg.Masters))
				costs = append(costs, float64(c))
			}
			return slices.Max(costs) / slices.Min(costs), nil
		}}
}

// positions reads the listing and counts the clients in it.
func positions(ctx context.Context, h *cluster) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.broker.HTTPAddr()+"/v1/positions", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer closing(&err, res.Body.Close)
	body, err := io.ReadAll(res.Body)
	if n := bytes.Count(body, []byte(`"id":`)); err == nil && n != len(h.cfg.Masters) {
		err = fmt.Errorf("%d of %d clients are listed", n, len(h.cfg.Masters))
	}
	return err
}
