package postgres

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/broker/form"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/servertest/postgrestest"
	"xmq/nodeclient/driver/sqltext"
)

// node is an open target on a database of its own, with the log that feeds it.
type node struct {
	*testing.T
	*Database
	db  string
	log *drivertest.Log
	srv *postgrestest.Server
}

func newNode(t *testing.T) *node { return nodeOn(t, server, server.Addr()) }

// nodeOn makes a node whose way to the server is addr.
func nodeOn(t *testing.T, srv *postgrestest.Server, addr string) *node {
	t.Helper()
	db := database(t.TempDir())
	srv.Create(t, db)
	target, err := Open(t.Context(), postgrestest.URL("xmq", addr, db), Options{LockBeat: time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { _ = target.Close() })
	return &node{t, target, db, drivertest.NewLog(7), srv}
}

// at is the stored position, or the start of the log.
func (n *node) at() event.Position {
	n.Helper()
	return drivertest.At(n.T, n.Database, n.log)
}

// run applies scripts as one batch.
func (n *node) run(scripts ...string) {
	n.Helper()
	for _, script := range scripts {
		require.NoError(n, Check([]byte(script)), "what the server takes is refused by no door: %s", script)
	}
	drivertest.Feed(n.T, n.Database, n.log, scripts...)
}

// fails applies scripts as one batch of which the i-th, from 0, must FAIL. The log then goes on after all of them.
func (n *node) fails(i int, scripts ...string) error {
	n.Helper()
	return drivertest.Fails(n.T, n.Database, n.log, i, scripts...)
}

// query reads as another client would.
func (n *node) query(sql string) []string {
	n.Helper()
	return n.srv.Query(n.T, n.db, sql)
}

// value is the one value of a query.
func (n *node) value(sql string) string {
	n.Helper()
	rows := n.query(sql)
	require.Len(n, rows, 1)
	return rows[0]
}

// A batch costs a round trip, not each of its statements.
func TestABatchTakesFourRoundTrips(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("CREATE TABLE c (id int PRIMARY KEY, v int)")
	var scripts []string
	for i := range 500 {
		scripts = append(scripts, fmt.Sprintf("INSERT INTO c VALUES (%d, 0); UPDATE c SET v = v + 1 WHERE id = %d", i, i))
	}
	before, batch := n.at(), n.log.Scripts(scripts...)
	trips := p.counted(func() {
		_, err := n.Apply(t.Context(), before, batch)
		require.NoError(t, err)
	})
	require.Equal(t, 4, trips, "BEGIN, position, everything, COMMIT; for 1000 statements")
	require.Equal(t, "500|500", n.value("SELECT count(*), sum(v) FROM c"))
}

// An answer larger than all buffers of the connection does not block the batch.
func TestResultsOfAnyWidthAreReadAndDropped(t *testing.T) {
	n := newNode(t)
	n.run("SELECT repeat('x', 1000000) FROM generate_series(1, 20)", "SELECT '"+strings.Repeat("y", 5<<20)+"'",
		"CREATE TABLE done ()")
	require.Equal(t, "0", n.value("SELECT count(*) FROM done"))
}

// TestXD28: "data and position in one transaction: a counter update is applied once", with the connection cut
// before the commit arrives, and after the server has done it but before it says so.
func TestXD28CommitOnALostConnection(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("CREATE TABLE c (v int); INSERT INTO c VALUES (0)")

	before, batch := n.at(), n.log.Scripts("UPDATE c SET v = v + 1")
	p.Do(func() { p.cutOn = "COMMIT" })
	applied, err := n.Apply(t.Context(), before, batch)
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, before, applied, "nothing is stored")
	require.Equal(t, "0", n.value("SELECT v FROM c"))

	p.Do(func() { p.loseOf = "COMMIT" })
	applied, err = n.Apply(t.Context(), before, batch)
	require.NoError(t, err, "it is stored: read back, not guessed")
	require.Equal(t, batch[0].Pos, applied)
	require.Equal(t, "1", n.value("SELECT v FROM c"))

	_, err = n.Apply(t.Context(), before, batch)
	require.True(t, nodeclient.IsFatal(err), "a repetition is refused: %v", err)
	require.Equal(t, "1", n.value("SELECT v FROM c"), "nothing twice")

	// Outside the order the position stays, so it cannot tell: nothing is guessed.
	for _, lose := range []bool{false, true} {
		at, was := n.at(), n.value("SELECT v FROM c")
		outside := []event.Item{{Pos: at, Record: batch[0].Record, Decision: 1}}
		p.Do(func() {
			if lose {
				p.loseOf = "COMMIT"
			} else {
				p.cutOn = "COMMIT"
			}
		})
		_, err = n.Apply(t.Context(), at, outside)
		require.True(t, nodeclient.IsUnknown(err), err)
		require.True(t, nodeclient.IsTransient(err), err)
		require.Equal(t, at, n.at())
		require.Equal(t, lose, was != n.value("SELECT v FROM c"))
	}
}

