// Package http is the HTTP door: one increment a POST, or many in one request as NDJSON.
//
//	POST /v1/increments         body = the increment, any bytes. Headers: Content-Type, Idempotency-Key,
//	                            Xmq-Topic, Xmq-Producer, Xmq-Origin, Xmq-Apply-Limit; Xmq-Number instead of the key,
//	                            with Xmq-Producer and, at first, Xmq-Sparse: 1. Answer: {"seq":N,"log":"..."}
//	POST /v1/increments/batch   one JSON object a line: {"body":"text"} or {"base64":"..."}, and "topic",
//	                            "content_type", "key", "producer", "origin", "apply_limit", "number", "sparse". All
//	                            lines are checked before any is taken. Answer:
//	                            {"first":N,"last":M,"count":K,"log":"...","results":[{"seq":N}, ...]};
//	                            a result may be a refusal of its own, and when all are the first one's status is answered
//	GET  /v1/increments/{seq}   the body as it came, with Xmq-Seq, Xmq-Time, Xmq-Chain, Xmq-Topic
//
// A refusal is {"error":"one sentence","code":"word","retryable":false} with status 400, 409, 413, 415, 503 or 507;
// an unknown outcome is a 503 with code "unknown", never a success. Limits are checked before a body is read. Any
// content type is taken but multipart, whose parts would be stored with their borders.
package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"xmq/broker/door"
	"xmq/broker/event"
)

// MaxBatchLines is how many increments one batch request holds.
const MaxBatchLines = 10_000

// Door is the handler of these paths.
type Door struct {
	Ingest door.Ingest
	Log    event.LogID
	Limit  int // largest body of an increment, in bytes
	// Accepts refuses a batch as a whole for one of its lines; Ingest asks again, for every door.
	Accepts door.Accepts
	// Read returns the increment with this sequence. Its error wraps ErrNotYet or ErrGone when there is none, and is a
	// *door.Refusal when it cannot be read now; its text
	// is shown to the client.
	Read func(seq uint64) (event.Record, error)
}

// Errors of Read.
var (
	ErrNotYet = errors.New("beyond the end of the log")       // 404
	ErrGone   = errors.New("before the beginning of the log") // 410
)

// Routes adds the door's paths to mux. alias, if not empty, is a further path that takes increments like
// POST /v1/increments (XN-2).
func (d *Door) Routes(mux *http.ServeMux, alias string) {
	mux.HandleFunc("POST /v1/increments", bare(d.post))
	mux.HandleFunc("POST /v1/increments/batch", bare(d.batch))
	mux.HandleFunc("GET /v1/increments/{seq}", bare(d.get))
	if alias != "" {
		mux.HandleFunc("POST "+alias, d.post)
	}
}

// bare refuses parameters: whoever writes one means something that would not be done.
func bare(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			refuse(w, door.Refuse(door.Invalid, "the parameters cannot be read: %v", err))
			return
		}
		for _, name := range slices.Sorted(maps.Keys(q)) {
			refuse(w, door.Refuse(door.Invalid, "the parameter %.40q is not known: this path takes none; what belongs "+
				"to an increment is said in headers", name))
			return
		}
		h(w, r)
	}
}

func (d *Door) post(w http.ResponseWriter, r *http.Request) {
	body, err := Read(w, r, d.Limit)
	if err != nil {
		refuse(w, err)
		return
	}
	draft := event.Draft{Body: body}
	if refused := door.SetHeaders(&draft, r.Header.Values); refused != nil {
		refuse(w, refused)
		return
	}
	out, err := d.Ingest.Wait(r.Context(), []event.Draft{draft})
	if err == nil {
		err = out[0].Err
	}
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, struct {
		Seq       uint64      `json:"seq"`
		Log       event.LogID `json:"log"`
		Duplicate bool        `json:"duplicate,omitempty"`
	}{out[0].Seq, d.Log, out[0].Duplicate})
}

// shown are the HTTP headers of a record. Empty ones are not sent.
func shown(h *event.Headers) map[string]string {
	key := door.HeaderKey
	if _, counts := h.Number(); counts {
		key = door.HeaderNumber
	}
	return map[string]string{door.HeaderContentType: h.ContentType, key: h.Key, door.HeaderTopic: h.Topic,
		door.HeaderProducer: h.Producer, door.HeaderOrigin: h.Origin, door.HeaderApplyLimit: event.FormatLimit(h.Limit)}
}

func (d *Door) batch(w http.ResponseWriter, r *http.Request) {
	if refused := door.CheckBatchHeaders(r.Header); refused != nil {
		refuse(w, refused)
		return
	}
	drafts, err := d.parse(w, r)
	if err != nil {
		refuse(w, err)
		return
	}
	out, err := d.Ingest.Wait(r.Context(), drafts)
	if err != nil {
		refuse(w, err)
		return
	}
	type result struct {
		Seq       uint64    `json:"seq,omitempty"`
		Duplicate bool      `json:"duplicate,omitempty"`
		Error     string    `json:"error,omitempty"`
		Code      door.Code `json:"code,omitempty"`
	}
	res := struct {
		First   uint64      `json:"first"`
		Last    uint64      `json:"last"`
		Count   int         `json:"count"`
		Log     event.LogID `json:"log"`
		Results []result    `json:"results"`
	}{Log: d.Log, Results: make([]result, len(out))}
	for i, o := range out {
		if refused := door.RefusalOf(o); refused != nil {
			res.Results[i] = result{Error: refused.Text, Code: refused.Code}
			continue
		}
		res.Results[i] = result{Seq: o.Seq, Duplicate: o.Duplicate}
		if res.Count++; res.First == 0 || o.Seq < res.First {
			res.First = o.Seq
		}
		res.Last = max(res.Last, o.Seq)
	}
	if res.Count == 0 {
		refuse(w, out[0].Err)
		return
	}
	answer(w, http.StatusOK, res)
}

