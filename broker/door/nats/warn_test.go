package nats

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"xmq/broker/event"
)

// written sends each line of a log to a channel.
type written chan string

func (s written) Write(p []byte) (int, error) { s <- string(p); return len(p), nil }

// A producer whose requests cannot be answered is told of in the broker's log, with the reason, and not for each of
// them.
func TestProducersThatCannotBeAnsweredAreTold(t *testing.T) {
	h := newFixture(t)
	lines := make(written, 100)
	h.door.logger = slog.New(slog.NewTextHandler(lines, nil))
	nc, err := nats.Connect(h.server.ClientURL()) // with the default inbox
	require.NoError(t, err)
	defer nc.Close()
	for _, c := range []struct{ subject, reply, why string }{
		{event.Subject("main", event.Pub, "p1"), nc.NewInbox(), "its inbox prefix must be _INBOX_p1"},
		{event.Subject("main", event.Pub, "p1"), "_INBOX_p2.x", "its inbox prefix must be _INBOX_p1"},
		{event.Subject("main", event.Pub, "P1"), "_INBOX_P1.x", "the subject does not end with the ID of a producer"},
	} {
		h.door.mu.Lock()
		h.door.warned = time.Time{}
		h.door.mu.Unlock()
		for range 3 {
			require.NoError(t, nc.PublishRequest(c.subject, c.reply, []byte("x")))
		}
		line := <-lines
		require.Contains(t, line, "level=WARN")
		require.Contains(t, line, c.why)
		require.Contains(t, line, c.subject)
		require.Eventually(t, func() bool {
			h.door.mu.Lock()
			defer h.door.mu.Unlock()
			return h.door.dropped == 2
		}, 2*time.Minute, time.Millisecond, "counted, not told")
		require.Empty(t, lines)
		h.door.mu.Lock()
		h.door.dropped = 0
		h.door.mu.Unlock()
	}
	require.False(t, strings.Contains(clip(strings.Repeat("x", 500)), strings.Repeat("x", 101)))
	require.Zero(t, h.log.Head().Seq)
}
