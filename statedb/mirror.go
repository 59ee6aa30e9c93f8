package statedb

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"xmq/broker/event"
	"xmq/dumpflow"
)

// Mirror is what is durable in a Store, in memory: a few hundred bytes a client. It answers readers, who get copies,
// and turns a Batch into the Changes that a Store writes. Readers are for concurrent use beside one writer, who calls
// Prepare and Commit in turns.
type Mirror struct {
	options Options

	mu         sync.RWMutex // guards what follows
	clients    map[string]Client
	forgotten  map[string]Forgotten
	dumps      map[event.DumpID]dumpflow.Dump
	alerts     map[string]Alert
	meta       Meta
	doubts     Doubts
	decisions  map[uint64][]Audit // skips and replacements, also those that were dropped, by increment
	mark       Mark
	audits     uint64 // number of the last entry
	events     uint64 // number of the last event
	firstEvent uint64 // that is kept; 0 for none
}

// NewMirror is the mirror of an empty store.
func NewMirror(o Options) *Mirror {
	if o.KeepEvents == 0 {
		o.KeepEvents = DefaultEvents
	}
	return &Mirror{options: o, clients: map[string]Client{}, forgotten: map[string]Forgotten{},
		dumps:  map[event.DumpID]dumpflow.Dump{},
		alerts: map[string]Alert{}, decisions: map[uint64][]Audit{}}
}

// KeepEvents implements Store. Those above the number go with the next events.
func (m *Mirror) KeepEvents(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.options.KeepEvents = n
}

// Prepare turns a batch into what has to be stored. Nothing changes before Commit, and b is not changed either.
func (m *Mirror) Prepare(b *Batch) *Changes {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c := &Changes{Clients: maps.Clone(b.clients), Dumps: maps.Clone(b.dumps), Forgotten: m.spentFences(b),
		Doubts: b.doubts, Meta: b.meta}
	for id, f := range b.forgotten {
		c.Forgotten[id] = &f
	}
	changed := m.changedAlerts(b)
	c.Alerts = m.oldAlerts(changed)
	for _, key := range slices.Sorted(maps.Keys(changed)) {
		now := changed[key].now
		c.Alerts[key] = &now
		if changed[key].kind() != "" {
			c.alerts = append(c.alerts, now)
		}
	}
	for i, a := range b.audits {
		a.V, a.Number = AuditVersion, m.audits+1+uint64(i)
		c.Audits = append(c.Audits, a)
	}
	m.timeline(b, changed, c)
	if b.checkpoint != nil || b.clock != 0 {
		mark := m.mark
		if b.checkpoint != nil {
			mark.Position = *b.checkpoint
		}
		mark.Clock = max(mark.Clock, b.clock)
		c.Mark = &mark
	}
	return c
}

// Commit shows durable changes to readers and tells of them.
func (m *Mirror) Commit(c *Changes) {
	m.Load(c)
	if m.options.OnEvent != nil {
		for _, e := range c.Events {
			m.options.OnEvent(e)
		}
	}
	if m.options.OnAlert != nil {
		for _, a := range c.alerts {
			m.options.OnAlert(a)
		}
	}
}

// Load is Commit that tells nobody, for records that were there before. Audit entries and events come in their order.
func (m *Mirror) Load(c *Changes) {
	m.mu.Lock()
	defer m.mu.Unlock()
	merge(m.clients, c.Clients)
	merge(m.forgotten, c.Forgotten)
	merge(m.dumps, c.Dumps)
	merge(m.alerts, c.Alerts)
	for _, a := range c.Audits {
		switch a.Verb {
		case "skip", "replace", Dropped + "skip", Dropped + "replace", "replace" + Refused, Applied.Verb(), MayApplied.Verb():
			m.decisions[a.Seq] = append(m.decisions[a.Seq], a)
		}
		m.audits = a.Number
	}
	for _, e := range c.Events {
		if m.events = e.Number; m.firstEvent == 0 {
			m.firstEvent = e.Number
		}
	}
	m.firstEvent = max(m.firstEvent, c.DropTo)
	if c.Mark != nil {
		m.mark = *c.Mark
	}
	if c.Doubts != nil {
		m.doubts = c.Doubts.Clone()
	}
	if c.Meta != nil {
		m.meta = *c.Meta
	}
}

// merge puts changed records into all; a nil one goes.
func merge[K comparable, V any](all map[K]V, changed map[K]*V) {
	for key, v := range changed {
		if v == nil {
			delete(all, key)
			continue
		}
		all[key] = *v
	}
}

// changedAlerts are the alerts that a batch changes, as they were and as they are.
func (m *Mirror) changedAlerts(b *Batch) map[string]change {
	changed := map[string]change{}
	for _, ch := range b.alerts {
		c, known := changed[ch.key]
		if !known {
			c.old, known = m.alerts[ch.key]
			c.now = c.old
		}
		if ch.change(&c.now, known) {
			changed[ch.key] = c
		}
	}
	return changed
}

