package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"xmq/broker/api"
	"xmq/broker/door"
	httpdoor "xmq/broker/door/http"
	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/increments"
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
	for path, f := range b.routes() {
		mux.HandleFunc(path, b.answer(f))
	}
	mux.HandleFunc("GET /v1/increments", b.apiFeed)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", b.readyz)
	// no sequence, which the path would be of otherwise
	mux.HandleFunc("GET /v1/increments/batch", func(w http.ResponseWriter, r *http.Request) { nothingThere(mux, w, r) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { nothingThere(mux, w, r) })
	return &http.Server{Handler: mux, ReadTimeout: time.Minute, WriteTimeout: 10 * time.Minute}
}

// routes are the paths of the API that answer with one JSON value.
func (b *Broker) routes() map[string]func(*http.Request) (any, error) {
	return map[string]func(*http.Request) (any, error){
		"GET /v1/positions":             b.apiPositions,
		"GET /v1/clients":               b.apiPositions,
		"GET /v1/clients/{id}":          b.apiClient,
		"POST /v1/clients/{id}/{verb}":  b.apiOrder,
		"POST /v1/clients/retry":        b.apiRetryAll,
		"POST /v1/producers/{id}/reset": b.apiReset,
		"GET /v1/decisions/{seq}":       b.apiDecisions,
		"GET /v1/log":                   b.apiLog,
		"POST /v1/log/trim":             b.apiTrim,
		"POST /v1/log/accept":           b.apiAccept,
		"POST /v1/log/check":            b.apiCheck,
		"GET /v1/status":                b.apiStatus,
		"GET /v1/alerts":                b.apiAlerts,
		"POST /v1/alerts":               b.apiAlert,
		"GET /v1/audit":                 b.apiAudit,
		"GET /v1/events":                b.apiEvents,
		"GET /v1/dumps":                 b.apiDumps,
		"GET /v1/dumps/{id}":            b.apiDump,
		"POST /v1/dumps/{id}/cancel":    b.apiCancel,
		"POST /v1/dumps/{id}/drop":      b.apiDrop,
	}
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
	for _, path := range []string{bare, bare + "s", strings.TrimSuffix(bare, "s")} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			other := r.Clone(r.Context())
			other.Method, other.URL.Path, other.URL.RawPath = method, path, ""
			if _, pattern := mux.Handler(other); pattern != "/" && pattern != "" {
				_, meant, _ := strings.Cut(pattern, " ")
				return meant
			}
		}
	}
	return ""
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
func (b *Broker) answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	ask := func(r *http.Request) (any, error) {
		t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if r.Method != http.MethodGet && r.Method != http.MethodHead && (err != nil || t != "application/json") {
			return nil, door.Refuse(door.Media, "send the request with the header Content-Type: application/json")
		}
		return f(r)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := ask(r)
		if err != nil {
			failAPI(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		_ = json.NewEncoder(w).Encode(v) // the client may be gone
	}
}

// failAPI answers an error of the API.
func failAPI(w http.ResponseWriter, err error) {
	var no *door.Refusal
	var known *refused
	switch {
	case errors.As(err, &no):
		httpdoor.Refuse(w, no)
	case errors.As(err, &known):
		httpdoor.Fail(w, known.status, codes[known.status], known.text)
	case IsTemporary(err):
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

func (b *Broker) apiPositions(r *http.Request) (any, error) {
	views, err := b.views(r.Context())
	if err != nil {
		return nil, err
	}
	head := b.stores.log.Head()
	return api.Positions{Broker: b.header(), Log: head.Log, Group: b.cfg.Group, Head: head.Seq,
		First: b.stores.log.First(), Chain: head.Chain, Input: b.input(), Clients: views}, nil
}

func pathID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if err := event.CheckID(id); err != nil {
		return "", refuse(http.StatusBadRequest, "%v", err)
	}
	return id, nil
}

func (b *Broker) apiClient(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	v, known, err := b.view(r.Context(), id)
	if err == nil && !known {
		return nil, refuse(http.StatusNotFound, "there is no client %s", id)
	}
	return v, err
}

// identify tells what the broker knows of the caller of r, and what the caller says.
func identify(c api.Caller, r *http.Request) (by, via string, err error) {
	if via = cmp.Or(c.Via, c.By); len(via) > 100 {
		return "", "", refuse(http.StatusRequestEntityTooLarge, "a name has at most 100 bytes")
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return host + " (http)", via, nil
}

func (b *Broker) apiOrder(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	var o api.Order
	if err := parse(r, int64(2*b.cfg.MaxIncrement)+1<<16, &o); err != nil {
		return nil, err
	}
	if len(o.Body) > b.cfg.MaxIncrement {
		return nil, refuse(http.StatusRequestEntityTooLarge, "a body of %d bytes is above the limit of %d", len(o.Body),
			b.cfg.MaxIncrement)
	}
	if unfit := b.ingest.accepts.Check(o.Body); unfit != nil && worker.Verb(r.PathValue("verb")) == worker.Replace {
		return nil, refuse(http.StatusUnprocessableEntity, "%s", unfit.Text)
	}
	if len(o.Reason) > 1000 {
		return nil, refuse(http.StatusRequestEntityTooLarge, "a reason has at most 1000 bytes")
	}
	by, via, err := identify(o.Caller, r)
	if err != nil {
		return nil, err
	}
	verb := worker.Verb(r.PathValue("verb"))
	switch verb {
	case worker.Retry, worker.Skip, worker.Replace, worker.SeekTo, worker.Forget, worker.Redump, worker.Add, worker.Apply:
	default:
		return nil, refuse(http.StatusNotFound,
			"there is no order %.40q: add, retry, skip, replace, apply, seek, forget or redump", verb)
	}
	topics, err := event.SortTopics(o.Topics)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	limit, err := orderLimit(&o)
	if err != nil {
		return nil, err
	}
	if limit != 0 && verb != worker.Retry && verb != worker.Replace {
		return nil, refuse(http.StatusBadRequest, "%s takes no limit: retry and replace do", verb)
	}
	if moves := verb == worker.SeekTo || verb == worker.Forget || verb == worker.Redump || verb == worker.Apply; moves &&
		strings.TrimSpace(o.Reason) == "" {
		return nil, refuse(http.StatusBadRequest, "%s needs a reason: it will stand in the audit list", verb)
	}
	var record []byte
	if verb == worker.Apply {
		if record, err = b.outside(r.Context(), id, o.Seq); err != nil {
			return nil, err
		}
	}
	return b.order(r.Context(), id, worker.Order{Verb: verb, Seq: o.Seq, Record: record, Ask: !o.Confirm,
		Last: worker.Sole(id, b.stores.state.Clients()), Topics: topics, Body: o.Body, Limit: limit,
		Reason: o.Reason, By: by, Via: via})
}

// limit is the time limit of an order; 0 when it names none.
func orderLimit(o *api.Order) (time.Duration, error) {
	if o.Limit == "" {
		return 0, nil
	}
	limit, err := event.ParseLimit(o.Limit)
	if err != nil {
		return 0, refuse(http.StatusBadRequest, "%v", err)
	}
	return limit, nil
}

// apiRetryAll orders a retry for every client that has failed or is retrying, each as an order of its own for the
// increment concerned. An error of the broker ends it: the orders given before that stand.
func (b *Broker) apiRetryAll(r *http.Request) (any, error) {
	var o api.Order
	if err := parse(r, 4096, &o); err != nil {
		return nil, err
	}
	by, via, err := identify(o.Caller, r)
	if err != nil {
		return nil, err
	}
	limit, err := orderLimit(&o)
	switch {
	case err != nil:
		return nil, err
	case o.Seq != 0 || len(o.Body) > 0 || len(o.Topics) > 0:
		return nil, refuse(http.StatusBadRequest, "a retry of all clients takes a reason and a limit, nothing else")
	case len(o.Reason) > 1000:
		return nil, refuse(http.StatusRequestEntityTooLarge, "a reason has at most 1000 bytes")
	}
	views, err := b.pool.Views(r.Context())
	if err != nil {
		return nil, err
	}
	done := []api.Retried{}
	for _, v := range views {
		if !v.Stuck() {
			continue
		}
		no, err := b.pool.Order(r.Context(), v.ID, worker.Order{Verb: worker.Retry, Seq: v.LastError.Seq, Limit: limit,
			Reason: o.Reason, By: by, Via: via})
		if err != nil {
			return nil, err
		}
		done = append(done, api.Retried{Client: v.ID, Seq: v.LastError.Seq, Refused: no.Refused, To: no.To, At: api.At(no.At),
			Connected: v.Connected})
	}
	return map[string]any{"retried": done}, nil
}

func (b *Broker) order(ctx context.Context, id string, o worker.Order) (any, error) {
	a, err := b.pool.Order(ctx, id, o)
	switch {
	case err != nil:
		return nil, err
	case a.Ask:
		return nil, door.Refuse(door.Confirm, "%s", a.Refused)
	case a.Refused != "":
		return nil, refuse(http.StatusConflict, "%s", a.Refused)
	}
	return api.Ordered{Client: id, Done: string(o.Verb), Seq: a.Seq, Told: a.Told, From: a.From, To: a.To,
		At: api.At(a.At)}, nil
}

// apiReset lets a producer's numbers begin anew.
func (b *Broker) apiReset(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	var o api.Order
	if err := parse(r, 4096, &o); err != nil {
		return nil, err
	}
	by, via, err := identify(o.Caller, r)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(o.Reason) == "" || len(o.Reason) > 1000 {
		return nil, refuse(http.StatusBadRequest, "a reset needs a reason, of at most 1000 bytes")
	}
	highest, counted, err := b.stores.log.Reset(id)
	if errors.Is(err, increments.ErrNoProducer) {
		return nil, refuse(http.StatusNotFound, "%v: there is nothing to reset", err)
	}
	if err != nil {
		return nil, err
	}
	var batch statedb.Batch
	batch.Audit(statedb.Audit{Time: time.Now().UnixNano(), Verb: "reset producer", Client: id, Seq: highest,
		Reason: o.Reason, By: by, Via: via})
	if err := b.stores.state.Write(&batch); err != nil {
		return nil, err
	}
	done := api.ProducerReset{Producer: id, Done: "reset"}
	if counted {
		done.Highest = &highest
	}
	return done, nil
}

func (b *Broker) apiLog(*http.Request) (any, error) {
	st, err := b.stores.log.Stats()
	if err != nil {
		return nil, err
	}
	info := api.LogInfo{Broker: b.header(), Log: st.Head.Log, Group: b.cfg.Group, First: st.First, Head: st.Head.Seq,
		Chain: st.Head.Chain, Segments: st.Segments,
		Bytes: st.Bytes, Quarantined: append([]string{}, st.Quarantined...), SyncP99MS: float64(st.SyncP99) / 1e6,
		Rebuilt: b.stores.state.Meta().Rebuilt, MaxBytes: b.maxBytes(),
		Commits: b.ingest.commits.Load(), Taken: b.ingest.took.Load(), Refused: b.dispatch.refused.Load(),
		Dropped:    b.dispatch.dropped.Load(),
		Checkpoint: b.stores.state.Checkpoint(), Indexed: st.Indexed, IndexBytes: st.IndexBytes,
		MaxIncrement: b.cfg.MaxIncrement, Input: b.input()}
	h := b.whoHolds()
	if pin, who, held := h.pin(); held {
		info.Pin, info.Holder = &pin, who
	}
	return info, nil
}

// trimNote says what an ordered trim does not look at.
const trimNote = "what every client and every DUMP has passed was freed, whatever retention.keep_records and " +
	"retention.keep_age say"

// apiTrim frees what nobody needs now. With confirm an operator says that all clients are back after the state
// store was lost.
func (b *Broker) apiTrim(r *http.Request) (any, error) {
	var req struct {
		Confirm bool `json:"confirm"`
		api.Caller
	}
	if err := parse(r, 4096, &req); err != nil {
		return nil, err
	}
	by, via, err := identify(req.Caller, r)
	if err != nil {
		return nil, err
	}
	b.looking.Lock() // its rounds write what they read before
	defer b.looking.Unlock()
	meta := b.stores.state.Meta()
	if meta.Rebuilt && !req.Confirm {
		return nil, refuse(http.StatusConflict, "the state store was rebuilt: look at `xmq positions`, and when every "+
			"client is there run `xmq log trim --confirm`")
	}
	if meta.Rebuilt {
		var batch statedb.Batch
		meta.Rebuilt = false
		batch.PutMeta(meta)
		batch.Clear(rebuiltAlert, time.Now().UnixNano())
		batch.Audit(statedb.Audit{Time: time.Now().UnixNano(), Verb: "confirm", By: by, Via: via})
		if err := b.stores.state.Write(&batch); err != nil {
			return nil, err
		}
	}
	freed, err := b.free(true)
	note := trimNote
	if freed == 0 {
		note = "nothing was freed: " + b.whyKept()
	}
	return map[string]any{"freed_segments": freed, "first": b.stores.log.First(), "note": note}, err
}

// apiCheck reads all of the log. One check runs at a time: each of them keeps the disk busy.
func (b *Broker) apiCheck(r *http.Request) (any, error) {
	if !b.checking.TryLock() {
		return nil, door.Refuse(door.Busy, "a check of the log is running already: wait until it has ended, then try again")
	}
	defer b.checking.Unlock()
	checkpoint := b.stores.state.Checkpoint()
	rep, err := b.stores.log.Check(r.Context(), 0, nil)
	if err == nil && len(rep.Unreadable) == 0 {
		b.checked.Store(time.Now().UnixNano())
	}
	c := checkedOf(rep)
	c.Checkpoint = checkpoint.Seq
	if lost := b.stores.log.VerifyCheckpoint(checkpoint); IsDamage(lost) && !errors.Is(lost, increments.ErrQuarantined) {
		c.Missing = lost.Error()
	}
	return c, err
}

func (b *Broker) apiAlert(r *http.Request) (any, error) {
	var req struct {
		Key string `json:"key"`
		Do  string `json:"do"` // "ack" or "clear"
		api.Caller
	}
	if err := parse(r, 4096, &req); err != nil {
		return nil, err
	}
	by, via, err := identify(req.Caller, r)
	if err != nil {
		return nil, err
	}
	var batch statedb.Batch
	now := time.Now().UnixNano()
	switch req.Do {
	case "ack":
		batch.AckAlert(req.Key)
	case "clear":
		why, err := b.lasts(r.Context(), req.Key)
		if err != nil {
			return nil, err
		}
		if why != "" {
			return nil, refuse(http.StatusConflict, "the alert %.100q cannot be cleared: %s", req.Key, why)
		}
		batch.Clear(req.Key, now)
	default:
		return nil, refuse(http.StatusBadRequest, "an alert can be acked or cleared, not %.40q", req.Do)
	}
	for _, a := range b.stores.state.Alerts() {
		if a.Key == req.Key {
			batch.Audit(statedb.Audit{Time: now, Verb: req.Do + " alert", Client: a.Client, Seq: a.Seq, Alert: a.Key, By: by,
				Via: via})
			return map[string]string{"alert": req.Key, "done": req.Do}, b.stores.state.Write(&batch)
		}
	}
	return nil, refuse(http.StatusNotFound, "there is no alert %.100q", req.Key)
}

// lasts says why an alert about a client, a segment or the state store still stands; empty when it does not. Alerts
// of the broker itself come back at its next look.
func (b *Broker) lasts(ctx context.Context, key string) (why string, err error) {
	kind, about, _ := strings.Cut(key, "/")
	switch kind {
	case heldAlert:
		if len(b.doubts.Held().Witnesses) > 0 {
			return "it ends when the data is restored, or with `xmq log accept --confirm --reason TEXT`", nil
		}
	case rebuiltAlert:
		if b.stores.state.Meta().Rebuilt {
			return "it ends with `xmq log trim --confirm`", nil
		}
	case "damage":
		st, err := b.stores.log.Stats()
		if err == nil && slices.Contains(st.Quarantined, about) {
			why = "the segment is still there, set aside"
		}
		return why, err
	case "fail", "fatal", "refused", "retry", "offline", "upgrade", "join":
		v, known, err := b.pool.View(ctx, about)
		if err != nil || !known {
			return "", err
		}
		lasts := map[string]bool{"fail": v.State == statedb.Failed, "fatal": v.State == statedb.Fatal,
			"refused": v.State == statedb.NeedsDump,
			"retry":   v.LastError != nil && v.LastError.Class == "transient", "offline": v.Missed,
			"upgrade": v.LastError != nil && v.LastError.Class == "held",
			"join":    v.Join != nil && v.LastError != nil && v.LastError.Class == "join"}[kind]
		if lasts {
			why = fmt.Sprintf("client %s is %s%s, and it ends with that", about, v.State,
				map[bool]string{true: " and not connected"}[kind == "offline"])
		}
	}
	return why, nil
}

// apiAudit answers GET /v1/audit?client=ID&since=DURATION&limit=N: the newest, oldest first.
func (b *Broker) apiAudit(r *http.Request) (any, error) {
	q, err := parseRange(r, 1000)
	if err != nil {
		return nil, err
	}
	most := q.limit
	if q.client != "" || !q.since.IsZero() {
		most = math.MaxInt / 4 // those of others are passed over
	}
	kept, err := b.stores.state.Audits(most)
	all := []api.AuditView{}
	for _, a := range kept {
		if q.takes(a.Client, a.Time) {
			all = append(all, auditView(a))
		}
	}
	return all[max(0, len(all)-q.limit):], err
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
func parseRange(r *http.Request, most int) (q span, err error) {
	v := r.URL.Query()
	q.client, q.limit = v.Get("client"), most
	if s := v.Get("since"); s != "" {
		if d, bad := time.ParseDuration(s); bad == nil && d >= 0 {
			q.since = time.Now().Add(-d)
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

func troubles(all []dumpflow.Trouble) (views []api.DumpTrouble) {
	for _, t := range all {
		views = append(views, api.DumpTrouble{ID: t.ID, Text: t.Text, Time: api.At(t.Time)})
	}
	return views
}

func (b *Broker) dumpView(d dumpflow.Dump) api.DumpView {
	v := api.DumpView{ID: d.ID, Target: d.Target, Requesters: append([]string{}, d.Served...), Waiting: []string{},
		Seq: d.Pos.Seq, State: string(d.Phase),
		PauseMS: d.PauseMS, Bytes: d.Size, Chunks: b.stores.staging.Progress(d.ID), Format: d.Format, Error: d.Error,
		NotLoaded: troubles(d.NotLoaded), LeftOut: troubles(d.LeftOut)}
	if v.Bytes == 0 { // it is on its way
		v.Bytes = int64(v.Chunks) * dumpflow.ChunkSize
	}
	for _, r := range d.Requesters {
		v.Requesters, v.Waiting = append(v.Requesters, r.ID), append(v.Waiting, r.ID)
	}
	if d.OpenedAt != 0 {
		at := time.Unix(0, d.OpenedAt).UTC()
		v.Opened = &at
	}
	end := d.Ended
	if end == 0 {
		end = time.Now().UnixNano()
	}
	v.DurationMS = (end - d.Started) / 1e6
	return v
}

func (b *Broker) apiDumps(*http.Request) (any, error) {
	all := []api.DumpView{}
	for _, d := range b.stores.state.Dumps() {
		all = append(all, b.dumpView(d))
	}
	return all, nil
}

func (b *Broker) pathDump(r *http.Request) (dumpflow.Dump, error) {
	id, err := event.ParseDumpID(r.PathValue("id"))
	if err != nil {
		return dumpflow.Dump{}, refuse(http.StatusBadRequest, "%v", err)
	}
	d, known := b.stores.state.Dump(id)
	if !known {
		return d, refuse(http.StatusNotFound, "there is no DUMP %s", id)
	}
	return d, nil
}

func (b *Broker) apiDump(r *http.Request) (any, error) {
	d, err := b.pathDump(r)
	if err != nil {
		return nil, err
	}
	return b.dumpView(d), nil
}

func (b *Broker) apiCancel(r *http.Request) (any, error) { return b.endDump(r, worker.Cancel) }

// apiDrop removes a snapshot that is kept.
func (b *Broker) apiDrop(r *http.Request) (any, error) { return b.endDump(r, worker.Drop) }

func (b *Broker) endDump(r *http.Request, verb worker.Verb) (any, error) {
	var o api.Order
	if err := parse(r, 4096, &o); err != nil {
		return nil, err
	}
	d, err := b.pathDump(r)
	if err != nil {
		return nil, err
	}
	by, via, err := identify(o.Caller, r)
	if err != nil {
		return nil, err
	}
	return b.order(r.Context(), d.Target, worker.Order{Verb: verb, Dump: d.ID, Reason: o.Reason, By: by, Via: via})
}

// readOne is the door's reading back.
func (b *Broker) readOne(seq uint64) (event.Record, error) {
	recs, err := b.stores.log.Read(seq, 1, 1)
	switch {
	case errors.Is(err, increments.ErrBeyond), err == nil && len(recs) == 0:
		return event.Record{}, say(httpdoor.ErrNotYet, "there is no increment %d yet, the log ends at %d", seq,
			b.stores.log.Head().Seq)
	case errors.Is(err, increments.ErrTrimmed):
		return event.Record{}, say(httpdoor.ErrGone, "increment %d is not kept any more, the log begins at %d", seq,
			b.stores.log.First())
	case errors.Is(err, increments.ErrLater):
		return event.Record{}, door.Refuse(door.Busy, "increment %d cannot be read now, try again: %v", seq, err)
	case err != nil:
		return event.Record{}, err
	}
	return recs[0].Decode()
}
