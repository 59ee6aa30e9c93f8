package dumpflow

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"xmq/broker/event"
)

// ChunkSize is the length of every chunk but the last, in uncompressed bytes. A snapshot of no bytes has no
// chunks. This and Chunks are the numbering rule of both halves.
const ChunkSize = 512 << 10

// Chunks is how many chunks a snapshot of size bytes (0 or more) has.
func Chunks(size int64) int64 {
	if size%ChunkSize == 0 {
		return size / ChunkSize
	}
	return size/ChunkSize + 1
}

// ChunkVersion is the format number of a Chunk.
const ChunkVersion = 1

// chunkHeader is the length of a chunk's header:
//
//	0  1  version = 1
//	1  1  operation (Put, Seal, Get, Stat)
//	2  1  compression (0 none, 1 zstd)
//	3  1  reserved = 0
//	4  4  number, from 0
//	8  4  length of the uncompressed data
//	12 4  CRC-32C of the uncompressed data
//	16 .  data, as compressed
const chunkHeader = 16

// Op is what a SNAP_REQ asks for.
type Op uint8

// The operations. Never reuse a number.
const (
	Put  Op = 1 // target: store this chunk
	Seal Op = 2 // target: that was all; the data is a Manifest. The answer comes when it is published
	Get  Op = 3 // requester: give me this chunk; answered when it is there, or NONE after a while
	Stat Op = 4 // requester: give me the manifest; answered like Get
)

// Chunk is one piece of a snapshot on its way, and the whole content of a staged chunk file: the body of
// SNAP_REQ and SNAP_REP. Offset is Number * ChunkSize.
type Chunk struct {
	Op     Op
	Packed bool // Data is zstd-compressed
	Number uint32
	Length uint32 // of the uncompressed data, 0 to ChunkSize
	CRC    uint32 // of the uncompressed data
	Data   []byte
}

// Append appends c, encoded, to dst.
func (c Chunk) Append(dst []byte) []byte {
	return append(c.appendHeader(slices.Grow(dst, chunkHeader+len(c.Data))), c.Data...)
}

// appendHeader is Append without the data.
func (c Chunk) appendHeader(dst []byte) []byte {
	packed := byte(0)
	if c.Packed {
		packed = 1
	}
	dst = append(dst, ChunkVersion, byte(c.Op), packed, 0)
	dst = binary.LittleEndian.AppendUint32(dst, c.Number)
	dst = binary.LittleEndian.AppendUint32(dst, c.Length)
	return binary.LittleEndian.AppendUint32(dst, c.CRC)
}

// DecodeChunk reads what Append wrote; Data is borrowed from b. Lengths are checked, the data's CRC is
// not: Unpack does that. The error wraps event.ErrDamaged.
func DecodeChunk(b []byte) (Chunk, error) {
	if len(b) < chunkHeader || b[0] != ChunkVersion || b[2] > 1 || b[3] != 0 {
		return Chunk{}, fmt.Errorf("chunk: %d bytes do not begin with a header of format %d: %w", len(b), ChunkVersion,
			event.ErrDamaged)
	}
	c := Chunk{
		Op: Op(b[1]), Packed: b[2] == 1,
		Number: binary.LittleEndian.Uint32(b[4:]), Length: binary.LittleEndian.Uint32(b[8:]),
		CRC:  binary.LittleEndian.Uint32(b[12:]),
		Data: b[chunkHeader:],
	}
	if c.Op < Put || c.Op > Stat {
		return Chunk{}, fmt.Errorf("chunk: unknown operation %d: %w", c.Op, event.ErrDamaged)
	}
	if c.Length > ChunkSize || len(c.Data) > ChunkSize+ChunkSize/8 {
		return Chunk{}, fmt.Errorf("chunk %d: %d bytes (%d on the way) are more than %d: %w", c.Number, c.Length, len(c.Data),
			ChunkSize, event.ErrDamaged)
	}
	return c, nil
}

// The packers are shared: EncodeAll and DecodeAll are safe for concurrent use. Entropy is compressed also where nothing
// repeats, as in the hexadecimal digits in which PostgreSQL dumps its bytes.
var (
	packer, _ = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2),
		zstd.WithAllLitEntropyCompression(true))
	unpacker, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(2*ChunkSize))
)

// Pack makes a chunk of data, compressed when samples say that it is worth the work and it is shorter then; else data
// is kept in it as it is.
func Pack(op Op, number uint32, data []byte) Chunk {
	c := Chunk{Op: op, Number: number, Length: uint32(len(data)), CRC: event.CRC32C(data), Data: data}
	if !shrinks(data) {
		return c
	}
	if packed := packer.EncodeAll(data, nil); len(packed) < len(data) {
		c.Data, c.Packed = packed, true
	}
	return c
}

// Of data longer than all samples together only these are compressed at first.
const (
	samples    = 8
	sampleSize = 4 << 10
)

// shrinks guesses by samples from all over data whether compressing it is worth the work, which is a third of a DUMP's
// when the values are random, encrypted or compressed already: one byte in 32, or it is not.
func shrinks(data []byte) bool {
	if len(data) <= samples*sampleSize {
		return true
	}
	sample := make([]byte, 0, samples*sampleSize)
	for i := range samples {
		at := i * (len(data) - sampleSize) / (samples - 1)
		sample = append(sample, data[at:at+sampleSize]...)
	}
	return len(packer.EncodeAll(sample, nil)) < len(sample)-len(sample)/32
}

// Unpack returns the uncompressed data after its length and CRC have matched; it is c.Data itself when that is not
// compressed. The error wraps event.ErrDamaged.
func (c Chunk) Unpack() ([]byte, error) {
	data := c.Data
	if c.Packed {
		var err error
		if data, err = unpacker.DecodeAll(c.Data, make([]byte, 0, c.Length)); err != nil {
			return nil, fmt.Errorf("chunk %d: %v: %w", c.Number, err, event.ErrDamaged)
		}
	}
	if len(data) != int(c.Length) || event.CRC32C(data) != c.CRC {
		return nil, fmt.Errorf("chunk %d: %d bytes with CRC %08x, announced %d with %08x: %w", c.Number, len(data),
			event.CRC32C(data), c.Length, c.CRC, event.ErrDamaged)
	}
	return data, nil
}
