package drivertest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// patience is how long At asks a database that may come back.
const patience = 10 * time.Second

// At is the stored position of db, or the start of log. Like an agent it asks again while the trouble may pass: a
// connection whose server was killed meanwhile says so only when it is used.
func At(t *testing.T, db nodeclient.Database, log *Log) event.Position {
	t.Helper()
	pos, err := db.Position(t.Context())
	for end := time.Now().Add(patience); nodeclient.IsTransient(err) && time.Now().Before(end); {
		pos, err = db.Position(t.Context())
	}
	require.NoError(t, err)
	if pos.Zero() {
		return event.Start(log.At().Log)
	}
	return pos
}

// Scripts makes one item for each script.
func (l *Log) Scripts(scripts ...string) (items []event.Item) {
	for _, s := range scripts {
		items = append(items, l.Next([]byte(s))...)
	}
	return items
}

// Feed applies scripts as one batch.
func Feed(t *testing.T, db nodeclient.Database, log *Log, scripts ...string) {
	t.Helper()
	before := At(t, db, log)
	_, err := db.Apply(t.Context(), before, log.Scripts(scripts...))
	require.NoError(t, err)
}

// Fails applies scripts as one batch of which the i-th, from 0, must FAIL, everything before it durable and nothing
// else. The log then goes on after all of them.
func Fails(t *testing.T, db nodeclient.Database, log *Log, i int, scripts ...string) error {
	t.Helper()
	want := At(t, db, log)
	items := log.Scripts(scripts...)
	applied, err := db.Apply(t.Context(), want, items)
	if i > 0 {
		want = items[i-1].Pos
	}
	require.Error(t, err, "%.100q", scripts[i])
	require.False(t, nodeclient.IsTransient(err) || nodeclient.IsFatal(err), err)
	require.ErrorContains(t, err, fmt.Sprintf("increment %d: ", items[i].Pos.Seq), "%.100q", scripts[i])
	require.Equal(t, want.Seq, applied.Seq)
	require.Equal(t, want, At(t, db, log))
	require.NoError(t, db.Seek(t.Context(), items[len(items)-1].Pos))
	return err
}
