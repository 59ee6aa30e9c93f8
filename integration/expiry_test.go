package integration

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// Redis keys end by the time of the log: a node that was away for longer than their times to live, and one that joins
// meanwhile, end with what a level one has; with nothing published, heartbeats end them everywhere, also after a
// restart of the broker.
func TestRedisKeysEndByTheTimeOfTheLog(t *testing.T) {
	s := newSite(t, "--masters", "redis1")
	b := s.broker()
	c := &course{site: s, rig: redisRig()}
	at := map[string]*place{"redis1": c.place(t), "redis2": c.place(t), "redis3": c.place(t)}
	ask := make(map[string]*redis.Client)
	for id, p := range at {
		o, err := redis.ParseURL(p.target[:len(p.target)-len(restoreOption(p.target))])
		require.NoError(t, err)
		ask[id] = redis.NewClient(o)
		t.Cleanup(func() { _ = ask[id].Close() })
	}
	c.runs("redis1", "", at["redis1"])
	s.level("redis1")
	away := c.runs("redis2", "redis1", at["redis2"])
	s.level("redis1", "redis2")
	require.Zero(t, away.stop(t))

	c.post("SET session alice EX 5", "SET count 5 EX 5", "SET kept 1 EX 5", "SETEX token 6 abc\nRENAME token used")
	c.post("EXPIRE session 600", "INCR count", "EXPIRE count 600", "PERSIST kept", "SET soon x EX 6", "EXPIRE used 5 LT")
	gone := func(key string, ids ...string) {
		t.Helper()
		for _, id := range ids {
			there := func() bool { return ask[id].Exists(t.Context(), key).Val() == 1 }
			require.Eventually(t, func() bool { return !there() }, time.Minute, 20*time.Millisecond, "%s on %s", key, id)
		}
	}
	gone("used", "redis1")
	gone("soon", "redis1") // by a heartbeat: nothing is published
	c.runs("redis2", "redis1", at["redis2"])
	c.runs("redis3", "redis1", at["redis3"])
	s.level("redis1", "redis2", "redis3")
	gone("soon", "redis2", "redis3")
	gone("used", "redis2", "redis3")
	times := func(id string) []redis.Z { return ask[id].ZRangeWithScores(t.Context(), "xmq_expiry", 0, -1).Val() }
	for id, r := range ask {
		require.Equal(t, []any{"alice", "6", "1"}, r.MGet(t.Context(), "session", "count", "kept").Val(), id)
		require.Equal(t, times("redis1"), times(id), id)
		require.Greater(t, r.TTL(t.Context(), "session").Val(), 24*time.Hour, id)
	}
	c.post("SET last x EX 3")
	s.level("redis1", "redis2", "redis3")
	b.kill()
	s.broker()
	gone("last", "redis1", "redis2", "redis3")
}

// restoreOption is the part of a URL that only the driver knows.
func restoreOption(url string) string {
	for i := len(url) - 1; i >= 0; i-- {
		if url[i] == '?' {
			return url[i:]
		}
	}
	return ""
}
