package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// powers asks whether the role may do more to the server than to its database.
const powers = "SELECT concat_ws(' and ', CASE WHEN (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = " +
	"current_user) THEN 'is a superuser' END, " +
	"(SELECT 'may use ' || string_agg(rolname, ', ' ORDER BY rolname) FROM pg_catalog.pg_roles WHERE rolname IN " +
	"('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files') AND pg_catalog.pg_has_role(oid, " +
	"'USAGE'))), current_user"

// learnPowers keeps what the role may do.
func (t *Database) learnPowers(ctx context.Context, c *pgconn.PgConn) error {
	rows, err := query(ctx, c, powers)
	if err != nil {
		return err
	}
	if t.powers = ""; rows[0][0] != "" {
		t.powers = fmt.Sprintf("the role %q %s, so that an increment can reach files and programs of the database's "+
			"machine: make one that owns this database and no more (CREATE ROLE ... LOGIN CREATEDB; ALTER DATABASE %s OWNER "+
			"TO ...)", rows[0][1], rows[0][0], t.cfg.Database)
	}
	return nil
}

// Powers says, as one sentence, what an increment could do beyond the database, since the role may; "" when nothing.
// It is what the role had at Open, for a log.
func (t *Database) Powers() string { return t.powers }
