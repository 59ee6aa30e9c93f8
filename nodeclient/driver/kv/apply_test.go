package kv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
)

// node is an open target with the log that feeds it.
type node struct {
	*testing.T
	*Database
	log *drivertest.Log
}

func newNode(t *testing.T) *node { return nodeIn(t, disktest.NewMemory()) }

func nodeIn(t *testing.T, place disk.Place) *node {
	t.Helper()
	target, err := openIn(place, os.TempDir(), "db")
	require.NoError(t, err)
	t.Cleanup(func() { _ = target.Close() })
	return &node{t, target, drivertest.NewLog(7)}
}

// at is the stored position, or the start of the log.
func (n *node) at() event.Position {
	n.Helper()
	return drivertest.At(n.T, n.Database, n.log)
}

// run applies scripts as one batch.
func (n *node) run(scripts ...string) {
	n.Helper()
	drivertest.Feed(n.T, n.Database, n.log, scripts...)
}

func (n *node) items(scripts ...string) []event.Item { return n.log.Scripts(scripts...) }

// fails applies scripts as one batch of which the i-th, from 0, must FAIL. The log then goes on after all of them.
func (n *node) fails(i int, scripts ...string) error {
	n.Helper()
	return drivertest.Fails(n.T, n.Database, n.log, i, scripts...)
}

// all is every pair, as "key=value".
func (n *node) all() (pairs []string) {
	n.Helper()
	require.NoError(n, n.Scan(nil, nil, 0, func(key, value []byte) error {
		pairs = append(pairs, string(key)+"="+string(value))
		return nil
	}))
	return pairs
}

// Each command does what it says, whatever bytes it is given, and sees what came before it in its batch.
func TestCommandsSeeEarlierOnesOfTheirBatch(t *testing.T) {
	n := newNode(t)
	n.run("SET a 1\nINCR a\nINCR a 40", "INCR a", "DECR b", "DECR a 3\nSET c x", "DEL c d", "MSET e 1 f 2 e 3",
		"DEL b\nINCR b -9223372036854775808")
	require.Equal(t, []string{"a=40", "b=-9223372036854775808", "e=3", "f=2"}, n.all())
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	body := fmt.Sprintf("*3\r\n$3\r\nset\r\n$256\r\n%s\r\n$256\r\n%s\r\n", every, every)
	n.run(body, "SET 😀 ''", "DEL a b e f")
	got, err := n.Get(every)
	require.NoError(t, err)
	require.Equal(t, every, got)
	got, err = n.Get([]byte("😀"))
	require.NoError(t, err)
	require.Empty(t, got)
	_, err = n.Get([]byte("a"))
	require.ErrorIs(t, err, ErrNotFound)
}

// Each increment that cannot be is refused with a sentence, and nothing of it or after it is there.
func TestWhatIsRefused(t *testing.T) {
	n := newNode(t)
	n.run("SET text abc\nSET max 9223372036854775807\nSET min -9223372036854775808\nSET sign +1")
	for script, want := range map[string]string{
		"GET a":                       "an increment may hold SET, MSET, DEL, INCR and DECR",
		"EXISTS a":                    "an increment may hold",
		"SET a":                       "SET key value",
		"SET a b c":                   "SET key value",
		"MSET a b c":                  "MSET key value",
		"MSET":                        "MSET key value",
		"DEL":                         "DEL key",
		"INCR":                        "INCR key [n]",
		"INCR a 1 2":                  "INCR key [n]",
		"INCR a x":                    `"x" is no whole number`,
		"INCR a 01":                   `"01" is no whole number`,
		"INCR a 9223372036854775808":  "does not fit into 64 bits",
		"DECR a -9223372036854775808": "does not fit into 64 bits",
		"SET half 1\nINCR text":       `"abc" is no whole number`,
		"SET half 1\nINCR sign":       `"+1" is no whole number`,
		"SET half 1\nINCR max":        "does not fit into 64 bits",
		"INCR half\nDECR min":         "does not fit into 64 bits",
		"SET half x\nINCR half":       `"x" is no whole number`,
		"SET '' x":                    "a key of 0 bytes",
		"SET half 1\nDEL " + strings.Repeat("k", MaxKey+1):       "a key of 1025 bytes",
		"SET half 1\nSET big " + strings.Repeat("v", MaxValue+1): "a value of 16777217 bytes",
		"SET 'half 1": "line 1: a quote is not closed",
		"":            "it has no command",
	} {
		require.ErrorContains(t, n.fails(1, "INCR good", script, "SET behind 1"), want, "%.40s", script)
		require.ErrorContains(t, n.fails(0, script), want, "%.40s", script)
	}
	require.Len(t, n.all(), 5, "nothing half, nothing after")
	n.run("SET " + strings.Repeat("k", MaxKey) + " " + strings.Repeat("v", MaxValue))
	for _, pair := range [][2]int64{{math.MaxInt64, 1}, {math.MinInt64, -1}} {
		_, err := sum(pair[0], pair[1])
		require.ErrorIs(t, err, errOverflow)
	}
}