// draftBytes is what is counted for one increment of a batch beside its line.
const draftBytes = 160

// parse reads all lines as they come, or refuses the whole request naming the line.
func (d *Door) parse(w http.ResponseWriter, r *http.Request) ([]event.Draft, error) {
	var drafts []event.Draft
	err := readLines(w, r, 4*d.Limit+1<<20, func(n int, line []byte) error {
		if len(bytes.TrimSpace(line)) == 0 {
			return nil
		}
		if len(drafts) == MaxBatchLines {
			return door.Refuse(door.TooLarge, "a batch has at most %d increments: send several", MaxBatchLines)
		}
		draft, refused := parseLine(line)
		if refused == nil {
			refused = door.Check(&draft, d.Limit)
		}
		if refused == nil {
			refused = d.Accepts.Check(draft.Body)
		}
		if refused != nil {
			return door.Refuse(refused.Code, "line %d: %s; nothing of this batch was stored", n, refused.Text)
		}
		if b, watched := r.Body.(*body); watched && !b.lease.Take(draftBytes) {
			return b.fail(door.Refuse(door.Busy, noMemory))
		}
		drafts = append(drafts, draft)
		return nil
	})
	if err == nil && len(drafts) == 0 {
		err = door.Refuse(door.Empty, "the batch holds no increment")
	}
	return drafts, err
}

func (d *Door) get(w http.ResponseWriter, r *http.Request) {
	seq, err := strconv.ParseUint(r.PathValue("seq"), 10, 64)
	if err != nil || seq == 0 {
		refuse(w, door.Refuse(door.Invalid, "%.40q is not a sequence: sequences are numbers from 1", r.PathValue("seq")))
		return
	}
	rec, err := d.Read(seq)
	switch {
	case errors.Is(err, ErrNotYet):
		Fail(w, http.StatusNotFound, door.NotFound, err.Error())
	case errors.Is(err, ErrGone):
		Fail(w, http.StatusGone, door.Gone, err.Error())
	case errors.As(err, new(*door.Refusal)):
		refuse(w, err)
	case err != nil:
		Fail(w, http.StatusInternalServerError, door.Internal, err.Error())
	default:
		h := w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("X-Content-Type-Options", "nosniff") // what a producer sent does not act in the name of this server
		h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
		h.Set("Content-Length", strconv.Itoa(len(rec.Body)))
		h.Set("Xmq-Seq", strconv.FormatUint(rec.Seq, 10))
		h.Set("Xmq-Time", time.Unix(0, rec.Time).UTC().Format(time.RFC3339Nano))
		h.Set("Xmq-Chain", rec.Chain.String())
		for name, v := range shown(&rec.Headers) {
			if v != "" {
				h.Set(name, v)
			}
		}
		_, _ = w.Write(rec.Body) // the client may be gone
	}
}

// statuses of refusals.
var statuses = map[door.Code]int{
	door.Empty: http.StatusBadRequest, door.Invalid: http.StatusBadRequest,
	door.TooLarge: http.StatusRequestEntityTooLarge,
	door.Unfit:    http.StatusUnprocessableEntity, door.TooOld: http.StatusConflict, door.KeyReused: http.StatusConflict,
	door.Confirm: http.StatusConflict, door.Jump: http.StatusConflict,
	door.Busy: http.StatusServiceUnavailable, door.Held: http.StatusServiceUnavailable,
	door.Closing:  http.StatusServiceUnavailable,
	door.Opening:  http.StatusServiceUnavailable,
	door.DiskFull: http.StatusInsufficientStorage, door.Unknown: http.StatusServiceUnavailable,
	door.Descriptors: http.StatusServiceUnavailable,
	door.Slow:        http.StatusRequestTimeout, door.Media: http.StatusUnsupportedMediaType,
}

// Refuse answers with a refusal, as the door itself does.
func Refuse(w http.ResponseWriter, r *door.Refusal) { refuse(w, r) }

func refuse(w http.ResponseWriter, err error) {
	var r *door.Refusal
	switch {
	case errors.As(err, &r):
		if r.Code == door.Busy || r.Code == door.Opening || r.Code == door.Closing || r.Code == door.Descriptors {
			w.Header().Set("Retry-After", "1")
		}
		status, known := statuses[r.Code]
		if !known {
			status = http.StatusInternalServerError
		}
		Fail(w, status, r.Code, r.Text)
	default:
		Fail(w, http.StatusInternalServerError, door.Internal, err.Error())
	}
}

// Fail answers with an error, as everything of the broker that speaks HTTP does.
func Fail(w http.ResponseWriter, status int, code door.Code, text string) {
	answer(w, status, map[string]any{"error": text, "code": code, "retryable": code.Retryable()})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
