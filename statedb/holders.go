package statedb

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"xmq/broker/event"
	"xmq/dumpflow"
)

// Hold keeps the log after Seq for one client or one DUMP.
type Hold struct {
	Seq    uint64
	Client *Client      // whose it is; nil for a DUMP's. Read only
	Dump   event.DumpID // which DUMP's it is; 0 for a client's
	// Lost says that the client was told to DUMP though no other copy has its topics: what it has not applied is held
	// for it.
	Lost bool
}

// String names the holder: "client node1" or "DUMP 00ab...".
func (h Hold) String() string {
	if h.Client == nil {
		return "DUMP " + h.Dump.String()
	}
	return "client " + h.Client.ID
}

// Holders says who holds the log, as of one moment of the durable state. Everybody who asks that is answered from
// here: retention and its limits, people (GET /v1/log, positions, an ordered trim) and alerts.
type Holders struct {
	Clients []Hold    // the lowest Seq first, of equals by ID
	Dumps   []Hold    // the same; a DUMP holds the log against every limit
	Copies  []*Client // clients that have a copy and may hold the log, by ID. Read only
	Known   int       // clients
	Placed  int       // clients that have a copy; without one nothing says what may go
	Lost    []string  // clients that wait for a DUMP and that nobody could give one: their topics are in no other copy
}

// HoldersOf computes who holds a log that begins with first. It keeps pointers to clones of the records.
//
// A client holds what follows its position, an ordered position it has not adopted yet, or its opened snapshot
// (Client.Pin). A client that was told to DUMP holds what it has not applied as long as no other copy has its topics:
// its data may be the last. A client for which released (nil for none) answers true holds nothing, and its copy does
// not count.
func HoldersOf(clients []Client, dumps []dumpflow.Dump, first uint64, released func(*Client) bool) Holders {
	h := Holders{Known: len(clients)}
	for i := range clients {
		c := &clients[i]
		if c.Placed() {
			h.Placed++
		}
		if released != nil && released(c) {
			continue
		}
		if c.Placed() {
			h.Copies = append(h.Copies, c)
		}
		if seq, held := c.Pin(); held {
			h.Clients = append(h.Clients, Hold{Seq: seq, Client: c})
		}
	}
	for i := range clients {
		c := &clients[i]
		if c.State != NeedsDump && c.State != Fatal ||
			slices.ContainsFunc(h.Copies, func(o *Client) bool { return o.Covers(c.Topics) }) {
			continue
		}
		h.Lost = append(h.Lost, c.ID)
		if seq := c.LastAcked(); seq+1 >= first && (released == nil || !released(c)) {
			h.Clients = append(h.Clients, Hold{Seq: seq, Client: c, Lost: true})
		}
	}
	for i := range dumps {
		if d := &dumps[i]; d.Pinned() {
			h.Dumps = append(h.Dumps, Hold{Seq: d.Pin, Dump: d.ID})
		}
	}
	lowest := func(a, b Hold) int { return cmp.Or(cmp.Compare(a.Seq, b.Seq), strings.Compare(a.String(), b.String())) }
	slices.SortFunc(h.Clients, lowest)
	slices.SortFunc(h.Dumps, lowest)
	slices.Sort(h.Lost)
	return h
}

// First is who holds most of the log, a DUMP before a client; false when nobody holds anything.
func (h *Holders) First() (Hold, bool) {
	switch {
	case len(h.Dumps) > 0 && (len(h.Clients) == 0 || h.Dumps[0].Seq <= h.Clients[0].Seq):
		return h.Dumps[0], true
	case len(h.Clients) > 0:
		return h.Clients[0], true
	}
	return Hold{}, false
}

// Needed is the first sequence that somebody needs of a log that ends at head; head+1 when nobody needs any.
func (h *Holders) Needed(head uint64) uint64 {
	if first, held := h.First(); held {
		return min(first.Seq, head) + 1
	}
	return head + 1
}

// Of is the sequence after which the log is kept for one client; false when it holds nothing.
func (h *Holders) Of(id string) (uint64, bool) {
	for _, x := range h.Clients { // the lowest first: a client may be there twice
		if x.Client.ID == id {
			return x.Seq, true
		}
	}
	return 0, false
}

// Holders computes who holds the log now; see HoldersOf.
func (m *Mirror) Holders(first uint64, released func(*Client) bool) Holders {
	m.mu.RLock()
	clients := slices.Collect(maps.Values(m.clients)) // a record is replaced, never changed
	dumps := slices.Collect(maps.Values(m.dumps))
	m.mu.RUnlock()
	slices.SortFunc(clients, func(a, b Client) int { return strings.Compare(a.ID, b.ID) })
	return HoldersOf(clients, dumps, first, released)
}

// Covers reports whether this client applies everything that a client with these topics does.
func (c *Client) Covers(topics []string) bool {
	if len(c.Topics) == 0 {
		return true
	}
	return len(topics) > 0 && !slices.ContainsFunc(topics,
		func(t string) bool { return !event.Wants(c.Topics, []byte(t)) })
}

// LastAcked is what the client's copy had applied, also after it was declared lost (FATAL clears Acked).
func (c *Client) LastAcked() uint64 {
	if c.State == Fatal && c.LastError != nil {
		return c.LastError.Seq
	}
	return c.Acked.Seq
}
