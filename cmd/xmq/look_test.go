package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/broker/door"
	"xmq/statedb"
	"xmq/worker"
)

var night = time.Date(2026, 11, 30, 23, 4, 11, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// nightly are positions with one client in every condition, and n that follow.
func nightly(n int) api.Positions {
	p := api.Positions{Broker: api.Header{Time: night, Version: "0.1.0", Host: "vm", Pid: 7,
		Started: night.Add(-72 * time.Minute), Rate: 50,
		DiskFree: 784 << 20, DiskTotal: 868 << 20}, Log: 0x492b, Group: "main", Head: 8360400, First: 1}
	ago := func(d time.Duration) time.Time { return night.Add(-d) }
	add := func(id string, is worker.Is, lag *uint64, more func(*worker.View)) {
		v := worker.View{ID: id, Role: "follower", State: "following",
			Condition: worker.Condition{Is: is, Since: ago(92 * time.Second)}, Target: "postgres",
			Process: statedb.Process{Host: "db-" + id, Pid: 4711, Version: "0.1.0"}}
		if lag != nil {
			v.Acked, v.Sent, v.Lag, v.LagSeconds = p.Head-*lag, p.Head, lag, ptr(float64(*lag)/50)
		}
		if more != nil {
			more(&v)
		}
		p.Clients = append(p.Clients, v)
	}
	for i := range n {
		add(fmt.Sprintf("shop-frankfurt-%02d", i), worker.IsFollowing, ptr(uint64(0)),
			func(v *worker.View) { v.Connected, v.Rate = true, 50 })
	}
	add("rd1", worker.IsStopped, ptr(uint64(3615)), nil)
	add("sq1", worker.IsGone, ptr(uint64(2173)), nil)
	add("pg1", worker.IsFailed, ptr(uint64(6358453)), func(v *worker.View) {
		v.LastError = &worker.Trouble{Seq: 1947, Class: "fail",
			Text: `ERROR: duplicate key value violates unique constraint "ev_pkey" (SQLSTATE 23505)`}
	})
	add("my1", worker.IsRetrying, ptr(uint64(4633)), func(v *worker.View) {
		v.Condition.Next = night.Add(12 * time.Second)
		v.LastError = &worker.Trouble{Seq: 8355768, Class: "transient", Text: "dial tcp 127.0.0.1:23306: connect: " +
			"connection refused"}
	})
	add("pg2", worker.IsLoading, nil, func(v *worker.View) {
		v.Condition.By, v.Loading = "pg1", &worker.Loading{Bytes: 128 << 20, Of: 203 << 20, Rate: 6 << 20, Left: 13,
			Opened: ago(512 * time.Second), Seq: 8357901}
	})
	add("pg3", worker.IsBlocked, ptr(uint64(2500)), func(v *worker.View) {
		v.Condition.Text = "increment 8,357,901 has been at the database for 1 m 32 s, blocked by session 20711 (psql, " +
			"role root, idle in transaction for 1 m 40 s), which ran last: BEGIN; LOCK TABLE ev. To end it: SELECT " +
			"pg_terminate_backend(20711)"
	})
	add("new", worker.IsWaiting, nil, func(v *worker.View) { v.Condition.By = "pg1" })
	add("old", worker.IsNeedsDump, nil, func(v *worker.View) { v.Acked = 7001 })
	return p
}

func nightlyDumps() []api.DumpView {
	return []api.DumpView{
		{ID: 0xf1dba73cecfa670e, Target: "pg1", Requesters: []string{"pg2", "pg3"}, Seq: 8357901, State: "open", PauseMS: 1.2,
			Bytes: 212593056, DurationMS: 18450,
			Opened: ptr(night.Add(-512 * time.Second))},
		{ID: 0xa1, Target: "shop-frankfurt-01", Requesters: []string{"backup-abcdefghijkl"}, State: "draining",
			DurationMS: 1200},
		{ID: 0xa2, Target: "my1", Seq: 3533, State: "failed", Bytes: 4711, DurationMS: 812,
			Opened: ptr(night.Add(-26 * time.Hour)), Error: "the node of the target my1 was stopped",
			NotLoaded: []api.DumpTrouble{{ID: "my2", Text: "a snapshot of about 203 MiB needs as much room beside the " +
				"live data, and /srv/my2 has 51 MiB free: make room"}}},
	}
}

func nightlyLines() (all []api.Line) {
	for i, body := range []string{"INSERT INTO ev VALUES (8360398, 'a long text that has more characters than a narrow " +
		"screen has columns, and a wide one too')", "x", "\x00\xff", "SELECT 'ä'"} {
		all = append(all, api.Line{Seq: uint64(8360397 + i), Time: night.Add(time.Duration(i) * 1234 * time.Millisecond),
			Topic: []string{"", "shop"}[i%2], Body: []byte(body)})
	}
	return all
}

func nightlyAudit() []api.AuditView {
	return []api.AuditView{
		{Number: 24, Time: night.Add(-time.Hour), Verb: "skip", Client: "my1", Seq: 44699,
			Reason: "nobody needs it, and the shop has written it once more with the right number", By: "127.0.0.1 (http)",
			Via: "root@vm"},
		{Number: 25, Time: night.Add(-time.Minute), Verb: "ack alert", Client: "shop-frankfurt-01-of-a-long-name",
			Seq: 8355768, Alert: "retry/shop-frankfurt-01-of-a-long-name", By: "127.0.0.1 (http)", Via: "root@vm"},
		{Number: 26, Time: night, Verb: "seek", Client: "pg1", Seq: 2001947, From: 2001946, To: 2001940, Reason: "restored",
			By: "10.0.0.7 (http)"},
		{Number: 27, Time: night, Verb: "retry", Client: "pg1", Seq: 2001947, Limit: "2h", By: "10.0.0.7 (http)"},
	}
}

func nightlyEvents() []api.EventView {
	at := func(s int) time.Time { return night.Add(time.Duration(s) * time.Second) }
	return []api.EventView{
		{Number: 1, Time: at(-600), Kind: statedb.Started, Seq: 8360300, Cause: "broker 0.1.0 on vm, pid 7, log " +
			"000000000000492b holds 1 to 8360300"},
		{Number: 2, Time: at(-500), Kind: statedb.ClientCame, Client: "pg1", Seq: 2001940,
			Cause: "on db-pg1, pid 4711, version 0.1.0, postgres://xmq:xxxxx@db1:5432/shop"},
		{Number: 3, Time: at(-400), Kind: statedb.AlertRaised, Alert: "fail/pg1", Severity: statedb.Critical, Client: "pg1",
			Seq: 2001947, Cause: "client pg1 could not apply increment 2001947: duplicate key"},
		{Number: 4, Time: at(-300), Kind: "ack alert", Alert: "fail/pg1", Client: "pg1", Seq: 2001947,
			By: "127.0.0.1 (http), root@vm"},
		{Number: 5, Time: at(-200), Kind: "skip", Client: "pg1", Seq: 2001947, Cause: "nobody needs it",
			By: "127.0.0.1 (http), root@vm"},
		{Number: 6, Time: at(-199), Kind: statedb.AlertCleared, Alert: "fail/pg1", Severity: statedb.Critical, Client: "pg1",
			Seq: 2001947},
		{Number: 7, Time: at(-100), Kind: statedb.LogTrimmed, Seq: 1000001, Cause: "1 segments freed, the log begins at " +
			"1000001"},
	}
}

// oneCause are two clients that refuse one increment, and a third with a trouble of its own.
func oneCause() []api.AlertView {
	cause := "increment 3533 is refused by all 2 clients of topic shop (my1, pg1): the increment is bad, not the " +
		"databases. To pass over it everywhere: xmq client skip --seq 3533 my1 pg1 --reason TEXT"
	a := api.AlertView{Key: "fail/my1", Client: "my1", Severity: statedb.Critical, Seq: 3533,
		First: night.Add(-time.Minute), Count: 1, Text: "client my1 could not apply increment 3533: Duplicate entry",
		Cause: cause}
	b := a
	b.Key, b.Client, b.Text = "fail/pg1", "pg1", "client pg1 could not apply increment 3533: duplicate key"
	c := api.AlertView{Key: "stopped/rd1", Client: "rd1", Severity: statedb.Warning, First: night.Add(-time.Hour),
		Count: 1, Acked: true,
		Text: "client rd1 on db4 was stopped at 2026-11-30 21:50:10Z and has not come back for 1 h 14 m, 3,615 increments " +
			"behind; it holds the log from 33,821 on, 3,615 increments, about 0.4 MiB, the oldest 1 h 14 m old. Gone for " +
			"good? xmq client forget rd1 --reason TEXT"}
	return []api.AlertView{a, b, c}
}

// golden compares a screen with its file; with GOLDEN=write it writes the file.
func golden(t *testing.T, name, got string, z size) {
	t.Helper()
	for i, line := range strings.Split(got, "\n") {
		require.LessOrEqual(t, utf8.RuneCountInString(line), z.columns, "line %d of %s: %s", i+1, name, line)
	}
	if z.rows > 0 {
		require.Less(t, strings.Count(got, "\n"), z.rows, "%s leaves a row for the cursor", name)
	}
	path := filepath.Join("testdata", name)
	if os.Getenv("GOLDEN") == "write" {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// No line of a screen is wider than it, the worst stands first, and what has no room is counted: nothing is green
// that is not.
func TestScreensFitAndSayTheWorstFirst(t *testing.T) {
	held := nightly(40)
	held.Input = &api.Input{Code: door.DiskFull, Since: night.Add(-time.Hour),
		Text: "the broker takes no increments: only 0 MiB of 868 MiB are free on the disk of /var/lib/xmq: make room"}
	status := api.Status{Broker: held.Broker, Input: held.Input, Log: held.Log, First: 1, Head: held.Head,
		Severity: statedb.Critical,
		Alerts: []api.AlertView{{Key: "fail/pg1", Client: "pg1", Severity: statedb.Critical,
			First: night.Add(-2 * time.Minute), Count: 1,
			Text: "client pg1 could not apply increment 1947: duplicate key. See it: xmq log show 1947; mend the database " +
				"and run xmq client retry pg1; or pass over it there: xmq client skip pg1 --seq 1947 --reason TEXT (or replace)"}},
		Clients: map[worker.Is]int{worker.IsFollowing: 4, worker.IsFailed: 1, worker.IsRetrying: 1},
		Wrong:   []worker.View{held.Clients[42], held.Clients[43]}}
	for _, z := range []size{{80, 24}, {120, 40}} {
		name := fmt.Sprintf("%dx%d.txt", z.columns, z.rows)
		golden(t, "positions-"+name, positionsScreen(nightly(3), z, false), z)
		golden(t, "positions-many-"+name, positionsScreen(held, z, false), z)
		golden(t, "alerts-"+name, alertsScreen(status.Alerts, z.columns), size{columns: z.columns})
		var b strings.Builder
		printStatus(&b, status, z.columns)
		golden(t, "status-"+name, b.String(), size{columns: z.columns})
		golden(t, "snapshots-"+name, snapshotsScreen(nightlyDumps(), night, z.columns), size{columns: z.columns})
		golden(t, "log-head-"+name, logScreen(api.LogInfo{Broker: held.Broker, Input: held.Input, Log: held.Log,
			Group: "main", First: 1, Head: held.Head,
			Chain: 0x1f, Segments: 5, Bytes: 3 << 30, MaxBytes: 40 << 30, SyncP99MS: 1.234, Pin: ptr(uint64(2001946)),
			Holder: "client pg1", Quarantined: []string{"000000000004"}}, z.columns), z)
		b.Reset()
		for _, l := range nightlyLines() {
			b.WriteString(tailLine(l, z.columns))
		}
		golden(t, "log-tail-"+name, b.String(), z)
		golden(t, "audit-"+name, auditScreen(nightlyAudit(), z.columns), z)
		b.Reset()
		for _, e := range nightlyEvents() {
			b.WriteString(eventLine(e, z.columns))
		}
		one := held.Clients[42]
		one.LastError = &worker.Trouble{Seq: 8355768, Class: "transient", Time: night.Add(-time.Minute), Text: "dial tcp " +
			"127.0.0.1:23306: connect: connection refused"}
		one.Topics, one.Address = []string{"orders", "shop"}, "postgres://xmq:xxxxx@db1.frankfurt.example:5432/shop"
		one.Order = &worker.Pending{Verb: "retry", Seq: 8355768}
		golden(t, "client-"+name, clientScreen(&one, night, z.columns), size{columns: z.columns})
		golden(t, "events-"+name, b.String(), z)
		golden(t, "alerts-one-cause-"+name, alertsScreen(oneCause(), z.columns), z)
		b.Reset()
		printStatus(&b, api.Status{Broker: held.Broker, Log: held.Log, First: 1, Head: held.Head,
			Severity: statedb.Critical, Alerts: oneCause(),
			Clients: map[worker.Is]int{worker.IsFailed: 2, worker.IsStopped: 1},
			Wrong:   []worker.View{held.Clients[42], held.Clients[40]}}, z.columns)
		golden(t, "status-one-cause-"+name, b.String(), z)
	}
}

// A monitoring system reads the exit code: 0 well, 1 warning, 2 critical, 3 nobody answers.
func TestCommandsThatLookEndWithWhatTheySaw(t *testing.T) {
	var p api.Positions
	var s api.Status
	var alerts []api.AlertView
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"/v1/positions": p, "/v1/status": s, "/v1/alerts": alerts,
			"/v1/log": api.LogInfo{Input: p.Input}}[r.URL.Path])
	}))
	defer b.Close()
	all := func(want int) {
		t.Helper()
		for _, words := range [][]string{{"status"}, {"positions", "--check"}, {"alerts", "--check"},
			{"alerts", "--check", "--json"}} {
			code, _, errs := call(t, "", append(words, "--api", b.URL)...)
			require.Equal(t, want, code, "%v: %s", words, errs)
		}
	}
	alert := func(severity statedb.Severity, is worker.Is) {
		p.Clients = []worker.View{{ID: "n1", Condition: worker.Condition{Is: is}}}
		s.Severity, alerts = severity, []api.AlertView{{Key: "k", Severity: severity, First: night}}
	}
	all(0)
	alert(statedb.Note, worker.IsStopped)
	all(0)
	alert(statedb.Warning, worker.IsRetrying)
	all(1)
	alert(statedb.Critical, worker.IsFailed)
	all(2)
	alert(statedb.Warning, worker.IsRetrying)
	p.Input, s.Severity = &api.Input{Code: door.DiskFull, Text: "full"}, statedb.Critical
	all(2)
	p.Input = nil
	for key, severity := range map[string]statedb.Severity{"stopped": statedb.Warning, "retry": statedb.Critical} {
		is := map[string]worker.Is{"stopped": worker.IsStopped, "retry": worker.IsRetrying}[key]
		alert(severity, is)
		alerts[0].Key, alerts[0].Client = key+"/n1", "n1"
		all(map[statedb.Severity]int{statedb.Warning: 1, statedb.Critical: 2}[severity])
	}
	p.Input, s.Severity = &api.Input{Code: door.DiskFull, Text: "full"}, statedb.Critical
	code, out, _ := call(t, "", "positions", "--api", b.URL)
	require.Zero(t, code, "only --check says it by the exit code")
	require.True(t, strings.HasPrefix(out, "INPUT IS REFUSED since "), out)
	b.Close()
	all(3)
	code, _, _ = call(t, "", "positions", "--api", b.URL)
	require.Equal(t, exitTemporary, code)
}

