package external

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/snapstream"
)

// snapshot is a Dump that has begun.
type snapshot struct {
	db     *Database
	pos    event.Position
	r      io.ReadCloser
	closed atomic.Bool
}

// Snapshot implements nodeclient.Database.
func (t *Database) Snapshot(ctx context.Context) (nodeclient.Snapshot, error) {
	if !t.options.Dumps {
		return nil, fmt.Errorf("%s: open a snapshot: the target URL does not say how to dump: add dump= to it, or name "+
			"another node", t.options.Driver)
	}
	r, err := t.hooks.Dump(ctx, t.pos)
	if err != nil {
		return nil, t.wrap("open a snapshot", err)
	}
	return &snapshot{db: t, pos: t.pos, r: r}, nil
}

func (s *snapshot) Position() event.Position { return s.pos }
func (s *snapshot) Format() string           { return s.db.options.Format.Name }
func (s *snapshot) Size() int64              { return 0 }
func (s *snapshot) Online() bool             { return s.db.options.Online }

// Close ends the read; a WriteTo that still runs fails.
func (s *snapshot) Close() error {
	s.closed.Store(true)
	return s.r.Close()
}

// WriteTo implements nodeclient.Snapshot.
func (s *snapshot) WriteTo(ctx context.Context, w io.Writer) error {
	if s.closed.Load() {
		return s.db.wrap("write a snapshot", errors.New("the snapshot has been closed"))
	}
	if ctx.Err() != nil {
		return s.db.wrap("write a snapshot", context.Cause(ctx))
	}
	defer context.AfterFunc(ctx, func() { _ = s.r.Close() })() // the read then fails
	err := s.write(w)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if err != nil {
		return s.db.wrap("write a snapshot", err)
	}
	return nil
}

func (s *snapshot) write(w io.Writer) error {
	data, err := s.db.options.Format.NewWriter(w, snapstream.Head{Pos: s.pos})
	if err != nil {
		return err
	}
	if err := data.Fill(s.r); err != nil {
		return err
	}
	return data.End()
}

// restored is a copy that has been loaded beside the live one.
type restored struct {
	db  *Database
	pos event.Position
	end bool // switched or discarded
}

// Loads reports whether format is the one this driver writes, and it can be loaded.
func (t *Database) Loads(format string) bool {
	return format == t.options.Format.Name && t.options.Loads
}

// Restore implements nodeclient.Database: the program verifies what it can; the checksums of the stream are verified
// here, and what is damaged or cut is discarded although the program may be content.
func (t *Database) Restore(ctx context.Context, want event.Position, _ event.Topics, r io.Reader) (nodeclient.Restored,
	error) {
	err := t.restore(ctx, want, r)
	if err == nil {
		return &restored{db: t, pos: want}, nil
	}
	return nil, errors.Join(t.wrap(fmt.Sprint("restore ", want.Seq), err), t.discard(context.WithoutCancel(ctx)))
}

func (t *Database) restore(ctx context.Context, want event.Position, r io.Reader) error {
	archive, h, err := t.options.Format.NewReader(r)
	if err != nil {
		return fmt.Errorf("read the header: %w", err)
	}
	if h.Pos != want && !(h.Pos.Zero() && want == event.Start(want.Log) && !want.Zero()) {
		return fmt.Errorf("the snapshot holds position %s, expected was %s", h.Pos, want)
	}
	if err := archive.Peek(); err != nil && err != io.EOF {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	if err := t.discard(ctx); err != nil {
		return err
	}
	err = t.hooks.Load(ctx, Step{Op: Load, Pos: want, Body: archive})
	if err == nil { // the program may leave the end unread
		_, err = io.Copy(io.Discard, archive)
	}
	if failed := archive.Failed(); failed != nil {
		return fmt.Errorf("read the snapshot: %w", failed)
	}
	return err
}

func (t *Database) discard(ctx context.Context) error {
	if err := t.hooks.Load(ctx, Step{Op: Discard}); err != nil {
		return nodeclient.Transient(t.wrap("remove what an unfinished load has left", err))
	}
	return nil
}

// Switch implements nodeclient.Restored. When no answer comes it is open what is live: Transient, and the DUMP is
// loaded again.
func (r *restored) Switch(ctx context.Context) error {
	if err := r.db.hooks.Load(ctx, Step{Op: Switch, Pos: r.pos}); err != nil {
		return nodeclient.Transient(r.db.wrap("switch to the loaded copy", err))
	}
	r.end = true
	return r.db.Seek(ctx, r.pos)
}

// Discard implements nodeclient.Restored.
func (r *restored) Discard() error {
	if r.end {
		return nil
	}
	r.end = true
	return r.db.discard(context.Background())
}
