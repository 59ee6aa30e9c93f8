package segments

import (
	"errors"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/event"
	"xmq/increments"
)

// sealed makes a log of n increments in segments of 100, closes it and returns its place and the names of its segments.
func sealed(t *testing.T, n int) (*disktest.Memory, []string) {
	mem, _ := damagedLog(t, n)
	names, err := mem.List()
	require.NoError(t, err)
	return mem, names
}

// An old segment is read, at the start and later, on a disk that takes no byte for it.
func TestReadingNeedsNoRoom(t *testing.T) {
	mem, names := sealed(t, 1000)
	newest := names[len(names)-1]
	full := disktest.Hooked(mem, func(op disktest.Op) error {
		if op.Database != newest {
			return syscall.ENOSPC
		}
		return nil
	})
	g := small()
	l, err := Open(full, g, Options{RingBytes: 1, Walk: 500, CheckSpace: func() error { return errors.New("make room") }})
	require.NoError(t, err)
	readAll(t, l)
	requireSound(t, l)
	require.NoError(t, g.Latch().Err())
	require.NoError(t, l.Close())
}

// What cannot be opened now is said so, sets nothing aside, and is read when it can be. What the disk cannot read is
// damage.
func TestUnopenableIsLaterAndUnreadableIsDamage(t *testing.T) {
	mem, names := sealed(t, 1000)
	var fault atomic.Pointer[func(disktest.Op) error]
	fail := func(verb disktest.Verb, err error) {
		f := func(op disktest.Op) error {
			if op.Verb == verb && op.Database == names[1] && op.File.Type&(storage.TypeJournal|storage.TypeTable) != 0 {
				return err
			}
			return nil
		}
		fault.Store(&f)
	}
	place := disktest.HookedReads(mem, func(op disktest.Op) error { return (*fault.Load())(op) })
	fail(disktest.Open, nil)
	aside := 0
	g := small()
	l, err := Open(place, g, Options{RingBytes: 1, Walk: 50, OnDamage: func(string, error) { aside++ }})
	require.NoError(t, err)
	for _, why := range []error{syscall.EMFILE, syscall.EIO, syscall.EACCES, syscall.ENOMEM} {
		fail(disktest.Open, why)
		_, err = l.Read(150, 10, 1<<20)
		require.ErrorIs(t, err, increments.ErrLater)
		require.ErrorIs(t, err, why)
		_, err = l.Position(150)
		require.ErrorIs(t, err, increments.ErrLater)
		_, told := l.Unreadable()
		require.ErrorIs(t, told, why)
		fail(disktest.Open, nil)
		records, err := l.Read(150, 10, 1<<20)
		require.NoError(t, err)
		require.Len(t, records, 10)
		l.set.open = 0 // so that it is closed again
		l.set.closeIdle()
		l.set.open = DefaultOpen
	}
	require.Zero(t, aside)
	fail(disktest.Read, syscall.EIO)
	_, err = l.Read(150, 10, 1<<20)
	require.ErrorIs(t, err, increments.ErrQuarantined)
	require.Equal(t, 1, aside)
	require.NoError(t, g.Latch().Err())
	require.NoError(t, l.Close())

	// within what a start verifies
	fail(disktest.Read, syscall.EIO)
	_, err = Open(place, small(), Options{RingBytes: 1, Walk: 1000})
	require.True(t, disk.IsDamage(err), err)
	require.ErrorContains(t, err, names[1])
	l, err = Open(place, small(), Options{RingBytes: 1, Walk: 1000, SetAside: true,
		OnDamage: func(string, error) { aside++ }})
	require.NoError(t, err)
	require.Equal(t, 2, aside)
	require.NoError(t, l.Close())
	fail(disktest.Open, syscall.EIO)
	_, err = Open(place, small(), Options{RingBytes: 1, Walk: 1000})
	require.ErrorIs(t, err, increments.ErrLater)
	require.False(t, disk.IsDamage(err), err)
}

