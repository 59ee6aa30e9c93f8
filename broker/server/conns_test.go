package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"
)

// Whatever the limit of open files is, what connections may take leaves the stores theirs.
func TestConnectionsLeaveFilesToTheStores(t *testing.T) {
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	for _, c := range []struct {
		files, http   int
		external      bool
		wantH, wantN  int
		fewFilesAreIt bool
	}{
		{files: 20_000, http: 512, wantH: 512, wantN: 16384},
		{files: 1 << 20, http: 512, wantH: 512, wantN: 16384},
		{files: 4096, http: 512, wantH: 512, wantN: 3328},
		{files: 1024, http: 512, wantH: 384, wantN: 384},
		{files: 1024, http: 100, wantH: 100, wantN: 668},
		{files: 1024, http: 0, wantH: 384, wantN: 384},
		{files: 1024, http: 0, external: true, wantH: 768},
		{files: 600, http: 512, wantH: 172, wantN: 172},
		{files: 512, http: 512, wantH: 128, wantN: 128},
		{files: 511, http: 512, wantH: 95, wantN: 96, fewFilesAreIt: true},
		{files: 256, http: 512, wantH: 32, wantN: 32, fewFilesAreIt: true},
		{files: 150, http: 512, wantH: 5, wantN: 6, fewFilesAreIt: true},
	} {
		cfg := Config{HTTPConns: c.http}
		if c.external {
			cfg.NATSURL = "nats://127.0.0.1:1"
		}
		said.Reset()
		got, err := shareOut(c.files, &cfg, log)
		require.NoError(t, err)
		require.Equal(t, caps{c.wantH, c.wantN}, got, "%+v", c)
		require.Equal(t, c.fewFilesAreIt, strings.Contains(said.String(), "few files"))
		if c.fewFilesAreIt {
			require.Equal(t, (c.files-128)/2, got.http+got.nats)
		} else {
			require.LessOrEqual(t, got.http+got.nats, c.files-storeFiles)
		}
	}
	_, err := shareOut(140, &Config{}, log)
	require.ErrorIs(t, err, ErrConfig)
	require.ErrorContains(t, err, "ulimit")
}

// idle opens a connection from this address of the loopback network.
func idle(t *testing.T, from, to string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 2 * time.Minute}
	c, err := d.Dial("tcp", to)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// served reports whether a request on c is answered as it should be; if not, with a sentence.
func served(t *testing.T, c net.Conn) bool {
	t.Helper()
	require.NoError(t, c.SetDeadline(time.Now().Add(2*time.Minute)))
	_, _ = fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") // it may be closed
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false // reset before the answer was read
	}
	text, err := io.ReadAll(res.Body)
	require.NoError(t, res.Body.Close())
	if res.StatusCode == http.StatusOK {
		return true
	}
	if err != nil {
		return false
	}
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Contains(t, string(text), "http_conns")
	require.Equal(t, "1", res.Header.Get("Retry-After"))
	return false
}

// Who is one connection too many reads why to its end, although it has sent a request that nobody reads.
func TestTheAnswerToOneConnectionTooManyArrives(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c := idle(t, "127.0.0.1", l.Addr().String())
	_, err = fmt.Fprintf(c, "POST /v1/increments HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n%01000d", 0)
	require.NoError(t, err)
	go func() { _, _ = (&capped{l, newConnCounter(0, 0)}).Accept() }() // it refuses all, and ends with l
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, tooMany, string(all))

	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	for range 50 { // a client of net/http gives up a connection on which an answer comes before its request
		res, err := (&http.Client{Transport: tr}).Get("http://" + l.Addr().String() + "/healthz")
		require.NoError(t, err)
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
		require.Contains(t, string(text), "http_conns")
	}
}

// One address has at most its part of the HTTP connections, and all addresses together at most all; whoever goes
// makes room. The profiles' listener counts into the same.
func TestHTTPConnectionsAreCapped(t *testing.T) {
	cfg := testConfig(t)
	cfg.HTTPConns, cfg.HTTPConnsPerAddress, cfg.Pprof = 5, 3, "127.0.0.1:0"
	r := startBroker(t, cfg)
	begun := func(from string) net.Conn {
		c := idle(t, from, r.HTTPAddr())
		_, err := fmt.Fprint(c, "POST /v1/increments HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\na")
		require.NoError(t, err)
		return c
	}
	var first []net.Conn
	for range 3 {
		first = append(first, begun("127.0.0.1"))
	}
	require.False(t, served(t, idle(t, "127.0.0.1", r.HTTPAddr())), "the fourth of an address")
	require.False(t, served(t, idle(t, "127.0.0.1", r.pprof.Addr().String())), "at the profiles, too")
	for range 2 {
		begun("127.0.0.2")
	}
	require.False(t, served(t, idle(t, "127.0.0.3", r.HTTPAddr())), "the sixth of all")
	require.NoError(t, first[0].Close())
	soon(t, "there is room again", func() bool { return served(t, idle(t, "127.0.0.3", r.HTTPAddr())) })
	for _, c := range first[1:] {
		_, err := fmt.Fprint(c, "b")
		require.NoError(t, err)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err, "whoever was there stays")
		require.NoError(t, res.Body.Close())
		// a busy machine is late with its byte
		require.Contains(t, []int{http.StatusOK, http.StatusRequestTimeout}, res.StatusCode)
	}
}

