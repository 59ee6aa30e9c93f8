package segments

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/event"
	"xmq/increments"
)

// textKey is a draft whose key is text, also when it looks like a number.
func textKey(producer, key string) event.Draft {
	d := keyed(producer, key)
	d.TextKey = true
	return d
}

func appendAll(t testing.TB, l *Log, ds ...event.Draft) []event.Outcome {
	t.Helper()
	out, err := l.Append(ds)
	require.NoError(t, err)
	return out
}

// indexAll copies the keys of all sealed segments, as Index does in the background.
func indexAll(t testing.TB, l *Log) {
	t.Helper()
	require.NoError(t, l.indexBelow(^uint64(0)))
	require.Nil(t, l.unindexed())
}

func generations(t testing.TB, place disk.Place) []string {
	t.Helper()
	names, err := place.List()
	require.NoError(t, err)
	_, names = split(names)
	return names
}

// Keys are known for exactly the window, whatever retention frees, across segments and restarts, and however far the
// index has come: a random run against a map.
func TestKeysAreKnownForTheWindowWhateverIsFreed(t *testing.T) {
	for _, window := range []uint64{1, 7, 60, 500} {
		t.Run(fmt.Sprint("window ", window), func(t *testing.T) {
			place, rng := disktest.NewMemory(), rand.New(rand.NewPCG(window, 1))
			o := Options{MaxRecords: 20, Window: window, RingBytes: 1}
			l, err := Create(place, small(), o)
			require.NoError(t, err)
			last, highest := map[string]uint64{}, map[string]uint64{}
			for range 3000 {
				producer := []string{"", "p", "q"}[rng.IntN(3)]
				d := textKey(producer, fmt.Sprint(rng.IntN(400)))
				if rng.IntN(2) == 0 {
					d = keyed(producer, fmt.Sprint(rng.IntN(30)+int(highest[producer])-20*min(1, int(highest[producer])/20)))
				}
				n, counts := d.Number()
				id := fmt.Sprint(producer, "/", d.Key, "/", counts)
				head := l.Head().Seq
				seq, used := last[id]
				known := used && head-seq < window
				o1 := appendAll(t, l, d)[0]
				switch {
				case counts && n > highest[producer] && !known || counts && highest[producer] == 0 && !known, !counts && !known:
					require.Equal(t, event.Outcome{Seq: head + 1}, o1, id)
					last[id] = head + 1
					if counts {
						highest[producer] = n
					}
				case known:
					require.Equal(t, event.Outcome{Seq: seq, Duplicate: true}, o1, id)
				default:
					require.ErrorIs(t, o1.Err, increments.ErrTooOld, id)
				}
				switch rng.IntN(60) {
				case 0:
					_, err := l.Trim(head - min(head, uint64(rng.IntN(200))))
					require.NoError(t, err)
				case 1:
					indexAll(t, l)
				case 2:
					l = reopen(t, l, o)
				case 3:
					put(t, l, drafts(rng.IntN(30)+1, "no keys")...)
				}
			}
			requireSound(t, l)
			require.LessOrEqual(t, len(generations(t, place)), 7, "old generations go")
			require.NoError(t, l.Close())
		})
	}
}

// The index goes on by itself as segments are sealed, and a key that is in it is found without opening a segment.
func TestIndexFollowsTheLog(t *testing.T) {
	l, err := Create(disktest.NewMemory(), small(), Options{MaxRecords: 10, OpenSegments: 1})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.Index(ctx); err != nil {
			t.Error(err)
		}
	})
	for n := range uint64(300) {
		for appendAll(t, l, textKey("p", fmt.Sprint(n)))[0].Err != nil { // the index is far after
		}
	}
	require.Eventually(t, func() bool { return l.index.through.Load() == 290 }, 2*time.Minute, time.Millisecond)
	for n := range uint64(300) {
		require.Equal(t, event.Outcome{Seq: n + 1, Duplicate: true}, appendAll(t, l, textKey("p", fmt.Sprint(n)))[0])
	}
	cancel()
	running.Wait()
	require.NoError(t, l.Close())
	_, err = l.Trim(100)
	require.ErrorIs(t, err, increments.ErrClosed)
	require.ErrorIs(t, l.Index(context.Background()), increments.ErrClosed)
}

