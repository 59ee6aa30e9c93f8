package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/sqltext"
)

// harmless are functions that PostgreSQL calls volatile, but which answer the same on every node, give nothing to
// store, or
// can only be called by an access method or in another way than as a function.
const harmless = `amvalidate bernoulli system brin_desummarize_range brin_summarize_new_values brin_summarize_range
	brinhandler bthandler cursor_to_xml cursor_to_xmlschema dsnowball_init dsnowball_lexize gin_clean_pending_list
	ginhandler gisthandler hashhandler heap_tableam_handler spghandler currval lastval nextval plpgsql_call_handler
	plpgsql_inline_handler plpgsql_validator lo_close lo_export lo_get lo_lseek lo_lseek64 lo_open lo_put lo_tell
	lo_tell64 lo_truncate lo_truncate64 lo_unlink loread lowrite pg_advisory_lock pg_advisory_lock_shared
	pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared pg_advisory_xact_lock pg_advisory_xact_lock_shared
	pg_notify pg_partition_ancestors pg_partition_tree pg_sleep pg_sleep_for pg_sleep_until pg_extension_config_dump
	query_to_xml query_to_xml_and_xmlschema query_to_xmlschema set_config setval ts_rewrite ts_stat`

// Every volatile function of PostgreSQL is known to the lint, or known to be harmless; and so are those that only a
// stable
// transaction makes stable.
func TestLintKnowsEveryVolatileFunction(t *testing.T) {
	names := server.Query(t, "postgres", `SELECT DISTINCT proname FROM pg_proc WHERE provolatile = 'v'
		AND proname NOT LIKE 'binary\_upgrade%'
		AND pronamespace = 'pg_catalog'::regnamespace AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
		ORDER BY 1`)
	require.Greater(t, len(names), 100)
	known := strings.Fields(harmless)
	stable := server.Query(t, "postgres", `SELECT DISTINCT proname FROM pg_proc WHERE provolatile = 's' AND pronargs = 0
		AND pronamespace = 'pg_catalog'::regnamespace AND proname ~
		('^(now|.*timestamp|current_database|getpgusername|inet_|version|txid_|' ||
		'pg_(backend|conf|config|current|get_repl|postmaster|stat))')`)
	require.Greater(t, len(stable), 20)
	for _, name := range append(names, stable...) {
		warned := len(sqltext.Lint(sqltext.PostgreSQL, "SELECT "+name+"()")) > 0
		require.Equal(t, !slices.Contains(known, name), warned, name)
	}
	for _, word := range []string{"current_timestamp", "current_date", "current_time", "localtime", "localtimestamp",
		"current_user",
		"session_user", "current_role", "current_catalog", "ctid", "xmin", "tableoid"} {
		require.NotEmpty(t, sqltext.Lint(sqltext.PostgreSQL, "SELECT "+word), word)
	}
}
