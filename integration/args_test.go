package integration

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/broker/bus"
	"xmq/broker/event"
	"xmq/broker/server"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/sqlite"
	"xmq/nodeclient/producer"
	"xmq/statedb"
)

// What people send with curl, and what programs send over NATS, arrives in three kinds of databases as it was meant:
// statements with arguments, and several of them as one increment. SQLite takes the placeholders of the other two.
func TestArgumentsReachEveryDatabase(t *testing.T) {
	s := newSite(t, "--masters", "lite,pg,maria")
	s.broker()
	pg, maria := postgresRig().place(t), mysqlRig().place(t)
	pgServer, err := shared.postgres()
	require.NoError(t, err)
	mariaServer, err := shared.mysql()
	require.NoError(t, err)
	lite := (&course{site: s, rig: sqliteRig()}).place(t)
	for id, node := range map[string]struct {
		*place
		topics string
	}{"lite": {lite, "p,m"}, "pg": {pg, "p"}, "maria": {maria, "m"}} {
		(&course{site: s}).runs(id, "", node.place, "--topics", node.topics)
	}
	writer, err := producer.Dial("nats://"+s.nats, "writer", producer.Options{})
	require.NoError(t, err)
	defer writer.Close()
	post := func(topic, body string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.http+"/v1/increments",
			strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Xmq-Topic", topic)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode)
	}
	publish := func(topic, body string) {
		_, err := writer.PublishWait(t.Context(), event.Draft{Headers: event.Headers{Topic: topic}, Body: []byte(body)})
		require.NoError(t, err)
	}
	post("p", "CREATE TABLE p (k bigint PRIMARY KEY, v varchar(99), b bytea)")
	post("m", "CREATE TABLE m (k bigint PRIMARY KEY, v varchar(99), b varbinary(99))")
	for topic, holes := range map[string][3]string{"p": {"$1", "$2", "$3"}, "m": {"?", "?", "?"}} {
		insert := fmt.Sprintf("INSERT INTO %s VALUES (%s, %s, %s)", topic, holes[0], holes[1], holes[2])
		post(topic, fmt.Sprintf(`{"sql": %q, "args": [9007199254740993, "it's; a 😀", {"base64": "AP+AJw=="}]}`, insert))
		publish(topic,
			fmt.Sprintf(`{"tx": [{"sql": %q, "args": [-1, null, null]}, {"sql": "UPDATE %s SET v = %s WHERE k = %s", "args": `+
				`["12.50", -1]}]}`, insert, topic, holes[0], holes[1]))
		post(topic, fmt.Sprintf(`{"tx": [{"sql": %q, "args": [5, 1.10, {"base64": ""}]}]}`, insert))
	}
	s.level("lite", "pg", "maria")
	want := []string{"-1|12.50|", "5|1.1|", "9007199254740993|it's; a 😀|00FF8027"}
	for _, table := range []string{"p", "m"} {
		require.Equal(t, strings.Join(want, ","), query(t, strings.TrimPrefix(lite.target, "sqlite:"),
			"SELECT group_concat(k || '|' || v || '|' || hex(ifnull(b, ''))) FROM (SELECT * FROM "+table+" ORDER BY k)"))
	}
	want[1] = "5|1.10|" // these have decimals
	require.Equal(t, want, pgServer.Query(t, database(pg),
		"SELECT k, v, upper(encode(coalesce(b, ''), 'hex')) FROM p ORDER BY k"))
	require.Equal(t, want, mariaServer.Query(t, database(maria), "SELECT k, v, hex(ifnull(b, '')) FROM m ORDER BY k"))
}

// database is the last part of the target URL's path.
func database(p *place) string {
	path, _, _ := strings.Cut(p.target, "?")
	return path[strings.LastIndexByte(path, '/')+1:]
}

// older is the connection of a node of an earlier build: its hello names no features.
type older struct {
	bus.Conn
	t *testing.T
}

func (o older) Publish(subject string, data []byte) error {
	data, err := withoutFeatures(data)
	if err != nil {
		return err
	}
	return o.Conn.Publish(subject, data)
}

func (o older) Ask(subject, reply string, data []byte) error {
	data, err := withoutFeatures(data)
	if err != nil {
		return err
	}
	return o.Conn.Ask(subject, reply, data)
}

