package monitor

import (
	"time"
)

// What a trend needs before it says anything: how often it is sampled, more rarely as it knows more; from how many
// samples on, and how many there are; how near the end of the free space has to be; and how many times as far as it
// has looked back it looks ahead. Whatever fills the disk for some minutes alone is no reason to wake anybody.
const (
	trendEvery  = 10 * time.Second
	trendRarest = 40 * time.Second
	trendLeast  = 9
	trendMost   = 128
	trendNear   = 6 * time.Hour
	trendReach  = 6
)

// trend is how fast a disk has filled lately.
type trend struct {
	samples []sample // in order of time
	every   time.Duration
	told    bool // it said how long, when it was asked last
}

type sample struct {
	at   time.Time
	free uint64
}

// left takes what is free now and tells in how long less than least will be. It is false when that is far away, when
// the disk does not fill steadily, or when it was not watched for long enough to say so.
func (t *trend) left(free, least uint64, now time.Time) (in time.Duration, soon bool) {
	t.note(sample{now, free})
	near := trendNear
	if t.told {
		near += trendNear / 2 // what stands at the border does not come and go
	}
	t.told = false
	for all := t.samples; len(all) >= trendLeast && free > least; all = all[len(all)/2:] {
		perSecond, steady := fit(all)
		if !steady {
			continue
		}
		left := float64(free-least) / perSecond
		if span := now.Sub(all[0].at); left <= min(near, trendReach*span).Seconds() {
			t.told = true
			return time.Duration(left * float64(time.Second)), true
		}
	}
	return 0, false
}

// note keeps a sample, if it is time for one.
func (t *trend) note(s sample) {
	t.every = max(t.every, trendEvery)
	n := len(t.samples)
	switch {
	case n > 0 && s.at.Sub(t.samples[n-1].at) < t.every:
		return
	case n == trendMost && t.every < trendRarest:
		for i := range n / 2 {
			t.samples[i] = t.samples[2*i+1]
		}
		t.samples, t.every = t.samples[:n/2], 2*t.every
	case n == trendMost:
		t.samples = append(t.samples[:0], t.samples[1:]...)
	}
	t.samples = append(t.samples, s)
}

// fit is the rate, in bytes a second, at which the free space shrinks: the line of least squares through all samples.
// steady: every quarter of them has it, give or take the half.
func fit(all []sample) (perSecond float64, steady bool) {
	first := all[0]
	point := func(s sample) (seconds, used float64) {
		return s.at.Sub(first.at).Seconds(), float64(first.free) - float64(s.free)
	}
	var x, y, xx, xy float64
	for _, s := range all {
		seconds, used := point(s)
		x, y, xx, xy = x+seconds, y+used, xx+seconds*seconds, xy+seconds*used
	}
	n := float64(len(all))
	if perSecond = (n*xy - x*y) / (n*xx - x*x); !(perSecond > 0) {
		return 0, false
	}
	for q, last := 0, len(all)-1; q < 4; q++ {
		from, before := point(all[q*last/4])
		to, after := point(all[(q+1)*last/4])
		if rate := (after - before) / (to - from); rate < perSecond/2 || rate > 2*perSecond {
			return 0, false
		}
	}
	return perSecond, true
}
