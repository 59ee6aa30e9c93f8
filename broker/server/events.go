package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"xmq/broker/api"
	"xmq/broker/units"
	"xmq/broker/version"
	"xmq/statedb"
)

// apiEvents answers GET /v1/events?client=ID&since=DURATION&after=NUMBER&limit=N: the newest, oldest first; with
// after, what comes next.
func (b *Broker) apiEvents(r *http.Request) (any, error) {
	q, err := parseRange(r, 1000)
	if err != nil {
		return nil, err
	}
	after, next := uint64(0), r.URL.Query().Get("after")
	if next != "" {
		if after, err = strconv.ParseUint(next, 10, 64); err != nil {
			return nil, refuse(http.StatusBadRequest, "after is %.40q: it is the number of an event", next)
		}
	}
	all := []api.EventView{}
	err = b.stores.state.Events(after, func(e statedb.Event) bool {
		if !q.takes(e.Client, e.Time) {
			return true
		}
		all = append(all, api.EventView{Number: e.Number, Time: api.At(e.Time), Kind: e.Kind, Alert: e.Alert,
			Severity: e.Severity, Client: e.Client, Seq: e.Seq, Cause: e.Cause, By: e.By})
		if next == "" && len(all) > 2*q.limit {
			all = append([]api.EventView{}, all[len(all)-q.limit:]...)
		}
		return next == "" || len(all) < q.limit
	})
	return all[max(0, len(all)-q.limit):], err
}

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
