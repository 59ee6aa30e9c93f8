package nodeclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"xmq/broker/event"
	"xmq/broker/failpoint"
	"xmq/dumpflow"
)

// errNotOurs is returned when a restore would overwrite what is not a copy of this log.
var errNotOurs = errors.New("the database is not empty and not a copy of this log: empty it, or start the node with " +
	"--replace")

// errOtherTopics is returned when a snapshot holds other topics than this node follows.
var errOtherTopics = errors.New("not loaded")

// openSnapshot runs in dbLoop, so that it sees the database at rest. The loop keeps the snapshot.
func (a *Agent) openSnapshot(work context.Context, dump event.DumpID, part *event.Range) outcome {
	snap, err := a.snapshot(work, part)
	if err != nil {
		return func(s *session) { s.opened(dump, event.Position{}, dumpflow.Opened{}, err) }
	}
	a.opened = snap
	a.pauses.begin(snap)
	return func(s *session) {
		a.snap, a.part = snap, part
		s.opened(dump, snap.Position(), dumpflow.Opened{Format: snap.Format(), Online: snap.Online(), Size: snap.Size()}, nil)
	}
}

// snapshot opens the whole copy or a part of it.
func (a *Agent) snapshot(ctx context.Context, part *event.Range) (Snapshot, error) {
	if part == nil {
		return a.db.Snapshot(ctx)
	}
	if r, ok := a.db.(Ranger); ok {
		return r.SnapshotRange(ctx, part.Start, part.End, part.Limit)
	}
	return nil, fmt.Errorf("%w (its target is %s)", ErrNoRanges, a.opts.Driver)
}

// upload sends a snapshot, and closes it whatever happens.
func (a *Agent) upload(ctx context.Context, dump event.DumpID, snap Snapshot, part *event.Range) outcome {
	defer a.closeSnapshot(snap)
	m := dumpflow.Manifest{Dump: dump, Target: a.opts.ID, Pos: snap.Position(), Format: snap.Format(),
		Topics: a.opts.Topics, Range: part}
	m, err := dumpflow.Upload(ctx, a.call, m, snap.WriteTo, a.transferOptions())
	if err == nil {
		a.log.Info("snapshot sent", "dump", dump, "seq", m.Pos.Seq, "bytes", m.Size)
	}
	return func(s *session) { s.uploaded(dump, err) }
}

func (a *Agent) transferOptions() dumpflow.Options {
	return dumpflow.Options{Rate: a.live.Load().dumpRate, Retry: a.opts.Tick}
}

// restore downloads a snapshot into a fresh place, verifies all of it, and only then switches.
func (a *Agent) restore(ctx context.Context, job restoreJob) outcome {
	left, err := a.load(ctx, job)
	return func(s *session) { s.restored(job, left, err) }
}

// load says in left what of the snapshot was left out.
func (a *Agent) load(ctx context.Context, job restoreJob) (left string, err error) {
	if err := a.mayReplace(ctx, job.pos.Log); err != nil {
		return "", err
	}
	if err := a.db.CheckSpace(ctx, job.size); err != nil {
		return "", err
	}
	taken := []any{"dump", job.dump, "from", a.opts.From, "seq", job.pos.Seq}
	if job.opened != 0 {
		at := time.Unix(0, job.opened)
		taken = append(taken, "opened", at.UTC().Format(time.RFC3339), "age", time.Since(at).Round(time.Second))
	}
	a.log.Info("loading snapshot", taken...)
	d := dumpflow.NewDownload(ctx, a.call, job.dump, a.transferOptions())
	defer d.Close()
	loaded, err := a.db.Restore(ctx, job.pos, event.TopicsOf(a.opts.Topics), d)
	if err != nil {
		return "", fmt.Errorf("load snapshot of sequence %d: %w", job.pos.Seq, err)
	}
	m, err := d.Manifest()
	switch {
	case err != nil:
	case m.Pos != job.pos || m.Dump != job.dump:
		err = fmt.Errorf("its manifest says %s, not %s", m.Pos, job.pos)
	case !slices.Equal(m.Topics, a.opts.Topics):
		err = fmt.Errorf("%w: the snapshot of %s holds topics %s, and this node follows %s: start it with the same "+
			"topics, or join from another node",
			errOtherTopics, m.Target, event.TopicsOf(m.Topics), event.TopicsOf(a.opts.Topics))
	case ctx.Err() != nil:
		err = ctx.Err()
	default:
		failpoint.Hit(failpoint.LoadedBeforeSwitch)
		if err = loaded.Switch(ctx); err == nil {
			return leftOut(loaded), nil
		}
	}
	return "", errors.Join(err, loaded.Discard())
}

