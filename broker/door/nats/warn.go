package nats

import (
	"fmt"
	"sync"
	"time"
)

// The bounds of what is told of requests that cannot be answered: whoever sends many, or under many names, costs
// neither memory nor log.
const (
	warnEvery  = 10 * time.Second // of one subject
	mostWarned = 32               // subjects that are told apart; the others are told of as one
	others     = ""               // their name
)

// warnings are what was told lately of requests that cannot be answered. Safe for concurrent use.
type warnings struct {
	mu sync.Mutex
	of map[string]warning // by subject
}

// warning is when requests under a subject were told of last, and how many have been dropped since.
type warning struct {
	told    time.Time
	dropped int
}

// drop counts a request that was dropped: whether it is to be told, and of how many since the last time.
func (w *warnings) drop(subject string, now time.Time) (count int, tell bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of == nil {
		w.of = make(map[string]warning)
	}
	if _, known := w.of[subject]; !known && len(w.of) >= mostWarned {
		for name, at := range w.of {
			if now.Sub(at.told) >= warnEvery {
				delete(w.of, name)
			}
		}
	}
	if _, known := w.of[subject]; !known && len(w.of) >= mostWarned {
		subject = others
	}
	at := w.of[subject]
	at.dropped++
	count, tell = at.dropped, at.told.IsZero() || now.Sub(at.told) >= warnEvery
	if tell {
		at = warning{told: now}
	}
	w.of[subject] = at
	return count, tell
}

// clip is the beginning of what somebody sent.
func clip(s string) string { return fmt.Sprintf("%.100s", s) }
