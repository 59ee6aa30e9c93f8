package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/nodeclient/producer"
	"xmq/statedb"
)

// wrong is a request that somebody sends by accident.
type wrong struct {
	method, path, body string
	headers            []string
	status             int
	code               string
	says               string
}

const (
	oneDoor   = "/v1/increments"
	batchDoor = "/v1/increments/batch"
)

// wrongRequests are refused by every door, whatever its nodes are.
var wrongRequests = []wrong{
	{"POST", oneDoor, "", nil, 400, "empty", "at least one byte"},
	{"POST", oneDoor, strings.Repeat("x", 1_500_000), nil, 413, "too_large",
		"above the limit of 1048576 (see max_increment)"},
	{"POST", oneDoor, strings.Repeat("x", 20<<20), nil, 413, "too_large",
		"above the limit of 1048576 (see max_increment)"},
	{"POST", oneDoor, "SELECT 1", []string{"Content-Type", "multipart/form-data; boundary=x"}, 415, "media", "multipart"},
	{"POST", oneDoor, "SELECT 1", []string{"Content-Encoding", "gzip"}, 415, "media", "Content-Encoding"},
	{"POST", oneDoor, "SELECT 1", []string{"Xmq-Topic", "Order Events!"}, 400, "invalid", "topic"},
	{"POST", oneDoor, "SELECT 1", []string{"Idempotency-Key", strings.Repeat("k", 300)}, 400, "invalid",
		"longer than 256"},
	{"POST", batchDoor, "SELECT 1\nSELECT 2", nil, 400, "invalid", "line 1: "},
	{"POST", batchDoor, `{"body":"SELECT 1"}` + "\n" + `[{"body":"SELECT 2"}]`, nil, 400, "invalid", "line 2: "},
	{"POST", batchDoor, `{"sql":"SELECT 1"}`, nil, 400, "invalid", `line 1: `},
	{"POST", batchDoor, `{"body":{"sql":"SELECT 1"}}`, nil, 400, "invalid", "line 1: "},
	{"POST", batchDoor, `{"body":"SELECT 1"}` + "\n" + `{"bdy":"SELECT 2"}`, nil, 400, "invalid", `line 2: `},
	{"POST", batchDoor, "", nil, 400, "empty", "no increment"},
	{"POST", batchDoor, strings.Repeat("x", 6<<20), nil, 413, "too_large", "(see max_increment)"},
	{"POST", "/v1/increment", "SELECT 1", nil, 404, "not_found", "did you mean /v1/increments"},
	{"POST", "/v1/increments/", "SELECT 1", nil, 404, "not_found", "did you mean /v1/increments"},
	{"POST", "/v1/positions", "SELECT 1", nil, 405, "method", "takes GET"},
	{"GET", batchDoor, "", nil, 405, "method", "takes POST"},
	{"GET", oneDoor + "?from=abc", "", nil, 400, "invalid", "from"},
	{"GET", oneDoor + "?since=5", "", nil, 400, "invalid", "since"},
	{"GET", oneDoor + "?limit=5000", "", nil, 400, "invalid", "limit"},
	{"GET", oneDoor + "?limit=0", "", nil, 400, "invalid", "limit"},
}

