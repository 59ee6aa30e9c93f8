package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"xmq/broker/bus"
	"xmq/broker/event"
	"xmq/broker/server"
	"xmq/nodeclient"
)

// cluster is our side: a broker in this process, on free ports, its data in a folder, and what talks to it over TCP.
type cluster struct {
	cfg    server.Config
	broker *server.Broker
	end    context.CancelFunc
	ended  chan error
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newCluster opens a broker and waits until its doors are open.
func newCluster(dir string, change ...func(*server.Config)) (*cluster, error) {
	cfg := server.Default()
	cfg.Data, cfg.NATSAddr, cfg.HTTPAddr = filepath.Join(dir, "broker"), "127.0.0.1:0", "127.0.0.1:0"
	cfg.Watch.Ballast, cfg.Watch.MinFree = false, 0
	cfg.HTTPConnsPerAddress, cfg.NATSConnsPerAddress = 0, 0 // everybody is on this machine
	for _, c := range change {
		c(&cfg)
	}
	return openCluster(cfg)
}

func openCluster(cfg server.Config) (*cluster, error) {
	b, err := server.Open(cfg, quiet())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &cluster{cfg: cfg, broker: b, end: cancel, ended: make(chan error, 1)}
	ready := make(chan struct{})
	go func() { h.ended <- b.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
		return h, nil
	case err := <-h.ended:
		cancel()
		return nil, errors.Join(errors.New("the broker ended before it was ready"), err)
	}
}

func (h *cluster) close() error {
	h.end()
	return <-h.ended
}

// sink is a target that receives, checks (the session has) and acknowledges everything and keeps only its position.
type sink struct {
	*place
	seen func(event.Item) // nil: nobody looks
}

func newSink() *sink { return &sink{place: newPlace()} }

func (s *sink) Position(context.Context) (event.Position, error) { return *s.pos.Load(), nil }
func (s *sink) Seek(_ context.Context, pos event.Position) error { s.set(pos); return nil }
func (s *sink) Loads(string) bool                                { return false }
func (s *sink) CheckSpace(context.Context, int64) error          { return nil }
func (s *sink) Empty(context.Context) (bool, error)              { return true, nil }
func (s *sink) Close() error                                     { return nil }

func (s *sink) Apply(_ context.Context, before event.Position, batch []event.Item) (event.Position, error) {
	if err := nodeclient.CheckAdvance(*s.pos.Load(), before); err != nil {
		return before, err
	}
	if s.seen != nil {
		for _, i := range batch {
			s.seen(i)
		}
	}
	pos := batch[len(batch)-1].Pos
	s.set(pos)
	return pos, nil
}

func (s *sink) Topics(context.Context) (event.Topics, error) { return "", nil }
func (s *sink) Keep(context.Context, event.Topics) error     { return nil }

func (s *sink) Snapshot(context.Context) (nodeclient.Snapshot, error) {
	return nil, errors.New("a sink has no snapshots")
}

func (s *sink) Restore(context.Context, event.Position, event.Topics, io.Reader) (nodeclient.Restored, error) {
	return nil, errors.New("a sink has no snapshots")
}

// node is an agent of this process.
type node struct {
	target nodeclient.Database
	conn   bus.Conn
	end    context.CancelFunc
	ended  chan error
}

// start runs a node; url is the NATS server, or a proxy before it.
func start(url, id, from string, target nodeclient.Database, change ...func(*nodeclient.Options)) (*node, error) {
	conn, err := bus.Dial(url, id)
	if err != nil {
		return nil, err
	}
	o := nodeclient.Options{ID: id, From: from, Log: quiet()}
	for _, c := range change {
		c(&o)
	}
	a, err := nodeclient.New(conn, target, o)
	if err != nil {
		conn.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{target: target, conn: conn, end: cancel, ended: make(chan error, 1)}
	go func() { n.ended <- a.Run(ctx) }()
	return n, nil
}

func (n *node) close() error {
	n.end()
	err := <-n.ended
	n.conn.Close()
	return err
}

// names are the IDs of n nodes that may start without a DUMP.
func names(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprint("n", i))
	}
	return ids
}
