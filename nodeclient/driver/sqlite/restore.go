package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/files"
	"xmq/nodeclient/driver/internal/freespace"
)

func restorePath(path string) string { return path + ".xmq-restore" }
func switchPath(path string) string  { return path + ".xmq-switch" }

// restored is a verified file at restorePath.
type restored struct{ db *Database }

// Loads reports whether format is the one this driver writes.
func (t *Database) Loads(format string) bool { return format == Format }

// CheckSpace implements nodeclient.Database.
func (t *Database) CheckSpace(_ context.Context, size int64) error {
	return freespace.For(filepath.Dir(t.path), size)
}

// Restore implements nodeclient.Database. Before it writes it looks whether the disk has room; then it verifies
// the checksum, the size, SQLite's own quick_check and the position, and syncs. A snapshot of a database that
// had no position yet is accepted for the start of a log and given that position.
func (t *Database) Restore(ctx context.Context, want event.Position, topics event.Topics,
	r io.Reader) (nodeclient.Restored, error) {
	path := restorePath(t.path)
	err := discard(path)
	if err == nil {
		err = load(ctx, path, r)
	}
	if err == nil {
		err = files.Inherit(path, t.path)
	}
	if err == nil {
		err = verify(ctx, path, want, topics)
	}
	if err == nil {
		err = disk.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		if err = classify(err); nodeclient.IsFatal(err) { // the snapshot's state, not that of the live database
			err = fmt.Errorf("%v: %w", err, event.ErrDamaged)
		}
		return nil, errors.Join(fmt.Errorf("sqlite: restore %d: %w", want.Seq, err), discard(path))
	}
	return &restored{t}, nil
}

// load writes the pages of r to path.
func load(ctx context.Context, path string, r io.Reader) (err error) {
	var head [headerLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("read the header: %w", cut(err))
	}
	h, err := parseHeader(head[:])
	if err != nil {
		return err
	}
	if err := freespace.For(filepath.Dir(path), h.size()); err != nil {
		return err
	}
	f, err := files.Create(path)
	if err != nil {
		return nodeclient.Transient(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return copyPages(f, &contextReader{ctx, r}, h)
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}

// verify opens the loaded file alone, without a WAL, asks SQLite to check it, compares the position and stores the
// topics. When it returns nil the file is synced.
func verify(ctx context.Context, path string, want event.Position, topics event.Topics) error {
	db, err := openDB(path, "locking_mode(EXCLUSIVE)", "synchronous(FULL)")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := whole(ctx, c); err != nil {
		return err
	}
	stored, err := readPosition(ctx, c)
	switch {
	case err != nil:
		return err
	case stored.Zero() && want == event.Start(want.Log) && !want.Zero():
		if err := begin(ctx, c, want); err != nil {
			return err
		}
	case stored != want:
		return fmt.Errorf("the snapshot holds position %s, expected was %s", stored, want)
	}
	if err := exec(ctx, c, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := keepTopics(ctx, c, topics); err != nil {
		return err
	}
	if err := commit(ctx, c); err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	if err := db.Close(); err != nil { // the last connection brings the WAL into the file and removes it
		return err
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the WAL of the restored file is still there after it was closed (%w)", err)
	}
	return syncFile(path)
}

// begin gives a database without a position its first one.
func begin(ctx context.Context, c *sql.Conn, pos event.Position) error {
	if err := exec(ctx, c, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := advance(ctx, c, event.Position{}, pos, 0); err != nil {
		return err
	}
	return commit(ctx, c)
}

// Switch implements nodeclient.Restored. A crash before its first rename leaves the old database, after it
// the new one. On an error after that point the target is closed, and its next use, or the next Open,
// finishes the switch.
func (r *restored) Switch(ctx context.Context) error {
	t := r.db
	if err := decide(t.path); err != nil {
		return nodeclient.Transient(fmt.Errorf("sqlite: switch to the restored database: %w", err))
	}
	if err := t.shut(); err != nil {
		return nodeclient.Transient(fmt.Errorf("sqlite: close the old database: %w", err))
	}
	return t.open(ctx)
}

// Discard implements nodeclient.Restored.
func (r *restored) Discard() error { return discard(restorePath(r.db.path)) }

// discard removes a file that was being loaded and what SQLite may have put beside it.
func discard(path string) error {
	return errors.Join(remove(path), remove(path+"-wal"), remove(path+"-shm"), remove(path+"-journal"))
}

// decide is the point of no return: from here on the loaded file is the database.
func decide(path string) error {
	if err := os.Rename(restorePath(path), switchPath(path)); err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(path))
}

// finishSwitch does what is left of a decided switch, nothing when none was decided. The old WAL is durably
// gone before the new file takes the name, so that the two never meet.
func finishSwitch(path string) error {
	if _, err := os.Stat(switchPath(path)); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	if err := dropSidecars(path); err != nil {
		return err
	}
	return install(path)
}

func dropSidecars(path string) error {
	if err := errors.Join(remove(path+"-wal"), remove(path+"-shm"), remove(path+"-journal")); err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(path))
}

func install(path string) error {
	if err := os.Rename(switchPath(path), path); err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(path))
}

// remove is os.Remove for a file that may be absent.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// syncFile makes a file's bytes durable.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
