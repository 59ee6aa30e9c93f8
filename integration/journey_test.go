package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/broker/units"
	"xmq/cmd/xmq/shop"
	"xmq/statedb"
	"xmq/worker"
)

// Every accepted write reaches every node whole and is applied; nodes converge. N nodes, random kills: equal content
// and equal acked position at the end. Kill -9 of the broker and of nodes at random moments under load (XR-2).
func TestXR02RandomKillsOfEverybody(t *testing.T) {
	const kills = 14
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	s := newSite(t, "--max-records", "400", "--retention-every", "300ms", "--retention-keep-age", "0s", "--tick", "200ms",
		"--silent", "2s", "--lease", "2s")
	running := map[string]*process{"broker": s.broker()}
	start := map[string]func() *process{
		"broker": func() *process { return s.broker() },
		"master": func() *process { return s.node("master", "") },
		"n1":     func() *process { return s.node("n1", "master") },
		"n2":     func() *process { return s.node("n2", "n1") },
	}
	names := []string{"broker", "master", "n1", "n2"}
	for _, n := range names[1:] {
		running[n] = start[n]()
	}
	stream, reference := shop.New(seed), filepath.Join(s.dir, "reference.sql")
	f, err := os.Create(reference)
	require.NoError(t, err)
	for round := range kills {
		var script strings.Builder
		for range 60 {
			next := stream.Next()
			fmt.Fprintf(f, "%s;\n", strings.TrimRight(next, ";\n "))
			fmt.Fprintf(&script, "BEGIN;\n%s;\nCOMMIT;\n", strings.TrimRight(next, ";\n "))
		}
		published := make(chan string, 1)
		go func() {
			out, errs, code := s.tool(script.String(), "publish", "--sql", "-", "--dialect", "sqlite", "--idempotency-prefix",
				fmt.Sprint("round", round))
			published <- fmt.Sprintf("%d %s%s", code, out, errs)
		}()
		victim := names[rng.IntN(len(names))]
		<-time.After(time.Duration(rng.IntN(250)) * time.Millisecond)
		running[victim].kill()
		running[victim] = start[victim]()
		require.True(t, strings.HasPrefix(<-published, "0 "), "publishing survives the kill of %s", victim)
	}
	require.NoError(t, f.Close())
	p := s.level("master", "n1", "n2")
	require.EqualValues(t, kills*60, p.Head, "every increment is in the log exactly once")
	apply(t, reference, s.path("reference"))
	for _, n := range names[1:] {
		require.Equal(t, 0, running[n].stop(t), n)
		_, _, err := shop.Compare(s.path("reference"), s.path(n))
		require.NoError(t, err, n)
	}
	require.Contains(t, s.ok("", "log", "check"), "records checked")
	require.Equal(t, 0, running["broker"].stop(t))
	require.Contains(t, s.ok("", "log", "check", "--data", filepath.Join(s.dir, "broker")), "records checked")
}

// Clients and positions load from the state store; the end of the log comes from the log itself. Kill -9 at random
// points: positions never ahead of what was acked, and what was answered is there (XB-5).
func TestXB05BrokerKilledUnderLoad(t *testing.T) {
	s := newSite(t, "--max-records", "300")
	b := s.broker()
	n := s.node("master", "")
	s.ok("CREATE TABLE a (n INTEGER)\n", "publish")
	answered, head := uint64(1), uint64(1)
	for round := range 6 {
		type result struct {
			out  string
			code int
		}
		done := make(chan result, 1)
		go func() {
			lines := strings.Repeat(fmt.Sprintf("INSERT INTO a VALUES (%d)\n", round), 5000)
			out, _, code := s.tool(lines, "publish", "--json", "--retry", "0s")
			done <- result{out, code}
		}()
		eventually(t, func() error {
			if at := s.positions().Head; at == head {
				return fmt.Errorf("nothing of round %d has come, the head is %d", round, at)
			}
			return nil
		})
		b.kill() // the rest of the lines is on its way
		r := <-done
		var stored struct{ Last uint64 }
		if r.code == 0 {
			require.NoError(t, json.Unmarshal([]byte(r.out), &stored))
		}
		answered = max(answered, stored.Last)
		b = s.broker()
		p := s.positions()
		require.GreaterOrEqual(t, p.Head, answered, "what was answered is in the log")
		head = p.Head
		for _, c := range p.Clients {
			require.LessOrEqual(t, c.Acked, p.Head, "no position beyond the end of the log")
		}
	}
	p := s.level("master")
	require.Contains(t, s.ok("", "log", "check"), fmt.Sprintf("%[1]s records checked, 1 to %[1]s", units.Count(p.Head)))
	require.Equal(t, 0, n.stop(t))
	count := query(t, s.path("master"), "SELECT count(*) FROM a")
	require.Equal(t, fmt.Sprint(p.Head-1), count, "each increment was applied once")
}

