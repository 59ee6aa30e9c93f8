package file

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
)

var factory = drivertest.Factory{
	Open:   func(t *testing.T, dir string) nodeclient.Database { return open(t, filepath.Join(dir, "increments")) },
	Body:   body,
	Opaque: true,
	Earlier: func(t *testing.T, dir string) {
		f, err := os.OpenFile(filepath.Join(dir, "increments"), os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte(firstHeader), 0)
		require.NoError(t, errors.Join(err, f.Close()))
	},
	Applied: func(t *testing.T, dir string) (numbers []uint64) {
		b, err := os.ReadFile(filepath.Join(dir, "increments"))
		require.NoError(t, err)
		for record, err := range Records(bytes.NewReader(b)) {
			require.NoError(t, err)
			k := uint64(0)
			if rest, ok := bytes.CutPrefix(record.Body(), []byte("number ")); ok {
				k = binary.LittleEndian.Uint64(rest)
			}
			numbers = append(numbers, k)
		}
		return numbers
	},
}

func body(k uint64) []byte { return binary.LittleEndian.AppendUint64([]byte("number "), k) }

func open(t *testing.T, path string) *Database {
	t.Helper()
	target, err := Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = target.Close() })
	return target
}

// TestXR05: "Log, transport and target driver are separate; any payload can be carried", the driver's half:
// "payload is opaque bytes (NUL, newline, 0xFF)". The suite has the case for drivers that are Opaque.
func TestXR05(t *testing.T) { drivertest.Run(t, factory) }

// TestXN08: "increments go to a file without separators" was the original's fault; here "the file driver's
// output can be split again", whatever bytes the increments hold: even those of such a file.
func TestXN08(t *testing.T) {
	dir := t.TempDir()
	inner := open(t, filepath.Join(dir, "inner"))
	log := drivertest.NewLog(7)
	start := log.At()
	items := log.Next([]byte("a"), []byte("b\nc"), []byte{0, 0xff, ';'}, []byte("'"))
	_, err := inner.Apply(t.Context(), start, items)
	require.NoError(t, err)
	whole, err := os.ReadFile(filepath.Join(dir, "inner"))
	require.NoError(t, err)

	outer := open(t, filepath.Join(dir, "outer"))
	before := log.At()
	more := append(log.Next(whole, whole[8:], []byte("XMQFILE\x01")), log.Pass(3))
	require.NoError(t, outer.Seek(t.Context(), before))
	_, err = outer.Apply(t.Context(), before, more)
	require.NoError(t, err)

	f, err := os.Open(filepath.Join(dir, "outer"))
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	var got []event.Encoded
	for record, err := range Records(f) {
		require.NoError(t, err)
		got = append(got, bytes.Clone(record))
	}
	require.Len(t, got, 3)
	for i, record := range got {
		require.Equal(t, more[i].Record, record, "headers, time and chain included")
	}
}

// filled returns the bytes of a file with the given batches and the offset after each (the header first).
func filled(t *testing.T, batches ...int) (whole []byte, ends []int, log *drivertest.Log, positions []event.Position) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "increments")
	target := open(t, path)
	log = drivertest.NewLog(7)
	ends, positions = []int{len(fileHeader)}, []event.Position{{}}
	for _, n := range batches {
		before := log.At()
		var items []event.Item
		for range n {
			items = append(items, log.Next(body(uint64(len(items)+1)))...)
		}
		_, err := target.Apply(t.Context(), before, items)
		require.NoError(t, err)
		ends, positions = append(ends, int(target.end)), append(positions, log.At())
	}
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	return whole, ends, log, positions
}

func reopened(t *testing.T, content []byte) (*Database, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "increments")
	require.NoError(t, os.WriteFile(path, content, 0o644))
	target, err := Open(path)
	if err == nil {
		t.Cleanup(func() { _ = target.Close() })
	}
	return target, err
}

func TestAFileCutAnywhereOpensAtTheLastWholeBatch(t *testing.T) {
	whole, ends, _, positions := filled(t, 2, 1, 3)
	for n := range len(whole) {
		target, err := reopened(t, whole[:n])
		require.NoError(t, err, "cut at %d", n)
		batch := 0
		for batch+1 < len(ends) && ends[batch+1] <= n {
			batch++
		}
		require.Equal(t, positions[batch], target.pos, "cut at %d", n)
		require.EqualValues(t, ends[batch], target.end, "cut at %d", n)
		info, err := target.file.Stat()
		require.NoError(t, err)
		require.Equal(t, target.end, info.Size(), "the torn end is gone")
	}
}

