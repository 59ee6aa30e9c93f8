package api

import (
	"fmt"
	"time"

	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/statedb"
	"xmq/worker"
)

// Status is the answer of GET /v1/status: what a person who has just been woken must know.
type Status struct {
	Broker   Header           `json:"broker"`
	Input    *Input           `json:"input"` // why no increments are taken; null while they are
	Group    string           `json:"group"`
	Log      event.LogID      `json:"log"`
	First    uint64           `json:"first"`
	Head     uint64           `json:"head"`
	Severity statedb.Severity `json:"severity,omitempty"` // of the worst of what is wrong; empty when all is well
	// Alerts are those that last, the worst first, of equals the oldest.
	Alerts []AlertView `json:"alerts"`
	// Clients is how many there are of which it is so.
	Clients map[worker.Is]int `json:"clients"`
	// Wrong are the clients with which something is wrong, the worst first.
	Wrong []worker.View `json:"wrong"`
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

// Input says why the broker takes no increments now, and since when: the first line of every screen.
type Input struct {
	Code  door.Code `json:"code"`
	Text  string    `json:"text"`
	Since time.Time `json:"since"`
}

// String is what screens begin with.
func (i *Input) String() string {
	what := "REFUSED"
	if i.Code == door.Held {
		what = "HELD"
	}
	return fmt.Sprintf("INPUT IS %s since %s (%s): %s", what, i.Since.UTC().Format("2006-01-02 15:04:05Z"), i.Code, i.Text)
}
