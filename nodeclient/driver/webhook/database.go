package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/external"
	"xmq/nodeclient/driver/internal/snapstream"
)

// DefaultTimeout is how long an answer to one increment may take.
const DefaultTimeout = 30 * time.Second

// Format is the name of the bytes a snapshot writes; doc.go draws them.
const Format = "webhook-dump/1"

// AuthorizationEnv is the environment variable whose value is sent as the header Authorization.
const AuthorizationEnv = "XMQ_WEBHOOK_AUTHORIZATION"

// hooks are the URLs of one target.
type hooks struct {
	client        *http.Client
	base          *url.URL
	dump, load    *url.URL // nil: none
	online        bool
	timeout       time.Duration
	authorization string
	password      func() (string, error) // of the user of base, read at every request; nil: it stands in the URL
	resume        time.Time              // until then the receiver asked to be left alone; of Apply, which is called alone
}

var _ external.Hooks = (*hooks)(nil)

// Options of Open.
type Options struct {
	// Password reads the password of the URL's user, in the place of the one in it; nil: there is none to read.
	Password func() (string, error)
}

// Open reads a webhook: URL; doc.go draws it. What an unfinished load has left is removed. An error is a wrong URL, or
// Transient when the load URL does not answer.
func Open(ctx context.Context, rawURL string, o Options) (*external.Database, error) {
	h, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	h.authorization, h.password = os.Getenv(AuthorizationEnv), o.Password
	h.client = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, IdleConnTimeout: time.Minute,
		MaxIdleConnsPerHost: 2, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return external.New(ctx, h, external.Options{Driver: "webhook",
		Format: snapstream.Format{Name: Format, Magic: "XMQHOOKD", Version: 1},
		Dumps:  h.dump != nil, Loads: h.load != nil, Online: h.online})
}

func parse(rawURL string) (*hooks, error) {
	address, own, _ := strings.Cut(strings.TrimPrefix(rawURL, "webhook:"), "#")
	h := &hooks{timeout: DefaultTimeout}
	var err error
	if h.base, err = parseURL(address); err != nil {
		return nil, fmt.Errorf("webhook: the target URL: %w", err)
	}
	values, err := url.ParseQuery(own)
	if err != nil {
		return nil, errors.New("webhook: what stands after # in the target URL cannot be read: write dump=URL&load=URL, " +
			"percent-encoded")
	}
	for key, v := range values {
		switch key {
		case "dump":
			h.dump, err = parseURL(v[0])
		case "load":
			h.load, err = parseURL(v[0])
		case "online":
			h.online, err = strconv.ParseBool(v[0])
		case "timeout":
			h.timeout, err = time.ParseDuration(v[0])
			if err == nil && h.timeout <= 0 {
				err = fmt.Errorf("it is %s", v[0])
			}
		default:
			err = errors.New("it is not known: use dump, load, online or timeout")
		}
		if err != nil {
			return nil, fmt.Errorf("webhook: %s in the target URL: %w", key, err)
		}
	}
	return h, nil
}

// parseURL reads a URL; its error does not repeat it, since it may hold a password.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("it is not http://HOST/PATH or https://HOST/PATH")
	}
	return u, nil
}

// Apply implements external.Hooks.
func (h *hooks) Apply(ctx context.Context, pos event.Position, r event.Record, outside bool) error {
	if wait := time.Until(h.resume); wait > 0 {
		return nodeclient.Transient(fmt.Errorf("the receiver asks for no request in the next %s (Retry-After)",
			units.Span(wait.Round(time.Second))))
	}
	if limit := external.Limit(&r, h.timeout); limit != event.NoLimit {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer in %s", limit))
		defer cancel()
	}
	req, err := h.request(ctx, r)
	if err != nil {
		return err
	}
	place(req.Header, pos)
	set(req.Header, "Idempotency-Key", fmt.Sprintf("%s/%d", pos.Log, r.Seq))
	if outside {
		req.Header.Set("Xmq-Outside", "true")
	}
	set(req.Header, "Xmq-Time", time.Unix(0, r.Time).UTC().Format(time.RFC3339Nano))
	set(req.Header, "Xmq-Topic", r.Topic)
	set(req.Header, "Xmq-Key", r.Key)
	return h.tell(req)
}

// tell sends a request of whose answer only the status matters.
func (h *hooks) tell(req *http.Request) error {
	body, err := h.send(req)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(body, maxAnswer)) // so that the connection can serve the next one
	_ = body.Close()                                            // what is said beside 2xx changes nothing
	return nil
}

// Empty implements external.Hooks.
func (h *hooks) Empty(ctx context.Context) (bool, error) {
	err := h.post(ctx, external.Step{Op: "empty"})
	var refused *refusal
	if errors.As(err, &refused) && refused.status == http.StatusConflict {
		return false, nil
	}
	return err == nil, err
}

// Load implements external.Hooks.
func (h *hooks) Load(ctx context.Context, s external.Step) error { return h.post(ctx, s) }

// post sends one step to the load URL.
func (h *hooks) post(ctx context.Context, s external.Step) error {
	if s.Body == nil { // a load takes as long as it takes
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, h.timeout, fmt.Errorf("no answer in %s", h.timeout))
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.load.String(), s.Body)
	if err != nil {
		return err
	}
	req.Header.Set("Xmq-Op", s.Op)
	place(req.Header, s.Pos)
	return h.tell(req)
}

// Dump implements external.Hooks.
func (h *hooks) Dump(ctx context.Context, pos event.Position) (io.ReadCloser, error) {
	reading, stop := context.WithCancelCause(context.Background())
	req, err := http.NewRequestWithContext(reading, http.MethodGet, h.dump.String(), nil)
	if err != nil {
		stop(nil)
		return nil, err
	}
	req.Header.Set("Xmq-Op", "dump")
	place(req.Header, pos)
	begun := context.AfterFunc(ctx, func() { stop(context.Cause(ctx)) })
	body, err := h.send(req)
	if !begun() {
		err = errors.Join(err, context.Cause(ctx))
	}
	if err != nil {
		stop(nil)
		return nil, nodeclient.Transient(err)
	}
	return &dumping{body, stop}, nil
}

// dumping is the body of a dump. Its Close ends the request first, so that a read that waits ends too.
type dumping struct {
	io.ReadCloser
	stop context.CancelCauseFunc
}

func (d *dumping) Close() error {
	d.stop(errors.New("the snapshot has been closed"))
	return d.ReadCloser.Close()
}
