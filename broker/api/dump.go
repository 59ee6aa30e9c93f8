package api

import (
	"time"

	"xmq/broker/event"
)

// DumpView is one DUMP as the outside sees it.
type DumpView struct {
	ID         event.DumpID `json:"id"`
	Target     string       `json:"target"`
	Requesters []string     `json:"requesters"` // waiting and served
	Waiting    []string     `json:"waiting"`
	Seq        uint64       `json:"seq"`
	State      string       `json:"state"`
	PauseMS    float64      `json:"pause_ms"`
	Bytes      int64        `json:"bytes"`
	Chunks     int          `json:"chunks"`
	DurationMS int64        `json:"duration_ms"`
	Format     string       `json:"format,omitempty"`
	Opened     *time.Time   `json:"opened,omitempty"` // when the snapshot was opened: it holds the data of then
	Error      string       `json:"error,omitempty"`
	// NotLoaded is why requesters could not use it, in their own words.
	NotLoaded []DumpTrouble `json:"not_loaded,omitempty"`
	// LeftOut is what requesters that have loaded it had to leave out.
	LeftOut []DumpTrouble `json:"left_out,omitempty"`
}

// DumpTrouble is what one requester says of a DUMP.
type DumpTrouble struct {
	ID   string    `json:"id"`
	Text string    `json:"text"`
	Time time.Time `json:"time"`
}