// Connections that somebody has left open keep nobody out: the one that has been idle the longest gives way, of the
// same address when that has too many, and of any when there are too many in all. One that is at work stays.
func TestIdleConnectionsGiveWay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr, all := l.Addr().String(), newConnCounter(4, 3)
	begun, end := make(chan struct{}), make(chan struct{})
	server := &http.Server{ConnState: all.state, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/work" {
			close(begun)
			<-end
		}
	})}
	var serving conc.WaitGroup
	serving.Go(func() { _ = server.Serve(&capped{l, all}) })
	defer serving.Wait()
	defer server.Close()
	work := idle(t, "127.0.0.1", addr)
	_, err = fmt.Fprint(work, "GET /work HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	require.NoError(t, err)
	<-begun
	first, second := idle(t, "127.0.0.1", addr), idle(t, "127.0.0.1", addr)
	// the answer reaches us before the server has called its connection idle
	for n, one := range []net.Conn{first, second} {
		require.True(t, served(t, one))
		soon(t, "the server calls it idle", func() bool {
			all.mu.Lock()
			defer all.mu.Unlock()
			return all.idle.Len() == n+1
		})
	}
	soon(t, "the operator is let in", func() bool { return served(t, idle(t, "127.0.0.1", addr)) })
	require.NoError(t, first.SetReadDeadline(time.Now().Add(2*time.Minute)))
	_, err = first.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the one that was idle the longest, of this address")
	require.True(t, served(t, idle(t, "127.0.0.2", addr)))
	soon(t, "another address is let in", func() bool { return served(t, idle(t, "127.0.0.3", addr)) })
	close(end)
	res, err := http.ReadResponse(bufio.NewReader(work), nil)
	require.NoError(t, err, "who is at work stays")
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)
}

// One address has at most its part of the NATS connections; a client above it is closed and tries again until there
// is room. The broker's own connections are not counted.
func TestNATSConnectionsAreCapped(t *testing.T) {
	cfg := testConfig(t)
	cfg.NATSConnsPerAddress = 2
	r := startBroker(t, cfg)
	connect := func(opts ...natsgo.Option) (*natsgo.Conn, error) {
		nc, err := natsgo.Connect(r.NATSURL(),
			append(opts, natsgo.ReconnectWait(10*time.Millisecond), natsgo.MaxReconnects(-1))...)
		if err == nil {
			t.Cleanup(nc.Close)
		}
		return nc, err
	}
	var all []*natsgo.Conn
	for range 2 {
		nc, err := connect()
		require.NoError(t, err)
		require.NoError(t, nc.Flush())
		all = append(all, nc)
	}
	_, err := connect()
	require.Error(t, err)
	waiting, err := connect(natsgo.RetryOnFailedConnect(true))
	require.NoError(t, err)
	require.Equal(t, uint64(1), r.put("x")[0].Seq, "the broker goes on")
	require.False(t, waiting.IsConnected())
	all[0].Close()
	soon(t, "it has been let in", waiting.IsConnected)
	elsewhere, err := connect(natsgo.SetCustomDialer(&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}}))
	require.NoError(t, err)
	require.NoError(t, elsewhere.Flush())
}

// A connection to the NATS port that does not introduce itself is closed in seconds.
func TestNATSConnectionsIntroduceThemselves(t *testing.T) {
	r := startBroker(t, testConfig(t))
	began := time.Now()
	c := idle(t, "127.0.0.1", strings.TrimPrefix(r.NATSURL(), "nats://"))
	require.NoError(t, c.SetReadDeadline(began.Add(20*time.Second)))
	text, err := io.ReadAll(c)
	require.NoError(t, err, "it is closed, not silent")
	require.Contains(t, string(text), "Authentication Timeout")
	require.Less(t, time.Since(began), 7*time.Second)
}

// What waits for connections that do not read is bounded for all of them together: the fullest go first, and who
// reads stays.
func TestFullConnectionsAreEndedWhenMemoryIsShort(t *testing.T) {
	r := startBroker(t, testConfig(t))
	reader, err := natsgo.Connect(r.NATSURL())
	require.NoError(t, err)
	defer reader.Close()
	require.NoError(t, reader.Flush())
	for range 4 {
		c := idle(t, "127.0.0.1", strings.TrimPrefix(r.NATSURL(), "nats://"))
		_, err := fmt.Fprint(c, "CONNECT {\"verbose\":false}\r\nSUB deaf 1\r\nPING\r\n")
		require.NoError(t, err)
		in := bufio.NewReader(c)
		for line := ""; line != "PONG\r\n"; {
			line, err = in.ReadString('\n')
			require.NoError(t, err)
		}
	}
	clients := r.server.NumClients()
	for range 12 { // the sockets take some of it
		require.NoError(t, reader.Publish("deaf", make([]byte, 1<<20)))
	}
	require.NoError(t, reader.Flush())
	r.endFullest(1 << 40)
	require.Equal(t, clients, r.server.NumClients(), "there is memory enough")
	r.endFullest(1 << 20)
	soon(t, "those that do not read have gone", func() bool { return r.server.NumClients() <= clients-4 })
	require.NoError(t, reader.Flush(), "who reads stays")
	require.True(t, reader.IsConnected())
}