// When the server cannot be asked either, the doubt is kept, and cleared by the next Apply, whatever was stored.
func TestADoubtIsKeptUntilTheServerAnswers(t *testing.T) {
	p := newProxy(t, server.Addr())
	n := nodeOn(t, server, p.Addr())
	n.run("CREATE TABLE c (v int); INSERT INTO c VALUES (0)")
	before, batch := n.at(), n.log.Scripts("UPDATE c SET v = v + 1", "UPDATE c SET v = v + 10")

	p.Refuse(true)
	p.Do(func() { p.cutOn = "COMMIT" })
	applied, err := n.Apply(t.Context(), before, batch)
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, before, applied)
	p.Refuse(false)
	_, err = n.Apply(t.Context(), before, batch[:1])
	require.NoError(t, err, "nothing was stored, so all goes on")

	p.Refuse(true)
	p.Do(func() { p.loseOf = "COMMIT" })
	applied, err = n.Apply(t.Context(), batch[0].Pos, batch[1:])
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, batch[0].Pos, applied)
	p.Refuse(false)
	applied, err = n.Apply(t.Context(), batch[0].Pos, batch[1:])
	require.True(t, nodeclient.IsTransient(err), "it was stored: %v", err)
	require.Equal(t, batch[1].Pos, applied, "and the agent learns where to go on")
	n.run("UPDATE c SET v = v + 100")
	require.Equal(t, "111", n.value("SELECT v FROM c"))
}

// A reader of the position waits for a commit that a dead connection left behind: here a transaction that holds
// the place while Position asks.
func TestThePositionWaitsForAnOpenTransaction(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	next := n.log.Next([]byte("SELECT 1"))[0].Pos
	ctx := t.Context()
	other, err := pgconn.Connect(ctx, server.URL(n.db))
	require.NoError(t, err)
	defer closeConn(other)
	_, err = begin(ctx, other, "", "true")
	require.NoError(t, err)
	require.NoError(t, replacePosition(ctx, other, next))

	got := make(chan event.Position, 1)
	go func() {
		pos, _ := n.Position(ctx)
		got <- pos
	}()
	waiting := "SELECT count(*) FROM pg_stat_activity WHERE datname = '" + n.db + "' AND wait_event = 'advisory'"
	require.Eventually(t, func() bool { return server.Query(t, "postgres", waiting)[0] == "1" }, patience, tick)
	require.NoError(t, execute(ctx, other, "COMMIT"))
	require.Equal(t, next, <-got)
}

