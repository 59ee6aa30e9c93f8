package xmqtest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xmq/broker/bus"
	"xmq/nodeclient"
	"xmq/nodeclient/driver"
)

// still is for how long nothing may move before a test gives up.
const still = 20 * time.Second

// Node is a node in this process.
type Node struct {
	ID string

	t      testing.TB
	broker *Broker
	agent  *nodeclient.Agent
	ended  chan struct{}
	err    error // why it ended; after ended
	stop   func() error
	called atomic.Bool // Stop was
}

// StartNode runs a node beside the database that target names, as xmq node opens it, until the test ends; it returns
// when the node follows the broker. Relative paths begin in a folder of the test. change may change its options: From,
// for example, to join by DUMP. A database that does not answer fails the test at once.
func (b *Broker) StartNode(id, target string, change ...func(*nodeclient.Options)) *Node {
	b.t.Helper()
	o := nodeclient.Options{Group: b.Group, ID: id, Tick: tick, Silence: silence, ApplyLimit: time.Minute, Log: b.log}
	for _, c := range change {
		c(&o)
	}
	db, err := driver.Open(b.t.Context(), id, target, "", b.t.TempDir())
	if err != nil {
		b.t.Fatalf("the database of node %s does not open: %v", id, err)
	}
	o.Driver, o.Stateless = db.Driver, db.Stateless
	conn, err := bus.Dial(b.NATS, id)
	if err != nil {
		b.t.Fatalf("node %s does not start: %v", id, errors.Join(err, db.Close()))
	}
	a, err := nodeclient.New(conn, db.Database, o)
	if err != nil {
		conn.Close()
		b.t.Fatalf("node %s does not start: %v", id, errors.Join(err, db.Close()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &Node{ID: id, t: b.t, broker: b, agent: a, ended: make(chan struct{})}
	go func() {
		defer close(n.ended)
		n.err = a.Run(ctx)
	}()
	n.stop = sync.OnceValue(func() error {
		cancel()
		<-n.ended
		conn.Close()
		return errors.Join(n.err, db.Close())
	})
	b.t.Cleanup(func() {
		if err := n.stop(); err != nil && !n.called.Load() {
			b.t.Errorf("node %s has not ended well: %v", id, err)
		}
	})
	if err := n.wait(still, "it was to follow the broker", func(s nodeclient.Status) bool {
		return s.Phase == "following" || s.Phase == "held"
	}); err != nil {
		n.called.Store(true) // its end is told here
		b.t.Fatal(err)
	}
	return n
}

// Stop stops the node before the test ends, and says what the end of xmq node would say.
func (n *Node) Stop() error {
	n.called.Store(true)
	return n.stop()
}

// Status says where the node stands.
func (n *Node) Status() nodeclient.Status { return n.agent.Status() }

// WaitApplied waits until the database holds everything up to seq. The test fails when the node ends, or when nothing
// has moved for 20 seconds; it says then where the node stands, and what the broker knows of the cause. It is called by
// the goroutine of the test.
func (n *Node) WaitApplied(seq uint64) {
	n.t.Helper()
	if err := n.reach(seq, still); err != nil {
		n.t.Fatal(err)
	}
}

func (n *Node) reach(seq uint64, still time.Duration) error {
	return n.wait(still, fmt.Sprintf("%d was to be applied", seq),
		func(s nodeclient.Status) bool { return s.Position.Seq >= seq })
}

// wait waits until there is true of where the node stands. It gives up when that has been the same for still, and the
// snapshot that it loads, if it does, has not grown.
func (n *Node) wait(still time.Duration, what string, there func(nodeclient.Status) bool) error {
	limit := time.NewTimer(still)
	defer limit.Stop()
	var loaded int64
	for {
		now, other := n.agent.Next()
		if there(now) {
			return nil
		}
		select {
		case <-other:
			limit.Reset(still)
		case <-n.ended:
			if now := n.agent.Status(); !there(now) {
				return fmt.Errorf("node %s has ended at %d, and %s: %w", n.ID, now.Position.Seq, what, n.cause())
			}
		case <-limit.C:
			known, err := n.known()
			if err == nil && known.Loading.Bytes > loaded {
				loaded = known.Loading.Bytes
				limit.Reset(still)
				continue
			}
			return fmt.Errorf("node %s stands at %d (%s), nothing has moved for %s, and %s: %s", n.ID, now.Position.Seq,
				cmp.Or(now.Phase, "starting"), still, what, known.say(err))
		}
	}
}

// cause is why the node has ended.
func (n *Node) cause() error {
	if n.err != nil {
		return n.err
	}
	return errors.New("it was stopped")
}

// known is what the broker knows of a node, as far as a test wants it.
type known struct {
	Trouble *struct {
		Seq  uint64
		Text string
	} `json:"last_error"`
	Loading struct{ Bytes int64 }
}

func (n *Node) known() (k known, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.broker.HTTP+"/v1/clients/"+n.ID, nil)
	if err != nil {
		return k, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return k, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotFound {
		return k, errors.New("it does not know the node")
	}
	return k, json.NewDecoder(res.Body).Decode(&k)
}

func (k known) say(err error) string {
	switch {
	case err != nil:
		return fmt.Sprintf("the broker cannot say why: %v", err)
	case k.Trouble == nil:
		return "the broker knows of no error"
	case k.Trouble.Seq == 0:
		return "the broker knows of this: " + k.Trouble.Text
	}
	return fmt.Sprintf("increment %d has failed: %s", k.Trouble.Seq, k.Trouble.Text)
}
