package monitor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// filling is a disk of which used says how much is taken after so long, asked as often as the watch asks.
type filling struct {
	trend
	free uint64
	used func(time.Duration) float64
	at   time.Duration
}

// until asks for so long and returns what was said in the end, and when first something was said.
func (f *filling) until(end time.Duration) (left time.Duration, soon bool, first time.Duration) {
	for ; f.at < end; f.at += time.Second {
		left, soon = f.left(f.free-uint64(f.used(f.at)), 1<<30, time.Unix(0, 0).Add(f.at))
		if soon && first == 0 {
			first = f.at
		}
	}
	return left, soon, first
}

const mib = 1 << 20

func steadily(perSecond float64) func(time.Duration) float64 {
	return func(d time.Duration) float64 { return perSecond * d.Seconds() }
}

// Nobody is woken for a disk with much room that has filled for some minutes: a trend is told when the disk fills
// steadily, and not further ahead than it has been seen for a good part of.
func TestAShortOrUnsteadyTrendOfTheDiskIsNotTold(t *testing.T) {
	f := &filling{free: 23 << 30, used: steadily(1.2 * mib)} // 5 h
	_, _, first := f.until(40 * time.Minute)
	require.Zero(t, first, "five hours are not told after minutes")
	left, soon, first := f.until(80 * time.Minute)
	require.True(t, soon)
	require.Greater(t, first, 40*time.Minute)
	require.InDelta(t, float64(22<<10)/1.2-80*60, left.Seconds(), 30)

	f = &filling{free: 23 << 30, used: steadily(40 * mib)} // 9 min
	_, soon, first = f.until(3 * time.Minute)
	require.True(t, soon, "what comes at once is told at once")
	require.Less(t, first, 2*time.Minute)

	for name, used := range map[string]func(time.Duration) float64{
		"one large file": func(d time.Duration) float64 { return mib * min(d.Seconds(), 60) * 100 },
		"made and removed": func(d time.Duration) float64 {
			return mib * (d.Seconds() - 300*float64(d/(5*time.Minute))) * 10
		},
		"nothing":      steadily(0),
		"very slow":    steadily(0.1 * mib),
		"it gets free": func(d time.Duration) float64 { return 8<<30 - mib*d.Seconds() },
	} {
		f := &filling{free: 23 << 30, used: used}
		_, _, first := f.until(3 * time.Hour)
		require.Zero(t, first, name)
	}
}

// A disk that was quiet for hours and begins to fill is told by what it does now.
func TestTheTrendOfTheDiskForgetsQuietHours(t *testing.T) {
	f := &filling{free: 23 << 30, used: func(d time.Duration) float64 {
		return 20 * mib * max(0, (d-3*time.Hour).Seconds())
	}}
	_, _, first := f.until(3*time.Hour + 10*time.Minute)
	require.Greater(t, first, 3*time.Hour)
	left, soon, _ := f.until(3*time.Hour + 12*time.Minute)
	require.True(t, soon)
	require.InDelta(t, float64(22<<10)/20-12*60, left.Seconds(), 60)
	require.LessOrEqual(t, len(f.samples), trendMost)
}

// What lies at the border of what is told does not come and go.
func TestATrendAtTheBorderStands(t *testing.T) {
	f := &filling{free: 23 << 30, used: steadily(0.94 * mib)}
	_, soon, first := f.until(90 * time.Minute)
	require.True(t, soon)
	f.used = func(d time.Duration) float64 { return 0.94*mib*d.Seconds() - mib*200 } // 200 MiB were freed
	for range 20 {
		_, soon, _ = f.until(f.at + 10*time.Second)
		require.True(t, soon, first)
	}
}
