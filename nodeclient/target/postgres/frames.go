package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"xmq/broker/event"
)

// The stream of a snapshot; doc.go draws it.
const (
	streamMagic   = "XMQPGDMP"
	streamVersion = 1
	headLen       = 40
	maxScript     = 16 << 20
	maxFrame      = 64 << 10
)

var errDamaged = fmt.Errorf("the checksum of the snapshot does not fit: %w", event.ErrDamaged)

// head stands before the frames.
type head struct {
	pos    event.Position
	script string // sets the sequences
}

func newSum() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

// frameWriter writes a stream.
type frameWriter struct {
	w   io.Writer
	sum hash.Hash32
	buf []byte
}

// newFrameWriter writes the header.
func newFrameWriter(w io.Writer, h head) (*frameWriter, error) {
	if len(h.script) > maxScript {
		return nil, fmt.Errorf("the values of all sequences take %d bytes, more than %d", len(h.script), maxScript)
	}
	f := &frameWriter{w: w, sum: newSum()}
	b := append([]byte(nil), streamMagic...)
	b = binary.LittleEndian.AppendUint32(b, streamVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.pos.Log))
	b = binary.LittleEndian.AppendUint64(b, h.pos.Seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.pos.Chain))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(h.script)))
	return f, f.write(append(b, h.script...))
}

// write writes b and the checksum behind it.
func (f *frameWriter) write(b []byte) error {
	_, _ = f.sum.Write(b) // a hash never fails
	end := binary.LittleEndian.AppendUint32(nil, f.sum.Sum32())
	_, _ = f.sum.Write(end)
	_, err := f.w.Write(append(b, end...))
	return err
}

// Write writes frames of at most maxFrame bytes.
func (f *frameWriter) Write(b []byte) (n int, err error) {
	for n < len(b) {
		piece := b[n:min(len(b), n+maxFrame)]
		f.buf = append(binary.LittleEndian.AppendUint32(f.buf[:0], uint32(len(piece))), piece...)
		if err := f.write(f.buf); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}

// end writes the frame behind which nothing comes.
func (f *frameWriter) end() error { return f.write(make([]byte, 4)) }

// frameReader reads a stream. Nothing of it is handed out before its checksum was seen.
type frameReader struct {
	r     io.Reader
	sum   hash.Hash32
	buf   [4 + maxFrame + 4]byte
	piece []byte // of the current frame, not handed out yet
	err   error  // io.EOF behind the last frame
}

// newFrameReader reads the header. Its errors, and those of Read, wrap event.ErrDamaged where the bytes are wrong,
// or r's error.
func newFrameReader(r io.Reader) (*frameReader, head, error) {
	f := &frameReader{r: r, sum: newSum()}
	b := f.buf[:headLen]
	if err := f.read(b); err != nil {
		return nil, head{}, err
	}
	le := binary.LittleEndian
	n := le.Uint32(b[36:])
	switch {
	case string(b[:8]) != streamMagic || n > maxScript:
		return nil, head{}, fmt.Errorf("the header of the snapshot is not that of %s: %w", Format, event.ErrDamaged)
	case le.Uint32(b[8:]) != streamVersion:
		return nil, head{}, fmt.Errorf("snapshot format %d is not known to this version (%d): %w", le.Uint32(b[8:]), streamVersion, event.ErrDamaged)
	}
	h := head{pos: event.Position{Log: event.LogID(le.Uint64(b[12:])), Seq: le.Uint64(b[20:]), Chain: event.Chain(le.Uint64(b[28:]))}}
	script, err := io.ReadAll(io.LimitReader(sumReader{f}, int64(n)))
	if err == nil && len(script) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.check()
	}
	h.script = string(script)
	return f, h, err
}

// sumReader reads and adds to the checksum; a script's length is believed only as far as bytes come.
type sumReader struct{ f *frameReader }

func (s sumReader) Read(b []byte) (int, error) {
	n, err := s.f.r.Read(b)
	_, _ = s.f.sum.Write(b[:n])
	return n, err
}

// read fills b.
func (f *frameReader) read(b []byte) error {
	_, err := io.ReadFull(f.r, b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	_, _ = f.sum.Write(b)
	return err
}

// check reads a checksum and compares it with that of everything before.
func (f *frameReader) check() error {
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

// peek reads the first frame ahead: what is damaged or cut there costs nobody a database.
func (f *frameReader) peek() error {
	if f.piece, f.err = f.next(); f.err != io.EOF {
		return f.err
	}
	return nil
}

// Read yields the archive; io.EOF behind an end that was seen and checked, with nothing behind it.
func (f *frameReader) Read(b []byte) (int, error) {
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

func (f *frameReader) next() ([]byte, error) {
	if err := f.read(f.buf[:4]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(f.buf[:4])
	if n > maxFrame {
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
		return nil, fmt.Errorf("the snapshot goes on behind its end: %w", event.ErrDamaged)
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return nil, io.EOF
}
