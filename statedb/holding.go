package statedb

import (
	"cmp"
	"slices"

	"xmq/broker/event"
)

// Hold keeps the log behind Seq for Who ("client node1", "dump 00ab..."). The zero Hold holds nothing.
type Hold struct {
	Held bool
	Seq  uint64
	Who  string
}

func (h *Hold) lower(seq uint64, who string) {
	if !h.Held || seq < h.Seq || seq == h.Seq && who < h.Who {
		*h = Hold{true, seq, who}
	}
}

// Holding says who holds the log, computed from one moment of the durable state. It is the one answer for retention, for people and
// for alerts.
type Holding struct {
	Clients Hold     // the lowest of all clients
	Dumps   Hold     // the lowest of all DUMPs: they hold the log against every limit
	Known   int      // clients
	Placed  int      // clients that have a copy; without one nothing says what may go
	Lost    []string // clients that wait for a DUMP and that nobody could give one: their topics are in no other copy
}

// First is the first sequence that clients and DUMPs need: head+1 when they need nothing of a log that ends at head.
func (h *Holding) First(head uint64) uint64 {
	keep := head + 1
	for _, x := range []Hold{h.Clients, h.Dumps} {
		if x.Held {
			keep = min(keep, x.Seq+1)
		}
	}
	return keep
}

// Holding computes who holds a log that begins with first. A client for which released (nil for none) answers true holds nothing. A
// client that was told to DUMP holds what it has not applied as long as no other copy has its topics: its data may be the last.
func (db *DB) Holding(first uint64, released func(*Client) bool) Holding {
	db.mu.RLock()
	defer db.mu.RUnlock()
	h := Holding{Known: len(db.clients)}
	var copies []*Client
	for id := range db.clients {
		c := db.clients[id]
		if c.Placed() {
			h.Placed++
		}
		if released != nil && released(&c) {
			continue
		}
		if c.Placed() {
			copies = append(copies, &c)
		}
		if seq, held := c.Pin(); held {
			h.Clients.lower(seq, "client "+id)
		}
	}
	for id := range db.clients {
		c := db.clients[id]
		if c.State != NeedsDump && c.State != Fatal || slices.ContainsFunc(copies, func(o *Client) bool { return o.Covers(c.Topics) }) {
			continue
		}
		h.Lost = append(h.Lost, id)
		if seq := c.LastAcked(); seq+1 >= first && (released == nil || !released(&c)) {
			h.Clients.lower(seq, "client "+id)
		}
	}
	slices.Sort(h.Lost)
	for id := range db.dumps {
		if d := db.dumps[id]; d.Pinned() {
			h.Dumps.lower(d.Pin, "dump "+id.String())
		}
	}
	return h
}

// Pin names the lowest sequence behind which the log must be kept, and who holds it ("client node1", "dump
// 00ab..."), computed from durable state only. held is false when nobody holds anything.
func (db *DB) Pin() (seq uint64, holder string, held bool) {
	h := db.Holding(0, nil)
	low := slices.MinFunc([]Hold{h.Clients, h.Dumps}, func(a, b Hold) int {
		if a.Held != b.Held {
			return map[bool]int{true: -1, false: 1}[a.Held]
		}
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Who, b.Who))
	})
	return low.Seq, low.Who, low.Held
}

// Covers reports whether this client applies everything that a client with these topics does.
func (c *Client) Covers(topics []string) bool {
	if len(c.Topics) == 0 {
		return true
	}
	return len(topics) > 0 && !slices.ContainsFunc(topics, func(t string) bool { return !event.Wants(c.Topics, []byte(t)) })
}

// LastAcked is what the client's copy had applied, also after it was declared lost (FATAL clears Acked).
func (c *Client) LastAcked() uint64 {
	if c.State == Fatal && c.LastError != nil {
		return c.LastError.Seq
	}
	return c.Acked.Seq
}
