package server

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"xmq/broker/units"
	"xmq/broker/version"
	"xmq/statedb"
)

// logEvent writes an event into the broker's log, always with the same keys.
func logEvent(log *slog.Logger, e statedb.Event) {
	level := slog.LevelInfo
	if (e.Kind == statedb.AlertRaised || e.Kind == statedb.AlertWorse) && e.Severity.Rank() >= statedb.Warning.Rank() ||
		e.Kind == statedb.DumpFailed {
		level = slog.LevelWarn
	}
	keys := []any{"event", string(e.Kind)}
	for _, k := range []struct{ key, value string }{{"alert", e.Alert}, {"severity", string(e.Severity)},
		{"client", e.Client}} {
		if k.value != "" {
			keys = append(keys, k.key, k.value)
		}
	}
	if e.Seq > 0 {
		keys = append(keys, "seq", e.Seq)
	}
	for _, k := range []struct{ key, value string }{{"cause", e.Cause}, {"by", e.By}} {
		if k.value != "" {
			keys = append(keys, k.key, k.value)
		}
	}
	log.Log(context.Background(), level, string(e.Kind), keys...)
}

// happened puts a row of the broker itself into the timeline.
func (b *Broker) happened(kind statedb.Kind, seq uint64, cause string) error {
	var batch statedb.Batch
	batch.Event(statedb.Event{Time: time.Now().UnixNano(), Kind: kind, Seq: seq, Cause: cause})
	return b.stores.state.Write(&batch)
}

func (b *Broker) hasStarted() error {
	h, head := b.header(), b.stores.log.Head()
	holds := "is empty"
	if first := b.stores.log.First(); first <= head.Seq {
		holds = fmt.Sprintf("holds %s to %s", units.Count(first), units.Count(head.Seq))
	}
	return b.happened(statedb.Started, head.Seq,
		fmt.Sprintf("broker %s on %s, pid %d, log %s %s", version.Version, h.Host, h.Pid, head.Log, holds))
}
