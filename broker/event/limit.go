package event

import (
	"encoding/binary"
	"fmt"
	"time"
)

// NoLimit as the Limit of Headers says that the increment may take any time at a database.
const NoLimit time.Duration = -1

// MinLimit and MaxLimit bound the time that an increment's Limit names.
const (
	MinLimit = time.Second
	MaxLimit = 30 * 24 * time.Hour
)

// ParseLimit reads a time limit as people and headers say it: a duration of MinLimit to MaxLimit ("90s", "2h"), of
// which fractions of a millisecond are left out, or "none" or "0" for NoLimit.
func ParseLimit(s string) (time.Duration, error) {
	if s == "none" || s == "0" || s == "0s" {
		return NoLimit, nil
	}
	d, err := time.ParseDuration(s)
	d = d.Truncate(time.Millisecond)
	if err != nil || d < MinLimit || d > MaxLimit {
		return 0, fmt.Errorf("%.40q is no time limit: say %s to %s, for example 90s or 2h, or none", s,
			FormatLimit(MinLimit), FormatLimit(MaxLimit))
	}
	return d, nil
}

// FormatLimit is d as ParseLimit reads it; "" for 0, which says nothing.
func FormatLimit(d time.Duration) string {
	switch d {
	case 0:
		return ""
	case NoLimit:
		return "none"
	}
	return d.String()
}

// CheckLimit returns an error unless d is 0, NoLimit or a limit within its bounds.
func CheckLimit(d time.Duration) error {
	if d == 0 || d == NoLimit || d >= MinLimit && d <= MaxLimit {
		return nil
	}
	return fmt.Errorf("a time limit of %s is not between %s and %s", d, MinLimit, MaxLimit)
}

// LimitSize is how many bytes a Limit takes in a record or a batch.
const LimitSize = 3 + limitValue

// limitValue is the length of its value: milliseconds, 0 for NoLimit.
const limitValue = 4

// appendLimit adds the header of a limit that is not 0.
func appendLimit(dst []byte, d time.Duration) []byte {
	dst = append(dst, headerLimit, limitValue, 0)
	return binary.LittleEndian.AppendUint32(dst, uint32(max(0, d)/time.Millisecond))
}

// readLimit reads the value of the header; 0 for one of another form, which a later version may write.
func readLimit(v []byte) time.Duration {
	if len(v) != limitValue {
		return 0
	}
	ms := binary.LittleEndian.Uint32(v)
	if ms == 0 {
		return NoLimit
	}
	return time.Duration(ms) * time.Millisecond
}
