package statedb

import (
	"slices"
	"strings"
	"unicode/utf8"

	"xmq/broker/event"
	"xmq/dumpflow"
)

// Batch gathers changes for one Write; of two changes to one record the later wins. The zero Batch is empty
// and ready. It is not for concurrent use.
type Batch struct {
	clients    map[string]*Client // nil: delete
	forgotten  map[string]Forgotten
	dumps      map[event.DumpID]*dumpflow.Dump
	alerts     []alertChange
	audits     []Audit
	events     []Event
	checkpoint *event.Position
	clock      int64 // 0: as it is
	meta       *Meta
	doubts     *Doubts
}

// alertChange alters the alert with one key; it answers false when there is nothing to change.
type alertChange struct {
	key    string
	change func(a *Alert, known bool) bool
}

// Empty reports whether there is nothing to write.
func (b *Batch) Empty() bool {
	return len(b.clients)+len(b.dumps)+len(b.alerts)+len(b.audits)+len(b.events) == 0 && b.checkpoint == nil &&
		b.clock == 0 && b.meta == nil && b.doubts == nil
}

// PutClient stores a copy of c under c.ID.
func (b *Batch) PutClient(c Client) {
	c = c.Clone()
	c.V = ClientVersion
	b.setClient(c.ID, &c)
}

// Forget removes the record of f.ID like DeleteClient, and remembers f until the ID has a record again.
func (b *Batch) Forget(f Forgotten) {
	b.DeleteClient(f.ID)
	if b.forgotten == nil {
		b.forgotten = map[string]Forgotten{}
	}
	f.V, f.Fenced = ForgottenVersion, slices.Clone(f.Fenced)
	b.forgotten[f.ID] = f
}

// DeleteClient removes the record, its position and its pin.
func (b *Batch) DeleteClient(id string) { b.setClient(id, nil) }

func (b *Batch) setClient(id string, c *Client) {
	if b.clients == nil {
		b.clients = map[string]*Client{}
	}
	b.clients[id] = c
	delete(b.forgotten, id)
}

// PutDump stores a copy of d under d.ID.
func (b *Batch) PutDump(d dumpflow.Dump) {
	d = d.Clone()
	d.V = dumpflow.RecordVersion
	b.setDump(d.ID, &d)
}

// DeleteDump removes a dump's record and its pin.
func (b *Batch) DeleteDump(id event.DumpID) { b.setDump(id, nil) }

func (b *Batch) setDump(id event.DumpID, d *dumpflow.Dump) {
	if b.dumps == nil {
		b.dumps = map[event.DumpID]*dumpflow.Dump{}
	}
	b.dumps[id] = d
}

// Raise raises an alert, or counts it again when its key already stands. Key, Severity, Client, Seq, Text, Way and Last
// are taken from n; the store keeps the rest. One that has become worse needs a new look by an operator, and an alert
// about a client never becomes milder while it stands.
func (b *Batch) Raise(n Alert) {
	n.V = AlertVersion
	n.Text = cut(n.Text)
	n.First = n.Last
	n.Count = 1
	n.Acked = false
	n.Cleared = 0
	b.alter(n.Key, func(a *Alert, known bool) bool {
		raised := n
		if known && a.Cleared == 0 {
			if n.Client != "" && a.Severity.Rank() > n.Severity.Rank() { // what a client's machine says of it is the least
				raised.Severity = a.Severity
			}
			raised.First, raised.Count, raised.Acked = a.First, a.Count+1, a.Acked && !worse(*a, raised)
		}
		*a = raised
		return true
	})
}

// Clear ends the alert with this key, if it stands.
func (b *Batch) Clear(key string, now int64) {
	b.alter(key, func(a *Alert, known bool) bool {
		stands := known && a.Cleared == 0
		a.Cleared = now
		return stands
	})
}

// Worsen makes the alert with this key as severe as s, if it stands and is milder.
func (b *Batch) Worsen(key string, s Severity, now int64) {
	b.alter(key, func(a *Alert, known bool) bool {
		milder := known && a.Cleared == 0 && a.Severity.Rank() < s.Rank()
		if milder {
			a.Severity, a.Last, a.Acked = s, now, false
		}
		return milder
	})
}

// AckAlert notes that an operator has seen the alert.
func (b *Batch) AckAlert(key string) {
	b.alter(key, func(a *Alert, known bool) bool { a.Acked = true; return known })
}

func (b *Batch) alter(key string, change func(*Alert, bool) bool) {
	b.alerts = append(b.alerts, alertChange{key, change})
}

// Audit appends an entry; V and Number are set by Write.
func (b *Batch) Audit(a Audit) { b.audits = append(b.audits, a) }

// Checkpoint stores a position that the log has made durable before.
func (b *Batch) Checkpoint(p event.Position) { b.checkpoint = &p }

// Clock stores a time of the log, in ns since 1970, that nodes are told.
func (b *Batch) Clock(t int64) { b.clock = t }

// PutDoubts stores what speaks against the log.
func (b *Batch) PutDoubts(d Doubts) { d = d.Clone(); d.V = DoubtsVersion; b.doubts = &d }

// PutMeta stores what ties this store to its log.
func (b *Batch) PutMeta(m Meta) { m.V = MetaVersion; b.meta = &m }

// cut makes s valid and at most MaxText bytes long, ending between two characters.
func cut(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= MaxText {
		return s
	}
	n := MaxText
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
