package dumpflow

import (
	"fmt"
	"slices"

	"xmq/broker/event"
)

// Phase is how far a DUMP has come.
type Phase string

// The phases, in their order. From any of the first three a DUMP can become Failed.
const (
	Draining  Phase = "draining"  // the target's increments in flight are awaited; no more are sent
	Opening   Phase = "opening"   // the target was asked to open a consistent read; increments are held
	Uploading Phase = "uploading" // the snapshot is open at Pos; chunks arrive; increments flow again
	Sealed    Phase = "sealed"    // the manifest is published; the snapshot is complete
	Failed    Phase = "failed"    // given up; Error says why
)

// RecordVersion is the format number of a stored Dump.
const RecordVersion = 1

// Dump is the record of one DUMP: who asked, whose data, at which position, how far. The target's machine
// owns it and stores it; everybody else reads copies. It is the wire shape of GET /v1/dumps/{id} as well.
type Dump struct {
	V          int            `json:"v"`
	ID         event.DumpID   `json:"id"`
	Target     string         `json:"target"`
	Instance   event.Instance `json:"instance"` // the target's process that holds the snapshot open
	Requesters []Requester    `json:"waiting"`
	Served     []string       `json:"served"`           // requesters that have loaded it or left with it
	Topics     event.Topics   `json:"topics,omitempty"` // that the data holds; "" in a record of revision 1: not known
	Phase      Phase          `json:"state"`
	Pin        uint64         `json:"pin"` // the log is kept after this sequence while anybody needs it
	Pos        event.Position `json:"position"`
	Format     string         `json:"format,omitempty"`
	Online     bool           `json:"online"`
	Size       int64          `json:"bytes"`           // of the snapshot, uncompressed; known when sealed
	Range      *event.Range   `json:"range,omitempty"` // a part of the copy; nil for all of it
	About      int64          `json:"about,omitempty"` // what the target thinks Size will be; 0 when it does not know
	PauseMS    float64        `json:"pause_ms"`
	Started    int64          `json:"started"` // ns since 1970, for people
	OpenedAt   int64          `json:"opened,omitempty"`
	Ended      int64          `json:"ended,omitempty"`
	Error      string         `json:"error,omitempty"`
	NotLoaded  []Trouble      `json:"not_loaded,omitempty"` // requesters that could not use it, oldest first
	LeftOut    []Trouble      `json:"left_out,omitempty"`   // requesters that have loaded it, but for something
}

// Requester is one node that waits for a DUMP.
type Requester struct {
	ID      string          `json:"id"`
	Request event.RequestID `json:"request"`
	Backup  bool            `json:"backup,omitempty"` // wants the bytes only, becomes no client
	Topics  []string        `json:"topics,omitempty"`
	Reuse   bool            `json:"reuse,omitempty"` // a complete snapshot that is kept will do
	Range   *event.Range    `json:"range,omitempty"` // a backup of a part; nil for all
}

// Swap exchanges requester and target: what a requester asked as {ID requester, Peer target} becomes the
// target's event {ID target, Peer requester}, and the answer the other way round. The dispatcher swaps
// before it routes, so the event lands on the target's worker. Rule: XE-4.
func Swap(e event.Event) event.Event {
	e.ID, e.Peer = e.Peer, e.ID
	return e
}

// New starts the record of a DUMP that r asked for, of a target that follows topics. Its ID has the bits of r's
// request: random, drawn once by r.
func New(target string, topics event.Topics, r Requester, pin uint64, now int64) *Dump {
	return &Dump{V: RecordVersion, ID: r.Request.Dump(), Target: target, Topics: topics, Requesters: []Requester{r},
		Phase: Draining, Pin: pin,
		Range: r.Range, Started: now}
}

// Running reports whether the target still has work with it.
func (d *Dump) Running() bool {
	return d.Phase == Draining || d.Phase == Opening || d.Phase == Uploading
}

// Pinned reports whether the log must be kept after Pin: somebody still needs it.
func (d *Dump) Pinned() bool { return d.Running() || d.Phase == Sealed && len(d.Requesters) > 0 }

// Join adds a requester, or finds it again; a new request of the same node replaces its older one.
// It reports whether the record changed.
func (d *Dump) Join(r Requester) bool {
	if i := d.find(r.ID); i >= 0 {
		if d.Requesters[i].Request == r.Request {
			return false
		}
		d.Requesters[i] = r
		return true
	}
	d.Requesters = append(d.Requesters, r)
	return true
}

// Leave removes the requester's request, as served (it has loaded the snapshot) or not. It reports whether
// the record changed.
func (d *Dump) Leave(id string, request event.RequestID, served bool) bool {
	i := d.find(id)
	if i < 0 || d.Requesters[i].Request != request {
		return false
	}
	d.Requesters = slices.Delete(d.Requesters, i, i+1)
	if served && !slices.Contains(d.Served, id) {
		d.Served = append(d.Served, id)
	}
	if served {
		d.NotLoaded = without(d.NotLoaded, id)
	}
	return true
}

func (d *Dump) find(id string) int {
	return slices.IndexFunc(d.Requesters, func(r Requester) bool { return r.ID == id })
}

// Waits reports whether id has asked for this dump and neither loaded nor left it.
func (d *Dump) Waits(id string) bool { return d.find(id) >= 0 }

// MayRead reports whether id may read chunks: it waits for this dump or was served by it.
func (d *Dump) MayRead(id string) bool { return d.find(id) >= 0 || slices.Contains(d.Served, id) }

// Open notes that the target holds a consistent read at pos.
func (d *Dump) Open(pos event.Position, o Opened, now int64, pauseMS float64) error {
	if d.Phase != Opening {
		return fmt.Errorf("DUMP %s of %s is %s, not opening", d.ID, d.Target, d.Phase)
	}
	d.Phase = Uploading
	d.Pos = pos
	d.Format = o.Format
	d.Online = o.Online
	d.About = o.Size
	d.OpenedAt, d.PauseMS = now, pauseMS
	return nil
}

// Seal notes that the manifest is published.
func (d *Dump) Seal(m Manifest, now int64, pauseMS float64) {
	d.Phase, d.Size, d.Ended = Sealed, m.Size, now
	if !d.Online {
		d.PauseMS = pauseMS
	}
}

// Fail gives the dump up. pauseMS is for how long it has held increments until now.
func (d *Dump) Fail(text string, now int64, pauseMS float64) {
	if d.Phase == Opening || d.Phase == Uploading && !d.Online {
		d.PauseMS = pauseMS
	}
	d.Phase, d.Error, d.Ended = Failed, text, now
}

// Clone is a copy that shares nothing that changes.
func (d *Dump) Clone() Dump {
	c := *d
	c.Requesters, c.Served, c.NotLoaded = slices.Clone(d.Requesters), slices.Clone(d.Served), slices.Clone(d.NotLoaded)
	c.LeftOut = slices.Clone(d.LeftOut)
	return c
}
