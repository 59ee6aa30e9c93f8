// Package snapstream is the stream in which target drivers write their snapshots: a header with the position, then
// frames, each with a checksum of everything before it, so that nothing damaged or cut is ever handed out.
//
//	 0  8  magic of the driver's format
//	 8  4  version of the driver's format
//	12  8  log ID
//	20  8  sequence
//	28  8  chain
//	36  4  bytes of the preface
//	40  .  preface: what the driver must know before the data, at most 16 MiB
//	 .  4  CRC-32C of all bytes before
//	then frames, each
//	 0  4  bytes of data, at most 65536; 0 ends the stream
//	 4  .  data
//	 .  4  CRC-32C of all bytes of the stream before
//
// All integers are little-endian. A change of this layout is a new version of every format that uses it.
package snapstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"xmq/broker/event"
)

// MaxFrame is how many bytes of data one frame holds at most.
const MaxFrame = 64 << 10

const (
	headLen    = 40
	maxPreface = 16 << 20
)

var errDamaged = fmt.Errorf("the checksum of the snapshot does not fit: %w", event.ErrDamaged)

// Format is one driver's kind of stream.
type Format struct {
	Name    string // as Snapshot.Format says it, for people: "postgres-dump/1"
	Magic   string // 8 bytes
	Version uint32 // that is written
	Oldest  uint32 // that is read as well; 0 for Version alone
}

// Head stands before the frames.
type Head struct {
	Pos     event.Position
	Preface []byte
	Version uint32 // of a stream that is read; one that is written has its Format's
}

func newSum() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

// Writer writes a stream. It is for one goroutine.
type Writer struct {
	w   io.Writer
	sum hash.Hash32
	buf []byte
}

// NewWriter writes the header to w. The caller writes the data, then calls End.
func (f Format) NewWriter(w io.Writer, h Head) (*Writer, error) {
	if len(h.Preface) > maxPreface {
		return nil, fmt.Errorf("what stands before the data of %s takes %d bytes, more than %d", f.Name, len(h.Preface),
			maxPreface)
	}
	fw := &Writer{w: w, sum: newSum()}
	b := append([]byte(nil), f.Magic...)
	b = binary.LittleEndian.AppendUint32(b, f.Version)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Pos.Log))
	b = binary.LittleEndian.AppendUint64(b, h.Pos.Seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Pos.Chain))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(h.Preface)))
	return fw, fw.write(append(b, h.Preface...))
}

// write writes b and the checksum after it.
func (f *Writer) write(b []byte) error {
	_, _ = f.sum.Write(b) // a hash never fails
	end := binary.LittleEndian.AppendUint32(nil, f.sum.Sum32())
	_, _ = f.sum.Write(end)
	_, err := f.w.Write(append(b, end...))
	return err
}

