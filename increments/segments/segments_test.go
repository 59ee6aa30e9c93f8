package segments

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/event"
	"xmq/increments"
	"xmq/increments/logtest"
)

// small makes rotations, flushes and compactions common.
func small() *disk.Storage {
	return disk.NewStorage(disk.Options{WriteBuffer: 64 << 10, TableSize: 64 << 10, ManifestSize: 16 << 10})
}

func drafts(n int, body string) []event.Draft {
	out := make([]event.Draft, n)
	for i := range out {
		out[i].Body = fmt.Appendf(nil, "%s %d", body, i)
	}
	return out
}

func keyed(producer, key string) event.Draft {
	return event.Draft{Headers: event.Headers{Producer: producer, Key: key}, Body: []byte(producer + key)}
}

// put appends drafts and requires that all are stored, in order.
func put(t testing.TB, l *Log, ds ...event.Draft) (first uint64) {
	t.Helper()
	head := l.Head().Seq
	out, err := l.Append(ds)
	require.NoError(t, err)
	for i, o := range out {
		require.Equal(t, event.Outcome{Seq: head + uint64(i) + 1}, o)
	}
	return head + 1
}

// readAll reads the whole log and verifies what every node would.
func readAll(t testing.TB, l *Log) []event.Encoded {
	t.Helper()
	at, err := l.Position(l.First() - 1)
	require.NoError(t, err)
	var all []event.Encoded
	for at.Seq < l.Head().Seq {
		records, err := l.Read(at.Seq+1, 100, 1<<20)
		require.NoError(t, err)
		require.NotEmpty(t, records)
		for _, e := range records {
			require.NoError(t, e.Verify())
			require.True(t, e.Follows(at), "record %d", e.Seq())
			at.Seq, at.Chain = e.Seq(), e.Chain()
			all = append(all, e)
		}
	}
	require.Equal(t, l.Head(), at)
	return all
}

func requireSound(t testing.TB, l *Log) {
	t.Helper()
	readAll(t, l)
	r, err := l.Check(context.Background(), 0, nil)
	require.NoError(t, err)
	require.Empty(t, r.Damaged)
	require.Equal(t, l.Head().Seq+1-l.First(), r.Records)
}

func reopen(t testing.TB, l *Log, o Options) *Log {
	t.Helper()
	require.NoError(t, l.Close())
	l, err := Open(l.set.place, l.storage, o)
	require.NoError(t, err)
	return l
}

// XQ-7: "Storage sits behind a small Go interface with an in-memory version. One suite runs on both."
func TestXQ07OneSuiteOnDiskAndMemory(t *testing.T) {
	places := map[string]func(t *testing.T) disk.Place{
		"disk":   func(t *testing.T) disk.Place { return disk.Dir(filepath.Join(t.TempDir(), "log")) },
		"memory": func(*testing.T) disk.Place { return disktest.NewMemory() },
	}
	tests := map[string]func(t *testing.T, place disk.Place){
		"XI-1": testXI01, "XQ-2": testXQ02, "XQ-3": testXQ03, "XQ-6": testXQ06, "XD-18": testXD18, "XD-25": testXD25,
		"bounds": testBounds,
	}
	for where, place := range places {
		for name, test := range tests {
			t.Run(where+"/"+name, func(t *testing.T) { test(t, place(t)) })
		}
	}
}

// XI-1: "Sequences start at 1, step 1, no gaps, across restarts: push k, restart, push 1: answer is k+1."
func TestXI01SequencesGoOnAfterRestart(t *testing.T) { testXI01(t, disktest.NewMemory()) }

