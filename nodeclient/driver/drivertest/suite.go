// Package drivertest is the one conformance suite that all drivers pass: what nodeclient.Database promises, told as
// cases. A driver's test calls Run with a Factory, which opens a place (a folder, or a database of a private server),
// says what an increment looks like there and reads back which ones the place holds.
//
// Log makes increments as a broker would, with their sequences and chain; Feed, Applies and Fails apply them, Taken and
// Load carry a snapshot over. Cases that several drivers need and not all, such as Grouping or BlockedBy, are called by
// name. Memory is a database without a disk, for tests of what stands above drivers; EachWrite does something
// before each write of a snapshot.
package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// Factory makes the places a driver works on.
type Factory struct {
	// Open opens the place dir, an existing folder that is the place's own: fresh when it has never been
	// opened, else with what it holds.
	Open func(t *testing.T, dir string) nodeclient.Database
	// Setup makes in the place dir, which is open and fresh, what Body needs, by another way than the driver: a table
	// where increments with DDL stand alone. nil when Body needs nothing.
	Setup func(t *testing.T, dir string)
	// Body is a valid increment that leaves the number k, at least 1, in the place. Applied twice it must
	// show twice or fail, never pass unseen.
	Body func(k uint64) []byte
	// Invalid is an increment that the database refuses; nil when the driver takes any bytes.
	Invalid []byte
	// Opaque says that the driver takes any bytes; the suite then feeds it some.
	Opaque bool
	// Stateless says that the driver remembers no position of its own: the suite then tells it where it stood whenever
	// it was opened anew, as an agent does with what the broker says.
	Stateless bool
	// Topicless says that the driver stores no topics.
	Topicless bool
	// Earlier makes the place dir, which is open, what the first revision would have left, which stored no topics; nil
	// when there is no difference. It is opened anew after it.
	Earlier func(t *testing.T, dir string)
	// Costly says that an increment takes milliseconds: the suite then feeds fewer.
	Costly bool
	// Applied returns the numbers that Body left in the open place, in the order of application, and every
	// other increment of an Opaque driver as 0. It must not disturb the database.
	Applied func(t *testing.T, dir string) []uint64
}

const logID event.LogID = 0x1234_5678_9abc_def0

// place is one open database with the log that feeds it.
type place struct {
	*testing.T
	f   Factory
	dir string
	nodeclient.Database
	log *Log
}

func (f Factory) fresh(t *testing.T) *place {
	t.Helper()
	p := &place{T: t, f: f, dir: t.TempDir(), log: NewLog(logID)}
	p.Database = f.Open(t, p.dir)
	t.Cleanup(func() { _ = p.Database.Close() })
	empty, err := p.Empty(t.Context())
	require.NoError(t, err)
	require.True(t, empty, "a fresh place")
	if f.Setup != nil {
		f.Setup(t, p.dir)
	}
	return p
}

func (p *place) reopen() {
	p.Helper()
	stood, err := p.Position(p.Context())
	require.NoError(p, err)
	require.NoError(p, p.Database.Close())
	p.Database = p.f.Open(p.T, p.dir)
	if p.f.Stateless && !stood.Zero() {
		require.NoError(p, p.Seek(p.Context(), stood))
	}
}

// bodies are the increments first to last.
func (p *place) bodies(first, last uint64) (b [][]byte) {
	for k := first; k <= last; k++ {
		b = append(b, p.f.Body(k))
	}
	return b
}

// feed applies the increments first to last as one batch.
func (p *place) feed(first, last uint64) {
	p.Helper()
	p.apply(p.log.Next(p.bodies(first, last)...)...)
}

func (p *place) apply(items ...event.Item) {
	p.Helper()
	before, err := p.Position(p.Context())
	require.NoError(p, err)
	if before.Zero() {
		before = event.Start(p.log.At().Log)
	}
	applied, err := p.Apply(p.Context(), before, items)
	require.NoError(p, err)
	require.Equal(p, items[len(items)-1].Pos, applied)
}

