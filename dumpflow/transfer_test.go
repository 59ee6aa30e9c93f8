package dumpflow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
)

// RS-6: "Data is cut at the chunk size, the last may be shorter; sizes are 64-bit, bytes are opaque": both halves
// against each other.
func TestRS06EverySizeArrives(t *testing.T) {
	s := open(t)
	for i, size := range []int{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 9*ChunkSize + 17} {
		dump, want := event.DumpID(i+1), noise(t, uint64(i), size)
		upload(t, s, dump, want)
		got, m, err := download(t, serve(s, time.Second), dump)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		require.Equal(t, manifest(dump, want), m)
		require.Equal(t, int(m.Chunks), s.Progress(dump))
	}
}

// RS-6, above 4 GiB: the arithmetic of the numbering rule.
func TestRS06ChunksOfLargeSizes(t *testing.T) {
	for size, want := range map[int64]int64{0: 0, 1: 1, ChunkSize: 1, ChunkSize + 1: 2, 1 << 32: 8192, 1<<32 + 1: 8193,
		1 << 50: 1 << 31, math.MaxInt64: math.MaxInt64/ChunkSize + 1} {
		require.Equal(t, want, Chunks(size), size)
	}
	m := manifest(1, nil)
	m.Size, m.Chunks = 5<<32+1, 5<<13+1
	got, err := DecodeManifest(m.Encode())
	require.NoError(t, err)
	require.Equal(t, m, got)
	m.Size, m.Chunks = math.MaxInt64, 0
	_, err = DecodeManifest(m.Encode())
	require.ErrorIs(t, err, event.ErrDamaged)
}

// RS-3: "One stuck upload delays no other": 1 stuck, 9 finish.
func TestRS03OneStuckUploadDelaysNoOther(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	stuck := make(chan error, 1)
	go func() {
		call := func(ctx context.Context, dump event.DumpID, c Chunk) (ChunkReply, error) {
			<-ctx.Done()
			return ChunkReply{}, ctx.Err()
		}
		_, err := Upload(ctx, call, manifest(100, nil), writing(content(9*ChunkSize)), fast)
		stuck <- err
	}()
	var all sync.WaitGroup
	for i := range 9 {
		all.Go(func() { upload(t, s, event.DumpID(i+1), content(2*ChunkSize+i)) })
	}
	all.Wait()
	why := errors.New("enough")
	cancel(why)
	require.ErrorIs(t, <-stuck, why)
}

// RS-3 in the staging area: a dump whose write takes long holds up its own calls only, a Drop of it included.
func TestRS03ASlowDumpHoldsOnlyItself(t *testing.T) {
	s := open(t)
	upload(t, s, 1, content(1))
	slow, err := s.stage(1)
	require.NoError(t, err)
	slow.mu.Lock()
	dropped := make(chan struct{})
	go func() { s.Drop(1, "test"); close(dropped) }()
	upload(t, s, 2, content(ChunkSize+1))
	require.Len(t, s.Dumps(), 2)
	slow.mu.Unlock()
	<-dropped
	require.Len(t, s.Dumps(), 1)
}

// RS-15: "What fits in the first chunk completes in one exchange". Here the exchange is the chunk and its seal.
func TestRS15OneChunkNeedsOneExchange(t *testing.T) {
	s := open(t)
	var ops []Op
	call := func(ctx context.Context, dump event.DumpID, c Chunk) (ChunkReply, error) {
		ops = append(ops, c.Op)
		return serve(s, 0)(ctx, dump, c)
	}
	_, err := Upload(t.Context(), call, manifest(1, nil), writing(content(ChunkSize)), fast)
	require.NoError(t, err)
	require.Equal(t, []Op{Put, Seal}, ops)
}

// cutting is a network that loses requests and answers, repeats requests and damages chunks, by the call's number.
func cutting(call Call) Call {
	var n atomic.Int64
	return func(ctx context.Context, dump event.DumpID, c Chunk) (ChunkReply, error) {
		switch n.Add(1) % 5 {
		case 1:
			return ChunkReply{}, errors.New("lost on the way there")
		case 2:
			_, _ = call(ctx, dump, c)
			return ChunkReply{}, errors.New("lost on the way back")
		case 3:
			_, _ = call(ctx, dump, c)
		}
		return call(ctx, dump, c)
	}
}

// XE-12, the transfer: "The requester may read chunks while the upload runs, resumes after a cut, verifies".
func TestXE12ReadingWhileUploadingOverABadConnection(t *testing.T) {
	s := open(t)
	want := noise(t, 12, 7*ChunkSize+5)
	half := make(chan struct{})
	write := func(ctx context.Context, w io.Writer) error {
		if _, err := w.Write(want[:3*ChunkSize]); err != nil {
			return err
		}
		<-half
		_, err := w.Write(want[3*ChunkSize:])
		return err
	}
	up := make(chan error, 1)
	go func() {
		_, err := Upload(t.Context(), cutting(serve(s, 20*time.Millisecond)), manifest(1, nil), write, fast)
		up <- err
	}()
	d := NewDownload(t.Context(), cutting(serve(s, 20*time.Millisecond)), 1, fast)
	defer d.Close()
	got := make([]byte, 2*ChunkSize+9)
	_, err := io.ReadFull(d, got)
	require.NoError(t, err, "what has arrived can be read although the upload waits")
	_, noManifest := d.Manifest()
	require.Error(t, noManifest)
	close(half)
	rest, err := io.ReadAll(d)
	require.NoError(t, err)
	require.NoError(t, <-up)
	require.True(t, bytes.Equal(want, append(got, rest...)))
	m, err := d.Manifest()
	require.NoError(t, err)
	require.Equal(t, at, m.Pos)
}

