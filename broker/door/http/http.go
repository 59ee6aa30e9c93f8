// Package http is the HTTP door: one increment a POST, or many in one request as NDJSON.
//
//	POST /v1/increments         body = the increment, any bytes. Headers: Content-Type, Idempotency-Key,
//	                            Xmq-Topic, Xmq-Producer, Xmq-Origin. Answer: {"seq":N,"log":"..."}
//	POST /v1/increments/batch   one JSON object a line: {"body":"text"} or {"base64":"..."}, and "topic",
//	                            "content_type", "key", "producer", "origin". All lines are checked before any is
//	                            taken. Answer: {"first":N,"last":M,"count":K,"log":"...","results":[{"seq":N}, ...]}
//	GET  /v1/increments/{seq}   the body as it came, with Xmq-Seq, Xmq-Time, Xmq-Chain, Xmq-Topic
//
// A refusal is {"error":"one sentence","code":"word"} with status 400, 409, 413, 415, 503 or 507. Limits are checked before
// a body is read.
package http

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
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
	// Read returns the increment with this sequence. Its error is a *door.Refusal with ErrNotYet or ErrGone inside.
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
	mux.HandleFunc("POST /v1/increments", d.post)
	mux.HandleFunc("POST /v1/increments/batch", d.batch)
	mux.HandleFunc("GET /v1/increments/{seq}", d.get)
	if alias != "" {
		mux.HandleFunc("POST "+alias, d.post)
	}
}

func (d *Door) post(w http.ResponseWriter, r *http.Request) {
	body, err := read(w, r, d.Limit)
	if err != nil {
		refuse(w, err)
		return
	}
	draft := event.Draft{Headers: event.Headers{Topic: r.Header.Get("Xmq-Topic"), ContentType: r.Header.Get("Content-Type"),
		Origin: r.Header.Get("Xmq-Origin"), Producer: r.Header.Get("Xmq-Producer"), Key: r.Header.Get("Idempotency-Key")}, Body: body}
	out, err := d.Ingest.Wait(r.Context(), []event.Draft{draft})
	if err == nil && out[0].Refused != nil {
		err = out[0].Refused
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

// read takes a body of at most limit bytes; a longer one that announces itself is refused unread.
func read(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	if ce := r.Header.Get("Content-Encoding"); ce != "" && ce != "identity" {
		return nil, &coding{door.Refuse(door.Invalid, "Content-Encoding %.40q is not taken: send the bytes as they are", ce)}
	}
	if r.ContentLength > int64(limit) {
		w.Header().Set("Connection", "close")
		return nil, door.Refuse(door.TooLarge, "a body of %d bytes is above the limit of %d", r.ContentLength, limit)
	}
	var buf bytes.Buffer
	if r.ContentLength > 0 {
		buf.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, int64(limit)))
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return nil, door.Refuse(door.TooLarge, "the body is above the limit of %d bytes", limit)
	}
	if err != nil {
		return nil, door.Refuse(door.Invalid, "the body ended early: %v", err)
	}
	return buf.Bytes(), nil
}

type coding struct{ *door.Refusal }

// line is one line of a batch.
type line struct {
	Body        *string `json:"body"`
	Base64      *string `json:"base64"`
	Topic       string  `json:"topic"`
	ContentType string  `json:"content_type"`
	Key         string  `json:"key"`
	Producer    string  `json:"producer"`
	Origin      string  `json:"origin"`
}

func (d *Door) batch(w http.ResponseWriter, r *http.Request) {
	raw, err := read(w, r, 4*d.Limit+1<<20)
	if err != nil {
		refuse(w, err)
		return
	}
	drafts, err := d.parse(raw)
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
		if o.Refused != nil {
			res.Results[i] = result{Error: o.Refused.Text, Code: o.Refused.Code}
			continue
		}
		res.Results[i] = result{Seq: o.Seq, Duplicate: o.Duplicate}
		if res.Count++; res.First == 0 || o.Seq < res.First {
			res.First = o.Seq
		}
		res.Last = max(res.Last, o.Seq)
	}
	answer(w, http.StatusOK, res)
}

