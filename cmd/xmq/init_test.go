package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/server"
)

// A broker that is told create: false takes no emptied disk for a first start; xmq init makes the log, once.
func TestALogIsMadeByInitWhereTheBrokerMayNot(t *testing.T) {
	cfg := server.Default()
	cfg.Data, cfg.Create, cfg.NATSAddr, cfg.HTTPAddr = filepath.Join(t.TempDir(), "data"), false, "127.0.0.1:0",
		"127.0.0.1:0"
	_, err := server.Open(cfg, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "create: false")
	require.Contains(t, good(t, "", "init", "--data", cfg.Data), "is made in "+cfg.Data)
	b, err := server.Open(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	code, _, errs := call(t, "", "init", "--data", cfg.Data)
	require.Equal(t, exitConfig, code)
	require.Contains(t, errs, "holds a log already")
	done, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, b.Run(done, nil))
}

// What takes something away for good is not done in passing.
func TestAcceptingALogNeedsSomethingToAccept(t *testing.T) {
	api, _ := cluster(t)
	code, _, errs := call(t, "", "log", "accept", "--confirm", "--reason", "x", "--api", api)
	require.Equal(t, exitRefused, code)
	require.Contains(t, errs, "there is nothing to accept")
}
