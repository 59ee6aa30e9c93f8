package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/freespace"
)

// verdict classes what a transaction has met, which has been rolled back. An increment's own statement can get any code
// from SQLite, so that none is Fatal by itself: what speaks of damage is looked for.
func (t *Database) verdict(ctx context.Context, c *sql.Conn, err error) error {
	if nodeclient.IsTransient(err) || nodeclient.IsFatal(err) {
		return err
	}
	switch {
	case extended(err) == sqlite3.SQLITE_CORRUPT_VTAB: // a virtual table speaks of its own content
		return err
	case classOf(code(err)) == fatal:
		return t.look(ctx, c, err)
	case code(err) == sqlite3.SQLITE_FULL && t.opts.MaxPages > 0 && freespace.For(t.dir(), 0) == nil:
		return fmt.Errorf("%w: the disk has room, but the database would have more than max_pages=%d pages", err,
			t.opts.MaxPages)
	}
	if code(err) == sqlite3.SQLITE_BUSY {
		if who := t.lockHolder(); who != "" {
			err = fmt.Errorf("%w; %s", err, who)
		}
	}
	return classify(err)
}

// look decides about an error that speaks of damage. Only what is damaged now, with nothing of the increment in it, is
// Fatal.
func (t *Database) look(ctx context.Context, c *sql.Conn, said error) error {
	err := whole(ctx, c)
	if err == nil {
		_, err = readPosition(ctx, c)
	}
	switch classed := classify(err); {
	case err == nil:
		return fmt.Errorf("%w; the database itself is whole (quick_check)", said)
	case nodeclient.IsTransient(classed):
		return nodeclient.Transient(fmt.Errorf("%w; and whether the database is damaged cannot be seen now: %w", said, err))
	}
	return nodeclient.Fatal(fmt.Errorf("%w; and the database is damaged: %w; restore it from another node, or from a "+
		"backup with --restore", said, err))
}

// whole lets SQLite check the schema, the free pages and each ordinary table with its indexes. Virtual tables have none
// of their own: what they say of their content is no damage of the file.
func whole(ctx context.Context, c *sql.Conn) error {
	rows, err := c.QueryContext(ctx, "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND rootpage > 0")
	if err != nil {
		return err
	}
	names := []string{"sqlite_schema"}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return errors.Join(err, rows.Close())
		}
		names = append(names, name)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, name := range names {
		var verdict string
		if err := c.QueryRowContext(ctx, "SELECT quick_check FROM pragma_quick_check(?) LIMIT 1",
			name).Scan(&verdict); err != nil {
			return err
		}
		if verdict != "ok" {
			return fmt.Errorf("SQLite finds the table %q damaged: %s: %w", name, verdict, event.ErrDamaged)
		}
	}
	return nil
}

// stays refuses an increment that leaves something in the connection: a temporary table takes the place of the one with
// the same name, until the node is restarted.
func stays(ctx context.Context, c *sql.Conn) error {
	var kind, name string
	switch err := c.QueryRowContext(ctx, "SELECT type, name FROM temp.sqlite_schema LIMIT 1").Scan(&kind, &name); {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look for temporary objects: %w", err)
	}
	return fmt.Errorf("it leaves the temporary %s %q, which lives in one connection only and would be gone after a "+
		"restart", kind, name)
}
