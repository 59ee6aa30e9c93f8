package worker

import (
	"time"

	"xmq/broker/event"
	"xmq/broker/form"
	"xmq/dumpflow"
	"xmq/increments"
	"xmq/statedb"
)

// Log is the view of the log a machine decides by. Nothing in it blocks: what it may ask for (Asks) was looked up
// before.
type Log = increments.View

// Input is one thing that happens to a client: exactly one field is set.
type Input struct {
	Node   *event.Event       // the client's node said this; ID is the identity of its subject
	Asked  *event.Event       // a DUMP is asked of this client: ID is it, Peer the requester (already swapped)
	Notice *Notice            // how a DUMP this client waits for goes on, from its target's machine
	Left   *Left              // a requester needs this client's dump no more, from the requester's machine
	Unable *Unable            // this client has told its target why it could not load a snapshot
	Sealed *dumpflow.Manifest // the snapshot this client uploaded is published
	Order  *Order             // an operator's command

	Evict *Evict // retention needs the room that this client holds
	// Unstaged is this client's complete DUMP whose files are gone.
	Unstaged event.DumpID

	// JoinForgotten says that the DUMP which this ID could not load is no longer listed.
	JoinForgotten bool

	Trimmed bool // retention has freed increments that this client may still have needed
}

// Evict tells a client's machine that the log has reached its limit in bytes and that this client holds it. Silent is
// how long it had been away when that was decided, in ns: one that has been heard since keeps its place until it is
// asked again.
type Evict struct {
	Reason string // what the client's record and the alert say
	Silent int64
}

// Notice tells a requester's machine how its DUMP stands.
type Notice struct {
	Requester dumpflow.Requester
	Dump      dumpflow.Dump // a copy; zero when refused before there was one
	Code      event.Code    // NotReady or Refused when refused; else NoCode: read Dump.Phase
	Text      string
	Away      bool            // refused: the target is not known, or not connected
	Other     bool            // refused: the requester's database is of another kind than that of its client
	GivenUp   bool            // the requester's node has ended, and Text is why
	Heard     bool            // it answers the requester's own word, in which it said:
	Kind      string          // of its database
	Process   statedb.Process // where it runs
}

// Unable is why a client's node could not load a snapshot. It says it with every request until one succeeds.
type Unable struct {
	Target  string
	Request event.RequestID // of the request that says it: once for each try
	Text    string
	Quiet   bool // it is no news, or stands in the record of no DUMP: no alert is raised
}

// Left tells a target's machine that a requester is done with its dump.
type Left struct {
	Dump    event.DumpID
	ID      string
	Request event.RequestID
	Served  bool // it has loaded the snapshot
}

// Verb is what an operator can order.
type Verb string

// The verbs.
const (
	Retry   Verb = "retry"   // deliver the increment that failed, or at which the client is, again
	Skip    Verb = "skip"    // pass over it, with a reason
	Replace Verb = "replace" // apply another body instead, with a reason
	SeekTo  Verb = "seek"    // the next increment applied is number Seq; makes the record of an ID that nobody knows
	Apply   Verb = "apply"   // apply an increment that the client passed over, now and outside the order, with a reason
	Forget  Verb = "forget"  // remove the client, its position and its pin
	Redump  Verb = "redump"  // this client must DUMP again
	Add     Verb = "add"     // register an ID that nobody knows: it may choose its position with --at
	Drop    Verb = "drop"    // remove the complete snapshot Dump of this client
	Cancel  Verb = "cancel"  // give up the DUMPs running at this client
)

// Order is one command of an operator for one client.
type Order struct {
	Verb Verb
	// Seq is, for retry, skip and replace, the increment concerned, or 0 for the one that failed; for seek, the next
	// one.
	Seq uint64
	// retry, replace: how long the increment may be at the database, as in event.Headers; 0: as before
	Limit  time.Duration
	Body   []byte       // replace
	Record []byte       // apply: as it stands in the log
	Dump   event.DumpID // drop
	Topics []string     // add: those the node must name; empty for any
	Reason string
	By     string // who gives it, as far as the broker knows
	Via    string // what the caller says of itself
	Token  uint64 // comes back in the Answer
	Ask    bool   // an order that takes something away, or runs something again, is refused with what it would do
	Last   bool   // no other client has a copy of its topics
	MayRun bool   // apply: whether an earlier one has run is not known

	asked bool // that was so
}

// OrderReply answers an Order once its effect is durable. Refused is one sentence, empty when done.
type OrderReply struct {
	Token    uint64
	Refused  string
	Ask      bool   // it was refused because of Order.Ask: Refused says what it would do
	Told     string // what it does, in one sentence
	Seq      uint64 // the increment that it is about
	From, To uint64 // the position of the client before and after
	At       int64  // ns since 1970: what the client tells of later is about what came of it
}

// Routed is an input for another client's machine, perhaps on another worker. It may be lost.
type Routed struct {
	To string
	In Input
}

// Feed asks for increments to be read and sent: the worker reads, builds a frame and calls Fed.
type Feed struct {
	From       event.Position // the frame begins after it
	MaxRecords int            // 1 or more
	MaxBytes   int            // of the frame, but one increment may be longer
	Window     int            // of the frame, without exception: what is left of the client's window in bytes
	Topics     []string
	Override   *statedb.Override
	Pack       bool // compress the frame
	// Lacks are features that the node does not know: an increment that needs one is not sent, unless an operator has
	// said so.
	Lacks form.Features
}

// whole reports whether everything between is asked for as it stands in the log.
func (f *Feed) whole() bool { return len(f.Topics) == 0 && f.Override == nil }

