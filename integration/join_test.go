package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/broker/bus"
	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/sqlite"
	"xmq/statedb"
	"xmq/worker"
)

// joining is what the broker shows of a client that joins: its alert, its last error, and what stands beside the newest
// DUMP that it has not loaded.
type joining struct {
	alert     api.AlertView
	lastError *worker.Trouble
	notLoaded string
	pin       *uint64
}

// error is j as a test waits for it to change: without times and counts.
func (j joining) error() error {
	text := "none"
	if j.lastError != nil {
		text = j.lastError.Class + ": " + j.lastError.Text
	}
	return fmt.Errorf("alert %q, last error %q, not loaded %q", j.alert.Text, text, j.notLoaded)
}

func (h *cluster) joining(t *testing.T, id string) (j joining) {
	t.Helper()
	var alerts []api.AlertView
	var dumps []api.DumpView
	require.NoError(t, getJSON(t.Context(), "http://"+h.cfg.HTTPAddr+"/v1/alerts", &alerts))
	require.NoError(t, getJSON(t.Context(), "http://"+h.cfg.HTTPAddr+"/v1/dumps", &dumps))
	p, err := h.positions(t)
	require.NoError(t, err)
	for _, a := range alerts {
		if a.Key == "join/"+id && a.Standing() {
			j.alert = a
		}
	}
	for _, d := range dumps {
		for _, n := range d.NotLoaded {
			if n.ID == id {
				j.notLoaded = n.Text
			}
		}
	}
	for _, c := range p.Clients {
		if c.ID == id {
			j.lastError, j.pin = c.LastError, c.Pin
		}
	}
	return j
}

// A newcomer with a database of its own ends, and what it says stands at the broker: in the alert, in the client and
// beside the DUMP.
func TestANewcomerWhoseDatabaseIsNotEmptyIsSeenAtTheBroker(t *testing.T) {
	h := newCluster(t)
	h.publish("CREATE TABLE c (v INTEGER)")
	h.node("master", "").wants(t, "SELECT count(*) FROM c", "0")

	path := filepath.Join(h.dir, "full.db")
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = db.Exec("CREATE TABLE mine (v)")
	require.NoError(t, err)
	require.NoError(t, db.Close())
	open := func(change ...func(*nodeclient.Options)) *node {
		target, err := sqlite.Open(context.Background(), path, sqlite.Options{})
		require.NoError(t, err)
		n := h.run("n1", "master", target, change...)
		n.path = path
		return n
	}
	n := open()
	ended := <-n.done
	n.done <- ended
	require.ErrorIs(t, ended, nodeclient.ErrNeedsDump)
	eventually(t, func() error {
		if h.joining(t, "n1").alert.Text == "" {
			return errors.New("no alert")
		}
		return nil
	})
	j := h.joining(t, "n1")
	require.Contains(t, j.alert.Text, "client n1 could not join by DUMP from master and its node has ended: "+
		"the database is not empty")
	require.Equal(t, statedb.Critical, j.alert.Severity)
	require.Contains(t, j.notLoaded, "the database is not empty")
	require.Equal(t, "join", j.lastError.Class)
	require.Contains(t, j.lastError.Text, "the database is not empty")
	require.Nil(t, j.pin, "it holds nothing")

	require.ErrorIs(t, n.stop(), nodeclient.ErrNeedsDump)
	open(func(o *nodeclient.Options) { o.Replace = true }).wants(t, "SELECT count(*) FROM c", "0")
	eventually(t, func() error {
		if j := h.joining(t, "n1"); j.alert.Text != "" || j.lastError != nil {
			return j.error()
		}
		return nil
	})
}

// refusing is a database that loads no snapshot, until it is told to.
type refusing struct {
	nodeclient.Database
	loads chan struct{}
}

func (r *refusing) Restore(ctx context.Context, want event.Position, topics event.Topics,
	from io.Reader) (nodeclient.Restored, error) {
	select {
	case <-r.loads:
		return r.Database.Restore(ctx, want, topics, from)
	default:
		_, err := io.Copy(io.Discard, from)
		return nil, errors.Join(errors.New("write \x1b[2Jthe file: no space left on device"), err)
	}
}

// A newcomer that cannot load the snapshot tries again, and why is seen at the broker until it follows.
func TestANewcomerThatCannotLoadIsSeenAtTheBroker(t *testing.T) {
	h := newCluster(t)
	h.publish("CREATE TABLE c (v INTEGER)")
	h.node("master", "").wants(t, "SELECT count(*) FROM c", "0")
	target, err := sqlite.Open(context.Background(), filepath.Join(h.dir, "n1.db"), sqlite.Options{})
	require.NoError(t, err)
	r := &refusing{target, make(chan struct{})}
	n := h.run("n1", "master", r)
	n.path = filepath.Join(h.dir, "n1.db")
	eventually(t, func() error {
		if j := h.joining(t, "n1"); j.alert.Count < 3 || j.lastError == nil || j.notLoaded == "" {
			return j.error()
		}
		return nil
	})
	j := h.joining(t, "n1")
	require.Contains(t, j.alert.Text, "no space left on device")
	require.Equal(t, statedb.Warning, j.alert.Severity, "it tries again")
	require.Contains(t, j.lastError.Text, "no space left on device")
	require.Contains(t, j.notLoaded, "no space left on device")
	close(r.loads)
	n.wants(t, "SELECT count(*) FROM c", "0")
	eventually(t, func() error {
		if j := h.joining(t, "n1"); j.alert.Text != "" || j.lastError != nil || j.notLoaded != "" {
			return j.error()
		}
		return nil
	})
}

// A newcomer that dies while it loads is missed.
func TestANewcomerThatDiesWhileItLoadsIsMissed(t *testing.T) {
	h := newCluster(t)
	h.publish("CREATE TABLE c (v INTEGER)")
	h.node("master", "").wants(t, "SELECT count(*) FROM c", "0")
	conn, err := bus.Dial("nats://"+h.cfg.NATSAddr, "n1")
	require.NoError(t, err)
	defer conn.Close()
	ask := event.Event{Kind: event.DumpReq, Group: nodeclient.DefaultGroup, ID: "n1", Peer: "master", Request: 7,
		Body: event.Hello{Target: "mem"}.Encode()}
	require.NoError(t, conn.Publish(event.Subject(nodeclient.DefaultGroup, event.Up, "n1"), ask.Append(nil)))
	eventually(t, func() error {
		if j := h.joining(t, "n1"); j.alert.Text == "" || j.notLoaded == "" {
			return j.error()
		}
		return nil
	})
	require.Contains(t, h.joining(t, "n1").alert.Text, "has not been heard")
}
