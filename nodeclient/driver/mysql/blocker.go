package mysql

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

// rowBlockers asks whose transactions hold rows that the session %[2]s waits for, of a server whose lock waits stand
// in %[1]s: session, user, host, what it does, for how many seconds, statement. One that waits itself comes last.
const rowBlockers = "SELECT b.trx_mysql_thread_id, coalesce(p.user, ''), coalesce(p.host, ''), coalesce(p.command, " +
	"''), " +
	"coalesce(p.time, timestampdiff(SECOND, b.trx_started, now())), coalesce(p.info, b.trx_query, '') FROM %[1]s w " +
	"JOIN information_schema.innodb_trx r ON r.trx_id = w.%[3]s JOIN information_schema.innodb_trx b ON b.trx_id = " +
	"w.%[4]s " +
	"LEFT JOIN information_schema.processlist p ON p.id = b.trx_mysql_thread_id WHERE r.trx_mysql_thread_id = %[2]s " +
	"GROUP BY 1, 2, 3, 4, 5, 6, b.trx_state, b.trx_started ORDER BY b.trx_state = 'LOCK WAIT', b.trx_started LIMIT 10"

// tableBlockers is rowBlockers for locks of tables and other things with a definition.
const tableBlockers = "SELECT t.processlist_id, coalesce(t.processlist_user, ''), coalesce(t.processlist_host, ''), " +
	"coalesce(t.processlist_command, ''), coalesce(t.processlist_time, 0), coalesce(t.processlist_info, '') " +
	"FROM performance_schema.metadata_locks w JOIN performance_schema.threads r ON r.thread_id = w.owner_thread_id " +
	"JOIN performance_schema.metadata_locks g ON g.object_type = w.object_type AND g.object_schema <=> w.object_schema " +
	"AND g.object_name <=> w.object_name AND g.lock_status = 'GRANTED' AND g.owner_thread_id <> w.owner_thread_id " +
	"JOIN performance_schema.threads t ON t.thread_id = g.owner_thread_id " +
	"WHERE w.lock_status = 'PENDING' AND r.processlist_id = %s GROUP BY 1, 2, 3, 4, 5, 6 " +
	"ORDER BY max(g.lock_type IN ('EXCLUSIVE', 'SHARED_NO_READ_WRITE', 'SHARED_NO_WRITE')) DESC, 5 DESC LIMIT 10"

// Blocker implements nodeclient.Blocked.
func (t *Database) Blocker(ctx context.Context) (string, error) {
	id, is := t.running.Load().(string)
	if !is {
		return "", nil
	}
	cfg := t.cfg.Clone()
	cfg.DBName = "" // it needs none
	s, err := begin(ctx, cfg)
	if err != nil {
		return "", withDeadline(ctx, err)
	}
	defer s.close()
	now, err := s.activityOf(ctx, id)
	if err != nil {
		return "", withDeadline(ctx, err)
	}
	if now.command == "" || now.command == "Sleep" {
		return "", nil // nothing of ours is at the server
	}
	var hidden error
	for _, ask := range []string{fmt.Sprintf(t.flavour.waits, id), fmt.Sprintf(tableBlockers, id)} {
		rows, err := s.query(ctx, ask)
		if err != nil && number(err) == 0 {
			return "", withDeadline(ctx, err)
		}
		if err != nil { // this user may not see it, or the server keeps no such table
			hidden = err
		}
		if len(rows) > 0 {
			return blockedBy(rows), nil
		}
	}
	waits := strings.HasPrefix(now.does, "Waiting for ") || now.does == "User lock"
	switch {
	case waits && hidden != nil:
		return fmt.Sprintf("its session %s is %q, and the server does not show whose that is (%v): SHOW FULL PROCESSLIST "+
			"as an administrator", id, now.does, hidden), nil
	case waits:
		return fmt.Sprintf("its session %s is %q, and the server does not show whose that is: SHOW FULL PROCESSLIST as an "+
			"administrator, or start it with performance_schema=ON",
			id, now.does), nil
	case hidden != nil:
		return fmt.Sprintf("its session %s is at work (%s); whether another blocks it, this user may not see: GRANT "+
			"PROCESS ON *.* to it", id, now.does), nil
	}
	return fmt.Sprintf("no session blocks it, its own (%s) is at work (%s)", id, now.does), nil
}

// activity is what a session does, in the words of its server.
type activity struct{ command, does string }

// activityOf looks what a session of this user does; nothing when it is gone.
func (s *session) activityOf(ctx context.Context, id string) (activity, error) {
	rows, err := s.query(ctx, "SELECT command, coalesce(state, '') FROM information_schema.processlist WHERE id = "+id)
	if err != nil || len(rows) == 0 {
		return activity{}, err
	}
	return activity{rows[0][0], rows[0][1]}, nil
}

// withDeadline says with err that ctx has ended, which drivers of connections do not always.
func withDeadline(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// span is a number of seconds, as the server says it, in words.
func span(seconds string) string {
	n, err := strconv.Atoi(seconds)
	if err != nil {
		return seconds + " s"
	}
	return units.Span(time.Duration(n) * time.Second)
}

// blockedBy is rows of rowBlockers or tableBlockers in words.
func blockedBy(rows [][]string) string {
	first := rows[0]
	if first[0] == "0" {
		return "blocked by a prepared transaction that no session has (XA RECOVER shows it, XA ROLLBACK ends it)"
	}
	who := "blocked by session " + first[0]
	var about []string
	if first[1] != "" {
		about = append(about, "user "+first[1])
	}
	if first[2] != "" {
		about = append(about, "from "+first[2])
	}
	switch first[3] {
	case "":
		about = append(about, "in a transaction for "+span(first[4]))
	case "Sleep":
		about = append(about, "idle for "+span(first[4])+" with its locks")
	default:
		about = append(about, first[3]+" for "+span(first[4]))
	}
	who += " (" + strings.Join(about, ", ") + ")"
	if len(rows) > 1 {
		who += fmt.Sprintf(" and %d more", len(rows)-1)
	}
	if first[5] != "" {
		who += ", which runs: " + sqltext.Shown(sqltext.MariaDB, first[5], shownBytes)
	}
	return who + ". To end it: KILL " + first[0]
}
