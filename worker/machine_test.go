package worker

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/increments"
	"xmq/statedb"
)

// play runs one script of testdata; -rewrite writes the answers anew.
func play(t *testing.T, script string) {
	t.Helper()
	s := newStage(0)
	datadriven.RunTest(t, filepath.Join("testdata", script+".txt"), func(t *testing.T, td *datadriven.TestData) string {
		s.command(t, &line{t, td})
		require.NoError(t, s.wrong, td.Pos)
		return s.told()
	})
}

// line is one command of a script: cmd id key=value...
type line struct {
	t  *testing.T
	td *datadriven.TestData
}

func (l *line) id() string { return l.word(0) }

func (l *line) word(i int) string {
	if len(l.td.CmdArgs) <= i {
		l.td.Fatalf(l.t, "needs %d arguments", i+1)
	}
	return l.td.CmdArgs[i].Key
}

func (l *line) has(key string) bool { return l.td.HasArg(key) }

func (l *line) str(key string) string {
	for _, a := range l.td.CmdArgs {
		if a.Key == key {
			return strings.ReplaceAll(strings.Join(a.Vals, ","), "_", " ")
		}
	}
	return ""
}

func (l *line) list(key string) []string {
	for _, a := range l.td.CmdArgs {
		if a.Key == key {
			return a.Vals
		}
	}
	return nil
}

func (l *line) num(key string, base int) uint64 {
	v := l.str(key)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseUint(v, base, 64)
	if err != nil {
		l.td.Fatalf(l.t, "%s: %v", key, err)
	}
	return n
}

// session reads "a.2": process a, second conversation; token=7 what it proves itself by, which nothing shows.
func (l *line) session() event.Session {
	instance, turn, _ := strings.Cut(l.str("session"), ".")
	i, _ := strconv.ParseUint(instance, 16, 64)
	n, _ := strconv.ParseUint(turn, 10, 32)
	return event.Session{Instance: event.Instance(i), Turn: uint32(n), Token: event.Token{byte(l.num("token", 16))}}
}

// limit reads limit=2h.
func (l *line) limit() time.Duration {
	if !l.has("limit") {
		return 0
	}
	d, err := event.ParseLimit(l.str("limit"))
	require.NoError(l.t, err)
	return d
}

// pos reads pos=N, log=other, chain=other.
func (l *line) pos(log *memLog) event.Position {
	if !l.has("pos") {
		return event.Position{}
	}
	seq := l.num("pos", 10)
	p := event.Position{Log: log.id, Seq: seq, Chain: 0xbad}
	if seq <= log.Head().Seq {
		p = log.at(seq)
	}
	if l.has("log") {
		p.Log++
	}
	if l.has("chain") {
		p.Chain++
	}
	return p
}

func (s *stage) command(t *testing.T, l *line) {
	switch l.td.Cmd {
	case "log": // log N [topic=T] [tx]: the log grows by N, which are {"tx": ...}
		n, err := strconv.Atoi(l.id())
		require.NoError(t, err)
		plain := s.log.body
		if l.has("tx") {
			s.log.body = func(seq uint64) []byte { return fmt.Appendf(nil, `{"tx": [{"sql": "increment %d"}]}`, seq) }
		}
		s.log.push(n, l.str("topic"))
		s.log.body = plain
		for _, id := range slices.Sorted(maps.Keys(s.machines)) {
			s.play(id)
		}
	case "trim": // trim FIRST id...
		n, err := strconv.ParseUint(l.id(), 10, 64)
		require.NoError(t, err)
		s.log.trim(n)
		for _, a := range l.td.CmdArgs[1:] {
			s.step(a.Key, Input{Trimmed: true})
		}
	case "reads": // reads fine | later | damaged: how the log answers from now on
		s.log.refuse = map[string]error{"later": increments.ErrLater, "damaged": increments.ErrQuarantined}[l.id()]
	case "rules":
		s.adjust(l)
	case "client": // a stored record
		c := statedb.Client{V: statedb.ClientVersion, ID: l.id(), Role: statedb.Follower,
			State: statedb.State(l.str("state")), Base: l.num("base", 10),
			Acked: s.log.at(l.num("acked", 10)), Topics: l.list("topics")}
		s.clients[c.ID] = c
		s.revive(c.ID)
	case "none", "succ", "fail", "fatal", "event":
		s.step(l.id(), Input{Node: s.node(l)})
	case "join": // one command for the usual beginning: none, welcome, first report
		s.step(l.id(), Input{Node: &event.Event{Kind: event.IncrReq, ID: l.id(), Session: l.session(), Pos: l.pos(s.log),
			Body: s.hello(l).Encode()}})
		p := l.pos(s.log)
		if p.Zero() {
			p = event.Start(s.log.id)
		}
		s.step(l.id(), Input{Node: &event.Event{Kind: event.IncrReq, State: event.Succ, ID: l.id(), Session: l.session(),
			Pos: p, CreditRecords: 10, CreditBytes: 1 << 20}})
	case "ask": // ask REQUESTER from=TARGET request=7 [dump=6 text=WHY: what came of the DUMP before]
		e := event.Event{Kind: event.DumpReq, ID: l.id(), Peer: l.str("from"), Request: event.RequestID(l.num("request", 16)),
			Dump: event.DumpID(l.num("dump", 16)), Text: l.str("text"), Body: s.hello(l).Encode()}
		if l.has("abandon") {
			e.Code = event.Abandoned
		}
		swapped := dumpflow.Swap(e)
		s.step(swapped.ID, Input{Asked: &swapped})
	case "opened", "prepared", "lease", "dumpfail": // the target's DUMP_REP
		s.step(l.id(), Input{Node: s.dumpRep(l)})
	case "sealed":
		s.step(l.id(), Input{Sealed: &dumpflow.Manifest{Dump: event.DumpID(l.num("dump", 16)), Target: l.id(),
			Pos: l.pos(s.log), Size: 1000}})
	case "unstaged":
		s.step(l.id(), Input{Unstaged: event.DumpID(l.num("dump", 16))})
	case "order":
		body := []byte(l.str("body"))
		if l.has("tx") {
			body = []byte(`{"tx": [{"sql": "instead"}]}`)
		}
		var record []byte
		if n := l.num("seq", 10); Verb(l.word(1)) == Apply && n > 0 && n <= uint64(len(s.log.records)) {
			record = s.log.records[n-1]
		}
		s.step(l.id(), Input{Order: &Order{Verb: Verb(l.word(1)), Seq: l.num("seq", 10), Body: body, Record: record,
			Ask:    l.has("ask"),
			Topics: l.list("topics"), Limit: l.limit(), Reason: l.str("reason"), By: l.str("by"), Token: 1}})
	case "tick":
		n, err := strconv.Atoi(l.id())
		require.NoError(t, err)
		for range n {
			s.tick()
		}
	case "restart":
		s.restart()
	case "show":
		m := s.machine(l.id())
		v := m.View(s.log.Head())
		s.say("%s is=%s base=%d acked=%d sent=%d lag=%s connected=%v refused=%d known=%v", v.State, v.Condition.Is, v.Base,
			v.Acked, v.Sent, number(v.Lag), v.Connected, v.Nonsense, m.known)
	default:
		l.td.Fatalf(t, "unknown command")
	}
}

