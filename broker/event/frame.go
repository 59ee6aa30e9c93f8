package event

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"
)

// The kinds of items in a frame. Never reuse a number.
const (
	itemRecord = 1 // an increment as it stands in the log
	itemSkip   = 2 // a run of increments that are not for this node
	// an increment that failed here, after the number of an operator's decision; as it is, or with another body under
	// the log's chain
	itemDecision = 3
	itemPacked   = 4 // all the others, compressed
)

// A frame is the body of INCR_REP: items that follow each other without a gap, starting right after
// the event's Pos. AppendRecord, AppendSkip and AppendDecision write items; Walk reads them, after Unpack.

// AppendRecord adds one record. Cost in bytes: len(e) + 5.
func AppendRecord(dst []byte, e Encoded) []byte { return appendItem(dst, itemRecord, e) }

// AppendDecision adds one record that an operator sends again: as it is, or made by Reforge. decision is not 0. Cost in
// bytes: len(e) + 13.
func AppendDecision(dst []byte, e Encoded, decision uint64) []byte {
	dst = append(dst, itemDecision)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(e)+8))
	dst = binary.LittleEndian.AppendUint64(dst, decision)
	return append(dst, e...)
}

func appendItem(dst []byte, kind byte, e Encoded) []byte {
	dst = append(dst, kind)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(e)))
	return append(dst, e...)
}

// AppendSkip adds "everything up to and including seq, where the chain is chain, is not for you": other
// topics, or one increment an operator skipped. Cost: 17 bytes.
func AppendSkip(dst []byte, seq uint64, chain Chain) []byte {
	dst = append(dst, itemSkip)
	dst = binary.LittleEndian.AppendUint64(dst, seq)
	return binary.LittleEndian.AppendUint64(dst, uint64(chain))
}

// Item is one step of a frame: an increment to apply, or (Record empty) a position to move to.
type Item struct {
	Pos      Position // after this item
	Record   Encoded  // borrowed from the frame; nil for a pass
	Decision uint64   // number of the operator's decision about this increment: try it (again); 0 for none
}

// Pack appends frame to dst as one packed item (S2), for a node far away that asked for it; as it is, when that is not
// shorter.
func Pack(dst, frame []byte) []byte {
	start := len(dst)
	dst = append(dst, itemPacked, 0, 0, 0, 0)
	dst = slices.Grow(dst, s2.MaxEncodedLen(len(frame)))
	block := s2.Encode(dst[start+5:cap(dst)], frame)
	if len(block)+5 >= len(frame) {
		return append(dst[:start], frame...)
	}
	binary.LittleEndian.PutUint32(dst[start+1:], uint32(len(block)))
	return dst[:start+5+len(block)]
}

// Unpack returns the items of a frame that may be packed, at most most bytes of them; packed ones lie in new memory,
// which is taken only when they fit. The error wraps ErrDamaged.
func Unpack(frame []byte, most int) ([]byte, error) {
	most = max(0, min(most, MaxBody))
	if len(frame) == 0 || frame[0] != itemPacked {
		if len(frame) > most {
			return nil, fmt.Errorf("a frame of %d bytes is longer than the allowed %d: %w", len(frame), most,
				ErrDamaged)
		}
		return frame, nil
	}
	if len(frame) < 5 || uint64(len(frame)-5) != uint64(binary.LittleEndian.Uint32(frame[1:])) {
		return nil, fmt.Errorf("a packed frame of %d bytes says another length than it has: %w", len(frame), ErrDamaged)
	}
	if n, err := s2.DecodedLen(frame[5:]); err != nil || n > most {
		return nil, fmt.Errorf("a packed frame holds %d bytes, and allowed are %d: %w", n, most, ErrDamaged)
	}
	items, err := s2.Decode(nil, frame[5:])
	if err != nil {
		return nil, fmt.Errorf("a packed frame: %v: %w", err, ErrDamaged)
	}
	return items, nil
}

