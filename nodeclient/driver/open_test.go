package driver

import (
	"net"
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

// A character of a password that means something in a URL, and is not percent-encoded, is named as the cause, or taken
// as what it is: never is a piece of the password taken for a host, a database or a setting, tried and shown.
func TestAPasswordThatIsNoURLIsRefused(t *testing.T) {
	for _, v := range passwords {
		t.Setenv(v, "")
	}
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := dead.Addr().String()
	require.NoError(t, dead.Close())
	for scheme, database := range map[string]string{"postgres": "db", "postgresql": "db", "mysql": "db", "mariadb": "db",
		"redis": "0", "rediss": "0"} {
		for _, password := range []string{"p@secret", "p:secret", "p/secret", "p?secret", "p#secret", "p%secret", "12/secret",
			"12?secret", "12#secret", "12/se@cret", "/secret", "@secret"} {
			_, err := Open(t.Context(), "n1", scheme+"://u:"+password+"@"+addr+"/"+database, "", t.TempDir())
			require.Error(t, err)
			require.NotContains(t, err.Error(), "cret", "%s %s", scheme, password)
			if !nodeclient.IsTransient(err) {
				require.ErrorContains(t, err, "percent-encoded", "%s %s", scheme, password)
			} else { // it was read as it was meant, and nobody listens there
				require.ErrorContains(t, err, "connection refused", "%s %s", scheme, password)
			}
		}
	}
	require.False(t, slipped("postgres", "//h/d?application_name=a@b"))
	require.False(t, slipped("webhook", "https://h/@me"))
}

// A second node on the same file is refused while the first one lives.
func TestAFileBelongsToOneNode(t *testing.T) {
	dir := t.TempDir()
	for _, url := range []string{"sqlite:a", "file:b"} {
		t.Run(url, func(t *testing.T) {
			t.Parallel() // the second waits a while for the first to end
			first, err := Open(t.Context(), "n1", url, "", dir)
			require.NoError(t, err)
			_, err = Open(t.Context(), "n1", url, "", dir)
			require.ErrorIs(t, err, nodeclient.ErrTaken)
			require.ErrorContains(t, err, "node n1")
			require.NoError(t, first.Close())
			again, err := Open(t.Context(), "n1", url, "", dir)
			require.NoError(t, err)
			require.NoError(t, again.Close())
		})
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
