package integration

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/broker/bus"
	"xmq/broker/disk"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/servertest/mysqltest"
	"xmq/nodeclient/driver/servertest/postgrestest"
	"xmq/nodeclient/driver/servertest/redistest"
	"xmq/nodeclient/driver/sqlite"
	"xmq/statedb"
	"xmq/worker"
)

// How often the night happens; `make night` says more.
var nights = flag.Int("nights", 1, "how often TestANightOnCall goes through its incidents, one after another on the "+
	"same log and databases")

// night is what the incidents happen to: a PostgreSQL, a MariaDB and a Redis server, and SQLite files.
type night struct {
	*oncall
	pg       *postgrestest.Server
	my       *mysqltest.Server
	rd       *redistest.Server
	pgDB     string
	myDB     string
	password string // file of the Redis node
	free     int    // the next number that nobody has in table guest
}

// An operator's night: one incident after another on one log, under a writer that never stops. Of each it is shown
// who tells (the alert, the hook, the timeline, the broker's log, xmq status and its exit code), in which words, and
// that what they name repairs it; after each every screen is green again. In the morning all databases hold what the
// writer had acknowledged, each once and in order.
func TestANightOnCall(t *testing.T) {
	n := beginNight(t)
	for range *nights {
		for _, incident := range []struct {
			name   string
			happen func(*night)
		}{
			{"one database refuses an increment", (*night).oneRefuses},
			{"all databases refuse an increment", (*night).allRefuse},
			{"the wrong increment is skipped", (*night).wrongSkip},
			{"arguments do not fit their statement", (*night).argumentsDoNotFit},
			{"a database is killed", (*night).databaseIsKilled},
			{"a password is changed", (*night).passwordIsChanged},
			{"the disk of a database is full", (*night).databaseIsFull},
			{"the disk of the broker is full", (*night).brokerIsFull},
			{"somebody holds a lock in every database", (*night).everythingIsLocked},
			{"a node is killed", (*night).nodeIsKilled},
			{"the network to a node is cut", (*night).networkIsCut},
			{"a node is stopped and forgotten", (*night).nodeIsStopped},
			{"a join is killed half way", (*night).joinIsKilled},
			{"a backup runs slowly and holds the log", (*night).backupIsSlow},
			{"data are mended by hand and taken over", (*night).dataAreMended},
			{"a limit of the log cuts off a node that is away", (*night).cutOff},
			{"a node is of an older build than its broker", (*night).nodeIsOlder},
			{"the data of a node are moved to another path", (*night).pathIsMoved},
			{"a node is given up", (*night).nodeIsGivenUp},
			{"a backup is restored while the node is stopped", (*night).restoredBehind},
			{"a backup is restored under its node", (*night).restoredUnder},
			{"somebody writes the position", (*night).positionIsWritten},
			{"a flag is left in a unit file", (*night).flagIsLeft},
			{"a position is set back in passing", (*night).seekInPassing},
			{"another kind of database comes under an ID", (*night).anotherKind},
			{"topics are mistyped", (*night).topicsAreMistyped},
			{"two supervisors run one ID", (*night).twoSupervisors},
			{"logrotate sends SIGHUP", (*night).logrotate},
			{"the broker hangs", (*night).brokerHangs},
			{"the broker is killed", (*night).brokerIsKilled},
			{"the disk of the broker is exchanged", (*night).diskIsExchanged},
			{"the log alone is lost", (*night).logIsLost},
			{"a byte of the log is damaged", (*night).byteIsDamaged},
			{"an old copy of the log is restored", (*night).oldLogIsRestored},
		} {
			ok := t.Run(incident.name, func(t *testing.T) {
				began := time.Now()
				n.t, n.site.t = t, t
				incident.happen(n)
				n.well()
				t.Logf("over after %s", time.Since(began).Round(time.Millisecond))
			})
			n.t, n.site.t = t, t
			require.True(t, ok, "what happens later needs what was before")
		}
	}
	n.morning()
}

// beginNight starts the databases, their nodes and the writer.
func beginNight(t *testing.T) *night {
	n := &night{oncall: onCall(t), free: 100}
	var err error
	n.pg, err = shared.postgres()
	require.NoError(t, err)
	n.my, err = shared.mysql()
	require.NoError(t, err)
	n.rd, err = shared.redis()
	require.NoError(t, err)
	for id, r := range map[string]rig{"pg1": postgresRig(), "my1": mysqlRig(), "sq1": sqliteRig(), "sq2": sqliteRig(),
		"rd1": redisRig()} {
		n.places[id], n.args[id] = r.place(t), []string{"--topics", "shop"}
	}
	n.pgDB, n.myDB = database(n.places["pg1"]), database(n.places["my1"])
	n.password = filepath.Join(n.dir, "password")
	n.writePassword(redistest.Password)
	n.places["rd1"].target = strings.Replace(n.places["rd1"].target, "://:"+secretInURL(n.places["rd1"].target)+"@",
		"://default@", 1)
	n.args["rd1"] = []string{"--topics", "cache", "--target-password-file", n.password}
	for _, create := range append(slices.Clone(sqlSetup), "CREATE TABLE guest (id bigint PRIMARY KEY, name text)") {
		n.publish("shop", create)
	}
	for _, id := range []string{"pg1", "my1", "sq1", "rd1"} {
		n.node(id)
	}
	n.write()
	n.writer.goes(20)
	n.moved("pg1", "my1", "sq1", "rd1")
	n.well()
	return n
}

