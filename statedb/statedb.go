package statedb

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/syndtr/goleveldb/leveldb"

	"xmq/broker/event"
	"xmq/dumpflow"
)

// Store is what this package needs of a disk: broker/disk.DB in earnest, any in tests.
type Store interface {
	// Write makes the batch durable as a whole before it returns nil. After an error the outcome is
	// unknown and every later Write fails alike.
	Write(*leveldb.Batch) error
	// Each calls f for every key with the prefix, in order. Key and value are borrowed during the call.
	Each(prefix string, f func(key, value []byte) error) error
	Close() error
}

// MetaVersion is the format number of the stored Meta.
const MetaVersion = 1

// Meta ties this store to its log.
type Meta struct {
	V   int         `json:"v"`
	Log event.LogID `json:"log"`
	// Rebuilt is set when the store was found empty beside a log with increments. Then "no client holds
	// it" means "unknown", and retention frees nothing until an operator confirms.
	Rebuilt bool `json:"rebuilt"`
	// MaxBytes is what retention.max_bytes is when nobody sets it: half of the disk at the first start; 0 before it is recorded.
	MaxBytes int64 `json:"max_bytes,omitempty"`
	// Created is when the log was made, in ns since 1970; 0 when an earlier build made it.
	Created int64 `json:"created,omitempty"`
}

// ErrRecord is returned when a stored value cannot be read: damage, or a newer format.
var ErrRecord = errors.New("state record cannot be read")

// DB is the open store. Methods are safe for concurrent use; a Write excludes other Writes for one sync.
type DB struct {
	store Store
	alert func(Alert)

	writing sync.Mutex // one Write at a time
	audits  uint64     // number of the last entry; under writing

	// Of the timeline, under writing: the last number, the first that is kept (0: none), how many are kept.
	events, firstEvent, keepEvents uint64
	event                          func(Event) // nil: nobody is told

	mu         sync.RWMutex // guards what follows: the state that is durable
	clients    map[string]Client
	forgotten  map[string]Forgotten
	dumps      map[event.DumpID]dumpflow.Dump
	alerts     map[string]Alert
	meta       Meta
	doubts     Doubts
	decisions  map[uint64][]Audit // skips and replacements, by increment
	checkpoint checkpoint
}

// checkpoint is the stored value: earlier versions wrote no clock, and pass it over.
type checkpoint struct {
	event.Position
	Clock int64 `json:"clock,omitempty"`
}

// Open loads everything from store into memory: a few hundred bytes a client. onAlert (may be nil) is
// called after an alert was raised, became worse or was cleared, durably; it must not block. ErrRecord: a value cannot be read, with
// its key in the text.
func Open(store Store, onAlert func(Alert)) (*DB, error) {
	db := &DB{store: store, alert: onAlert, keepEvents: DefaultEvents, clients: map[string]Client{}, forgotten: map[string]Forgotten{}, dumps: map[event.DumpID]dumpflow.Dump{}, alerts: map[string]Alert{}, decisions: map[uint64][]Audit{}}
	err := store.Each("", func(key, value []byte) error { return db.load(string(key), value) })
	if err != nil {
		return nil, fmt.Errorf("open state store: %w", err)
	}
	return db, nil
}

func (db *DB) load(key string, value []byte) error {
	read := func(into any, version *int, known int) error {
		if err := json.Unmarshal(value, into); err != nil {
			return fmt.Errorf("key %q: %v: %w", key, err, ErrRecord)
		}
		if version != nil && *version != known {
			return fmt.Errorf("key %q has format %d, this version knows %d: %w", key, *version, known, ErrRecord)
		}
		return nil
	}
	named := func(err error, own []byte) error {
		if err == nil && key != string(own) {
			err = fmt.Errorf("key %q holds the record of %q: %w", key, own, ErrRecord)
		}
		return err
	}
	switch {
	case strings.HasPrefix(key, clientPrefix):
		var c Client
		err := read(&c, &c.V, ClientVersion)
		db.clients[c.ID] = c
		return named(err, clientKey(c.ID))
	case strings.HasPrefix(key, fencePrefix):
		var f Forgotten
		err := read(&f, &f.V, ForgottenVersion)
		db.forgotten[f.ID] = f
		return named(err, fenceKey(f.ID))
	case strings.HasPrefix(key, dumpPrefix):
		var d dumpflow.Dump
		err := read(&d, &d.V, dumpflow.RecordVersion)
		db.dumps[d.ID] = d
		return named(err, dumpKey(d.ID))
	case strings.HasPrefix(key, alertPrefix):
		var a Alert
		err := read(&a, &a.V, AlertVersion)
		db.alerts[a.Key] = a
		return named(err, alertKey(a.Key))
	case strings.HasPrefix(key, auditPrefix):
		a, err := decodeAudit(value)
		if err != nil || a.V != 1 {
			err = read(&a, &a.V, AuditVersion)
		}
		db.decide(a)
		db.audits = a.Number // in order: the last is the greatest
		return named(err, auditKey(a.Number))
	case strings.HasPrefix(key, eventPrefix):
		var e Event
		err := read(&e, &e.V, EventVersion)
		if db.events = e.Number; db.firstEvent == 0 {
			db.firstEvent = e.Number
		}
		return named(err, eventKey(e.Number))
	case key == metaKey:
		return read(&db.meta, &db.meta.V, MetaVersion)
	case key == doubtsKey:
		return read(&db.doubts, &db.doubts.V, DoubtsVersion)
	case key == checkpointKey:
		return read(&db.checkpoint, nil, 0)
	}
	return fmt.Errorf("key %q is of no kind this version knows: %w", key, ErrRecord)
}

