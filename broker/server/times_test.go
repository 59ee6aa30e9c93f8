package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/dumpflow"
	"xmq/nodeclient/driver/drivertest"
	"xmq/statedb"
)

// timely finds the numbers below v that are a time of these days in any unit, and the strings that are a time but no
// RFC 3339 of UTC.
func timely(path string, v any, now time.Time) (found []string) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			found = append(found, timely(path+"."+key, value, now)...)
		}
	case []any:
		for i, value := range v {
			found = append(found, timely(fmt.Sprintf("%s[%d]", path, i), value, now)...)
		}
	case json.Number:
		n, _ := v.Float64()
		for unit := 1.0; unit <= 1e9; unit *= 1000 {
			if near := n/unit - float64(now.Unix()); near > -86400 && near < 86400 {
				found = append(found, path+" is "+v.String())
			}
		}
	case string:
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil && at.Location() != time.UTC {
			found = append(found, path+" is "+v)
		}
	}
	return found
}

// Times in JSON are RFC 3339 strings, in the answer of every path of the API, and in what hooks are told.
func TestNoAnswerHoldsATimeAsANumber(t *testing.T) {
	now := time.Now()
	require.Len(t, timely("", map[string]any{"a": json.Number(fmt.Sprint(now.UnixNano())),
		"b": []any{json.Number(fmt.Sprint(now.UnixMilli()))},
		"c": json.Number(fmt.Sprint(now.Unix())), "d": json.Number("1948"), "e": "2026-11-30T21:00:00+02:00"}, now), 4,
		"it finds them")

	r := startBroker(t, testConfig(t))
	db := drivertest.NewMemory()
	r.node("master", "", db)
	db.FailWith(2, errors.New("no"))
	r.fill(3)
	soon(t, "it has failed", func() bool { _, stands := r.alerts.Stands("fail/master"); return stands })
	var b statedb.Batch
	ns := now.UnixNano()
	says := []dumpflow.Trouble{{ID: "n2", Text: "full", Time: ns}}
	d := dumpflow.Dump{ID: 0xd1, Target: "master", Phase: dumpflow.Sealed, Started: ns, OpenedAt: ns, Ended: ns,
		NotLoaded: says, LeftOut: says}
	b.PutDump(d)
	require.NoError(t, r.stores.state.Write(&b))

	walked := map[string]bool{}
	walk := func(pattern, body string) {
		t.Helper()
		dec := json.NewDecoder(strings.NewReader(body))
		dec.UseNumber()
		var v any
		require.NoError(t, dec.Decode(&v), "%s: %s", pattern, body)
		require.Empty(t, timely(pattern, v, now), body)
		walked[pattern] = true
	}
	fill := strings.NewReplacer("{id}", "master", "{seq}", "2", "{verb}", "retry")
	for pattern := range r.api.Paths() {
		method, path, _ := strings.Cut(pattern, " ")
		if method != http.MethodGet {
			continue
		}
		path = fill.Replace(strings.Replace(path, "dumps/{id}", "dumps/"+d.ID.String(), 1))
		w := r.get(path)
		require.Equal(t, http.StatusOK, w.Code, "%s: %s", path, w.Body)
		walk(pattern, w.Body.String())
	}
	for lines := bufio.NewScanner(r.get("/v1/increments?from=1").Body); lines.Scan(); {
		walk("GET /v1/increments", lines.Text())
	}
	for _, order := range []struct{ pattern, path, body string }{
		{"POST /v1/alerts", "/v1/alerts", `{"key":"fail/master","do":"ack"}`},
		{"POST /v1/clients/retry", "/v1/clients/retry", `{}`},
		{"POST /v1/clients/{id}/{verb}", "/v1/clients/master/seek", `{"seq":3,"confirm":true,"reason":"r"}`},
		{"POST /v1/log/trim", "/v1/log/trim", `{}`},
		{"POST /v1/log/check", "/v1/log/check", `{}`},
		{"POST /v1/dumps/{id}/drop", "/v1/dumps/" + d.ID.String() + "/drop", `{"reason":"r"}`},
	} {
		code, body := r.post(order.path, order.body)
		require.Contains(t, []int{http.StatusOK, http.StatusConflict}, code, "%s: %s", order.path, body)
		walk(order.pattern, body)
	}
	var left []string
	for pattern := range r.api.Paths() {
		if !walked[pattern] {
			left = append(left, pattern)
		}
	}
	slices.Sort(left) // what they answer holds no time
	require.Equal(t, []string{"POST /v1/dumps/{id}/cancel", "POST /v1/log/accept", "POST /v1/producers/{id}/reset"}, left)

	a, _ := r.stores.state.Alert("fail/master")
	told, err := json.Marshal(r.alerts.Shown(t.Context(), a))
	require.NoError(t, err)
	walk("hook", string(told))
	var audit []api.AuditView
	require.NoError(t, json.NewDecoder(r.get("/v1/audit").Body).Decode(&audit))
	require.Equal(t, "fail/master", audit[0].Alert, "an alert's key has its own field")
	require.Empty(t, audit[0].Reason)
	require.EqualValues(t, 2, audit[0].Seq)
	require.EqualValues(t, 2, audit[len(audit)-1].To, "of the seek")
}
