// Package logtest is what every increments.Log must pass: order, durability over restarts and power cuts, idempotency,
// groups under way, retention, reads beside the writer, times, and what follows a failed write.
//
// The test of a log calls Run with a Kind, which makes an empty Disk: where the log keeps its data, and how a test
// opens it anew, cuts its power or lets its syncs fail. See the tests of increments/segments.
package logtest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/increments"
)

// Disk is where a log keeps its data, and what a test does to it.
type Disk interface {
	// Open opens the log that is there, or makes a new one, with small segments: Span increments each, keys remembered
	// for Window increments, little memory. The log that was opened before is closed.
	Open(t *testing.T) increments.Log
	// Cut loses power, as seed decides of what was not synced, and opens what is left. The log that was open is not
	// closed.
	Cut(t *testing.T, seed uint64) increments.Log
	// Fail lets every sync fail from now on.
	Fail()
}

// The sizes that Disk.Open uses, in increments.
const (
	Span   = 10
	Window = 40
)

// Kind makes an empty Disk of one kind for a test, which gives it up in a cleanup.
type Kind func(t *testing.T) Disk

// Run runs the suite. stopped is the error after which nothing may be written (disk.ErrStopped).
func Run(t *testing.T, kind Kind, stopped error) {
	for name, test := range map[string]func(*testing.T, Disk){
		"Order":                     order,
		"DurableAfterReopening":     reopened,
		"DurableAfterATornPowerCut": torn,
		"Idempotency":               idempotency,
		"KeyOfAnotherBody":          keyReused,
		"Counters":                  counters,
		"GroupsUnderWay":            groups,
		"Trim":                      trim,
		"KeysOutliveTheirRecords":   keysOutlive,
		"ReadsBesideAppends":        readsBeside,
		"Errors":                    errorContract,
		"NobodyWaitsForTheWriter":   bounded,
		"Times":                     times,
		"View":                      view,
		"FailedWriteIsTheLast":      func(t *testing.T, d Disk) { failedWrite(t, d, stopped) },
	} {
		t.Run(name, func(t *testing.T) { test(t, kind(t)) })
	}
}

func drafts(n int, body string) []event.Draft {
	out := make([]event.Draft, n)
	for i := range out {
		out[i].Body = fmt.Appendf(nil, "%s %d", body, i)
	}
	return out
}

func keyed(producer, key string) event.Draft {
	return event.Draft{Headers: event.Headers{Producer: producer, Key: key}, Body: []byte(producer + key)}
}

// put appends drafts and requires that all are stored, in order.
func put(t *testing.T, l increments.Log, ds ...event.Draft) (first uint64) {
	t.Helper()
	head := l.Head().Seq
	out, err := l.Append(ds)
	require.NoError(t, err)
	for i, o := range out {
		require.Equal(t, event.Outcome{Seq: head + uint64(i) + 1}, o)
	}
	return head + 1
}

// sound reads the whole log as a node would, and checks it.
func sound(t *testing.T, l increments.Log) (all []event.Encoded) {
	t.Helper()
	at, err := l.Position(l.First() - 1)
	require.NoError(t, err)
	for at.Seq < l.Head().Seq {
		records, err := l.Read(at.Seq+1, 100, 1<<20)
		require.NoError(t, err)
		require.NotEmpty(t, records)
		for _, e := range records {
			require.NoError(t, e.Verify())
			require.True(t, e.Follows(at), "record %d", e.Seq())
			at.Seq, at.Chain = e.Seq(), e.Chain()
			all = append(all, e)
		}
	}
	require.Equal(t, l.Head(), at)
	r, err := l.Check(context.Background(), 0, nil)
	require.NoError(t, err)
	require.Empty(t, r.Damaged)
	require.Empty(t, r.Unreadable)
	require.EqualValues(t, len(all), r.Records)
	return all
}
