package storetest

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"xmq/statedb"
)

// XQ-10: "Alert = severity, node, sequence, text, first, last, count; list, ack, clear": "life of one alert".
func lifeOfAnAlert(t *testing.T, kind Kind) {
	kind.run(t, func(t *testing.T, db statedb.Store, reopen func() statedb.Store) {
		raise := func(text string, now int64) {
			write(t, db, func(b *statedb.Batch) {
				b.Raise(statedb.Alert{Key: "fail/n", Severity: statedb.Critical, Client: "n", Seq: 7, Text: text, Last: now,
					Count: 99, Acked: true, Cleared: 99})
			})
		}
		want := statedb.Alert{V: statedb.AlertVersion, Key: "fail/n", Severity: statedb.Critical, Client: "n", Seq: 7,
			Text: "no", First: 1, Last: 1, Count: 1}
		is := func() {
			t.Helper()
			require.Equal(t, []statedb.Alert{want}, db.Alerts())
			db = reopen()
			require.Equal(t, []statedb.Alert{want}, db.Alerts())
		}
		raise("no", 1)
		is()
		raise("no", 2)
		want.Last, want.Count = 2, 2
		is()
		write(t, db, func(b *statedb.Batch) { b.AckAlert("fail/n"); b.AckAlert("unknown") })
		want.Acked = true
		is()
		raise("no", 3)
		want.Last, want.Count = 3, 3
		is()
		raise("something else", 4) // its numbers have changed, it is the same
		want.Text, want.Last, want.Count = "something else", 4, 4
		is()
		write(t, db, func(b *statedb.Batch) {
			b.Raise(statedb.Alert{Key: "fail/n", Severity: statedb.Critical, Client: "n", Seq: 8, Text: "something else",
				Last: 4})
		})
		want.Seq, want.Count, want.Acked = 8, 5, false
		is()
		write(t, db, func(b *statedb.Batch) { b.Clear("fail/n", 5); b.Clear("unknown", 5) })
		want.Cleared = 5
		is()
		write(t, db, func(b *statedb.Batch) { b.Clear("fail/n", 6) })
		is()
		raise("no", 7)
		want.Seq = 7
		want.Text = "no"
		want.First = 7
		want.Last = 7
		want.Count = 1
		want.Cleared = 0
		is()
	})
}

func oldClearedAlertsAreRemoved(t *testing.T, kind Kind) {
	kind.run(t, func(t *testing.T, db statedb.Store, reopen func() statedb.Store) {
		write(t, db, func(b *statedb.Batch) {
			b.Raise(statedb.Alert{Key: "stands", Last: 1})
			for i := range 2 * statedb.KeptAlerts {
				b.Raise(statedb.Alert{Key: fmt.Sprintf("%05d", i), Last: 1})
			}
		})
		write(t, db, func(b *statedb.Batch) {
			for i := range 2 * statedb.KeptAlerts {
				b.Clear(fmt.Sprintf("%05d", i), int64(i+1))
			}
		})
		write(t, db, func(b *statedb.Batch) { b.Raise(statedb.Alert{Key: "news", Last: 2}) })
		for range 2 {
			require.Len(t, db.Alerts(), statedb.KeptAlerts+2)
			require.Equal(t, "01000", db.Alerts()[0].Key, "the oldest went first")
			db = reopen()
		}
	})
}

func auditIsNumberedAcrossReopening(t *testing.T, kind Kind) {
	kind.run(t, func(t *testing.T, db statedb.Store, reopen func() statedb.Store) {
		for i := range 5 {
			write(t, db, func(b *statedb.Batch) {
				b.Audit(statedb.Audit{Verb: fmt.Sprint("a", i)})
				b.Audit(statedb.Audit{Verb: fmt.Sprint("b", i), Number: 99})
			})
			db = reopen()
		}
		all, err := db.Audits(100)
		require.NoError(t, err)
		require.Len(t, all, 10)
		for i, a := range all {
			require.Equal(t, uint64(i+1), a.Number)
			require.Equal(t, statedb.AuditVersion, a.V)
		}
		last, err := db.Audits(3)
		require.NoError(t, err)
		require.Equal(t, all[7:], last)
		for _, n := range []int{0, -1} {
			none, err := db.Audits(n)
			require.NoError(t, err)
			require.Empty(t, none)
		}
	})
}

