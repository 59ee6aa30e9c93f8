package disk

import (
	"errors"
	"fmt"
	"sync"
)

// ErrStopped is returned, wrapped around the cause, by every mutating call after the first failed write,
// sync, create or rename of any database of the same Storage. The outcome of the call that failed is
// unknown; calls after it have not touched the disk. The process must end: nothing is retried.
var ErrStopped = errors.New("storage has stopped after a failed write")

// Latch keeps the first storage error of one data directory. All databases there share it: one bad disk,
// one decision. It is for concurrent use.
type Latch struct {
	onPoison func(error)
	poisoned chan struct{}

	mu  sync.Mutex
	err error
}

// NewLatch returns an open latch. onPoison may be nil; it is called once, in its own goroutine, with the
// first error. It decides what happens: stop taking input, answer waiters "unknown", exit with 74 within
// 2 s. It should not close databases, because that may wait for compactions.
func NewLatch(onPoison func(error)) *Latch {
	return &Latch{onPoison: onPoison, poisoned: make(chan struct{})}
}

// Trip stores err if it is the first, and returns the stored first error, which wraps ErrStopped and err.
func (l *Latch) Trip(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = fmt.Errorf("%w: %w", ErrStopped, err)
		close(l.poisoned)
		if l.onPoison != nil {
			go l.onPoison(l.err)
		}
	}
	return l.err
}

// Err returns the first error, or nil while all is well.
func (l *Latch) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Poisoned is closed by the first Trip.
func (l *Latch) Poisoned() <-chan struct{} { return l.poisoned }
