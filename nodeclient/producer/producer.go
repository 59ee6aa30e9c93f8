package producer

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"xmq/broker/bus"
	"xmq/broker/event"
)

// Errors of a Producer. A draft the broker does not take is a *Refused.
var (
	// ErrClosed is returned after Close: nothing was published.
	ErrClosed = errors.New("the producer is closed")
	// ErrUnknown is returned for drafts that Close left without an answer: they may be in the log.
	ErrUnknown = errors.New("the outcome is unknown: the producer was closed before the answer came")
	// ErrTooLarge is returned by Publish for a draft that no batch can hold; nothing was published.
	ErrTooLarge = errors.New("the draft is too large")
	// ErrKey is returned by Publish for a draft with a key of its own beside Options.Once; nothing was published.
	ErrKey = errors.New("a draft has no idempotency key of its own when the producer numbers them")
	// ErrNumber is returned for a draft whose number the broker knew already though it was sent for the first time: the
	// clock stands after an earlier run of this ID, or two producers share it. The draft was not stored.
	ErrNumber = errors.New("its number was used before: is the clock set back, or the ID used twice?")
)

// Refused is a draft that the broker did not take. Those around it are stored.
type Refused struct {
	Draft uint64 // which one: the first that was published is 1
	Code  string // why, in a word; those of package door
	Text  string // why, in a sentence
}

func (r *Refused) Error() string { return fmt.Sprintf("draft %d was refused: %s", r.Draft, r.Text) }

// Options of a Producer. Zero values mean the defaults.
type Options struct {
	Group string // of the broker; "" means "main"
	Once  bool   // number the drafts, so that a repetition is not stored again; costs the broker a second key each

	// Records and Bytes bound what is published and not yet answered; beyond that Publish waits. One draft always has
	// room. 0 means 16,384 and 8 MiB. All producers of a broker together should stay below its queue_count and
	// queue_bytes: what is above is refused as busy and has to be repeated.
	Records, Bytes int

	// Timeout is how long an answer may take before its batch is repeated. 0 means 5 seconds.
	Timeout time.Duration

	// Done is told what became of each draft, in their order: draft is its number, the first that was published is 1;
	// seq is its sequence, or err a *Refused, ErrNumber or ErrUnknown. It is called by one goroutine at a time and must
	// not call the Producer nor block. nil: nobody is told.
	Done func(draft, seq uint64, err error)

	// Trouble is told why the broker does not take what is published, whenever that changes, and nil when it takes it
	// again. The Producer tries on whatever it is. That nobody serves the group is a *bus.Unserved, which is told
	// before anything is published, too; that the connection does not stand a bus.ErrDown. It is called as Done is.
	// nil: nobody is told.
	Trouble func(err error)
}

func (o Options) withDefaults() Options {
	o.Group = cmp.Or(o.Group, "main")
	o.Records, o.Bytes = cmp.Or(o.Records, 16384), cmp.Or(o.Bytes, 8<<20)
	o.Timeout = cmp.Or(o.Timeout, 5*time.Second)
	return o
}

// Producer publishes drafts. Its methods are for concurrent use, but order is kept only among calls that follow each
// other.
type Producer struct {
	options Options
	id      string
	conn    bus.Conn
	own     bool           // Close closes the connection
	life    event.Instance // names its batches
	start   uint64         // number of draft 0, with Once
	replies bus.Subscription
	news    chan struct{} // one slot: run has something to do
	quit    chan struct{} // closed by Close
	ended   sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	forming   *batch
	line      []*batch // full or under way, in order; the first has the number base
	base      uint64
	next      uint64    // number of the batch to send next; after trouble it goes back
	resume    time.Time // not zero: trouble, nothing is sent before
	from      uint64    // with resume: the batch to go back to
	pause     time.Duration
	trouble   error     // the last, until an answer comes
	probe     time.Time // while nothing is published: when to ask next whether anybody serves the group; zero: never
	records   int       // the window: published and not answered
	bytes     int
	published uint64        // drafts
	settled   uint64        // drafts with a verdict
	failed    error         // the first refusal since the last Flush
	moved     chan struct{} // closed when the window or settled moves; nil while nobody waits
	spare     [][]byte      // memory of answered batches
}

// Dial connects to a NATS server as id (see event.CheckID) and begins a Producer there. It returns at once, also when
// the server or the broker is not there yet: what is published waits in the window. extra options are NATS's own, for
// example credentials.
func Dial(url, id string, o Options, extra ...nats.Option) (*Producer, error) {
	conn, err := bus.Dial(url, id, extra...)
	if err != nil {
		return nil, err
	}
	p, err := New(conn, id, o)
	if err != nil {
		conn.Close()
		return nil, err
	}
	p.own = true
	return p, nil
}