// Any start order works: all six (XN-6).
func TestXN06AnyStartOrder(t *testing.T) {
	orders := [][]string{{"broker", "master", "n1"}, {"broker", "n1", "master"}, {"master", "broker", "n1"},
		{"master", "n1", "broker"}, {"n1", "broker", "master"}, {"n1", "master", "broker"}}
	for _, order := range orders {
		t.Run(strings.Join(order, "-"), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "--tick", "100ms", "--silent", "2s", "--lease", "2s")
			for _, who := range order {
				switch who {
				case "broker":
					s.broker()
				case "master":
					s.node("master", "", "--max-backoff", "3")
				default:
					s.node("n1", "master", "--max-backoff", "3")
				}
			}
			s.ok("CREATE TABLE a (n INTEGER)\nINSERT INTO a VALUES (1)\n", "publish")
			s.level("master", "n1")
			require.Equal(t, "1", query(t, s.path("n1"), "SELECT count(*) FROM a"))
		})
	}
}

// The manual way in two runs works, and a backup carries its position (XE-12).
func TestXE12BackupAndJoinInTwoSteps(t *testing.T) {
	s := newSite(t)
	s.broker()
	s.node("master", "")
	s.ok("CREATE TABLE a (n INTEGER)\nINSERT INTO a VALUES (1)\n", "publish")
	s.level("master")
	backup := filepath.Join(s.dir, "a.xmq")
	out := s.ok("", "dump", "--from", "master", "-o", backup)
	require.Contains(t, out, "at sequence 2")
	_, errs, code := s.tool("", "dump", "--from", "master", "-o", backup)
	require.Equal(t, 1, code)
	require.Contains(t, errs, "exists already")
	s.ok("CREATE TABLE b (n INTEGER)\n", "publish")
	s.level("master")
	require.Contains(t, s.ok("", "dump", "--from", "master", "-o", backup+".later"), "at sequence 3",
		"a backup holds the data of now, not a kept snapshot's")
	_, errs, code = s.tool("", "dump", "--from", "nobody", "-o", backup+"2")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "nobody is not known")
	s.ok("INSERT INTO a VALUES (2)\n", "publish")
	n := s.node("n1", "", "--restore", backup)
	s.level("n1")
	require.Equal(t, "2", query(t, s.path("n1"), "SELECT count(*) FROM a"))
	require.EqualValues(t, 2, s.client("n1").Base, "the first backup was loaded")
	require.Equal(t, 0, n.stop(t))
	text, err := os.ReadFile(backup)
	require.NoError(t, err)
	text[len(text)/2] ^= 1
	require.NoError(t, os.WriteFile(backup+".bad", text, 0o600))
	bad := s.node("n2", "", "--restore", backup+".bad")
	require.Equal(t, 78, bad.wait(t))
	require.Contains(t, bad.log.String(), "damaged")
	require.Len(t, s.positions().Clients, 2, "backups make no clients")
}

