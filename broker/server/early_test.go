package server

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/broker/bus"
	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/nodeclient/driver/drivertest"
	"xmq/statedb"
)

// Who watches the alerts hears of the disk before input is refused, and the same alert becomes worse when it is.
func TestTheDiskIsToldBeforeInputIsRefused(t *testing.T) {
	r := still(t, quiet(t))
	r.Broker.ready.Store(true)
	_, total, err := disk.Space(r.stores.dir)
	require.NoError(t, err)
	is := func(min int64, severity statedb.Severity) {
		t.Helper()
		r.turn(func(c *Config) { c.Watch.MinFree = min })
		require.NoError(t, r.watcher.Look())
		a, stands := r.alerts.Stands("disk")
		require.Equal(t, severity != "", stands)
		if stands {
			require.Equal(t, severity, a.Severity, a.Text)
		}
	}
	free, _, err := disk.Space(r.stores.dir)
	require.NoError(t, err)
	is(0, "")
	is(int64(free/2+free/4), statedb.Warning)
	require.Nil(t, r.input(), "increments are taken")
	is(int64(total)+1, statedb.Critical)
	require.NotNil(t, r.input())
	is(int64(free/2+free/4), statedb.Warning)
	is(0, "")
}

// A node that was stopped and forgotten is reported, also behind a restart of the broker; a client that is behind for
// long is, once; and a client whose alert says why it is behind gets no second one.
func TestAForgottenNodeAndALongLagAreReported(t *testing.T) {
	cfg := testConfig(t)
	cfg.Watch.Stopped, cfg.Watch.Lag = time.Millisecond, 30*time.Millisecond
	r := startBroker(t, cfg)
	db := drivertest.NewMemory()
	stop := r.node("master", "", db)
	r.fill(2)
	soon(t, "it follows", func() bool { return db.Position().Seq == 2 })
	release := db.Hang()
	r.fill(1)
	soon(t, "it is behind", func() bool {
		a, stands := r.alerts.Stands("lag/master")
		return stands &&
			a.Severity == statedb.Warning
	})
	release()
	soon(t, "it is level", func() bool { _, stands := r.alerts.Stands("lag/master"); return !stands })
	require.NoError(t, stop())
	stands := func() bool { _, stands := r.alerts.Stands("stopped/master"); return stands }
	soon(t, "it is missed", stands)
	r.fill(1)
	require.NoError(t, r.stop())
	r = startBroker(t, cfg)
	soon(t, "it is still missed", stands)
	var all []api.AlertView
	require.NoError(t, json.NewDecoder(r.get("/v1/alerts").Body).Decode(&all))
	for _, a := range all {
		if a.Standing() {
			require.Equal(t, "stopped/master", a.Key, "one cause is one alert")
			require.Contains(t, a.Text, "1 increment behind; it holds the log from 4 on, 1 increment, about ")
			require.Contains(t, a.Text, " old. Gone for good? xmq client forget master --reason TEXT")
		}
	}
	r.node("master", "", db)
	soon(t, "it is back", func() bool { return !stands() && db.Position().Seq == 4 })
}

// A start on a full disk gives up the reserve, and no other start does.
func TestTheReserveIsReleasedByTheStartThatNeedsIt(t *testing.T) {
	dir := t.TempDir()
	free, _, err := disk.Space(dir)
	require.NoError(t, err)
	require.Greater(t, free, uint64(startNeeds+2*disk.BallastSize), "this test needs room on its disk")
	require.NoError(t, disk.AddBallast(dir))
	require.NoError(t, releaseReserve(dir, startNeeds, slog.New(slog.DiscardHandler)))
	require.True(t, disk.HasBallast(dir), "there is room")
	require.Contains(t, reserveOf(dir), "is released by the start")
	require.NoError(t, releaseReserve(dir, startNeeds-1, slog.New(slog.DiscardHandler)))
	require.False(t, disk.HasBallast(dir))
	require.Contains(t, reserveOf(dir), "no reserve is left")
	require.NoError(t, releaseReserve(dir, 0, slog.New(slog.DiscardHandler)), "there is none")
}

// A trim that frees nothing says why, and who it is.
func TestATrimThatFreesNothingSaysWhy(t *testing.T) {
	r := still(t, quiet(t))
	why := func() string {
		_, body := r.post("/v1/log/trim", "{}")
		return body
	}
	require.Contains(t, why(), "nothing was freed: the log is empty")
	r.fill(5)
	require.Contains(t, why(), "no client is known yet")
	r.keeps("n1", statedb.Following, 3)
	require.Contains(t, why(), "the only one, from 1 on, is still written to until it has 10 increments (max_records")
	smaller := quiet(t)
	smaller.MaxRecords = 5
	require.NoError(t, r.Reload(smaller))
	require.Contains(t, why(), "the only one, from 1 on, ends when the next increment comes")
	r.fill(20)
	require.Contains(t, why(), "client n1 needs increment 4, which is in the oldest one (1 to 5)")
}

