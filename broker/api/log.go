package api

import (
	"time"

	"xmq/broker/event"
	"xmq/worker"
)

// Positions is the answer of GET /v1/positions.
type Positions struct {
	Broker  Header        `json:"broker"`
	Log     event.LogID   `json:"log"`
	Group   string        `json:"group"`
	Head    uint64        `json:"head"`
	First   uint64        `json:"first"`
	Chain   event.Chain   `json:"chain"`
	Input   *Input        `json:"input"` // why no increments are taken; null while they are
	Clients []worker.View `json:"clients"`
}

// LogInfo is the answer of GET /v1/log.
type LogInfo struct {
	Broker      Header         `json:"broker"`
	Log         event.LogID    `json:"log"`
	Group       string         `json:"group"`
	First       uint64         `json:"first"`
	Head        uint64         `json:"head"`
	Chain       event.Chain    `json:"chain"`
	Segments    int            `json:"segments"`
	Bytes       int64          `json:"bytes"`
	Quarantined []string       `json:"quarantined"`
	SyncP99MS   float64        `json:"sync_p99_ms"`
	Pin         *uint64        `json:"pin"`
	Holder      string         `json:"holder,omitempty"`
	MaxBytes    int64          `json:"max_bytes"` // the limit of the log; 0 for none
	Rebuilt     bool           `json:"rebuilt"`
	Commits     uint64         `json:"commits"`
	Taken       uint64         `json:"taken"`
	Refused     uint64         `json:"refused_events"`
	Dropped     uint64         `json:"dropped_events"`
	Checkpoint  event.Position `json:"checkpoint"`
	// MaxIncrement is the largest body that the doors take, in bytes.
	MaxIncrement int    `json:"max_increment"`
	Input        *Input `json:"input"`   // why no increments are taken; null while they are
	Indexed      uint64 `json:"indexed"` // the idempotency keys of all increments up to there are in the index
	IndexBytes   int64  `json:"index_bytes"`
}

// Checked is the answer of POST /v1/log/check and of CheckOffline: what was verified, and everything that is wrong.
type Checked struct {
	First      uint64            `json:"first"`
	Last       uint64            `json:"last"`
	Records    uint64            `json:"records"`              // verified
	Damaged    map[string]string `json:"damaged"`              // by segment: set aside, or missing
	Unreadable map[string]string `json:"unreadable,omitempty"` // by segment: could not be read this time
	// the log was acknowledged up to here at least; 0 when that is not known
	Checkpoint uint64 `json:"checkpoint"`
	Missing    string `json:"missing,omitempty"` // acknowledged increments are missing: how that shows
	Unknown    string `json:"unknown,omitempty"` // why nobody can say whether some are missing
}

// Line is one increment of GET /v1/increments.
type Line struct {
	Seq         uint64      `json:"seq"`
	Time        time.Time   `json:"time"`
	Chain       event.Chain `json:"chain"`
	Topic       string      `json:"topic,omitempty"`
	ContentType string      `json:"content_type,omitempty"`
	Producer    string      `json:"producer,omitempty"`
	Key         string      `json:"key,omitempty"`
	Number      *uint64     `json:"number,omitempty"` // instead of the key, when the producer counts
	Origin      string      `json:"origin,omitempty"`
	ApplyLimit  string      `json:"apply_limit,omitempty"`
	Body        []byte      `json:"body,omitempty"` // base64 in JSON
	Text        *string     `json:"text,omitempty"` // instead of the body, with text=1, when that is UTF-8
}

// Next is the last line of an answer of GET /v1/increments: where the next request goes on.
type Next struct {
	Next uint64 `json:"next"`
}