// An index that is missing, damaged, of another log or of another time is made again from the segments that are
// there, while the log serves; and it is told which keys of the window are lost with freed segments.
func TestIndexIsMadeAgain(t *testing.T) {
	build := func(t *testing.T, trim uint64) *disktest.Memory {
		place := disktest.NewMemory()
		l, err := Create(place, small(), Options{MaxRecords: 10, Window: 80})
		require.NoError(t, err)
		for n := range uint64(95) {
			appendAll(t, l, textKey("p", fmt.Sprint(n+1)))
		}
		indexAll(t, l)
		_, err = l.Trim(trim)
		require.NoError(t, err)
		require.NoError(t, l.Close())
		require.Greater(t, len(generations(t, place)), 2)
		return place
	}
	spoil := func(place *disktest.Memory, change func([]byte) []byte, types ...storage.FileType) {
		for _, name := range generations(t, place) {
			for _, fd := range place.Files(name) {
				if slices.Contains(types, fd.Type) {
					place.Edit(name, fd, change)
				}
			}
		}
	}
	zero := func(b []byte) []byte { clear(b); return b }
	for name, change := range map[string]func(place *disktest.Memory){
		"removed": func(place *disktest.Memory) {
			for _, name := range generations(t, place) {
				require.NoError(t, place.Remove(name))
			}
		},
		"oldest removed": func(place *disktest.Memory) { require.NoError(t, place.Remove(generations(t, place)[0])) },
		"one removed":    func(place *disktest.Memory) { require.NoError(t, place.Remove(generations(t, place)[1])) },
		"strange name": func(place *disktest.Memory) {
			require.NoError(t, place.Rename(generations(t, place)[1], "keys-1"))
		},
		"manifests": func(place *disktest.Memory) { spoil(place, zero, storage.TypeManifest) },
		"data":      func(place *disktest.Memory) { spoil(place, zero, storage.TypeTable, storage.TypeJournal) },
	} {
		for _, trim := range []uint64{0, 61} {
			t.Run(fmt.Sprintf("%s, trimmed below %d", name, trim), func(t *testing.T) {
				place := build(t, trim)
				change(place)
				type lost struct{ from, to uint64 }
				var told []lost
				l, err := Open(place, small(), Options{MaxRecords: 10, Window: 80,
					OnForget: func(from, to uint64, why error) { require.Error(t, why); told = append(told, lost{from, to}) }})
				require.NoError(t, err)
				for range 2 { // before it is made, and after
					for n := uint64(95); n >= 61; n-- {
						o := appendAll(t, l, textKey("p", fmt.Sprint(n)))[0]
						require.Equal(t, event.Outcome{Seq: n, Duplicate: true}, o)
					}
					indexAll(t, l)
				}
				for n := uint64(60); n >= 16; n-- {
					o := appendAll(t, l, textKey("p", fmt.Sprint(n)))[0]
					require.NoError(t, o.Err)
					require.Equal(t, trim == 0, o.Duplicate, "%d", n)
				}
				if trim == 0 {
					require.Empty(t, told)
				} else {
					require.Equal(t, []lost{{16, 60}}, told)
				}
				requireSound(t, l)
				l = reopen(t, l, l.options)
				require.Equal(t, event.Outcome{Seq: 90, Duplicate: true}, appendAll(t, l, textKey("p", "90"))[0])
				require.NoError(t, l.Close())
			})
		}
	}
}

// Parts of a broken index that cannot be removed now are removed later, and only then is it made again.
func TestBrokenIndexIsRemovedLater(t *testing.T) {
	mem := disktest.NewMemory()
	failing := 2
	l, err := Create(disktest.Hooked(mem, func(op disktest.Op) error {
		if op.Verb == disktest.RemoveDB && strings.Contains(op.Database, generationPrefix) && failing > 0 {
			failing--
			return syscall.EIO
		}
		return nil
	}), small(), Options{MaxRecords: 10, Window: 40})
	require.NoError(t, err)
	for n := range 45 {
		put(t, l, textKey("p", fmt.Sprint(n)))
		if n == 25 {
			indexAll(t, l)
		}
	}
	require.Len(t, generations(t, mem), 2)
	l.index.breakDown(&disk.Damage{What: "a test says so"})
	for range 2 {
		require.ErrorIs(t, l.indexBelow(^uint64(0)), syscall.EIO)
		require.Equal(t, event.Outcome{Seq: 20, Duplicate: true}, appendAll(t, l, textKey("p", "19"))[0])
	}
	indexAll(t, l)
	require.Equal(t, event.Outcome{Seq: 20, Duplicate: true}, appendAll(t, l, textKey("p", "19"))[0])
	l = reopen(t, l, l.options)
	require.Equal(t, event.Outcome{Seq: 20, Duplicate: true}, appendAll(t, l, textKey("p", "19"))[0])
	require.NoError(t, l.Close())
}

