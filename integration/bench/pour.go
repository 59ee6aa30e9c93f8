package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"xmq/broker/event"
	"xmq/nodeclient/producer"
)

// producers is how many connections write at once.
const producers = 4

// windowRecords is what one producer has under way: together they stay below what the broker lets wait.
const windowRecords = 8192

// payloadBytes is the size of a body that nobody chose.
const payloadBytes = 128

// span is how long the writers write.
func span(p *Params) time.Duration { return pick(p, 2*time.Second, 50*time.Millisecond) }

// writer hands over bodies as fast as its connection takes them, many in flight. One goroutine uses it.
type writer interface {
	put(ctx context.Context, body []byte) error
	flush(ctx context.Context) error // waits for the answer to everything put
	close()
}

// pour lets n writers write random bodies of so many bytes for a while, and returns how many were answered since
// began: the clock begins with all connections up and a first body, which does not count, answered on each.
func pour(ctx context.Context, n, size int, d time.Duration, open func(i int) (writer, error)) (total int,
	began time.Time, err error) {
	var work sync.WaitGroup
	counts, errs := make([]int, n), make([]error, n)
	writers := make([]writer, n)
	defer func() {
		for _, w := range writers {
			if w != nil {
				w.close()
			}
		}
	}()
	bodies := make([]*payloads, n)
	for i := range writers {
		bodies[i] = newPayloads(size, uint64(i))
		if writers[i], err = open(i); err != nil {
			return 0, began, err
		}
		if err := errors.Join(writers[i].put(ctx, bodies[i].body(0)), writers[i].flush(ctx)); err != nil {
			return 0, began, err
		}
	}
	began = time.Now()
	for i, w := range writers {
		work.Go(func() {
			for errs[i] == nil && (counts[i]%64 != 0 || counts[i] == 0 || time.Since(began) < d) {
				counts[i]++
				errs[i] = w.put(ctx, bodies[i].body(counts[i]))
			}
			errs[i] = errors.Join(errs[i], w.flush(ctx))
		})
	}
	work.Wait()
	for _, c := range counts {
		total += c
	}
	return total, began, errors.Join(errs...)
}

// pourRate is pour with increments a second.
func pourRate(ctx context.Context, n, size int, d time.Duration, open func(i int) (writer, error)) (float64, error) {
	total, began, err := pour(ctx, n, size, d, open)
	return since(total, began), err
}

// since is n by the seconds since began.
func since(n int, began time.Time) float64 { return float64(n) / time.Since(began).Seconds() }

// natsWriter is a producer at our NATS door.
type natsWriter struct{ p *producer.Producer }

// natsWriters opens producers at a door.
func natsWriters(url string) func(i int) (writer, error) {
	return func(i int) (writer, error) {
		p, err := producer.Dial(url, fmt.Sprint("p", i), producer.Options{Records: windowRecords})
		if err != nil {
			return nil, err
		}
		return natsWriter{p}, nil
	}
}

func (w natsWriter) put(ctx context.Context, body []byte) error {
	return w.p.Publish(ctx, event.Draft{Body: body})
}

func (w natsWriter) flush(ctx context.Context) error { return w.p.Flush(ctx) }

func (w natsWriter) close() { w.p.Close() }