// holds checks content, and position against pos.
func (p *place) holds(pos event.Position, numbers ...uint64) {
	p.Helper()
	got, err := p.Position(p.Context())
	require.NoError(p, err)
	require.Equal(p, pos, got)
	require.Equal(p, numbers, p.f.Applied(p.T, p.dir))
}

// holdsAll is holds where the order of application shows in some databases only.
func (p *place) holdsAll(pos event.Position, numbers ...uint64) {
	p.Helper()
	got, err := p.Position(p.Context())
	require.NoError(p, err)
	require.Equal(p, pos, got)
	require.ElementsMatch(p, numbers, p.f.Applied(p.T, p.dir))
}

// often is n, or less for a Costly driver.
func (f Factory) often(n int) int {
	if f.Costly {
		return 1 + n/5
	}
	return n
}

// numbers is first to last.
func numbers(first, last uint64) (n []uint64) {
	for k := first; k <= last; k++ {
		n = append(n, k)
	}
	return n
}

// snapshot returns the bytes and position of a whole snapshot.
func (p *place) snapshot() ([]byte, event.Position) {
	p.Helper()
	s, err := p.Snapshot(p.Context())
	require.NoError(p, err)
	defer func() { require.NoError(p, s.Close()) }()
	var b bytes.Buffer
	require.NoError(p, s.WriteTo(p.Context(), &b))
	return b.Bytes(), s.Position()
}

// files lists what stands in the place's folder.
func (p *place) files() (names []string) {
	p.Helper()
	require.NoError(p, filepath.WalkDir(p.dir, func(path string, d os.DirEntry, err error) error {
		names = append(names, path)
		return err
	}))
	return names
}

// Run runs the suite.
func Run(t *testing.T, f Factory) {
	cases := []struct {
		name string
		run  func(*place)
	}{
		{"a fresh place is empty and at position zero", freshPlace},
		{"one increment is applied", applyOne},
		{"a group is applied in order", applyGroup},
		{"passes move the position only", applyPasses},
		{"data and position survive a reopening", applyReopen},
		{failsInside, applyFail},
		{failsFirst, applyFailFirst},
		{"someone else's position is fatal and changes nothing", applyMismatch},
		{"a repeated batch changes nothing (XI-6)", applyRepeated},
		{"a position that went back in the same log is a restart (XI-8)", applyWentBack},
		{"an increment that was passed over is applied outside the order, and the position stays", applyOutside},
		{outsideFails, applyOutsideFails},
		{"a cancelled apply is transient and changes nothing", applyCancelled},
		{anyBytes, applyOpaque},
		{"seek stores a position and touches no data", seek},
		{topicsStay, topicsBeside},
		{topicsCome, topicsRestored},
		{topicsOld, topicsEarlier},
		{"a snapshot holds exactly its position while increments flow (XE-7, SS-11)", snapshotOnline},
		{"a snapshot is written beside the applying", snapshotBeside},
		{"two snapshots one after the other", snapshotTwice},
		{"a closed snapshot writes nothing more", snapshotClosed},
		{"a restored place equals the source and goes on", restoreSwitch},
		{"a restore replaces old data only at the switch", restoreOver},
		{"a discarded restore leaves nothing", restoreDiscard},
		{"a cut snapshot is refused", restoreCut},
		{"a damaged snapshot is refused", restoreDamaged},
		{"a snapshot of another position is refused", restoreWrongPosition},
		{"a place without increments can be copied", restoreStart},
	}
	for _, c := range cases {
		if !f.concerns(c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) { c.run(f.fresh(t)) })
	}
}

// The cases that do not concern every driver.
const (
	failsInside  = "a failing increment stops right before it"
	outsideFails = "an increment outside the order that fails changes nothing and is named by its own number"
	failsFirst   = "a first increment that fails changes nothing"
	anyBytes     = "any bytes are carried (XR-5)"
	topicsStay   = "topics stand beside the position and stay there"
	topicsCome   = "a restored place holds the topics it was given"
	topicsOld    = "a place of the first revision is given topics"
)

