// Package bustest is what every bus.Conn must pass: what nodes and broker rely on, whatever the network is.
//
// The test of a network calls Run with a function that makes a fresh Network: how clients connect to it, and how a test
// cuts them off and connects them again. Order within a subject, requests and their ends, sizes, cuts and closing are
// tested. See the tests of package bus, which run it on NATS and on the network in memory.
package bustest

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/bus"
	"xmq/broker/event"
)

// Network is one network under test.
type Network struct {
	Connect func(id string) bus.Conn // the suite closes it
	Cut     func(cut bool)           // cuts every connection off, or mends them
}

// patience is how long a test waits for what must come; it is never waited for in full when all is well.
const patience = 2 * time.Minute

// Run runs the suite; make makes a fresh network for each test.
func Run(t *testing.T, make func(t *testing.T) Network) {
	for name, test := range map[string]func(*testing.T, Network){
		"order per subject":             order,
		"wildcard takes one token":      wildcard,
		"request and answer":            request,
		"request to nobody":             nobody,
		"request ends with its context": requestEnds,
		"reply lies in the own inbox":   inbox,
		"questions under way":           questions,
		"publish copies":                copies,
		"too large":                     tooLarge,
		"stop":                          stop,
		"close":                         closing,
		"slow handler":                  slow,
		"cut and mended":                cut,
	} {
		t.Run(name, func(t *testing.T) { test(t, make(t)) })
	}
}

func connect(t *testing.T, r Network, id string) bus.Conn {
	t.Helper()
	c := r.Connect(id)
	t.Cleanup(c.Close)
	require.Eventually(t, c.Up, patience, time.Millisecond)
	return c
}

func subscribe(t *testing.T, c bus.Conn, subject string, h func(bus.Msg)) bus.Subscription {
	t.Helper()
	s, err := c.Subscribe(subject, h)
	require.NoError(t, err)
	require.NoError(t, c.Flush(t.Context()), "the subscription stands")
	return s
}

// inbound collects messages.
func inbound(t *testing.T, c bus.Conn, subject string) <-chan bus.Msg {
	t.Helper()
	got := make(chan bus.Msg, 10_000)
	subscribe(t, c, subject, func(m bus.Msg) { got <- m })
	return got
}

func next(t *testing.T, c <-chan bus.Msg) bus.Msg {
	t.Helper()
	select {
	case m := <-c:
		return m
	case <-time.After(patience):
		t.Fatal("nothing came")
		return bus.Msg{}
	}
}

func order(t *testing.T, r Network) {
	a, b := connect(t, r, "a"), connect(t, r, "b")
	got := inbound(t, b, "xmq.main.up.a")
	for i := range 2000 {
		require.NoError(t, a.Publish("xmq.main.up.a", fmt.Append(nil, i)))
	}
	for i := range 2000 {
		m := next(t, got)
		require.Equal(t, fmt.Sprint(i), string(m.Data))
		require.Equal(t, "xmq.main.up.a", m.Subject)
		require.Empty(t, m.Reply)
	}
}

func wildcard(t *testing.T, r Network) {
	a, b := connect(t, r, "a"), connect(t, r, "b")
	got := inbound(t, b, "xmq.main.up.*")
	for _, s := range []string{"xmq.main.up.n1.x", "xmq.main.up", "xmq.main.down.n1", "xmq.main2.up.n1", "xmq.main.up.n1",
		"xmq.main.up.n10"} {
		require.NoError(t, a.Publish(s, []byte("x")))
	}
	require.Equal(t, "xmq.main.up.n1", next(t, got).Subject)
	require.Equal(t, "xmq.main.up.n10", next(t, got).Subject)
	require.Empty(t, got)
}

func echo(t *testing.T, c bus.Conn, subject string) {
	t.Helper()
	subscribe(t, c, subject, func(m bus.Msg) { _ = c.Publish(m.Reply, append([]byte("to "), m.Data...)) })
}

