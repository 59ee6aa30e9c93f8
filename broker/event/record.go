package event

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"
)

// RecordVersion is the format number in the first byte of every encoded record.
const RecordVersion = 1

// recordFixed is the length of the part of a record before its headers; see doc.go for the table.
const recordFixed = 29

// MaxHeaderValue is the longest value of one header, in bytes.
const MaxHeaderValue = 4096

// ErrDamaged is returned when stored or received bytes are not what was written: too short, a length
// that lies, a wrong CRC, an unknown version. Nothing of such bytes may be used.
var ErrDamaged = errors.New("damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC32C is the checksum of every record, event and chunk (Castagnoli polynomial).
func CRC32C(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Headers accompany a body. Empty fields are not stored.
type Headers struct {
	Topic       string // see CheckTopic; "" for none
	ContentType string // as the producer gave it
	Origin      string // who made the change, in the producer's own words
	Producer    string // identity of the producer, see CheckID; "" for anonymous ones
	Key         string // idempotency key as the producer gave it; "" for none
	TextKey     bool   // the key is text also when it is a number: see Number

	// Limit is how long the increment may be at a database, instead of what the node says: MinLimit to MaxLimit, or
	// NoLimit; 0 says nothing.
	Limit time.Duration
}

// Number returns the number with which the producer counts, when that is what the key is: the decimal form of a 64-bit
// number (ParseNumber), of a named producer, that is not marked as text.
func (h *Headers) Number() (n uint64, counts bool) {
	if h.Producer == "" || h.TextKey {
		return 0, false
	}
	return ParseNumber(h.Key)
}

// The ids of headers on the wire and on disk. Never reuse one.
const (
	headerTopic       = 1
	headerContentType = 2
	headerOrigin      = 3
	headerProducer    = 4
	headerKey         = 5
	headerTextKey     = 6 // one byte, 1: the key is text though it looks like a number
	headerLimit       = 7 // four bytes: how many milliseconds the increment may be at a database; 0 for no limit
)

// ParseNumber reads a number as producers count with: the decimal form of a 64-bit number without sign or leading
// zeros.
func ParseNumber(s string) (uint64, bool) {
	const digits = 20
	if s == "" || len(s) > digits || s[0] == '0' && len(s) > 1 || s[0] == '+' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

func (h *Headers) field(id byte) *string {
	switch id {
	case headerTopic:
		return &h.Topic
	case headerContentType:
		return &h.ContentType
	case headerOrigin:
		return &h.Origin
	case headerProducer:
		return &h.Producer
	case headerKey:
		return &h.Key
	}
	return nil
}

// textKey is the encoded header that marks a key as text.
var textKey = []byte{headerTextKey, 1, 0, 1}

// TextKeySize is how many bytes TextKey takes in a record or a batch.
const TextKeySize = 4

// Draft is an increment that has no sequence yet. The body is 1 byte or more, any bytes. What follows the body is not
// stored with the record.
type Draft struct {
	Headers
	Body   []byte
	Sparse bool // the producer's numbers leave gaps of any size; said with its first one
	Clock  bool // the producer's number comes from a clock, in nanoseconds since 1970, and may jump as far as that
}

// Outcome is what became of one draft: the log says it to its writer, and each door to its producer.
type Outcome struct {
	Seq       uint64 // its sequence; of a duplicate, the sequence it got at first; 0 when Err is set
	Duplicate bool   // it was there before, by its idempotency key: nothing was stored
	Err       error  // why it was refused, in the words of whoever says it; nothing was stored
}

// Record is one increment of the log.
type Record struct {
	Seq   uint64 // from 1
	Time  int64  // nanoseconds since 1970 UTC, set once by the broker; never used for order
	Chain Chain  // up to and including this record
	Headers
	Body []byte
}

// EncodeRecord appends the encoded record (layout: doc.go) for draft d with the given sequence and time,
// whose predecessor has the chain prev, to dst. It returns the longer slice and the record's own chain.
// d.Body is copied. A header longer than MaxHeaderValue is cut by nobody: check before.
func EncodeRecord(dst []byte, seq uint64, time int64, prev Chain, d Draft) ([]byte, Chain) {
	start := len(dst)
	dst = append(dst, RecordVersion)
	dst = binary.LittleEndian.AppendUint64(dst, seq)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(time))
	dst = append(dst, 0, 0, 0, 0)             // CRC, below
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0) // chain, below
	count := len(dst)
	dst = append(dst, 0)
	for id := byte(headerTopic); id <= headerKey; id++ {
		if v := *d.field(id); v != "" {
			dst[count]++
			dst = append(dst, id)
			dst = binary.LittleEndian.AppendUint16(dst, uint16(len(v)))
			dst = append(dst, v...)
		}
	}
	if d.TextKey {
		dst[count]++
		dst = append(dst, textKey...)
	}
	if d.Limit != 0 {
		dst[count]++
		dst = appendLimit(dst, d.Limit)
	}
	dst = append(dst, d.Body...)
	chain := nextChain(prev, dst[start+recordFixed:])
	seal(dst[start:], chain)
	return dst, chain
}

// Reforge encodes r again under its old sequence, time and chain. The operator's "replace", which changes the body, and
// a retry with another Limit send such a record to one node; the log is not rewritten (XC-1).
func Reforge(r Record) []byte {
	b, _ := EncodeRecord(nil, r.Seq, r.Time, 0, Draft{Headers: r.Headers, Body: r.Body})
	seal(b, r.Chain)
	return b
}

func seal(b []byte, chain Chain) {
	binary.LittleEndian.PutUint64(b[21:], uint64(chain))
	binary.LittleEndian.PutUint32(b[17:], recordCRC(b))
}

func recordCRC(b []byte) uint32 {
	crc := crc32.Update(0, castagnoli, b[:17])
	return crc32.Update(crc, castagnoli, b[21:])
}

// nextChain folds one record, from its header count to its end, into the chain.
func nextChain(prev Chain, rest []byte) Chain {
	h := sha256.New()
	var p [8]byte
	binary.LittleEndian.PutUint64(p[:], uint64(prev))
	h.Write(p[:])
	h.Write(rest)
	var sum [sha256.Size]byte
	return Chain(binary.LittleEndian.Uint64(h.Sum(sum[:0])))
}

// Encoded is one record as bytes, the same on disk and on the wire. Only a value that passed Verify may
// be asked for its fields. Many readers share one Encoded: nobody writes into it.
type Encoded []byte

// Verify checks lengths, version and CRC before anything is believed or allocated. The error wraps
// ErrDamaged.
func (e Encoded) Verify() error {
	if len(e) < recordFixed+1 {
		return fmt.Errorf("record of %d bytes is shorter than its fixed part: %w", len(e), ErrDamaged)
	}
	if e[0] != RecordVersion {
		return fmt.Errorf("record format %d is not known to this version (%d): %w", e[0], RecordVersion, ErrDamaged)
	}
	if got, want := recordCRC(e), binary.LittleEndian.Uint32(e[17:]); got != want {
		return fmt.Errorf("record %d: CRC is %08x, stored %08x: %w", e.Seq(), got, want, ErrDamaged)
	}
	if e.bodyOffset() < 0 {
		return fmt.Errorf("record %d: headers run past its end: %w", e.Seq(), ErrDamaged)
	}
	return nil
}

// Follows reports whether e is the increment right after prev, by sequence and chain.
func (e Encoded) Follows(prev Position) bool {
	return e.Seq() == prev.Seq+1 && nextChain(prev.Chain, e[recordFixed:]) == e.Chain()
}

// Seq is the record's sequence.
func (e Encoded) Seq() uint64 { return binary.LittleEndian.Uint64(e[1:]) }

// Time is the broker's time of the record, in nanoseconds since 1970 UTC.
func (e Encoded) Time() int64 { return int64(binary.LittleEndian.Uint64(e[9:])) }

// Chain is the chain up to and including the record.
func (e Encoded) Chain() Chain { return Chain(binary.LittleEndian.Uint64(e[21:])) }

// Topic is the record's topic, borrowed from e; empty for none.
func (e Encoded) Topic() []byte {
	if e[recordFixed] == 0 || e[recordFixed+1] != headerTopic { // headers stand in the order of their ids
		return nil
	}
	n := int(binary.LittleEndian.Uint16(e[recordFixed+2:]))
	return e[recordFixed+4 : recordFixed+4+n]
}

// Limit is the record's time limit, as in Headers.
func (e Encoded) Limit() (d time.Duration) {
	e.headers(func(id byte, v []byte) {
		if id == headerLimit {
			d = readLimit(v)
		}
	})
	return d
}

// headers calls f for each header of a verified record, in the order of their ids. The values are borrowed.
func (e Encoded) headers(f func(id byte, value []byte)) {
	at := recordFixed + 1
	for n := int(e[recordFixed]); n > 0; n-- {
		end := at + 3 + int(binary.LittleEndian.Uint16(e[at+1:]))
		f(e[at], e[at+3:end])
		at = end
	}
}

// Body is the payload, borrowed from e.
func (e Encoded) Body() []byte { return e[e.bodyOffset():] }

// bodyOffset walks the headers; -1 when they run past the end or break the order of ids.
func (e Encoded) bodyOffset() int {
	at, last := recordFixed+1, byte(0)
	for n := int(e[recordFixed]); n > 0; n-- {
		if len(e)-at < 3 || e[at] <= last {
			return -1
		}
		last = e[at]
		at += 3 + int(binary.LittleEndian.Uint16(e[at+1:]))
		if at > len(e) {
			return -1
		}
	}
	return at
}

// Decode returns the record. Its body is borrowed from e; headers are copied. Headers with an id this
// version does not know are passed over.
func (e Encoded) Decode() (Record, error) {
	if err := e.Verify(); err != nil {
		return Record{}, err
	}
	r := Record{Seq: e.Seq(), Time: e.Time(), Chain: e.Chain(), Body: e.Body()}
	e.headers(func(id byte, v []byte) {
		if f := r.field(id); f != nil {
			*f = string(v)
		}
		switch id {
		case headerTextKey:
			r.TextKey = true
		case headerLimit:
			r.Limit = readLimit(v)
		}
	})
	return r, nil
}
