package increments

import (
	"context"
	"time"

	"xmq/broker/event"
)

// View is what a client's machine may ask of the log while it steps. None of its methods blocks: not for a disk, not
// for the writer. So one client's step delays no other's. See Look for a View of a Reader.
type View interface {
	// First is the lowest sequence that can be read; Head().Seq+1 when the log is empty.
	First() uint64
	// Head is the position at the last durable record: nothing beyond it is ever shown to anybody.
	Head() event.Position
	// Position returns the position at seq, which is First-1 to Head. ErrTrimmed: seq is below First-1. ErrBeyond: above
	// the head. ErrQuarantined: the record lies in a damaged part. ErrLater: it is not known now, ask again. Only
	// ErrTrimmed and ErrQuarantined are verdicts on seq that stay.
	Position(seq uint64) (event.Position, error)
}

// Reader is the log as nodes are fed from it. It is for concurrent use, beside the writer and retention.
type Reader interface {
	// First and Head as in View: neither blocks.
	First() uint64
	Head() event.Position
	// Position as in View, but it may block for reading one record. Near the head it does not.
	Position(seq uint64) (event.Position, error)
	// Read returns consecutive records beginning with from: at most maxRecords, and as many as fit into maxBytes, but at
	// least one when from is at or below the head; none when from is right after the head. It may return fewer than
	// there are: ask again.
	//
	// Records are verified (checksum, sequence, chain) and shared with other readers: nobody may write into them. It
	// blocks for a disk read at most, near the head for nothing, and never for the writer. ErrTrimmed: from is below
	// First. ErrBeyond: from is more than one above the head. ErrQuarantined: the record lies in a damaged part, which
	// is not served. ErrLater: it cannot be read this time, ask again. Rules: XQ-2, XQ-3, XQ-8.
	Read(from uint64, maxRecords, maxBytes int) ([]event.Encoded, error)
}

