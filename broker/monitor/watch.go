package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"xmq/broker/disk"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/increments"
	"xmq/statedb"
	"xmq/worker"
)

// Level-0 tables of the newest segment at which an alert is raised, and at which input is refused.
const (
	level0Alert  = 12
	level0Refuse = 24
)

// stuckFor is when an ingest is called stuck.
const stuckFor = 5 * time.Second

// unreadableFor is how long the last read that failed makes the alert stand, at least: whoever needs the log tries
// again at each tick.
const unreadableFor = 10 * time.Second

// stuck reports whether increments have waited for stuckFor without any commit. Whoever is seen waiting for the first
// time has only just come, however long nobody has looked.
func (w *Watcher) stuck(now time.Time) bool {
	n := w.Input.Commits()
	if n != w.seenCommits || w.Input.Waiting() == 0 {
		w.seenCommits, w.waitsSince = n, time.Time{}
		return false
	}
	if w.waitsSince.IsZero() {
		w.waitsSince = now
	}
	return now.Sub(w.waitsSince) >= stuckFor
}

// ErrDamaged ends a Watcher: what the log is written to cannot be trusted.
var ErrDamaged = errors.New("the newest segment of the log is damaged")

// Watcher looks from time to time whether disk and stores can go on taking input, and how the clients are. Its fields
// are set before it is used.
type Watcher struct {
	Log     increments.Log
	State   statedb.Store
	Knobs   func() Knobs
	Alerts  *Alerts
	Care    *Care
	Trimmer *Trimmer
	Disk    Disk
	Input   Input
	Marks   *worker.Marks        // of the time of the log
	Damage  <-chan Damage        // segments that were set aside
	Forgot  <-chan statedb.Alert // of what is lost beside them
	Logger  *slog.Logger
	Now     func() time.Time

	Doubts     func(batch *statedb.Batch, now int64) // ends and stores what speaks against the log, and raises its alert
	Doubted    func() bool                           // a node speaks against the log
	Refusals   func() worker.Refusals                // of clients
	Forget     func()                                // which clients were refused; nil: they are kept
	MaxClients int
	Payload    func() error                                  // why NATS cannot carry what the broker sends; nil: it can
	Insecure   string                                        // text of the alert about open addresses; "" for none
	Repeat     func(now time.Time, standing []statedb.Alert) // tells hooks again of what stands
	Looked     func()                                        // a round is over
	Tick       time.Duration                                 // how often who needs the log tries again
	Started    time.Time                                     // when the broker was

	deciding    sync.Mutex        // held by a round, and by whoever changes what it computes from
	wanted      time.Time         // a node has asked for the time of the log
	trend       trend             // of the disk
	trends      map[string]*trend // of the disks of databases, by client
	nextLook    time.Time         // at the clients
	seenCommits uint64            // commits, and since when increments were seen waiting without one
	waitsSince  time.Time         // zero: they are not
	seenStrays  uint64            // refusals of unknown IDs, and when the last one was seen
	strayAt     int64
}

// Input is what takes increments into the log.
type Input interface {
	// Refuse lets it refuse everything with r, or take increments again (nil).
	Refuse(r *door.Refusal)
	// Commits is how often it has written, Taken how many increments; Waiting is how many wait now.
	Commits() uint64
	Taken() uint64
	Waiting() int64
}

// Damage is one segment of the log that was set aside.
type Damage struct {
	Segment  string // its name: first and last possible sequence
	Err      error
	InMemory bool // it is the newest, found by a check of its files: what is served and written to is sound
}

// text says what the damage means to people.
func (d Damage) text() string {
	if d.InMemory {
		return fmt.Sprintf("the files of segment %s, the newest of the log, are damaged (%v): the broker goes on with what "+
			"it has in memory, and its next start would end with exit code 78. Before it is stopped, let every node apply what "+
			"it lacks (xmq positions) and make a backup (xmq dump); xmq log check says whether the damage is still there: it "+
			"is gone when it was in a journal whose content has been written to tables since", d.Segment, d.Err)
	}
	return fmt.Sprintf("segment %s of the log is damaged and set aside (%v): clients that need it have to DUMP "+
		"again, and idempotency keys of its increments that were not indexed before count as freed: a repetition is "+
		"stored again. While it is one of the newest, the next start of the broker needs --set-aside, unless xmq log trim "+
		"has freed it or it was put back", d.Segment, d.Err)
}

// newest reports whether the segment is the one that is appended to.
func (d Damage) newest(head uint64) bool {
	_, last, _ := strings.Cut(d.Segment, "-")
	n, err := strconv.ParseUint(last, 10, 64)
	return err == nil && n > head
}