// TestXN08: "Error classes for SQL: duplicate key, constraint, syntax: FAIL; server lost: retry; schema missing:
// FATAL", one case per class on a real server. What only a broken machine says is asked of the table.
func TestXN08ErrorClasses(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (id int PRIMARY KEY, v int CHECK (v >= 0), r int REFERENCES c)", "INSERT INTO c VALUES (1, 0)")
	for state, script := range map[string]string{
		"23505": "INSERT INTO c VALUES (1, 1)",
		"23514": "INSERT INTO c VALUES (2, -1)",
		"23503": "INSERT INTO c VALUES (2, 1, 77)",
		"42601": "INSRT INTO c",
		"42P01": "INSERT INTO nowhere VALUES (1)",
		"42703": "UPDATE c SET w = 1",
		"22P02": "UPDATE c SET v = 'one'",
		"22012": "UPDATE c SET v = 1/0",
		"22021": "INSERT INTO c VALUES ('\xff')",
		"42501": "ALTER TABLE pg_catalog.pg_class ADD COLUMN x int",
		"P0001": "DO $$ BEGIN RAISE 'no'; END $$",
		"2D000": "DO $$ BEGIN COMMIT; END $$",
		"54001": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE OR REPLACE FUNCTION f() RETURNS int " +
			"LANGUAGE plpgsql AS 'BEGIN RETURN f(); END'; SELECT f()",
	} {
		require.ErrorContains(t, n.fails(1, "UPDATE c SET v = v", script, "UPDATE c SET v = v"), "SQLSTATE "+state)
	}

	// Transient, as the real server says it. Each is tried again and then passes.
	passes := func(what string, hinder string, script string, free func()) {
		t.Helper()
		before, batch := n.at(), n.log.Scripts(script)
		_, err := n.Apply(t.Context(), before, batch)
		require.True(t, nodeclient.IsTransient(err), "%s: %v", what, err)
		require.ErrorContains(t, err, hinder, what)
		require.Equal(t, before, n.at())
		free()
		_, err = n.Apply(t.Context(), before, batch)
		require.NoError(t, err, what)
	}
	passes("57P01: an administrator ends the session", "SQLSTATE 57P01",
		"DO $$ BEGIN IF current_setting('application_name') = 'xmq' AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = "+
			"'freed') THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); END IF; END $$",
		func() { require.NoError(t, server.Exec("postgres", "CREATE ROLE freed")) })
	for _, state := range []string{"40001", "40P01", "53100", "53200", "53300", "55P03", "08006", "25006", "57014",
		"57P02", "57P03", "58030"} {
		role := "free" + strings.ToLower(state)
		passes(state, "SQLSTATE "+state,
			"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '"+role+
				"') THEN RAISE 'raised for a test' USING ERRCODE = '"+state+"'; END IF; END $$",
			func() { require.NoError(t, server.Exec("postgres", "CREATE ROLE "+role)) })
	}

	// Not raised but met: a lock timeout.
	require.NoError(t, server.Exec("postgres", `ALTER DATABASE "`+n.db+`" SET lock_timeout = '50ms'`))
	require.NoError(t, n.reopen())
	other, err := pgconn.Connect(t.Context(), server.URL(n.db))
	require.NoError(t, err)
	defer closeConn(other)
	require.NoError(t, execute(t.Context(), other, "BEGIN; LOCK TABLE c"))
	passes("55P03", "SQLSTATE 55P03", "UPDATE c SET v = v",
		func() { require.NoError(t, execute(t.Context(), other, "ROLLBACK")) })

	// Fatal: the place is lost, or is another's.
	at := n.at()
	require.NoError(t, server.Exec(n.db, "DELETE FROM xmq_position"))
	_, err = n.Position(t.Context())
	require.True(t, nodeclient.IsFatal(err), err)
	_, err = n.Apply(t.Context(), at, n.log.Scripts("UPDATE c SET v = v"))
	require.True(t, nodeclient.IsFatal(err), err)
	require.NoError(t, n.Seek(t.Context(), at))
	require.NoError(t, server.Exec(n.db, "UPDATE xmq_position SET log_id = '00000000000000ff'"))
	_, err = n.Apply(t.Context(), at, n.log.Scripts("UPDATE c SET v = v"))
	require.True(t, nodeclient.IsFatal(err), err)
	require.NoError(t, server.Exec(n.db, "DROP TABLE xmq_position"))
	_, err = n.Apply(t.Context(), at, n.log.Scripts("UPDATE c SET v = v"))
	require.ErrorIs(t, err, nodeclient.ErrGone)
	require.True(t, nodeclient.IsTransient(err), err)
}

// reopen makes the driver connect anew.
func (n *node) reopen() error {
	_ = n.Database.Close()
	target, err := Open(n.Context(), n.srv.URL(n.db), Options{LockBeat: time.Hour})
	if err == nil {
		n.Database = target
		n.Cleanup(func() { _ = target.Close() })
	}
	return err
}

