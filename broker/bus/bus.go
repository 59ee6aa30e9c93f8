// Package bus is the network between nodes and broker, as they see it: messages on subjects, which may be lost,
// repeated and cut off, and requests with one answer. NATS is the real one (Dial); the in-memory twin (Mem) can lose,
// repeat, delay and cut on purpose. Both pass one conformance suite (bustest). It carries and decides nothing:
// durability is the log's.
package bus

import (
	"context"
	"errors"
	"fmt"
)

// Errors of every implementation.
var (
	// ErrDown is returned when the connection is cut now: the message was not sent. Reconnecting goes on by
	// itself.
	ErrDown = errors.New("the connection is down")
	// ErrNobody is returned by Request when nobody listens on the subject.
	ErrNobody = errors.New("nobody answers on this subject")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the connection is closed")
	// ErrTooLarge is returned for data above MaxPayload; nothing was sent.
	ErrTooLarge = errors.New("the message is larger than the NATS server takes: raise its max_payload")
)

// Unserved is the ErrNobody of a group: no broker listens there.
type Unserved struct{ Group, Server string }

func (u *Unserved) Error() string {
	return fmt.Sprintf("nobody serves group %s at %s: is the broker running, and is the group's name right?", u.Group,
		u.Server)
}

// Unwrap makes it an ErrNobody.
func (u *Unserved) Unwrap() error { return ErrNobody }

// Unanswered reports whether m, which came to the reply address of an Ask, says that nobody listened.
func Unanswered(m Msg) bool { return len(m.Data) == 0 && m.Reply == "" }

// Msg is one message. Whoever receives it owns Data.
type Msg struct {
	Subject string
	Reply   string // where an answer goes; empty when none is wanted
	Data    []byte
}

// Conn is one connection. Methods are safe for concurrent use.
type Conn interface {
	// Publish sends data to whoever listens on subject now. It copies data and never waits for a receiver.
	// nil means "on its way", not "arrived".
	Publish(subject string, data []byte) error
	// Ask is Publish with a reply address, for senders that have many questions under way: the caller has subscribed to
	// it, inside its own inbox. ErrNobody may come at once, or an empty message without a Reply to that address says so
	// later, or nothing does.
	Ask(subject, reply string, data []byte) error
	// Subscribe calls h for every message on subject, one at a time, in the order of arrival. The last
	// token of subject may be "*", which matches any one token. A handler that is slow lets messages pile
	// up to a bound (PendingMsgs, PendingBytes) and then be lost; it delays nobody else. Stop does not wait: after it
	// at most the one call that was beginning goes on.
	Subscribe(subject string, h func(Msg)) (Subscription, error)
	// Request publishes data with a reply address inside this connection's own inbox and waits for the
	// first answer, ErrNobody, ErrDown, ErrClosed or the end of ctx. A cut of this connection while it waits is
	// ErrDown: the answer will not come any more. One at the other end shows as the end of ctx, so ctx needs one. After
	// an error somebody may have received the data all the same.
	Request(ctx context.Context, subject string, data []byte) (Msg, error)
	// Up reports whether the connection stands now; Changes gets a token (one slot) whenever that may have
	// changed.
	Up() bool
	Changes() <-chan struct{}
	// Trouble is why the connection does not stand, or what its server refuses, as it was told last, without secrets: a
	// name that is not known, a certificate, a password, a subject. nil: nothing is known to be wrong.
	Trouble() error
	// Server is the URL of its server, as it was given, without secrets.
	Server() string
	// MaxPayload is the largest data in bytes, as far as known now: 0 before the first connection.
	MaxPayload() int
	// Flush waits until everything published before has left, ErrDown, ErrClosed or the end of ctx.
	Flush(ctx context.Context) error
	// Close ends all subscriptions and requests. It does not wait for handlers: at most one call of each that was
	// beginning goes on.
	Close()
}

// Subscription is one Subscribe.
type Subscription interface{ Stop() }
