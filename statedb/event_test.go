package statedb

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// timeline is all that is kept, a line each.
func timeline(t *testing.T, db *DB) (all []string) {
	t.Helper()
	require.NoError(t, db.Events(0, func(e Event) bool {
		all = append(all, fmt.Sprintf("%d %s %s %s", e.Number, e.Kind, e.Alert+e.Client, e.Cause))
		return true
	}))
	return all
}

// Every incident is a row, once each: what only counts again is none. The oldest rows go, and numbers go on after a restart.
func TestEveryIncidentIsARowAndRowsAreBounded(t *testing.T) {
	m := &memory{all: map[string]string{}}
	var told []Event
	open := func() *DB {
		db, err := Open(m, nil)
		require.NoError(t, err)
		db.KeepEvents(4)
		db.OnEvent(func(e Event) { told = append(told, e) })
		return db
	}
	db := open()
	alert := func(s Severity, text string) func(b *Batch) {
		return func(b *Batch) { b.Raise(Alert{Key: "retry", Severity: s, Text: text, Last: 1}) }
	}
	write(t, db, alert(Warning, "away"))
	write(t, db, alert(Warning, "away for 5 s"))
	write(t, db, alert(Critical, "away for 5 min"))
	write(t, db, func(b *Batch) { b.Audit(Audit{Verb: "skip", Client: "n1", Reason: "why", By: "b", Via: "v"}) })
	write(t, db, func(b *Batch) { b.Clear("retry", 9) })
	write(t, db, func(b *Batch) { b.Clear("retry", 9) })
	require.Equal(t, []string{"1 alert raised retry away", "2 alert worse retry away for 5 min", "3 skip n1 why", "4 alert cleared retry "}, timeline(t, db))
	require.Len(t, told, 4)
	require.Equal(t, "b, v", told[2].By)
	db = open()
	write(t, db, func(b *Batch) {
		b.Event(Event{Kind: Started})
		b.Event(Event{Kind: ClientCame, Client: "n1"})
	})
	want := []string{"3 skip n1 why", "4 alert cleared retry ", "5 started  ", "6 client came n1 "}
	require.Equal(t, want, timeline(t, db))
	require.Equal(t, want, timeline(t, open()))
}
