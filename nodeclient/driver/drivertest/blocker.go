package drivertest

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
)

// Applies runs a script in the background and returns how to wait for its end.
func Applies(ctx context.Context, t *testing.T, db nodeclient.Database, log *Log, script string) (end func()) {
	before, items := At(t, db, log), log.Scripts(script)
	done := make(chan error, 1)
	go func() {
		_, err := db.Apply(ctx, before, items)
		done <- err
	}()
	return func() {
		t.Helper()
		if err := <-done; ctx.Err() == nil {
			require.NoError(t, err)
		}
	}
}

// BlockedBy asks so often who blocks a database, until the answer contains by, and returns it.
func BlockedBy(t *testing.T, db nodeclient.Blocked, by string, every time.Duration) (who string) {
	t.Helper()
	heard := map[string]bool{}
	require.Eventually(t, func() bool {
		var err error
		who, err = db.Blocker(t.Context())
		require.NoError(t, err)
		heard[who] = true
		return strings.Contains(who, by)
	}, 2*patience, every, "waiting for %q, heard %q", by, &heard)
	return who
}

// StoppedServerHoldsNobody requires that a server that takes connections and answers none holds nobody who asks who
// blocks it for longer than they want to wait. signal is sent to the server. It needs Make and Add.
func (n *Node) StoppedServerHoldsNobody(signal func(syscall.Signal) error) {
	n.Helper()
	n.feed(n.Make)
	require.NoError(n, signal(syscall.SIGSTOP))
	ctx, cancel := context.WithTimeout(n.Context(), time.Second)
	defer cancel()
	_, err := n.Database.(nodeclient.Blocked).Blocker(ctx)
	require.NoError(n, signal(syscall.SIGCONT))
	require.ErrorIs(n, err, context.DeadlineExceeded)
	n.feed(n.Add)
}
