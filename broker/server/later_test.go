package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/increments"
	"xmq/nodeclient/driver/drivertest"
	"xmq/statedb"
)

// The disk is nearly full: input is refused, and all else goes on. A broker starts, a node that was away and needs
// old segments is fed from them, its client stays what it is, and the log is freed behind it.
func TestNearlyFullDiskFeedsAndStarts(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxRecords, cfg.RingBytes = 10, 1024
	cfg.Retention.Every = testConfig(t).Retention.Every
	r := startBroker(t, cfg)
	db := drivertest.NewMemory()
	stop := r.node("master", "", db)
	r.fill(5)
	soon(t, "the master follows", func() bool { return db.Position().Seq == 5 })
	require.NoError(t, stop())
	r.fill(400)
	require.NoError(t, r.stop())

	cfg.Watch.MinFree = 1 << 60
	r = startBroker(t, cfg)
	r.node("master", "", db)
	soon(t, "it is fed", func() bool { return db.Position().Seq == 405 })
	c, known := r.stores.state.Client("master")
	require.True(t, known)
	require.Equal(t, statedb.Following, c.State)
	_, err := door.Ingest(r.ingest.put).Wait(context.Background(), []event.Draft{{Body: []byte("x")}})
	var refused *door.Refusal
	require.ErrorAs(t, err, &refused)
	require.Equal(t, door.DiskFull, refused.Code)
	require.NoError(t, r.stores.storage.Latch().Err())
	require.NoError(t, r.stop())
}

// A read that cannot be done now is told by one alert, which ends by itself.
func TestUnreadableLogHasOneAlertThatEnds(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxRecords, cfg.RingBytes = 10, 1024
	r := startBroker(t, cfg)
	r.fill(200)
	require.NoError(t, r.stop())
	r = startBroker(t, cfg)
	locks, err := filepath.Glob(filepath.Join(cfg.Data, logDir, "0*-*", "LOCK"))
	require.NoError(t, err)
	require.Len(t, locks, 20)
	locks = locks[:19] // not of the newest segment; more of them than stay open
	for _, lock := range locks {
		require.NoError(t, os.Remove(lock))
		require.NoError(t, os.Symlink(lock, lock)) // the open fails; nothing of the data is touched
	}
	later := 0
	for seq := uint64(5); seq < 190; seq += 10 {
		if _, err := r.stores.log.Read(seq, 1, 1); err != nil {
			require.ErrorIs(t, err, increments.ErrLater)
			later++
		}
	}
	require.NotZero(t, later)
	standing := func() int {
		n := 0
		for _, a := range r.stores.state.Alerts() {
			if a.Key == "unreadable" && a.Cleared == 0 {
				n++
			}
		}
		return n
	}
	soon(t, "the alert stands", func() bool { return standing() == 1 })
	for _, lock := range locks {
		require.NoError(t, os.Remove(lock))
	}
	for seq := uint64(5); seq < 190; seq += 10 {
		_, err := r.stores.log.Read(seq, 1, 1)
		require.NoError(t, err)
	}
	soon(t, "and ends", func() bool { return standing() == 0 })
	require.NoError(t, r.stop())
}

// A snapshot is a cache: when its files are gone or damaged its DUMP has failed, with an alert, and the broker serves.
func TestSnapshotWithoutItsFilesIsAFailedDump(t *testing.T) {
	for name, harm := range map[string]func(staging, dump string) error{
		"all of staging": func(staging, _ string) error { return os.RemoveAll(staging) },
		"the snapshot":   func(_, dump string) error { return os.RemoveAll(dump) },
		"a chunk":        func(_, dump string) error { return os.Remove(filepath.Join(dump, "0000000000.chunk")) },
		"the manifest":   func(_, dump string) error { return os.Remove(filepath.Join(dump, "manifest.json")) },
		"what it contains": func(_, dump string) error {
			return os.WriteFile(filepath.Join(dump, "manifest.json"), nil,
				0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			r := startBroker(t, cfg)
			db, copied := drivertest.NewMemory(), drivertest.NewMemory()
			stop := r.node("master", "", db)
			r.fill(5)
			soon(t, "the master follows", func() bool { return db.Position().Seq == 5 })
			left := r.node("n1", "master", copied)
			soon(t, "n1 has joined", func() bool {
				c, known := r.stores.state.Client("n1")
				return known && c.State == statedb.Following
			})
			require.NoError(t, stop())
			require.NoError(t, left())
			require.NoError(t, r.stop())
			dumps, err := filepath.Glob(filepath.Join(cfg.Data, stagingDir, "0*"))
			require.NoError(t, err)
			if len(dumps) == 0 {
				dumps, err = filepath.Glob(filepath.Join(cfg.Data, stagingDir, "*"))
				require.NoError(t, err)
			}
			require.Len(t, dumps, 1)
			require.NoError(t, harm(filepath.Join(cfg.Data, stagingDir), dumps[0]))

			r = startBroker(t, cfg)
			soon(t, "the DUMP has failed", func() bool {
				for _, d := range r.stores.state.Dumps() {
					if d.Phase == dumpflow.Failed {
						return true
					}
				}
				return false
			})
			soon(t, "with an alert", func() bool {
				for _, a := range r.stores.state.Alerts() {
					if a.Key == "dump/master" && a.Cleared == 0 && strings.Contains(a.Text, "gone or damaged") {
						return true
					}
				}
				return false
			})
			r.put("goes on")
			r.node("master", "", db)
			r.node("n2", "master", drivertest.NewMemory())
			soon(t, "another DUMP is made", func() bool {
				c, known := r.stores.state.Client("n2")
				return known && c.State == statedb.Following
			})
			require.NoError(t, r.stop())
		})
	}
}

