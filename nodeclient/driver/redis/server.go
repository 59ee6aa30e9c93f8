package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// minMajor is the oldest version whose scripts, commands and expiries are as this driver needs them.
const minMajor = 7

// info is what the server says of itself.
type info map[string]string

func readInfo(ctx context.Context, c redis.Cmdable) (info, error) {
	text, err := c.Info(ctx).Result()
	if err != nil {
		return nil, err
	}
	return parseInfo(text), nil
}

func parseInfo(text string) info {
	i := make(info)
	for line := range strings.SplitSeq(text, "\n") {
		if key, value, found := strings.Cut(strings.TrimSuffix(line, "\r"), ":"); found {
			i[key] = value
		}
	}
	return i
}

// number is a field that holds one; 0 when it does not.
func (i info) number(key string) int64 {
	n, err := strconv.ParseInt(i[key], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// check says why a server cannot be a target.
func (i info) check() error {
	version := i["redis_version"]
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	switch {
	case err != nil:
		return errors.New("redis: the server does not tell its version in INFO: it is no Redis, or something stands between")
	case n < minMajor:
		return fmt.Errorf("redis: the server has version %s: %d.0 or later is needed", version, minMajor)
	case i["redis_mode"] != "standalone":
		return fmt.Errorf("redis: the server runs as %q: a target is one standalone server, because a position and its "+
			"data must change in one step", i["redis_mode"])
	case i["role"] != "master":
		return errors.New("redis: the server is a replica: name its master")
	case i.number("maxmemory") > 0 && i["maxmemory_policy"] != "noeviction":
		return fmt.Errorf("redis: the server evicts keys when its memory is full (maxmemory-policy %s), and this "+
			"copy would lack them: set noeviction", i["maxmemory_policy"])
	}
	return nil
}

// durability says what a crash of the server can take.
func durability(i info, fsync string) string {
	switch {
	case i["aof_enabled"] != "1":
		return "the server keeps no append-only file: a crash takes what it has not saved, data and position together; " +
			"set appendonly yes and appendfsync always to lose nothing"
	case fsync == "":
		return "the server does not tell whether appendfsync is always: if not, a crash may take the last seconds, data " +
			"and position together"
	case fsync != "always":
		return "the server syncs its append-only file with appendfsync " + fsync +
			": a crash may take the last seconds, data and position together; set always to lose nothing"
	}
	return ""
}
