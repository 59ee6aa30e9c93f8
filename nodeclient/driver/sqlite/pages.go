package sqlite

import (
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"xmq/broker/event"
)

// The stream of a snapshot; doc.go draws it.
const (
	headerMagic   = "XMQPAGES"
	headerVersion = 1
	headerLen     = 28
)

// header stands before the pages.
type header struct {
	pageSize uint32 // bytes: a power of two from 512 to 65536
	pages    uint64
}

// size is the length of the database file in bytes.
func (h header) size() int64 { return int64(h.pageSize) * int64(h.pages) }

func (h header) append(dst []byte) []byte {
	from := len(dst)
	dst = append(dst, headerMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, headerVersion)
	dst = binary.LittleEndian.AppendUint32(dst, h.pageSize)
	dst = binary.LittleEndian.AppendUint64(dst, h.pages)
	return binary.LittleEndian.AppendUint32(dst, event.CRC32C(dst[from:]))
}

// parseHeader reads headerLen bytes. Its error wraps event.ErrDamaged.
func parseHeader(b []byte) (header, error) {
	le := binary.LittleEndian
	h := header{le.Uint32(b[12:]), le.Uint64(b[16:])}
	switch {
	case string(b[:8]) != headerMagic || event.CRC32C(b[:24]) != le.Uint32(b[24:]):
		return h, fmt.Errorf("the header of the snapshot is not that of %s: %w", Format, event.ErrDamaged)
	case le.Uint32(b[8:]) != headerVersion:
		return h, fmt.Errorf("snapshot format %d is not known to this version (%d): %w", le.Uint32(b[8:]), headerVersion,
			event.ErrDamaged)
	case h.pageSize < 512 || h.pageSize > 65536 || h.pageSize&(h.pageSize-1) != 0 || h.pages == 0 || h.pages >= 1<<32:
		return h, fmt.Errorf("a snapshot of %d pages of %d bytes cannot be: %w", h.pages, h.pageSize, event.ErrDamaged)
	}
	return h, nil
}

func newSum() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

func appendSum(dst []byte, sum hash.Hash32) []byte {
	return binary.LittleEndian.AppendUint32(dst, sum.Sum32())
}

// copyPages writes the pages of r, which stands after the header, to w and demands that r ends with them.
func copyPages(w io.Writer, r io.Reader, h header) error {
	sum := newSum()
	if _, err := io.CopyN(io.MultiWriter(w, sum), r, h.size()); err != nil {
		return fmt.Errorf("copy %d pages: %w", h.pages, cut(err))
	}
	var tail [4]byte
	if _, err := io.ReadFull(r, tail[:]); err != nil {
		return fmt.Errorf("read the checksum: %w", cut(err))
	}
	if got, want := sum.Sum32(), binary.LittleEndian.Uint32(tail[:]); got != want {
		return fmt.Errorf("the checksum of the pages is %08x, sent %08x: %w", got, want, event.ErrDamaged)
	}
	switch n, err := io.ReadFull(r, tail[:1]); {
	case n > 0:
		return fmt.Errorf("the snapshot goes on after its end: %w", event.ErrDamaged)
	case err != io.EOF:
		return fmt.Errorf("read the end: %w", err)
	}
	return nil
}

// cut: a stream that ends early is cut, however it says so.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