// Write makes the batch durable as a whole, then visible to readers, then tells onAlert. It blocks for one
// disk sync. After an error the outcome is unknown, readers still see the state before, every later Write
// fails alike and the broker must stop. An empty batch costs nothing. b is not changed.
func (db *DB) Write(b *Batch) error {
	if b.Empty() {
		return nil
	}
	db.writing.Lock()
	defer db.writing.Unlock()
	disk, changed := b.encode(db.Alert, db.audits, db.mark())
	old := db.oldAlerts(changed)
	for _, key := range old {
		disk.Delete(alertKey(key))
	}
	spent := db.spentFences(b)
	for _, id := range spent {
		disk.Delete(fenceKey(id))
	}
	events := db.timeline(disk, b, changed)
	if disk.Len() == 0 {
		return nil
	}
	if err := db.store.Write(disk); err != nil {
		return fmt.Errorf("write state store: the outcome is unknown: %w", err)
	}
	db.publish(b, changed, old, spent)
	db.counted(len(events))
	if db.event != nil {
		for _, e := range events {
			db.event(e)
		}
	}
	if db.alert != nil {
		for _, c := range changed {
			if c.kind() != "" {
				db.alert(c.now)
			}
		}
	}
	return nil
}

func (db *DB) publish(b *Batch, changed map[string]change, old, spent []string) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for id, c := range b.clients {
		if c == nil {
			delete(db.clients, id)
			continue
		}
		db.clients[id] = *c
	}
	for _, id := range spent {
		delete(db.forgotten, id)
	}
	maps.Copy(db.forgotten, b.forgotten)
	for id, d := range b.dumps {
		if d == nil {
			delete(db.dumps, id)
			continue
		}
		db.dumps[id] = *d
	}
	for key, c := range changed {
		db.alerts[key] = c.now
	}
	for _, key := range old {
		delete(db.alerts, key)
	}
	for i, a := range b.audits {
		a.V, a.Number = AuditVersion, db.audits+1+uint64(i)
		db.decide(a)
	}
	db.audits += uint64(len(b.audits))
	if b.checkpoint != nil {
		db.checkpoint.Position = *b.checkpoint
	}
	db.checkpoint.Clock = max(db.checkpoint.Clock, b.clock)
	if b.meta != nil {
		db.meta = *b.meta
	}
	if b.doubts != nil {
		db.doubts = b.doubts.Clone()
	}
}

// oldAlerts names the cleared alerts beyond KeptAlerts, oldest first, once there are a tenth too many.
func (db *DB) oldAlerts(changed map[string]change) []string {
	if len(changed) == 0 {
		return nil
	}
	var cleared []Alert
	for _, a := range db.Alerts() {
		if _, now := changed[a.Key]; !now && a.Cleared != 0 {
			cleared = append(cleared, a)
		}
	}
	if len(cleared) < KeptAlerts+KeptAlerts/10 {
		return nil
	}
	slices.SortFunc(cleared, func(a, b Alert) int { return cmp.Compare(a.Cleared, b.Cleared) })
	var keys []string
	for _, a := range cleared[:len(cleared)-KeptAlerts] {
		keys = append(keys, a.Key)
	}
	return keys
}

