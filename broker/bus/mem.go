package bus

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"xmq/broker/event"
)

// Mem is a network in memory, for tests: fast, and as bad as wanted. Its delays are timers, so it runs in a
// synctest bubble. All connections are made by Connect.
type Mem struct {
	mu     sync.Mutex
	rng    *rand.Rand
	faults Faults
	sent   int        // messages since the last SetFaults
	conns  []*memConn // in the order of their making, so that the seed rules
	count  uint64
}

// Faults is how bad a network is. Requests suffer like messages.
type Faults struct {
	Lose    float64       // chance that a message is lost
	LoseNth int           // the n-th message from SetFaults on is lost, for sure; 0 for none
	Repeat  float64       // chance that it arrives twice
	Delay   time.Duration // each arrival is late by up to this, so that messages overtake each other
}

// NewMem makes a perfect network; the seed rules all later misfortune.
func NewMem(seed uint64) *Mem {
	return &Mem{rng: rand.New(rand.NewPCG(seed, 0))}
}

// SetFaults changes how bad the network is from now on.
func (m *Mem) SetFaults(f Faults) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults, m.sent = f, 0
}

// Cut cuts the connections with this id off, or mends them. While cut they can neither send nor receive, and what
// was on its way to them is lost; what had arrived and waits for its handler is not.
func (m *Mem) Cut(id string, cut bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		if c.id == id {
			if cut && !c.cut {
				close(c.life)
				c.life = make(chan struct{})
			}
			c.cut = cut
			c.changed()
		}
	}
}

// Sent is how many messages have been sent since the last SetFaults.
func (m *Mem) Sent() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent
}

// Connect makes a connection as id.
func (m *Mem) Connect(id string) Conn {
	c := &memConn{net: m, id: id, changes: make(chan struct{}, 1), life: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns = append(m.conns, c)
	return c
}

type memConn struct {
	life    chan struct{} // closed by the next cut
	net     *Mem
	id      string
	changes chan struct{}
	// under net.mu
	cut, closed bool
	subs        []*memSub
}

type memSub struct {
	conn    *memConn
	subject string
	mu      sync.Mutex
	queue   []Msg
	bytes   int           // in queue
	news    chan struct{} // one slot
	stop    chan struct{}
	once    sync.Once
}

// memPayload is what an embedded server of the broker takes.
const memPayload = 8 << 20

func (c *memConn) Publish(subject string, data []byte) error {
	return c.publish(Msg{Subject: subject, Data: data})
}

func (c *memConn) Ask(subject, reply string, data []byte) error {
	return c.publish(Msg{Subject: subject, Reply: reply, Data: data})
}

func (c *memConn) publish(msg Msg) error {
	if len(msg.Data) > memPayload {
		return ErrTooLarge
	}
	m := c.net
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	if c.cut {
		return ErrDown
	}
	m.sent++
	if m.sent == m.faults.LoseNth {
		return nil
	}
	heard := false
	for _, to := range m.conns {
		for _, s := range to.subs {
			if matches(s.subject, msg.Subject) {
				heard = true
				m.carry(s, msg)
			}
		}
	}
	if !heard && msg.Reply != "" {
		return ErrNobody
	}
	return nil
}

// carry brings the message to one subscription, or not, or twice, or late. Caller holds m.mu.
func (m *Mem) carry(s *memSub, msg Msg) {
	copies := 1
	if m.rng.Float64() < m.faults.Lose {
		copies = 0
	} else if m.rng.Float64() < m.faults.Repeat {
		copies = 2
	}
	for range copies {
		own := msg
		own.Data = append([]byte(nil), msg.Data...)
		if m.faults.Delay > 0 {
			time.AfterFunc(time.Duration(m.rng.Int64N(int64(m.faults.Delay)+1)), func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				s.arrive(own)
			})
		} else {
			s.arrive(own)
		}
	}
}

func matches(pattern, subject string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		rest, ok := strings.CutPrefix(subject, prefix)
		return ok && rest != "" && !strings.Contains(rest, ".")
	}
	return pattern == subject
}

func (c *memConn) Subscribe(subject string, h func(Msg)) (Subscription, error) {
	s, err := c.subscribe(subject, h)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (c *memConn) subscribe(subject string, h func(Msg)) (*memSub, error) {
	s := &memSub{conn: c, subject: subject, news: make(chan struct{}, 1), stop: make(chan struct{})}
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	c.subs = append(c.subs, s)
	go s.run(h)
	return s, nil
}

// arrive queues m for the handler, unless the connection is cut or too much waits already. Caller holds net.mu.
func (s *memSub) arrive(m Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn.cut || len(s.queue) >= PendingMsgs || s.bytes+len(m.Data) > PendingBytes {
		return
	}
	s.queue, s.bytes = append(s.queue, m), s.bytes+len(m.Data)
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// take gives out the oldest message that waits.
func (s *memSub) take() (m Msg, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return m, false
	}
	m = s.queue[0]
	s.queue[0] = Msg{}
	s.queue, s.bytes = s.queue[1:], s.bytes-len(m.Data)
	return m, true
}

func (s *memSub) run(h func(Msg)) {
	for {
		select {
		case <-s.stop:
			return
		case <-s.news:
		}
		for m, ok := s.take(); ok; m, ok = s.take() {
			select {
			case <-s.stop:
				return
			default:
				h(m)
			}
		}
	}
}

// Stop ends the subscription.
func (s *memSub) Stop() {
	s.once.Do(func() { close(s.stop) })
	s.conn.net.mu.Lock()
	defer s.conn.net.mu.Unlock()
	s.conn.subs = slices.DeleteFunc(s.conn.subs, func(o *memSub) bool { return o == s })
}

func (c *memConn) Request(ctx context.Context, subject string, data []byte) (Msg, error) {
	c.net.mu.Lock()
	c.net.count++
	reply := fmt.Sprintf("%s.%d", event.InboxPrefix(c.id), c.net.count)
	life := c.life
	c.net.mu.Unlock()
	answer := make(chan Msg, 1)
	s, err := c.subscribe(reply, func(m Msg) {
		select {
		case answer <- m:
		default:
		}
	})
	if err != nil {
		return Msg{}, err
	}
	defer s.Stop()
	if err := c.publish(Msg{Subject: subject, Reply: reply, Data: data}); err != nil {
		return Msg{}, err
	}
	select {
	case m := <-answer:
		return m, nil
	case <-s.stop:
		return Msg{}, ErrClosed
	case <-life:
		return Msg{}, ErrDown
	case <-ctx.Done():
		return Msg{}, ctx.Err()
	}
}

func (c *memConn) Up() bool {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	return !c.cut && !c.closed
}

func (c *memConn) changed() {
	select {
	case c.changes <- struct{}{}:
	default:
	}
}

func (c *memConn) Changes() <-chan struct{} { return c.changes }
func (c *memConn) Trouble() error           { return nil }
func (c *memConn) Server() string           { return "memory" }
func (c *memConn) MaxPayload() int          { return memPayload }

// Flush has nothing to wait for: Publish brings a message as far as it gets.
func (c *memConn) Flush(ctx context.Context) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	switch {
	case c.closed:
		return ErrClosed
	case c.cut:
		return ErrDown
	}
	return ctx.Err()
}

func (c *memConn) Close() {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.closed = true
	for _, s := range c.subs {
		s.once.Do(func() { close(s.stop) })
	}
	c.subs = nil
	c.net.conns = slices.DeleteFunc(c.net.conns, func(o *memConn) bool { return o == c })
	c.changed()
}
