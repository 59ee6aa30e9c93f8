package leveldb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/statedb"
)

// Name is the name of the database in its place.
const Name = "clients"

// Store is a statedb.Store in a LevelDB database.
type Store struct {
	*statedb.Mirror
	db database

	writing sync.Mutex // one Write at a time
}

// Open opens the store that lies in place and reads it. fs.ErrNotExist: there is none. statedb.ErrRecord: a value
// cannot be read, with its key in the text. Other errors are those of disk.Storage.Open.
func Open(storage *disk.Storage, place disk.Place, o statedb.Options) (*Store, error) {
	db, err := storage.Open(place, Name, disk.State)
	if err != nil {
		return nil, fmt.Errorf("open state store: %w", err)
	}
	return open(onDisk{db}, o)
}

// OpenOrCreate is Open, but a store that is not there is made.
func OpenOrCreate(storage *disk.Storage, place disk.Place, o statedb.Options) (*Store, error) {
	s, err := Open(storage, place, o)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	db, err := storage.Create(place, Name, disk.State, new(disk.Batch))
	if err != nil {
		return nil, fmt.Errorf("make state store: %w", err)
	}
	return open(onDisk{db}, o)
}

// open reads everything into memory. db is closed when that fails.
func open(db database, o statedb.Options) (*Store, error) {
	s := &Store{Mirror: statedb.NewMirror(o), db: db}
	err := db.Each("", func(key, value []byte) error { return s.load(string(key), value) })
	if err != nil {
		return nil, fmt.Errorf("open state store: %w", errors.Join(err, db.Close()))
	}
	return s, nil
}

// load reads one stored record.
func (s *Store) load(key string, value []byte) error {
	var own []byte // the key that the record belongs under
	var c statedb.Changes
	var err error
	switch {
	case strings.HasPrefix(key, clientPrefix):
		var r statedb.Client
		err = read(key, value, &r, &r.V, statedb.ClientVersion)
		own, c.Clients = clientKey(r.ID), map[string]*statedb.Client{r.ID: &r}
	case strings.HasPrefix(key, fencePrefix):
		var r statedb.Forgotten
		err = read(key, value, &r, &r.V, statedb.ForgottenVersion)
		own, c.Forgotten = fenceKey(r.ID), map[string]*statedb.Forgotten{r.ID: &r}
	case strings.HasPrefix(key, dumpPrefix):
		var r dumpflow.Dump
		err = read(key, value, &r, &r.V, dumpflow.RecordVersion)
		own, c.Dumps = dumpKey(r.ID), map[event.DumpID]*dumpflow.Dump{r.ID: &r}
	case strings.HasPrefix(key, alertPrefix):
		var r statedb.Alert
		err = read(key, value, &r, &r.V, statedb.AlertVersion)
		own, c.Alerts = alertKey(r.Key), map[string]*statedb.Alert{r.Key: &r}
	case strings.HasPrefix(key, auditPrefix):
		r, derr := decodeAudit(value)
		if derr != nil || r.V < 1 || r.V >= statedb.AuditVersion {
			err = read(key, value, &r, &r.V, statedb.AuditVersion)
		}
		own, c.Audits = auditKey(r.Number), []statedb.Audit{r}
	case strings.HasPrefix(key, eventPrefix):
		var r statedb.Event
		err = read(key, value, &r, &r.V, statedb.EventVersion)
		own, c.Events = eventKey(r.Number), []statedb.Event{r}
	case key == metaKey:
		c.Meta, own = new(statedb.Meta), []byte(key)
		err = read(key, value, c.Meta, &c.Meta.V, statedb.MetaVersion)
	case key == doubtsKey:
		c.Doubts, own = new(statedb.Doubts), []byte(key)
		err = read(key, value, c.Doubts, &c.Doubts.V, statedb.DoubtsVersion)
	case key == checkpointKey:
		c.Mark, own = new(statedb.Mark), []byte(key)
		err = read(key, value, c.Mark, nil, 0)
	default:
		return fmt.Errorf("key %q is of no kind this version knows: %w", key, statedb.ErrRecord)
	}
	if err == nil && key != string(own) {
		err = fmt.Errorf("key %q holds the record of %q: %w", key, own, statedb.ErrRecord)
	}
	if err == nil {
		s.Load(&c)
	}
	return err
}

