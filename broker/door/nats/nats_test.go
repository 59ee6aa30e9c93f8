package nats

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/increments/segments"
)

const limit = 1000

// fixture is the door on a server of its own, before a real log whose answers come later, from another goroutine.
type fixture struct {
	t      testing.TB
	log    *segments.Log
	server *server.Server
	door   *Door
	queue  chan func()
	mu     sync.Mutex
	refuse error
}

func newFixture(t testing.TB) *fixture {
	log, err := segments.Create(disktest.NewMemory(), disk.NewStorage(disk.Options{}), segments.Options{})
	require.NoError(t, err)
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true})
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(2*time.Minute))
	h := &fixture{t: t, log: log, server: s, queue: make(chan func(), 1<<16)}
	nc := h.connect("broker")
	h.door, err = Open(nc, "main", log.ID(), door.NewBudget(128<<20), h.ingest,
		slog.New(slog.NewTextHandler(io.Discard, nil)))
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.door.Run(ctx) })
	running.Go(func() {
		for work := range h.queue {
			work()
		}
	})
	t.Cleanup(func() {
		h.door.Close()
		cancel()
		close(h.queue)
		running.Wait()
		nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
		require.NoError(t, log.Close())
	})
	return h
}

func (h *fixture) connect(id string) *nats.Conn {
	nc, err := nats.Connect(h.server.ClientURL(), nats.CustomInboxPrefix(event.InboxPrefix(id)))
	require.NoError(h.t, err)
	return nc
}

func (h *fixture) producer(id string) *nats.Conn {
	nc := h.connect(id)
	h.t.Cleanup(nc.Close)
	return nc
}

func (h *fixture) ingest(drafts []event.Draft, done func([]event.Outcome, error)) {
	h.queue <- func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.refuse != nil {
			done(nil, h.refuse)
			return
		}
		all := make([]event.Outcome, len(drafts))
		for i := range drafts {
			if refused := door.Check(&drafts[i], limit); refused != nil {
				all[i].Err = refused
				continue
			}
			o, err := h.log.Append(drafts[i : i+1])
			if err != nil {
				done(nil, err)
				return
			}
			all[i] = o[0]
		}
		done(all, nil)
	}
}

func (h *fixture) record(seq uint64) event.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	all, err := h.log.Read(seq, 1, 1<<20)
	require.NoError(h.t, err)
	r, err := all[0].Decode()
	require.NoError(h.t, err)
	return r
}

func (h *fixture) head() uint64 { h.mu.Lock(); defer h.mu.Unlock(); return h.log.Head().Seq }

type said struct {
	Seq              uint64
	Log, Error, Code string
	Duplicate        bool
}

func parse(t testing.TB, m *nats.Msg) (s said) {
	t.Helper()
	require.NoError(t, json.Unmarshal(m.Data, &s))
	return s
}

func (h *fixture) ask(nc *nats.Conn, id string, body []byte, headers ...string) said {
	h.t.Helper()
	m := nats.NewMsg(event.Subject("main", event.Pub, id))
	m.Data = body
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	reply, err := nc.RequestMsg(m, 2*time.Minute)
	require.NoError(h.t, err)
	return parse(h.t, reply)
}

// XC-2: "the answered number reads back the same payload, on each door".
func TestXC02TheAnsweredNumberReadsBackThePayload(t *testing.T) {
	h := newFixture(t)
	p := h.producer("p1")
	for i, body := range [][]byte{{0}, {'\n'}, {0xFF}, []byte("a\r\nb"), make([]byte, limit)} {
		s := h.ask(p, "p1", body, "Content-Type", "text/x", "Xmq-Topic", "shop", "Xmq-Origin", "till")
		require.Equal(t, said{Seq: uint64(i + 1), Log: h.log.ID().String()}, s)
		r := h.record(s.Seq)
		require.Equal(t, body, r.Body)
		require.Equal(t, event.Headers{Topic: "shop", ContentType: "text/x", Origin: "till", Producer: "p1"}, r.Headers)
	}
}

