package server

import (
	"container/list"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Descriptors of the process that are kept for the stores, and the limit of the process below which connections get
// less.
const (
	storeFiles = 256
	fewFiles   = 512
)

// maxNATS is how many connections the embedded NATS server takes when there are descriptors enough.
const maxNATS = 16384

// caps are how many connections may be there at once.
type caps struct{ http, nats int }

// connectionCaps raises the limit of open files as far as this process may, and shares out what the stores leave of
// it: half to HTTP at most, the rest to NATS.
func connectionCaps(cfg *Config, log *slog.Logger) (caps, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return caps{}, err
	}
	if raised := (syscall.Rlimit{Cur: limit.Max, Max: limit.Max}); limit.Cur < limit.Max &&
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
		limit = raised
	}
	return shareOut(int(min(limit.Cur, 1<<20)), cfg, log)
}

// shareOut is connectionCaps with a limit of open files.
func shareOut(limit int, cfg *Config, log *slog.Logger) (caps, error) {
	room := limit - storeFiles
	if limit < fewFiles {
		room = (limit - storeFiles/2) / 2
		if room < 8 {
			return caps{}, say(ErrConfig, "this process may open %d files at once, which is too few for the broker's stores: "+
				"raise the limit (ulimit -n) to %d or more", limit, fewFiles)
		}
		log.Warn("this process may open few files, so it takes few connections: raise the limit (ulimit -n)", "files", limit,
			"connections", room)
	}
	var c caps
	if cfg.NATSURL == "" {
		c.nats = min(maxNATS, room-room/2)
		room -= c.nats
		if cfg.HTTPConns > 0 && cfg.HTTPConns < room { // what HTTP does not want goes to NATS
			c.nats = min(maxNATS, c.nats+room-cfg.HTTPConns)
		}
	}
	c.http = room
	if cfg.HTTPConns > 0 {
		c.http = min(room, cfg.HTTPConns)
	}
	return c, nil
}

// connCounter counts the connections of all HTTP listeners, in total and by address.
type connCounter struct {
	all, each int // how many there may be; each 0 for no limit
	mu        sync.Mutex
	count     int
	by        map[string]int
	idle      list.List     // of *countedConn, those that wait for a request, the longest first
	refusing  chan struct{} // has a place for each refused connection that is still there
}

func newConnCounter(all, each int) *connCounter {
	return &connCounter{all: all, each: each, by: map[string]int{}, refusing: make(chan struct{}, refusals)}
}

// idleEnough is how long a connection has had nothing to do before it gives way to a new one.
const idleEnough = time.Second

// enter counts a connection in; false when there are too many. Before that the one that has been idle the longest
// gives way, of the same address when that has too many: connections that were left open keep nobody out who has
// something to say.
func (c *connCounter) enter(conn net.Conn) (*countedConn, bool) {
	host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
	c.mu.Lock()
	defer c.mu.Unlock()
	crowded := c.each > 0 && c.by[host] >= c.each
	if crowded || c.count >= c.all {
		old := c.longestIdle(host, crowded)
		if old == nil {
			return nil, false
		}
		c.out(old)
		_ = old.Conn.Close() // its reader ends
	}
	c.count++
	c.by[host]++
	return &countedConn{Conn: conn, counter: c, host: host}, true
}

// longestIdle finds who gives way, of one address or of all; nil for nobody. Caller holds mu.
func (c *connCounter) longestIdle(host string, own bool) *countedConn {
	for e := c.idle.Front(); e != nil; e = e.Next() {
		one := e.Value.(*countedConn)
		if time.Since(one.since) < idleEnough {
			return nil
		}
		if !own || one.host == host {
			return one
		}
	}
	return nil
}

// out counts a connection out, once. Caller holds mu.
func (c *connCounter) out(one *countedConn) {
	if one.gone {
		return
	}
	one.gone = true
	c.busy(one)
	c.count--
	if c.by[one.host]--; c.by[one.host] == 0 {
		delete(c.by, one.host)
	}
}

// busy takes a connection from those that are idle. Caller holds mu.
func (c *connCounter) busy(one *countedConn) {
	if one.waits != nil {
		c.idle.Remove(one.waits)
		one.waits = nil
	}
}

