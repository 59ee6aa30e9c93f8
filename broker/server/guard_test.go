package server

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// guardedAnswer sends one request with this Host header and these further headers, and returns the status and the
// code of the refusal.
func guardedAnswer(t *testing.T, method, addr, path, host, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+addr+path, strings.NewReader(body))
	require.NoError(t, err)
	if host != "" {
		req.Host = host
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req) // no redirect is followed
	require.NoError(t, err)
	defer res.Body.Close()
	var said struct{ Code, Error string }
	if res.StatusCode >= 400 && res.Header.Get("Content-Type") == "application/json" {
		require.NoError(t, json.NewDecoder(res.Body).Decode(&said))
		require.NotEmpty(t, said.Error, "a refusal is a sentence")
	}
	return res.StatusCode, said.Code, res.Header
}

// What a page of another origin makes a browser send is refused at every listener, whatever it is; what a program
// sends is not.
func TestPagesOfOtherOriginsChangeNothing(t *testing.T) {
	cfg := testConfig(t)
	cfg.Pprof, cfg.HTTPHosts, cfg.HTTPAlias = "127.0.0.1:0", []string{"Broker1.example.com"}, "/publicentry"
	r := startBroker(t, cfg)
	api := r.HTTPAddr()
	posts := map[string]string{"/v1/increments": "x", "/publicentry": "x", "/v1/increments/batch": `{"body":"x"}`,
		"/v1/log/check": "{}",
		"/v1/log/trim":  "{}", "/v1/clients/n1/forget": "{}", "/v1/alerts": `{"key":"x","do":"clear"}`,
		"/v1/dumps/0000000000000001/cancel": "{}"}
	browsers := map[string][]string{
		"another site":           {"Sec-Fetch-Site", "cross-site", "Origin", "http://evil.example"},
		"another port":           {"Sec-Fetch-Site", "same-site", "Origin", "http://localhost:8000"},
		"a site word alone":      {"Sec-Fetch-Site", "cross-site"},
		"an older browser":       {"Origin", "http://evil.example"},
		"a sandboxed page":       {"Origin", "null"},
		"a file":                 {"Origin", "file://"},
		"an unknown word":        {"Sec-Fetch-Site", "sideways"},
		"our name, another port": {"Origin", "http://127.0.0.1:1"},
	}
	head := r.stores.log.Head()
	for path, body := range posts {
		for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "application/json", ""} {
			for who, headers := range browsers {
				status, code, _ := guardedAnswer(t, http.MethodPost, api, path, "", body, append(headers, "Content-Type", kind)...)
				require.Equal(t, http.StatusForbidden, status, "%s by %s as %s", path, who, kind)
				require.Equal(t, "origin", code)
			}
		}
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch} {
		status, _, _ := guardedAnswer(t, method, api, "/v1/increments", "", "x", browsers["another site"]...)
		require.Equal(t, http.StatusForbidden, status, method)
	}
	require.Equal(t, head, r.stores.log.Head())

	for _, method := range []string{http.MethodGet, http.MethodHead} { // a link on another page
		for _, addr := range []string{api + "/v1/positions", api + "/readyz", r.pprof.Addr().String() + "/debug/pprof/"} {
			host, path, _ := strings.Cut(addr, "/")
			status, _, _ := guardedAnswer(t, method, host, "/"+path, "", "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode",
				"navigate")
			require.Equal(t, http.StatusOK, status, "%s %s", method, addr)
		}
	}
	for _, own := range [][]string{nil, {"Sec-Fetch-Site", "same-origin"}, {"Sec-Fetch-Site", "none"},
		{"Origin", "http://" + api}} {
		status, _, _ := guardedAnswer(t, http.MethodPost, api, "/v1/increments", "", "x", own...)
		require.Equal(t, http.StatusOK, status, own)
	}
}

