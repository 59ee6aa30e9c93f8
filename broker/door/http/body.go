package http

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"xmq/broker/door"
)

// Rate and Grace are how slowly a body may come, unless Bodies says otherwise: at least so many bytes a second, and
// at any time it may be late by Grace.
const (
	Rate  = 16 << 10
	Grace = 5 * time.Second
)

// Bodies stands before handlers and bounds what the bodies of their requests cost. A body takes its bytes from the
// budget as they arrive, a Step before they are read, and gives them back when the handler has answered: when there
// are none, the handler's Read fails with a *door.Refusal of Busy. One that comes too slowly fails with Slow. Either
// way the connection ends with the answer.
//
// A body that a handler has answered before its end is read on and thrown away, within bounds: many clients look for
// an answer only when they have sent all, and would see a broken connection instead of it.
type Bodies struct {
	Next   http.Handler
	Budget *door.Budget
	Rate   int64         // bytes a second; 0 for Rate
	Grace  time.Duration // 0 for Grace
}

func (b *Bodies) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody {
		in := &body{in: r.Body, w: w, control: http.NewResponseController(w), left: r.ContentLength,
			lease: door.Lease{Budget: b.Budget},
			rate:  b.Rate, grace: b.Grace}
		if in.rate == 0 {
			in.rate = Rate
		}
		if in.grace == 0 {
			in.grace = Grace
		}
		in.slack = in.grace
		defer in.lease.Release()
		in.asked = r.Header.Get("Expect") != ""
		r.Body = in
		_ = in.control.EnableFullDuplex() // the answer does not wait for the body; a server in a test may not know it
		b.Next.ServeHTTP(w, r)
		in.passOver()
		return
	}
	b.Next.ServeHTTP(w, r)
}

// How much of a body that was answered early is read on, for how long, and how long nothing may come.
const (
	skipBytes = 64 << 20
	passTime  = 10 * time.Second
	passIdle  = 5 * time.Second
)

// passOver sends the answer and reads on what the client still sends. It takes nothing from the budget: it keeps
// nothing.
func (b *body) passOver() {
	if errors.Is(b.failed, io.EOF) || b.asked && !b.begun { // a client that asked first sends nothing now
		return
	}
	b.lease.Release()
	if b.control.Flush() != nil {
		return
	}
	into := buffers.Get().(*bufio.Reader)
	defer buffers.Put(into)
	into.Reset(io.LimitReader(b.in, skipBytes))
	defer into.Reset(nil)
	for end := time.Now().Add(passTime); time.Now().Before(end); {
		_ = b.control.SetReadDeadline(time.Now().Add(passIdle))
		if _, err := into.Discard(door.Step); err != nil {
			break // its end, or the client's: the answer is sent
		}
	}
	_ = b.control.SetReadDeadline(time.Time{})
}

// body is one that Bodies watches.
type body struct {
	in      io.ReadCloser
	w       http.ResponseWriter
	control *http.ResponseController
	lease   door.Lease
	left    int64 // announced and not yet taken; below 0 when nothing was announced
	room    int64 // taken and not yet read
	asked   bool  // the client waits for leave to send it
	begun   bool  // and it has been read from
	failed  error

	rate         int64
	grace, slack time.Duration // slack is how late it may still be
	due          time.Time     // when the step under way must be there
}

func (b *body) Read(p []byte) (int, error) {
	if b.failed != nil {
		return 0, b.failed
	}
	if b.room == 0 {
		if err := b.step(); err != nil {
			return 0, err
		}
	}
	b.begun = true
	n, err := b.in.Read(p[:min(int64(len(p)), b.room)])
	b.room -= int64(n)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, b.fail(door.Refuse(door.Slow, "the body came more slowly than %d bytes a second, and is not "+
			"waited for: send it faster", b.rate))
	case err != nil:
		b.failed = err
		_ = b.control.SetReadDeadline(time.Time{}) // what waits for an answer is not late
	}
	return n, err
}

// step takes the next bytes from the budget, and says until when they have to come.
func (b *body) step() error {
	n := int64(door.Step)
	if b.left >= 0 {
		n = max(1, min(n, b.left)) // 1 to see the end
		b.left = max(0, b.left-n)
	}
	if !b.lease.Take(n) {
		return b.fail(door.Refuse(door.Busy, noMemory))
	}
	now := time.Now()
	if !b.due.IsZero() {
		b.slack = max(0, min(b.grace, b.due.Sub(now)))
	}
	b.room, b.due = n, now.Add(b.slack+time.Duration(n)*time.Second/time.Duration(b.rate))
	_ = b.control.SetReadDeadline(b.due) // a server in a test may know no deadlines
	return nil
}

// fail ends the body with a refusal.
func (b *body) fail(err error) error {
	b.failed = err
	b.w.Header().Set("Connection", "close")
	return err
}

func (b *body) Close() error { return b.in.Close() }

