package dumpflow

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"xmq/broker/event"
)

// The golden bytes of format 1. They may never change.
const (
	goldenChunk    = "01" + "03" + "00" + "00" + "07000000" + "04000000" + "d17dd8ae" + "64617461"
	goldenManifest = `{"v":1,"dump":"0000000000000001","target":"master","position":{"log":"0000000000000007","seq":42,` +
		`"chain":"0000000000000009"},"format":"test/1","topics":["a"],"size":4,"chunks":1,` +
		`"sha256":"3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7","time":5}`
)

func TestChunkGoldenBytes(t *testing.T) {
	require.Equal(t, goldenChunk, hex.EncodeToString(Pack(Get, 7, []byte("data")).Append(nil)))
	b, err := hex.DecodeString(goldenChunk)
	require.NoError(t, err)
	c, err := DecodeChunk(b)
	require.NoError(t, err)
	require.Equal(t, Pack(Get, 7, []byte("data")), c)
}

func TestManifestGoldenBytes(t *testing.T) {
	m := manifest(1, []byte("data"))
	m.Topics, m.Time = []string{"a"}, 5
	require.Equal(t, goldenManifest, string(m.Encode()))
	got, err := DecodeManifest([]byte(goldenManifest))
	require.NoError(t, err)
	require.Equal(t, m, got)
	for n := range goldenManifest {
		_, err := DecodeManifest([]byte(goldenManifest[:n]))
		require.ErrorIs(t, err, event.ErrDamaged, n)
	}
	_, err = DecodeManifest([]byte(`{"v":2}`))
	require.ErrorContains(t, err, "format 2")
	_, err = DecodeManifest(make([]byte, 65537))
	require.ErrorIs(t, err, event.ErrDamaged)
}

func TestChunkUnpackIsTheInverseOfPack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		data = bytes.Repeat(data, rapid.IntRange(1, 100).Draw(t, "times"))
		c, err := DecodeChunk(Pack(Put, rapid.Uint32().Draw(t, "number"), data).Append(nil))
		require.NoError(t, err)
		got, err := c.Unpack()
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
	})
}

func TestChunkCutAtEveryByteIsDamaged(t *testing.T) {
	for _, data := range [][]byte{[]byte("data"), content(9000)} {
		whole := Pack(Put, 0, data).Append(nil)
		for n := range whole {
			c, err := DecodeChunk(whole[:n])
			if err == nil {
				_, err = c.Unpack()
			}
			require.ErrorIs(t, err, event.ErrDamaged, n)
		}
	}
}

// A few bytes that unpack to much more than announced are refused without holding it all.
func TestChunkBombIsRefused(t *testing.T) {
	for _, size := range []int{ChunkSize + 1, 3 * ChunkSize, 64 << 20} {
		c := Chunk{Op: Put, Packed: true, Length: 10, Data: packer.EncodeAll(make([]byte, size), nil)}
		_, err := DecodeChunk(c.Append(nil))
		require.NoError(t, err, "it is short on the way")
		_, err = c.Unpack()
		require.ErrorIs(t, err, event.ErrDamaged)
	}
	c := Pack(Put, 0, content(5))
	c.Length = 1 << 31
	_, err := DecodeChunk(c.Append(nil))
	require.ErrorIs(t, err, event.ErrDamaged)
}

func TestAnswerIsForItsDump(t *testing.T) {
	a := ChunkReply{State: event.Succ, Text: "text", Chunk: Pack(Get, 3, []byte("data"))}
	got, err := DecodeChunkReply(a.Encode("main", "n1", 1), 1)
	require.NoError(t, err)
	require.Equal(t, a, got)
	_, err = DecodeChunkReply(a.Encode("main", "n1", 1), 2)
	require.ErrorIs(t, err, event.ErrDamaged)
	_, err = DecodeChunkReply((&event.Event{Kind: event.IncrRep, Dump: 1}).Append(nil), 1)
	require.ErrorIs(t, err, event.ErrDamaged)
	_, err = DecodeChunkReply((&event.Event{Kind: event.SnapRep, Dump: 1, Body: []byte("x")}).Append(nil), 1)
	require.ErrorIs(t, err, event.ErrDamaged)
}

func TestOpenedNamesItsFormat(t *testing.T) {
	o, err := DecodeOpened(Opened{Format: "sqlite-pages/1", Online: true}.Encode())
	require.NoError(t, err)
	require.Equal(t, Opened{Format: "sqlite-pages/1", Online: true}, o)
	for _, s := range []string{"", "{", "{}", `{"format":""}`, `{"format":1}`} {
		_, err := DecodeOpened([]byte(s))
		require.ErrorIs(t, err, event.ErrDamaged, s)
	}
}

func FuzzChunk(f *testing.F) {
	f.Add(Pack(Put, 0, []byte("data")).Append(nil))
	f.Add(Pack(Get, 7, content(9000)).Append(nil))
	f.Add(make([]byte, chunkHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeChunk(b)
		if err != nil {
			require.ErrorIs(t, err, event.ErrDamaged)
			return
		}
		require.Equal(t, b, c.Append(nil))
		data, err := c.Unpack()
		if err != nil {
			require.ErrorIs(t, err, event.ErrDamaged)
			return
		}
		require.Len(t, data, int(c.Length))
		require.LessOrEqual(t, len(data), ChunkSize)
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(goldenManifest))
	f.Add([]byte(`{"v":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(b)
		if err != nil {
			require.ErrorIs(t, err, event.ErrDamaged)
			return
		}
		require.Equal(t, int64(m.Chunks), Chunks(m.Size))
		_, err = DecodeManifest(m.Encode())
		require.NoError(t, err)
	})
}

// Random bytes are sent as they are; their hexadecimal digits, in which nothing repeats either, take half the room.
func TestPackCompressesWhatShrinks(t *testing.T) {
	random := make([]byte, ChunkSize)
	_, _ = rand.NewChaCha8([32]byte{}).Read(random) // never fails
	digits := hex.AppendEncode(nil, random[:ChunkSize/2])
	tail := append(slices.Clone(random[:ChunkSize-ChunkSize/4]), make([]byte, ChunkSize/4)...)
	for name, c := range map[string]struct {
		data []byte
		most int
	}{"random": {random, ChunkSize}, "short random": {random[:100], 100}, "digits": {digits, ChunkSize*51/100 + 500},
		"a quarter": {tail, ChunkSize * 76 / 100}} {
		packed := Pack(Put, 1, c.data)
		require.LessOrEqual(t, len(packed.Data), c.most, name)
		require.Equal(t, len(c.data) != c.most, packed.Packed, name)
		data, err := packed.Unpack()
		require.NoError(t, err, name)
		require.Equal(t, c.data, data, name)
	}
}
