package nodeclient

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/bus"
	"xmq/broker/event"
)

// What Reload changes holds for the next increment, the next batch and the next FAIL of an agent that runs; what is
// wrong changes nothing.
func TestReloadHoldsForWhatComesNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTalk(t, 0, nil)
		k.h = newHistory(2)
		o := Options{ID: "n1", ApplyLimit: time.Minute, BatchRecords: 7}
		a, err := New(bus.NewMem(1).Connect("n1"), &stuck{seq: 1}, o)
		require.NoError(t, err)
		took := func() time.Duration {
			begun := time.Now()
			_, err := a.apply(t.Context(), task{apply: k.h.items(0, 1), before: k.h.pos[0]})
			require.ErrorContains(t, err, "(apply_limit)")
			return time.Since(begun)
		}
		require.Equal(t, time.Minute, took())
		o.ApplyLimit, o.BatchRecords, o.DumpRate = time.Hour, 3, 1000
		o.ExitOnFail, o.Stay = true, true
		require.NoError(t, a.Reload(o))
		require.Equal(t, time.Hour, took())
		require.EqualValues(t, 1000, a.transferOptions().Rate)
		s := k.session
		a.obey(s)
		require.Equal(t, 3, s.rules.batchRecords)
		require.True(t, s.rules.exitOnFail)
		require.False(t, s.rules.rejoin)
		o.BatchRecords = -1
		require.Error(t, a.Reload(o))
		a.obey(s)
		require.Equal(t, 3, s.rules.batchRecords)
	})
}

// A node that waits for its database says that nobody serves its group, once, and again after somebody did.
func TestANodeThatWaitsForItsDatabaseSaysThatNobodyServesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := bus.NewMem(1)
		var log bytes.Buffer
		o, err := Options{ID: "n1", Log: slog.New(slog.NewTextHandler(&log, nil))}.WithDefaults()
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		away := Transient(context.DeadlineExceeded)
		go func() {
			done <- Away(ctx, mem.Connect("n1"), o, func(context.Context) error { return away })
		}()
		after := func(d time.Duration, said int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			require.Equal(t, said, strings.Count(log.String(), "nobody serves group"), log.String())
		}
		after(time.Minute, 1)
		sub, err := mem.Connect("broker").Subscribe(event.Subject(o.Group, event.Up, "n1"), func(bus.Msg) {})
		require.NoError(t, err)
		after(time.Minute, 1)
		sub.Stop()
		after(time.Minute, 2)
		stop()
		require.ErrorIs(t, <-done, away)
	})
}
