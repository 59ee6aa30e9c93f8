package bench

import (
	"errors"
	"net"
	"sync"
	"time"
)

// link is a long TCP line: what goes in on one side comes out on the other a while later, however much is under way.
type link struct {
	listener net.Listener
	to       string
	delay    time.Duration // one way
	rate     int           // bytes a second and direction; 0 for no limit
	work     sync.WaitGroup
	mu       sync.Mutex
	open     []net.Conn
}

func newLink(to string, delay time.Duration, rate int) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{listener: l, to: to, delay: delay, rate: rate}
	k.work.Go(k.accept)
	return k, nil
}

func (k *link) url() string { return "nats://" + k.listener.Addr().String() }

// close cuts everything and waits.
func (k *link) close() error {
	err := k.listener.Close()
	k.mu.Lock()
	for _, c := range k.open {
		_ = c.Close() // it is to be cut
	}
	k.mu.Unlock()
	k.work.Wait()
	return err
}

func (k *link) accept() {
	for {
		near, err := k.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", k.to)
		if err != nil {
			_ = near.Close() // the other side tries again
			continue
		}
		k.mu.Lock()
		k.open = append(k.open, near, far)
		k.mu.Unlock()
		k.carry(near, far)
		k.carry(far, near)
	}
}

// piece is what one read brought.
type piece struct {
	due  time.Time
	data []byte
}

// carry passes one direction on. A piece is due the delay after the line was free for it.
func (k *link) carry(from, to net.Conn) {
	pieces := make(chan piece, 16<<10) // more than a second's worth of 64 KiB: the line itself never pushes back
	k.work.Go(func() {
		defer close(pieces)
		free := time.Now()
		for {
			buf := make([]byte, 64<<10)
			n, err := from.Read(buf)
			if now := time.Now(); free.Before(now) {
				free = now
			}
			if k.rate > 0 {
				free = free.Add(time.Duration(n) * time.Second / time.Duration(k.rate))
				<-time.After(time.Until(free)) // so the sender feels that the line is full
			}
			if n > 0 {
				pieces <- piece{free.Add(k.delay), buf[:n]}
			}
			if err != nil {
				return
			}
		}
	})
	k.work.Go(func() {
		var err error
		for x := range pieces { // to the end, so that the reader never hangs
			if err == nil {
				<-time.After(time.Until(x.due))
				_, err = to.Write(x.data)
			}
		}
		_ = errors.Join(from.Close(), to.Close()) // either is closed already when the other end cut it
	})
}
