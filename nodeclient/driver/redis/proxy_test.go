package redis

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/servertest"
	"xmq/nodeclient/driver/servertest/redistest"
)

// proxy counts the commands a client waits for, and can lose the answer of one that holds a word, or cut the connection
// before it arrives.
type proxy struct {
	*servertest.Proxy
	asked  int
	loseOf string // the answer to a message with this word is lost, once
	cutOn  string // the message with this word does not arrive, once
	due    bool   // the next answer is the one to lose
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	split := func(r io.Reader, _ bool) ([]byte, error) { return message(r) }
	conn, err := servertest.NewProxy(server, split, split)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	p := &proxy{Proxy: conn}
	conn.Watch(p.watch)
	return p
}

// message reads one RESP value.
func message(r io.Reader) (raw []byte, err error) {
	var b [1]byte
	for !strings.HasSuffix(string(raw), "\r\n") {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, err
		}
		raw = append(raw, b[0])
	}
	if raw[0] != '$' && raw[0] != '*' {
		return raw, nil
	}
	n, err := strconv.Atoi(string(raw[1 : len(raw)-2]))
	if err != nil || n < 0 {
		return raw, err
	}
	if raw[0] == '$' {
		body := make([]byte, n+2)
		_, err := io.ReadFull(r, body)
		return append(raw, body...), err
	}
	for range n {
		part, err := message(r)
		if err != nil {
			return nil, err
		}
		raw = append(raw, part...)
	}
	return raw, nil
}

func (p *proxy) watch(down bool, raw []byte) (cut bool) {
	if down {
		cut, p.due = p.due, false
		return cut
	}
	p.asked++
	switch text := string(raw); {
	case p.cutOn != "" && strings.Contains(text, p.cutOn):
		p.cutOn, cut = "", true
	case p.loseOf != "" && strings.Contains(text, p.loseOf):
		p.loseOf, p.due = "", true
	}
	return cut
}

// counted is how many commands f sends.
func (p *proxy) counted(f func()) int { return p.Grows(&p.asked, f) }

// A batch costs one command.
func TestABatchTakesOneRoundTrip(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("SET a 1")
	var scripts []string
	for i := range 500 {
		scripts = append(scripts, fmt.Sprintf("SET key:%d 1\nINCR key:%d", i, i))
	}
	before, items := n.at(), n.items(scripts...)
	require.Equal(t, 1, p.counted(func() {
		_, err := n.Apply(t.Context(), before, items)
		require.NoError(t, err)
	}))
}

// TestXD28: "data and position in one transaction: a counter update is applied once", with the connection cut before
// the call arrives, and after the server has done it but before it says so.
func TestXD28ACallOnALostConnection(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("SET c 0")

	before, items := n.at(), n.items("INCR c")
	p.Do(func() { p.cutOn = applyScript.digest })
	applied, err := n.Apply(t.Context(), before, items)
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "nothing of it is stored")
	require.Equal(t, before, applied)
	require.Equal(t, "0", n.do("GET", "c"))

	p.Do(func() { p.loseOf = applyScript.digest })
	applied, err = n.Apply(t.Context(), before, items)
	require.NoError(t, err, "it is stored: read back, not guessed")
	require.Equal(t, items[0].Pos, applied)
	require.Equal(t, "1", n.do("GET", "c"))

	_, err = n.Apply(t.Context(), before, items)
	require.True(t, nodeclient.IsFatal(err), "a repetition is refused: %v", err)
	require.Equal(t, "1", n.do("GET", "c"), "nothing twice")

	// Outside the order the position stays, so it cannot tell: nothing is guessed.
	for _, lose := range []bool{false, true} {
		at, was := n.at(), n.do("GET", "c")
		outside := []event.Item{{Pos: at, Record: items[0].Record, Decision: 1}}
		p.Do(func() {
			if lose {
				p.loseOf = applyScript.digest
			} else {
				p.cutOn = applyScript.digest
			}
		})
		_, err = n.Apply(t.Context(), at, outside)
		require.True(t, nodeclient.IsUnknown(err), err)
		require.True(t, nodeclient.IsTransient(err), err)
		require.Equal(t, at, n.at())
		require.Equal(t, lose, was != n.do("GET", "c"))
	}
}

