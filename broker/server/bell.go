package server

import (
	"sync"
)

// bell wakes everybody who waits for the head of the log to move.
type bell struct {
	mu   sync.Mutex
	rung chan struct{} // nil while nobody waits
}

// next is closed when the bell rings the next time.
func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung == nil {
		b.rung = make(chan struct{})
	}
	return b.rung
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung != nil {
		close(b.rung)
		b.rung = nil
	}
}
