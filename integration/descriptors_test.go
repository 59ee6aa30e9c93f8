package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// writer publishes one increment after the other over one connection, until done.
type writer struct {
	answered, refused atomic.Int64
}

func (w *writer) run(t *testing.T, s *site, c *http.Client, done *atomic.Bool) {
	for !done.Load() {
		res, err := c.Post("http://"+s.http+"/v1/increments", "text/plain", strings.NewReader("x"))
		if err != nil {
			return // the broker has ended
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close() // it is read
		switch {
		case err != nil:
			return
		case res.StatusCode == http.StatusOK:
			w.answered.Add(1)
		default:
			var said struct {
				Code      string
				Retryable bool
			}
			assert.NoError(t, json.Unmarshal(body, &said))
			if said.Code == "descriptors" {
				w.refused.Add(1)
				assert.True(t, said.Retryable)
				assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
				assert.NotEmpty(t, res.Header.Get("Retry-After"))
			} else {
				assert.Contains(t, []string{"unknown", "closing"}, said.Code, "%s", body) // while it ends
			}
		}
	}
}

// A broker that has no file descriptor left while it runs refuses input with 503 descriptors until there is one: no
// write has failed, the stores go on, and what was answered is there. One that is told to end meanwhile ends, too.
func TestABrokerWithoutDescriptorsGoesOn(t *testing.T) {
	s := newSite(t, "--max-records", "20", "--ring-bytes", "65536")
	b := s.broker()
	var usual unix.Rlimit
	require.NoError(t, unix.Prlimit(b.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &usual))
	// With a limit of three, what is open stays open and nothing else can be opened.
	limit := func(n uint64) {
		require.NoError(t, unix.Prlimit(b.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: usual.Max}, nil))
	}
	var writers [8]writer
	var late [4]writer // see starve
	var group sync.WaitGroup
	begin := func() (end func()) {
		done := new(atomic.Bool)
		for i := range writers {
			c := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
			t.Cleanup(c.CloseIdleConnections)
			before := writers[i].answered.Load()
			group.Go(func() { writers[i].run(t, s, c, done) })
			eventually(t, func() error {
				if writers[i].answered.Load() == before {
					return fmt.Errorf("writer %d has no answer", i)
				}
				return nil
			})
		}
		return func() { done.Store(true); group.Wait() }
	}
	sum := func(what func(*writer) int64) (all int64) {
		for i := range writers {
			all += what(&writers[i])
		}
		for i := range late {
			all += what(&late[i])
		}
		return all
	}
	answered := func() int64 { return sum(func(w *writer) int64 { return w.answered.Load() }) }
	refused := func() int64 { return sum(func(w *writer) int64 { return w.refused.Load() }) }
	// starve takes the descriptors away until somebody is refused. The writers may all wait for the segment that cannot
	// begin: then others come, over connections that are there already.
	starve := func() {
		var clients [len(late)]*http.Client
		for i := range clients {
			clients[i] = &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
			t.Cleanup(clients[i].CloseIdleConnections)
			res, err := clients[i].Get("http://" + s.http + "/readyz")
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, res.Body)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
		}
		before := refused()
		limit(3)
		var done atomic.Bool
		next, last := 0, int64(-1)
		defer done.Store(true)
		eventually(t, func() error {
			n := answered()
			switch {
			case refused() > before:
				return nil
			case n == last && next < len(late): // nobody is answered for a moment
				w, c := &late[next], clients[next]
				next++
				group.Go(func() { w.run(t, s, c, &done) })
			}
			last = n
			<-time.After(300 * time.Millisecond)
			return fmt.Errorf("%d were answered, nobody is refused", n)
		})
	}

	end := begin()
	for range 3 {
		starve()
		at := answered()
		limit(usual.Cur)
		eventually(t, func() error {
			if n := answered(); n < at+100 {
				return fmt.Errorf("%d were answered after the shortage", n-at)
			}
			return nil
		})
	}
	end()
	require.NotContains(t, b.log.String(), "failed write")
	s.ok("", "log", "check")
	require.EqualValues(t, answered(), s.positions().Head)
	require.NotContains(t, s.ok("", "alerts"), "damage")

	end = begin()
	starve()
	code := b.stop(t)
	end()
	require.Contains(t, []int{0, 74, 75}, code, b.log)
	b = s.broker()
	s.ok("", "log", "check")
	require.GreaterOrEqual(t, s.positions().Head, uint64(answered()))
	require.Equal(t, 0, b.stop(t))
}
