package redis

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/servertest/redistest"
)

// A server that runs a script of somebody, or that is stopped, is told from one that has much to do.
func TestWhoBlocksTheServerIsTold(t *testing.T) {
	srv := redistest.New(t, "--busy-reply-threshold", "10")
	n := nodeOn(t, srv, srv.Addr())
	who, err := n.Blocker(t.Context())
	require.NoError(t, err)
	require.Empty(t, who)

	script := make(chan error, 1)
	go func() { script <- n.other.Eval(t.Context(), "while true do end", nil).Err() }()
	require.Eventually(t, func() bool {
		who, err = n.Blocker(t.Context())
		return err == nil && who != ""
	}, patience, tick)
	require.Contains(t, who, "blocked by a script that the server runs")
	side := newConn(n.place.options, 0) // to choose another database is refused while the script runs
	require.NoError(t, side.ScriptKill(t.Context()).Err())
	require.NoError(t, side.Close())
	require.Error(t, <-script)

	require.NoError(t, srv.Signal(syscall.SIGSTOP))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = n.Blocker(ctx)
	require.NoError(t, srv.Signal(syscall.SIGCONT))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
