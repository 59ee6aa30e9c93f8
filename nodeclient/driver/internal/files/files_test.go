package files

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	require.NoError(t, err)
	return info.Mode().Perm()
}

func touch(t *testing.T, path string, mode fs.FileMode) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Chmod(path, mode))
	return path
}

// A database that replaces another one is open to the same people.
func TestInherit(t *testing.T) {
	dir := t.TempDir()
	old, fresh := touch(t, filepath.Join(dir, "old"), 0o640), touch(t, filepath.Join(dir, "fresh"), 0o600)
	require.NoError(t, Inherit(fresh, old))
	require.Equal(t, fs.FileMode(0o640), mode(t, fresh))
	require.NoError(t, Inherit(fresh, filepath.Join(dir, "nothing")))
	require.Equal(t, fs.FileMode(0o640), mode(t, fresh))

	require.NoError(t, os.Mkdir(filepath.Join(dir, "olds"), 0o700))
	require.NoError(t, os.Chmod(filepath.Join(dir, "olds"), 0o750))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "news"), 0o700))
	inside := touch(t, filepath.Join(dir, "news", "CURRENT"), 0o600)
	require.NoError(t, Inherit(filepath.Join(dir, "news"), filepath.Join(dir, "olds")))
	require.Equal(t, fs.FileMode(0o750), mode(t, filepath.Join(dir, "news")))
	require.Equal(t, fs.FileMode(0o640), mode(t, inside))
}

// A link that somebody has put in the way is neither followed nor replaced.
func TestCreateFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	victim, link := touch(t, filepath.Join(dir, "victim"), 0o600), filepath.Join(dir, "link")
	for _, to := range []string{victim, filepath.Join(dir, "nothing")} {
		require.NoError(t, os.Symlink(to, link))
		_, err := Create(link)
		require.ErrorIs(t, err, fs.ErrExist)
		require.NoError(t, os.Remove(link))
	}
	require.NoFileExists(t, filepath.Join(dir, "nothing"))
	f, err := Create(link)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, Mode, mode(t, link))
}