// Where a database is, is shown to everybody who may look: without a secret.
func TestAnAddressHoldsNoSecret(t *testing.T) {
	for target, want := range map[string]string{
		"postgres://xmq:s3cret@db2:5432/shop?sslmode=disable": "postgres://xmq:xxxxx@db2:5432/shop",
		"sqlite:/srv/sq1/shop.db":                             "sqlite:/srv/sq1/shop.db",
		"exec:/usr/bin/apply --token s3cret":                  "exec:/usr/bin/apply",
		"webhook:https://h.example/s3cret":                    "webhook:https://h.example",
	} {
		got := addressOf(target)
		require.NotContains(t, got, "s3cret")
		require.True(t, strings.HasPrefix(got, strings.TrimSuffix(want, "xxxxx@db2:5432/shop")), "%s: %s", target, got)
	}
}

// An alert that says something else about a client hides neither its state nor a worse one: the worst stands first.
func TestAStatusHidesNoClientBehindAnAlert(t *testing.T) {
	var b strings.Builder
	printStatus(&b, api.Status{Alerts: []api.AlertView{
		{Key: "node-disk/n1", Client: "n1", Severity: statedb.Warning, Text: "its disk has 3 MiB free"},
		{Key: "stopped/n2", Client: "n2", Severity: statedb.Warning, Text: "n2 was stopped"}},
		Clients: map[worker.Is]int{worker.IsFatal: 1, worker.IsStopped: 1},
		Wrong: []worker.View{{ID: "n1", Condition: worker.Condition{Is: worker.IsFatal}},
			{ID: "n2", Condition: worker.Condition{Is: worker.IsStopped}}}}, 120)
	require.Equal(t, "CRITICAL n1: fatal\nWARNING its disk has 3 MiB free\nWARNING n2 was stopped\n2 clients: 1 fatal, "+
		"1 stopped\n", b.String()[strings.Index(b.String(), "CRITICAL"):])
}
