package increments

import (
	"fmt"

	"xmq/broker/disk"
)

// Trim frees the sealed segments whose records are all below keep and returns how many. The newest segment
// stays. keep must come from durable positions and pins only. Idempotency keys of the window are copied into the index first.
//
// The low-water mark is made durable first, then readers below it are refused, the last of them awaited,
// and the directories renamed and removed; a crash anywhere in between is finished by the next Open. It
// blocks for one sync, for running reads of these segments and for removing files; Append waits only for
// the sync. An error that wraps disk.ErrStopped means the process must end; any other one that files are
// left behind, for the next Trim or Open to remove. Rules: XQ-3, XD-25.
func (l *Log) Trim(keep uint64) (freed int, err error) {
	if err := l.indexBelow(keep); err != nil {
		return 0, fmt.Errorf("trim below %d: its idempotency keys: %w", keep, err)
	}
	old, err := l.unlist(keep)
	if err != nil {
		return 0, fmt.Errorf("trim below %d: %w", keep, err)
	}
	for i, g := range old {
		err := g.shut(true)
		if err == nil {
			err = l.storage.Drop(l.shelf.place, g.name)
		}
		if err != nil {
			l.leave(old[i:])
			return freed, fmt.Errorf("trim segment %s: %w", g.name, err)
		}
		freed++
	}
	return freed, nil
}

// leave keeps segments that are out of sight and could not be removed for the next Trim.
func (l *Log) leave(old []*segment) {
	l.write.Lock()
	defer l.write.Unlock()
	l.left = append(old, l.left...)
}

// unlist moves the low-water mark durably and takes the segments below it from readers' sight. It returns them behind those that
// an earlier Trim has left.
func (l *Log) unlist(keep uint64) ([]*segment, error) {
	l.write.Lock()
	defer l.write.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	list := l.shelf.segments()
	n := 0
	for n < len(list)-1 && list[n].Last < keep && list[n].Last <= l.index.through.Load() {
		n++
	}
	if n == 0 {
		left := l.left
		l.left = nil
		return left, nil
	}
	l.store.Lock()
	defer l.store.Unlock()
	var b disk.Batch
	b.Put(keyLow, number(list[n].First))
	if err := l.newest.db.Write(&b); err != nil {
		return nil, err
	}
	l.low.Store(list[n].First)
	rest := list[n:]
	l.shelf.list.Store(&rest)
	old := append(l.left, list[:n]...)
	l.left = nil
	return old, nil
}

// Span is the first and the last possible sequence of a segment.
type Span struct{ First, Last uint64 }

// Spans lists the segments that are kept, oldest first; there is always one, the newest, which is appended to.
func (l *Log) Spans() []Span {
	var all []Span
	for _, g := range l.shelf.segments() {
		all = append(all, Span(g.span))
	}
	return all
}