// An increment that fails stops only that client, raises an alert with sequence and text, and waits for retry, skip or
// replace; both of the latter are audited (XS-3, XC-1, XR-3).
func TestXC01FailRetrySkipReplace(t *testing.T) {
	s := newSite(t)
	b := s.broker()
	s.node("master", "")
	s.ok("CREATE TABLE a (n INTEGER PRIMARY KEY)\nINSERT INTO a VALUES (1)\n", "publish")
	s.level("master")
	n1 := s.node("n1", "master")
	s.level("n1")
	// n1 alone gets rows that collide with what comes.
	exec1(t, s.path("n1"), "INSERT INTO a VALUES (2), (3), (4)")
	s.ok("INSERT INTO a VALUES (2)\nINSERT INTO a VALUES (3)\nINSERT INTO a VALUES (4)\nINSERT INTO a VALUES (5)\n",
		"publish")
	s.level("master")
	failedAt := func(seq uint64) {
		t.Helper()
		eventually(t, func() error {
			if c := s.client("n1"); c.State != statedb.Failed || c.LastError == nil || c.LastError.Seq != seq {
				return fmt.Errorf("%+v", c)
			}
			return nil
		})
	}
	failedAt(3)
	require.Contains(t, s.ok("", "alerts"), "fail/n1")
	require.Contains(t, s.ok("", "alerts", "--json"), "UNIQUE constraint failed")
	_, errs, code := s.tool("", "client", "skip", "n1")
	require.Equal(t, 64, code)
	require.Contains(t, errs, "reason")
	s.ok("", "client", "skip", "--no-wait", "--reason", "it is there already", "n1")
	failedAt(4)
	b.kill() // the decision and the position survive
	s.broker()
	failedAt(4)
	exec1(t, s.path("n1"), "DELETE FROM a WHERE n = 3")
	s.ok("", "client", "retry", "--no-wait", "n1")
	failedAt(5)
	s.ok("", "client", "replace", "--reason", "one off", "--body", "INSERT INTO a VALUES (44)", "n1")
	s.level("n1")
	require.Equal(t, "1,2,3,4,44,5", query(t, s.path("n1"),
		"SELECT group_concat(n) FROM (SELECT n FROM a ORDER BY CAST(n AS TEXT))"))
	require.Equal(t, "INSERT INTO a VALUES (4)", s.ok("", "log", "show", "5"), "the log itself is not rewritten")
	require.Contains(t, s.ok("", "alerts"), "no alerts")
	var audit []api.AuditView
	require.NoError(t, json.Unmarshal([]byte(s.ok("", "audit", "--json")), &audit))
	require.Len(t, audit, 3)
	require.Equal(t, "skip", audit[0].Verb)
	require.Equal(t, "it is there already", audit[0].Reason)
	require.Equal(t, 0, n1.stop(t))
}

// Two nodes with one ID: the newest wins, the older one stops and says so.
func TestTwoProcessesWithOneID(t *testing.T) {
	s := newSite(t)
	s.broker()
	first := s.node("master", "")
	s.ok("CREATE TABLE a (n INTEGER)\n", "publish")
	s.level("master")
	second := s.node("master", "", "--target", "sqlite:"+s.path("other"))
	require.Equal(t, 1, first.wait(t))
	require.Contains(t, first.log.String(), "another process with the ID master has taken over")
	s.ok("INSERT INTO a VALUES (1)\n", "publish")
	s.level("master")
	require.Equal(t, "1", query(t, s.path("other"), "SELECT count(*) FROM a"))
	require.Equal(t, 0, second.stop(t))
}

// After FATAL and a restart an increment request is refused until a DUMP, even with a valid position (XD-8).
func TestXD08FatalIsForGood(t *testing.T) {
	s := newSite(t)
	b := s.broker()
	s.node("master", "")
	s.ok("CREATE TABLE a (n INTEGER)\n", "publish")
	n1 := s.node("n1", "master")
	s.level("master", "n1")
	require.Equal(t, 0, n1.stop(t))
	keep, err := os.ReadFile(s.path("n1"))
	require.NoError(t, err)
	exec1(t, s.path("n1"), "DELETE FROM xmq_position")
	n1 = s.node("n1", "")
	require.Equal(t, 78, n1.wait(t))
	require.Contains(t, n1.log.String(), "its database has data but no position any more: it is not fed from 1 over that")
	require.Contains(t, n1.log.String(), "start its node with --from master --replace")
	require.Contains(t, n1.log.String(), "xmq_position has 0 rows instead of one")
	s.ok("INSERT INTO a VALUES (1)\n", "publish")
	require.NoError(t, os.WriteFile(s.path("n1"), keep, 0o600))
	s.ok("", "client", "redump", "--reason", "its disk is old", "--confirm", "n1")
	b.kill()
	s.broker()
	n1 = s.node("n1", "") // with a valid position
	require.Equal(t, 78, n1.wait(t))
	require.Contains(t, n1.log.String(), "join again")
	s.node("n1", "master")
	s.level("n1")
	require.Equal(t, "1", query(t, s.path("n1"), "SELECT count(*) FROM a"))
}