// wrongBodies are refused where nodes are of a SQL database: by doors that accept its dialect, and by xmq publish.
var wrongBodies = []struct {
	body string
	says map[string]string // by dialect; "" for all
}{
	{`{"sql": "SELECT 1", "args": [1,}`, map[string]string{"": "at byte 32"}},
	{`{"sqll": "SELECT 1"}`, map[string]string{"": `did you mean "sql"?`}},
	{`[{"sql":"SELECT 1"},{"sql":"SELECT 2"}]`,
		map[string]string{"": `{"tx": [{"sql": ..., "args": [...]}, ...]}, and many increments are sent to POST ` +
			`/v1/increments/batch`}},
	{`"SELECT 1"`, map[string]string{"": "it is a JSON string"}},
	{`{"statements":["SELECT 1"]}`, map[string]string{"": `the field "statements" is not known`}},
	{`{"sql":"INSERT INTO acct VALUES ($1,$2)","args":["x"]}`,
		map[string]string{"postgres": "up to $2, and it has 1 argument",
			"mariadb": "$1 is no placeholder of MariaDB and MySQL", "sqlite": "up to ?2, and it has 1 argument"}},
	{`{"sql":"INSERT INTO acct (id, n) VALUES ($1,$2)"}`, map[string]string{"postgres": "up to $2, and it has 0 arguments",
		"sqlite": "up to ?2, and it has 0 arguments"}},
	{`{"sql":"INSERT INTO acct (id, n) VALUES (?,?)"}`, map[string]string{
		"mariadb": "it has 2 placeholders ? and 0 arguments", "sqlite": "it has 2 placeholders ? and 0 arguments"}},
	{`{"sql":"INSERT INTO acct VALUES (?,?)","args":["x",1]}`, map[string]string{"postgres": "write $1 and $2"}},
	{`{"sql":"DELETE FROM acct WHERE id=$1; DELETE FROM acct WHERE id=$2","args":["a","b"]}`,
		map[string]string{"": `write {"tx": [{"sql"`}},
	{`{"sql":"INSERT INTO acct (id) VALUES ($1)","args":{"a":1}}`, map[string]string{"": `"args" is not a list`}},
	{"INSRT INTO acct VALUES (1)", map[string]string{"": "did you mean INSERT?"}},
	{"SET search_path=foo", map[string]string{"": "SET"}},
	{"COPY acct FROM STDIN", map[string]string{"": "COPY"}},
	{"VACUUM acct", map[string]string{"": "VACUUM"}},
	{"CREATE INDEX CONCURRENTLY i ON acct (n)",
		map[string]string{"postgres": "leave CONCURRENTLY out", "sqlite": "syntax error"}},
	{"LISTEN x", map[string]string{"": "LISTEN"}},
	{"USE other", map[string]string{"": "USE"}},
	{"PRAGMA journal_mode = OFF", map[string]string{"": "PRAGMA"}},
	{"BEGIN", map[string]string{"": "BEGIN"}},
	{"INSERT INTO acct VALUES ('x", map[string]string{"": "a quote is not closed"}},
	{" \r\n ", map[string]string{"": "it is blank"}},
	{"-- a comment INSERT INTO acct VALUES (1)", map[string]string{"": "--data-binary"}},
	{"\xff\xfeS\x00E\x00L\x00E\x00C\x00T\x00 \x001\x00", map[string]string{"": "UTF-16, by its byte order mark"}},
	{"S\x00E\x00L\x00E\x00C\x00T\x00 \x001\x00", map[string]string{"": "UTF-16, since every other byte is NUL"}},
	{"INSERT INTO acct (id) VALUES ('M\xfcller')", map[string]string{"postgres": "no UTF-8 (is it Latin-1?)"}},
	{"SELECT 'a\x00b'", map[string]string{"postgres": "NUL", "sqlite": "NUL"}},
}

// said is what a dialect answers to one of wrongBodies; false: only the database can tell.
func said(says map[string]string, dialect string) (string, bool) {
	if text, all := says[""]; all {
		return text, true
	}
	text, known := says[dialect]
	return text, known
}

// dialects are the kinds of nodes of the SQL databases, with the table that is published first.
var dialects = []struct {
	name  string
	rig   func() rig
	table string
}{
	{"postgres", postgresRig, "CREATE TABLE acct (id text PRIMARY KEY, n int, note text, at timestamptz)"},
	{"mariadb", mysqlRig, "CREATE TABLE acct (id varchar(99) PRIMARY KEY, n int, note text, at datetime)"},
	{"sqlite", sqliteRig, "CREATE TABLE acct (id text PRIMARY KEY, n int, note text, at text)"},
}

// ask sends one request and reads an answer in JSON.
func (s *site) ask(w wrong) (status int, code, text string, body []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), w.method, "http://"+s.http+w.path, strings.NewReader(w.body))
	require.NoError(s.t, err)
	for i := 0; i < len(w.headers); i += 2 {
		req.Header.Set(w.headers[i], w.headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err, "%.60q", w.body)
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	require.NoError(s.t, err)
	var said struct {
		Code, Error string
		Retryable   *bool
	}
	if res.StatusCode != http.StatusOK {
		require.NoError(s.t, json.Unmarshal(body, &said), "%.60q: %s", w.body, body)
		require.NotNil(s.t, said.Retryable, "%s", body)
		require.NotContains(s.t, said.Error, "\n", "one sentence")
	}
	return res.StatusCode, said.Code, said.Error, body
}

