package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"reflect"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"xmq/broker/secret"
)

// apiFlags are those of every command that asks a running broker.
func apiFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "api", Usage: "`URL` of the broker", Value: "http://127.0.0.1:8420",
			EnvVars: []string{"XMQ_API"}},
		&cli.BoolFlag{Name: "json", Usage: "answer in JSON"},
	}, more...)
}

// apiClient is the broker's HTTP side as the tools use it.
type apiClient struct {
	base  string
	name  string // base as people may read it
	http  *http.Client
	w     io.Writer // is told when an answer takes long; nil for nobody
	exact bool      // answers are printed as JSON, and stay as they came; otherwise their strings are made plain
}

func newAPI(c *cli.Context) (*apiClient, error) {
	u, err := url.Parse(c.String("api"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usage("--api %q is no URL like http://127.0.0.1:8420", secret.URL(c.String("api")))
	}
	base := strings.TrimRight(u.String(), "/")
	return &apiClient{base, secret.URL(base), &http.Client{Timeout: patience}, c.App.ErrWriter, c.Bool("json")}, nil
}

// patience is how long a broker may take for an answer; orders that read the whole log wait without end.
const patience = 30 * time.Second

// refusal is what the broker said when it refused: its sentence.
type refusal struct {
	status int
	text   string
	code   string
}

func (r *refusal) Error() string { return r.text }

// do asks and decodes the answer into out (nil for none).
func (a *apiClient) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	return a.send(ctx, method, path, "application/json", body, out)
}

// askFirst is from how many bytes of a body on the broker is asked before they are sent: it closes the connection after
// it has refused some by their length, and its answer could be lost while they are still being written.
const askFirst = 1 << 20

func (a *apiClient) send(ctx context.Context, method, path, contentType string, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	if req.ContentLength > askFirst {
		req.Header.Set("Expect", "100-continue")
	}
	if a.w != nil && a.http.Timeout > 0 && !strings.Contains(path, "wait=") {
		late := time.AfterFunc(lateAnswer, func() { fmt.Fprintf(a.w, "xmq: waiting for the broker at %s\n", a.name) })
		defer late.Stop()
	}
	res, err := a.http.Do(req)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &temporaryError{fmt.Errorf("the broker at %s has not answered within %s: look at its log and its disk", a.name,
			a.http.Timeout)}
	}
	if err != nil {
		return a.unreached(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		return a.readRefusal(res)
	}
	if out == nil {
		return nil
	}
	answer := &wholeBody{from: res.Body}
	if w, ok := out.(io.Writer); ok {
		_, err = io.Copy(w, answer)
		answer.err = cmp.Or(answer.err, err)
	} else if err = json.NewDecoder(answer).Decode(out); err == nil && !a.exact {
		makePlain(reflect.ValueOf(out))
	}
	switch {
	case err == nil:
		return nil
	case answer.err == nil: // all of it came, and is not what was asked for
		return fmt.Errorf("what answers at %s is no broker of this version (%w): look at --api", a.name, err)
	}
	if method == http.MethodGet {
		return &ioError{fmt.Errorf("the answer of the broker at %s was cut (%w): ask again", a.name, innermost(err))}
	}
	return &ioError{fmt.Errorf("the answer of the broker at %s was cut (%w): whether it did what it was told is not "+
		"known, so look before you tell it again", a.name, innermost(err))}
}

// wholeBody remembers why an answer could not be read to its end; err is nil when it could.
type wholeBody struct {
	from io.Reader
	err  error
}

func (b *wholeBody) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// lateAnswer is after how long people are told that the broker has not answered.
const lateAnswer = 2 * time.Second

