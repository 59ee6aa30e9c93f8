package integration

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/broker/server"
	"xmq/integration/shorttest"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
)

// batch publishes k increments in one request and returns the last sequence.
func (h *cluster) batch(k int, body string) {
	h.t.Helper()
	var b strings.Builder
	for range k {
		fmt.Fprintf(&b, "{\"body\": %q}\n", body)
	}
	res, err := http.Post("http://"+h.cfg.HTTPAddr+"/v1/increments/batch", "application/x-ndjson",
		strings.NewReader(b.String()))
	require.NoError(h.t, err)
	require.NoError(h.t, res.Body.Close())
	require.Equal(h.t, 200, res.StatusCode)
}

// reached waits until the database has applied up to seq and says how long that took.
func reached(t *testing.T, db *drivertest.Memory, seq uint64) time.Duration {
	t.Helper()
	began := time.Now()
	eventually(t, func() error {
		if p := db.Position(); p.Seq < seq {
			return fmt.Errorf("stands at %d, not %d", p.Seq, seq)
		}
		return nil
	})
	return time.Since(began)
}

// 200 clients on 4 workers, one of them with a target that hangs: the others go on as if it were not there. They
// apply far more than the window of the hanging one while it hangs, and it comes level when it is released.
func TestHangingTargetDelaysNobody(t *testing.T) {
	clients := 200
	if shorttest.Less() {
		clients = 60
	}
	h := newCluster(t, func(c *server.Config) { c.Workers, c.Masters, c.Silent = 4, nil, time.Minute })
	for i := range clients {
		h.cfg.Masters = append(h.cfg.Masters, fmt.Sprint("c", i))
	}
	require.NoError(t, h.stop())
	h.start()
	var dbs []*drivertest.Memory
	quiet := func(o *nodeclient.Options) {
		o.WindowRecords, o.Heartbeat, o.Silence, o.Tick = 50, 40, 400, 250*time.Millisecond
	}
	for i := range clients {
		db := drivertest.NewMemory()
		dbs = append(dbs, db)
		h.run(fmt.Sprint("c", i), "", db.Open(), quiet)
	}
	h.batch(10, "first")
	for _, db := range dbs {
		reached(t, db, 10)
	}
	release := dbs[7].Hang()
	for round := range 10 {
		h.batch(30, "while one hangs")
		for i, db := range dbs {
			if i != 7 {
				reached(t, db, uint64(10+30*(round+1)))
			}
		}
	}
	require.Less(t, dbs[7].Position().Seq, uint64(70), "it really hung")
	views, err := h.positions(t)
	require.NoError(t, err)
	for _, v := range views.Clients {
		if v.ID != "c7" {
			continue
		}
		require.True(t, v.Connected, "a hanging database is not a dead node")
		require.LessOrEqual(t, v.Sent-v.Acked, uint64(50), "no more than the window is in flight")
	}
	release()
	reached(t, dbs[7], 310)
}

// A node that drops off reconnects by itself and goes on where it stopped: link cut, both directions, and broker
// killed: no node process is restarted (XR-4).
func TestXR04LinksAreCut(t *testing.T) {
	h := newCluster(t)
	link := newProxy(t, h.cfg.NATSAddr, 0)
	db := drivertest.NewMemory()
	direct := h.cfg.NATSAddr
	h.cfg.NATSAddr = link.addr()
	h.run("master", "", db.Open())
	h.cfg.NATSAddr = direct
	for round := range 8 {
		h.batch(100, "x")
		if round%2 == 0 {
			link.cut(false)
		} else {
			link.cut(true)
			h.batch(10, "while it is away")
			link.heal()
		}
		if round == 5 {
			require.NoError(t, h.stop())
			h.start()
		}
	}
	reached(t, db, 840)
	require.Len(t, db.Bodies(), 840)
}

// The original stops and waits: at most 10 increments per round trip. At 80 ms RTT it is well above 125 a second here
// (XD-11).
func TestXD11RoundTripsDoNotCostThroughput(t *testing.T) {
	h := newCluster(t)
	link := newProxy(t, h.cfg.NATSAddr, 40*time.Millisecond)
	db := drivertest.NewMemory()
	direct := h.cfg.NATSAddr
	h.cfg.NATSAddr = link.addr()
	h.run("master", "", db.Open(), func(o *nodeclient.Options) { o.Silence = 100 })
	h.cfg.NATSAddr = direct
	h.batch(1, "x")
	reached(t, db, 1)
	h.batch(5000, "x")
	took := reached(t, db, 5001)
	require.Less(t, took, 5000*time.Second/1250, "5000 increments at 80 ms round trip: the original needs 40 s")
}

