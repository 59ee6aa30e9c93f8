package event

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// BatchVersion is the format number in the first byte of every batch.
const BatchVersion = 1

// MaxDrafts is how many drafts one batch holds at most.
const MaxDrafts = 4096

// batchFixed is the length of a batch before its drafts; see doc.go for the table.
const batchFixed = 37

// batchEnd is the length of the CRC after the drafts.
const batchEnd = 4

// Batch is many drafts of one producer in one request. A producer numbers its batches from 1, and the broker takes
// batch N only after batch N-1, unless everything before N is answered (Base is N): so none overtakes another
// that was lost or refused.
type Batch struct {
	Stream Instance // the life of the producer that numbers them
	Number uint64   // from 1; a repetition has the number it had
	Base   uint64   // 1 to Number: all batches below are answered
	First  uint64   // draft i has the number First+i; they begin with a clock. 0: drafts bring their own keys, if any
	Drafts []Draft  // 1 to MaxDrafts, without Producer, which is the token of the subject
}

// BeginBatch appends room for what SealBatch fills in to dst. Drafts follow (AppendDraft).
func BeginBatch(dst []byte) []byte { return append(dst, make([]byte, batchFixed)...) }

// AppendDraft appends one draft after BeginBatch, at a cost of DraftSize bytes. Headers are at most MaxHeaderValue
// bytes long and the body at most MaxBody: the caller has checked. Producer is not written.
func AppendDraft(dst []byte, d *Draft) []byte {
	count := len(dst)
	dst = append(dst, 0)
	for id := byte(headerTopic); id <= headerKey; id++ {
		if v := *d.field(id); v != "" && id != headerProducer {
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
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(d.Body)))
	return append(dst, d.Body...)
}

// DraftSize is how many bytes AppendDraft appends.
func DraftSize(d *Draft) int {
	n := 5 + len(d.Body)
	for _, h := range [...]string{d.Topic, d.ContentType, d.Origin, d.Key} {
		if h != "" {
			n += 3 + len(h)
		}
	}
	if d.TextKey {
		n += TextKeySize
	}
	if d.Limit != 0 {
		n += LimitSize
	}
	return n
}

// SealBatch finishes b, which begins with BeginBatch and holds count drafts, and returns it with its CRC at the end.
// The fields of h are written, its Drafts are not looked at. For a repetition it is called again with the same b,
// without the CRC.
func SealBatch(b []byte, h Batch, count int) []byte {
	b[0] = BatchVersion
	binary.LittleEndian.PutUint64(b[1:], uint64(h.Stream))
	binary.LittleEndian.PutUint64(b[9:], h.Number)
	binary.LittleEndian.PutUint64(b[17:], h.Base)
	binary.LittleEndian.PutUint64(b[25:], h.First)
	binary.LittleEndian.PutUint32(b[33:], uint32(count))
	return binary.LittleEndian.AppendUint32(b, CRC32C(b))
}