// unreached says what was met instead of a broker.
func (a *apiClient) unreached(err error) error {
	cause := secret.Hide(innermost(err), a.base)
	text := cause.Error()
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case strings.Contains(text, "server_id"), strings.Contains(text, "readLoopPeekFail") && greets(a.base):
		return usage("what answers at %s is a NATS server: --api is the broker's HTTP address", a.name)
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return usage("what answers at %s speaks plain HTTP: write http:// in --api", a.name)
	case errors.As(err, &certificate):
		return fmt.Errorf("the certificate of %s is not trusted (%w): look at --api, and at SSL_CERT_FILE", a.name, cause)
	case strings.Contains(text, "malformed HTTP"),
		strings.Contains(text, "first record does not look like a TLS handshake"):
		return usage("what answers at %s is no XMQ broker (%.100s): look at --api", a.name, text)
	case errors.As(err, &name) && name.IsNotFound:
		return &temporaryError{fmt.Errorf("the name in %s is not known (%w): look at --api", a.name, cause)}
	case errors.As(err, &name):
		return &temporaryError{fmt.Errorf("the name in %s cannot be looked up now (%w): look at this machine's "+
			"resolver, and at --api", a.name, cause)}
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return &temporaryError{fmt.Errorf("the broker at %s does not answer, the connection was closed (%w): is it a "+
			"broker that listens there?", a.name, cause)}
	}
	return &temporaryError{fmt.Errorf("the broker at %s does not answer (%w): is it running?", a.name, cause)}
}

// greets reports whether a NATS server is at the address of a URL: it speaks before it is asked. net/http takes that
// for an answer or, when it comes before the request has gone out, for an error without words.
func greets(base string) bool {
	u, err := url.Parse(base)
	if err != nil {
		return false
	}
	c, err := net.DialTimeout("tcp", u.Host, lateAnswer)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(lateAnswer))
	first := make([]byte, len("INFO "))
	_, err = io.ReadFull(c, first)
	return err == nil && string(first) == "INFO "
}

// innermost is the cause at the end of a chain of errors, without the words each layer has put in front.
func innermost(err error) error {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err
}

// readRefusal is the *refusal that the broker answered, as trouble that may pass when the broker says that it is.
func (a *apiClient) readRefusal(res *http.Response) error {
	var e struct{ Error, Code string }
	b, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20)) // what is there is shown
	if json.Unmarshal(b, &e) != nil || e.Error == "" {
		other := fmt.Errorf("what answers at %s is no broker of this version (%s): look at --api", a.name,
			plain(res.Status))
		if res.StatusCode >= http.StatusInternalServerError { // of a proxy whose broker is away, too
			return &temporaryError{other}
		}
		return usage("%v", other)
	}
	if res.StatusCode == http.StatusBadRequest && strings.Contains(e.Error, "unknown field") {
		e.Error = "the broker is older than this tool and does not know what it was asked: upgrade the broker first, " +
			"or use its own tool (" + e.Error + ")"
	}
	refused := &refusal{res.StatusCode, plain(e.Error), e.Code}
	if res.StatusCode == http.StatusServiceUnavailable { // the broker is busy, starts or ends
		return &temporaryError{refused}
	}
	return refused
}

// show prints v as JSON with --json, else calls table with a writer that aligns columns at tabs.
func show(c *cli.Context, v any, table func(w io.Writer)) error {
	if c.Bool("json") {
		return writeJSON(c, v)
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// oneArg returns the one argument a command needs.
func oneArg(c *cli.Context, name string) (string, error) {
	if c.NArg() != 1 {
		return "", usage("%s needs one argument, %s", c.Command.HelpName, name)
	}
	return c.Args().First(), nil
}

// operator is who gives orders, for the audit list.
func operator() string {
	host, _ := os.Hostname()
	if u, err := user.Current(); err == nil {
		return u.Username + "@" + host
	}
	return "unknown@" + host
}

// progress writes how far something is to w, at most every half second, once it has taken a second, and only when
// w is a terminal.
type progress struct {
	w     io.Writer
	began time.Time
	last  time.Time
	shown bool
}

func newProgress(w io.Writer) *progress {
	p := &progress{began: time.Now()}
	if terminal(w) {
		p.w = raw(w)
	}
	return p
}

// terminal reports whether somebody looks at w.
func terminal(w io.Writer) bool {
	f, ok := raw(w).(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// during shows that f, which says nothing itself, is still at work.
func (p *progress) during(what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	defer p.end()
	for {
		select {
		case err := <-done:
			return err
		case <-clock.C:
			p.say("%s: %d s", what, int(time.Since(p.began).Seconds()))
		}
	}
}

func (p *progress) say(format string, args ...any) {
	now := time.Now()
	if p.w == nil || now.Sub(p.began) < time.Second || now.Sub(p.last) < 500*time.Millisecond {
		return
	}
	p.last, p.shown = now, true
	fmt.Fprint(p.w, "\r\x1b[K", plain(fmt.Sprintf(format, args...)))
}

func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
