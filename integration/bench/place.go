package bench

import (
	"context"
	"fmt"
	"sync/atomic"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// place is where a node stands, for others to wait for.
type place struct {
	pos   atomic.Pointer[event.Position]
	moved chan struct{} // one slot
}

func newPlace() *place {
	p := &place{moved: make(chan struct{}, 1)}
	p.pos.Store(&event.Position{})
	return p
}

func (p *place) set(pos event.Position) {
	p.pos.Store(&pos)
	select {
	case p.moved <- struct{}{}:
	default:
	}
}

// reaches waits until the node stands at seq or after.
func (p *place) reaches(ctx context.Context, seq uint64) error {
	for p.pos.Load().Seq < seq {
		select {
		case <-p.moved:
		case <-ctx.Done():
			return fmt.Errorf("a node stands at %d, not %d: %w", p.pos.Load().Seq, seq, ctx.Err())
		}
	}
	return nil
}

// placed waits until the broker has told the node its place in the log: from here on it is fed.
func (p *place) placed(ctx context.Context) error {
	for p.pos.Load().Zero() {
		select {
		case <-p.moved:
		case <-ctx.Done():
			return fmt.Errorf("a node was not welcomed: %w", ctx.Err())
		}
	}
	return nil
}

// watched is a real target whose place is known outside.
type watched struct {
	nodeclient.Database
	*place
}

func (w *watched) Seek(ctx context.Context, pos event.Position) error {
	err := w.Database.Seek(ctx, pos)
	if err == nil {
		w.set(pos)
	}
	return err
}

func (w *watched) Apply(ctx context.Context, before event.Position, batch []event.Item) (event.Position, error) {
	pos, err := w.Database.Apply(ctx, before, batch)
	if err == nil {
		w.set(pos)
	}
	return pos, err
}
