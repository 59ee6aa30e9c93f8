package kv

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk/disktest"
	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
)

// written is a whole snapshot.
func written(t *testing.T, s nodeclient.Snapshot, err error) []byte {
	t.Helper()
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, s.WriteTo(t.Context(), &b))
	require.NoError(t, s.Close())
	return b.Bytes()
}

func (n *node) taken() []byte {
	n.Helper()
	s, err := n.Snapshot(n.Context())
	return written(n.T, s, err)
}

// keysIn are the keys of a snapshot, and what its end has counted.
func keysIn(t *testing.T, snapshot []byte) (keys []string, count uint64) {
	t.Helper()
	in, _, err := stream.NewReader(bytes.NewReader(snapshot))
	require.NoError(t, err)
	count, err = readPairs(in, func(key, _ []byte) error { keys = append(keys, string(key)); return nil })
	require.NoError(t, err)
	return keys, count
}

// TestSS04: "Range excludes start and includes end", an empty end runs to the last key; with a limit, which counts
// pairs; 0 is none here. TestSS07: "our reader compares the count".
func TestSS04AndSS07Ranges(t *testing.T) {
	n := newNode(t)
	n.run("MSET a 1 b 2 b\xff 3 c 4 d 5", `SET "b\x00" 6`)
	everything := []string{"a", "b", "b\x00", "b\xff", "c", "d"}
	for _, c := range []struct {
		start, end string
		limit      uint64
		want       []string
	}{
		{"", "", 0, everything},
		{"", "", 6, everything},
		{"", "", 1000, everything},
		{"", "", 1, everything[:1]},
		{"", "", 5, everything[:5]},
		{"a", "", 0, everything[1:]},
		{"", "d", 0, everything},
		{"", "c", 0, everything[:5]},
		{"a", "c", 0, everything[1:5]},
		{"a", "c", 2, everything[1:3]},
		{"b", "b\x00", 0, everything[2:3]},
		{"b", "bz", 0, everything[2:3]},
		{"aa", "b", 0, everything[1:2]},
		{"\x00", "\xff\xff", 0, everything},
		{"b", "b", 0, nil},
		{"c", "b", 0, nil},
		{"d", "", 0, nil},
		{"z", "", 0, nil},
		{"", "A", 0, nil},
		{strings.Repeat("z", 3000), "", 0, nil},
	} {
		s, err := n.SnapshotRange(t.Context(), []byte(c.start), []byte(c.end), c.limit)
		snapshot := written(t, s, err)
		require.Equal(t, n.at(), s.Position())
		keys, count := keysIn(t, snapshot)
		require.Equal(t, c.want, keys, "%q to %q, %d", c.start, c.end, c.limit)
		require.EqualValues(t, len(keys), count)
		var scanned []string
		require.NoError(t, n.Scan([]byte(c.start), []byte(c.end), c.limit,
			func(key, _ []byte) error { scanned = append(scanned, string(key)); return nil }))
		require.Equal(t, c.want, scanned)
		if c.start+c.end != "" || c.limit > 0 {
			_, err := newNode(t).Restore(t.Context(), n.at(), event.AllTopics, bytes.NewReader(snapshot))
			require.ErrorContains(t, err, "a range of keys only")
		}
	}
	stop := errors.New("enough")
	require.ErrorIs(t, n.Scan(nil, nil, 0, func(_, _ []byte) error { return stop }), stop)
}

// TestXE07: "increments flow during a long copy, yet the snapshot holds exactly its position", and SS-11: "writes
// during a dump do not appear"; with so many of them that goleveldb rewrites its tables beneath the open cursor.
func TestXE07AndSS11(t *testing.T) {
	place := disktest.NewMemory()
	n := nodeIn(t, place)
	fill := func(round int) {
		for i := 0; i < 400; i += 20 {
			var scripts []string
			for k := i; k < i+20; k++ {
				scripts = append(scripts, fmt.Sprintf("SET key:%04d %s", k, strings.Repeat(fmt.Sprint(round), 4000)))
			}
			n.run(scripts...)
		}
	}
	fill(0)
	want, at := n.all(), n.at()
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	require.True(t, s.Online())
	require.Positive(t, s.Size())
	round := 0
	w := &drivertest.EachWrite{Do: func() {
		if round++; round < 10 {
			fill(round)
			n.run(fmt.Sprintf("DEL key:%04d\nSET new:%d 1", round*7, round))
		}
	}}
	require.NoError(t, s.WriteTo(t.Context(), w))
	require.NoError(t, s.Close())
	require.Greater(t, round, 10)
	stats, err := n.db.Stats()
	require.NoError(t, err)
	require.Positive(t, stats.Bytes, "tables were written")

	m := newNode(t)
	r, err := m.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(w.Bytes()))
	require.NoError(t, err)
	require.NoError(t, r.Switch(t.Context()))
	require.Equal(t, want, m.all())
	require.Equal(t, at, m.at())
}

