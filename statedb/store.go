package statedb

import (
	"errors"

	"xmq/broker/event"
	"xmq/dumpflow"
)

// ErrRecord is returned when a stored value cannot be read: damage, or a newer format.
var ErrRecord = errors.New("state record cannot be read")

// Store keeps the state of a broker. All methods are for concurrent use. What implements it passes package storetest,
// and keeps what is durable in a Mirror, so that the rules of a Batch are written once.
//
// Readers never block for a disk, except Audits and Events: they get copies of what the last successful Write made
// durable. So whoever computes from them, as retention does, never counts on what a power cut may take back.
type Store interface {
	// Write makes the batch durable as a whole, then visible to readers, then tells Options.OnEvent and OnAlert. It
	// blocks for one disk sync; Writes exclude each other. After an error the outcome is unknown, readers still see the
	// state before, every later Write fails alike and the broker must stop. An empty batch costs nothing. b is not
	// changed: it may be written again.
	Write(b *Batch) error

	// Client returns a copy of one record; false when there is none.
	Client(id string) (Client, bool)
	// Clients returns copies of all records, by ID.
	Clients() []Client
	// Forgotten returns what is left of a client that was forgotten; false for nothing.
	Forgotten(id string) (Forgotten, bool)
	// Dump returns a copy of one DUMP's record; false when there is none.
	Dump(id event.DumpID) (dumpflow.Dump, bool)
	// Dumps returns copies of all DUMP records, oldest first.
	Dumps() []dumpflow.Dump
	// Holders computes who holds the log now; see HoldersOf.
	Holders(first uint64, released func(*Client) bool) Holders
	// Alert returns one alert, standing or cleared.
	Alert(key string) (Alert, bool)
	// Alerts returns all alerts, the standing ones and the last KeptAlerts cleared ones, by key.
	Alerts() []Alert
	// Decisions returns how operators have passed over or replaced increment seq, for any client, oldest first.
	Decisions(seq uint64) []Audit
	// Doubts returns what speaks against the log.
	Doubts() Doubts
	// Meta returns what ties this store to its log; the zero Meta in a new store.
	Meta() Meta
	// Checkpoint returns the last stored checkpoint; zero in a new store. The log must reach it.
	Checkpoint() event.Position
	// Clock returns the last stored time of the log, in ns since 1970; 0 when none is. No increment may get an earlier
	// one.
	Clock() int64

	// Audits returns the last n audit entries (none for n below 1), oldest first, from the disk: it reads all there are.
	// ErrRecord.
	Audits(n int) ([]Audit, error)
	// Events calls f for every event that is kept with a number above after, oldest first, until f returns false; from
	// the disk. ErrRecord.
	Events(after uint64, f func(Event) bool) error
	// KeepEvents sets how many events are kept from now on, 1 or more.
	KeepEvents(n int)

	// Close gives the store up. Every write was durable already.
	Close() error
}

// Options of a Store.
type Options struct {
	// OnAlert is called after an alert was raised, became worse or was cleared, durably. It must not block. nil tells
	// nobody.
	OnAlert func(Alert)
	// OnEvent is called for every event once it is durable. As OnAlert.
	OnEvent func(Event)
	// KeepEvents is how many events are kept, the newest. 0 means DefaultEvents.
	KeepEvents int
}

// MetaVersion is the format number of the stored Meta.
const MetaVersion = 1

// Meta ties a store to its log.
type Meta struct {
	V   int         `json:"v"`
	Log event.LogID `json:"log"`
	// Rebuilt is set when the store was found empty beside a log with increments. Then "no client holds
	// it" means "unknown", and retention frees nothing until an operator confirms.
	Rebuilt bool `json:"rebuilt"`
	// MaxBytes is what retention.max_bytes is when nobody sets it: half of the disk at the first start; 0 before it is
	// recorded.
	MaxBytes int64 `json:"max_bytes,omitempty"`
	// Created is when the log was made, in ns since 1970; 0 when an earlier build made it.
	Created int64 `json:"created,omitempty"`
	// Backup is when a backup of a whole database was fetched last, Checked when the log was read to its end for damage,
	// in ns since 1970; 0 when that is not known.
	Backup  int64 `json:"backup,omitempty"`
	Checked int64 `json:"checked,omitempty"`
}

// Mark is the checkpoint of the log and the time of the log, as stored: earlier builds wrote no clock, and pass it
// over.
type Mark struct {
	event.Position
	Clock int64 `json:"clock,omitempty"`
}

// Changes are what a Batch makes of the records of a Store, in their final shape: alerts counted, entries and events
// numbered. A Store makes all of them durable as one unit. A nil record goes.
type Changes struct {
	Clients   map[string]*Client
	Forgotten map[string]*Forgotten
	Dumps     map[event.DumpID]*dumpflow.Dump
	Alerts    map[string]*Alert
	Audits    []Audit // after all that are there
	Events    []Event // the same
	// The events from DropFrom on and before DropTo go: there are more than are kept.
	DropFrom, DropTo uint64
	Mark             *Mark // nil: as it is, and so below
	Doubts           *Doubts
	Meta             *Meta

	alerts []Alert // to be told
}

// Empty reports that there is nothing to store.
func (c *Changes) Empty() bool {
	return len(c.Clients)+len(c.Forgotten)+len(c.Dumps)+len(c.Alerts)+len(c.Audits)+len(c.Events) == 0 && c.Mark == nil &&
		c.Doubts == nil && c.Meta == nil
}