// oldAlerts names, as records that go, the cleared alerts beyond KeptAlerts, oldest first, once there are a tenth too
// many.
func (m *Mirror) oldAlerts(changed map[string]change) map[string]*Alert {
	gone := map[string]*Alert{}
	if len(changed) == 0 {
		return gone
	}
	var cleared []Alert
	for _, a := range m.alerts {
		if _, now := changed[a.Key]; !now && a.Cleared != 0 {
			cleared = append(cleared, a)
		}
	}
	if len(cleared) < KeptAlerts+KeptAlerts/10 {
		return gone
	}
	slices.SortFunc(cleared, func(a, b Alert) int {
		return cmp.Or(cmp.Compare(a.Cleared, b.Cleared),
			strings.Compare(a.Key, b.Key))
	})
	for _, a := range cleared[:len(cleared)-KeptAlerts] {
		gone[a.Key] = nil
	}
	return gone
}

// spentFences names, as records that go, the fences that a new record of their client carries now, and the oldest
// beyond MaxForgotten.
func (m *Mirror) spentFences(b *Batch) map[string]*Forgotten {
	gone := map[string]*Forgotten{}
	for id, c := range b.clients {
		if _, there := m.forgotten[id]; there && c != nil {
			gone[id] = nil
		}
	}
	extra := len(m.forgotten) + len(b.forgotten) - len(gone) - MaxForgotten
	if len(b.forgotten) == 0 || extra <= 0 {
		return gone
	}
	oldest := slices.SortedFunc(maps.Values(m.forgotten),
		func(a, b Forgotten) int { return cmp.Or(cmp.Compare(a.Time, b.Time), strings.Compare(a.ID, b.ID)) })
	for _, f := range oldest {
		_, again := b.forgotten[f.ID]
		if _, spent := gone[f.ID]; extra > 0 && !again && !spent {
			gone[f.ID], extra = nil, extra-1
		}
	}
	return gone
}

// Forgotten returns what is left of a client that was forgotten; false for nothing.
func (m *Mirror) Forgotten(id string) (Forgotten, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	f, ok := m.forgotten[id]
	f.Fenced = slices.Clone(f.Fenced)
	return f, ok
}

// Alert returns one alert, standing or cleared.
func (m *Mirror) Alert(key string) (Alert, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	a, ok := m.alerts[key]
	return a, ok
}

// Client returns a copy of one record.
func (m *Mirror) Client(id string) (Client, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c, ok := m.clients[id]
	return c.Clone(), ok
}

// Clients returns copies of all records, by ID.
func (m *Mirror) Clients() []Client {
	m.mu.RLock()
	defer m.mu.RUnlock()
	all := make([]Client, 0, len(m.clients))
	for _, c := range m.clients {
		all = append(all, c.Clone())
	}
	slices.SortFunc(all, func(a, b Client) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Dump returns a copy of one DUMP's record.
func (m *Mirror) Dump(id event.DumpID) (dumpflow.Dump, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	d, ok := m.dumps[id]
	return d.Clone(), ok
}

// Dumps returns copies of all DUMP records, oldest first.
func (m *Mirror) Dumps() []dumpflow.Dump {
	m.mu.RLock()
	defer m.mu.RUnlock()
	all := make([]dumpflow.Dump, 0, len(m.dumps))
	for _, d := range m.dumps {
		all = append(all, d.Clone())
	}
	slices.SortFunc(all, func(a, b dumpflow.Dump) int {
		return cmp.Or(cmp.Compare(a.Started, b.Started), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Alerts returns all alerts, the standing ones and the last KeptAlerts cleared ones, by key.
func (m *Mirror) Alerts() []Alert {
	m.mu.RLock()
	defer m.mu.RUnlock()
	all := slices.Collect(maps.Values(m.alerts))
	slices.SortFunc(all, func(a, b Alert) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// Meta returns what ties this store to its log; the zero Meta in a new store.
func (m *Mirror) Meta() Meta {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.meta
}

// Decisions returns how operators have ordered to pass over or to replace increment seq, what of that was dropped, and
// what they had applied all the same, for any client, oldest first.
func (m *Mirror) Decisions(seq uint64) []Audit {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Clone(m.decisions[seq])
}

// Doubts returns what speaks against the log.
func (m *Mirror) Doubts() Doubts {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.doubts.Clone()
}

// Checkpoint returns the last stored checkpoint; zero in a new store. The log must reach it.
func (m *Mirror) Checkpoint() event.Position {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mark.Position
}

// Clock returns the last stored time of the log, in ns since 1970; 0 when none is. No increment may get an earlier one.
func (m *Mirror) Clock() int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mark.Clock
}