// A power cut may leave the last batch written in any of its parts, in any order.
func TestALastBatchWithHolesIsCutOff(t *testing.T) {
	whole, ends, _, positions := filled(t, 2, 1, 8)
	last := ends[len(ends)-2]
	const seed = 11
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		torn := bytes.Clone(whole)
		for range 1 + rng.IntN(3) {
			from := last + rng.IntN(len(torn)-last)
			clear(torn[from:min(len(torn), from+1+rng.IntN(100))])
		}
		target, err := reopened(t, torn)
		require.NoError(t, err)
		if bytes.Equal(torn, whole) { // a zero was cleared
			continue
		}
		require.Equal(t, positions[len(positions)-2], target.pos)
	}
}

func TestDamageBeforeTheLastBatchIsFatal(t *testing.T) {
	whole, ends, _, _ := filled(t, 2, 1, 3)
	for at := range ends[len(ends)-2] {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0x40
		_, err := reopened(t, damaged)
		require.True(t, nodeclient.IsFatal(err), "byte %d: %v", at, err)
		require.ErrorIs(t, err, event.ErrDamaged)
	}
}

func TestAForeignFileIsLeftAlone(t *testing.T) {
	for _, content := range []string{"hello", "hello, this is somebody's diary", "XMQFILE\x03 of a later version"} {
		path := filepath.Join(t.TempDir(), "increments")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
		_, err := Open(path)
		require.True(t, nodeclient.IsFatal(err), err)
		there, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, string(there))
	}
}

func TestAfterAFailedWriteNothingMoreIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "increments")
	target := open(t, path)
	log := drivertest.NewLog(7)
	start := log.At()
	items := log.Next(body(1))
	require.NoError(t, target.file.Close()) // the disk goes away
	applied, err := target.Apply(t.Context(), start, items)
	require.True(t, nodeclient.IsTransient(err), err)
	require.True(t, applied.Zero())
	_, err = target.Position(t.Context())
	require.True(t, nodeclient.IsTransient(err), err)
	require.True(t, nodeclient.IsTransient(target.Seek(t.Context(), start)))

	again := open(t, path)
	applied, err = again.Apply(t.Context(), start, items)
	require.NoError(t, err)
	require.Equal(t, items[0].Pos, applied)
}

func TestGoldenBytes(t *testing.T) {
	pos := event.Position{Log: 1, Seq: 2, Chain: 3}
	require.Equal(t, []byte("\x02\x20\x00\x00\x00"), appendSeal(nil, pos, 8)[:5])
	require.Len(t, appendSeal(nil, pos, 8), sealLen)
	require.Equal(t, []byte{1, 2, 0, 0, 0}, appendEntry(nil, kindRecord, []byte("ab"))[:5])
}

func FuzzRecords(f *testing.F) {
	log := drivertest.NewLog(7)
	b := []byte(fileHeader)
	f.Add(b)
	for _, item := range log.Next([]byte("a"), []byte("bc")) {
		b = appendEntry(b, kindRecord, item.Record)
	}
	f.Add(b)
	f.Add(appendSeal(b, log.At(), int64(len(fileHeader))))
	f.Add(appendSeal(appendEntry(b, 9, nil), log.At(), 8))
	f.Fuzz(func(t *testing.T, b []byte) {
		count := 0
		for record, err := range Records(bytes.NewReader(b)) {
			if err != nil {
				require.True(t, errors.Is(err, event.ErrDamaged) || errors.Is(err, io.ErrUnexpectedEOF), err)
				break
			}
			require.NoError(t, record.Verify())
			count++
		}
		require.LessOrEqual(t, count*30, len(b))
	})
}

// A full disk is no end: as soon as a write goes well again the file goes on from its last seal, without a restart.
func TestAFailedWriteIsGoneOnFromWithoutARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	target, err := Open(path)
	require.NoError(t, err)
	log := drivertest.NewLog(7)
	drivertest.Feed(t, target, log, "a", "b")
	before, items := log.At(), log.Scripts("c")

	real := target.file
	target.file, err = os.OpenFile("/dev/full", os.O_RDWR, 0)
	require.NoError(t, err)
	for range 3 {
		pos, err := target.Apply(t.Context(), before, items)
		require.True(t, nodeclient.IsTransient(err), err)
		require.ErrorContains(t, err, "no space left")
		require.Equal(t, before, pos)
	}
	require.NoError(t, target.file.Close())
	target.file = real
	_, err = real.WriteAt([]byte("half of a batch"), target.end) // what such a write may leave
	require.NoError(t, err)

	pos, err := target.Apply(t.Context(), before, items)
	require.NoError(t, err)
	require.Equal(t, items[0].Pos, pos)
	require.NoError(t, target.Close())
	target, err = Open(path)
	require.NoError(t, err)
	require.Equal(t, items[0].Pos, drivertest.At(t, target, log))
	require.NoError(t, target.Close())
}
