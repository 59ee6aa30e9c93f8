package server

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
)

// A log that is gone from beside a state store is missing increments, to the check as it is to the broker; an empty
// directory holds none.
func TestCheckMissesALogThatIsGone(t *testing.T) {
	cfg := quiet(t)
	r := still(t, cfg)
	r.put("a", "b", "c")
	require.NoError(t, r.watcher.Checkpoint())
	require.NoError(t, r.stop())
	c, err := CheckOffline(t.Context(), cfg.Data, nil)
	require.NoError(t, err)
	require.Equal(t, api.Checked{First: 1, Last: 3, Records: 3, Damaged: map[string]string{}, Checkpoint: 3}, c)
	manifests, err := filepath.Glob(filepath.Join(cfg.Data, stateDir, "*", "MANIFEST*"))
	require.NoError(t, err)
	whole, err := os.ReadFile(manifests[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(manifests[0], make([]byte, len(whole)), 0o600))
	c, err = CheckOffline(t.Context(), cfg.Data, nil)
	require.NoError(t, err)
	require.Contains(t, c.Damaged, stateDir)
	require.Contains(t, c.Help[stateDir], "move it away")
	require.NoError(t, os.WriteFile(manifests[0], whole, 0o600))
	require.NoError(t, os.RemoveAll(filepath.Join(cfg.Data, logDir)))
	c, err = CheckOffline(t.Context(), cfg.Data, nil)
	require.NoError(t, err)
	require.EqualValues(t, 3, c.Checkpoint)
	require.Contains(t, c.Missing, "the state store "+filepath.Join(cfg.Data, stateDir)+" knows of one")
	_, err = CheckOffline(t.Context(), t.TempDir(), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// A directory of the broker that is a file, or a link that leads nowhere, is damage: it does not pass. What a file
// system keeps at the root of each of its mount points is nobody's.
func TestDirectoriesThatAreNone(t *testing.T) {
	for _, name := range []string{logDir, stateDir, stagingDir} {
		for _, put := range []func(string) error{
			func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
			func(path string) error { return os.Symlink(filepath.Join(t.TempDir(), "gone"), path) },
		} {
			cfg := quiet(t)
			require.NoError(t, os.MkdirAll(cfg.Data, 0o700))
			require.NoError(t, put(filepath.Join(cfg.Data, name)))
			_, err := Open(cfg, slog.New(slog.DiscardHandler))
			require.True(t, IsDamage(err), "%s: %v", name, err)
		}
	}
	cfg := quiet(t)
	for _, names := range [][]string{{".", logDir, stagingDir}, {stateDir}} {
		for _, name := range names {
			require.NoError(t, os.MkdirAll(filepath.Join(cfg.Data, name, "lost+found"), 0o700))
		}
		r := still(t, cfg)
		r.put("a")
		require.NoError(t, r.stop())
	}
	c, err := CheckOffline(t.Context(), cfg.Data, nil)
	require.NoError(t, err)
	require.Empty(t, c.Damaged)
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Data, logDir, "lost+found", "x"), nil, 0o600))
	_, err = Open(cfg, slog.New(slog.DiscardHandler))
	require.True(t, IsDamage(err), "%v", err)
}
