package server

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// Profiles have an address of this machine alone, and end with the broker.
func TestProfilesAreServedWhenAskedFor(t *testing.T) {
	cfg := testConfig(t)
	require.Nil(t, startBroker(t, cfg).pprof, "off by default")

	cfg = testConfig(t)
	cfg.Pprof = "127.0.0.1:0"
	r := startBroker(t, cfg)
	url := "http://" + r.pprof.Addr().String() + "/debug/pprof/"
	for _, what := range []string{"", "heap?debug=1", "goroutine?debug=1", "profile?seconds=1"} {
		res, err := http.Get(url + what)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode, what)
		require.NotEmpty(t, body, what)
	}
	res, err := http.Get("http://" + r.HTTPAddr() + "/debug/pprof/")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusNotFound, res.StatusCode, "not at the API")
	require.NoError(t, r.stop())
	_, err = http.Get(url)
	require.Error(t, err)
}

func TestProfilesAreForThisMachineAlone(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:6060", ":6060", "192.0.2.1:6060", "127.0.0.1", "db1:6060"} {
		cfg := testConfig(t)
		cfg.Pprof = addr
		require.ErrorContains(t, cfg.Validate(), "pprof", addr)
	}
	for _, addr := range []string{"", "localhost:6060", "127.0.0.1:0", "[::1]:6060"} {
		cfg := testConfig(t)
		cfg.Pprof = addr
		require.NoError(t, cfg.Validate(), addr)
	}
}
