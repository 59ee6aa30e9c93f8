package xmqtest

import (
	"database/sql"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"xmq/broker/event"
	"xmq/broker/server"
	"xmq/nodeclient"
	"xmq/nodeclient/producer"
)

// mpoolDrain of LevelDB ends a second after its database.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

// The test that the operator's chapter shows, word for word, and what it leads to.
func TestShop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.db")
	b := StartBroker(t) // b.NATS is for package producer, b.HTTP for the HTTP door
	n := b.StartNode("master", "sqlite:"+path)
	b.Publish("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
	n.WaitApplied(b.Publish("INSERT INTO item (name) VALUES ('tea')"))

	require.Equal(t, "tea", value(t, path, "SELECT name FROM item"))
	chapter, err := os.ReadFile("../OPERATING.md")
	require.NoError(t, err)
	self, err := os.ReadFile("xmqtest_test.go")
	require.NoError(t, err)
	_, shown, found := strings.Cut(string(chapter), "```go\nfunc TestShop")
	require.True(t, found)
	shown, _, _ = strings.Cut(shown, "}\n```")
	require.Contains(t, string(self), "func TestShop"+strings.ReplaceAll(shown, "xmqtest.", ""))
}

func value(t *testing.T, path, query string) (v string) {
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.QueryRow(query).Scan(&v))
	return v
}

// A program under test publishes over NATS or HTTP, in a group of the test's own; a second node joins by DUMP; a broker
// that is started again on the same data and addresses finds all of them.
func TestOneGroupWithProducersAndNodes(t *testing.T) {
	dir, cfg := t.TempDir(), Config(t)
	cfg.Group = "shop"
	use := func(c *server.Config) { *c = cfg }
	b := StartBroker(t, use)
	cfg.NATSAddr, cfg.HTTPAddr = strings.TrimPrefix(b.NATS, "nats://"), strings.TrimPrefix(b.HTTP, "http://")
	master := b.StartNode("master", "sqlite:"+filepath.Join(dir, "master.db"))
	b.Publish("CREATE TABLE item (n INTEGER)")
	p := b.Producer("orders", producer.Options{})
	seq, err := p.PublishWait(t.Context(), event.Draft{Body: []byte("INSERT INTO item VALUES (1)")})
	require.NoError(t, err)
	master.WaitApplied(seq)
	second := b.StartNode("second", "sqlite:"+filepath.Join(dir, "second.db"),
		func(o *nodeclient.Options) { o.From = "master" })
	second.WaitApplied(seq)
	require.NoError(t, b.Stop())
	b = StartBroker(t, use)
	res, err := http.Post(b.HTTP+"/v1/increments", "application/sql", strings.NewReader("INSERT INTO item VALUES (2)"))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)
	for _, n := range []*Node{master, second} {
		n.WaitApplied(seq + 1)
		require.Equal(t, "3", value(t, filepath.Join(dir, n.ID+".db"), "SELECT sum(n) FROM item"))
	}
	http.DefaultClient.CloseIdleConnections()
}

// A wait ends when nothing moves any more, and says why; it ends at once when the node does.
func TestAWaitEndsAndSaysWhy(t *testing.T) {
	b := StartBroker(t, func(c *server.Config) { c.Masters = []string{"shop", "sql"} })
	n := b.StartNode("shop", "file:"+filepath.Join(t.TempDir(), "log"))
	n.WaitApplied(b.Publish("anything"))
	require.ErrorContains(t, n.reach(2, time.Millisecond), "node shop stands at 1 (following), nothing has moved for "+
		"1ms, and 2 was to be applied: the broker knows of no error")
	require.NoError(t, n.Stop())
	require.ErrorContains(t, n.reach(2, still), "node shop has ended at 1, and 2 was to be applied: it was stopped")

	sqlite := b.StartNode("sql", "sqlite:"+filepath.Join(t.TempDir(), "db"))
	held := func(s nodeclient.Status) bool { return s.Phase == "held" }
	require.NoError(t, sqlite.wait(still, "it was to be held", held), "1 is no SQL")
	require.ErrorContains(t, sqlite.reach(1, time.Millisecond),
		"node sql stands at 0 (held), nothing has moved for 1ms, and 1 was to be applied: increment 1 has failed: ")
	http.DefaultClient.CloseIdleConnections()
}