// Who holds the log is told in numbers, bytes and time, with the command; and not beside an alert that says why that
// client stands still.
func TestWhoHoldsTheLogIsToldOnceAndInNumbers(t *testing.T) {
	cfg := quiet(t)
	cfg.Retention.PinAlert = 1
	r := still(t, cfg)
	r.fill(55)
	r.keeps("n1", statedb.Following, 5)
	pin := func() string {
		t.Helper()
		_, err := r.trimmer.Trim()
		require.NoError(t, err)
		a, stands := r.alerts.Stands("pin")
		if !stands {
			return ""
		}
		require.Equal(t, "n1", a.Client)
		return r.alerts.Text(a, nil, time.Now())
	}
	require.Regexp(t, `^client n1 holds the log from 6 on: 50 increments, about [0-9.]+ KiB, growing by \d+ a second, `+
		`the oldest [0-9.]+ s old: see why it does not go forward with xmq client show n1\. Gone for good\? xmq client `+
		`forget n1 --reason TEXT$`, pin())
	for _, kind := range []string{"offline", "refused", "stopped", "lag"} {
		var b statedb.Batch
		b.Raise(statedb.Alert{Key: kind + "/n1", Client: "n1", Severity: statedb.Warning, Last: 1, Text: "why"})
		require.NoError(t, r.stores.state.Write(&b))
		require.Empty(t, pin(), kind)
		b = statedb.Batch{}
		b.Clear(kind+"/n1", 2)
		require.NoError(t, r.stores.state.Write(&b))
		require.NotEmpty(t, pin(), kind)
	}
}

// What nobody does for long is a note: a backup, a check of the log. It ends when it is done.
func TestWhatNobodyHasDoneForLongIsANote(t *testing.T) {
	cfg := quiet(t)
	cfg.Watch.Backup, cfg.Watch.Checked = 24*time.Hour, 24*time.Hour
	r := still(t, cfg)
	is := func(key string, in time.Duration) string {
		t.Helper()
		r.watcher.Now = func() time.Time { return time.Now().Add(in) }
		require.NoError(t, r.watcher.Look())
		a, stands := r.alerts.Stands(key)
		require.True(t, !stands || a.Severity == statedb.Note)
		if !stands {
			return ""
		}
		return a.Text
	}
	require.Empty(t, is("no-backup", 25*time.Hour), "nothing is there to lose")
	r.fill(3)
	r.keeps("n1", statedb.Following, 3)
	require.Empty(t, is("no-backup", 23*time.Hour))
	require.Contains(t, is("no-backup", 25*time.Hour),
		"nobody has taken a backup with xmq dump since this log began, for 25 h 0 m: xmq dump --from NODE --output FILE")
	require.Contains(t, is("unchecked", 25*time.Hour),
		"the log has not been read for damage to its end since this log began")
	_, body := r.post("/v1/log/check", "{}")
	require.Contains(t, body, "records")
	d := dumpflow.Dump{ID: 1, Requesters: []dumpflow.Requester{{ID: "part", Backup: true, Range: &event.Range{Limit: 1}},
		{ID: "n2"}, {ID: "backup-x", Backup: true}}}
	var put statedb.Batch
	put.PutDump(d)
	require.NoError(t, r.stores.state.Write(&put))
	says := func(id string, state event.State) {
		e := event.Event{Kind: event.DumpReq, State: state, Code: event.Abandoned, Group: r.cfg.Group, ID: id, Peer: "n1",
			Dump: d.ID}
		r.dispatch.up(bus.Msg{Subject: event.Subject(r.cfg.Group, event.Up, id), Data: e.Append(nil)})
	}
	says("n2", event.Succ)
	says("part", event.Succ)
	says("backup-x", event.None) // it was given up, or its file could not be written
	require.Empty(t, is("unchecked", 23*time.Hour))
	require.NotEmpty(t, is("no-backup", 25*time.Hour))
	says("backup-x", event.Succ)
	require.Empty(t, is("no-backup", 23*time.Hour))
	require.NoError(t, r.stop())
	r = still(t, cfg) // it is remembered
	require.Regexp(t, `since \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ, for 25 h 0 m`, is("no-backup", 25*time.Hour))
	require.Regexp(t, `since \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ, for 25 h 0 m`, is("unchecked", 25*time.Hour))
}
