package dumpflow

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
)

// RS-1: "Request entry, data store and manifest store are three parts": "each fails alone: clean error". What is in
// the way here is a directory where a file should be.
func TestRS01EachPartFailsAlone(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	b := content(ChunkSize + 1)
	chunks := cutUp(b)
	home := filepath.Join(dir, event.DumpID(1).String())

	require.NoError(t, os.WriteFile(home, nil, 0o600))
	require.Error(t, s.Create(1), "no place for the dump")
	require.NoError(t, os.Remove(home))
	require.NoError(t, s.Create(1))

	blocked := filepath.Join(home, chunkName(1)+".tmp")
	require.NoError(t, os.Mkdir(blocked, 0o700))
	require.NoError(t, s.Put(1, chunks[0]))
	require.ErrorContains(t, s.Put(1, chunks[1]), "stage chunk 1")
	require.Equal(t, 1, s.Progress(1))
	_, err := s.Seal(1, manifest(1, b))
	require.ErrorIs(t, err, event.ErrDamaged, "not complete")
	require.NoError(t, os.Remove(blocked))
	require.NoError(t, s.Put(1, chunks[1]), "sent again when the trouble is over")

	blocked = filepath.Join(home, manifestName)
	require.NoError(t, os.MkdirAll(filepath.Join(blocked, "x"), 0o700))
	_, err = s.Seal(1, manifest(1, b))
	require.ErrorContains(t, err, "publish manifest")
	_, sealed := s.Manifest(1)
	require.False(t, sealed)
	require.NoError(t, os.RemoveAll(blocked))
	_, err = s.Seal(1, manifest(1, b))
	require.NoError(t, err)
}

// RS-2: "Unknown operation: clean error; a health request exists" (the latter is the broker's).
func TestRS02UnknownOperationIsACleanError(t *testing.T) {
	whole := Pack(Put, 0, []byte("data")).Append(nil)
	for _, op := range []byte{0, 5, 9, 255} {
		whole[1] = op
		_, err := DecodeChunk(whole)
		require.ErrorIs(t, err, event.ErrDamaged)
		require.ErrorContains(t, err, fmt.Sprint("unknown operation ", op))
	}
}

// RS-9: "Unknown kind of chunk is refused": format, compression, reserved byte.
func TestRS09UnknownKindOfChunkIsRefused(t *testing.T) {
	for at, value := range map[int]byte{0: ChunkVersion + 1, 2: 2, 3: 1} {
		whole := Pack(Put, 0, []byte("data")).Append(nil)
		whole[at] = value
		_, err := DecodeChunk(whole)
		require.ErrorIs(t, err, event.ErrDamaged)
	}
}

// RS-5: "An upload needs an id and a valid declared size": "missing or malformed: refused, nothing stored".
func TestRS05SealNeedsAnIdAndAValidSize(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	require.NoError(t, s.Create(1))
	before := files(t, dir)
	for _, change := range []func(*Manifest){
		func(m *Manifest) { m.Dump = 0 }, func(m *Manifest) { m.Size = -1 }, func(m *Manifest) { m.Size = 1 },
		func(m *Manifest) { m.SHA256 = "" },
		func(m *Manifest) { m.SHA256 += "0" },
	} {
		m := manifest(1, nil)
		change(&m)
		_, err := DecodeManifest(m.Encode())
		require.ErrorIs(t, err, event.ErrDamaged)
		_, err = s.Seal(1, m)
		require.ErrorIs(t, err, event.ErrDamaged)
	}
	require.Equal(t, before, files(t, dir))
}

// RS-7: "data for an unknown request id is refused"; a crash right after the first step leaves an empty dump.
func TestRS07DataForAnUnknownDumpIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	require.ErrorIs(t, s.Put(1, cutUp(content(1))[0]), ErrNoSuchDump)
	_, err := s.Seal(1, manifest(1, nil))
	require.ErrorIs(t, err, ErrNoSuchDump)
	_, _, err = s.Get(t.Context(), 1, 0)
	require.ErrorIs(t, err, ErrNoSuchDump)
	require.Zero(t, s.Progress(1))
	s.Drop(1, "nobody knows it")
	require.Empty(t, files(t, dir))

	require.NoError(t, s.Create(1))
	s = reopen(t, dir)
	require.Equal(t, []event.DumpID{1}, s.Dumps())
	require.Zero(t, s.Progress(1))
}

