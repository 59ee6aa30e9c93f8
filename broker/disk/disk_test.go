package disk_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
)

// How long a test waits for something that may take as long as the machine likes.
const (
	waitLong = time.Minute
	waitStep = 5 * time.Millisecond
)

// One suite for a directory and for memory.
func TestPlaces(t *testing.T) {
	places := map[string]func(t *testing.T) disk.Place{
		"directory": func(t *testing.T) disk.Place { return disk.Dir(filepath.Join(t.TempDir(), "new")) },
		"memory":    func(*testing.T) disk.Place { return disktest.NewMemory() },
	}
	for name, make := range places {
		t.Run(name, func(t *testing.T) {
			place, g := make(t), small()
			names, err := g.Sweep(place)
			require.NoError(t, err)
			require.Empty(t, names)
			_, err = g.Open(place, "db", disk.State)
			require.ErrorIs(t, err, fs.ErrNotExist, "only Create may create")

			db := start(t, g, place, 100)
			_, err = g.Create(place, "db", disk.State, batch(1, nil))
			require.ErrorIs(t, err, fs.ErrExist)
			_, err = g.Open(place, "db", disk.Newest)
			require.ErrorContains(t, err, "resource temporarily unavailable")
			_, err = db.Get([]byte("none"))
			require.ErrorIs(t, err, disk.ErrNotFound)

			c := db.Range(key(10), key(20))
			n := 10
			for ; c.Next(); n++ {
				require.Equal(t, key(n), c.Key())
				require.Len(t, c.Value(), 100)
			}
			require.NoError(t, c.Close())
			require.Equal(t, 20, n)
			last, _, err := db.Last(key(0), key(50))
			require.NoError(t, err)
			require.Equal(t, key(49), last)
			_, _, err = db.Last([]byte("a"), []byte("b"))
			require.ErrorIs(t, err, disk.ErrNotFound)
			stats, err := db.Stats()
			require.NoError(t, err)
			require.Zero(t, stats.Iterators)
			require.NotZero(t, g.Stats().SyncP99)
			require.GreaterOrEqual(t, g.Stats().Syncs, uint64(100))
			require.NoError(t, db.Close())

			size, err := place.Size("db")
			require.NoError(t, err)
			require.Greater(t, size, int64(10000))
			require.NoError(t, place.Rename("db", "trash-db"))
			require.NoError(t, g.Latch().Err())
			_, err = g.Create(place, "other", disk.State, batch(1, nil))
			require.NoError(t, err)
			names, err = g.Sweep(place)
			require.NoError(t, err)
			require.Equal(t, []string{"other"}, names)
		})
	}
}

// A call to the disk that never returns counts as failed.
func TestSilentDiskTripsTheLatch(t *testing.T) {
	silent := make(chan struct{})
	armed := make(chan struct{}, 1)
	g := disk.NewStorage(disk.Options{SyncLimit: 20 * time.Millisecond})
	db := start(t, g, disktest.Hooked(disktest.NewMemory(), func(op disktest.Op) error {
		if op.Verb == disktest.Sync && len(armed) > 0 {
			<-silent
		}
		return nil
	}), 3)
	armed <- struct{}{}
	done := make(chan error, 1)
	go func() { done <- db.Write(batch(3, nil)) }()
	<-g.Latch().Poisoned()
	require.ErrorIs(t, g.Latch().Err(), disk.ErrStopped)
	close(silent)
	require.ErrorIs(t, <-done, disk.ErrStopped, "a late success is not believed")
}

// A failing Remove alone leaves garbage, not a lie.
func TestFailedRemoveDoesNotTrip(t *testing.T) {
	mem := disktest.NewMemory()
	fault := &disktest.Fault{Match: func(op disktest.Op) bool { return op.Verb == disktest.Remove }, Stays: true,
		Err: errDisk}
	g := small()
	db := start(t, g, disktest.Hooked(mem, fault.Hook), 1)
	fault.Nth = fault.Seen() + 1
	for i := range 2000 {
		require.NoError(t, db.Write(batch(i, make([]byte, 100))))
	}
	require.NoError(t, db.Close())
	require.NotZero(t, fault.Hit())
	require.NoError(t, g.Latch().Err())
	requireAll(t, mem, 2000)
}

