package dumpflow

import (
	"sync"
	"sync/atomic"
)

// dirSyncer syncs the names in a directory for many at once: one sync serves everybody who came before it began.
type dirSyncer struct {
	do    func() error // syncs the directory
	mu    sync.Mutex   // held while a sync runs
	asked atomic.Uint64
	done  uint64 // what was asked before the last good sync began
	// of the first bad sync, and everybody's from then on: a second one may call good what the first one has lost
	err error
}

// sync returns when all names that were there when it was called are durable. It blocks for at most two disk syncs.
func (d *dirSyncer) sync() error {
	mine := d.asked.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done >= mine {
		return nil
	}
	if d.err != nil {
		return d.err
	}
	upTo := d.asked.Load()
	if d.err = d.do(); d.err == nil {
		d.done = upTo
	}
	return d.err
}
