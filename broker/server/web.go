package server

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"xmq/broker/api"
	"xmq/broker/door"
	httpdoor "xmq/broker/door/http"
	"xmq/broker/event"
	"xmq/statedb"
	"xmq/worker"
)

// web is the HTTP server: the door's paths and the API. All timeouts are set, here and by serve, so a slow client
// holds nothing for long; bodies are limited by each handler.
func (b *Broker) web() *http.Server {
	mux := http.NewServeMux()
	d := &httpdoor.Door{Ingest: b.ingest.put, Log: b.stores.log.ID(), Limit: b.cfg.MaxIncrement, Accepts: b.ingest.accepts,
		Read: b.readOne}
	d.Routes(mux, b.cfg.HTTPAlias)
	b.api.Routes(mux)
	// no sequence, which the path would be of otherwise
	mux.HandleFunc("GET /v1/increments/batch", func(w http.ResponseWriter, r *http.Request) { nothingThere(mux, w, r) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { nothingThere(mux, w, r) })
	return &http.Server{Handler: plain(mux), ReadTimeout: time.Minute, WriteTimeout: 10 * time.Minute}
}

// plain answers paths with empty elements or dots as those that nobody has, naming the plain one when there is such:
// mux would redirect them, with an answer in HTML that loses the body of a POST in many clients.
func plain(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.URL.EscapedPath()
		clean := path.Clean("/" + sent)
		if sent == clean || sent == clean+"/" {
			mux.ServeHTTP(w, r)
			return
		}
		text := "there is nothing at this path"
		other := r.Clone(r.Context())
		other.URL.Path, other.URL.RawPath = clean, ""
		if meant := nearly(mux, other); meant != "" {
			text += ", did you mean " + meant + "?"
		}
		httpdoor.Fail(w, http.StatusNotFound, door.NotFound, text)
	})
}

// readOne is the door's reading back.
func (b *Broker) readOne(seq uint64) (event.Record, error) { return api.ReadOne(b.stores.log, seq) }

// feedBeat is how often a reader of server-sent events hears from the broker when no increment comes.
const feedBeat = 10 * time.Second

// newHandler makes what answers the API.
func (b *Broker) newHandler() *api.Handler {
	return &api.Handler{Group: b.cfg.Group, MaxIncrement: b.cfg.MaxIncrement, Log: b.stores.log, State: b.stores.state,
		Broker: asked{b}, Deciding: b.watcher.Deciding(), Temporary: IsTemporary, Now: time.Now, Beat: feedBeat}
}

// asked is the broker as the handlers of its API see it.
type asked struct{ broker *Broker }

func (a asked) Header() api.Header                               { return a.broker.header() }
func (a asked) Input() *api.Input                                { return a.broker.input() }
func (a asked) Newcomers() []worker.View                         { return a.broker.newcomers() }
func (a asked) Views(ctx context.Context) ([]worker.View, error) { return a.broker.views(ctx) }
func (a asked) Chunks(id event.DumpID) int                       { return a.broker.stores.staging.Progress(id) }
func (a asked) Alerts(views []worker.View) []api.AlertView       { return a.broker.alerts.List(views) }
func (a asked) Trim() (int, error)                               { return a.broker.trimmer.Free(true) }
func (a asked) WhyKept() string                                  { return a.broker.keeping.Why() }
func (a asked) Checked()                                         { a.broker.care.Checked() }
func (a asked) Doubts() statedb.Doubts                           { return a.broker.doubts.Held() }
func (a asked) Against(d statedb.Doubts) string                  { return a.broker.against(d) }
func (a asked) Accept() statedb.Doubts                           { return a.broker.doubts.Accept() }
func (a asked) Moved() <-chan struct{}                           { return a.broker.moved.next() }
func (a asked) Leaving() <-chan struct{}                         { return a.broker.leaving }

func (a asked) View(ctx context.Context, id string) (worker.View, bool, error) {
	return a.broker.view(ctx, id)
}

func (a asked) Order(ctx context.Context, id string, o worker.Order) (worker.OrderReply, error) {
	return a.broker.pool.Order(ctx, id, o)
}

func (a asked) Holder() (pin uint64, who string, held bool) {
	h := a.broker.keeping.Who()
	return h.Pin()
}

func (a asked) Figures() api.Figures {
	in, d := a.broker.ingest, a.broker.dispatch
	return api.Figures{MaxBytes: a.broker.trimmer.MaxBytes(), Commits: in.commits.Load(), Taken: in.took.Load(),
		Refused: d.refused.Load(), Dropped: d.dropped.Load()}
}

// nothingThere answers what no handler of mux takes: 405 when one takes the path with another method.
func nothingThere(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "/" && method != r.Method {
			allow = append(allow, method)
		}
	}
	if len(allow) == 0 {
		text := "there is nothing at this path" // which may hold a token
		if meant := nearly(mux, r); meant != "" {
			text += ", did you mean " + meant + "?"
		}
		httpdoor.Fail(w, http.StatusNotFound, door.NotFound, text)
		return
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	httpdoor.Fail(w, http.StatusMethodNotAllowed, door.Method,
		fmt.Sprintf("%.100q takes %s, not %.20q", r.URL.Path, strings.Join(allow, " or "), r.Method))
}

// nearly is the path of a handler of mux that differs from that of r by a slash or an s at its end; "" for none.
func nearly(mux *http.ServeMux, r *http.Request) string {
	bare := strings.TrimRight(r.URL.Path, "/")
	for _, near := range []string{bare, bare + "s", strings.TrimSuffix(bare, "s")} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			other := r.Clone(r.Context())
			other.Method, other.URL.Path, other.URL.RawPath = method, near, ""
			if _, pattern := mux.Handler(other); pattern != "/" && pattern != "" {
				_, meant, _ := strings.Cut(pattern, " ")
				return meant
			}
		}
	}
	return ""
}
