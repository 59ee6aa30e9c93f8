package dumpflow

import (
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
)

func TestDumpServesEveryRequesterOnce(t *testing.T) {
	d := New("master", event.AllTopics, Requester{ID: "n1", Request: 11}, 42, 5)
	require.Equal(t, event.DumpID(11), d.ID)
	require.True(t, d.Running() && d.Pinned())
	require.True(t, d.Join(Requester{ID: "n2", Request: 22}))
	require.False(t, d.Join(Requester{ID: "n2", Request: 22}), "a repetition")
	require.True(t, d.Join(Requester{ID: "n2", Request: 23}), "a newer request of the same node")
	require.Len(t, d.Requesters, 2)
	copied := d.Clone()
	require.False(t, d.Leave("n2", 22, true), "the request that was replaced")
	require.False(t, d.Leave("n3", 22, true))
	require.True(t, d.Leave("n2", 23, true))
	require.False(t, d.Leave("n2", 23, true))
	require.True(t, d.MayRead("n2"), "it may still read what it was served")
	require.True(t, d.MayRead("n1"))
	require.False(t, d.MayRead("n3"))
	require.Len(t, copied.Requesters, 2)
	require.Equal(t, "n2", copied.Requesters[1].ID)
	require.Empty(t, copied.Served)
}

func TestDumpPinLastsAsLongAsSomebodyNeedsIt(t *testing.T) {
	d := New("master", event.AllTopics, Requester{ID: "n1", Request: 11}, 42, 5)
	require.Error(t, d.Open(at, Opened{Format: "f/1"}, 6, 1), "it still drains")
	d.Phase = Opening
	require.NoError(t, d.Open(at, Opened{Format: "f/1", Online: true}, 6, 1.5))
	require.Error(t, d.Open(at, Opened{Format: "f/1"}, 6, 1), "twice")
	require.True(t, d.Running() && d.Pinned())
	d.Seal(Manifest{Size: 9}, 7, 100)
	require.Equal(t, 1.5, d.PauseMS, "an online snapshot paused nobody while it was copied")
	require.True(t, !d.Running() && d.Pinned())
	require.True(t, d.Leave("n1", 11, true))
	require.False(t, d.Pinned())
	d.Join(Requester{ID: "n1", Request: 12})
	d.Fail("gone", 8, 0)
	require.False(t, d.Running() || d.Pinned())
}

// XE-4: the swap of requester and target, there and back.
func TestXE04SwapIsItsOwnInverse(t *testing.T) {
	e := event.Event{Kind: event.DumpReq, ID: "n1", Peer: "master", Request: 1}
	require.Equal(t, "master", Swap(e).ID)
	require.Equal(t, "n1", Swap(e).Peer)
	require.Equal(t, e, Swap(Swap(e)))
}
