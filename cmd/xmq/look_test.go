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

	"xmq/broker/door"
	"xmq/broker/server"
	"xmq/statedb"
	"xmq/worker"
)

var night = time.Date(2026, 11, 30, 23, 4, 11, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// nightly are positions with one client in every condition, and n that follow.
func nightly(n int) server.Positions {
	p := server.Positions{Broker: server.Header{Time: night, Version: "0.1.0", Host: "vm", Pid: 7, Started: night.Add(-72 * time.Minute), Rate: 50,
		DiskFree: 784 << 20, DiskTotal: 868 << 20}, Log: 0x492b, Group: "main", Head: 8360400, First: 1}
	ago := func(d time.Duration) time.Time { return night.Add(-d) }
	add := func(id string, is worker.Is, lag *uint64, more func(*worker.View)) {
		v := worker.View{ID: id, Role: "follower", State: "following", Condition: worker.Condition{Is: is, Since: ago(92 * time.Second)}, Target: "postgres",
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
		add(fmt.Sprintf("shop-frankfurt-%02d", i), worker.IsFollowing, ptr(uint64(0)), func(v *worker.View) { v.Connected, v.Rate = true, 50 })
	}
	add("rd1", worker.IsStopped, ptr(uint64(3615)), nil)
	add("sq1", worker.IsGone, ptr(uint64(2173)), nil)
	add("pg1", worker.IsFailed, ptr(uint64(6358453)), func(v *worker.View) {
		v.LastError = &worker.Trouble{Seq: 1947, Class: "fail", Text: `ERROR: duplicate key value violates unique constraint "ev_pkey" (SQLSTATE 23505)`}
	})
	add("my1", worker.IsRetrying, ptr(uint64(4633)), func(v *worker.View) {
		v.Condition.Next = night.Add(12 * time.Second)
		v.LastError = &worker.Trouble{Seq: 8355768, Class: "transient", Text: "dial tcp 127.0.0.1:23306: connect: connection refused"}
	})
	add("pg2", worker.IsLoading, nil, func(v *worker.View) {
		v.Condition.By, v.Loading = "pg1", &worker.Loading{Bytes: 128 << 20, Of: 203 << 20, Rate: 6 << 20, Left: 13}
	})
	add("pg3", worker.IsBlocked, ptr(uint64(2500)), func(v *worker.View) { v.Condition.Text = "increment 8357901 has been at the database for 1m32s" })
	add("new", worker.IsWaiting, nil, func(v *worker.View) { v.Condition.By = "pg1" })
	add("old", worker.IsNeedsDump, nil, func(v *worker.View) { v.Acked = 7001 })
	return p
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

// No line of a screen is wider than it, the worst stands first, and what has no room is counted: nothing is green that is not.
func TestScreensFitAndSayTheWorstFirst(t *testing.T) {
	held := nightly(40)
	held.Input = &server.Input{Code: door.DiskFull, Since: night.Add(-time.Hour), Text: "the broker takes no increments: only 0 MiB of 868 MiB are free on the disk of /var/lib/xmq: make room"}
	status := server.Status{Broker: held.Broker, Input: held.Input, Log: held.Log, First: 1, Head: held.Head, Severity: statedb.Critical,
		Alerts: []server.AlertView{{Key: "fail/pg1", Client: "pg1", Severity: statedb.Critical, First: night.Add(-2 * time.Minute), Count: 1,
			Text: "client pg1 could not apply increment 1947: duplicate key. Mend it and run `xmq client retry pg1`, or skip or replace the increment"}},
		Clients: map[worker.Is]int{worker.IsFollowing: 4, worker.IsFailed: 1, worker.IsRetrying: 1}, Wrong: []worker.View{held.Clients[42], held.Clients[43]}}
	for _, z := range []size{{80, 24}, {120, 40}} {
		name := fmt.Sprintf("%dx%d.txt", z.columns, z.rows)
		golden(t, "positions-"+name, positionsScreen(nightly(3), z, false), z)
		golden(t, "positions-many-"+name, positionsScreen(held, z, false), z)
		golden(t, "alerts-"+name, alertsScreen(status.Alerts, z.columns), size{columns: z.columns})
		var b strings.Builder
		printStatus(&b, status, z.columns)
		golden(t, "status-"+name, b.String(), size{columns: z.columns})
	}
}

// A monitoring system reads the exit code: 0 well, 1 warning, 2 critical, 3 nobody answers.
func TestCommandsThatLookEndWithWhatTheySaw(t *testing.T) {
	var p server.Positions
	var s server.Status
	var alerts []server.AlertView
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"/v1/positions": p, "/v1/status": s, "/v1/alerts": alerts, "/v1/log": server.LogInfo{Input: p.Input}}[r.URL.Path])
	}))
	defer b.Close()
	all := func(want int) {
		t.Helper()
		for _, words := range [][]string{{"status"}, {"positions", "--check"}, {"alerts", "--check"}, {"alerts", "--check", "--json"}} {
			code, _, errs := call(t, "", append(words, "--api", b.URL)...)
			require.Equal(t, want, code, "%v: %s", words, errs)
		}
	}
	alert := func(severity statedb.Severity, is worker.Is) {
		p.Clients = []worker.View{{ID: "n1", Condition: worker.Condition{Is: is}}}
		s.Severity, alerts = severity, []server.AlertView{{Key: "k", Severity: severity, First: night}}
	}
	all(0)
	alert(statedb.Note, worker.IsStopped)
	all(0)
	alert(statedb.Warning, worker.IsRetrying)
	all(1)
	alert(statedb.Critical, worker.IsFailed)
	all(2)
	alert(statedb.Warning, worker.IsRetrying)
	p.Input, s.Severity = &server.Input{Code: door.DiskFull, Text: "full"}, statedb.Critical
	all(2)
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
