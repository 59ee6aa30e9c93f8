package storetest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/statedb"
)

func everythingIsThereAfterReopening(t *testing.T, kind Kind) {
	kind.run(t, func(t *testing.T, db statedb.Store, reopen func() statedb.Store) {
		c := following("node1", 42)
		c.V, c.Topics, c.Fenced, c.LastError = 0, []string{"a"}, []event.Instance{1, 2},
			&statedb.Trouble{Seq: 43, Class: "fail", Text: "no"}
		c.Override, c.Seek, c.Join = &statedb.Override{Seq: 43, Skip: true, Reason: "r"}, &event.Position{Log: 7, Seq: 1},
			&statedb.Join{Request: 5, Target: "master"}
		d := *dumpflow.New("master", event.AllTopics, dumpflow.Requester{ID: "node2", Request: 9}, 40, 5)
		p, meta := event.Position{Log: 7, Seq: 42, Chain: 1}, statedb.Meta{Log: 7, Rebuilt: true}
		write(t, db, func(b *statedb.Batch) {
			b.PutClient(c)
			b.PutDump(d)
			b.Raise(statedb.Alert{Key: "fail/node1", Severity: statedb.Critical, Text: "no", Last: 5})
			b.Audit(statedb.Audit{Verb: "skip"})
			b.Checkpoint(p)
			b.Clock(77)
			b.PutMeta(meta)
		})
		c.V, meta.V = statedb.ClientVersion, statedb.MetaVersion
		for range 2 {
			got, ok := db.Client("node1")
			require.True(t, ok)
			require.Equal(t, c, got, "the format number is the store's to set")
			require.Equal(t, []statedb.Client{c}, db.Clients())
			dump, ok := db.Dump(9)
			require.True(t, ok)
			require.Equal(t, d.ID, dump.ID)
			require.Len(t, db.Dumps(), 1)
			require.Len(t, db.Alerts(), 1)
			require.Equal(t, p, db.Checkpoint())
			require.EqualValues(t, 77, db.Clock())
			require.Equal(t, meta, db.Meta())
			write(t, db, func(b *statedb.Batch) { b.Clock(76) })
			write(t, db, func(b *statedb.Batch) { b.Checkpoint(p) })
			db = reopen()
		}
	})
}

