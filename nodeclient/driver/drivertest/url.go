package drivertest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
)

// RefusesURL requires that a URL is refused for good, and that the error does not tell the password of the test
// servers.
func RefusesURL(t *testing.T, name string, err error) {
	t.Helper()
	require.Error(t, err, name)
	require.False(t, nodeclient.IsTransient(err), "%s: %v", name, err)
	TellsNoPassword(t, name, err)
}

// NotThereYet requires that the server of a URL may come later, and that the error does not tell the password.
func NotThereYet(t *testing.T, err error) {
	t.Helper()
	require.True(t, nodeclient.IsTransient(err), "a server that is not there may come: %v", err)
	TellsNoPassword(t, "", err)
}

// TellsNoPassword requires that the error has no part of the password of the test servers, as it is or as in a URL,
// right or changed.
func TellsNoPassword(t *testing.T, name string, err error) {
	t.Helper()
	for _, part := range []string{"word of", "word%20of", "word%21of"} {
		require.NotContains(t, err.Error(), part, name)
	}
}