// After a failed write the database is opened again as soon as the disk allows it, and nothing is lost or counted
// twice: what the write has left is read, not guessed.
func TestAFailedWriteIsGoneOnFromWithoutARestart(t *testing.T) {
	for _, verb := range []disktest.Verb{disktest.Write, disktest.Sync} {
		for _, failure := range []error{syscall.ENOSPC, syscall.EIO, disktest.ErrShort} {
			mem := disktest.NewMemory()
			var full atomic.Bool
			match := disktest.On(verb, storage.TypeJournal)
			n := nodeIn(t, disktest.Hooked(mem, func(op disktest.Op) error {
				if full.Load() && (match(op) || op.Verb == disktest.Create || op.Verb == disktest.SetMeta) {
					return failure
				}
				return nil
			}))
			n.run("INCR a", "INCR a")
			s, err := n.Snapshot(t.Context())
			require.NoError(t, err)
			before, items := n.at(), n.items("INCR a")
			full.Store(true)
			for range 2 {
				_, err = n.Apply(t.Context(), before, items)
				require.True(t, nodeclient.IsTransient(err), err)
			}
			require.ErrorContains(t, err, "snapshot being read")
			var copied bytes.Buffer
			require.NoError(t, errors.Join(s.WriteTo(t.Context(), &copied), s.Close()),
				"what was opened before is read to its end")
			_, err = n.Apply(t.Context(), before, items)
			require.True(t, nodeclient.IsTransient(err), err)
			full.Store(false)
			for range 2 { // perhaps it is stored: then that is said first
				pos, err := n.Apply(t.Context(), before, items)
				if err == nil || pos == items[0].Pos {
					break
				}
				require.True(t, nodeclient.IsTransient(err), err)
			}
			require.Equal(t, items[0].Pos, n.at())
			require.Equal(t, []string{"a=3"}, n.all(), "%v %v", verb, failure)
			n.run("INCR a")
			require.NoError(t, n.Close())
			require.Equal(t, []string{"a=4"}, nodeIn(t, mem).all())
		}
	}
}

// What was durable when a write failed is there after a crash.
func TestAFailedWriteAndACrash(t *testing.T) {
	mem := disktest.NewMemory()
	fault := &disktest.Fault{Match: disktest.On(disktest.Sync, storage.TypeJournal), Nth: 4, Err: syscall.EIO}
	n := nodeIn(t, disktest.Hooked(mem, fault.Hook))
	before := n.at()
	var err error
	done := 0
	for err == nil {
		before = n.at()
		_, err = n.Apply(t.Context(), before, n.items("INCR a"))
		done++
		require.Less(t, done, 10)
	}
	require.Equal(t, 1, fault.Hit())
	require.True(t, nodeclient.IsTransient(err), err)
	require.NoError(t, n.Close())

	m := nodeIn(t, mem.Crash(rand.New(rand.NewPCG(1, 2))))
	if got := m.at(); got == before {
		require.Equal(t, []string{fmt.Sprintf("a=%d", done-1)}, m.all())
	} else { // it was written, only nobody heard
		require.Equal(t, before.Seq+1, got.Seq)
		require.Equal(t, []string{fmt.Sprintf("a=%d", done)}, m.all())
	}
}

