package statedb

import (
	"slices"

	"xmq/broker/event"
)

// DoubtsVersion is the format number of the stored Doubts.
const DoubtsVersion = 1

// MaxWitnesses is how many nodes are remembered that speak against the log.
const MaxWitnesses = 100

// Doubts are what speaks against the log beside this store: while there is a witness, no increment is taken.
type Doubts struct {
	V         int       `json:"v"`
	Since     int64     `json:"since,omitempty"` // ns since 1970: the first witness; 0 for none
	Witnesses []Witness `json:"witnesses,omitempty"`
	// Accepted are logs of whose nodes an operator has said that they do not count.
	Accepted []event.LogID `json:"accepted,omitempty"`
	// AcceptedSeq is up to where nodes may be ahead of this log: an operator has said that the increments are lost.
	AcceptedSeq uint64 `json:"accepted_seq,omitempty"`
}

// Witness is a node whose database does not agree with the log, or, without an ID, the state store itself.
type Witness struct {
	ID    string         `json:"id,omitempty"`
	Pos   event.Position `json:"position"` // of its database
	Ahead bool           `json:"ahead"`    // of this very log; false: of another one
	Time  int64          `json:"time"`     // ns since 1970
}

// Add notes a witness, or what it says now. It reports whether anything changed.
func (d *Doubts) Add(w Witness) bool {
	i := slices.IndexFunc(d.Witnesses, func(o Witness) bool { return o.ID == w.ID })
	switch {
	case i >= 0 && d.Witnesses[i].Pos == w.Pos, i < 0 && len(d.Witnesses) == MaxWitnesses:
		return false
	case i >= 0:
		d.Witnesses[i] = w
		return true
	case len(d.Witnesses) == 0:
		d.Since = w.Time
	}
	d.Witnesses = append(d.Witnesses, w)
	return true
}

// Clone is a copy that shares nothing that changes.
func (d Doubts) Clone() Doubts {
	d.Witnesses, d.Accepted = slices.Clone(d.Witnesses), slices.Clone(d.Accepted)
	return d
}