// read decodes a stored value; version, unless nil, is where its format number is, which must be known.
func read(key string, value []byte, into any, version *int, known int) error {
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("key %q: %v: %w", key, err, statedb.ErrRecord)
	}
	if version != nil && *version != known {
		return fmt.Errorf("key %q has format %d, this version knows %d: %w", key, *version, known, statedb.ErrRecord)
	}
	return nil
}

// decodeAudit reads a stored entry, also one of format 1, whose by was the caller's word, or 2, whose reason was the
// key of an alert.
func decodeAudit(b []byte) (a statedb.Audit, err error) {
	if err := json.Unmarshal(b, &a); err != nil {
		return a, err
	}
	if a.V < 2 {
		a.Via, a.By = a.By, ""
	}
	if a.V < 3 && (a.Verb == "ack alert" || a.Verb == "clear alert") {
		a.Alert, a.Reason = a.Reason, ""
	}
	return a, nil
}

// Write implements statedb.Store.
func (s *Store) Write(b *statedb.Batch) error {
	if b.Empty() {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.Prepare(b)
	if c.Empty() {
		return nil
	}
	if err := s.db.Write(encode(c)); err != nil {
		return fmt.Errorf("write state store: the outcome is unknown: %w", err)
	}
	s.Commit(c)
	return nil
}

// encode turns changes into keys and values.
func encode(c *statedb.Changes) *disk.Batch {
	b := new(disk.Batch)
	putAll(b, c.Clients, clientKey)
	putAll(b, c.Forgotten, fenceKey)
	putAll(b, c.Dumps, dumpKey)
	putAll(b, c.Alerts, alertKey)
	for _, a := range c.Audits {
		put(b, auditKey(a.Number), a)
	}
	for _, e := range c.Events {
		put(b, eventKey(e.Number), e)
	}
	for n := c.DropFrom; n < c.DropTo; n++ {
		b.Delete(eventKey(n))
	}
	if c.Mark != nil {
		put(b, []byte(checkpointKey), c.Mark)
	}
	if c.Doubts != nil {
		put(b, []byte(doubtsKey), c.Doubts)
	}
	if c.Meta != nil {
		put(b, []byte(metaKey), c.Meta)
	}
	return b
}

func putAll[K comparable, V any](b *disk.Batch, all map[K]*V, key func(K) []byte) {
	for k, v := range all {
		if v == nil {
			b.Delete(key(k))
			continue
		}
		put(b, key(k), v)
	}
}

func put(b *disk.Batch, key []byte, v any) {
	value, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain data always marshals
	}
	b.Put(key, value)
}

// Audits implements statedb.Store.
func (s *Store) Audits(n int) ([]statedb.Audit, error) {
	if n < 1 {
		return nil, nil
	}
	var all []statedb.Audit
	err := s.db.Each(auditPrefix, func(key, value []byte) error {
		a, err := decodeAudit(value)
		if err != nil {
			return fmt.Errorf("key %q: %v: %w", key, err, statedb.ErrRecord)
		}
		if all = append(all, a); len(all) > 2*n {
			all = slices.Clone(all[len(all)-n:])
		}
		return nil
	})
	return all[max(0, len(all)-n):], err
}

// Events implements statedb.Store.
func (s *Store) Events(after uint64, f func(statedb.Event) bool) error {
	more := true
	return s.db.Each(eventPrefix, func(key, value []byte) error {
		if !more {
			return nil
		}
		var e statedb.Event
		if err := json.Unmarshal(value, &e); err != nil {
			return fmt.Errorf("key %q: %v: %w", key, err, statedb.ErrRecord)
		}
		if e.Number > after {
			more = f(e)
		}
		return nil
	})
}

// Close implements statedb.Store.
func (s *Store) Close() error { return s.db.Close() }

var _ statedb.Store = (*Store)(nil)