func (n *night) writePassword(p string) {
	require.NoError(n.t, os.WriteFile(n.password, []byte(p+"\n"), 0o600))
}

func (n *night) file(id string) string { return strings.TrimPrefix(n.places[id].target, "sqlite:") }

// guest is the body of an increment that adds a guest whom nobody has.
func (n *night) guest() (id int, body string) {
	n.free++
	return n.free, fmt.Sprintf("INSERT INTO guest VALUES (%d, 'invited')", n.free)
}

// morning ends the night: everybody has everything.
func (n *night) morning() {
	t := n.t
	k := n.writer.stop()
	require.Positive(t, k)
	var want []int
	for i := range k {
		want = append(want, i+1)
	}
	n.level("pg1", "my1", "sq1", "sq2", "rd1")
	for id, at := range n.places {
		require.Equal(t, want, at.numbers(t), id)
	}
	guests := query(t, n.file("sq1"), "SELECT group_concat(id || name, ' ') FROM (SELECT * FROM guest ORDER BY id)")
	require.Equal(t, guests, query(t, n.file("sq2"),
		"SELECT group_concat(id || name, ' ') FROM (SELECT * FROM guest ORDER BY id)"))
	require.Equal(t, guests, strings.Join(n.pg.Query(t, n.pgDB, "SELECT id || name FROM guest ORDER BY id"), " "))
	require.Equal(t, guests, strings.Join(n.my.Query(t, n.myDB, "SELECT concat(id, name) FROM guest ORDER BY id"), " "))
	require.Contains(t, n.ok("", "log", "check"), "records checked")
	n.logs.WriteString(n.broker.log.String())
	for line := range strings.Lines(n.logs.String()) {
		// a broker that an incident has kept from starting says so, and so does one whose log an incident has damaged
		require.False(t, strings.Contains(line, "level=ERROR") && !strings.Contains(line, "the broker does not start") &&
			!strings.Contains(line, "a segment of the log is damaged"), line)
	}
	t.Logf("%d increments on each topic; the writer was refused %v", k, n.writer.refused)
}

// W21, W22, W29, W34: an increment that one database refuses for what somebody wrote into it by hand.
func (n *night) oneRefuses() {
	t := n.t
	id, body := n.guest()
	require.NoError(t, n.pg.Exec(n.pgDB, fmt.Sprintf("INSERT INTO guest VALUES (%d, 'by hand')", id)))
	seq := n.publish("shop", body)
	a := n.told("fail/pg1", statedb.Critical, "client pg1", fmt.Sprintf("could not apply increment %d", seq),
		"duplicate key", "guest_pkey")
	require.Equal(t, seq, a.Seq)
	n.moved("my1", "sq1")
	for _, check := range []string{"positions", "alerts"} {
		out, _, code := n.tool("", check, "--check")
		require.Equal(t, 2, code, out)
	}
	_, errs, code := n.tool("", "client", "skip", "pg1", "--seq", fmt.Sprint(seq))
	require.Equal(t, 64, code)
	require.Contains(t, errs, "--reason")
	_, errs, code = n.tool("", "alerts", "clear", "fail/pg1")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "cannot be cleared")
	_, errs, code = n.tries(a, "xmq client retry")
	require.Equal(t, 1, code)
	require.Contains(t, errs, fmt.Sprintf("pg1 failed again at %d", seq))
	require.NoError(t, n.pg.Exec(n.pgDB, fmt.Sprintf("DELETE FROM guest WHERE id = %d", id)))
	require.Contains(t, n.does(a, "xmq client retry"), "done, it stands at")
	n.over(a)
	require.Contains(t, n.ok("", "audit", "--client", "pg1", "--limit", "1"), "retry")
}

// W33, W48: an increment that is bad is one line and one order.
func (n *night) allRefuse() {
	seq := n.publish("shop", "INSERT INTO nowhere VALUES (1)")
	a := n.told("fail/sq1", statedb.Critical, fmt.Sprintf("increment %d is refused by", seq), "of topic shop",
		"the increment is bad, not the databases")
	out := n.does(a, fmt.Sprintf("xmq client skip --seq %d", seq))
	require.GreaterOrEqual(n.t, strings.Count(out, "done, it stands at"), 3, out)
	n.over(a)
	_, errs, _ := n.tool("", "log", "show", fmt.Sprint(seq))
	require.Contains(n.t, errs, "was skipped for client pg1")
}

