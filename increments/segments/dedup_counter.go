package segments

import (
	"encoding/binary"
	"fmt"
	"slices"

	"xmq/broker/disk"
	"xmq/increments"
)

// counter is where a producer's numbers stand.
type counter struct {
	highest uint64
	counted bool   // there is a highest one: false before the first, and after a reset
	sparse  bool   // its first one said that they leave gaps of any size
	reset   uint64 // the log's end at the last reset: numbers up to there may be above the highest; 0 for never
}

// The flags of a counter's second format.
const (
	counterCounted = 1
	counterSparse  = 2
)

// value is the counter as stored: in the first format when that can say all of it.
func (c counter) value() []byte {
	if c.counted && !c.sparse && c.reset == 0 {
		return number(c.highest)
	}
	b := binary.LittleEndian.AppendUint64([]byte{formatKeys}, c.highest)
	flags := byte(0)
	if c.counted {
		flags |= counterCounted
	}
	if c.sparse {
		flags |= counterSparse
	}
	return binary.LittleEndian.AppendUint64(append(b, flags), c.reset)
}

func parseCounter(b []byte) (counter, error) {
	if len(b) == 18 && b[0] == formatKeys && b[9] <= counterCounted|counterSparse {
		return counter{highest: binary.LittleEndian.Uint64(b[1:]), counted: b[9]&counterCounted != 0,
			sparse: b[9]&counterSparse != 0, reset: binary.LittleEndian.Uint64(b[10:])}, nil
	}
	n, err := parseNumber(b)
	return counter{highest: n, counted: true}, err
}

// Reset implements increments.Log.
func (l *Log) Reset(producer string) (highest uint64, counted bool, err error) {
	l.write.Lock()
	defer l.write.Unlock()
	if l.closed {
		return 0, false, increments.ErrClosed
	}
	c, known := l.counters[producer]
	if !known {
		return 0, false, fmt.Errorf("producer %.40s %w", producer, increments.ErrNoProducer)
	}
	if len(l.pending) == 0 {
		l.ahead = l.Head()
	}
	anew := counter{reset: l.ahead.Seq}
	l.counters[producer] = anew
	// groups prepared before would overwrite it with their own numbers; those that follow go on from it, and say both
	l.settled()
	l.store.Lock()
	defer l.store.Unlock()
	if l.closed {
		return 0, false, increments.ErrClosed
	}
	// such a one may be on disk already: it must not be undone
	if l.counters[producer] != anew && l.Head().Seq > anew.reset {
		l.store.Unlock()
		l.settled()
		l.store.Lock()
		if err := l.storage.Latch().Err(); err != nil {
			return 0, false, fmt.Errorf("reset producer %s: %w", producer, err)
		}
		return c.highest, c.counted, nil
	}
	var b disk.Batch
	b.Put(counterKey(producer), anew.value())
	if err := l.newest.db.Write(&b); err != nil {
		return 0, false, fmt.Errorf("reset producer %s: %w", producer, err)
	}
	return c.highest, c.counted, nil
}

// settled waits until what is prepared now is committed. Caller holds write, which is free meanwhile.
func (l *Log) settled() {
	for before := slices.Clone(l.pending); slices.ContainsFunc(before,
		func(g *AppendGroup) bool { return slices.Contains(l.pending, g) }); {
		l.committed.Wait()
	}
}
