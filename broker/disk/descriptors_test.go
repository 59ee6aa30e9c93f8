package disk_test

import (
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
)

// drought fails the operations that need a descriptor while it is dry.
type drought struct {
	dry atomic.Bool
	hit atomic.Int64
}

func (d *drought) Hook(op disktest.Op) error {
	switch op.Verb {
	case disktest.Create, disktest.SetMeta, disktest.SyncDir, disktest.MakeDB, disktest.RenameDB, disktest.Open:
		if d.dry.Load() {
			d.hit.Add(1)
			return &osError{syscall.EMFILE}
		}
	}
	return nil
}

type osError struct{ syscall.Errno }

func (e *osError) Unwrap() error { return e.Errno }

// A write that finds no descriptor has written nothing: it waits for one, and nothing has failed.
func TestWriteWaitsForDescriptor(t *testing.T) {
	mem, dry := disktest.NewMemory(), new(drought)
	g := small()
	db := start(t, g, disktest.HookedReads(disktest.Hooked(mem, dry.Hook), dry.Hook), 5)
	rng := seeded(t, 20)
	dry.dry.Store(true)
	acked := make(chan int)
	go func() {
		n := 5
		for ; n < 400; n++ {
			if db.Write(batch(n, noise(rng, 1000))) != nil {
				break
			}
		}
		acked <- n
	}()
	require.Eventually(t, g.Short, waitLong, waitStep, "the journal is full, and there is no descriptor for the next one")
	require.NoError(t, g.Latch().Err())
	dry.dry.Store(false)
	require.Equal(t, 400, <-acked)
	require.NotZero(t, dry.hit.Load())
	require.NoError(t, g.Latch().Err())
	require.NoError(t, db.Close())
	requireAll(t, mem, 400)
}

// A Storage whose process ends bounds how long a write waits for a descriptor: then it has failed, like any other.
func TestWriteWaitsForNoDescriptorForEver(t *testing.T) {
	mem, dry := disktest.NewMemory(), new(drought)
	g := small()
	db := start(t, g, disktest.HookedReads(disktest.Hooked(mem, dry.Hook), dry.Hook), 5)
	rng := seeded(t, 21)
	dry.dry.Store(true)
	acked, failed := make(chan int), make(chan error, 1)
	go func() {
		n := 5
		for ; n < 400; n++ {
			if err := db.Write(batch(n, noise(rng, 1000))); err != nil {
				failed <- err
				break
			}
		}
		acked <- n
	}()
	require.Eventually(t, g.Short, waitLong, waitStep)
	g.Hurry(100 * time.Millisecond)
	n := <-acked
	require.Less(t, n, 400)
	err := <-failed
	require.ErrorIs(t, err, disk.ErrStopped)
	require.ErrorIs(t, err, disk.ErrDescriptors)
	requireAll(t, mem.Copy(), n)
}

// A database that finds no descriptor, whichever, while it is made or opened says so, trips nothing, and the same
// call may be repeated until there is one.
func TestCreateAndOpenWithoutDescriptor(t *testing.T) {
	for _, kind := range []disk.Kind{disk.Newest, disk.Sealed} {
		mem := disktest.NewMemory()
		require.NoError(t, start(t, small(), mem, 3000).Close())
		refused := 0
		for nth := 1; ; nth++ {
			one := &without{nth: nth}
			g := small()
			place := disktest.HookedReads(disktest.Hooked(mem, one.Hook), one.Hook)
			db, err := g.Open(place, "db", kind)
			require.NoError(t, g.Latch().Err())
			if err != nil {
				refused++
				require.ErrorIs(t, err, disk.ErrDescriptors, "operation %d", nth)
				require.False(t, disk.IsDamage(err))
				db, err = g.Open(place, "db", kind)
				require.NoError(t, err)
			}
			require.NoError(t, db.Close())
			if !one.hit() {
				break
			}
		}
		require.Greater(t, refused, 1)
		requireAll(t, mem, 3000)
	}
	refused := 0
	for nth := 1; ; nth++ {
		mem, one := disktest.NewMemory(), &without{nth: nth}
		g := small()
		place := disktest.HookedReads(disktest.Hooked(mem, one.Hook), one.Hook)
		db, err := g.Create(place, "db", disk.Newest, batch(0, []byte("first")))
		if err != nil {
			refused++
			require.ErrorIs(t, err, disk.ErrDescriptors, "operation %d", nth)
			require.NoError(t, g.Latch().Err())
			if db, err = g.Create(place, "db", disk.Newest, batch(0, []byte("first"))); err != nil {
				db, err = g.Open(place, "db", disk.Newest) // it was made
			}
			require.NoError(t, err)
		}
		require.NoError(t, db.Close())
		requireAll(t, mem, 1)
		if !one.hit() {
			break
		}
	}
	require.Greater(t, refused, 5)
}

