package nodeclient

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/dumpflow"
)

const testLog = event.LogID(0xf00d)

// history is n increments of one log: positions 0 to n, and the records between them.
type history struct {
	pos     []event.Position
	records []event.Encoded
}

func newHistory(n int) *history {
	h := &history{pos: []event.Position{event.Start(testLog)}}
	for i := 1; i <= n; i++ {
		e, c := event.EncodeRecord(nil, uint64(i), int64(i), h.pos[i-1].Chain,
			event.Draft{Body: fmt.Appendf(nil, "increment %d", i)})
		h.records = append(h.records, e)
		h.pos = append(h.pos, event.Position{Log: testLog, Seq: uint64(i), Chain: c})
	}
	return h
}

// frame is the increments from+1 to to.
func (h *history) frame(from, to int) []byte {
	var b []byte
	for i := from; i < to; i++ {
		b = event.AppendRecord(b, h.records[i])
	}
	return b
}

// talk is a session under test with what it has said and asked for.
type talk struct {
	*session
	t    *testing.T
	h    *history
	said []event.Event
	jobs []task
	drew event.RequestID
}

func newTalk(t *testing.T, pos int, change func(*rules)) *talk {
	r := rules{group: "main", id: "n1", loads: func(format string) bool { return format == "mem/1" }, windowRecords: 100,
		windowBytes: 1 << 20, batchRecords: 10, batchBytes: 1 << 20,
		heartbeat: 5, silence: 30, tick: time.Second, maxBackoff: 8, rejoin: true}
	if change != nil {
		change(&r)
	}
	k := &talk{t: t, h: newHistory(100)}
	at := event.Position{}
	if pos >= 0 {
		at = k.h.pos[pos]
	}
	k.session = newSession(r, event.Session{Instance: 7, Token: event.Token{7}}, at, true,
		func() event.RequestID { k.drew++; return k.drew })
	k.flush()
	return k
}

// flush takes what the session wants said and done.
func (k *talk) flush() {
	k.said, k.jobs = append(k.said, k.send...), append(k.jobs, k.tasks...)
	k.send, k.tasks, k.drop, k.notes = nil, nil, false, nil
}

// hear gives the session an event of the broker in its current session.
func (k *talk) hear(e event.Event) {
	e.ID, e.Session = "n1", k.self
	if e.Kind == 0 {
		e.Kind = event.IncrRep
	}
	k.step(e)
	k.flush()
}

func (k *talk) feed(from, to int) {
	k.hear(event.Event{State: event.Succ, Pos: k.h.pos[from], Body: k.h.frame(from, to)})
}

func (k *talk) ticks(n int) {
	for range n {
		k.tick()
		k.flush()
	}
}

func (k *talk) welcomeAt(pos int) {
	k.hear(event.Event{Code: event.Welcome, Pos: k.h.pos[pos]})
	require.Equal(k.t, following, k.phase)
}

// last is the last thing said, which must be of that kind and state.
func (k *talk) last(kind event.Kind, state event.State) event.Event {
	k.t.Helper()
	require.NotEmpty(k.t, k.said)
	e := k.said[len(k.said)-1]
	require.Equal(k.t, kind, e.Kind, e.String())
	require.Equal(k.t, state, e.State, e.String())
	return e
}

// job takes the one task that is due.
func (k *talk) job() task {
	k.t.Helper()
	require.Len(k.t, k.jobs, 1)
	j := k.jobs[0]
	k.jobs = nil
	return j
}

// apply ends the apply task that is due.
func (k *talk) apply(upTo int, err error) {
	k.t.Helper()
	j := k.job()
	require.NotEmpty(k.t, j.apply)
	k.applied(len(j.apply), k.h.pos[upTo], err)
	k.flush()
}

// A database that went back to an earlier position of the same log is gone on from there, in a new session: nobody is
// FATAL, and what was queued after the later position is asked for again.
func TestSessionGoesOnFromADatabaseThatWentBack(t *testing.T) {
	k := newTalk(t, 5, nil)
	k.welcomeAt(5)
	k.feed(5, 8)
	turn := k.self.Turn
	k.apply(2, CheckAdvance(k.h.pos[2], k.h.pos[5]))
	require.Equal(t, opening, k.phase)
	require.Greater(t, k.self.Turn, turn)
	require.Equal(t, k.h.pos[2], k.last(event.IncrReq, event.None).Pos)
	require.Empty(t, k.jobs)
	k.welcomeAt(2)
	k.feed(2, 8)
	k.apply(8, nil)
	require.Equal(t, k.h.pos[8], k.last(event.IncrReq, event.Succ).Pos)
}

// A database that another node uses, or that has no position any more, ends the process and changes nobody's state; the
// broker hears why. Whether it has data is told as long as it has no position.
func TestSessionEndsWhenItsDatabaseIsAnotherOnes(t *testing.T) {
	for _, kind := range []error{ErrTaken, ErrGone} {
		err := Taken("test", "db", "somebody")
		if kind == ErrGone {
			err = CheckAdvance(event.Position{}, newHistory(5).pos[5])
		}
		require.True(t, IsTransient(err) && !IsFatal(err), err)
		for _, end := range []func(*talk){
			func(k *talk) { k.apply(5, err) },
			func(k *talk) { k.sought(err) },
			func(k *talk) { k.storedTopics(err) },
			func(k *talk) { k.opened(1, event.Position{}, dumpflow.Opened{}, err) },
			func(k *talk) { k.restored(restoreJob{}, "", err) },
		} {
			k := newTalk(t, 5, nil)
			k.welcomeAt(5)
			k.feed(5, 8)
			end(k)
			require.ErrorIs(t, k.end, kind)
			k.flush()
			said := k.last(event.IncrReq, event.Succ)
			require.Equal(t, event.Retrying, said.Code)
			require.Contains(t, said.Text, kind.Error())
		}
	}
	k := newTalk(t, -1, func(r *rules) { r.hello.Holds = true })
	holds := func() bool {
		h, err := event.DecodeHello(k.last(event.IncrReq, event.None).Body)
		require.NoError(t, err)
		return h.Holds
	}
	require.True(t, holds())
	k.hear(event.Event{Code: event.Welcome, Pos: k.h.pos[0]})
	require.NotNil(t, k.job().seek)
	k.sought(nil)
	k.flush()
	require.False(t, holds())
}

