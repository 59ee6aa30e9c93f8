package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/nodeclient/driver/internal/apply"
)

// What an increment leaves in the session would change what the next one means, until the node is restarted; and what
// one sets for its transaction would reach the next in the same batch. Words do not show it: a function can do all of
// it. So after anything but plain DML, and where the database has functions of its own after that too, the session is
// reset before the next transaction; and a batch whose functions have changed the session is applied one by one.

// reset puts the session back to what it was when it began: role, settings, temporary objects, locks, cursors. It is a
// transaction of its own, since a rollback would take it back.
const reset = "BEGIN; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; " +
	"SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; COMMIT; "

// changed asks whether the session is another than at the beginning of the transaction, and what probing asks.
const changed = "SELECT EXISTS (SELECT FROM pg_catalog.pg_settings WHERE source = 'session' AND name NOT LIKE " +
	"'transaction%')" +
	" OR current_user <> session_user OR pg_catalog.pg_my_temp_schema() <> 0" +
	" AND EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()), (" + probing + ")"

// unchanged reads the answer to changed, and returns what probing answers.
func unchanged(p *pgconn.Pipeline, st statement) (settings string, err error) {
	reader, err := next(p, st.prepared)
	if err != nil {
		return "", err
	}
	r := reader.Read()
	if r.Err != nil {
		return "", said(r.Err)
	}
	if len(r.Rows) != 1 || string(r.Rows[0][0]) != "f" {
		return "", fmt.Errorf("%w: a function has changed the session", apply.ErrAlone)
	}
	return string(r.Rows[0][1]), nil
}

// tidySession resets the session at once after a step that stood alone, whether it went well or not: a lock that it
// has taken would stay until the next increment comes. What cannot be done now is done before that one.
func (t *Database) tidySession(ctx context.Context, c *pgconn.PgConn, steps []step) {
	if t.remains.stays && c == t.pg && !c.IsClosed() {
		t.endSession()
		return
	}
	if t.used && len(steps) == 1 && steps[0].Work.alone && !c.IsClosed() && c.TxStatus() == 'I' && ctx.Err() == nil &&
		execute(ctx, c, reset) == nil {
		t.used = false
	}
}

// lasting reports whether an increment of DML takes a lock that outlives it.
func lasting(lower string) bool { return strings.Contains(lower, "advisory_lock") }