// XN-1: "limit - 1, limit, limit + 1 on each door".
func TestXN01SizeLimit(t *testing.T) {
	h := newFixture(t)
	p := h.producer("p1")
	for size, want := range map[int]string{1: "", limit - 1: "", limit: "", limit + 1: "too_large"} {
		s := h.ask(p, "p1", make([]byte, size))
		require.Equal(t, want, s.Code, size)
		require.Equal(t, want == "", s.Seq > 0)
		require.Equal(t, want == "", s.Error == "")
	}
}

// XD-5: "an empty payload is refused clearly on each door; so is a write on a nearly full disk; a failed write is never
// answered as success".
func TestXD05RefusalsAreClearAndNeverSuccess(t *testing.T) {
	h := newFixture(t)
	p := h.producer("p1")
	s := h.ask(p, "p1", nil)
	require.Equal(t, "empty", s.Code)
	require.Zero(t, s.Seq)
	for err, want := range map[error]string{door.Refuse(door.DiskFull, "full"): "disk_full",
		door.Refuse(door.Busy, "busy"):       "busy",
		door.Refuse(door.Unknown, "unknown"): "unknown", errors.New("surprise"): "unknown"} {
		h.mu.Lock()
		h.refuse = err
		h.mu.Unlock()
		require.Equal(t, said{Error: err.Error(), Code: want}, h.ask(p, "p1", []byte("x")))
	}
	h.mu.Lock()
	h.refuse = nil
	h.mu.Unlock()
	require.Equal(t, uint64(1), h.ask(p, "p1", []byte("x")).Seq)
}

func TestIdempotencyKeyAnswersTheOldSequence(t *testing.T) {
	h := newFixture(t)
	p1, p2 := h.producer("p1"), h.producer("p2")
	require.Equal(t, uint64(1), h.ask(p1, "p1", []byte("a"), "Idempotency-Key", "7").Seq)
	again := h.ask(p1, "p1", []byte("a"), "Idempotency-Key", "7")
	require.Equal(t, uint64(1), again.Seq)
	require.True(t, again.Duplicate)
	require.Equal(t, uint64(2), h.ask(p2, "p2", []byte("c"), "Idempotency-Key", "7").Seq,
		"each producer has a name space of its own")
	require.Equal(t, "invalid", h.ask(p1, "p1", []byte("d"), "Idempotency-Key", strings.Repeat("k", door.MaxKey+1)).Code)
}

// XD-16, the part of this door: a request that names somebody else's subject as its reply is not stored, and the broker
// never publishes there.
func TestXD16ForeignReplyIsRefused(t *testing.T) {
	h := newFixture(t)
	p, victim := h.producer("p1"), h.producer("v")
	all, err := victim.SubscribeSync(">")
	require.NoError(t, err)
	require.NoError(t, victim.Flush())
	pub := event.Subject("main", event.Pub, "p1")
	foreign := []string{"xmq.main.down.n1", "_INBOX_p10.x", "_INBOX_p1", "_INBOX.x", pub, "_INBOX_v.x"}
	for _, reply := range foreign {
		require.NoError(t, p.PublishRequest(pub, reply, []byte("x")))
	}
	require.NoError(t, p.Publish("xmq.main.pub.BAD", []byte("x")))
	require.NoError(t, p.PublishRequest("xmq.main.pub.BAD", "_INBOX_BAD.x", []byte("x")))
	require.Equal(t, uint64(1), h.ask(p, "p1", []byte("fine")).Seq, "nothing before it was stored")
	for {
		m, err := all.NextMsg(2 * time.Minute)
		require.NoError(t, err)
		if m.Subject == pub && string(m.Data) == "fine" {
			break
		}
		require.Equal(t, "x", string(m.Data), "only the requests themselves travelled, no answer: %s", m.Subject)
	}
}