// The time of the log is given to the database when all is applied that comes before it: not while increments wait,
// once for each time, again when there is more to do or when it went wrong; and only where the driver wants it.
func TestSessionEndsDataByTheTimeOfTheLog(t *testing.T) {
	beat := func(k *talk, at int, clock int64) {
		k.hear(event.Event{State: event.Succ, Pos: k.h.pos[at], Clock: clock})
	}
	k := newTalk(t, 0, nil)
	k.welcomeAt(0)
	beat(k, 0, 100)
	require.Empty(t, k.jobs, "this driver has no use for it")

	k = newTalk(t, 0, func(r *rules) { r.hello.Clock = true })
	k.welcomeAt(0)
	expires := func(clock int64, at int) {
		t.Helper()
		j := k.job()
		require.Equal(t, clock, j.expire)
		require.Equal(t, k.h.pos[at], j.before)
	}
	done := func(clock int64, more bool, err error) {
		k.expired(clock, more, k.pos, err)
		k.flush()
	}
	beat(k, 0, 100)
	expires(100, 0)
	beat(k, 0, 150) // while the database is busy
	done(100, true, nil)
	expires(150, 0)
	done(150, false, nil)
	beat(k, 0, 150)
	beat(k, 0, 120)
	k.ticks(1)
	require.Empty(t, k.jobs)
	k.hear(event.Event{State: event.Succ, Pos: k.h.pos[0], Body: k.h.frame(0, 5), Clock: 200})
	k.apply(3, errors.New("increment 4 is bad"))
	require.Equal(t, held, k.phase)
	beat(k, 3, 300)
	require.Empty(t, k.jobs, "nothing ends after an increment that failed")
	k.hear(event.Event{State: event.Succ, Pos: k.h.pos[3], Code: event.Held})
	k.feed(3, 5)
	k.apply(5, nil)
	expires(200, 5)
	done(200, false, Transient(errors.New("gone")))
	require.Equal(t, event.Retrying, k.last(event.IncrReq, event.Succ).Code)
	k.ticks(1)
	expires(200, 5)
	done(200, false, nil)
	require.Equal(t, event.NoCode, k.last(event.IncrReq, event.Succ).Code)
	k.hear(event.Event{State: event.Succ, Pos: k.h.pos[3], Body: k.h.frame(3, 5), Clock: 900})
	require.Empty(t, k.jobs, "a frame that came before")

	turn := k.self.Turn
	beat(k, 5, 400)
	expires(400, 5)
	k.expired(400, false, k.h.pos[2], CheckAdvance(k.h.pos[2], k.h.pos[5]))
	k.flush()
	require.Greater(t, k.self.Turn, turn)
	require.Equal(t, k.h.pos[2], k.last(event.IncrReq, event.None).Pos)
	k.welcomeAt(2)
	beat(k, 2, 500)
	expires(500, 2)
	done(500, false, Fatal(errors.New("lost")))
	require.Equal(t, lost, k.phase)
}

func TestSessionAcknowledgesAndDropsRepetitions(t *testing.T) {
	k := newTalk(t, 0, nil)
	require.Equal(t, k.h.pos[0], k.last(event.IncrReq, event.None).Pos)
	k.welcomeAt(0)
	k.feed(0, 5)
	k.feed(0, 5) // comes twice
	k.apply(5, nil)
	require.Equal(t, k.h.pos[5], k.last(event.IncrReq, event.Succ).Pos)
	k.feed(0, 5)
	require.Empty(t, k.jobs)
	k.feed(5, 6)
	require.Equal(t, k.h.pos[5], k.job().before)
}

func TestSessionOpensAnewAtAGapAndAtDamage(t *testing.T) {
	for name, spoil := range map[string]func(*talk){
		"gap":     func(k *talk) { k.feed(6, 8) },
		"damage":  func(k *talk) { k.hear(event.Event{Pos: k.h.pos[0], Body: append(k.h.frame(0, 3), 9, 9)}) },
		"chain":   func(k *talk) { p := k.h.pos[0]; p.Chain++; p.Seq = 1; k.hear(event.Event{Pos: p}) },
		"log":     func(k *talk) { p := k.h.pos[0]; p.Log++; k.hear(event.Event{Pos: p}) },
		"reopen":  func(k *talk) { k.hear(event.Event{Code: event.Reopen}) },
		"silence": func(k *talk) { k.ticks(k.rules.silence + 1) },
		"cut":     func(k *talk) { k.connected(); k.flush() },
	} {
		t.Run(name, func(t *testing.T) {
			k := newTalk(t, 0, nil)
			k.welcomeAt(0)
			spoil(k)
			require.Equal(t, opening, k.phase)
			require.Empty(t, k.jobs, "nothing of it may be used")
			e := k.last(event.IncrReq, event.None)
			require.Equal(t, uint32(2), e.Session.Turn)
			k.welcomeAt(0)
		})
	}
}

func TestSessionWaitsForTheDatabaseBeforeItOpensAnew(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.welcomeAt(0)
	k.feed(0, 5)
	said := len(k.said)
	k.hear(event.Event{Code: event.Reopen})
	k.ticks(3)
	require.Len(t, k.said, said+1, "the position is moving")
	require.Equal(t, event.Busy, k.last(event.IncrReq, event.None).Code)
	k.apply(5, nil)
	require.Equal(t, k.h.pos[5], k.last(event.IncrReq, event.None).Pos)
}

