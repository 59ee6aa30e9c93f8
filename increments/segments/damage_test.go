package segments

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/event"
	"xmq/increments"
)

func damagedLog(t *testing.T, n int) (*disktest.Memory, []event.Encoded) {
	mem := disktest.NewMemory()
	l, err := Create(mem, small(), Options{MaxRecords: 100})
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(3, 0))
	for range n / 10 {
		ds := make([]event.Draft, 10)
		for i := range ds {
			ds[i] = event.Draft{Body: noise(rng, 200)}
		}
		put(t, l, ds...)
	}
	all := readAll(t, l)
	require.NoError(t, l.Close())
	return mem, all
}

// XQ-8: "Every read verifies a CRC; the chain checksum links each increment to the one before: flipped byte,
// swapped segment: alert, that segment is set aside, nothing wrong is delivered; damage near the end at start:
// refuses to start, names file and offset."
func TestXQ08DamageIsSetAside(t *testing.T) {
	mem, all := damagedLog(t, 1000)
	rng := rand.New(rand.NewPCG(8, 0))
	t.Log("seed 8")
	ways := map[string]func([]byte) []byte{
		"flip":     func(b []byte) []byte { b[rng.IntN(len(b))] ^= 1 << rng.IntN(8); return b },
		"truncate": func(b []byte) []byte { return b[:rng.IntN(len(b))] },
		"zero":     func(b []byte) []byte { at := rng.IntN(len(b)); clear(b[at:min(len(b), at+512)]); return b },
		"remove":   func([]byte) []byte { return nil },
	}
	names, err := mem.List()
	require.NoError(t, err)
	detected := map[string]int{}
	for i, name := range names {
		for _, fd := range mem.Files(name) {
			for way, damage := range ways {
				m := mem.Copy()
				m.Edit(name, fd, damage)
				var alerts []string
				l, err := Open(m, small(), Options{MaxRecords: 100, RingBytes: 1, Walk: 50,
					OnDamage: func(segment string, _ error) { alerts = append(alerts, segment) }})
				if err != nil {
					require.True(t, disk.IsDamage(err), "%s %s/%s: %v", way, name, fd, err)
					require.ErrorContains(t, err, name)
					detected["at start "+fd.Type.String()+" "+way]++
					continue
				}
				for from := uint64(1); from <= l.Head().Seq; {
					records, err := l.Read(from, 1000, 1<<20)
					if err != nil {
						require.ErrorIs(t, err, increments.ErrQuarantined)
						require.Equal(t, []string{name}, alerts)
						_, again := l.Read(from, 1, 1)
						require.ErrorIs(t, again, increments.ErrQuarantined)
						from = uint64(i)*100 + 101
						detected["on read "+fd.Type.String()+" "+way]++
						continue
					}
					for _, e := range records {
						require.Equal(t, string(all[e.Seq()-1]), string(e), "%s %s/%s", way, name, fd)
					}
					from += uint64(len(records))
				}
				if l.Head().Seq < uint64(len(all)) { // only the checkpoint can tell
					last := all[len(all)-1]
					require.True(t, disk.IsDamage(l.VerifyCheckpoint(event.Position{Log: l.ID(), Seq: last.Seq(),
						Chain: last.Chain()})))
					detected["by checkpoint "+fd.Type.String()+" "+way]++
				}
				r, err := l.Check(context.Background(), 0, nil)
				require.NoError(t, err)
				require.Len(t, r.Damaged, len(alerts))
				l.Close()
			}
		}
	}
	t.Logf("detected: %v", detected)
	require.GreaterOrEqual(t, len(detected), 4)
}

