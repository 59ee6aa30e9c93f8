package leveldb

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/event"
	"xmq/statedb"
	"xmq/statedb/storetest"
)

// memory is a database that keeps its promises in a map. broken, once set, fails every write.
type memory struct {
	all    map[string]string
	broken error
}

func (m *memory) Write(b *disk.Batch) error {
	if m.broken != nil {
		return m.broken
	}
	return b.Replay(m)
}

func (m *memory) Put(key, value []byte) { m.all[string(key)] = string(value) }
func (m *memory) Delete(key []byte)     { delete(m.all, string(key)) }
func (m *memory) Close() error          { return nil }

func (m *memory) Each(prefix string, f func(key, value []byte) error) error {
	for _, k := range slices.Sorted(maps.Keys(m.all)) {
		if strings.HasPrefix(k, prefix) {
			if err := f([]byte(k), []byte(m.all[k])); err != nil {
				return err
			}
		}
	}
	return nil
}

// onPlace opens the store at place, and makes it when it is not there.
func onPlace(place disk.Place) (*Store, error) {
	return OpenOrCreate(disk.NewStorage(disk.Options{}), place, statedb.Options{})
}

// The suite of all stores, on a directory and in memory. Among it XQ-5, the store: "forgetting a client removes
// record, position and pin": "both, then restart"; and XQ-10: "Alert = severity, node, sequence, text, first, last,
// count; list, ack, clear": "life of one alert".
func TestXQ05AndXQ10InTheSuiteOfStores(t *testing.T) {
	for name, place := range map[string]func(t *testing.T) disk.Place{
		"directory": func(t *testing.T) disk.Place { return disk.Dir(t.TempDir()) },
		"memory":    func(*testing.T) disk.Place { return disktest.NewMemory() },
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Disk {
				var fails atomic.Bool
				hooked := disktest.Hooked(place(t), func(op disktest.Op) error {
					if fails.Load() && op.Verb == disktest.Sync {
						return syscall.EIO
					}
					return nil
				})
				var db *Store
				closed := func() {
					if err := db.Close(); !fails.Load() {
						require.NoError(t, err)
					}
				}
				open := func(o statedb.Options) statedb.Store {
					if db != nil {
						closed()
					}
					var err error
					db, err = OpenOrCreate(disk.NewStorage(disk.Options{}), hooked, o)
					require.NoError(t, err)
					return db
				}
				t.Cleanup(func() { closed() })
				return storetest.Disk{Open: open, Break: func() func() { fails.Store(true); return func() { fails.Store(false) } }}
			})
		})
	}
}

func write(t *testing.T, db *Store, change func(*statedb.Batch)) {
	t.Helper()
	var b statedb.Batch
	change(&b)
	require.NoError(t, db.Write(&b))
}

// What an earlier version wrote down as by was what the caller said of itself.
func TestAnEarlierAuditEntrySaysWhatTheCallerSaid(t *testing.T) {
	m := &memory{all: map[string]string{string(auditKey(1)): `{"v":1,"number":1,"time":5,"verb":"skip","client":"n",` +
		`"seq":7,"reason":"r","by":"root@board"}`,
		string(auditKey(2)): `{"v":2,"number":2,"verb":"ack alert","reason":"fail/n","by":"b"}`}}
	db, err := open(m, statedb.Options{})
	require.NoError(t, err)
	write(t, db, func(b *statedb.Batch) { b.Audit(statedb.Audit{Verb: "seek", By: "127.0.0.1 (http)", Via: "ops"}) })
	db, err = open(m, statedb.Options{})
	require.NoError(t, err)
	all, err := db.Audits(10)
	require.NoError(t, err)
	require.Equal(t, []statedb.Audit{{V: 1, Number: 1, Time: 5, Verb: "skip", Client: "n", Seq: 7, Reason: "r",
		Via: "root@board"},
		{V: 2, Number: 2, Verb: "ack alert", Alert: "fail/n", By: "b"},
		{V: statedb.AuditVersion, Number: 3, Verb: "seek", By: "127.0.0.1 (http)", Via: "ops"}}, all)
}