// XQ-2: a producer's own order is kept, also when it does not wait for answers; and a message without a reply is
// stored.
func TestXQ02ThousandRequestsUnderWayKeepTheirOrder(t *testing.T) {
	h := newFixture(t)
	p := h.producer("p1")
	inbox := p.NewRespInbox()
	got := make(chan *nats.Msg, 1000)
	_, err := p.ChanSubscribe(inbox, got)
	require.NoError(t, err)
	pub := event.Subject("main", event.Pub, "p1")
	require.NoError(t, p.Publish(pub, []byte("no answer wanted")))
	for i := range 1000 {
		require.NoError(t, p.PublishRequest(pub, inbox, fmt.Append(nil, i)))
	}
	for i := range 1000 {
		require.Equal(t, uint64(i+2), parse(t, <-got).Seq)
	}
	for _, i := range []int{0, 1, 500, 999} {
		require.Equal(t, fmt.Sprint(i), string(h.record(uint64(i+2)).Body))
	}
}

// Close waits until every request that was taken is answered, and takes no further one.
func TestCloseAnswersWhatWasTaken(t *testing.T) {
	h := newFixture(t)
	p := h.producer("p1")
	inbox := p.NewRespInbox()
	got := make(chan *nats.Msg, 1000)
	_, err := p.ChanSubscribe(inbox, got)
	require.NoError(t, err)
	h.mu.Lock() // the log is slow
	for range 100 {
		require.NoError(t, p.PublishRequest(event.Subject("main", event.Pub, "p1"), inbox, []byte("x")))
	}
	require.NoError(t, p.Flush())
	require.Eventually(t, func() bool { h.door.mu.Lock(); defer h.door.mu.Unlock(); return h.door.count == 100 },
		2*time.Minute, time.Millisecond)
	closed := make(chan struct{})
	go func() { h.door.Close(); close(closed) }()
	require.Eventually(t, func() bool { h.door.mu.Lock(); defer h.door.mu.Unlock(); return h.door.closed }, 2*time.Minute,
		time.Millisecond)
	select {
	case <-closed:
		t.Fatal("it did not wait")
	default:
	}
	h.mu.Unlock()
	<-closed
	for i := range 100 {
		require.Equal(t, uint64(i+1), parse(t, <-got).Seq)
	}
	require.NoError(t, p.Publish(event.Subject("main", event.Pub, "p1"), []byte("too late")))
	require.NoError(t, p.Flush())
	require.Equal(t, uint64(100), h.head())
}

// raw sends one message with a header block as it stands and returns the answer.
func (h *fixture) raw(id, block, body string) said {
	h.t.Helper()
	c, err := net.Dial("tcp", h.server.Addr().String())
	require.NoError(h.t, err)
	defer c.Close()
	require.NoError(h.t, c.SetDeadline(time.Now().Add(2*time.Minute)))
	_, err = fmt.Fprintf(c, "CONNECT {\"headers\":true,\"verbose\":false}\r\nSUB _INBOX_%s.> 1\r\nHPUB xmq.main.pub.%s "+
		"_INBOX_%s.1 %d %d\r\n%s%s\r\n",
		id, id, id, len(block), len(block)+len(body), block, body)
	require.NoError(h.t, err)
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		require.NoError(h.t, err)
		if strings.HasPrefix(line, "MSG ") {
			line, err = r.ReadString('\n')
			require.NoError(h.t, err)
			return parse(h.t, &nats.Msg{Data: []byte(line)})
		}
	}
}

