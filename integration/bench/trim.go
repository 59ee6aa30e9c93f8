package bench

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"xmq/broker/event"
	"xmq/broker/server"
	"xmq/increments/segments"
	"xmq/nodeclient/producer"
)

func trim() Scenario {
	return Scenario{Name: "trim", Asks: "the log drops 10 M increments; its disk space comes back", Unit: "s", Less: true,
		Aim: "1 s", disk: "the mark below which nothing is kept is synced first", ours: oursTrim}
}

func oursTrim(ctx context.Context, dir string, p *Params) (v float64, err error) {
	n := logRecords(p)
	g, err := newGrower(dir, p, segments.Options{MaxRecords: uint64(n / 5)})
	if err != nil {
		return 0, err
	}
	defer closing(&err, g.log.Close)
	if err := g.to(ctx, n+1); err != nil { // one group more: the newest segment stays
		return 0, err
	}
	before, err := size(dir)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := g.log.Trim(uint64(n + 1)); err != nil {
		return 0, err
	}
	v = time.Since(began).Seconds()
	after, err := size(dir)
	if err == nil && after > before/5 {
		err = fmt.Errorf("after the trim %d of %d bytes are still on the disk", after, before)
	}
	return v, err
}

// size is what all files below dir hold.
func size(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}

// trimIngest asks whether producers feel that segments go.
func trimIngest() Scenario {
	at := func(trims bool) side {
		return func(ctx context.Context, dir string, p *Params) (float64, error) {
			return trimLatency(ctx, dir, p, trims)
		}
	}
	return Scenario{Name: "trim-ingest", Asks: "2,000 increments a second while segments of 10,000 go all the time: " +
		"the 99th percentile of an answer", Unit: "ms", Less: true,
		disk: everyAnswerSynced, ours: at(true), peers: []peer{{"without", everyAnswerSynced, at(false)}}}
}

func trimLatency(ctx context.Context, dir string, p *Params, trims bool) (v float64, err error) {
	grain := pick(p, int64(10_000), 500)
	h, err := newCluster(dir, func(c *server.Config) {
		c.Masters, c.MaxRecords, c.Retention.Every, c.Retention.KeepAge = names(1), grain, 20*time.Millisecond, 0
		if trims {
			c.Retention.MaxRecords = 1
		}
	})
	if err != nil {
		return 0, err
	}
	defer closing(&err, h.close)
	// A client that stays at the start holds the log, unless the limit overrules it.
	if err := settle(ctx, h, names(1), 1, bodySize(p)); err != nil {
		return 0, err
	}
	var t delays
	all, cold := paceCount(p)
	all *= 5
	sent := make(chan time.Time, all)
	w, err := producer.Dial(h.broker.NATSURL(), "pacer", producer.Options{Done: func(_, _ uint64, err error) {
		if began := <-sent; err == nil {
			t.add(time.Since(began))
		}
	}})
	if err != nil {
		return 0, err
	}
	defer w.Close()
	if err := pace(ctx, stamped{natsWriter{w}, sent}, all, bodySize(p)); err != nil {
		return 0, err
	}
	return t.percentile(99, cold)
}

// stamped remembers when each body was put.
type stamped struct {
	natsWriter
	sent chan<- time.Time
}

func (s stamped) put(ctx context.Context, body []byte) error {
	s.sent <- time.Now() // it has room for all
	return s.p.Publish(ctx, event.Draft{Body: body})
}
