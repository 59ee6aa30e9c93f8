package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/broker/failpoint"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/files"
)

// Database is one file. Methods are called one at a time; a Snapshot is read meanwhile.
type Database struct {
	path string
	file *os.File
	end  int64          // after the last seal: where the next batch goes
	pos  event.Position // of the last seal
	held event.Topics   // beside it; "" when none are stored
	// first says that the file has the header of the first revision, which knew no topics.
	first bool
	// failed is the first failed write or sync since the last one that went well. What lies after end is unknown then,
	// so nothing more is written until it has been cut off.
	failed error
}

var _ nodeclient.Database = (*Database)(nil)

// Open opens the file at path and creates it when it is not there; its folder must exist. It reads the whole
// file. A torn last batch is cut off; damage before that, or a file that is something else, is Fatal. An
// unfinished restore is removed.
func Open(path string) (*Database, error) {
	t := &Database{path: path}
	if err := remove(restorePath(path)); err != nil {
		return nil, nodeclient.Transient(fmt.Errorf("file: remove an unfinished restore: %w", err))
	}
	if err := t.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("file: open %s: %w", path, err), t.Close())
	}
	return t, nil
}

func (t *Database) open() (err error) {
	t.end, t.pos, t.failed = 0, event.Position{}, nil
	t.held, t.first = "", false
	if t.file, err = files.Open(t.path); err != nil {
		return nodeclient.Transient(err)
	}
	size, err := t.file.Seek(0, io.SeekEnd)
	if err != nil {
		return nodeclient.Transient(err)
	}
	if size < int64(len(fileHeader)) {
		return t.create(size)
	}
	if t.end, err = t.scan(size); err != nil {
		return err
	}
	if t.end == size {
		return nil
	}
	if err := errors.Join(t.file.Truncate(t.end), t.file.Sync()); err != nil {
		return nodeclient.Transient(fmt.Errorf("cut a torn end: %w", err))
	}
	return nil
}

// create writes the header of a new file, or of one whose header a crash has cut.
func (t *Database) create(size int64) error {
	have := make([]byte, size)
	if _, err := t.file.ReadAt(have, 0); err != nil {
		return nodeclient.Transient(err)
	}
	if fileHeader[:size] != string(have) { // one shorter than the header names no version
		return nodeclient.Fatal(fmt.Errorf("it holds %d bytes that are no file of this driver: %w", size, event.ErrDamaged))
	}
	if _, err := t.file.WriteAt([]byte(fileHeader), 0); err != nil {
		return nodeclient.Transient(err)
	}
	if err := errors.Join(t.file.Sync(), disk.SyncDir(filepath.Dir(t.path))); err != nil {
		return nodeclient.Transient(err)
	}
	t.end = int64(len(fileHeader))
	return nil
}

// scan reads the whole file, takes its position and topics, and returns where its last sealed batch ends.
func (t *Database) scan(size int64) (end int64, err error) {
	r, err := readAll(io.NewSectionReader(t.file, 0, size))
	if r != nil {
		t.pos, t.held, t.first = r.pos, r.held, r.first
	}
	switch {
	case err == nil:
		return r.at, nil
	case r == nil:
		return 0, nodeclient.Fatal(err)
	case !errors.Is(err, event.ErrDamaged) && !errors.Is(err, io.ErrUnexpectedEOF):
		return 0, nodeclient.Transient(err)
	}
	sealed, searchErr := sealedAfter(t.file, r.batch, size)
	if searchErr != nil {
		return 0, nodeclient.Transient(searchErr)
	}
	if sealed {
		return 0, nodeclient.Fatal(fmt.Errorf("it is damaged before its end, restore it from another node: %w", err))
	}
	return r.batch, nil
}

// readAll reads to the end. r stands where the error is, or the end; it is nil when the header is wrong.
func readAll(from io.Reader) (r *reader, err error) {
	r, err = newReader(from)
	for err == nil {
		_, err = r.next()
	}
	if err == io.EOF {
		err = nil
	}
	return r, err
}

