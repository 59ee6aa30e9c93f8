package servertest

import (
	"io"
	"net"
	"sync"
)

// Proxy stands between a driver and its server. It sees each message, and can cut the connection at any of them: before
// it arrives, so that nothing of it is done, or when it is an answer, so that nobody learns what was done.
type Proxy struct {
	listener net.Listener
	server   string
	up, down Split
	work     sync.WaitGroup

	mu     sync.Mutex
	rule   Rule
	refuse bool
	conns  map[net.Conn]bool
}

// Split reads one whole message of a protocol, as raw bytes; first says that it is the first of its connection. Nil
// stands for whatever comes in one read.
type Split func(r io.Reader, first bool) ([]byte, error)

// Rule sees each message, one at a time, before it is passed on; down says that it is the server's. It returns true to
// lose the message and cut its connection. What it shares with the test it may use under Do only.
type Rule func(down bool, message []byte) (cut bool)

// NewProxy listens on a free port of 127.0.0.1; the caller closes it. up splits what the client says, down what the
// server says.
func NewProxy(server string, up, down Split) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, server: server, up: up, down: down, conns: make(map[net.Conn]bool)}
	p.work.Go(p.accept)
	return p, nil
}

// Addr is where a driver connects to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close ends everything and waits for it.
func (p *Proxy) Close() {
	_ = p.listener.Close() // it has no data
	p.Cut()
	p.work.Wait()
}

// Cut ends all connections; new ones are served.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close() // it is to be cut
	}
	clear(p.conns)
}

// Watch sets the rule; nil passes everything.
func (p *Proxy) Watch(rule Rule) { p.Do(func() { p.rule = rule }) }

// Refuse says whether new connections are refused.
func (p *Proxy) Refuse(refuse bool) { p.Do(func() { p.refuse = refuse }) }

// Grows is by how much a number that the rule keeps grows while f runs.
func (p *Proxy) Grows(number *int, f func()) (by int) {
	var before int
	p.Do(func() { before = *number })
	f()
	p.Do(func() { by = *number - before })
	return by
}

// Do runs f while no message passes.
func (p *Proxy) Do(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *Proxy) accept() {
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
		p.work.Go(func() { p.carry(false, p.up, client, server) })
		p.work.Go(func() { p.carry(true, p.down, server, client) })
	}
}

// carry passes messages on until one side ends or the rule cuts.
func (p *Proxy) carry(down bool, split Split, from, to net.Conn) {
	defer func() { _ = to.Close() }()
	if split == nil {
		buf := make([]byte, 64<<10)
		split = func(r io.Reader, _ bool) ([]byte, error) {
			n, err := r.Read(buf)
			if n > 0 {
				err = nil // it comes again
			}
			return buf[:n], err
		}
	}
	for first := true; ; first = false {
		message, err := split(from, first)
		if err != nil {
			return
		}
		p.mu.Lock()
		cut := p.rule != nil && p.rule(down, message)
		p.mu.Unlock()
		if cut {
			_ = from.Close()
			return
		}
		if _, err := to.Write(message); err != nil {
			return
		}
	}
}
