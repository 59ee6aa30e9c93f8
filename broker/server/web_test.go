package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/door"
)

// Every error that is answered over HTTP has one shape, whoever answers it.
func TestErrorsOfHTTPHaveOneShape(t *testing.T) {
	r := startBroker(t, testConfig(t))
	r.fill(1)
	for _, c := range []struct {
		method, path, kind, body, host string
		status                         int
		code                           door.Code
	}{
		{"GET", "/v1/clients/nobody", "", "", "", 404, door.NotFound},
		{"GET", "/v1/clients/NO", "", "", "", 400, door.Invalid},
		{"GET", "/v1/dumps/0000000000000001", "", "", "", 404, door.NotFound},
		{"GET", "/v1/dumps/x", "", "", "", 400, door.Invalid},
		{"GET", "/v1/increments/9", "", "", "", 404, door.NotFound},
		{"GET", "/v1/increments?from=9", "", "", "", 404, door.NotFound},
		{"GET", "/v1/increments?from=abc", "", "", "", 400, door.Invalid},
		{"GET", "/v1/increments?since=5", "", "", "", 400, door.Invalid},
		{"GET", "/v1/increments?limit=5000", "", "", "", 400, door.Invalid},
		{"GET", "/v1/increments?limit=0", "", "", "", 400, door.Invalid},
		{"GET", "/v1/increments?wait=5", "", "", "", 400, door.Invalid},
		{"GET", "/v1/increments?wait=2h", "", "", "", 400, door.Invalid},
		{"GET", "/v1/increments?text=yes", "", "", "", 400, door.Invalid},
		{"GET", "/v1/increments?from=1&from=2", "", "", "", 400, door.Invalid},
		{"GET", "/v1/increments?from=", "", "", "", 400, door.Invalid},
		{"GET", "/v1/audit?clent=master", "", "", "", 400, door.Invalid},
		{"GET", "/v1/audit?client=NO", "", "", "", 400, door.Invalid},
		{"GET", "/v1/audit?limit=1&limit=2", "", "", "", 400, door.Invalid},
		{"GET", "/v1/audit?after=1", "", "", "", 400, door.Invalid},
		{"GET", "/v1/events?since=", "", "", "", 400, door.Invalid},
		{"GET", "/v1/events?%zz", "", "", "", 400, door.Invalid},
		{"POST", "/v1/log/trim?confirm=1", "application/json", "{}", "", 400, door.Invalid},
		{"GET", "/nowhere", "", "", "", 404, door.NotFound},
		{"POST", "//v1/increments", "", "x", "", 404, door.NotFound},
		{"GET", "/v1//log", "", "", "", 404, door.NotFound},
		{"GET", "/v1/./log", "", "", "", 404, door.NotFound},
		{"GET", "/v1/log/trim", "", "", "", 405, door.Method},
		{"PUT", "/v1/increments", "", "x", "", 405, door.Method},
		{"CONNECT", "", "", "", "127.0.0.1:22", 405, door.Method},
		{"POST", "/v1/positions", "application/json", "{}", "", 405, door.Method},
		{"GET", "/", "", "", "evil.example", 421, "host"},
		{"POST", "/v1/increments", "", "", "", 400, door.Empty},
		{"POST", "/v1/log/trim", "text/plain", "{}", "", 415, door.Media},
		{"POST", "/v1/log/trim", "application/json", "{", "", 400, door.Invalid},
		{"POST", "/v1/log/trim", "application/json", strings.Repeat(" ", 5000), "", 413, door.TooLarge},
		{"POST", "/v1/clients/nobody/retry", "application/json", "{}", "", 409, door.Conflict},
		{"POST", "/v1/clients/nobody/sing", "application/json", "{}", "", 404, door.NotFound},
		{"POST", "/v1/producers/p1/reset", "application/json", `{"reason":"x"}`, "", 404, door.NotFound},
		{"POST", "/v1/alerts", "application/json", `{"key":"x","do":"ack"}`, "", 404, door.NotFound},
	} {
		req, err := http.NewRequest(c.method, "http://"+r.HTTPAddr()+c.path, strings.NewReader(c.body))
		require.NoError(t, err)
		req.Host = c.host
		req.Header.Set("Content-Type", c.kind)
		res, err := http.DefaultTransport.RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, c.status, res.StatusCode, "%s %s", c.method, c.path)
		require.Equal(t, "application/json", res.Header.Get("Content-Type"), c.path)
		var said map[string]any
		require.NoError(t, json.NewDecoder(res.Body).Decode(&said), c.path)
		require.NoError(t, res.Body.Close())
		require.NotEmpty(t, said["error"], c.path)
		require.Equal(t, string(c.code), said["code"], c.path)
		require.Equal(t, false, said["retryable"], c.path)
		require.Len(t, said, 3, c.path)
		require.Equal(t, c.status == 405, res.Header.Get("Allow") != "", c.path)
	}
}

// A path that is wrong by a slash or an s at its end is answered with the right one, and with nothing of what was sent.
func TestAPathThatIsNearlyRightIsNamed(t *testing.T) {
	r := startBroker(t, testConfig(t))
	for path, want := range map[string]string{
		"/v1/increment": "did you mean /v1/increments?", "/v1/increments/": "did you mean /v1/increments?",
		"/v1/position":        "did you mean /v1/positions?",
		"/v1/clients/secret/": "did you mean /v1/clients/{id}?", "/v1/elsewhere": "there is nothing at this path\"",
	} {
		w := httptest.NewRecorder()
		r.web().Handler.ServeHTTP(w, httptest.NewRequest("PUT", path, nil))
		require.Equal(t, http.StatusNotFound, w.Code, path)
		require.Contains(t, w.Body.String(), want)
		require.NotContains(t, w.Body.String(), "secret")
	}
}

// A parameter that a path does not know is refused by name on every path of the API: a look that was misspelt answers
// nothing else.
func TestUnknownParametersAreRefusedEverywhere(t *testing.T) {
	r := startBroker(t, testConfig(t))
	seen := 0
	for pattern := range r.api.Paths() {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.NewReplacer("{id}", "master", "{verb}", "retry", "{seq}", "1").Replace(path)
		req, err := http.NewRequest(method, "http://"+r.HTTPAddr()+path+"?sicne=1h", strings.NewReader("{}"))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultTransport.RoundTrip(req)
		require.NoError(t, err)
		var said struct{ Error, Code string }
		require.NoError(t, json.NewDecoder(res.Body).Decode(&said), pattern)
		require.NoError(t, res.Body.Close())
		require.Equal(t, 400, res.StatusCode, pattern)
		require.Equal(t, string(door.Invalid), said.Code, pattern)
		require.Contains(t, said.Error, `"sicne"`, pattern)
		seen++
	}
	require.Greater(t, seen, 15)
}
