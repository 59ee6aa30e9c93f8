package postgres

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/internal/apply"
)

// What an increment leaves in the session reaches no other: a node that was restarted in between and one that was not
// hold the same.
func TestNothingOfAnIncrementStaysInTheSession(t *testing.T) {
	for name, leaves := range map[string][]string{
		"a path set by a block":         {"DO $$ BEGIN SET search_path = s2, public; END $$"},
		"a path set by a function":      {"INSERT INTO seen SELECT f()"},
		"a local path set by one":       {"INSERT INTO seen SELECT g()"},
		"a path set by a trigger":       {"INSERT INTO triggers VALUES (1)"},
		"a temporary table of a block":  {"DO $$ BEGIN CREATE TEMP TABLE item (v int); END $$"},
		"a temporary table of a select": {"INSERT INTO seen SELECT h()"},
		"a temporary view":              {"DO $$ BEGIN EXECUTE 'CREATE TEMP VIEW item AS SELECT 1 AS v'; END $$"},
		"a session lock":                {"SELECT pg_advisory_lock(77)"},
		"a session lock of DML":         {"INSERT INTO seen SELECT length(pg_advisory_lock(77)::text)"},
		"a listener":                    {"DO $$ BEGIN EXECUTE 'LISTEN x'; END $$"},
		"no more prepared statements":   {"DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.run("CREATE SCHEMA s2", "CREATE TABLE item (v int); CREATE TABLE s2.item (v int); CREATE TABLE seen (v int); "+
				"CREATE TABLE triggers (v int)",
				"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET search_path = s2, public; RETURN 1; END $$",
				"CREATE FUNCTION g() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET LOCAL search_path = s2, public; RETURN 1; END $$",
				"CREATE FUNCTION h() RETURNS int LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE item (v int); RETURN 1; END $$",
				"CREATE FUNCTION tr() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET search_path = s2, public; RETURN "+
					"NEW; END $$",
				"CREATE TRIGGER tr AFTER INSERT ON triggers FOR EACH ROW EXECUTE FUNCTION tr()")
			insert := func(k int) string { return fmt.Sprintf("INSERT INTO item VALUES (%d)", k) }
			n.run(append(append([]string{insert(1)}, leaves...), insert(2), insert(3))...)
			n.run(insert(4))
			n.run(insert(4)) // with a prepared statement, where there is one
			require.Equal(t, []string{"1", "2", "3", "4", "4"}, n.query("SELECT v FROM public.item ORDER BY v"))
			require.Empty(t, n.query("SELECT v FROM s2.item"))
			require.Equal(t, "0", n.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77"))
		})
	}
}

// What a statement raises again and again, as if the database could not just now, becomes its FAIL; what precedes it is
// durable, and what follows goes on when it is passed over.
func TestAnIncrementThatAlwaysRaisesWhatMayPassIsAFail(t *testing.T) {
	for name, poison := range map[string]string{
		"40001": "DO $$ BEGIN RAISE 'x' USING ERRCODE = '40001'; END $$",
		"53200": "INSERT INTO c SELECT raises('53200')",
		"08006": "INSERT INTO c SELECT raises('08006')",
		"57014": "INSERT INTO c SELECT raises('57014')",
		"55P03": "SELECT raises('55P03')",
		"25006": "DO $$ BEGIN SET TRANSACTION READ ONLY; END $$",
		"57P01": "SELECT pg_terminate_backend(pg_backend_pid())",
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.run("CREATE TABLE c (v int); CREATE FUNCTION raises(code text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE " +
				"'raised' USING ERRCODE = code; END $$")
			before, items := n.at(), n.log.Scripts("INSERT INTO c VALUES (1)", "INSERT INTO c VALUES (2)", poison,
				"INSERT INTO c VALUES (3)")
			var err error
			tries := 0
			for done := 0; tries == 0 || nodeclient.IsTransient(err); tries++ {
				require.LessOrEqual(t, tries, apply.Tries)
				before, err = n.Apply(t.Context(), before, items[done:])
				require.Equal(t, items[1].Pos, before)
				done = 2
			}
			require.Equal(t, apply.Tries, tries)
			require.ErrorContains(t, err, "SQLSTATE "+name)
			require.ErrorContains(t, err, fmt.Sprintf("increment %d: ", items[2].Pos.Seq))
			items[2].Record = nil
			_, err = n.Apply(t.Context(), before, items[2:])
			require.NoError(t, err)
			require.Equal(t, []string{"1", "2", "3"}, n.query("SELECT v FROM c ORDER BY v"))
		})
	}
}

