package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever umask a broker and its nodes are started with, and however open the folders are that they are given: what
// they make is their user's alone, and a database that a DUMP replaces stays open to whom it was open before.
func TestFilesAreTheirUsersAlone(t *testing.T) {
	s := newSite(t, "--masters", "master,kv,file")
	path, err := binary()
	require.NoError(t, err)
	data := filepath.Join(s.dir, "broker")
	require.NoError(t, os.Mkdir(data, 0o755))
	require.NoError(t, os.Chmod(s.dir, 0o777))
	open := func(name string, args ...string) *process {
		return s.launch("/bin/sh", nil, name, append([]string{"-c", `umask 000; exec "$@"`, "sh", path}, args...)...)
	}
	node := func(id, target string, more ...string) *process {
		return open(id, append([]string{"node", "--id", id, "--broker", "nats://" + s.nats, "--target", target, "--tick",
			"200ms"}, more...)...)
	}
	broker := open("broker", "broker", "--data", data, "--nats-addr", s.nats, "--http-addr", s.http, "--masters",
		"master,kv,file",
		"--watch-min-free", "0", "--watch-slow-sync", "0s")
	eventually(t, func() error {
		if !strings.Contains(broker.log.String(), "ready\n") {
			return fmt.Errorf("not ready: %s", broker.log)
		}
		return nil
	})
	require.Contains(t, broker.log.String(), "its mode is 0700 now")
	require.NoError(t, os.WriteFile(s.path("open"), nil, 0o600))
	require.NoError(t, os.Chmod(s.path("open"), 0o640))
	node("master", "sqlite:master.db", "--topics", "sql")
	node("kv", "kv:pairs", "--topics", "kv")
	node("file", "file:entries")
	s.ok("CREATE TABLE t (a INTEGER PRIMARY KEY)\nINSERT INTO t VALUES (1)\n", "publish", "--topic", "sql")
	s.ok("SET a 1\n", "publish", "--topic", "kv")
	s.level("master", "kv", "file")
	node("node1", "sqlite:node1.db", "--from", "master", "--topics", "sql")
	node("node2", "sqlite:open.db", "--from", "master", "--topics", "sql")
	node("kv2", "kv:pairs2", "--from", "kv", "--topics", "kv")
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "open.log"), nil, 0o600))
	require.NoError(t, os.Chmod(filepath.Join(s.dir, "open.log"), 0o640))
	node("file2", "file:open.log", "--from", "file")
	s.level("master", "kv", "file", "node1", "node2", "kv2", "file2")
	s.ok("", "dump", "--from", "master", "-o", "backup.xmq")
	s.ok("INSERT INTO t VALUES (2)\n", "publish", "--topic", "sql") // so that everybody has a WAL
	s.level("master", "kv", "file", "node1", "node2", "kv2", "file2")

	seen := 0
	require.NoError(t, filepath.WalkDir(s.dir, func(name string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		if name == s.dir {
			return nil
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a compaction removed it meanwhile
		}
		require.NoError(t, err)
		want := fs.FileMode(0o600)
		switch {
		case e.IsDir():
			want = 0o700
		case strings.HasPrefix(e.Name(), "open.") && !strings.HasSuffix(e.Name(), ".lock"):
			want = 0o640
		}
		require.Equal(t, want, info.Mode().Perm(), name)
		seen++
		return nil
	}))
	require.Greater(t, seen, 30, "all of it was looked at")
}
