package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"xmq/broker/door"
	httpdoor "xmq/broker/door/http"
	"xmq/broker/event"
	"xmq/increments"
)

// The bounds of GET /v1/increments; broker/door/README.md describes it.
const (
	feedLimit   = 1000             // increments of one answer
	feedDefault = 10               // when no limit is said
	feedWait    = time.Minute      // longest wait
	feedWrite   = 10 * time.Second // how long a reader of events may take for one
)

func line(rec event.Record, text bool) Line {
	l := Line{Seq: rec.Seq, Time: time.Unix(0, rec.Time).UTC(), Chain: rec.Chain, Topic: rec.Topic,
		ContentType: rec.ContentType,
		Producer:    rec.Producer, Key: rec.Key, Origin: rec.Origin, ApplyLimit: event.FormatLimit(rec.Limit)}
	if n, counts := rec.Headers.Number(); counts {
		l.Key, l.Number = "", &n
	}
	if text && utf8.Valid(rec.Body) {
		body := string(rec.Body)
		l.Text = &body
	} else {
		l.Body = rec.Body
	}
	return l
}

// reading is what a reader of the feed has asked for.
type reading struct {
	from  uint64
	limit uint64
	wait  time.Duration
	text  bool
}

// readFeed reads the parameters of GET /v1/increments, all of which are known.
func (h *Handler) readFeed(q url.Values, events bool) (reading, error) {
	head, first := h.Log.Head().Seq, h.Log.First()
	r := reading{limit: feedDefault}
	from, said := "", false
	for name := range q {
		value := q.Get(name)
		wrong := func(want string) error {
			return refuse(http.StatusBadRequest, "%s=%.40q is not %s", name, value, want)
		}
		var err error
		switch name {
		case "from":
			from, said = value, true
		case "limit":
			if r.limit, err = strconv.ParseUint(value, 10, 64); err != nil || r.limit == 0 || r.limit > feedLimit {
				return r, wrong(fmt.Sprintf("a number from 1 to %d", feedLimit))
			}
		case "wait":
			if r.wait, err = time.ParseDuration(value); err != nil || r.wait < 0 || r.wait > feedWait {
				return r, wrong("a duration of 0s to 1m, like 30s")
			}
		case "text", "control": // there are no control increments in this version: both answers to control are the same
			if value != "0" && value != "1" {
				return r, wrong("0 or 1")
			}
			r.text = r.text || name == "text" && value == "1"
		}
		if events && (name == "limit" || name == "wait") {
			return r, refuse(http.StatusBadRequest, "events have no %s: they come one by one, without end", name)
		}
	}
	r.from = max(first, head+1-min(head, r.limit))
	if events && !said {
		r.from = head + 1
	}
	if said {
		n, err := strconv.ParseUint(from, 10, 64)
		switch {
		case err != nil:
			return r, refuse(http.StatusBadRequest,
				"from=%.40q is not a sequence: write the one to begin with, or 0 for the first that is kept", from)
		case n == 0:
			n = first
		case n < first:
			return r, refuse(http.StatusGone, "increment %d is not kept any more, the log begins at %d", n, first)
		case n > head+1:
			return r, refuse(http.StatusNotFound,
				"there is no increment %d yet, the log ends at %d: a reader that stands there has read another log", n-1, head)
		}
		r.from = n
	}
	return r, nil
}

// feed answers GET /v1/increments: one JSON object a line, the last of them {"next": N}; or server-sent events.
func (h *Handler) feed(w http.ResponseWriter, r *http.Request) {
	events := strings.Contains(r.Header.Get("Accept"), "text/event-stream")
	q, err := query(r, "from", "limit", "wait", "text", "control")
	if err != nil {
		h.fail(w, err)
		return
	}
	if last := r.Header.Get("Last-Event-Id"); events && last != "" { // a browser comes back with the URL it began with
		seq, err := strconv.ParseUint(last, 10, 64)
		if err != nil {
			h.fail(w, refuse(http.StatusBadRequest, "Last-Event-ID %.40q is not a sequence", last))
			return
		}
		q.Set("from", strconv.FormatUint(seq+1, 10))
	}
	read, err := h.readFeed(q, events)
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // nothing more is read, and it may be waited for long
	switch {
	case err != nil:
		h.fail(w, err)
	case events:
		h.follow(w, r, read)
	default:
		h.lines(w, r, read)
	}
}

