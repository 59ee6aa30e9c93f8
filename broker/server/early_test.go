package server

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
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
		r.cfg.Watch.MinFree = min
		require.NoError(t, r.look())
		a, stands := r.stands("disk")
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

	var filling trend
	now := time.Now()
	for i := range trendLeast {
		_, known := filling.left(uint64(1000-10*i)<<20, 100<<20, now.Add(time.Duration(i)*trendEvery))
		require.Equal(t, i == trendLeast-1, known)
	}
	left, known := filling.left(940<<20, 100<<20, now.Add(6*trendEvery))
	require.True(t, known)
	require.InDelta(t, 840, left.Seconds(), 1, "1 MiB a second")
}

// A node that was stopped and forgotten is reported, also behind a restart of the broker; a client that is behind for long is, once; and
// a client whose alert says why it is behind gets no second one.
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
	soon(t, "it is behind", func() bool { a, stands := r.stands("lag/master"); return stands && a.Severity == statedb.Warning })
	release()
	soon(t, "it is level", func() bool { _, stands := r.stands("lag/master"); return !stands })
	require.NoError(t, stop())
	stands := func() bool { _, stands := r.stands("stopped/master"); return stands }
	soon(t, "it is missed", stands)
	r.fill(1)
	require.NoError(t, r.stop())
	r = startBroker(t, cfg)
	soon(t, "it is still missed", stands)
	var all []AlertView
	require.NoError(t, json.NewDecoder(r.get("/v1/alerts").Body).Decode(&all))
	for _, a := range all {
		if a.Standing() {
			require.Equal(t, "stopped/master", a.Key, "one cause is one alert")
			require.Contains(t, a.Text, "it holds the log from 4. Gone for good? xmq client forget master")
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
	require.NoError(t, releaseReserve(dir, startNeeds-1, slog.New(slog.DiscardHandler)))
	require.False(t, disk.HasBallast(dir))
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
	r.fill(20)
	require.Contains(t, why(), "client n1 needs increment 4, which is in the oldest one (1 to 10)")
}

// An alert is as severe as its consequence: a slow sync wakes nobody, increments that wait do.
func TestASlowSyncIsANoteAndAStallIsCritical(t *testing.T) {
	cfg := quiet(t)
	cfg.Watch.SlowSync = 100 * time.Millisecond
	r := still(t, cfg)
	is := func(tables int, stuck bool, sync time.Duration, severity statedb.Severity) {
		t.Helper()
		var b statedb.Batch
		r.lookAtStorage(&b, tables, false, stuck, sync, 1)
		require.NoError(t, r.stores.state.Write(&b))
		a, stands := r.stands("stall")
		require.Equal(t, severity != "", stands)
		require.True(t, !stands || a.Severity == severity, a.Severity)
	}
	is(0, false, 109*time.Millisecond, statedb.Note)
	is(level0Alert, false, 109*time.Millisecond, statedb.Critical)
	is(0, false, 109*time.Millisecond, statedb.Note)
	is(0, true, 0, statedb.Critical)
	is(0, false, 0, "")
}