// state is told by net/http what becomes of a connection.
func (c *connCounter) state(conn net.Conn, now http.ConnState) {
	one, counted := conn.(*countedConn)
	if !counted {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy(one)
	if now == http.StateIdle && !one.gone {
		one.since, one.waits = time.Now(), c.idle.PushBack(one)
	}
}

// tooMany is the answer on a connection that is one too many.
var tooMany = func() string {
	const text = `{"error":"too many connections are open, in total or from this address (http_conns, ` +
		`http_conns_per_address): close some or try again",` +
		`"code":"busy","retryable":true}` + "\n"
	return fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: "+
		"%d\r\nRetry-After: 1\r\nConnection: close\r\n\r\n%s",
		len(text), text)
}()

// capped is a listener whose connections counter counts. One too many is answered with tooMany and closed.
type capped struct {
	net.Listener
	counter *connCounter
}

func (l *capped) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if counted, ok := l.counter.enter(c); ok {
			return counted, nil
		}
		select {
		case l.counter.refusing <- struct{}{}:
			go func() {
				defer func() { <-l.counter.refusing }()
				refuseConn(c)
			}()
		default: // the answer fits into an empty socket, and may be lost
			_ = c.SetDeadline(time.Now().Add(refusalTime))
			_, _ = c.Write([]byte(tooMany))
			_ = c.Close()
		}
	}
}

// A refused connection is kept for twice refusalTime at most, and refusals of them at once, which come from the
// descriptors of the stores.
const (
	refusalTime = 200 * time.Millisecond
	refusals    = 32
)

// refuseConn answers a connection that is one too many, so that the answer arrives: not before the request, since a
// client may take an answer to nothing for an error, and with the rest read before the end, since a connection that
// is closed while something is unread takes back what its client has not read yet.
func refuseConn(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(refusalTime))
	_, _ = c.Read(make([]byte, 4<<10)) // a client may say nothing
	_ = c.SetDeadline(time.Now().Add(refusalTime))
	_, _ = c.Write([]byte(tooMany))
	if t, ok := c.(*net.TCPConn); ok && t.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c, 64<<10)
	}
	_ = c.Close()
}

// countedConn is a connection that counter counts. What counter keeps of it is under its lock.
type countedConn struct {
	net.Conn
	counter *connCounter
	host    string
	gone    bool          // it is counted out
	waits   *list.Element // in counter.idle, while it is idle
	since   time.Time     // it is idle
}

func (c *countedConn) Close() error {
	defer func() {
		c.counter.mu.Lock()
		defer c.counter.mu.Unlock()
		c.counter.out(c)
	}()
	return c.Conn.Close()
}

// CloseWrite is what net/http needs to end a connection so that the last answer is still read.
func (c *countedConn) CloseWrite() error {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		return t.CloseWrite()
	}
	return nil
}

// natsCheck is the embedded NATS server's check of who connects. It refuses nobody but connections above the cap of
// their address: the server has no such cap of its own. That there is a check at all makes the server end connections
// that do not introduce themselves in time.
type natsCheck struct {
	each   int // connections of one address; 0 for no limit
	server *server.Server
	log    *slog.Logger
	mu     sync.Mutex
	by     map[string]map[uint64]bool // by address: the server's numbers of connections, some of which may have ended
	warned time.Time
}

// Check is called when a connection introduces itself.
func (n *natsCheck) Check(c server.ClientAuthentication) bool {
	addr, remote := c.RemoteAddress().(*net.TCPAddr)
	if !remote || n.each == 0 {
		return true
	}
	host := addr.IP.String()
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.by[host]
	if all == nil {
		all = map[uint64]bool{}
		n.by[host] = all
	}
	if len(all) >= n.each {
		n.forget(all)
	}
	if len(all) < n.each || all[c.GetID()] {
		all[c.GetID()] = true
		return true
	}
	if now := time.Now(); now.Sub(n.warned) > 10*time.Second {
		n.warned = now
		n.log.Warn("a NATS connection was closed: its address has too many (nats_conns_per_address)", "address", host,
			"connections", n.each)
	}
	// Closed first: a client that is told that it may not connect gives up for ever.
	_ = n.server.DisconnectClientByID(c.GetID())
	return false
}

// forget drops the connections that have ended.
func (n *natsCheck) forget(all map[uint64]bool) {
	for id := range all {
		if n.server.GetClient(id) == nil {
			delete(all, id)
		}
	}
}
