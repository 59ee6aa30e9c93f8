package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// What only the administrator of this node's database has set is no data of the group and not in a snapshot. It goes
// over from the database that is replaced to the one that takes its place: settings, of the database and of roles in
// it, who may connect, how many, its owner and its comment.

// lists are the settings that are lists of names: their stored text is SQL already.
var lists = []string{"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries",
	"shared_preload_libraries", "unix_socket_directories"}

// keepOwn gives the database to what only the administrator of the database from has set, within an open transaction on
// c. left is what the role may not give.
func keepOwn(ctx context.Context, c *pgconn.PgConn, from, to string) (left map[string]bool, err error) {
	left = map[string]bool{}
	name := quoteName(to)
	rows, err := query(ctx, c, "SELECT pg_catalog.pg_get_userbyid(datdba), datdba = (SELECT oid FROM "+
		"pg_catalog.pg_roles WHERE rolname = current_user), datconnlimit, "+
		"coalesce(pg_catalog.shobj_description(oid, 'pg_database'), ''), datacl IS NULL FROM "+
		"pg_catalog.pg_database WHERE datname = $1", from)
	if err != nil || len(rows) == 0 {
		return left, err
	}
	type change struct{ what, sql string }
	var changes []change
	db := rows[0]
	if db[2] != "-1" {
		changes = append(changes, change{"CONNECTION LIMIT", "ALTER DATABASE " + name + " CONNECTION LIMIT " + db[2]})
	}
	if db[3] != "" {
		changes = append(changes, change{"COMMENT", "COMMENT ON DATABASE " + name + " IS " + quoteText(db[3])})
	}
	settings, err := query(ctx, c, "SELECT coalesce(r.rolname, ''), pg_catalog.split_part(v, '=', 1), "+
		"pg_catalog.substr(v, pg_catalog.strpos(v, '=') + 1) "+
		"FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase LEFT JOIN "+
		"pg_catalog.pg_roles r ON r.oid = s.setrole, "+
		"unnest(s.setconfig) WITH ORDINALITY u (v, n) WHERE d.datname = $1 AND (s.setrole = 0 OR r.oid IS NOT "+
		"NULL) ORDER BY 1, n", from)
	if err != nil {
		return left, err
	}
	for _, row := range settings {
		whose := "ALTER DATABASE " + name
		if row[0] != "" {
			whose = "ALTER ROLE " + quoteName(row[0]) + " IN DATABASE " + name
		}
		changes = append(changes, change{"SET " + row[1], whose + " SET " + setting(row[1]) + " TO " +
			settingValue(row[1], row[2])})
	}
	if db[4] != "t" {
		rights, err := query(ctx, c, "SELECT coalesce(r.rolname, ''), a.privilege_type, a.is_grantable FROM "+
			"pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a "+
			"LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee WHERE d.datname = $1 AND (a.grantee = 0 OR "+
			"r.oid IS NOT NULL)", from)
		if err != nil {
			return left, err
		}
		changes = append(changes, change{"REVOKE", "REVOKE ALL ON DATABASE " + name + " FROM PUBLIC"})
		for _, row := range rights {
			to, option := "PUBLIC", ""
			if row[0] != "" {
				to = quoteName(row[0])
			}
			if row[2] == "t" {
				option = " WITH GRANT OPTION"
			}
			changes = append(changes, change{"GRANT " + row[1] + " TO " + to, "GRANT " + row[1] + " ON " +
				"DATABASE " + name + " TO " + to + option})
		}
	}
	if db[1] != "t" { // last: only an owner may do the rest
		changes = append(changes, change{"OWNER", "ALTER DATABASE " + name + " OWNER TO " + quoteName(db[0])})
	}
	for _, ch := range changes {
		err := execute(ctx, c, "SAVEPOINT own; "+ch.sql+"; RELEASE own")
		if err != nil && code(err) == "" {
			return left, err
		}
		if err != nil {
			left[ch.what] = true
			if err := execute(ctx, c, "ROLLBACK TO own"); err != nil {
				return left, err
			}
		}
	}
	return left, nil
}

// setting is the name of a setting as SQL writes it.
func setting(name string) string {
	parts := strings.Split(name, ".")
	for i := range parts {
		parts[i] = quoteName(parts[i])
	}
	return strings.Join(parts, ".")
}

// settingValue is what stands after TO.
func settingValue(name, value string) string {
	if slices.Contains(lists, strings.ToLower(name)) && value != "" {
		return value
	}
	return quoteText(value)
}

// leftOwn says what keepOwn could not give; "" for nothing.
func leftOwn(database string, left map[string]bool) string {
	if len(left) == 0 {
		return ""
	}
	return fmt.Sprintf("of the database %s itself %s, which only an administrator may give: set it "+
		"again", database, few(left))
}
