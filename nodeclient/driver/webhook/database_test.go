package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/internal/external"
	"xmq/nodeclient/driver/servertest/webhooktest"
)

// open opens a target on a receiver of its own, at the start of a log.
func open(t *testing.T, more string) (*webhooktest.Receiver, *external.Database, *drivertest.Log) {
	t.Helper()
	s := webhooktest.New(t)
	target, err := Open(t.Context(), s.Target(more), Options{})
	require.NoError(t, err)
	log := drivertest.NewLog(7)
	require.NoError(t, target.Seek(t.Context(), log.At()))
	return s, target, log
}

func TestTheDriverPassesTheConformanceSuite(t *testing.T) {
	for _, more := range []string{"", "&online=true"} {
		receivers := map[string]*webhooktest.Receiver{}
		drivertest.Run(t, drivertest.Factory{
			Open: func(t *testing.T, dir string) nodeclient.Database {
				if receivers[dir] == nil {
					receivers[dir] = webhooktest.New(t)
				}
				target, err := Open(t.Context(), receivers[dir].Target(more), Options{})
				require.NoError(t, err)
				require.True(t, target.Stateless())
				return target
			},
			Stateless: true,
			Topicless: true,
			Body:      func(k uint64) []byte { return strconv.AppendUint([]byte("number "), k, 10) },
			Invalid:   []byte("bad"),
			Applied: func(t *testing.T, dir string) (numbers []uint64) {
				for _, line := range receivers[dir].Bodies() {
					k, err := strconv.ParseUint(strings.TrimPrefix(line, "number "), 10, 64)
					require.NoError(t, err)
					numbers = append(numbers, k)
				}
				return numbers
			},
		})
	}
}

// Each answer has its class; what is not in the table is a FAIL (XD-20).
func TestXD20Answers(t *testing.T) {
	s, target, log := open(t, "&timeout=200ms")
	for _, c := range []struct {
		status           int
		state            string
		transient, fatal bool
	}{
		{400, "", false, false}, {401, "", false, false}, {404, "", false, false}, {409, "", false, false},
		{410, "", false, false}, {422, "", false, false},
		{301, "", false, false}, {307, "", false, false},
		{408, "", true, false}, {425, "", true, false}, {429, "", true, false}, {502, "", true, false},
		{503, "", true, false}, {504, "", true, false},
		{500, "", true, false}, {501, "", true, false}, {505, "", true, false}, {599, "", true, false},
		{500, "FAIL", false, false},
		{400, "RETRY", true, false}, {500, "retry", true, false}, {503, "FAIL", false, false}, {500, "FATAL", false, true},
		{503, "fatal", false, true},
		{400, "odd", false, false},
		{0, "", true, false}, // no answer
	} {
		s.Set(func(w http.ResponseWriter, r *http.Request, body string) bool {
			if body != "two" {
				return false
			}
			if c.status == 0 {
				<-r.Context().Done()
				return true
			}
			w.Header().Set("Location", s.URL()+"/elsewhere")
			w.Header().Set("Xmq-State", c.state)
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, "why \xff "+strings.Repeat("x", 1000))
			return true
		})
		before, err := target.Position(t.Context())
		require.NoError(t, err)
		items := log.Next([]byte("one"), []byte("two"), []byte("three"))
		applied, err := target.Apply(t.Context(), before, items)
		require.ErrorContains(t, err, fmt.Sprintf("webhook: increment %d: ", items[1].Pos.Seq), c)
		require.Equal(t, c.transient, nodeclient.IsTransient(err), err)
		require.Equal(t, c.fatal, nodeclient.IsFatal(err), err)
		require.Equal(t, items[0].Pos, applied)
		require.Less(t, len(err.Error()), 500)
		if c.status > 0 {
			require.ErrorContains(t, err, fmt.Sprint(c.status))
			require.ErrorContains(t, err, "why ? x")
		}
		require.Equal(t, []string{"one"}, s.Bodies())
		require.NoError(t, target.Seek(t.Context(), items[2].Pos))
	}
}

