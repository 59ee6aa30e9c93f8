package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/configs"
)

// joins runs a node until it follows, and returns what it has logged.
func joins(t *testing.T, cfg configs.Node) string {
	t.Helper()
	var log bytes.Buffer
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	follows := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- runNode(ctx, cfg, slog.New(slog.NewTextHandler(&log, nil)), func() (func(), error) {
			close(follows)
			return func() {}, nil
		})
	}()
	select {
	case <-follows:
		stop()
		require.NoError(t, <-ended)
	case err := <-ended:
		require.NoError(t, err)
		require.Fail(t, "the node ended before it followed")
	}
	return log.String()
}

// A relative path means one thing wherever it is written: on the command line, in the environment and in a file of
// another folder, for the target, its password and a backup. Only where nothing lies there is the folder of --data
// looked into, as in earlier builds.
func TestARelativePathLiesWhereTheCommandWasGiven(t *testing.T) {
	api, nats := cluster(t)
	start := t.TempDir()
	t.Chdir(start)
	require.NoError(t, os.MkdirAll("conf", 0o700))
	require.NoError(t, os.MkdirAll("made", 0o700))
	good(t, "one\n", "publish", "--api", api)
	good(t, "", "dump", "--from", "master", "-o", "backup.xmq", "--broker", nats)
	require.FileExists(t, filepath.Join(start, "backup.xmq"))

	require.NoError(t, os.WriteFile("conf/node.yaml", []byte("target: file:n1.log\ndata: made\nrestore: backup.xmq\n"),
		0o600))
	cfg := configs.DefaultNode()
	require.NoError(t, configs.Load(&cfg, configs.Source{File: "conf/node.yaml"}))
	cfg.ID, cfg.Broker = "n1", nats
	log := joins(t, cfg)
	require.Contains(t, log, "file="+filepath.Join(start, "backup.xmq"))
	require.NotContains(t, log, "--data")
	require.FileExists(t, filepath.Join(start, "n1.log"))
	require.NoFileExists(t, filepath.Join(start, "made", "n1.log"))

	require.NoError(t, os.Rename("backup.xmq", "made/backup.xmq")) // where a unit file of an earlier build has it
	cfg.ID, cfg.Target = "n2", "file:n2.log"
	log = joins(t, cfg)
	require.Contains(t, log, "client=n2 key=restore write="+filepath.Join(start, "made", "backup.xmq"))
	require.Contains(t, log, "file="+filepath.Join(start, "made", "backup.xmq"))
	require.FileExists(t, filepath.Join(start, "n2.log"))

	require.NoError(t, os.WriteFile("made/password", nil, 0o600))
	for _, words := range [][]string{{}, {"--config", "conf/node.yaml"}} {
		code, _, errs := call(t, "", append([]string{"node", "--id", "n3", "--broker", nats, "--data", "made", "--target",
			"postgres://u@127.0.0.1:1/d",
			"--target-password-file", "password"}, words...)...)
		require.Equal(t, exitConfig, code)
		require.Contains(t, errs, "key=target_password_file write="+filepath.Join(start, "made", "password"))
		require.Contains(t, errs, "the first line of "+filepath.Join(start, "made", "password")+" is empty")
	}
	require.NoError(t, os.WriteFile("password", nil, 0o600))
	code, _, errs := call(t, "", "node", "--id", "n3", "--broker", nats, "--target", "postgres://u@127.0.0.1:1/d",
		"--target-password-file", "password")
	require.Equal(t, exitConfig, code)
	require.Contains(t, errs, "the first line of "+filepath.Join(start, "password")+" is empty")
}
