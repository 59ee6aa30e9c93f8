package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// A search_path that the server gives to the role or the database may differ from server to server, and change while
// nobody looks: increments would then name other tables than they did. So the one by which they have been applied up to
// now stands beside the position, goes with a DUMP, and is that of every session; only the target URL may name another.

// path is what a target knows of that.
type path struct {
	given bool // the URL names one
}

// follow brings a new session to the search_path that stands beside the position: it is the session's own, which a
// reset goes back to, so that it takes another connection when the server has given another.
func (t *Database) follow(ctx context.Context, c *pgconn.PgConn) (*pgconn.PgConn, error) {
	if t.path.given {
		return c, nil
	}
	stored, own, err := storedPath(ctx, c)
	if err != nil {
		closeConn(c)
		return nil, passing(classify(fmt.Errorf("postgres: read the search_path of the increments: %w", err)))
	}
	if stored == "" || stored == own {
		return c, nil
	}
	closeConn(c)
	if t.cfg.RuntimeParams["search_path"] == "" {
		t.numbers.say("the search_path that the server gives to this role or database is " + own + ", but increments were " +
			"applied by " + stored + " up to now, and still are: write search_path=... in the target URL of every node to " +
			"change that")
	}
	t.cfg.RuntimeParams["search_path"] = stored
	return t.connect(ctx, t.cfg.Database)
}

// storedPath reads what stands beside the position, "" for nothing, and what the session has.
func storedPath(ctx context.Context, c *pgconn.PgConn) (stored, own string, err error) {
	rows, err := query(ctx, c, "SELECT pg_catalog.current_setting('search_path'), "+
		"to_regclass('public.xmq_position') IS NOT NULL")
	if err != nil {
		return "", "", err
	}
	own = rows[0][0]
	if rows[0][1] == "t" {
		rows, err = query(ctx, c, "SELECT pg_catalog.to_jsonb(p) ->> 'path' FROM public.xmq_position p LIMIT 1")
		switch {
		case broken(err): // whoever reads the position tells
			return "", own, nil
		case err == nil && len(rows) == 1:
			stored = rows[0][0]
		}
	}
	return stored, own, err
}

// sessionPath is the search_path of the session, whatever has set another in it.
const sessionPath = "SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path'"

// notePath writes the path of the session beside the position, within an open transaction, where none stands or the URL
// names another.
func (t *Database) notePath(ctx context.Context, c *pgconn.PgConn) (noted bool, err error) {
	condition := "path IS NULL"
	if t.path.given {
		condition = "path IS DISTINCT FROM (" + sessionPath + ")"
	}
	rows, err := query(ctx, c, "UPDATE public.xmq_position SET path = ("+sessionPath+") WHERE "+condition+" RETURNING 1")
	return len(rows) > 0, err
}
