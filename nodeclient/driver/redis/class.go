package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"xmq/nodeclient"
)

// transient is the one table of error classes, by the word with which the server's text begins: these may pass. Every
// other one (WRONGTYPE, BUSYGROUP, NOPERM for a command, ERR of whatever kind) is the increment's FAIL. Fatal is no
// answer of a server but a position that is not ours.
func transient(text string) bool {
	word, rest, _ := strings.Cut(text, " ")
	switch word {
	case "OOM": // maxmemory is reached
		return true
	case "READONLY", "MASTERDOWN": // it has become a replica
		return true
	case "LOADING", "BUSY", "UNKILLABLE": // it starts, or a script runs
		return true
	case "MISCONF", "NOREPLICAS": // it cannot save, or too few replicas hear it
		return true
	case "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK": // a cluster's
		return true
	case "NOAUTH", "WRONGPASS": // the password was changed: nothing is said about an increment
		return true
	}
	return word == "ERR" && strings.HasPrefix(rest, "max number of clients reached")
}

// said is what the server said; "" when err is trouble of the connection.
func said(err error) string {
	var e redis.Error
	if errors.As(err, &e) && !errors.Is(err, redis.Nil) {
		return e.Error()
	}
	return ""
}

// noperm reports whether the server refuses the user, not the command.
func noperm(err error) bool { return strings.HasPrefix(said(err), "NOPERM") }

// classify marks err, which what was being done goes before. Trouble of the connection, and of a user whose rights were
// changed, may pass; a ctx that has ended is named.
func classify(ctx context.Context, what string, err error) error {
	if err == nil || nodeclient.IsTransient(err) || nodeclient.IsFatal(err) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	err = fmt.Errorf("redis: %s: %w", what, err)
	if text := said(err); text == "" || transient(text) || noperm(err) {
		return nodeclient.Transient(err)
	}
	return err
}
