package integration

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proxy is a TCP link that can be cut, delayed and stopped.
type proxy struct {
	t     *testing.T
	l     net.Listener
	to    string
	delay time.Duration
	mu    sync.Mutex
	open  map[net.Conn]bool
	down  bool
	still chan struct{} // while it is not nil and open nothing more is read of what the server says

	carried atomic.Int64 // bytes, both ways
}

func newProxy(t *testing.T, to string, delay time.Duration) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{t: t, l: l, to: to, delay: delay, open: map[net.Conn]bool{}}
	go p.accept() // ends with the listener
	t.Cleanup(func() { _ = l.Close(); p.cut(true) })
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

// cut closes all connections; down refuses new ones as well.
func (p *proxy) cut(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	for c := range p.open {
		_ = c.Close() // it may be closed already
	}
	p.open = map[net.Conn]bool{}
}

func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// hold stops reading what the server says, but keeps the connections, until the returned function is called.
func (p *proxy) hold() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	still := make(chan struct{})
	p.still = still
	return sync.OnceFunc(func() { close(still) })
}

// held waits while the link is stopped.
func (p *proxy) held() {
	p.mu.Lock()
	still := p.still
	p.mu.Unlock()
	if still != nil {
		<-still
	}
}

func (p *proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.to)
		p.mu.Lock()
		if err != nil || p.down {
			_ = c.Close()
			if err == nil {
				_ = s.Close()
			}
			p.mu.Unlock()
			continue
		}
		p.open[c], p.open[s] = true, true
		p.mu.Unlock()
		go p.carry(c, s, func() {})
		go p.carry(s, c, p.held)
	}
}

// carry copies one way; every piece arrives delay after it was read, however many are under way. It asks may before
// each reading.
func (p *proxy) carry(from, to net.Conn, may func()) {
	type piece struct {
		due  time.Time
		data []byte
	}
	pieces := make(chan piece, 4096)
	go func() {
		defer to.Close()
		for x := range pieces {
			<-time.After(time.Until(x.due))
			if _, err := to.Write(x.data); err != nil {
				break
			}
		}
		for range pieces { // the reader must not hang
		}
	}()
	defer close(pieces)
	for {
		may()
		buf := make([]byte, 64<<10)
		n, err := from.Read(buf)
		p.carried.Add(int64(n))
		if n > 0 {
			pieces <- piece{time.Now().Add(p.delay), buf[:n]}
		}
		if err != nil {
			if err != io.EOF {
				_ = to.Close()
			}
			return
		}
	}
}
