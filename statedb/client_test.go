package statedb

import (
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
)

func TestPinOfAClientInEachState(t *testing.T) {
	seek, low := &event.Position{Seq: 5}, &event.Position{Seq: 90}
	opened, waiting := &Join{Opened: true, Pos: event.Position{Seq: 7}}, &Join{Pos: event.Position{Seq: 7}}
	for _, s := range []State{Following, Draining, Dumping, Failed} {
		for _, c := range []struct {
			seek *event.Position
			join *Join
			want uint64
		}{{nil, nil, 42}, {seek, nil, 5}, {low, nil, 42}, {nil, opened, 7}, {nil, waiting, 42}, {seek, opened, 5}} {
			client := Client{ID: "n", Role: Follower, State: Following, Acked: event.Position{Log: 7, Seq: 42, Chain: 42}}
			client.State, client.Seek, client.Join = s, c.seek, c.join
			pin, held := client.Pin()
			require.True(t, held)
			require.Equal(t, c.want, pin, s)
		}
	}
	for _, s := range []State{Pending, Loading, Fatal, NeedsDump} {
		client := Client{ID: "n", Role: Follower, State: Following, Acked: event.Position{Log: 7, Seq: 42, Chain: 42}}
		client.State, client.Join = s, waiting
		_, held := client.Pin()
		require.False(t, held, s)
		client.Join = opened
		pin, held := client.Pin()
		require.True(t, held, s)
		require.Equal(t, uint64(7), pin)
	}
}

func TestFencesAreBounded(t *testing.T) {
	var c Client
	c.Fence(0)
	for i := range event.Instance(20) {
		c.Fence(i + 1)
		c.Fence(i + 1)
	}
	require.Len(t, c.Fenced, MaxFences)
	require.True(t, c.IsFenced(20))
	require.True(t, c.IsFenced(13), "one that is fenced twice takes one place")
	require.False(t, c.IsFenced(12))
	require.False(t, c.IsFenced(0))
}