// TestXD13: "pause is short and does not grow with data size": opening a snapshot reads nothing of the place.
// TestSS09: "A dump never delays other sessions": between any two writes of a snapshot increments are applied, see
// TestXE07AndSS11.
func TestXD13(t *testing.T) {
	n := newNode(t)
	for range 30 {
		n.run("SET a 1\nSET " + fmt.Sprint(rand.Uint64()) + " " + strings.Repeat("x", 300_000))
	}
	small := testing.AllocsPerRun(5, func() {
		s, err := n.Snapshot(context.Background())
		require.NoError(t, err)
		require.NoError(t, s.Close())
	})
	require.Less(t, small, 200.0)
}

// TestSS10: "slow reader gets all bytes": a snapshot closed in the middle ends with an error, never with a short
// stream that looks whole.
func TestSS10AClosedSnapshotNeverLooksWhole(t *testing.T) {
	n := newNode(t)
	for i := range 100 {
		n.run(fmt.Sprintf("SET key:%04d %s", i, strings.Repeat("x", 5000)))
	}
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	writes := 0
	w := &drivertest.EachWrite{Do: func() {
		if writes++; writes == 3 {
			require.NoError(t, s.Close())
		}
	}}
	require.ErrorIs(t, s.WriteTo(t.Context(), w), errClosed)
	in, _, err := stream.NewReader(bytes.NewReader(w.Bytes()))
	require.NoError(t, err)
	_, err = readPairs(in, func(_, _ []byte) error { return nil })
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// The bytes of a snapshot are these, now and in every later version.
func TestGoldenSnapshot(t *testing.T) {
	n := newNode(t)
	n.run(`MSET b "" "a\x00" value`)
	require.Equal(t, ""+
		"584d515041495253"+"01000000"+"0700000000000000"+"0100000000000000"+"050bd9e838252f15"+"00000000"+"b204af4e"+
		"24000000"+"02000000"+"6100"+"05000000"+"76616c7565"+"01000000"+"62"+"00000000"+"00000000"+"0200000000000000"+
		"10dc1e7d"+"00000000"+"8ab2288c",
		hex.EncodeToString(n.taken()))
	require.NotEmpty(t, span{start: []byte("a"), limit: 2}.preface())
	require.Equal(t, "01000000"+"61"+"00000000"+"0200000000000000",
		hex.EncodeToString(span{start: []byte("a"), limit: 2}.preface()))
}

// Pairs that no node has written are damage, and lengths that lie cost nothing.
func TestDamagedPairsAreRefused(t *testing.T) {
	for data, want := range map[string]string{
		"":                                   "unexpected EOF",
		"\x01\x00\x00":                       "unexpected EOF",
		"\x01\x00\x00\x00a":                  "unexpected EOF",
		"\x01\x04\x00\x00":                   "a key of 1025 bytes",
		"\x01\x00\x00\x00a\x01\x00\x00\x01":  "a value of 16777217 bytes",
		"\x01\x00\x00\x00a\x00\x00\x00\x01x": "unexpected EOF",
		"\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00":                   "after 0 pairs but has counted 1",
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00x":                  "goes on after its end",
		"\x01\x00\x00\x00a\x00\x00\x00\x00\x01\x00\x00\x00a\x00\x00\x00\x00": "is not after the one before",
	} {
		_, err := readPairs(strings.NewReader(data), func(_, _ []byte) error { return nil })
		require.ErrorContains(t, err, want, "%q", data)
	}
}

func FuzzReadPairs(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00a\x01\x00\x00\x00b\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again []byte
		count := uint64(0)
		n, err := readPairs(bytes.NewReader(data), func(key, value []byte) error {
			count++
			again = append(again, byte(len(key)), byte(len(key)>>8), 0, 0)
			again = append(again, key...)
			again = append(again, byte(len(value)), byte(len(value)>>8), byte(len(value)>>16), 0)
			again = append(again, value...)
			return nil
		})
		if err == nil {
			require.Equal(t, count, n)
			require.True(t, bytes.HasPrefix(data, again))
		}
	})
}

// TestXE13: "failure at each step leaves the old state": the disk fails at every operation of a restore and its
// switch in turn, then the power: what is opened next is the old database or the new one, whole, and nothing lies
// beside it.
func TestXE13ACrashAtEveryStepOfARestore(t *testing.T) {
	source := newNode(t)
	source.run("SET who new\nINCR n 2")
	snapshot, at := source.taken(), source.at()
	outcomes := make(map[string]int)
	for nth := 1; ; nth++ {
		mem := disktest.NewMemory()
		fault := &disktest.Fault{Nth: 0, Err: syscall.EIO, Stays: true}
		n := nodeIn(t, disktest.Hooked(mem, fault.Hook))
		n.run("SET who old")
		old := n.at()
		fault.Nth = fault.Seen() + nth
		switched := false
		if r, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot)); err == nil {
			switched = r.Switch(t.Context()) == nil
		}
		_ = n.Close() // the disk is broken
		for seed := range uint64(4) {
			place := mem.Crash(rand.New(rand.NewPCG(seed, uint64(nth))))
			m := nodeIn(t, place)
			who, err := m.Get([]byte("who"))
			require.NoError(t, err)
			switch string(who) {
			case "old":
				require.Equal(t, old, m.at())
				require.False(t, switched)
			case "new":
				require.Equal(t, at, m.at())
				require.Equal(t, []string{"n=2", "who=new"}, m.all())
			}
			outcomes[string(who)]++
			names, err := place.List()
			require.NoError(t, err)
			require.Equal(t, []string{"db"}, names)
			require.NoError(t, m.Close())
		}
		if fault.Hit() == 0 {
			require.True(t, switched)
			require.Greater(t, outcomes["old"], 10)
			require.Greater(t, outcomes["new"], 4)
			return
		}
	}
}