// withoutFeatures is an event of a node of an earlier build.
func withoutFeatures(data []byte) ([]byte, error) {
	e, err := event.Decode(data)
	if err != nil || e.Kind != event.IncrReq || e.State != event.None {
		return data, nil
	}
	h, err := event.DecodeHello(e.Body)
	if err != nil {
		return nil, err
	}
	h.Features = nil
	e.Body = h.Encode()
	return e.Append(nil), nil
}

// runOlder runs a node of an earlier build on a SQLite file.
func (h *cluster) runOlder(id string) *node {
	path := filepath.Join(h.dir, id+".db")
	target, err := sqlite.Open(context.Background(), path, sqlite.Options{})
	require.NoError(h.t, err)
	conn, err := bus.Dial("nats://"+h.cfg.NATSAddr, id)
	require.NoError(h.t, err)
	n := h.runs(older{conn, h.t}, target, nodeclient.Options{ID: id, Driver: "sqlite", Tick: 50 * time.Millisecond,
		Log: h.log})
	n.path = path
	return n
}

// standing is the alert with this key; false when it does not stand.
func (h *cluster) standing(key string) (api.AlertView, bool) {
	var all []api.AlertView
	require.NoError(h.t, getJSON(h.t.Context(), "http://"+h.cfg.HTTPAddr+"/v1/alerts", &all))
	for _, a := range all {
		if a.Key == key && a.Standing() {
			return a, true
		}
	}
	return api.AlertView{}, false
}

// An increment that a node of an earlier build would read otherwise is held before it, over restarts of node and
// broker, while others go on; an alert names the node to upgrade and the increment. When the node comes back
// upgraded, it goes on by itself.
func TestAnOlderNodeIsHeldBeforeWhatItDoesNotKnow(t *testing.T) {
	h := newCluster(t, func(c *server.Config) { c.Masters = []string{"master", "n1"} })
	driver := func(o *nodeclient.Options) { o.Driver = "sqlite" }
	master, n1 := h.node("master", "", driver), h.runOlder("n1")
	h.publish("CREATE TABLE t (k INTEGER PRIMARY KEY, v)")
	h.publish("INSERT INTO t VALUES (1, 'plain')")
	h.publish("%s", `{"sql": "INSERT INTO t VALUES (?, ?)", "args": [2, {"base64": "AA=="}]}`)
	h.publish("INSERT INTO t VALUES (3, 'behind it')")
	master.wants(t, "SELECT count(*) FROM t", "3")
	held := func() {
		t.Helper()
		eventually(t, func() error {
			a, there := h.standing("upgrade/n1")
			if !there {
				return fmt.Errorf("nothing is said of n1")
			}
			require.EqualValues(t, 3, a.Seq)
			require.Equal(t, statedb.Critical, a.Severity)
			require.Contains(t, a.Text,
				`increment 3 needs sqlite.args ({"sql", "args"} in SQLite), sql.bytes (arguments {"base64"}), which the node of `+
					`client n1 does not know`)
			return nil
		})
		n1.wants(t, "SELECT count(*) FROM t", "1")
	}
	held()
	require.NoError(t, n1.stop())
	n1 = h.runOlder("n1")
	held()
	require.NoError(t, h.stop())
	h.start()
	h.publish("INSERT INTO t VALUES (4, 'later')")
	master.wants(t, "SELECT count(*) FROM t", "4")
	held()
	_, said := h.standing("upgrade/master")
	require.False(t, said)

	require.NoError(t, n1.stop())
	n1 = h.node("n1", "", driver)
	n1.wants(t, "SELECT group_concat(k || typeof(v)) FROM t", "1text,2blob,3text,4text")
	eventually(t, func() error {
		if a, there := h.standing("upgrade/n1"); there {
			return fmt.Errorf("it still stands: %s", a.Text)
		}
		return nil
	})
	var p api.Positions
	require.NoError(t, getJSON(t.Context(), "http://"+h.cfg.HTTPAddr+"/v1/positions", &p))
	for _, v := range p.Clients {
		require.Nil(t, v.LastError, v.ID)
	}
}