// XQ-8, the swapped segment: one of another log, and one that is missing.
func TestXQ08SwappedSegment(t *testing.T) {
	mine, _ := damagedLog(t, 400)
	other, _ := damagedLog(t, 400)
	names, err := mine.List()
	require.NoError(t, err)
	swap := mine.Copy()
	from, to := disk.Place(other), disk.Place(swap)
	copySegment(t, from, to, names[1])
	alerts := 0
	l, err := Open(swap, small(), Options{RingBytes: 1, Walk: 50, OnDamage: func(string, error) { alerts++ }})
	require.NoError(t, err)
	_, err = l.Read(150, 1, 1)
	require.ErrorIs(t, err, increments.ErrQuarantined)
	require.ErrorContains(t, err, "belongs to log")
	require.Equal(t, 1, alerts)
	_, err = l.Read(250, 1, 1)
	require.NoError(t, err)
	s, err := l.Stats()
	require.NoError(t, err)
	require.Equal(t, []string{names[1]}, s.Quarantined)
	require.NoError(t, l.Close())

	gone := mine.Copy()
	require.NoError(t, gone.Remove(names[1]))
	_, err = Open(gone, small(), Options{})
	require.True(t, disk.IsDamage(err), err)
	require.ErrorContains(t, err, "from 101 on")
	stray := mine.Copy()
	require.NoError(t, stray.Rename(names[0], "0001-0002"))
	_, err = Open(stray, small(), Options{})
	require.True(t, disk.IsDamage(err), err)
}