// A name that was pointed at this machine by somebody else is not this server's: such a page would count as ours.
func TestOnlyOwnNamesAreServed(t *testing.T) {
	cfg := testConfig(t)
	cfg.HTTPAddr, cfg.Pprof, cfg.HTTPHosts = "localhost:0", "127.0.0.1:0", []string{"Broker1.example.com"}
	r := startBroker(t, cfg)
	_, port, err := net.SplitHostPort(r.HTTPAddr())
	require.NoError(t, err)
	for _, addr := range []string{r.HTTPAddr(), r.pprof.Addr().String()} {
		for _, host := range []string{"evil.example", "evil.example:" + port, "localhost.evil.example",
			"127.0.0.1.evil.example", "127.1", "2130706433",
			"broker1.example.com.", "broker2.example.com", "[evil]", "localhost:1:2"} {
			status, code, _ := guardedAnswer(t, http.MethodGet, addr, "/", host, "")
			require.Equal(t, http.StatusMisdirectedRequest, status, host)
			require.Equal(t, "host", code)
		}
		for _, host := range []string{"localhost", "LOCALHOST:" + port, "127.0.0.1", "127.0.0.1:99", "[::1]", "[::1]:" + port,
			"10.1.2.3", "broker1.example.com", "BROKER1.example.com:80"} {
			status, _, _ := guardedAnswer(t, http.MethodGet, addr, "/", host, "")
			require.Equal(t, http.StatusNotFound, status, host)
		}
	}
	g := newGuard(http.NotFoundHandler(), "db1.internal:8420", nil)
	require.True(t, g.named("db1.internal:8420"), "the name that is listened on")
	require.False(t, g.named(""), "a request without a Host")
}

// Every answer, also a refusal, carries the headers that keep it from other pages.
func TestEveryAnswerIsKeptFromOtherPages(t *testing.T) {
	cfg := testConfig(t)
	cfg.Pprof = "127.0.0.1:0"
	r := startBroker(t, cfg)
	r.fill(1)
	ask := func(addr, path, host string) {
		_, _, h := guardedAnswer(t, http.MethodGet, addr, path, host, "")
		for name := range guarded {
			require.NotEmpty(t, h.Get(name), "%s of %s", name, path)
		}
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'")
		require.Equal(t, "same-origin", h.Get("Cross-Origin-Resource-Policy"))
		require.Empty(t, h.Get("Access-Control-Allow-Origin"))
	}
	for _, path := range []string{"/v1/positions", "/v1/increments", "/v1/increments/1", "/v1/increments/9",
		"/v1/clients/n1", "/healthz", "/nothing", "/v1/log/trim"} {
		ask(r.HTTPAddr(), path, "")
		ask(r.HTTPAddr(), path, "evil.example")
	}
	ask(r.pprof.Addr().String(), "/debug/pprof/", "")
}

// Increments come in any content type but multipart, which is what forms with files send; orders come as JSON alone.
func TestContentTypesOfTheDoors(t *testing.T) {
	r := startBroker(t, testConfig(t))
	send := func(path, kind, body string) int {
		status, _, _ := guardedAnswer(t, http.MethodPost, r.HTTPAddr(), path, "", body, "Content-Type", kind)
		return status
	}
	for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "application/json",
		"application/octet-stream", "application/sql", "nonsense", ""} {
		require.Equal(t, http.StatusOK, send("/v1/increments", kind, "x"), kind)
		require.Equal(t, http.StatusOK, send("/v1/increments/batch", kind, `{"body":"x"}`), kind)
	}
	for _, kind := range []string{"multipart/form-data; boundary=x", "Multipart/Form-Data",
		" multipart/form-data; boundary", "multipart/mixed"} {
		require.Equal(t, http.StatusUnsupportedMediaType, send("/v1/increments", kind, "x"), kind)
		require.Equal(t, http.StatusUnsupportedMediaType, send("/v1/increments/batch", kind, `{"body":"x"}`), kind)
	}
	for _, path := range []string{"/v1/log/check", "/v1/log/trim", "/v1/clients/n1/forget", "/v1/alerts",
		"/v1/dumps/0000000000000001/cancel"} {
		for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
			""} {
			require.Equal(t, http.StatusUnsupportedMediaType, send(path, kind, "{}"), "%s as %s", path, kind)
		}
		require.NotEqual(t, http.StatusUnsupportedMediaType, send(path, "application/json; charset=utf-8", "{}"), path)
	}
}

// An order is one JSON object: what is cut, repeated or no object at all is refused, and nothing is done.
func TestAnOrderIsOneObject(t *testing.T) {
	r := startBroker(t, testConfig(t))
	for _, path := range []string{"/v1/log/trim", "/v1/alerts", "/v1/clients/master/seek", "/v1/producers/p/reset"} {
		for _, body := range []string{"", "null", "[]", "1", `"x"`, "{} {}", "{}x", "{", `{"no such field":1}`} {
			status, _, _ := guardedAnswer(t, http.MethodPost, r.HTTPAddr(), path, "", body, "Content-Type", "application/json")
			require.Equal(t, http.StatusBadRequest, status, "%s %q", path, body)
		}
	}
}
