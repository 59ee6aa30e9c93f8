package postgres

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between driver and server. It counts the server's answers, one per round trip, and can lose the
// answer of a commit or cut the road before a commit arrives.
type proxy struct {
	listener net.Listener
	server   string
	work     sync.WaitGroup

	mu     sync.Mutex
	trips  int // ReadyForQuery messages
	loseOf string
	cutOn  string
	refuse bool // new connections, until further notice
	conns  map[net.Conn]bool
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: l, server: server, conns: make(map[net.Conn]bool)}
	p.work.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.work.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		p.mu.Lock()
		refuse := p.refuse || err != nil
		if !refuse {
			p.conns[client], p.conns[server] = true, true
		}
		p.mu.Unlock()
		if refuse {
			_ = client.Close()
			if err == nil {
				_ = server.Close()
			}
			continue
		}
		p.work.Go(func() { p.upward(client, server) })
		p.work.Go(func() { p.downward(client, server) })
	}
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

// message reads one message; the first of a client has no kind.
func message(r io.Reader, first bool) (kind byte, raw []byte, err error) {
	head := 5
	if first {
		head = 4
	}
	raw = make([]byte, head)
	if _, err := io.ReadFull(r, raw); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint32(raw[head-4:])) - 4
	raw = append(raw, make([]byte, n)...)
	_, err = io.ReadFull(r, raw[head:])
	return raw[0], raw, err
}

// upward carries what the client says.
func (p *proxy) upward(client, server net.Conn) {
	defer func() { _ = server.Close() }()
	for first := true; ; first = false {
		_, raw, err := message(client, first)
		if err != nil {
			return
		}
		p.mu.Lock()
		cut := p.cutOn != "" && string(raw[5:min(len(raw), 5+len(p.cutOn))]) == p.cutOn
		if cut {
			p.cutOn = ""
		}
		p.mu.Unlock()
		if cut {
			_ = client.Close()
			return
		}
		if _, err := server.Write(raw); err != nil {
			return
		}
	}
}

// downward carries what the server says.
func (p *proxy) downward(client, server net.Conn) {
	defer func() { _ = client.Close() }()
	for {
		kind, raw, err := message(server, false)
		if err != nil {
			return
		}
		p.mu.Lock()
		if kind == 'Z' {
			p.trips++
		}
		lose := p.loseOf != "" && kind == 'C' && string(raw[5:len(raw)-1]) == p.loseOf
		if lose {
			p.loseOf = ""
		}
		p.mu.Unlock()
		if lose {
			_ = client.Close()
			_ = server.Close()
			return
		}
		if _, err := client.Write(raw); err != nil {
			return
		}
	}
}

// counted is how many round trips f takes.
func (p *proxy) counted(f func()) int {
	p.mu.Lock()
	before := p.trips
	p.mu.Unlock()
	f()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trips - before
}

// set changes what the proxy does.
func (p *proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}