// An index that breaks, or is begun anew, while a key is looked up in the segments after it answers nothing: the key
// is looked up again.
func TestIndexThatBreaksDuringALookupForgetsNoKey(t *testing.T) {
	for _, anew := range []bool{false, true} {
		var l *Log
		breaks := false
		o := Options{MaxRecords: 10, OpenSegments: 1}
		l, err := Create(disktest.HookedReads(disktest.NewMemory(), func(op disktest.Op) error {
			if breaks && op.Database == (span{21, 30}).String() {
				breaks = false
				l.index.breakDown(&disk.Damage{What: "a test says so"})
				if anew {
					return l.clearBroken()
				}
			}
			return nil
		}), small(), o)
		require.NoError(t, err)
		for n := range 45 {
			put(t, l, textKey("p", fmt.Sprint(n+1)))
			if n == 25 {
				indexAll(t, l)
			}
		}
		l = reopen(t, l, o)
		require.EqualValues(t, 20, l.index.through.Load())
		breaks = true
		require.Equal(t, event.Outcome{Seq: 5, Duplicate: true}, appendAll(t, l, textKey("p", "5"))[0])
		require.False(t, breaks)
		require.NoError(t, l.Close())
	}
}

// A part of the index that is too old and could not be removed is none that is missing at the next start.
func TestOldPartOfTheIndexThatIsLeftBreaksNothing(t *testing.T) {
	var failing string
	o := Options{MaxRecords: 10, Window: 40,
		OnForget: func(from, to uint64, why error) { t.Errorf("keys %d to %d: %v", from, to, why) }}
	mem := disktest.NewMemory()
	l, err := Create(disktest.Hooked(mem, func(op disktest.Op) error {
		if op.Verb == disktest.RenameDB && op.Database == failing {
			return syscall.EMFILE
		}
		return nil
	}), small(), o)
	require.NoError(t, err)
	failing = generationName(11)
	for n := range uint64(120) {
		put(t, l, textKey("p", fmt.Sprint(n+1)))
		if n%10 == 5 {
			for l.unindexed() != nil {
				_ = l.indexBelow(^uint64(0))
			}
		}
	}
	require.Contains(t, generations(t, mem), failing)
	require.NotContains(t, generations(t, mem), generationName(21))
	_, err = l.Trim(101)
	require.NoError(t, err)
	left := failing
	failing = ""
	l = reopen(t, l, o)
	require.NotContains(t, generations(t, mem), left)
	require.Equal(t, event.Outcome{Seq: 90, Duplicate: true}, appendAll(t, l, textKey("p", "90"))[0],
		"it is known although its record was freed")
	require.NoError(t, l.Close())
}

// A file where a database of the log belongs is damage: no later try finds another. In the place of a part of the
// index it is removed.
func TestFileInThePlaceOfADatabaseIsDamage(t *testing.T) {
	dir := t.TempDir()
	l, err := Create(disk.Dir(dir), small(), Options{MaxRecords: 10})
	require.NoError(t, err)
	for n := range uint64(45) {
		put(t, l, textKey("p", fmt.Sprint(n+1)))
	}
	indexAll(t, l)
	sealed := l.set.segments()[1].name
	require.NoError(t, l.Close())
	for _, name := range []string{generationName(1), sealed} {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, name)))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
		l, err = Open(disk.Dir(dir), small(), Options{MaxRecords: 10})
		if name == sealed {
			require.True(t, disk.IsDamage(err), "%v", err)
			return
		}
		require.NoError(t, err)
		indexAll(t, l)
		require.Equal(t, event.Outcome{Seq: 15, Duplicate: true}, appendAll(t, l, textKey("p", "15"))[0])
		require.NoError(t, l.Close())
	}
}

