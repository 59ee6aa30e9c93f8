package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// currval and lastval answer what a sequence has given to the session, whichever increment drew it. An increment whose
// own words ask runs alone, in a session that was reset. Where something of the database asks (a default, a rule, a
// view, a policy, a check, a trigger, a function), the words of increments do not show it: there the session forgets
// its numbers before each increment. So whoever asks for a number that the increment itself has not drawn gets the same
// error on every node, however increments fall into batches.

// asking is what a target knows of that.
type asking struct {
	known bool // until something else than plain DML has run
	asks  bool // something of the database may ask
}

// forgetNumbers is sent before each increment where something asks.
const forgetNumbers = "DISCARD SEQUENCES"

// askers are the functions that ask, and those of the server that run a query which is a text, in which one may hide.
var askers = []string{"currval", "lastval", "query_to_xml", "query_to_xmlschema", "query_to_xml_and_xmlschema",
	"ts_stat", "ts_rewrite"}

// hasAsker reports whether a text, in lower case, has the name of one of them.
func hasAsker(lower string) bool {
	return slices.ContainsFunc(askers, func(name string) bool { return strings.Contains(lower, name) })
}

// calledIn is a condition: an expression that is kept in the catalogs calls one of the server's functions.
func calledIn(functions ...string) string {
	of := "proname IN ('" + strings.Join(functions, "', '") + "') AND oid < 16384"
	pattern := "(SELECT ':(op)?funcid (' || pg_catalog.string_agg(oid::text, '|') || ') ' FROM pg_catalog.pg_proc WHERE " +
		of + ")"
	var all []string
	for _, in := range []struct{ catalog, columns string }{
		{"pg_attrdef", "adbin"}, {"pg_constraint", "conbin"}, {"pg_trigger", "tgqual"}, {"pg_type", "typdefaultbin"},
		{"pg_policy", "polqual polwithcheck"}, {"pg_rewrite", "ev_action ev_qual"}, {"pg_proc", "proargdefaults"},
	} {
		for column := range strings.FieldsSeq(in.columns) {
			all = append(all, "EXISTS (SELECT FROM pg_catalog."+in.catalog+" WHERE oid >= 16384 AND "+column+
				"::text ~ "+pattern+")")
		}
	}
	calls := " (SELECT oid FROM pg_catalog.pg_proc WHERE " + of + ")"
	all = append(all, "EXISTS (SELECT FROM pg_catalog.pg_operator WHERE oprcode IN"+calls+")",
		"EXISTS (SELECT FROM pg_catalog.pg_cast WHERE castfunc IN"+calls+")")
	return "(" + strings.Join(all, " OR ") + ")"
}

// calledInBodies is the same of the bodies of functions in standard SQL, whose column not every server has.
func calledInBodies(functions ...string) string {
	return "EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE oid >= 16384 AND pg_catalog.to_jsonb(p) ->> 'prosqlbody' ~ " +
		"(SELECT ':(op)?funcid (' || pg_catalog.string_agg(oid::text, '|') || ') ' FROM pg_catalog.pg_proc " +
		"WHERE proname IN ('" + strings.Join(functions, "', '") + "') AND oid < 16384))"
}

// askAsking asks the catalogs. Of a function its text is read, also that of one in standard SQL, whose own column not
// every server has; one that puts statements together (EXECUTE), or is of a language that nobody here reads, may ask
// for anything. C is believed to leave sequences alone.
var askAsking = "SELECT " + calledIn(askers...) + " OR EXISTS (SELECT FROM pg_catalog.pg_proc p " +
	"JOIN pg_catalog.pg_language l ON l.oid = p.prolang WHERE p.oid >= 16384 AND l.lanname <> 'c' AND " +
	"(l.lanname NOT IN ('sql', 'plpgsql', 'internal') OR p.prosrc ~* '" + strings.Join(askers, "|") + "|execute')) OR " +
	calledInBodies(askers...)

// learnAsking finds out, in an open transaction, whether something of the database may ask.
func (t *Database) learnAsking(ctx context.Context, c *pgconn.PgConn, found place) error {
	if t.asking.known {
		return nil
	}
	t.asking = asking{known: true}
	if found.sequences == "0" && !found.functions {
		return nil
	}
	rows, err := query(ctx, c, askAsking)
	if err != nil {
		t.asking.known = false
		return passing(classify(fmt.Errorf("postgres: look for what asks for numbers of sequences: %w", err)))
	}
	t.asking.asks = rows[0][0] != "f"
	return nil
}