// An idle client gets a new increment without polling: the median latency from answer to applied lies below the
// original's sleeps of 10 ms (XI-5, XD-10).
func TestXI05IdleClientsAreWoken(t *testing.T) {
	h := newCluster(t)
	db := drivertest.NewMemory()
	h.run("master", "", db.Open())
	h.batch(1, "x")
	reached(t, db, 1)
	fast := 0
	for i := range 50 {
		h.batch(1, "x")
		began := time.Now()
		for db.Position().Seq < uint64(i+2) {
			if time.Since(began) > 5*time.Second {
				t.Fatal("not woken in 5 s")
			}
		}
		if time.Since(began) < 10*time.Millisecond {
			fast++
		}
	}
	require.Greater(t, fast, 25, "more than half within 10 ms")
}

// The 10-byte header of the original's leader choice is not spoken: such bytes on the broker's port are refused, and
// the broker lives. And other strangers on both ports (FD-1).
func TestFD01StrangersOnThePorts(t *testing.T) {
	h := newCluster(t)
	for _, addr := range []string{h.cfg.NATSAddr, h.cfg.HTTPAddr} {
		for _, bytes := range []string{"\x00\x00\x00\x00\x00\x00\x00\x00\x40\x00", "\xff\xff\xff\xff\xff\xff\xff\xff\x41\x00",
			"*1\r\n$4\r\nPING\r\n", "\x80\x00\x00\x00", strings.Repeat("A", 100_000)} {
			c, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			_, _ = c.Write([]byte(bytes)) // it may be closed in our face
			require.NoError(t, c.Close())
		}
	}
	require.Contains(t, h.publish("alive"), `"seq":1`)
}

// The answered number reads back the same payload, on both doors; sequences go on across a restart (XC-2, XI-1).
func TestXC02AnsweredNumbersReadBack(t *testing.T) {
	h := newCluster(t)
	require.Contains(t, h.publish("a\x00b\xff"), `"seq":1`)
	require.NoError(t, h.stop())
	h.start()
	require.Contains(t, h.publish("second"), `"seq":2`)
	res, err := http.Get("http://" + h.cfg.HTTPAddr + "/v1/increments/1")
	require.NoError(t, err)
	defer res.Body.Close()
	body := make([]byte, 10)
	n, _ := res.Body.Read(body)
	require.Equal(t, "a\x00b\xff", string(body[:n]))
	require.Equal(t, "1", res.Header.Get("Xmq-Seq"))
}

func (h *cluster) positions(t *testing.T) (p api.Positions, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return p, getJSON(ctx, "http://"+h.cfg.HTTPAddr+"/v1/positions", &p)
}

// A node at the end of a slow connection gets its increments compressed when it asks for it: the same, in fewer bytes.
func TestCompressedFramesAreFewerBytesAndTheSameIncrements(t *testing.T) {
	h := newCluster(t, func(c *server.Config) { c.Masters = []string{"plain", "packed"} })
	carried := map[string]int64{}
	var dbs []*drivertest.Memory
	direct := h.cfg.NATSAddr
	for _, id := range []string{"plain", "packed"} {
		link := newProxy(t, direct, 0)
		h.cfg.NATSAddr = link.addr()
		db := drivertest.NewMemory()
		dbs = append(dbs, db)
		h.run(id, "", db.Open(), func(o *nodeclient.Options) { o.Compress = id == "packed" })
		h.cfg.NATSAddr = direct
		reached(t, db, 0)
		for range 10 {
			h.batch(100, "UPDATE account SET balance = balance + 1 WHERE id = 4711 AND branch = 'the one in the high street'")
		}
		reached(t, db, uint64(1000*len(dbs)))
		carried[id] = link.carried.Load()
	}
	reached(t, dbs[0], 2000)
	require.Equal(t, dbs[0].Bodies(), dbs[1].Bodies())
	require.Less(t, carried["packed"], carried["plain"], "twice as many increments, in fewer bytes")
}
