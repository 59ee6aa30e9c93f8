package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"xmq/broker/disk"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/broker/monitor"
	"xmq/worker"
)

// newMonitor makes what looks after the log, the disk and the clients. What it asks of the workers and of the ingest it
// asks when it runs: they are made later.
func (b *Broker) newMonitor() {
	log, state := b.stores.log, b.stores.state
	b.keeping = &monitor.Keeping{Log: log, State: state, Knobs: b.watched,
		View: func(ctx context.Context, id string) (worker.View, bool, error) { return b.pool.View(ctx, id) }}
	b.alerts = &monitor.Alerts{Log: log, State: state, Knobs: b.watched, Keeping: b.keeping, Taken: &b.flow,
		Clients: b.views, Situation: b.situation, Now: time.Now}
	place := monitor.Disk{Dir: b.stores.dir,
		Space: func() (free, total uint64, err error) { return disk.Space(b.stores.dir) },
		Full:  func() error { return b.stores.checkSpace(b.knobs()) }}
	b.trimmer = &monitor.Trimmer{Log: log, State: state, Knobs: b.watched, Keeping: b.keeping, Alerts: b.alerts,
		Disk: place, Post: func(id string, in worker.Input) bool { return b.pool.Post(id, in) }, Logger: b.log, Now: time.Now}
	b.care = &monitor.Care{Log: log, State: state, Knobs: b.watched, Alerts: b.alerts, Started: b.started, Now: time.Now}
	b.watcher = &monitor.Watcher{Log: log, State: state, Knobs: b.watched, Alerts: b.alerts, Care: b.care,
		Trimmer: b.trimmer, Disk: place, Input: entrance{b}, Marks: &b.marks, Damage: b.stores.damage,
		Forgot: b.stores.forgot, Logger: b.log, Now: time.Now, Doubts: b.lookAtDoubts,
		Doubted:  func() bool { return len(b.doubts.Held().Witnesses) > 0 },
		Refusals: b.admission.Refusals, Forget: b.admission.Forget,
		MaxClients: b.cfg.MaxClients, Payload: b.payloadTooSmall, Repeat: b.hooks.Repeat,
		Looked: b.looked, Tick: b.cfg.Tick, Started: b.started}
	if b.cfg.Insecure {
		b.watcher.Insecure = insecure
	}
}

// watched are the knobs that package monitor looks at.
func (b *Broker) watched() monitor.Knobs {
	k := b.knobs()
	return monitor.Knobs{Retention: k.Retention, Watch: k.Watch, MaxRecords: k.MaxRecords}
}

// watch runs the watcher. Data that are damaged are served no longer.
func (b *Broker) watch(ctx context.Context) error {
	err := b.watcher.Run(ctx, b.changed.next, b.doubted)
	if errors.Is(err, monitor.ErrDamaged) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// trim frees what nobody needs.
func (b *Broker) trim(ctx context.Context) error { return b.trimmer.Run(ctx, b.changed.next) }

// scrub reads the log for damage.
func (b *Broker) scrub(ctx context.Context) error {
	s := monitor.Scrubber{Log: b.stores.log, Pause: func() time.Duration { return b.knobs().Watch.Scrub },
		Checked: b.care.Checked, Logger: b.log}
	return s.Run(ctx, b.changed.next)
}

// looked ends a round of the watcher.
func (b *Broker) looked() {
	b.progress.forget(func(id event.DumpID) bool { _, known := b.stores.state.Dump(id); return known })
	b.input() // notes since when it is so
}

// entrance is the ingest as the watcher sees it.
type entrance struct{ broker *Broker }

func (e entrance) Refuse(r *door.Refusal) { e.broker.ingest.refuse(r) }
func (e entrance) Commits() uint64        { return e.broker.ingest.commits.Load() }
func (e entrance) Taken() uint64          { return e.broker.ingest.took.Load() }
func (e entrance) Waiting() int64         { return e.broker.ingest.count.Load() }