// The table of the position never has a second row, whoever writes one, also where it was made by an earlier version.
func TestThePositionCannotHaveASecondRow(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	second := "DO $$ BEGIN EXECUTE 'INSERT INTO xmq_' || 'position SELECT ''x'', 1, ''y'', NULL'; END $$"
	require.ErrorContains(t, n.fails(1, "INSERT INTO c VALUES (1)", second), "23505")
	require.NoError(t, server.Exec(n.db, "DROP INDEX xmq_position_one"))
	n.run("INSERT INTO c VALUES (2)")
	require.ErrorContains(t, n.fails(0, second), "23505")
	n.run("INSERT INTO c VALUES (3)")
}

// A role that an increment leaves behind cannot write the position: it is a FAIL, on every node, and gone.
func TestARoleThatAnIncrementTakesIsGivenBack(t *testing.T) {
	require.NoError(t, server.Exec("postgres", "GRANT pg_monitor TO xmq"))
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	require.ErrorContains(t, n.fails(1, "INSERT INTO c VALUES (1)", "DO $$ BEGIN EXECUTE 'SET ROLE pg_monitor'; END $$"),
		"or who may write it")
	n.run("INSERT INTO c VALUES (2)")
	require.Equal(t, "2", n.value("SELECT count(*) FROM c"))
}

// A statement whose time is up is ended at the server too, and does not hold the place any longer.
func TestAStatementThatIsGivenUpIsEnded(t *testing.T) {
	newNode(t).shared().GivenUpStatementIsEnded("INSERT INTO c SELECT 1 FROM pg_sleep(3600)")
}

