package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver"
)

// What people send by accident to a group of PostgreSQL nodes gets the right answer at the door, and nothing of it is
// stored.
func TestWrongInputsAreRefusedAtTheDoor(t *testing.T) {
	accepts, err := driver.Check("postgres")
	require.NoError(t, err)
	api, _ := houseThatAccepts(t, accepts)
	const one, batch = "/v1/increments", "/v1/increments/batch"
	for _, c := range []struct {
		path, body string
		headers    []string
		status     int
		says       string
	}{
		{one, `{"sql": "SELECT 1", "args": [1,}`, nil, 422, "at byte 32"},
		{one, `{"sqll": "SELECT 1"}`, nil, 422, `did you mean \"sql\"`},
		{one, `[{"sql":"SELECT 1"},{"sql":"SELECT 2"}]`, nil, 422, `{\"tx\": [`},
		{one, `"SELECT 1"`, nil, 422, "JSON string"},
		{one, `{"statements":["SELECT 1"]}`, nil, 422, `\"statements\" is not known`},
		{one, `{"sql":"INSERT INTO acct VALUES ($1,$2)","args":["x"]}`, nil, 422, "up to $2, and it has 1 arguments"},
		{one, `{"sql":"INSERT INTO acct VALUES ($1,$2)"}`, nil, 422, "up to $2, and it has 0 arguments"},
		{one, `{"sql":"INSERT INTO acct VALUES (?,?)","args":["x",1]}`, nil, 422, "write $1 and $2"},
		{one, `{"sql":"DELETE FROM a WHERE b=$1; DELETE FROM c WHERE b=$2","args":["a","b"]}`, nil, 422, `{\"tx\": [`},
		{one, `{"sql":"INSERT INTO acct VALUES ($1)","args":{"a":1}}`, nil, 422, "not a list"},
		{one, "SET search_path=foo; SELECT 1; SET x=1", nil, 422, "SET"},
		{one, "COPY acct FROM STDIN", nil, 422, "COPY"},
		{one, "VACUUM acct", nil, 422, "VACUUM"},
		{one, "CREATE INDEX CONCURRENTLY i ON acct (n)", nil, 422, "CONCURRENTLY"},
		{one, "LISTEN x", nil, 422, "LISTEN"},
		{one, "", nil, 400, "at least one byte"},
		{one, " \r\n", nil, 422, "blank"},
		{one, "-- a comment INSERT INTO acct VALUES (1)", nil, 422, "--data-binary"},
		{one, "\xff\xfeI\x00", nil, 422, "UTF-16"},
		{one, "INSERT INTO acct VALUES ('M\xfcller')", nil, 422, "no UTF-8"},
		{one, "SELECT 'a\x00b'", nil, 422, "NUL"},
		{one, strings.Repeat("x", 1_500_000), nil, 413, "above the limit of 1048576"},
		{one, strings.Repeat("x", 20<<20), nil, 413, "above the limit of 1048576"},
		{one, "x", []string{"Content-Type", "multipart/form-data; boundary=x"}, 415, "multipart"},
		{one, "x", []string{"Content-Encoding", "gzip"}, 415, "Content-Encoding"},
		{one, "SELECT 1", []string{"Xmq-Topic", "Order Events!"}, 400, "topic"},
		{one, "SELECT 1", []string{"Idempotency-Key", strings.Repeat("k", 300)}, 400, "longer than 256"},
		{batch, "SELECT 1", nil, 400, "line 1: "},
		{batch, `{"body":"SELECT 1"}` + "\n" + `[1]`, nil, 400, "line 2: "},
		{batch, `{"sql":"SELECT 1"}`, nil, 400, "line 1: "},
		{batch, `{"bdy":"SELECT 1"}`, nil, 400, `\"bdy\" is not known`},
		{batch, "", nil, 400, "no increment"},
		{batch, strings.Repeat("x", 6<<20), nil, 413, "above the limit"},
		{"/v1/increment", "SELECT 1", nil, 404, "nothing at this path"},
		{"/v1/increments/", "SELECT 1", nil, 404, "nothing at this path"},
		{"/v1/positions", "SELECT 1", nil, 405, "takes GET"},
	} {
		req, err := http.NewRequest("POST", api+c.path, strings.NewReader(c.body))
		require.NoError(t, err)
		for i := 0; i < len(c.headers); i += 2 {
			req.Header.Set(c.headers[i], c.headers[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err, "%.60q", c.body)
		var said map[string]any
		require.NoError(t, json.NewDecoder(res.Body).Decode(&said), "%.60q", c.body)
		require.NoError(t, res.Body.Close())
		text, err := json.Marshal(said["error"])
		require.NoError(t, err)
		require.Equal(t, c.status, res.StatusCode, "%.60q: %s", c.body, text)
		require.Contains(t, string(text), c.says, "%.60q", c.body)
		require.NotEmpty(t, said["code"])
		require.Contains(t, said, "retryable")
	}
	require.EqualValues(t, 0, keys(t, good(t, "", "log", "head", "--json", "--api", api))["head"])
	for _, body := range []string{"\uFEFFSELECT 1", "SELECT\r\n1", "INSERT INTO acct (id, n) VALUES ('x', 'notanumber')"} {
		res, err := http.Post(api+one, "application/x-www-form-urlencoded", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode, "%q", body)
	}
}
