package monitor

import (
	"sync"
	"time"
)

// Rate is how many of something pass in a second, smoothed over about five samples.
type Rate struct {
	mu   sync.Mutex
	last uint64
	at   time.Time
	rate float64
}

// Sample notes how many have passed until now.
func (r *Rate) Sample(n uint64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := now.Sub(r.at).Seconds(); !r.at.IsZero() && d > 0 {
		r.rate += (float64(n-r.last)/d - r.rate) / 5
		if r.rate < 0.01 {
			r.rate = 0
		}
	}
	r.last, r.at = n, now
}

// PerSecond is the rate of now.
func (r *Rate) PerSecond() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rate
}

// Sampled is when the last sample was noted.
func (r *Rate) Sampled() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}