// A header counts in whatever case it is written, and a block that cannot be read refuses the message: a key that was
// overlooked would be an increment stored twice, a topic one that reaches the wrong nodes.
func TestNoHeaderIsOverlooked(t *testing.T) {
	h := newFixture(t)
	p := h.producer("p1")
	for i, name := range []string{"Idempotency-Key", "idempotency-key", "IDEMPOTENCY-KEY", "iDempotency-kEy"} {
		key := fmt.Sprint("k", i)
		first := h.ask(p, "p1", []byte("x"), name, key)
		require.Equal(t, uint64(i+1), first.Seq, first.Error)
		require.True(t, h.ask(p, "p1", []byte("x"), name, key).Duplicate, name)
	}
	require.Equal(t, uint64(5), h.ask(p, "p1", []byte("x"), "xmq-topic", "shop", "CONTENT-TYPE", "a/b", "xmq-Origin",
		"till").Seq)
	r := h.record(5)
	require.Equal(t, event.Headers{Topic: "shop", ContentType: "a/b", Origin: "till", Producer: "p1"}, r.Headers)
	for name, block := range map[string]string{
		"no colon":           "NATS/1.0\r\nGarbage\r\nIdempotency-Key: d1\r\n\r\n",
		"no version":         "NATS\r\nIdempotency-Key: d1\r\n\r\n",
		"blank before colon": "NATS/1.0\r\nIdempotency-Key : e1\r\n\r\n",
		"blank before name":  "NATS/1.0\r\n Idempotency-Key: e1\r\n\r\n",
		"twice":              "NATS/1.0\r\nIdempotency-Key: f1\r\nIdempotency-Key: f1\r\n\r\n",
		"twice, other case":  "NATS/1.0\r\nIdempotency-Key: f1\r\nidempotency-key: f2\r\n\r\n",
		"empty":              "NATS/1.0\r\nIdempotency-Key: \r\n\r\n",
		"no text":            "NATS/1.0\r\nIdempotency-Key: \xff\xfe\r\n\r\n",
		"other producer":     "NATS/1.0\r\nXmq-Producer: p2\r\n\r\n",
		"empty number":       "NATS/1.0\r\nXmq-Number:\r\n\r\n",
		"no number":          "NATS/1.0\r\nXmq-Number: 0x7\r\n\r\n",
		"key and number":     "NATS/1.0\r\nXmq-Number: 7\r\nIdempotency-Key: 7\r\n\r\n",
		"sparse key":         "NATS/1.0\r\nXmq-Sparse: 1\r\nIdempotency-Key: 7\r\n\r\n",
		"sparse 0":           "NATS/1.0\r\nXmq-Sparse: 0\r\nXmq-Number: 7\r\n\r\n",
	} {
		s := h.raw("p1", block, "x")
		require.Equal(t, "invalid", s.Code, name)
		require.NotEmpty(t, s.Error, name)
	}
	require.Equal(t, uint64(5), h.head())
	for _, block := range []string{"NATS/1.0\r\nIdempotency-Key:\tg1\r\n\r\n",
		"NATS/1.0\r\nXmq-Producer: p1\r\nIDEMPOTENCY-KEY: g1\r\n\r\n"} {
		require.Equal(t, uint64(6), h.raw("p1", block, "x").Seq)
	}
}

// Numbers have a header of their own; a key that looks like one is text.
func TestNumbersAndKeys(t *testing.T) {
	h := newFixture(t)
	p := h.producer("p1")
	require.Equal(t, uint64(1), h.ask(p, "p1", []byte("a"), "Idempotency-Key", "1000").Seq)
	require.Equal(t, uint64(2), h.ask(p, "p1", []byte("b"), "Idempotency-Key", "17").Seq, "keys come in any order")
	require.Equal(t, uint64(3), h.ask(p, "p1", []byte("c"), "Xmq-Number", "1000", "Xmq-Sparse", "1").Seq)
	again := h.ask(p, "p1", []byte("c"), "xmq-number", "1000")
	require.True(t, again.Duplicate)
	require.Equal(t, uint64(3), again.Seq)
	for seq, text := range map[uint64]bool{1: true, 2: true, 3: false} {
		require.Equal(t, text, h.record(seq).TextKey)
	}
}
