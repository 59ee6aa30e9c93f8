package dumpflow

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
)

// archived writes b as a backup file and returns its path.
func archived(t testing.TB, b []byte) string {
	t.Helper()
	s := open(t)
	upload(t, s, 1, b)
	d := NewDownload(t.Context(), serve(s, time.Second), 1, fast)
	defer d.Close()
	path, told := filepath.Join(t.TempDir(), "backup"), int64(0)
	m, err := WriteArchive(path, d, func(n int64) { told = n })
	require.NoError(t, err)
	require.Equal(t, manifest(1, b), m)
	require.Equal(t, int64(len(b)), told)
	require.NoFileExists(t, path+".tmp")
	return path
}

// readArchive opens and reads what stands in b.
func readArchive(t testing.TB, path string, b []byte) ([]byte, Manifest, error) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, b, 0o600))
	a, err := OpenArchive(path)
	if err != nil {
		return nil, Manifest{}, err
	}
	got, err := io.ReadAll(a)
	require.NoError(t, a.Close())
	return got, a.Manifest(), err
}

func TestArchiveKeepsBytesAndPosition(t *testing.T) {
	for i, size := range []int{0, 1, ChunkSize, ChunkSize + 1, 3 * ChunkSize} {
		want := noise(t, uint64(i), size)
		a, err := OpenArchive(archived(t, want))
		require.NoError(t, err)
		require.Equal(t, manifest(1, want), a.Manifest(), "known before anything is read")
		got, err := io.ReadAll(a)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		require.NoError(t, a.Close())
	}
}

// boundaries of the blocks in an archive.
func boundaries(b []byte) (ends []int) {
	at := len(archiveMagic)
	for at < len(b) {
		ends = append(ends, at)
		at += 4 + int(binary.LittleEndian.Uint32(b[at:]))
	}
	return ends
}

// SS-7: "our reader compares the count; a short stream is an error".
func TestSS07AShortArchiveIsAnError(t *testing.T) {
	path := archived(t, content(2*ChunkSize+5))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	ends := boundaries(whole)
	require.Len(t, ends, 4)
	cuts := append([]int{0, 1, len(whole) - 1}, ends...)
	for _, at := range ends {
		cuts = append(cuts, at-1, at+1, at+4, at+5, at+20)
	}
	for _, n := range cuts {
		_, _, err := readArchive(t, path, whole[:n])
		require.ErrorIs(t, err, event.ErrDamaged, "cut at %d of %d", n, len(whole))
	}
	_, _, err = readArchive(t, path, append(append([]byte(nil), whole[:ends[1]]...), whole[ends[2]:]...))
	require.ErrorIs(t, err, event.ErrDamaged, "a block is gone")
	_, _, err = readArchive(t, path, append(append([]byte(nil), whole[:ends[1]]...), whole[ends[3]:]...))
	require.ErrorIs(t, err, event.ErrDamaged, "all but the first are gone")
	_, _, err = readArchive(t, path, append(append([]byte(nil), whole...), 0))
	require.ErrorIs(t, err, event.ErrDamaged, "something follows")
	_, _, err = readArchive(t, path, append(append([]byte(nil), whole...), whole...))
	require.ErrorIs(t, err, event.ErrDamaged, "twice")
}

// SS-12: "A dump without a position is never served ... Extra blocks on begin carry the position, on end the CRC".
func TestSS12AnArchiveWithoutPositionIsRefused(t *testing.T) {
	path := archived(t, content(5))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	ends := boundaries(whole)
	with := func(m Manifest) []byte {
		block := Pack(Stat, 1, m.Encode()).Append(nil)
		b := binary.LittleEndian.AppendUint32(append([]byte(nil), whole[:ends[1]]...), uint32(len(block)))
		return append(b, block...)
	}
	m := manifest(1, content(5))
	_, got, err := readArchive(t, path, with(m))
	require.NoError(t, err)
	require.Equal(t, m, got)
	m.Pos = event.Position{}
	_, _, err = readArchive(t, path, with(m))
	require.ErrorIs(t, err, event.ErrDamaged)
	require.ErrorContains(t, err, "no position")
	_, _, err = readArchive(t, path, with(manifest(1, content(6))))
	require.ErrorIs(t, err, event.ErrDamaged, "the manifest of other bytes")
}

// The manifest holds the position, so its bits are guarded like those of the data (XD-14). A few bits of a zstd frame
// mean nothing: then bytes and manifest are the same.
func TestArchiveNoFlippedBitChangesWhatIsRead(t *testing.T) {
	want := content(3)
	path := archived(t, want)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for bit := range len(whole) * 8 {
		whole[bit/8] ^= 1 << (bit % 8)
		got, m, err := readArchive(t, path, whole)
		if err == nil {
			require.Equal(t, want, got, "bit %d", bit)
			require.Equal(t, manifest(1, want), m, "bit %d", bit)
		} else {
			require.ErrorIs(t, err, event.ErrDamaged, "bit %d", bit)
		}
		whole[bit/8] ^= 1 << (bit % 8)
	}
}

func TestArchiveIsNotOverwrittenAndLeavesNothingBehindAFailure(t *testing.T) {
	path := archived(t, content(5))
	s := open(t)
	d := NewDownload(t.Context(), serve(s, 0), 9, fast)
	defer d.Close()
	_, err := WriteArchive(path, d, func(int64) {})
	require.ErrorContains(t, err, "exists already")
	other := path + "2"
	_, err = WriteArchive(other, d, func(int64) {})
	require.ErrorIs(t, err, ErrGivenUp)
	require.NoFileExists(t, other)
	require.NoFileExists(t, other+".tmp")
	_, err = OpenArchive(other)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A file that changes between the check and the reading does not end like a whole one.
func TestArchiveErrorStays(t *testing.T) {
	path := archived(t, content(ChunkSize+5))
	a, err := OpenArchive(path)
	require.NoError(t, err)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	whole[len(whole)-1] ^= 1
	require.NoError(t, os.WriteFile(path, whole, 0o600))
	_, err = io.Copy(io.Discard, a)
	if err != nil { // the first pass may still be in the buffer
		_, err = a.Read(make([]byte, 1))
		require.ErrorIs(t, err, event.ErrDamaged)
	}
	require.NoError(t, a.Close())
}

func FuzzDumpStream(f *testing.F) {
	whole, err := os.ReadFile(archived(f, content(5)))
	require.NoError(f, err)
	f.Add(whole)
	f.Add([]byte(archiveMagic))
	f.Add(append([]byte(archiveMagic), 255, 255, 255, 255))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		got, m, err := readArchive(t, filepath.Join(dir, "fuzz"), b)
		if err != nil {
			require.ErrorIs(t, err, event.ErrDamaged)
			return
		}
		require.Equal(t, m.Size, int64(len(got)))
		require.NotZero(t, m.Pos.Log)
	})
}
