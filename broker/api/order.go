package api

import (
	"time"

	"xmq/statedb"
)

// Caller is what the caller of an order says of itself. It stands in the audit list beside what the broker knows.
type Caller struct {
	Via string `json:"via,omitempty"` // at most 100 bytes
	By  string `json:"by,omitempty"`  // the same, as earlier tools named it
}

// Order is the body of POST /v1/clients/{id}/{verb}.
type Order struct {
	Seq    uint64   `json:"seq,omitempty"`
	Topics []string `json:"topics,omitempty"` // add
	Body   []byte   `json:"body,omitempty"`   // base64 in JSON
	// retry, replace: how long the increment may be at the database, see event.ParseLimit
	Limit  string `json:"limit,omitempty"`
	Reason string `json:"reason,omitempty"`
	// seek, forget, redump: it is meant, whatever it takes away
	Confirm bool `json:"confirm,omitempty"`
	Caller
}

// Ordered is the answer of POST /v1/clients/{id}/{verb}.
type Ordered struct {
	Client string    `json:"client"`
	Done   string    `json:"done"`
	Seq    uint64    `json:"seq,omitempty"` // the increment that it is about; of seek, the next one
	Told   string    `json:"told"`          // what it does, in one sentence
	From   uint64    `json:"from"`          // the position of the client before and after it
	To     uint64    `json:"to"`
	At     time.Time `json:"at"`
}

// Retried is one client in the answer of POST /v1/clients/retry.
type Retried struct {
	Client  string    `json:"client"`
	Seq     uint64    `json:"seq"`
	Refused string    `json:"refused,omitempty"` // one sentence, when nothing was ordered
	To      uint64    `json:"to,omitempty"`      // as in Ordered
	At      time.Time `json:"at,omitzero"`
	// Connected is false where the order is carried out when the client's node comes.
	Connected bool `json:"connected"`
}

// ProducerReset is the answer of POST /v1/producers/{id}/reset.
type ProducerReset struct {
	Producer string  `json:"producer"`
	Highest  *uint64 `json:"highest"` // until now; null when the counter was reset before and has not counted since
	Done     string  `json:"done"`
}

// AuditView is one act of an operator as the outside sees it.
type AuditView struct {
	Number uint64    `json:"number"`
	Time   time.Time `json:"time"`
	Verb   string    `json:"verb"`
	Client string    `json:"client,omitempty"`
	Seq    uint64    `json:"seq,omitempty"`
	Alert  string    `json:"alert,omitempty"` // the key of the alert that it is about
	From   uint64    `json:"from,omitempty"`  // the position of the client before and after it; both 0 where it moved none
	To     uint64    `json:"to,omitempty"`
	Limit  string    `json:"limit,omitempty"`
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"`
	Via    string    `json:"via,omitempty"`
}

// EventView is one row of the timeline as the outside sees it.
type EventView struct {
	Number   uint64           `json:"number"`
	Time     time.Time        `json:"time"`
	Kind     statedb.Kind     `json:"event"`
	Alert    string           `json:"alert,omitempty"`
	Severity statedb.Severity `json:"severity,omitempty"`
	Client   string           `json:"client,omitempty"`
	Seq      uint64           `json:"seq,omitempty"`
	Cause    string           `json:"cause,omitempty"`
	By       string           `json:"by,omitempty"`
}