// A power cut at any write, sync or rename leaves what was acknowledged, perhaps one batch more, and data and
// position that belong together: TestXD28, "data and position in one transaction: a counter update is applied once".
func TestXD28ACrashAtEveryWrite(t *testing.T) {
	for nth := 1; ; nth++ {
		mem := disktest.NewMemory()
		fault := &disktest.Fault{Nth: nth, Err: disktest.ErrShort, Stays: true}
		target, err := openIn(disktest.Hooked(mem, fault.Hook), os.TempDir(), "db")
		acknowledged := event.Start(7)
		if err == nil {
			n := &node{t, target, drivertest.NewLog(7)}
			for range 6 {
				items := n.items("INCR a", "INCR a\nSET pad "+strings.Repeat("x", 2000))
				if _, err := target.Apply(t.Context(), acknowledged, items); err != nil {
					break
				}
				acknowledged = items[1].Pos
			}
			_ = target.Close() // the disk is broken
		}
		for seed := range uint64(6) {
			m := nodeIn(t, mem.Crash(rand.New(rand.NewPCG(seed, uint64(nth)))))
			at := m.at()
			require.GreaterOrEqual(t, at.Seq, acknowledged.Seq, "operation %d, seed %d", nth, seed)
			require.LessOrEqual(t, at.Seq, acknowledged.Seq+2)
			if at.Seq > 0 {
				require.Contains(t, m.all(), fmt.Sprintf("a=%d", at.Seq))
			}
			_, err := m.Apply(t.Context(), at, []event.Item{{Pos: event.Position{Log: 7, Seq: at.Seq + 1, Chain: 1}}})
			require.NoError(t, err, "it goes on")
			require.NoError(t, m.Close())
		}
		if fault.Hit() == 0 {
			require.Greater(t, nth, 10)
			return
		}
	}
}

// A database that is damaged, or is none of this driver, is not opened and not changed.
func TestDamageIsRefused(t *testing.T) {
	mem := disktest.NewMemory()
	n := nodeIn(t, mem)
	for range 20 {
		n.run("INCR a\nSET pad " + strings.Repeat("x", 3000))
	}
	require.NoError(t, n.Close())
	for _, fd := range mem.Files("db") {
		if fd.Type == storage.TypeJournal {
			mem.Edit("db", fd, func(data []byte) []byte { data[100] ^= 1; return data })
		}
	}
	_, err := openIn(mem, os.TempDir(), "db")
	require.True(t, nodeclient.IsFatal(err), err)
	require.ErrorContains(t, err, "damage")

	foreign := disktest.NewMemory()
	var b disk.Batch
	b.Put([]byte("other"), []byte("x"))
	db, err := disk.NewStorage(disk.Options{}).Create(foreign, "db", disk.State, &b)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	_, err = openIn(foreign, os.TempDir(), "db")
	require.ErrorIs(t, err, errForeign)
	require.False(t, nodeclient.IsTransient(err), err)

	lost := disktest.NewMemory()
	b.Reset()
	b.Put([]byte(versionKey), []byte{version})
	b.Put(dataKey("a"), []byte("x"))
	db, err = disk.NewStorage(disk.Options{}).Create(lost, "db", disk.State, &b)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	_, err = openIn(lost, os.TempDir(), "db")
	require.True(t, nodeclient.IsFatal(err), "data without a position: %v", err)
}

func TestAPathThatCannotBeADatabaseIsRefused(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "missing", "db"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.False(t, nodeclient.IsTransient(err), err)
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("x"), 100), 0o600))
	_, err = Open(path)
	require.ErrorContains(t, err, "is no folder")
	require.False(t, nodeclient.IsTransient(err), err)
}

// However increments fall into batches, the same ones fail and the same pairs come out.
func TestTheResultDoesNotDependOnBatches(t *testing.T) {
	scripts := func(rng *rand.Rand) (all []string) {
		for k := range 80 {
			key := string(rune('a' + rng.IntN(5)))
			all = append(all, []string{"INCR " + key, "DECR " + key + " 3", "DEL " + key, "SET " + key + " x", "SET " +
				key + fmt.Sprintf(" %d", k),
				"SET half 1\nINCR " + key, "MSET " + key + " 1 b 2"}[rng.IntN(7)])
		}
		return all
	}
	dump := func(t *testing.T, target nodeclient.Database) string {
		return strings.Join((&node{t, target.(*Database), nil}).all(), " ")
	}
	drivertest.Grouping(t, 10, func(t *testing.T) nodeclient.Database { return newNode(t).Database }, scripts, dump)
}

// An error of opening names the path once.
func TestAnErrorNamesItsPathOnce(t *testing.T) {
	damaged := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(damaged, "CURRENT"), []byte("junk\n"), 0o600))
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for path, named := range map[string]string{damaged: damaged, file: file, filepath.Join(file, "x"): file,
		filepath.Join(damaged, "a", "b"): filepath.Join(damaged, "a")} {
		_, err := Open(path)
		require.Error(t, err)
		require.Equal(t, 1, strings.Count(err.Error(), named), err)
		require.NotContains(t, err.Error(), "\n")
	}
}