func TestSessionIgnoresAWelcomeForAnotherPosition(t *testing.T) {
	k := newTalk(t, 5, nil)
	k.hear(event.Event{Code: event.Welcome, Pos: k.h.pos[9]})
	require.Equal(t, opening, k.phase)
	k.ticks(1)
	require.Equal(t, k.h.pos[5], k.last(event.IncrReq, event.None).Pos)
	other := k.h.pos[5]
	other.Chain++ // another history that is as long
	k.hear(event.Event{Code: event.Welcome, Pos: other})
	require.Equal(t, opening, k.phase)
	k.welcomeAt(5)
}

func TestSessionIgnoresWhatWasSaidInAnother(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.welcomeAt(0)
	late := event.Event{Kind: event.IncrRep, State: event.Succ, ID: "n1", Session: k.self, Pos: k.h.pos[0],
		Body: k.h.frame(0, 5)}
	k.hear(event.Event{Code: event.Reopen})
	k.welcomeAt(0)
	k.step(late)
	k.flush()
	require.Empty(t, k.jobs, "it was sent in the turn before")
	late.Session = k.self
	late.Session.Instance++
	late.Code = event.Fenced
	k.step(late)
	require.NoError(t, k.end, "it is meant for another process")
	late.Session, late.ID = k.self, "n2"
	k.step(late)
	require.NoError(t, k.end, "it is meant for another node")
}

// One task at a time: whatever the broker says while the database works waits for the outcome.
func TestSessionGivesTheDatabaseOneTaskAtATime(t *testing.T) {
	fresh := newTalk(t, -1, nil)
	for range 2 { // the answer comes twice
		fresh.hear(event.Event{Code: event.Welcome, Pos: fresh.h.pos[0]})
	}
	require.NotNil(t, fresh.job().seek)

	moved := newTalk(t, 0, nil)
	moved.welcomeAt(0)
	moved.feed(0, 5)
	moved.hear(event.Event{Code: event.Seek, Pos: moved.h.pos[9]})
	moved.apply(5, nil)
	moved.hear(event.Event{Code: event.Seek, Pos: moved.h.pos[9]})
	require.Equal(t, moved.h.pos[9], *moved.job().seek)

	joins := newTalk(t, 0, func(r *rules) { r.from = "master" })
	joins.welcomeAt(0)
	joins.feed(0, 5)
	apply := joins.job()
	joins.hear(event.Event{State: event.Fatal, Code: event.NeedsDump})
	opened := event.Event{Kind: event.DumpRep, State: event.Succ, Code: event.Opened, Request: joins.dump.request,
		Dump: 99, Pos: joins.h.pos[9], Body: dumpflow.Opened{Format: "mem/1"}.Encode()}
	joins.hear(opened)
	require.Empty(t, joins.jobs, "a batch is still being applied to what the snapshot will replace")
	joins.applied(len(apply.apply), joins.h.pos[5], nil)
	joins.hear(opened)
	require.Equal(t, joins.h.pos[9], joins.job().restore.pos)
}

// A late Held must not strand increments that wait here for the database: nothing would call for them again.
func TestSessionKeepsWorkingWhenHeldComesLate(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.welcomeAt(0)
	k.feed(0, 5)
	k.apply(2, Transient(errors.New("no connection")))
	k.hear(event.Event{State: event.Fail, Code: event.Held})
	k.ticks(1)
	k.apply(5, nil)
}

func TestSessionTriesTransientTroubleAgainAndSaysSo(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.welcomeAt(0)
	k.feed(0, 5)
	k.apply(2, Transient(errors.New("no connection")))
	e := k.last(event.IncrReq, event.Succ)
	require.Equal(t, event.Retrying, e.Code)
	require.Equal(t, k.h.pos[2], e.Pos)
	k.ticks(1)
	j := k.job()
	require.Equal(t, k.h.pos[2], j.before)
	require.Len(t, j.apply, 3)
	k.applied(3, event.Position{}, Transient(errors.New("no connection"))) // unchanged, unknown
	k.flush()
	require.Equal(t, k.h.pos[2], k.pos)
	k.ticks(2)
	k.apply(5, nil)
	require.Equal(t, event.NoCode, k.last(event.IncrReq, event.Succ).Code)
}

// XS-3: FAIL. Nothing more is applied until somebody acts; FAIL is repeated until heard.
func TestXS03SessionSaysFailUntilHeardAndWaits(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.welcomeAt(0)
	k.feed(0, 5)
	k.feed(5, 8)
	k.apply(3, errors.New("duplicate key"))
	for range 3 {
		e := k.last(event.IncrReq, event.Fail)
		require.Equal(t, k.h.pos[3], e.Pos)
		require.Equal(t, "duplicate key", e.Text)
		k.ticks(1)
	}
	k.feed(8, 9) // was on its way
	require.Equal(t, held, k.phase)
	k.hear(event.Event{State: event.Fail, Code: event.Held, Text: "duplicate key"})
	said := len(k.said)
	k.ticks(3)
	require.Len(t, k.said, said)
	require.Empty(t, k.jobs)
	k.hear(event.Event{Pos: k.h.pos[3]}) // a heartbeat is no order
	require.Equal(t, held, k.phase)
	k.feed(3, 5) // an operator said retry
	k.applied(2, k.h.pos[5], nil)
	require.Contains(t, fmt.Sprint(k.notes), "the trouble is over")
	k.flush()
	require.Equal(t, following, k.phase)
}

