package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"xmq/nodeclient/driver/servertest"
)

// redisConnections is how many clients write at once.
const redisConnections = 16

// redisPeer is Redis Streams, each connection with so many XADDs under way. The commands are written by hand, since
// every client library would be slower than the server.
func redisPeer(name string, pipelined int) peer {
	return peer{name, "appendonly, appendfsync always",
		func(ctx context.Context, _ string, p *Params) (v float64, err error) {
			s, err := servertest.StartRedis()
			if err != nil {
				return 0, err
			}
			defer closing(&err, s.Stop)
			return pourRate(ctx, redisConnections, bodySize(p), span(p),
				func(int) (writer, error) { return dialRedis(s.Addr(), pipelined) })
		}}
}

// redisWriter sends commands in groups and waits for the answers to one group before it sends the next, as
// redis-benchmark does.
type redisWriter struct {
	conn    net.Conn
	in      *bufio.Reader
	out     []byte
	waiting int // commands in out
	group   int
}

func dialRedis(addr string, group int) (writer, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	w := &redisWriter{conn: c, in: bufio.NewReaderSize(c, 64<<10), group: group}
	w.out, w.waiting = fmt.Appendf(nil, "*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n", len(servertest.Password),
		servertest.Password), 1
	if err := w.send(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *redisWriter) put(_ context.Context, body []byte) error {
	w.out = append(w.out, "*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$1\r\nv\r\n$"...)
	w.out = append(strconv.AppendInt(w.out, int64(len(body)), 10), "\r\n"...)
	w.out = append(append(w.out, body...), "\r\n"...)
	if w.waiting++; w.waiting < w.group {
		return nil
	}
	return w.send()
}

// send sends what waits and reads an answer to each command.
func (w *redisWriter) send() error {
	if err := w.conn.SetDeadline(time.Now().Add(servertest.Patience)); err != nil {
		return err
	}
	if _, err := w.conn.Write(w.out); err != nil {
		return err
	}
	for w.out = w.out[:0]; w.waiting > 0; w.waiting-- {
		line, err := w.in.ReadSlice('\n')
		if err == nil && line[0] == '-' {
			return fmt.Errorf("redis says %q", bytes.TrimSpace(line))
		}
		if err != nil {
			return err
		}
		if line[0] == '$' { // the ID stands in the next line
			if _, err := w.in.ReadSlice('\n'); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *redisWriter) flush(context.Context) error { return w.send() }

func (w *redisWriter) close() { _ = w.conn.Close() } // everything was answered
