package kv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/files"
	"xmq/nodeclient/driver/internal/freespace"
	"xmq/nodeclient/driver/internal/snapstream"
)

// loadBytes is about how much of a snapshot is written in one batch.
const loadBytes = 4 << 20

func (t *Database) restoreName() string { return t.name + ".xmq-restore" }
func (t *Database) switchName() string  { return t.name + ".xmq-switch" }

// restored is a verified database beside the live one.
type restored struct {
	db   *Database
	done bool
}

// Loads reports whether format is the one this driver writes.
func (t *Database) Loads(format string) bool { return format == Format }

// CheckSpace implements nodeclient.Database.
func (t *Database) CheckSpace(_ context.Context, size int64) error { return freespace.For(t.dir, size) }

// Restore implements nodeclient.Database. It loads into a database of its own with a latch of its own, so that
// trouble there leaves the live one alone; then the keys are counted again and the position is compared. A snapshot
// of a place that had no position yet is accepted for the start of a log and given that position.
func (t *Database) Restore(ctx context.Context, want event.Position, topics event.Topics,
	r io.Reader) (nodeclient.Restored, error) {
	err := t.load(ctx, want, topics, r)
	if err == nil {
		return &restored{db: t}, nil
	}
	if nodeclient.IsFatal(err) { // the snapshot's state, not that of the live database
		err = fmt.Errorf("%v: %w", err, event.ErrDamaged)
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if errors.Is(err, disk.ErrStopped) || ctx.Err() != nil {
		err = nodeclient.Transient(err)
	}
	return nil, errors.Join(fmt.Errorf("kv: restore %d: %w", want.Seq, err), t.discard())
}

func (t *Database) load(ctx context.Context, want event.Position, topics event.Topics, r io.Reader) error {
	if err := t.usable(); err != nil {
		return err
	}
	in, h, err := stream.NewReader(r)
	switch {
	case err != nil:
		return fmt.Errorf("read the header: %w", err)
	case len(h.Preface) > 0:
		return errors.New("the snapshot holds a range of keys only, and no copy can be made of that")
	case h.Pos != want && !(h.Pos.Zero() && want == event.Start(want.Log) && !want.Zero()):
		return fmt.Errorf("the snapshot holds position %s, expected was %s", h.Pos, want)
	}
	if err := in.Peek(); err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	if err := t.discard(); err != nil {
		return err
	}
	storage := newStorage()
	db, err := storage.Create(t.place, t.restoreName(), disk.State, first())
	if err != nil {
		return err
	}
	count, err := fill(ctx, db, in, want, topics)
	if err == nil {
		err = verify(db, want, count)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	return files.Inherit(filepath.Join(t.dir, t.restoreName()), filepath.Join(t.dir, t.name))
}

// fill writes all pairs, then the position and the topics.
func fill(ctx context.Context, db *disk.DB, in io.Reader, want event.Position, topics event.Topics) (uint64, error) {
	var b disk.Batch
	size := 0
	count, err := readPairs(bufio.NewReaderSize(in, snapstream.MaxFrame), func(key, value []byte) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b.Put(dataKey(key), value)
		if size += len(key) + len(value); size < loadBytes {
			return nil
		}
		err := db.Write(&b)
		b.Reset()
		size = 0
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read the snapshot: %w", err)
	}
	b.Put([]byte(positionKey), encodePosition(want))
	b.Put([]byte(topicsKey), []byte(topics))
	return count, db.Write(&b)
}

// verify reads what was written.
func verify(db *disk.DB, want event.Position, count uint64) error {
	stored, err := readPosition(db)
	if err != nil {
		return err
	}
	c := span{}.cursor(db)
	n := uint64(0)
	for c.Next() {
		n++
	}
	if err := c.Close(); err != nil {
		return err
	}
	if stored != want || n != count {
		return fmt.Errorf("the restored database holds %d keys at %s, expected were %d at %s: %w", n, stored, count, want,
			event.ErrDamaged)
	}
	return nil
}

// Switch implements nodeclient.Restored. Its first rename decides: a crash before it leaves the old database, after
// it the new one. On an error after that point the target is closed, and its next use, or the next Open, finishes
// the switch.
func (r *restored) Switch(context.Context) error {
	t := r.db
	if err := t.usable(); err != nil {
		return err
	}
	if err := t.place.Rename(t.restoreName(), t.switchName()); err != nil {
		return nodeclient.Transient(fmt.Errorf("kv: switch to the restored database: %w", err))
	}
	r.done = true
	if err := t.shut(); err != nil {
		return nodeclient.Transient(fmt.Errorf("kv: close the old database: %w", err))
	}
	return t.open()
}

// Discard implements nodeclient.Restored.
func (r *restored) Discard() error {
	if r.done {
		return nil
	}
	return r.db.discard()
}

// discard removes a database that was being loaded.
func (t *Database) discard() error {
	return t.remove(t.restoreName(), "tmp-"+t.restoreName())
}

// remove removes databases that may be absent.
func (t *Database) remove(names ...string) error {
	all, err := t.place.List()
	if err != nil {
		return nodeclient.Transient(err)
	}
	for _, name := range names {
		if slices.Contains(all, name) {
			if err := t.place.Remove(name); err != nil {
				return nodeclient.Transient(err)
			}
		}
	}
	return nil
}

// settle does what is left of a decided switch, and removes what no longer counts. A database half made by Create was
// never there.
func (t *Database) settle() error {
	all, err := t.place.List()
	if err != nil {
		return err
	}
	if slices.Contains(all, t.switchName()) {
		if err := t.remove(t.name); err != nil { // a crash in it leaves the decision, and is finished here again
			return err
		}
		if err := t.place.Rename(t.switchName(), t.name); err != nil {
			return err
		}
	}
	return t.remove(t.restoreName(), "tmp-"+t.restoreName(), "tmp-"+t.name)
}
