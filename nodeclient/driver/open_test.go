package driver

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
)

func TestEachSchemeHasItsDriver(t *testing.T) {
	dir := t.TempDir()
	for url, want := range map[string]Opened{
		"sqlite:a.db":                 {Driver: "sqlite"},
		"file:a.log":                  {Driver: "file"},
		"exec:true":                   {Driver: "exec", Stateless: true},
		"exec:true?position=x":        {Driver: "exec"},
		"webhook:http://127.0.0.1:1/": {Driver: "webhook", Stateless: true},
	} {
		got, err := Open(t.Context(), "n1", url, "", dir)
		require.NoError(t, err, url)
		require.NoError(t, got.Close())
		got.Database = nil
		require.Equal(t, want, got, url)
	}
	for _, url := range []string{"", "a.db", "sqlite:", "oracle://u:secret@h/d", "u:secret@h"} {
		_, err := Open(t.Context(), "n1", url, "", dir)
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "secret")
	}
}

// Whoever writes a URL where a path belongs is told so, and its password is not repeated: nor is that of one which a
// path has made unlike a URL.
func TestAURLIsNoPath(t *testing.T) {
	for _, scheme := range []string{"sqlite", "kv", "file"} {
		_, err := Open(t.Context(), "n1", scheme+":http://u:secret@h/d", "", t.TempDir())
		require.ErrorContains(t, err, "a URL stands there")
		require.NotContains(t, err.Error(), "secret")
		_, err = Open(t.Context(), "n1", scheme+":http:/u:secret@h/d", "", t.TempDir())
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
	}
}

// A second node on the same file is refused while the first one lives.
func TestAFileBelongsToOneNode(t *testing.T) {
	dir := t.TempDir()
	for _, url := range []string{"sqlite:a", "file:b"} {
		first, err := Open(t.Context(), "n1", url, "", dir)
		require.NoError(t, err)
		_, err = Open(t.Context(), "n1", url, "", dir)
		require.ErrorIs(t, err, nodeclient.ErrTaken)
		require.ErrorContains(t, err, "node n1")
		require.NoError(t, first.Close())
		again, err := Open(t.Context(), "n1", url, "", dir)
		require.NoError(t, err)
		require.NoError(t, again.Close())
	}
}

func TestThePasswordOfAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "word")
	require.NoError(t, os.WriteFile(path, []byte("p@ss/word of:xmq\r\nsecond line"), 0o600))
	for url, want := range map[string]string{
		"postgres://xmq@h:5432/d?sslmode=disable": "postgres://xmq:p%40ss%2Fword%20of%3Axmq@h:5432/d?sslmode=disable",
		"redis://@h/0":                 "redis://:p%40ss%2Fword%20of%3Axmq@h/0",
		"webhook:https://u@h/x#load=y": "webhook:https://u:p%40ss%2Fword%20of%3Axmq@h/x#load=y",
	} {
		got, err := withPassword(url, path)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, url := range []string{"postgres://h/d", "postgres://u:secret@h/d", "sqlite:a.db", "postgres://h/d?x=a@b"} {
		_, err := withPassword(url, path)
		require.ErrorContains(t, err, "needs a target URL with a user and without a password", url)
		require.NotContains(t, err.Error(), "secret")
	}
	require.NoError(t, os.Chmod(path, 0o644))
	_, err := withPassword("postgres://u@h/d", path)
	require.ErrorContains(t, err, "chmod 600")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "none"), nil, 0o600))
	_, err = withPassword("postgres://u@h/d", filepath.Join(dir, "none"))
	require.Error(t, err)
	_, err = Open(t.Context(), "n1", "postgres://u@h/d", "nowhere", dir)
	require.ErrorContains(t, err, "nowhere")
}