// W8: an increment that was skipped and was needed is applied later, by the command that the skip has named.
func (n *night) wrongSkip() {
	t := n.t
	id, body := n.guest()
	n.my.Query(t, n.myDB, fmt.Sprintf("INSERT INTO guest VALUES (%d, 'by hand')", id))
	seq := n.publish("shop", body)
	a := n.told("fail/my1", statedb.Critical, "client my1", "Duplicate entry")
	out := n.does(a, "xmq client skip")
	n.over(a)
	require.Contains(t, out, "if that was the wrong one")
	i := strings.Index(out, "xmq client apply ")
	require.GreaterOrEqual(t, i, 0, out)
	again := strings.Fields(strings.TrimSpace(out[i:]))[1:]
	_, errs, code := n.tool("", append(again, "--wait", "1m")...)
	require.Equal(t, 1, code)
	require.Contains(t, errs, "Duplicate entry", "the row is there still")
	n.my.Query(t, n.myDB, fmt.Sprintf("DELETE FROM guest WHERE id = %d", id))
	n.ok("", append(again, "--wait", "1m")...)
	require.Equal(t, []string{"invited"}, n.my.Query(t, n.myDB, fmt.Sprintf("SELECT name FROM guest WHERE id = %d", id)))
	_, errs, _ = n.tool("", "log", "show", fmt.Sprint(seq))
	require.Contains(t, errs, "was applied all the same for client my1")
}

// W42: what does not fit its statement fails at once, and is not tried for ever.
func (n *night) argumentsDoNotFit() {
	seq := n.publish("shop", `{"sql": "INSERT INTO guest VALUES ($1, 'x')", "args": [1, 2]}`)
	for id, says := range map[string]string{"pg1": "2 arguments", "my1": "placeholders",
		"sq1": "argument 2 has no placeholder"} {
		n.told("fail/"+id, statedb.Critical, "client "+id, says)
	}
	a := n.told("fail/sq1", statedb.Critical, fmt.Sprintf("xmq client skip --seq %d", seq))
	n.does(a, fmt.Sprintf("xmq client skip --seq %d", seq))
	n.over(a)
}

// W19, W29: a database that is away is said so, once, and nothing has to be done when it is back.
func (n *night) databaseIsKilled() {
	t := n.t
	require.NoError(t, n.my.Kill())
	a := n.told("retry/my1", statedb.Warning, "client my1", "cannot reach or use its database", "tries again", "refused")
	require.Equal(t, worker.IsRetrying, n.client("my1").Condition.Is)
	require.Contains(t, n.ok("", "positions"), "retrying")
	n.ok("", "alerts", "ack", a.Key)
	had := len(n.calls.since(a))
	n.writer.goes(50)
	require.NoError(t, n.my.Run())
	n.over(a)
	require.Len(t, n.calls.since(a), had, "a hook is told once, and nothing after an acknowledgement")
}

// W32: a password that was changed.
func (n *night) passwordIsChanged() {
	t := n.t
	const changed = "another one"
	c := n.redis(redistest.Password)
	require.NoError(t, c.ConfigSet(t.Context(), "requirepass", changed).Err())
	require.NoError(t, c.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err())
	a := n.told("retry/rd1", statedb.Warning, "client rd1", "WRONGPASS")
	require.NotContains(t, a.Text, redistest.Password)
	n.writePassword(changed)
	n.hurries(a, "xmq client retry rd1")
	n.over(a)
	own := n.redis(changed)
	n.writePassword(redistest.Password)
	require.NoError(t, own.ConfigSet(t.Context(), "requirepass", redistest.Password).Err())
}

func (n *night) redis(password string) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: n.rd.Addr(), Password: password})
	n.t.Cleanup(func() { _ = c.Close() }) // it may be closed by the server
	return c
}

// A database that has no room: room first, then what the alert names.
func (n *night) databaseIsFull() {
	t := n.t
	require.NoError(t, n.pg.Exec(n.pgDB, `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
		CREATE TRIGGER full_disk BEFORE INSERT ON item EXECUTE FUNCTION full_disk()`))
	a := n.told("retry/pg1", statedb.Warning, "client pg1", "No space left on device")
	require.NoError(t, n.pg.Exec(n.pgDB, "DROP TRIGGER full_disk ON item; DROP FUNCTION full_disk"))
	n.hurries(a, "xmq client retry pg1")
	n.over(a)
}

// W11, W18, W36: the broker's disk is told of before input is refused, and no screen is green while it is.
func (n *night) brokerIsFull() {
	t := n.t
	const margin = 512 << 20
	free, _, err := disk.Space(n.data())
	require.NoError(t, err)
	require.Greater(t, free, uint64(4*margin), "this test wants a disk with room")
	n.down()
	n.configure(free - margin)
	n.up()
	a := n.told("disk", statedb.Warning, "are free on the disk of "+n.data(), "input is refused")
	n.writer.goes(5)
	fill := filepath.Join(n.dir, "fill")
	f, err := os.Create(fill)
	require.NoError(t, err)
	require.NoError(t, errors.Join(syscall.Fallocate(int(f.Fd()), 0, 0, 2*margin), f.Close()))
	n.writer.hears("disk_full")
	n.told("disk", statedb.Critical, "the broker refuses increments", "make room")
	for _, look := range []string{"positions", "alerts", "status"} {
		out, _, code := n.tool("", look, map[string]string{"positions": "--check", "alerts": "--check",
			"status": "--json=false"}[look])
		require.Equal(t, 2, code, out)
		require.True(t, strings.HasPrefix(out, "INPUT IS REFUSED since "), "the first line: %s", out)
	}
	status, text := n.ready()
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, "INPUT IS REFUSED")
	require.Contains(t, n.ok("", "log", "trim"), "segments are freed whole")
	require.NoError(t, os.Remove(fill))
	n.writer.goes(5)
	status, text = n.ready()
	require.Equal(t, http.StatusOK, status, text)
	n.down()
	n.configure(0)
	n.up()
	n.over(a)
}