// An increment that names a time limit has that one, instead of the timeout of all others.
func TestARequestHasTheTimeItsIncrementNames(t *testing.T) {
	for _, c := range []struct {
		timeout string
		limit   time.Duration
		says    string
	}{
		{"100ms", event.NoLimit, ""}, {"100ms", time.Minute, ""}, {"1h", time.Second, "no answer in 1s"}, {"100ms", 0,
			"no answer in 100ms"},
	} {
		s, target, log := open(t, "&timeout="+c.timeout)
		s.Set(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
			late := time.After(500 * time.Millisecond)
			if c.says != "" {
				late = nil // never
			}
			select {
			case <-late:
				return false
			case <-r.Context().Done():
				return true
			}
		})
		before := log.At()
		record, chain := event.EncodeRecord(nil, before.Seq+1, 1, before.Chain, event.Draft{Body: []byte("x"),
			Headers: event.Headers{Limit: c.limit}})
		item := event.Item{Pos: event.Position{Log: before.Log, Seq: before.Seq + 1, Chain: chain}, Record: record}
		_, err := target.Apply(t.Context(), before, []event.Item{item})
		if c.says == "" {
			require.NoError(t, err, c)
			continue
		}
		require.True(t, nodeclient.IsTransient(err), err)
		require.ErrorContains(t, err, c.says)
	}
}

// A lost answer means that the same request comes again, with the same key: at least once.
func TestALostAnswerMeansAgain(t *testing.T) {
	s, target, log := open(t, "")
	s.Set(func(_ http.ResponseWriter, _ *http.Request, body string) bool {
		s.Keep(body)
		panic(http.ErrAbortHandler)
	})
	before := log.At()
	items := log.Next([]byte("a"))
	applied, err := target.Apply(t.Context(), before, items)
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, before, applied)
	s.Heal()
	_, err = target.Apply(t.Context(), before, items)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(s.Bodies()), 2)
	keys := map[string]bool{}
	for _, r := range s.Seen() {
		if r.Header.Get("Xmq-Op") == "" {
			keys[r.Header.Get("Idempotency-Key")] = true
		}
	}
	require.Equal(t, map[string]bool{items[0].Pos.Log.String() + "/1": true}, keys)
}

// apply sends one increment with headers and returns the request the receiver saw.
func apply(t *testing.T, s *webhooktest.Receiver, target *external.Database, d event.Draft) (*http.Request, string,
	error) {
	t.Helper()
	var got string
	s.Set(func(_ http.ResponseWriter, _ *http.Request, body string) bool { got = body; return true })
	before, err := target.Position(t.Context())
	require.NoError(t, err)
	record, chain := event.EncodeRecord(nil, before.Seq+1, 1e18, before.Chain, d)
	pos := event.Position{Log: before.Log, Seq: before.Seq + 1, Chain: chain}
	_, err = target.Apply(t.Context(), before, []event.Item{{Pos: pos, Record: record}})
	seen := s.Seen()
	return seen[len(seen)-1], got, err
}

func TestAnIncrementIsAPostWithItsContentType(t *testing.T) {
	s, target, _ := open(t, "")
	r, body, err := apply(t, s, target,
		event.Draft{Body: []byte("\x00\xff\r\n"),
			Headers: event.Headers{ContentType: "text/x; a=b", Topic: "orders", Key: "k"}})
	require.NoError(t, err)
	require.Equal(t, "POST / \x00\xff\r\n", r.Method+" "+r.RequestURI+" "+body)
	for name, want := range map[string]string{"Content-Type": "text/x; a=b", "Xmq-Seq": "1", "Xmq-Log": "0000000000000007",
		"Xmq-Time":  "2001-09-09T01:46:40Z",
		"Xmq-Topic": "orders", "Xmq-Key": "k", "Idempotency-Key": "0000000000000007/1"} {
		require.Equal(t, want, r.Header.Get(name), name)
	}
	require.Empty(t, r.Header.Get("Xmq-Outside"))
}

// An increment that was skipped and is ordered all the same has its own sequence and key, and is marked.
func TestAnIncrementOutsideTheOrderIsMarked(t *testing.T) {
	s, target, _ := open(t, "")
	before, err := target.Position(t.Context())
	require.NoError(t, err)
	record, _ := event.EncodeRecord(nil, before.Seq+1, 1e18, before.Chain, event.Draft{Body: []byte("x")})
	at := event.Position{Log: before.Log, Seq: 9, Chain: 9}
	require.NoError(t, target.Seek(t.Context(), at))
	_, err = target.Apply(t.Context(), at, []event.Item{{Pos: at, Record: record, Decision: 1}})
	require.NoError(t, err)
	seen := s.Seen()
	for name, want := range map[string]string{"Xmq-Outside": "true", "Xmq-Seq": "1",
		"Idempotency-Key": "0000000000000007/1"} {
		require.Equal(t, want, seen[len(seen)-1].Header.Get(name), name)
	}
}

