package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/files"
	"xmq/nodeclient/driver/internal/freespace"
)

// Format is the name of the bytes a snapshot writes: those of the file. firstFormat is that of a node of the first
// revision, whose files hold no topics.
const (
	Format      = "file-log/2"
	firstFormat = "file-log/1"
)

func restorePath(path string) string { return path + ".xmq-restore" }

// snapshot is the file up to where it ended: what is appended later stands after that.
type snapshot struct {
	pos    event.Position
	r      *io.SectionReader
	closed atomic.Bool
}

// Snapshot implements nodeclient.Database.
func (t *Database) Snapshot(context.Context) (nodeclient.Snapshot, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	return &snapshot{pos: t.pos, r: io.NewSectionReader(t.file, 0, t.end)}, nil
}

func (s *snapshot) Position() event.Position { return s.pos }
func (s *snapshot) Format() string           { return Format }
func (s *snapshot) Size() int64              { return s.r.Size() }
func (s *snapshot) Online() bool             { return true }

func (s *snapshot) Close() error {
	s.closed.Store(true)
	return nil
}

// WriteTo implements nodeclient.Snapshot.
func (s *snapshot) WriteTo(ctx context.Context, w io.Writer) error {
	if _, err := io.Copy(struct{ io.Writer }{w}, guard{ctx, s}); err != nil {
		return fmt.Errorf("file: write a snapshot: %w", err)
	}
	return nil
}

// guard reads a snapshot until it is closed or its context ends.
type guard struct {
	ctx      context.Context
	snapshot *snapshot
}

func (g guard) Read(b []byte) (int, error) {
	if g.ctx.Err() != nil {
		return 0, context.Cause(g.ctx)
	}
	if g.snapshot.closed.Load() {
		return 0, errors.New("the snapshot has been closed")
	}
	return g.snapshot.r.Read(b)
}

// restored is a verified file at restorePath, with the open Database it is to become.
type restored struct{ db *Database }

// Loads reports whether format is one that this driver writes, or wrote.
func (t *Database) Loads(format string) bool { return format == Format || format == firstFormat }

// CheckSpace implements nodeclient.Database.
func (t *Database) CheckSpace(_ context.Context, size int64) error {
	return freespace.For(filepath.Dir(t.path), size)
}

// Restore implements nodeclient.Database: the copy is read again from the disk and checked entry by entry.
func (t *Database) Restore(ctx context.Context, want event.Position, topics event.Topics,
	r io.Reader) (nodeclient.Restored, error) {
	path := restorePath(t.path)
	err := remove(path)
	if err == nil {
		err = load(ctx, path, want, topics, r)
	}
	if err == nil {
		err = files.Inherit(path, t.path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("file: restore %d: %w", want.Seq, err), remove(path))
	}
	return &restored{t}, nil
}

func load(ctx context.Context, path string, want event.Position, topics event.Topics, r io.Reader) (err error) {
	f, err := files.Create(path)
	if err != nil {
		return nodeclient.Transient(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := io.Copy(f, contextReader{ctx, r})
	if err != nil {
		return err
	}
	copied, err := readAll(io.NewSectionReader(f, 0, size))
	if err != nil {
		return err
	}
	pos := copied.pos
	if pos.Zero() && want == event.Start(want.Log) && !want.Zero() { // a place that had applied nothing
		pos = want
	}
	if pos != want {
		return fmt.Errorf("the snapshot holds position %s, expected was %s", pos, want)
	}
	if copied.first {
		if err := upgrade(f); err != nil {
			return nodeclient.Transient(err)
		}
	}
	if copied.pos != want || copied.held != topics {
		batch := appendSeal(appendEntry(nil, kindTopics, []byte(topics)), want, size)
		if _, err := f.WriteAt(batch, size); err != nil {
			return nodeclient.Transient(err)
		}
	}
	return f.Sync()
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}

// Switch implements nodeclient.Restored: one rename.
func (r *restored) Switch(context.Context) error {
	t := r.db
	if err := errors.Join(os.Rename(restorePath(t.path), t.path), disk.SyncDir(filepath.Dir(t.path))); err != nil {
		return nodeclient.Transient(fmt.Errorf("file: switch to the restored file: %w", err))
	}
	if err := errors.Join(t.Close(), t.open()); err != nil {
		return fmt.Errorf("file: open the restored file: %w", err)
	}
	return nil
}

// Discard implements nodeclient.Restored.
func (r *restored) Discard() error { return remove(restorePath(r.db.path)) }

// remove is os.Remove for a file that may be absent.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