// XS-5: FATAL. The node stops and must join again, whatever happens to the conversation before it was heard.
func TestXS05SessionSaysFatalInEverySessionUntilItHasJoinedAgain(t *testing.T) {
	k := newTalk(t, 0, func(r *rules) { r.from = "master" })
	k.welcomeAt(0)
	k.feed(0, 5)
	k.apply(0, Fatal(errors.New("the position row is gone")))
	k.last(event.IncrReq, event.Fatal)
	k.connected() // the link was cut
	k.flush()
	k.hear(event.Event{Code: event.Welcome, Pos: k.h.pos[0]})
	require.Equal(t, lost, k.phase)
	require.Equal(t, "the position row is gone", k.last(event.IncrReq, event.Fatal).Text)
	k.feed(0, 5)
	require.Empty(t, k.queue)
	k.hear(event.Event{Code: event.Seek, Pos: k.h.pos[9]})
	require.Empty(t, k.jobs)
	k.hear(event.Event{State: event.Fatal, Code: event.NeedsDump})
	require.Equal(t, joining, k.phase)
	k.load(4, nil)
	k.welcomeAt(4)
}

// XS-5: the loss of the copy is told although a new session was asked for while the database found it out.
func TestXS05SessionRemembersALossBetweenTwoSessions(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.welcomeAt(0)
	k.feed(0, 5)
	k.hear(event.Event{Code: event.Reopen})
	k.apply(0, Fatal(errors.New("the position row is gone")))
	k.hear(event.Event{Code: event.Welcome, Pos: k.h.pos[0]})
	require.Equal(t, lost, k.phase)
	k.last(event.IncrReq, event.Fatal)
}

// A node whose stored position cannot be read begins nowhere by itself: it says that its copy is lost, unless an
// operator has named a position, which is written in the place of what stands there.
func TestSessionWithoutAReadablePositionWaitsForAnOrder(t *testing.T) {
	unread := func() *talk {
		k := newTalk(t, -1, func(r *rules) { r.hello.Holds = true })
		k.unread = "two rows"
		return k
	}
	k := unread()
	k.hear(event.Event{Code: event.Welcome, Pos: k.h.pos[0]})
	require.Equal(t, lost, k.phase)
	require.Equal(t, "two rows", k.last(event.IncrReq, event.Fatal).Text)
	require.Empty(t, k.jobs, "nothing was set")

	k = unread()
	k.hear(event.Event{State: event.Fatal, Code: event.NeedsDump, Text: "join again"})
	require.ErrorIs(t, k.end, ErrNeedsDump)
	require.EqualError(t, k.end, "join again (two rows)")

	k = unread()
	k.hear(event.Event{Code: event.Seek, Pos: k.h.pos[3]})
	require.Equal(t, k.h.pos[3], *k.job().seek)
	k.sought(nil)
	k.flush()
	k.welcomeAt(3)
}

// load plays a DUMP from Opened to the outcome of its restore.
func (k *talk) load(pos int, err error) {
	k.t.Helper()
	k.step(event.Event{Kind: event.DumpRep, State: event.Succ, Code: event.Opened, ID: "n1", Request: k.dump.request,
		Dump: 99, Pos: k.h.pos[pos], Body: dumpflow.Opened{Format: "mem/1"}.Encode()})
	k.flush()
	j := k.job()
	require.NotNil(k.t, j.restore)
	k.restored(*j.restore, "", err)
	k.flush()
}

// SS-27: needs_dump ends by automatic DUMP where allowed, else the node stops with the sentence.
func TestSS27NeedsDump(t *testing.T) {
	for name, c := range map[string]struct {
		rules func(*rules)
		code  event.Code
		joins bool
	}{
		"allowed":                  {func(r *rules) { r.from = "master" }, event.NeedsDump, true},
		"unknown":                  {func(r *rules) { r.from = "master" }, event.Unknown, true},
		"nobody named":             {nil, event.NeedsDump, false},
		"stay":                     {func(r *rules) { r.from, r.rejoin = "master", false }, event.NeedsDump, false},
		"foreign":                  {func(r *rules) { r.from = "master" }, event.Foreign, false},
		"foreign, may be replaced": {func(r *rules) { r.from, r.replace = "master", true }, event.Foreign, true},
	} {
		t.Run(name, func(t *testing.T) {
			k := newTalk(t, 5, c.rules)
			k.hear(event.Event{State: event.Fatal, Code: c.code, Text: "join again"})
			if c.joins {
				require.NoError(t, k.end)
				require.Equal(t, "master", k.last(event.DumpReq, event.None).Peer)
				return
			}
			require.ErrorIs(t, k.end, ErrNeedsDump)
			require.ErrorContains(t, k.end, "join again")
		})
	}
}

func TestSessionStopsWhenFencedOrRefused(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.hear(event.Event{Code: event.Fenced, Text: "another process"})
	require.ErrorIs(t, k.end, ErrFenced)
	k = newTalk(t, 0, nil)
	k.hear(event.Event{Code: event.OutOfLog, Text: "1 to 9"})
	require.ErrorIs(t, k.end, ErrRefused)
	k = newTalk(t, 0, func(r *rules) { r.exitOnFail = true })
	k.welcomeAt(0)
	k.feed(0, 1)
	k.apply(0, errors.New("bad"))
	k.hear(event.Event{Code: event.Held, Text: "increment 1 failed: bad"})
	require.ErrorIs(t, k.end, ErrFailed)
}

// A flag that was left where a node is started moves nothing once the database has a position.
func TestAnExplicitPositionIsForADatabaseWithoutOne(t *testing.T) {
	k := newTalk(t, 5, func(r *rules) { r.hello.At = 31 })
	h, err := event.DecodeHello(k.last(event.IncrReq, event.None).Body)
	require.NoError(t, err)
	require.Zero(t, h.At)
}

