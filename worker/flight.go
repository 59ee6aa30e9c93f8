package worker

import "sync/atomic"

// Flight is what all clients together have under way, in bytes, and its limit: so much memory may slow nodes cost, however many they
// are. A client with nothing under way is always given one turn, so nobody starves. Safe for concurrent use; nil has no limit.
type Flight struct {
	limit int64
	now   atomic.Int64
}

// NewFlight limits what is under way to limit bytes.
func NewFlight(limit int64) *Flight { return &Flight{limit: limit} }

func (f *Flight) add(bytes int) {
	if f != nil && bytes != 0 {
		f.now.Add(int64(bytes))
	}
}

func (f *Flight) full() bool { return f != nil && f.now.Load() >= f.limit }

// Bytes is what is under way now.
func (f *Flight) Bytes() int64 {
	if f == nil {
		return 0
	}
	return f.now.Load()
}
