package nats

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"xmq/broker/door"
	"xmq/broker/event"
)

const life = event.Instance(77)

func (h *fixture) batch(nc *nats.Conn, id string, b event.Batch) event.BatchReply {
	h.t.Helper()
	data := event.BeginBatch(nil)
	for i := range b.Drafts {
		data = event.AppendDraft(data, &b.Drafts[i])
	}
	m, err := nc.Request(event.Subject("main", event.Many, id), event.SealBatch(data, b, len(b.Drafts)), 2*time.Minute)
	require.NoError(h.t, err)
	a, err := event.DecodeBatchReply(m.Data, len(b.Drafts))
	require.NoError(h.t, err)
	return a
}

func numbered(number, base uint64, bodies ...string) event.Batch {
	b := event.Batch{Stream: life, Number: number, Base: base}
	for _, body := range bodies {
		b.Drafts = append(b.Drafts, event.Draft{Body: []byte(body)})
	}
	return b
}

// XC-2 for batches: "the answered number reads back the same payload", headers and all.
func TestXC02BatchReadsBack(t *testing.T) {
	h := newFixture(t)
	p := h.producer("p1")
	b := numbered(1, 1, "a", string(make([]byte, limit)), "a\r\nb")
	b.Drafts[1].Headers = event.Headers{Topic: "shop", ContentType: "text/x", Origin: "till", Key: "k"}
	require.Equal(t, event.BatchReply{Log: h.log.ID(), Runs: []event.Run{{Count: 3, First: 1}}}, h.batch(p, "p1", b))
	for i, d := range b.Drafts {
		r := h.record(uint64(i + 1))
		require.Equal(t, d.Body, r.Body)
		d.Producer = "p1"
		require.Equal(t, d.Headers, r.Headers, "the producer is the token of the subject")
	}
}

// What is said of an increment in a header is refused beside a batch, which would not heed it; packed bytes are taken
// nowhere.
func TestABatchHeedsNoHeaders(t *testing.T) {
	h := newFixture(t)
	p := h.producer("p1")
	for name, code := range map[string]door.Code{"Idempotency-Key": door.Invalid, "xmq-number": door.Invalid,
		"Xmq-Topic": door.Invalid, "Xmq-Once": door.Invalid, "Content-Encoding": door.Media} {
		b := numbered(1, 1, "a")
		data := event.AppendDraft(event.BeginBatch(nil), &b.Drafts[0])
		m := nats.NewMsg(event.Subject("main", event.Many, "p1"))
		m.Data = event.SealBatch(data, b, 1)
		m.Header[name] = []string{"gzip"}
		reply, err := p.RequestMsg(m, 2*time.Minute)
		require.NoError(t, err)
		a, err := event.DecodeBatchReply(reply.Data, 1)
		require.NoError(t, err)
		require.Equal(t, string(code), a.Code, name)
	}
	require.Equal(t, string(door.Media), h.ask(p, "p1", []byte("x"), "Content-Encoding", "gzip").Code)
	require.Zero(t, h.head())
	require.NotZero(t, h.ask(p, "p1", []byte("x"), "Content-Encoding", "identity").Seq)
}

// XD-5 for batches: a refusal is of one draft, with its reason, and hinders no other.
func TestXD05BatchRefusesDraftsOneByOne(t *testing.T) {
	h := newFixture(t)
	p := h.producer("p1")
	b := numbered(1, 1, "a", "", string(make([]byte, limit+1)), "d", "e")
	b.Drafts[4].Topic = "NO TOPIC"
	a := h.batch(p, "p1", b)
	var got []string
	for _, r := range a.Runs {
		got = append(got, fmt.Sprint(r.Count, r.First, r.Code, r.Text != ""))
	}
	require.Equal(t, []string{"1 1false", "1 0emptytrue", "1 0too_largetrue", "1 2false", "1 0invalidtrue"}, got)
	m, err := p.Request(event.Subject("main", event.Many, "p1"), []byte("no batch"), 2*time.Minute)
	require.NoError(t, err)
	a, err = event.DecodeBatchReply(m.Data, 1)
	require.NoError(t, err)
	require.Equal(t, "invalid", a.Code)
	require.EqualValues(t, 2, h.head())
}