// ready asks what a load balancer asks.
func (n *night) ready() (status int, text string) {
	res, err := http.Get("http://" + n.http + "/readyz")
	require.NoError(n.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(n.t, err)
	return res.StatusCode, string(body)
}

// terminate is what PostgreSQL's alert names.
var terminate = regexp.MustCompile(`SELECT pg_terminate_backend\([0-9]+\)`)

// W20: who waits for a lock is told of, in every kind of database, and goes on by itself.
func (n *night) everythingIsLocked() {
	t := n.t
	pg, err := pgx.Connect(t.Context(), n.pg.URL(n.pgDB))
	require.NoError(t, err)
	_, err = pg.Exec(t.Context(), "BEGIN; LOCK TABLE item")
	require.NoError(t, err)
	my, err := n.my.Connect(n.myDB)
	require.NoError(t, err)
	one, err := my.Conn(t.Context())
	require.NoError(t, err)
	_, err = one.ExecContext(t.Context(), "LOCK TABLES item WRITE")
	require.NoError(t, err)
	lite, err := sql.Open("sqlite", "file:"+n.file("sq1")+"?_pragma=busy_timeout(60000)")
	require.NoError(t, err)
	lite.SetMaxOpenConns(1)
	_, err = lite.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	require.NoError(t, n.rd.Signal(syscall.SIGSTOP))
	defer func() { require.NoError(t, n.rd.Signal(syscall.SIGCONT)) }()

	stands := []api.AlertView{
		n.told("retry/sq1", statedb.Warning, "client sq1", "locked", fmt.Sprintf("its lock is held by PID %d", os.Getpid())),
		n.told("slow/pg1", statedb.Warning, "client pg1", "been at the database for", "blocked by session", "LOCK TABLE item",
			"pg_terminate_backend"),
		n.told("slow/my1", statedb.Warning, "client my1", "been at the database for", "Waiting for table metadata lock"),
		n.told("slow/rd1", statedb.Warning, "client rd1", "been at the database for",
			"does not answer a second connection either"),
	}
	require.Equal(t, worker.IsBlocked, n.client("pg1").Condition.Is)
	require.NoError(t, n.rd.Signal(syscall.SIGCONT))
	require.NoError(t, n.pg.Exec(n.pgDB, terminate.FindString(stands[1].Text)))
	_ = pg.Close(context.Background()) // the server has ended it
	_, err = lite.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, errors.Join(err, lite.Close(), one.Close(), my.Close()))
	for _, a := range stands {
		n.over(a)
	}
}

func (n *night) nodeIsKilled() {
	n.nodes["rd1"].kill()
	a := n.told("offline/rd1", statedb.Warning, "client rd1 on ", "has not been heard since", "has not said goodbye")
	require.Equal(n.t, worker.IsGone, n.client("rd1").Condition.Is)
	n.node("rd1")
	n.over(a)
}

func (n *night) networkIsCut() {
	t := n.t
	require.Equal(t, 0, n.nodes["my1"].stop(t))
	direct := n.nats
	link := newProxy(t, direct, 0)
	n.nats = link.addr()
	p := n.node("my1")
	n.nats = direct
	n.moved("my1")
	link.cut(true)
	a := n.told("offline/my1", statedb.Warning, "client my1 on ", "look at its node and the network between")
	link.heal()
	n.over(a)
	require.Equal(t, 0, p.stop(t))
	n.node("my1")
}

// W15: a node that somebody stopped and forgot holds the log.
func (n *night) nodeIsStopped() {
	t := n.t
	require.Equal(t, 0, n.nodes["sq1"].stop(t))
	a := n.told("stopped/sq1", statedb.Warning, "client sq1 on ", "was stopped at", "has not come back for",
		"it holds the log from")
	require.Contains(t, n.ok("", "positions"), "stopped")
	n.node("sq1")
	n.over(a)
}

