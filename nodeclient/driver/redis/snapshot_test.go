package redis

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/internal/snapstream"
)

// taken is a snapshot in memory.
func (n *node) taken() ([]byte, event.Position) { return drivertest.Taken(n.T, n.Database) }

func (n *node) load(snapshot []byte, at event.Position) {
	drivertest.Load(n.T, n.Database, snapshot, at)
}

// noise is n bytes that a server cannot pack.
func noise(n, seed int) string {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}

// fill makes keys of about 1000 bytes each.
func (n *node) fill(keys int) {
	n.Helper()
	var scripts []string
	for i := range keys {
		scripts = append(scripts, array("SET", fmt.Sprintf("key:%d", i), noise(1000, i)))
	}
	n.run(scripts...)
}

// TestXE07: "MVCC target: increments flow during a long copy, yet the snapshot holds exactly its position", with keys
// that are hot, deleted, made, renamed, of another type than before, given an expiry, restored; before the walk comes
// to them and after it.
func TestXE07(t *testing.T) {
	n := newNode(t)
	n.run(values...)
	n.fill(5000)
	n.run("SET hot 0")
	want, at := n.contents(), n.at()
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	require.True(t, s.Online())
	n.run("SET before:the:walk 1", "INCR hot", "DEL empty")
	round := 0
	w := &drivertest.EachWrite{Do: func() {
		k := 61 * round
		n.run("INCR hot", fmt.Sprintf("DEL key:%d", k%5000), fmt.Sprintf("SET fresh:%d x", round),
			fmt.Sprintf("SET key:%d short", (k+1)%5000),
			fmt.Sprintf("DEL key:%d\nRPUSH key:%d a b", (k+2)%5000, (k+2)%5000),
			fmt.Sprintf("EXPIRE key:%d 1000000", (k+3)%5000),
			fmt.Sprintf("COPY key:%d fresh:%d REPLACE\nRENAME fresh:%d key:%d", (k+4)%5000, round, round, (k+5)%5000),
			"APPEND big y\nLPUSH list new\nXADD stream * a b\nZADD z 7 new\nSREM set a")
		n.fails(1, "INCR hot", fmt.Sprintf("DEL key:%d\nLPUSH hot 1", (k+6)%5000))
		round++
	}}
	require.NoError(t, s.WriteTo(t.Context(), w))
	require.NoError(t, s.Close())
	require.Greater(t, round, 20)
	require.Equal(t, fmt.Sprint(1+2*round), n.do("GET", "hot"), "increments flowed")

	m := newNode(t)
	m.load(w.Bytes(), at)
	require.Equal(t, want, m.contents())
	require.Equal(t, at, m.at())
}

// TestXD13: "MVCC target: pause is short and does not grow with data size": opening a snapshot asks the same few
// questions of a small and of a large database.
func TestXD13(t *testing.T) {
	p := newProxy(t, server.Addr())
	opening := func(keys int) int {
		n := nodeOn(t, server, p.Addr())
		n.fill(keys)
		return p.counted(func() {
			s, err := n.Snapshot(t.Context())
			require.NoError(t, err)
			require.NoError(t, s.Close())
		})
	}
	require.Equal(t, 2, opening(1), "the position and INFO")
	require.Equal(t, 2, opening(20_000))
}

// Which keys FLUSHDB deletes nobody says beforehand: it waits until the snapshot has ended, and no longer than its
// context.
func TestFLUSHDBWaitsForTheSnapshot(t *testing.T) {
	n := newNode(t)
	n.run("SET a 1")
	at := n.at()
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	items := n.items("FLUSHDB")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	applied, err := n.Apply(ctx, at, items)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, at, applied)
	done := make(chan error, 1)
	go func() {
		_, err := n.Apply(context.Background(), at, items)
		done <- err
	}()
	var b bytes.Buffer
	require.NoError(t, s.WriteTo(t.Context(), &b))
	require.NoError(t, <-done)
	require.NoError(t, s.Close())
	require.Empty(t, n.contents())
	m := newNode(t)
	m.load(b.Bytes(), at)
	require.Equal(t, "1", m.do("GET", "a"))
}

