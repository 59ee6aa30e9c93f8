package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/broker/bus"
	"xmq/broker/event"
	"xmq/broker/server"
	"xmq/configs/xmqtest"
	"xmq/nodeclient/producer"
)

// Who names another group than the broker's is told so in one sentence after two seconds, over a real NATS server, and
// waits on: node and backup.
func TestThatNobodyServesTheGroupIsSaid(t *testing.T) {
	s := newSite(t)
	s.broker()
	said := "nobody serves group shop at nats://" + s.nats + ": is the broker running, and is the group's name right?"
	for p, sentence := range map[*process]string{
		s.node("master", "", "--group", "shop"): said + " It keeps trying",
		s.start("dump", "dump", "--from", "master", "--output", filepath.Join(s.dir, "backup"), "--group", "shop", "--broker",
			"nats://"+s.nats): "xmq: " + said + " Still waiting.",
	} {
		eventually(t, func() error {
			if log := p.log.String(); strings.Count(log, sentence) != 1 || strings.Contains(log, "nothing has come yet") {
				return fmt.Errorf("%s says: %s", p.name, log)
			}
			return nil
		})
		select {
		case <-p.done:
			t.Fatalf("%s has ended: %s", p.name, p.log)
		default:
		}
	}
}

// What the operator's chapter allows a node and a producer at a NATS server of one's own is enough to learn that nobody
// serves the group, and that somebody does. No password is shown.
func TestThatNobodyServesTheGroupIsLearntWithFewRights(t *testing.T) {
	may := func(publish, subscribe []string) *natsserver.Permissions {
		return &natsserver.Permissions{Publish: &natsserver.SubjectPermission{Allow: publish},
			Subscribe: &natsserver.SubjectPermission{Allow: subscribe}}
	}
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoLog: true,
		NoSigs: true, MaxPayload: 4 << 20,
		Users: []*natsserver.User{
			{Username: "broker", Password: "secret1"},
			{Username: "master", Password: "secret2",
				Permissions: may([]string{"xmq.main.up.master", "xmq.main.snap.master"},
					[]string{"xmq.main.down.master", "_INBOX_master.>"})},
			{Username: "orders", Password: "secret3",
				Permissions: may([]string{"xmq.main.pub.orders", "xmq.main.batch.orders"}, []string{"_INBOX_orders.>"})},
		}})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	as := func(user string) string { return "nats://" + user + "@" + s.Addr().String() }
	told := make(chan error, 100)
	p, err := producer.Dial(as("orders:secret3"), "orders", producer.Options{Trouble: func(err error) { told <- err }})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	next := func() error {
		select {
		case err := <-told:
			return err
		case <-time.After(time.Minute):
			t.Fatal("the producer is told nothing")
			return nil
		}
	}
	var nobody *bus.Unserved
	err = next()
	require.ErrorAs(t, err, &nobody)
	require.ErrorContains(t, err, "nobody serves group main at nats://orders:")
	require.NotContains(t, err.Error(), "secret")
	site := newSite(t)
	n := site.start("master", "node", "--id", "master", "--broker", as("master:secret2"), "--target", "sqlite:"+
		site.path("master"), "--tick", "200ms")
	eventually(t, func() error {
		if log := n.log.String(); !strings.Contains(log, "nobody serves group main at nats://master:") {
			return fmt.Errorf("the node says: %s", log)
		}
		return nil
	})

	b := xmqtest.StartBroker(t, func(c *server.Config) { c.NATSURL = as("broker:secret1") })
	seq, err := p.PublishWait(t.Context(), event.Draft{Body: []byte("CREATE TABLE item (n INTEGER)")})
	require.NoError(t, err)
	require.NoError(t, next())
	require.Empty(t, told)
	eventually(t, func() error {
		var all api.Positions
		if err := getJSON(t.Context(), b.HTTP+"/v1/positions", &all); err != nil {
			return err
		}
		if len(all.Clients) != 1 || all.Clients[0].Acked != seq {
			return fmt.Errorf("%d clients; the node says: %s", len(all.Clients), n.log)
		}
		return nil
	})
	require.NotContains(t, n.log.String(), "secret")
	require.NotContains(t, n.log.String(), "refuses this node")
}