func request(t *testing.T, r Network) {
	a, b := connect(t, r, "a"), connect(t, r, "b")
	echo(t, b, "xmq.main.snap.*")
	for i := range 100 {
		m, err := a.Request(t.Context(), "xmq.main.snap.a", fmt.Append(nil, i))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint("to ", i), string(m.Data))
	}
}

func nobody(t *testing.T, r Network) {
	a := connect(t, r, "a")
	_, err := a.Request(t.Context(), "xmq.main.snap.a", nil)
	require.ErrorIs(t, err, bus.ErrNobody)
	require.NoError(t, a.Publish("xmq.main.snap.a", nil), "a message needs nobody")
}

// Many questions are under way at once, and each answer finds its own address.
func questions(t *testing.T, r Network) {
	a, b := connect(t, r, "a"), connect(t, r, "b")
	echo(t, b, "xmq.main.batch.*")
	got := inbound(t, a, event.InboxPrefix("a")+".life.*")
	for i := range 100 {
		require.NoError(t, a.Ask("xmq.main.batch.a", fmt.Sprint(event.InboxPrefix("a"), ".life.", i), fmt.Append(nil, i)))
	}
	for i := range 100 {
		m := next(t, got)
		require.Equal(t, fmt.Sprint(event.InboxPrefix("a"), ".life.", i), m.Subject)
		require.Equal(t, fmt.Sprint("to ", i), string(m.Data))
	}
}

func requestEnds(t *testing.T, r Network) {
	a, b := connect(t, r, "a"), connect(t, r, "b")
	ctx, cancel := context.WithCancel(t.Context())
	subscribe(t, b, "silent", func(bus.Msg) { cancel() })
	_, err := a.Request(ctx, "silent", nil)
	require.ErrorIs(t, err, context.Canceled)

	arrived := make(chan struct{})
	subscribe(t, b, "silent2", func(bus.Msg) { close(arrived) })
	ended := make(chan error)
	go func() { _, err := a.Request(t.Context(), "silent2", nil); ended <- err }()
	<-arrived
	a.Close()
	require.ErrorIs(t, <-ended, bus.ErrClosed)
}

func inbox(t *testing.T, r Network) {
	a, b := connect(t, r, "n1"), connect(t, r, "b")
	got := inbound(t, b, "ask")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := a.Request(ctx, "ask", nil); done <- err }()
	reply := next(t, got).Reply
	cancel()
	<-done
	require.True(t, strings.HasPrefix(reply, event.InboxPrefix("n1")+"."), reply)
	require.True(t, event.ReplyAllowed("n1", reply), reply)
	require.False(t, event.ReplyAllowed("n10", reply), reply)
}

func copies(t *testing.T, r Network) {
	a, b := connect(t, r, "a"), connect(t, r, "b")
	got, also := inbound(t, b, "x"), inbound(t, a, "x")
	data := []byte("first")
	require.NoError(t, a.Publish("x", data))
	copy(data, "XXXXX")
	m := next(t, got)
	require.Equal(t, "first", string(m.Data))
	copy(m.Data, "YYYYY")
	require.Equal(t, "first", string(next(t, also).Data), "each receiver owns its data")
}

func tooLarge(t *testing.T, r Network) {
	a, b := connect(t, r, "a"), connect(t, r, "b")
	got := inbound(t, b, "x")
	require.Positive(t, a.MaxPayload())
	require.ErrorIs(t, a.Publish("x", make([]byte, a.MaxPayload()+1)), bus.ErrTooLarge)
	_, err := a.Request(t.Context(), "x", make([]byte, a.MaxPayload()+1))
	require.ErrorIs(t, err, bus.ErrTooLarge)
	require.NoError(t, a.Publish("x", make([]byte, a.MaxPayload())))
	require.Len(t, next(t, got).Data, a.MaxPayload())
	require.True(t, a.Up())
}