// Old values that wait for the writer are bounded: Apply waits then, until they are written or its context ends.
func TestOldValuesThatWaitAreBounded(t *testing.T) {
	n := newNode(t)
	for i := range 8 {
		n.run(array("SET", fmt.Sprintf("big:%d", i), noise(100<<10, i)))
	}
	want, at := n.contents(), n.at()
	open, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	s := open.(*snapshot)
	s.limit = 550 << 10
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reached := at
	for i := range 6 {
		items := n.items(fmt.Sprintf("SETRANGE big:%d 0 y", i))
		reached, err = n.Apply(ctx, reached, items)
		require.NoError(t, err)
	}
	require.Greater(t, s.waitingBytes, s.limit)
	items := n.items("SETRANGE big:6 0 y")
	done := make(chan error, 1)
	go func() {
		_, err := n.Apply(ctx, reached, items)
		done <- err
	}()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	go func() {
		_, err := n.Apply(context.Background(), reached, items)
		done <- err
	}()
	var b bytes.Buffer
	require.NoError(t, s.WriteTo(t.Context(), &b))
	require.NoError(t, <-done)
	require.NoError(t, s.Close())
	m := newNode(t)
	m.load(b.Bytes(), at)
	require.Equal(t, want, m.contents())
}

// A snapshot whose writer fails, or that is closed half way, holds nothing up, and never looks whole.
func TestASnapshotGivenUpHoldsNothingUp(t *testing.T) {
	n := newNode(t)
	n.fill(3000)
	for _, give := range []func(s nodeclient.Snapshot) error{
		func(s nodeclient.Snapshot) error { return s.Close() },
		func(s nodeclient.Snapshot) error { n.conn.cut(); s.(*snapshot).conn.cut(); return nil },
	} {
		s, err := n.Snapshot(t.Context())
		require.NoError(t, err)
		writes := 0
		w := &drivertest.EachWrite{Do: func() {
			if writes++; writes == 3 {
				require.NoError(t, give(s))
			}
		}}
		_ = s.WriteTo(t.Context(), w) // a connection made anew may go on: then it is whole
		require.NoError(t, s.Close())
		n.run("FLUSHDB")
		n.fill(3000)
	}
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	_, err = n.Snapshot(t.Context())
	require.ErrorContains(t, err, "open already")
	require.NoError(t, s.Close())
}

// What ends while the walk goes on is in the snapshot all the same, with its time: a newcomer ends it where the log
// does.
func TestKeysThatEndDuringTheWalk(t *testing.T) {
	n := newNode(t)
	n.run("SET stays x", "SET soon x EX 10", "SET sooner x EX 8", "SET later x EX 100000")
	want, at := n.contents(), n.at()
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	n.run("SET other y", "SET other y", "SET other y", "SET other y", "SET other y", "SET other y",
		"SET other y") // its time ends "sooner"
	require.EqualValues(t, 0, n.do("EXISTS", "sooner"))
	n.until(at.Seq + 20)
	require.EqualValues(t, 0, n.do("EXISTS", "soon"))
	var b bytes.Buffer
	require.NoError(t, s.WriteTo(t.Context(), &b))
	require.NoError(t, s.Close())
	m := newNode(t)
	m.load(b.Bytes(), at)
	require.Equal(t, want, m.contents())
	m.until(at.Seq + 20)
	require.Equal(t, []string{"later", "stays"}, slices.Sorted(maps.Keys(m.contents())))

	// One whose time was over long ago, as in a snapshot of an earlier revision, is loaded with it, and ends with the
	// next increment.
	var data bytes.Buffer
	require.NoError(t, entry{"gone", n.do("DUMP", "stays").(string), 1000}.write(&data))
	require.NoError(t, entry{"here", n.do("DUMP", "stays").(string), 0}.write(&data))
	require.NoError(t, writeEnd(&data, 2))
	m.load(framed(t, at, data.Bytes()), at)
	require.Equal(t, map[string]string{"here": `-1 "x"`, "gone": `1000 "x"`}, m.contents())
	m.until(at.Seq)
	require.Equal(t, map[string]string{"here": `-1 "x"`}, m.contents())
}

// framed is a snapshot of these data.
func framed(t *testing.T, at event.Position, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	out, err := stream.NewWriter(&b, snapstream.Head{Pos: at})
	require.NoError(t, err)
	_, err = out.Write(data)
	require.NoError(t, err)
	require.NoError(t, out.End())
	return b.Bytes()
}

// The bytes of a snapshot are these, now and in every later version; what a server's DUMP is is its own affair.
func TestGoldenEntries(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, entry{"k\x00", "dump", 1700000000000}.write(&b))
	require.NoError(t, entry{"", "", 0}.write(&b))
	require.NoError(t, writeEnd(&b, 2))
	require.Equal(t, "01"+"02000000"+"0068e5cf8b010000"+"04000000"+"6b00"+"64756d70"+"01"+"00000000"+"0000000000000000"+
		"00000000"+"02"+"0200000000000000", hex.EncodeToString(b.Bytes()))
	require.Equal(t, "584d515245444953"+"01000000"+"0700000000000000"+"0000000000000000"+"aae89fc0f03e2959",
		hex.EncodeToString(framed(t, event.Start(7), nil))[:72])
}
