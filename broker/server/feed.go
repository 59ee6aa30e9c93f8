package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"xmq/broker/api"
	"xmq/broker/door"
	httpdoor "xmq/broker/door/http"
	"xmq/broker/event"
)

// The bounds of GET /v1/increments; broker/door/README.md describes it.
const (
	feedLimit   = 1000        // increments of one answer
	feedDefault = 10          // when no limit is said
	feedWait    = time.Minute // longest wait
	feedBeat    = 10 * time.Second
	feedWrite   = 10 * time.Second // how long a reader of events may take for one
)

func line(rec event.Record, text bool) api.Line {
	l := api.Line{Seq: rec.Seq, Time: time.Unix(0, rec.Time).UTC(), Chain: rec.Chain, Topic: rec.Topic,
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

// bell wakes everybody who waits for the head of the log to move.
type bell struct {
	mu   sync.Mutex
	rung chan struct{} // nil while nobody waits
}

// next is closed when the bell rings the next time.
func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung == nil {
		b.rung = make(chan struct{})
	}
	return b.rung
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung != nil {
		close(b.rung)
		b.rung = nil
	}
}

// reading is what a reader of the feed has asked for.
type reading struct {
	from  uint64
	limit uint64
	wait  time.Duration
	text  bool
}

// readFeed reads the query of GET /v1/increments. What it does not know it refuses: a reader that misspelt a name would
// get something else than it asked for.
func (b *Broker) readFeed(q url.Values, events bool) (reading, error) {
	head, first := b.stores.log.Head().Seq, b.stores.log.First()
	r := reading{limit: feedDefault}
	from, said := "", false
	for name, values := range q {
		value := values[0]
		if len(values) > 1 {
			return r, refuse(http.StatusBadRequest, "the parameter %.40q stands there %d times: send it once", name, len(values))
		}
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
		default:
			return r, refuse(http.StatusBadRequest, "the parameter %.40q is not known: from, limit, wait, text and control are",
				name)
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

// apiFeed answers GET /v1/increments: one JSON object a line, the last of them {"next": N}; or server-sent events.
func (b *Broker) apiFeed(w http.ResponseWriter, r *http.Request) {
	events := strings.Contains(r.Header.Get("Accept"), "text/event-stream")
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		failAPI(w, refuse(http.StatusBadRequest, "what stands behind ? cannot be read: %v", err))
		return
	}
	if last := r.Header.Get("Last-Event-Id"); events && last != "" { // a browser comes back with the URL it began with
		seq, err := strconv.ParseUint(last, 10, 64)
		if err != nil {
			failAPI(w, refuse(http.StatusBadRequest, "Last-Event-ID %.40q is not a sequence", last))
			return
		}
		q.Set("from", strconv.FormatUint(seq+1, 10))
	}
	read, err := b.readFeed(q, events)
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // nothing more is read, and it may be waited for long
	switch {
	case err != nil:
		failAPI(w, err)
	case events:
		b.events(w, r, read)
	default:
		b.lines(w, r, read)
	}
}

// lines answers what there is, when need be after a wait for the first increment.
func (b *Broker) lines(w http.ResponseWriter, r *http.Request, read reading) {
	if read.wait > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), read.wait)
		_ = b.await(ctx, read.from) // when nothing comes, that is the answer
		cancel()
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	head := b.stores.log.Head().Seq
	for began, limit := read.from, read.limit; limit > 0 && read.from <= head; limit, read.from = limit-1, read.from+1 {
		rec, err := b.readOne(read.from)
		if err != nil && read.from == began {
			failAPI(w, err)
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
	_ = enc.Encode(api.Next{Next: read.from}) // the client may be gone
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
func (b *Broker) await(ctx context.Context, seq uint64) error {
	for {
		moved := b.moved.next()
		if b.stores.log.Head().Seq >= seq {
			return nil
		}
		select {
		case <-moved:
		case <-b.leaving:
			return door.Refuse(door.Closing, "the broker is stopping: try again")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// events sends increments as they come, each as an event whose ID is its sequence, and a comment when none has come for
// a while. It ends with the reader, the broker, or an event "error".
func (b *Broker) events(w http.ResponseWriter, r *http.Request, read reading) {
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	send := func(format string, args ...any) bool {
		_ = control.SetWriteDeadline(time.Now().Add(feedWrite)) // a server in a test may know no deadlines
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil && control.Flush() == nil
	}
	for alive := send(": from %d\n\n", read.from); alive; {
		ctx, cancel := context.WithTimeout(r.Context(), feedBeat)
		err := b.await(ctx, read.from)
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
			rec, err = b.readOne(read.from)
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