// A lock of the session is given back at once, not when the next increment comes; also by an increment that fails.
func TestASessionLockEndsWithItsIncrement(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	n.run("SELECT pg_advisory_lock(78)")
	require.Equal(t, "0", n.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 78"))
	before, items := n.at(), n.log.Scripts("SELECT pg_advisory_lock(79); INSERT INTO nowhere VALUES (1)")
	_, err := n.Apply(t.Context(), before, items)
	require.ErrorContains(t, err, "42P01")
	require.Equal(t, "0", n.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 79"))
}

// More locks than the server has, taken by increments that each need a few, are no reason to stop.
func TestABatchThatNeedsMoreThanTheServerHasIsCut(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)", "CREATE FUNCTION many(k int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF (SELECT "+
		"count(*) FROM c WHERE xmin = pg_current_xact_id()::xid) >= 20 THEN RAISE 'out' USING ERRCODE = '53200'; END IF; "+
		"RETURN k; END $$")
	var scripts []string
	for k := range 100 {
		scripts = append(scripts, fmt.Sprintf("INSERT INTO c SELECT many(%d)", k))
	}
	n.run(scripts...)
	require.Equal(t, "100|4950", n.value("SELECT count(*), sum(v) FROM c"))
}

// Whatever asks for a number of a sequence gets one only that the same increment has drawn, and else an error: in one
// batch, in several, and after a restart.
func TestNobodyAsksForTheNumbersOfAnotherIncrement(t *testing.T) {
	for name, c := range map[string]struct{ makes, asks string }{
		"a default":         {"ALTER TABLE seen ALTER v SET DEFAULT currval('s')", "INSERT INTO seen DEFAULT VALUES"},
		"a default lastval": {"ALTER TABLE seen ALTER v SET DEFAULT lastval() + 0", "INSERT INTO seen DEFAULT VALUES"},
		"a domain": {"CREATE DOMAIN d AS bigint DEFAULT currval('s'); CREATE TABLE of (v d, w int)",
			"INSERT INTO of (w) VALUES (1)"},
		"a view": {"CREATE VIEW w AS SELECT currval('s') AS v", "INSERT INTO seen SELECT v FROM w"},
		"a rule": {"CREATE TABLE r (v int); CREATE RULE r AS ON INSERT TO r DO INSTEAD INSERT INTO seen " +
			"VALUES (lastval())", "INSERT INTO r VALUES (1)"},
		"a check": {"CREATE TABLE k (v int CHECK (currval('s') > 0))", "INSERT INTO k VALUES (1)"},
		"a condition": {"CREATE TABLE k (v int); INSERT INTO k VALUES (1); CREATE TRIGGER k BEFORE UPDATE ON k FOR " +
			"EACH ROW WHEN (lastval() > 0) EXECUTE FUNCTION suppress_redundant_updates_trigger()", "UPDATE k SET v = 2"},
		"a policy": {"CREATE TABLE k (v int); ALTER TABLE k ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL " +
			"SECURITY; CREATE POLICY k ON k WITH CHECK (lastval() > 0)", "INSERT INTO k VALUES (1)"},
		"a function": {"CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT lastval()'",
			"INSERT INTO seen SELECT f()"},
		"standard SQL": {"CREATE FUNCTION f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT lastval(); END",
			"INSERT INTO seen SELECT f()"},
		"words put together": {"CREATE FUNCTION f() RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE v bigint; BEGIN EXECUTE " +
			"'SELECT last' || 'val()' INTO v; RETURN v; END $$", "INSERT INTO seen SELECT f()"},
		"an argument": {"CREATE FUNCTION f(v bigint DEFAULT lastval()) RETURNS bigint LANGUAGE sql AS 'SELECT v'",
			"INSERT INTO seen SELECT f()"},
		"an operator": {"CREATE OPERATOR !! (FUNCTION = currval, RIGHTARG = regclass)",
			"INSERT INTO seen SELECT !! 's'::regclass"},
		"a query as a text": {"SELECT 1", "INSERT INTO seen SELECT (xpath('//x/text()', query_to_xml('SELECT last' || " +
			"'val() AS x', true, true, '')))[1]::text::bigint"},
		"its own words": {"SELECT 1", "INSERT INTO seen SELECT currval('s')"},
	} {
		t.Run(name, func(t *testing.T) {
			makes := []string{"CREATE SEQUENCE s; CREATE TABLE seen (v bigint); CREATE TABLE drawn (v bigint DEFAULT " +
				"nextval('s'), w int)", c.makes}
			draws := "INSERT INTO drawn (w) VALUES (1)"
			scripts := []string{draws, draws, c.asks, draws, draws + "; " + c.asks, c.asks, "INSERT INTO drawn (w) VALUES (2)"}
			for _, size := range []int{len(scripts), 2, 1, 0} { // 0 is 1, and a restart
				n := newNode(t)
				n.run(makes...)
				before, items := n.at(), n.log.Scripts(scripts...)
				var failed []string
				for len(items) > 0 {
					if size == 0 {
						require.NoError(t, n.reopen())
					}
					pos, err := n.Apply(t.Context(), before, items[:min(max(size, 1), len(items))])
					for len(items) > 0 && items[0].Pos.Seq <= pos.Seq {
						items = items[1:]
					}
					before = pos
					if err != nil {
						require.ErrorContains(t, err, "SQLSTATE 55000", "size %d", size)
						failed = append(failed, scripts[len(scripts)-len(items)])
						items[0].Record = nil
					}
				}
				require.Equal(t, []string{c.asks, c.asks}, failed, "size %d", size)
			}
		})
	}
}

// However increments fall into batches, the same ones fail and the same data comes out.
func TestTheResultDoesNotDependOnBatches(t *testing.T) {
	scripts := func(rng *rand.Rand) (all []string) {
		kinds := []func(k int) string{
			func(k int) string { return fmt.Sprintf("INSERT INTO c VALUES (%d)", rng.IntN(40)) },
			func(k int) string { return fmt.Sprintf("DELETE FROM c WHERE v = %d", rng.IntN(40)) },
			func(k int) string { return fmt.Sprintf("ALTER TYPE mood ADD VALUE 'm%d'", rng.IntN(12)) },
			func(k int) string { return fmt.Sprintf("INSERT INTO moods VALUES (%d, 'm%d')", k, rng.IntN(12)) },
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT local(%d)", k) },
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT path(%d)", k) },
			func(k int) string { return fmt.Sprintf("INSERT INTO item VALUES (%d)", k) },
			func(k int) string { return fmt.Sprintf("SELECT path(%d)", k) },
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT sets(%d)", k) },
			func(k int) string { return fmt.Sprintf("INSERT INTO reads (k) VALUES (%d)", k) },
			func(k int) string { return "DO $$ BEGIN CREATE TEMP TABLE IF NOT EXISTS item (v int); END $$" },
			func(k int) string { return fmt.Sprintf("INSERT INTO late VALUES (%d)", rng.IntN(8)) },
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT raises(%d)", rng.IntN(3)) },
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT lastval() + %d", k) },
			func(k int) string { return fmt.Sprintf("INSERT INTO asking (k) VALUES (%d)", k) },
			func(k int) string {
				return fmt.Sprintf("INSERT INTO ids (v) VALUES (1000 + %[1]d); INSERT INTO asking (k) VALUES (%[1]d)", k)
			},
			func(k int) string { return fmt.Sprintf("INSERT INTO ids (v) VALUES (%d)", rng.IntN(30)) },
			func(k int) string {
				return fmt.Sprintf("INSERT INTO ids (v) VALUES (%d); INSERT INTO seen SELECT currval('ids_id_seq')", rng.IntN(30))
			},
			func(k int) string {
				return fmt.Sprintf("INSERT INTO ids (v) SELECT i FROM generate_series(%d, %d) i", 100*k, 100*k+rng.IntN(40))
			},
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT nextval('s') + %d", k) },
			func(k int) string {
				return fmt.Sprintf("INSERT INTO seen SELECT setval('s', %d, %t)", rng.IntN(90)+1, rng.IntN(2) == 0)
			},
			func(k int) string {
				return fmt.Sprintf("ALTER SEQUENCE s RESTART WITH %d INCREMENT BY %d", 50+k, 1+rng.IntN(3))
			},
			func(k int) string { return "TRUNCATE ids RESTART IDENTITY" },
			func(k int) string {
				return fmt.Sprintf("ALTER TABLE c ADD COLUMN IF NOT EXISTS c%d int DEFAULT %d", rng.IntN(5), k)
			},
		}
		all = []string{"CREATE SCHEMA s2; CREATE TABLE item (v int); CREATE TABLE s2.item (v int); CREATE TABLE c (v int " +
			"PRIMARY KEY); CREATE TABLE seen (v int)",
			"CREATE TYPE mood AS ENUM ('m'); CREATE TABLE moods (k int, m mood); CREATE TABLE asking (k int, v bigint " +
				"DEFAULT lastval())",
			"CREATE SEQUENCE s; CREATE TABLE ids (id serial, v int UNIQUE)", "INSERT INTO seen SELECT nextval('s')",
			"CREATE TABLE late (v int UNIQUE" + []string{"", " DEFERRABLE INITIALLY DEFERRED"}[rng.IntN(2)] + ")",
			"CREATE FUNCTION local(k int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET LOCAL search_path = s2, public; " +
				"RETURN k; END $$",
			"CREATE FUNCTION path(k int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET search_path = s2, public; RETURN " +
				"k; END $$",
			"CREATE TABLE reads (k int, v text DEFAULT coalesce(current_setting('app.x', true), 'null')); CREATE FUNCTION " +
				"sets(k int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET LOCAL app.x = 5; RETURN k; END $$",
			"CREATE FUNCTION raises(k int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF k = 0 THEN RAISE 'x' USING ERRCODE = " +
				"'40001'; END IF; RETURN k; END $$",
		}
		for k := range 60 {
			all = append(all, kinds[rng.IntN(len(kinds))](k))
		}
		return all
	}
	dump := func(t *testing.T, target nodeclient.Database) string {
		db := target.(*Database).cfg.Database
		var b strings.Builder
		c, err := target.(*Database).conn(t.Context())
		require.NoError(t, err)
		require.NoError(t, target.(*Database).putBack(t.Context(), c)) // as before the next increment
		b.WriteString(strings.Join(stands(t, server, db), " ") + "\n")
		for _, table := range []string{"item", "s2.item", "c", "seen", "moods", "late", "ids", "asking", "reads"} {
			b.WriteString(table + ": " + strings.Join(server.Query(t, db, "SELECT x FROM "+table+" x ORDER BY x::text"), " ") +
				"\n")
		}
		return b.String()
	}
	drivertest.Grouping(t, 3, func(t *testing.T) nodeclient.Database { return open(t, t.TempDir()) }, scripts, dump)
}
