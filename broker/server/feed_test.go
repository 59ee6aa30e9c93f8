package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// feed asks for increments and returns the sequences that came, and the last line.
func (r *running) feed(t *testing.T, query string) (seqs []uint64, last map[string]any) {
	res, err := http.Get("http://" + r.HTTPAddr() + "/v1/increments" + query)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		last = map[string]any{}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &last))
		if seq, is := last["seq"].(float64); is {
			seqs = append(seqs, uint64(seq))
		}
	}
	return seqs, last
}

// A reader of the feed begins at what is kept, goes on where the answer says, and waits for more without asking again.
func TestAReaderOfTheFeedMissesNothing(t *testing.T) {
	r := startBroker(t, testConfig(t))
	seqs, last := r.feed(t, "?from=0")
	require.Empty(t, seqs)
	require.EqualValues(t, 1, last["next"], "an empty log")
	r.put("one", "\xff", "three")
	seqs, last = r.feed(t, "?from=0&limit=2")
	require.Equal(t, []uint64{1, 2}, seqs)
	require.EqualValues(t, 3, last["next"])
	seqs, last = r.feed(t, "?limit=1")
	require.Equal(t, []uint64{3}, seqs, "the end, when nothing is said")
	require.EqualValues(t, 4, last["next"])
	seqs, last = r.feed(t, "?from=4&wait=10ms&control=1")
	require.Empty(t, seqs)
	require.EqualValues(t, 4, last["next"])

	res, err := http.Get("http://" + r.HTTPAddr() + "/v1/increments?from=1&text=1")
	require.NoError(t, err)
	lines := bufio.NewScanner(res.Body)
	for _, want := range []string{`"text":"one"`, `"body":"/w=="`, `"text":"three"`, `{"next":4}`} {
		require.True(t, lines.Scan())
		require.Contains(t, lines.Text(), want)
	}
	require.NoError(t, res.Body.Close())

	came := make(chan []uint64, 1)
	go func() {
		seqs, _ := r.feed(t, "?from=4&wait=1m")
		came <- seqs
	}()
	r.waits(t)
	r.put("four")
	require.Equal(t, []uint64{4}, <-came)
}

// waits returns when somebody waits for the head of the log.
func (r *running) waits(t *testing.T) {
	require.Eventually(t, func() bool {
		r.moved.mu.Lock()
		defer r.moved.mu.Unlock()
		return r.moved.rung != nil
	}, 2*time.Minute, time.Millisecond)
}

// Events carry every increment once, go on behind the last one that was seen, and end with the broker.
func TestEventsGoOnWhereTheyEnded(t *testing.T) {
	r := startBroker(t, testConfig(t))
	r.put("one", "two")
	follow := func(query, last string) *bufio.Scanner {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+r.HTTPAddr()+"/v1/increments"+query, nil)
		require.NoError(t, err)
		req.Header.Set("Accept", "text/event-stream")
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { _ = res.Body.Close() })
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
		return bufio.NewScanner(res.Body)
	}
	expect := func(in *bufio.Scanner, seq int, text string) {
		for in.Scan() {
			if in.Text() == fmt.Sprintf("id: %d", seq) {
				require.True(t, in.Scan())
				require.True(t, strings.HasPrefix(in.Text(), "data: {"))
				require.Contains(t, in.Text(), fmt.Sprintf(`"text":%q`, text))
				return
			}
			require.True(t, in.Text() == "" || in.Text()[0] == ':', in.Text())
		}
		t.Fatalf("the events ended before %d", seq)
	}
	all := follow("?from=0&text=1", "")
	expect(all, 1, "one")
	expect(all, 2, "two")
	again := follow("?from=0&text=1", "1")
	expect(again, 2, "two")
	fresh := follow("?text=1", "")
	require.True(t, fresh.Scan())
	require.Equal(t, ": from 3", fresh.Text(), "what comes from now on")
	r.put("three")
	expect(all, 3, "three")
	expect(again, 3, "three")
	expect(fresh, 3, "three")
	for query, status := range map[string]int{"?limit=5": 400, "?from=9": 404, "?wait=1s": 400} {
		req, err := http.NewRequest("GET", "http://"+r.HTTPAddr()+"/v1/increments"+query, nil)
		require.NoError(t, err)
		req.Header.Set("Accept", "text/event-stream")
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, status, res.StatusCode, query)
	}
	require.NoError(t, r.stop())
	for all.Scan() {
		if all.Text() == "event: error" {
			require.True(t, all.Scan())
			require.Contains(t, all.Text(), `"code":"closing"`)
			return
		}
	}
	t.Fatal("nobody said that the broker stops")
}