func testXI01(t *testing.T, place disk.Place) {
	_, err := Open(place, small(), Options{})
	require.Error(t, err, "only Create makes a log")
	l, err := Create(place, small(), Options{MaxRecords: 7})
	require.NoError(t, err)
	_, err = Create(place, small(), Options{})
	require.Error(t, err, "a log lies there")
	require.Equal(t, event.Start(l.ID()), l.Head())
	id, want := l.ID(), uint64(1)
	for _, k := range []int{1, 6, 7, 20, 3} {
		require.Equal(t, want, put(t, l, drafts(k, "x")...))
		want += uint64(k)
		l = reopen(t, l, Options{MaxRecords: 7})
		require.Equal(t, want, put(t, l, drafts(1, "one")...))
		want++
		require.Equal(t, id, l.ID())
	}
	requireSound(t, l)
	require.NoError(t, l.Close())
}

// XQ-1: "Sequences are 64-bit; the printed form has 20 zero-padded digits, so byte order is number order. An
// append after 2^64-1 is refused."
func TestXQ01LastSequence(t *testing.T) {
	base := event.Position{Log: 7, Seq: math.MaxUint64 - 5, Chain: 9}
	l, err := create(disktest.NewMemory(), small(), Options{MaxRecords: 3}, base)
	require.NoError(t, err)
	put(t, l, drafts(2, "a")...)
	out, err := l.Append(drafts(5, "b"))
	require.NoError(t, err)
	require.Equal(t, uint64(math.MaxUint64), out[2].Seq)
	require.ErrorIs(t, out[3].Err, increments.ErrFull)
	require.ErrorIs(t, out[4].Err, increments.ErrFull)
	l = reopen(t, l, Options{MaxRecords: 3, RingBytes: 1})
	out, err = l.Append(drafts(1, "c"))
	require.NoError(t, err)
	require.ErrorIs(t, out[0].Err, increments.ErrFull)
	requireSound(t, l)
	require.Equal(t, "18446744073709551614-18446744073709551615", l.newest.name)
	require.Less(t, string(recordKey(nil, 99)), string(recordKey(nil, 100)))
	require.Less(t, string(recordKey(nil, math.MaxUint64)), string(keyBase))
	require.NoError(t, l.Close())
}

// XQ-2: "Many producers, one order; many readers at once: each producer's own order is kept."
func TestXQ02ManyProducersManyReaders(t *testing.T) { testXQ02(t, disktest.NewMemory()) }

func testXQ02(t *testing.T, place disk.Place) {
	l, err := Create(place, small(), Options{MaxRecords: 100, RingBytes: 4000, OpenSegments: 2})
	require.NoError(t, err)
	logtest.ReadsBeside(t, l, 8, 150)
	require.NoError(t, l.Close())
}

// XQ-3: "The log is cut into segments. Retention removes whole segments: reads across a border; size limit;
// removed segment frees disk."
func TestXQ03SegmentsAndRetention(t *testing.T) { testXQ03(t, disktest.NewMemory()) }

func testXQ03(t *testing.T, place disk.Place) {
	o := Options{MaxRecords: 10, RingBytes: 1, OpenSegments: 2}
	l, err := Create(place, small(), o)
	require.NoError(t, err)
	put(t, l, drafts(95, "body")...)
	requireSound(t, l)
	before, err := l.Stats()
	require.NoError(t, err)
	require.Equal(t, 10, before.Segments)
	require.LessOrEqual(t, before.OpenSegments, 3)
	at40, err := l.Position(40)
	require.NoError(t, err)
	n, err := l.Trim(50)
	require.NoError(t, err)
	require.Equal(t, 4, n)
	require.Equal(t, uint64(41), l.First())
	after, err := l.Stats()
	require.NoError(t, err)
	require.Less(t, after.Bytes, before.Bytes)
	names, err := place.List()
	require.NoError(t, err)
	require.Len(t, names, 6)
	for range 2 {
		_, err = l.Read(40, 1, 1)
		require.ErrorIs(t, err, increments.ErrTrimmed)
		p, err := l.Position(40)
		require.NoError(t, err)
		require.Equal(t, at40, p)
		_, err = l.Position(39)
		require.ErrorIs(t, err, increments.ErrTrimmed)
		requireSound(t, l)
		l = reopen(t, l, o)
	}
	n, err = l.Trim(math.MaxUint64)
	require.NoError(t, err)
	require.Equal(t, 5, n)
	require.Equal(t, uint64(91), l.First())
	requireSound(t, l)
	require.NoError(t, l.Close())
}