func alertIsToldAfterItIsDurable(t *testing.T, kind Kind) {
	var told []statedb.Alert
	disk := kind(t)
	var db statedb.Store
	db = disk.Open(statedb.Options{OnAlert: func(a statedb.Alert) {
		stored, _ := db.Alert(a.Key)
		require.Equal(t, a, stored)
		told = append(told, a)
	}})
	var b statedb.Batch
	b.Raise(statedb.Alert{Key: "k", Last: 1})
	b.Raise(statedb.Alert{Key: "k", Last: 2})
	b.Clear("other", 1)
	require.NoError(t, db.Write(&b))
	require.Len(t, told, 1)
	require.Equal(t, uint64(2), told[0].Count, "both in one batch count")
	write(t, db, func(b *statedb.Batch) { b.Clear("k", 3) })
	require.NoError(t, db.Write(&b), "a batch may be written again")
	require.Equal(t, uint64(2), told[2].Count, "and then counts from the start")
	disk.Break()
	require.Error(t, db.Write(&b))
	require.Len(t, told, 3)
}

func alertTextIsValidAndBounded(t *testing.T, kind Kind) {
	db := kind(t).Open(statedb.Options{})
	for _, s := range []string{strings.Repeat("ä", statedb.MaxText), "x" + strings.Repeat("ä", statedb.MaxText),
		strings.Repeat("a\xff", statedb.MaxText), strings.Repeat("😀", statedb.MaxText) + "x"} {
		write(t, db, func(b *statedb.Batch) { b.Raise(statedb.Alert{Key: "k", Text: s}) })
		got := db.Alerts()[0].Text
		require.True(t, utf8.ValidString(got))
		require.LessOrEqual(t, len(got), statedb.MaxText)
		require.Greater(t, len(got), statedb.MaxText-utf8.UTFMax)
	}
}

// Every incident is a row, once each: what only counts again is none. The oldest rows go, and numbers go on after a
// restart.
func everyIncidentIsARowAndRowsAreBounded(t *testing.T, kind Kind) {
	var told []statedb.Event
	disk := kind(t)
	open := func() statedb.Store {
		return disk.Open(statedb.Options{KeepEvents: 4, OnEvent: func(e statedb.Event) { told = append(told, e) }})
	}
	db := open()
	alert := func(s statedb.Severity, text string) func(b *statedb.Batch) {
		return func(b *statedb.Batch) { b.Raise(statedb.Alert{Key: "retry", Severity: s, Text: text, Last: 1}) }
	}
	write(t, db, alert(statedb.Warning, "away"))
	write(t, db, alert(statedb.Warning, "away for 5 s"))
	write(t, db, alert(statedb.Critical, "away for 5 min"))
	write(t, db, func(b *statedb.Batch) {
		b.Audit(statedb.Audit{Verb: "skip", Client: "n1", Reason: "why", By: "b", Via: "v"})
	})
	write(t, db, func(b *statedb.Batch) { b.Clear("retry", 9) })
	write(t, db, func(b *statedb.Batch) { b.Clear("retry", 9) })
	require.Equal(t, []string{"1 alert raised retry away", "2 alert worse retry away for 5 min", "3 skip n1 why",
		"4 alert cleared retry "}, timeline(t, db))
	require.Len(t, told, 4)
	require.Equal(t, "b, v", told[2].By)
	db = open()
	write(t, db, func(b *statedb.Batch) {
		b.Event(statedb.Event{Kind: statedb.Started})
		b.Event(statedb.Event{Kind: statedb.ClientCame, Client: "n1"})
	})
	want := []string{"3 skip n1 why", "4 alert cleared retry ", "5 started  ", "6 client came n1 "}
	require.Equal(t, want, timeline(t, db))
	require.Equal(t, want, timeline(t, open()))
	db = open()
	write(t, db, func(b *statedb.Batch) { // more at once than are kept
		for range 6 {
			b.Event(statedb.Event{Kind: statedb.Stopped})
		}
	})
	write(t, db, func(b *statedb.Batch) { b.Event(statedb.Event{Kind: statedb.Started}) })
	require.Equal(t, []string{"10 stopped  ", "11 stopped  ", "12 stopped  ", "13 started  "}, timeline(t, db))
}

// timeline is all that is kept, a line each.
func timeline(t *testing.T, db statedb.Store) (all []string) {
	t.Helper()
	require.NoError(t, db.Events(0, func(e statedb.Event) bool {
		all = append(all, fmt.Sprintf("%d %s %s %s", e.Number, e.Kind, e.Alert+e.Client, e.Cause))
		return true
	}))
	return all
}