// TestXD20: "any unknown result of a target driver is FAIL; position unchanged", with a SQLSTATE nobody has
// heard of.
func TestXD20AnUnknownErrorIsAFail(t *testing.T) {
	n := newNode(t)
	require.ErrorContains(t, n.fails(0, "DO $$ BEGIN RAISE 'odd' USING ERRCODE = 'ZZ999'; END $$"), "ZZ999")
}

// What is refused is refused before anything ran: not even a sequence has moved.
func TestWhatAnIncrementMayNotSayIsRefusedBeforeItRuns(t *testing.T) {
	n := newNode(t)
	n.run("CREATE SEQUENCE s; CREATE TABLE c (v int)")
	for script, why := range map[string]string{
		"COMMIT": "COMMIT would control",
		"BEGIN; INSERT INTO c VALUES (1); ROLLBACK": "would control",
		"SAVEPOINT a":                                                    "SAVEPOINT would control",
		"PREPARE TRANSACTION 'x'":                                        "PREPARE would control",
		"DELETE FROM xmq_position":                                       "xmq_position",
		`DELETE FROM public."xmq_position"`:                              "xmq_position",
		"DO $body$ BEGIN DELETE FROM XMQ_Position; END $body$":           "xmq_position",
		"SET search_path = x":                                            "SET SEARCH_PATH",
		"SELECT set_config('timezone', 'CET', false)":                    "set_config",
		"CREATE TEMP TABLE x (a int)":                                    "temporary",
		"CREATE UNLOGGED TABLE x (a int)":                                "unlogged",
		"ALTER TABLE c SET UNLOGGED":                                     "unlogged",
		"SELECT 1 AS a INTO UNLOGGED x":                                  "unlogged",
		"SELECT * INTO TEMP x FROM c":                                    "temporary",
		"CREATE OR REPLACE TEMP VIEW c AS SELECT 1":                      "temporary",
		"CREATE TABLE pg_temp.c (v int)":                                 "pg_temp",
		`DELETE FROM U&"xmq\005fposition"`:                               "escapes",
		`DO $$ BEGIN DELETE FROM u&"xmq\005fposition"; END $$`:           "escapes",
		"CREATE ROLE other":                                              "CREATE ROLE is about the server",
		"ALTER ROLE xmq SET search_path = x":                             "ALTER ROLE is about the server",
		"DROP OWNED BY app":                                              "DROP OWNED is about the server",
		"ALTER DATABASE x SET search_path = x":                           "ALTER DATABASE is about the server",
		"GRANT pg_monitor TO xmq":                                        "GRANT of a role is about the server",
		"REVOKE ADMIN OPTION FOR app FROM xmq":                           "REVOKE of a role is about the server",
		"DROP USER other":                                                "DROP USER is about the server",
		"DO $a$ BEGIN EXECUTE $b$ DELETE FROM xmq_position $b$; END $a$": "xmq_position",
		"COPY c TO STDOUT":                                               "COPY",
		"VACUUM c":                                                       "VACUUM cannot run in a transaction",
		"CREATE UNIQUE INDEX CONCURRENTLY i ON c (v)":                    "leave CONCURRENTLY out",
		"DROP INDEX CONCURRENTLY i":                                      "leave CONCURRENTLY out",
		"ALTER TABLE c DETACH PARTITION d CONCURRENTLY":                  "leave CONCURRENTLY out",
		"REINDEX (VERBOSE) TABLE CONCURRENTLY c":                         "leave CONCURRENTLY out",
		"REINDEX DATABASE x":                                             "name one table or index",
		"CLUSTER":                                                        "name one table or index",
		"ALTER SYSTEM SET work_mem = 1":                                  "ALTER SYSTEM is about the server",
		"CREATE DATABASE x":                                              "CREATE DATABASE is about the server",
		"DROP TABLESPACE x":                                              "DROP TABLESPACE is about the server",
		"CREATE SUBSCRIPTION x CONNECTION '' PUBLICATION y":              "CREATE SUBSCRIPTION is about the server",
		"INSERT INTO c VALUES ($1)":                                      "placeholder $1 and no arguments",
		`{"sql": "INSERT INTO c VALUES ($1)", "args": [1, 2]}`:           "up to $1, and it has 2 arguments",
		`{"sql": "INSERT INTO c VALUES ($1 + $2)", "args": [1]}`:         "up to $2, and it has 1 argument",
		`{"sql": "INSERT INTO c VALUES (1)", "args": [1]}`:               "up to $0, and it has 1 argument",
		`{"sql": "INSERT INTO c VALUES ('$1', \"$2\") -- $3"}`:           "column",
		"LISTEN x":                         "LISTEN",
		"SELECT 'open":                     "quote",
		"SELECT 1 \x00":                    "NUL",
		`{"sql": "SELECT $1", "args": [1]`: "begins with {",
		`{"sql": "SELECT $1", "args": [1], "more": 1}`: "more",
		`{"sql": "SELECT 1; SELECT 2"}`:                "2 statements",
		`{"sql": ""}`:                                  "0 statements",
		`{"sql": "SELECT 1"} x`:                        "invalid character",
		`{"sql": "DELETE FROM xmq_position WHERE seq > $1", "args": [0]}`: "xmq_position",
	} {
		require.ErrorContains(t, n.fails(0, script), why, script)
	}
	require.ErrorContains(t, n.fails(1, "INSERT INTO c VALUES (1)", "SELECT nextval('s'); COMMIT"), "COMMIT")
	require.Equal(t, "1|f", n.value("SELECT last_value, is_called FROM s"))
	require.Equal(t, "1", n.value("SELECT count(*) FROM c"))
	require.Contains(t, n.fails(1, "INSERT INTO c VALUES (2)",
		"DO $$ BEGIN EXECUTE 'DROP TABLE xmq_' || 'position'; END $$", "SELECT 1").Error(),
		"keeps its position", "words do not show it, the position does")
	require.Equal(t, "2", n.value("SELECT count(*) FROM c"))
}

