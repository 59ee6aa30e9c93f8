package dumpflow

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
)

// at is the position of every snapshot in these tests.
var at = event.Position{Log: 7, Seq: 42, Chain: 9}

func open(t testing.TB) *Staging {
	t.Helper()
	return reopen(t, t.TempDir())
}

func reopen(t testing.TB, dir string) *Staging {
	t.Helper()
	s, err := OpenStaging(dir, nil)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// serve answers like the broker: over the wire format, waiting up to patience for chunks that are not there yet.
func serve(s *Staging, patience time.Duration) Call {
	return func(ctx context.Context, dump event.DumpID, c Chunk) (ChunkReply, error) {
		c, err := DecodeChunk(c.Append(nil))
		if err != nil {
			return ChunkReply{}, err
		}
		return DecodeChunkReply(answer(ctx, s, dump, c, patience).Encode("main", "n1", dump), dump)
	}
}

func answer(ctx context.Context, s *Staging, dump event.DumpID, c Chunk, patience time.Duration) ChunkReply {
	fail := func(err error) ChunkReply { return ChunkReply{State: event.Fail, Text: err.Error()} }
	switch c.Op {
	case Put:
		if err := errors.Join(s.Create(dump), s.Put(dump, kept(c))); err != nil {
			return fail(err)
		}
		return ChunkReply{State: event.Succ}
	case Seal:
		m, err := DecodeManifest(c.Data)
		if err == nil {
			err = s.Create(dump)
		}
		if err == nil {
			m, err = s.Seal(dump, m)
		}
		if err != nil {
			return fail(err)
		}
		return ChunkReply{State: event.Succ, Chunk: Chunk{Op: Stat, Data: m.Encode()}}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	got, ok, err := s.Get(ctx, dump, c.Number)
	switch {
	case errors.Is(err, ErrNoSuchDump) && patience > 0:
		return ChunkReply{State: event.None, Text: "nothing has arrived yet: ask again"}
	case err != nil:
		return fail(err)
	case !ok:
		return ChunkReply{State: event.None}
	}
	return ChunkReply{State: event.Succ, Chunk: got}
}

// content is size bytes, each run of 4 KiB alike, so that they compress, with NUL and newlines in them.
func content(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i>>12) * 37
	}
	return b
}

// noise is size bytes that do not compress.
func noise(t testing.TB, seed uint64, size int) []byte {
	t.Logf("seed %d", seed)
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	b := make([]byte, size)
	_, _ = rng.Read(b)
	return b
}

func manifest(dump event.DumpID, b []byte) Manifest {
	sum := sha256.Sum256(b)
	return Manifest{V: ManifestVersion, Dump: dump, Target: "master", Pos: at, Format: "test/1", Size: int64(len(b)),
		Chunks: uint32(Chunks(int64(len(b)))), SHA256: hex.EncodeToString(sum[:])}
}

// cutUp is b as chunks.
func cutUp(b []byte) (all []Chunk) {
	for n := uint32(0); len(b) > 0; n++ {
		k := min(ChunkSize, len(b))
		all = append(all, Pack(Put, n, b[:k]))
		b = b[k:]
	}
	return all
}

func writing(b []byte) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(b))
		return err
	}
}

// fast repeats at once.
var fast = Options{Retry: time.Millisecond}

func upload(t testing.TB, s *Staging, dump event.DumpID, b []byte) Manifest {
	t.Helper()
	m := manifest(dump, nil)
	m.Size, m.SHA256 = 0, ""
	m, err := Upload(t.Context(), serve(s, time.Second), m, writing(b), fast)
	require.NoError(t, err)
	require.Equal(t, manifest(dump, b), m)
	return m
}

func download(t testing.TB, call Call, dump event.DumpID) ([]byte, Manifest, error) {
	t.Helper()
	d := NewDownload(t.Context(), call, dump, fast)
	defer d.Close()
	b, err := io.ReadAll(d)
	if err != nil {
		_, noManifest := d.Manifest()
		require.Error(t, noManifest, "an incomplete download never shows a manifest")
		return b, Manifest{}, err
	}
	m, err := d.Manifest()
	return b, m, err
}

// files lists everything below dir.
func files(t testing.TB, dir string) (names []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if path != dir {
			names = append(names, path[len(dir)+1:])
		}
		return err
	}))
	return names
}

// kept is a chunk as it would have come over the network, of which the caller's is free again.
func kept(c Chunk) Chunk {
	c.Data = bytes.Clone(c.Data)
	return c
}