// Work is what a machine wants done. The fields stand in the order in which they are done.
type Work struct {
	// Save, Gone, Dumps, DropDumps, Raise, Clear, Audit and Events go into one synced batch, which must be durable
	// BEFORE anything of Send, Route, Answers and Discard leaves.
	Save      *statedb.Client
	Gone      bool
	Forgotten *statedb.Forgotten // Gone: what is still known of the client's processes; nil for nothing
	Dumps     []dumpflow.Dump
	DropDumps []event.DumpID
	Raise     []statedb.Alert
	Clear     []string
	Audit     []statedb.Audit
	Events    []statedb.Event
	At        int64 // ns since 1970, for what is cleared
	// Lag says that the record has changed in a way that may be saved a little later (acked moved).
	Lag bool

	Send    []event.Event
	Route   []Routed
	Replies []OrderReply
	Discard []event.DumpID // staging of these dumps is not needed any more

	// Feed, if any, comes last (XI-10). It needs nothing saved: what was sent is not remembered.
	Feed *Feed
}

// Urgent reports whether something must be durable before the rest may leave.
func (w *Work) Urgent() bool {
	return w.Save != nil || w.Gone || len(w.Dumps)+len(w.DropDumps)+len(w.Raise)+len(w.Clear)+len(w.Audit)+
		len(w.Events) > 0
}

// Stuck reports that the client stands at one increment, which LastError names: it has failed, or its node is retrying
// it.
func (v *View) Stuck() bool {
	return v.LastError != nil && v.LastError.Seq > 0 && (v.State == statedb.Failed || v.State != statedb.NeedsDump &&
		v.LastError.Class == classRetry)
}

// Pending is an operator's decision about one increment that the client has not applied.
type Pending struct {
	Verb  string `json:"verb"`
	Seq   uint64 `json:"seq"`
	Limit string `json:"limit,omitempty"`
}

// Outside is the newest order to apply an increment that the client has passed over.
type Outside struct {
	Seq     uint64          `json:"seq"`
	Number  uint64          `json:"number,string"`     // beyond 2^53, which JSON numbers do not hold exactly
	Outcome statedb.Outcome `json:"outcome,omitempty"` // "" until it is known
	Text    string          `json:"text,omitempty"`
	Time    time.Time       `json:"time"` // of the order, then of the outcome
}

// View is one client as the outside sees it, the wire shape of GET /v1/positions.
type View struct {
	ID         string        `json:"id"`
	Role       statedb.Role  `json:"role"`
	State      statedb.State `json:"state"`
	Base       uint64        `json:"base"`
	Sent       uint64        `json:"sent"`
	Acked      uint64        `json:"acked"`
	Condition  Condition     `json:"condition"`
	Lag        *uint64       `json:"lag"`         // nil: its position is not known
	LagSeconds *float64      `json:"lag_seconds"` // nil: how old the next increment is, is not known
	Rate       float64       `json:"rate"`        // increments a second, smoothed over some seconds
	Connected  bool          `json:"connected"`
	LastError  *Trouble      `json:"last_error"`
	Target     string        `json:"target"`
	Product    string        `json:"product,omitempty"` // mariadb or mysql, where the node says it
	Topics     []string      `json:"topics,omitempty"`
	Log        event.LogID   `json:"log"`
	Chain      event.Chain   `json:"chain"`
	// the log is kept after it for this client; nil: it holds nothing. The broker fills it in
	Pin      *uint64       `json:"pin"`
	Session  string        `json:"session"`
	Worker   int           `json:"worker"`
	Nonsense uint64        `json:"refused_events"` // events of this client that made no sense, since start
	Join     *statedb.Join `json:"dump,omitempty"`
	// the position that an operator has named and its node has not adopted yet
	Moves           *uint64   `json:"moves,omitempty"`
	Order           *Pending  `json:"order,omitempty"`   // a retry, skip or replace that has not been carried out
	Outside         *Outside  `json:"outside,omitempty"` // the newest increment that was ordered outside the order
	Created         time.Time `json:"created"`
	Heard           time.Time `json:"heard,omitzero"` // the node's last word, in a session
	statedb.Process           // where the node runs
	Disk            *Disk     `json:"disk,omitempty"` // of its database, where its node sees it; nil: not known
	Loading         *Loading  `json:"loading,omitempty"`
	// SilentSeconds is how long nothing has been heard of the node while a broker ran; 0 while it is connected.
	SilentSeconds float64   `json:"silent_seconds,omitempty"`
	Missed        bool      `json:"-"` // it should be connected and is silent: the alert "offline" stands for that
	Updated       time.Time `json:"updated"`
}

// Disk is how full the disk of a client's database was when its node looked last.
type Disk struct {
	Free  uint64    `json:"free"`
	Total uint64    `json:"total"`
	Time  time.Time `json:"time"`
}

// Trouble is the last error of a client as the outside sees it.
type Trouble struct {
	Seq   uint64    `json:"seq"`   // the increment concerned; 0 when none is
	Class string    `json:"class"` // as in statedb.Trouble
	Text  string    `json:"text"`
	Time  time.Time `json:"time"`
	Since time.Time `json:"since"` // of the first of its kind in a row
}

// Loading is how far a client is with a snapshot.
type Loading struct {
	Bytes int64   `json:"bytes"`
	Of    int64   `json:"of"`   // 0: not known; about, until the snapshot is complete
	Rate  float64 `json:"rate"` // bytes a second
	Left  float64 `json:"left"` // seconds until it has all; 0: not known
	// The snapshot was opened then, and holds the data up to this sequence.
	Opened time.Time `json:"opened,omitzero"`
	Seq    uint64    `json:"seq"`
}