// Deciding is held by whoever changes what a round computes from: rounds write what they have read before.
func (w *Watcher) Deciding() sync.Locker { return &w.deciding }

// Run writes the checkpoint of the log every Watch.Every, after the log's own sync, and looks around, until ctx ends;
// earlier when hurry says so or the knobs change: changed is closed when they do the next time. Errors are those of the
// state store, and ErrDamaged.
func (w *Watcher) Run(ctx context.Context, changed func() <-chan struct{}, hurry <-chan struct{}) error {
	for {
		news := changed()
		if err := w.Look(); err != nil {
			return err
		}
		pause := time.NewTimer(w.Knobs().Watch.Every)
		select {
		case <-ctx.Done():
			pause.Stop()
			return w.Checkpoint()
		case <-hurry:
		case <-news:
		case <-pause.C:
		}
		pause.Stop()
	}
}

// markFor is how long behind the last node that asked the time of the log is told: longer than nodes are silent.
const markFor = 10 * time.Minute

// Checkpoint stores how far the log is durable and, when nodes want it, the time of the log, which they are told then.
func (w *Watcher) Checkpoint() error {
	var batch statedb.Batch
	if head := w.Log.Head(); head != w.State.Checkpoint() {
		batch.Checkpoint(head)
	}
	if w.Marks.Asked() {
		w.wanted = w.Now()
	}
	wanted := !w.wanted.IsZero() && w.Now().Sub(w.wanted) < markFor
	var pos event.Position
	var clock int64
	if wanted {
		pos, clock = w.Log.Mark()
		batch.Clock(clock)
	}
	if err := w.State.Write(&batch); err != nil {
		return err
	}
	if wanted {
		w.Marks.Tell(pos, clock)
	}
	return nil
}

// Look makes one round. Errors stop the broker.
func (w *Watcher) Look() error {
	w.deciding.Lock()
	defer w.deciding.Unlock()
	if err := w.Checkpoint(); err != nil {
		return err
	}
	var batch statedb.Batch
	now := w.Now().UnixNano()
	for more := true; more; {
		select {
		case d := <-w.Damage:
			batch.Raise(statedb.Alert{Key: "damage/" + d.Segment, Severity: statedb.Critical, Last: now, Text: d.text()})
			if d.newest(w.Log.Head().Seq) && !d.InMemory {
				return fmt.Errorf("%w: %w", ErrDamaged,
					errors.Join(d.Err, w.State.Write(&batch)))
			}
		case a := <-w.Forgot:
			batch.Raise(a)
		default:
			more = false
		}
	}
	w.Doubts(&batch, now)
	w.Alerts.When(&batch, "insecure", w.Insecure != "", now, func() string { return w.Insecure })
	small := w.Payload()
	w.Alerts.When(&batch, "payload", small != nil, now,
		func() string { return small.Error() + "; until then nodes that are behind get nothing" })
	full := w.Disk.Full()
	w.lookAtDisk(&batch, full, w.Now())
	w.lookAtClients(&batch, w.Now())
	w.Care.look(&batch, w.Now())
	at, unread := w.Log.Unreadable()
	w.Alerts.When(&batch, "unreadable", unread != nil && w.Now().Sub(at) < max(unreadableFor, 3*w.Tick), now,
		func() string {
			return fmt.Sprintf("a part of the log cannot be read now, and who needs it waits; it is tried again all the "+
				"time: %v", unread)
		})
	st, err := w.Log.Stats()
	if err != nil {
		w.Logger.Warn("the sizes of the log cannot be read now", "err", err)
	}
	stuck := w.stuck(w.Now())
	w.lookAtStorage(&batch, st.Unmerged, st.WritePaused, stuck, st.SyncP99, now)
	ahead := w.Log.Ahead()
	w.Alerts.When(&batch, "clock", ahead > aheadAlert, now, func() string {
		return fmt.Sprintf("nodes were told a time of the log that is %s later than this machine's clock, which stood "+
			"later then, or stands too early now: "+
			"what ends by that time (keys of Redis) may have ended too early on every node; set the clock right; the log's "+
			"time goes on at half speed until the clock has caught up, which takes as long again", units.Span(ahead))
	})
	refusals := w.Refusals()
	w.Alerts.When(&batch, "max_clients", refusals.Full > 0 && w.MaxClients > 0 && refusals.Known >= w.MaxClients, now,
		func() string {
			return fmt.Sprintf("this broker knows %s, which is its limit (max_clients), and refused others: forget "+
				"clients that are gone (xmq client forget ID --reason TEXT) or raise the limit",
				units.Of(uint64(refusals.Known), "client"))
		})
	w.strays(&batch, refusals, now)
	overfull := w.Trimmer.Overfull()
	switch {
	case full == nil && overfull != "":
		w.Input.Refuse(door.Refuse(door.DiskFull, "the broker takes no increments: %s", overfull))
	case full != nil:
		w.Input.Refuse(door.Refuse(door.DiskFull, "the broker takes no increments: %v", full))
	case st.Unmerged >= level0Refuse:
		w.Input.Refuse(door.Refuse(door.Busy, "the broker's storage lags behind: try again"))
	default:
		w.Input.Refuse(nil)
	}
	w.Repeat(w.Now(), w.Alerts.Standing())
	w.Alerts.Taken.Sample(w.Input.Taken(), w.Now())
	w.Looked()
	if w.Knobs().Watch.Ballast && full == nil && w.roomForReserve() && !disk.HasBallast(w.Disk.Dir) {
		if err := disk.AddBallast(w.Disk.Dir); err != nil {
			w.Logger.Warn("the reserve of the disk cannot be written now", "err", err)
		}
	}
	return w.State.Write(&batch)
}

