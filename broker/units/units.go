// Package units writes numbers, sizes and durations for people: one way on all screens, in all errors and alerts.
//
//	Count(1234567)           1,234,567
//	Of(1, "increment")       1 increment
//	Span(74 * time.Minute)   1 h 14 m
//	Bytes(3 << 20)           3.0 MiB
package units

import (
	"fmt"
	"strconv"
	"time"
)

// Count writes a number with commas.
func Count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Of writes how many there are of a thing: "1 increment", "3,615 increments".
func Of(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return Count(n) + " " + thing + "s"
}

// Do writes how many of a thing do something: "1 increment runs", "3,615 increments run".
func Do(n uint64, thing, one, more string) string {
	if n == 1 {
		return "1 " + thing + " " + one
	}
	return Of(n, thing) + " " + more
}

// Span writes a duration in its two greatest units: "1 h 12 m", "1 m 32 s", "0.2 s".
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d m %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d m", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// Bytes writes a number of bytes in one of its units.
func Bytes(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 10<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n < 10<<30:
		return Count(uint64(n)>>20) + " MiB"
	}
	return Count(uint64(n)>>30) + " GiB"
}

// Stamp writes a time with its date and zone; a dash for the zero time.
func Stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}