// The last copy of a group, whose position nobody can read any more, goes on by what its own message says; nothing is
// applied over it before that.
func TestTheLastCopyHasTheWayOutThatItsMessageNames(t *testing.T) {
	s := newSite(t)
	s.broker()
	master := s.node("master", "")
	s.ok("CREATE TABLE a (n INTEGER)\nINSERT INTO a VALUES (1)\n", "publish")
	s.level("master")
	exec1(t, s.path("master"), "UPDATE xmq_position SET chain = 'x'")
	s.ok("INSERT INTO a VALUES (2)\n", "publish")
	for _, seeks := range []bool{false, true} { // at first it is believed to hold a position all the same
		require.Equal(t, 78, master.wait(t))
		require.Contains(t, master.log.String(), "to keep what its database holds: xmq client forget master --reason TEXT")
		require.Contains(t, master.log.String(), "first xmq client seek master SEQ --reason TEXT")
		s.ok("", "client", "forget", "--reason", "it is the last one", "--confirm", "master")
		if seeks {
			s.ok("", "client", "seek", "--reason", "its data ends at 2", "--confirm", "master", "3")
		}
		master = s.node("master", "")
	}
	s.level("master")
	require.Equal(t, "1,2", query(t, s.path("master"), "SELECT group_concat(n) FROM a"))
	require.Equal(t, 0, master.stop(t))
}

// A node whose copy is lost or of another history ends with 78, whether it finds out at its start, from the broker or
// while it runs: no supervisor starts it again and again. Its last line says in one sentence what to do.
func TestNodesThatNeedAPersonEndWith78(t *testing.T) {
	s := newSite(t)
	s.broker()
	master := s.node("master", "")
	s.ok("CREATE TABLE a (n INTEGER)\n", "publish")
	n1 := s.node("n1", "master")
	s.level("master", "n1")
	last := func(p *process) string {
		lines := strings.Split(strings.TrimSpace(p.log.String()), "\n")
		return lines[len(lines)-1]
	}
	exec1(t, s.path("n1"), "DELETE FROM xmq_position") // it knows from whom to join
	s.ok("INSERT INTO a VALUES (1)\n", "publish")
	require.Equal(t, 78, n1.wait(t))
	require.Contains(t, last(n1), "xmq: node n1: the database is not empty and not a copy of this log: empty it, "+
		"or start the node with --replace (")
	exec1(t, s.path("master"), "DELETE FROM xmq_position") // it does not
	s.ok("INSERT INTO a VALUES (2)\n", "publish")
	require.Equal(t, 78, master.wait(t))
	require.Contains(t, last(master), "xmq: node master: its copy is lost. No other client has a copy of this log")
	require.Contains(t, last(master), "xmq_position has 0 rows instead of one")

	other := newSite(t)
	b := other.broker()
	ahead := other.node("master", "")
	other.ok("CREATE TABLE a (n INTEGER)\n", "publish")
	other.level("master")
	require.Equal(t, 0, ahead.stop(t))
	exec1(t, other.path("master"), "UPDATE xmq_position SET seq = 9")
	ahead = other.node("master", "")
	require.Equal(t, 78, ahead.wait(t))
	require.Contains(t, last(ahead), "ahead of this log")
	require.Equal(t, 0, b.stop(t))
}

