package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"xmq/broker/bus"
	"xmq/broker/event"
)

// followers are many clients that follow and have nothing to do. They speak the protocol of nodes, so the broker's side
// is real, but share one connection: ten thousand agents and connections in this process would be measured instead of
// the broker. What a connection of its own costs the NATS server is therefore not in the figures.
type followers struct {
	conn   bus.Conn
	ids    []string
	frames bus.Subscription
	moved  chan struct{} // one slot: answers or arrivals have grown

	rarely   atomic.Int64 // what the broker has said last, ns
	mu       sync.Mutex
	pos      []event.Position
	answers  int    // to heartbeats, since somebody waited for them
	arrivals int    // of increments
	seen     func() // an increment has arrived; nil: nobody looks
}

// followerCount is how many clients.
func followerCount(p *Params) int { return pick(p, 10_000, 200) }

// followerBeat is how often each client says where it is, as a node does, unless the broker lets it be silent for
// longer.
const followerBeat = 5 * time.Second

func newFollowers(url string, ids []string) (*followers, error) {
	conn, err := bus.Dial(url, "followers")
	if err != nil {
		return nil, err
	}
	c := &followers{conn: conn, ids: ids, pos: make([]event.Position, len(ids)), moved: make(chan struct{}, 1)}
	if c.frames, err = conn.Subscribe(event.AnySubject("main", event.Down), c.take); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *followers) close() {
	c.frames.Stop()
	c.conn.Close()
}

// join opens a session for each client and waits until the broker feeds all of them.
func (c *followers) join(ctx context.Context, log event.LogID) error {
	if err := c.conn.Flush(ctx); err != nil {
		return err
	}
	for i := range c.ids {
		c.mu.Lock()
		c.pos[i] = event.Start(log)
		c.mu.Unlock()
		if err := c.say(i, event.Event{State: event.None,
			Body: event.Hello{Master: true, Target: "followers"}.Encode()}); err != nil {
			return err
		}
	}
	return c.all(ctx, &c.answers)
}

// rest lets each client say where it is, and waits for all answers: the broker has then taken everything said before.
func (c *followers) rest(ctx context.Context) error {
	for i := range c.ids {
		if err := c.say(i, event.Event{State: event.Succ}); err != nil {
			return err
		}
	}
	return c.all(ctx, &c.answers)
}

// all waits until count stands at one for each client, and sets it back.
func (c *followers) all(ctx context.Context, count *int) error {
	for {
		c.mu.Lock()
		n := *count
		if n >= len(c.ids) {
			*count = 0
		}
		c.mu.Unlock()
		if n >= len(c.ids) {
			return nil
		}
		select {
		case <-c.moved:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d clients were heard: %w", n, len(c.ids), ctx.Err())
		}
	}
}

func (c *followers) say(i int, e event.Event) error {
	c.mu.Lock()
	e.Pos = c.pos[i]
	c.mu.Unlock()
	e.Kind, e.Group, e.ID, e.Session = event.IncrReq, "main", c.ids[i],
		event.Session{Instance: event.Instance(i + 1), Turn: 1}
	e.CreditRecords, e.CreditBytes = 8192, 8<<20
	return c.conn.Publish(event.Subject("main", event.Up, e.ID), e.Append(nil))
}

// take hears what the broker says to anybody.
func (c *followers) take(m bus.Msg) {
	e, err := event.Decode(m.Data)
	if err != nil || len(e.ID) < 2 || e.Kind != event.IncrRep {
		return
	}
	i, err := strconv.Atoi(e.ID[1:])
	if err != nil || i < 0 || i >= len(c.ids) {
		return
	}
	switch {
	case e.Code == event.Welcome:
		// The session begins. It is lost when the connection is cut: then nobody is counted.
		_ = c.say(i, event.Event{State: event.Succ})
	case e.Code == event.NoCode && len(e.Body) == 0:
		c.rarely.Store(int64(e.LeaseMS) * int64(time.Millisecond))
		c.counted(&c.answers)
	case e.Code == event.NoCode && len(e.Body) > 0:
		c.advance(i, e)
	}
}

// advance takes and acknowledges a frame.
func (c *followers) advance(i int, e event.Event) {
	c.mu.Lock()
	at := c.pos[i]
	c.mu.Unlock()
	if e.Pos != at {
		return // a repetition
	}
	if err := event.Walk(e.Body, at, func(i event.Item) error { at = i.Pos; return nil }); err != nil {
		return
	}
	c.mu.Lock()
	c.pos[i] = at
	seen := c.seen
	c.mu.Unlock()
	if seen != nil {
		seen()
	}
	_ = c.say(i, event.Event{State: event.Succ}) // the next heartbeat says it again
	c.counted(&c.arrivals)
}

func (c *followers) counted(count *int) {
	c.mu.Lock()
	*count++
	c.mu.Unlock()
	select {
	case c.moved <- struct{}{}:
	default:
	}
}

// beat says for everybody in turn where it is, for a while.
func (c *followers) beat(ctx context.Context, d time.Duration) error {
	const step = 10 * time.Millisecond
	t := time.NewTicker(step)
	defer t.Stop()
	next, began := 0, time.Now()
	followerBeat := max(followerBeat, time.Duration(c.rarely.Load()))
	for {
		due := int(float64(len(c.ids)) * float64(time.Since(began)) / float64(followerBeat))
		for ; next < due; next++ {
			if err := c.say(next%len(c.ids), event.Event{State: event.Succ}); err != nil {
				return err
			}
		}
		if time.Since(began) >= d {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return errors.Join(errors.New("interrupted"), ctx.Err())
		}
	}
}