// Log is the log of one broker. Append, Prepare, Commit, Reset, Trim and Close are for one writer as said there;
// everything else is for any goroutine at any time. Whatever writes fails with an error that wraps disk.ErrStopped
// when storage has failed: the outcome is unknown, every later call fails alike, and the process must end.
type Log interface {
	Reader

	// ID is the life of this log.
	ID() event.LogID

	// Append puts drafts at the end of the log in order and returns one outcome for each. A refused draft does not
	// hinder the others: its Err is one of those that refuse a draft, or another one, which says that its key cannot be
	// looked up now. It copies what it keeps. It is Prepare and Commit in one; calls exclude each other.
	//
	// It blocks for one sync, or several where drafts cross a border inside. When the error is nil everything that has a
	// sequence survives kill and power loss and is visible to readers. ErrClosed: nothing was done. disk.ErrDescriptors:
	// the rest waits for a file descriptor; nothing has failed, and drafts with keys may be appended again. Other
	// errors: the outcome of every draft is unknown, and some may be in the log after a restart.
	//
	// A draft with a Key is stored once as long as the key is remembered, which is for a number of increments, whatever
	// retention frees. The same key with another body or topic is refused with ErrKeyReused. A key that is a number of
	// its Producer (Headers.Number) counts: above the producer's highest it is new, at or below it is looked up and
	// answered with its sequence, or refused with ErrTooOld. One that is more than MaxJump above the highest is refused
	// with ErrJump, unless it is the producer's first, or the first said Sparse, or (Clock) it is not ahead of our own
	// clock. Any other key is new when it is not found. Keys of drafts without a Producer are a name space of their own.
	// Rules: XI-1, XQ-6.
	Append(drafts []event.Draft) ([]event.Outcome, error)

	// NewGroup returns an empty group.
	NewGroup() AppendGroup
	// Prepare gives drafts their sequences after everything prepared before and puts them into g, which may hold some
	// already. out, as long as drafts, is told what becomes of each, as Append says; it is true only once Commit has
	// returned nil. It blocks for no sync, except of what a border inside needs. It copies what it keeps.
	//
	// It returns how many drafts are settled: fewer than all at a border. Then g and every group before it have to be
	// committed before Prepare is called for the rest with an empty one. An error is as Append's; but with
	// disk.ErrDescriptors nothing has failed: Prepare is called again with the same group for the drafts that are not
	// settled.
	//
	// It is for one writer that calls Prepare in the order of the drafts and Commit in the order of the groups, from two
	// goroutines if it likes, so that one group is prepared while the one before it is synced. Append is not called
	// meanwhile.
	Prepare(g AppendGroup, drafts []event.Draft, out []event.Outcome) (settled int, err error)
	// Commit writes a prepared group as one unit with one sync, for which it blocks. nil: everything in it that has a
	// sequence survives kill and power loss and is visible to readers. An error is as Append's.
	Commit(g AppendGroup) error

	// Reset lets a producer's numbers begin anew, wherever, and returns the highest so far; false when a reset stands
	// already. Numbers that were stored are still known for as long as they are remembered, so none is stored twice. It
	// blocks until what was being written is on disk, and for one sync. ErrNoProducer, ErrClosed.
	Reset(producer string) (highest uint64, counted bool, err error)
	// Index keeps what is remembered of idempotency keys beyond the records that retention frees, until ctx ends; then
	// it returns nil. It is for one goroutine beside all others, which it does not hinder. ErrClosed; another error is
	// trouble that may pass: call it again later.
	Index(ctx context.Context) error

	// Trim frees records below keep, in whole spans, and returns how many spans; the newest stays. keep must come from
	// durable positions and pins only. It survives a crash anywhere: the next opening finishes it. It blocks for one
	// sync and for running reads of what goes; the writer waits only for the sync. An error that does not wrap
	// disk.ErrStopped says that some space is not free yet: the next Trim frees it. Rules: XQ-3, XD-25.
	Trim(keep uint64) (freed int, err error)
	// Resize lets spans hold so many records from now on, at least 1, and returns the last sequence of the newest one: a
	// span that holds as many already ends where the log ends now, or a little later by what is on its way, and the next
	// append begins another.
	Resize(records uint64) (end uint64)
	// Spans lists what Trim frees as a whole, oldest first; there is always one, the newest, which is appended to.
	Spans() []Span

	// Check reads the log from sequence from (0: from its beginning) to the head as it is now, and verifies every
	// record. Damaged parts are reported, and set aside as a damaged read would; so are those that cannot be read now,
	// and it goes on after them. It may run beside everything else. All is well when it reports nothing. progress, if
	// not nil, is called with the sequence reached every thousand records or so; it may block, to slow the check down.
	// The error is ctx's, or that of a storage that has stopped.
	Check(ctx context.Context, from uint64, progress func(seq uint64)) (Report, error)
	// VerifyCheckpoint compares a position that was noted, durably, after it had been acknowledged. disk.Damage: the log
	// ends before it, has another chain there, or is another log. Then acknowledged increments are lost, and the broker
	// must serve nobody. A checkpoint below First-1 cannot be compared and passes, and so does the zero Position.
	// ErrLater: ask again.
	VerifyCheckpoint(p event.Position) error

	// Mark returns a position and a time, in ns since 1970: every record after the position has this time or a later
	// one. What it promises holds in this process; for the next one the time is stored and given to Advance.
	Mark() (event.Position, int64)
	// Advance makes every later record have the time t, in ns since 1970, or a later one.
	Advance(t int64)
	// Ahead is how far the time of the log is before the broker's clock, which was set back since.
	Ahead() time.Duration

	// Stats returns the figures now. It reads directories, so it is for once a second, not for once a record.
	Stats() (Stats, error)
	// Unreadable returns when a reader got ErrLater for the last time, and that error; nil when none did.
	Unreadable() (at time.Time, err error)
	// Close waits for running reads and gives the log up. Nothing must be read afterwards. After disk.ErrStopped the
	// process should end without it.
	Close() error
}

// AppendGroup is drafts on their way into a log, which has made it: they become durable together.
type AppendGroup interface {
	// Records is how many drafts it will store.
	Records() int
	// Reset empties a group that is committed, to be used again.
	Reset()
}

// Span is the first and the last possible sequence of a part of the log that retention frees as a whole.
type Span struct{ First, Last uint64 }

// Report is what a Check found.
type Report struct {
	Log         event.LogID
	First, Last uint64    // what was looked at
	Records     uint64    // verified
	Segments    int       // looked at
	Damaged     []Finding // set aside
	Unreadable  []Finding // cannot be read now: nothing is known of them
	Missing     error     // acknowledged increments are missing, by the checkpoint
}

// Finding is one segment with something wrong, or a place where one should be.
type Finding struct {
	Segment string // its name
	Err     error  // what and where
	// what a person can do; "": the segment is set aside, and clients that need it have to DUMP again
	Help string
}

// Stats describes how a log fares.
type Stats struct {
	Head         event.Position
	First        uint64
	Segments     int
	Quarantined  []string // names of segments set aside
	OpenSegments int
	Bytes        int64         // on disk, without the index
	Indexed      uint64        // the keys of all records up to there are in the index; 0 while it is broken
	IndexBytes   int64         // on disk
	RingBytes    int           // memory of the newest records
	Unmerged     int           // tables of the newest segment not merged yet: many are a stall that announces itself
	WritePaused  bool          // a write waits for merging now
	Syncs        uint64        // of files, so far
	SyncP99      time.Duration // of the last 1024 syncs
}