// refuses sends what is wrong, one after another, and checks that nothing of it is stored.
func (s *site) refuses(all []wrong) {
	s.t.Helper()
	head := s.positions().Head
	for _, w := range all {
		status, code, text, _ := s.ask(w)
		require.Equal(s.t, w.status, status, "%s %s %.60q: %s %s", w.method, w.path, w.body, code, text)
		require.Equal(s.t, w.code, code, "%s %s %.60q: %s", w.method, w.path, w.body, text)
		require.Contains(s.t, text, w.says, "%s %s %.60q", w.method, w.path, w.body)
	}
	require.Equal(s.t, head, s.positions().Head, "nothing is stored")
}

// stores sends what is right and returns its sequence.
func (s *site) stores(body string, headers ...string) (stored struct {
	Seq       uint64
	Duplicate bool
}) {
	s.t.Helper()
	status, _, text, answer := s.ask(wrong{method: "POST", path: oneDoor, body: body, headers: headers})
	require.Equal(s.t, 200, status, "%.60q: %s", body, text)
	require.NoError(s.t, json.Unmarshal(answer, &stored))
	return stored
}

// follow checks that all clients have applied everything and follow.
func (s *site) follow(ids ...string) {
	s.t.Helper()
	p := s.level(ids...)
	require.Len(s.t, p.Clients, len(ids))
	for _, v := range p.Clients {
		require.Equal(s.t, statedb.Following, v.State, "%+v", v)
	}
}

// What people send by accident to a group of nodes of one SQL database, whose doors accept its dialect: each gets the
// right answer, nothing of it is stored, and the node follows.
func TestWrongInputsAtDoorsThatAccept(t *testing.T) {
	for _, d := range dialects {
		t.Run(d.name, func(t *testing.T) {
			c := &course{site: newSite(t, "--accept", d.name), rig: d.rig()}
			c.broker()
			c.runs("master", "", c.place(t))
			c.stores(d.table)
			all := slices.Clone(wrongRequests)
			for _, b := range wrongBodies {
				if text, refused := said(b.says, d.name); refused {
					all = append(all, wrong{"POST", oneDoor, b.body, []string{"Content-Type", "application/json"}, 422, "refused",
						text})
					line, err := json.Marshal(map[string][]byte{"base64": []byte(b.body)})
					require.NoError(t, err)
					all = append(all, wrong{"POST", batchDoor, `{"body":"SELECT 1"}` + "\n" + string(line), nil, 422, "refused", text})
				}
			}
			c.refuses(all)

			for i, body := range []string{"\uFEFFINSERT INTO acct (id, n) VALUES ('%d', 1)",
				"INSERT INTO acct (id, n)\r\nVALUES ('%d',\r\n1)\r\n",
				"INSERT INTO acct (id, n) VALUES ('%d', 1)"} {
				// what curl says of all it sends
				c.stores(fmt.Sprintf(body, i), "Content-Type", "application/x-www-form-urlencoded")
			}
			_, _, _, feed := c.ask(wrong{method: "GET", path: oneDoor + "?from=0"})
			require.Contains(t, string(feed), `"seq":1`, "from the beginning of what is kept")
			const more = "UPDATE acct SET n = n + 1"
			first := c.stores(more, "Idempotency-Key", "order 1")
			require.True(t, c.stores(more, "Idempotency-Key", "order 1").Duplicate)
			status, code, text, _ := c.ask(wrong{method: "POST", path: oneDoor, body: "DELETE FROM acct",
				headers: []string{"Idempotency-Key", "order 1"}})
			require.Equal(t, 409, status)
			require.Equal(t, "key_reused", code)
			require.Contains(t, text, fmt.Sprint(first.Seq))
			for _, key := range []string{"1000", "17"} {
				require.False(t, c.stores(more, "Idempotency-Key", key, "Xmq-Producer", "orders").Duplicate, "a key is text")
			}
			status, _, text, _ = c.ask(wrong{method: "POST", path: batchDoor,
				body: "{\"body\":\"SELECT 1\"}\r\n\r\n\n{\"body\":\"SELECT 2\"}\r\n"})
			require.Equal(t, 200, status, text)
			c.follow("master")
		})
	}
}