// Topics: a node applies only what it names, its position moves over the rest, and a DUMP between nodes whose topics
// differ is refused.
func TestTopics(t *testing.T) {
	s := newSite(t, "--masters", "master,shop")
	s.broker()
	s.node("master", "")
	s.node("shop", "", "--topics", "a,b")
	s.ok("CREATE TABLE a (n INTEGER)\n", "publish", "--topic", "a")
	s.ok("CREATE TABLE c (n INTEGER)\n", "publish", "--topic", "c")
	s.ok("INSERT INTO c VALUES (1)\n", "publish")
	s.ok("INSERT INTO a VALUES (1)\n", "publish", "--topic", "b")
	s.level("master", "shop")
	require.Equal(t, "1", query(t, s.path("master"), "SELECT count(*) FROM c"))
	require.Equal(t, "a", query(t, s.path("shop"),
		"SELECT group_concat(name) FROM sqlite_schema WHERE type = 'table' AND name <> 'xmq_position'"))
	require.Equal(t, "4", query(t, s.path("shop"), "SELECT seq FROM xmq_position"))
	wrong := s.node("n1", "master", "--topics", "a")
	require.Equal(t, 1, wrong.wait(t))
	require.Contains(t, wrong.log.String(), "a DUMP needs the same topics on both")
	right := s.node("n2", "shop", "--topics", "b,a")
	s.level("n2")
	s.ok("", "dump", "--from", "shop", "-o", "shop.xmq")
	holes := s.node("n3", "", "--restore", "shop.xmq")
	require.Equal(t, 1, holes.wait(t))
	require.Contains(t, holes.log.String(), "the backup of shop holds topics a,b and this node follows (all)")
	second := s.node("n4", "", "--target", "sqlite:"+s.path("n2"))
	require.Equal(t, 75, second.wait(t), "two nodes on one database")
	require.Contains(t, second.log.String(), "another node uses this database ("+s.path("n2")+"): node n2")
	require.Equal(t, 0, right.stop(t))
	changed := s.node("n2", "shop", "--topics", "a")
	require.Equal(t, 78, changed.wait(t), "the database itself says what it holds")
	require.Contains(t, changed.log.String(), "its data would have holes")
}

// An explicit position starts at that very increment; outside the log it is refused with the range (XI-9, XD-4).
func TestXI09ExplicitPosition(t *testing.T) {
	s := newSite(t)
	s.broker()
	s.ok("CREATE TABLE a (n INTEGER)\nINSERT INTO a VALUES (1)\nINSERT INTO a VALUES (2)\n", "publish")
	n := s.node("master", "")
	s.level("master")
	_, errs, code := s.tool("", "client", "seek", "master", "2", "--reason", "again")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "client master stands at 3 and goes back to 1: 2 increments run again there")
	// backwards: 2 and 3 are applied once more
	require.Contains(t, s.ok("", "client", "seek", "master", "2", "--reason", "again", "--confirm"), "done, it stands at")
	eventually(t, func() error {
		if got := query(t, s.path("master"), "SELECT count(*) FROM a"); got != "4" {
			return fmt.Errorf("%s rows", got)
		}
		return nil
	})
	s.level("master")
	_, errs, code = s.tool("", "client", "seek", "master", "9", "--reason", "beyond")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "can be 1 to 4")
	require.Equal(t, 0, n.stop(t))
	left := s.node("master", "", "--at", "1") // left in a unit file
	s.level("master")
	eventually(t, func() error {
		if !strings.Contains(left.log.String(), "--at is not used") {
			return errors.New("nothing is said of --at")
		}
		return nil
	})
	require.Equal(t, "4", query(t, s.path("master"), "SELECT count(*) FROM a"))
	beyond := s.node("n1", "", "--at", "9")
	require.Equal(t, 1, beyond.wait(t))
	require.Contains(t, beyond.log.String(), "can be 1 to 4")
	exec1(t, s.path("n2"), "CREATE TABLE a (n INTEGER)")
	stranger := s.node("n2", "", "--at", "3")
	require.Equal(t, 1, stranger.wait(t))
	require.Contains(t, stranger.log.String(), "xmq client add n2")
	s.ok("", "client", "add", "n2", "--reason", "its data is there up to 2")
	s.node("n2", "", "--at", "3")
	s.level("n2")
	require.Equal(t, "2", query(t, s.path("n2"), "SELECT group_concat(n) FROM a"))
}

// An unknown client without a DUMP is refused with a sentence that says what to do (XE-2).
func TestXE02UnknownNodeIsToldWhatToDo(t *testing.T) {
	s := newSite(t)
	s.broker()
	n := s.node("n7", "")
	require.Equal(t, 78, n.wait(t))
	require.Contains(t, n.log.String(), "nobody knows client n7 and its database is empty. No other client has a copy "+
		"of this log")
	require.Empty(t, s.positions().Clients)
}

