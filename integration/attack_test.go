package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// attackLimit is memory_limit of a broker that is attacked. It may have a quarter more for the runtime.
const attackLimit = 512 << 20

// attacked is a broker and an honest publisher at it, and a twin that nobody attacks.
type attacked struct {
	*site
	p    *process
	twin *attacked
}

// attack starts both. The processes may open so many files.
func attack(t *testing.T, files int, more ...string) *attacked {
	path, err := binary()
	require.NoError(t, err)
	start := func() *attacked {
		s := newSite(t)
		args := append([]string{"broker", "--data", filepath.Join(s.dir, "broker"), "--nats-addr", s.nats, "--http-addr", s.http, "--watch-ballast=false", "--watch-min-free", "0",
			"--watch-slow-sync", "0s", "--memory-limit", fmt.Sprint(attackLimit)}, more...)
		a := &attacked{site: s, p: s.launch("/bin/sh", nil, "broker", append([]string{"-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, files), path}, args...)...)}
		eventually(t, func() error {
			if !strings.Contains(a.p.log.String(), "ready\n") {
				return fmt.Errorf("not ready: %s", a.p.log)
			}
			return nil
		})
		return a
	}
	a := start()
	a.twin = start()
	return a
}

// memory is a line of the broker's status in MiB.
func (a *attacked) memory(what string) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.p.cmd.Process.Pid))
	require.NoError(a.t, err)
	found := regexp.MustCompile(what + `:\s+(\d+) kB`).FindSubmatch(status)
	require.NotNil(a.t, found, "the broker has ended: %s", a.p.log)
	kib, err := strconv.Atoi(string(found[1]))
	require.NoError(a.t, err)
	return kib >> 10
}

// publisher publishes one increment after the other over one connection, from an address of its own.
func (a *attacked) publisher() *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	tr := &http.Transport{DialContext: d.DialContext}
	a.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// p99 publishes 200 increments and returns the 99th percentile of how long each took.
func (a *attacked) p99(c *http.Client) time.Duration {
	a.t.Helper()
	var all []time.Duration
	for range 200 {
		began := time.Now()
		res, err := c.Post("http://"+a.http+"/v1/increments", "text/plain", strings.NewReader("SELECT 1"))
		require.NoError(a.t, err)
		text, err := io.ReadAll(res.Body)
		require.NoError(a.t, err)
		require.NoError(a.t, res.Body.Close())
		require.Equal(a.t, http.StatusOK, res.StatusCode, "an honest publisher: %s", text)
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

// holds asserts that the broker has kept its memory and that an honest publisher's p99 is at most twice that at the twin. Both are asked in
// turn, because this machine has other things to do as well, and the best of up to ten rounds counts for each.
func (a *attacked) holds(what string) {
	a.t.Helper()
	here, there := a.publisher(), a.twin.publisher()
	loud, quiet := time.Hour, time.Hour
	for range 10 {
		quiet = min(quiet, a.twin.p99(there))
		if loud = min(loud, a.p99(here)); loud <= 2*quiet {
			break
		}
	}
	peak := a.memory("VmHWM")
	a.t.Logf("measured: %s: p99 of a publisher %s at the twin, %s here; memory at most %d of %d MiB", what, quiet, loud, peak, attackLimit>>20)
	require.LessOrEqual(a.t, peak, attackLimit*5/4>>20)
	require.LessOrEqual(a.t, loud, 2*quiet)
	require.Equal(a.t, 0, a.p.stop(a.t), a.p.log)
}

// open connects to addr; nil when the broker refuses.
func (a *attacked) open(addr string) net.Conn {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil
	}
	a.t.Cleanup(func() { _ = c.Close() })
	return c
}

// 250 batches of 5 MiB of which the last byte never comes. (They took 2.3 GiB.)
func TestAttackOfHalfSentBodies(t *testing.T) {
	a := attack(t, 4096)
	line := append(append([]byte(`{"body":"`), bytes.Repeat([]byte("x"), 1<<20-100)...), "\"}\n"...)
	const total = 5 << 20
	body := bytes.Repeat(line, 6)[:total-1]
	var open atomic.Int64
	var group sync.WaitGroup
	for range 250 {
		c := a.open(a.http)
		if c == nil {
			continue
		}
		group.Go(func() {
			_ = c.SetWriteDeadline(time.Now().Add(20 * time.Second)) // fails only when it is closed
			_, err := fmt.Fprintf(c, "POST /v1/increments/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n", total)
			for sent := 0; err == nil && sent < len(body); sent += 1 << 20 {
				_, err = c.Write(body[sent:min(sent+1<<20, len(body))])
			}
			if err == nil {
				open.Add(1)
			}
		})
	}
	group.Wait()
	require.Positive(t, open.Load())
	a.holds("half-sent bodies")
}

// 800 connections that are idle after a request, at a process that may open 600 files, while the log begins one segment after the other.
// (The broker ended with 74.)
func TestAttackOfIdleConnections(t *testing.T) {
	a := attack(t, 600, "--max-records", "50", "--http-conns-per-address", "0")
	c := a.publisher()
	a.p99(c) // it is there before all places are taken
	idle, refused := 0, 0
	for range 800 {
		c := a.open(a.http)
		if c == nil {
			refused++
			continue
		}
		require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		_, _ = fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") // it may be closed
		if res, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil && res.StatusCode == http.StatusOK {
			idle++
		} else {
			refused++
		}
	}
	require.Positive(t, refused, "connections are capped")
	require.Less(t, idle, 600-256)
	a.p99(c) // four segments begin
	node := a.open(a.nats)
	require.NotNil(t, node)
	info, err := bufio.NewReader(node).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, info, "INFO", "a new node comes in")
	require.Equal(t, 0, a.p.stop(t), a.p.log)
}

// 500 connections to the NATS port that say nothing. (They lived for 8 to 20 s.)
func TestAttackOfSilentNATSConnections(t *testing.T) {
	a := attack(t, 4096)
	var all []net.Conn
	for range 500 {
		if c := a.open(a.nats); c != nil {
			all = append(all, c)
		}
	}
	for _, c := range all {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
		_, err := io.Copy(io.Discard, c)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is closed")
	}
	a.holds("silent NATS connections")
}

// 60 subscribers that never read, and one that publishes 160 MB to them. (The broker took 851 MiB of 512.)
func TestAttackOfDeafSubscribers(t *testing.T) {
	a := attack(t, 4096)
	deaf := 0
	connect := func(more string) (net.Conn, bool) {
		c := a.open(a.nats)
		if c == nil {
			return nil, false
		}
		require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
		require.NoError(t, c.(*net.TCPConn).SetReadBuffer(4096))
		_, err := fmt.Fprintf(c, "CONNECT {\"verbose\":false,\"echo\":false}\r\n%sPING\r\n", more)
		in := bufio.NewReader(c)
		for line := ""; err == nil && line != "PONG\r\n"; {
			line, err = in.ReadString('\n')
		}
		return c, err == nil
	}
	for range 60 {
		if _, ok := connect("SUB attack 1\r\n"); ok {
			deaf++
		}
	}
	require.Equal(t, 60, deaf)
	loud, ok := connect("")
	require.True(t, ok)
	message := append(append([]byte("PUB attack 2000000\r\n"), bytes.Repeat([]byte("x"), 2_000_000)...), "\r\n"...)
	for range 80 {
		if _, err := loud.Write(message); err != nil {
			break // it was ended: good
		}
	}
	a.holds("deaf subscribers")
}
