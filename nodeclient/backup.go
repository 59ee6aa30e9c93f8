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
// exist unless replace is true. part (nil for all) is the range of keys that is wanted, where the target's driver has keys. id is the requester's own client ID; no client is made for it. progress (not nil) hears the bytes written
// so far. It blocks until the file is durable or ctx ends; ErrRefused: the broker's sentence why not.
func Backup(ctx context.Context, road bus.Conn, group, id, from, path string, replace bool, part *event.Range, progress func(bytes int64)) (dumpflow.Manifest, error) {
	a, err := New(road, nil, Options{Group: group, ID: id, From: from, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return dumpflow.Manifest{}, err
	}
	sub, err := road.Subscribe(event.Subject(a.opts.Group, event.Down, id), a.receive)
	if err != nil {
		return dumpflow.Manifest{}, fmt.Errorf("backup: subscribe: %w", err)
	}
	defer sub.Stop()
	request := event.RequestID(random())
	ask := func(code event.Code) error {
		e := event.Event{Kind: event.DumpReq, Code: code, Group: a.opts.Group, ID: id, Peer: from, Request: request, Body: event.Hello{Backup: true, Range: part}.Encode()}
		return road.Publish(event.Subject(a.opts.Group, event.Up, id), e.Append(nil))
	}
	defer func() { _ = ask(event.Abandoned) }() // if it is lost, the lease ends
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	opened := make(chan event.DumpID, 1)
	go a.keepAsking(ctx, request, func() { _ = ask(event.NoCode) }, opened, cancel) // ends with ctx
	select {
	case dump := <-opened:
		d := dumpflow.NewDownload(ctx, a.call, dump, a.transferOptions())
		defer d.Close()
		m, err := dumpflow.WriteArchive(path, replace, d, progress)
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return m, err
	case <-ctx.Done():
		return dumpflow.Manifest{}, context.Cause(ctx)
	}
}

// keepAsking repeats the request, which also keeps the requester's place, and listens to the answers.
func (a *Agent) keepAsking(ctx context.Context, request event.RequestID, ask func(), opened chan<- event.DumpID, fail context.CancelCauseFunc) {
	tick := time.NewTicker(a.opts.Tick)
	defer tick.Stop()
	ask()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			ask()
		case h := <-a.inbox:
			a.waiting.Add(-h.bytes)
			e := h.Event
			switch {
			case e.Kind != event.DumpRep || e.Request != request:
			case e.State == event.Fail:
				fail(&ending{ErrRefused, e.Text})
			case e.Code == event.Opened || e.Code == event.Sealed:
				select {
				case opened <- e.Dump:
				default:
				}
			}
		}
	}
}
