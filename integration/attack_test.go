package integration

import (
	"bufio"
	"bytes"
	"context"
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

	"github.com/stretchr/testify/assert"
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
		args := append([]string{"-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, files), path,
			"broker", "--data", filepath.Join(s.dir, "broker"), "--nats-addr", s.nats, "--http-addr", s.http,
			"--watch-ballast=false", "--watch-min-free", "0", "--watch-slow-sync", "0s",
			"--memory-limit", fmt.Sprint(attackLimit)}, more...)
		a := &attacked{site: s, p: s.launch("/bin/sh", nil, "broker", args...)}
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

// publish publishes one increment and returns how long that took.
func (a *attacked) publish(c *http.Client) time.Duration {
	a.t.Helper()
	began := time.Now()
	res, err := c.Post("http://"+a.http+"/v1/increments", "text/plain", strings.NewReader("SELECT 1"))
	require.NoError(a.t, err, "an honest publisher; the broker said: %s", a.p.log)
	text, err := io.ReadAll(res.Body)
	require.NoError(a.t, err)
	require.NoError(a.t, res.Body.Close())
	require.Equal(a.t, http.StatusOK, res.StatusCode, "an honest publisher: %s", text)
	return time.Since(began)
}

// p99 is the 99th percentile.
func p99(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)*99/100]
}

// last is the last n of them, or all when they are fewer.
func last(all []time.Duration, n int) []time.Duration { return all[max(0, len(all)-n):] }

// How an attack is measured: an honest publisher publishes at the broker and at its twin in turn, a round of increments
// at each, for so long and so many rounds at least and at most. What the machine does beside hits both alike in the
// long run: the last few rounds are judged, until they are well. A p99 below small says nothing of anybody.
const (
	round      = 300
	fewRounds  = 2
	lastRounds = 5
	manyRounds = 25
	longEnough = 6 * time.Second
	small      = 5 * time.Millisecond
)

// siege is an attack that is on while somebody publishes.
type siege struct {
	name      string
	attackers int           // at once
	pause     time.Duration // each attacker begins no sooner than that after it has begun before
	// once is what an attacker does, again and again, until ctx ends. It returns when the broker has ended it, and
	// calls on when its attack is on: it is on until then.
	once func(ctx context.Context, on func())
}

// withstand asserts that the broker keeps its memory while the attack is on, and that an honest publisher's p99 is then
// at most twice that at the twin, over the increments of the last rounds together.
func (a *attacked) withstand(s siege) {
	a.t.Helper()
	here, there := a.publisher(), a.twin.publisher()
	a.publish(here) // its connection is there before all places are taken
	a.twin.publish(there)
	ctx, cancel := context.WithCancel(a.t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	var on, begun atomic.Int64
	for range s.attackers {
		group.Go(func() {
			for ctx.Err() == nil {
				again := time.NewTimer(s.pause)
				is := false
				s.once(ctx, func() { is = true; on.Add(1); begun.Add(1) })
				if is {
					on.Add(-1)
				}
				select {
				case <-again.C:
				case <-ctx.Done():
				}
				again.Stop()
			}
		})
	}
	eventually(a.t, func() error {
		if on.Load() == 0 {
			return fmt.Errorf("%s: the attack is not on: %d have begun", s.name, begun.Load())
		}
		return nil
	})
	var loud, quiet []time.Duration
	during, published, began := 0, 0, time.Now()
	for rounds := 1; rounds <= manyRounds; rounds++ {
		loud, quiet = last(loud, (lastRounds-1)*round), last(quiet, (lastRounds-1)*round)
		for i := range 2 * round {
			if i%2 == 0 {
				quiet = append(quiet, a.twin.publish(there))
				continue
			}
			if on.Load() > 0 {
				during++
			}
			loud = append(loud, a.publish(here))
			published++
		}
		if rounds >= fewRounds && time.Since(began) >= longEnough && p99(loud) <= 2*max(small, p99(quiet)) {
			break
		}
	}
	peak := a.memory("VmHWM")
	a.t.Logf("measured: %s: p99 of %d increments %s at the twin, %s here; begun %d times, on during %d; memory at most "+
		"%d of %d MiB",
		s.name, len(loud), p99(quiet), p99(loud), begun.Load(), during, peak, attackLimit>>20)
	require.Greater(a.t, during, published/2, "the attack was on while the publisher was measured")
	require.LessOrEqual(a.t, peak, attackLimit*5/4>>20)
	require.LessOrEqual(a.t, p99(loud), 2*max(small, p99(quiet)))
}

// ends stops both.
func (a *attacked) ends() {
	a.t.Helper()
	require.Equal(a.t, 0, a.p.stop(a.t), a.p.log)
	require.Equal(a.t, 0, a.twin.p.stop(a.t), a.twin.p.log)
}

// open connects to addr until ctx ends; nil when the broker refuses.
func (a *attacked) open(ctx context.Context, addr string) net.Conn {
	d := net.Dialer{Timeout: 10 * time.Second}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	return c
}

// 250 batches of 5 MiB of which the last byte never comes. (They took 2.3 GiB.)
func TestAttackOfHalfSentBodies(t *testing.T) {
	a := attack(t, 4096)
	line := append(append([]byte(`{"body":"`), bytes.Repeat([]byte("x"), 1<<20-100)...), "\"}\n"...)
	const total = 5 << 20
	body := bytes.Repeat(line, 6)[:total-1]
	head := fmt.Sprintf("POST /v1/increments/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n", total)
	s := siege{name: "half-sent bodies", attackers: 250, pause: 5 * time.Second}
	s.once = func(ctx context.Context, on func()) {
		c := a.open(ctx, a.http)
		if c == nil {
			return
		}
		defer c.Close()
		_, err := fmt.Fprint(c, head)
		for sent := 0; err == nil && sent < len(body); sent += 1 << 20 {
			_, err = c.Write(body[sent:min(sent+1<<20, len(body))])
		}
		if err == nil {
			on()
			_, _ = io.Copy(io.Discard, c) // until the broker ends it
		}
	}
	a.withstand(s)
	a.ends()
}

// 800 connections that are idle after a request, at a process that may open 600 files, while the log begins one segment
// after the other. (The broker ended with 74.)
func TestAttackOfIdleConnections(t *testing.T) {
	a := attack(t, 600, "--max-records", "50", "--http-conns-per-address", "0")
	var refused, most, idle atomic.Int64
	a.withstand(siege{name: "idle connections", attackers: 800, pause: 2 * time.Second,
		once: func(ctx context.Context, on func()) {
			c := a.open(ctx, a.http)
			if c == nil {
				refused.Add(1)
				return
			}
			defer c.Close()
			_, _ = fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") // it may be closed
			in := bufio.NewReader(c)
			res, err := http.ReadResponse(in, nil)
			if err != nil || res.StatusCode != http.StatusOK {
				refused.Add(1)
				return
			}
			defer idle.Add(-1)
			for n := idle.Add(1); n > most.Load(); {
				most.Store(n)
			}
			on()
			_, _ = io.Copy(io.Discard, in)
		}})
	require.Positive(t, refused.Load(), "connections are capped")
	require.Less(t, most.Load(), int64(600-256))
	node := a.open(t.Context(), a.nats)
	require.NotNil(t, node)
	info, err := bufio.NewReader(node).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, info, "INFO", "a new node comes in")
	a.ends()
}