// concerns reports whether a case is about this driver: one that takes any bytes has no invalid increments, one with a
// language of its own does not take any bytes.
func (f Factory) concerns(name string) bool {
	switch name {
	case failsInside, failsFirst, outsideFails:
		return f.Invalid != nil
	case anyBytes:
		return f.Opaque
	case topicsStay, topicsCome:
		return !f.Topicless
	case topicsOld:
		return f.Earlier != nil
	}
	return true
}

func freshPlace(p *place) {
	p.holds(event.Position{})
	p.feed(1, 1)
	empty, err := p.Empty(p.Context())
	require.NoError(p, err)
	require.False(p, empty)
}

func applyOne(p *place) {
	p.feed(1, 1)
	p.holds(p.log.At(), 1)
	p.feed(2, 2)
	p.holds(p.log.At(), 1, 2)
}

func applyGroup(p *place) {
	p.feed(1, 100)
	p.feed(101, 150)
	p.holds(p.log.At(), numbers(1, 150)...)
}

func applyPasses(p *place) {
	p.apply(p.log.Pass(3))
	p.holds(p.log.At())
	items := append([]event.Item{p.log.Pass(2)}, p.log.Next(p.f.Body(1))...)
	p.apply(append(items, p.log.Pass(5))...)
	p.holds(p.log.At(), 1)
	require.EqualValues(p, 11, p.log.At().Seq)
	p.reopen()
	p.holds(p.log.At(), 1)
}

func applyReopen(p *place) {
	p.feed(1, 3)
	p.reopen()
	p.holds(p.log.At(), 1, 2, 3)
	p.feed(4, 4)
	p.holds(p.log.At(), 1, 2, 3, 4)
}

// fails applies items and expects a FAIL that names the increment seq.
func (p *place) fails(before event.Position, seq string, items []event.Item) event.Position {
	p.Helper()
	applied, err := p.Apply(p.Context(), before, items)
	require.ErrorContains(p, err, "increment "+seq)
	require.False(p, nodeclient.IsTransient(err), err)
	require.False(p, nodeclient.IsFatal(err), err)
	return applied
}

func applyFail(p *place) {
	p.feed(1, 2)
	before := p.log.At()
	items := p.log.Next(p.f.Body(3), p.f.Body(4), p.f.Invalid, p.f.Body(5))
	applied := p.fails(before, "5", items)
	require.Equal(p, items[1].Pos, applied)
	p.holds(items[1].Pos, 1, 2, 3, 4)

	// The same again, as after a retry of the operator: still the same place and nothing twice.
	require.Equal(p, items[1].Pos, p.fails(items[1].Pos, "5", items[2:]))
	p.reopen()
	p.holds(items[1].Pos, 1, 2, 3, 4)

	// Skipped by a pass, the rest goes on.
	p.apply(event.Item{Pos: items[2].Pos}, items[3])
	p.holds(items[3].Pos, 1, 2, 3, 4, 5)
}

func applyFailFirst(p *place) {
	applied := p.fails(p.log.At(), "1", p.log.Next(p.f.Invalid, p.f.Body(1)))
	require.Zero(p, applied.Seq)
	got, err := p.Position(p.Context())
	require.NoError(p, err)
	require.True(p, got.Zero())
}

// outside applies an increment that was passed over where the place stands.
func (p *place) outside(record event.Encoded) (event.Position, error) {
	p.Helper()
	at := p.log.At()
	return p.Apply(p.Context(), at, []event.Item{{Pos: at, Record: record, Decision: 7}})
}

func applyOutside(p *place) {
	p.feed(1, 2)
	items := p.log.Next(p.f.Body(3), p.f.Body(4))
	p.apply(event.Item{Pos: items[0].Pos}, items[1])
	p.holds(p.log.At(), 1, 2, 4)
	applied, err := p.outside(items[0].Record)
	require.NoError(p, err)
	require.Equal(p, p.log.At(), applied)
	p.holdsAll(p.log.At(), 1, 2, 4, 3)
	p.reopen()
	p.holdsAll(p.log.At(), 1, 2, 4, 3)
	p.feed(5, 6)
	p.holdsAll(p.log.At(), 1, 2, 4, 3, 5, 6)
}