// Write writes b as frames of at most MaxFrame bytes and keeps nothing of it. The same bytes in the same pieces
// always make the same stream.
func (f *Writer) Write(b []byte) (n int, err error) {
	for n < len(b) {
		piece := b[n:min(len(b), n+MaxFrame)]
		f.buf = append(binary.LittleEndian.AppendUint32(f.buf[:0], uint32(len(piece))), piece...)
		if err := f.write(f.buf); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}

// Fill writes all of r in full frames, so that the same data always makes the same stream.
func (f *Writer) Fill(r io.Reader) error {
	buf := make([]byte, MaxFrame)
	for end := false; !end; {
		n := 0
		for n < len(buf) && !end { // not io.ReadFull, whose ErrUnexpectedEOF could be r's own
			k, err := r.Read(buf[n:])
			n += k
			if end = err == io.EOF; err != nil && !end {
				return err
			}
		}
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
	}
	return nil
}

// End writes the frame after which nothing comes.
func (f *Writer) End() error { return f.write(make([]byte, 4)) }

// Reader reads a stream. Nothing of it is handed out before its checksum was seen.
type Reader struct {
	r     io.Reader
	sum   hash.Hash32
	buf   [4 + MaxFrame + 4]byte
	piece []byte // of the current frame, not handed out yet
	err   error  // io.EOF after the last frame
}

// NewReader reads the header from r. Its errors, and those of Read, wrap event.ErrDamaged where the bytes are wrong,
// or r's error.
func (format Format) NewReader(r io.Reader) (*Reader, Head, error) {
	f := &Reader{r: r, sum: newSum()}
	b := f.buf[:headLen]
	if err := f.read(b); err != nil {
		return nil, Head{}, err
	}
	le := binary.LittleEndian
	n := le.Uint32(b[36:])
	switch {
	case string(b[:8]) != format.Magic || n > maxPreface:
		return nil, Head{}, fmt.Errorf("the header of the snapshot is not that of %s: %w", format.Name, event.ErrDamaged)
	case le.Uint32(b[8:]) != format.Version &&
		(format.Oldest == 0 || le.Uint32(b[8:]) < format.Oldest || le.Uint32(b[8:]) > format.Version):
		return nil, Head{}, fmt.Errorf("version %d of %s is not known to this version: %w", le.Uint32(b[8:]), format.Name,
			event.ErrDamaged)
	}
	h := Head{Pos: event.Position{Log: event.LogID(le.Uint64(b[12:])), Seq: le.Uint64(b[20:]),
		Chain: event.Chain(le.Uint64(b[28:]))}, Version: le.Uint32(b[8:])}
	preface, err := io.ReadAll(io.LimitReader(sumReader{f}, int64(n)))
	if err == nil && len(preface) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.check()
	}
	h.Preface = preface
	return f, h, err
}

// sumReader reads and adds to the checksum; a preface's length is believed only as far as bytes come.
type sumReader struct{ f *Reader }

func (s sumReader) Read(b []byte) (int, error) {
	n, err := s.f.r.Read(b)
	_, _ = s.f.sum.Write(b[:n])
	return n, err
}

// read fills b.
func (f *Reader) read(b []byte) error {
	_, err := io.ReadFull(f.r, b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	_, _ = f.sum.Write(b)
	return err
}

// check reads a checksum and compares it with that of everything before.
func (f *Reader) check() error {
	want := f.sum.Sum32()
	var b [4]byte
	if err := f.read(b[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b[:]) != want {
		return errDamaged
	}
	return nil
}

// Peek reads the first frame ahead: what is damaged or cut there costs nobody a database.
func (f *Reader) Peek() error {
	if f.piece, f.err = f.next(); f.err != io.EOF {
		return f.err
	}
	return nil
}

// Read yields the data; io.EOF after an end that was seen and checked, with nothing after it.
func (f *Reader) Read(b []byte) (int, error) {
	for len(f.piece) == 0 && f.err == nil {
		f.piece, f.err = f.next()
	}
	if len(f.piece) == 0 {
		return 0, f.err
	}
	n := copy(b, f.piece)
	f.piece = f.piece[n:]
	return n, nil
}

// Failed is the error, other than io.EOF, with which Read or Peek has ended; nil while there was none. It tells a
// reader that broke from one who did.
func (f *Reader) Failed() error {
	if f.err == io.EOF {
		return nil
	}
	return f.err
}

func (f *Reader) next() ([]byte, error) {
	if err := f.read(f.buf[:4]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(f.buf[:4])
	if n > MaxFrame {
		return nil, errDamaged
	}
	if err := f.read(f.buf[4 : 4+n]); err != nil {
		return nil, err
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	if n > 0 {
		return f.buf[4 : 4+n], nil
	}
	switch n, err := io.ReadFull(f.r, f.buf[:1]); {
	case n > 0:
		return nil, fmt.Errorf("the snapshot goes on after its end: %w", event.ErrDamaged)
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return nil, io.EOF
}
