package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/statedb"
	"xmq/statedb/leveldb"
)

// started runs the hooks of cfg without a broker; stop ends them.
func started(t *testing.T, cfg Hooks) (n *Notifier, stop func()) {
	n = NewNotifier(cfg, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); require.NoError(t, <-done) })
	t.Cleanup(stop)
	return n, stop
}

// raise raises n alerts.
func raise(h *Notifier, n int) {
	for i := range n {
		h.Notify(statedb.Alert{Key: fmt.Sprint("a", i), Severity: statedb.Warning, Text: "text", Last: 1})
	}
}

func soon(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !f(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 15 s: ", what)
		}
	}
}

// newState is a state store in memory.
func newState(t *testing.T, o statedb.Options) statedb.Store {
	storage := disk.NewStorage(disk.Options{})
	state, err := leveldb.OpenOrCreate(storage, disktest.NewMemory(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, state.Close()) })
	return state
}

// lines waits until the file holds n lines and returns them.
func lines(t *testing.T, file string, n int) []string {
	var all []string
	soon(t, fmt.Sprintf("%d lines in %s", n, file), func() bool {
		b, _ := os.ReadFile(file) // it may not be there yet
		all = strings.Fields(string(b))
		return len(all) >= n
	})
	return all
}

// gone reports whether the process has ended, reaped or not.
func gone(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// A hook that leaves a process behind with its output open holds neither the next alert nor the end of the hooks,
// and what it left is ended.
func TestWhatAHookLeavesBehindHoldsNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	h, stop := started(t, Hooks{Command: []string{"/bin/sh", "-c", "sleep 600 & echo $! >> " + file}, Timeout: time.Hour})
	const alerts = 2*hookCalls + 3
	raise(h, alerts)
	pids := lines(t, file, alerts)
	began := time.Now()
	stop()
	require.Less(t, time.Since(began), 10*time.Second, "the end of the hooks")
	soon(t, "nothing is left of the hooks", func() bool {
		for _, pid := range pids {
			if !gone(pid) {
				return false
			}
		}
		return true
	})
}

// A hook that hangs delays neither the other one nor what is told of other alerts; the end of the hooks ends it with
// its children.
func TestAHookThatHangsDelaysNoOther(t *testing.T) {
	release := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer web.Close()
	defer close(release)
	file := filepath.Join(t.TempDir(), "told")
	hang := `if grep -q '"a0"'; then sleep 600 & echo $! > ` + file + `.pid; wait; fi; echo told >> ` + file
	h, stop := started(t, Hooks{URL: web.URL, Command: []string{"/bin/sh", "-c", hang}, Timeout: time.Hour})
	const alerts = 30
	raise(h, alerts)
	lines(t, file, alerts-1)
	pid := lines(t, file+".pid", 1)[0]
	require.False(t, gone(pid), "it really hangs")
	began := time.Now()
	stop()
	require.Less(t, time.Since(began), 10*time.Second, "the end of the hooks")
	soon(t, "the child of the hook has ended", func() bool { return gone(pid) })
}