func orders(n int) (all [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, o := range orders(n - 1) {
		for i := range n {
			all = append(all, append(append(append([]int(nil), o[:i]...), n-1), o[i:]...))
		}
	}
	return all
}

// RS-8: "all orders of 5 chunks give the same bytes; overlap and bad CRC are refused; a repeat is harmless".
func TestRS08AllOrdersOfFiveChunks(t *testing.T) {
	s := open(t)
	b := content(4*ChunkSize + 99)
	chunks := cutUp(b)
	for i, order := range orders(5) {
		dump := event.DumpID(i + 1)
		require.NoError(t, s.Create(dump))
		for _, n := range order {
			require.NoError(t, s.Put(dump, chunks[n]), order)
		}
		m, err := s.Seal(dump, manifest(dump, b))
		require.NoError(t, err, order)
		require.Equal(t, manifest(dump, b), m)
		s.Drop(dump, "next")
	}
}

func TestRS08RepeatsAreHarmlessAndNonsenseIsRefused(t *testing.T) {
	s := open(t)
	b := content(2*ChunkSize + 99)
	chunks := cutUp(b)
	require.NoError(t, s.Create(1))
	refused := func(c Chunk, why string) {
		t.Helper()
		err := s.Put(1, c)
		require.ErrorIs(t, err, event.ErrDamaged)
		require.ErrorContains(t, err, why)
	}
	bad := chunks[0]
	bad.CRC++
	refused(bad, "CRC")
	bad = chunks[0]
	bad.Length--
	refused(bad, "announced")
	refused(Pack(Put, 0, nil), "empty")
	for range 3 {
		require.NoError(t, s.Put(1, chunks[0]))
	}
	refused(Pack(Put, 0, content(5)), "other content")
	refused(Pack(Put, 0, append([]byte{1}, b[1:ChunkSize]...)), "other content") // as long as the first
	require.NoError(t, s.Put(1, chunks[2]))
	require.NoError(t, s.Put(1, chunks[1]))
	refused(Pack(Put, 3, content(1)), "follows one that is shorter") // overlap: chunk 2 was the last
	require.NoError(t, s.Put(1, chunks[0]))
	_, err := s.Seal(1, manifest(1, b))
	require.NoError(t, err)
	require.NoError(t, s.Put(1, chunks[1]), "a late repetition")
	refused(Pack(Put, 3, content(1)), "sealed")
	require.Equal(t, 3, s.Progress(1))
}

// A short chunk in the middle breaks "offset is number * ChunkSize", also when it came first.
func TestRS08AShortChunkEndsTheSnapshot(t *testing.T) {
	s := open(t)
	require.NoError(t, s.Create(1))
	require.NoError(t, s.Put(1, Pack(Put, 1, content(ChunkSize))))
	require.ErrorIs(t, s.Put(1, Pack(Put, 0, content(ChunkSize-1))), event.ErrDamaged)
	_, err := s.Seal(1, manifest(1, append(content(ChunkSize-1), content(ChunkSize)...)))
	require.ErrorIs(t, err, event.ErrDamaged)
}

// RS-10: "Completion fires once per request": "exactly once, also under races".
func TestRS10ConcurrentSealsPublishOneManifest(t *testing.T) {
	s := open(t)
	b := content(ChunkSize + 1)
	require.NoError(t, s.Create(1))
	for _, c := range cutUp(b) {
		require.NoError(t, s.Put(1, c))
	}
	var all sync.WaitGroup
	var times [20]int64
	for i := range times {
		all.Go(func() {
			m := manifest(1, b)
			m.Time = int64(i + 1)
			m, err := s.Seal(1, m)
			if err == nil {
				times[i] = m.Time
			}
		})
	}
	all.Wait()
	m, ok := s.Manifest(1)
	require.True(t, ok)
	for _, got := range times {
		require.Equal(t, m.Time, got, "everybody is answered the one that was published")
	}
}

// RS-11: "duplicate id refused; unknown id ignored and counted; failure at chunk 1 is heard": here a second Create
// changes nothing, and whoever waits for chunk 0 hears at once that there will be none.
func TestRS11FailureAtTheFirstChunkIsHeard(t *testing.T) {
	s := open(t)
	require.NoError(t, s.Create(1))
	require.NoError(t, s.Put(1, cutUp(content(2 * ChunkSize))[1]))
	require.NoError(t, s.Create(1))
	require.Equal(t, 1, s.Progress(1))

	heard := make(chan error)
	st, err := s.stage(1)
	require.NoError(t, err)
	go func() { _, _, err := s.Get(t.Context(), 1, 0); heard <- err }()
	s.Drop(1, "the target has no disk")
	err = <-heard
	require.ErrorIs(t, err, ErrNoSuchDump)
	s.Drop(1, "again")
	require.ErrorContains(t, st.givenUp(), "the target has no disk")
}

func TestGetEndsWithItsContext(t *testing.T) {
	s := open(t)
	require.NoError(t, s.Create(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, ok, err := s.Get(ctx, 1, 0)
	require.NoError(t, err)
	require.False(t, ok)
}

// RS-12: "kill between data and manifest: nothing is listed, no requester has switched; early readers resume or get
// FAIL". The same directory opened again is what a kill leaves.
func TestRS12NoManifestNoSnapshot(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	b := content(5*ChunkSize + 1)
	chunks := cutUp(b)
	require.NoError(t, s.Create(1))
	for i, c := range chunks {
		require.NoError(t, s.Put(1, c))
		_, listed := s.Manifest(1)
		require.False(t, listed)

		home := filepath.Join(dir, event.DumpID(1).String())
		require.NoError(t, os.WriteFile(filepath.Join(home, chunkName(uint32(i)+1)+".tmp"), []byte("half"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(home, manifestName+".tmp"), manifest(1, b).Encode(), 0o600))
		s = reopen(t, dir)
		require.Equal(t, i+1, s.Progress(1))
		_, listed = s.Manifest(1)
		require.False(t, listed)
		require.Len(t, files(t, dir), i+2, "what was half written is swept")
		c, ok, err := s.Get(t.Context(), 1, uint32(i))
		require.NoError(t, err)
		require.True(t, ok)
		data, err := c.Unpack()
		require.NoError(t, err)
		require.Equal(t, b[i*ChunkSize:min((i+1)*ChunkSize, len(b))], data)
	}
	_, err := s.Seal(1, manifest(1, b))
	require.NoError(t, err, "size and digest are right although they were counted before the crash")
	m, ok := reopen(t, dir).Manifest(1)
	require.True(t, ok)
	require.Equal(t, manifest(1, b), m)
}

// RS-13: "Any failed chunk: error to the asker, no manifest, staging and pin removed": "failure at chunk k for each k;
// 100 aborted uploads: disk as before".
func TestRS13AbortedUploadsLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	full := errors.New("the disk is nearly full")
	var room atomic.Int64
	s, err := OpenStaging(dir, func() error {
		if room.Add(-1) < 0 {
			return full
		}
		return nil
	})
	require.NoError(t, err)
	for i := range 100 {
		k := i % 6
		room.Store(int64(k))
		_, err := Upload(t.Context(), serve(s, 0), manifest(1, nil), writing(content(5*ChunkSize+1)), fast)
		require.ErrorIs(t, err, ErrGivenUp)
		require.ErrorContains(t, err, full.Error())
		require.LessOrEqual(t, s.Progress(1), k)
		_, sealed := s.Manifest(1)
		require.False(t, sealed)
		s.Drop(1, "failed") // the same ID comes again at once
	}
	s.Close()
	require.Empty(t, files(t, dir))
}

func TestRepeatedChunkNeedsNoRoom(t *testing.T) {
	full := error(nil)
	s, err := OpenStaging(t.TempDir(), func() error { return full })
	require.NoError(t, err)
	c := cutUp(content(5))[0]
	require.NoError(t, s.Create(1))
	require.NoError(t, s.Put(1, c))
	full = errors.New("full")
	require.NoError(t, s.Put(1, c))
	require.ErrorIs(t, s.Put(1, Pack(Put, 1, content(1))), event.ErrDamaged)
}

// RS-14: "hostile names never leave the staging area": paths are made of numbers, and what is not ours is refused with
// its name.
func TestRS14OnlyOurNamesAreRead(t *testing.T) {
	for _, name := range []string{"x", "0000000000000001x", "00000000000000AA", "..hidden", "0000000000000001"} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		_, err := OpenStaging(dir, nil)
		require.ErrorIs(t, err, ErrForeign)
		require.ErrorContains(t, err, name)
		require.FileExists(t, filepath.Join(dir, name))
	}
	for _, name := range []string{"x", "1.chunk", "0000000001.chunkx", "+000000001.chunk", "9999999999.chunk",
		"0000000001.chunk.bak", "x.tmp", "manifest.json.old"} {
		dir := t.TempDir()
		home := filepath.Join(dir, event.DumpID(1).String())
		require.NoError(t, os.Mkdir(home, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(home, name), nil, 0o600))
		_, err := OpenStaging(dir, nil)
		require.ErrorIs(t, err, ErrForeign)
		require.ErrorContains(t, err, name)
		require.FileExists(t, filepath.Join(home, name))
	}
	n, ok := chunkNumber(chunkName(1<<32 - 1))
	require.True(t, ok)
	require.Equal(t, uint32(1<<32-1), n)
}

// A snapshot can be made again: a damaged one goes, and the others stay.
func TestOpenStagingClearsADamagedSnapshot(t *testing.T) {
	b := content(5)
	for name, stored := range map[string][]byte{
		"damaged":      []byte("{"),
		"another dump": manifest(2, b).Encode(),
		"chunks gone":  manifest(1, content(ChunkSize+1)).Encode(),
	} {
		dir := t.TempDir()
		s := reopen(t, dir)
		upload(t, s, 1, b)
		upload(t, s, 7, b)
		require.NoError(t, os.WriteFile(filepath.Join(dir, event.DumpID(1).String(), manifestName), stored, 0o600))
		s, err := OpenStaging(dir, nil)
		require.NoError(t, err)
		require.Equal(t, []event.DumpID{7}, s.Dumps())
		require.Len(t, s.Cleared(), 1)
		require.ErrorIs(t, s.Cleared()[0], event.ErrDamaged, name)
		require.NoDirExists(t, filepath.Join(dir, event.DumpID(1).String()))
	}
}

// A chunk after a hole is no part of what the manifest says: sealed with it, the next start would refuse the directory.
func TestSealRefusesAChunkBehindAHole(t *testing.T) {
	s := open(t)
	b := content(2 * ChunkSize)
	require.NoError(t, s.Create(1))
	for _, c := range append(cutUp(b), Pack(Put, 3, content(1))) {
		require.NoError(t, s.Put(1, c))
	}
	_, err := s.Seal(1, manifest(1, b))
	require.ErrorIs(t, err, event.ErrDamaged)
	_, sealed := s.Manifest(1)
	require.False(t, sealed)
}

// Whoever found the dump just before it was given up learns that as soon as it is his turn.
func TestADumpGivenUpMeanwhileTakesNothing(t *testing.T) {
	s := open(t)
	b := content(5)
	require.NoError(t, s.Create(1))
	require.NoError(t, s.Put(1, cutUp(b)[0]))
	st, err := s.stage(1)
	require.NoError(t, err)
	s.Drop(1, "cancelled")
	s.all[1] = st // as he found it
	require.ErrorIs(t, s.Put(1, cutUp(b)[0]), ErrNoSuchDump)
	_, err = s.Seal(1, manifest(1, b))
	require.ErrorIs(t, err, ErrNoSuchDump)
	require.ErrorContains(t, err, "cancelled")
	_, _, err = s.Get(t.Context(), 1, 0)
	require.ErrorIs(t, err, ErrNoSuchDump)
}

func TestOpenStagingSweepsTrash(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, trashPrefix+"0000000000000001-1", "x"), 0o700))
	s := reopen(t, dir)
	require.Empty(t, s.Dumps())
	require.Empty(t, files(t, dir))
}