// leftOut is what a loaded snapshot could not take over.
func leftOut(loaded Restored) string {
	if l, is := loaded.(LeftOut); is {
		return l.LeftOut()
	}
	return ""
}

// mayReplace protects a database that is neither empty nor a copy of this log.
func (a *Agent) mayReplace(ctx context.Context, log event.LogID) error {
	if a.opts.Replace {
		return nil
	}
	empty, err := a.db.Empty(ctx)
	if err != nil || empty {
		return err
	}
	pos, err := a.db.Position(ctx)
	switch {
	case err == nil && pos.Log == log:
		return nil
	case IsTransient(err) || ctx.Err() != nil: // it says nothing about whose data it is
		return err
	}
	if err != nil {
		return fmt.Errorf("%w (%w)", errNotOurs, err)
	}
	return errNotOurs
}

// LoadBackup loads a backup file's bytes (see dumpflow.OpenArchive) into the target before Run, as the first of
// the two steps of joining by a backup (XE-12). It refuses a place that is neither empty nor a copy of the same log.
func (a *Agent) LoadBackup(ctx context.Context, m dumpflow.Manifest, r io.Reader) error {
	if !a.db.Loads(m.Format) {
		return &ending{ErrRefused, fmt.Sprintf("the backup of %s is %s, which this kind of target cannot load: restore it "+
			"into a database of its own kind", m.Target, m.Format)}
	}
	if m.Range != nil {
		return &ending{ErrRefused, fmt.Sprintf("the backup of %s holds only a part of its keys: nobody can go on from it",
			m.Target)}
	}
	if !slices.Equal(m.Topics, a.opts.Topics) {
		return &ending{ErrRefused, fmt.Sprintf("the backup of %s holds topics %s and this node follows %s: start it with "+
			"the same topics", m.Target, event.TopicsOf(m.Topics), event.TopicsOf(a.opts.Topics))}
	}
	if err := a.mayReplace(ctx, m.Pos.Log); err != nil {
		return err
	}
	if err := a.db.CheckSpace(ctx, m.Size); err != nil {
		return err
	}
	loaded, err := a.db.Restore(ctx, m.Pos, event.TopicsOf(a.opts.Topics), r)
	if err != nil {
		return fmt.Errorf("load backup of sequence %d: %w", m.Pos.Seq, err)
	}
	if err := loaded.Switch(ctx); err != nil {
		return errors.Join(err, loaded.Discard())
	}
	if left := leftOut(loaded); left != "" {
		a.log.Warn("the backup was loaded without " + left)
	}
	return nil
}

// call carries one SNAP_REQ to the broker and its answer back.
func (a *Agent) call(ctx context.Context, dump event.DumpID, c dumpflow.Chunk) (dumpflow.ChunkReply, error) {
	e := event.Event{Kind: event.SnapReq, Group: a.opts.Group, ID: a.opts.ID, Dump: dump, Body: c.Append(nil)}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	m, err := a.conn.Request(ctx, event.Subject(a.opts.Group, event.Snap, a.opts.ID), e.Append(nil))
	if err != nil {
		return dumpflow.ChunkReply{}, err
	}
	return dumpflow.DecodeChunkReply(m.Data, dump)
}

func (a *Agent) closeSnapshot(s Snapshot) {
	defer a.pauses.end(s)
	if err := s.Close(); err != nil {
		a.log.Warn("closing the snapshot", "err", err)
	}
}
