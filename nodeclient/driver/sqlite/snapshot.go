package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// Format is the name of the bytes a snapshot writes; doc.go draws them.
const Format = "sqlite-pages/1"

// snapshotChunk is how many bytes of pages are read at once.
const snapshotChunk = 256 << 10

// snapshot holds the database file still: reader has a read transaction open that uses the file alone.
type snapshot struct {
	pos  event.Position
	head header
	file io.ReaderAt

	mu      sync.Mutex // taken for each read, so that nothing is read after Close
	release func()     // ends the read transaction; nil after Close
}

// Snapshot implements nodeclient.Database; doc.go says how. It blocks for one checkpoint of the WAL, and for those who
// hold it up at most holdPatience, since increments wait meanwhile. Transient: another connection writes, or reads a
// state so old that the WAL cannot be checkpointed.
func (t *Database) Snapshot(ctx context.Context) (nodeclient.Snapshot, error) {
	writer, releaseWriter, err := t.conn(ctx)
	if err != nil {
		return nil, err
	}
	defer releaseWriter()
	checkpointer, releaseCheckpointer, err := t.conn(ctx)
	if err != nil {
		return nil, err
	}
	defer releaseCheckpointer()
	reader, releaseReader, err := t.conn(ctx)
	if err != nil {
		return nil, err
	}
	s := &snapshot{file: t.file, release: releaseReader}
	until := time.Now().Add(min(t.opts.BusyTimeout, holdPatience))
	if err := t.hold(ctx, writer, checkpointer, reader, s, until); err != nil {
		return nil, errors.Join(classify(fmt.Errorf("sqlite: open a snapshot: %w", err)), s.Close())
	}
	return s, nil
}

// Prepare implements nodeclient.Preparer: it brings the WAL into the file, as far as those let it who read older
// states, so that Snapshot has little left to do. Transient: somebody does not let it.
func (t *Database) Prepare(ctx context.Context) error {
	c, release, err := t.conn(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := checkpoint(ctx, c, time.Now()); err != nil {
		return classify(fmt.Errorf("sqlite: prepare a snapshot: %w", err))
	}
	return nil
}

// holdPatience is how long a snapshot waits for other connections while increments wait for it. The requester asks
// again later.
const holdPatience = time.Second

// hold brings the whole WAL into the file and opens the read transaction, with the write lock held over both
// so that no frame comes between them. A reader that finds the WAL wholly in the file does not use it, and
// while one such reader is there no checkpoint writes into the file.
func (t *Database) hold(ctx context.Context, writer, checkpointer, reader *sql.Conn, s *snapshot,
	until time.Time) error {
	// most of the work, and of the wait for old readers, comes before the lock
	half := time.Now().Add(time.Until(until) / 2)
	if err := checkpoint(ctx, checkpointer, half); err != nil && !nodeclient.IsTransient(err) {
		return err
	}
	if err := t.lockWithin(ctx, writer, until); err != nil {
		return err
	}
	if err := checkpoint(ctx, checkpointer, until); err != nil {
		return err
	}
	if err := exec(ctx, reader, "BEGIN"); err != nil {
		return err
	}
	var err error
	if s.pos, err = readPosition(ctx, reader); err != nil {
		return err
	}
	if err := reader.QueryRowContext(ctx, "PRAGMA page_size").Scan(&s.head.pageSize); err != nil {
		return err
	}
	return reader.QueryRowContext(ctx, "PRAGMA page_count").Scan(&s.head.pages)
}

// lockWithin takes the write lock, which another connection may hold until then.
func (t *Database) lockWithin(ctx context.Context, c *sql.Conn, until time.Time) error {
	wait := func(d time.Duration) error {
		return exec(ctx, c, fmt.Sprintf("PRAGMA busy_timeout = %d", max(1, d.Milliseconds())))
	}
	if err := wait(time.Until(until)); err != nil {
		return err
	}
	err := exec(ctx, c, "BEGIN IMMEDIATE")
	return errors.Join(err, wait(t.opts.BusyTimeout))
}

// checkpoint brings every frame of the WAL into the file. Readers of older states hold that up; it waits for
// them until then.
func checkpoint(ctx context.Context, c *sql.Conn, until time.Time) error {
	for {
		var busy, frames, done int
		if err := c.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &frames, &done); err != nil {
			return err
		}
		if busy == 0 && frames == done {
			return nil
		}
		if time.Now().After(until) {
			return nodeclient.Transient(fmt.Errorf("%d of %d WAL frames are not in the file yet, because another connection "+
				"reads an older state or writes a checkpoint itself", frames-done, frames))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *snapshot) Position() event.Position { return s.pos }
func (s *snapshot) Format() string           { return Format }
func (s *snapshot) Size() int64              { return s.head.size() }
func (s *snapshot) Online() bool             { return true }

// Close ends the read transaction; a WriteTo that still runs fails.
func (s *snapshot) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.release != nil {
		s.release()
		s.release = nil
	}
	return nil
}

// WriteTo implements nodeclient.Snapshot.
func (s *snapshot) WriteTo(ctx context.Context, w io.Writer) error {
	if _, err := w.Write(s.head.append(nil)); err != nil {
		return fmt.Errorf("sqlite: write a snapshot: %w", err)
	}
	sum := newSum()
	buf := make([]byte, snapshotChunk)
	for at, size := int64(0), s.head.size(); at < size; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("sqlite: write a snapshot: %w", context.Cause(ctx))
		}
		buf = buf[:min(size-at, snapshotChunk)]
		if err := s.read(buf, at); err != nil {
			return fmt.Errorf("sqlite: write a snapshot: byte %d: %w", at, err)
		}
		_, _ = sum.Write(buf) // a hash never fails
		if _, err := w.Write(buf); err != nil {
			return fmt.Errorf("sqlite: write a snapshot: %w", err)
		}
		at += int64(len(buf))
	}
	if _, err := w.Write(appendSum(nil, sum)); err != nil {
		return fmt.Errorf("sqlite: write a snapshot: %w", err)
	}
	return nil
}

func (s *snapshot) read(buf []byte, at int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.release == nil {
		return errors.New("the snapshot has been closed")
	}
	_, err := s.file.ReadAt(buf, at)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the file is shorter than its %d pages: %w", s.head.pages, io.ErrUnexpectedEOF)
	}
	return err
}