// A dump can be dropped and created again while its old files still go, in any number.
func TestDropThenCreateOfTheSameID(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	require.NoError(t, s.Create(1))
	for i := range 2000 { // so that removing takes longer than the next rounds
		require.NoError(t, os.WriteFile(filepath.Join(dir, event.DumpID(1).String(), fmt.Sprint(i)), nil, 0o600))
	}
	for range 20 {
		s.Drop(1, "again")
		require.NoError(t, s.Create(1))
		require.Zero(t, s.Progress(1))
	}
	upload(t, s, 1, content(1))
	s.Drop(1, "for good")
	_, ok := s.Manifest(1)
	require.False(t, ok)
	s.Close()
	require.Empty(t, files(t, dir))
}

// Chunks staged bit-rotten are noticed by Seal.
func TestSealNoticesRot(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	b := content(2 * ChunkSize)
	require.NoError(t, s.Create(1))
	for _, c := range cutUp(b) {
		require.NoError(t, s.Put(1, c))
	}
	s = reopen(t, dir)
	path := filepath.Join(dir, event.DumpID(1).String(), chunkName(1))
	rot, err := os.ReadFile(path)
	require.NoError(t, err)
	rot[len(rot)-1] ^= 1
	require.NoError(t, os.WriteFile(path, rot, 0o600))
	_, err = s.Seal(1, manifest(1, b))
	require.ErrorIs(t, err, event.ErrDamaged)
	_, _, err = download(t, serve(s, time.Millisecond), 1)
	require.ErrorIs(t, err, event.ErrDamaged)
}

