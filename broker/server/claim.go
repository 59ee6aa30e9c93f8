package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"xmq/broker/bus"
	"xmq/broker/event"
)

// claim is what a broker says of itself to others of its group on one NATS server: only one of them may serve it. Of
// two, the one that started later gives way, of two that started at once the one with the larger log ID.
type claim struct {
	started int64 // nanoseconds since 1970; 0 of a broker that does not say it
	log     event.LogID
	nonce   uint64 // of the process
}

func (c claim) String() string { return fmt.Sprintf("%s %d %016x", c.log, c.started, c.nonce) }

// parseClaim reads a claim. A broker of before says its log ID alone.
func parseClaim(data []byte) (c claim, ok bool) {
	fields := strings.Fields(string(data))
	if len(fields) != 1 && len(fields) != 3 || len(data) > 100 {
		return claim{}, false
	}
	var err error
	if c.log, err = event.ParseLogID(fields[0]); err == nil && len(fields) == 3 {
		if c.started, err = strconv.ParseInt(fields[1], 10, 64); err == nil {
			c.nonce, err = strconv.ParseUint(fields[2], 16, 64)
		}
	}
	return c, err == nil
}

// before reports whether c is served, and other gives way to it.
func (c claim) before(other claim) bool {
	switch {
	case c.started != other.started:
		return c.started < other.started
	case c.log != other.log:
		return c.log < other.log
	}
	return c.nonce < other.nonce
}

// claimEvery is how often a broker at an external NATS server says that it serves its group: two that were parted
// find each other. claimSettle is how long a new one listens for others that came at the same moment, before it
// serves.
const (
	claimEvery  = 5 * time.Second
	claimSettle = 300 * time.Millisecond
)

// claimGroup waits for the NATS server and makes sure that this broker may serve its group there: messages are large
// enough, and no other broker does. It subscribes before it says that it is there, so of two that start together each
// hears the other or is heard.
func (b *Broker) claimGroup(ctx context.Context, p *parts) error {
	for !b.conn.Up() {
		select {
		case <-b.conn.Changes():
		case <-ctx.Done():
			return b.awayNATS(context.Cause(ctx))
		}
	}
	if err := b.conn.Flush(ctx); err != nil {
		return b.awayNATS(err)
	}
	if err := b.payloadTooSmall(); err != nil {
		return err
	}
	subject := event.Subject(b.cfg.Group, event.Info, Self)
	m, err := b.conn.Request(ctx, subject, nil)
	if other, ok := parseClaim(m.Data); err == nil && ok {
		return b.yield(other)
	}
	if !errors.Is(err, bus.ErrNobody) {
		return say(errTemporary, "another broker may serve group %s on %s, but it does not answer (%v): stop it or choose "+
			"another --group", b.cfg.Group, b.NATSURL(), b.silence(err))
	}
	s, err := b.conn.Subscribe(subject, b.introduce)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	p.subscriptions = append(p.subscriptions, s)
	if b.server != nil {
		return nil // nobody else serves on it
	}
	b.announce()
	settled := time.NewTimer(claimSettle)
	defer settled.Stop()
	select {
	case other := <-b.rival:
		return b.yield(other)
	case <-ctx.Done():
		return b.awayNATS(context.Cause(ctx))
	case <-settled.C:
		return nil
	}
}

// hold says again that this broker serves its group, at every reconnect and from time to time, and ends with an error
// when it has to give way to another.
func (b *Broker) hold(ctx context.Context) error {
	t := time.NewTicker(claimEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case other := <-b.rival:
			return b.yield(other)
		case <-b.conn.Changes():
		case <-t.C:
		}
		b.announce()
	}
}

// announce tells all brokers of the group that this one serves it.
func (b *Broker) announce() {
	if err := b.conn.Publish(event.Subject(b.cfg.Group, event.Info, Self), []byte(b.claim.String())); err != nil {
		b.log.Debug("not announced", "err", err)
	}
}

// introduce takes what another broker says on the subject of its group: a question is answered, and of two claims one
// gives way.
func (b *Broker) introduce(m bus.Msg) {
	if m.Reply != "" {
		if !event.ReplyAllowed(Self, m.Reply) {
			return
		}
		if err := b.conn.Publish(m.Reply, []byte(b.claim.String())); err != nil {
			b.log.Debug("answer lost", "err", err)
		}
		return
	}
	other, ok := parseClaim(m.Data)
	switch {
	case !ok || other.nonce == b.claim.nonce:
	case other.before(b.claim):
		select {
		case b.rival <- other:
		default: // one is enough
		}
	default:
		b.announce() // so that the other one gives way
	}
}

// yield is the end of a broker that gives way.
func (b *Broker) yield(other claim) error {
	return say(errTemporary, "another broker, with the log %s, serves group %s on %s: stop it or choose another "+
		"--group; if both have taken increments, "+
		"the nodes follow one of these logs only", other.log, b.cfg.Group, b.NATSURL())
}

// payload is the largest message a NATS server has to carry for this broker.
func (c *Config) payload() int { return max(c.MaxIncrement, c.TurnBytes) + natsMargin }

// payloadTooSmall says what to do when the NATS server cannot carry what this broker sends.
func (b *Broker) payloadTooSmall() error {
	if need, have := b.cfg.payload(), b.conn.MaxPayload(); 0 < have && have < need {
		return say(ErrConfig, "the NATS server %s takes messages of %d bytes, but max_increment of %d and turn_bytes of "+
			"%d need %d: raise its max_payload or lower these",
			b.NATSURL(), have, b.cfg.MaxIncrement, b.cfg.TurnBytes, need)
	}
	return nil
}
