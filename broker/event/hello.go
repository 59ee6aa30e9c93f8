package event

import (
	"encoding/json"
	"fmt"
	"slices"
)

// HelloVersion is the format number of a Hello.
const HelloVersion = 1

// Range is a part of a copy whose target driver has keys in an order: those after Start, up to and with End, at most
// Limit. An empty Start stands for the beginning, an empty End for the end, Limit 0 for all. Rules: SS-4, SS-7.
type Range struct {
	Start []byte `json:"start,omitempty"` // at most MaxRangeKey bytes
	End   []byte `json:"end,omitempty"`
	Limit uint64 `json:"limit,omitempty"`
}

// MaxRangeKey is the longest bound of a Range in bytes.
const MaxRangeKey = 1024

// MaxAddress is the longest address of a database in a Hello, in bytes.
const MaxAddress = 255

// Equal reports whether two ranges are the same; nil is the whole copy.
func (r *Range) Equal(o *Range) bool {
	if r == nil || o == nil {
		return r == o
	}
	return string(r.Start) == string(o.Start) && string(r.End) == string(o.End) && r.Limit == o.Limit
}

// Hello is what a node says of itself when it opens a session (INCR_REQ/NONE) or asks for a DUMP
// (DUMP_REQ). It travels as the body of that event, as JSON of at most 8 KiB.
type Hello struct {
	V      int      `json:"v"`
	Target string   `json:"target,omitempty"` // kind of target driver, for people
	Topics []string `json:"topics,omitempty"` // sorted, no repeats; none means all topics
	Master bool     `json:"master,omitempty"` // may start without a DUMP
	// At is an explicit position, "the next increment I apply is number At" (XI-9); 0 says nothing.
	At uint64 `json:"at,omitempty"`
	// Loaded is the request id of the DUMP whose snapshot this node has just loaded and switched to.
	Loaded RequestID `json:"loaded,omitempty"`
	// Stateless marks a driver that cannot store a position (webhook, exec): the broker's acked one rules.
	Stateless bool `json:"stateless,omitempty"`
	// Holds says that the database has no position and is not empty: whether it is that of a client who had one is for
	// a person to know. A node of an earlier build never says so.
	Holds bool `json:"holds,omitempty"`
	// Empty says that the database surely has nothing. A node whose driver cannot tell, and one of an earlier build,
	// says neither this nor Holds.
	Empty bool `json:"empty,omitempty"`
	// Packs asks for packed frames: fewer bytes on the wire, more work at both ends.
	Packs bool `json:"packs,omitempty"`
	// Clock asks for the time of the log (Event.Clock): the target's data ends by it.
	Clock bool `json:"clock,omitempty"`
	// Prepares says that a snapshot needs work that can be done before increments are held for it (the code Prepare).
	// Nodes of earlier builds never say so.
	Prepares bool `json:"prepares,omitempty"`
	// Applies says that the node knows the code Apply: one increment that it has passed over, outside the order. Nodes
	// of earlier builds never say so, and end when they hear it.
	Applies bool `json:"applies,omitempty"`
	// Backup marks a requester that only wants the bytes (xmq dump): no client is made for it.
	Backup bool `json:"backup,omitempty"`
	// Away says that the database cannot be reached: the node lives, and opens no session before that. It comes with
	// the code Busy, and the text is why; a broker of an earlier build takes it for a node whose database is busy.
	Away bool `json:"away,omitempty"`
	// Reuse says that a complete snapshot that is kept will do for this DUMP.
	Reuse bool `json:"reuse,omitempty"`
	// Range is the part that such a requester wants; nil for all of it. In the DUMP_REQ that reaches the target it says
	// the same.
	Range *Range `json:"range,omitempty"`
	// Features are those of package form that the node knows; those a broker does not know are no error. Nodes of
	// earlier builds name none.
	Features []string `json:"features,omitempty"`
	// Pid and Host tell an operator which process speaks.
	Host string `json:"host,omitempty"`
	Pid  int    `json:"pid,omitempty"`
	// Version is that of the node's program, Address where its database is, without secrets: for people. Nodes of
	// earlier builds say neither.
	Version string `json:"version,omitempty"`
	Address string `json:"address,omitempty"` // at most MaxAddress bytes
	// Product is whose database it is where a driver knows several, mariadb or mysql; nodes of earlier builds do not
	// say it.
	Product string `json:"product,omitempty"`
}

// Encode returns h as the body of an event.
func (h Hello) Encode() []byte {
	h.V = HelloVersion
	b, err := json.Marshal(h)
	if err != nil {
		panic(err) // plain data always marshals
	}
	return b
}

// DecodeHello reads what Encode wrote and checks topics. An empty body is the zero Hello. The error wraps ErrDamaged.
func DecodeHello(b []byte) (Hello, error) {
	var h Hello
	if len(b) == 0 {
		return h, nil
	}
	if len(b) > 8<<10 {
		return h, fmt.Errorf("hello of %d bytes is longer than 8192: %w", len(b), ErrDamaged)
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("hello: %v: %w", err, ErrDamaged)
	}
	if h.V != HelloVersion {
		return h, fmt.Errorf("hello: format %d is not known to this version (%d): %w", h.V, HelloVersion, ErrDamaged)
	}
	if len(h.Host) > 255 || len(h.Target) > 32 || len(h.Product) > 32 || len(h.Version) > 64 ||
		len(h.Address) > MaxAddress {
		return h, fmt.Errorf("hello: host, target, product, version or address is too long: %w", ErrDamaged)
	}
	if len(h.Features) > 64 || slices.ContainsFunc(h.Features, func(f string) bool { return len(f) > 64 }) {
		return h, fmt.Errorf("hello: more than 64 features, or one longer than 64 bytes: %w", ErrDamaged)
	}
	if r := h.Range; r != nil && (!h.Backup || len(r.Start) > MaxRangeKey || len(r.End) > MaxRangeKey) {
		return h, fmt.Errorf("hello: a range belongs to a backup, and its bounds have at most %d bytes: %w", MaxRangeKey,
			ErrDamaged)
	}
	topics, err := SortTopics(h.Topics)
	if err != nil {
		return h, fmt.Errorf("hello: %w: %w", err, ErrDamaged)
	}
	h.Topics = topics
	return h, nil
}

// SortTopics checks topics and returns them sorted, each once; nil for none.
func SortTopics(topics []string) ([]string, error) {
	if len(topics) == 0 {
		return nil, nil
	}
	if len(topics) > 64 {
		return nil, fmt.Errorf("%d topics are more than 64", len(topics))
	}
	topics = slices.Clone(topics)
	for _, t := range topics {
		if err := CheckTopic(t); err != nil {
			return nil, err
		}
	}
	slices.Sort(topics)
	return slices.Compact(topics), nil
}

// Wants reports whether a node with these topics (none means all) applies an increment of topic. A node
// that names topics applies only those: not the increments without a topic either.
func Wants(topics []string, topic []byte) bool {
	if len(topics) == 0 {
		return true
	}
	for _, t := range topics {
		if t == string(topic) { // no allocation: the compiler compares in place
			return true
		}
	}
	return false
}
