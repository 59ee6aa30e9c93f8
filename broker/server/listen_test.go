package server

import (
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/statedb"
)

// Whatever listens where other machines reach it is refused at the start, unless the operator says that he knows.
func TestNothingListensForOtherMachinesUnasked(t *testing.T) {
	set := map[string]func(*Config, string){
		"nats_addr": func(c *Config, a string) { c.NATSAddr = a },
		"http_addr": func(c *Config, a string) { c.HTTPAddr = a },
		"pprof":     func(c *Config, a string) { c.Pprof = a },
	}
	for key, set := range set {
		for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "[2001:db8::1]:0", "[::ffff:192.0.2.1]:0",
			"10.0.0.5:0"} {
			cfg := testConfig(t)
			set(&cfg, addr)
			_, err := Open(cfg, slog.New(slog.DiscardHandler))
			require.ErrorContains(t, err, key+" "+addr+
				" is reached from other machines: listen on 127.0.0.1, or --insecure-i-know for a network that is yours alone")
			require.ErrorIs(t, err, ErrConfig)
			require.NoDirExists(t, cfg.Data, "nothing is made before that")
			cfg.Insecure = true
			require.NoError(t, cfg.Validate())
		}
		for _, addr := range []string{"127.0.0.1:0", "127.8.9.10:0", "[::1]:0", "localhost:0", "LocalHost:0",
			"[::ffff:127.0.0.1]:0"} {
			cfg := testConfig(t)
			set(&cfg, addr)
			require.NoError(t, cfg.Validate(), addr)
		}
		cfg := testConfig(t)
		set(&cfg, "no-such-name.invalid:0")
		require.ErrorContains(t, cfg.Validate(), "cannot be resolved")
	}
	cfg := testConfig(t)
	cfg.NATSURL, cfg.NATSAddr = "nats://127.0.0.1:4222", "0.0.0.0:4222"
	require.NoError(t, cfg.Validate(), "with an external NATS server nobody listens there")
}

// The alert of insecure_i_know stands as long as the knob is on, and is gone with it.
func TestInsecureStandsInTheAlerts(t *testing.T) {
	cfg := testConfig(t)
	cfg.Insecure, cfg.HTTPAddr = true, "0.0.0.0:0"
	stands := func(r *running) bool {
		for _, a := range r.stores.state.Alerts() {
			if a.Key == "insecure" && a.Cleared == 0 {
				require.Equal(t, statedb.Critical, a.Severity)
				return true
			}
		}
		return false
	}
	r := startBroker(t, cfg)
	soon(t, "the alert stands", func() bool { return stands(r) })
	_, _, _ = guardedAnswer(t, "POST", r.HTTPAddr(), "/v1/alerts", "", `{"key":"insecure","do":"clear"}`, "Content-Type",
		"application/json")
	soon(t, "it stands again", func() bool { return stands(r) })
	require.NoError(t, r.stop())
	r = startBroker(t, cfg)
	require.True(t, stands(r), "across restarts")
	require.NoError(t, r.stop())
	cfg.Insecure, cfg.HTTPAddr = false, "127.0.0.1:0"
	r = startBroker(t, cfg)
	soon(t, "it is cleared", func() bool { return !stands(r) })
}

// No listener of the broker keeps connections on which nothing is said, the profiles' neither: each takes a place of
// its address.
func TestEveryListenerEndsConnectionsThatSayNothing(t *testing.T) {
	r := startBroker(t, testConfig(t))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	s := &http.Server{Handler: http.NotFoundHandler()}
	require.Error(t, r.serve(s, l, "127.0.0.1:0"), "the listener is closed")
	require.Positive(t, s.IdleTimeout)
	require.Positive(t, s.ReadHeaderTimeout)
}

// An address that a process still has while it ends is waited for; one that stays taken is told with its knob.
func TestAnAddressIsWaitedForWhileItsHolderEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		addr := before.Addr().String()
		_, err = listen("http_addr", addr)
		require.ErrorContains(t, err, "http_addr: cannot listen on "+addr+", it is in use already")
		require.True(t, IsTemporary(err))
		go func() {
			time.Sleep(disk.Ending - time.Second)
			assert.NoError(t, before.Close())
		}()
		after, err := listen("http_addr", addr)
		require.NoError(t, err)
		require.NoError(t, after.Close())
	})
}