func applyOutsideFails(p *place) {
	p.feed(1, 2)
	items := p.log.Next(p.f.Invalid, p.f.Body(4))
	p.apply(event.Item{Pos: items[0].Pos}, items[1])
	_, err := p.outside(items[0].Record)
	require.ErrorContains(p, err, "increment 3")
	require.False(p, nodeclient.IsTransient(err) || nodeclient.IsFatal(err) || nodeclient.IsUnknown(err), err)
	p.holds(p.log.At(), 1, 2, 4)
	p.feed(5, 5)
	p.holds(p.log.At(), 1, 2, 4, 5)
}

func applyMismatch(p *place) {
	p.feed(1, 2)
	at := p.log.At()
	other := at
	other.Chain++
	next := p.log.Next(p.f.Body(3))
	for _, before := range []event.Position{other, event.Start(at.Log), {Log: at.Log + 1, Seq: at.Seq, Chain: at.Chain}} {
		applied, err := p.Apply(p.Context(), before, next)
		require.True(p, nodeclient.IsFatal(err), err)
		require.Equal(p, at, applied)
		p.holds(at, 1, 2)
	}
	p.apply(next...)
	p.holds(p.log.At(), 1, 2, 3)
}

func applyRepeated(p *place) {
	start := p.log.At()
	items := p.log.Next(p.bodies(1, 3)...)
	p.apply(items...)
	_, err := p.Apply(p.Context(), start, items)
	require.True(p, nodeclient.IsFatal(err), err)
	p.holds(p.log.At(), 1, 2, 3)
	p.reopen()
	_, err = p.Apply(p.Context(), items[0].Pos, items[1:])
	require.True(p, nodeclient.IsFatal(err), err)
	p.holds(p.log.At(), 1, 2, 3)
}

// A database that stands where it stood earlier, as after a failover to an older copy, is gone on from there.
func applyWentBack(p *place) {
	p.feed(1, 1)
	earlier := p.log.At()
	items := p.log.Next(p.f.Body(2), p.f.Body(3))
	p.apply(items...)
	at := p.log.At()
	require.NoError(p, p.Seek(p.Context(), earlier))
	applied, err := p.Apply(p.Context(), at, p.log.Next(p.f.Body(4)))
	require.True(p, nodeclient.IsBack(err), err)
	require.True(p, nodeclient.IsTransient(err), err)
	require.False(p, nodeclient.IsFatal(err), err)
	require.Equal(p, earlier, applied)
	p.holds(earlier, 1, 2, 3)
}

func applyCancelled(p *place) {
	p.feed(1, 1)
	at := p.log.At()
	ctx, cancel := context.WithCancel(p.Context())
	cancel()
	next := p.log.Next(p.f.Body(2))
	applied, err := p.Apply(ctx, at, next)
	require.True(p, nodeclient.IsTransient(err), err)
	require.ErrorIs(p, err, context.Canceled)
	require.Equal(p, at, applied)
	p.holds(at, 1)
	p.apply(next...)
	p.holds(p.log.At(), 1, 2)
}

func applyOpaque(p *place) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	p.apply(p.log.Next([]byte{0}, []byte("\n"), []byte{0xff}, every, bytes.Repeat([]byte{0}, 1<<20))...)
	p.holds(p.log.At(), 0, 0, 0, 0, 0)
	p.reopen()
	p.holds(p.log.At(), 0, 0, 0, 0, 0)
}

func seek(p *place) {
	p.feed(1, 2)
	pos := event.Position{Log: logID + 1, Seq: 1 << 40, Chain: 1<<64 - 1}
	require.NoError(p, p.Seek(p.Context(), pos))
	p.holds(pos, 1, 2)
	p.reopen()
	p.holds(pos, 1, 2)
	p.log.at = pos
	p.feed(3, 3)
	p.holds(p.log.At(), 1, 2, 3)

	q := p.f.fresh(p.T) // and on a fresh place
	require.NoError(q, q.Seek(q.Context(), pos))
	q.holds(pos)
	q.log.at = pos
	q.feed(1, 1)
	q.holds(q.log.At(), 1)
}

