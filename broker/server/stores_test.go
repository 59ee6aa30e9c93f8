package server

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
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
	require.NoError(t, os.WriteFile(cfg.Data+"/diary.txt", nil, 0o644))
	require.NoError(t, os.Chmod(cfg.Data, 0o755))
	_, err := Open(cfg, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "not ours")
	info, err := os.Stat(cfg.Data)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o755), info.Mode().Perm())
}

// A link to a disk that is not mounted is no place for a new log.
func TestALinkToADiskThatIsNotMountedIsNoEmptyDirectory(t *testing.T) {
	link := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Symlink(filepath.Join(t.TempDir(), "disk", "data"), link))
	_, err := prepareDir(link, true)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, "is the disk mounted?")
}

// What others put into a directory while it was open to them is not taken for ours, and not written through.
func TestWhatOthersPutIntoTheDataDirectoryIsRefused(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, write := range map[string]func(dir string) error{
		"LOCK":    func(dir string) error { _, err := disk.LockDir(dir); return err },
		"ballast": disk.AddBallast,
	} {
		dir, theirs := t.TempDir(), filepath.Join(t.TempDir(), "theirs")
		require.NoError(t, os.WriteFile(theirs, []byte("theirs"), 0o600))
		require.NoError(t, os.Symlink(theirs, filepath.Join(dir, name)))
		require.Error(t, write(dir), name)
		err := closeDir(dir, log)
		require.ErrorIs(t, err, ErrConfig)
		require.ErrorContains(t, err, name+" is no plain file")
		got, err := os.ReadFile(theirs)
		require.NoError(t, err)
		require.Equal(t, "theirs", string(got), name)
	}

	if os.Geteuid() == 0 { // others' files are made by root only
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, logDir), 0o700))
		require.NoError(t, closeDir(dir, log))
		require.NoError(t, os.Chown(filepath.Join(dir, logDir), 65534, -1))
		err := closeDir(dir, log)
		require.ErrorIs(t, err, ErrConfig)
		require.ErrorContains(t, err, "log belongs to user 65534")
	}
}