func readersGetCopies(t *testing.T, kind Kind) {
	kind.run(t, func(t *testing.T, db statedb.Store, _ func() statedb.Store) {
		c := following("n", 5)
		c.Topics, c.Seek = []string{"a"}, &event.Position{Seq: 4}
		write(t, db, func(b *statedb.Batch) { b.PutClient(c) })
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
func forgettingRemovesRecordPositionAndPin(t *testing.T, kind Kind) {
	kind.run(t, func(t *testing.T, db statedb.Store, reopen func() statedb.Store) {
		write(t, db, func(b *statedb.Batch) { b.PutClient(following("node1", 42)); b.PutClient(following("node2", 50)) })
		old, _ := db.Client("node1")
		write(t, db, func(b *statedb.Batch) { b.PutClient(old) })
		require.Equal(t, "42 client node1 true", pin(db))
		write(t, db, func(b *statedb.Batch) { b.DeleteClient("node1"); b.DeleteClient("never there") })
		for range 2 {
			_, ok := db.Client("node1")
			require.False(t, ok)
			require.Equal(t, "50 client node2 true", pin(db))
			db = reopen()
		}
	})
}

func pinIsTheLowestOfAllAndNamesItsHolder(t *testing.T, kind Kind) {
	kind.run(t, func(t *testing.T, db statedb.Store, reopen func() statedb.Store) {
		require.Equal(t, "0 nobody false", pin(db))
		d := dumpflow.New("master", event.AllTopics, dumpflow.Requester{ID: "n", Request: 9}, 40, 5)
		write(t, db, func(b *statedb.Batch) {
			b.PutClient(following("b", 42))
			b.PutClient(following("a", 42))
			b.PutDump(*d)
		})
		require.Equal(t, "40 DUMP 0000000000000009 true", pin(db))
		db = reopen()
		require.Equal(t, "40 DUMP 0000000000000009 true", pin(db))
		d.Phase = dumpflow.Sealed // and still waited for
		write(t, db, func(b *statedb.Batch) { b.PutDump(*d) })
		require.Equal(t, "40 DUMP 0000000000000009 true", pin(db))
		d.Fail("gone", 6, 0)
		write(t, db, func(b *statedb.Batch) { b.PutDump(*d) })
		require.Equal(t, "42 client a true", pin(db))
		write(t, db, func(b *statedb.Batch) { b.DeleteDump(9); b.DeleteClient("a") })
		require.Equal(t, "42 client b true", pin(db))
	})
}

// What protects from replaced processes is kept for forgotten clients, in bounded space, until the ID has a record
// again.
func forgottenClientsAreRememberedInBoundedSpace(t *testing.T, kind Kind) {
	kind.run(t, func(t *testing.T, db statedb.Store, reopen func() statedb.Store) {
		forget := func(id string, at int64) func(*statedb.Batch) {
			return func(b *statedb.Batch) {
				b.Forget(statedb.Forgotten{ID: id, Session: event.Session{Instance: 7, Turn: 1}, Fenced: []event.Instance{5, 6},
					Time: at})
			}
		}
		write(t, db, func(b *statedb.Batch) { b.PutClient(following("n", 42)); b.PutClient(following("m", 42)) })
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
		write(t, db, func(b *statedb.Batch) { b.PutClient(following("n", 43)) })
		for range 2 {
			_, there := db.Forgotten("n")
			require.False(t, there, "the record carries it now")
			db = reopen()
		}
		write(t, db, func(b *statedb.Batch) {
			for i := range statedb.MaxForgotten {
				forget(fmt.Sprint("x", i), int64(10+i))(b)
			}
		})
		write(t, db, forget("m", 1<<40))
		for range 2 {
			kept := 0
			for i := range statedb.MaxForgotten {
				if _, there := db.Forgotten(fmt.Sprint("x", i)); there {
					kept++
				}
			}
			require.Equal(t, statedb.MaxForgotten-1, kept, "and the one asked for below")
			_, oldest := db.Forgotten("x0")
			require.False(t, oldest)
			_, newest := db.Forgotten("m")
			require.True(t, newest)
			db = reopen()
		}
	})
}

// Who holds the log, in one table: placed clients where they stand, seeks and DUMPs where they need it, clients that
// were told to DUMP only while no other copy has their topics and the log still reaches back to them.
func whoHoldsTheLog(t *testing.T, kind Kind) {
	client := func(id string, state statedb.State, seq uint64, topics ...string) statedb.Client {
		c := following(id, seq)
		c.State, c.Topics, c.Seek, c.Join = state, topics, nil, nil
		return c
	}
	fatal := client("lost", statedb.Fatal, 0)
	fatal.LastError = &statedb.Trouble{Seq: 33}
	registered := client("new", statedb.Pending, 0)
	registered.Seek = &event.Position{Seq: 12}
	for name, c := range map[string]struct {
		first    uint64
		clients  []statedb.Client
		released string
		keep     uint64 // of a log that ends at 100
		who      string
		placed   int
		lost     []string
	}{
		"nobody": {1, nil, "", 101, "", 0, nil},
		"the lowest": {1,
			[]statedb.Client{client("a", statedb.Following, 50), client("b", statedb.Failed, 40)}, "", 41, "client b", 2, nil},
		"one is released": {1,
			[]statedb.Client{client("a", statedb.Following, 50), client("b", statedb.Failed, 40)}, "b", 51, "client a", 2, nil},
		"a seek that waits": {1, []statedb.Client{client("a", statedb.Following, 50), registered}, "", 13,
			"client new", 1, nil},
		"lost, with a copy": {1,
			[]statedb.Client{client("a", statedb.Following, 50), client("b", statedb.NeedsDump, 40)}, "", 51, "client a", 1,
			nil},
		"lost, the last copy": {1, []statedb.Client{client("b", statedb.NeedsDump, 40)}, "", 41, "client b", 0,
			[]string{"b"}},
		"lost, of other topics": {1,
			[]statedb.Client{client("a", statedb.Following, 50, "x"), client("b", statedb.NeedsDump, 40, "y")}, "", 41,
			"client b", 1, []string{"b"}},
		"lost, of fewer topics": {1,
			[]statedb.Client{client("a", statedb.Following, 50, "x", "y"), client("b", statedb.NeedsDump, 40, "y")}, "", 51,
			"client a", 1, nil},
		"lost, of all topics": {1,
			[]statedb.Client{client("a", statedb.Following, 50, "x"), client("b", statedb.NeedsDump, 40)}, "", 41, "client b", 1,
			[]string{"b"}},
		"lost, and trimmed before": {60,
			[]statedb.Client{client("a", statedb.Following, 90, "x"), client("b", statedb.NeedsDump, 40)}, "", 91, "client a", 1,
			[]string{"b"}},
		"its copy is damaged": {1, []statedb.Client{client("a", statedb.Following, 50, "x"), fatal}, "", 34,
			"client lost", 1, []string{"lost"}},
		"only a released one has its topics": {1,
			[]statedb.Client{client("a", statedb.Following, 50), client("b", statedb.NeedsDump, 40)}, "a", 41, "client b", 1,
			[]string{"b"}},
	} {
		t.Run(name, func(t *testing.T) {
			kind.run(t, func(t *testing.T, db statedb.Store, reopen func() statedb.Store) {
				write(t, db, func(b *statedb.Batch) {
					for _, x := range c.clients {
						b.PutClient(x)
					}
				})
				h := reopen().Holders(c.first, func(x *statedb.Client) bool { return x.ID == c.released })
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

// Retention computes from what is durable: after a failed write readers see the state before, for good.
func failedWriteLeavesReadersAtTheOldState(t *testing.T, kind Kind) {
	disk := kind(t)
	db := disk.Open(statedb.Options{})
	write(t, db, func(b *statedb.Batch) { b.PutClient(following("n", 42)) })
	mend := disk.Break()
	var b statedb.Batch
	b.PutClient(following("n", 50))
	b.Audit(statedb.Audit{Verb: "seek"})
	b.Checkpoint(event.Position{Seq: 1})
	require.ErrorContains(t, db.Write(&b), "outcome is unknown")
	mend()
	require.Error(t, db.Write(&b), "every later write fails alike")
	require.Equal(t, "42 client n true", pin(db))
	require.Zero(t, db.Checkpoint())
	require.NoError(t, db.Write(&statedb.Batch{}), "nothing to write is no write")
}
