package nats

import (
	"fmt"
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
		h.door.warnings.mu.Lock()
		clear(h.door.warnings.of)
		h.door.warnings.mu.Unlock()
		for range 3 {
			require.NoError(t, nc.PublishRequest(c.subject, c.reply, []byte("x")))
		}
		line := <-lines
		require.Contains(t, line, "level=WARN")
		require.Contains(t, line, c.why)
		require.Contains(t, line, c.subject)
		require.Eventually(t, func() bool {
			h.door.warnings.mu.Lock()
			defer h.door.warnings.mu.Unlock()
			return h.door.warnings.of[c.subject].dropped == 2
		}, 2*time.Minute, time.Millisecond, "counted, not told")
		require.Empty(t, lines)
	}
	require.False(t, strings.Contains(clip(strings.Repeat("x", 500)), strings.Repeat("x", 101)))
	require.Zero(t, h.log.Head().Seq)
}

// One producer that cannot be answered does not hide the next: each is told of every warnEvery, as long as they are not
// too many, which are told of together.
func TestEachProducerThatCannotBeAnsweredIsTold(t *testing.T) {
	var w warnings
	now := time.Unix(1000, 0)
	told := func(subject string, after time.Duration) string {
		count, tell := w.drop(subject, now.Add(after))
		return fmt.Sprint(count, tell)
	}
	require.Equal(t, "1 true", told("a", 0))
	require.Equal(t, "1 true", told("b", time.Second))
	require.Equal(t, "1 false", told("a", time.Second))
	require.Equal(t, "2 true", told("a", warnEvery))
	require.Equal(t, "1 false", told("b", warnEvery))
	for i := range 1000 {
		told(fmt.Sprint("many", i), warnEvery)
	}
	require.LessOrEqual(t, len(w.of), mostWarned+1)
	require.Equal(t, "970 false", told("c", warnEvery), "one of the others, the first of which was told")
	require.Equal(t, "1 true", told("d", 3*warnEvery), "there is room again")
	require.Len(t, w.of, 1)
}