// spentFences names the fences that a new record of their client carries now, and the oldest beyond MaxForgotten.
func (db *DB) spentFences(b *Batch) (ids []string) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	for id, c := range b.clients {
		if _, there := db.forgotten[id]; there && c != nil {
			ids = append(ids, id)
		}
	}
	extra := len(db.forgotten) + len(b.forgotten) - len(ids) - MaxForgotten
	if len(b.forgotten) == 0 || extra <= 0 {
		return ids
	}
	oldest := slices.SortedFunc(maps.Values(db.forgotten), func(a, b Forgotten) int { return cmp.Or(cmp.Compare(a.Time, b.Time), strings.Compare(a.ID, b.ID)) })
	for _, f := range oldest {
		if _, again := b.forgotten[f.ID]; extra > 0 && !again && !slices.Contains(ids, f.ID) {
			ids, extra = append(ids, f.ID), extra-1
		}
	}
	return ids
}

// Forgotten returns what is left of a client that was forgotten; false for nothing.
func (db *DB) Forgotten(id string) (Forgotten, bool) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	f, ok := db.forgotten[id]
	f.Fenced = slices.Clone(f.Fenced)
	return f, ok
}

// Alert returns one alert, standing or cleared.
func (db *DB) Alert(key string) (Alert, bool) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	a, ok := db.alerts[key]
	return a, ok
}

// Client returns a copy of one record.
func (db *DB) Client(id string) (Client, bool) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	c, ok := db.clients[id]
	return c.Clone(), ok
}

// Clients returns copies of all records, by ID.
func (db *DB) Clients() []Client {
	db.mu.RLock()
	defer db.mu.RUnlock()
	all := make([]Client, 0, len(db.clients))
	for _, c := range db.clients {
		all = append(all, c.Clone())
	}
	slices.SortFunc(all, func(a, b Client) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Dump returns a copy of one DUMP's record.
func (db *DB) Dump(id event.DumpID) (dumpflow.Dump, bool) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	d, ok := db.dumps[id]
	return d.Clone(), ok
}

// Dumps returns copies of all DUMP records, oldest first.
func (db *DB) Dumps() []dumpflow.Dump {
	db.mu.RLock()
	defer db.mu.RUnlock()
	all := make([]dumpflow.Dump, 0, len(db.dumps))
	for _, d := range db.dumps {
		all = append(all, d.Clone())
	}
	slices.SortFunc(all, func(a, b dumpflow.Dump) int {
		return cmp.Or(cmp.Compare(a.Started, b.Started), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Alerts returns all alerts, the standing ones and the last KeptAlerts cleared ones, by key.
func (db *DB) Alerts() []Alert {
	db.mu.RLock()
	defer db.mu.RUnlock()
	all := slices.Collect(maps.Values(db.alerts))
	slices.SortFunc(all, func(a, b Alert) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// Audits returns the last n audit entries (none for n below 1), oldest first, from the disk: it reads all there are.
func (db *DB) Audits(n int) ([]Audit, error) {
	if n < 1 {
		return nil, nil
	}
	var all []Audit
	err := db.store.Each(auditPrefix, func(key, value []byte) error {
		a, err := decodeAudit(value)
		if err != nil {
			return fmt.Errorf("key %q: %v: %w", key, err, ErrRecord)
		}
		if all = append(all, a); len(all) > 2*n {
			all = slices.Clone(all[len(all)-n:])
		}
		return nil
	})
	return all[max(0, len(all)-n):], err
}

// Meta returns what ties this store to its log; the zero Meta in a new store.
func (db *DB) Meta() Meta {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.meta
}

// decide remembers a decision about one increment.
func (db *DB) decide(a Audit) {
	if a.Verb == "skip" || a.Verb == "replace" {
		db.decisions[a.Seq] = append(db.decisions[a.Seq], a)
	}
}

// Decisions returns how operators have passed over or replaced increment seq, for any client, oldest first.
func (db *DB) Decisions(seq uint64) []Audit {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return slices.Clone(db.decisions[seq])
}

// Doubts returns what speaks against the log.
func (db *DB) Doubts() Doubts {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.doubts.Clone()
}

// Checkpoint returns the last stored checkpoint; zero in a new store. The log must reach it.
func (db *DB) Checkpoint() event.Position {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.checkpoint.Position
}

// Clock returns the last stored time of the log, in ns since 1970; 0 when none is. No increment may get an earlier one.
func (db *DB) Clock() int64 { return db.mark().Clock }

func (db *DB) mark() checkpoint {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.checkpoint
}

// Close closes the store below. Every write was durable already.
func (db *DB) Close() error { return db.store.Close() }