// The same without accept, to one group of five kinds of nodes with a topic each: what is no request is refused by
// the doors, and xmq publish, which knows of the nodes, refuses what no node of the topic would take, with the line,
// before it has sent anything.
func TestWrongInputsWithoutAccept(t *testing.T) {
	s := newSite(t, "--masters", "postgres,mariadb,sqlite,redis,file")
	s.broker()
	kinds := map[string]rig{"redis": redisRig(), "file": fileRig()}
	for _, d := range dialects {
		kinds[d.name] = d.rig()
	}
	ids := make([]string, 0, len(kinds))
	for id, r := range kinds {
		(&course{site: s, rig: r}).runs(id, "", r.place(t), "--topics", id)
		ids = append(ids, id)
	}
	for _, d := range dialects {
		s.stores(d.table, "Xmq-Topic", d.name)
	}
	s.level(ids...)
	s.refuses(wrongRequests)

	head := s.positions().Head
	refused := func(stdin, says string, want int, args ...string) {
		t.Helper()
		out, errs, code := s.tool(stdin, append([]string{"publish"}, args...)...)
		require.Equal(t, want, code, "%v %.60q: %s%s", args, stdin, out, errs)
		require.Contains(t, errs, says, "%v %.60q", args, stdin)
		require.NotContains(t, out, "published", "%v %.60q", args, stdin)
	}
	for _, d := range dialects {
		for _, b := range wrongBodies {
			if text, is := said(b.says, d.name); is {
				file := s.path("body")
				writeFile(t, file, b.body)
				refused("", text, 1, file, "--topic", d.name)
			}
		}
		refused("INSERT INTO acct (id, n)\nVALUES ('multi', 1);\n", "it looks like a script", 1, "--topic", d.name)
		refused("{\n\"sql\": \"SELECT 1\"\n}\n", "line 1 of stdin is no whole statement", 1, "--topic", d.name)
		refused("SELECT 1\n\nSELECT 2\n", "line 2 of stdin is ", 1, "--topic", d.name)
		refused("SELECT 1;\nINSERT INTO acct VALUES ('x;\n", "line 2", 1, "--sql", "-", "--topic", d.name)
		refused("SELECT 1;\nBEGIN;\nSELECT 2;\n", "COMMIT", 1, "--sql", "-", "--topic", d.name)
		refused("SELECT 1;\n\\d acct\n", "line 2", 1, "--sql", "-", "--topic", d.name)
	}
	require.Equal(t, head, s.positions().Head, "nothing is stored")

	for _, d := range dialects {
		s.ok("SELECT 1\r\nINSERT INTO acct (id, n) VALUES ('crlf', 1)\r\n", "publish", "--topic", d.name)
		writeFile(t, s.path("pretty"), "{\n  \"sql\": \"INSERT INTO acct (id, n) VALUES ('pretty', 1)\"\n}\n")
		s.ok("", "publish", s.path("pretty"), "--topic", d.name)
	}
	s.ok("INSERT INTO acct (id) VALUES ('word');\n", "publish", "--sql", "-", "--dialect", "pg", "--topic", "postgres")
	s.ok("SET a 1\n", "publish", "--topic", "redis")
	s.ok("any bytes\n", "publish", "--topic", "file")
	s.follow(ids...)
	s.worstIs("")
}

