package redis

import (
	"context"
	"fmt"
	"strings"

	"xmq/nodeclient"
)

var _ nodeclient.Blocked = (*Database)(nil)

// Blocker implements nodeclient.Blocked. A server does one thing at a time: who asks it learns whether it does any.
func (t *Database) Blocker(ctx context.Context) (string, error) {
	r := newConn(t.place.options, t.place.db)
	defer func() { _ = r.Close() }() // nothing was written
	defer r.until(ctx)()
	err := r.Ping(ctx).Err()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%w: %w", ctx.Err(), err)
	case strings.HasPrefix(said(err), "BUSY"):
		return "blocked by a script that the server runs (SCRIPT KILL or FUNCTION KILL ends it)", nil
	}
	return "", err
}
