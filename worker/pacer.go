package worker

import (
	"sync/atomic"
	"time"
)

// Pacer counts the connected clients of a broker, and those it expects back, and says how rarely each may speak, so
// that the heartbeats of many cost no more than those of a few. Safe for concurrent use; nil lets everybody speak as
// usual.
type Pacer struct{ clients atomic.Int64 }

// Heartbeats that all clients together may say in a second, and how often a node says one by itself.
const (
	heartbeats    = 400
	usualInterval = 5 * time.Second
)

// unheard is how many heartbeats may be lost before a client counts as silent.
const unheard = 3

// count takes one client more, or one less.
func (c *Pacer) count(more bool) {
	switch {
	case c == nil:
	case more:
		c.clients.Add(1)
	default:
		c.clients.Add(-1)
	}
}

// interval is how long each client may be silent; 0 for as usual.
func (c *Pacer) interval() time.Duration {
	if c == nil {
		return 0
	}
	if d := time.Duration(c.clients.Load()) * time.Second / heartbeats; d > usualInterval {
		return d
	}
	return 0
}

// silentAfter is how many ticks after its last word a client counts as silent. told is the interval it knows: there may
// have been more of them then.
func (r *Rules) silentAfter(told time.Duration) int {
	return max(r.SilentTicks, int((unheard*max(told, r.Pacer.interval())+r.Tick-1)/max(1, r.Tick)))
}
