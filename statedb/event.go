package statedb

import (
	"maps"
	"slices"
)

// EventVersion is the format number of a stored Event.
const EventVersion = 1

// Event is one row of the timeline: an alert that was raised, got worse or was cleared, an operator's order, a client
// that came or went, a step of a DUMP, a trim, a start or a stop. They are numbered from 1; the oldest go when there
// are more than are kept.
type Event struct {
	V        int      `json:"v"`
	Number   uint64   `json:"number"`
	Time     int64    `json:"time"`  // ns since 1970
	Kind     Kind     `json:"event"` // what happened, in a word or two
	Alert    string   `json:"alert,omitempty"`
	Severity Severity `json:"severity,omitempty"`
	Client   string   `json:"client,omitempty"`
	Seq      uint64   `json:"seq,omitempty"`
	Cause    string   `json:"cause,omitempty"` // in one sentence; at most MaxText bytes
	By       string   `json:"by,omitempty"`
}

// Kind says in a word or two what happened. Stable.
type Kind string

// The kinds of events. An operator's order has its verb as its kind.
const (
	AlertRaised  Kind = "alert raised"
	AlertWorse   Kind = "alert worse"
	AlertCleared Kind = "alert cleared"

	ClientCame   Kind = "client came"
	ClientWent   Kind = "client went"
	DumpAsked    Kind = "dump asked"
	DumpOpened   Kind = "dump opened"
	DumpComplete Kind = "dump complete"
	DumpLoaded   Kind = "dump loaded"
	DumpFailed   Kind = "dump failed"
	LogTrimmed   Kind = "log trimmed"
	Started      Kind = "started"
	Stopped      Kind = "stopped"
)

// DefaultEvents is how many events are kept when nobody says otherwise.
const DefaultEvents = 10_000

// Event appends a row to the timeline; V and Number are set by Write.
func (b *Batch) Event(e Event) { b.events = append(b.events, e) }

// worse reports that an alert that stands has become more than it was: more severe, about another client, or critical
// about another increment.
func worse(old, now Alert) bool {
	return now.Severity.Rank() > old.Severity.Rank() || now.Client != old.Client || now.Severity == Critical &&
		now.Seq != old.Seq
}

// change is an alert before and after a batch.
type change struct{ old, now Alert }

// kind says what became of the alert; "" for nothing that anybody has to be told.
func (c change) kind() Kind {
	stood, stands := c.old.Key != "" && c.old.Cleared == 0, c.now.Cleared == 0
	switch {
	case stands && !stood:
		return AlertRaised
	case stands && worse(c.old, c.now):
		return AlertWorse
	case stood && !stands:
		return AlertCleared
	}
	return ""
}

// timeline puts the events of a batch, with those of its alerts and orders, after the last one.
func (m *Mirror) timeline(b *Batch, changed map[string]change, into *Changes) {
	all := slices.Clone(b.events)
	for _, a := range b.audits {
		e := Event{Time: a.Time, Kind: Kind(a.Verb), Alert: a.Alert, Client: a.Client, Seq: a.Seq, Cause: a.Reason, By: a.By}
		if a.Via != "" {
			e.By += ", " + a.Via
		}
		all = append(all, e)
	}
	for _, key := range slices.Sorted(maps.Keys(changed)) {
		c := changed[key]
		kind := c.kind()
		if kind == "" {
			continue
		}
		e := Event{Time: c.now.Last, Kind: kind, Alert: c.now.Key, Severity: c.now.Severity, Client: c.now.Client,
			Seq: c.now.Seq, Cause: c.now.Text}
		if kind == AlertCleared {
			e.Time, e.Cause = c.now.Cleared, ""
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		return
	}
	for i := range all {
		all[i].V, all[i].Number, all[i].Cause = EventVersion, m.events+1+uint64(i), cut(all[i].Cause)
	}
	last, keep := m.events+uint64(len(all)), uint64(m.options.KeepEvents)
	into.Events = all
	if m.firstEvent > 0 && last >= m.firstEvent+keep {
		into.DropFrom, into.DropTo = m.firstEvent, min(last-keep, m.events)+1
	}
}
