package http

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/increments/segments"
)

const limit = 1000

// fixture is the door before a real log.
type fixture struct {
	t       testing.TB
	mu      sync.Mutex
	log     *segments.Log
	refuse  error // answered to every request
	outcome *door.Refusal
	server  *httptest.Server
}

func newFixture(t testing.TB) *fixture {
	log, err := segments.Create(disktest.NewMemory(), disk.NewStorage(disk.Options{}), segments.Options{})
	require.NoError(t, err)
	h := &fixture{t: t, log: log}
	d := &Door{Ingest: h.ingest, Log: log.ID(), Limit: limit, Read: h.read}
	mux := http.NewServeMux()
	d.Routes(mux, "/xmq")
	h.server = httptest.NewUnstartedServer(mux)
	h.server.Config.MaxHeaderBytes = 32 << 10
	h.server.Config.ReadHeaderTimeout = 5 * time.Second
	h.server.Start()
	t.Cleanup(func() { h.server.Close(); _ = log.Close() })
	return h
}

// ingest maps outcomes like the broker's.
func (h *fixture) ingest(drafts []event.Draft, done func([]event.Outcome, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse != nil {
		done(nil, h.refuse)
		return
	}
	out := make([]event.Outcome, len(drafts))
	for i, d := range drafts {
		if refused := cmp.Or(door.Check(&d, limit), h.outcome); refused != nil {
			out[i].Err = refused
			continue
		}
		o, err := h.log.Append([]event.Draft{d})
		if err != nil {
			done(nil, err)
			return
		}
		out[i] = o[0]
	}
	done(out, nil)
}

func (h *fixture) read(seq uint64) (event.Record, error) {
	if seq < 3 && h.log.Head().Seq > 100 { // as after a trim
		return event.Record{}, fmt.Errorf("increment %d: %w", seq, ErrGone)
	}
	if seq > h.log.Head().Seq {
		return event.Record{}, fmt.Errorf("increment %d: %w", seq, ErrNotYet)
	}
	all, err := h.log.Read(seq, 1, 1<<20)
	if err != nil {
		return event.Record{}, err
	}
	return all[0].Decode()
}

func (h *fixture) head() uint64 { h.mu.Lock(); defer h.mu.Unlock(); return h.log.Head().Seq }

// said is every answer of the door.
type said struct {
	Seq, First, Last uint64
	Count            int
	Log, Error, Code string
	Duplicate        bool
	Results          []struct {
		Seq         uint64
		Error, Code string
	}
}

func (h *fixture) do(method, path string, body io.Reader, headers ...string) (int, said, *http.Response) {
	h.t.Helper()
	r, err := http.NewRequest(method, h.server.URL+path, body)
	require.NoError(h.t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := h.server.Client().Do(r)
	require.NoError(h.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(h.t, err)
	resp.Body = io.NopCloser(bytes.NewReader(b))
	var s said
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		require.NoError(h.t, json.Unmarshal(b, &s), "%s", b)
	}
	return resp.StatusCode, s, resp
}

func (h *fixture) post(body io.Reader, headers ...string) (int, said) {
	h.t.Helper()
	status, s, _ := h.do("POST", "/v1/increments", body, headers...)
	return status, s
}

func (h *fixture) batch(lines ...string) (int, said) {
	h.t.Helper()
	status, s, _ := h.do("POST", "/v1/increments/batch", strings.NewReader(strings.Join(lines, "\n")))
	return status, s
}

// chunked hides the length of a body, so that it is sent in chunks.
type chunked struct{ io.Reader }

func bodies(t testing.TB) map[string][]byte {
	const seed = 2
	t.Logf("seed %d", seed)
	rng := rand.NewChaCha8([32]byte{seed})
	noise := make([]byte, limit)
	_, _ = rng.Read(noise)
	return map[string][]byte{"one": {'x'}, "NUL": {0}, "LF": {'\n'}, "0xFF": {0xFF}, "CRLF": []byte("a\r\nb\r\n"),
		"noise": noise,
		"json":  []byte(`{"a":1}`), "spaces": []byte("  \t ")}
}

// XN-1: "limit - 1, limit, limit + 1 on each door"; announced and in chunks.
func TestXN01SizeLimit(t *testing.T) {
	h := newFixture(t)
	for _, hide := range []bool{false, true} {
		for size, want := range map[int]int{limit - 1: 200, limit: 200, limit + 1: 413, 100 * limit: 413} {
			body := io.Reader(bytes.NewReader(make([]byte, size)))
			if hide {
				body = chunked{body}
			}
			before := h.head()
			status, s := h.post(body)
			require.Equal(t, want, status, "%d hidden=%v", size, hide)
			if want == 413 {
				require.Equal(t, "too_large", s.Code)
				require.Contains(t, s.Error, "limit")
				require.Equal(t, before, h.head())
			}
		}
	}
	status, _ := h.post(strings.NewReader("next"))
	require.Equal(t, 200, status)
}

// XN-2: "POST, body is the payload; JSON answer with sequence and log ID; the original's path can be set as an alias":
// "body byte for byte, chunked and with length; alias". XC-2: "the answered number reads back the same payload".
func TestXN02TheBodyIsThePayloadByteForByte(t *testing.T) {
	h := newFixture(t)
	for name, b := range bodies(t) {
		for _, path := range []string{"/v1/increments", "/xmq"} {
			for _, body := range []io.Reader{bytes.NewReader(b), chunked{bytes.NewReader(b)}} {
				status, s, _ := h.do("POST", path, body, "Content-Type", "text/x", "Xmq-Topic", "shop", "Xmq-Origin", "till 3",
					"Xmq-Producer", "p1")
				require.Equal(t, 200, status, name)
				require.Equal(t, h.head(), s.Seq)
				require.Equal(t, h.log.ID().String(), s.Log)
				status, _, resp := h.do("GET", fmt.Sprint("/v1/increments/", s.Seq), nil)
				require.Equal(t, 200, status)
				got, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Equal(t, b, got, name)
				for k, v := range map[string]string{"Content-Type": "text/x", "Xmq-Topic": "shop", "Xmq-Origin": "till 3",
					"Xmq-Producer": "p1",
					"Xmq-Seq":      fmt.Sprint(s.Seq), "Xmq-Chain": h.log.Head().Chain.String(), "X-Content-Type-Options": "nosniff",
					"Content-Security-Policy": "default-src 'none'; sandbox"} {
					require.Equal(t, v, resp.Header.Get(k), k)
				}
			}
		}
	}
}

// XC-2 for a batch: each answered number reads back its own line.
func TestXC02EveryLineOfABatchReadsBack(t *testing.T) {
	h := newFixture(t)
	var lines []string
	var want [][]byte
	for _, b := range bodies(t) {
		lines, want = append(lines, fmt.Sprintf(`{"base64":%q,"topic":"shop"}`, base64.StdEncoding.EncodeToString(b))),
			append(want, b)
	}
	lines, want = append(lines, "", `{"body":"\u00e4\ud83d\ude00\\ud800\n"}`, ""), append(want, []byte("ä😀\\ud800\n"))
	status, s := h.batch(lines...)
	require.Equal(t, 200, status)
	require.Equal(t, len(want), s.Count)
	require.Equal(t, uint64(1), s.First)
	require.Equal(t, uint64(len(want)), s.Last)
	for i, r := range s.Results {
		rec, err := h.read(r.Seq)
		require.NoError(t, err)
		require.Equal(t, want[i], rec.Body)
	}
}

// XD-5: "an empty payload is refused clearly on each door; so is a write on a nearly full disk; a failed write is never
// answered as success".
func TestXD05RefusalsAreClearAndNeverSuccess(t *testing.T) {
	h := newFixture(t)
	for _, body := range []io.Reader{nil, strings.NewReader(""), chunked{strings.NewReader("")}} {
		status, s := h.post(body)
		require.Equal(t, 400, status)
		require.Equal(t, "empty", s.Code)
	}
	for err, want := range map[error]int{
		door.Refuse(door.DiskFull, "full"): 507, door.Refuse(door.Busy, "busy"): 503,
		door.Refuse(door.Closing, "closing"): 503,
		door.Refuse(door.Unknown, "unknown"): 503, door.Refuse("new", "a code of a later version"): 500,
		errors.New("surprise"): 500,
	} {
		h.refuse = err
		for _, path := range []string{"/v1/increments", "/v1/increments/batch"} {
			status, s, resp := h.do("POST", path, strings.NewReader(`{"body":"x"}`))
			require.Equal(t, want, status)
			require.Equal(t, err.Error(), s.Error)
			require.Zero(t, s.Seq)
			require.Equal(t, s.Code == "busy" || s.Code == "closing", resp.Header.Get("Retry-After") != "")
		}
	}
	h.refuse, h.outcome = nil, door.Refuse(door.TooOld, "too old")
	status, s := h.post(strings.NewReader("x"))
	require.Equal(t, 409, status)
	require.Equal(t, "too_old", s.Code)
	status, s = h.batch(`{"body":"x"}`, `{"body":"y"}`)
	require.Equal(t, 409, status, "a batch of which nothing was stored is no success")
	require.Equal(t, "too_old", s.Code)
	h.outcome = nil
	status, s = h.post(strings.NewReader("x"))
	require.Equal(t, 200, status)
	require.Equal(t, uint64(1), s.Seq, "nothing that was refused is in the log")
}

func TestIdempotencyKeyAnswersTheFirstSequence(t *testing.T) {
	h := newFixture(t)
	_, first := h.post(strings.NewReader("a"), "Idempotency-Key", "k1")
	status, again := h.post(strings.NewReader("a"), "Idempotency-Key", "k1")
	require.Equal(t, 200, status)
	require.Equal(t, first.Seq, again.Seq)
	require.True(t, again.Duplicate)
	require.Equal(t, uint64(1), h.head())
}

// A time limit comes back as it was kept, by whichever way it came in.
func TestATimeLimitIsKeptWithItsIncrement(t *testing.T) {
	h := newFixture(t)
	status, _ := h.post(strings.NewReader("x"), "Xmq-Apply-Limit", "90s")
	require.Equal(t, 200, status)
	status, _ = h.batch(`{"body":"y","apply_limit":"none"}`, `{"body":"z"}`)
	require.Equal(t, 200, status)
	for seq, want := range []string{"1m30s", "none", ""} {
		_, _, resp := h.do("GET", fmt.Sprint("/v1/increments/", seq+1), nil)
		require.Equal(t, want, resp.Header.Get("Xmq-Apply-Limit"))
	}
	status, s := h.post(strings.NewReader("x"), "Xmq-Apply-Limit", "1")
	require.Equal(t, 400, status)
	require.Contains(t, s.Error, "Xmq-Apply-Limit: \"1\" is no time limit")
	status, s = h.batch(`{"body":"y"}`, `{"body":"x","apply_limit":"5"}`)
	require.Equal(t, 400, status)
	require.Contains(t, s.Error, `line 2: "apply_limit": `)
	status, s = h.batch(`{"body":"x","apply_limit":0}`)
	require.Equal(t, 400, status)
	require.Contains(t, s.Error, "not a string")
	require.EqualValues(t, 3, h.head())
}

func TestHeadersAreChecked(t *testing.T) {
	h := newFixture(t)
	for _, headers := range [][]string{
		{"Idempotency-Key", strings.Repeat("k", door.MaxKey+1)}, {"Idempotency-Key", "a\tb"},
		{"Idempotency-Key", "a", "Idempotency-Key", "b"},
		{"Xmq-Topic", "No Topic"}, {"Xmq-Topic", "a", "Xmq-Topic", "a"}, {"Xmq-Producer", "a.b"},
		{"Xmq-Origin", strings.Repeat("o", 256)},
		{"Content-Type", strings.Repeat("o", 256)},
	} {
		status, s := h.post(strings.NewReader("x"), headers...)
		require.Equal(t, 400, status, headers)
		require.Equal(t, "invalid", s.Code)
	}
	status, s := h.post(strings.NewReader("x"), "Content-Encoding", "gzip")
	require.Equal(t, 415, status)
	require.NotEmpty(t, s.Error)
	status, _ = h.post(strings.NewReader("x"), "Content-Encoding", "identity")
	require.Equal(t, 200, status)
	require.Equal(t, uint64(1), h.head())
}

// A header of an increment is not heeded beside a batch, so it is refused, and the field that says it is named.
func TestABatchHeedsNoHeaders(t *testing.T) {
	h := newFixture(t)
	send := func(line string, headers ...string) (int, door.Code, string) {
		req, err := http.NewRequest(http.MethodPost, h.server.URL+"/v1/increments/batch", strings.NewReader(line))
		require.NoError(t, err)
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		var said struct {
			Code  door.Code
			Error string
		}
		require.NoError(t, json.NewDecoder(res.Body).Decode(&said))
		return res.StatusCode, said.Code, said.Error
	}
	for name, field := range door.BatchFields {
		status, code, text := send(`{"body":"x"}`, name, "1")
		require.Equal(t, 400, status, name)
		require.Equal(t, door.Invalid, code)
		require.Contains(t, text, strconv.Quote(field))
		require.Contains(t, fields, field)
		require.Equal(t, name, fields[field])
	}
	require.Len(t, fields, len(door.BatchFields)+3, "body, base64 and content_type have no such header")
	status, _, text := send(`{"body":"x"}`, "Xmq-Once", "1")
	require.Equal(t, 400, status)
	require.Contains(t, text, "Xmq-Once is not known")
	_, _, text = send(`{"body":"x","number":1}`)
	require.Contains(t, text, `send "producer", or a "key" instead of "number"`)
	status, _, _ = send(`{"body":"x"}`, "Content-Type", "application/x-ndjson")
	require.Equal(t, 200, status)
	require.Equal(t, uint64(1), h.head())
}

func TestBatchIsTakenWholeOrRefusedNamingTheLine(t *testing.T) {
	h := newFixture(t)
	deep := strings.Repeat("[", 10_000)
	for bad, want := range map[string]struct {
		status int
		text   string
	}{
		`{"body":"x","body":"y"}`:      {400, `"body" stands there twice`},
		`{"body":"x","base64":"eA=="}`: {400, "either body or base64"},
		`{"topic":"a"}`:                {400, "either body or base64"},
		`{"body":"x","what":"y"}`:      {400, `"what" is not known`},
		`{"Body":"x"}`:                 {400, `"Body" is not known`},
		`{"body":""}`:                  {400, "at least one byte"},
		`{"body":"` + strings.Repeat("x", limit+1) + `"}`: {413, "above the limit"},
		`{"body":7}`:                {400, "not a string"},
		`{"body":null}`:             {400, "not a string"},
		`{"body":1e400}`:            {400, ""},
		`{"body":NaN}`:              {400, ""},
		`{"body":` + deep + `}`:     {400, "not a string"},
		deep:                        {400, "not a JSON object"},
		`{"body":"x"} {"body":"y"}`: {400, "follows"},
		`{"body":"x"}x`:             {400, "follows"},
		`{"body":"x"`:               {400, "JSON"},
		`{"body" "x"}`:              {400, "JSON"},
		`{"body":"x",}`:             {400, "JSON"},
		`"x"`:                       {400, "not a JSON object"},
		"{\"body\":\"\xff\"}":       {400, "UTF-8"},
		`{"body":"\ud800"}`:         {400, "surrogate"},
		`{"body":"\ud800\ud800"}`:   {400, "surrogate"},
		`{"body":"\udc00x"}`:        {400, "surrogate"},
		`{"base64":"!"}`:            {400, "base64"},
		`{"base64":"eA"}`:           {400, "base64"},
		`{"body":"x","topic":"A"}`:  {400, "topic"},
		`{"body":"x","content_type":"a\r\nB: c"}`: {400, "control"},
	} {
		status, s := h.batch(`{"body":"first"}`, "", bad, `{"body":"last"}`)
		require.Equal(t, want.status, status, "%.60s", bad)
		require.Contains(t, s.Error, "line 3: ")
		require.Contains(t, s.Error, want.text)
		require.Less(t, len(s.Error), 300)
		require.Zero(t, h.head(), "%.60s", bad)
	}
	status, s := h.batch("", "  ", "")
	require.Equal(t, 400, status)
	require.Equal(t, "empty", s.Code)
	status, s = h.batch(strings.Repeat("x", 4*limit+1<<20+1))
	require.Equal(t, 413, status)
	require.Equal(t, "too_large", s.Code)
	status, _ = h.batch(strings.Repeat("{\"body\":\"x\"}\n", MaxBatchLines+1))
	require.Equal(t, 413, status)
	require.Zero(t, h.head())
}

func TestGetOfWhatIsNotThere(t *testing.T) {
	h := newFixture(t)
	for range 101 {
		_, _ = h.post(strings.NewReader("x"))
	}
	for seq, want := range map[string]int{"0": 400, "-1": 400, "+1": 400, "1e3": 400, "x": 400,
		"18446744073709551616": 400, "1": 410, "2": 410, "3": 200,
		"101": 200, "102": 404, "18446744073709551615": 404, strings.Repeat("9", 5000): 400, "%00": 400, "%2e%2e": 400} {
		status, s, _ := h.do("GET", "/v1/increments/"+seq, nil)
		require.Equal(t, want, status, seq)
		require.Equal(t, want == 200, s.Error == "")
		require.Less(t, len(s.Error), 300)
	}
}

// raw sends bytes as they are and returns the status of the first answer, 0 when the connection just ends.
func (h *fixture) raw(request string, shut bool) int {
	h.t.Helper()
	c, err := net.Dial("tcp", h.server.Listener.Addr().String())
	require.NoError(h.t, err)
	defer c.Close()
	require.NoError(h.t, c.SetDeadline(time.Now().Add(2*time.Minute)))
	_, _ = io.WriteString(c, request) // the server may answer and close before it has taken all
	if shut {
		_ = c.(*net.TCPConn).CloseWrite() // it may have closed already
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// Every entry of the catalogue of bad input gets one clear refusal or the end of its connection; nothing is stored, and
// the server goes on.
func TestBadInputCatalogue(t *testing.T) {
	h := newFixture(t)
	p := "POST /v1/increments HTTP/1.1\r\nHost: x\r\n"
	for name, request := range map[string]string{
		"two lengths":              p + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
		"negative length":          p + "Content-Length: -1\r\n\r\nx",
		"length of 2^64":           p + "Content-Length: 18446744073709551616\r\n\r\nx",
		"length in hex":            p + "Content-Length: 0x1\r\n\r\nx",
		"body shorter than said":   p + "Content-Length: 5\r\n\r\nx",
		"xchunked":                 p + "Transfer-Encoding: xchunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
		"chunk size overflow":      p + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx",
		"chunk size of 2^63":       p + "Transfer-Encoding: chunked\r\n\r\n8000000000000000\r\nx",
		"chunk without end":        p + "Transfer-Encoding: chunked\r\n\r\n1\r\nx",
		"chunk size is no number":  p + "Transfer-Encoding: chunked\r\n\r\nz\r\nx\r\n0\r\n\r\n",
		"endless chunk extensions": p + "Transfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("a", 1<<20),
		"body over the limit":      p + "Content-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n",
		"space before the colon":   p + "Xmq-Topic : a\r\nContent-Length: 1\r\n\r\nx",
		"NUL in a header":          p + "Xmq-Topic: a\x00b\r\nContent-Length: 1\r\n\r\nx",
		"NUL in a header's name":   p + "Xmq\x00: a\r\nContent-Length: 1\r\n\r\nx",
		"header of 1 MiB":          p + "A: " + strings.Repeat("a", 1<<20) + "\r\nContent-Length: 1\r\n\r\nx",
		"name of 1 MiB":            p + strings.Repeat("a", 1<<20) + ": a\r\nContent-Length: 1\r\n\r\nx",
		"10,000 headers":           p + strings.Repeat("A: b\r\n", 10_000) + "Content-Length: 1\r\n\r\nx",
		"key of 64 KiB":            p + "Idempotency-Key: " + strings.Repeat("k", 64<<10) + "\r\nContent-Length: 1\r\n\r\nx",
		"URL of 64 KiB": "POST /" + strings.Repeat("u", 64<<10) +
			" HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
		"no host":          "POST /v1/increments HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
		"two hosts":        p + "Host: y\r\nContent-Length: 1\r\n\r\nx",
		"CONNECT":          "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"TRACE":            "TRACE /v1/increments HTTP/1.1\r\nHost: x\r\n\r\n",
		"PUT":              "PUT /v1/increments HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
		"NUL in the path":  "POST /v1/incre\x00ments HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
		"%00 in the path":  "POST /v1/increments%00 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
		"dots in the path": "POST /v1/../../etc/passwd HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
		"coded slash":      "POST /v1%2fincrements HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/0.9":         "POST /v1/increments\r\n",
		"HTTP/9.9":         "POST /v1/increments HTTP/9.9\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
		"h2 preface":       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"TLS hello":        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"nothing at all":   "",
		"a websocket upgrade": "GET /v1/increments HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " +
			"websocket\r\n\r\n",
		"multipart without end": p + "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100\r\n\r\n--x\r\n",
	} {
		status := h.raw(request, true)
		require.True(t, status == 0 || status >= 300, "%s: %d", name, status)
		require.Zero(t, h.head(), name)
	}
	status, s := h.post(strings.NewReader("the server lives"))
	require.Equal(t, 200, status)
	require.Equal(t, uint64(1), s.Seq)

	// Legal, if unusual, and understood in one way only.
	require.Equal(t, 200, h.raw("POST http://elsewhere/v1/increments HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
		false), "absolute form")
	require.Equal(t, uint64(2), h.head())
	// Content-Length beside Transfer-Encoding: the chunks count, and the connection is closed after them or refused.
	before := h.head()
	h.raw(p+"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nPOST /v1/increments "+
		"HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\ny", true)
	require.LessOrEqual(t, h.head(), before+2)
	if h.head() > before {
		rec, err := h.read(before + 1)
		require.NoError(t, err)
		require.Equal(t, "x", string(rec.Body))
	}
}

func TestThousandPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	h := newFixture(t)
	c, err := net.Dial("tcp", h.server.Listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	go func() {
		for i := range 1000 {
			b := fmt.Sprint(i)
			_, _ = fmt.Fprintf(c, "POST /v1/increments HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
		}
	}()
	r := bufio.NewReader(c)
	for i := range 1000 {
		resp, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		var s said
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&s))
		require.Equal(t, uint64(i+1), s.Seq)
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	rec, err := h.read(1000)
	require.NoError(t, err)
	require.Equal(t, "999", string(rec.Body))
}

func TestBodyByteByByte(t *testing.T) {
	h := newFixture(t)
	c, err := net.Dial("tcp", h.server.Listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	for _, b := range []byte("POST /v1/increments HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc") {
		_, err := c.Write([]byte{b})
		require.NoError(t, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	require.NoError(t, resp.Body.Close())
}

func FuzzHTTPIngest(f *testing.F) {
	f.Add([]byte(`{"body":"x"}`), "text/plain", "key", false)
	f.Add([]byte("{\"body\":\"\\ud83d\\ude00\"}\n{\"base64\":\"eA==\"}"), "", "", true)
	f.Add([]byte("{\"body\":\"\\ud800\\"), "", "", true)
	f.Fuzz(func(t *testing.T, body []byte, contentType, key string, batch bool) {
		var stored []event.Draft
		d := &Door{Limit: limit, Ingest: func(drafts []event.Draft, done func([]event.Outcome, error)) {
			out := make([]event.Outcome, len(drafts))
			for i, dr := range drafts {
				if refused := door.Check(&dr, limit); refused != nil {
					out[i].Err = refused
					continue
				}
				stored = append(stored, dr)
				out[i].Seq = uint64(len(stored))
			}
			done(out, nil)
		}}
		mux := http.NewServeMux()
		d.Routes(mux, "")
		path := "/v1/increments"
		if batch {
			path += "/batch"
		}
		r := httptest.NewRequest("POST", path, bytes.NewReader(body))
		r.Header["Content-Type"], r.Header["Idempotency-Key"] = []string{contentType}, []string{key}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		var s said
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &s))
		require.Equal(t, w.Code == 200, s.Error == "")
		require.Equal(t, w.Code == 200, len(stored) > 0)
		if !batch && w.Code == 200 {
			require.Equal(t, body, stored[0].Body)
		}
	})
}

// A parameter that nobody knows is refused, as GET /v1/increments does: it was written to mean something.
func TestUnknownParametersAreRefused(t *testing.T) {
	h := newFixture(t)
	for _, r := range [][2]string{{"POST", "/v1/increments"}, {"POST", "/v1/increments/batch"},
		{"GET", "/v1/increments/1"}} {
		req, err := http.NewRequestWithContext(t.Context(), r[0], h.server.URL+r[1]+"?foo=2",
			strings.NewReader(`{"body":"x"}`))
		require.NoError(t, err)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusBadRequest, res.StatusCode)
		require.Contains(t, string(text), `the parameter \"foo\" is not known`)
	}
	require.Zero(t, h.log.Head().Seq)
}
