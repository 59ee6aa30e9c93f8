package redis

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// dialTime is how long a connection may take to be made.
const dialTime = 10 * time.Second

// conn is the way to one logical database. Nothing is sent twice, and waiting for an answer ends when until says so:
// the client itself does not look at a context while it reads. It is for concurrent use.
type conn struct {
	*redis.Client
	mu    sync.Mutex
	lines map[*line]bool
}

// line is one connection.
type line struct {
	net.Conn
	conn *conn
}

func (l *line) Close() error {
	l.conn.mu.Lock()
	delete(l.conn.lines, l)
	l.conn.mu.Unlock()
	return l.Conn.Close()
}

// SyscallConn lets the client see that the server has closed a connection that lies idle.
func (l *line) SyscallConn() (syscall.RawConn, error) {
	if c, ok := l.Conn.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// quiet keeps the client from writing to the log of the whole process: what it says there it also returns as an error.
var quiet = sync.OnceFunc(func() { redis.SetLogger(silence{}) })

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// newConn makes the way to a logical database; the first use connects.
func newConn(o redis.Options, db int) *conn {
	quiet()
	r := &conn{lines: make(map[*line]bool)}
	o.DB, o.Protocol = db, 2
	o.MaxRetries, o.DialerRetries = -1, 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = dialTime, -1, -1
	o.PoolSize = 4
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	dial := redis.NewDialer(&o)
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		l := &line{c, r}
		r.mu.Lock()
		r.lines[l] = true
		r.mu.Unlock()
		return l, nil
	}
	r.Client = redis.NewClient(&o)
	return r
}

// cut ends all connections: whoever waits for an answer gets an error, and the next use connects anew.
func (r *conn) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.lines {
		_ = l.Conn.Close() // it is to be cut
	}
}

// until cuts the connection when ctx ends; the caller calls the returned function when it waits no longer.
func (r *conn) until(ctx context.Context) (done func()) {
	stop := context.AfterFunc(ctx, r.cut)
	return func() { stop() }
}
