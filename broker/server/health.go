package server

import (
	"os"
	"sync"
	"time"

	"xmq/broker/api"
	"xmq/broker/disk"
	"xmq/broker/version"
)

func (b *Broker) header() api.Header {
	host, _ := os.Hostname() // only for people
	h := api.Header{Time: time.Now().UTC(), Version: version.Version, Host: host, Pid: os.Getpid(),
		Started: b.started.UTC(), Rate: b.flow.perSecond()}
	if free, total, err := disk.Space(b.stores.dir); err == nil {
		h.DiskFree, h.DiskTotal = free, total
	}
	return h
}

// flow is how many of something pass in a second, smoothed over about five samples.
type flow struct {
	mu   sync.Mutex
	last uint64
	at   time.Time
	rate float64
}

// sample notes how many have passed until now.
func (f *flow) sample(n uint64, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := now.Sub(f.at).Seconds(); !f.at.IsZero() && d > 0 {
		f.rate += (float64(n-f.last)/d - f.rate) / 5
		if f.rate < 0.01 {
			f.rate = 0
		}
	}
	f.last, f.at = n, now
}

func (f *flow) perSecond() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rate
}
