package statedb

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/goleveldb/leveldb"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/broker/event"
	"xmq/dumpflow"
)

// memory is a Store that keeps its promises in a map. broken, once set, fails every write.
type memory struct {
	all    map[string]string
	broken error
}

func (m *memory) Write(b *leveldb.Batch) error {
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

// eachStore runs a test on memory and on the disk; reopen closes the store and opens it again.
func eachStore(t *testing.T, test func(t *testing.T, db *DB, reopen func() *DB)) {
	t.Run("memory", func(t *testing.T) {
		m := &memory{all: map[string]string{}}
		again := func() *DB {
			db, err := Open(m, nil)
			require.NoError(t, err)
			return db
		}
		test(t, again(), again)
	})
	t.Run("disk", func(t *testing.T) {
		place := disk.Dir(t.TempDir())
		db := onPlace(t, place)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		test(t, db, func() *DB {
			require.NoError(t, db.Close())
			db = onPlace(t, place)
			return db
		})
	})
}

// openPlace opens the store at place, creating it when it is not there.
func openPlace(place disk.Place) (*DB, error) {
	storage := disk.NewStorage(disk.Options{})
	names, err := place.List()
	if err != nil {
		return nil, err
	}
	var d *disk.DB
	if slices.Contains(names, "state") {
		d, err = storage.Open(place, "state", disk.State)
	} else {
		d, err = storage.Create(place, "state", disk.State, new(disk.Batch))
	}
	if err != nil {
		return nil, err
	}
	return Open(OnDisk(d), nil)
}

func onPlace(t *testing.T, place disk.Place) *DB {
	t.Helper()
	db, err := openPlace(place)
	require.NoError(t, err)
	return db
}

func write(t *testing.T, db *DB, change func(*Batch)) {
	t.Helper()
	var b Batch
	change(&b)
	require.NoError(t, db.Write(&b))
}

func following(id string, acked uint64) Client {
	return Client{V: ClientVersion, ID: id, Role: Follower, State: Following, Acked: event.Position{Log: 7, Seq: acked, Chain: event.Chain(acked)}}
}

func TestEverythingIsThereAfterReopening(t *testing.T) {
	eachStore(t, func(t *testing.T, db *DB, reopen func() *DB) {
		c := following("node1", 42)
		c.V, c.Topics, c.Fenced, c.LastError = 0, []string{"a"}, []event.Instance{1, 2}, &Trouble{Seq: 43, Class: "fail", Text: "no"}
		c.Override, c.Seek, c.Join = &Override{Seq: 43, Skip: true, Reason: "r"}, &event.Position{Log: 7, Seq: 1}, &Join{Request: 5, Target: "master"}
		d := *dumpflow.New("master", event.AllTopics, dumpflow.Requester{ID: "node2", Request: 9}, 40, 5)
		p, meta := event.Position{Log: 7, Seq: 42, Chain: 1}, Meta{Log: 7, Rebuilt: true}
		write(t, db, func(b *Batch) {
			b.PutClient(c)
			b.PutDump(d)
			b.Raise(Alert{Key: "fail/node1", Severity: Critical, Text: "no", Last: 5})
			b.Audit(Audit{Verb: "skip"})
			b.Checkpoint(p)
			b.Clock(77)
			b.PutMeta(meta)
		})
		c.V, meta.V = ClientVersion, MetaVersion
		for range 2 {
			got, ok := db.Client("node1")
			require.True(t, ok)
			require.Equal(t, c, got, "the format number is the store's to set")
			require.Equal(t, []Client{c}, db.Clients())
			dump, ok := db.Dump(9)
			require.True(t, ok)
			require.Equal(t, d.ID, dump.ID)
			require.Len(t, db.Dumps(), 1)
			require.Len(t, db.Alerts(), 1)
			require.Equal(t, p, db.Checkpoint())
			require.EqualValues(t, 77, db.Clock())
			require.Equal(t, meta, db.Meta())
			write(t, db, func(b *Batch) { b.Clock(76) })
			write(t, db, func(b *Batch) { b.Checkpoint(p) })
			db = reopen()
		}
	})
}

func TestReadersGetCopies(t *testing.T) {
	eachStore(t, func(t *testing.T, db *DB, _ func() *DB) {
		c := following("n", 5)
		c.Topics, c.Seek = []string{"a"}, &event.Position{Seq: 4}
		write(t, db, func(b *Batch) { b.PutClient(c) })
		c.Topics[0], c.Seek.Seq = "x", 0
		got, _ := db.Client("n")
		got.Topics[0], got.Seek.Seq = "y", 0
		got, _ = db.Client("n")
		require.Equal(t, "a", got.Topics[0])
		require.Equal(t, uint64(4), got.Seek.Seq)
	})
}

// XQ-5, the store: "forgetting a client removes record, position and pin": "both, then restart". A second registration
// with the same record moves nothing.
func TestXQ05ForgettingRemovesRecordPositionAndPin(t *testing.T) {
	eachStore(t, func(t *testing.T, db *DB, reopen func() *DB) {
		write(t, db, func(b *Batch) { b.PutClient(following("node1", 42)); b.PutClient(following("node2", 50)) })
		old, _ := db.Client("node1")
		write(t, db, func(b *Batch) { b.PutClient(old) })
		require.Equal(t, "42 client node1 true", pin(db))
		write(t, db, func(b *Batch) { b.DeleteClient("node1"); b.DeleteClient("never there") })
		for range 2 {
			_, ok := db.Client("node1")
			require.False(t, ok)
			require.Equal(t, "50 client node2 true", pin(db))
			db = reopen()
		}
	})
}

// XQ-10: "Alert = severity, node, sequence, text, first, last, count; list, ack, clear": "life of one alert".
func TestXQ10LifeOfAnAlert(t *testing.T) {
	eachStore(t, func(t *testing.T, db *DB, reopen func() *DB) {
		raise := func(text string, now int64) {
			write(t, db, func(b *Batch) {
				b.Raise(Alert{Key: "fail/n", Severity: Critical, Client: "n", Seq: 7, Text: text, Last: now, Count: 99, Acked: true, Cleared: 99})
			})
		}
		want := Alert{V: AlertVersion, Key: "fail/n", Severity: Critical, Client: "n", Seq: 7, Text: "no", First: 1, Last: 1, Count: 1}
		is := func() {
			t.Helper()
			require.Equal(t, []Alert{want}, db.Alerts())
			db = reopen()
			require.Equal(t, []Alert{want}, db.Alerts())
		}
		raise("no", 1)
		is()
		raise("no", 2)
		want.Last, want.Count = 2, 2
		is()
		write(t, db, func(b *Batch) { b.AckAlert("fail/n"); b.AckAlert("unknown") })
		want.Acked = true
		is()
		raise("no", 3)
		want.Last, want.Count = 3, 3
		is()
		raise("something else", 4) // its numbers have changed, it is the same
		want.Text, want.Last, want.Count = "something else", 4, 4
		is()
		write(t, db, func(b *Batch) {
			b.Raise(Alert{Key: "fail/n", Severity: Critical, Client: "n", Seq: 8, Text: "something else", Last: 4})
		})
		want.Seq, want.Count, want.Acked = 8, 5, false
		is()
		write(t, db, func(b *Batch) { b.Clear("fail/n", 5); b.Clear("unknown", 5) })
		want.Cleared = 5
		is()
		write(t, db, func(b *Batch) { b.Clear("fail/n", 6) })
		is()
		raise("no", 7)
		want.Seq, want.Text, want.First, want.Last, want.Count, want.Cleared = 7, "no", 7, 7, 1, 0
		is()
	})
}

func TestAlertIsToldAfterItIsDurable(t *testing.T) {
	m := &memory{all: map[string]string{}}
	var told []Alert
	db, err := Open(m, func(a Alert) { told = append(told, a) })
	require.NoError(t, err)
	var b Batch
	b.Raise(Alert{Key: "k", Last: 1})
	b.Raise(Alert{Key: "k", Last: 2})
	b.Clear("other", 1)
	require.NoError(t, db.Write(&b))
	require.Len(t, told, 1)
	require.Equal(t, uint64(2), told[0].Count, "both in one batch count")
	write(t, db, func(b *Batch) { b.Clear("k", 3) })
	require.NoError(t, db.Write(&b), "a batch may be written again")
	require.Equal(t, uint64(2), told[2].Count, "and then counts from the start")
	m.broken = errors.New("disk")
	require.Error(t, db.Write(&b))
	require.Len(t, told, 3)
}

func TestAlertTextIsValidAndBounded(t *testing.T) {
	db, err := Open(&memory{all: map[string]string{}}, nil)
	require.NoError(t, err)
	for _, s := range []string{strings.Repeat("ä", MaxText), "x" + strings.Repeat("ä", MaxText), strings.Repeat("a\xff", MaxText), strings.Repeat("😀", MaxText) + "x"} {
		write(t, db, func(b *Batch) { b.Raise(Alert{Key: "k", Text: s}) })
		got := db.Alerts()[0].Text
		require.True(t, utf8.ValidString(got))
		require.LessOrEqual(t, len(got), MaxText)
		require.Greater(t, len(got), MaxText-utf8.UTFMax)
	}
}

func TestOldClearedAlertsAreRemoved(t *testing.T) {
	eachStore(t, func(t *testing.T, db *DB, reopen func() *DB) {
		write(t, db, func(b *Batch) {
			b.Raise(Alert{Key: "stands", Last: 1})
			for i := range 2 * KeptAlerts {
				b.Raise(Alert{Key: fmt.Sprintf("%05d", i), Last: 1})
			}
		})
		write(t, db, func(b *Batch) {
			for i := range 2 * KeptAlerts {
				b.Clear(fmt.Sprintf("%05d", i), int64(i+1))
			}
		})
		write(t, db, func(b *Batch) { b.Raise(Alert{Key: "news", Last: 2}) })
		for range 2 {
			require.Len(t, db.Alerts(), KeptAlerts+2)
			require.Equal(t, "01000", db.Alerts()[0].Key, "the oldest went first")
			db = reopen()
		}
	})
}

func TestPinOfAClientInEachState(t *testing.T) {
	seek, low := &event.Position{Seq: 5}, &event.Position{Seq: 90}
	opened, waiting := &Join{Opened: true, Pos: event.Position{Seq: 7}}, &Join{Pos: event.Position{Seq: 7}}
	for _, s := range []State{Following, Draining, Dumping, Failed} {
		for _, c := range []struct {
			seek *event.Position
			join *Join
			want uint64
		}{{nil, nil, 42}, {seek, nil, 5}, {low, nil, 42}, {nil, opened, 7}, {nil, waiting, 42}, {seek, opened, 5}} {
			client := following("n", 42)
			client.State, client.Seek, client.Join = s, c.seek, c.join
			pin, held := client.Pin()
			require.True(t, held)
			require.Equal(t, c.want, pin, s)
		}
	}
	for _, s := range []State{Pending, Loading, Fatal, NeedsDump} {
		client := following("n", 42)
		client.State, client.Join = s, waiting
		_, held := client.Pin()
		require.False(t, held, s)
		client.Join = opened
		pin, held := client.Pin()
		require.True(t, held, s)
		require.Equal(t, uint64(7), pin)
	}
}

// pin prints who holds most of the log.
func pin(db *DB) string {
	h := db.Holders(0, nil)
	first, held := h.First()
	if !held {
		return "0 nobody false"
	}
	return fmt.Sprint(first.Seq, " ", first, " ", held)
}

func TestPinIsTheLowestOfAllAndNamesItsHolder(t *testing.T) {
	eachStore(t, func(t *testing.T, db *DB, reopen func() *DB) {
		require.Equal(t, "0 nobody false", pin(db))
		d := dumpflow.New("master", event.AllTopics, dumpflow.Requester{ID: "n", Request: 9}, 40, 5)
		write(t, db, func(b *Batch) { b.PutClient(following("b", 42)); b.PutClient(following("a", 42)); b.PutDump(*d) })
		require.Equal(t, "40 DUMP 0000000000000009 true", pin(db))
		db = reopen()
		require.Equal(t, "40 DUMP 0000000000000009 true", pin(db))
		d.Phase = dumpflow.Sealed // and still waited for
		write(t, db, func(b *Batch) { b.PutDump(*d) })
		require.Equal(t, "40 DUMP 0000000000000009 true", pin(db))
		d.Fail("gone", 6, 0)
		write(t, db, func(b *Batch) { b.PutDump(*d) })
		require.Equal(t, "42 client a true", pin(db))
		write(t, db, func(b *Batch) { b.DeleteDump(9); b.DeleteClient("a") })
		require.Equal(t, "42 client b true", pin(db))
	})
}

// Retention computes from what is durable: after a failed write readers see the state before, for good.
func TestFailedWriteLeavesReadersAtTheOldState(t *testing.T) {
	var fail atomic.Bool
	mine := errors.New("the disk is gone")
	place := disktest.Hooked(disktest.NewMemory(), func(op disktest.Op) error {
		if fail.Load() && op.Verb == disktest.Sync {
			return mine
		}
		return nil
	})
	db := onPlace(t, place)
	write(t, db, func(b *Batch) { b.PutClient(following("n", 42)) })
	fail.Store(true)
	var b Batch
	b.PutClient(following("n", 50))
	b.Audit(Audit{Verb: "seek"})
	b.Checkpoint(event.Position{Seq: 1})
	err := db.Write(&b)
	require.ErrorIs(t, err, mine)
	require.ErrorContains(t, err, "outcome is unknown")
	fail.Store(false)
	require.Error(t, db.Write(&b), "every later write fails alike")
	require.Equal(t, "42 client n true", pin(db))
	require.Zero(t, db.Checkpoint())
	require.NoError(t, db.Write(&Batch{}), "nothing to write is no write")
}

func TestAuditIsNumberedAcrossReopening(t *testing.T) {
	eachStore(t, func(t *testing.T, db *DB, reopen func() *DB) {
		for i := range 5 {
			write(t, db, func(b *Batch) {
				b.Audit(Audit{Verb: fmt.Sprint("a", i)})
				b.Audit(Audit{Verb: fmt.Sprint("b", i), Number: 99})
			})
			db = reopen()
		}
		all, err := db.Audits(100)
		require.NoError(t, err)
		require.Len(t, all, 10)
		for i, a := range all {
			require.Equal(t, uint64(i+1), a.Number)
			require.Equal(t, AuditVersion, a.V)
		}
		last, err := db.Audits(3)
		require.NoError(t, err)
		require.Equal(t, all[7:], last)
		for _, n := range []int{0, -1} {
			none, err := db.Audits(n)
			require.NoError(t, err)
			require.Empty(t, none)
		}
	})
}

// What an earlier version wrote down as by was what the caller said of itself.
func TestAnEarlierAuditEntrySaysWhatTheCallerSaid(t *testing.T) {
	m := &memory{all: map[string]string{string(auditKey(1)): `{"v":1,"number":1,"time":5,"verb":"skip","client":"n","seq":7,"reason":"r","by":"root@board"}`}}
	db, err := Open(m, nil)
	require.NoError(t, err)
	write(t, db, func(b *Batch) { b.Audit(Audit{Verb: "seek", By: "127.0.0.1 (http)", Via: "ops"}) })
	db, err = Open(m, nil)
	require.NoError(t, err)
	all, err := db.Audits(10)
	require.NoError(t, err)
	require.Equal(t, []Audit{{V: 1, Number: 1, Time: 5, Verb: "skip", Client: "n", Seq: 7, Reason: "r", Via: "root@board"},
		{V: AuditVersion, Number: 2, Verb: "seek", By: "127.0.0.1 (http)", Via: "ops"}}, all)
}

// An entry that is gone does not make a later one take its number's place.
func TestAuditNumbersAreNotGivenTwice(t *testing.T) {
	m := &memory{all: map[string]string{}}
	db, err := Open(m, nil)
	require.NoError(t, err)
	write(t, db, func(b *Batch) { b.Audit(Audit{Verb: "1"}); b.Audit(Audit{Verb: "2"}) })
	delete(m.all, string(auditKey(1)))
	db, err = Open(m, nil)
	require.NoError(t, err)
	write(t, db, func(b *Batch) { b.Audit(Audit{Verb: "3"}) })
	all, err := db.Audits(10)
	require.NoError(t, err)
	require.Equal(t, uint64(3), all[1].Number)
	require.Equal(t, "2", all[0].Verb)
}

func TestOpenRefusesWhatItCannotRead(t *testing.T) {
	for key, value := range map[string]string{
		"c/n": `{"v":2,"id":"n"}`, "c/m": `{`, "c/other": `{"v":1,"id":"n"}`, "d/0000000000000009": `{"v":9}`, "a/k": `{"v":0,"key":"k"}`,
		"a/j": `{"v":1,"key":"k"}`, "u/00000000000000000001": `{"v":3,"number":1}`, "u/00000000000000000002": `{"v":1,"number":1}`, "m/meta": `{"v":7}`,
		"m/checkpoint": `[]`, "m/else": `{}`, "x": `{}`, "z/n": `{}`,
	} {
		_, err := Open(&memory{all: map[string]string{key: value}}, nil)
		require.ErrorIs(t, err, ErrRecord, key)
		require.ErrorContains(t, err, key)
	}
}

func TestFencesAreBounded(t *testing.T) {
	var c Client
	c.Fence(0)
	for i := range event.Instance(20) {
		c.Fence(i + 1)
		c.Fence(i + 1)
	}
	require.Len(t, c.Fenced, MaxFences)
	require.True(t, c.IsFenced(20))
	require.True(t, c.IsFenced(13), "one that is fenced twice takes one place")
	require.False(t, c.IsFenced(12))
	require.False(t, c.IsFenced(0))
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
		db, err := openPlace(mem.Crash(rand.New(rand.NewPCG(seed, cuts.Add(1)))))
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
	db := onPlace(t, place)
	armed = true
	for i := range uint64(40) {
		c := following(fmt.Sprint("n", i), 42+i)
		c.Base = 42
		write(t, db, func(b *Batch) { b.PutClient(c); b.Audit(Audit{Verb: "join", Client: c.ID}) })
		durable.Store(i + 1)
	}
	armed = false
	require.Greater(t, cuts.Load(), uint64(40))
}

// What protects from replaced processes is kept for forgotten clients, in bounded space, until the ID has a record again.
func TestForgottenClientsAreRememberedInBoundedSpace(t *testing.T) {
	eachStore(t, func(t *testing.T, db *DB, reopen func() *DB) {
		forget := func(id string, at int64) func(*Batch) {
			return func(b *Batch) {
				b.Forget(Forgotten{ID: id, Session: event.Session{Instance: 7, Turn: 1}, Fenced: []event.Instance{5, 6}, Time: at})
			}
		}
		write(t, db, func(b *Batch) { b.PutClient(following("n", 42)); b.PutClient(following("m", 42)) })
		write(t, db, forget("n", 1))
		for range 2 {
			f, there := db.Forgotten("n")
			require.True(t, there)
			require.Equal(t, []event.Instance{5, 6}, f.Fenced)
			require.EqualValues(t, 7, f.Session.Instance)
			_, known := db.Client("n")
			require.False(t, known)
			db = reopen()
		}
		write(t, db, func(b *Batch) { b.PutClient(following("n", 43)) })
		for range 2 {
			_, there := db.Forgotten("n")
			require.False(t, there, "the record carries it now")
			db = reopen()
		}
		write(t, db, func(b *Batch) {
			for i := range MaxForgotten {
				forget(fmt.Sprint("x", i), int64(10+i))(b)
			}
		})
		write(t, db, forget("m", 1<<40))
		for range 2 {
			require.Len(t, db.forgotten, MaxForgotten)
			_, oldest := db.Forgotten("x0")
			require.False(t, oldest)
			_, newest := db.Forgotten("m")
			require.True(t, newest)
			db = reopen()
		}
	})
}

// Who holds the log, in one table: placed clients where they stand, seeks and DUMPs where they need it, clients that were told to DUMP
// only while no other copy has their topics and the log still reaches back to them.
func TestWhoHoldsTheLog(t *testing.T) {
	client := func(id string, state State, seq uint64, topics ...string) Client {
		c := following(id, seq)
		c.State, c.Topics, c.Seek, c.Join = state, topics, nil, nil
		return c
	}
	fatal := client("lost", Fatal, 0)
	fatal.LastError = &Trouble{Seq: 33}
	registered := client("new", Pending, 0)
	registered.Seek = &event.Position{Seq: 12}
	for name, c := range map[string]struct {
		first    uint64
		clients  []Client
		released string
		keep     uint64 // of a log that ends at 100
		who      string
		placed   int
		lost     []string
	}{
		"nobody":                             {1, nil, "", 101, "", 0, nil},
		"the lowest":                         {1, []Client{client("a", Following, 50), client("b", Failed, 40)}, "", 41, "client b", 2, nil},
		"one is released":                    {1, []Client{client("a", Following, 50), client("b", Failed, 40)}, "b", 51, "client a", 2, nil},
		"a seek that waits":                  {1, []Client{client("a", Following, 50), registered}, "", 13, "client new", 1, nil},
		"lost, with a copy":                  {1, []Client{client("a", Following, 50), client("b", NeedsDump, 40)}, "", 51, "client a", 1, nil},
		"lost, the last copy":                {1, []Client{client("b", NeedsDump, 40)}, "", 41, "client b", 0, []string{"b"}},
		"lost, of other topics":              {1, []Client{client("a", Following, 50, "x"), client("b", NeedsDump, 40, "y")}, "", 41, "client b", 1, []string{"b"}},
		"lost, of fewer topics":              {1, []Client{client("a", Following, 50, "x", "y"), client("b", NeedsDump, 40, "y")}, "", 51, "client a", 1, nil},
		"lost, of all topics":                {1, []Client{client("a", Following, 50, "x"), client("b", NeedsDump, 40)}, "", 41, "client b", 1, []string{"b"}},
		"lost, and trimmed before":           {60, []Client{client("a", Following, 90, "x"), client("b", NeedsDump, 40)}, "", 91, "client a", 1, []string{"b"}},
		"its copy was ruined":                {1, []Client{client("a", Following, 50, "x"), fatal}, "", 34, "client lost", 1, []string{"lost"}},
		"only a released one has its topics": {1, []Client{client("a", Following, 50), client("b", NeedsDump, 40)}, "a", 41, "client b", 1, []string{"b"}},
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, db *DB, reopen func() *DB) {
				write(t, db, func(b *Batch) {
					for _, x := range c.clients {
						b.PutClient(x)
					}
				})
				h := reopen().Holders(c.first, func(x *Client) bool { return x.ID == c.released })
				require.Equal(t, c.keep, h.Needed(100))
				first, held := h.First()
				require.Equal(t, c.who != "", held)
				if held {
					require.Equal(t, c.who, first.String())
				}
				require.Equal(t, c.placed, h.Placed)
				require.Equal(t, c.lost, h.Lost)
				require.Equal(t, len(c.clients), h.Known)
			})
		})
	}
}
