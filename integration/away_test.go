package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/servertest/postgrestest"
	"xmq/nodeclient/driver/servertest/redistest"
)

// A node lives longer than its database: one that is down when the node starts is told by the broker, and an order
// hurries the next try; a password that was changed is read from its file at the next try.
func TestANodeOutlivesItsDatabase(t *testing.T) {
	server, err := redistest.Start()
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Stop()) }()
	s := newSite(t)
	s.broker()
	file := filepath.Join(s.dir, "password")
	require.NoError(t, os.WriteFile(file, []byte(redistest.Password+"\n"), 0o600))
	run := func(more ...string) *process {
		return s.start("node", append([]string{"node", "--id", "master", "--target",
			fmt.Sprintf("redis://default@%s/0?restore_db=1", server.Addr()),
			"--target-password-file", file, "--data", s.dir, "--broker", "nats://" + s.nats}, more...)...)
	}
	n := run()
	s.ok("SET a 1\n", "publish")
	s.level("master")
	require.Equal(t, 0, n.stop(t))
	require.NoError(t, server.Kill())

	n = run("--tick", "1m") // its next try would be in a minute
	eventually(t, func() error {
		if v := s.client("master"); v.LastError == nil || v.LastError.Class != "transient" || v.State != "following" ||
			v.Acked != 1 {
			return fmt.Errorf("%s at %d, %+v", v.State, v.Acked, v.LastError)
		}
		return nil
	})
	require.Contains(t, s.ok("", "alerts"), "retry/master")
	s.ok("SET a 2\n", "publish")
	require.NoError(t, server.Run())
	eventually(t, func() error { // an order that comes between two words of the node reaches it with the next
		_, errs, code := s.tool("", "client", "retry", "master", "--no-wait")
		if !strings.Contains(n.log.String(), "the database is there") {
			return fmt.Errorf("%d %s: %d lines", code, errs, strings.Count(n.log.String(), "\n"))
		}
		return nil
	})
	require.Equal(t, 0, n.stop(t))

	n = run()
	s.level("master")
	c := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: redistest.Password})
	defer func() { require.NoError(t, c.Close()) }()
	const changed = "a new one"
	require.NoError(t, c.ConfigSet(context.Background(), "requirepass", changed).Err())
	require.NoError(t, os.WriteFile(file, []byte(changed+"\n"), 0o600))
	require.NoError(t, c.ClientKillByFilter(context.Background(), "TYPE", "normal", "SKIPME", "yes").Err())
	s.ok("SET a 3\n", "publish")
	s.level("master")
	if strings.Contains(n.log.String(), changed) {
		t.Fatal(errors.New("the password stands in the log"))
	}
	own := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: changed})
	defer func() { require.NoError(t, own.Close()) }()
	require.NoError(t, own.ConfigSet(context.Background(), "requirepass", redistest.Password).Err())
}

// A node that reaches its database but cannot read its position there is not silent either: the broker hears why.
func TestANodeThatCannotReadItsPositionSaysSo(t *testing.T) {
	s := newSite(t)
	server := postgrestest.New(t)
	server.Create(t, "master")
	s.broker()
	n := s.postgresNode("master", "", server)
	s.ok("CREATE TABLE c (v int)\n", "publish")
	s.level("master")
	require.Equal(t, 0, n.stop(t))
	require.NoError(t, server.Exec("master", "REVOKE UPDATE ON xmq_position FROM xmq"))
	s.postgresNode("master", "", server)
	eventually(t, func() error {
		if v := s.client("master"); v.LastError == nil || !strings.Contains(v.LastError.Text, "xmq_position") {
			return fmt.Errorf("%s at %d, %+v", v.State, v.Acked, v.LastError)
		}
		return nil
	})
	s.ok("INSERT INTO c VALUES (1)\n", "publish")
	require.NoError(t, server.Exec("master", "GRANT ALL ON xmq_position TO xmq"))
	s.level("master")
}

// A node whose position a person has taken away ends, and people read why, not that it is silent.
func TestANodeWhosePositionIsGoneSaysSo(t *testing.T) {
	s := newSite(t)
	server := postgrestest.New(t)
	server.Create(t, "master")
	s.broker()
	n := s.postgresNode("master", "", server)
	s.ok("CREATE TABLE c (v int)\n", "publish")
	s.level("master")
	require.NoError(t, server.Exec("master", "DROP TABLE xmq_position"))
	s.ok("INSERT INTO c VALUES (1)\n", "publish")
	require.Equal(t, 75, n.wait(t))
	eventually(t, func() error {
		if alerts := s.ok("", "alerts"); !strings.Contains(alerts, "has no position any more") {
			return errors.New(alerts)
		}
		return nil
	})
	require.Contains(t, s.client("master").LastError.Text, "its node has ended")
}
