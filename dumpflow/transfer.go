package dumpflow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"xmq/broker/event"
)

// Window is how many chunks of one transfer are under way at once.
const Window = 8

// Options of a transfer.
type Options struct {
	Rate  int64         // uncompressed bytes a second; 0 for no limit
	Retry time.Duration // wait before a request without an answer is repeated; default 1 s
}

func (o Options) limiter() *rate.Limiter {
	if o.Rate <= 0 {
		return nil
	}
	l := rate.NewLimiter(rate.Limit(o.Rate), ChunkSize)
	l.AllowN(time.Now(), ChunkSize) // nothing is saved up at the start, so short transfers keep the rate as well
	return l
}

func (o Options) pace(ctx context.Context, l *rate.Limiter, n int) error {
	if l == nil {
		return nil
	}
	return l.WaitN(ctx, n)
}

// ErrGivenUp is returned when the broker says that a snapshot has failed. Trying again is of no use.
var ErrGivenUp = errors.New("the broker has given this snapshot up")

// insist repeats a request until it is answered with a result, the broker gives up, or ctx ends.
func (o Options) insist(ctx context.Context, call Call, dump event.DumpID, c Chunk) (ChunkReply, error) {
	retry := o.Retry
	if retry <= 0 {
		retry = time.Second
	}
	for {
		a, err := call(ctx, dump, c)
		switch {
		case ctx.Err() != nil:
			return a, context.Cause(ctx)
		case err == nil && a.State == event.Succ:
			return a, nil
		case err == nil && a.State != event.None:
			return a, fmt.Errorf("%w: %s", ErrGivenUp, a.Text)
		case err == nil && a.Text == "":
			continue // the broker has waited for us already
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
		}
	}
}

// Upload sends what write writes as the chunks of m.Dump, Window of them at a time, then seals it. It returns the
// published manifest: m with size, count and digest filled in. Requests are repeated for as long as ctx lives,
// so a cut is survived. It blocks until all is sealed or has failed; no goroutine outlives it. Errors: write's own,
// ErrGivenUp, or the cause of ctx's end.
func Upload(ctx context.Context, call Call, m Manifest, write func(context.Context, io.Writer) error,
	o Options) (Manifest, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	u := &uploader{ctx: ctx, fail: cancel, call: call, dump: m.Dump, options: o, limit: o.limiter(), sum: sha256.New(),
		slots: make(chan []byte, Window), buf: make([]byte, 0, ChunkSize)}
	for range Window {
		u.slots <- nil
	}
	err := write(ctx, u)
	if err == nil {
		err = u.flush()
	}
	cause := context.Cause(ctx) // a refused chunk ends the writing: that is the error to tell, not how write put it
	if err != nil {
		cancel(err)
	}
	u.flying.Wait()
	if cause != nil || err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return m, err
	}
	m.Size, m.Chunks, m.SHA256 = u.size, u.number, hex.EncodeToString(u.sum.Sum(nil))
	a, err := o.insist(ctx, call, m.Dump, Chunk{Op: Seal, Data: m.Encode()})
	if err != nil {
		return m, err
	}
	published, err := DecodeManifest(a.Chunk.Data)
	if err == nil {
		err = published.Matches(m.Size, m.SHA256)
	}
	return published, err
}

type uploader struct {
	ctx     context.Context
	fail    context.CancelCauseFunc
	call    Call
	dump    event.DumpID
	options Options
	limit   *rate.Limiter
	sum     hash.Hash
	size    int64
	number  uint32
	buf     []byte
	slots   chan []byte // buffers of chunks that have been sent, or nil
	flying  sync.WaitGroup
}

// Write cuts the stream into chunks.
func (u *uploader) Write(p []byte) (int, error) {
	n := len(p)
	u.sum.Write(p)
	for len(p) > 0 {
		k := min(ChunkSize-len(u.buf), len(p))
		u.buf = append(u.buf, p[:k]...)
		p = p[k:]
		if len(u.buf) == ChunkSize {
			if err := u.flush(); err != nil {
				return n - len(p), err
			}
		}
	}
	return n, nil
}

