package worker

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/broker/form"
	"xmq/statedb"
)

// readings counts how often the log is read.
type readings struct {
	Reader
	n int
}

func (r *readings) Read(from uint64, maxRecords, maxBytes int) ([]event.Encoded, error) {
	r.n++
	return r.Reader.Read(from, maxRecords, maxBytes)
}

// Clients at the same position share one frame; whoever wants less, or something else, gets its own, and the frame
// shared before is not taken for it.
func TestAFrameIsSharedOnlyWithWhoMayHaveIt(t *testing.T) {
	l := newLog(10)
	log := &readings{Reader: l}
	var c frameCache
	start := event.Start(l.id)
	all := Feed{From: start, MaxRecords: 5, MaxBytes: 1 << 20, Window: 1 << 20}
	build := func(change func(f *Feed)) (body string, read int) {
		f, before := all, log.n
		change(&f)
		require.NoError(t, c.build(log, &f))
		want, end, _, err := appendFrame(nil, l, &f)
		require.NoError(t, err)
		if log.n > before {
			require.Equal(t, end, c.end)
			require.Equal(t, string(want), string(c.body))
		}
		return string(c.body), log.n - before
	}
	same := func(*Feed) {}
	first, _ := build(same)
	for name, test := range map[string]struct {
		change func(*Feed)
		reads  int
	}{
		"the same":               {same, 0},
		"more":                   {func(f *Feed) { f.MaxRecords = 6 }, 1},
		"more bytes":             {func(f *Feed) { f.MaxBytes, f.Window = 2<<20, 2<<20 }, 1},
		"more window":            {func(f *Feed) { f.Window = 2 << 20 }, 0},
		"packed":                 {func(f *Feed) { f.Pack = true }, 0},
		"fewer increments":       {func(f *Feed) { f.MaxRecords = 4 }, 1},
		"fewer bytes":            {func(f *Feed) { f.MaxBytes = len(first) - 1 }, 1},
		"a smaller window":       {func(f *Feed) { f.Window = len(first) - 1 }, 1},
		"an empty window":        {func(f *Feed) { f.Window = 0 }, 1},
		"lacks a feature":        {func(f *Feed) { f.Lacks = form.Tx }, 1},
		"topics":                 {func(f *Feed) { f.Topics = []string{"a"} }, 1},
		"an operator's decision": {func(f *Feed) { f.Override = &statedb.Override{Seq: 2, Decision: 1} }, 1},
		"another position":       {func(f *Feed) { f.From, _ = l.Position(1) }, 1},
		"a history of its own":   {func(f *Feed) { f.From.Chain++ }, 1},
	} {
		_, read := build(test.change)
		require.Equal(t, test.reads, read, name)
		body, _ := build(same)
		require.Equal(t, first, body, "after %s", name)
	}
}

// The listing of many clients at one position reads the log once.
func TestViewsReadEachPositionOnce(t *testing.T) {
	l := newLog(10)
	log := &readings{Reader: l}
	w := &Worker{env: &Env{Log: log, Tick: time.Second, Now: func() time.Time { return time.Unix(100, 0) }},
		tasks: map[string]*task{}}
	for i := range 6 {
		pos, err := l.Position(uint64(5 * (i % 3))) // the last third is level
		require.NoError(t, err)
		id := fmt.Sprint("n", i)
		w.tasks[id] = &task{machine: NewMachine(&Rules{}, id, &statedb.Client{ID: id, State: statedb.Following,
			Acked: pos}, nil)}
	}
	all := w.views("")
	require.Len(t, all, 6)
	require.Equal(t, 2, log.n)
	for _, v := range all {
		want := 0.0
		if *v.Lag > 0 {
			want = 100 - float64(v.Acked+1)/1e9
		}
		require.InDelta(t, want, *v.LagSeconds, 1e-6, v.ID)
	}
}
