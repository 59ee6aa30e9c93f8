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
	m, err := WriteArchive(path, false, d, func(n int64) { told = n })
	require.NoError(t, err)
	require.Equal(t, manifest(1, b), m)
	require.Equal(t, int64(len(b)), told)
	requireAlone(t, path)
	return path
}

// requireAlone looks that nothing lies beside a backup file.
func requireAlone(t testing.TB, paths ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(paths[0]))
	require.NoError(t, err)
	require.Len(t, entries, len(paths))
	for _, path := range paths {
		_, err := os.Lstat(path)
		require.NoError(t, err)
	}
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
	_, err := WriteArchive(path, false, d, func(int64) {})
	require.ErrorContains(t, err, "exists already")
	other := path + "2"
	_, err = WriteArchive(other, false, d, func(int64) {})
	require.ErrorIs(t, err, ErrGivenUp)
	require.NoFileExists(t, other)
	requireAlone(t, path)
	_, err = OpenArchive(other)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// What has the name of a backup file already, a link to somebody's file or to nothing too, is neither written through
// nor replaced, unless that was asked for: then the name is replaced, and what the link led to stays as it is.
func TestArchiveFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	victim, link := filepath.Join(dir, "victim"), filepath.Join(dir, "link")
	require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
	s, b := open(t), content(5)
	upload(t, s, 1, b)
	write := func(path string, replace bool) error {
		d := NewDownload(t.Context(), serve(s, time.Second), 1, fast)
		defer d.Close()
		_, err := WriteArchive(path, replace, d, func(int64) {})
		return err
	}
	for _, to := range []string{victim, filepath.Join(dir, "nothing")} {
		require.NoError(t, os.Symlink(to, link))
		require.ErrorContains(t, write(link, false), "exists already")
		requireAlone(t, victim, link)
		require.NoError(t, write(link, true))
		requireAlone(t, victim, link)
		a, err := OpenArchive(link)
		require.NoError(t, err)
		require.NoError(t, a.Close())
		info, err := os.Lstat(link)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode(), "a file, no link")
		require.NoError(t, os.Remove(link))
	}
	text, err := os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, "precious", string(text))
	require.Error(t, write(dir, true), "a folder is not replaced")

	late := filepath.Join(dir, "late") // comes while the backup is written
	d := NewDownload(t.Context(), serve(s, time.Second), 1, fast)
	defer d.Close()
	_, err = WriteArchive(late, false, d, func(int64) { require.NoError(t, os.WriteFile(late, []byte("first"), 0o600)) })
	require.ErrorContains(t, err, "exists already")
	text, err = os.ReadFile(late)
	require.NoError(t, err)
	require.Equal(t, "first", string(text))
	requireAlone(t, victim, late)
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
