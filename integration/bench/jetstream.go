package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// jets is JetStream as a peer: a NATS server in this process, like our broker, with one stream in a folder.
type jets struct {
	server  *server.Server
	pending int // what one producer has under way
}

// jetstreams are the two peers: with a sync before every answer, as we do, and as it comes.
func jetstreams(theirs func(ctx context.Context, j *jets, p *Params) (float64, error)) []peer {
	with := func(always bool) side {
		return func(ctx context.Context, dir string, p *Params) (v float64, err error) {
			j, err := newJets(ctx, dir, always, pick(p, 4000, 32))
			if err != nil {
				return 0, err
			}
			defer j.close()
			return theirs(ctx, j, p)
		}
	}
	return []peer{{"jetstream-sync", "file store, sync_interval: always", with(true)},
		{"jetstream", "file store, synced every 2 minutes", with(false)}}
}

func newJets(ctx context.Context, dir string, always bool, pending int) (*jets, error) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: filepath.Join(dir, "jetstream"), SyncAlways: always})
	if err != nil {
		return nil, err
	}
	s.Start()
	j := &jets{s, pending}
	if !s.ReadyForConnections(10 * time.Second) {
		j.close()
		return nil, errors.New("the JetStream server does not answer")
	}
	nc, js, err := j.dial("maker")
	if err == nil {
		defer nc.Close()
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "bench", Subjects: []string{"bench.>"},
			Storage: jetstream.FileStorage})
	}
	if err != nil {
		j.close()
		return nil, err
	}
	return j, nil
}

func (j *jets) close() {
	j.server.Shutdown()
	j.server.WaitForShutdown()
}

func (j *jets) dial(name string, o ...jetstream.JetStreamOpt) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(j.server.ClientURL(), nats.Name(name))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc, o...)
	return nc, js, err
}

// jetWriter publishes without waiting.
type jetWriter struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	subject string
	failed  atomic.Pointer[error]
}

func (j *jets) writer(i int) (writer, error) {
	w := &jetWriter{subject: fmt.Sprint("bench.p", i)}
	var err error
	w.nc, w.js, err = j.dial(w.subject, jetstream.WithPublishAsyncMaxPending(j.pending),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) { w.failed.Store(&err) }))
	return w, err
}

func (w *jetWriter) put(_ context.Context, body []byte) error {
	_, err := w.js.PublishAsync(w.subject, body, jetstream.WithStallWait(30*time.Second))
	return err
}

func (w *jetWriter) flush(ctx context.Context) error {
	select {
	case <-w.js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := w.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (w *jetWriter) close() { w.nc.Close() }

func jetstreamIngest(ctx context.Context, j *jets, p *Params) (float64, error) {
	return pourRate(ctx, producers, bodySize(p), span(p), j.writer)
}

// jetBatch is how many messages a consumer takes in one acknowledgement.
const jetBatch = 1000

// jetReader is a durable pull consumer that acknowledges all before every jetBatch-th message.
type jetReader struct {
	nc    *nats.Conn
	using jetstream.ConsumeContext
	last  atomic.Pointer[jetstream.Msg]
	count atomic.Int64
	moved chan struct{} // one slot
	seen  func(jetstream.Msg)
}

func (j *jets) reader(ctx context.Context, name string, ackEvery int64, seen func(jetstream.Msg)) (*jetReader, error) {
	r := &jetReader{moved: make(chan struct{}, 1), seen: seen}
	nc, js, err := j.dial(name)
	if err != nil {
		return nil, err
	}
	r.nc = nc
	c, err := js.CreateConsumer(ctx, "bench",
		jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckAllPolicy, MaxAckPending: 20 * jetBatch,
			AckWait: time.Minute})
	if err != nil {
		nc.Close()
		return nil, err
	}
	r.using, err = c.Consume(func(m jetstream.Msg) {
		if r.seen != nil {
			r.seen(m)
		}
		r.last.Store(&m)
		if r.count.Add(1)%ackEvery == 0 {
			_ = m.Ack() // acknowledged again by the next one
		}
		select {
		case r.moved <- struct{}{}:
		default:
		}
	}, jetstream.PullMaxMessages(5*jetBatch))
	if err != nil {
		nc.Close()
		return nil, err
	}
	return r, nil
}

// takes waits until so many messages have come, and acknowledges the last.
func (r *jetReader) takes(ctx context.Context, n int) error {
	for r.count.Load() < int64(n) {
		select {
		case <-r.moved:
		case <-ctx.Done():
			return fmt.Errorf("a consumer has %d of %d: %w", r.count.Load(), n, ctx.Err())
		}
	}
	if err := (*r.last.Load()).DoubleAck(ctx); !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		return err
	}
	return nil
}

func (r *jetReader) close() {
	r.using.Stop()
	<-r.using.Closed()
	r.nc.Close()
}

func jetstreamFanout(ctx context.Context, j *jets, p *Params) (float64, error) {
	var readers []*jetReader
	for _, name := range names(p.Nodes) {
		r, err := j.reader(ctx, name, jetBatch, nil)
		if err != nil {
			return 0, err
		}
		defer r.close()
		readers = append(readers, r)
	}
	total, began, err := pour(ctx, producers, bodySize(p), span(p), j.writer)
	if err != nil {
		return 0, err
	}
	for _, r := range readers {
		if err := r.takes(ctx, total+producers); err != nil {
			return 0, err
		}
	}
	return since(total, began), nil
}