// flush sends the chunk in the buffer as soon as one of Window slots is free.
func (u *uploader) flush() error {
	if len(u.buf) == 0 {
		return nil
	}
	if err := u.options.pace(u.ctx, u.limit, len(u.buf)); err != nil {
		return err
	}
	var next []byte
	select {
	case next = <-u.slots:
	case <-u.ctx.Done():
		return context.Cause(u.ctx)
	}
	data, number := u.buf, u.number
	u.size += int64(len(data))
	u.number++
	if u.buf = next[:0]; next == nil {
		u.buf = make([]byte, 0, ChunkSize)
	}
	u.flying.Go(func() {
		defer func() { u.slots <- data }()
		if _, err := u.options.insist(u.ctx, u.call, u.dump, Pack(Put, number, data)); err != nil {
			u.fail(err)
		}
	})
	return nil
}

// Download reads a snapshot in order, fetching Window chunks ahead, also while it is still being uploaded. It
// ends with io.EOF only after size and SHA-256 have matched the manifest. It is for one reader.
type Download struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	call    Call
	dump    event.DumpID
	options Options
	limit   *rate.Limiter
	flying  sync.WaitGroup
	sum     hash.Hash
	size    int64
	ahead   []chan fetched // in order
	next    uint32         // number of the next fetch to begin
	chunk   Chunk          // the newest
	rest    []byte
	chunks  uint32
	done    *Manifest
	err     error
}

type fetched struct {
	answer ChunkReply
	err    error
}

// NewDownload makes a download of dump; the first Read starts fetching. Close it, by the goroutine that reads.
func NewDownload(ctx context.Context, call Call, dump event.DumpID, o Options) *Download {
	d := &Download{call: call, dump: dump, options: o, limit: o.limiter(), sum: sha256.New()}
	d.ctx, d.cancel = context.WithCancelCause(ctx)
	return d
}

// Close ends all fetching and waits for it. Read answers an error from then on.
func (d *Download) Close() {
	d.cancel(errors.New("the download of the snapshot was closed"))
	d.flying.Wait()
}

// Manifest returns the snapshot's manifest after Read has answered io.EOF, or why there is none.
func (d *Download) Manifest() (Manifest, error) {
	if d.done == nil {
		return Manifest{}, errors.Join(errors.New("the snapshot was not read to its end"), d.err)
	}
	return *d.done, nil
}

// Read reads the snapshot's bytes. Errors: ErrGivenUp, event.ErrDamaged, or the end of the context.
func (d *Download) Read(p []byte) (int, error) {
	for len(d.rest) == 0 {
		if d.err == nil {
			d.err = d.advance()
		}
		if d.err != nil {
			return 0, d.err
		}
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// take returns the next chunk, verified, as it came. It ends as Read does, and is not mixed with it.
func (d *Download) take() (Chunk, error) {
	if d.err == nil {
		d.err = d.advance()
	}
	d.rest = nil
	return d.chunk, d.err
}

func (d *Download) advance() error {
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	for len(d.ahead) < Window {
		c := make(chan fetched, 1)
		d.ahead = append(d.ahead, c)
		number := d.next
		d.next++
		d.flying.Go(func() { // ends with its answer or with the context that Close ends
			a, err := d.options.insist(d.ctx, d.call, d.dump, Chunk{Op: Get, Number: number})
			c <- fetched{a, err}
		})
	}
	f := <-d.ahead[0]
	d.ahead = d.ahead[1:]
	if f.err != nil {
		return f.err
	}
	if f.answer.Chunk.Op == Stat {
		return d.finish(f.answer.Chunk.Data)
	}
	if c := f.answer.Chunk; c.Op != Get || c.Number != d.chunks || c.Length == 0 {
		return fmt.Errorf("chunk %d of %d bytes came instead of %d: %w", c.Number, c.Length, d.chunks, event.ErrDamaged)
	}
	data, err := f.answer.Chunk.Unpack()
	if err != nil {
		return err
	}
	if err := d.options.pace(d.ctx, d.limit, len(data)); err != nil {
		return err
	}
	d.chunks++
	d.size += int64(len(data))
	d.sum.Write(data)
	d.chunk, d.rest = f.answer.Chunk, data
	return nil
}

// finish compares all that was read with the manifest.
func (d *Download) finish(manifest []byte) error {
	m, err := DecodeManifest(manifest)
	if err != nil {
		return err
	}
	if m.Dump != d.dump {
		return fmt.Errorf("the manifest is of DUMP %s, not %s: %w", m.Dump, d.dump, event.ErrDamaged)
	}
	if err := m.Matches(d.size, hex.EncodeToString(d.sum.Sum(nil))); err != nil {
		return err
	}
	d.done = &m
	return io.EOF
}