// When the disk fails while a snapshot is loaded, the live database goes on.
func TestAFailedRestoreLeavesTheLiveDatabaseAlone(t *testing.T) {
	source := newNode(t)
	source.run("SET who new")
	snapshot, at := source.taken(), source.at()
	fault := &disktest.Fault{Match: func(op disktest.Op) bool {
		return op.Verb == disktest.Write && strings.HasSuffix(op.Database, "restore")
	}, Nth: 3, Err: syscall.ENOSPC, Stays: true}
	n := nodeIn(t, disktest.Hooked(disktest.NewMemory(), fault.Hook))
	n.run("SET who old")
	_, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.True(t, nodeclient.IsTransient(err), err)
	n.run("INCR n")
	require.Equal(t, []string{"n=1", "who=old"}, n.all())
}

// Neither a restore that was discarded, cut, damaged or switched to, nor a crash, leaves a folder beside the database.
func TestARestoreLeavesNoFolder(t *testing.T) {
	dir := t.TempDir()
	target, err := Open(filepath.Join(dir, "db"))
	require.NoError(t, err)
	n := &node{t, target, drivertest.NewLog(7)}
	n.run("INCR a")
	snapshot, at := n.taken(), n.at()
	folders := func() (names []string) {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	for _, r := range []io.Reader{bytes.NewReader(snapshot[:len(snapshot)-1]),
		bytes.NewReader(append(slices.Clone(snapshot), 0)), strings.NewReader("")} {
		_, err := n.Restore(t.Context(), at, event.AllTopics, r)
		require.Error(t, err)
		require.Equal(t, []string{"db"}, folders())
	}
	r, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(t, err)
	require.Equal(t, []string{"db", "db.xmq-restore"}, folders())
	require.NoError(t, r.Discard())
	require.Equal(t, []string{"db"}, folders())

	_, err = n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot)) // a crash
	require.NoError(t, err)
	require.NoError(t, n.Close())
	again, err := Open(filepath.Join(dir, "db"))
	require.NoError(t, err)
	require.Equal(t, []string{"db"}, folders())
	r, err = again.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(t, err)
	require.NoError(t, r.Switch(t.Context()))
	require.Equal(t, []string{"db"}, folders())
	pos, err := again.Position(t.Context())
	require.NoError(t, err)
	require.Equal(t, at, pos)
	require.NoError(t, again.CheckSpace(t.Context(), 1))
	require.True(t, nodeclient.IsTransient(again.CheckSpace(t.Context(), 1<<60)))
	require.NoError(t, again.Close())
}

// A crash while the old database is being removed, after the decision, is finished by the next Open, whatever is
// left of it.
func TestXE13AHalfRemovedOldDatabase(t *testing.T) {
	source := newNode(t)
	source.run("SET who new")
	snapshot, at := source.taken(), source.at()
	dir := t.TempDir()
	target, err := Open(filepath.Join(dir, "db"))
	require.NoError(t, err)
	n := &node{t, target, drivertest.NewLog(7)}
	n.run("SET who old")
	_, err = n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(t, err)
	require.NoError(t, n.Close())
	require.NoError(t, os.Rename(filepath.Join(dir, "db.xmq-restore"), filepath.Join(dir, "db.xmq-switch")))
	require.NoError(t, os.Remove(filepath.Join(dir, "db", "CURRENT")))
	again, err := Open(filepath.Join(dir, "db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, again.Close()) }()
	who, err := again.Get([]byte("who"))
	require.NoError(t, err)
	require.Equal(t, "new", string(who))
	require.Equal(t, at, again.pos)
}

// A database that a restore replaces stays open to whom it was open before; a new one is its user's alone.
func TestARestoredFolderKeepsItsMode(t *testing.T) {
	n := newNode(t)
	n.run("SET a 1")
	for _, mode := range []os.FileMode{0o700, 0o750} {
		path := filepath.Join(t.TempDir(), "db")
		target, err := Open(path)
		require.NoError(t, err)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
		require.NoError(t, os.Chmod(path, mode))
		restored, err := target.Restore(t.Context(), n.at(), event.AllTopics, bytes.NewReader(n.taken()))
		require.NoError(t, err)
		require.NoError(t, restored.Switch(t.Context()))
		info, err = os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm())
		require.NoError(t, target.Close())
	}
}
