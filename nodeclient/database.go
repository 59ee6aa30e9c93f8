package nodeclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"xmq/broker/event"
)

// Database is one database as a node sees it: the port of a target driver. A driver is a package under
// nodeclient/driver; one conformance suite (nodeclient/driver/drivertest) runs on all of them.
//
// The agent calls one method at a time, except that a Snapshot it has opened is read while Apply goes on.
// Every method may block as long as the database does; ctx ends the wait. Errors are classed by Transient
// and Fatal; every other error of Apply is a FAIL.
type Database interface {
	// Position returns the position stored with the data: what this database has applied. The zero
	// Position means a fresh place that has never applied anything.
	Position(ctx context.Context) (event.Position, error)

	// Apply commits a batch and the position after its last item in one transaction.
	//
	// batch is 1 or more consecutive items after before; each has the position after it, and those
	// without a record only move the position. The items are borrowed until Apply returns. Calls never
	// overlap. before is the stored position as the agent knows it; a driver compares inside the
	// transaction (CheckAdvance) and answers Fatal when somebody else has moved it, and that it went back, with the
	// position it stands at, when that is an earlier one of the same log. On a fresh place the stored position is zero
	// and before is the start of the log: that is no difference.
	//
	// nil: all of it is durable. Otherwise applied is the position that is durable now: for a FAIL the
	// one right before the failing item, everything up to it committed. When the outcome of a commit is
	// unknown the driver reads the position back and answers by that. Rules: XI-6, XS-3, XS-5, XD-28.
	//
	// A batch of one item whose Pos is before is an increment that this database has passed over, and that is to be
	// applied outside the order: its record has an earlier sequence, and the position stays. Then the position cannot
	// tell what became of a commit without an answer: that is IsUnknown.
	Apply(ctx context.Context, before event.Position, batch []event.Item) (applied event.Position, err error)

	// Seek stores pos as the position without touching data: an operator's explicit position (XI-9).
	// When it returns nil that is durable.
	Seek(ctx context.Context, pos event.Position) error

	// Topics returns what Keep has stored beside the position: the topics whose increments the data holds. "" when
	// nothing is stored: on a place without a position, in a database of a node of the first revision until Keep, and
	// always by a driver that stores nothing (webhook, exec), whose topics the broker alone remembers.
	Topics(ctx context.Context) (event.Topics, error)

	// Keep stores topics beside the position, which is there, and touches neither position nor data. When it returns
	// nil that is durable, and stays through every Apply and Seek. A table of the first revision gets the column for
	// it; done twice, or interrupted in between, it comes to the same.
	Keep(ctx context.Context, topics event.Topics) error

	// Snapshot opens a consistent read at exactly the applied position and returns at once where the
	// database can do that (MVCC). The caller closes it. Only one is open at a time.
	Snapshot(ctx context.Context) (Snapshot, error)

	// Loads reports whether Restore knows this format of snapshots (Snapshot.Format).
	Loads(format string) bool

	// Restore loads a snapshot into a fresh place beside the live one. r yields exactly the bytes that
	// Snapshot.WriteTo wrote on the other node; want is the position they must contain, topics are those that the fresh
	// place keeps beside it, whatever is stored in the snapshot: the caller compares them with the manifest before
	// Switch. The old data stays in force and readable until the Switch of the returned Restored. r's error (a cut, a
	// damaged digest) fails Restore, and nothing of the fresh place survives that. Rules: XE-12, XE-13.
	Restore(ctx context.Context, want event.Position, topics event.Topics, r io.Reader) (Restored, error)

	// CheckSpace reports, as one sentence, that a snapshot of about size bytes (0: not known) will not fit beside the
	// live data; nil when it will, or when nobody can tell from here. It comes before Restore.
	CheckSpace(ctx context.Context, size int64) error

	// Empty reports whether the place holds nothing at all, so that a restore overwrites nothing.
	Empty(ctx context.Context) (bool, error)

	// Close ends all use. Open snapshots are closed first by the caller.
	Close() error
}

// BatchLimiter is a target that gains nothing from more increments in one Apply than it says, because each is durable
// by itself. The broker hears of what was applied when Apply returns, and what it has not heard of comes again after a
// crash.
type BatchLimiter interface {
	BatchLimit() int // 1 or more
}

// Noticer is a target that finds out what people must know and what is no error: each sentence is one warning of the
// node's log.
type Noticer interface {
	Notices() []string // since the last call; the first tells what Open has found
}

// Timed is a target whose data ends by the time of the log: keys with a time to live. What an increment's own time
// ends, Apply ends before it.
type Timed interface {
	// Expire ends what has lived until the time of the log until, in ns since 1970: no increment after at, the stored
	// position, has an earlier one. It does a bounded piece of that; more reports that there is more to do. Errors are
	// classed as those of Apply, whose calls it never overlaps.
	Expire(ctx context.Context, at event.Position, until int64) (more bool, err error)
}

// Preparer is a target whose Snapshot takes long, or waits for others, unless something was done before.
type Preparer interface {
	// Prepare does that, as far as it can be done without waiting: before a DUMP holds increments, and again until it
	// succeeds. It changes no data, and its calls overlap none of Apply. Errors say what is in the way, for people;
	// those that are Transient may pass.
	Prepare(ctx context.Context) error
}

// Ranger is a target whose keys have an order, so that a part of them can be read.
type Ranger interface {
	// SnapshotRange is Snapshot of the keys after start, up to and with end, at most limit of them. An empty start
	// stands for the beginning, an empty end for the end, limit 0 for no limit. Nobody restores from such a snapshot.
	// ErrNoRanges: the database has no keys.
	SnapshotRange(ctx context.Context, start, end []byte, limit uint64) (Snapshot, error)
}

