package webhook

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"xmq/broker/event"
	"xmq/broker/secret"
	"xmq/broker/units"
	"xmq/nodeclient"
)

// maxAnswer is how much of an answer is read, in bytes.
const maxAnswer = 64 << 10

// dropped are the headers of a replayed request that belong to its own connection or to the one who sent it first, or
// that some servers take for its path.
var dropped = []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
	"Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Expect", "Authorization", "Content-Length", "X-Original-Url", "X-Rewrite-Url"}

// request makes the request that an increment is.
func (h *hooks) request(ctx context.Context, r event.Record) (*http.Request, error) {
	if media, _, err := mime.ParseMediaType(r.ContentType); err == nil && media == "message/http" {
		return h.replay(ctx, r.Body)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base.String(), bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	set(req.Header, "Content-Type", r.ContentType)
	return req, nil
}

// replay reads an increment that is a whole request, and addresses it to the host of the target.
func (h *hooks) replay(ctx context.Context, raw []byte) (*http.Request, error) {
	in, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, fmt.Errorf("its content type is message/http, but it is no HTTP request: %w", err)
	}
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, fmt.Errorf("its body is shorter than it says: %w", err)
	}
	if in.Method == http.MethodConnect || !strings.HasPrefix(in.URL.Path, "/") || in.URL.Host != "" {
		return nil, fmt.Errorf("%s %.80q cannot be replayed: write a method and a path that begins with /", in.Method,
			in.RequestURI)
	}
	path, _, _ := strings.Cut(in.RequestURI, "?")
	if err := staysBelow(path); err != nil {
		return nil, fmt.Errorf("%s %.80q cannot be replayed: %w", in.Method, in.RequestURI, err)
	}
	to := *h.base
	to.Path, to.RawPath = strings.TrimSuffix(h.base.Path, "/")+in.URL.Path, ""
	if in.URL.RawPath != "" {
		to.RawPath = strings.TrimSuffix(h.base.EscapedPath(), "/") + in.URL.EscapedPath()
	}
	to.RawQuery = joinQuery(h.base.RawQuery, in.URL.RawQuery)
	out, err := http.NewRequestWithContext(ctx, in.Method, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if len(body) == 0 {
		out.Body, out.ContentLength = http.NoBody, 0
	}
	for _, name := range append(dropped, in.Header.Values("Connection")...) {
		in.Header.Del(name)
	}
	for name := range in.Header {
		if strings.HasPrefix(name, "Xmq-") {
			in.Header.Del(name)
		}
	}
	out.Header = in.Header
	return out, nil
}

// staysBelow refuses the path of a request, as it stands in it, that some server or proxy could take for one that
// does not lie below the path of the target's URL: with this node's secret only that part of the host may be
// reached. Servers differ in how often they decode and in what they call a separator, so every reading has to stay
// below it.
func staysBelow(path string) error {
	if strings.HasPrefix(path, "//") {
		return errors.New("its path begins with //, which some servers take for another host")
	}
	for reading, first := path, true; ; first = false {
		for _, c := range []byte(reading) {
			if c < ' ' || c == 0x7f {
				return errors.New("its path holds a control character")
			}
		}
		switch {
		case strings.Contains(reading, `\`):
			return errors.New(`its path holds a \, which some servers take for a /`)
		case !utf8.ValidString(reading):
			return errors.New("its path is no UTF-8")
		case !first && strings.Count(reading, "/") > strings.Count(path, "/"):
			return errors.New("its path holds a / that is percent-encoded, which some servers decode")
		}
		for segment := range strings.SplitSeq(reading, "/") {
			if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
				return errors.New("its path holds . or .. and could leave the path of the target")
			}
		}
		next, err := url.PathUnescape(reading)
		if err != nil || next == reading { // a % that encodes nothing is one
			return nil
		}
		reading = next
	}
}

func joinQuery(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "&" + b
}

// place says where the copy stands; nothing for the zero position.
func place(header http.Header, pos event.Position) {
	if pos.Zero() {
		return
	}
	header.Set("Xmq-Seq", strconv.FormatUint(pos.Seq, 10))
	header.Set("Xmq-Log", pos.Log.String())
	header.Set("Xmq-Chain", pos.Chain.String())
}

// set sets a header that has a value.
func set(header http.Header, name, value string) {
	if value != "" {
		header.Set(name, value)
	}
}

// refusal is an answer that is not 2xx.
type refusal struct {
	status int
	text   string // the beginning of its body
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("the answer was %d %s", r.status, http.StatusText(r.status))
	if r.text != "" {
		text += ": " + r.text
	}
	return text
}

// transient is the one table of answers: these may pass. Every other one that is not 2xx is a FAIL.
func transient(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests: // it was not looked at
		return true
	}
	return status >= 500 // trouble of the receiver, or of the way to it
}

// maxLater is the longest that a receiver is left alone because it has asked for it.
const maxLater = time.Hour

// later is for how long a receiver asks to be left alone; 0 when it does not.
func later(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	wait := time.Duration(0)
	if seconds, err := strconv.Atoi(text); err == nil {
		wait = time.Duration(min(seconds, int(maxLater/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return max(0, min(wait, maxLater))
}

// send sends a request and returns the body of an answer that is 2xx. Other answers are classed; no answer is
// Transient.
func (h *hooks) send(req *http.Request) (io.ReadCloser, error) {
	if h.authorization != "" {
		req.Header.Set("Authorization", h.authorization)
	}
	if user := h.base.User; h.password != nil && user != nil && req.URL.User.String() == user.String() {
		password, err := h.password()
		if err != nil {
			return nil, nodeclient.Transient(err)
		}
		req.URL.User = url.UserPassword(user.Username(), password)
	}
	res, err := h.client.Do(req)
	if err != nil {
		var of *url.Error
		if errors.As(err, &of) { // it repeats the URL
			err = of.Err
		}
		if cause := context.Cause(req.Context()); cause != nil {
			err = cause
		}
		return nil, nodeclient.Unknown(fmt.Errorf("%s %s: %w", req.Method, secret.URL(req.URL.String()),
			secret.Hide(err, req.URL.String())))
	}
	if res.StatusCode/100 == 2 {
		return res.Body, nil
	}
	defer func() { _ = res.Body.Close() }()
	begin, _ := io.ReadAll(io.LimitReader(res.Body, 200)) // for people
	refused := &refusal{res.StatusCode, strings.ToValidUTF8(strings.TrimSpace(string(begin)), "?")}
	err = secret.Hide(fmt.Errorf("%s %s: %w", req.Method, secret.URL(req.URL.String()), refused), h.base.String(),
		req.URL.String())
	switch state := strings.ToUpper(res.Header.Get("Xmq-State")); {
	case state == "FATAL":
		return nil, nodeclient.Fatal(err)
	case state == "RETRY", state == "" && transient(res.StatusCode):
		now := time.Now()
		if wait := later(res.Header, now); wait > 0 {
			h.resume = now.Add(wait)
			err = fmt.Errorf("%w; it asks for no request in the next %s", err, units.Span(wait.Round(time.Second)))
		}
		if state == "" && res.StatusCode >= 500 && res.StatusCode != http.StatusServiceUnavailable {
			return nil, nodeclient.Unknown(err) // it may have failed after its work
		}
		return nil, nodeclient.Transient(err)
	}
	return nil, err
}
