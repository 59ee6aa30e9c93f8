package disk

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrDescriptors is returned, wrapped around the cause, when the process or the machine has no file descriptor left.
// It is said before anything was written: a read may be tried again, and so may Storage.Create. It never trips the
// latch.
var ErrDescriptors = errors.New("no file descriptor is left")

// noDescriptor reports whether err says that no descriptor is left. No call on a file that is open answers so.
func noDescriptor(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// asDescriptors makes err one of the class ErrDescriptors when it belongs there.
func asDescriptors(err error) error {
	if noDescriptor(err) && !errors.Is(err, ErrDescriptors) {
		return fmt.Errorf("%w: %w", ErrDescriptors, err)
	}
	return err
}

// descriptorPause is the time between two tries to get a descriptor.
const descriptorPause = 50 * time.Millisecond

// shortage counts who waits for a descriptor.
type shortage struct {
	waiting atomic.Int32
	ends    atomic.Int64 // nobody waits after that, in ns since 1970; 0 for no end
}

// wait returns after a pause, or when the latch has tripped. When the time to wait is over it trips the latch: what was
// to be written is not, and nothing may be written after it.
func (s *shortage) wait(latch *Latch) {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	if end := s.ends.Load(); end != 0 && time.Now().UnixNano() > end {
		// the caller asks the latch
		_ = latch.Trip(fmt.Errorf("a write has waited for a file descriptor until the broker had to stop: %w",
			ErrDescriptors))
		return
	}
	select {
	case <-time.After(descriptorPause):
	case <-latch.Poisoned():
	}
}

// Hurry bounds how long writes still wait for a descriptor: a process that ends does not wait for ever. Those that have
// none by then trip the latch.
func (s *Storage) Hurry(limit time.Duration) { s.short.ends.Store(time.Now().Add(limit).UnixNano()) }

// Short reports whether a write waits until a descriptor is free again. Input should be refused meanwhile.
func (s *Storage) Short() bool { return s.short.waiting.Load() > 0 }