// XE-12: "damaged chunk is never switched to": whatever is wrong on the way down, Read ends with an error and there
// is no manifest.
func TestXE12DamagedDownloadNeverCompletes(t *testing.T) {
	s := open(t)
	b := content(2*ChunkSize + 5)
	upload(t, s, 1, b)
	other := open(t)
	upload(t, other, 1, content(2*ChunkSize+4))
	damage := map[string]func(Chunk) Chunk{
		"another CRC":        func(c Chunk) Chunk { c.CRC++; return c },
		"another length":     func(c Chunk) Chunk { c.Length--; return c },
		"another number":     func(c Chunk) Chunk { c.Number++; return c },
		"an empty chunk":     func(c Chunk) Chunk { return Pack(Get, c.Number, nil) },
		"nothing":            func(c Chunk) Chunk { return Chunk{} },
		"a short chunk":      func(c Chunk) Chunk { return Pack(Get, c.Number, b[:10]) },
		"other bytes":        func(c Chunk) Chunk { return Pack(Get, c.Number, bytes.Repeat([]byte{1}, int(c.Length))) },
		"the end, too early": func(c Chunk) Chunk { return Chunk{Op: Stat, Data: manifest(1, b).Encode()} },
		"another snapshot":   func(c Chunk) Chunk { return Chunk{Op: Stat, Data: manifest(1, nil).Encode()} },
	}
	for name, change := range damage {
		for number := range uint32(3) {
			call := func(ctx context.Context, dump event.DumpID, c Chunk) (ChunkReply, error) {
				a, err := serve(s, time.Second)(ctx, dump, c)
				if c.Number == number && err == nil {
					a.Chunk = change(a.Chunk)
				}
				return a, err
			}
			if name == "another snapshot" && number == 0 {
				continue // a whole snapshot of no bytes: its position and dump are all there is to compare
			}
			_, _, err := download(t, call, 1)
			require.ErrorIs(t, err, event.ErrDamaged, "%s instead of chunk %d", name, number)
		}
	}
	mixed := func(ctx context.Context, dump event.DumpID, c Chunk) (ChunkReply, error) {
		if c.Number == 2 {
			return serve(other, time.Second)(ctx, dump, c)
		}
		return serve(s, time.Second)(ctx, dump, c)
	}
	_, _, err := download(t, mixed, 1)
	require.ErrorIs(t, err, event.ErrDamaged, "chunks of two snapshots")
}

// XD-14, the manifest: "snapshot of another position, size or checksum is not loaded".
func TestXD14ManifestOfAnotherSnapshotIsRefused(t *testing.T) {
	s := open(t)
	b := content(ChunkSize + 5)
	for name, change := range map[string]func(*Manifest){
		"another dump":         func(m *Manifest) { m.Dump++ },
		"another size":         func(m *Manifest) { m.Size++ },
		"another checksum":     func(m *Manifest) { m.SHA256 = manifest(1, nil).SHA256 },
		"too few chunks":       func(m *Manifest) { m.Size, m.Chunks = ChunkSize, 1 },
		"too many chunks":      func(m *Manifest) { m.Size, m.Chunks = 2*ChunkSize+1, 3 },
		"the most chunks":      func(m *Manifest) { m.Size, m.Chunks = math.MaxUint32*ChunkSize, math.MaxUint32 },
		"chunks without bytes": func(m *Manifest) { m.Chunks = math.MaxUint32 },
		"no position":          func(m *Manifest) { m.Pos = event.Position{} },
	} {
		require.NoError(t, s.Create(1))
		for _, c := range cutUp(b) {
			require.NoError(t, s.Put(1, c))
		}
		m := manifest(1, b)
		change(&m)
		_, err := s.Seal(1, m)
		require.ErrorIs(t, err, event.ErrDamaged, name)
		_, sealed := s.Manifest(1)
		require.False(t, sealed, name)
	}
	_, err := s.Seal(1, manifest(1, b))
	require.NoError(t, err, "the refused ones have changed nothing")
	elsewhere := manifest(1, b)
	elsewhere.Pos.Seq++
	_, err = s.Seal(1, elsewhere)
	require.ErrorIs(t, err, event.ErrDamaged, "sealed at one position, repeated at another")
	elsewhere = manifest(1, b)
	elsewhere.Pos.Chain++
	_, err = s.Seal(1, elsewhere)
	require.ErrorIs(t, err, event.ErrDamaged, "of another history")
	// a requester compares too
	call := func(ctx context.Context, dump event.DumpID, c Chunk) (ChunkReply, error) {
		return serve(s, time.Second)(ctx, 1, c)
	}
	_, _, err = download(t, call, 2)
	require.ErrorIs(t, err, event.ErrDamaged)
}