func stop(t *testing.T, r Network) {
	a, b := connect(t, r, "a"), connect(t, r, "b")
	first := make(chan bus.Msg, 10)
	s := subscribe(t, b, "x", func(m bus.Msg) { first <- m })
	second := inbound(t, b, "x")
	require.NoError(t, a.Publish("x", []byte("1")))
	next(t, first)
	next(t, second)
	s.Stop()
	s.Stop()
	require.NoError(t, a.Publish("x", []byte("2")))
	next(t, second)
	require.Empty(t, first)
}

func closing(t *testing.T, r Network) {
	a, b := connect(t, r, "a"), connect(t, r, "b")
	got, other := inbound(t, b, "x"), inbound(t, connect(t, r, "c"), "x")
	b.Close()
	b.Close()
	require.NoError(t, a.Publish("x", nil))
	next(t, other)
	require.Empty(t, got)
	require.False(t, b.Up())
	require.ErrorIs(t, b.Publish("x", nil), bus.ErrClosed)
	require.ErrorIs(t, b.Flush(t.Context()), bus.ErrClosed)
	_, err := b.Subscribe("x", func(bus.Msg) {})
	require.ErrorIs(t, err, bus.ErrClosed)
	_, err = b.Request(t.Context(), "x", nil)
	require.ErrorIs(t, err, bus.ErrClosed)
}

// slow: the handler that waits is handed no more than the bound, and its neighbour everything, in order.
func slow(t *testing.T, r Network) {
	a, b := connect(t, r, "a"), connect(t, r, "b")
	release, begun := make(chan struct{}), make(chan struct{}, 1)
	var bytes atomic.Int64
	subscribe(t, b, "x", func(m bus.Msg) {
		select {
		case begun <- struct{}{}:
		default:
		}
		<-release
		bytes.Add(int64(len(m.Data)))
	})
	got := inbound(t, b, "x")
	data := make([]byte, 4<<20)
	require.NoError(t, a.Publish("x", data))
	<-begun
	for range 2 * bus.PendingBytes / len(data) {
		require.NoError(t, a.Publish("x", data))
		next(t, got)
	}
	close(release)
	_, err := b.Subscribe("end", func(bus.Msg) {})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return bytes.Load() >= bus.PendingBytes }, patience, time.Millisecond)
	require.LessOrEqual(t, bytes.Load(), int64(bus.PendingBytes+2*len(data)))
}

func cut(t *testing.T, r Network) {
	a, b := connect(t, r, "a"), connect(t, r, "b")
	got := inbound(t, b, "x")
	drain(a)
	drain(b)
	heard := inbound(t, b, "silent")
	waiting := make(chan error, 1)
	go func() { _, err := a.Request(t.Context(), "silent", nil); waiting <- err }()
	next(t, heard)
	r.Cut(true)
	select {
	case err := <-waiting:
		require.ErrorIs(t, err, bus.ErrDown)
	case <-time.After(patience):
		t.Fatal("a request whose answer cannot come any more still waits")
	}
	await(t, a, false)
	require.ErrorIs(t, a.Publish("x", []byte("lost")), bus.ErrDown)
	_, err := a.Request(t.Context(), "x", []byte("lost"))
	require.ErrorIs(t, err, bus.ErrDown)
	require.ErrorIs(t, a.Flush(t.Context()), bus.ErrDown)
	await(t, b, false)
	r.Cut(false)
	await(t, a, true)
	await(t, b, true)
	require.NoError(t, b.Flush(t.Context()), "subscriptions come back with the connection")
	require.NoError(t, a.Publish("x", []byte("after")))
	require.Equal(t, "after", string(next(t, got).Data))
}

func drain(c bus.Conn) {
	for {
		select {
		case <-c.Changes():
		default:
			return
		}
	}
}

// await waits for the token that tells of a change, until the connection is as wanted.
func await(t *testing.T, c bus.Conn, up bool) {
	t.Helper()
	for c.Up() != up {
		select {
		case <-c.Changes():
		case <-time.After(patience):
			t.Fatalf("the connection did not become up=%v", up)
		}
	}
}
