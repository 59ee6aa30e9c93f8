package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/bus"
	"xmq/broker/server"
	"xmq/configs/xmqtest"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/sqlite"
)

// cluster is a broker with nodes in one process, on free ports and in a temporary folder.
type cluster struct {
	t      *testing.T
	dir    string
	cfg    server.Config
	broker *server.Broker
	stop   func() error
	log    *slog.Logger
}

func newCluster(t *testing.T, change ...func(*server.Config)) *cluster {
	h := &cluster{t: t, cfg: xmqtest.Config(t)}
	h.dir = filepath.Dir(h.cfg.Data)
	h.log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: level}))
	h.cfg.NATSAddr, h.cfg.HTTPAddr = freeAddr(t), freeAddr(t) // it may be started again
	for _, c := range change {
		c(&h.cfg)
	}
	h.start()
	return h
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// start opens and runs the broker; its addresses stay the same for later starts.
func (h *cluster) start() {
	b := xmqtest.StartBroker(h.t, func(c *server.Config) { *c = h.cfg })
	h.broker, h.stop = b.Broker, b.Stop
	h.cfg.NATSAddr, h.cfg.HTTPAddr = strings.TrimPrefix(b.NATSURL(), "nats://"), b.HTTPAddr()
}

// level of what broker and nodes log in tests.
var level = slog.LevelInfo

// node is a node that runs in this process until stop.
type node struct {
	path string // of a SQLite file
	stop func() error
	done chan error
	a    *nodeclient.Agent
}

func (h *cluster) node(id, from string, change ...func(*nodeclient.Options)) *node {
	path := filepath.Join(h.dir, id+".db")
	target, err := sqlite.Open(context.Background(), path, sqlite.Options{})
	require.NoError(h.t, err)
	n := h.run(id, from, target, change...)
	n.path = path
	return n
}

// run runs a node on any target.
func (h *cluster) run(id, from string, target nodeclient.Database, change ...func(*nodeclient.Options)) *node {
	conn, err := bus.Dial("nats://"+h.cfg.NATSAddr, id)
	require.NoError(h.t, err)
	o := nodeclient.Options{ID: id, From: from, Tick: 50 * time.Millisecond, Log: h.log}
	for _, c := range change {
		c(&o)
	}
	return h.runs(conn, target, o)
}

// runs runs a node that talks over conn, until stop, which closes conn and target.
func (h *cluster) runs(conn bus.Conn, target nodeclient.Database, o nodeclient.Options) *node {
	a, err := nodeclient.New(conn, target, o)
	require.NoError(h.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{done: make(chan error, 1), a: a}
	go func() { n.done <- a.Run(ctx) }()
	n.stop = sync.OnceValue(func() error {
		cancel()
		err := <-n.done
		conn.Close()
		require.NoError(h.t, target.Close())
		return err
	})
	h.t.Cleanup(func() { _ = n.stop() })
	return n
}

func (h *cluster) publish(format string, args ...any) string {
	res, err := http.Post("http://"+h.cfg.HTTPAddr+"/v1/increments", "application/sql",
		strings.NewReader(fmt.Sprintf(format, args...)))
	require.NoError(h.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(h.t, err)
	require.Equal(h.t, 200, res.StatusCode, string(body))
	return string(body)
}

// query reads one value of a node's database.
func (n *node) query(t *testing.T, q string) string { return query(t, n.path, q) }

// still is for how long an answer may stay the same before a test gives up.
const still = time.Minute

// eventually waits until f answers nil. It gives up when the answer has been the same for long: what moves, however
// slowly on a busy machine, is waited for.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	last := ""
	for end := time.Now().Add(still); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if err.Error() != last {
			last, end = err.Error(), time.Now().Add(still)
		}
	}
	t.Fatal(last)
}

func (n *node) wants(t *testing.T, q, want string) {
	t.Helper()
	eventually(t, func() error {
		if got := n.query(t, q); got != want {
			return fmt.Errorf("%s: %q, want %q", q, got, want)
		}
		return nil
	})
}

func TestWholePath(t *testing.T) {
	h := newCluster(t)
	h.publish("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER)")
	master := h.node("master", "")
	for i := range 50 {
		h.publish("INSERT INTO item VALUES (%d, 0)", i)
	}
	master.wants(t, "SELECT count(*) FROM item", "50")
	n1 := h.node("n1", "master")
	h.publish("UPDATE item SET n = n + 1")
	n1.wants(t, "SELECT sum(n) FROM item", "50")
	n2 := h.node("n2", "n1")
	h.publish("UPDATE item SET n = n + 1")
	n2.wants(t, "SELECT sum(n) FROM item", "100")
	require.NoError(t, h.stop())
	h.start()
	h.publish("UPDATE item SET n = n + 1")
	for _, n := range []*node{master, n1, n2} {
		n.wants(t, "SELECT sum(n) FROM item", "150")
	}
}

func getJSON(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(into)
}