// What is not ours is left alone, and a person has to look.
func TestForeignFileInStagingIsDamage(t *testing.T) {
	cfg := testConfig(t)
	require.NoError(t, startBroker(t, cfg).stop())
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Data, stagingDir, "notes.txt"), nil, 0o600))
	_, err := Open(cfg, slog.New(slog.DiscardHandler))
	require.True(t, IsDamage(err), err)
	require.ErrorContains(t, err, "notes.txt")
}

// A part that ends is named, unless its end is a whole sentence for people.
func TestTheEndOfAPartIsToldInOneSentence(t *testing.T) {
	p := &part{name: "claim", err: say(errTemporary, "another broker serves group main")}
	require.EqualError(t, p.ended(), "another broker serves group main")
	p = &part{name: "ingest", err: io.ErrUnexpectedEOF}
	require.EqualError(t, p.ended(), "ingest has ended: unexpected EOF")
	p = &part{name: "ingest"}
	require.EqualError(t, p.ended(), "ingest has ended: nobody told it to")
}

// Whatever ends the broker has a class, and with it an exit code that tells a supervisor whether to try again.
func TestEveryEndHasAClass(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		class func(error) bool
	}{
		"a failed write":     {fmt.Errorf("worker 1: %w", disk.ErrStopped), IsStorage},
		"a full disk":        {&fs.PathError{Op: "write", Path: "LOCK", Err: syscall.ENOSPC}, IsStorage},
		"a disk gone bad":    {&fs.PathError{Op: "open", Path: "log", Err: syscall.EIO}, IsStorage},
		"damage":             {fmt.Errorf("open: %w", &disk.Damage{File: "x"}), IsDamage},
		"an unreadable form": {fmt.Errorf("replace increment 7: %w", event.ErrDamaged), IsDamage},
		"no descriptor":      {fmt.Errorf("open: %w", disk.ErrDescriptors), IsTemporary},
		"no read now":        {fmt.Errorf("open log: %w", increments.ErrLater), IsTemporary},
		"a part that ends":   {(&part{name: "ingest"}).ended(), IsTemporary},
		"what it may not do": {&fs.PathError{Op: "open", Path: "data", Err: syscall.EACCES},
			func(err error) bool { return errors.Is(err, ErrConfig) }},
		"the directory taken": {fmt.Errorf("lock: %w", disk.ErrHeld), IsTemporary},
	} {
		err := classed(c.err)
		require.True(t, c.class(err), name)
		require.ErrorContains(t, err, c.err.Error(), name)
		n := 0
		for _, class := range []func(error) bool{IsStorage, IsDamage, IsTemporary,
			func(err error) bool { return errors.Is(err, ErrConfig) }} {
			if class(err) {
				n++
			}
		}
		require.Equal(t, 1, n, name)
	}
	require.NoError(t, classed(nil))
}

// A log that finds no file descriptor for its next segment has not failed: what waits is stored later, and what comes
// is refused with a code of its own.
func TestIngestWaitsForDescriptors(t *testing.T) {
	log := &dryLog{asked: make(chan struct{}, 100)}
	log.dry.Store(true)
	in := newIngest(log, func() {}, 100, 10, 2000)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- in.run(ctx) }()
	first := make(chan error, 1)
	in.put([]event.Draft{{Body: []byte("a")}, {Body: []byte("b")}}, func(out []event.Outcome, err error) {
		if err == nil && (out[0].Seq != 1 || out[1].Seq != 2) {
			err = fmt.Errorf("outcomes %v", out)
		}
		first <- err
	})
	<-log.asked
	<-log.asked // it was asked again
	soon(t, "others are refused", func() bool {
		var refused *door.Refusal
		_, err := door.Ingest(func(d []event.Draft, done func([]event.Outcome, error)) {
			if !in.waits.Load() {
				done(nil, nil) // it asks this very moment
				return
			}
			in.put(d, done)
		}).Wait(ctx, []event.Draft{{Body: []byte("c")}})
		return errors.As(err, &refused) && refused.Code == door.Descriptors
	})
	log.dry.Store(false)
	require.NoError(t, <-first)
	in.starved = func() bool { return true } // a commit waits inside the storage
	_, err := door.Ingest(in.put).Wait(ctx, []event.Draft{{Body: []byte("d")}})
	require.ErrorContains(t, err, "descriptor")
	cancel()
	require.NoError(t, <-ended)

	// a broker that stops waits for no descriptor of others: the outcome is unknown
	log.dry.Store(true)
	in = newIngest(log, func() {}, 100, 10, 2000)
	ctx, cancel = context.WithCancel(context.Background())
	go func() { ended <- in.run(ctx) }()
	in.put([]event.Draft{{Body: []byte("a")}}, func(_ []event.Outcome, err error) { first <- err })
	<-log.asked
	cancel()
	require.ErrorIs(t, <-ended, disk.ErrDescriptors)
	require.Error(t, <-first)
}

// dryLog has no descriptor for its second increment while it is dry.
type dryLog struct {
	dry   atomic.Bool
	seq   uint64
	asked chan struct{}
}

func (l *dryLog) NewGroup() increments.AppendGroup { return noGroup{} }

func (l *dryLog) Prepare(_ increments.AppendGroup, drafts []event.Draft, out []event.Outcome) (int, error) {
	for i := range drafts {
		if l.dry.Load() && (l.seq >= 1 || len(drafts) == 1) {
			select {
			case l.asked <- struct{}{}:
			default:
			}
			return i, disk.ErrDescriptors
		}
		l.seq++
		out[i].Seq = l.seq
	}
	return len(drafts), nil
}

func (l *dryLog) Commit(increments.AppendGroup) error { return nil }