// The password of a file is read at every request: one that was changed is used at the next try, without a new start.
func TestThePasswordIsReadAtEveryRequest(t *testing.T) {
	s := webhooktest.New(t)
	password, wrong := "first", error(nil)
	target, err := Open(t.Context(), "webhook:"+strings.Replace(s.URL(), "://", "://xmq:old@", 1),
		Options{Password: func() (string, error) { return password, wrong }})
	require.NoError(t, err)
	require.NoError(t, target.Seek(t.Context(), event.Start(7)))
	for _, password = range []string{"first", "second"} {
		r, _, err := apply(t, s, target, event.Draft{Body: []byte("x")})
		require.NoError(t, err)
		user, sent, _ := r.BasicAuth()
		require.Equal(t, "xmq "+password, user+" "+sent)
	}
	wrong = errors.New("the file is gone")
	_, _, err = apply(t, s, target, event.Draft{Body: []byte("x")})
	require.ErrorIs(t, err, wrong)
	require.True(t, nodeclient.IsTransient(err))
}

// A whole request is replayed at the target's host, without what belongs to its first way.
func TestARequestIsReplayed(t *testing.T) {
	t.Setenv(AuthorizationEnv, "Bearer secret")
	s := webhooktest.New(t)
	target, err := Open(t.Context(), "webhook:"+s.URL()+"/base/?tenant=1", Options{})
	require.NoError(t, err)
	require.NoError(t, target.Seek(t.Context(), event.Start(7)))
	raw := "PATCH /orders/a%20b?x=1&y=%20 HTTP/1.1\r\nHost: elsewhere.example\r\nAuthorization: Basic x\r\nConnection: " +
		"X-Hop\r\nX-Hop: 1\r\nX-Kept: yes\r\nXmq-Seq: 99\r\n" +
		"Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}"
	r, body, err := apply(t, s, target,
		event.Draft{Body: []byte(raw), Headers: event.Headers{ContentType: "message/http; version=1.1"}})
	require.NoError(t, err)
	require.Equal(t, `PATCH /base/orders/a%20b?tenant=1&x=1&y=%20 {"a":1}`, r.Method+" "+r.RequestURI+" "+body)
	require.Equal(t, strings.TrimPrefix(s.URL(), "http://"), r.Host)
	for name, want := range map[string]string{"Authorization": "Bearer secret", "X-Kept": "yes", "X-Hop": "",
		"Xmq-Seq": "1", "Content-Type": "application/json"} {
		require.Equal(t, want, r.Header.Get(name), name)
	}
	r, _, err = apply(t, s, target, event.Draft{Body: []byte("DELETE /x HTTP/1.1\r\nHost: h\r\n\r\n"),
		Headers: event.Headers{ContentType: "message/http"}})
	require.NoError(t, err)
	require.Equal(t, "DELETE /base/x?tenant=1", r.Method+" "+r.RequestURI)

	for _, bad := range []string{"hello", "GET / HTTP/1.1\r\nbad header\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab",
		"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", "GET http://other.example/x HTTP/1.1\r\nHost: other.example\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"} {
		seen := len(s.Seen())
		_, _, err := apply(t, s, target, event.Draft{Body: []byte(bad), Headers: event.Headers{ContentType: "message/http"}})
		require.Error(t, err, bad)
		require.False(t, nodeclient.IsTransient(err), err)
		require.Len(t, s.Seen(), seen, "nothing was sent")
	}
}