func (s *stage) adjust(l *line) {
	for _, a := range l.td.CmdArgs {
		n, err := strconv.Atoi(a.Vals[0])
		require.NoError(l.t, err)
		switch a.Key {
		case "maxdumps":
			s.rules.MaxDumps = n
		case "turn":
			s.rules.TurnRecords = n
		case "deadline":
			s.rules.DumpTicks = n
		case "lease":
			s.rules.LeaseTicks = n
		default:
			l.td.Fatalf(l.t, "unknown rule %s", a.Key)
		}
	}
}

func (s *stage) hello(l *line) event.Hello {
	target := "mem"
	if l.has("driver") {
		target = l.str("driver")
	}
	return event.Hello{Target: target, Features: l.list("features"), Topics: l.list("topics"), At: l.num("at", 10),
		Loaded:    event.RequestID(l.num("loaded", 16)),
		Stateless: l.has("stateless"), Prepares: l.has("prepares"), Applies: l.has("applies"),
		Holds: l.has("holds"), Empty: l.has("empty"), Backup: l.has("backup")}
}

func (s *stage) node(l *line) *event.Event {
	e := &event.Event{Kind: event.IncrReq, ID: l.id(), Session: l.session(), Pos: l.pos(s.log), Text: l.str("text")}
	e.CreditRecords, e.CreditBytes = 10, 1<<20
	switch l.td.Cmd {
	case "none":
		e.Body = s.hello(l).Encode()
		if l.has("busy") {
			e.Code = event.Busy
		}
	case "succ":
		e.State = event.Succ
		if l.has("credit") {
			e.CreditRecords = uint32(l.num("credit", 10))
		}
		if l.has("bytes") {
			e.CreditBytes = uint32(l.num("bytes", 10))
		}
	case "fail":
		e.State = event.Fail
	case "fatal":
		e.State = event.Fatal
	case "event":
		e.Kind, e.State = event.Kind(l.num("kind", 10)), event.State(l.num("state", 10))
		e.Body = []byte(l.str("body"))
	}
	for key, code := range map[string]event.Code{"applied": event.Applied, "notapplied": event.NotApplied,
		"mayapplied": event.MayApplied} {
		if l.has(key) {
			e.Code, e.Request = code, event.RequestID(l.num("request", 16))
		}
	}
	if l.has("bye") {
		e.Code = event.Bye
	}
	if l.has("slow") {
		e.Code = event.Slow
	}
	if l.has("retrying") {
		e.Code = event.Retrying
	}
	return e
}

func (s *stage) dumpRep(l *line) *event.Event {
	e := &event.Event{Kind: event.DumpRep, ID: l.id(), Session: l.session(), Dump: event.DumpID(l.num("dump", 16)),
		Pos: l.pos(s.log), Text: l.str("text")}
	switch l.td.Cmd {
	case "opened":
		e.State, e.Code = event.Succ, event.Opened
		e.Body = dumpflow.Opened{Format: "mem/1", Online: !l.has("plain")}.Encode()
	case "prepared":
		e.State, e.Code = event.Succ, event.Prepare
	case "lease":
		e.Code = event.Lease
	case "dumpfail":
		e.State = event.Fail
		if l.has("fatal") {
			e.State = event.Fatal
		}
	}
	return e
}

// number is what a screen says of a number that may not be known.
func number(n *uint64) string {
	if n == nil {
		return "?"
	}
	return fmt.Sprint(*n)
}
