package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"xmq/broker/bus"
	"xmq/broker/event"
)

// externalNATS runs a NATS server at addr that carries messages of so many bytes.
func externalNATS(t *testing.T, addr string, payload int) *server.Server {
	host, p, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	port, err := strconv.Atoi(p)
	require.NoError(t, err)
	if port == 0 {
		port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&server.Options{Host: host, Port: port, NoLog: true, NoSigs: true,
		MaxPayload: int32(payload)})
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(2*time.Minute))
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// Claims have a total order, and a broker of before, which says its log alone, is served.
func TestOneOfTwoClaimsGivesWay(t *testing.T) {
	old := claim{log: 9}
	all := []claim{old, {5, 2, 7}, {5, 3, 1}, {5, 3, 2}, {6, 1, 1}}
	for i, c := range all {
		for k, other := range all {
			require.Equal(t, i < k, c.before(other), "%v %v", c, other)
		}
		got, ok := parseClaim([]byte(c.String()))
		require.True(t, ok)
		require.Equal(t, c, got)
	}
	got, ok := parseClaim([]byte(old.log.String()))
	require.True(t, ok)
	require.Equal(t, old, got)
	for _, bad := range []string{"", "x", "0000000000000009 5", "0000000000000009 x 1", "0000000000000009 5 z",
		"0000000000000009 5 1 1"} {
		_, ok := parseClaim([]byte(bad))
		require.False(t, ok, bad)
	}
}

// Two brokers that start at the same moment on one external NATS server do not both serve their group.
func TestOfTwoBrokersThatStartTogetherOneServes(t *testing.T) {
	nats := externalNATS(t, "127.0.0.1:0", 4<<20)
	for range 3 {
		ended := make(chan error, 2)
		ctx, cancel := context.WithCancel(t.Context())
		for range 2 {
			cfg := testConfig(t)
			cfg.NATSURL = nats.ClientURL()
			b, err := Open(cfg, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			go func() { ended <- b.Run(ctx, nil) }()
		}
		err := <-ended
		require.True(t, IsTemporary(err), "%v", err)
		require.ErrorContains(t, err, "another broker")
		cancel()
		require.NoError(t, <-ended, "the other one goes on until it is told to end")
	}
}

// Nothing is taken before it is known whether another broker serves the group: it would stand in a log that no node
// follows.
func TestABrokerTakesNothingBeforeItServesItsGroup(t *testing.T) {
	nats := externalNATS(t, "127.0.0.1:0", 4<<20)
	conn, err := bus.Dial(nats.ClientURL(), "other")
	require.NoError(t, err)
	defer conn.Close()
	cfg := testConfig(t)
	cfg.NATSURL = nats.ClientURL()
	asked := make(chan struct{}, 10)
	// and no answer
	_, err = conn.Subscribe(event.Subject(cfg.Group, event.Info, Self), func(bus.Msg) { asked <- struct{}{} })
	require.NoError(t, err)
	soon(t, "the other is connected", conn.Up)
	require.NoError(t, conn.Flush(t.Context()))
	b, err := Open(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- b.Run(t.Context(), nil) }()
	<-asked
	res, err := http.Post("http://"+b.HTTPAddr()+"/v1/increments", "text/plain", strings.NewReader("x"))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.True(t, IsTemporary(<-ended))
	require.Zero(t, b.stores.log.Head().Seq)
}

// A broker that was parted from another of its group gives way when it hears of one that started before; one that
// started later hears of it and is told.
func TestABrokerGivesWayToAnEarlierOne(t *testing.T) {
	nats := externalNATS(t, "127.0.0.1:0", 4<<20)
	cfg := testConfig(t)
	cfg.NATSURL = nats.ClientURL()
	r := startBroker(t, cfg)
	conn, err := bus.Dial(nats.ClientURL(), "other")
	require.NoError(t, err)
	defer conn.Close()
	subject := event.Subject(cfg.Group, event.Info, Self)
	heard := make(chan claim, 100)
	_, err = conn.Subscribe(subject, func(m bus.Msg) {
		if c, ok := parseClaim(m.Data); ok && c.nonce == r.claim.nonce {
			heard <- c
		}
	})
	require.NoError(t, err)
	soon(t, "the other is connected", conn.Up)
	require.NoError(t, conn.Flush(t.Context()))
	later := claim{r.claim.started + 1, 1, 1}
	require.NoError(t, conn.Publish(subject, []byte(later.String())))
	require.True(t, (<-heard).before(later), "whoever started later is told")
	r.fill(1)
	earlier := claim{r.claim.started - 1, 2, 1}
	require.NoError(t, conn.Publish(subject, []byte(earlier.String())))
	soon(t, "the broker takes nothing any more", func() bool { return !r.ready.Load() })
	err = r.stop()
	require.True(t, IsTemporary(err), "%v", err)
	require.ErrorContains(t, err, earlier.log.String())
}

// A broker waits for a NATS server that is not up yet, and says it again at a reconnect. A server that comes back
// with too small a payload is an alert that stands until it carries enough again.
func TestABrokerWaitsForNATSAndTellsOfItsPayload(t *testing.T) {
	nats := externalNATS(t, "127.0.0.1:0", 4<<20)
	url, addr := nats.ClientURL(), nats.Addr().String()
	down := func() { nats.Shutdown(); nats.WaitForShutdown() }
	down()
	cfg := testConfig(t)
	cfg.NATSURL = url
	up := make(chan *server.Server, 1)
	late := time.AfterFunc(500*time.Millisecond, func() { up <- externalNATS(t, addr, 4<<20) })
	defer late.Stop()
	r := startBroker(t, cfg) // it is ready when the server is
	nats = <-up
	stands := func() bool { _, yes := r.alerts.Stands("payload"); return yes }
	require.False(t, stands())
	down()
	nats = externalNATS(t, addr, 1<<20)
	soon(t, "the alert stands", stands)
	down()
	nats = externalNATS(t, addr, 4<<20)
	soon(t, "it ends", func() bool { return !stands() })
	require.NoError(t, r.stop())

	large := testConfig(t)
	large.TurnBytes = 8 << 20
	require.ErrorContains(t, large.Validate(), "turn_bytes")
}
