package server

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"xmq/broker/api"
	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/broker/monitor"
	"xmq/broker/units"
	"xmq/dumpflow"
	"xmq/increments"
	"xmq/increments/segments"
	"xmq/statedb"
	"xmq/statedb/leveldb"
)

// Errors that decide the exit code of `xmq broker`.
var (
	// errTemporary marks trouble that may pass: a lock held, a port taken. Exit code 75.
	errTemporary = errors.New("temporary")
	// ErrDamaged marks data that must not be served before a person has looked. Exit code 78.
	ErrDamaged = errors.New("the broker does not serve this data")
	// ErrConfig marks what the configuration and the surroundings do not allow together. Exit code 78.
	ErrConfig = errors.New("this configuration cannot work here")
)

// IsTemporary reports whether starting again later may help.
func IsTemporary(err error) bool {
	for _, passing := range []error{errTemporary, disk.ErrHeld, disk.ErrDescriptors, increments.ErrLater} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// sentence is an error of a kind, told in one sentence that does not repeat the kind.
type sentence struct {
	kind error
	text string
}

func (s *sentence) Error() string { return s.text }
func (s *sentence) Unwrap() error { return s.kind }

func say(kind error, format string, args ...any) error {
	return &sentence{kind, fmt.Sprintf(format, args...)}
}

// IsDamage reports whether a person has to look at the data first.
func IsDamage(err error) bool { return errors.Is(err, ErrDamaged) || disk.IsDamage(err) }

// IsStorage reports whether the broker stopped because its own storage failed. Exit code 74.
func IsStorage(err error) bool { return errors.Is(err, disk.ErrStopped) }

// classed gives an error of the broker that has no class the one that its cause deserves, so that no supervisor takes
// it for a refusal: a failed write is the storage's, what this user may not do is the configuration's, and all else
// may pass.
func classed(err error) error {
	switch {
	case err == nil, IsDamage(err), IsStorage(err), IsTemporary(err), errors.Is(err, ErrConfig):
		return err
	case errors.Is(err, event.ErrDamaged):
		return say(ErrDamaged, "%v", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EROFS),
		errors.Is(err, syscall.EIO):
		return say(disk.ErrStopped, "%v", err)
	case errors.Is(err, fs.ErrPermission):
		return say(ErrConfig, "%v", err)
	}
	return say(errTemporary, "%v", err)
}

// stores are what lies in the data directory.
//
//	LOCK       who has it open
//	ballast    space to start from when the disk is full (see package disk)
//	log/       segments of increments
//	state/     the state store
//	staging/   snapshots on their way
type stores struct {
	dir     string
	lock    *disk.Lock
	storage *disk.Storage
	knobs   atomic.Pointer[Config] // of now
	log     increments.Log
	state   statedb.Store
	staging *dumpflow.Staging
	damage  chan monitor.Damage // segments set aside, until the watch has seen them
	made    int64               // when the log was made, by this start; 0: it was there
	forgot  chan statedb.Alert  // of idempotency keys that are lost, as damage
}

const (
	logDir     = "log"
	stateDir   = "state"
	stagingDir = "staging"
	lostFound  = "lost+found" // of the file system, and root's
)

// openStores opens everything in the order in which each can vouch for the next: the lock, the log, the state store
// with its checkpoint of the log, the staging area. Only a directory without log and state store gets a new log, and
// only when cfg.Create allows. After a failed write nothing is closed.
func openStores(cfg *Config, log *slog.Logger, onPoison func(error), onAlert func(statedb.Alert)) (*stores, error) {
	dir, err := filepath.Abs(cfg.Data)
	if err != nil {
		return nil, err
	}
	empty, err := prepareDir(dir, cfg.Create)
	if err == nil {
		err = closeDir(dir, log)
	}
	if err != nil {
		return nil, err
	}
	s := &stores{dir: dir, damage: make(chan monitor.Damage, 4096), forgot: make(chan statedb.Alert, 64),
		storage: disk.NewStorage(disk.Options{OnPoison: onPoison})}
	s.knobs.Store(cfg)
	if s.lock, err = disk.LockDir(dir); err == nil {
		var free uint64
		if free, _, err = disk.Space(dir); err == nil {
			err = releaseReserve(dir, free, log)
		}
	}
	if err == nil {
		err = s.openLog(cfg, empty, log)
	}
	if err == nil {
		err = s.openState(cfg.AlertsKeep, log, onAlert)
	}
	if err == nil {
		s.staging, err = dumpflow.OpenStaging(filepath.Join(dir, stagingDir),
			func() error { return s.checkSpace(s.knobs.Load()) })
	}
	if errors.Is(err, dumpflow.ErrForeign) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if IsStorage(err) {
		return nil, err
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	for _, why := range s.staging.Cleared() {
		log.Warn("a staged snapshot was cleared away", "err", why)
	}
	return s, nil
}

// Init makes a new log and its state store in cfg.Data, which must be empty or not there yet, and returns the log's
// ID. Errors have the classes of Open.
func Init(cfg Config, log *slog.Logger) (event.LogID, error) {
	dir, err := filepath.Abs(cfg.Data)
	if err != nil {
		return 0, err
	}
	empty, err := prepareDir(dir, true)
	if err == nil && !empty {
		err = say(ErrConfig, "the data directory %s holds a log already, or a part of one: nothing was made", dir)
	}
	if err != nil {
		return 0, classed(err)
	}
	cfg.Create = true
	s, err := openStores(&cfg, log, nil, nil)
	if err != nil {
		return 0, classed(err)
	}
	id := s.log.ID()
	return id, classed(s.close())
}

// startNeeds is how many bytes must be free for the stores to open: below that the reserve is released.
const startNeeds = disk.BallastSize / 2

// releaseReserve gives up the reserve file of dir when the disk, of which so much is free, is too full to start from.
// It is made again when there is room.
func releaseReserve(dir string, free uint64, log *slog.Logger) error {
	if free >= startNeeds || !disk.HasBallast(dir) {
		return nil
	}
	if err := disk.DropBallast(dir); err != nil {
		return err
	}
	log.Warn("the disk is full: the reserve was released, and input stays closed until there is room", "event",
		"reserve released",
		"file", disk.BallastFile(dir), "free_bytes", free, "released_bytes", disk.BallastSize)
	return nil
}

// reserveOf says what the reserve of dir can still do for a start on a full disk.
func reserveOf(dir string) string {
	if disk.HasBallast(dir) {
		return fmt.Sprintf("the reserve %s is released by the start that needs it", disk.BallastFile(dir))
	}
	return "no reserve is left that a start could release"
}

// prepareDir makes the directory when that is allowed, and reports whether nothing of ours lies in it.
func prepareDir(dir string, create bool) (empty bool, err error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && create:
		if err := os.MkdirAll(dir, 0o700); errors.Is(err, fs.ErrExist) { // it is there, and leads nowhere
			return false, fmt.Errorf("%w: the data directory %s is a link to a place that is not there: is the disk mounted?",
				ErrDamaged, dir)
		} else if err != nil {
			return false, fmt.Errorf("the data directory cannot be made: %w", err)
		}
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("%w: there is no data directory %s, and `create: false` says that there should be one",
			ErrDamaged, dir)
	case err != nil:
		return false, fmt.Errorf("%w: the data directory cannot be read: %w: give the broker a directory of its own "+
			"(--data), which its user may read", ErrDamaged, err)
	}
	known := map[string]bool{"LOCK": true, "ballast": true, logDir: true, stateDir: true, stagingDir: true,
		lostFound: true}
	empty = true
	for _, e := range entries {
		if !known[e.Name()] {
			return false, fmt.Errorf("%w: %s holds %s, which is not the broker's: give the broker a directory of its own",
				ErrDamaged, dir, e.Name())
		}
		if e.Name() == logDir || e.Name() == stateDir {
			empty = false
		}
	}
	if empty && !create {
		return false, fmt.Errorf("%w: the data directory %s is empty, and `create: false` says that it should not be: is "+
			"the disk mounted?", ErrDamaged, dir)
	}
	return empty, nil
}

// closeDir keeps everybody else out of the data directory: what lies in it is the data of all nodes. While it was
// open, others may have put something into it under a name that is ours: that is refused.
func closeDir(dir string, log *slog.Logger) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("%w: the data directory cannot be opened: %w", ErrDamaged, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("nobody can say whose the data directory is: %w", err)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		return say(ErrConfig, "the data directory %s belongs to user %d, and this broker runs as user %d: run it as that "+
			"user, or give the directory to this one with chown", dir, owner, os.Geteuid())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		if err := f.Chmod(0o700); err != nil {
			return say(ErrConfig, "the data directory %s is open to other users of this machine (mode %04o), and that cannot "+
				"be changed: %v", dir, mode, err)
		}
		log.Warn("the data directory was open to other users of this machine: its mode is 0700 now", "dir", dir, "mode",
			fmt.Sprintf("%04o", mode))
	}
	entries, err := f.ReadDir(-1)
	if err != nil {
		return fmt.Errorf("%w: the data directory cannot be read: %w", ErrDamaged, err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Lstat(path)
		if err != nil {
			return fmt.Errorf("nobody can say whose the data directory is: %w", err)
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() && e.Name() != lostFound {
			return say(ErrConfig, "%s belongs to user %d, and this broker runs as user %d: give it to this one with chown if "+
				"it is the broker's, or take it away", path, owner, os.Geteuid())
		}
		if (e.Name() == "LOCK" || e.Name() == "ballast") && !info.Mode().IsRegular() {
			return say(ErrConfig, "%s is no plain file, and the broker would write into what it leads to: take it away", path)
		}
	}
	return nil
}

func (s *stores) openLog(cfg *Config, empty bool, log *slog.Logger) (err error) {
	place := disk.Dir(filepath.Join(s.dir, logDir))
	o := segments.Options{MaxRecords: uint64(cfg.MaxRecords), RingBytes: cfg.ring(), SetAside: cfg.SetAside,
		Window: uint64(cfg.Idempotency.Window),
		OnForget: func(from, to uint64, why error) {
			select {
			case s.forgot <- forgotten(from, to, why):
			default: // as many stand there already
			}
			log.Warn("idempotency keys are not known any more", "first", from, "last", to, "why", why)
		},
		CheckSpace: func() error { return s.checkSpace(s.knobs.Load()) },
		OnDamage: func(segment string, err error) {
			select { // told once a segment
			case s.damage <- monitor.Damage{Segment: segment, Err: err}:
			default:
			}
			log.Error("a segment of the log is damaged and set aside", "segment", segment, "err", err)
		},
		OnUnsound: func(segment string, err error) {
			select { // the next check says it again
			case s.damage <- monitor.Damage{Segment: segment, Err: err, InMemory: true}:
			default:
			}
			log.Error("the files of the newest segment of the log are damaged: it goes on from memory", "segment", segment,
				"err", err)
		}}
	opened, err := segments.Open(place, s.storage, o)
	if errors.Is(err, fs.ErrNotExist) {
		if state := filepath.Join(s.dir, stateDir); exists(state) {
			return say(ErrDamaged, "there is no log in %s, but the state store %s knows of one: put the log back (is its "+
				"disk mounted?); who wants a new log removes both, and every node joins it with a DUMP", place, state)
		}
		if !empty && !cfg.Create {
			return fmt.Errorf("%w: there is no log in %s, and `create: false` says that there should be one: is "+
				"its disk mounted?", ErrDamaged, place)
		}
		if opened, err = segments.Create(place, s.storage, o); err == nil {
			s.made = time.Now().UnixNano()
			log.Info("made a new log", "log", opened.ID(), "dir", s.dir)
		}
	}
	if errors.Is(err, increments.ErrQuarantined) {
		return fmt.Errorf("%w; put that segment back from a copy of the data directory, or start the broker with "+
			"--set-aside and go on without its increments, which clients that have not applied them can only get by a DUMP",
			err)
	}
	if err != nil {
		return s.helped(logDir, err)
	}
	s.log = opened
	tellResize(opened, uint64(cfg.MaxRecords), log)
	return nil
}

// helped adds to the damage of a store in the directory of that name where to read what helps, unless it says that.
func (s *stores) helped(name string, err error) error {
	if !IsDamage(err) || disk.NoDirectory(filepath.Join(s.dir, name)) != nil {
		return err
	}
	return fmt.Errorf("%w; see what helps with xmq log check --data %s", err, s.dir)
}

// tellResize says that the open segment ends earlier than it was made for, since max_records is smaller now.
func tellResize(l increments.Log, records uint64, log *slog.Logger) {
	spans := l.Spans()
	open := spans[len(spans)-1]
	if end := l.Resize(records); end < open.Last {
		log.Info("max_records is smaller than at the last start: the open segment of the log ends earlier", "event",
			"segment resized", "max_records", records, "open_segment_ends_with", end, "was_made_for", open.Last)
	}
}

// exists reports whether something lies at path, or may lie there.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// openState opens the state store and compares it with the log. An empty one beside a log with increments means
// "unknown", not "nobody needs anything".
func (s *stores) openState(keep int, log *slog.Logger, onAlert func(statedb.Alert)) error {
	o := statedb.Options{OnAlert: onAlert, KeepEvents: keep, OnEvent: func(e statedb.Event) { logEvent(log, e) }}
	state, err := leveldb.OpenOrCreate(s.storage, disk.Dir(filepath.Join(s.dir, stateDir)), o)
	if errors.Is(err, statedb.ErrRecord) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return s.helped(stateDir, err)
	}
	s.state = state
	meta := s.state.Meta()
	var b statedb.Batch
	switch {
	case meta.Log == s.log.ID():
		checkpoint := s.state.Checkpoint()
		if err := s.log.VerifyCheckpoint(checkpoint); errors.Is(err, increments.ErrQuarantined) {
			// the log goes on after it, so nothing is missing at its end
			log.Warn("the last checkpoint lies in a segment that is set aside, and cannot be compared", "seq", checkpoint.Seq,
				"err", err)
		} else if IsTemporary(err) {
			return err
		} else if err != nil {
			return fmt.Errorf("%w: %w; put the log back from where they are, or let every node join a new log with a DUMP",
				ErrDamaged, err)
		}
		s.log.Advance(s.state.Clock())
		return nil
	case meta.Log == 0 && s.log.Head().Seq == 0:
		b.PutMeta(statedb.Meta{Log: s.log.ID(), Created: s.made})
	case meta.Log == 0:
		log.Warn("the state store is new but the log is not: clients will be rebuilt as their nodes say where they are")
		b.PutMeta(statedb.Meta{Log: s.log.ID(), Rebuilt: true})
		b.Raise(rebuilt())
	default:
		log.Warn("the log is another one than the state store knows: input is held until a node agrees with it, or "+
			"somebody accepts it", "old", meta.Log, "new", s.log.ID())
		doubts := s.state.Doubts()
		doubts.Add(statedb.Witness{Pos: event.Position{Log: meta.Log, Seq: s.state.Checkpoint().Seq},
			Time: time.Now().UnixNano()})
		b.PutDoubts(doubts)
		for _, c := range s.state.Clients() {
			b.DeleteClient(c.ID)
		}
		for _, d := range s.state.Dumps() {
			b.DeleteDump(d.ID)
		}
		// whose nodes still need what it holds is unknown
		b.PutMeta(statedb.Meta{Log: s.log.ID(), Rebuilt: s.log.Head().Seq > 0})
		b.Checkpoint(s.log.Head())
		if s.log.Head().Seq > 0 {
			b.Raise(rebuilt())
		}
		b.Raise(statedb.Alert{Key: "newlog", Severity: statedb.Critical, Last: time.Now().UnixNano(),
			Text: fmt.Sprintf("the log %s is gone, this broker keeps the new log %s: the databases of its nodes belong to "+
				"the old one. Put the old log back; or go on with this one as \"When the broker's disk is lost\" in "+
				"configs/OPERATING.md says: the database that stands the farthest is where it begins",
				meta.Log, s.log.ID())})
	}
	return s.state.Write(&b)
}

// forgotten is the alert of idempotency keys that are not known though the window promises it.
func forgotten(from, to uint64, why error) statedb.Alert {
	return statedb.Alert{Key: "keys", Severity: statedb.Warning, Seq: to, Last: time.Now().UnixNano(),
		Text: fmt.Sprintf("the idempotency keys of increments %d to %d, which retention has freed, are not known (%v): "+
			"one of them that is repeated with a key is stored again", from, to, why)}
}

func rebuilt() statedb.Alert {
	return statedb.Alert{Key: api.RebuiltAlert, Severity: statedb.Critical, Last: time.Now().UnixNano(),
		Text: "the state store was lost: clients are rebuilt as their nodes say where they are. Nothing of the log is " +
			"freed until you have seen all of them in `xmq positions` and run `xmq log trim --confirm`"}
}

// checkSpace refuses to fill the disk to its end.
func (s *stores) checkSpace(cfg *Config) error {
	free, total, err := disk.Space(s.dir)
	if err != nil {
		return err
	}
	if cfg.Watch.MinFree >= 0 && free < uint64(cfg.Watch.MinFree) || cfg.Watch.MinFree < 0 && disk.Scarce(free, total) {
		return fmt.Errorf("only %s of %s are free on the disk of %s: make room", units.Bytes(int64(free)),
			units.Bytes(int64(total)), s.dir)
	}
	return nil
}

// close closes what is open, in the reverse order.
func (s *stores) close() error {
	var errs []error
	if s.staging != nil {
		s.staging.Close()
	}
	if s.state != nil {
		errs = append(errs, s.state.Close())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}
