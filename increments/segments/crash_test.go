package segments

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/event"
	"xmq/increments"
	"xmq/integration/shorttest"
)

// numbered are the drafts of producer p in the order of their numbers, from 1: more than the scenario appends.
var numbered = sync.OnceValue(func() []event.Draft {
	ds := make([]event.Draft, 40*12+1)
	for i := range ds {
		ds[i] = keyed("p", fmt.Sprint(i+1))
		ds[i].Body = append(ds[i].Body, noise(rand.New(rand.NewPCG(uint64(i), 0)), 300)...)
	}
	return ds
})

// scenario appends keyed groups over several segments and trims after them, while segments become smaller and larger;
// acked follows the answers.
func scenario(l *Log, rng *rand.Rand, acked *atomic.Uint64) error {
	rest := numbered()
	for group := range 40 {
		switch group {
		case 6, 15, 24, 33: // in the middle of a segment
			l.Resize(uint64(15 + rng.IntN(20))) // not so small that keys wait for the index
		case 10, 19, 28:
			l.Resize(crashOptions().MaxRecords)
		}
		n := 1 + rng.IntN(12)
		var ds []event.Draft
		ds, rest = rest[:n], rest[n:]
		out, err := l.Append(ds)
		if err != nil {
			return err
		}
		acked.Store(out[len(out)-1].Seq)
		if group%10 == 9 {
			if _, err := l.Trim(out[0].Seq - min(out[0].Seq, 60)); err != nil {
				return err
			}
		}
	}
	return nil
}

// survived opens what a crash left and checks that nothing acknowledged is lost, nothing is overwritten,
// there is no hole, and that a producer that sends again gets the first sequence, within the window whatever was freed.
func survived(place disk.Place, acked uint64) error {
	o := crashOptions()
	o.MaxRecords = 1 + acked%70 // smaller than what lies there, or larger
	l, err := Open(place, small(), o)
	if err != nil {
		return err
	}
	head := l.Head().Seq
	if head < acked {
		return fmt.Errorf("the log ends at %d, acknowledged is %d", head, acked)
	}
	at, err := l.Position(l.First() - 1)
	if err != nil {
		return err
	}
	for at.Seq < head {
		records, err := l.Read(at.Seq+1, 1000, 1<<20)
		if err != nil {
			return err
		}
		for _, e := range records {
			r, err := e.Decode()
			if err != nil || !e.Follows(at) || r.Key != fmt.Sprint(e.Seq()) {
				return fmt.Errorf("record %d has key %s: %w", e.Seq(), r.Key, err)
			}
			at.Seq, at.Chain = e.Seq(), e.Chain()
		}
	}
	if head == 0 {
		return l.Close()
	}
	var seqs []uint64
	for seq := head; seq > 0 && len(seqs) < 20; seq -= min(seq, 1+uint64(len(seqs))) { // more of them near the end
		seqs = append(seqs, seq)
	}
	var again []event.Draft
	for _, seq := range append(seqs, head+1) {
		again = append(again, numbered()[seq-1])
	}
	out, err := l.Append(again)
	if err != nil {
		return err
	}
	for i, seq := range seqs {
		want := event.Outcome{Seq: seq, Duplicate: true}
		if remembered := head-seq < crashOptions().Window; remembered && out[i] != want || !remembered &&
			!errors.Is(out[i].Err, increments.ErrTooOld) {
			return fmt.Errorf("number %d sent again at %d: %+v", seq, head, out[i])
		}
	}
	if next := out[len(seqs)]; next.Seq != head+1 {
		return fmt.Errorf("the next number: %+v", next)
	}
	return l.Close()
}

func crashOptions() Options { return Options{MaxRecords: 50, OpenSegments: 2, Window: 130} }

// stride is of how many places one is looked at: of each, but under the race detector, which needs no more to see a
// race.
func stride() int {
	if shorttest.Less() {
		return 7
	}
	return 1
}