// XI-9: an explicit position starts at that very increment; it is tried again until the database has taken it.
func TestXI09SessionAdoptsAnExplicitPosition(t *testing.T) {
	k := newTalk(t, -1, func(r *rules) { r.hello.At = 31 })
	h, err := event.DecodeHello(k.last(event.IncrReq, event.None).Body)
	require.NoError(t, err)
	require.EqualValues(t, 31, h.At)
	k.hear(event.Event{Code: event.Seek, Pos: k.h.pos[30]})
	require.Equal(t, k.h.pos[30], *k.job().seek)
	k.sought(Transient(errors.New("locked")))
	k.ticks(1)
	k.last(event.IncrReq, event.None)
	k.hear(event.Event{Code: event.Seek, Pos: k.h.pos[30]})
	k.job()
	k.connected() // in the middle of it
	k.sought(nil)
	k.flush()
	e := k.last(event.IncrReq, event.None)
	require.Equal(t, k.h.pos[30], e.Pos)
	h, err = event.DecodeHello(e.Body)
	require.NoError(t, err)
	require.Zero(t, h.At)
	k.welcomeAt(30)
}

// A node believes a broker only within its own history: a position of another log is neither sought nor welcomed,
// whoever names it, unless the operator has allowed that.
func TestSessionMovesOnlyWithinItsLog(t *testing.T) {
	other := event.Position{Log: 0xdead, Seq: 7, Chain: 9}
	sets := map[string]func(*talk) event.Event{
		"welcome":           func(*talk) event.Event { return event.Event{Code: event.Welcome, Pos: other} },
		"seek":              func(*talk) event.Event { return event.Event{Code: event.Seek, Pos: other} },
		"seek to no log":    func(*talk) event.Event { return event.Event{Code: event.Seek, Pos: event.Position{Seq: 3}} },
		"seek in a session": func(k *talk) event.Event { k.welcomeAt(5); return event.Event{Code: event.Seek, Pos: other} },
	}
	for name, word := range sets {
		t.Run(name, func(t *testing.T) {
			k := newTalk(t, 5, nil)
			e := word(k)
			k.hear(e)
			k.ticks(3)
			k.hear(e)
			require.Empty(t, k.jobs)
			require.Equal(t, k.h.pos[5], k.pos)
			require.NoError(t, k.end, "a false word ends nothing")
		})
	}
	for name, k := range map[string]*talk{"a database without a position": newTalk(t, -1, nil),
		"--replace": newTalk(t, 5, func(r *rules) { r.replace = true })} {
		k.hear(event.Event{Code: event.Seek, Pos: other})
		require.Equal(t, other, *k.job().seek, name)
	}
	k := newTalk(t, -1, nil)
	k.hear(event.Event{Code: event.Welcome})
	require.Empty(t, k.jobs, "not even a database without a position adopts that of no log")
}

// What one node holds in memory is bounded by the window it has given, whatever the broker sends.
func TestSessionTakesNoMoreThanItsWindow(t *testing.T) {
	pass := func(k *talk, from int, n uint64) event.Event {
		p := k.h.pos[from]
		return event.Event{State: event.Succ, Pos: p, Body: event.AppendSkip(nil, p.Seq+n, 1)}
	}
	t.Run("increments", func(t *testing.T) {
		k := newTalk(t, 0, func(r *rules) { r.windowRecords = 10 })
		k.welcomeAt(0)
		k.feed(0, 7)
		k.feed(7, 10)
		require.Len(t, k.queue, 10)
		k.hear(pass(k, 10, 1))
		require.Equal(t, opening, k.phase)
		require.Empty(t, k.queue)
		require.NoError(t, k.end)
	})
	t.Run("one frame", func(t *testing.T) {
		k := newTalk(t, 0, func(r *rules) { r.windowRecords = 10 })
		k.welcomeAt(0)
		k.hear(pass(k, 0, 11))
		require.Equal(t, opening, k.phase)
		require.Empty(t, k.jobs)
	})
	t.Run("bytes", func(t *testing.T) {
		k := newTalk(t, 0, nil)
		k.rules.windowBytes = uint32(len(k.h.frame(0, 8)))
		k.welcomeAt(0)
		k.feed(0, 5)
		k.feed(5, 8)
		require.Len(t, k.queue, 8)
		k.apply(5, nil)
		k.apply(8, nil)
		k.feed(8, 9) // what was applied makes room
		k.feed(9, 13)
		require.Len(t, k.queue, 5)
		k.feed(13, 20)
		require.Equal(t, opening, k.phase)
		require.Empty(t, k.queue)
	})
	t.Run("one increment is longer than the window", func(t *testing.T) {
		k := newTalk(t, 0, func(r *rules) { r.windowBytes = 1 })
		k.welcomeAt(0)
		k.feed(0, 1)
		k.apply(1, nil)
		k.feed(1, 2)
		k.apply(2, nil)
		require.Equal(t, following, k.phase)
	})
	t.Run("packed", func(t *testing.T) {
		k := newTalk(t, 0, nil)
		k.welcomeAt(0)
		k.feed(0, 1)
		before := cap(k.queue)
		k.hear(event.Event{Pos: k.h.pos[1], Body: event.Pack(nil, bytes.Repeat([]byte{9, 0, 0, 0, 0}, 1<<20))})
		require.Equal(t, opening, k.phase)
		require.LessOrEqual(t, cap(k.queue), before)
	})
}

// XE-13: old positions stay in force until the new snapshot is loaded and switched. A DUMP that comes to nothing
// is asked for again, with another request id, after a longer and longer wait.
func TestXE13SessionAsksAgainWithBackoff(t *testing.T) {
	k := newTalk(t, -1, func(r *rules) { r.from = "master" })
	first := k.last(event.DumpReq, event.None).Request
	k.ticks(2)
	require.Equal(t, first, k.last(event.DumpReq, event.None).Request, "repeated until answered")
	waits := []int{1, 2, 4, 8, 8}
	for _, want := range waits {
		k.step(event.Event{Kind: event.DumpRep, State: event.Fail, Code: event.NotReady, ID: "n1", Request: k.dump.request})
		k.flush()
		require.Equal(t, want, k.retry.wait)
		said := len(k.said)
		k.ticks(want - 1)
		require.Len(t, k.said, said)
		k.ticks(1)
		require.NotEqual(t, first, k.last(event.DumpReq, event.None).Request)
	}
	k.load(7, errors.New("wrong digest"))
	require.Equal(t, joining, k.phase)
	require.True(t, k.pos.Zero())
	k.ticks(8)
	k.load(8, nil)
	h, err := event.DecodeHello(k.last(event.IncrReq, event.None).Body)
	require.NoError(t, err)
	require.Equal(t, k.loaded, h.Loaded)
	k.hear(event.Event{State: event.Fatal, Code: event.NeedsDump}) // of no use: not at once again
	require.Positive(t, k.retry.wait)
}

