package segments

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"xmq/broker/event"
)

// digits is the length of a printed sequence: 2^64-1 has 20, so byte order is number order.
const digits = 20

// format is the version in the first byte of every value that is not a record.
const format = 1

// formatKeys is the version of the values that say more of keys and counters than the first revision could.
const formatKeys = 2

// The fixed keys of a segment, and the borders of its key ranges. All but the records' begin with a letter
// and so sort after the digits.
var (
	keyBase  = []byte("m/base")
	keyLog   = []byte("m/log")
	keyLow   = []byte("m/low")
	keyIndex = []byte("m/index")

	counterFrom, counterTo = []byte("m/p/"), []byte("m/p0") // '0' follows '/'
	idemFrom, idemTo       = []byte("i"), []byte("j")
)

// recordKey appends the 20 digits of seq.
func recordKey(dst []byte, seq uint64) []byte {
	var b [digits]byte
	for i := digits - 1; i >= 0; i-- {
		b[i] = '0' + byte(seq%10)
		seq /= 10
	}
	return append(dst, b[:]...)
}

// recordRange is the range of keys of the records from..to, both included.
func recordRange(from, to uint64) (first, limit []byte) {
	if to == math.MaxUint64 {
		return recordKey(nil, from), []byte(":") // ':' follows '9'
	}
	return recordKey(nil, from), recordKey(nil, to+1)
}

// parseSequence reads exactly 20 digits.
func parseSequence(s string) (uint64, bool) {
	if len(s) != digits {
		return 0, false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// span is the range of sequences a segment may hold, both included; 1 <= First <= Last.
type span struct{ First, Last uint64 }

func (s span) String() string {
	return string(recordKey(append(recordKey(nil, s.First), '-'), s.Last))
}

// parseSpan reads a segment's name.
func parseSpan(name string) (span, error) {
	first, last, ok := strings.Cut(name, "-")
	if ok {
		var s span
		var ok1, ok2 bool
		s.First, ok1 = parseSequence(first)
		s.Last, ok2 = parseSequence(last)
		if ok1 && ok2 && 1 <= s.First && s.First <= s.Last {
			return s, nil
		}
	}
	return span{}, fmt.Errorf("%.60q is not the name of a segment: two numbers of %d digits, the first not above the "+
		"last, joined by a hyphen", name, digits)
}

// spanFrom is the span of a new segment of n sequences.
func spanFrom(first, n uint64) span {
	if n-1 > math.MaxUint64-first {
		return span{first, math.MaxUint64}
	}
	return span{first, first + n - 1}
}

// number and parseNumber are the values of one number.
func number(v uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte{format}, v)
}

func parseNumber(b []byte) (uint64, error) {
	if len(b) != 9 || b[0] != format {
		return 0, fmt.Errorf("%d bytes are not a number of format %d: %w", len(b), format, event.ErrDamaged)
	}
	return binary.LittleEndian.Uint64(b[1:]), nil
}

func baseValue(p event.Position) []byte {
	return binary.LittleEndian.AppendUint64(number(p.Seq), uint64(p.Chain))
}

func parseBase(log event.LogID, b []byte) (event.Position, error) {
	if len(b) != 17 || b[0] != format {
		return event.Position{}, fmt.Errorf("%d bytes are not a position of format %d: %w", len(b), format, event.ErrDamaged)
	}
	return event.Position{Log: log, Seq: binary.LittleEndian.Uint64(b[1:]),
		Chain: event.Chain(binary.LittleEndian.Uint64(b[9:]))}, nil
}
