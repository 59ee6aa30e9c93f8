package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"xmq/broker/door"
	httpdoor "xmq/broker/door/http"
	"xmq/broker/event"
	"xmq/increments"
	"xmq/statedb"
	"xmq/worker"
)

// Handler answers the paths of the API. Its fields are set before Routes; it is for concurrent use.
type Handler struct {
	Group        string
	MaxIncrement int          // largest body of an increment, in bytes
	Accepts      door.Accepts // what an order may put into the place of an increment; nil takes everything
	Log          increments.Log
	State        statedb.Store
	Broker       Broker
	// Deciding is held by whoever changes what a round of the watch computes from: its rounds write what they read
	// before.
	Deciding  sync.Locker
	Temporary func(error) bool // trouble that may pass: it is answered with Busy; nil: none is
	Now       func() time.Time
	Beat      time.Duration // how often a reader of server-sent events gets a comment while no increment comes

	checking sync.Mutex // held by a check of the log
}

// Broker is what the handlers ask of a broker besides its log and its state store, and what they order. All methods
// are for concurrent use.
type Broker interface {
	// Header says who answers.
	Header() Header
	// Input says why no increments are taken; nil while they are.
	Input() *Input
	// Figures are those that only the process knows.
	Figures() Figures
	// Holder is the sequence after which the log is kept and who keeps it; false while nobody holds anything of it.
	Holder() (pin uint64, who string, held bool)

	// Views are all clients as the outside sees them, by ID; View is one, false when there is none. They wait for the
	// workers, and end with ctx.
	Views(ctx context.Context) ([]worker.View, error)
	View(ctx context.Context, id string) (worker.View, bool, error)
	// Newcomers are nodes that nobody knows, and that live and wait: they are no clients.
	Newcomers() []worker.View
	// Order gives an operator's order and waits until its effect is durable, or ctx ends: then the outcome is unknown.
	Order(ctx context.Context, id string, o worker.Order) (worker.OrderReply, error)
	// Chunks is how many chunks of a snapshot have come.
	Chunks(id event.DumpID) int

	// Alerts are all that are kept, by key; those that stand have the texts of now. views are all clients.
	Alerts(views []worker.View) []AlertView
	// Trim frees what everybody has, whatever keep_records and keep_age say, and returns how many segments went.
	Trim() (freed int, err error)
	// WhyKept says why an ordered trim freed nothing.
	WhyKept() string
	// Checked is told that the whole log was read, and nothing could not be read.
	Checked()

	// Doubts are what speaks against the log, Against says it in words; Accept ends them, which State does not know yet.
	Doubts() statedb.Doubts
	Against(d statedb.Doubts) string
	Accept() statedb.Doubts

	// Moved is closed when the log gets longer the next time, Leaving when the broker begins to stop.
	Moved() <-chan struct{}
	Leaving() <-chan struct{}
}

// Figures are numbers of GET /v1/log that are neither in the log nor in the state store.
type Figures struct {
	MaxBytes                         int64 // limit of the log; 0 for none
	Commits, Taken, Refused, Dropped uint64
}

// Routes adds all paths of the API to mux.
func (h *Handler) Routes(mux *http.ServeMux) {
	for path, f := range h.Paths() {
		mux.HandleFunc(path, h.answer(f, parameters[path]))
	}
	mux.HandleFunc("GET /v1/increments", h.feed)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", h.readyz)
}

// parameters are those that a path of Paths knows; the others know none.
var parameters = map[string][]string{
	"GET /v1/audit":  {"client", "since", "limit"},
	"GET /v1/events": {"client", "since", "after", "limit"},
}

// Paths are the paths of the API that answer with one JSON value.
func (h *Handler) Paths() map[string]func(*http.Request) (any, error) {
	return map[string]func(*http.Request) (any, error){
		"GET /v1/positions":             h.positions,
		"GET /v1/clients":               h.positions,
		"GET /v1/clients/{id}":          h.client,
		"POST /v1/clients/{id}/{verb}":  h.orderClient,
		"POST /v1/clients/retry":        h.retryAll,
		"POST /v1/producers/{id}/reset": h.resetProducer,
		"GET /v1/decisions/{seq}":       h.decisions,
		"GET /v1/log":                   h.logInfo,
		"POST /v1/log/trim":             h.trim,
		"POST /v1/log/accept":           h.acceptLog,
		"POST /v1/log/check":            h.check,
		"GET /v1/status":                h.askStatus,
		"GET /v1/alerts":                h.alerts,
		"POST /v1/alerts":               h.changeAlert,
		"GET /v1/audit":                 h.audit,
		"GET /v1/events":                h.timeline,
		"GET /v1/dumps":                 h.dumps,
		"GET /v1/dumps/{id}":            h.dump,
		"POST /v1/dumps/{id}/cancel":    h.cancelDump,
		"POST /v1/dumps/{id}/drop":      h.dropDump,
	}
}

// refused is an error of the API with its status.
type refused struct {
	status int
	text   string
}

func (r *refused) Error() string { return r.text }

// codes are those of the statuses with which the API refuses.
var codes = map[int]door.Code{
	http.StatusBadRequest: door.Invalid, http.StatusNotFound: door.NotFound, http.StatusConflict: door.Conflict,
	http.StatusGone:                  door.Gone,
	http.StatusRequestEntityTooLarge: door.TooLarge, http.StatusUnprocessableEntity: door.Unfit,
}

