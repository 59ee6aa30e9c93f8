package redis

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/servertest/redistest"
)

// TestXE13: "failure at each step leaves the old state": the switch is one script, so that a connection cut or an
// answer lost in it leaves the old data or the new, whole, and what is tried again or arrives late does no harm.
func TestXE13TheSwitchIsOneStep(t *testing.T) {
	source := newNode(t)
	source.run("SET who new", "RPUSH list a b")
	snapshot, at := source.taken()
	p := newProxy(t, server.Addr())
	for name, c := range map[string]struct {
		hinder   func()
		switched bool
	}{
		"cut before the switch": {func() { p.cutOn = switchScript.digest }, false},
		"answer lost":           {func() { p.loseOf = switchScript.digest }, true},
	} {
		n := nodeOn(t, server, p.Addr())
		n.run("SET who old")
		old := n.at()
		warm, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
		require.NoError(t, err)
		// the server knows it now
		_, err = switchScript.run(t.Context(), n.other, []string{markerKey, lockKey},
			[]any{"no such mark", n.db, n.db + 1, "", lockMS})
		require.NoError(t, err)
		p.Do(c.hinder)
		err = warm.Switch(t.Context())
		if c.switched {
			require.NoError(t, err, name)
			require.Equal(t, at, n.at())
			require.Equal(t, "new", n.do("GET", "who"))
		} else {
			require.True(t, nodeclient.IsTransient(err), "%s: %v", name, err)
			require.Equal(t, old, n.at(), name)
			require.Equal(t, "old", n.do("GET", "who"))
			require.NoError(t, warm.Switch(t.Context()), "it is tried again")
			require.Equal(t, "new", n.do("GET", "who"))
		}
		err = warm.Switch(t.Context()) // a call that arrives late
		require.ErrorContains(t, err, "the marker of this restore is gone")
		require.Equal(t, "new", n.do("GET", "who"))
		require.Equal(t, at, n.at())
		require.EqualValues(t, 0, client(t, server, n.db+1).DBSize(t.Context()).Val(), "nothing is left")
	}
}

// The server is killed right after the loading, or after the switch: the append-only file has the old data or the
// new, and the next Open tidies up.
func TestXE13AServerKilledAroundTheSwitch(t *testing.T) {
	own := redistest.New(t)
	source := newNode(t)
	source.run(values...)
	snapshot, at := source.taken()
	want := source.contents()
	n := nodeOn(t, own, own.Addr())
	n.run("SET who old")
	old := n.at()
	fresh := client(t, own, n.db+1)
	restart := func() {
		t.Helper()
		require.NoError(t, own.Kill())
		require.NoError(t, own.Run())
		require.Eventually(t, func() bool { return n.other.Ping(t.Context()).Err() == nil }, patience, tick)
	}
	_, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(t, err)
	restart()
	require.Equal(t, old, n.at())
	require.NotZero(t, fresh.DBSize(t.Context()).Val())
	require.NoError(t, n.Close())
	again, err := Open(t.Context(), own.URL(n.db), Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, again.Close()) }()
	require.Zero(t, fresh.DBSize(t.Context()).Val(), "tidied")
	require.Equal(t, "old", n.do("GET", "who"))

	r, err := again.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(t, err)
	require.NoError(t, r.Switch(t.Context()))
	restart()
	require.Equal(t, at, n.at())
	require.Equal(t, want, n.contents())
	require.Zero(t, fresh.DBSize(t.Context()).Val())
}

// A logical database with data of somebody, or with another target's restore, is not touched.
func TestARestoreNeedsADatabaseOfItsOwn(t *testing.T) {
	source := newNode(t)
	source.run("SET who new")
	snapshot, at := source.taken()
	n := newNode(t)
	fresh := client(t, server, n.db+1)
	require.NoError(t, fresh.Set(t.Context(), "somebody", "x", 0).Err())
	_, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.ErrorContains(t, err, "holds data: empty it or name another")
	require.NoError(t, fresh.Set(t.Context(), markerKey, "9999:token", 0).Err())
	_, err = n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "restore of another target")
	require.EqualValues(t, 2, fresh.DBSize(t.Context()).Val())
	require.NoError(t, fresh.FlushDB(t.Context()).Err())

	// Someone else writes there while the restore loads.
	r := &handReader{bytes.NewReader(snapshot),
		func() { require.NoError(t, fresh.Set(t.Context(), "somebody", "x", 0).Err()) }}
	_, err = n.Restore(t.Context(), at, event.AllTopics, r)
	require.ErrorContains(t, err, "someone else has written")
	require.Zero(t, fresh.DBSize(t.Context()).Val())

	// A value of a server nobody knows.
	var data bytes.Buffer
	require.NoError(t, entry{"k", "\x00\x01x\xff\x7f12345678", 0}.write(&data))
	require.NoError(t, writeEnd(&data, 1))
	_, err = n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(framed(t, at, data.Bytes())))
	require.ErrorContains(t, err, "may be of a later version")
	require.Zero(t, fresh.DBSize(t.Context()).Val())
}