// FuzzIncrement: no body makes the check panic; what passes has no transaction control, and arguments only where some
// were sent.
func FuzzIncrement(f *testing.F) {
	for _, seed := range append([]string{`{"sql": "SELECT $1", "args": [null, true, 1e400, "a", {}, []]}`,
		`{"tx": [{"sql": "SELECT $1", "args": [{"base64": "AA=="}]}, {"sql": "DO"}]}`, "{", "{}", "BEGIN; SELECT 1; COMMIT",
		"$$", "$a$ $b$ xmq_position"}, schema...) {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		w, err := parse(body)
		if err != nil {
			return
		}
		all := w.statements
		for _, st := range all {
			require.NotContains(t, st.text, "\x00")
			require.True(t, st.args == nil || form.Is(body))
			_, _, found := sqltext.TransactionControl(sqltext.PostgreSQL, st.text)
			require.False(t, found, st.text)
		}
	})
}

// A statement that comes again is prepared, and forgotten when the schema may have changed: what its parameters were
// then is not what they are now. A failing one in the middle changes nothing of that.
func TestTemplatesArePreparedAndForgottenWithTheSchema(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (id int PRIMARY KEY, v int)")
	insert := func(id int, v string) string {
		return fmt.Sprintf(`{"sql": "INSERT INTO c VALUES ($1, $2)", "args": [%d, %s]}`, id, v)
	}
	n.run(insert(1, "1"), insert(2, "2"), insert(3, "null"), "DELETE FROM c WHERE id = 0", "DELETE FROM c WHERE id = 0")
	require.Len(t, n.templates.names, 2)
	require.ErrorContains(t, n.fails(2, insert(4, "4"), insert(5, "5"), insert(6, `"six"`), insert(7, "7")), "22P02")
	n.run(insert(8, "8"), insert(9, "9"), "ALTER TABLE c ALTER v TYPE text", insert(10, `"ten"`), insert(11, `"eleven"`))
	n.run(insert(12, `"twelve"`), insert(13, `"thirteen"`))
	n.run("SELECT 1", insert(14, `"a"`), "DO $$ BEGIN ALTER TABLE c ADD w int DEFAULT 0; END $$")
	n.run(insert(15, `"b"`), insert(16, `"c"`), "DELETE FROM c WHERE id = 16 RETURNING *",
		"DELETE FROM c WHERE id = 16 RETURNING *")
	require.Equal(t, "1=1,2=2,4=4,5=5,8=8,9=9,10=ten,11=eleven,12=twelve,13=thirteen,14=a,15=b",
		n.value("SELECT string_agg(id || '=' || v, ',' ORDER BY id) FROM c"))
	server.Query(t, "postgres", "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '"+n.db+"'")
	n.at() // over a new connection, which has prepared nothing
	n.run(insert(17, `"d"`), insert(18, `"e"`), insert(19, `"f"`))
	require.Equal(t, "15", n.value("SELECT count(v) FROM c"))
}

