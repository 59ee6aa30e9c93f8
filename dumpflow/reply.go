package dumpflow

import (
	"context"
	"fmt"

	"xmq/broker/event"
)

// ChunkReply is what the broker says to one SNAP_REQ.
type ChunkReply struct {
	State event.State // Succ: done, or Chunk is it. None: not there yet, ask again. Fail: give up, Text says why
	Text  string
	Chunk Chunk // Get: the chunk, or with Op Stat the manifest when the snapshot ends before it
}

// Call carries one request to the broker, and keeps nothing of it. An error means that the outcome is unknown: the
// caller repeats.
type Call func(ctx context.Context, dump event.DumpID, c Chunk) (ChunkReply, error)

// Encode returns the SNAP_REP event for a.
func (a ChunkReply) Encode(group, id string, dump event.DumpID) []byte {
	e := event.Event{Kind: event.SnapRep, State: a.State, Group: group, ID: id, Dump: dump, Text: a.Text}
	if a.Chunk.Op != 0 {
		e.Body = a.Chunk.Append(nil)
	}
	return e.Append(nil)
}

// DecodeChunkReply reads what Encode wrote, for this dump. The error wraps event.ErrDamaged.
func DecodeChunkReply(b []byte, dump event.DumpID) (ChunkReply, error) {
	e, err := event.Decode(b)
	if err != nil {
		return ChunkReply{}, err
	}
	if e.Kind != event.SnapRep || e.Dump != dump {
		return ChunkReply{}, fmt.Errorf("chunk reply %s is not for DUMP %s: %w", e, dump, event.ErrDamaged)
	}
	a := ChunkReply{State: e.State, Text: e.Text}
	if len(e.Body) > 0 {
		a.Chunk, err = DecodeChunk(e.Body)
	}
	return a, err
}