// New begins a Producer on a connection that was made for id. The caller closes it, after the Producer.
func New(conn bus.Conn, id string, o Options) (*Producer, error) {
	if err := event.CheckID(id); err != nil {
		return nil, fmt.Errorf("producer: %w", err)
	}
	var b [8]byte
	for binary.LittleEndian.Uint64(b[:]) == 0 {
		rand.Read(b[:]) // never fails
	}
	p := &Producer{options: o.withDefaults(), id: id, conn: conn, life: event.Instance(binary.LittleEndian.Uint64(b[:])),
		start: uint64(time.Now().UnixNano()), news: make(chan struct{}, 1), quit: make(chan struct{}), base: 1, next: 1,
		probe: time.Now()}
	var err error
	if p.replies, err = conn.Subscribe(p.inbox()+".*", p.answered); err != nil {
		return nil, fmt.Errorf("producer: %w", err)
	}
	p.ended.Go(p.run)
	return p, nil
}

// Publish takes one draft after all taken before. It copies it, never waits for the answer, and blocks only while the
// window is full. nil: it will be handed to the broker, repeatedly if need be, until it is answered or Close is called;
// Flush, PublishWait or Options.Done tell what became of it. Producer is set by the broker.
//
// ErrTooLarge, ErrKey, ErrClosed or the end of ctx: it was not taken.
func (p *Producer) Publish(ctx context.Context, d event.Draft) error { return p.publish(ctx, &d, nil) }

// PublishWait is Publish and waits for the draft's own sequence. A *Refused, ErrNumber: it was not stored. ErrUnknown,
// or the end of ctx while it waits: it may be stored, now or later.
func (p *Producer) PublishWait(ctx context.Context, d event.Draft) (seq uint64, err error) {
	c := make(chan verdict, 1)
	if err := p.publish(ctx, &d, c); err != nil {
		return 0, err
	}
	select {
	case v := <-c:
		return v.seq, v.err
	case <-ctx.Done():
		return 0, p.because(ctx)
	}
}

func (p *Producer) publish(ctx context.Context, d *event.Draft, c chan<- verdict) error {
	size := event.DraftSize(d)
	if size > event.MaxBody || max(len(d.Topic), len(d.ContentType), len(d.Origin), len(d.Key)) > event.MaxHeaderValue {
		return ErrTooLarge
	}
	if p.options.Once && d.Key != "" {
		return ErrKey
	}
	p.mu.Lock()
	for !p.closed && p.records > 0 && (p.records >= p.options.Records || p.bytes+size > p.options.Bytes) {
		if err := p.wait(ctx); err != nil {
			p.mu.Unlock()
			return err
		}
	}
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	if p.forming != nil && p.forming.full(size) {
		p.cut()
	}
	if p.forming == nil {
		p.forming = &batch{first: p.published + 1, data: p.memory()}
	}
	b := p.forming
	if c != nil {
		b.waiters = append(b.waiters, waiter{b.count, c})
	}
	b.add(d, size)
	p.records, p.bytes, p.published = p.records+1, p.bytes+size, p.published+1
	idle := len(p.line) == 0 || p.next < p.base+uint64(len(p.line))
	p.mu.Unlock()
	if idle {
		p.wake()
	}
	return nil
}

// Flush waits until everything published before it is answered, and returns the first refusal since the last Flush, or
// nil: all of it is on the broker's disk. At the end of ctx it says so, and what the last trouble was.
func (p *Producer) Flush(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for target := p.published; p.settled < target; {
		if err := p.wait(ctx); err != nil {
			return err
		}
	}
	err := p.failed
	p.failed = nil
	return err
}

// Close ends the Producer. It does not wait for answers: what has none is told to be ErrUnknown, so Flush first.
func (p *Producer) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	close(p.quit)
	p.mu.Unlock()
	p.ended.Wait()
	p.replies.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.abandon()
	if p.own {
		p.conn.Close()
	}
}

// wait waits until the window or what is settled has moved. Caller holds mu.
func (p *Producer) wait(ctx context.Context) error {
	if p.moved == nil {
		p.moved = make(chan struct{})
	}
	moved := p.moved
	p.mu.Unlock()
	var ended bool
	select {
	case <-moved:
	case <-ctx.Done():
		ended = true
	}
	p.mu.Lock()
	if ended {
		return p.reason(ctx)
	}
	return nil
}

// shift tells whoever waits that something has moved. Caller holds mu.
func (p *Producer) shift() {
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

func (p *Producer) because(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reason(ctx)
}

// reason is why ctx ended, and what may be the cause. Caller holds mu.
func (p *Producer) reason(ctx context.Context) error {
	if p.trouble != nil {
		return fmt.Errorf("%w while the broker does not take what was published: %w", context.Cause(ctx), p.trouble)
	}
	return fmt.Errorf("%w while an answer of the broker is waited for", context.Cause(ctx))
}

func (p *Producer) inbox() string { return event.InboxPrefix(p.id) + "." + p.life.String() }

func (p *Producer) wake() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}