// parse reads all lines, or refuses the whole request naming the line.
func (d *Door) parse(raw []byte) ([]event.Draft, error) {
	var drafts []event.Draft
	for n := 1; len(raw) > 0; n++ {
		var b []byte
		b, raw, _ = bytes.Cut(raw, []byte("\n"))
		if len(bytes.TrimSpace(b)) == 0 {
			continue
		}
		if len(drafts) == MaxBatchLines {
			return nil, door.Refuse(door.TooLarge, "a batch has at most %d increments: send several", MaxBatchLines)
		}
		draft, err := parseLine(b)
		if err == nil {
			if refused := door.Check(&draft, d.Limit); refused != nil {
				err = refused
			}
		}
		if err != nil {
			return nil, door.Refuse(door.Invalid, "line %d: %v; nothing of this batch was stored", n, err)
		}
		drafts = append(drafts, draft)
	}
	if len(drafts) == 0 {
		return nil, door.Refuse(door.Empty, "the batch holds no increment")
	}
	return drafts, nil
}

func parseLine(b []byte) (event.Draft, error) {
	var l line
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return event.Draft{}, fmt.Errorf("it is not the JSON of an increment: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return event.Draft{}, errors.New("something follows the JSON object")
	}
	d := event.Draft{Headers: event.Headers{Topic: l.Topic, ContentType: l.ContentType, Origin: l.Origin, Producer: l.Producer, Key: l.Key}}
	switch {
	case l.Body != nil && l.Base64 != nil, l.Body == nil && l.Base64 == nil:
		return d, errors.New("it needs either body or base64")
	case l.Body != nil:
		d.Body = []byte(*l.Body)
	default:
		body, err := base64.StdEncoding.DecodeString(*l.Base64)
		if err != nil {
			return d, fmt.Errorf("base64: %w", err)
		}
		d.Body = body
	}
	return d, nil
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
		fail(w, http.StatusNotFound, "not_found", err.Error())
	case errors.Is(err, ErrGone):
		fail(w, http.StatusGone, "gone", err.Error())
	case err != nil:
		fail(w, http.StatusInternalServerError, "internal", err.Error())
	default:
		h := w.Header()
		h.Set("Content-Type", "application/octet-stream")
		if rec.ContentType != "" {
			h.Set("Content-Type", rec.ContentType)
		}
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Length", strconv.Itoa(len(rec.Body)))
		h.Set("Xmq-Seq", strconv.FormatUint(rec.Seq, 10))
		h.Set("Xmq-Time", time.Unix(0, rec.Time).UTC().Format(time.RFC3339Nano))
		h.Set("Xmq-Chain", rec.Chain.String())
		for name, v := range map[string]string{"Xmq-Topic": rec.Topic, "Xmq-Producer": rec.Producer, "Xmq-Origin": rec.Origin, "Idempotency-Key": rec.Key} {
			if v != "" {
				h.Set(name, v)
			}
		}
		_, _ = w.Write(rec.Body) // the client may be gone
	}
}

// statuses of refusals.
var statuses = map[door.Code]int{
	door.Empty: http.StatusBadRequest, door.Invalid: http.StatusBadRequest, door.TooLarge: http.StatusRequestEntityTooLarge,
	door.TooOld: http.StatusConflict, door.Busy: http.StatusServiceUnavailable, door.Closing: http.StatusServiceUnavailable,
	door.DiskFull: http.StatusInsufficientStorage, door.Unknown: http.StatusServiceUnavailable,
}

func refuse(w http.ResponseWriter, err error) {
	var r *door.Refusal
	var c *coding
	switch {
	case errors.As(err, &c):
		fail(w, http.StatusUnsupportedMediaType, string(c.Code), c.Text)
	case errors.As(err, &r):
		if r.Code == door.Busy || r.Code == door.Closing {
			w.Header().Set("Retry-After", "1")
		}
		fail(w, statuses[r.Code], string(r.Code), r.Text)
	default:
		fail(w, http.StatusInternalServerError, "internal", err.Error())
	}
}

func fail(w http.ResponseWriter, status int, code, text string) {
	answer(w, status, map[string]string{"error": text, "code": code})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