// ErrNoRanges is returned when a part is asked of a copy that has no keys in an order.
var ErrNoRanges = errors.New("this kind of target has no ranges: leave --start, --end and --limit out")

// Snapshot is one consistent read of a database. Two of them can be compared with ==: drivers return pointers.
type Snapshot interface {
	// Position is the position the snapshot holds, exactly.
	Position() event.Position
	// Format names the bytes that WriteTo writes, with a version: "sqlite-pages/1". A requester's driver
	// refuses formats it does not know.
	Format() string
	// Size is about how many bytes WriteTo will write; 0 when that is not known without reading it all.
	Size() int64
	// Online reports that increments may be applied while WriteTo runs. When false the agent holds them
	// until the snapshot is closed.
	Online() bool
	// WriteTo writes the whole snapshot once. It ends with ctx.
	WriteTo(ctx context.Context, w io.Writer) error
	// Close gives up the consistent read. It may be called at any time, also twice.
	Close() error
}

// Restored is a snapshot that has been loaded and verified in a fresh place.
type Restored interface {
	// Switch makes the fresh place the live one, durably and as one step: after a crash either the old
	// data or the new data is live, whole. After it returns nil Position answers the snapshot's.
	Switch(ctx context.Context) error
	// Discard removes the fresh place. It does nothing after Switch.
	Discard() error
}

// LeftOut is a Restored that could not take all of its snapshot over, without harm to the data: rights of roles that
// are not there.
type LeftOut interface {
	LeftOut() string // as one sentence, after Switch; "" for nothing
}

// class is what follows from an error.
type class int

const (
	transient class = iota
	unknown
	wentBack
	fatal
)

// classed marks an error with what follows from it.
type classed struct {
	err   error
	class class
}

func (c *classed) Error() string { return c.err.Error() }
func (c *classed) Unwrap() error { return c.err }

// Transient marks trouble that may pass: connection lost, lock timeout, database not there yet. It is no
// state; the agent tries again with backoff and says so in its heartbeat.
func Transient(err error) error { return &classed{err, transient} }

// WrongPassword is the refusal of a password that stands in a file. It is Transient: a password that was changed comes
// into the file before or after it comes to the server.
func WrongPassword(err error) error {
	return Transient(fmt.Errorf("%w: the file with the password is read again at each try", err))
}

// Unknown is Transient trouble after which nobody knows whether what was to be done is done, and the position cannot
// tell either.
func Unknown(err error) error { return &classed{err, unknown} }

// Fatal marks the loss of the copy itself: another history's position, a position row that is gone from a
// database that has data. The node must DUMP again.
func Fatal(err error) error { return &classed{err, fatal} }

// ErrTaken is returned when another node uses the database of this one. Nothing is wrong with the copy, and nobody's
// state changes; but this process cannot go on, and tells the broker so. It is Transient: the other one may end.
var ErrTaken = errors.New("another node uses this database")

// ErrGone is returned when a database has no position any more. It was emptied, or replaced by one that never had
// any: the broker decides what becomes of it when the node starts again. It is Transient, and changes nobody's state.
var ErrGone = errors.New("the database has no position any more")

// Taken is an ErrTaken of a driver: who, in words, has the database.
func Taken(driver, database, who string) error {
	return Transient(fmt.Errorf("%s: %w (%s): %s. Stop that one, or give this node a database of its own",
		driver, ErrTaken, database, who))
}

// IsUnknown reports whether err was marked by Unknown, somewhere.
func IsUnknown(err error) bool {
	switch e := err.(type) {
	case *classed:
		return e.class == unknown || IsUnknown(e.err)
	case interface{ Unwrap() error }:
		return IsUnknown(e.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), IsUnknown)
	}
	return false
}

// IsTransient reports whether err was marked by Transient, Unknown, or IsBack.
func IsTransient(err error) bool {
	var c *classed
	return errors.As(err, &c) && c.class != fatal
}

// IsBack reports that the database stands at an earlier position of the same log than the node left it at, as
// CheckAdvance found: Apply has returned that position, and a new session goes on from it.
func IsBack(err error) bool {
	var c *classed
	return errors.As(err, &c) && c.class == wentBack
}

// IsFatal reports whether err was marked by Fatal.
func IsFatal(err error) bool {
	var c *classed
	return errors.As(err, &c) && c.class == fatal
}

// CheckAdvance is the compare half of every driver's compare and set: stored is the position found inside
// the transaction (zero: none yet), before is where the batch begins. An earlier position of the same log is what a
// failover to an older copy, a restored backup or a server without its last writes leaves: data and position have gone
// back together, which IsBack reports. The broker sees by the chain whether it is a point of its log. No position at
// all is ErrGone. Any other difference is Fatal.
func CheckAdvance(stored, before event.Position) error {
	switch {
	case stored == before || stored.Zero() && before == event.Start(before.Log):
		return nil
	case stored.Zero():
		return Transient(fmt.Errorf("%w, and this node left it at %s: start the node again. An empty database is fed from 1"+
			" where that is kept; one with data needs --at, or a DUMP", ErrGone, before))
	case stored.Log == before.Log && stored.Seq < before.Seq:
		return &classed{fmt.Errorf("the database stands at %s but this node left it at %s: it has gone back to an earlier "+
			"state", stored, before), wentBack}
	}
	return Fatal(fmt.Errorf("the database stands at %s but this node left it at %s: another program has written its "+
		"position", stored, before))
}
