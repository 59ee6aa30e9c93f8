// Package xmqtest runs a broker, and nodes that follow it, inside a Go test: on ports of 127.0.0.1 that the system
// chooses, with its data in folders of the test. Whatever it starts is stopped in order when the test ends, and what
// cannot start, does not stop well or does not move any more fails the test. What they log is output of the test.
//
//	func TestShop(t *testing.T) {
//		b := xmqtest.StartBroker(t)
//		n := b.StartNode("master", "sqlite:"+filepath.Join(t.TempDir(), "shop.db"))
//		b.Publish("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
//		seq := b.Publish("INSERT INTO item (name) VALUES ('tea')")
//		n.WaitApplied(seq)
//		// the database holds it
//	}
//
// A node's target is any that xmq node takes (see package driver). As outside tests, the first node is called master,
// or what server.Config.Masters names; others join by DUMP (nodeclient.Options.From). Programs under test get the
// addresses Broker.NATS, for package producer, and Broker.HTTP. A module of another path needs a copy of this one and
// two lines in its go.mod:
//
//	require xmq v0.0.0
//	replace xmq => ../xmq
//
// Ticks, heartbeats and timeouts are shorter than outside tests. The disk is not watched: neither its free space nor
// its speed.
package xmqtest

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xmq/broker/event"
	"xmq/broker/server"
	"xmq/nodeclient/producer"
)

// The clock of brokers and nodes, and after how many ticks a silent one is thought away: not soon, because the machine
// that runs tests may be busy.
const (
	tick    = 50 * time.Millisecond
	silence = 100
)

// Broker is a broker in this process.
type Broker struct {
	*server.Broker
	HTTP  string // base URL of the HTTP door and the API
	NATS  string // URL for nodes and producers
	Group string

	t      testing.TB
	log    *slog.Logger
	stop   func() error
	called atomic.Bool // Stop was
	own    func() *producer.Producer
}

// Config is that of a broker for tests: what StartBroker begins with.
func Config(t testing.TB) server.Config {
	cfg := server.Default()
	cfg.Data = filepath.Join(t.TempDir(), "broker")
	cfg.NATSAddr, cfg.HTTPAddr = "127.0.0.1:0", "127.0.0.1:0"
	cfg.HTTPConnsPerAddress, cfg.NATSConnsPerAddress = 0, 0 // everybody is on this machine
	cfg.Watch.Ballast, cfg.Watch.MinFree, cfg.Watch.SlowSync = false, 0, 0
	cfg.Tick, cfg.Silent, cfg.Lease = tick, time.Second, 2*time.Second
	return cfg
}

// StartBroker runs a broker until the test ends, and returns when all its doors are open. change may change its
// configuration; a second broker on the data and addresses of one that was stopped is the same one, started again.
func StartBroker(t testing.TB, change ...func(*server.Config)) *Broker {
	t.Helper()
	cfg, log := Config(t), slog.New(slog.NewTextHandler(t.Output(), nil))
	for _, c := range change {
		c(&cfg)
	}
	s, err := server.Open(cfg, log)
	if err != nil {
		t.Fatalf("the broker does not start: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		t.Fatalf("the broker ended before it was ready: %v", err)
	}
	b := &Broker{Broker: s, HTTP: "http://" + s.HTTPAddr(), NATS: s.NATSURL(), Group: cfg.Group, t: t, log: log}
	b.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := b.stop(); err != nil && !b.called.Load() {
			t.Errorf("the broker has not stopped well: %v", err)
		}
	})
	b.own = sync.OnceValue(func() *producer.Producer { return b.Producer("xmqtest", producer.Options{Once: true}) })
	return b
}

// Stop stops the broker before the test ends, and says what the end of xmq broker would say.
func (b *Broker) Stop() error {
	b.called.Store(true)
	return b.stop()
}

// Producer is one of this name, until the test ends: see package producer. The group is the broker's.
func (b *Broker) Producer(id string, o producer.Options) *producer.Producer {
	b.t.Helper()
	o.Group = b.Group
	p, err := producer.Dial(b.NATS, id, o)
	if err != nil {
		b.t.Fatalf("producer %s does not start: %v", id, err)
	}
	b.t.Cleanup(p.Close)
	return p
}

// Publish hands one increment to the broker and returns its sequence: it is on the broker's disk.
func (b *Broker) Publish(body string) uint64 {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	seq, err := b.own().PublishWait(ctx, event.Draft{Body: []byte(body)})
	if err != nil {
		b.t.Fatalf("%q was not published: %v", body, err)
	}
	return seq
}

// patience is how long an answer of a broker on this machine may take.
const patience = time.Minute
