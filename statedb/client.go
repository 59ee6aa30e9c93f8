package statedb

import (
	"slices"
	"time"

	"xmq/broker/event"
)

// State is where a client stands, in words that stay stable in JSON.
type State string

// The states of a client. Connected or not is a second fact, not kept here.
const (
	Pending   State = "pending"    // asked for its first DUMP; no position yet
	Following State = "following"  // fed from its position
	Draining  State = "draining"   // target of a DUMP: increments in flight are awaited
	Dumping   State = "dumping"    // target of a DUMP: its consistent read is being opened
	Loading   State = "loading"    // loads the snapshot of its first DUMP; its position comes when that is done
	Failed    State = "failed"     // an increment failed; nothing is sent until somebody acts
	Fatal     State = "fatal"      // lost its copy: positions cleared, must DUMP
	NeedsDump State = "needs_dump" // cannot be fed from its position any more, or an operator said so
)

// Role of a client.
type Role string

// The roles. A master may start without a DUMP; nothing else sets it apart.
const (
	Master   Role = "master"
	Follower Role = "follower"
)

// ClientVersion is the format number of a stored Client.
const ClientVersion = 1

// Client is the broker's record of one node. Base <= Acked.Seq always.
type Client struct {
	V         int              `json:"v"`
	ID        string           `json:"id"`
	Role      Role             `json:"role"`
	Driver    string           `json:"target"`            // kind of target driver, for people
	Product   string           `json:"product,omitempty"` // of its database, where the driver knows several
	Topics    []string         `json:"topics,omitempty"`
	State     State            `json:"state"`
	Base      uint64           `json:"base"`  // where this client's own feeding began: its DUMP's position, or 0
	Acked     event.Position   `json:"acked"` // applied, as the node last said
	Session   event.Session    `json:"session"`
	Fenced    []event.Instance `json:"fenced,omitempty"` // processes that have been replaced, newest last
	LastError *Trouble         `json:"last_error,omitempty"`
	Override  *Override        `json:"override,omitempty"`
	Decisions uint64           `json:"answers,omitempty"` // operators' decisions so far, which numbers them
	Seek      *event.Position  `json:"seek,omitempty"`    // an explicit position the node has not adopted yet
	Join      *Join            `json:"join,omitempty"`
	Joined    event.RequestID  `json:"joined,omitempty"` // request of the last DUMP this client was made from
	Apply     *Apply           `json:"apply,omitempty"`  // the newest order of an increment that was passed over
	// Anew is when the data was last put in the place of other data, so that what was passed over before says nothing of
	// it.
	Anew Anew `json:"anew,omitzero"`
	// Registered says that an operator has made the record (add, or seek of an unknown ID) and that no node has followed
	// yet. It stays when a first DUMP comes to nothing; Topics, if any, are those that the node must name.
	Registered bool `json:"registered,omitempty"`
	// ns for which nothing has been heard of the node while a broker ran; may lag by SilentGrain
	Silent  int64   `json:"silent,omitempty"`
	Process Process `json:"process,omitzero"`
	// ns since 1970, of the node's last word; as old as the last write of this record
	Heard   int64 `json:"heard,omitempty"`
	Stopped int64 `json:"stopped,omitempty"` // ns since 1970, when the node said goodbye; 0 when it did not
	// Decided is when the copy was last given up, mended or moved by hand, in ns since 1970: a snapshot that was opened
	// before is not what anybody means who asks for one now.
	Decided int64 `json:"decided,omitempty"`
	Created int64 `json:"created"` // ns since 1970
	Updated int64 `json:"updated"` // ns since 1970, of the last write of this record
}

// MaxFences is how many replaced processes are remembered per client.
const MaxFences = 8

// MaxForgotten is how many forgotten clients' fences are remembered, the newest.
const MaxForgotten = 1024

// ForgottenVersion is the format number of a stored Forgotten.
const ForgottenVersion = 1

// Forgotten is what is left of a client whose record was removed: its processes that had been replaced are refused
// when the ID comes back. It ends with the next record of that ID.
type Forgotten struct {
	V       int              `json:"v"`
	ID      string           `json:"id"`
	Session event.Session    `json:"session"` // the last one: another process that comes replaces it
	Fenced  []event.Instance `json:"fenced,omitempty"`
	Time    int64            `json:"time"` // ns since 1970
}

// Trouble is the last error a node reported.
type Trouble struct {
	Seq   uint64 `json:"seq"`   // the increment concerned; 0 when none is
	Class string `json:"class"` // "fail", "fatal", "transient", "join", "refused", "held", "redump"
	Text  string `json:"text"`
	Time  int64  `json:"time"` // ns since 1970
	// ns since 1970, of the first of its kind in a row; 0 in records of earlier builds
	Since int64 `json:"since,omitempty"`
}

// Began is when the trouble began, in ns since 1970.
func (t *Trouble) Began() int64 {
	if t.Since != 0 {
		return t.Since
	}
	return t.Time
}

// Process is where the node of a client runs, as it says itself: for people.
type Process struct {
	Host    string `json:"host,omitempty"`
	Pid     int    `json:"pid,omitempty"`
	Version string `json:"version,omitempty"` // of the node's program; nodes of earlier builds do not say it
	Address string `json:"address,omitempty"` // of the database, without secrets
}