// A deferred constraint is checked at the commit: the increment that breaks it is the one that fails, however the
// batches fall.
func TestADeferredConstraintFailsItsOwnIncrement(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (a int REFERENCES a DEFERRABLE INITIALLY DEFERRED)")
	n.run("INSERT INTO b VALUES (1); INSERT INTO a VALUES (1)")
	require.ErrorContains(t, n.fails(1, "INSERT INTO a VALUES (2)", "INSERT INTO b VALUES (3)",
		"INSERT INTO a VALUES (3)"), "23503")
	require.Equal(t, "1,2", n.value("SELECT string_agg(id::text, ',' ORDER BY id) FROM a"))
}

// Settings of the server, the database and the role do not change what an increment means.
func TestSessionSettingsArePinned(t *testing.T) {
	n := newNode(t)
	require.NoError(t, server.Exec("postgres", strings.ReplaceAll(`@ timezone = 'Asia/Tokyo'; @ datestyle = 'German, DMY';
		@ statement_timeout = 1; @ default_transaction_isolation = 'serializable'; @ synchronous_commit = off;
		@ default_transaction_read_only = on; @ bytea_output = escape; @ extra_float_digits = -3; @ array_nulls = off;
		@ transform_null_equals = on`, "@", "ALTER ROLE xmq IN DATABASE "+n.db+" SET")))
	require.NoError(t, n.reopen())
	n.run("CREATE TABLE s (k text, v text)", `INSERT INTO s SELECT x, current_setting(x) FROM
		unnest(ARRAY['timezone', 'client_encoding', 'standard_conforming_strings', 'transaction_isolation',
		'statement_timeout', 'synchronous_commit', 'datestyle']) x; SELECT pg_sleep(0.01)`)
	require.Equal(t, []string{"client_encoding|UTF8", "datestyle|ISO, MDY", "standard_conforming_strings|on",
		"statement_timeout|0", "synchronous_commit|on",
		"timezone|UTC", "transaction_isolation|read committed"}, n.query("SELECT k, v FROM s ORDER BY k"))
	require.Equal(t, "2024-01-01 00:00:02+00", n.value("SET timezone = 'UTC'; SET datestyle = 'ISO'; SELECT updated_at "+
		"FROM xmq_position"), "broker time")

	require.NoError(t, server.Exec(n.db, "CREATE SCHEMA app AUTHORIZATION xmq"))
	before := n.at()
	require.NoError(t, n.Close())
	target, err := Open(t.Context(), server.URL(n.db)+"&search_path=app", Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, target.Close()) }()
	_, err = target.Apply(t.Context(), before, n.log.Scripts("CREATE TABLE here ()"))
	require.NoError(t, err)
	require.Equal(t, "0", n.value("SELECT count(*) FROM app.here"))
}

