package segments

import (
	"sort"
	"sync"

	"xmq/broker/event"
)

// ring holds the newest records of the log as encoded, in slabs as they were appended, so that readers
// near the head share one copy. It may hold nothing. Readers may read while the writer adds.
type ring struct {
	limit int // bytes of memory that is kept; one slab is kept however long it is

	mu     sync.RWMutex
	bytes  int
	before event.Position // right before the first record held
	slabs  []slab
}

// slab is consecutive records that lie in memory of their own.
type slab struct {
	first   uint64
	records []event.Encoded
	bytes   int
}

// reset empties the ring; the next record to add is the one after before.
func (r *ring) reset(before event.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before, r.slabs, r.bytes = before, nil, 0
}

// add takes over records, which follow the last one and keep memory of so many bytes alive, and lets go of the oldest
// slabs.
func (r *ring) add(records []event.Encoded, memory int) {
	s := slab{first: records[0].Seq(), records: records, bytes: memory + 24*cap(records)} // a slice header has 24
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slabs = append(r.slabs, s)
	r.bytes += s.bytes
	for len(r.slabs) > 1 && r.bytes > r.limit {
		old := r.slabs[0]
		last := old.records[len(old.records)-1]
		r.before.Seq, r.before.Chain = last.Seq(), last.Chain()
		r.bytes -= old.bytes
		r.slabs[0] = slab{} // the array behind the slice must not hold its memory
		r.slabs = r.slabs[1:]
	}
}

// find returns the index of the slab that holds seq; the ring must hold it.
func (r *ring) find(seq uint64) int {
	return sort.Search(len(r.slabs), func(i int) bool { return r.slabs[i].first > seq }) - 1
}

// read returns records from..to within the limits (at least one); false when from is not held. A whole
// slab is shared without a copy, more than one are gathered.
func (r *ring) read(from, to uint64, maxRecords, maxBytes int) ([]event.Encoded, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.slabs) == 0 || from <= r.before.Seq {
		return nil, false
	}
	n, bytes := 0, 0
	take := func(records []event.Encoded) (part []event.Encoded, full bool) {
		for i, e := range records {
			if n > 0 && (n >= maxRecords || bytes+len(e) > maxBytes) || e.Seq() > to {
				return records[:i:i], true
			}
			n, bytes = n+1, bytes+len(e)
		}
		return records[:len(records):len(records)], false
	}
	var out []event.Encoded
	for i, at := r.find(from), from; i < len(r.slabs); i++ {
		s := r.slabs[i]
		part, full := take(s.records[at-s.first:])
		if out == nil {
			out = part // capacity ends with it, so gathering more copies
		} else {
			out = append(out, part...)
		}
		if full {
			break
		}
		at = s.first + uint64(len(s.records))
	}
	return out, true
}

// position returns the position at seq; false when the ring does not know it.
func (r *ring) position(seq uint64) (event.Position, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if seq == r.before.Seq {
		return r.before, true
	}
	if len(r.slabs) == 0 || seq < r.before.Seq {
		return event.Position{}, false
	}
	s := r.slabs[r.find(seq)]
	if i := seq - s.first; i < uint64(len(s.records)) {
		return event.Position{Log: r.before.Log, Seq: seq, Chain: s.records[i].Chain()}, true
	}
	return event.Position{}, false
}

// size is the memory the ring holds, in bytes.
func (r *ring) size() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.bytes
}