// XQ-6 for batches: numbered drafts are known again.
func TestXQ06BatchIsKnownAgain(t *testing.T) {
	h := newFixture(t)
	p := h.producer("p1")
	b := numbered(1, 1, "a", "b")
	b.First = 1 << 60
	require.Equal(t, []event.Run{{Count: 2, First: 1}}, h.batch(p, "p1", b).Runs)
	require.Equal(t, []event.Run{{Count: 2, First: 1, Duplicate: true}}, h.batch(p, "p1", b).Runs)
	b.Drafts = append(b.Drafts, event.Draft{Body: []byte("c")})
	require.Equal(t, []event.Run{{Count: 2, First: 1, Duplicate: true}, {Count: 1, First: 3}}, h.batch(p, "p1", b).Runs)
	require.Equal(t, []event.Run{{Count: 3, First: 4}}, h.batch(h.producer("p2"), "p2", b).Runs,
		"a number counts per producer")
}

// XQ-2 for batches: none is taken before the one in front of it, whatever became of that one; the door forgets
// nothing it needs.
func TestXQ02BatchDoesNotOvertake(t *testing.T) {
	h := newFixture(t)
	p := h.producer("p1")
	code := func(number, base uint64) string {
		return h.batch(p, "p1", numbered(number, base, fmt.Sprint(number))).Code
	}
	require.Equal(t, "gap", code(2, 1), "the first one is lost")
	require.Equal(t, "", code(1, 1))
	require.Equal(t, "", code(2, 1))
	require.Equal(t, "gap", code(4, 2))
	h.refuseAll(door.Refuse(door.Busy, "busy"))
	require.Equal(t, "busy", code(3, 2))
	h.refuseAll(nil)
	require.Equal(t, "gap", code(4, 2), "behind a refused one")
	require.Equal(t, "", code(3, 2))
	require.Equal(t, "", code(4, 2))
	require.Equal(t, "", code(9, 9), "nothing before it is unanswered")
	other := numbered(10, 9, "x")
	other.Stream++
	require.Equal(t, "gap", h.batch(p, "p1", other).Code, "another life of the producer")
	h.door.streams.mu.Lock()
	clear(h.door.streams.next) // as after a restart
	h.door.streams.mu.Unlock()
	require.Equal(t, "gap", code(10, 9))
	require.Equal(t, "", code(10, 10))
	for i, want := range []string{"1", "2", "3", "4", "9", "10"} {
		require.Equal(t, want, string(h.record(uint64(i+1)).Body))
	}
}

func (h *fixture) refuseAll(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuse = err
}

// XD-16 for batches: a foreign reply address is refused without an answer and nothing is stored.
func TestXD16BatchWithForeignReply(t *testing.T) {
	h := newFixture(t)
	p := h.producer("p1")
	d := event.Draft{Body: []byte("x")}
	data := event.SealBatch(event.AppendDraft(event.BeginBatch(nil), &d), numbered(1, 1), 1)
	for _, reply := range []string{"_INBOX_p10.x", "_INBOX_v.x", "xmq.main.down.n1"} {
		require.NoError(t, p.PublishRequest(event.Subject("main", event.Many, "p1"), reply, data))
	}
	require.NoError(t, p.Publish("xmq.main.batch.BAD", data))
	require.Equal(t, []event.Run{{Count: 1, First: 1}}, h.batch(p, "p1", numbered(1, 1, "fine")).Runs)
}

// What waits is bounded in bytes, too: the rest waits in the connection and is taken later.
func TestBytesThatWaitAreBounded(t *testing.T) {
	h := newFixture(t)
	p := h.producer("p1")
	h.mu.Lock() // the log is slow
	const size = 900 << 10
	inbox := p.NewRespInbox()
	got := make(chan *nats.Msg, 1000)
	_, err := p.ChanSubscribe(inbox, got)
	require.NoError(t, err)
	n := int(h.door.bytes.Budget.Half())/size + 10
	for range n {
		require.NoError(t, p.PublishRequest(event.Subject("main", event.Pub, "p1"), inbox, make([]byte, size)))
	}
	require.NoError(t, p.Flush())
	half := h.door.bytes.Budget.Half()
	held := h.door.bytes.Budget.Used
	require.Eventually(t, func() bool { return held() > half-size }, 2*time.Minute, time.Millisecond)
	require.LessOrEqual(t, held(), half)
	h.mu.Unlock()
	for range n {
		require.Equal(t, "too_large", parse(t, <-got).Code)
	}
}
