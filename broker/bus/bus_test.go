package bus_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"xmq/broker/bus"
	"xmq/broker/bus/bustest"
)

func TestMemIsAConn(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Network {
		m := bus.NewMem(1)
		return bustest.Network{Connect: m.Connect, Cut: func(cut bool) {
			for _, id := range []string{"a", "b"} {
				m.Cut(id, cut)
			}
		}}
	})
}

// natsServer starts an embedded server; port -1 takes a free one.
func natsServer(t *testing.T, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true,
		MaxPayload: 8 << 20})
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(2*time.Minute))
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

func TestNATSIsAConn(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Network {
		s := natsServer(t, -1)
		port := s.Addr().(*net.TCPAddr).Port
		return bustest.Network{
			Connect: func(id string) bus.Conn {
				c, err := bus.Dial(s.ClientURL(), id)
				require.NoError(t, err)
				return c
			},
			Cut: func(cut bool) {
				if cut {
					s.Shutdown()
					s.WaitForShutdown()
				} else {
					s = natsServer(t, port)
				}
			},
		}
	})
}

// A node may be started before its broker: Dial returns at once and connects when the server comes.
func TestDialBeforeTheServerIsThere(t *testing.T) {
	s := natsServer(t, -1)
	url, port := s.ClientURL(), s.Addr().(*net.TCPAddr).Port
	s.Shutdown()
	s.WaitForShutdown()
	c, err := bus.Dial(url, "n1")
	require.NoError(t, err)
	defer c.Close()
	require.False(t, c.Up())
	require.Zero(t, c.MaxPayload())
	require.ErrorIs(t, c.Publish("x", nil), bus.ErrDown)
	got := make(chan bus.Msg, 1)
	_, err = c.Subscribe("x", func(m bus.Msg) { got <- m })
	require.NoError(t, err)
	natsServer(t, port)
	for !c.Up() {
		<-c.Changes()
	}
	require.NoError(t, c.Flush(t.Context()))
	require.NoError(t, c.Publish("x", []byte("hello")))
	require.Equal(t, "hello", string((<-got).Data))
	_, err = bus.Dial("nats://127.0.0.1:0 0", "n1")
	require.ErrorContains(t, err, "connect to NATS")
}

// misfortune sends numbered messages over a bad network and returns what arrived.
func misfortune(t *testing.T, seed uint64, f bus.Faults) (got []string) {
	synctest.Test(t, func(t *testing.T) {
		m := bus.NewMem(seed)
		m.SetFaults(f)
		a, b, c := m.Connect("a"), m.Connect("b"), m.Connect("c")
		var mu sync.Mutex
		for _, to := range []bus.Conn{b, c} {
			_, err := to.Subscribe("x", func(m bus.Msg) {
				mu.Lock()
				defer mu.Unlock()
				if to == b {
					got = append(got, string(m.Data))
				}
			})
			require.NoError(t, err)
		}
		for i := range 1000 {
			require.NoError(t, a.Publish("x", fmt.Append(nil, i)))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for _, c := range []bus.Conn{a, b, c} {
			c.Close()
		}
	})
	return got
}

func distinct(got []string) int {
	seen := map[string]bool{}
	for _, s := range got {
		seen[s] = true
	}
	return len(seen)
}

func TestMemLosesRepeatsAndDelaysBySeed(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	got := misfortune(t, seed, bus.Faults{})
	require.Len(t, got, 1000)

	got = misfortune(t, seed, bus.Faults{Lose: 0.2})
	require.InDelta(t, 800, len(got), 60)
	require.Equal(t, got, misfortune(t, seed, bus.Faults{Lose: 0.2}), "the seed rules")
	require.NotEqual(t, got, misfortune(t, seed+1, bus.Faults{Lose: 0.2}))

	got = misfortune(t, seed, bus.Faults{Repeat: 0.2})
	require.InDelta(t, 1200, len(got), 60)
	require.Equal(t, 1000, distinct(got))

	got = misfortune(t, seed, bus.Faults{Delay: 10 * time.Millisecond})
	require.Equal(t, 1000, distinct(got))
	require.Len(t, got, 1000)
	overtaken := 0
	for i := range got {
		if got[i] != fmt.Sprint(i) {
			overtaken++
		}
	}
	require.Positive(t, overtaken)
}

func TestMemCutLosesWhatIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bus.NewMem(1)
		m.SetFaults(bus.Faults{Delay: time.Second})
		a, b := m.Connect("a"), m.Connect("b")
		defer a.Close()
		defer b.Close()
		got := make(chan bus.Msg, 100)
		_, err := b.Subscribe("x", func(m bus.Msg) { got <- m })
		require.NoError(t, err)
		for range 50 {
			require.NoError(t, a.Publish("x", nil))
		}
		m.Cut("b", true)
		time.Sleep(time.Minute)
		m.Cut("b", false)
		synctest.Wait()
		require.Empty(t, got)

		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		m.Cut("b", true)
		_, err = a.Request(ctx, "x", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded, "the other end is cut, which this end cannot know")
	})
}

