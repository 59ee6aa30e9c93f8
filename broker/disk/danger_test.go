package disk_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
)

var errDisk = errors.New("input/output error")

// small makes rotations, flushes and compactions common.
func small() *disk.Storage {
	return disk.NewStorage(disk.Options{WriteBuffer: 64 << 10, TableSize: 64 << 10, ManifestSize: 16 << 10})
}

func batch(n int, value []byte) *disk.Batch {
	b := new(disk.Batch)
	b.Put(key(n), value)
	return b
}

func key(n int) []byte { return fmt.Appendf(nil, "%08d", n) }

// noise returns n random bytes, which do not compress.
func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func seeded(t *testing.T, seed uint64) *rand.Rand {
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// start creates a database of n keys in place and returns it open.
func start(t *testing.T, g *disk.Storage, place disk.Place, n int) *disk.DB {
	t.Helper()
	db, err := g.Create(place, "db", disk.Newest, batch(0, []byte("first")))
	require.NoError(t, err)
	rng := seeded(t, 1)
	for i := 1; i < n; i++ {
		require.NoError(t, db.Write(batch(i, noise(rng, 100))))
	}
	return db
}

// count opens the database with a Storage of its own and returns how many of the keys 0..n-1 are there, and
// whether they are the first ones.
func count(place disk.Place, n int) (have int, prefix bool, err error) {
	db, err := small().Open(place, "db", disk.Newest)
	if err != nil {
		return 0, false, err
	}
	defer db.Close()
	prefix = true
	for i := range n {
		switch _, err := db.Get(key(i)); {
		case err == nil:
			prefix = prefix && have == i
			have++
		case !errors.Is(err, disk.ErrNotFound):
			return 0, false, err
		}
	}
	return have, prefix, nil
}

func requireAll(t *testing.T, place disk.Place, n int) {
	t.Helper()
	have, _, err := count(place, n)
	require.NoError(t, err)
	require.Equal(t, n, have)
}

func fileOf(t *testing.T, m *disktest.Memory, kind storage.FileType) storage.FileDesc {
	t.Helper()
	var found storage.FileDesc
	for _, fd := range m.Files("db") {
		if fd.Type == kind {
			found = fd
		}
	}
	require.NotZero(t, found)
	return found
}

// A failed WAL fsync loses later acked writes: with the latch nothing is acked after the fault.
func TestDangerD1FailedSyncStopsEverything(t *testing.T) {
	mem := disktest.NewMemory()
	fault := &disktest.Fault{Match: disktest.On(disktest.Sync, storage.TypeJournal), Err: errDisk}
	g := small()
	db := start(t, g, disktest.Hooked(mem, fault.Hook), 20)
	fault.Nth = fault.Seen() + 1
	err := db.Write(batch(20, []byte("unknown")))
	require.ErrorIs(t, err, disk.ErrStopped)
	require.ErrorIs(t, err, errDisk)
	require.Equal(t, 1, fault.Hit())
	for i := 21; i < 29; i++ {
		require.ErrorIs(t, db.Write(batch(i, []byte("x"))), disk.ErrStopped)
	}
	requireAll(t, mem.Copy(), 20)
	_, err = g.Create(disktest.NewMemory(), "other", disk.State, new(disk.Batch))
	require.ErrorIs(t, err, disk.ErrStopped, "one latch for all databases of a Storage")
}

// The default Strict deletes data on a bad MANIFEST: here any flipped bit is refused or harmless.
func TestDangerD2DamagedManifestIsRefused(t *testing.T) {
	const keys = 3000
	mem := disktest.NewMemory()
	require.NoError(t, start(t, small(), mem, keys).Close())
	manifest := fileOf(t, mem, storage.TypeManifest)
	size := 0
	mem.Copy().Edit("db", manifest, func(b []byte) []byte { size = len(b); return b })
	refused := 0
	for at := 0; at < size; at += 17 {
		m := mem.Copy()
		m.Edit("db", manifest, func(b []byte) []byte { b[at] ^= 1 << (at % 8); return b })
		have, _, err := count(m, keys)
		if err != nil {
			require.True(t, disk.IsDamage(err), "offset %d: %v", at, err)
			require.Contains(t, err.Error(), manifest.String())
			require.NotNil(t, m.Aside("db", manifest.String()))
			refused++
			continue
		}
		require.Equal(t, keys, have, "flipped offset %d of %d: opened, but keys are gone", at, size)
	}
	require.Greater(t, refused, size/17/2)
}

// Damage in mid-WAL leaves a hole: here it is refused with file and offset, wherever a record follows.
func TestDangerD3DamageInsideJournalIsRefused(t *testing.T) {
	const keys = 400
	mem := disktest.NewMemory()
	start(t, small(), mem, keys)
	journal := fileOf(t, mem, storage.TypeJournal)
	crashed := mem.Copy()
	size := 0
	crashed.Edit("db", journal, func(b []byte) []byte { size = len(b); return b })
	requireAll(t, crashed.Copy(), keys)
	refused, tails := 0, 0
	for at := 0; at < size; at += 61 {
		m := crashed.Copy()
		m.Edit("db", journal, func(b []byte) []byte { b[at] ^= 0x10; return b })
		have, prefix, err := count(m, keys)
		if err != nil {
			var d *disk.Damage
			require.ErrorAs(t, err, &d)
			require.Equal(t, "memory/db/"+journal.String(), d.File)
			require.LessOrEqual(t, d.Offset, int64(at))
			require.Greater(t, d.Offset, int64(at)-300)
			require.NotNil(t, m.Aside("db", journal.String()))
			refused++
			continue
		}
		require.True(t, prefix && have == keys-1, "flipped offset %d of %d: %d keys", at, size, have)
		tails++
	}
	require.Greater(t, refused, 100)
	require.LessOrEqual(t, tails, 3, "only damage to the last record may pass for a torn tail")
}

// A large batch can wedge the DB: here the next write answers at once.
func TestDangerD4LargeBatchDoesNotWedge(t *testing.T) {
	mem := disktest.NewMemory()
	fault := &disktest.Fault{Match: disktest.On(disktest.Sync, storage.TypeManifest), Err: errDisk, Stays: true}
	g := small()
	db := start(t, g, disktest.Hooked(mem, fault.Hook), 5)
	fault.Nth = fault.Seen() + 1
	large := new(disk.Batch)
	rng := seeded(t, 4)
	for i := range 3000 {
		large.Put(key(100+i), noise(rng, 100))
	}
	done := make(chan error, 1)
	go func() {
		db.Write(large)
		var err error
		for i := 0; err == nil && i < 5000; i++ {
			err = db.Write(batch(10000+i, noise(rng, 100)))
		}
		done <- err
	}()
	select {
	case err := <-done:
		require.ErrorIs(t, err, disk.ErrStopped)
	case <-time.After(2 * time.Minute):
		t.Fatal("a write hangs")
	}
	require.Equal(t, 1, fault.Hit())
	requireAll(t, mem.Copy(), 5)
}

// A short write is sticky: everything stops, and the reopened database is clean.
func TestDangerD5ShortWriteStopsAndReopensClean(t *testing.T) {
	mem := disktest.NewMemory()
	fault := &disktest.Fault{Match: disktest.On(disktest.Write, storage.TypeJournal), Err: disktest.ErrShort}
	db := start(t, small(), disktest.Hooked(mem, fault.Hook), 30)
	fault.Nth = fault.Seen() + 1
	for i := range 5 {
		require.ErrorIs(t, db.Write(batch(30+i, []byte("x"))), disk.ErrStopped)
	}
	require.Equal(t, 1, fault.Hit())
	requireAll(t, mem.Copy(), 30)
}

// A manifest fsync is retried on the same file for ever: here nothing touches the disk after it failed.
func TestDangerD6ManifestSyncIsNotRetried(t *testing.T) {
	mem := disktest.NewMemory()
	var after, manifest atomic.Int64
	fault := &disktest.Fault{Match: disktest.On(disktest.Sync, storage.TypeManifest), Err: errDisk}
	tripped := make(chan error, 1)
	g := disk.NewStorage(disk.Options{WriteBuffer: 64 << 10, OnPoison: func(err error) { tripped <- err }})
	stopped := func() bool { return g.Latch().Err() != nil }
	db := start(t, g, disktest.Hooked(mem, func(op disktest.Op) error {
		if stopped() && op.Verb != disktest.Close {
			after.Add(1)
			if op.File.Type == storage.TypeManifest {
				manifest.Add(1)
			}
		}
		return fault.Hook(op)
	}), 5)
	fault.Nth = fault.Seen() + 1
	rng := seeded(t, 6)
	acked := 5
	for db.Write(batch(acked, noise(rng, 1000))) == nil {
		acked++
		require.Less(t, acked, 100000)
	}
	require.ErrorIs(t, <-tripped, errDisk)
	<-g.Latch().Poisoned()
	db.Close() // ends the compaction goroutine
	// The write of the other goroutine may have been under way when the sync failed; nothing began after it.
	require.LessOrEqual(t, after.Load(), int64(1))
	require.Zero(t, manifest.Load(), "the manifest is not touched again")
	requireAll(t, mem.Copy(), acked)
}

// An error can come after the write is durable: the answer is "stopped", and both outcomes are legal.
func TestDangerD7ErrorMeansUnknown(t *testing.T) {
	mem := disktest.NewMemory()
	fault := &disktest.Fault{Match: disktest.On(disktest.Create, storage.TypeJournal), Err: errDisk}
	db := start(t, small(), disktest.Hooked(mem, fault.Hook), 5)
	fault.Nth = fault.Seen() + 1
	rng := seeded(t, 7)
	acked := 5
	var err error
	for ; err == nil && acked < 1000; acked++ {
		err = db.Write(batch(acked, noise(rng, 1000)))
	}
	require.ErrorIs(t, err, disk.ErrStopped)
	have, prefix, err := count(mem.Copy(), acked)
	require.NoError(t, err)
	require.True(t, prefix)
	require.GreaterOrEqual(t, have, acked-1)
}

// New journal and table names are not directory-synced by goleveldb: here a power cut keeps them all.
func TestDangerD8NamesAreDurable(t *testing.T) {
	mem := disktest.NewMemory()
	db := start(t, small(), mem, 5)
	rng := seeded(t, 8)
	for i := 5; i < 405; i++ {
		require.NoError(t, db.Write(batch(i, noise(rng, 1000))))
		if i%4 == 0 {
			crashed := mem.Crash(rng)
			have, prefix, err := count(crashed, i+1)
			require.NoError(t, err)
			require.True(t, prefix && have == i+1, "%d of %d keys", have, i+1)
		}
	}
	require.NoError(t, db.Close())
}

// A synced write does not cover earlier unsynced ones across a journal rotation. The bare goleveldb is the
// control: the emulated power cut must find the loss there, and must not find one with ours.
func TestDangerD9RotatedJournalIsSynced(t *testing.T) {
	lost := func(t *testing.T, seed uint64, open func(disk.Place, chan struct{}) (*leveldb.DB, error)) int {
		mem, flush := disktest.NewMemory(), make(chan struct{})
		db, err := open(disktest.Hooked(mem, func(op disktest.Op) error {
			if op.File.Type == storage.TypeTable {
				<-flush // the flush of the rotated journal is held back
			}
			return nil
		}), flush)
		require.NoError(t, err)
		rng := seeded(t, seed)
		for i := range 100 {
			require.NoError(t, db.Put(key(i), noise(rng, 1000), nil))
		}
		require.NoError(t, db.Put(key(100), []byte("synced"), &opt.WriteOptions{Sync: true}))
		have, _, err := count(mem.Crash(rng), 101)
		if disk.IsDamage(err) { // our pre-scan may well notice what is left of the bare one
			have = 0
		} else {
			require.NoError(t, err)
		}
		close(flush)
		db.Close()
		return 101 - have
	}
	o := &opt.Options{WriteBuffer: 64 << 10}
	found := 0
	for seed := range uint64(5) {
		found += lost(t, seed, func(p disk.Place, _ chan struct{}) (*leveldb.DB, error) {
			files, err := p.Open("db", true)
			require.NoError(t, err)
			require.NoError(t, p.Rename("db", "x"))
			require.NoError(t, p.Rename("x", "db"))
			return leveldb.Open(files, o)
		})
		require.Zero(t, lost(t, seed, func(p disk.Place, _ chan struct{}) (*leveldb.DB, error) {
			files, err := p.Open("db", true)
			require.NoError(t, err)
			require.NoError(t, p.Rename("db", "x"))
			require.NoError(t, p.Rename("x", "db"))
			return leveldb.Open(disk.Failstop(files), o)
		}))
	}
	require.NotZero(t, found, "the control did not fail: the emulated power cut is too kind")
}

// After a power cut at any moment the synced keys are there, and the half-written one is there or not.
func TestCrashAtEveryOperation(t *testing.T) {
	mem := disktest.NewMemory()
	rng := seeded(t, 10)
	var acked atomic.Int64
	var checked int
	var one sync.Mutex
	db := start(t, small(), disktest.Hooked(mem, func(op disktest.Op) error {
		one.Lock()
		defer one.Unlock()
		n := int(acked.Load())
		if n > 0 && op.Verb != disktest.Close {
			have, prefix, err := count(mem.Crash(rand.New(rand.NewPCG(uint64(checked), 0))), n+1)
			if err != nil || !prefix || have < n {
				return fmt.Errorf("before %s: %d of %d keys, prefix %v: %w", op, have, n, prefix, err)
			}
			checked++
		}
		return nil
	}), 1)
	for i := 1; i < 150; i++ {
		acked.Store(int64(i))
		require.NoError(t, db.Write(batch(i, noise(rng, 1000))))
	}
	require.NoError(t, db.Close())
	require.Greater(t, checked, 300)
}

// A compaction whose table cannot be finished is tried again by goleveldb a second later, with a writer that is gone.
// Whichever Sync or Close of a table a full disk fails, the storage stops and the second try harms nobody.
func TestDangerD10UnfinishedTableIsTriedAgain(t *testing.T) {
	type stopped struct {
		name  string
		mem   *disktest.Memory
		db    *disk.DB
		acked int
		tries chan string
	}
	var all []stopped
	at := func(i int) int { return i * 7919 % 1000 } // tables overlap, so that compactions have to merge them
	for _, verb := range []disktest.Verb{disktest.Sync, disktest.Close} {
		for nth := 1; nth <= 14; nth++ {
			s := stopped{name: fmt.Sprint(verb, " ", nth), mem: disktest.NewMemory(), tries: make(chan string, 100)}
			fault := &disktest.Fault{Match: disktest.On(verb, storage.TypeTable), Err: syscall.ENOSPC, Stays: true}
			g := small()
			s.db = start(t, g, talking{disktest.Hooked(s.mem, fault.Hook), s.tries}, 1)
			fault.Nth = fault.Seen() + nth
			rng := seeded(t, uint64(nth))
			for ; s.acked < 1000 && s.db.Write(batch(at(s.acked), noise(rng, 1000))) == nil; s.acked++ {
			}
			<-g.Latch().Poisoned()
			require.ErrorIs(t, g.Latch().Err(), syscall.ENOSPC, s.name)
			require.ErrorIs(t, s.db.Write(batch(0, nil)), disk.ErrStopped, s.name)
			all = append(all, s)
		}
	}
	for _, s := range all {
		<-s.tries
		<-s.tries // the second one is over, and the process lives
		s.db.Close()
		db, err := small().Open(s.mem.Copy(), "db", disk.Newest)
		require.NoError(t, err, s.name)
		for i := range s.acked {
			_, err := db.Get(key(at(i)))
			require.NoError(t, err, s.name)
		}
		require.NoError(t, db.Close())
	}
}

// The same full disk at the start: opening puts the journal into a table, which fails, and so does every start until
// there is room.
func TestDangerD10FullDiskAtStart(t *testing.T) {
	mem := disktest.NewMemory()
	start(t, disk.NewStorage(disk.Options{}), mem, 2000) // not closed: all of it is in the journal
	mem = mem.Copy()
	for _, verb := range []disktest.Verb{disktest.Sync, disktest.Close} {
		for nth := 1; nth <= 3; nth++ {
			full := mem.Copy()
			fault := &disktest.Fault{Match: disktest.On(verb, storage.TypeTable), Nth: nth, Err: syscall.ENOSPC, Stays: true}
			for range 2 {
				_, err := small().Open(disktest.Hooked(full, fault.Hook), "db", disk.Newest)
				require.ErrorIs(t, err, disk.ErrStopped, "%s %d", verb, nth)
				require.ErrorIs(t, err, syscall.ENOSPC)
				full = full.Copy()
			}
			requireAll(t, full, 2000)
		}
	}
}

// talking tells of every time that a compaction has failed.
type talking struct {
	disk.Place
	failed chan string
}

func (p talking) Open(name string, create bool) (disk.Files, error) {
	f, err := p.Place.Open(name, create)
	return talkingFiles{f, p.failed}, err
}

type talkingFiles struct {
	disk.Files
	failed chan string
}

func (f talkingFiles) Log(line string) {
	if strings.Contains(line, " error I") {
		f.failed <- line
	}
}