// XQ-6: "Producers have names and counters; publishing is idempotent by producer ID + producer number: answer
// lost, producer sends again: same sequence, one increment."
func TestXQ06SameKeySameSequence(t *testing.T) { testXQ06(t, disktest.NewMemory()) }

func testXQ06(t *testing.T, place disk.Place) {
	o := Options{MaxRecords: 5, Window: 10}
	l, err := Create(place, small(), o)
	require.NoError(t, err)
	ds := []event.Draft{keyed("p", "1"), keyed("p", "2"), keyed("q", "1"), keyed("p", "free"), keyed("", "7"),
		keyed("p", "007"), keyed("p", "10")}
	put(t, l, ds...)
	for range 2 {
		out, err := l.Append(append(ds, event.Draft{Body: []byte("new")}))
		require.NoError(t, err)
		for i := range ds {
			require.Equal(t, event.Outcome{Seq: uint64(i + 1), Duplicate: true}, out[i])
		}
		require.False(t, out[len(ds)].Duplicate)
		l = reopen(t, l, o)
	}
	out, err := l.Append([]event.Draft{keyed("p", "11"), keyed("p", "11"), keyed("p", "x"), keyed("p", "x"),
		keyed("p", "5"), {}})
	require.NoError(t, err)
	require.Equal(t, event.Outcome{Seq: 10}, out[0])
	require.Equal(t, event.Outcome{Seq: 10, Duplicate: true}, out[1])
	require.Equal(t, event.Outcome{Seq: 11}, out[2])
	require.Equal(t, event.Outcome{Seq: 11, Duplicate: true}, out[3], "also across the border of a segment")
	require.ErrorIs(t, out[4].Err, increments.ErrTooOld, "a counter that was jumped over")
	require.ErrorIs(t, out[5].Err, increments.ErrInvalid)
	put(t, l, drafts(30, "many")...)
	_, err = l.Trim(30)
	require.NoError(t, err)
	out, err = l.Append([]event.Draft{keyed("p", "1"), keyed("p", "free"), keyed("", "7"), keyed("p", "12")})
	require.NoError(t, err)
	require.ErrorIs(t, out[0].Err, increments.ErrTooOld, "behind the window: never stored twice")
	require.Equal(t, event.Outcome{Seq: 42}, out[1], "free-form keys after the window count as new")
	require.Equal(t, event.Outcome{Seq: 43}, out[2])
	require.Equal(t, event.Outcome{Seq: 44}, out[3])
	requireSound(t, l)
	require.NoError(t, l.Close())
}

// XD-18: "Changing max_records makes old segments unreachable; 1 never opens a second one. Limit changed
// between runs, and set to 1: all increments read."
func TestXD18MaxRecordsMayChange(t *testing.T) { testXD18(t, disktest.NewMemory()) }

func testXD18(t *testing.T, place disk.Place) {
	l, err := Create(place, small(), Options{MaxRecords: 4})
	require.NoError(t, err)
	n := 0
	for _, limit := range []uint64{4, 1, 9, 1, 1, 3} {
		l = reopen(t, l, Options{MaxRecords: limit, RingBytes: 1})
		put(t, l, drafts(6, "x")...)
		n += 6
		require.Len(t, readAll(t, l), n)
	}
	requireSound(t, l)
	require.NoError(t, l.Close())
}

// XD-25: "All queues share one key space. Two logs never see each other's increments, positions or retention."
func TestXD25LogsAreSeparate(t *testing.T) { testXD25(t, disktest.NewMemory()) }