// lend gives memory for n more bytes while f runs; a body that nobody watches has as much as it wants.
func lend(r *http.Request, n int, f func()) error {
	if b, watched := r.Body.(*body); watched {
		if !b.lease.Take(int64(n)) {
			return b.fail(door.Refuse(door.Busy, noMemory))
		}
		defer b.lease.Put(int64(n))
	}
	f()
	return nil
}

// firstPiece is what is made ready for a body whose length is not known.
const firstPiece = 4 << 10

// Read takes the body of r, of at most limit bytes; a longer one that announces itself is refused unread. It holds no
// more memory than has arrived, and as much again while a body of several pieces is put together; both come from the
// budget of Bodies. Whatever is wrong with the request is a *door.Refusal.
func Read(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	if err := acceptable(w, r, limit); err != nil {
		return nil, err
	}
	in := http.MaxBytesReader(w, r.Body, int64(limit))
	size := int64(firstPiece) // an announcement costs the client nothing, so it gets little for it
	if r.ContentLength >= 0 {
		size = min(r.ContentLength+1, door.Step)
	}
	var pieces [][]byte
	for piece := make([]byte, 0, size); ; {
		n, err := in.Read(piece[len(piece):cap(piece)])
		piece = piece[:len(piece)+n]
		switch {
		case err == io.EOF && len(pieces) == 0:
			return piece, nil
		case err == io.EOF:
			pieces = append(pieces, piece)
			all := 0
			for _, p := range pieces {
				all += len(p)
			}
			var joined []byte
			err := lend(r, all, func() { joined = slices.Concat(pieces...) })
			return joined, err
		case err != nil:
			return nil, cut(err, limit)
		case len(piece) == cap(piece):
			pieces, piece = append(pieces, piece), make([]byte, 0, door.Step)
		}
	}
}

// acceptable refuses a body by the headers alone.
func acceptable(w http.ResponseWriter, r *http.Request, limit int) error {
	if ct := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Type"))); strings.HasPrefix(ct, "multipart/") {
		return door.Refuse(door.Media, "a multipart body is taken nowhere: send the bytes as they are (curl "+
			"--data-binary, not --form)")
	}
	if refused := door.CheckEncoding(r.Header.Values); refused != nil {
		return refused
	}
	if r.ContentLength > int64(limit) {
		w.Header().Set("Connection", "close")
		return door.Refuse(door.TooLarge, "a body of %d bytes is above the limit of %d (see max_increment)", r.ContentLength,
			limit)
	}
	return nil
}

// noMemory refuses a body, and what is made of it, beyond inflight_bytes.
const noMemory = "the bodies under way already have all the memory there is for them (inflight_bytes): try again"

// cut is the refusal of a body that could not be read to its end.
func cut(err error, limit int) error {
	var refused *door.Refusal
	switch large := (*http.MaxBytesError)(nil); {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &large):
		return door.Refuse(door.TooLarge, "the body is above the limit of %d bytes (see max_increment)", limit)
	}
	return door.Refuse(door.Invalid, "the body could not be read to its end (%v): send it again", err)
}

// buffers hold a Step of the body of a batch while its lines are read.
var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, door.Step) }}

// turns bound how many large batches are worked on at once, on half of the processors: a batch may keep one busy for
// long, and whoever sends little would wait behind all of them.
var turns = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// inTurn runs f, which waits for nobody, and waits for its turn before when it is of a large batch.
func inTurn(large bool, f func()) {
	if large {
		turns <- struct{}{}
		defer func() { <-turns }()
	}
	f()
}

// readLines calls each with one line after the other of the body of r, of at most limit bytes, without its end and
// with its number from
// 1. The line is borrowed until each returns. When each refuses one, the rest of the body is read and thrown away.
func readLines(w http.ResponseWriter, r *http.Request, limit int, each func(n int, line []byte) error) error {
	if err := acceptable(w, r, limit); err != nil {
		return err
	}
	in := buffers.Get().(*bufio.Reader)
	in.Reset(http.MaxBytesReader(w, r.Body, int64(limit)))
	defer func() {
		in.Reset(nil)
		buffers.Put(in)
	}()
	var pieces [][]byte // of a line longer than the buffer
	long, read := 0, 0
	for n := 1; ; {
		part, err := in.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			pieces, long = append(pieces, bytes.Clone(part)), long+len(part)
			continue
		}
		if err != nil && err != io.EOF {
			return cut(err, limit)
		}
		part = bytes.TrimSuffix(part, []byte("\n"))
		read += long + len(part)
		refused, busy := error(nil), error(nil)
		inTurn(read > door.Step, func() {
			if len(pieces) == 0 {
				refused = each(n, part)
			} else {
				busy = lend(r, long+len(part), func() { refused = each(n, slices.Concat(append(pieces, part)...)) })
			}
		})
		if busy != nil {
			return busy
		}
		if refused != nil {
			_, _ = io.Copy(io.Discard, in) // the client sees the refusal when it has sent all
			return refused
		}
		if err == io.EOF {
			return nil
		}
		n, pieces, long = n+1, nil, 0
	}
}
