package producer

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"xmq/broker/bus"
	"xmq/broker/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// far is a broker on a network in memory: a log of bodies that knows keys, and that takes batches as the door does.
type far struct {
	t       *testing.T
	network *bus.Mem
	conn    bus.Conn

	gate chan struct{} // not nil: batches are taken when it is closed

	mu     sync.Mutex
	log    []string
	keys   map[string]uint64
	next   uint64
	heard  int    // batches
	refuse string // a code for the next batches, as many as
	times  int
	mute   int // answers that are not given
	held   []func()
	hold   bool // answers that tell of sequences wait until let go
}

func newFar(t *testing.T, seed uint64) *far {
	f := &far{t: t, network: bus.NewMem(seed), keys: map[string]uint64{}}
	f.conn = f.network.Connect("broker")
	_, err := f.conn.Subscribe(event.AnySubject("main", event.Many), f.take)
	require.NoError(t, err)
	return f
}

func (f *far) producer(o Options) *Producer {
	conn := f.network.Connect("p1")
	p, err := New(conn, "p1", o)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { p.Close(); conn.Close(); f.conn.Close() })
	return p
}

func (f *far) take(m bus.Msg) {
	f.mu.Lock()
	gate := f.gate
	f.mu.Unlock()
	if gate != nil {
		<-gate
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(m.Data) == 0 { // as the door answers, see sounding
		a := event.BatchReply{Log: 1, Code: "invalid", Text: "it is empty"}
		_ = f.conn.Publish(m.Reply, a.Append(nil))
		return
	}
	f.heard++
	b, err := event.DecodeBatch(m.Data, nil)
	a := event.BatchReply{Log: 1}
	switch {
	case err != nil:
		a.Code, a.Text = "invalid", err.Error()
	case b.Number != b.Base && b.Number > f.next:
		a.Code, a.Text = "gap", "a batch is missing"
	case f.times > 0:
		f.times--
		f.next = b.Number
		a.Code, a.Text = f.refuse, "as told"
	default:
		f.next = b.Number + 1
		for _, d := range b.Drafts {
			if len(d.Body) == 0 {
				a.Refused("empty", "no body")
			} else if seq, known := f.keys[d.Key]; known && d.Key != "" && seq <= uint64(len(f.log)) &&
				f.log[seq-1] != string(d.Body) {
				a.Refused("key_reused", "it is that of another")
			} else if known && d.Key != "" {
				a.Stored(seq, true)
			} else {
				f.log = append(f.log, string(d.Body))
				f.keys[d.Key] = uint64(len(f.log))
				a.Stored(uint64(len(f.log)), false)
			}
		}
		if f.mute > 0 {
			f.mute--
			return
		}
	}
	data := a.Append(nil)
	say := func() { _ = f.conn.Publish(m.Reply, data) }
	if f.hold && a.Code == "" {
		f.held = append(f.held, say)
	} else {
		say()
	}
}

func (f *far) letGo() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hold = false
	for _, say := range f.held {
		say()
	}
	f.held = nil
}

// stored is the log as numbers; bodies are numbers in these tests.
func (f *far) stored() (all []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.log {
		n, _, _ := strings.Cut(b, " ")
		i, err := strconv.Atoi(n)
		require.NoError(f.t, err)
		all = append(all, i)
	}
	return all
}

func numbers(n int) (all []int) {
	for i := range n {
		all = append(all, i)
	}
	return all
}

func body(i int) event.Draft { return event.Draft{Body: fmt.Append(nil, i)} }

func (f *far) pour(p *Producer, from, to int) {
	for i := from; i < to; i++ {
		require.NoError(f.t, p.Publish(f.t.Context(), body(i)))
	}
}

func soon(t *testing.T, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 2*time.Minute, time.Millisecond)
}

func big(i int) event.Draft {
	b := append(fmt.Appendf(nil, "%06d ", i), make([]byte, 1<<20)...)
	binary.LittleEndian.PutUint64(b[len(b)-8:], uint64(i))
	return event.Draft{Body: b}
}