// The first revision wrote no index, and no digest beside a key: its keys are known, decimal ones of named producers
// are numbers, and bodies are compared as long as the record is there.
func TestKeysOfTheFirstRevision(t *testing.T) {
	place := disktest.NewMemory()
	l, err := Create(place, small(), Options{MaxRecords: 10})
	require.NoError(t, err)
	for n := range 35 {
		d := keyed([]string{"p", ""}[n%2], fmt.Sprint(n))
		seq := appendAll(t, l, d)[0].Seq
		var b disk.Batch
		b.Put(idemKey(nil, &d.Headers), number(seq))
		require.NoError(t, l.newest.db.Write(&b))
	}
	check := func(body string, want func(event.Outcome, uint64)) {
		for n := range uint64(35) {
			d := keyed([]string{"p", ""}[n%2], fmt.Sprint(n))
			d.Body = append(d.Body, body...)
			want(appendAll(t, l, d)[0], n+1)
			d.TextKey = d.Producer != "" // as HTTP writers of before send it now
			want(appendAll(t, l, d)[0], n+1)
		}
	}
	known := func(o event.Outcome, seq uint64) {
		require.Equal(t, event.Outcome{Seq: seq, Duplicate: true}, o)
	}
	for range 2 {
		check("", known)
		check("other", func(o event.Outcome, seq uint64) { require.ErrorIs(t, o.Err, increments.ErrKeyReused) })
		indexAll(t, l)
		requireSound(t, l)
		l = reopen(t, l, Options{MaxRecords: 10, RingBytes: 1})
	}
	_, err = l.Trim(31)
	require.NoError(t, err)
	check("", known)
	check("other", func(o event.Outcome, seq uint64) {
		if seq <= 30 {
			known(o, seq) // nobody can tell any more
		} else {
			require.ErrorIs(t, o.Err, increments.ErrKeyReused)
		}
	})
	require.Equal(t, event.Outcome{Seq: 36}, appendAll(t, l, textKey("p", "900"))[0])
	require.Equal(t, event.Outcome{Seq: 37}, appendAll(t, l, keyed("p", "900"))[0], "text and number are two keys")
	require.NoError(t, l.Close())
}

// A key stands for one body and one topic: under way, in the segment, in the index.
func TestKeyReusedIsRefused(t *testing.T) {
	l, err := Create(disktest.NewMemory(), small(), Options{MaxRecords: 10})
	require.NoError(t, err)
	a, b := keyed("p", "free"), keyed("p", "7")
	a.Topic, b.Topic = "shop", "shop"
	check := func(when string) {
		for i, d := range []event.Draft{a, b} {
			body, topic := d, d
			body.Body, topic.Topic = append([]byte("x"), d.Body...), "sho"
			topic.Body = append([]byte("p"), d.Body...) // topic and body are not run together
			out := appendAll(t, l, d, body, topic)
			require.Equal(t, event.Outcome{Seq: uint64(i + 1), Duplicate: true}, out[0], when)
			require.ErrorIs(t, out[1].Err, increments.ErrKeyReused, when)
			require.ErrorIs(t, out[2].Err, increments.ErrKeyReused, when)
		}
	}
	changed := a
	changed.Body = []byte("other")
	out := appendAll(t, l, a, b, changed)
	require.ErrorIs(t, out[2].Err, increments.ErrKeyReused, "in the group itself")
	require.ErrorContains(t, out[2].Err, "increment 1")
	check("in the newest segment")
	put(t, l, drafts(20, "more")...)
	check("in a sealed one")
	_, err = l.Trim(20)
	require.NoError(t, err)
	check("in the index")
	require.NoError(t, l.Close())
}

// A segment that is set aside refuses nobody: its keys count as freed, unless they are in the index.
func TestSegmentSetAsideRefusesNobody(t *testing.T) {
	for _, indexed := range []bool{false, true} {
		t.Run(fmt.Sprint("indexed ", indexed), func(t *testing.T) {
			place := disktest.NewMemory()
			l, err := Create(place, small(), Options{MaxRecords: 10})
			require.NoError(t, err)
			for n := range 25 {
				appendAll(t, l, textKey("p", fmt.Sprint(n)))
			}
			if indexed {
				indexAll(t, l)
			}
			require.NoError(t, l.Close())
			for _, fd := range place.Files("00000000000000000011-00000000000000000020") {
				if fd.Type == storage.TypeTable || fd.Type == storage.TypeJournal {
					place.Edit("00000000000000000011-00000000000000000020", fd, func(b []byte) []byte { clear(b); return b })
				}
			}
			l, err = Open(place, small(), Options{MaxRecords: 10, Walk: 1, RingBytes: 1})
			require.NoError(t, err)
			for n := range uint64(25) {
				o := appendAll(t, l, textKey("p", fmt.Sprint(n)))[0]
				require.NoError(t, o.Err, n)
				require.Equal(t, indexed || n < 10 || n >= 20, o.Duplicate, n)
			}
			indexAll(t, l)
			_, err = l.Trim(^uint64(0))
			require.NoError(t, err)
			require.True(t, appendAll(t, l, textKey("p", "3"))[0].Duplicate)
			require.NoError(t, l.Close())
		})
	}
}

