package statedb

// Severity of an alert.
type Severity string

// The severities.
const (
	Note     Severity = "note" // worth knowing; nobody has to be woken
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// AlertVersion is the format number of a stored Alert.
const AlertVersion = 1

// Alert is something an operator must see: kept until cleared, listed, sent to hooks. Rule: XQ-10.
type Alert struct {
	V        int      `json:"v"`
	Key      string   `json:"key"` // what it is about, "fail/node1": raising it again counts
	Severity Severity `json:"severity"`
	Client   string   `json:"client,omitempty"`
	Seq      uint64   `json:"seq,omitempty"`
	Text     string   `json:"text"` // at most MaxText bytes, cut safely
	// what kind of way out there is, in the words of package worker: which one it is, is said when the alert is shown
	Way     string `json:"way,omitempty"`
	First   int64  `json:"first"` // ns since 1970
	Last    int64  `json:"last"`
	Count   uint64 `json:"count"`
	Acked   bool   `json:"acked"`             // an operator has seen it
	Cleared int64  `json:"cleared,omitempty"` // ns since 1970; 0 while it lasts
}

// MaxText is the longest text of an alert, in bytes.
const MaxText = 4096

// KeptAlerts is how many cleared alerts stay listed; a tenth more may be there until the oldest are removed.
const KeptAlerts = 1000

// AuditVersion is the format number of a stored Audit.
//
//	1  by is what the caller said of itself
//	2  by is what the broker knew, via what the caller said
//	3  the key of an alert that was acknowledged or cleared stands in alert; before, in reason
const AuditVersion = 3

// Audit is one act of an operator. Entries are numbered from 1 and never removed.
type Audit struct {
	V      int    `json:"v"`
	Number uint64 `json:"number"`
	Time   int64  `json:"time"` // ns since 1970
	Verb   string `json:"verb"` // "skip", "replace", "retry", "seek", "forget", "redump", ...
	Client string `json:"client,omitempty"`
	Seq    uint64 `json:"seq,omitempty"`
	Alert  string `json:"alert,omitempty"` // the key of the alert that it is about
	// the position of the client before and after; 0 also in entries of earlier builds
	From uint64 `json:"from,omitempty"`
	To   uint64 `json:"to,omitempty"`
	// retry, replace: how long the increment may be at the database, when that was said
	Limit  string `json:"limit,omitempty"`
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"`  // who it was, as far as the broker knew: "127.0.0.1 (http)"
	Via    string `json:"via,omitempty"` // what the caller said of itself, which nobody has checked
}

// Rank orders severities: 1 for a note, 3 for critical; 0 for one that this version does not know.
func (s Severity) Rank() int {
	switch s {
	case Note:
		return 1
	case Warning:
		return 2
	case Critical:
		return 3
	}
	return 0
}