// An entry that is gone does not make a later one take its number's place.
func TestAuditNumbersAreNotGivenTwice(t *testing.T) {
	m := &memory{all: map[string]string{}}
	db, err := open(m, statedb.Options{})
	require.NoError(t, err)
	write(t, db, func(b *statedb.Batch) { b.Audit(statedb.Audit{Verb: "1"}); b.Audit(statedb.Audit{Verb: "2"}) })
	delete(m.all, string(auditKey(1)))
	db, err = open(m, statedb.Options{})
	require.NoError(t, err)
	write(t, db, func(b *statedb.Batch) { b.Audit(statedb.Audit{Verb: "3"}) })
	all, err := db.Audits(10)
	require.NoError(t, err)
	require.Equal(t, uint64(3), all[1].Number)
	require.Equal(t, "2", all[0].Verb)
}

func TestOpenRefusesWhatItCannotRead(t *testing.T) {
	for key, value := range map[string]string{
		"c/n": `{"v":2,"id":"n"}`, "c/m": `{`, "c/other": `{"v":1,"id":"n"}`, "d/0000000000000009": `{"v":9}`,
		"a/k": `{"v":0,"key":"k"}`,
		"a/j": `{"v":1,"key":"k"}`, "u/00000000000000000001": `{"v":4,"number":1}`,
		"u/00000000000000000002": `{"v":1,"number":1}`, "m/meta": `{"v":7}`,
		"m/checkpoint": `[]`, "m/else": `{}`, "x": `{}`, "z/n": `{}`,
	} {
		_, err := open(&memory{all: map[string]string{key: value}}, statedb.Options{})
		require.ErrorIs(t, err, statedb.ErrRecord, key)
		require.ErrorContains(t, err, key)
	}
}

// XQ-4: "A client and its position become visible in one durable step": "crash at each write: no client without
// position". XC-4, the stored half: "base <= acked ... at every step". The power is cut before every disk operation.
func TestXQ04CrashAtEachWriteLeavesNoClientWithoutPosition(t *testing.T) {
	const seed = 4
	t.Logf("seed %d", seed)
	mem := disktest.NewMemory()
	var durable, cuts atomic.Uint64
	armed := false
	place := disktest.Hooked(mem, func(op disktest.Op) error {
		if !armed || op.Verb == disktest.Close {
			return nil
		}
		before := durable.Load()
		db, err := onPlace(mem.Crash(rand.New(rand.NewPCG(seed, cuts.Add(1)))))
		if err != nil {
			return fmt.Errorf("cut before %s: %w", op, err)
		}
		defer db.Close()
		clients := db.Clients()
		if uint64(len(clients)) < before {
			return fmt.Errorf("cut before %s: %d clients are left of %d", op, len(clients), before)
		}
		for _, c := range clients {
			if c.Acked.Zero() || c.Base > c.Acked.Seq {
				return fmt.Errorf("cut before %s: client %s at %s from base %d", op, c.ID, c.Acked, c.Base)
			}
		}
		audits, err := db.Audits(1000)
		if err == nil && len(audits) != len(clients) {
			err = fmt.Errorf("cut before %s: %d clients but %d audit entries of one batch each", op, len(clients), len(audits))
		}
		return err
	})
	db, err := onPlace(place)
	require.NoError(t, err)
	armed = true
	for i := range uint64(40) {
		c := statedb.Client{ID: fmt.Sprint("n", i), State: statedb.Following, Base: 42,
			Acked: event.Position{Log: 7, Seq: 42 + i, Chain: 1}}
		write(t, db, func(b *statedb.Batch) { b.PutClient(c); b.Audit(statedb.Audit{Verb: "join", Client: c.ID}) })
		durable.Store(i + 1)
	}
	armed = false
	require.Greater(t, cuts.Load(), uint64(40))
}
