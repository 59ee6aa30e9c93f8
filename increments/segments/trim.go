package segments

import (
	"fmt"

	"xmq/broker/disk"
	"xmq/increments"
)

// Trim implements increments.Log. Idempotency keys of the window are copied into the index first. The low-water mark
// is made durable, then readers below it are refused, the last of them awaited, and the directories renamed and
// removed; a crash anywhere in between is finished by the next Open.
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
			err = l.storage.Drop(l.set.place, g.name)
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

// unlist moves the low-water mark durably and takes the segments below it from readers' sight. It returns them after
// those that an earlier Trim has left.
func (l *Log) unlist(keep uint64) ([]*segment, error) {
	l.write.Lock()
	defer l.write.Unlock()
	if l.closed {
		return nil, increments.ErrClosed
	}
	list := l.set.segments()
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
	l.set.list.Store(&rest)
	old := append(l.left, list[:n]...)
	l.left = nil
	return old, nil
}

// Spans implements increments.Log: the segments that are kept.
func (l *Log) Spans() []increments.Span {
	var all []increments.Span
	for _, g := range l.set.segments() {
		all = append(all, increments.Span(g.span))
	}
	return all
}
