package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
)

// stuck is a target that stands still until it is let go, and keeps nothing but its position.
type stuck struct {
	nodeclient.Database // what is not asked of it
	pos                 atomic.Pointer[event.Position]
	let                 <-chan struct{}
}

func (s *stuck) Position(context.Context) (event.Position, error) { return *s.pos.Load(), nil }

func (s *stuck) Seek(_ context.Context, pos event.Position) error {
	s.pos.Store(&pos)
	return nil
}

func (s *stuck) Apply(ctx context.Context, before event.Position, batch []event.Item) (event.Position, error) {
	select {
	case <-s.let:
	case <-ctx.Done():
		return before, nodeclient.Transient(ctx.Err())
	}
	pos := batch[len(batch)-1].Pos
	s.pos.Store(&pos)
	return pos, nil
}

// The broker keeps its memory_limit with 16 nodes whose windows together are twice that, while increments of 1 MiB
// come in: when the nodes apply nothing, so that all of it lies with them, and when nothing is read from their
// connections, so that all of it lies with the broker. Let go, all of them come level.
func TestMemoryIsBoundedWithSlowNodes(t *testing.T) {
	const nodes, count, limit = 16, 160, 512
	for kind, deaf := range map[string]bool{"that do not apply": false, "that do not read": true} {
		t.Run(kind, func(t *testing.T) { slowNodes(t, kind, deaf, nodes, count, limit) })
	}
}

func slowNodes(t *testing.T, kind string, deaf bool, nodes, count, limit int) {
	masters := "master"
	for i := range nodes {
		masters += fmt.Sprint(",slow", i)
	}
	s := newSite(t, "--masters", masters, "--memory-limit", fmt.Sprint(limit<<20))
	p := s.broker()
	h := &cluster{t: t, log: slog.New(slog.DiscardHandler)}
	h.cfg.NATSAddr = s.nats
	link := newProxy(t, s.nats, 0)
	h.cfg.NATSAddr = link.addr()
	let := make(chan struct{})
	var all []*stuck
	for i := range nodes {
		target := &stuck{Database: drivertest.NewMemory().Open(), let: let}
		target.pos.Store(&event.Position{})
		all = append(all, target)
		n := h.run(fmt.Sprint("slow", i), "", target,
			func(o *nodeclient.Options) { o.WindowBytes, o.WindowRecords, o.Silence = 64<<20, 1<<20, 1<<20 })
		eventually(t, func() error {
			if at := n.a.Status(); at.Phase != "following" {
				return fmt.Errorf("%+v", at)
			}
			return nil
		})
	}
	release := func() { close(let) }
	if deaf {
		release()
		release = link.hold()
	}
	release = sync.OnceFunc(release)
	defer release() // nobody waits for it when the test has failed
	body := make([]byte, 1<<20)
	for range count {
		_, _ = rand.Read(body) // never fails (crypto/rand)
		res, err := http.Post("http://"+s.http+"/v1/increments", "application/octet-stream", bytes.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, 200, res.StatusCode)
	}
	peak := func() int {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		require.NoError(t, err)
		kib, err := strconv.Atoi(string(regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)[1]))
		require.NoError(t, err)
		return kib >> 10
	}
	still := peak()
	release()
	for _, target := range all {
		for at := target.pos.Load().Seq; at < uint64(count); at = target.pos.Load().Seq { // however fast the machine is
			eventually(t, func() error {
				if target.pos.Load().Seq == at {
					return fmt.Errorf("stands still at %d of %d", at, count)
				}
				return nil
			})
		}
	}
	t.Logf("measured: memory of the broker with %d nodes %s: %d MiB at most while they stand still, %d MiB when they "+
		"come level", nodes, kind, still, peak())
	require.Less(t, peak(), limit)
}
