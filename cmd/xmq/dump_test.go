package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/worker"
)

// What nodes say of a DUMP is one line, and no terminal obeys it.
func TestWhatRequestersSayIsOneLine(t *testing.T) {
	line := words([]api.DumpTrouble{{ID: "n1", Text: "no\n\troom\x1b[2J"}, {ID: "n2", Text: "not empty"}})
	require.Equal(t, "n1: no room\x1b[2J; n2: not empty", line)
	var out bytes.Buffer
	_, err := screen{w: &out}.Write([]byte(line))
	require.NoError(t, err)
	require.Equal(t, `n1: no room\x1b[2J; n2: not empty`, out.String())
	v := worker.View{Condition: worker.Condition{Is: worker.IsWaiting, By: "m"},
		LastError: &worker.Trouble{Class: "join", Text: "no\nroom"}}
	require.Equal(t, "for the snapshot of m: no room", trouble(&v, night))
	v = worker.View{Condition: worker.Condition{Is: worker.IsFailed},
		LastError: &worker.Trouble{Seq: 7, Class: "fail", Text: "constraint"}}
	require.Equal(t, "increment 7: constraint", trouble(&v, night))
}