func refuse(status int, format string, args ...any) error {
	return &refused{status, fmt.Sprintf(format, args...)}
}

// answer turns a function into a handler: its value as JSON, its error in the shape of the doors'. Orders are sent as
// JSON: no page can make a browser send that unasked.
func (h *Handler) answer(f func(*http.Request) (any, error), known []string) http.HandlerFunc {
	ask := func(r *http.Request) (any, error) {
		if _, err := query(r, known...); err != nil {
			return nil, err
		}
		t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if r.Method != http.MethodGet && r.Method != http.MethodHead && (err != nil || t != "application/json") {
			return nil, door.Refuse(door.Media, "send the request with the header Content-Type: application/json")
		}
		return f(r)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := ask(r)
		if err != nil {
			h.fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		_ = json.NewEncoder(w).Encode(v) // the client may be gone
	}
}

// fail answers an error of the API.
func (h *Handler) fail(w http.ResponseWriter, err error) {
	var no *door.Refusal
	var known *refused
	switch {
	case errors.As(err, &no):
		httpdoor.Refuse(w, no)
	case errors.As(err, &known):
		httpdoor.Fail(w, known.status, codes[known.status], known.text)
	case h.Temporary != nil && h.Temporary(err):
		httpdoor.Refuse(w, door.Refuse(door.Busy, "%v", err))
	default:
		httpdoor.Fail(w, http.StatusInternalServerError, door.Internal, err.Error())
	}
}

// parse reads the JSON of an API request, at most limit bytes.
func parse(r *http.Request, limit int64, into any) error {
	var object json.RawMessage
	body := json.NewDecoder(http.MaxBytesReader(nil, r.Body, limit))
	err := body.Decode(&object)
	if err == nil {
		if _, more := body.Token(); !errors.Is(more, io.EOF) { // an order that is said in halves is no order
			err = cmp.Or(more, errors.New("something follows its object"))
		}
	}
	if err == nil && !bytes.HasPrefix(object, []byte("{")) {
		err = errors.New("it is no object")
	}
	if err == nil {
		dec := json.NewDecoder(bytes.NewReader(object))
		dec.DisallowUnknownFields()
		err = dec.Decode(into)
	}
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return refuse(http.StatusRequestEntityTooLarge, "the request is above its limit of %d bytes", limit)
	}
	if no := (*door.Refusal)(nil); errors.As(err, &no) {
		return no
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "the request is not the JSON it should be: %v", err)
	}
	return nil
}

// query reads the parameters of r, of which those in known are known. One that is misspelt, stands there twice or says
// nothing is refused: the answer would be that of another question.
func query(r *http.Request, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "what follows ? cannot be read: %v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		switch {
		case len(known) == 0:
			return nil, refuse(http.StatusBadRequest, "the parameter %.40q is not known: this path takes none", name)
		case !slices.Contains(known, name):
			last := len(known) - 1
			return nil, refuse(http.StatusBadRequest, "the parameter %.40q is not known: %s and %s are", name,
				strings.Join(known[:last], ", "), known[last])
		case len(q[name]) > 1:
			return nil, refuse(http.StatusBadRequest, "the parameter %.40q stands there %d times: send it once", name,
				len(q[name]))
		case q.Get(name) == "":
			return nil, refuse(http.StatusBadRequest, "the parameter %.40q says nothing: leave it out, or send a value", name)
		}
	}
	return q, nil
}

func pathID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if err := event.CheckID(id); err != nil {
		return "", refuse(http.StatusBadRequest, "%v", err)
	}
	return id, nil
}

// identify tells what the broker knows of the caller of r, and what the caller says.
func identify(c Caller, r *http.Request) (by, via string, err error) {
	if via = cmp.Or(c.Via, c.By); len(via) > 100 {
		return "", "", refuse(http.StatusRequestEntityTooLarge, "a name has at most 100 bytes")
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return host + " (http)", via, nil
}

// span is which part of a list is asked for.
type span struct {
	client string
	since  time.Time
	limit  int
}

func (q *span) takes(client string, ns int64) bool {
	return (q.client == "" || q.client == client) && (q.since.IsZero() || ns >= q.since.UnixNano())
}

// parseRange reads which part is asked for; most is how many without a limit.
func (h *Handler) parseRange(r *http.Request, most int) (q span, err error) {
	v := r.URL.Query()
	if q.client, q.limit = v.Get("client"), most; q.client != "" {
		if err := event.CheckID(q.client); err != nil {
			return q, refuse(http.StatusBadRequest, "client: %v", err)
		}
	}
	if s := v.Get("since"); s != "" {
		if d, bad := time.ParseDuration(s); bad == nil && d >= 0 {
			q.since = h.Now().Add(-d)
		} else if q.since, bad = time.Parse(time.RFC3339, s); bad != nil {
			return q, refuse(http.StatusBadRequest,
				"since is %.40q: say how long ago (2h), or a time such as 2026-11-30T21:00:00Z", s)
		}
	}
	if s := v.Get("limit"); s != "" {
		if q.limit, err = strconv.Atoi(s); err != nil || q.limit < 1 || q.limit > 100_000 {
			return q, refuse(http.StatusBadRequest, "limit is %.40q: it is a number from 1 to 100000", s)
		}
	}
	return q, nil
}
