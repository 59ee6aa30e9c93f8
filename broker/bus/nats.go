package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"xmq/broker/event"
	"xmq/broker/secret"
)

// PendingMsgs and PendingBytes bound what piles up at one slow subscription before messages are lost.
const (
	PendingMsgs  = 64 << 10
	PendingBytes = 64 << 20
)

type natsConn struct {
	nc      *nats.Conn
	changes chan struct{}
	mu      sync.Mutex
	life    context.Context // of the connection that stands now; ends when it is cut
	cut     context.CancelFunc
	trouble error
	url     string
}

// troubled remembers what is wrong with the connection; nil: it stands.
func (c *natsConn) troubled(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trouble = nil; err != nil {
		c.trouble = secret.Hide(named(err), c.url)
	}
}

// Refused reports that a Trouble is that nobody listens there.
func Refused(trouble error) bool {
	text := trouble.Error()
	return strings.Contains(text, "connection refused") || strings.Contains(text, nats.ErrNoServers.Error())
}

func (c *natsConn) Trouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.nc.IsConnected() && c.nc.LastError() != nil { // of a handshake: NATS calls nobody for that
		return secret.Hide(named(c.nc.LastError()), c.url)
	}
	return c.trouble
}

// named says what was met, where NATS says only what it had expected.
func named(err error) error {
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "read" && op.Timeout():
		return fmt.Errorf("what answers there says nothing: is it a NATS server (%w)?", err)
	case errors.Is(err, nats.ErrNoInfoReceived):
		return fmt.Errorf("what answers there is no NATS server (%w)", err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("the server there has no TLS, and tls:// asks for it (%w)", err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("what answers there has closed the connection: is it a NATS server (%w)?", err)
	}
	return err
}

// lives begins the life of the next connection and ends that of the one before.
func (c *natsConn) lives() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut != nil {
		c.cut()
	}
	c.life, c.cut = context.WithCancel(context.Background())
}

// Dial connects to a NATS server as id, whose inbox prefix it takes (replies go nowhere else). It returns at
// once, also when the server is not there yet: connecting and reconnecting goes on in the background, with
// backoff from 100 ms to 2 s. extra options come last, for example nats.InProcessServer or credentials.
func Dial(url, id string, extra ...nats.Option) (Conn, error) {
	c := &natsConn{changes: make(chan struct{}, 1), url: url}
	c.lives()
	changed := func(*nats.Conn) {
		select {
		case c.changes <- struct{}{}:
		default:
		}
	}
	stands := func(nc *nats.Conn) {
		c.troubled(nil)
		changed(nc)
	}
	opts := append([]nats.Option{
		nats.Name("xmq " + id),
		nats.CustomInboxPrefix(event.InboxPrefix(id)),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			changed(nil) // why the last try failed
			return min(100*time.Millisecond<<min(attempts, 5), 2*time.Second)
		}),
		nats.ReconnectBufSize(-1), // a message for later is a message lost: its sender repeats it
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.Timeout(5 * time.Second),
		// a password that is refused now may be right later: it is tried on, as everything is
		nats.IgnoreAuthErrorAbort(),
		nats.ConnectHandler(stands),
		nats.ReconnectHandler(stands),
		nats.ReconnectErrHandler(func(nc *nats.Conn, err error) {
			c.troubled(err)
			changed(nc)
		}),
		nats.ClosedHandler(changed),
		nats.DisconnectErrHandler(func(nc *nats.Conn, _ error) {
			c.lives()
			changed(nc)
		}),
		// of a slow consumer the loss heals by repetition
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) || errors.Is(err, nats.ErrAuthorization) {
				c.troubled(err)
				changed(nc)
			}
		}),
	}, extra...)
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", secret.URL(url), secret.Hide(err, url))
	}
	c.nc = nc
	return c, nil
}

func (c *natsConn) Publish(subject string, data []byte) error {
	return c.roadError(c.nc.Publish(subject, data))
}

func (c *natsConn) Ask(subject, reply string, data []byte) error {
	return c.roadError(c.nc.PublishRequest(subject, reply, data))
}

func (c *natsConn) Subscribe(subject string, h func(Msg)) (Subscription, error) {
	s, err := c.nc.Subscribe(subject, func(m *nats.Msg) { h(Msg{m.Subject, m.Reply, m.Data}) })
	if err != nil {
		return nil, c.roadError(err)
	}
	if err := s.SetPendingLimits(PendingMsgs, PendingBytes); err != nil {
		return nil, c.roadError(err)
	}
	return natsSub{s}, nil
}

type natsSub struct{ s *nats.Subscription }

func (s natsSub) Stop() { _ = s.s.Unsubscribe() } // fails only when the connection is closed: then it has stopped

func (c *natsConn) Request(ctx context.Context, subject string, data []byte) (Msg, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.mu.Lock()
	life := c.life
	c.mu.Unlock()
	defer context.AfterFunc(life, func() { cancel(ErrDown) })() // NATS itself lets requests wait across a cut
	m, err := c.nc.RequestWithContext(ctx, subject, data)
	if err != nil && !c.nc.IsClosed() && context.Cause(ctx) == ErrDown {
		return Msg{}, ErrDown
	}
	if err != nil {
		return Msg{}, c.roadError(err)
	}
	return Msg{m.Subject, m.Reply, m.Data}, nil
}

func (c *natsConn) Up() bool                 { return c.nc.IsConnected() }
func (c *natsConn) Changes() <-chan struct{} { return c.changes }
func (c *natsConn) Server() string           { return secret.URL(c.url) }
func (c *natsConn) MaxPayload() int          { return int(c.nc.MaxPayload()) }
func (c *natsConn) Close()                   { c.nc.Close() }

func (c *natsConn) Flush(ctx context.Context) error {
	if !c.nc.IsConnected() && !c.nc.IsClosed() {
		return ErrDown
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout) // NATS wants a deadline
	defer cancel()
	return c.roadError(c.nc.FlushWithContext(ctx))
}

// flushTimeout ends a Flush whose caller has set no earlier end: the pings will have noticed a dead connection.
const flushTimeout = time.Minute

func (c *natsConn) roadError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrNoResponders):
		return ErrNobody
	case errors.Is(err, nats.ErrMaxPayload):
		return ErrTooLarge
	case errors.Is(err, nats.ErrConnectionClosed): // also what NATS says to requests under way at a mere cut
		if !c.nc.IsClosed() {
			return ErrDown
		}
		return ErrClosed
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrDisconnected),
		errors.Is(err, nats.ErrConnectionReconnecting):
		return ErrDown
	}
	return err
}