// A start from another directory finds the same state. And a second broker on the directory is refused with 75,
// saying who holds it; a taken port with 75; a wrong flag with 64; a wrong key with 78 (XD-19).
func TestXD19StateLiesWhereItWasTold(t *testing.T) {
	s := newSite(t)
	b := s.broker()
	s.ok("x\n", "publish")
	log := s.positions().Log
	second := s.start("second", "broker", "--data", filepath.Join(s.dir, "broker"), "--nats-addr", freeAddr(t),
		"--http-addr", freeAddr(t))
	require.Equal(t, 75, second.wait(t))
	require.Contains(t, second.log.String(), "in use by another process")
	taken := s.start("taken", "broker", "--data", filepath.Join(s.dir, "b2"), "--nats-addr", s.nats, "--http-addr",
		freeAddr(t))
	require.Equal(t, 75, taken.wait(t))
	require.Contains(t, taken.log.String(), "cannot listen on "+s.nats)
	require.Equal(t, 0, b.stop(t))
	s.dir2(t)
	s.broker()
	require.Equal(t, log, s.positions().Log)
	require.EqualValues(t, 1, s.positions().Head)
	for want, args := range map[int][]string{64: {"broker", "--worker", "3"}, 78: {"broker", "--workers", "many"},
		1: {"client", "retry", "nobody"}} {
		_, errs, code := s.tool("", args...)
		require.Equal(t, want, code, errs)
		require.NotContains(t, errs, "goroutine")
	}
	_, errs, code := s.tool("", "nonsense")
	require.Equal(t, 64, code)
	require.Contains(t, errs, "nonsense")
}

// dir2 makes later processes run in another working directory, with the same data.
func (s *site) dir2(t *testing.T) {
	old := s.dir
	s.dir = t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(old, "broker"), filepath.Join(s.dir, "broker")))
}

// Losing the state store: nodes say where they are and clients are rebuilt; nothing is freed until an operator
// confirms. Losing the log alone is damage; removing both makes a new log, and every node must DUMP and says so.
func TestLosingAStore(t *testing.T) {
	s := newSite(t, "--max-records", "5", "--retention-every", "100ms", "--retention-keep-age", "0s")
	b := s.broker()
	m := s.node("master", "")
	s.ok("CREATE TABLE a (n INTEGER)\n"+strings.Repeat("INSERT INTO a VALUES (1)\n", 22), "publish")
	p := s.level("master")
	eventually(t, func() error {
		if p := s.positions(); p.First != 21 {
			return fmt.Errorf("the log begins at %d", p.First)
		}
		return nil
	})
	require.Equal(t, 0, b.stop(t))
	require.NoError(t, os.RemoveAll(filepath.Join(s.dir, "broker", "state")))
	b = s.broker()
	s.ok(strings.Repeat("INSERT INTO a VALUES (2)\n", 12), "publish")
	p2 := s.level("master")
	require.Equal(t, p.Log, p2.Log)
	require.EqualValues(t, 21, p2.First, "nothing is freed before somebody has confirmed")
	require.Contains(t, s.ok("", "alerts"), "rebuilt")
	_, errs, code := s.tool("", "log", "trim")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "--confirm")
	s.ok("", "log", "trim", "--confirm")
	eventually(t, func() error {
		if p := s.positions(); p.First != 31 {
			return fmt.Errorf("the log begins at %d", p.First)
		}
		return nil
	})
	require.Equal(t, 0, b.stop(t))
	require.NoError(t, os.RemoveAll(filepath.Join(s.dir, "broker", "log")))
	b = s.start("broker", "broker", "--data", filepath.Join(s.dir, "broker"), "--nats-addr", s.nats, "--http-addr", s.http)
	require.Equal(t, 78, b.wait(t))
	require.Contains(t, b.log.String(), "there is no log")
	require.NoError(t, os.RemoveAll(filepath.Join(s.dir, "broker", "state")))
	s.broker()
	require.NotEqual(t, p.Log, s.positions().Log)
	require.Equal(t, 78, m.wait(t))
	require.Contains(t, m.log.String(), "DROP TABLE xmq_position")
	require.NotContains(t, m.log.String(), "--from")
}