// A new segment that finds no descriptor, at whichever step, waits: nothing has failed, nothing is lost, nothing is
// twice.
func TestRollWaitsForDescriptor(t *testing.T) {
	waited := 0
	for nth := 1; ; nth++ {
		mem := disktest.NewMemory()
		seen, armed := 0, false
		dry := func(op disktest.Op) error {
			switch op.Verb {
			case disktest.Create, disktest.SetMeta, disktest.SyncDir, disktest.MakeDB, disktest.RenameDB, disktest.Open:
				if armed {
					if seen++; seen == nth {
						return syscall.EMFILE
					}
				}
			}
			return nil
		}
		place := disktest.HookedReads(disktest.Hooked(mem, dry), dry)
		g := small()
		l, err := Create(place, g, Options{MaxRecords: 10})
		require.NoError(t, err)
		put(t, l, drafts(10, "old")...)
		armed = true
		out, err := l.Append([]event.Draft{keyed("p", "1"), keyed("p", "2")})
		require.NoError(t, g.Latch().Err())
		if err != nil {
			waited++
			require.ErrorIs(t, err, disk.ErrDescriptors)
			out, err = l.Append([]event.Draft{keyed("p", "1"), keyed("p", "2")})
		}
		require.NoError(t, err)
		require.Equal(t, []event.Outcome{{Seq: 11}, {Seq: 12}}, out)
		done := seen < nth
		armed = false
		l = reopen(t, l, Options{})
		require.EqualValues(t, 12, l.Head().Seq)
		requireSound(t, l)
		require.NoError(t, l.Close())
		if done {
			break
		}
	}
	require.Greater(t, waited, 5)
}

// The ring counts the memory that its records keep alive, and that is not much more than they are: requests that are
// mostly repetitions made it keep room for all of their drafts.
func TestRingCountsWhatItKeeps(t *testing.T) {
	l, err := Create(disktest.NewMemory(), disk.NewStorage(disk.Options{}), Options{RingBytes: 1 << 20})
	require.NoError(t, err)
	old := make([]event.Draft, 99)
	for i := range old {
		old[i] = event.Draft{Headers: event.Headers{Producer: "outbox", Key: string(rune('a' + i))},
			Body: make([]byte, 10_000)}
	}
	put(t, l, old...)
	before := l.Head().Seq
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	begin := heap()
	for i := range 200 {
		fresh := event.Draft{Headers: event.Headers{Producer: "outbox", Key: "new" + string(rune('a'+i))},
			Body: []byte("new")}
		at := i % 100
		all := append(append(append([]event.Draft(nil), old[:at]...), fresh), old[at:]...)
		out, err := l.Append(all)
		require.NoError(t, err)
		require.Equal(t, before+uint64(i)+1, out[at].Seq)
	}
	require.Less(t, heap()-begin, int64(20<<20), "200 increments of three bytes")
	l.ring.mu.RLock()
	defer l.ring.mu.RUnlock()
	kept, records := 0, 0
	for _, g := range l.ring.slabs {
		kept += g.bytes
		for _, e := range g.records {
			records += len(e) + 24
		}
	}
	require.Equal(t, l.ring.bytes, kept)
	require.Less(t, kept, 2*records+64<<10)
	require.LessOrEqual(t, kept, 1<<20)
	require.GreaterOrEqual(t, len(l.ring.slabs), 200, "small ones stay: they take little")
}

// Segments whose files could not be removed are removed by the next Trim: the space is needed now, not at the next
// start.
func TestTrimRemovesWhatItHasLeft(t *testing.T) {
	mem := disktest.NewMemory()
	var fails disktest.Verb
	g := small()
	l, err := Create(disktest.Hooked(mem, func(op disktest.Op) error {
		if op.Verb == fails {
			return syscall.EMFILE
		}
		return nil
	}), g, Options{MaxRecords: 10})
	require.NoError(t, err)
	put(t, l, drafts(55, "x")...)
	for _, fails = range []disktest.Verb{disktest.RenameDB, disktest.RemoveDB} {
		freed, err := l.Trim(51)
		require.ErrorIs(t, err, disk.ErrDescriptors)
		require.Zero(t, freed)
		require.NoError(t, g.Latch().Err())
		require.EqualValues(t, 51, l.First())
	}
	fails = ""
	freed, err := l.Trim(51)
	require.NoError(t, err)
	require.Equal(t, 5, freed)
	names, err := mem.List()
	require.NoError(t, err)
	require.Len(t, names, 1)
	requireSound(t, l)
	require.NoError(t, l.Close())
}