// sealedAfter reports whether the seal of a batch that begins after offset batch stands anywhere after it.
func sealedAfter(file io.ReaderAt, batch, size int64) (bool, error) {
	pattern := appendSeal(nil, event.Position{}, 0)[:entryHead] // the head is the same for all seals
	const window = 1 << 20
	buf := make([]byte, window+sealLen)
	for at := batch; at < size; at += window {
		n, err := file.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err != nil && err != io.EOF {
			return false, err
		}
		for b := buf[:n]; ; b = b[1:] {
			i := bytes.Index(b, pattern)
			if i < 0 || len(b)-i < sealLen {
				break
			}
			b = b[i:]
			pos, begin := parseSeal(b[entryHead:])
			here := at + int64(n-len(b))
			if batch < begin && begin <= here && bytes.Equal(b[:sealLen], appendSeal(nil, pos, begin)) {
				return true, nil
			}
		}
	}
	return false, nil
}

// Close implements nodeclient.Database.
func (t *Database) Close() error {
	if t.file == nil {
		return nil
	}
	err := t.file.Close()
	t.file = nil
	return err
}

// Position implements nodeclient.Database.
func (t *Database) Position(context.Context) (event.Position, error) {
	return t.pos, t.usable()
}

// usable cuts off what a failed write may have left after the last seal, up to which everything was synced. It fails
// as long as the disk does.
func (t *Database) usable() error {
	if t.failed == nil {
		return nil
	}
	if err := errors.Join(t.file.Truncate(t.end), t.file.Sync()); err != nil {
		return nodeclient.Transient(fmt.Errorf("file: %s takes nothing more since a write failed: %w; it is tried again: %w",
			t.path, t.failed, err))
	}
	t.failed = nil
	return nil
}

// Empty implements nodeclient.Database.
func (t *Database) Empty(context.Context) (bool, error) {
	return t.end == int64(len(fileHeader)), t.usable()
}

// Apply implements nodeclient.Database: one write and one sync for the whole batch, which is all or nothing. It
// never fails an increment.
func (t *Database) Apply(ctx context.Context, before event.Position, batch []event.Item) (event.Position, error) {
	if err := t.usable(); err != nil {
		return t.pos, err
	}
	if err := nodeclient.CheckAdvance(t.pos, before); err != nil {
		return t.pos, err
	}
	var entries []byte
	for _, item := range batch {
		if item.Record != nil {
			entries = appendEntry(entries, kindRecord, item.Record)
		}
	}
	err := t.append(ctx, entries, batch[len(batch)-1].Pos)
	return t.pos, err
}

// Seek implements nodeclient.Database.
func (t *Database) Seek(ctx context.Context, pos event.Position) error {
	if err := t.usable(); err != nil {
		return err
	}
	return t.append(ctx, nil, pos)
}

// Topics implements nodeclient.Database.
func (t *Database) Topics(context.Context) (event.Topics, error) { return t.held, t.usable() }

// Keep implements nodeclient.Database. A file of the first revision gets the header of now before: one without topics
// says what none says.
func (t *Database) Keep(ctx context.Context, topics event.Topics) error {
	if err := t.usable(); err != nil {
		return err
	}
	if t.pos.Zero() {
		return errors.New("file: store the topics: there is no position beside which they could stand")
	}
	if t.first {
		if err := upgrade(t.file); err != nil {
			t.failed = err
			return nodeclient.Transient(fmt.Errorf("file: store the topics: %w", err))
		}
		t.first = false
	}
	if err := t.append(ctx, appendEntry(nil, kindTopics, []byte(topics)), t.pos); err != nil {
		return err
	}
	t.held = topics
	return nil
}

// upgrade gives a file of the first revision the header of now, durably.
func upgrade(file *os.File) error {
	const version = len(fileHeader) - 1
	_, err := file.WriteAt([]byte(fileHeader[version:]), int64(version))
	return errors.Join(err, file.Sync())
}

// append writes one batch. After an error nothing of it counts in this process, and what of it is on the disk is cut
// off before anything else is done; a crash before that may leave it whole, and then the next Open counts it.
func (t *Database) append(ctx context.Context, entries []byte, pos event.Position) error {
	if ctx.Err() != nil {
		return nodeclient.Transient(fmt.Errorf("file: append up to %d: %w", pos.Seq, context.Cause(ctx)))
	}
	entries = appendSeal(entries, pos, t.end)
	failpoint.Hit(failpoint.SeqBeforeCommit)
	_, err := t.file.WriteAt(entries, t.end)
	if err == nil {
		err = t.file.Sync()
	}
	if err != nil {
		t.failed = err
		return nodeclient.Transient(fmt.Errorf("file: append up to %d: %w", pos.Seq, err))
	}
	t.end, t.pos = t.end+int64(len(entries)), pos
	return nil
}