// W17: how far a join is, and that it stands still, are seen.
func (n *night) joinIsKilled() {
	t := n.t
	n.args["sq2"] = []string{"--topics", "shop", "--from", "sq1"}
	if _, known := n.nodes["sq2"]; !known {
		n.publish("shop", "CREATE TABLE pad (v text)")
	}
	pad := []string{"DELETE FROM pad"}
	for range 80 {
		pad = append(pad, "INSERT INTO pad VALUES ('"+noise(50_000)+"')")
	}
	require.NoError(t, n.send("shop", pad...))
	require.Equal(t, 0, n.nodes["sq1"].stop(t))
	n.node("sq1", "--dump-rate", "1000000")
	n.moved("sq1")
	if p, known := n.nodes["sq2"]; known { // of an earlier round
		require.Equal(t, 0, p.stop(t))
		require.NoError(t, os.Remove(n.file("sq2")))
		n.ok("", "client", "forget", "sq2", "--reason", "it begins anew", "--confirm")
	}
	p := n.node("sq2")
	eventually(t, func() error {
		v := n.client("sq2")
		if v.Condition.Is != worker.IsLoading || v.Loading == nil || v.Loading.Bytes == 0 {
			return fmt.Errorf("sq2 is %s", v.Condition.Is)
		}
		return nil
	})
	require.Contains(t, n.ok("", "positions"), "loading")
	p.kill()
	n.looks(func(code int) bool { return code > 0 }, []string{"status"}, []string{"WARNING", "sq2", "gone"})
	n.node("sq2")
	n.moved("sq2")
	require.Equal(t, 0, n.nodes["sq1"].stop(t))
	n.node("sq1")
}

// W27: who holds more of the log than pin_alert says is told with numbers, and with the command that ends it.
func (n *night) backupIsSlow() {
	t := n.t
	require.Equal(t, 0, n.nodes["sq1"].stop(t))
	n.node("sq1", "--dump-rate", "100000")
	n.moved("sq1")
	n.reload("retention: {every: 200ms, pin_alert: 20}")
	backup := n.site.start("backup", "dump", "--from", "sq1", "--output", filepath.Join(n.dir, "slow.xmq"), "--broker",
		"nats://"+n.nats)
	a := n.told("pin", statedb.Warning, "DUMP ", " holds the log from ", " increments, about ", " a second", "the oldest ",
		"xmq snapshots cancel ")
	n.does(a, "xmq snapshots cancel")
	require.NotEqual(t, 0, backup.wait(t), backup.log)
	n.over(a)
	require.Contains(t, n.ok("", "events"), "cancelled by an operator")
	n.reload()
	require.Equal(t, 0, n.nodes["sq1"].stop(t))
	n.node("sq1")
}

// W7, W23: a limit of the log frees what a node that is away has not applied. That is told before and when it comes
// back; a trim says what it does, and the node has a whole copy again by what its refusal names.
func (n *night) cutOff() {
	t := n.t
	n.args["sq2"] = []string{"--topics", "shop"}
	n.moved("sq2")
	require.Equal(t, 0, n.nodes["sq2"].stop(t))
	since := time.Now()
	n.reload("max_records: 500", "retention: {every: 200ms, max_records: 2000}")
	for range 12 { // of a topic that nobody has, in parts that leave nobody else far after
		bodies := make([]string, 400)
		for i := range bodies {
			bodies[i] = "SELECT 1"
		}
		require.NoError(t, n.send("nobody", bodies...))
		n.moved("pg1", "my1", "sq1", "rd1")
	}
	eventually(t, func() error {
		return n.happened(statedb.AlertRaised, "limit", since, "retention.max_records frees increments that client sq2 has "+
			"not applied", "it has to join again with a DUMP")
	})
	eventually(t, func() error {
		if v := n.client("sq2"); v.Condition.Is != worker.IsNeedsDump || v.Lag != nil {
			return fmt.Errorf("sq2 is %s, lag %v", v.Condition.Is, v.Lag)
		}
		return nil
	})
	require.Contains(t, n.ok("", "log", "trim"), "freed, the log begins at ")
	n.looks(func(code int) bool { return code > 0 }, []string{"status"}, []string{"sq2", "needs dump"})
	p := n.node("sq2")
	require.Equal(t, 78, p.wait(t), p.log)
	require.NoError(t, holds(p.log.String(), "--from sq1: it loads the copy of sq1"))
	a := n.told("refused/sq2", statedb.Critical, "client sq2 stands at", "Start its node with --from sq1")
	n.node("sq2", "--from", "sq1")
	n.over(a)
	n.moved("sq2")
	n.reload()
}

