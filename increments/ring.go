package increments

import (
	"sort"
	"sync"

	"xmq/broker/event"
)

// ring holds the newest records of the log as encoded, by groups as they were appended, so that readers
// near the head share one copy. It may hold nothing. Readers may read while the writer adds.
type ring struct {
	limit int // bytes of memory that is kept; one group is kept however long it is

	mu     sync.RWMutex
	bytes  int
	before event.Position // right before the first record held
	groups []group
}

// group is consecutive records that lie in memory of their own.
type group struct {
	first   uint64
	records []event.Encoded
	bytes   int
}

// reset empties the ring; the next record to add is the one behind before.
func (r *ring) reset(before event.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before, r.groups, r.bytes = before, nil, 0
}

// add takes over records, which follow the last one and keep memory of so many bytes alive, and lets go of the oldest groups.
func (r *ring) add(records []event.Encoded, memory int) {
	g := group{first: records[0].Seq(), records: records, bytes: memory + 24*cap(records)} // a slice header has 24
	r.mu.Lock()
	defer r.mu.Unlock()
	r.groups = append(r.groups, g)
	r.bytes += g.bytes
	for len(r.groups) > 1 && r.bytes > r.limit {
		old := r.groups[0]
		last := old.records[len(old.records)-1]
		r.before.Seq, r.before.Chain = last.Seq(), last.Chain()
		r.bytes -= old.bytes
		r.groups[0] = group{} // the array behind the slice must not hold its memory
		r.groups = r.groups[1:]
	}
}

// find returns the index of the group that holds seq; the ring must hold it.
func (r *ring) find(seq uint64) int {
	return sort.Search(len(r.groups), func(i int) bool { return r.groups[i].first > seq }) - 1
}

// read returns records from..to within the limits (at least one); false when from is not held. A whole
// group is shared without a copy, more than one are gathered.
func (r *ring) read(from, to uint64, maxRecords, maxBytes int) ([]event.Encoded, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.groups) == 0 || from <= r.before.Seq {
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
	for i, at := r.find(from), from; i < len(r.groups); i++ {
		g := r.groups[i]
		part, full := take(g.records[at-g.first:])
		if out == nil {
			out = part // capacity ends with it, so gathering more copies
		} else {
			out = append(out, part...)
		}
		if full {
			break
		}
		at = g.first + uint64(len(g.records))
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
	if len(r.groups) == 0 || seq < r.before.Seq {
		return event.Position{}, false
	}
	g := r.groups[r.find(seq)]
	if i := seq - g.first; i < uint64(len(g.records)) {
		return event.Position{Log: r.before.Log, Seq: seq, Chain: g.records[i].Chain()}, true
	}
	return event.Position{}, false
}

// size is the memory the ring holds, in bytes.
func (r *ring) size() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.bytes
}