// A replayed request reaches nothing but what lies after the target's path, however often somebody decodes it.
func TestAReplayedRequestStaysBehindTheTargetsPath(t *testing.T) {
	t.Setenv(AuthorizationEnv, "Bearer secret")
	s := webhooktest.New(t)
	target, err := Open(t.Context(), "webhook:"+s.URL()+"/base", Options{})
	require.NoError(t, err)
	require.NoError(t, target.Seek(t.Context(), event.Start(7)))
	send := func(path string) error {
		raw := "GET " + path + " HTTP/1.1\r\nHost: h\r\nX-Original-URL: /up\r\nX-Rewrite-URL: /up\r\n\r\n"
		r, _, err := apply(t, s, target, event.Draft{Body: []byte(raw), Headers: event.Headers{ContentType: "message/http"}})
		if err == nil {
			require.Equal(t, "/base"+path, r.RequestURI)
			require.Empty(t, r.Header.Get("X-Original-Url")+r.Header.Get("X-Rewrite-Url"))
		}
		return err
	}
	for _, path := range []string{"/", "/a", "/a.b/..c/c../...", "/a//b", "/a/", "/a;v=1/b", "/%C3%A4", "/100%25",
		"/a?x=../../up", "/a?x=%2e%2e%2f", "/a%20b", "/.well-known/x"} {
		require.NoError(t, send(path), path)
	}
	for _, path := range []string{"/../up", "/a/../../up", "/..", "/.", "/./x", "/a/..", "/%2e%2e/up", "/%2E%2e/up",
		"/.%2e/up", "/%2e/up", "/%252e%252e/up",
		"/%25252e%25252e/up", "//other.example/x", "//", "/..;/up", "/..;a=b/up", "/%2e%2e;/up", "/..%3b/up", `/..\up`,
		`/a\..\up`, "/a%5c..%5cup", "/a%5Cup",
		"/..%2fup", "/..%2Fup", "/..%252fup", "/a%2f..%2f..%2fup", "/%c0%ae%c0%ae/up", "/a%00/up", "/a%0d%0a",
		"/a/..%00/up"} {
		seen := len(s.Seen())
		err := send(path)
		require.ErrorContains(t, err, "cannot be replayed", path)
		require.False(t, nodeclient.IsTransient(err) || nodeclient.IsFatal(err), "the increment's own fault: %v", err)
		require.Len(t, s.Seen(), seen, "nothing was sent")
	}
}

func TestAWrongURLIsRefusedWithoutItsPassword(t *testing.T) {
	for _, u := range []string{"webhook:", "webhook:ftp://u:secret@h/", "webhook:http://u:secret@",
		"webhook:http://u:secret@h:x y/", "webhook:http://h/#a=b", "webhook:http://h/#dump=ftp://u:secret@h",
		"webhook:http://h/#online=x", "webhook:http://h/#timeout=0s", "webhook:http://h/#dump=%zz"} {
		_, err := Open(t.Context(), u, Options{})
		require.Error(t, err, u)
		require.NotContains(t, err.Error(), "secret")
		require.False(t, nodeclient.IsTransient(err), err)
	}
	s := webhooktest.New(t)
	gone := s.Target("")
	s.Close()
	_, err := Open(t.Context(), gone, Options{})
	require.True(t, nodeclient.IsTransient(err), err)
	with := strings.Replace(s.URL(), "http://", "http://u:secret@", 1)
	target, err := Open(t.Context(), "webhook:"+with, Options{})
	require.NoError(t, err)
	_, err = target.Apply(t.Context(), event.Start(7), drivertest.NewLog(7).Next([]byte("a")))
	require.True(t, nodeclient.IsTransient(err), err)
	require.NotContains(t, err.Error(), "secret")
}

// A dump that breaks off is no snapshot, and one that does not begin ends with its context.
func TestADumpThatFailsIsNone(t *testing.T) {
	s, target, _ := open(t, "")
	s.Set(func(w http.ResponseWriter, r *http.Request, _ string) bool {
		_, _ = io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	snap, err := target.Snapshot(t.Context())
	require.NoError(t, err)
	require.Error(t, snap.WriteTo(t.Context(), io.Discard))
	require.NoError(t, snap.Close())

	s, target, _ = open(t, "")
	s.Set(func(_ http.ResponseWriter, r *http.Request, _ string) bool { <-r.Context().Done(); return true })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = target.Snapshot(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestTheFormatOfASnapshotStays(t *testing.T) {
	_, target, _ := open(t, "")
	require.NoError(t, target.Seek(t.Context(), event.Position{Log: 1, Seq: 2, Chain: 3}))
	s, err := target.Snapshot(t.Context())
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, s.WriteTo(t.Context(), &b))
	require.NoError(t, s.Close())
	require.Equal(t, "XMQHOOKD\x01\x00\x00\x00", string(b.Bytes()[:12]))
}

// A receiver that says when to come again is left alone until then.
func TestRetryAfterIsObeyed(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0,
		"999999999": maxLater,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0} {
		require.Equal(t, want, later(http.Header{"Retry-After": {text}}, now), text)
	}
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer s.Close()
	target, err := Open(t.Context(), "webhook:"+s.URL, Options{})
	require.NoError(t, err)
	log := drivertest.NewLog(7)
	require.NoError(t, target.Seek(t.Context(), log.At()))
	before, items := log.At(), log.Next([]byte("x"))
	for range 3 {
		_, err = target.Apply(t.Context(), before, items)
		require.True(t, nodeclient.IsTransient(err))
		require.ErrorContains(t, err, "no request in the next 10 m 0 s")
	}
	require.Equal(t, 1, asked)
}