// A supervisor that starts a broker on damaged data again and again does not fill the disk with copies.
func TestDamagedFileIsCopiedOnce(t *testing.T) {
	path := t.TempDir()
	require.NoError(t, start(t, disk.NewStorage(disk.Options{}), disk.Dir(path), 400).Close())
	logs, err := filepath.Glob(filepath.Join(path, "db", "*.log"))
	require.NoError(t, err)
	manifests, err := filepath.Glob(filepath.Join(path, "db", "MANIFEST-*"))
	require.NoError(t, err)
	require.NotEmpty(t, logs)
	flip := func(name string, at int) {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		b[at] ^= 1
		require.NoError(t, os.WriteFile(name, b, 0o600))
	}
	copies := func() int {
		all, err := filepath.Glob(filepath.Join(path, "db", "damaged-*"))
		require.NoError(t, err)
		return len(all)
	}
	flip(manifests[0], 12)
	for range 3 {
		_, err := small().Open(disk.Dir(path), "db", disk.Newest)
		var d *disk.Damage
		require.ErrorAs(t, err, &d)
		require.FileExists(t, d.Copy)
		require.Equal(t, 1, copies())
	}
	flip(manifests[0], 13)
	_, err = small().Open(disk.Dir(path), "db", disk.Newest)
	require.True(t, disk.IsDamage(err))
	require.Equal(t, 2, copies(), "other bytes are another find")
}

// A torn last edit of a manifest had no effect yet; the same edit damaged after it took effect is refused.
func TestTornManifest(t *testing.T) {
	mem := disktest.NewMemory()
	var torn *disktest.Memory
	syncs := 0
	rng := seeded(t, 11)
	db := start(t, small(), disktest.Hooked(mem, func(op disktest.Op) error {
		if op.Verb == disktest.Sync && op.File.Type == storage.TypeManifest {
			if syncs++; syncs == 5 { // before a flush takes effect
				torn = mem.Copy()
			}
		}
		return nil
	}), 1)
	n := 1
	for ; n < 400; n++ {
		require.NoError(t, db.Write(batch(n, noise(rng, 1000))))
	}
	require.NoError(t, db.Close())
	require.NotNil(t, torn)
	manifest := fileOf(t, torn, storage.TypeManifest)
	all, _, err := count(torn.Copy(), n)
	require.NoError(t, err)
	torn.Edit("db", manifest, func(b []byte) []byte { return b[:len(b)-3] })
	have, prefix, err := count(torn, n)
	require.NoError(t, err)
	require.True(t, prefix)
	require.Equal(t, all, have)
	require.NotNil(t, torn.Aside("db", manifest.String()))

	manifest = fileOf(t, mem, storage.TypeManifest)
	mem.Edit("db", manifest, func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	have, _, err = count(mem, n)
	require.True(t, disk.IsDamage(err) || have == n, "%d of %d keys, %v", have, n, err)
}

// Every class of file, damaged every way: refused, or nothing is missing (but perhaps the last record).
func TestDamageIsNeverSilent(t *testing.T) {
	const keys = 1500
	mem := disktest.NewMemory()
	start(t, small(), mem, keys) // not closed: journal, tables and manifest lie as kill -9 leaves them
	mem = mem.Copy()
	rng := seeded(t, 12)
	ways := map[string]func([]byte) []byte{
		"flip":     func(b []byte) []byte { b[rng.IntN(len(b))] ^= 1 << rng.IntN(8); return b },
		"truncate": func(b []byte) []byte { return b[:rng.IntN(len(b))] },
		"zero": func(b []byte) []byte {
			at := rng.IntN(len(b))
			clear(b[at:min(len(b), at+1+rng.IntN(4096))])
			return b
		},
		"remove": func([]byte) []byte { return nil },
	}
	detected := map[string]int{}
	for _, fd := range mem.Files("db") {
		for way, damage := range ways {
			for range 12 {
				m := mem.Copy()
				m.Edit("db", fd, damage)
				have, prefix, err := count(m, keys)
				switch {
				case err != nil:
					detected[fd.Type.String()+" "+way]++
				case fd.Type == storage.TypeJournal && prefix:
					// the journal's tail is gone: for the checkpoint to notice
				default:
					require.Equal(t, keys, have, "%s %s: opened without a word", way, fd)
				}
			}
		}
	}
	t.Logf("detected: %v", detected)
	require.GreaterOrEqual(t, len(detected), 8)
}

// A frozen directory is read like any other, and no byte of it changes.
func TestFrozenDirIsNotChanged(t *testing.T) {
	path := t.TempDir()
	db := start(t, small(), disk.Dir(path), 2000)
	_, err := disk.NewStorage(disk.Options{}).Open(disk.FrozenDir(path), "db", disk.Newest)
	require.Error(t, err, "in use")
	require.NoError(t, db.Close())
	before := snapshot(t, path)
	g := small()
	frozen := disk.FrozenDir(path)
	db, err = g.Open(frozen, "db", disk.Sealed)
	require.NoError(t, err)
	n := 0
	c := db.Range(key(0), key(9999))
	for c.Next() {
		n++
	}
	require.NoError(t, c.Close())
	require.Equal(t, 2000, n)
	require.NoError(t, db.Close())
	_, err = g.Create(frozen, "new", disk.State, batch(1, nil))
	require.Error(t, err)
	require.Error(t, errors.Join(frozen.Rename("db", "x"), frozen.Remove("db")))
	require.Equal(t, before, snapshot(t, path))
}

func snapshot(t *testing.T, path string) map[string]string {
	out := make(map[string]string)
	require.NoError(t, filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		out[p] = string(b)
		return err
	}))
	return out
}

