package server

import (
	"context"
	"time"
)

// index copies idempotency keys of sealed segments to where retention does not reach them. What keeps it from that
// now is tried again; until then the keys are looked up where they are.
func (b *Broker) index(ctx context.Context) error {
	var said string
	for {
		err := b.stores.log.Index(ctx)
		if err == nil || IsStorage(err) {
			return err
		}
		if said != err.Error() {
			said = err.Error()
			b.log.Warn("idempotency keys are not indexed now", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(b.knobs().Watch.Every):
		}
	}
}
