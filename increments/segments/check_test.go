package segments

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/increments"
)

// A check of an open log reads the files, whatever readers and the writer hold of them in memory: a byte that has
// changed in any file of any segment is found, and so is a directory that is gone.
func TestACheckReadsTheDisk(t *testing.T) {
	flipped := func(path string) {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		b[len(b)/3] ^= 4
		require.NoError(t, os.WriteFile(path, b, 0o600))
	}
	for i, segment := range []string{"001-", "101-", "201-"} {
		for _, way := range []string{".log", ".ldb", "MANIFEST", "all"} {
			dir := t.TempDir()
			var aside, unsound []string
			l, err := Create(disk.Dir(dir), disk.NewStorage(disk.Options{WriteBuffer: 4 << 10}), Options{MaxRecords: 100,
				RingBytes: 1,
				OnDamage:  func(segment string, _ error) { aside = append(aside, segment) },
				OnUnsound: func(segment string, _ error) { unsound = append(unsound, segment) }})
			require.NoError(t, err)
			for range 25 {
				put(t, l, drafts(10, strings.Repeat("text ", 10))...)
			}
			readAll(t, l)
			requireSound(t, l)
			require.EqualValues(t, 0, len(aside)+len(unsound))

			found, err := filepath.Glob(filepath.Join(dir, "*"+segment+"*"))
			require.NoError(t, err)
			require.Len(t, found, 1)
			files, err := os.ReadDir(found[0])
			require.NoError(t, err)
			damaged := false
			for _, f := range files {
				if info, err := f.Info(); err == nil && strings.Contains(f.Name(), way) && info.Size() > 60 {
					flipped(filepath.Join(found[0], f.Name()))
					damaged = true
				}
			}
			if way == "all" {
				require.NoError(t, os.RemoveAll(found[0]))
				damaged = true
			}
			if !damaged {
				require.NoError(t, l.Close())
				continue
			}
			r, err := l.Check(context.Background(), 0, nil)
			require.NoError(t, err)
			require.Empty(t, r.Unreadable, "%s %s", segment, way)
			require.Len(t, r.Damaged, 1, "%s %s", segment, way)
			require.Contains(t, r.Damaged[0].Segment, segment)
			if newest := i == 2; newest {
				require.Empty(t, aside)
				require.Equal(t, []string{r.Damaged[0].Segment}, unsound)
				put(t, l, drafts(1, "goes on")...)
				if way == ".log" { // whose content is in memory
					_, err := l.Read(245, 10, 1<<20)
					require.NoError(t, err)
				}
			} else {
				require.Equal(t, []string{r.Damaged[0].Segment}, aside)
				require.Empty(t, unsound)
				_, err := l.Read(uint64(i)*100+5, 10, 1<<20)
				require.ErrorIs(t, err, increments.ErrQuarantined)
			}
			_ = l.Close()
		}
	}
}

// A check beside the writer finds nothing wrong, however often journals, tables and segments change meanwhile.
func TestACheckBesideTheWriter(t *testing.T) {
	for _, place := range []disk.Place{disk.Dir(t.TempDir()), disktest.NewMemory()} {
		storage := disk.NewStorage(disk.Options{WriteBuffer: 8 << 10, TableSize: 8 << 10})
		l, err := Create(place, storage, Options{MaxRecords: 2000, RingBytes: 1, OpenSegments: 1,
			OnDamage:  func(segment string, err error) { t.Error(segment, err) },
			OnUnsound: func(segment string, err error) { t.Error(segment, err) }})
		require.NoError(t, err)
		var writing sync.WaitGroup
		done := make(chan struct{})
		writing.Go(func() {
			defer close(done)
			for i := range 500 {
				ds := drafts(10, strings.Repeat("text ", 20))
				ds[3] = keyed("p", fmt.Sprint(i))
				if i == 250 {
					l.Resize(1500)
				}
				put(t, l, ds...)
			}
		})
		for checks := 0; ; checks++ {
			r, err := l.Check(context.Background(), 0, nil)
			require.NoError(t, err)
			require.Empty(t, r.Damaged)
			require.Empty(t, r.Unreadable)
			require.Equal(t, r.Last, r.Records)
			select {
			case <-done:
				t.Logf("%d checks", checks)
			default:
				continue
			}
			break
		}
		writing.Wait()
		requireSound(t, l)
		require.NoError(t, l.Close())
	}
}

// What a check finds does not depend on what the writer writes meanwhile, and it holds no removed file back for longer.
func TestACheckKeepsNoFiles(t *testing.T) {
	dir := t.TempDir()
	l, err := Create(disk.Dir(dir), disk.NewStorage(disk.Options{WriteBuffer: 8 << 10, TableSize: 8 << 10}),
		Options{MaxRecords: 5000})
	require.NoError(t, err)
	put(t, l, drafts(100, "text")...)
	count := func(end string) int {
		files, err := filepath.Glob(filepath.Join(dir, "*", "*"+end))
		require.NoError(t, err)
		return len(files)
	}
	var during int
	_, err = l.Check(context.Background(), 0, func(uint64) {
		for range 100 {
			put(t, l, drafts(10, string(bytes.Repeat([]byte("x"), 200)))...)
		}
		during = count(".log")
	})
	require.NoError(t, err)
	require.Greater(t, during, 3)
	require.LessOrEqual(t, count(".log"), 2)
	require.NoError(t, l.Close())
}