// When the answer that is lost would have said that an increment fails, the position tells how far it went, and the
// next call says why.
func TestXD28ALostFAIL(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("SET c 0", "SET s x")
	before, items := n.at(), n.items("INCR c", "INCR c", "SET half 1\nINCR s", "INCR c")
	p.Do(func() { p.loseOf = applyScript.digest })
	applied, err := n.Apply(t.Context(), before, items)
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, items[1].Pos, applied)
	applied, err = n.Apply(t.Context(), applied, items[2:])
	require.ErrorContains(t, err, "not an integer")
	require.Equal(t, items[1].Pos, applied)
	require.Equal(t, "2", n.do("GET", "c"))
	require.Nil(t, n.do("GET", "half"))
}

// When the server cannot be asked either, the doubt is kept, and cleared by the next Apply, whatever was stored.
func TestADoubtIsKeptUntilTheServerAnswers(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("SET c 0")
	before, items := n.at(), n.items("INCR c", "INCRBY c 10", "INCRBY c 100")

	p.Refuse(true)
	p.Do(func() { p.cutOn = applyScript.digest })
	applied, err := n.Apply(t.Context(), before, items[:1])
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "unknown")
	require.Equal(t, before, applied)
	p.Refuse(false)
	_, err = n.Apply(t.Context(), before, items[:1])
	require.NoError(t, err, "nothing was stored, so all goes on")

	p.Refuse(true)
	p.Do(func() { p.loseOf = applyScript.digest })
	applied, err = n.Apply(t.Context(), items[0].Pos, items[1:2])
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, items[0].Pos, applied)
	p.Refuse(false)
	applied, err = n.Apply(t.Context(), items[0].Pos, items[1:2])
	require.True(t, nodeclient.IsTransient(err), "it was stored: %v", err)
	require.Equal(t, items[1].Pos, applied, "and the agent learns where to go on")
	_, err = n.Apply(t.Context(), applied, items[2:])
	require.NoError(t, err)
	require.Equal(t, "111", n.do("GET", "c"))
}

// A call that was under way when the connection was cut, and arrives when everybody has been told that it is not
// stored, is nobody else's.
func TestACallThatArrivesLateIsNoOtherHand(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("SET c 0")
	before, items := n.at(), n.items("INCR c", "INCR c")
	steps := make([]step, 0, 2)
	for _, item := range items {
		w, err := n.table.parse(item.Record.Body())
		require.NoError(t, err)
		steps = append(steps, step{Pos: item.Pos, Time: item.Record.Time(), Work: w})
	}
	p.Do(func() { p.cutOn = applyScript.digest })
	_, err := n.Apply(t.Context(), before, items)
	require.ErrorContains(t, err, "nothing of it is stored")
	late := append([]any{n.lock()[:16], lockMS}, n.arguments(before, steps, true)...)
	_, err = applyScript.run(t.Context(), n.other, heldKeys, late) // it arrives
	require.NoError(t, err)
	applied, err := n.Apply(t.Context(), before, items)
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, items[1].Pos, applied)
	require.Equal(t, "2", n.do("GET", "c"))
}

// A context that ends while the server does not answer ends the waiting; what became of the call is looked for, and
// never done twice.
func TestACancelledCallIsSettled(t *testing.T) {
	own := redistest.New(t)
	n := nodeOn(t, own, own.Addr())
	n.run("SET c 0")
	before, items := n.at(), n.items("INCR c")
	n.do("CLIENT", "PAUSE", "100000", "WRITE")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	applied, err := n.Apply(ctx, before, items)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, before, applied)
	n.do("CLIENT", "UNPAUSE")
	applied, err = n.Apply(t.Context(), before, items)
	if err != nil { // it came through after all
		require.True(t, nodeclient.IsTransient(err), err)
	}
	require.Equal(t, items[0].Pos, applied)
	require.Equal(t, "1", n.do("GET", "c"))
}
