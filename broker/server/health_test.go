package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/broker/door"
)

// get is one answer of the API of a broker that may not listen.
func (r *running) get(path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.web().Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// readiness asks as a load balancer does.
func (r *running) readiness() (status int, text string) {
	w := r.get("/readyz")
	return w.Code, w.Body.String()
}

// Whatever refuses increments, the load balancer, the positions and the log say it in the same words and since when;
// and nothing of it is said while increments are taken.
func TestReadinessIsWhetherIncrementsAreTaken(t *testing.T) {
	r := still(t, quiet(t))
	r.Broker.ready.Store(true)
	status, text := r.readiness()
	require.Equal(t, http.StatusOK, status, text)

	causes := map[string]func(on bool){
		"disk_full": func(on bool) {
			r.turn(func(c *Config) { c.Watch.MinFree = map[bool]int64{true: 1 << 62}[on] })
			require.NoError(t, r.watcher.Look())
		},
		"held": func(on bool) {
			if r.ingest.held.Store(nil); on {
				r.ingest.held.Store(door.Refuse(door.Held, "the nodes know another log"))
			}
		},
		"descriptors": func(on bool) { r.ingest.waits.Store(on) },
		"opening":     func(on bool) { r.Broker.ready.Store(!on) },
	}
	for code, cause := range causes {
		cause(true)
		status, text := r.readiness()
		require.Equal(t, http.StatusServiceUnavailable, status, code)
		require.Regexp(t, `^INPUT IS (REFUSED|HELD) since \S+ \d\d:\d\d:\d\dZ \([a-z_]+\): .+\n$`, text)
		var p api.Positions
		var l api.LogInfo
		for path, into := range map[string]any{"/v1/positions": &p, "/v1/log": &l} {
			require.NoError(t, json.NewDecoder(r.get(path).Body).Decode(into))
		}
		require.Equal(t, code, string(p.Input.Code))
		require.Equal(t, text, p.Input.String()+"\n")
		require.Equal(t, p.Input, l.Input, "and since when does not move")
		cause(false)
		status, text = r.readiness()
		require.Equal(t, http.StatusOK, status, "%s: %s", code, text)
	}
}