// A name is durable only after a sync that began after it was there: who comes while one runs waits for the next, which
// serves all of them. Behind a failed sync nobody is served any more.
func TestNamesShareASyncThatBeganBehindThem(t *testing.T) {
	began, end := make(chan struct{}), make(chan error)
	n := dirSyncer{do: func() error { began <- struct{}{}; return <-end }}
	results := make(chan error, 10)
	come := func() {
		asked := n.asked.Load()
		go func() { results <- n.sync() }()
		require.Eventually(t, func() bool { return n.asked.Load() > asked }, 2*time.Minute, time.Millisecond)
	}
	come()
	<-began
	come()
	come()
	end <- nil
	require.NoError(t, <-results)
	<-began // those who came while it ran are not served by it
	require.Empty(t, results)
	end <- nil
	require.NoError(t, <-results)
	require.NoError(t, <-results, "one sync for both")
	come()
	<-began
	come()
	end <- errors.New("broken")
	require.ErrorContains(t, <-results, "broken")
	require.ErrorContains(t, <-results, "broken", "another sync might say nothing of what this one has lost")
	require.ErrorContains(t, n.sync(), "broken")
}

// A chunk that is sent again while its first copy is written is stored once, and a dump that is given up and made anew
// meanwhile has no chunk of its former life: what a restart finds is what was said to be there.
func TestChunksUnderWay(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	have := map[event.DumpID]int{}
	for id := event.DumpID(1); id <= 200; id++ {
		chunks := cutUp(content(6 * ChunkSize))
		if id%2 == 0 {
			chunks = []Chunk{Pack(Put, 0, content(1)), Pack(Put, 1, content(1)), Pack(Put, 2, content(1)),
				Pack(Put, 3, content(1))}
		}
		require.NoError(t, s.Create(id))
		var puts sync.WaitGroup
		var stored atomic.Int32
		for _, c := range append(slices.Clone(chunks), chunks...) {
			puts.Go(func() {
				switch err := s.Put(id, c); {
				case err == nil:
					stored.Add(1)
				case id%2 == 1 || !errors.Is(err, ErrNoSuchDump) && !errors.Is(err, event.ErrDamaged):
					t.Error(err)
				}
			})
		}
		if id%2 == 0 {
			s.Drop(id, "a test")
			require.NoError(t, s.Create(id))
		}
		puts.Wait()
		if have[id] = s.Progress(id); id%2 == 1 {
			require.EqualValues(t, 2*len(chunks), stored.Load())
			require.Equal(t, len(chunks), have[id])
		}
	}
	s.Close()
	s = reopen(t, dir)
	for id, n := range have {
		require.Equal(t, n, s.Progress(id), id)
	}
}

