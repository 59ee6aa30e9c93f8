package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"xmq/broker/units"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/sqltext"
)

var (
	_ nodeclient.Blocked   = (*Database)(nil)
	_ nodeclient.Advancing = (*Database)(nil)
)

// Durable implements nodeclient.Advancing.
func (t *Database) Durable() uint64 { return t.patience.Durable() }

// shownBytes is how much of a statement of somebody else is shown.
const shownBytes = 100

// blockers asks who keeps the session of a pid waiting: the sessions at the beginning of the queue, not those that
// wait in it themselves, up to 9; after them one row of the session itself. What the role may not see is empty.
const blockers = `WITH RECURSIVE chain(pid, depth) AS (
	SELECT b, 1 FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids($1::int)) b
	UNION SELECT b, depth + 1 FROM chain, pg_catalog.unnest(pg_catalog.pg_blocking_pids(chain.pid)) b WHERE depth < 8)
SELECT q.pid, a.application_name, a.usename, a.state, pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() -
		coalesce(CASE WHEN a.state = 'active' THEN a.query_start ELSE a.state_change END, a.backend_start))::bigint,
	a.query, a.wait_event_type || ' ' || a.wait_event, q.last
FROM (SELECT DISTINCT pid, false FROM chain c
		WHERE pg_catalog.cardinality(pg_catalog.pg_blocking_pids(pid)) = 0 OR depth = 8
	UNION ALL SELECT $1::int, true) q(pid, last)
	LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = q.pid ORDER BY q.last, 5 DESC NULLS LAST LIMIT 10`

// Blocker implements nodeclient.Blocked.
func (t *Database) Blocker(ctx context.Context) (string, error) {
	pid := t.backend.Load()
	if pid == 0 {
		return "", nil
	}
	cfg := t.cfg.Copy()
	cfg.RuntimeParams["application_name"] = "xmq who blocks"
	cfg.RuntimeParams["statement_timeout"] = "3000"
	c, err := t.reach(ctx, cfg)
	if err != nil {
		return "", withDeadline(ctx, err)
	}
	defer closeConn(c)
	rows, err := query(ctx, c, blockers, strconv.FormatUint(uint64(pid), 10))
	if err != nil {
		return "", withDeadline(ctx, err)
	}
	return blockedBy(rows), nil
}

// withDeadline says with err that ctx has ended, which drivers of connections do not always.
func withDeadline(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// blockedBy is the answer to blockers in words.
func blockedBy(rows [][]string) string {
	own := rows[len(rows)-1]
	rows = rows[:len(rows)-1]
	switch {
	case len(rows) == 0 && own[3] == "active" && own[6] != "" && !strings.HasPrefix(own[6], "Client "):
		return "no session blocks it, its own is at work and waits for " + own[6]
	case len(rows) == 0 && own[3] == "active" && own[6] == "":
		return "no session blocks it, its own is at work"
	case len(rows) == 0:
		return ""
	}
	first := rows[0]
	who := "blocked by session " + first[0]
	var about []string
	if first[1] != "" {
		about = append(about, first[1])
	}
	if first[2] != "" {
		about = append(about, "role "+first[2])
	}
	if seconds, err := strconv.Atoi(first[4]); err == nil && first[3] != "" {
		about = append(about, first[3]+" for "+units.Span(time.Duration(seconds)*time.Second))
	}
	if len(about) > 0 {
		who += " (" + strings.Join(about, ", ") + ")"
	}
	if len(rows) > 1 {
		who += fmt.Sprintf(" and %d more", len(rows)-1)
	}
	if first[5] != "" && first[3] != "" {
		what := ", which runs: "
		if first[3] != "active" {
			what = ", which ran last: "
		}
		who += what + sqltext.Shown(sqltext.PostgreSQL, first[5], shownBytes)
	}
	return who + fmt.Sprintf(". To end it: SELECT pg_terminate_backend(%s)", first[0])
}