// W31, an upgrade: a node of an older build is held before the first increment that it does not know, by name, while
// others go on; started with the new build it goes on by itself.
func (n *night) nodeIsOlder() {
	t := n.t
	require.Equal(t, 0, n.nodes["sq2"].stop(t))
	target, err := sqlite.Open(t.Context(), n.file("sq2"), sqlite.Options{})
	require.NoError(t, err)
	conn, err := bus.Dial("nats://"+n.nats, "sq2")
	require.NoError(t, err)
	a, err := nodeclient.New(older{conn, t}, target, nodeclient.Options{ID: "sq2", Driver: "sqlite",
		Topics: []string{"shop"}, Tick: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	end := sync.OnceFunc(func() { cancel(); <-ended; conn.Close(); _ = target.Close() })
	defer end()
	n.moved("sq2")
	id, body := n.guest()
	seq := n.publish("shop", `{"sql": "`+body+`"}`)
	held := n.told("upgrade/sq2", statedb.Critical, fmt.Sprintf("increment %d needs sqlite.args", seq),
		"which the node of client sq2 does not know")
	require.Equal(t, worker.IsHeld, n.client("sq2").Condition.Is)
	n.moved("pg1", "my1", "sq1")
	end()
	n.node("sq2")
	n.over(held)
	n.moved("sq2")
	require.Equal(t, "invited", query(t, n.file("sq2"), fmt.Sprintf("SELECT name FROM guest WHERE id = %d", id)))
}

// A database that was moved is the same client's, and every screen says where it is now.
func (n *night) pathIsMoved() {
	t := n.t
	require.Equal(t, 0, n.nodes["sq1"].stop(t))
	old := n.file("sq1")
	moved := old + ".moved"
	copyDatabase(t, old, moved)
	for _, end := range []string{"", "-wal", "-shm"} {
		require.NoError(t, os.RemoveAll(old+end))
	}
	since := time.Now()
	n.places["sq1"] = sqlitePlace(moved)
	n.node("sq1")
	n.moved("sq1")
	require.NoError(t, n.happened(statedb.ClientCame, "sq1", since, "sqlite:"+moved))
	require.Contains(t, n.ok("", "client", "show", "sq1"), "sqlite:"+moved)
	require.NoFileExists(t, old)
}

// W3: who asks for a copy gets the data of now.
func (n *night) dataAreMended() {
	t := n.t
	id, body := n.guest()
	n.publish("shop", body)
	n.moved("sq1", "sq2")
	exec1(t, n.file("sq2"), fmt.Sprintf("UPDATE guest SET name = 'spoilt' WHERE id = %d", id))
	_, errs, code := n.tool("", "client", "redump", "sq2")
	require.Equal(t, 64, code)
	require.Contains(t, errs, "--reason")
	n.ok("", "client", "redump", "sq2", "--reason", "sq1 is right", "--confirm")
	eventually(t, func() error {
		if got := query(t, n.file("sq2"), fmt.Sprintf("SELECT name FROM guest WHERE id = %d", id)); got != "invited" {
			return errors.New(got)
		}
		return nil
	})
	require.NoError(t, holds(n.ok("", "events", "--client", "sq2"), "redump", "sq1 is right"))
}

// W9, W27: a node that is given up holds the log until somebody forgets its client, by the command that the alert
// names.
func (n *night) nodeIsGivenUp() {
	t := n.t
	n.places["sq3"], n.args["sq3"] = sqliteRig().place(t), []string{"--topics", "shop", "--from", "sq2"}
	p := n.node("sq3")
	eventually(t, func() error {
		if v := n.client("sq3"); v.Condition.Is != worker.IsFollowing {
			return fmt.Errorf("sq3 is %s", v.Condition.Is)
		}
		return nil
	})
	require.Equal(t, 0, p.stop(t))
	a := n.told("stopped/sq3", statedb.Warning, "was stopped at", "it holds the log from", "Gone for good?")
	n.does(a, "xmq client forget sq3")
	n.over(a)
	require.NotContains(t, n.ok("", "positions"), "sq3")
	delete(n.nodes, "sq3")
	delete(n.places, "sq3")
}

// copies a SQLite database that no node has open.
func copyDatabase(t *testing.T, from, to string) {
	t.Helper()
	for _, end := range []string{"", "-wal", "-shm"} {
		b, err := os.ReadFile(from + end)
		if errors.Is(err, os.ErrNotExist) {
			require.NoError(t, os.RemoveAll(to+end))
			continue
		}
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to+end, b, 0o600))
	}
}

// W7a: a database that comes back older goes on by itself, and somebody says so.
func (n *night) restoredBehind() {
	t := n.t
	backup := filepath.Join(n.dir, "backup.db")
	require.Equal(t, 0, n.nodes["sq1"].stop(t))
	copyDatabase(t, n.file("sq1"), backup)
	n.node("sq1")
	n.writer.goes(30)
	n.moved("sq1")
	require.Equal(t, 0, n.nodes["sq1"].stop(t))
	since := time.Now()
	copyDatabase(t, backup, n.file("sq1"))
	n.node("sq1")
	n.moved("sq1")
	require.NoError(t, n.happened(statedb.ClientCame, "sq1", since, "it had acknowledged", "was a backup restored?",
		"run again"))
}

// W7b: the same under a node that runs.
func (n *night) restoredUnder() {
	t := n.t
	require.NoError(t, n.pg.Exec(n.pgDB, "CREATE SCHEMA backup"))
	require.NoError(t, n.pg.Exec(n.pgDB, `BEGIN ISOLATION LEVEL REPEATABLE READ;
		CREATE TABLE backup.item AS SELECT * FROM item;
		CREATE TABLE backup.total AS SELECT * FROM total; CREATE TABLE backup.guest AS SELECT * FROM guest;
		CREATE TABLE backup.position AS SELECT * FROM xmq_position; COMMIT`))
	n.writer.goes(30)
	n.moved("pg1")
	since := time.Now()
	eventually(t, func() error { // of two transactions that wait for each other PostgreSQL ends one
		return n.pg.Exec(n.pgDB, `BEGIN; LOCK TABLE xmq_position, total, item, guest;
		TRUNCATE item, total, guest; INSERT INTO item SELECT * FROM backup.item; INSERT INTO total SELECT * FROM backup.total;
		INSERT INTO guest SELECT * FROM backup.guest; DELETE FROM xmq_position;
		INSERT INTO xmq_position SELECT * FROM backup.position; COMMIT`)
	})
	require.NoError(t, n.pg.Exec(n.pgDB, "DROP SCHEMA backup CASCADE"))
	n.writer.goes(5)
	n.moved("pg1")
	eventually(t, func() error {
		return n.happened(statedb.ClientCame, "pg1", since, "it had acknowledged", "was a backup restored?")
	})
}

