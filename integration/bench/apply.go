package bench

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"xmq/broker/event"
	"xmq/broker/server"
	"xmq/nodeclient/driver"
	"xmq/nodeclient/producer"
)

// applyRows is how many rows are inserted, each by an increment or a transaction of its own.
func applyRows(p *Params, full int) int { return pick(p, full, 500) }

// rowText is what stands in row i: 64 characters.
func rowText(bodies *payloads, i int) string { return hex.EncodeToString(bodies.body(i)[:32]) }

// database makes an empty database below dir and returns its target URL and what removes it.
type database func(dir string) (url string, stop func() error, err error)

// fill publishes a first body and then n made by body, and waits for the last answer.
func fill(ctx context.Context, url, first string, n int, body func(i int) []byte) error {
	p, err := producer.Dial(url, "filler", producer.Options{})
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Publish(ctx, event.Draft{Body: []byte(first)}); err != nil {
		return err
	}
	for i := range n {
		if err := p.Publish(ctx, event.Draft{Body: body(i)}); err != nil {
			return err
		}
	}
	return p.Flush(ctx)
}

// oursApply is the rate at which a node brings a fresh database level with a log that is full: create makes the table
// t, insert the increment that adds row i.
func oursApply(full int, open database, create string, insert func(i int, text string) string) side {
	return func(ctx context.Context, dir string, p *Params) (v float64, err error) {
		h, err := newCluster(dir, func(c *server.Config) { c.Masters = names(1) })
		if err != nil {
			return 0, err
		}
		defer closing(&err, h.close)
		n, bodies := applyRows(p, full), newPayloads(32, 1)
		if err := fill(ctx, h.broker.NATSURL(), create, n,
			func(i int) []byte { return []byte(insert(i, rowText(bodies, i))) }); err != nil {
			return 0, err
		}
		url, stop, err := open(dir)
		if err != nil {
			return 0, err
		}
		defer closing(&err, stop)
		t, err := driver.Open(ctx, "", url, "", dir)
		if err != nil {
			return 0, err
		}
		defer closing(&err, t.Close)
		w := &watched{t, newPlace()}
		began := time.Now()
		agent, err := start(h.broker.NATSURL(), names(1)[0], "", w)
		if err != nil {
			return 0, err
		}
		defer closing(&err, agent.close)
		err = w.reaches(ctx, uint64(n+1))
		return since(n, began), err
	}
}

// template is an increment of one statement with a row's number and text as its arguments.
func template(sql string) func(i int, text string) string {
	return func(i int, text string) string {
		var b bytes.Buffer
		fmt.Fprintf(&b, `{"sql": %q, "args": [%d, %q]}`, sql, i, text)
		return b.String()
	}
}

// until asks a foreign server every few milliseconds, since it tells nobody by itself.
func until(ctx context.Context, done func() (bool, error)) error {
	t := time.NewTicker(3 * time.Millisecond)
	defer t.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return errors.Join(errors.New("a server does not come to its end"), ctx.Err())
		}
	}
}
