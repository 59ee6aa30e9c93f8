package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/broker/server"
	"xmq/nodeclient"
)

// send posts an increment or an order and expects 200.
func (h *cluster) send(path, kind, topic, body string) {
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, "http://"+h.cfg.HTTPAddr+path,
		strings.NewReader(body))
	require.NoError(h.t, err)
	req.Header.Set("Content-Type", kind)
	if topic != "" {
		req.Header.Set("Xmq-Topic", topic)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(h.t, err)
	require.NoError(h.t, res.Body.Close())
	require.Equal(h.t, http.StatusOK, res.StatusCode, path)
}

// shopAlone lets a node follow the topic shop alone.
func shopAlone(o *nodeclient.Options) { o.Topics = []string{"shop"} }

// shopAndAll runs a master with all topics and a node n1 that follows shop alone: of two rows it has the second.
func shopAndAll(t *testing.T) (h *cluster, master, n1 *node) {
	h = newCluster(t, func(c *server.Config) { c.Masters = []string{"master", "n1"} })
	master = h.node("master", "")
	n1 = h.node("n1", "", shopAlone)
	h.send("/v1/increments", "application/sql", "shop", "CREATE TABLE item (id INTEGER PRIMARY KEY)")
	h.send("/v1/increments", "application/sql", "other", "INSERT INTO item VALUES (1)")
	h.send("/v1/increments", "application/sql", "shop", "INSERT INTO item VALUES (2)")
	master.wants(t, "SELECT group_concat(id) FROM item", "1,2")
	n1.wants(t, "SELECT group_concat(id) FROM item", "2")
	return h, master, n1
}

// The topics of a copy are proved by its database: also when the broker has forgotten the client no node goes on with
// others, and the way that its refusal names, a DUMP over the database, fills the hole.
func TestForgottenTopicsLeaveNoHole(t *testing.T) {
	h, master, n1 := shopAndAll(t)
	require.Equal(t, "shop", n1.query(t, "SELECT topics FROM xmq_position"))
	require.Equal(t, string(event.AllTopics), master.query(t, "SELECT topics FROM xmq_position"))
	require.NoError(t, n1.stop())
	h.send("/v1/clients/n1/forget", "application/json", "", `{"reason": "a test", "confirm": true}`)

	all := h.node("n1", "")
	require.ErrorIs(t, <-all.done, nodeclient.ErrTopics)
	all.done <- nil // for stop
	require.NoError(t, all.stop())
	h.send("/v1/increments", "application/sql", "other", "INSERT INTO item VALUES (3)")
	master.wants(t, "SELECT group_concat(id) FROM item", "1,2,3")

	n1 = h.node("n1", "master", func(o *nodeclient.Options) { o.Replace = true })
	n1.wants(t, "SELECT group_concat(id) FROM item", "1,2,3")
	require.Equal(t, string(event.AllTopics), n1.query(t, "SELECT topics FROM xmq_position"))
	h.send("/v1/increments", "application/sql", "other", "INSERT INTO item VALUES (4)")
	n1.wants(t, "SELECT group_concat(id) FROM item", "1,2,3,4")
}

// Neither does a broker that has lost its state store feed a node with other topics than its database holds.
func TestTopicsOutliveALostStateStore(t *testing.T) {
	h, master, n1 := shopAndAll(t)
	require.NoError(t, n1.stop())
	require.NoError(t, h.stop())
	require.NoError(t, os.RemoveAll(filepath.Join(h.cfg.Data, "state")))
	h.start()

	all := h.node("n1", "")
	require.ErrorIs(t, <-all.done, nodeclient.ErrTopics)
	all.done <- nil // for stop
	require.NoError(t, all.stop())
	n1 = h.node("n1", "", shopAlone) // with its own it goes on
	h.send("/v1/increments", "application/sql", "other", "INSERT INTO item VALUES (3)")
	h.send("/v1/increments", "application/sql", "shop", "INSERT INTO item VALUES (4)")
	master.wants(t, "SELECT group_concat(id) FROM item", "1,2,3,4")
	n1.wants(t, "SELECT group_concat(id) FROM item", "2,4")
}