// W12: a copy that nobody can vouch for ends its node; where the data are whole, the alert names the way back.
func (n *night) positionIsWritten() {
	t := n.t
	p := n.nodes["pg1"]
	require.NoError(t, n.pg.Exec(n.pgDB, "UPDATE xmq_position SET seq = seq + 1000000"))
	a := n.told("fatal/pg1", statedb.Critical, "client pg1 lost its copy", "has written its position",
		"No other client has a copy of this log")
	require.Equal(t, 78, p.wait(t))
	require.Equal(t, worker.IsFatal, n.client("pg1").Condition.Is)
	require.NoError(t, n.pg.Exec(n.pgDB, "UPDATE xmq_position SET seq = seq - 1000000"))
	n.does(a, "xmq client forget pg1")
	n.over(a)
	n.node("pg1")
	n.moved("pg1")
}

// W2: --at of a year ago.
func (n *night) flagIsLeft() {
	t := n.t
	require.Equal(t, 0, n.nodes["my1"].stop(t))
	p := n.node("my1", "--at", "3")
	n.moved("my1")
	eventually(t, func() error { return holds(p.log.String(), "--at is not used") })
}

// W1, W49: going back is asked twice.
func (n *night) seekInPassing() {
	t := n.t
	to := n.client("my1").Acked - 3
	_, errs, code := n.tool("", "client", "seek", "my1", fmt.Sprint(to))
	require.Equal(t, 64, code)
	require.Contains(t, errs, "--reason")
	_, errs, code = n.tool("", "client", "seek", "my1", fmt.Sprint(to), "--reason", "a slip")
	require.Equal(t, 1, code)
	require.NoError(t, holds(errs, "client my1 stands at", "goes back to "+fmt.Sprint(to-1),
		"increments run again there", "--confirm"))
}

// W41: a client does not become another kind of database without a word.
func (n *night) anotherKind() {
	t := n.t
	require.Equal(t, 0, n.nodes["sq1"].stop(t))
	p := n.node("sq1", "--target", "file:"+filepath.Join(n.dir, "other"))
	require.Equal(t, 1, p.wait(t), p.log)
	require.NoError(t, holds(p.log.String(), "in a database of kind sqlite", "comes with one of kind file"))
	a := n.told("refused/sq1", statedb.Critical, "in a database of kind sqlite", "comes with one of kind file")
	n.node("sq1")
	n.over(a)
}

func (n *night) topicsAreMistyped() {
	t := n.t
	require.Equal(t, 0, n.nodes["my1"].stop(t))
	p := n.node("my1", "--topics", "shpo")
	require.Equal(t, 78, p.wait(t), p.log)
	require.Contains(t, p.log.String(), "its data would have holes")
	n.node("my1")
	n.moved("my1")
}

// W24: two hosts run the same ID, each on a database of its own.
func (n *night) twoSupervisors() {
	t := n.t
	require.Equal(t, 0, n.nodes["sq2"].stop(t))
	second := filepath.Join(n.dir, "second.db")
	copyDatabase(t, n.file("sq2"), second)
	n.args["sq2"] = []string{"--topics", "shop"}
	own := n.node("sq2")
	other := n.node("sq2", "--target", "sqlite:"+second)
	restart := func() { // as a supervisor does
		select {
		case <-own.done:
			own = n.node("sq2")
		default:
		}
		select {
		case <-other.done:
			other = n.node("sq2", "--target", "sqlite:"+second)
		default:
		}
	}
	eventually(t, func() error {
		restart()
		var all []api.AlertView
		if err := n.get("/v1/alerts", &all); err != nil {
			return err
		}
		if !slices.ContainsFunc(all, func(a api.AlertView) bool { return a.Key == "takeover/sq2" && a.Standing() }) {
			return fmt.Errorf("%d processes came to an end", strings.Count(n.broker.log.String(), "client went"))
		}
		return nil
	})
	a := n.told("takeover/sq2", statedb.Critical, "client sq2 was taken over", "times in a minute", "pid ",
		"Stop one of them")
	require.Contains(t, n.ok("", "audit", "--client", "sq2"), "takeover")
	other.kill()
	own.kill()
	n.node("sq2")
	n.moved("sq2")
	n.ok("", "alerts", "clear", a.Key) // it would end by itself in two minutes
	n.over(a)
}

// W13: SIGHUP ends nobody.
func (n *night) logrotate() {
	for _, p := range []*process{n.broker, n.nodes["pg1"], n.nodes["rd1"]} {
		n.hangUp(p)
	}
	n.writer.goes(5)
	n.moved("pg1", "rd1")
}