func TestSessionStopsAtARefusedDumpAndAtADatabaseThatMayNotBeReplaced(t *testing.T) {
	k := newTalk(t, -1, func(r *rules) { r.from = "master" })
	k.step(event.Event{Kind: event.DumpRep, State: event.Fail, Code: event.Refused, ID: "n1", Request: k.dump.request,
		Text: "other topics"})
	require.ErrorIs(t, k.end, ErrRefused)
	k = newTalk(t, -1, func(r *rules) { r.from = "master" })
	k.load(3, errNotOurs)
	require.ErrorIs(t, k.end, ErrNeedsDump)
}

// XC-8: a late answer to an old request id is ignored; a restore that was cancelled cannot speak for the next.
func TestXC08SessionTellsTwoDumpsApart(t *testing.T) {
	k := newTalk(t, -1, func(r *rules) { r.from = "master" })
	opened := func(request event.RequestID, pos int) {
		k.step(event.Event{Kind: event.DumpRep, State: event.Succ, Code: event.Opened, ID: "n1", Request: request,
			Dump: request.Dump(), Pos: k.h.pos[pos], Body: dumpflow.Opened{Format: "mem/1"}.Encode()})
	}
	old := k.dump.request
	opened(old, 5)
	k.flush()
	job := k.job()
	k.step(event.Event{Kind: event.DumpRep, State: event.Fail, Code: event.NotReady, ID: "n1", Request: old})
	require.True(t, k.drop)
	k.flush()
	opened(old, 5)
	opened(k.dump.request, 6)
	k.flush()
	require.Empty(t, k.jobs, "the cancelled one has not ended yet")
	request := k.dump.request
	k.restored(*job.restore, "", errors.New("cancelled"))
	require.Equal(t, request, k.dump.request, "its failure is not ours")
	opened(old, 5)
	k.flush()
	require.Empty(t, k.jobs, "a late answer to the old request")
	opened(k.dump.request, 6)
	k.flush()
	require.Equal(t, k.h.pos[6], k.job().restore.pos)
}

// XE-7: no increment goes to the target while its dump needs quiet: the snapshot is opened at rest, and one that
// is not online is read at rest.
func TestXE07SessionSnapshotsAtRest(t *testing.T) {
	for _, online := range []bool{true, false} {
		t.Run(fmt.Sprint("online ", online), func(t *testing.T) {
			k := newTalk(t, 0, nil)
			k.welcomeAt(0)
			k.feed(0, 5)
			for range 3 { // repeated until answered
				k.hear(event.Event{Kind: event.DumpReq, Dump: 42})
			}
			k.apply(5, nil)
			require.EqualValues(t, 42, k.job().snapshot)
			k.hear(event.Event{Kind: event.DumpReq, Dump: 42})
			k.opened(42, k.h.pos[5], dumpflow.Opened{Format: "mem/1", Online: online}, nil)
			k.flush()
			require.Equal(t, k.h.pos[5], k.last(event.DumpRep, event.Succ).Pos)
			require.EqualValues(t, 42, k.job().upload)
			k.hear(event.Event{Kind: event.DumpReq, Dump: 42})
			require.Equal(t, event.Opened, k.last(event.DumpRep, event.Succ).Code)
			k.feed(5, 6)
			if !online {
				require.Empty(t, k.jobs)
				k.uploaded(42, nil)
				k.flush()
			}
			k.apply(6, nil)
		})
	}
}

// What a snapshot needs is done between two batches, while increments go on. What may pass is tried again each time the
// broker asks, without a word; what stays is told.
func TestSessionPreparesItsDatabaseWhileIncrementsGoOn(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.welcomeAt(0)
	k.feed(0, 3)
	asked := event.Event{Kind: event.DumpReq, Code: event.Prepare, Dump: 42}
	k.hear(asked)
	require.Len(t, k.jobs, 1, "the database does one thing at a time")
	k.apply(3, nil)
	k.feed(3, 5)
	for n := 1; n <= prepareTries; n++ {
		k.said = nil
		require.EqualValues(t, 42, k.job().prepare)
		k.prepared(42, Transient(errors.New("a reader is in the way")))
		k.flush()
		if n == 1 {
			k.apply(5, nil)
		}
		if n < prepareTries {
			require.False(t, slices.ContainsFunc(k.said, func(e event.Event) bool { return e.Kind == event.DumpRep }))
			k.hear(asked)
		}
	}
	require.Contains(t, k.last(event.DumpRep, event.Fail).Text, "a reader is in the way")
	asked.Dump = 43
	k.hear(asked)
	require.EqualValues(t, 43, k.job().prepare)
	k.prepared(43, nil)
	k.flush()
	require.Equal(t, event.Prepare, k.last(event.DumpRep, event.Succ).Code)
	k.hear(event.Event{Kind: event.DumpReq, Dump: 43})
	require.EqualValues(t, 43, k.job().snapshot)
}