// Count is how many items a frame has, as far as its lengths can be followed: at most one in 17 bytes, each of a known
// kind. Nothing else is checked.
func Count(frame []byte) (n int) {
	for len(frame) > 0 {
		size := uint64(17)
		if frame[0] != itemSkip {
			if len(frame) < 5 || frame[0] != itemRecord && frame[0] != itemDecision {
				return n
			}
			size = 5 + uint64(binary.LittleEndian.Uint32(frame[1:]))
		}
		if size < 17 || uint64(len(frame)) < size {
			return n
		}
		n, frame = n+1, frame[size:]
	}
	return n
}

// Walk checks a whole frame that starts after from and calls f for each item in order. Sequence, CRC and
// chain of each record are verified, passes must go forward. The first error ends it: f's own, or one
// that wraps ErrDamaged. Items before the error have been handed out.
func Walk(frame []byte, from Position, f func(Item) error) error {
	for at := from; len(frame) > 0; {
		item, rest, err := nextItem(frame, at)
		if err != nil {
			return err
		}
		if err := f(item); err != nil {
			return err
		}
		at, frame = item.Pos, rest
	}
	return nil
}

// Outside reads a frame of one increment that an operator sends to a node outside the order (AppendDecision). Its
// position is its own. Everything else wraps ErrDamaged.
func Outside(frame []byte, log LogID) (Item, error) {
	if len(frame) < 13 || frame[0] != itemDecision {
		return Item{}, fmt.Errorf("an order without its increment: %w", ErrDamaged)
	}
	record := Encoded(frame[13:])
	if err := record.Verify(); err != nil {
		return Item{}, err
	}
	// all but its chain, which has no predecessor here
	item, rest, err := nextItem(frame, Position{Log: log, Seq: record.Seq() - 1})
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("an order with more than one increment: %w", ErrDamaged)
	}
	return item, err
}

func nextItem(b []byte, at Position) (Item, []byte, error) {
	if b[0] == itemSkip {
		if len(b) < 17 {
			return Item{}, nil, fmt.Errorf("frame after %d: cut inside a skip: %w", at.Seq, ErrDamaged)
		}
		pos := Position{at.Log, binary.LittleEndian.Uint64(b[1:]), Chain(binary.LittleEndian.Uint64(b[9:]))}
		if pos.Seq <= at.Seq {
			return Item{}, nil, fmt.Errorf("frame after %d: skip goes back to %d: %w", at.Seq, pos.Seq, ErrDamaged)
		}
		return Item{Pos: pos}, b[17:], nil
	}
	if b[0] != itemRecord && b[0] != itemDecision {
		return Item{}, nil, fmt.Errorf("frame after %d: unknown kind of item %d: %w", at.Seq, b[0], ErrDamaged)
	}
	if len(b) < 5 || uint64(len(b)-5) < uint64(binary.LittleEndian.Uint32(b[1:])) {
		return Item{}, nil, fmt.Errorf("frame after %d: cut inside a record: %w", at.Seq, ErrDamaged)
	}
	end := 5 + int(binary.LittleEndian.Uint32(b[1:]))
	e, decision := Encoded(b[5:end:end]), uint64(0)
	if b[0] == itemDecision {
		if len(e) < 8 {
			return Item{}, nil, fmt.Errorf("frame after %d: cut inside a decision: %w", at.Seq, ErrDamaged)
		}
		decision, e = binary.LittleEndian.Uint64(e), e[8:]
		if decision == 0 {
			return Item{}, nil, fmt.Errorf("frame after %d: a decision without a number: %w", at.Seq, ErrDamaged)
		}
	}
	if err := e.Verify(); err != nil {
		return Item{}, nil, fmt.Errorf("frame after %d: %w", at.Seq, err)
	}
	if e.Seq() != at.Seq+1 || b[0] == itemRecord && !e.Follows(at) {
		return Item{}, nil, fmt.Errorf("frame after %d: record %d with chain %s does not follow: %w", at.Seq, e.Seq(),
			e.Chain(), ErrDamaged)
	}
	return Item{Position{at.Log, e.Seq(), e.Chain()}, e, decision}, b[end:], nil
}