// Behind a restart Seal reads everything again. A dump that is given up meanwhile does not wait for all of it: what a
// worker asks for is answered for one client while the others wait.
func TestADropDoesNotWaitForALongSeal(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	require.NoError(t, s.Create(1))
	b := content(6 * Window * ChunkSize)
	for _, c := range cutUp(b) {
		require.NoError(t, s.Put(1, c))
	}
	s = reopen(t, dir)
	slow := filepath.Join(dir, event.DumpID(1).String(), chunkName(3*Window)) // reading it takes as long as we like
	data, err := os.ReadFile(slow)
	require.NoError(t, err)
	require.NoError(t, os.Remove(slow))
	require.NoError(t, syscall.Mkfifo(slow, 0o600))

	sealed, dropped := make(chan error, 1), make(chan struct{})
	go func() {
		_, err := s.Seal(1, manifest(1, b))
		sealed <- err
	}()
	pipe, err := os.OpenFile(slow, os.O_WRONLY, 0) // waits for the reader
	require.NoError(t, err)
	go func() {
		s.Drop(1, "for a test")
		close(dropped)
	}()
	require.Eventually(t, func() bool { // it waits for the chunk that is being read
		stacks := make([]byte, 1<<20)
		return slices.ContainsFunc(strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n"), func(s string) bool {
			return strings.Contains(s, "[sync.Mutex.Lock") && strings.Contains(s, ".Drop(")
		})
	}, 2*time.Minute, time.Millisecond)
	_, err = pipe.Write(data)
	require.NoError(t, errors.Join(err, pipe.Close()))
	<-dropped
	require.ErrorIs(t, <-sealed, ErrNoSuchDump)
}