// lines answers what there is, when need be after a wait for the first increment.
func (h *Handler) lines(w http.ResponseWriter, r *http.Request, read reading) {
	if read.wait > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), read.wait)
		_ = h.await(ctx, read.from) // when nothing comes, that is the answer
		cancel()
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	head := h.Log.Head().Seq
	for began, limit := read.from, read.limit; limit > 0 && read.from <= head; limit, read.from = limit-1, read.from+1 {
		rec, err := h.read(read.from)
		if err != nil && read.from == began {
			h.fail(w, err)
			return
		}
		if err != nil { // the status is on its way: the error is the last line
			_ = enc.Encode(feedError(err)) // the client may be gone
			return
		}
		if enc.Encode(line(rec, read.text)) != nil {
			return
		}
	}
	_ = enc.Encode(Next{Next: read.from}) // the client may be gone
}

func feedError(err error) map[string]any {
	code := door.Internal
	if no := (*door.Refusal)(nil); errors.As(err, &no) {
		code = no.Code
	} else if errors.Is(err, httpdoor.ErrGone) {
		code = door.Gone
	}
	return map[string]any{"error": err.Error(), "code": code, "retryable": code.Retryable()}
}

// await waits until the log has reached seq, the broker ends or ctx does.
func (h *Handler) await(ctx context.Context, seq uint64) error {
	for {
		moved := h.Broker.Moved()
		if h.Log.Head().Seq >= seq {
			return nil
		}
		select {
		case <-moved:
		case <-h.Broker.Leaving():
			return door.Refuse(door.Closing, "the broker is stopping: try again")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow sends increments as they come, each as an event whose ID is its sequence, and a comment when none has come for
// a while. It ends with the reader, the broker, or an event "error".
func (h *Handler) follow(w http.ResponseWriter, r *http.Request, read reading) {
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	send := func(format string, args ...any) bool {
		_ = control.SetWriteDeadline(time.Now().Add(feedWrite)) // a server in a test may know no deadlines
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil && control.Flush() == nil
	}
	for alive := send(": from %d\n\n", read.from); alive; {
		ctx, cancel := context.WithTimeout(r.Context(), h.Beat)
		err := h.await(ctx, read.from)
		cancel()
		if r.Context().Err() != nil {
			return
		}
		if errors.Is(err, context.DeadlineExceeded) {
			alive = send(": the log ends at %d\n\n", read.from-1)
			continue
		}
		var rec event.Record
		if err == nil {
			rec, err = h.read(read.from)
		}
		if err != nil {
			text, _ := json.Marshal(feedError(err)) // of words
			send("event: error\ndata: %s\n\n", text)
			return
		}
		text, err := json.Marshal(line(rec, read.text))
		if err != nil {
			return // no record is like that
		}
		alive = send("id: %d\ndata: %s\n\n", rec.Seq, text)
		read.from++
	}
}

// absent is an error of a kind, told in one sentence that does not repeat the kind.
type absent struct {
	kind error
	text string
}

func (a *absent) Error() string { return a.text }
func (a *absent) Unwrap() error { return a.kind }

func (h *Handler) read(seq uint64) (event.Record, error) { return ReadOne(h.Log, seq) }

// ReadOne reads one increment for a person or a program: httpdoor.ErrNotYet, httpdoor.ErrGone, or a door.Refusal when
// it may be asked for again.
func ReadOne(log increments.Log, seq uint64) (event.Record, error) {
	recs, err := log.Read(seq, 1, 1)
	switch {
	case errors.Is(err, increments.ErrBeyond), err == nil && len(recs) == 0:
		return event.Record{}, &absent{httpdoor.ErrNotYet,
			fmt.Sprintf("there is no increment %d yet, the log ends at %d", seq, log.Head().Seq)}
	case errors.Is(err, increments.ErrTrimmed):
		return event.Record{}, &absent{httpdoor.ErrGone,
			fmt.Sprintf("increment %d is not kept any more, the log begins at %d", seq, log.First())}
	case errors.Is(err, increments.ErrLater):
		return event.Record{}, door.Refuse(door.Busy, "increment %d cannot be read now, try again: %v", seq, err)
	case err != nil:
		return event.Record{}, err
	}
	return recs[0].Decode()
}
