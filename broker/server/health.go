package server

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"xmq/broker/disk"
	"xmq/broker/version"
)

// readyz answers a load balancer: 200 while increments are taken, else 503 with a sentence why not.
func (b *Broker) readyz(w http.ResponseWriter, _ *http.Request) {
	i := b.input()
	if i == nil {
		_, _ = io.WriteString(w, "ready\n")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = fmt.Fprintln(w, i)
}

// Header is what every screen begins with: who answers, and when.
type Header struct {
	Time      time.Time `json:"time"`
	Version   string    `json:"version"`
	Host      string    `json:"host"`
	Pid       int       `json:"pid"`
	Started   time.Time `json:"started"`
	Rate      float64   `json:"rate"` // increments taken a second, smoothed over some seconds
	DiskFree  uint64    `json:"disk_free"`
	DiskTotal uint64    `json:"disk_total"` // 0: it could not be asked
}

func (b *Broker) header() Header {
	host, _ := os.Hostname() // only for people
	h := Header{Time: time.Now().UTC(), Version: version.Version, Host: host, Pid: os.Getpid(), Started: b.started.UTC(),
		Rate: b.flow.perSecond()}
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
