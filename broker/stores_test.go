package broker

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// A data directory of ours is closed to other users, and a line says so; one of somebody else is refused.
func TestTheDataDirectoryIsOursAlone(t *testing.T) {
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, closeDir(dir, log))
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	require.Contains(t, said.String(), "level=WARN")
	require.Contains(t, said.String(), "mode=0755")

	said.Reset()
	require.NoError(t, closeDir(dir, log))
	require.Empty(t, said.String(), "said once")

	foreign := "/" // of root
	if os.Geteuid() == 0 {
		foreign = dir
		require.NoError(t, os.Chown(dir, 65534, -1))
	}
	before, err := os.Stat(foreign)
	require.NoError(t, err)
	err = closeDir(foreign, log)
	require.ErrorIs(t, err, ErrConfig)
	require.ErrorContains(t, err, "belongs to user")
	after, err := os.Stat(foreign)
	require.NoError(t, err)
	require.Equal(t, before.Mode(), after.Mode())
}

// A directory with anything in it that is not the broker's is refused as it is: its mode is its owner's business.
func TestAForeignDirectoryKeepsItsMode(t *testing.T) {
	cfg := testConfig(t)
	cfg.Data = t.TempDir()
	require.NoError(t, os.WriteFile(cfg.Data+"/letter.txt", nil, 0o644))
	require.NoError(t, os.Chmod(cfg.Data, 0o755))
	_, err := Open(cfg, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "not ours")
	info, err := os.Stat(cfg.Data)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o755), info.Mode().Perm())
}
