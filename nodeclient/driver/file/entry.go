package file

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"iter"

	"xmq/broker/event"
)

const (
	fileHeader   = "XMQFILE\x02"
	firstHeader  = "XMQFILE\x01" // of the first revision, which knew no topics
	kindRecord   = 1
	kindPosition = 2
	kindTopics   = 3
	entryHead    = 9
	sealBody     = 32
	sealLen      = entryHead + sealBody + 4
	maxRecord    = 256 << 20 // bytes; more than any record can have
	maxTopics    = 4096
)

func appendEntry(dst []byte, kind byte, body []byte) []byte {
	from := len(dst)
	dst = append(dst, kind)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = binary.LittleEndian.AppendUint32(dst, event.CRC32C(dst[from:]))
	dst = append(dst, body...)
	return binary.LittleEndian.AppendUint32(dst, event.CRC32C(body))
}

// appendSeal ends a batch that begins at offset begin of the file.
func appendSeal(dst []byte, pos event.Position, begin int64) []byte {
	var b [sealBody]byte
	for i, v := range [...]uint64{uint64(pos.Log), pos.Seq, uint64(pos.Chain), uint64(begin)} {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
	return appendEntry(dst, kindPosition, b[:])
}

// parseSeal reads the body of a position entry.
func parseSeal(b []byte) (pos event.Position, begin int64) {
	le := binary.LittleEndian
	return event.Position{Log: event.LogID(le.Uint64(b)), Seq: le.Uint64(b[8:]), Chain: event.Chain(le.Uint64(b[16:]))},
		int64(le.Uint64(b[24:]))
}

// reader reads a file from its beginning and checks all of it.
type reader struct {
	r   *bufio.Reader
	buf []byte

	at    int64          // offset after the last entry
	batch int64          // offset at which the open batch begins: what precedes it is sealed
	pos   event.Position // of the last seal; zero before the first
	last  uint64         // sequence of the last record of the open batch
	first bool           // the file has the header of the first revision
	named event.Topics   // of the open batch; "" when it names none
	held  event.Topics   // as sealed; "" when none are
}

// newReader reads the file header.
func newReader(r io.Reader) (*reader, error) {
	f := &reader{r: bufio.NewReaderSize(r, 1<<16)}
	b, err := f.read(len(fileHeader))
	if err != nil {
		return nil, fmt.Errorf("its header: %w", cut(err))
	}
	f.first = string(b) == firstHeader
	if string(b) != fileHeader && !f.first {
		return nil, fmt.Errorf("it does not begin with the header of version 1 or 2, %q: %w", fileHeader, event.ErrDamaged)
	}
	f.batch = f.at
	return f, nil
}

// read returns the next n bytes, borrowed until the next call: io.EOF when there are none,
// io.ErrUnexpectedEOF when there are fewer. A length that lies costs no more memory than there are bytes.
func (f *reader) read(n int) ([]byte, error) {
	f.buf = f.buf[:0]
	for len(f.buf) < n {
		from := len(f.buf)
		part := min(n-from, 1<<20)
		f.buf = append(f.buf, make([]byte, part)...)
		m, err := io.ReadFull(f.r, f.buf[from:])
		if err == io.EOF && from > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		f.at += int64(m)
	}
	return f.buf, nil
}

// next returns the next record, borrowed until the next call, or nil for a seal and for topics. The error is io.EOF
// after a seal at the end, io.ErrUnexpectedEOF for an end anywhere else; it wraps event.ErrDamaged for bytes that
// were never written so.
func (f *reader) next() (event.Encoded, error) {
	begin := f.at
	bad := func(format string, args ...any) (event.Encoded, error) {
		return nil, fmt.Errorf("entry at byte %d: "+format, append([]any{begin}, args...)...)
	}
	head, err := f.read(entryHead)
	if err == io.EOF && f.at == f.batch {
		return nil, io.EOF
	}
	if err != nil {
		return bad("%w", cut(err))
	}
	le := binary.LittleEndian
	kind, n := head[0], le.Uint32(head[1:])
	switch {
	case event.CRC32C(head[:5]) != le.Uint32(head[5:]):
		return bad("wrong CRC of its head: %w", event.ErrDamaged)
	case kind == kindRecord && n > maxRecord, kind == kindPosition && n != sealBody, kind == kindTopics && n > maxTopics,
		kind < kindRecord || kind > kindTopics:
		return bad("kind %d with %d bytes is not known to this version: %w", kind, n, event.ErrDamaged)
	}
	b, err := f.read(int(n) + 4)
	if err != nil {
		return bad("%w", cut(err))
	}
	body := b[:n]
	if event.CRC32C(body) != le.Uint32(b[n:]) {
		return bad("wrong CRC: %w", event.ErrDamaged)
	}
	switch kind {
	case kindTopics:
		f.named = event.Topics(body)
		return nil, nil
	case kindPosition:
		pos, from := parseSeal(body)
		if from != f.batch || pos.Seq < f.last {
			return bad("position %d of the batch at byte %d does not seal the batch at byte %d: %w", pos.Seq, from, f.batch,
				event.ErrDamaged)
		}
		f.pos, f.batch, f.last = pos, f.at, 0
		if f.named.Known() {
			f.held, f.named = f.named, ""
		}
		return nil, nil
	}
	record := event.Encoded(body)
	if err := record.Verify(); err != nil {
		return bad("%w", err)
	}
	if record.Seq() <= f.last {
		return bad("record %d stands after record %d: %w", record.Seq(), f.last, event.ErrDamaged)
	}
	f.last = record.Seq()
	return record, nil
}

// cut: a file that ends inside an entry is cut, however the reader says so.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Records yields the increments of a file in the order of their application, each borrowed until the next. It
// reads r as it goes. The last pair has the error, if any: io.ErrUnexpectedEOF for a file that ends inside a
// batch, whose records then do not count, event.ErrDamaged for anything that was not written so.
func Records(r io.Reader) iter.Seq2[event.Encoded, error] {
	return func(yield func(event.Encoded, error) bool) {
		f, err := newReader(r)
		for err == nil {
			var record event.Encoded
			record, err = f.next()
			if err == nil && record != nil && !yield(record, nil) {
				return
			}
		}
		if err != io.EOF {
			yield(nil, fmt.Errorf("file: %w", cut(err)))
		}
	}
}