// Override is an operator's decision on one increment, for one client; the log is not rewritten.
type Override struct {
	Seq uint64 `json:"seq"`
	// its number, from 1, so that the node can tell a new decision from an old one said again
	Decision uint64 `json:"answer"`
	Skip     bool   `json:"skip"`           // pass over it
	Body     []byte `json:"body,omitempty"` // or apply this instead; neither: apply it as it is
	// how long it may be at the database, as in event.Headers; 0: as before
	Limit  time.Duration `json:"limit,omitempty"`
	Reason string        `json:"reason"`
	// Fresh says that no session has begun since the decision: the node cannot have heard of it.
	Fresh bool  `json:"fresh,omitempty"`
	Time  int64 `json:"time,omitempty"` // ns since 1970, of the order; 0 in records of earlier builds
}

// Apply is an operator's order to apply an increment that the client has passed over, now and outside the order, by
// one process: another one cannot know whether that has done it.
type Apply struct {
	Seq     uint64         `json:"seq"`
	Number  uint64         `json:"number"`           // of the order: no two of a client have the same
	Record  []byte         `json:"record,omitempty"` // as it stands in the log; gone once the outcome is known
	Process event.Instance `json:"process"`
	Reason  string         `json:"reason"`
	By      string         `json:"by,omitempty"` // as in Audit
	Via     string         `json:"via,omitempty"`
	Outcome Outcome        `json:"outcome,omitempty"`
	Text    string         `json:"text,omitempty"` // why, unless it is done
	Time    int64          `json:"time"`           // ns since 1970, of the order, then of the outcome
}

// Outcome is what became of an Apply. Stable.
type Outcome string

// The outcomes; "" until it is known.
const (
	Applied    Outcome = "applied"
	NotApplied Outcome = "refused" // nothing of it is stored
	MayApplied Outcome = "unknown" // the node or its database went away meanwhile
)

// Dropped stands before the verb of an order in the audit list that was not carried out.
const Dropped = "dropped "

// Refused stands after the verb of an order in the audit list that the database has refused.
const Refused = " refused"

// Verb is how an outcome stands in the audit list.
func (o Outcome) Verb() string {
	if o == Applied {
		return "applied"
	}
	return "apply " + string(o)
}

// Anew says when the data of a client was last replaced.
type Anew struct {
	Time int64 `json:"time"` // ns since 1970; 0 for never
	// increments up to there are as they were (a backup was put back); 0 for none (a DUMP)
	From uint64 `json:"from,omitempty"`
}

// Verb is what was ordered: "skip", "replace" or "retry".
func (o *Override) Verb() string {
	switch {
	case o.Skip:
		return "skip"
	case len(o.Body) > 0:
		return "replace"
	}
	return "retry"
}

// Join is a client's running DUMP as requester. The pin of the dump holds the log for it.
type Join struct {
	Request event.RequestID `json:"request"`
	Dump    event.DumpID    `json:"dump"`
	Target  string          `json:"target"`
	Topics  event.Topics    `json:"topics,omitempty"` // that the snapshot holds
	Opened  bool            `json:"opened"`
	Pos     event.Position  `json:"position"` // of the snapshot, once opened
}

// Pin is the sequence after which the log must be kept for this client; false when it holds nothing.
func (c *Client) Pin() (uint64, bool) {
	pin, held := uint64(0), c.Placed()
	if held {
		pin = c.Acked.Seq
	}
	if c.Seek != nil && (!held || c.Seek.Seq < pin) {
		pin, held = c.Seek.Seq, true
	}
	if c.Join != nil && c.Join.Opened && (!held || c.Join.Pos.Seq < pin) {
		pin, held = c.Join.Pos.Seq, true
	}
	return pin, held
}

// Placed reports that the client has a copy, at Acked, and is to be fed from there.
func (c *Client) Placed() bool {
	switch c.State {
	case Following, Draining, Dumping, Failed:
		return true
	}
	return false
}

// Unfed reports that the client has had no data yet.
func (c *Client) Unfed() bool { return c.State == Pending || c.State == Loading }

// TurnedBack reports that this is the record of a newcomer whose DUMP came to nothing and whose node has given up: it
// holds the reason and nothing else, as if nobody knew the client.
func (c *Client) TurnedBack() bool {
	return c.State == Pending && c.Join == nil && c.Seek == nil && !c.Registered
}

// Fence remembers that instance has been replaced.
func (c *Client) Fence(instance event.Instance) {
	if c.IsFenced(instance) || instance == 0 {
		return
	}
	c.Fenced = append(slices.Clone(c.Fenced), instance)
	if n := len(c.Fenced) - MaxFences; n > 0 {
		c.Fenced = c.Fenced[n:]
	}
}

// IsFenced reports whether instance has been replaced.
func (c *Client) IsFenced(instance event.Instance) bool {
	return slices.Contains(c.Fenced, instance)
}

// Clone is a copy that shares nothing that changes.
func (c *Client) Clone() Client {
	d := *c
	d.Topics, d.Fenced = slices.Clone(c.Topics), slices.Clone(c.Fenced)
	d.LastError = clone(c.LastError)
	d.Override = clone(c.Override)
	d.Seek = clone(c.Seek)
	d.Join = clone(c.Join)
	d.Apply = clone(c.Apply)
	return d
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