// A process that was killed ends when the kernel is done with it: the one after it waits for its lock.
func TestLockIsWaitedForWhileItsHolderEnds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		before, err := disk.LockDir(dir)
		require.NoError(t, err)
		go func() {
			time.Sleep(disk.Ending - time.Second)
			assert.NoError(t, before.Close())
		}()
		after, err := disk.LockDir(dir)
		require.NoError(t, err)
		started := time.Now()
		_, err = disk.LockDir(dir)
		require.ErrorIs(t, err, disk.ErrHeld, "a holder that stays is told")
		require.Equal(t, disk.Ending, time.Since(started))
		require.NoError(t, after.Close())
	})
}

// A second broker on the directory is refused and told who holds it.
func TestLockDirSaysWhoHoldsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that nobody waits for a holder that stays
		dir := t.TempDir()
		lock, err := disk.LockDir(dir)
		require.NoError(t, err)
		_, err = disk.LockDir(dir)
		require.ErrorIs(t, err, disk.ErrHeld)
		require.ErrorContains(t, err, "held by pid ")
		require.ErrorContains(t, err, "stop that process, or name another directory")
		require.NoError(t, lock.Close())
		lock, err = disk.LockDir(dir)
		require.NoError(t, err)
		require.NoError(t, lock.Close())
		_, err = disk.LockDir(filepath.Join(dir, "none"))
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.NoError(t, os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "link")))
		_, err = disk.LockFile(filepath.Join(dir, "link"), "us")
		require.ErrorIs(t, err, syscall.ELOOP, "a link is not followed")
		require.NoFileExists(t, filepath.Join(dir, "elsewhere"))
		lock, err = disk.LockFile(filepath.Join(dir, "file"), "a long name of the one before")
		require.NoError(t, err)
		require.NoError(t, lock.Close())
		lock, err = disk.LockFile(filepath.Join(dir, "file"), "us")
		require.NoError(t, err)
		var held *disk.Held
		_, err = disk.LockFile(filepath.Join(dir, "file"), "them")
		require.ErrorAs(t, err, &held)
		require.Equal(t, "us", held.Holder)
		require.NoError(t, lock.Close())
	})
}

// The reserve is real space, and can be given up and taken again.
func TestBallast(t *testing.T) {
	dir := t.TempDir()
	free, total, err := disk.Space(dir)
	require.NoError(t, err)
	require.LessOrEqual(t, free, total)
	require.True(t, disk.Scarce(255<<20, 1<<30))
	require.True(t, disk.Scarce(49<<30, 1000<<30))
	require.False(t, disk.Scarce(51<<30, 1000<<30))
	require.False(t, disk.HasBallast(dir))
	require.NoError(t, disk.AddBallast(dir))
	require.NoError(t, disk.AddBallast(dir))
	require.True(t, disk.HasBallast(dir))
	require.NoError(t, disk.DropBallast(dir))
	require.NoError(t, disk.DropBallast(dir))
	require.False(t, disk.HasBallast(dir))
}
