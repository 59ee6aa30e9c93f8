package kv

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/snapstream"
)

// Format is the name of the bytes a snapshot writes.
const Format = "kv-pairs/1"

var stream = snapstream.Format{Name: Format, Magic: "XMQPAIRS", Version: 1}

// span is a range of keys: after start, up to and with end, at most limit of them. Empty start and end, and limit 0,
// are no bound.
type span struct {
	start, end []byte
	limit      uint64
}

// cursor walks over the span as it is now.
func (s span) cursor(db *disk.DB) *disk.Cursor {
	from, to := []byte{dataPrefix}, []byte{dataPrefix + 1}
	if len(s.start) > 0 {
		from = append(dataKey(s.start), 0) // the least key after it
	}
	if len(s.end) > 0 {
		to = append(dataKey(s.end), 0)
	}
	if bytes.Compare(from, to) > 0 {
		to = from
	}
	return db.Range(from, to)
}

// preface is empty for a whole copy.
func (s span) preface() (b []byte) {
	if len(s.start) == 0 && len(s.end) == 0 && s.limit == 0 {
		return nil
	}
	for _, bound := range [][]byte{s.start, s.end} {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(bound))), bound...)
	}
	return binary.LittleEndian.AppendUint64(b, s.limit)
}

// snapshot is a cursor over what the database held when it was opened.
type snapshot struct {
	pos  event.Position
	size int64
	span span

	mu      sync.Mutex // a pair is read under it, so that Close may come at any time
	cursor  *disk.Cursor
	started bool
	reading *atomic.Int32 // of the target: one less when the cursor is gone
}

// Snapshot implements nodeclient.Database.
func (t *Database) Snapshot(ctx context.Context) (nodeclient.Snapshot, error) {
	return t.SnapshotRange(ctx, nil, nil, 0)
}

// SnapshotRange is Snapshot of the keys after start, up to and with end, at most limit of them, in the order of
// their bytes. An empty start stands for the beginning, an empty end for the end, limit 0 for no limit; a start that
// is not before its end makes an empty one. What it writes can be read, but not restored unless it has no bounds.
// Rules: SS-4, SS-7.
func (t *Database) SnapshotRange(_ context.Context, start, end []byte, limit uint64) (nodeclient.Snapshot, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	s := &snapshot{pos: t.pos, span: span{bytes.Clone(start), bytes.Clone(end), limit}, reading: &t.reading}
	if len(s.span.preface()) == 0 {
		if n, err := t.place.Size(t.name); err == nil { // else it is not known
			s.size = n
		}
	}
	s.cursor = s.span.cursor(t.db)
	s.reading.Add(1)
	return s, nil
}

func (s *snapshot) Position() event.Position { return s.pos }
func (s *snapshot) Format() string           { return Format }
func (s *snapshot) Size() int64              { return s.size }
func (s *snapshot) Online() bool             { return true }

// Close implements nodeclient.Snapshot.
func (s *snapshot) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cursor == nil {
		return nil
	}
	err := s.end()
	if disk.IsDamage(err) { // WriteTo tells
		return nil
	}
	return err
}

// end gives the cursor up.
func (s *snapshot) end() error {
	err := s.cursor.Close()
	s.cursor = nil
	s.reading.Add(-1)
	return err
}

var errClosed = errors.New("kv: the snapshot has been closed")

// WriteTo implements nodeclient.Snapshot; doc.go draws what it writes.
func (s *snapshot) WriteTo(ctx context.Context, w io.Writer) error {
	s.mu.Lock()
	again := s.started || s.cursor == nil
	s.started = true
	s.mu.Unlock()
	if again {
		return errClosed
	}
	if err := s.write(ctx, w); err != nil {
		return fmt.Errorf("kv: write a snapshot: %w", err)
	}
	return nil
}

func (s *snapshot) write(ctx context.Context, w io.Writer) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	out, err := stream.NewWriter(w, snapstream.Head{Pos: s.pos, Preface: s.span.preface()})
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(out, snapstream.MaxFrame)
	var pair []byte
	var count uint64
	for s.span.limit == 0 || count < s.span.limit {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if pair, err = s.next(pair[:0]); err != nil {
			return err
		}
		if len(pair) == 0 {
			break
		}
		if _, err := b.Write(pair); err != nil {
			return err
		}
		count++
	}
	if _, err := b.Write(binary.LittleEndian.AppendUint64(make([]byte, 4), count)); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	return out.End()
}

// next adds the next pair to dst; nothing after the last.
func (s *snapshot) next(dst []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cursor == nil {
		return nil, errClosed
	}
	if !s.cursor.Next() {
		err := s.end()
		return nil, err
	}
	for _, word := range [][]byte{s.cursor.Key()[1:], s.cursor.Value()} {
		dst = append(binary.LittleEndian.AppendUint32(dst, uint32(len(word))), word...)
	}
	return dst, nil
}
