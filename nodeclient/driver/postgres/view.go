package postgres

import (
	"context"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5/pgconn"
)

// A materialized view holds the rows that its query gave when an increment refreshed it. Nobody can put rows into one,
// so a restore refreshes it: that gives the same rows only where the query gives them now as well.

// viewsKey is the key of a target URL with which an operator says that a DUMP may refresh what differs.
const viewsKey = "materialized_views"

// viewsOption takes viewsKey out of a target URL.
func viewsOption(rawURL string) (rest string, refresh bool, err error) {
	u, err := url.Parse(rawURL)
	if err != nil || !u.Query().Has(viewsKey) {
		return rawURL, false, nil
	}
	q := u.Query()
	if value := q.Get(viewsKey); value != "refresh" {
		return "", false, fmt.Errorf("postgres: %s in the target URL can be refresh only, and is "+
			"%.40q", viewsKey, value)
	}
	q.Del(viewsKey)
	u.RawQuery = q.Encode()
	return u.String(), true, nil
}

// views names each materialized view with rows, as SQL and with its query.
const views = "SELECT format('%I.%I', n.nspname, c.relname), rtrim(pg_catalog.pg_get_viewdef(c.oid), ';') FROM " +
	"pg_catalog.pg_class c " +
	"JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND c.relispopulated AND " +
	"NOT EXISTS (SELECT FROM pg_catalog.pg_depend d " +
	"WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') ORDER BY 1"

// stale names a materialized view whose rows are not those that its query gives in the transaction of c; "" for none.
// It takes as long as those queries.
func stale(ctx context.Context, c *pgconn.PgConn) (name string, err error) {
	rows, err := query(ctx, c, views)
	if err != nil {
		return "", err
	}
	for _, row := range rows {
		// r alone would be a column with that name.
		held, now := "SELECT ROW(r.*)::text FROM "+row[0]+" r", "SELECT ROW(r.*)::text FROM ("+row[1]+") r"
		differs, err := query(ctx, c, "SELECT EXISTS (("+held+" EXCEPT ALL "+now+") UNION ALL ("+now+" EXCEPT "+
			"ALL "+held+"))")
		if err != nil {
			return "", fmt.Errorf("whether the materialized view %s holds what its query gives now cannot be "+
				"seen (%s=refresh in the target URL lets copies differ in it): %w", row[0], viewsKey, err)
		}
		if differs[0][0] == "t" {
			return row[0], nil
		}
	}
	return "", nil
}

// checkViews refuses a snapshot of which a restore would make something else.
func (s *snapshot) checkViews(ctx context.Context) error {
	if s.db.opts.RefreshViews {
		return nil
	}
	s.mu.Lock() // Close ends ctx first
	defer s.mu.Unlock()
	if s.pg == nil {
		return context.Canceled
	}
	name, err := stale(ctx, s.pg)
	if err == nil && name != "" {
		err = fmt.Errorf("the materialized view %s holds other rows than its query gives now, and a copy could "+
			"only refresh it: let an increment REFRESH MATERIALIZED VIEW %s, "+
			"or start this node with %s=refresh in its target URL, if copies may differ in it", name, name, viewsKey)
	}
	return err
}