// follows checks the topics stored.
func (p *place) follows(topics event.Topics) {
	p.Helper()
	got, err := p.Topics(p.Context())
	require.NoError(p, err)
	require.Equal(p, topics, got)
}

// manyTopics are the longest a place may have to keep.
var manyTopics = func() event.Topics {
	var all []string
	for i := range 64 {
		all = append(all, fmt.Sprintf("%063d", i))
	}
	return event.TopicsOf(all)
}()

func topicsBeside(p *place) {
	p.follows("")
	require.Error(p, p.Keep(p.Context(), "shop"), "there is no position")
	p.follows("")
	p.feed(1, 2)
	p.follows("")
	at := p.log.At()
	require.NoError(p, p.Keep(p.Context(), manyTopics))
	p.follows(manyTopics)
	p.holds(at, 1, 2)
	p.reopen()
	p.follows(manyTopics)
	p.feed(3, 3)
	if p.f.Invalid != nil {
		items := p.log.Next(p.f.Invalid)
		before, err := p.Position(p.Context())
		require.NoError(p, err)
		p.fails(before, "4", items)
		p.apply(event.Item{Pos: items[0].Pos})
	}
	p.apply(p.log.Pass(2))
	require.NoError(p, p.Seek(p.Context(), p.log.At()))
	p.follows(manyTopics)
	require.NoError(p, p.Keep(p.Context(), event.AllTopics))
	p.reopen()
	p.follows(event.AllTopics)
	p.holds(p.log.At(), 1, 2, 3)
}

func topicsRestored(p *place) {
	p.feed(1, 2)
	without, at := p.snapshot()
	require.NoError(p, p.Keep(p.Context(), "shop"))
	with, _ := p.snapshot()
	q := p.f.fresh(p.T)
	q.feed(90, 91)
	require.NoError(q, q.Keep(q.Context(), "old"))
	old := q.log.At()
	for topics, snapshot := range map[event.Topics][]byte{"shop": with, "a.b,c": without} {
		r, err := q.Restore(q.Context(), at, topics, bytes.NewReader(snapshot))
		require.NoError(q, err)
		q.follows("old")
		require.NoError(q, r.Discard())
		q.holds(old, 90, 91)
		q.follows("old")

		s := p.f.fresh(p.T)
		s.feed(90, 90)
		require.NoError(s, s.Keep(s.Context(), "old"))
		r, err = s.Restore(s.Context(), at, topics, bytes.NewReader(snapshot))
		require.NoError(s, err)
		require.NoError(s, r.Switch(s.Context()))
		s.follows(topics)
		s.reopen()
		s.follows(topics)
		s.holds(at, 1, 2)
		s.log.at = at
		s.feed(3, 3)
		s.holds(s.log.At(), 1, 2, 3)
	}
}

func topicsEarlier(p *place) {
	p.feed(1, 2)
	p.f.Earlier(p.T, p.dir)
	p.reopen()
	p.follows("")
	p.holds(p.log.At(), 1, 2)
	p.feed(3, 3)
	p.follows("")
	snapshot, at := p.snapshot()
	require.NoError(p, p.Keep(p.Context(), "shop"))
	require.NoError(p, p.Keep(p.Context(), "shop"))
	p.follows("shop")
	p.reopen()
	p.follows("shop")
	p.feed(4, 4)
	p.holds(p.log.At(), 1, 2, 3, 4)

	q := p.f.fresh(p.T) // a snapshot of such a place
	r, err := q.Restore(q.Context(), at, "a,b", bytes.NewReader(snapshot))
	require.NoError(q, err)
	require.NoError(q, r.Switch(q.Context()))
	q.follows("a,b")
	q.holds(at, 1, 2, 3)

	s := p.f.fresh(p.T) // and one whose position is set
	s.feed(1, 1)
	s.f.Earlier(s.T, s.dir)
	s.reopen()
	pos := s.log.At()
	pos.Seq += 5
	require.NoError(s, s.Seek(s.Context(), pos))
	s.follows("")
	s.holds(pos, 1)
	require.NoError(s, s.Keep(s.Context(), event.AllTopics))
	s.follows(event.AllTopics)
}