func TestUploadTellsTheFirstCause(t *testing.T) {
	mine := errors.New("the database went away")
	s := open(t)
	_, err := Upload(t.Context(), serve(s, 0), manifest(1, nil), func(context.Context, io.Writer) error { return mine },
		fast)
	require.ErrorIs(t, err, mine)

	refuse := func(context.Context, event.DumpID, Chunk) (ChunkReply, error) {
		return ChunkReply{State: event.Fail, Text: "disk full"}, nil
	}
	hiding := func(ctx context.Context, w io.Writer) error { // as a driver may that only looks at ctx
		for ctx.Err() == nil {
			if _, err := w.Write(make([]byte, ChunkSize)); err != nil {
				break
			}
		}
		return fmt.Errorf("copy: %w", ctx.Err())
	}
	_, err = Upload(t.Context(), refuse, manifest(1, nil), hiding, fast)
	require.ErrorIs(t, err, ErrGivenUp)
	require.ErrorContains(t, err, "disk full")

	_, err = Upload(t.Context(), refuse, manifest(1, nil), writing(nil), fast)
	require.ErrorIs(t, err, ErrGivenUp, "at the seal")
}

func TestUploadRefusesAForeignManifestAsAnswer(t *testing.T) {
	call := func(_ context.Context, _ event.DumpID, c Chunk) (ChunkReply, error) {
		return ChunkReply{State: event.Succ, Chunk: Chunk{Op: Stat, Data: manifest(1, []byte("other")).Encode()}}, nil
	}
	_, err := Upload(t.Context(), call, manifest(1, nil), writing([]byte("mine!")), fast)
	require.ErrorIs(t, err, event.ErrDamaged)
}

// A transfer leaves no goroutine behind: the bubble ends only when all have.
func TestTransfersEndWithTheirContextAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(ctx context.Context, _ event.DumpID, _ Chunk) (ChunkReply, error) {
			<-ctx.Done()
			return ChunkReply{}, ctx.Err()
		}
		why := errors.New("shutdown")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, why)
		defer cancel()
		_, err := Upload(ctx, silent, manifest(1, nil), writing(content(20*ChunkSize)), Options{})
		require.ErrorIs(t, err, why)

		d := NewDownload(t.Context(), silent, 1, Options{})
		read := make(chan error)
		time.AfterFunc(time.Minute, func() { d.cancel(why) })
		go func() { _, err := d.Read(make([]byte, 1)); read <- err }()
		require.ErrorIs(t, <-read, why)
		d.Close()
		_, err = d.Read(make([]byte, 1))
		require.Error(t, err)

		d = NewDownload(t.Context(), silent, 1, Options{})
		d.Close()
		_, err = d.Read(make([]byte, 1))
		require.ErrorContains(t, err, "closed")
	})
}

// SS-33: "Rate limit for snapshots works. Test: measured rate within 10 %". The bubble's clock judges, so the
// machine's speed does not.
func TestSS33RateLimitWithinTenPercent(t *testing.T) {
	for _, size := range []int{ChunkSize / 2, 3 * ChunkSize, 20 * ChunkSize} {
		synctest.Test(t, func(t *testing.T) {
			const bytesPerSecond = 1 << 20
			b := content(size)
			chunks := cutUp(b)
			up := func(_ context.Context, _ event.DumpID, c Chunk) (ChunkReply, error) {
				if c.Op == Seal {
					return ChunkReply{State: event.Succ, Chunk: Chunk{Op: Stat, Data: c.Data}}, nil
				}
				return ChunkReply{State: event.Succ}, nil
			}
			down := func(_ context.Context, _ event.DumpID, c Chunk) (ChunkReply, error) {
				if int(c.Number) < len(chunks) {
					got := chunks[c.Number]
					got.Op = Get
					return ChunkReply{State: event.Succ, Chunk: got}, nil
				}
				return ChunkReply{State: event.Succ, Chunk: Chunk{Op: Stat, Data: manifest(1, b).Encode()}}, nil
			}
			want := float64(size) / bytesPerSecond
			begin := time.Now()
			_, err := Upload(t.Context(), up, manifest(1, nil), writing(b), Options{Rate: bytesPerSecond})
			require.NoError(t, err)
			require.InEpsilon(t, want, time.Since(begin).Seconds(), 0.1)

			begin = time.Now()
			d := NewDownload(t.Context(), down, 1, Options{Rate: bytesPerSecond})
			defer d.Close()
			got, err := io.ReadAll(d)
			require.NoError(t, err)
			require.True(t, bytes.Equal(b, got))
			require.InEpsilon(t, want, time.Since(begin).Seconds(), 0.1)
		})
	}
}