// crashEverywhere runs the scenario once and cuts the power before each of its disk operations.
func crashEverywhere(t *testing.T, seed uint64, cut func(*disktest.Memory, *rand.Rand) *disktest.Memory) {
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	mem := disktest.NewMemory()
	var acked atomic.Uint64
	var one sync.Mutex
	armed, cuts, low := false, 0, map[disktest.Verb]int{}
	place := disktest.Hooked(mem, func(op disktest.Op) error {
		one.Lock()
		defer one.Unlock()
		if armed && op.Verb != disktest.Close {
			n := acked.Load()
			if cuts%stride() != 0 {
				cuts++
				low[op.Verb]++
				return nil
			}
			if err := survived(cut(mem, rand.New(rand.NewPCG(seed, uint64(cuts)))), n); err != nil {
				return fmt.Errorf("power cut before %s (cut %d): %w", op, cuts, err)
			}
			cuts++
			low[op.Verb]++
		}
		return nil
	})
	l, err := Create(place, small(), crashOptions())
	require.NoError(t, err)
	one.Lock()
	armed = true
	one.Unlock()
	require.NoError(t, scenario(l, rng, &acked))
	require.NoError(t, l.Close())
	one.Lock()
	defer one.Unlock()
	t.Logf("%d power cuts: %v", cuts, low)
	require.Greater(t, cuts, 200)
	for _, verb := range []disktest.Verb{disktest.MakeDB, disktest.RenameDB, disktest.RemoveDB, disktest.SyncDir} {
		require.NotZero(t, low[verb], verb)
	}
}

// XD-6: "Writes are not synced: acked increments vanish on power loss. Emulated power cut at every write: what
// was acked is there."
func TestXD06PowerCutAtEveryWrite(t *testing.T) {
	for seed := range uint64(3) {
		crashEverywhere(t, seed, (*disktest.Memory).Crash)
	}
}

// XD-7: "Payload and end pointer are two writes in two databases: a crash overwrites one or leaves a hole. Crash
// at every write: no overwrite, no hole." The end is the last record; here the process is killed.
func TestXD07KillAtEveryWrite(t *testing.T) {
	crashEverywhere(t, 1, func(m *disktest.Memory, _ *rand.Rand) *disktest.Memory { return m.Copy() })
}

// SS-24: "Change and its log entry are one durable unit. Crash at every write." The log's half: an increment and
// its idempotency key are there together or not at all, in every crash.
func TestSS24RecordAndKeyAreOneUnit(t *testing.T) {
	crashEverywhere(t, 24, (*disktest.Memory).Crash) // survived sends the last and the next key again
}

// An error at operation 1, 2, ... end of a fixed scenario, once, for ever or as a short write: nothing
// acknowledged is lost, every later call fails alike, and nothing hangs.
func TestErrorAtEveryOperation(t *testing.T) {
	mutating := func(op disktest.Op) bool { return op.Verb != disktest.Remove && op.Verb != disktest.RemoveDB }
	run := func(fault *disktest.Fault) (mem *disktest.Memory, acked uint64, err error) {
		mem = disktest.NewMemory()
		var count atomic.Uint64
		l, err := Create(disktest.Hooked(mem, fault.Hook), small(), crashOptions())
		if err != nil {
			return mem, 0, err
		}
		done := make(chan error, 1)
		go func() {
			err := scenario(l, rand.New(rand.NewPCG(5, 0)), &count)
			if err != nil {
				if _, again := l.Append(drafts(1, "later")); !errors.Is(again, disk.ErrStopped) {
					err = fmt.Errorf("after %v the next append says %v", err, again)
				}
			}
			l.Close()
			done <- err
		}()
		select {
		case err = <-done:
		case <-time.After(2 * time.Minute):
			t.Fatalf("hangs after the fault at operation %d", fault.Nth)
		}
		return mem, count.Load(), err
	}
	whole := &disktest.Fault{Match: mutating}
	_, _, err := run(whole)
	require.NoError(t, err)
	kinds := []disktest.Fault{{Err: errors.New("EIO")}, {Err: errors.New("EIO"), Stays: true}, {Err: disktest.ErrShort}}
	positions := 0
	for nth := 1; nth <= whole.Seen(); nth += stride() {
		kind := &kinds[nth%3]
		fault := &disktest.Fault{Match: mutating, Nth: nth, Err: kind.Err, Stays: kind.Stays}
		mem, acked, err := run(fault)
		if fault.Hit() == 0 {
			continue // the compactions of this run did less
		}
		positions++
		if err != nil {
			require.ErrorIs(t, err, disk.ErrStopped, "operation %d", nth)
		}
		if left := mem.Copy(); acked > 0 {
			require.NoError(t, survived(left, acked), "operation %d", nth)
		}
	}
	t.Logf("%d of %d positions", positions, whole.Seen())
	require.Greater(t, positions, whole.Seen()/2/stride())
}
