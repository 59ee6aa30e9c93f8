package postgres

import (
	"context"
	"fmt"
	"strings"
)

// catalogs are where things of users are listed, with what is none of them: what each database has from the beginning
// has an oid below 16384 (a large object may choose one); temporary things and our own table are none either, and
// what belongs to a thing goes with that, such as the row type of a table, or the multirange type of a range type. A
// composite type is a type: of an extension's, the row in pg_class does not tell whose it is.
var catalogs = []struct{ name, but string }{
	{"pg_class", "relkind NOT IN ('r', 'p', 'v', 'm', 'S', 'f') OR relpersistence = 't'" +
		" OR oid = coalesce(to_regclass('public.xmq_position'), 0)"},
	{"pg_type", "EXISTS (SELECT FROM pg_catalog.pg_class r WHERE r.oid = t.typrelid AND r.relkind <> 'c')" +
		" OR EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = t.oid)"},
	{"pg_namespace", "nspname = 'public' OR nspname ~ '^pg_'" +
		" OR EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extnamespace = t.oid)"},
	{"pg_collation", "collnamespace = 'pg_catalog'::regnamespace"},
	{"pg_proc", "false"}, {"pg_operator", "false"}, {"pg_opfamily", "false"}, {"pg_opclass", "false"},
	{"pg_am", "false"}, {"pg_conversion", "false"}, {"pg_cast", "false"}, {"pg_transform", "false"},
	{"pg_language", "false"},
	{"pg_event_trigger", "false"}, {"pg_publication", "false"}, {"pg_foreign_data_wrapper", "false"},
	{"pg_foreign_server", "false"}, {"pg_ts_config", "false"},
	{"pg_ts_dict", "false"}, {"pg_ts_parser", "false"}, {"pg_ts_template", "false"}, {"pg_largeobject_metadata", "false"},
}

// things asks whether a database has anything. Extensions and what belongs to them are nothing: only an administrator
// can put them there, for what is to come.
var things = func() string {
	var all []string
	for _, c := range catalogs {
		all = append(all, fmt.Sprintf("EXISTS (SELECT FROM pg_catalog.%[1]s t "+
			"WHERE (t.oid >= 16384 OR '%[1]s' = 'pg_largeobject_metadata') AND NOT (%[2]s) "+
			"AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.%[1]s'::regclass AND d.objid = "+
			"t.oid AND d.deptype IN ('e', 'i')))", c.name, c.but))
	}
	return "SELECT " + strings.Join(all, " OR ")
}()

// Empty implements nodeclient.Database: nothing that a user can make, but the position table.
func (t *Database) Empty(ctx context.Context) (bool, error) {
	c, err := t.conn(ctx)
	if err != nil {
		return false, err
	}
	rows, err := query(ctx, c, things)
	if err != nil {
		return false, classify(fmt.Errorf("postgres: look whether the database is empty: %w", err))
	}
	return rows[0][0] == "f", nil
}