func testXD25(t *testing.T, place disk.Place) {
	g := small()
	a, err := Create(place, g, Options{MaxRecords: 5})
	require.NoError(t, err)
	b, err := Create(disktest.NewMemory(), g, Options{MaxRecords: 5})
	require.NoError(t, err)
	require.NotEqual(t, a.ID(), b.ID())
	put(t, a, drafts(12, "a")...)
	put(t, b, drafts(8, "b")...)
	put(t, b, keyed("p", "1"))
	put(t, a, keyed("p", "1"))
	_, err = a.Trim(11)
	require.NoError(t, err)
	require.Equal(t, uint64(11), a.First())
	require.Equal(t, uint64(1), b.First())
	require.Len(t, readAll(t, b), 9)
	pa, err := a.Position(a.Head().Seq)
	require.NoError(t, err)
	require.Error(t, b.VerifyCheckpoint(pa))
	require.NoError(t, a.VerifyCheckpoint(pa))
	require.NoError(t, errors.Join(a.Close(), b.Close()))
}

// Read's limits and the edges of the log.
func testBounds(t *testing.T, place disk.Place) {
	now := time.Unix(5, 6)
	l, err := Create(place, small(), Options{MaxRecords: 10, Now: func() time.Time { return now }})
	require.NoError(t, err)
	none, err := l.Read(1, 10, 10)
	require.NoError(t, err)
	require.Empty(t, none)
	put(t, l, drafts(25, "abc")...)
	for _, ring := range []int{0, 1} {
		l = reopen(t, l, Options{MaxRecords: 10, RingBytes: ring, Walk: 3})
		for _, from := range []uint64{1, 5, 10, 24, 25} {
			one, err := l.Read(from, 1000, 1)
			require.NoError(t, err)
			require.Len(t, one, 1, "at least one")
			require.Equal(t, from, one[0].Seq())
			require.Equal(t, now.Add(time.Duration(from-1)*time.Microsecond).UnixNano(), one[0].Time())
			three, err := l.Read(from, 3, 1<<20)
			require.NoError(t, err)
			require.LessOrEqual(t, len(three), 3)
		}
		none, err = l.Read(26, 1, 1)
		require.NoError(t, err)
		require.Empty(t, none)
		_, err = l.Read(27, 1, 1)
		require.ErrorIs(t, err, increments.ErrBeyond)
		_, err = l.Read(0, 1, 1)
		require.ErrorIs(t, err, increments.ErrTrimmed)
		_, err = l.Position(26)
		require.ErrorIs(t, err, increments.ErrBeyond)
		p, err := l.Position(0)
		require.NoError(t, err)
		require.Equal(t, event.Start(l.ID()), p)
	}
	head := l.Head()
	require.NoError(t, l.VerifyCheckpoint(head))
	require.NoError(t, l.VerifyCheckpoint(event.Position{}))
	for _, p := range []event.Position{{Log: head.Log, Seq: head.Seq + 1}, {Log: head.Log, Seq: 3, Chain: 1},
		{Log: 1, Seq: 1}} {
		require.True(t, disk.IsDamage(l.VerifyCheckpoint(p)))
	}
	large := event.Draft{Body: make([]byte, increments.MaxRecord)}
	out, err := l.Append([]event.Draft{large, {Body: large.Body[:increments.MaxRecord-30]}})
	require.NoError(t, err)
	require.ErrorIs(t, out[0].Err, increments.ErrTooLarge)
	require.Equal(t, event.Outcome{Seq: 26}, out[1])
	requireSound(t, l)
	require.NoError(t, l.Close())
	_, err = l.Append(drafts(1, "x"))
	require.ErrorIs(t, err, increments.ErrClosed)
}

func FuzzSegmentName(f *testing.F) {
	f.Add("00000000000000000001-00000000000002000000")
	f.Add("00000000000000000001-18446744073709551615")
	f.Add("18446744073709551616-18446744073709551616")
	f.Add("0000000000000000001-00000000000002000000")
	f.Add("00000000000000000002-00000000000000000001")
	f.Add("+0000000000000000001-00000000000000000002")
	f.Add("tmp-")
	f.Fuzz(func(t *testing.T, name string) {
		s, err := parseSpan(name)
		if err == nil && (s.String() != name || s.First < 1 || s.First > s.Last) {
			t.Fatalf("%q is read as %s", name, s)
		}
	})
}

func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}
