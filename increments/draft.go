package increments

import (
	"fmt"
	"strings"

	"xmq/broker/event"
)

// MaxRecord is the longest encoded record, in bytes: one must fit into a frame of one event.
const MaxRecord = event.MaxBody - 5

// MaxJump is how far above its highest number a producer may count on at once.
const MaxJump = 1 << 20

// RecordSize is the length of a draft once encoded, in bytes.
func RecordSize(d *event.Draft) int {
	n := 30 + len(d.Body) // see event's doc.go
	for _, h := range [...]string{d.Topic, d.ContentType, d.Origin, d.Producer, d.Key} {
		if h != "" {
			n += 3 + len(h)
		}
	}
	if d.TextKey {
		n += event.TextKeySize
	}
	if d.Limit != 0 {
		n += event.LimitSize
	}
	return n
}

// CheckDraft refuses a draft that no record can hold: ErrInvalid, ErrTooLarge.
func CheckDraft(d *event.Draft) error {
	if len(d.Body) == 0 {
		return fmt.Errorf("%w: the body is empty", ErrInvalid)
	}
	if n := RecordSize(d); n > MaxRecord {
		return fmt.Errorf("%w: %d bytes, allowed are %d", ErrTooLarge, n, MaxRecord)
	}
	for _, h := range [...]string{d.Topic, d.ContentType, d.Origin, d.Producer, d.Key} {
		if len(h) > event.MaxHeaderValue {
			return fmt.Errorf("%w: a header of %d bytes, allowed are %d", ErrTooLarge, len(h), event.MaxHeaderValue)
		}
	}
	if strings.IndexByte(d.Producer, 0) >= 0 {
		return fmt.Errorf("%w: the producer's name holds a NUL", ErrInvalid)
	}
	return nil
}
