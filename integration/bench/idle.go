package bench

import (
	"context"
	"runtime"
	"syscall"
	"time"

	"xmq/broker/event"
	"xmq/broker/server"
	"xmq/nodeclient/producer"
)

const idleAsks = "10,000 connected clients that follow: "

// idle makes a scenario of a broker with many followers.
func idle(name, asks, unit, aim string,
	f func(ctx context.Context, h *cluster, c *followers, p *Params) (float64, error)) Scenario {
	return Scenario{Name: name, Asks: idleAsks + asks, Unit: unit, Less: true, Aim: aim, disk: everyAnswerSynced,
		ours: func(ctx context.Context, dir string, p *Params) (v float64, err error) {
			ids := names(followerCount(p))
			h, err := newCluster(dir, func(c *server.Config) { c.Masters = ids })
			if err != nil {
				return 0, err
			}
			defer closing(&err, h.close)
			c, err := newFollowers(h.broker.NATSURL(), ids)
			if err != nil {
				return 0, err
			}
			defer c.close()
			return f(ctx, h, c, p)
		}}
}

func idleMemory() Scenario {
	return idle("idle-memory", "memory of the broker for each, without its NATS connection", "KB", "20 KB",
		func(ctx context.Context, h *cluster, c *followers, _ *Params) (float64, error) {
			before := inUse()
			if err := c.join(ctx, h.broker.LogID()); err != nil {
				return 0, err
			}
			return max(inUse()-before, 1) / float64(len(c.ids)) / 1000, nil
		})
}

// inUse is what the heap and the stacks hold in bytes.
func inUse() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools are emptied by the second
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

func idleCPU() Scenario {
	return idle("idle-cpu", "time of the whole process, the clients' heartbeats included", "% of a core", "2 %",
		func(ctx context.Context, h *cluster, c *followers, p *Params) (float64, error) {
			if err := c.join(ctx, h.broker.LogID()); err != nil {
				return 0, err
			}
			if err := c.beat(ctx, pick(p, time.Second, 50*time.Millisecond)); err != nil { // what joining left behind
				return 0, err
			}
			d := pick(p, 10*time.Second, 500*time.Millisecond)
			before, began := cpuTime(), time.Now()
			err := c.beat(ctx, d)
			return 100 * float64(cpuTime()-before) / float64(time.Since(began)), err
		})
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // fails for wrong arguments only
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func idleWake() Scenario {
	return idle("idle-wake", "from the publication of one increment until a client has it: the 99th percentile", "ms",
		"50 ms", func(ctx context.Context, h *cluster, c *followers, p *Params) (float64, error) {
			if err := c.join(ctx, h.broker.LogID()); err != nil {
				return 0, err
			}
			w, err := producer.Dial(h.broker.NATSURL(), "waker", producer.Options{})
			if err != nil {
				return 0, err
			}
			defer w.Close()
			var t delays
			times := pick(p, 20, 3)
			for i := range times {
				if err := c.rest(ctx); err != nil {
					return 0, err
				}
				began := time.Now()
				c.mu.Lock()
				c.seen = func() { t.add(time.Since(began)) }
				c.mu.Unlock()
				if _, err := w.PublishWait(ctx, event.Draft{Body: newPayloads(bodySize(p), uint64(i)).body(0)}); err != nil {
					return 0, err
				}
				if err := c.all(ctx, &c.arrivals); err != nil {
					return 0, err
				}
			}
			return t.percentile(99, 0)
		})
}