// XE-14: the target renews its lease; that does not keep the heartbeat silent.
func TestXE14SessionRenewsItsLease(t *testing.T) {
	k := newTalk(t, 5, nil)
	k.welcomeAt(5)
	k.hear(event.Event{Kind: event.DumpReq, Dump: 42})
	k.job()
	k.opened(42, k.h.pos[5], dumpflow.Opened{Online: true}, nil)
	k.flush()
	k.job()
	k.said = nil
	k.ticks(10)
	leases, beats := 0, 0
	for _, e := range k.said {
		if e.Code == event.Lease {
			leases++
		} else if e.State == event.Succ {
			beats++
		}
	}
	require.Equal(t, 10, leases)
	require.GreaterOrEqual(t, beats, 2)
	k.hear(event.Event{Code: event.Reopen})
	k.said = nil
	k.ticks(3)
	for _, e := range k.said {
		require.Equal(t, event.IncrReq, e.Kind, "a session that has not begun carries no word of a DUMP")
	}
}

func TestSessionGivesASnapshotUp(t *testing.T) {
	k := newTalk(t, 5, nil)
	k.welcomeAt(5)
	k.hear(event.Event{Kind: event.DumpReq, Dump: 42})
	k.job()
	k.hear(event.Event{Kind: event.DumpReq, Code: event.Cancel, Dump: 42}) // while it is being opened
	k.opened(42, k.h.pos[5], dumpflow.Opened{Online: true}, nil)
	require.True(t, k.drop, "the open snapshot is closed")
	k.flush()
	require.Empty(t, k.jobs)
	k.hear(event.Event{Kind: event.DumpReq, Dump: 43})
	k.job()
	k.opened(43, k.h.pos[5], dumpflow.Opened{}, nil) // not online
	k.flush()
	k.job()
	k.step(event.Event{Kind: event.DumpReq, ID: "n1", Session: k.self, Dump: 44}) // a new DUMP replaces it
	require.True(t, k.drop)
	k.flush()
	require.Empty(t, k.jobs, "the older snapshot is still being read")
	k.uploaded(43, errors.New("cancelled"))
	k.flush()
	require.EqualValues(t, 44, k.job().snapshot)
	k.opened(44, event.Position{}, dumpflow.Opened{}, errors.New("no disk space"))
	k.flush()
	require.Equal(t, "no disk space", k.last(event.DumpRep, event.Fail).Text)
}

// XE-7: the end of an older upload does not end the quiet that a newer snapshot needs.
func TestXE07SessionKeepsStillForTheNewerSnapshot(t *testing.T) {
	k := newTalk(t, 5, nil)
	k.welcomeAt(5)
	for _, dump := range []event.DumpID{1, 2} {
		k.hear(event.Event{Kind: event.DumpReq, Dump: dump})
		require.Equal(t, dump, k.job().snapshot)
		k.opened(dump, k.h.pos[5], dumpflow.Opened{Online: dump == 1}, nil)
		k.flush()
		require.Equal(t, dump, k.job().upload)
	}
	k.uploaded(1, errors.New("cancelled"))
	k.feed(5, 6)
	require.Empty(t, k.jobs)
	k.uploaded(2, nil)
	k.flush()
	k.apply(6, nil)
}

func TestSessionGivesASnapshotOfReplacedDataUp(t *testing.T) {
	k := newTalk(t, 5, func(r *rules) { r.from = "master" })
	k.welcomeAt(5)
	k.hear(event.Event{Kind: event.DumpReq, Dump: 42})
	k.job()
	k.opened(42, k.h.pos[5], dumpflow.Opened{Online: true}, nil)
	k.flush()
	k.step(event.Event{Kind: event.IncrRep, ID: "n1", Session: k.self, State: event.Fatal, Code: event.NeedsDump})
	require.True(t, k.drop)
	require.Zero(t, k.snapping)
	require.Nil(t, k.snapOpen)
}

// XS-6: a state in a message from the broker only informs.
func TestXS06SessionBehavesAlikeWhateverStateTheBrokerSends(t *testing.T) {
	for _, state := range []event.State{event.None, event.Succ, event.Fail, event.Fatal} {
		k := newTalk(t, 0, nil)
		k.hear(event.Event{State: state, Code: event.Welcome, Pos: k.h.pos[0]})
		k.hear(event.Event{State: state, Pos: k.h.pos[0], Body: k.h.frame(0, 3)})
		k.apply(3, nil)
		require.Equal(t, k.h.pos[3], k.last(event.IncrReq, event.Succ).Pos)
	}
}

func TestSessionSaysByeOnlyWhenItHasBegun(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.bye()
	k.flush()
	k.last(event.IncrReq, event.None)
	k.welcomeAt(0)
	k.bye()
	k.flush()
	require.Equal(t, event.Bye, k.last(event.IncrReq, event.Succ).Code)
}

// A broker with many clients lets a node be silent for longer; then its own silence means nothing before three times
// that.
func TestSessionSpeaksAsRarelyAsTheBrokerLetsIt(t *testing.T) {
	for ms, ticks := range map[uint32]int{0: 5, 4000: 5, 10_000: 10, 1 << 31: 300} {
		k := newTalk(t, 0, nil)
		k.hear(event.Event{Code: event.Welcome, Pos: k.h.pos[0], LeaseMS: ms})
		k.hear(event.Event{State: event.Succ, Pos: k.h.pos[0], LeaseMS: ms})
		k.feed(0, 1) // frames say nothing of it
		k.apply(1, nil)
		for range 2 {
			said := len(k.said)
			k.ticks(ticks - 1)
			require.Len(t, k.said, said, ms)
			k.ticks(1)
			require.Len(t, k.said, said+1, ms)
		}
		k.ticks(max(30, 3*ticks) - 2*ticks)
		require.Equal(t, following, k.phase, ms)
		k.ticks(1)
		require.Equal(t, opening, k.phase, ms)
		k.welcomeAt(1)
		said := len(k.said)
		k.ticks(5)
		require.Greater(t, len(k.said), said, "what an older session was told is forgotten")
	}
}