// Trouble that may pass refuses the drafts whose keys it hides, for now, and stores nothing; others pass.
func TestKeyThatCannotBeLookedUpIsRefusedForNow(t *testing.T) {
	var dry atomic.Bool
	place := disktest.HookedReads(disktest.NewMemory(), func(op disktest.Op) error {
		if dry.Load() && op.Verb == disktest.Open && op.Database == "00000000000000000001-00000000000000000010" {
			return syscall.EMFILE
		}
		return nil
	})
	o := Options{MaxRecords: 10, RingBytes: 1, Walk: 1}
	l, err := Create(place, small(), o)
	require.NoError(t, err)
	for n := range 15 {
		appendAll(t, l, textKey("p", fmt.Sprint(n)))
	}
	l = reopen(t, l, o)
	dry.Store(true)
	out := appendAll(t, l, textKey("p", "3"), drafts(1, "no key")[0], textKey("p", "14"))
	for _, e := range []error{increments.ErrInvalid, increments.ErrTooOld, increments.ErrKeyReused, increments.ErrTooLarge,
		increments.ErrFull} {
		require.NotErrorIs(t, out[0].Err, e)
	}
	require.ErrorIs(t, out[0].Err, syscall.EMFILE)
	require.Equal(t, []event.Outcome{{Seq: 16}, {Seq: 15, Duplicate: true}}, out[1:])
	dry.Store(false)
	require.Equal(t, event.Outcome{Seq: 4, Duplicate: true}, appendAll(t, l, textKey("p", "3"))[0])
	require.NoError(t, l.Close())
}

// Until the index of an old log with many segments is made, a key that has to be looked up in all of them is refused
// for now: nobody waits for it.
func TestOldLogWithManySegments(t *testing.T) {
	l, err := Create(disktest.NewMemory(), small(), Options{MaxRecords: 10})
	require.NoError(t, err)
	for n := range 300 {
		put(t, l, keyed("p", fmt.Sprint(n)))
	}
	out := appendAll(t, l, textKey("p", "x"), keyed("p", "3"), keyed("p", "298"), keyed("p", "300"),
		drafts(1, "no key")[0])
	require.ErrorIs(t, out[0].Err, errNotIndexed)
	require.ErrorIs(t, out[1].Err, errNotIndexed)
	require.Equal(t, []event.Outcome{{Seq: 299, Duplicate: true}, {Seq: 301}, {Seq: 302}}, out[2:])
	indexAll(t, l)
	require.Equal(t, []event.Outcome{{Seq: 303}, {Seq: 4, Duplicate: true}},
		appendAll(t, l, textKey("p", "x"), keyed("p", "3")))
	require.NoError(t, l.Close())
}

// A key that was forgotten may be used again within its segment: the check knows.
func TestCheckKnowsForgottenKeys(t *testing.T) {
	l, err := Create(disktest.NewMemory(), small(), Options{MaxRecords: 50, Window: 5})
	require.NoError(t, err)
	for range 3 {
		put(t, l, textKey("p", "again"), textKey("p", "too"))
		put(t, l, drafts(18, "no keys")...)
	}
	requireSound(t, l)
	var b disk.Batch
	b.Delete(idemKey(nil, &event.Headers{Producer: "p", Key: "too"}))
	g := l.set.segments()[0]
	require.NoError(t, g.shut(false))
	db, err := l.storage.Open(l.set.place, g.name, disk.Newest)
	require.NoError(t, err)
	require.NoError(t, db.Write(&b))
	require.NoError(t, db.Close())
	r, err := l.Check(context.Background(), 0, nil)
	require.NoError(t, err)
	require.Len(t, r.Damaged, 1)
	require.ErrorContains(t, r.Damaged[0].Err, "idempotency key of record 2 is missing")
	require.NoError(t, l.Close())
}

// The offline check passes the index over and changes nothing.
func TestOfflineCheckPassesTheIndexOver(t *testing.T) {
	dir := t.TempDir()
	l, err := Create(disk.Dir(dir), small(), Options{MaxRecords: 10})
	require.NoError(t, err)
	put(t, l, drafts(34, "x")...)
	put(t, l, keyed("p", "1"))
	put(t, l, drafts(10, "x")...)
	indexAll(t, l)
	require.NoError(t, l.Close())
	require.True(t, slices.ContainsFunc(generations(t, disk.Dir(dir)),
		func(n string) bool { return strings.HasPrefix(n, "keys-") }))
	r, err := CheckOffline(context.Background(), dir, event.Position{}, nil)
	require.NoError(t, err)
	require.EqualValues(t, 45, r.Records)
	require.Empty(t, r.Damaged)
}