// without fails the nth operation that needs a descriptor.
type without struct {
	nth  int
	mu   sync.Mutex
	seen int
}

func (w *without) Hook(op disktest.Op) error {
	switch op.Verb {
	case disktest.Create, disktest.SetMeta, disktest.SyncDir, disktest.MakeDB, disktest.RenameDB, disktest.Open:
	default:
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen++; w.seen == w.nth {
		return &osError{syscall.ENFILE}
	}
	return nil
}

func (w *without) hit() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen >= w.nth
}

// A sealed database is looked at without a write, whatever its journals hold; Settle puts them into tables once.
func TestSealedIsNeverWritten(t *testing.T) {
	mem := disktest.NewMemory()
	start(t, disk.NewStorage(disk.Options{}), mem, 20000) // not closed: all of it is in the journal
	mem = mem.Copy()
	g := small()
	look := func() {
		db, err := g.Open(disktest.Hooked(mem, func(op disktest.Op) error { return syscall.EROFS }), "db", disk.Sealed)
		require.NoError(t, err)
		n := 0
		c := db.Range(key(0), key(99999999))
		for c.Next() {
			n++
		}
		require.NoError(t, c.Close())
		require.Equal(t, 20000, n)
		require.NoError(t, db.Close())
		require.NoError(t, g.Latch().Err())
	}
	look()
	before := journals(t, mem)
	require.NoError(t, g.Settle(mem, "db"))
	require.Less(t, journals(t, mem), before)
	look()
	writes := 0
	require.NoError(t, g.Settle(disktest.Hooked(mem, func(disktest.Op) error { writes++; return nil }), "db"))
	require.Zero(t, writes, "there is nothing left to do")
}

func journals(t *testing.T, mem *disktest.Memory) (n int) {
	for _, fd := range mem.Files("db") {
		if fd.Type == storage.TypeJournal {
			mem.Copy().Edit("db", fd, func(b []byte) []byte { n += len(b); return b })
		}
	}
	return n
}

// What the disk cannot read is damage; what cannot be opened now, for whatever reason, is not.
func TestUnreadableIsDamageAndUnopenableIsNot(t *testing.T) {
	mem := disktest.NewMemory()
	require.NoError(t, start(t, small(), mem, 3000).Close())
	for _, c := range []struct {
		verb   disktest.Verb
		err    error
		damage bool
	}{
		{disktest.Read, syscall.EIO, true}, {disktest.Read, syscall.ETIMEDOUT, false},
		{disktest.Open, syscall.EIO, false}, {disktest.Open, syscall.EMFILE, false}, {disktest.Open, syscall.EACCES, false},
		{disktest.Open, syscall.ENOENT, true},
	} {
		for _, kind := range []storage.FileType{storage.TypeTable, storage.TypeJournal, storage.TypeManifest} {
			g := small()
			bad := disktest.HookedReads(mem, func(op disktest.Op) error {
				if op.Verb == c.verb && op.File.Type == kind {
					return c.err
				}
				return nil
			})
			db, err := g.Open(bad, "db", disk.Sealed)
			if err == nil {
				_, err = db.Get(key(100))
				require.NoError(t, db.Close())
			}
			require.Error(t, err, "%s %s: %v", c.verb, kind, c.err)
			require.Equal(t, c.damage, disk.IsDamage(err), "%s %s: %v", c.verb, kind, err)
			require.NoError(t, g.Latch().Err())
		}
	}
}