// handReader calls f when its end is reached, once.
type handReader struct {
	r *bytes.Reader
	f func()
}

func (h *handReader) Read(b []byte) (int, error) {
	n, err := h.r.Read(b)
	if err != nil && h.f != nil {
		h.f()
		h.f = nil
	}
	return n, err
}

// Where a snapshot does not fit below maxmemory, a restore does not begin; a server without a second database cannot
// restore.
func TestRoom(t *testing.T) {
	own := redistest.New(t, "--databases", "1")
	target, err := Open(t.Context(), strings.Split(own.URL(0), "?")[0], Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, target.Close()) }()
	require.NoError(t, target.CheckSpace(t.Context(), 1<<50))
	require.NoError(t, client(t, own, 0).ConfigSet(t.Context(), "maxmemory", "100mb").Err())
	require.NoError(t, target.CheckSpace(t.Context(), 1<<20))
	err = target.CheckSpace(t.Context(), 1<<30)
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "(maxmemory)")
	snapshot, at := newNode(t).taken()
	require.True(t, at.Zero())
	_, err = target.Restore(t.Context(), event.Start(7), event.AllTopics, bytes.NewReader(snapshot))
	require.ErrorContains(t, err, "one logical database only")
}

// A server that is killed under load comes back with everything it has acknowledged: every increment is there once,
// the position too.
func TestAServerKilledUnderLoadLosesAndRepeatsNothing(t *testing.T) {
	own := redistest.New(t)
	n := nodeOn(t, own, own.Addr())
	const total = 6000
	n.shared().KilledUnderLoad(total, 3, func(k int) string { return fmt.Sprintf("INCR c\nRPUSH seen %d", k) })
	require.Equal(t, fmt.Sprint(total), n.do("GET", "c"))
	seen := n.other.LRange(t.Context(), "seen", 0, -1).Val()
	require.Len(t, seen, total)
	for k, text := range seen {
		require.Equal(t, fmt.Sprint(k), text)
	}
}

// A server that saves by time only, or not at all, loses data and position together when it is killed: the copy goes
// back, whole, and goes on from where it stands.
func TestWithoutPersistenceDataAndPositionFallTogether(t *testing.T) {
	own := redistest.New(t, "--appendonly", "no")
	n := nodeOn(t, own, own.Addr())
	require.Contains(t, n.Durability(), "keeps no append-only file")
	items := n.items("INCR c", "INCR c", "INCR c", "INCR c", "INCR c")
	start := n.at()
	at, err := n.Apply(t.Context(), start, items[:2])
	require.NoError(t, err)
	n.do("SAVE")
	_, err = n.Apply(t.Context(), at, items[2:])
	require.NoError(t, err)
	require.Equal(t, "5", n.do("GET", "c"))
	for range 2 {
		require.NoError(t, own.Kill())
		require.NoError(t, own.Run())
		require.Eventually(t, func() bool { return n.other.Ping(t.Context()).Err() == nil }, patience, tick)
		require.Equal(t, "2", n.do("GET", "c"))
		var pos event.Position
		require.Eventually(t, func() bool { pos, err = n.Position(t.Context()); return err == nil }, patience, tick)
		require.Equal(t, at, pos)
		_, err = n.Apply(t.Context(), pos, items[2:])
		require.NoError(t, err)
		require.Equal(t, "5", n.do("GET", "c"))
	}
	// A snapshot that was open meanwhile holds data of before and after: it does not count.
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	require.NoError(t, own.Kill())
	require.NoError(t, own.Run())
	deadline := time.Now().Add(patience)
	for err = errors.New("not yet"); err != nil && !strings.Contains(err.Error(), "started anew") &&
		time.Now().Before(deadline); {
		s.(*snapshot).started = false
		err = s.WriteTo(t.Context(), &bytes.Buffer{})
	}
	require.ErrorContains(t, err, "started anew")
	require.NoError(t, s.Close())
}

// What a server is set to is told, once, as one sentence.
func TestDurability(t *testing.T) {
	require.Empty(t, newNode(t).Durability())
	on := info{"aof_enabled": "1"}
	require.Empty(t, durability(on, "always"))
	require.Contains(t, durability(on, "everysec"), "everysec")
	require.Contains(t, durability(on, ""), "does not tell")
	require.Contains(t, durability(info{}, "always"), "no append-only file")
}