// A broker that takes no notice of a node, because it is of another group or older, is told of: the node would wait in
// silence.
func TestSessionTellsOfABrokerThatNeverAnswers(t *testing.T) {
	for name, from := range map[string]string{"opening": "", "joining": "master"} {
		t.Run(name, func(t *testing.T) {
			k := newTalk(t, 0, func(r *rules) { r.from = from })
			if from != "" {
				k.hear(event.Event{Code: event.NeedsDump})
				require.Equal(t, joining, k.phase)
			}
			told := 0
			for range 3 * k.rules.silence {
				k.tick()
				told += strings.Count(fmt.Sprint(k.notes), "nothing has come from the broker")
				k.flush()
			}
			require.Equal(t, 1, told)
		})
	}
}

// A node that waits before it asks for a DUMP again has asked nobody: the silence of that time is no sign of a broker
// that is away.
func TestSessionTakesNoSilenceForAnAnswerWhileItAsksNothing(t *testing.T) {
	k := newTalk(t, -1, func(r *rules) { r.from, r.maxBackoff = "master", 2*r.silence })
	for range 10 {
		k.step(event.Event{Kind: event.DumpRep, State: event.Fail, Code: event.NotReady, ID: "n1", Request: k.dump.request})
		k.flush()
		for waits := k.retry.wait; waits > 0; waits-- {
			k.tick()
			require.NotContains(t, fmt.Sprint(k.notes), "nothing has come from the broker")
			k.flush()
		}
	}
	require.Greater(t, k.retry.step, k.rules.silence)
}

// Why a snapshot could not be loaded is said with every request for another one, until one is loaded.
func TestTheBrokerIsToldWhyAJoinFailed(t *testing.T) {
	k := newTalk(t, -1, func(r *rules) { r.from = "master" })
	first := k.last(event.DumpReq, event.None)
	require.Empty(t, first.Text)
	k.load(4, fmt.Errorf("load it: %s", strings.Repeat("ä", 2000)))
	k.asks(t)
	said := k.last(event.DumpReq, event.None)
	require.NotEqual(t, first.Request, said.Request)
	require.Equal(t, event.DumpID(99), said.Dump)
	require.Contains(t, said.Text, "load it: ")
	require.LessOrEqual(t, len(said.Text), dumpflow.MaxTrouble)
	require.True(t, utf8.ValidString(said.Text))

	k.load(4, Transient(errors.New("the connection was lost")))
	k.asks(t)
	require.Equal(t, "it may pass: the connection was lost", k.last(event.DumpReq, event.None).Text)

	k.step(event.Event{Kind: event.DumpRep, State: event.Fail, Code: event.NotReady, ID: "n1", Request: k.dump.request,
		Text: "wait"})
	k.asks(t)
	said = k.last(event.DumpReq, event.None)
	require.Zero(t, said.Dump, "the broker has said so itself")
	require.Equal(t, "wait", said.Text)
	k.load(4, nil)
	k.welcomeAt(4)
	k.feed(4, 5)
	k.apply(5, nil)
	k.join("once more")
	k.asks(t)
	require.Empty(t, k.last(event.DumpReq, event.None).Text, "one has been loaded")
}

// asks lets time pass until the session asks for a DUMP.
func (k *talk) asks(t *testing.T) {
	t.Helper()
	request := k.dump.request
	for range 100 {
		k.tick()
		if n := len(k.send); n > 0 && k.send[n-1].Kind == event.DumpReq && k.send[n-1].Request == request {
			k.flush()
			return
		}
		k.flush()
	}
	t.Fatal("it asks no more")
}

// A node that gives up joining says so once, with the reason.
func TestANodeThatGivesUpJoiningSaysWhy(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		kind error
	}{"not ours": {errNotOurs, ErrNeedsDump}, "other topics": {fmt.Errorf("%w: other", errOtherTopics), ErrRefused}} {
		t.Run(name, func(t *testing.T) {
			k := newTalk(t, -1, func(r *rules) { r.from = "master" })
			k.load(4, c.err)
			require.ErrorIs(t, k.end, c.kind)
			said := k.last(event.DumpReq, event.None)
			require.Equal(t, event.Abandoned, said.Code)
			require.Equal(t, c.err.Error(), said.Text)
			require.Equal(t, event.DumpID(99), said.Dump)
		})
	}
}

// A snapshot that nobody waits for is given up while the database still opens it.
func TestOpeningASnapshotIsGivenUpWithItsDump(t *testing.T) {
	k := newTalk(t, 0, nil)
	k.welcomeAt(0)
	k.hear(event.Event{Kind: event.DumpReq, Dump: 5})
	require.Equal(t, event.DumpID(5), k.job().snapshot)
	k.step(event.Event{Kind: event.DumpReq, Code: event.Cancel, ID: "n1", Session: k.self, Dump: 5})
	require.True(t, k.giveUp)
	k.flush()
	k.opened(5, event.Position{}, dumpflow.Opened{}, errors.New("context canceled"))
	k.flush()
	k.feed(0, 2)
	require.Len(t, k.job().apply, 2, "increments go on")
}

// --at is for data that has no position: a database that has no data at all, and is told where to get it, joins from
// there, whatever flag was left where it is started.
func TestAnEmptyDatabaseIsNotPlaced(t *testing.T) {
	for name, c := range map[string]struct {
		from  string
		empty bool
		joins bool
	}{
		"empty, with --from":    {"master", true, true},
		"empty, without":        {"", true, false},
		"data, with --from":     {"master", false, false},
		"nobody can tell, with": {"master", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			k := newTalk(t, -1, func(r *rules) { r.from, r.hello.At, r.hello.Empty = c.from, 36, c.empty })
			if c.joins {
				require.Equal(t, "master", k.last(event.DumpReq, event.None).Peer)
				return
			}
			h, err := event.DecodeHello(k.last(event.IncrReq, event.None).Body)
			require.NoError(t, err)
			require.EqualValues(t, 36, h.At)
		})
	}
}