// Whatever a session may set that gives a statement another meaning is pinned, or is known to give it none; a server
// that brings a new setting of that kind makes somebody decide.
func TestEverySettingOfMeaningIsPinned(t *testing.T) {
	n := newNode(t)
	harmless := []string{ // how fast, where or for how long; whose values are reset or refused; output of pg_dump
		"client_min_messages", "default_table_access_method", "default_tablespace", "default_toast_compression",
		"escape_string_warning", "gin_pending_list_limit", "idle_session_timeout", "lock_timeout", "quote_all_identifiers",
		"restrict_nonsystem_relation_kind", "temp_tablespaces", "transaction_deferrable", "transaction_isolation",
		"transaction_read_only", "transaction_timeout", "vacuum_failsafe_age", "vacuum_freeze_min_age",
		"vacuum_freeze_table_age", "vacuum_multixact_failsafe_age", "vacuum_multixact_freeze_min_age",
		"vacuum_multixact_freeze_table_age", "createrole_self_grant", "event_triggers", "icu_validation_level",
		"search_path"} // stands beside the position
	var alter strings.Builder
	names := n.query("SELECT lower(name) FROM pg_settings WHERE context = 'user' AND category ~ 'Locale and Formatting|" +
		"Other Defaults|Statement Behavior|Version and Platform Compatibility' ORDER BY 1")
	require.NotEmpty(t, names)
	var decided []string
	for _, name := range names {
		_, isPinned := pinned[name]
		_, isChosen := chosen[name]
		require.True(t, isPinned || isChosen || slices.Contains(harmless, name), "%s: pin it, or say why not", name)
		if isChosen {
			decided = append(decided, name)
		}
	}
	strange := map[string]string{"default_text_search_config": "pg_catalog.german", "lc_monetary": "POSIX",
		"lc_numeric": "POSIX", "lc_time": "POSIX", "timezone_abbreviations": "India", "backslash_quote": "off",
		"gin_fuzzy_search_limit": "1", "synchronize_seqscans": "on"}
	for name, value := range strange {
		fmt.Fprintf(&alter, "ALTER ROLE xmq IN DATABASE %s SET %s = '%s';", n.db, name, value)
	}
	require.NoError(t, server.Exec("postgres", alter.String()))
	require.NoError(t, n.reopen())
	n.run("CREATE TABLE s (k text, v text)", "INSERT INTO s SELECT name, setting FROM pg_settings")
	for name := range strange {
		want, isPinned := pinned[name]
		if !isPinned {
			want = chosen[name]
		}
		require.Equal(t, want, n.value("SELECT v FROM s WHERE k = '"+name+"'"), name)
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(chosen)), decided)
	at := n.at()
	require.NoError(t, n.Close())
	target, err := Open(t.Context(), server.URL(n.db)+"&default_text_search_config=pg_catalog.german", Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, target.Close()) }()
	_, err = target.Apply(t.Context(), at, n.log.Scripts("INSERT INTO s SELECT 'own', setting FROM pg_settings WHERE "+
		"name = 'default_text_search_config'"))
	require.NoError(t, err)
	require.Equal(t, "pg_catalog.german", n.value("SELECT v FROM s WHERE k = 'own'"))
}

// A server that is killed under load comes back: every increment is there once, the position too.
func TestAServerKilledUnderLoadLosesAndRepeatsNothing(t *testing.T) {
	own := postgrestest.New(t)
	n := nodeOn(t, own, own.Addr())
	n.run("CREATE TABLE c (v int); INSERT INTO c VALUES (0)", "CREATE TABLE seen (k int)")
	const total = 3000
	n.shared().KilledUnderLoad(total, 2, func(k int) string {
		return fmt.Sprintf("UPDATE c SET v = v + 1; INSERT INTO seen VALUES (%d)", k)
	})
	require.Equal(t, fmt.Sprint(total), n.value("SELECT v FROM c"))
	require.Equal(t, fmt.Sprintf("%d|%d", total, total), n.value("SELECT count(*), count(DISTINCT k) FROM seen"))
}

// Whatever stands in the table of the position, also two rows where somebody has dropped the index, a seek puts one in
// its place.
func TestASeekEndsAPositionThatIsLost(t *testing.T) {
	for _, damage := range []string{"DELETE FROM xmq_position", "UPDATE xmq_position SET chain = 'x'",
		"DROP INDEX xmq_position_one; INSERT INTO xmq_position SELECT * FROM xmq_position"} {
		n := newNode(t)
		n.run("CREATE TABLE t (v int)")
		pos := n.at()
		require.NoError(t, server.Exec(n.db, damage))
		_, err := n.Position(t.Context())
		require.True(t, nodeclient.IsFatal(err), "%s: %v", damage, err)
		require.NoError(t, n.Seek(t.Context(), pos), damage)
		require.Equal(t, pos, n.at(), damage)
		require.Error(t, server.Exec(n.db, "INSERT INTO xmq_position SELECT * FROM xmq_position"), damage)
	}
}