// A password that the server refuses, however often, is told and tried on: when the server takes it the connection is
// up.
func TestARefusedPasswordIsToldAndTriedOn(t *testing.T) {
	with := func(password string, port int) *server.Options {
		return &server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true,
			Users: []*server.User{{Username: "n1", Password: password}}}
	}
	s, err := server.NewServer(with("before", -1))
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(2*time.Minute))
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	addr := s.Addr().(*net.TCPAddr)
	c, err := bus.Dial(fmt.Sprintf("nats://n1:secret@%s", addr), "n1")
	require.NoError(t, err)
	defer c.Close()
	for refused := 0; refused < 4; {
		<-c.Changes()
		if err := c.Trouble(); err != nil {
			require.ErrorContains(t, err, "uthorization")
			require.NotContains(t, err.Error(), "secret")
			refused++
		}
	}
	require.False(t, c.Up())
	require.NoError(t, s.ReloadOptions(with("secret", addr.Port)))
	for !c.Up() || c.Trouble() != nil {
		<-c.Changes()
	}
}

// What keeps a connection from standing is named as what it is: a certificate, a server without TLS, a server that is
// none of NATS. No password is shown.
func TestWhatIsWrongWithAConnectionIsNamed(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate, which nobody trusts
	defer web.Close()
	run := func(o *server.Options) string {
		o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", -1, true, true
		s, err := server.NewServer(o)
		require.NoError(t, err)
		s.Start()
		require.True(t, s.ReadyForConnections(2*time.Minute))
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		return s.Addr().String()
	}
	secure := run(&server.Options{TLS: true, TLSTimeout: 60,
		TLSConfig: &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}})
	plain := run(&server.Options{})
	strange, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer strange.Close()
	go func() {
		for {
			c, err := strange.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 mail.example ESMTP\r\n"))
			defer c.Close()
		}
	}()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // as a web server that waits for a request
	require.NoError(t, err)
	defer mute.Close()
	go func() {
		for {
			c, err := mute.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	for url, says := range map[string]string{
		"nats://n1:secret@" + mute.Addr().String():    "is it a NATS server",
		"tls://n1:secret@" + secure:                   "certificate",
		"nats://n1:secret@" + secure:                  "certificate", // the server asks for TLS
		"tls://n1:secret@" + plain:                    "has no TLS, and tls:// asks for it",
		"nats://n1:secret@" + strange.Addr().String(): "is no NATS server",
	} {
		c, err := bus.Dial(url, "n1")
		require.NoError(t, err)
		for c.Trouble() == nil {
			<-c.Changes()
		}
		require.ErrorContains(t, c.Trouble(), says, url)
		require.NotContains(t, c.Trouble().Error(), "secret")
		require.False(t, c.Up())
		c.Close()
	}
}
