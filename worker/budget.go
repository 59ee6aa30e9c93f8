package worker

import "sync/atomic"

// Budget is what all clients together have under way, in bytes, and its limit: so much memory may slow nodes cost,
// however many they are. A client with nothing under way is always given one turn, so nobody starves. Safe for
// concurrent use; nil has no limit.
type Budget struct {
	limit int64
	now   atomic.Int64
}

// NewBudget limits what is under way to limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

func (f *Budget) add(bytes int) {
	if f != nil && bytes != 0 {
		f.now.Add(int64(bytes))
	}
}

func (f *Budget) full() bool { return f != nil && f.now.Load() >= f.limit }

// Bytes is what is under way now.
func (f *Budget) Bytes() int64 {
	if f == nil {
		return 0
	}
	return f.now.Load()
}
