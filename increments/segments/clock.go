package segments

import (
	"time"

	"xmq/broker/event"
)

// clock gives records their times: those of the broker's clock, but none before a time that nodes were told (Mark).
// What they end by the time of the log (keys with a time to live) is gone then, and must be for whoever reads the log
// later. While the broker's clock stands before that, because it was set back or the data lies on another machine
// now, the time of the log goes on at half speed until that clock has caught up.
type clock struct {
	told int64     // ns since 1970; 0: nothing
	seen time.Time // the broker's clock then
	last int64     // time of the last record
}

// apart is how far, at least, the times of two records lie apart: what a database can tell.
const apart = int64(time.Microsecond)

// next is the time of the next record of those that came at the time at. Each has one of its own, so that what an
// increment does with it (now(6) in MariaDB) meets no other's. Where the clock was set back, it is as it is.
func (c *clock) next(at int64) int64 {
	if at < c.last+apart && c.last-at < int64(time.Second) {
		at = c.last + apart
	}
	c.last = at
	return at
}

// at is the time of the log when the broker's clock shows now.
func (c *clock) at(now time.Time) int64 {
	if c.told == 0 {
		return now.UnixNano()
	}
	if c.seen.IsZero() {
		c.seen = now
	}
	passed := max(0, int64(now.Sub(c.seen))) // by its monotonic reading, where it has one
	return max(now.UnixNano(), c.told+passed/2)
}

// tell is at, as a time that nodes are told.
func (c *clock) tell(now time.Time) int64 {
	c.told, c.seen = c.at(now), now
	return c.told
}

// Mark implements increments.Log.
func (l *Log) Mark() (event.Position, int64) {
	l.write.Lock()
	defer l.write.Unlock()
	told := l.clock.tell(l.options.Now())
	if len(l.pending) == 0 {
		return l.Head(), told
	}
	return l.ahead, told
}

// Ahead implements increments.Log.
func (l *Log) Ahead() time.Duration {
	l.write.Lock()
	defer l.write.Unlock()
	now := l.options.Now()
	return time.Duration(l.clock.at(now) - now.UnixNano())
}

// Advance implements increments.Log.
func (l *Log) Advance(t int64) {
	l.write.Lock()
	defer l.write.Unlock()
	if t > l.clock.told {
		l.clock = clock{told: t, last: l.clock.last}
	}
}