// What people type by accident, and what producers send over NATS that cannot be answered: each ends with its code and
// a sentence that names what was met, or is told in the broker's log; nothing is stored, and the node follows.
func TestWrongInputsOnTheCommandLineAndOverNATS(t *testing.T) {
	pg, err := shared.postgres()
	require.NoError(t, err)
	s := newSite(t)
	b := s.broker()
	s.node("master", "")
	s.ok("CREATE TABLE acct (id TEXT PRIMARY KEY, n INTEGER)\n", "publish")
	s.level("master")
	head := s.positions().Head
	for _, c := range []struct {
		typed string
		code  int
		says  string
	}{
		{"publish --api http://" + s.nats, 64, "is a NATS server: --api is the broker's HTTP address"},
		{"publish --retry 0s --api http://" + pg.Addr(), 75, "is it a broker that listens there?"},
		{"publish --api https://" + s.http, 64, "speaks plain HTTP: write http:// in --api"},
		{"publish --retry 0s --api http://nosuch.invalid:8420", 75, "the name in http://nosuch.invalid:8420 "},
		{"publish --retry 5", 64, "--retry 5 has no unit: write 5s"},
		{"publish -f script", 64, "publish has no flag -f, did you mean --sql?"},
		{"publish --file script", 64, "did you mean --sql?"},
		{"publish --sq script", 64, "did you mean --sql?"},
		{"pubish", 64, `did you mean "publish"?`},
		{"position", 64, `did you mean "positions"?`},
		{"stauts", 64, `did you mean "status"?`},
		{"broker --data broker", 75, "held by pid " + fmt.Sprint(b.cmd.Process.Pid)},
		{"broker --data other --http-addr 8420", 78, `http_addr is "8420": it must be HOST:PORT`},
		{"node --id Master --target sqlite:x.db", 78, `ID "Master" is not allowed: use 1 to 31 lower-case letters`},
		{"node --id x --target postgres://u:p@secret@" + pg.Addr() + "/db", 78, "percent-encoded"},
		{"node --id x --target postgres://u:12/secret@" + pg.Addr() + "/db", 78, "percent-encoded"},
		{"node --id x --target mysql://u:12?secret@" + pg.Addr() + "/db", 78, "percent-encoded"},
		{"node --id x --target redis://u:p#secret@" + pg.Addr() + "/0", 78, "percent-encoded"},
	} {
		out, errs, code := s.tool("INSERT INTO acct VALUES ('typed', 1)\n", strings.Fields(c.typed)...)
		require.Equal(t, c.code, code, "%s: %s%s", c.typed, out, errs)
		require.Contains(t, errs, c.says, c.typed)
		require.NotContains(t, errs, "secret", c.typed)
		lines := strings.Split(strings.TrimSuffix(errs, "\n"), "\n")
		if len(lines) == 2 { // a broker or node that has begun says it in its log as well
			require.Contains(t, lines[0], "event=stopped", c.typed)
			lines = lines[1:]
		}
		require.Len(t, lines, 1, "one sentence: %s", errs)
	}

	nc, err := nats.Connect("nats://" + s.nats)
	require.NoError(t, err)
	defer nc.Close()
	for _, c := range [][2]string{
		{"xmq.main.pub.p1", nc.NewInbox()},  // the default prefix
		{"xmq.main.pub.p1", "_INBOX_p2.x"},  // another producer's
		{"xmq.main.pub.P1", "_INBOX_P1.x"},  // an ID in capitals
		{"xmq.mian.pub.p1", "_INBOX_p1.x"},  // nobody serves that group
		{"xmq.main.batch.p1", "_INBOX_p.x"}, // and so for batches
	} {
		require.NoError(t, nc.PublishRequest(c[0], c[1], []byte("INSERT INTO acct VALUES ('sent', 1)")))
	}
	require.NoError(t, nc.Flush())
	eventually(t, func() error {
		return holds(b.log.String(), "level=WARN", "its inbox prefix must be _INBOX_p1 (nats.CustomInboxPrefix)")
	})
	_, err = producer.Dial("nats://"+s.nats, "P1", producer.Options{})
	require.ErrorContains(t, err, `ID "P1" is not allowed`)
	require.Equal(t, head, s.positions().Head, "nothing is stored")
	s.ok("INSERT INTO acct VALUES ('right', 1)\n", "publish")
	s.follow("master")
	require.Equal(t, "right", query(t, s.path("master"), "SELECT group_concat(id) FROM acct"))
}

// What is well written and only the database can refuse is stored: the client stops there with the database's own
// words, and goes on after what the alert names.
func TestWhatOnlyTheDatabaseCanRefuseIsStored(t *testing.T) {
	for _, d := range dialects {
		t.Run(d.name, func(t *testing.T) {
			c := &course{site: newSite(t, "--accept", d.name), rig: d.rig()}
			c.broker()
			c.runs("master", "", c.place(t))
			c.stores(d.table)
			c.stores("INSERT INTO acct (id, n) VALUES ('one', 1)")
			for body, says := range map[string]string{
				"INSERT INTO nosuch VALUES (1)":              "nosuch",
				"INSERT INTO acct (id, n) VALUES ('one', 2)": "(?i)duplicate|unique",
				`{"sql": "INSERT INTO acct (id, n) VALUES (` + places[d.name] + `)", "args": ["x", "no number"]}`: "no number",
			} {
				if d.name == "sqlite" && says == "no number" {
					continue // its columns take any value
				}
				seq := c.stores(body, "Content-Type", "application/json").Seq
				require.Equal(t, seq, c.failed("master"), body)
				require.Regexp(t, says, c.ok("", "alerts", "--json"), body)
				c.ok("", "client", "skip", "master", "--seq", fmt.Sprint(seq), "--reason", "by accident")
				c.follow("master")
			}
		})
	}
}

// places are two placeholders of a dialect.
var places = map[string]string{"postgres": "$1,$2", "mariadb": "?,?", "sqlite": "?,?"}

// worstIs checks how bad the worst is of what is wrong.
func (s *site) worstIs(want statedb.Severity) {
	s.t.Helper()
	var now api.Status
	require.NoError(s.t, getJSON(s.t.Context(), "http://"+s.http+"/v1/status", &now))
	require.Equal(s.t, want, now.Severity, "%+v", now.Alerts)
}
