package producer

import (
	"time"

	"xmq/broker/event"
)

// The size of one batch. A larger single draft goes alone.
const (
	batchDrafts = 2048
	batchBytes  = 128 << 10
)

// batch is drafts that travel together.
type batch struct {
	number  uint64 // of the batch; 0 while it forms
	first   uint64 // number of its first draft, from 1
	count   int    // drafts
	data    []byte // packed drafts, without the CRC
	bytes   int    // of its drafts, as the window counts them
	waiters []waiter

	tries   int       // how often it was sent
	vain    int       // of these, the tries of which the broker has said that it stored nothing
	sent    time.Time // the last time
	sending bool      // its data is being read
	answer  *event.BatchReply
}

// waiter is a PublishWait.
type waiter struct {
	index  int // of the draft in its batch
	answer chan<- verdict
}

// verdict is what became of one draft.
type verdict struct {
	seq uint64
	err error
}

// full reports whether size more bytes have no place in b.
func (b *batch) full(size int) bool {
	return b.count == batchDrafts || b.count > 0 && len(b.data)+size > batchBytes
}

// add packs one more draft.
func (b *batch) add(d *event.Draft, size int) {
	if len(b.data) == 0 {
		b.data = event.BeginBatch(b.data)
	}
	b.data = event.AppendDraft(b.data, d)
	b.count, b.bytes = b.count+1, b.bytes+size
}