// A sealed segment that is damaged refuses the start that verifies it, unless it may be set aside, as by a reader:
// then whatever lies after it is served, and the log goes on, once and at every later start that may. Damage in the
// newest is always refused.
func TestAStartSetsADamagedSegmentAside(t *testing.T) {
	mine, all := damagedLog(t, 450)
	names, err := mine.List()
	require.NoError(t, err)
	flip := func(mem *disktest.Memory, name string) {
		for _, fd := range mem.Files(name) {
			mem.Edit(name, fd, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}
	}
	for n, name := range names {
		mem := mine.Copy()
		flip(mem, name)
		_, err := Open(mem.Copy(), small(), Options{MaxRecords: 100})
		require.True(t, disk.IsDamage(err), err)
		require.ErrorContains(t, err, name)
		require.Equal(t, n < len(names)-1, errors.Is(err, increments.ErrQuarantined))
		var aside []string
		for range 2 {
			aside = nil
			l, err := Open(mem, small(), Options{MaxRecords: 100, SetAside: true,
				OnDamage: func(segment string, _ error) { aside = append(aside, segment) }})
			if n == len(names)-1 {
				require.True(t, disk.IsDamage(err), err)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, []string{name}, aside)
			require.GreaterOrEqual(t, l.Head().Seq, uint64(len(all)))
			_, err = l.Read(uint64(n)*100+1, 1, 1)
			require.ErrorIs(t, err, increments.ErrQuarantined)
			_, err = l.Read(uint64(n)*100+101, 1, 1)
			require.NoError(t, err)
			put(t, l, drafts(10, "goes on")...)
			require.NoError(t, l.Close())
		}
	}
}

// copySegment replaces a segment of to by the one of from.
func copySegment(t *testing.T, from, to disk.Place, name string) {
	t.Helper()
	require.NoError(t, to.Remove(name))
	a, err := from.Open(name, false)
	require.NoError(t, err)
	b, err := to.Open(name, true)
	require.NoError(t, err)
	fds, err := a.List(storage.TypeAll)
	require.NoError(t, err)
	for _, fd := range fds {
		r, err := a.Open(fd)
		require.NoError(t, err)
		w, err := b.Create(fd)
		require.NoError(t, err)
		_, err = io.Copy(w, r)
		require.NoError(t, err)
	}
	meta, err := a.GetMeta()
	require.NoError(t, err)
	require.NoError(t, b.SetMeta(meta))
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
}

// The offline check finds what the online one finds, and changes nothing.
func TestCheckOffline(t *testing.T) {
	dir := t.TempDir()
	l, err := Create(disk.Dir(dir), small(), Options{MaxRecords: 20})
	require.NoError(t, err)
	put(t, l, drafts(70, "some text")...)
	put(t, l, keyed("p", "1"))
	_, err = CheckOffline(t.Context(), dir, event.Position{}, nil)
	require.Error(t, err, "in use")
	require.NoError(t, l.Close())
	reached := uint64(0)
	r, err := CheckOffline(t.Context(), dir, event.Position{}, func(seq uint64) { reached = seq })
	require.NoError(t, err)
	require.Empty(t, r.Damaged)
	require.Equal(t, uint64(71), r.Records)
	require.Equal(t, uint64(71), reached)
	tables, err := filepath.Glob(filepath.Join(dir, "*-00000000000000000040", "*"))
	require.NoError(t, err)
	for _, path := range tables {
		if b, err := os.ReadFile(path); strings.HasSuffix(path, ".ldb") || strings.HasSuffix(path, ".log") && len(b) > 20 {
			require.NoError(t, err)
			b[15] ^= 4
			require.NoError(t, os.WriteFile(path, b, 0o644))
		}
	}
	r, err = CheckOffline(t.Context(), dir, event.Position{}, nil)
	require.NoError(t, err)
	require.Len(t, r.Damaged, 1)
	require.Equal(t, "00000000000000000021-00000000000000000040", r.Damaged[0].Segment)
}

// A check lists everything that is wrong: it stops neither at what is damaged, nor at what is missing, nor at a
// newest segment that does not open; and it knows what was acknowledged.
func TestCheckOfflineListsEverything(t *testing.T) {
	dir := t.TempDir()
	l, err := Create(disk.Dir(dir), small(), Options{MaxRecords: 20})
	require.NoError(t, err)
	put(t, l, drafts(130, "some text")...)
	head := l.Head()
	require.NoError(t, l.Close())
	r, err := CheckOffline(t.Context(), dir, head, nil)
	require.NoError(t, err)
	require.Empty(t, r.Damaged)
	require.NoError(t, r.Missing)

	later := head
	later.Seq += 2
	r, err = CheckOffline(t.Context(), dir, later, nil)
	require.NoError(t, err)
	require.ErrorContains(t, r.Missing, "acknowledged increments are missing")
	other := head
	other.Chain++
	r, err = CheckOffline(t.Context(), dir, other, nil)
	require.NoError(t, err)
	require.ErrorContains(t, r.Missing, "chain")

	flip := func(first string) {
		files, err := filepath.Glob(filepath.Join(dir, "*"+first+"-*", "*"))
		require.NoError(t, err)
		for _, path := range files {
			if b, err := os.ReadFile(path); strings.HasSuffix(path, ".ldb") || strings.HasSuffix(path, ".log") && len(b) > 20 {
				require.NoError(t, err)
				b[15] ^= 4
				require.NoError(t, os.WriteFile(path, b, 0o600))
			}
		}
	}
	flip("00021")
	flip("00101")
	gone, err := filepath.Glob(filepath.Join(dir, "*00061-*"))
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(gone[0]))
	flip("00121")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "stray"), 0o700))
	r, err = CheckOffline(t.Context(), dir, head, nil)
	require.NoError(t, err)
	var found []string
	for _, f := range r.Damaged {
		found = append(found, strings.TrimLeft(f.Segment, "0")[:3])
		require.Error(t, f.Err)
		require.NotContains(t, f.Err.Error(), "a copy is kept")
		switch name := found[len(found)-1]; name {
		case "61-":
			require.Contains(t, f.Help, "put their directories back")
		case "121":
			require.Contains(t, f.Help, "put this directory back")
		case "str":
			require.Contains(t, f.Help, "not the broker's")
		default:
			require.Empty(t, f.Help, name)
		}
	}
	require.ElementsMatch(t, []string{"21-", "101", "61-", "121", "str"}, found)
	require.EqualValues(t, 60, r.Records, "1 to 20, 41 to 60 and 81 to 100 are sound")
	require.NoError(t, r.Missing, "nothing is known of the end")
}