// Damage near the end of the log: the broker refuses to start, with 78, and names file and offset (XQ-8).
func TestXQ08DamageIsRefusedAtStart(t *testing.T) {
	s := newSite(t)
	b := s.broker()
	// damage in the very last write cannot be told from a power cut; the checkpoint finds that, a second later
	for range 5 {
		s.ok(strings.Repeat("some increment that is long enough\n", 60), "publish")
	}
	b.kill()
	files, err := filepath.Glob(filepath.Join(s.dir, "broker", "log", "*", "*.log"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	text, err := os.ReadFile(files[0])
	require.NoError(t, err)
	text[len(text)/3] ^= 4
	require.NoError(t, os.WriteFile(files[0], text, 0o600))
	b = s.start("broker", "broker", "--data", filepath.Join(s.dir, "broker"), "--nats-addr", s.nats, "--http-addr", s.http)
	require.Equal(t, 78, b.wait(t))
	require.Contains(t, b.log.String(), filepath.Base(files[0]))
}

// A log that has lost its end reads well: only the checkpoint knows. The broker refuses it, and so does the check
// that its operator runs next; without a state store the check says that it cannot know.
func TestLogCheckKnowsWhatWasAcknowledged(t *testing.T) {
	s := newSite(t)
	b := s.broker()
	s.ok(strings.Repeat("some increment that is long enough\n", 300), "publish")
	eventually(t, func() error { // a second later
		var l struct{ Checkpoint struct{ Seq uint64 } }
		if err := json.Unmarshal([]byte(s.ok("", "log", "head", "--json")), &l); err != nil || l.Checkpoint.Seq != 300 {
			return fmt.Errorf("the checkpoint stands at %d: %w", l.Checkpoint.Seq, err)
		}
		return nil
	})
	b.kill()
	data := filepath.Join(s.dir, "broker")
	require.Contains(t, s.ok("", "log", "check", "--data", data), "acknowledged up to 300")
	files, err := filepath.Glob(filepath.Join(data, "log", "*", "*.log"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	info, err := os.Stat(files[0])
	require.NoError(t, err)
	require.NoError(t, os.Truncate(files[0], info.Size()-7))
	out, errs, code := s.tool("", "log", "check", "--data", data)
	require.Equal(t, 78, code)
	require.Contains(t, out, "the checkpoint is at 300")
	require.Contains(t, errs, "acknowledged increments are missing")
	b = s.start("broker", "broker", "--data", data, "--nats-addr", s.nats, "--http-addr", s.http)
	require.Equal(t, 78, b.wait(t))
	require.NoError(t, os.RemoveAll(filepath.Join(data, "state")))
	require.Contains(t, s.ok("", "log", "check", "--data", data), "nobody can say")
}

func (s *site) client(id string) (v worker.View) {
	s.t.Helper()
	out, errs, code := s.tool("", "client", "show", "--json", id)
	if code != 0 {
		return v
	}
	require.NoError(s.t, json.Unmarshal([]byte(out), &v), errs)
	return v
}

// Nodes can join before the first increment: a master on an empty log has a position, so others can join
// from it, and from each other; of both kinds of target.
func TestJoiningBeforeTheFirstIncrement(t *testing.T) {
	s := newSite(t)
	s.broker()
	s.node("master", "")
	s.node("n1", "master")
	s.node("n2", "n1", "--max-backoff", "2")
	s.level("master", "n1", "n2")
	s.ok("CREATE TABLE a (n INTEGER)\nINSERT INTO a VALUES (1)\n", "publish")
	s.level("master", "n1", "n2")
	require.Equal(t, "1", query(t, s.path("n2"), "SELECT count(*) FROM a"))

	f := newSite(t)
	f.broker()
	f.node("master", "", "--target", "file:master.xf")
	f.node("n1", "master", "--target", "file:n1.xf")
	f.level("master", "n1")
	f.ok("any bytes\n", "publish")
	f.level("master", "n1")
}

// A snapshot of another kind of database is refused with a sentence, not tried again and again.
func TestXE12AnotherKindOfTargetIsRefused(t *testing.T) {
	s := newSite(t)
	s.broker()
	s.node("master", "")
	s.ok("CREATE TABLE a (n INTEGER)\n", "publish")
	s.level("master")
	n := s.node("n1", "master", "--target", "file:n1.xf")
	require.Equal(t, 1, n.wait(t))
	require.Contains(t, n.log.String(), "the snapshot of master is sqlite-pages/1, which this kind of target cannot load")
	s.ok("", "dump", "--from", "master", "-o", "b.xmq")
	n = s.node("n2", "", "--target", "file:n2.xf", "--restore", "b.xmq")
	require.Equal(t, 1, n.wait(t))
	require.Contains(t, n.log.String(), "which this kind of target cannot load")
}