// 2,048 connections to the NATS port that say nothing, all opened at once and again when they are closed. (They lived
// for 8 to 20 s.)
func TestAttackOfSilentNATSConnections(t *testing.T) {
	a := attack(t, 8192)
	a.withstand(siege{name: "silent NATS connections", attackers: 8, once: func(ctx context.Context, on func()) {
		var all []net.Conn
		for range 256 {
			if c := a.open(ctx, a.nats); c != nil {
				defer c.Close()
				all = append(all, c)
			}
		}
		if len(all) == 0 {
			return
		}
		on()
		for _, c := range all {
			if c.SetReadDeadline(time.Now().Add(2*time.Minute)) == nil {
				_, err := io.Copy(io.Discard, c)
				assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is closed")
			}
		}
	}})
	a.ends()
}

// 60 subscribers that never read, and one that publishes 160 MB to them. (The broker took 851 MiB of 512.)
func TestAttackOfDeafSubscribers(t *testing.T) {
	a := attack(t, 4096)
	connect := func(ctx context.Context, more string) (net.Conn, bool) {
		c := a.open(ctx, a.nats)
		if c == nil {
			return nil, false
		}
		_ = c.SetDeadline(time.Now().Add(time.Minute)) // fails only when it is closed
		_ = c.(*net.TCPConn).SetReadBuffer(4096)
		_, err := fmt.Fprintf(c, "CONNECT {\"verbose\":false,\"echo\":false}\r\n%sPING\r\n", more)
		in := bufio.NewReader(c)
		for line := ""; err == nil && line != "PONG\r\n"; {
			line, err = in.ReadString('\n')
		}
		return c, err == nil
	}
	message := append(append([]byte("PUB attack 2000000\r\n"), bytes.Repeat([]byte("x"), 2_000_000)...), "\r\n"...)
	a.withstand(siege{name: "deaf subscribers", attackers: 1, once: func(ctx context.Context, on func()) {
		deaf := 0
		for range 60 {
			if c, ok := connect(ctx, "SUB attack 1\r\n"); ok {
				defer c.Close()
				deaf++
			}
		}
		loud, ok := connect(ctx, "")
		if !ok || deaf == 0 {
			return
		}
		defer loud.Close()
		on()
		for range 80 {
			if _, err := loud.Write(message); err != nil {
				break // it was ended: good
			}
		}
	}})
	a.ends()
}
