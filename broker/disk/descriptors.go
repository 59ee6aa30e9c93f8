package disk

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrDescriptors is returned, wrapped around the cause, when the process or the machine has no file descriptor left. It is
// said before anything was written: a read may be tried again, and so may Ground.Create. It never trips the latch.
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
type shortage struct{ waiting atomic.Int32 }

// wait returns after a pause, or when the latch has tripped.
func (s *shortage) wait(latch *Latch) {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	select {
	case <-time.After(descriptorPause):
	case <-latch.Poisoned():
	}
}

// Short reports whether a write waits until a descriptor is free again. Input should be refused meanwhile.
func (g *Ground) Short() bool { return g.short.waiting.Load() > 0 }