// W79, W40: who asks a broker that hangs is not left in the dark.
func (n *night) brokerHangs() {
	t := n.t
	require.NoError(t, n.broker.cmd.Process.Signal(syscall.SIGSTOP))
	look := n.site.start("looks", "positions", "--api", "http://"+n.http)
	eventually(t, func() error { return holds(look.log.String(), "waiting for the broker at") })
	require.NoError(t, n.broker.cmd.Process.Signal(syscall.SIGCONT))
	require.Equal(t, 0, look.wait(t), look.log)
	n.writer.goes(5)
}

func (n *night) brokerIsKilled() {
	t := n.t
	n.broker.kill()
	n.writer.hears("unreachable")
	for _, look := range [][]string{{"status"}, {"positions", "--check"}, {"alerts", "--check"}} {
		_, errs, code := n.tool("", look...)
		require.Equal(t, 3, code, errs)
		require.Contains(t, errs, "connection refused")
	}
	since := time.Now()
	n.up()
	require.NoError(t, n.happened(statedb.Started, "", since, "pid "))
	n.writer.goes(20)
}

// W4: a disk that was exchanged is no new log, and one that somebody made all the same takes no input.
func (n *night) diskIsExchanged() {
	t := n.t
	n.down()
	aside := n.data() + ".aside"
	require.NoError(t, os.Rename(n.data(), aside))
	require.NoError(t, os.Mkdir(n.data(), 0o700))
	p := n.starts()
	require.Equal(t, 78, p.wait(t))
	require.Contains(t, p.log.String(), "is the disk mounted?")
	n.ok("", "init", "--data", n.data())
	goOn := n.writer.pause()
	n.up()
	n.told("held", statedb.Critical, "was the disk exchanged?", "Restore the data",
		"xmq log accept --confirm --reason TEXT")
	n.heldUntilBack(aside, goOn)
}

// heldUntilBack sees that input is held, puts back the data that was moved aside, and lets the writers go on.
func (n *night) heldUntilBack(aside string, goOn func()) {
	t := n.t
	require.True(t, strings.HasPrefix(n.ok("", "positions"), "INPUT IS HELD since "))
	require.ErrorContains(t, n.send("shop", "SELECT 1"), "503")
	n.down()
	require.NoError(t, os.RemoveAll(n.data()))
	require.NoError(t, os.Rename(aside, n.data()))
	n.up()
	goOn()
	n.again()
	n.writer.goes(5)
}

// A log that is lost beside its state store is missed.
func (n *night) logIsLost() {
	t := n.t
	n.down()
	aside := n.data() + ".log"
	require.NoError(t, os.Rename(filepath.Join(n.data(), "log"), aside))
	p := n.starts()
	require.Equal(t, 78, p.wait(t))
	require.NoError(t, holds(p.log.String(), "there is no log in", "put the log back"))
	out, _, code := n.tool("", "log", "check", "--data", n.data())
	require.Equal(t, 78, code, out)
	require.NoError(t, os.Rename(aside, filepath.Join(n.data(), "log")))
	n.up()
	n.writer.goes(5)
}

// W24: a damaged byte of the newest part of the log ends the broker with its file, and so does a check of what lies
// there; the byte that was put back ends that.
func (n *night) byteIsDamaged() {
	t := n.t
	n.down()
	files, err := filepath.Glob(filepath.Join(n.data(), "log", "[0-9]*", "*")) // and not the index of keys
	require.NoError(t, err)
	var path string
	var size int64
	for _, f := range files { // segments are named in their order
		info, err := os.Stat(f)
		require.NoError(t, err)
		if filepath.Dir(f) != filepath.Dir(path) {
			size = -1
		}
		if info.Mode().IsRegular() && info.Size() > size {
			path, size = f, info.Size()
		}
	}
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	bad := slices.Clone(good)
	bad[len(bad)/2] ^= 0x10
	require.NoError(t, os.WriteFile(path, bad, 0o600))
	p := n.starts()
	require.Equal(t, 78, p.wait(t), p.log)
	require.NoError(t, holds(p.log.String(), filepath.Base(filepath.Dir(path)), "damage"))
	out, errs, code := n.tool("", "log", "check", "--data", n.data())
	require.Equal(t, 78, code, out+errs)
	require.NoError(t, os.WriteFile(path, good, 0o600))
	n.up()
	n.writer.goes(5)
}

// W5: a copy of the data directory that is older than what nodes have takes no input; the right one does.
func (n *night) oldLogIsRestored() {
	t := n.t
	n.down()
	old, aside := n.data()+".old", n.data()+".aside"
	require.NoError(t, os.RemoveAll(old))
	require.NoError(t, os.CopyFS(old, os.DirFS(n.data())))
	require.NoError(t, os.Chmod(old, 0o700))
	n.up()
	n.writer.goes(30)
	n.moved("sq1", "pg1")
	n.down()
	require.NoError(t, os.Rename(n.data(), aside))
	require.NoError(t, os.Rename(old, n.data()))
	goOn := n.writer.pause()
	n.up()
	n.told("held", statedb.Critical, "and this log ends at", "acknowledged increments are missing", "Restore the data")
	n.heldUntilBack(aside, goOn)
}