// applyingWriter applies one more increment with each write of the snapshot.
type applyingWriter struct {
	bytes.Buffer
	p    *place
	next uint64
}

func (w *applyingWriter) Write(b []byte) (int, error) {
	w.p.feed(w.next, w.next)
	w.next++
	return w.Buffer.Write(b)
}

func snapshotOnline(p *place) {
	p.feed(1, 50)
	at := p.log.At()
	s, err := p.Snapshot(p.Context())
	require.NoError(p, err)
	require.Equal(p, at, s.Position())
	require.NotEmpty(p, s.Format())
	require.NoError(p, p.CheckSpace(p.Context(), s.Size()))
	w := &applyingWriter{p: p, next: 51}
	if s.Online() {
		n := uint64(p.f.often(200))
		p.feed(w.next, w.next+n)
		w.next += n + 1
		require.NoError(p, s.WriteTo(p.Context(), w))
	} else {
		require.NoError(p, s.WriteTo(p.Context(), &w.Buffer))
	}
	require.NoError(p, s.Close())
	require.NoError(p, s.Close())
	p.holds(p.log.At(), numbers(1, w.next-1)...)

	q := p.f.fresh(p.T)
	q.restore(at, w.Bytes())
	q.holds(at, numbers(1, 50)...)
}

// restore loads and switches to a snapshot.
func (p *place) restore(want event.Position, snapshot []byte) {
	p.Helper()
	r, err := p.Restore(p.Context(), want, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(p, err)
	require.NoError(p, r.Switch(p.Context()))
	require.NoError(p, r.Discard())
	p.log.at = want
}

// snapshotBeside writes the snapshot in a goroutine of its own, as the agent does.
func snapshotBeside(p *place) {
	p.feed(1, 50)
	at := p.log.At()
	s, err := p.Snapshot(p.Context())
	require.NoError(p, err)
	if !s.Online() { // the agent holds increments meanwhile: there is nothing beside
		require.NoError(p, s.Close())
		return
	}
	var b bytes.Buffer
	written := make(chan error, 1)
	go func() { written <- errors.Join(s.WriteTo(p.Context(), &b), s.Close()) }()
	last := uint64(50 + p.f.often(100))
	for k := uint64(51); k <= last; k++ {
		p.feed(k, k)
	}
	require.NoError(p, <-written)
	p.holds(p.log.At(), numbers(1, last)...)
	q := p.f.fresh(p.T)
	q.restore(at, b.Bytes())
	q.holds(at, numbers(1, 50)...)
}

func snapshotTwice(p *place) {
	p.feed(1, 5)
	first, at := p.snapshot()
	p.feed(6, 9)
	second, then := p.snapshot()
	require.NotEqual(p, at, then)
	q := p.f.fresh(p.T)
	q.restore(at, first)
	q.holds(at, numbers(1, 5)...)
	q.restore(then, second)
	q.holds(then, numbers(1, 9)...)
	again, _ := p.snapshot()
	require.Len(p, again, len(second), "nothing happened between two snapshots")
}

func snapshotClosed(p *place) {
	p.feed(1, 5)
	s, err := p.Snapshot(p.Context())
	require.NoError(p, err)
	ctx, cancel := context.WithCancel(p.Context())
	cancel()
	require.ErrorIs(p, s.WriteTo(ctx, io.Discard), context.Canceled)
	require.NoError(p, s.Close())
	require.NoError(p, s.Close())
	require.Error(p, s.WriteTo(p.Context(), io.Discard))
	p.feed(6, 6)
	p.holds(p.log.At(), numbers(1, 6)...)
}

func restoreSwitch(p *place) {
	p.feed(1, 20)
	snapshot, at := p.snapshot()
	q := p.f.fresh(p.T)
	q.restore(at, snapshot)
	q.holds(at, numbers(1, 20)...)
	q.feed(21, 22)
	q.reopen()
	q.holds(q.log.At(), numbers(1, 22)...)
	q.feed(23, 23)

	// A copy of the copy.
	again, then := q.snapshot()
	r := q.f.fresh(p.T)
	r.restore(then, again)
	r.holds(then, numbers(1, 23)...)
}

func restoreOver(p *place) {
	p.feed(1, 3)
	snapshot, at := p.snapshot()
	q := p.f.fresh(p.T)
	q.feed(90, 99)
	old := q.log.At()
	r, err := q.Restore(q.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(q, err)
	q.holds(old, numbers(90, 99)...)
	require.NoError(q, r.Switch(q.Context()))
	q.holds(at, 1, 2, 3)
	q.reopen()
	q.holds(at, 1, 2, 3)
}

func restoreDiscard(p *place) {
	p.feed(1, 3)
	snapshot, at := p.snapshot()
	p.feed(4, 4)
	before := p.files()
	r, err := p.Restore(p.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(p, err)
	require.NoError(p, r.Discard())
	require.NoError(p, r.Discard())
	require.Equal(p, before, p.files())
	p.holds(p.log.At(), 1, 2, 3, 4)

	// A restore that a crash left behind is forgotten.
	_, err = p.Restore(p.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(p, err)
	p.reopen()
	p.holds(p.log.At(), 1, 2, 3, 4)
	require.Equal(p, before, p.files())
}

// refuses expects that a snapshot is not loaded and leaves everything as it was.
func (p *place) refuses(want event.Position, r io.Reader) error {
	p.Helper()
	old, err := p.Position(p.Context())
	require.NoError(p, err)
	content, before := p.f.Applied(p.T, p.dir), p.files()
	_, err = p.Restore(p.Context(), want, event.AllTopics, r)
	require.Error(p, err)
	require.False(p, nodeclient.IsFatal(err), "the live data is not lost by a bad snapshot: %v", err)
	require.Equal(p, before, p.files())
	p.holds(old, content...)
	return err
}

// errCut is what a broken download answers with.
var errCut = errors.New("the connection was cut")

func restoreCut(p *place) {
	p.feed(1, 40)
	snapshot, at := p.snapshot()
	q := p.f.fresh(p.T)
	q.feed(90, 92)
	for n := 0; n < len(snapshot); n += 1 + len(snapshot)/p.f.often(13) {
		q.refuses(at, bytes.NewReader(snapshot[:n]))
		err := q.refuses(at, io.MultiReader(bytes.NewReader(snapshot[:n]), failing{}))
		require.ErrorIs(q, err, errCut)
	}
	q.refuses(at, bytes.NewReader(snapshot[:len(snapshot)-1]))
	require.ErrorIs(q, q.refuses(at, io.MultiReader(bytes.NewReader(snapshot), failing{})), errCut)
	q.restore(at, snapshot)
	q.holds(at, numbers(1, 40)...)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errCut }

func restoreDamaged(p *place) {
	p.feed(1, 40)
	snapshot, at := p.snapshot()
	q := p.f.fresh(p.T)
	for n := 0; n < len(snapshot); n += 1 + len(snapshot)/p.f.often(29) {
		damaged := bytes.Clone(snapshot)
		damaged[n] ^= 0x10
		q.refuses(at, bytes.NewReader(damaged))
	}
	q.refuses(at, bytes.NewReader(append(bytes.Clone(snapshot), 0)))
	q.refuses(at, bytes.NewReader(make([]byte, 1<<16)))
}

func restoreWrongPosition(p *place) {
	p.feed(1, 4)
	snapshot, at := p.snapshot()
	q := p.f.fresh(p.T)
	q.feed(1, 1)
	for _, want := range []event.Position{{}, event.Start(at.Log), {Log: at.Log, Seq: at.Seq + 1, Chain: at.Chain},
		{Log: at.Log, Seq: at.Seq, Chain: at.Chain + 1}, {Log: at.Log + 1, Seq: at.Seq, Chain: at.Chain}} {
		q.refuses(want, bytes.NewReader(snapshot))
	}
}

func restoreStart(p *place) {
	snapshot, at := p.snapshot()
	require.True(p, at.Zero())
	q := p.f.fresh(p.T)
	q.restore(event.Start(logID), snapshot)
	q.holds(event.Start(logID))
	q.feed(1, 2)
	q.holds(q.log.At(), 1, 2)
}