// aheadAlert is how far the time of the log may be ahead of the clock: clocks are set by seconds now and then.
const aheadAlert = time.Minute

// lookAtStorage raises the alert of the log's storage by its consequence: what is slow is a note, what keeps
// increments waiting is critical.
func (w *Watcher) lookAtStorage(batch *statedb.Batch, tables int, paused, stuck bool, sync time.Duration, now int64) {
	a := statedb.Alert{Key: "stall", Last: now}
	switch {
	case stuck:
		a.Severity, a.Text = statedb.Critical, fmt.Sprintf("increments have waited for %s without a commit: look at the "+
			"disk of the log", stuckFor)
	case paused || tables >= level0Alert:
		a.Severity, a.Text = statedb.Critical, fmt.Sprintf("the log's storage lags behind: %s to be merged, and "+
			"input is refused at %d; look at the disk's load", units.Do(uint64(tables), "table", "waits", "wait"), level0Refuse)
	case w.Knobs().Watch.SlowSync > 0 && sync > w.Knobs().Watch.SlowSync:
		a.Severity, a.Text = statedb.Note, fmt.Sprintf("one sync in a hundred of the log takes %s or longer: look at the "+
			"disk's load", sync.Round(time.Millisecond))
	}
	w.Alerts.Set(batch, a)
}

// strayFor is how long the alert about refused IDs that nobody knows stands after the last of them.
const strayFor = 10 * time.Minute

// strays raises one alert for all IDs that are refused, or wait, although nobody knows them; it names them and ends by
// itself: when all of them have joined, or none was heard for a while. Who is refused hurts nobody else, which is a
// note.
func (w *Watcher) strays(batch *statedb.Batch, r worker.Refusals, now int64) {
	const key = "strangers"
	_, stands := w.Alerts.Stands(key)
	refused := len(r.IDs) > 0
	for i := len(r.IDs) - 1; i >= 0; i-- {
		if c, known := w.State.Client(r.IDs[i]); known && c.Placed() {
			r.IDs, r.Texts = slices.Delete(r.IDs, i, i+1), slices.Delete(r.Texts, i, i+1)
		}
	}
	joined := refused && len(r.IDs) == 0 && !r.More
	come := r.Strays != w.seenStrays
	w.seenStrays = r.Strays
	switch {
	case w.Doubted(), joined: // they speak against the log, and the alert about that says what to do
		w.strayAt = 0
		w.Alerts.Set(batch, statedb.Alert{Key: key, Last: now})
		return
	case come:
		w.strayAt = now
	case stands && now-max(w.strayAt, w.Started.UnixNano()) <= int64(strayFor):
	default:
		if w.Alerts.Set(batch, statedb.Alert{Key: key, Last: now}); stands && w.Forget != nil {
			w.Forget()
		}
		return
	}
	if len(r.IDs) == 0 {
		return // of before this broker was started
	}
	a := statedb.Alert{Key: key, Severity: statedb.Note, Last: now, Text: straysText(r)}
	if r.Waits {
		a.Severity = statedb.Warning
	}
	w.Alerts.Set(batch, a)
}

// fewStrays is of how many IDs the alert says why they were refused.
const fewStrays = 3

// straysText names the IDs that are refused although nobody knows them, and says of the first few why.
func straysText(r worker.Refusals) string {
	text := "nodes came that this broker does not know, and do not follow: " + strings.Join(r.IDs, ", ")
	if r.More {
		text += " and others"
	}
	why := r.Texts[:min(len(r.Texts), fewStrays)]
	text += ". " + strings.Join(why, "; ")
	if len(why) < len(r.Texts) || r.More {
		text += "; the logs of the others say why"
	}
	return text
}
