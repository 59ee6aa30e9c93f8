// Package hold keeps one database for one node, as long as that lives: a driver says how its server gives the
// database to a session and takes it back when that ends, and a Hold keeps such a session alive and opens another
// when it is lost.
//
// A lock alone does not make it right: its session can be lost while another one goes on writing. So each session has
// a random token, which the server shows beside the lock, and a driver asks in each transaction, before it reads the
// position, whether the token it knows still has the lock. Without it nothing is written.
package hold

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// DefaultWait is how long a node waits for a database that another session has: those of a process that was killed
// end soon after it.
const DefaultWait = 5 * time.Second

// Beat is how often a session is used, so that both ends see soon that the other one is gone.
const Beat = 5 * time.Second

// Silence is how long a server keeps a session of which it hears nothing.
const Silence = 30 * time.Second

// Token is what tells one session from all others. Zero stands for none.
type Token uint64

// NewToken draws one.
func NewToken() Token {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		if v := Token(binary.LittleEndian.Uint64(b[:])); v != 0 {
			return v
		}
	}
}

// Session has the database at the server.
type Session interface {
	// Beat fails when the session is lost, or does not have the database any more. It is called by one goroutine at a
	// time.
	Beat(ctx context.Context) error
	// Close gives the database back.
	Close()
}

// Taker opens a session that has the database, by the name of token. old are the tokens of sessions of this node that
// the server may not have noticed the end of, which it is to end: of the one before, and token itself when an earlier
// call failed and may have taken the database all the same. nodeclient.ErrTaken: another node has the database.
type Taker func(ctx context.Context, token Token, old []Token) (Session, error)

// Hold is a node's right to its database. All methods but Close may be called at any time; those that take a ctx
// block as long as the server does.
type Hold struct {
	driver, database string // for people
	take             Taker
	stop             context.CancelFunc
	beats            sync.WaitGroup

	mu      sync.Mutex
	session Session // nil: none
	token   Token   // of the newest one; zero before the first
	next    Token   // of one whose opening failed, if it did: the server may have given it the database
	closed  bool
	// lapsed says that it was lost and taken again since the position was last found where the node left it: in
	// between another node may have used the database.
	lapsed bool
}

// New makes a Hold that has nothing yet, and uses what it will have every beat; 0 for never. The caller closes it.
func New(driver, database string, beat time.Duration, take Taker) *Hold {
	ctx, stop := context.WithCancel(context.Background())
	h := &Hold{driver: driver, database: database, take: take, stop: stop}
	if beat > 0 {
		h.beats.Go(func() { h.beat(ctx, beat) })
	}
	return h
}

// beat uses the session every now and then, and replaces it when it is lost.
func (h *Hold) beat(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.once(ctx)
		}
	}
}

// once is one beat. What comes of a new session, whoever uses the database next sees.
func (h *Hold) once(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, Silence/3)
	defer cancel()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.session != nil && h.session.Beat(ctx) != nil {
		h.drop()
	}
	if h.session == nil && h.token != 0 && ctx.Err() == nil { // not while Close waits
		_ = h.open(ctx)
	}
}

func (h *Hold) drop() {
	if h.session != nil {
		h.session.Close()
		h.session = nil
	}
}

func (h *Hold) open(ctx context.Context) error {
	var old []Token
	if h.token != 0 {
		old = append(old, h.token)
	}
	if h.next != 0 {
		old = append(old, h.next)
	} else {
		h.next = NewToken()
	}
	s, err := h.take(ctx, h.next, old)
	if err != nil {
		return err
	}
	h.session, h.lapsed, h.token, h.next = s, h.lapsed || h.token != 0, h.next, 0
	return nil
}

// Ensure takes the database unless a session has it as far as this node knows, and returns the token to ask the
// server for. nodeclient.ErrTaken: another node has it.
func (h *Hold) Ensure(ctx context.Context) (Token, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return 0, fmt.Errorf("%s: the target %s has been closed", h.driver, h.database)
	}
	if h.session == nil {
		err := h.open(ctx)
		if err != nil && !errors.Is(err, nodeclient.ErrTaken) && ctx.Err() == nil {
			err = h.open(ctx) // the answer may have been lost: whoever gives up now leaves a session that keeps all away
		}
		if err != nil {
			return 0, err
		}
	}
	return h.token, nil
}

// Lost says that the server does not know the session with this token.
func (h *Hold) Lost(token Token) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.token == token {
		h.drop()
	}
}

// ErrLost is returned when a session is lost as often as it is opened.
var ErrLost = errors.New("the session that holds the database for this node was lost again right after it was opened")

// Advance is nodeclient.CheckAdvance for a node that may have been without its database for a while: what another has
// done then is no reason to give up the copy. The error does not name the driver, like that of CheckAdvance: who adds
// what was tried names it.
func (h *Hold) Advance(stored, before event.Position) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err := nodeclient.CheckAdvance(stored, before)
	switch {
	case err == nil:
		h.lapsed = false
	case h.lapsed && nodeclient.IsFatal(err):
		return nodeclient.Transient(fmt.Errorf("%w (%s), or has used it while this one had lost its lock:"+
			" this node left it at %s and finds it at %s. Start this node again",
			nodeclient.ErrTaken, h.database, before, stored))
	}
	return err
}

// Close gives the database back.
func (h *Hold) Close() {
	h.stop()
	h.beats.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.drop()
}
