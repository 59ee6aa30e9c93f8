package door

import "sync"

// Step is how many bytes of a request are taken from the budget at a time, before they are read.
const Step = 64 << 10

// Budget is how many bytes of requests may be under way at all doors together, from their arrival until their answer.
// It never blocks: a door that gets nothing refuses or waits. All methods are for concurrent use.
//
// Who sends little is not shut out by who sends much: what requests have beyond their first Step takes at most half
// of the budget and a door whose messages arrive whole takes at most half, and both leave the last quarter to first
// steps. A large request that is the only one of its kind is always let in, however small the budget is.
type Budget struct {
	mu          sync.Mutex
	total       int64
	used, large int64 // large is the part of used that lies beyond the first steps
}

// NewBudget makes a budget of total bytes.
func NewBudget(total int64) *Budget { return &Budget{total: total} }

// Half is what a door whose messages arrive whole may have under way, and keep waiting, in bytes.
func (b *Budget) Half() int64 { return max(1, b.total/2) }

// Used is how many bytes are under way.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Lease is the part of one request. The zero value with a Budget has nothing yet.
type Lease struct {
	Budget      *Budget
	used, large int64
}

// Take adds n bytes to the lease; false when they are not to be had now.
func (l *Lease) Take(n int64) bool {
	b := l.Budget
	b.mu.Lock()
	defer b.mu.Unlock()
	large := max(0, l.used+n-Step) - l.large
	alone := b.used == l.used || large > 0 && b.large == l.large
	if large > 0 && (b.used+n > b.total/4*3 || b.large+large > b.Half()) && !alone || b.used+n > b.total && !alone {
		return false
	}
	b.used, b.large = b.used+n, b.large+large
	l.used, l.large = l.used+n, l.large+large
	return true
}

// TakeWhole adds n bytes of a message that has arrived whole, to the lease of a door that has one for all of its
// messages. Such a door has half of the budget at most, and one message alone is always let in.
func (l *Lease) TakeWhole(n int64) bool {
	b := l.Budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.used > 0 && (l.used+n > b.Half() || b.used+n > b.total/4*3) {
		return false
	}
	b.used, l.used = b.used+n, l.used+n
	return true
}

// Put gives n bytes back that were taken last.
func (l *Lease) Put(n int64) {
	l.Budget.mu.Lock()
	defer l.Budget.mu.Unlock()
	large := min(l.large, n)
	l.used, l.large = l.used-n, l.large-large
	l.Budget.used, l.Budget.large = l.Budget.used-n, l.Budget.large-large
}

// Release gives everything back.
func (l *Lease) Release() { l.Put(l.used) }
