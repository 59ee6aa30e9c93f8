package integration

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// What is planted into every URL of a run: a password that has to be escaped, and a path that is a token.
const (
	plantedPassword = "S3cr/et+pw@1"
	plantedToken    = "T0KENINPATH"
)

// requireNoSecret looks for what was planted in every way in which it could be written.
func requireNoSecret(t *testing.T, where, text string) {
	t.Helper()
	forms := []string{plantedToken, plantedPassword, url.QueryEscape(plantedPassword), url.PathEscape(plantedPassword),
		"S3cr", "pw@1", "pw%401"}
	for _, user := range []string{"", "xmq:", "ops:"} {
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			forms = append(forms, e.EncodeToString([]byte(user+plantedPassword)))
		}
	}
	for _, form := range forms {
		require.NotContains(t, text, form, where)
	}
}

func requireHiddenArguments(t *testing.T, processes ...*process) {
	t.Helper()
	for _, p := range processes {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid))
		require.NoError(t, err)
		require.NotEmpty(t, b, p.name)
		requireNoSecret(t, "arguments of "+p.name, strings.ReplaceAll(string(b), "\x00", " "))
	}
}

// Nothing that a whole run says, anywhere, holds a password or a token of a URL that it was given.
func TestNoOutputHoldsASecret(t *testing.T) {
	s := newSite(t)
	with := func(scheme, user, host, path string) string {
		return (&url.URL{Scheme: scheme, User: url.UserPassword(user, plantedPassword), Host: host, Path: path}).String()
	}
	bus, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, Username: "xmq",
		Password:   plantedPassword,
		MaxPayload: 8 << 20, NoLog: true, NoSigs: true})
	require.NoError(t, err)
	bus.Start()
	defer func() { bus.Shutdown(); bus.WaitForShutdown() }()
	natsURL := with("nats", "xmq", bus.Addr().String(), "")
	var hooked atomic.Int64
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Xmq-Seq") == "" {
			hooked.Add(1)
		}
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "no such path: %s", r.URL.Path) // many say so
	}))
	defer refusing.Close()
	host := strings.TrimPrefix(refusing.URL, "http://")
	gone := freeAddr(t)

	broker := s.start("broker", "broker", "--data", "broker", "--nats-url", natsURL, "--http-addr", s.http, "--hooks-url",
		with("http", "ops", host, "/hook/"+plantedToken),
		"--masters", "web,away", "--watch-ballast=false", "--watch-min-free", "0", "--watch-slow-sync", "0s")
	eventually(t, func() error {
		if !strings.Contains(broker.log.String(), "ready\n") {
			return fmt.Errorf("not ready: %s", broker.log)
		}
		return nil
	})
	web := s.start("web", "node", "--id", "web", "--broker", natsURL, "--target", "webhook:"+
		with("http", "ops", host, "/"+plantedToken), "--tick", "200ms")
	away := s.start("away", "node", "--id", "away", "--broker="+natsURL, "--target", "webhook:"+
		with("http", "ops", gone, "/"+plantedToken), "--tick", "200ms")
	s.ok("a change\n", "publish")
	get := func(path string) string {
		res, err := http.Get("http://" + s.http + path)
		require.NoError(t, err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return string(b)
	}
	eventually(t, func() error { // the increment has failed, away cannot deliver it, and a hook has been refused
		if !strings.Contains(get("/v1/clients/web"), "500 Internal Server Error") || hooked.Load() == 0 ||
			!strings.Contains(broker.log.String(), "a hook has failed") ||
			!strings.Contains(away.log.String(), "connection refused") {
			return fmt.Errorf("not yet: %s\n%s", get("/v1/positions"), broker.log)
		}
		return nil
	})
	requireHiddenArguments(t, broker, web, away)

	// tools and nodes that are refused, or find nobody
	lost := s.start("lost", "node", "--id", "lost", "--broker", with("nats", "xmq", gone, ""), "--target", "file:lost.log",
		"--tick", "200ms")
	eventually(t, func() error {
		if !strings.Contains(lost.log.String(), "does not answer yet") {
			return fmt.Errorf("not yet: %s", lost.log)
		}
		return nil
	})
	requireHiddenArguments(t, lost)
	var said bytes.Buffer
	for _, words := range [][]string{
		{"positions"}, {"client", "show", "web"}, {"alerts", "--all"}, {"audit"}, {"snapshots"}, {"log", "head"},
		{"positions", "--api", with("http", "ops", s.http, "/"+plantedToken)},
		{"positions", "--api", with("http", "ops", gone, "/"+plantedToken)},
		{"positions", "--api", "http://ops:" + plantedPassword + "@" + s.http},
		{"publish", "--retry", "0s", "--api", with("http", "ops", gone, "/"+plantedToken)},
		{"dump", "--from", "web", "-o", "f", "--broker", with("nats", "nobody", bus.Addr().String(), "")},
		{"dump", "--from", "web", "-o", "f", "--broker", with("nats", "xmq", gone, "")},
		{"dump", "--from", "web", "-o", "f", "--broker", "nats://" + plantedToken + "@" + gone},
		{"dump", "--from", "web", "-o", "f", "--broker", "http://u:" + plantedPassword + "@h"},
		{"broker", "--data", "b2", "--http-addr", "127.0.0.1:0", "--nats-url", with("nats", "xmq", gone, "")},
		{"broker", "--hooks-url", with("ftp", "ops", host, "/"+plantedToken)},
		{"broker", "--data", "b3", "--http-addr", "127.0.0.1:0", "--nats-url", natsURL}, // another one serves the group
		{"node", "--id", "x", "--target", "webhook:http://u:" + plantedPassword + "@h"},
		{"node", "--id", "x", "--target", "webhook:" + refusing.URL + "/#load=" +
			url.QueryEscape(with("http", "u", gone, "/"+plantedToken))},
		{"node", "--id", "x", "--target", with("nosuch", "u", gone, "/db")},
	} {
		out, errs, code := s.tool("a change\n", words...)
		require.NotEmpty(t, out+errs, words)
		fmt.Fprintf(&said, "%q %d\n%s%s\n", words[0], code, out, errs)
		requireNoSecret(t, words[0], out+errs)
	}
	for _, scheme := range []string{"postgres", "mysql", "redis"} { // nodes that wait for their database
		p := s.start(scheme, "node", "--id", scheme, "--broker", natsURL, "--target", with(scheme, "u", gone, "/0"), "--tick",
			"200ms")
		eventually(t, func() error {
			if !strings.Contains(p.log.String(), "refused") {
				return fmt.Errorf("not yet: %s", p.log)
			}
			return nil
		})
		requireHiddenArguments(t, p)
		p.stop(t)
		requireNoSecret(t, scheme, p.log.String())
	}
	for _, path := range []string{"/v1/positions", "/v1/clients/web", "/v1/clients/away", "/v1/alerts", "/v1/audit",
		"/v1/dumps", "/v1/log"} {
		requireNoSecret(t, path, get(path))
	}
	for _, p := range []*process{broker, web, away, lost} {
		requireNoSecret(t, "the log of "+p.name, p.log.String())
		p.stop(t)
		requireNoSecret(t, "the log of "+p.name, p.log.String())
	}
	for _, shown := range []string{"ops:xxxxx@" + host + "/...", "xmq:xxxxx@"} {
		require.Contains(t, broker.log.String()+web.log.String(), shown, "what it is about is said")
	}
}