// What is told of one alert is told in the order in which it changed.
func TestOneAlertIsToldInOrder(t *testing.T) {
	var heard []uint64
	h := NewNotifier(Hooks{Timeout: time.Minute}, slog.New(slog.DiscardHandler))
	all := make(chan struct{})
	one := &hook{"test", func(_ context.Context, _ *Hooks, body []byte) error {
		var a api.AlertView
		if err := json.Unmarshal(body, &a); err != nil {
			return err
		}
		heard = append(heard, a.Count) // without a lock: calls for one alert never overlap
		if len(heard) == hookQueue {
			close(all)
		}
		return nil
	}, func(*Hooks) bool { return true }, make(chan telling, hookQueue)}
	h.all = append(h.all, one)
	for i := range hookQueue {
		h.Notify(statedb.Alert{Key: "same", Count: uint64(i)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- h.Run(ctx) }()
	<-all
	cancel()
	require.NoError(t, <-ended)
	for i, n := range heard {
		require.EqualValues(t, i, n)
	}
}

// Several clients that refuse one increment are one call of a hook when it begins, with the sentence that says so,
// and one when the last of them is over: under one key.
func TestAlertsOfOneCauseAreToldAsOne(t *testing.T) {
	var mu sync.Mutex
	var heard []api.AlertView
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var a api.AlertView
		if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, a)
	}))
	defer web.Close()
	h, stop := started(t, Hooks{URL: web.URL, Timeout: time.Minute})
	state := newState(t, statedb.Options{OnAlert: h.Notify})
	h.View = func(_ context.Context, a statedb.Alert) api.AlertView {
		var all []api.AlertView
		for _, other := range state.Alerts() {
			v := api.AlertOf(other)
			v.Cause = fmt.Sprintf("clients refuse increment %d", v.Seq)
			all = append(all, v)
		}
		for _, v := range api.OneCause(all) {
			if v.Standing() && (v.Key == a.Key || slices.Contains(v.Also, a.Key)) {
				return v
			}
		}
		return api.AlertOf(a)
	}
	write := func(change func(*statedb.Batch)) {
		var b statedb.Batch
		change(&b)
		require.NoError(t, state.Write(&b))
	}
	calls := func(n int) []api.AlertView {
		soon(t, fmt.Sprintf("%d calls", n), func() bool { mu.Lock(); defer mu.Unlock(); return len(heard) >= n })
		mu.Lock()
		defer mu.Unlock()
		require.Len(t, heard, n)
		return heard
	}
	fail := func(id string, seq uint64) func(*statedb.Batch) {
		return func(b *statedb.Batch) {
			b.Raise(statedb.Alert{Key: "fail/" + id, Client: id, Seq: seq, Severity: statedb.Critical, Text: "no", Last: 1})
		}
	}
	write(fail("n1", 7))
	write(fail("n2", 7))
	write(fail("n3", 7))
	first := calls(1)[0]
	require.Equal(t, "fail/n1", first.Key)
	require.ElementsMatch(t, []string{"fail/n2", "fail/n3"}, first.Also)
	require.Contains(t, first.Text, "clients refuse increment 7. The first of them says: no")
	write(fail("n4", 7)) // known already
	write(fail("n5", 9)) // of its own
	require.Equal(t, "fail/n5", calls(2)[1].Key)
	write(func(b *statedb.Batch) { b.Clear("fail/n1", 2); b.Clear("fail/n2", 2); b.Clear("fail/n4", 2) })
	write(fail("n3", 8)) // it has gone on, and fails at the next one
	next := calls(3)[2]
	require.Equal(t, "fail/n3", next.Key)
	require.EqualValues(t, 8, next.Seq)
	write(func(b *statedb.Batch) { b.Clear("fail/n3", 3) })
	over := calls(4)[3]
	require.Equal(t, "fail/n3", over.Key)
	require.False(t, over.Standing())

	write(fail("n1", 20))
	write(fail("n2", 20))
	require.Equal(t, "fail/n1", calls(5)[4].Key)
	write(func(b *statedb.Batch) { b.Clear("fail/n1", 4) })
	write(func(b *statedb.Batch) { b.Clear("fail/n2", 5) })
	over = calls(6)[5]
	require.Equal(t, "fail/n1", over.Key, "under the key under which it was raised")
	require.Equal(t, []string{"fail/n2"}, over.Also)
	require.False(t, over.Standing())
	stop()
	require.Len(t, heard, 6)
}

// What a broker that was killed may not have told is told a minute after the next start, once for each cause, unless
// somebody has seen it.
func TestWhatStandsAtTheStartIsToldAgain(t *testing.T) {
	h := NewNotifier(Hooks{Repeat: time.Hour, Timeout: time.Minute}, slog.New(slog.DiscardHandler))
	one := &hook{name: "test", queue: make(chan telling, hookQueue), there: func(*Hooks) bool { return true }}
	h.all = append(h.all, one)
	stand := []statedb.Alert{{Key: "fail/n1", Seq: 7}, {Key: "fail/n2", Seq: 7}, {Key: "disk"}, {Key: "pin", Acked: true}}
	now := time.Now()
	h.Remember(stand, now)
	h.Repeat(now.Add(againAfter-time.Second), stand)
	require.Empty(t, one.queue)
	h.Repeat(now.Add(againAfter), stand)
	h.Repeat(now.Add(2*againAfter), stand)
	require.Len(t, one.queue, 2)
	require.Equal(t, "fail/n1", (<-one.queue).key)
	require.Equal(t, "disk", (<-one.queue).key)
	h.Repeat(now.Add(againAfter+time.Hour), stand)
	require.Len(t, one.queue, 2)
}

// Alerts go to the configured address and to none that it names, and of what a command writes little is kept.
func TestHooksAreBounded(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter,
		*http.Request) {
		t.Error("the redirect was followed")
	}))
	defer elsewhere.Close()
	web := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer web.Close()
	h := NewNotifier(Hooks{URL: web.URL, Timeout: time.Minute}, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, h.call(t.Context(), h.all[0], telling{}), "307")

	h = NewNotifier(Hooks{Command: []string{"/bin/sh", "-c", "head -c 100000000 /dev/zero; exit 1"}, Timeout: time.Minute},
		slog.New(slog.DiscardHandler))
	err := h.call(t.Context(), h.all[1], telling{})
	require.ErrorContains(t, err, "exit status 1")
	require.Less(t, len(err.Error()), 1000)
	var out head
	for range 100 {
		n, err := out.Write(make([]byte, 1000))
		require.NoError(t, err)
		require.Equal(t, 1000, n)
	}
	require.Len(t, out.kept, hookOutput)
}

// A command gets the alert on its standard input, and what it writes says why it failed.
func TestACommandThatFailsSaysWhy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alerts")
	h := NewNotifier(Hooks{Command: []string{"/bin/sh", "-c", "cat >> " + file}, Timeout: time.Minute},
		slog.New(slog.DiscardHandler))
	require.NoError(t, h.call(context.Background(), h.all[1],
		telling{key: "k", Alert: statedb.Alert{Key: "k", Text: "by exec"}}))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), "by exec")
	h.Configure(Hooks{Command: []string{"/bin/sh", "-c", "echo why; exit 3"}, Timeout: time.Minute})
	require.ErrorContains(t, h.call(context.Background(), h.all[1], telling{}), "why")
}
