package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/statedb"
	"xmq/worker"
)

// An order whose increment was passed is told as done, also when the one after it fails: the tool ends with 1 because
// the client stands still, and says both.
func TestAnOrderIsDoneThoughTheNextIncrementFails(t *testing.T) {
	at := time.Now()
	v := worker.View{ID: "n1", State: statedb.Failed, Acked: 55,
		LastError: &worker.Trouble{Seq: 56, Class: "fail", Text: "no such table", Time: at.Add(time.Second)}}
	for _, verb := range []worker.Verb{worker.Skip, worker.Replace, worker.Retry} {
		text, failed, over := settled(verb, v, 55, at)
		require.True(t, over)
		require.True(t, failed)
		require.Equal(t, string(verb)+" of increment 55 at n1 is done, it stands at 55; then it failed at 56: no such table",
			text)
	}
	v.Acked, v.LastError.Seq = 54, 55
	text, _, _ := settled(worker.Retry, v, 55, at)
	require.Equal(t, "n1 failed again at 55: no such table", text)
}