// DecodeBatch reads a whole batch. The drafts are appended to into, which may be nil and is there to be used again;
// their bodies are borrowed from b, headers are copied. An error wraps ErrDamaged; lengths are checked before
// anything is allocated for them.
func DecodeBatch(b []byte, into []Draft) (Batch, error) {
	var h Batch
	if len(b) < batchFixed+batchEnd {
		return h, fmt.Errorf("batch of %d bytes is shorter than its fixed part: %w", len(b), ErrDamaged)
	}
	if b[0] != BatchVersion {
		return h, fmt.Errorf("batch format %d is not known to this version (%d): %w", b[0], BatchVersion, ErrDamaged)
	}
	end := len(b) - batchEnd
	if got, want := CRC32C(b[:end]), binary.LittleEndian.Uint32(b[end:]); got != want {
		return h, fmt.Errorf("batch: CRC is %08x, sent %08x: %w", got, want, ErrDamaged)
	}
	h.Stream, h.Number = Instance(binary.LittleEndian.Uint64(b[1:])), binary.LittleEndian.Uint64(b[9:])
	h.Base, h.First = binary.LittleEndian.Uint64(b[17:]), binary.LittleEndian.Uint64(b[25:])
	count := binary.LittleEndian.Uint32(b[33:])
	switch {
	case h.Stream == 0 || h.Base == 0 || h.Base > h.Number:
		return h, fmt.Errorf("batch %d of stream %s with base %d: %w", h.Number, h.Stream, h.Base, ErrDamaged)
	case count == 0 || count > MaxDrafts || int(count) > (end-batchFixed)/5:
		return h, fmt.Errorf("batch %d: %d drafts in %d bytes, allowed are 1 to %d: %w", h.Number, count, len(b), MaxDrafts,
			ErrDamaged)
	case h.First > 0 && h.First+uint64(count) < h.First:
		return h, fmt.Errorf("batch %d: its keys run past the last number: %w", h.Number, ErrDamaged)
	}
	r := draftReader{rest: b[batchFixed:end]}
	into = slices.Grow(into, int(count))
	at := len(into)
	for i := range int(count) {
		into = append(into, Draft{})
		d := &into[at+i]
		if !r.next(d) || h.First > 0 && d.Key != "" {
			return h, fmt.Errorf("batch %d: draft %d is not readable: %w", h.Number, i, ErrDamaged)
		}
	}
	if len(r.rest) > 0 {
		return h, fmt.Errorf("batch %d: %d bytes after its last draft: %w", h.Number, len(r.rest), ErrDamaged)
	}
	h.Drafts = into[at:]
	if h.First > 0 {
		number(h.Drafts, h.First)
	}
	return h, nil
}

// number gives consecutive keys, which share one string. Each is the one before it plus one, digit by digit.
func number(drafts []Draft, first uint64) {
	const digits = 20
	key := strconv.AppendUint(make([]byte, 0, digits), first, 10)
	var all strings.Builder
	all.Grow(len(drafts) * digits)
	for i := range drafts {
		at := all.Len()
		all.Write(key)
		drafts[i].Key = all.String()[at:]
		key = increment(key)
	}
}

// increment adds one to a decimal number in place; one of nines grows by a digit.
func increment(n []byte) []byte {
	for i := len(n) - 1; i >= 0; i-- {
		if n[i] < '9' {
			n[i]++
			return n
		}
		n[i] = '0'
	}
	n = append(n, '0')
	n[0] = '1'
	return n
}

// mark reads an encoded header that is no text; false when it has another form than AppendDraft writes.
func (d *Draft) mark(header []byte) bool {
	if header[0] == headerTextKey {
		d.TextKey = true
		return bytes.Equal(header, textKey)
	}
	d.Limit = readLimit(header[3:])
	return d.Limit != 0 && CheckLimit(d.Limit) == nil
}

// draftReader reads drafts one after the other. Neighbours mostly have the same headers: they share their strings.
type draftReader struct {
	rest []byte
	last Headers
}

// next reads one draft; false when it runs past the end, or breaks the order of its headers.
func (r *draftReader) next(d *Draft) bool {
	if len(r.rest) < 1 {
		return false
	}
	n := int(r.rest[0])
	r.rest = r.rest[1:]
	for before := byte(0); n > 0; n-- {
		if len(r.rest) < 3 {
			return false
		}
		id, size := r.rest[0], int(binary.LittleEndian.Uint16(r.rest[1:]))
		if id <= before || id == headerProducer || size == 0 || size > MaxHeaderValue || size > len(r.rest)-3 {
			return false
		}
		if id == headerTextKey || id == headerLimit {
			if !d.mark(r.rest[:3+size]) {
				return false
			}
			before, r.rest = id, r.rest[3+size:]
			continue
		}
		f := d.field(id)
		if f == nil {
			return false
		}
		if v, known := r.rest[3:3+size], r.last.field(id); string(v) == *known {
			*f = *known
		} else {
			*f = string(v)
			*known = *f
		}
		before, r.rest = id, r.rest[3+size:]
	}
	if len(r.rest) < 4 || uint64(binary.LittleEndian.Uint32(r.rest)) > uint64(len(r.rest)-4) {
		return false
	}
	end := 4 + int(binary.LittleEndian.Uint32(r.rest))
	d.Body, r.rest = r.rest[4:end:end], r.rest[end:]
	return true
}
