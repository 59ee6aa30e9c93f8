package nodeclient

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"xmq/broker/bus"
	"xmq/broker/event"
	"xmq/dumpflow"
)

// Backup asks for a DUMP of node from and writes the snapshot with its position to the file at path, which must not
// exist unless replace is true. part (nil for all) is the range of keys that is wanted, where the target's driver has
// keys. id is the requester's own client ID; no client is made for it. progress (not nil) hears the bytes written so
// far, and trouble (not nil) that nobody has served the group for two seconds: it tries on. It blocks until the file
// is durable or ctx ends; ErrRefused: the broker's sentence why not.
func Backup(ctx context.Context, conn bus.Conn, group, id, from, path string, replace bool, part *event.Range,
	progress func(bytes int64),
	trouble func(error)) (dumpflow.Manifest, error) {
	a, err := New(conn, nil, Options{Group: group, ID: id, From: from, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return dumpflow.Manifest{}, err
	}
	sub, err := conn.Subscribe(event.Subject(a.opts.Group, event.Down, id), a.receive)
	if err != nil {
		return dumpflow.Manifest{}, fmt.Errorf("backup: subscribe: %w", err)
	}
	defer sub.Stop()
	asked, err := a.listenUnserved()
	if err != nil {
		return dumpflow.Manifest{}, fmt.Errorf("backup: subscribe: %w", err)
	}
	defer asked.Stop()
	say := func(e event.Event) error {
		e.Group, e.ID = a.opts.Group, id
		return a.ask(e)
	}
	r := &requester{from: from, hello: event.Hello{Backup: true, Range: part}.Encode(), draw: drawRequest,
		retry: &backoff{longest: a.opts.MaxBackoff}}
	r.begin()
	done := r.abandon(0, "")
	defer func() { // if it is lost, the lease ends
		_ = say(done)
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Flush(flush)
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	opened := make(chan event.DumpID, 1)
	go a.keepAsking(ctx, r, say, opened, cancel, trouble) // ends with ctx
	select {
	case dump := <-opened:
		d := dumpflow.NewDownload(ctx, a.call, dump, a.transferOptions())
		defer d.Close()
		m, err := dumpflow.WriteArchive(path, replace, d, progress)
		if err == nil {
			done.State, done.Dump = event.Succ, dump // the file is durable
		}
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return m, err
	case <-ctx.Done():
		return dumpflow.Manifest{}, context.Cause(ctx)
	}
}

// keepAsking repeats the request, which also keeps the requester's place, and takes the answers.
func (a *Agent) keepAsking(ctx context.Context, r *requester, say func(event.Event) error, opened chan<- event.DumpID,
	fail context.CancelCauseFunc, trouble func(error)) {
	tick := time.NewTicker(a.opts.Tick)
	defer tick.Stop()
	for e, now := r.ask(); ; {
		if now {
			_ = say(e) // if it is lost, it is said again
		}
		now = false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			e, now = r.tick()
		case <-a.vain:
			if a.unserved.again(time.Now()) && trouble != nil {
				trouble(a.unservedError())
			}
		case h := <-a.inbox:
			a.waiting.Add(-h.bytes)
			a.unserved = unserved{}
			switch r.answer(h.Event) {
			case dumpRefused, dumpNotReady: // who makes a backup decides whether to try again
				fail(&ending{ErrRefused, h.Text})
			case dumpReady:
				select {
				case opened <- h.Dump:
				default:
				}
			}
		}
	}
}
