package mysql

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/internal/apply"
	"xmq/nodeclient/driver/servertest/mysqltest"
)

// What a function or trigger changes in the session reaches no other increment: a node that was restarted in between
// and one that was not hold the same.
func TestNothingOfAFunctionStaysInTheSession(t *testing.T) {
	all := map[string]string{
		"settings of a function": "INSERT INTO seen SELECT settings()",
		"settings of a trigger":  "INSERT INTO triggers VALUES (1)",
		"a variable":             "INSERT INTO seen SELECT variable()",
	}
	if !onMySQL { // which refuses temporary tables within XA, unless it was started for them
		all["a temporary table of a function"] = "INSERT INTO seen SELECT temp()"
	}
	for name, leaves := range all {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			bodies := []string{"CREATE FUNCTION settings() RETURNS int NOT DETERMINISTIC BEGIN SET SESSION time_zone = " +
				"'+05:00', SESSION div_precision_increment = 12; RETURN 1; END",
				"CREATE TRIGGER tr AFTER INSERT ON triggers FOR EACH ROW SET SESSION time_zone = '+05:00', SESSION " +
					"div_precision_increment = 12",
				"CREATE FUNCTION variable() RETURNS int NOT DETERMINISTIC BEGIN SET @kept = 7; RETURN 1; END",
				"CREATE FUNCTION kept() RETURNS int NOT DETERMINISTIC RETURN coalesce(@kept, 0)"}
			if strings.Contains(leaves, "temp()") {
				bodies = append(bodies, "CREATE FUNCTION temp() RETURNS int NOT DETERMINISTIC BEGIN CREATE TEMPORARY TABLE IF "+
					"NOT EXISTS item (k int, ts timestamp, d decimal(30, 12), v int); RETURN 1; END")
			}
			n.run("CREATE TABLE item (k int, ts timestamp, d decimal(30, 12), v int)", "CREATE TABLE seen (k int)",
				"CREATE TABLE triggers (k int)")
			n.run(bodies...)
			insert := func(k int) string {
				return fmt.Sprintf("INSERT INTO item VALUES (%d, '2026-01-01 12:00:00', 1/3, kept())", k)
			}
			n.run(insert(1), leaves, insert(2))
			n.run(insert(3))
			require.Equal(t, []string{"3|1|2026-01-01 12:00:00|0"}, n.query("SET time_zone = '+00:00'; SELECT count(*), "+
				"count(DISTINCT d), min(ts), max(v) FROM item HAVING min(ts) = max(ts)"))
		})
	}
}

// Whatever asks the session for what an increment has left there finds what the same increment has left: in one
// batch, in several, and after a restart.
func TestNobodyAsksForWhatAnotherIncrementHasLeft(t *testing.T) {
	type asking struct{ makes, leaves, asks string }
	all := map[string]asking{
		"a quoted variable": {"CREATE FUNCTION f() RETURNS int NOT DETERMINISTIC RETURN coalesce(@`a b`, 0) + 1",
			"SET @`a b` = 7; INSERT INTO c VALUES (1)", "INSERT INTO seen SELECT f()"},
		"a procedure's words": {"CREATE PROCEDURE p() BEGIN EXECUTE IMMEDIATE concat('INSERT INTO seen SELECT " +
			"coalesce(@', 'kept, 0) + 1'); END", "SET @kept = 7; INSERT INTO c VALUES (1)", "CALL p()"},
		"rows of a view": {"CREATE VIEW w AS SELECT row_count() + 10 AS v", "INSERT INTO c VALUES (1), (2), (3)",
			"INSERT INTO seen SELECT v FROM w"},
		"found rows of a view": {"CREATE VIEW w AS SELECT found_rows() AS v", "SELECT * FROM c; SELECT * FROM many",
			"INSERT INTO seen SELECT v FROM w"},
		"found rows": {"DO 1", "SELECT * FROM c; SELECT * FROM many", "INSERT INTO seen SELECT found_rows()"},
		"found rows of a trigger": {"CREATE TRIGGER tr AFTER INSERT ON other FOR EACH ROW INSERT INTO seen SELECT " +
			"found_rows()", "SELECT * FROM many", "INSERT INTO other VALUES (1)"},
		"the last key of a view": {"CREATE VIEW w AS SELECT last_insert_id() AS v", "INSERT INTO keyed (v) VALUES (1)",
			"INSERT INTO seen SELECT v FROM w"},
		"the last key, trigger": {"CREATE TRIGGER tr AFTER INSERT ON other FOR EACH ROW INSERT INTO seen SELECT " +
			"last_insert_id()", "INSERT INTO keyed (v) VALUES (1)", "INSERT INTO other VALUES (1)"},
		"a key for the next": {"CREATE FUNCTION f() RETURNS int NOT DETERMINISTIC BEGIN SET insert_id = 50; RETURN 1; END",
			"UPDATE c SET v = f()",
			"INSERT INTO seen (v) VALUES (2)"},
	}
	if onMySQL {
		all["a procedure's words"] = asking{"CREATE PROCEDURE p() BEGIN SET @x = concat('INSERT INTO seen SELECT " +
			"coalesce(@', 'kept, 0) + 1'); PREPARE s FROM @x; EXECUTE s; END",
			"SET @kept = 7; INSERT INTO c VALUES (1)", "CALL p()"}
	} else {
		for name, c := range map[string]asking{
			"the last number": {"DO 1", "", "INSERT INTO seen SELECT lastval(s)"},
			"the last number of a view": {"CREATE VIEW w AS SELECT PREVIOUS VALUE FOR s AS v", "",
				"INSERT INTO seen SELECT v FROM w"},
			"the last number of a trigger": {"CREATE TRIGGER tr AFTER INSERT ON other FOR EACH ROW INSERT INTO seen SELECT " +
				"lastval(s)", "", "INSERT INTO other VALUES (1)"},
			"the last number of a default": {"CREATE TABLE d (k int, v bigint DEFAULT lastval(s))", "",
				"INSERT INTO d (k) VALUES (1); INSERT INTO seen SELECT max(v) FROM d"},
			"the last number of a function": {"CREATE FUNCTION f() RETURNS bigint NOT DETERMINISTIC RETURN lastval(s)", "",
				"INSERT INTO seen SELECT f()"},
			"the last number of a procedure": {"CREATE PROCEDURE p() INSERT INTO seen SELECT lastval(s)", "", "CALL p()"},
			"the last number of a block": {"DO 1", "",
				"BEGIN NOT ATOMIC EXECUTE IMMEDIATE concat('INSERT INTO seen SELECT last', 'val(s)'); END"},
			"a variable of a block": {"DO 1", "SET @kept = 7; INSERT INTO c VALUES (1)",
				"BEGIN NOT ATOMIC EXECUTE IMMEDIATE concat('INSERT INTO seen SELECT @', 'kept'); END"},
		} {
			if c.leaves == "" {
				c.leaves = "INSERT INTO drawn (w) VALUES (1)"
			}
			all[name] = c
		}
	}
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			makes := []string{"CREATE TABLE c (v int)", "CREATE TABLE many (v int)",
				"INSERT INTO many VALUES (1), (2), (3), (4), (5)", "CREATE TABLE other (v int)",
				"CREATE TABLE keyed (id int AUTO_INCREMENT PRIMARY KEY, v int)", "INSERT INTO c VALUES (5)",
				"CREATE TABLE seen (id int AUTO_INCREMENT PRIMARY KEY, v bigint)"}
			if !onMySQL {
				makes = append(makes, "CREATE SEQUENCE s NOCACHE", "CREATE TABLE drawn (v bigint DEFAULT nextval(s), w int)")
			}
			makes = append(makes, c.makes)
			into := func(script string) string {
				return strings.ReplaceAll(script, "INSERT INTO seen SELECT ", "INSERT INTO seen (v) SELECT ")
			}
			for i := range makes {
				makes[i] = into(makes[i])
			}
			leaves, asks := into(c.leaves), into(c.asks)
			scripts := []string{leaves, leaves, asks, leaves, asks, asks}
			var first []string
			for _, size := range []int{0, len(scripts), 2, 1} { // 0 is 1, and a restart
				n := newNode(t)
				n.run(makes...)
				before, items := n.at(), n.log.Scripts(scripts...)
				for len(items) > 0 {
					if size == 0 {
						require.NoError(t, n.reopen())
					}
					pos, err := n.Apply(t.Context(), before, items[:min(max(size, 1), len(items))])
					require.NoError(t, err)
					for len(items) > 0 && items[0].Pos.Seq <= pos.Seq {
						items = items[1:]
					}
					before = pos
				}
				rows := n.query("SELECT id, v FROM seen ORDER BY id")
				require.Len(t, rows, 3, rows)
				if size == 0 {
					first = rows
				}
				require.Equal(t, first, rows, "size %d", size)
			}
		})
	}
}

// What a statement signals again and again, as if the database could not just now, or as if the connection were lost,
// becomes its FAIL; what precedes it is durable, and what follows goes on when it is passed over.
func TestAnIncrementThatAlwaysSignalsWhatMayPassIsAFail(t *testing.T) {
	// 4031 is the end of an idle session on MySQL
	for _, number := range append(either(nil, []int{4031}), 1205, 1213, 1317, 1290, 1053, 1077, 1158, 1927, 3168) {
		t.Run(fmt.Sprint(number), func(t *testing.T) {
			n := newNode(t)
			n.run("CREATE TABLE c (v int)", fmt.Sprintf("CREATE FUNCTION raises() RETURNS int NOT DETERMINISTIC BEGIN SIGNAL "+
				"SQLSTATE 'HY000' SET MYSQL_ERRNO = %d, MESSAGE_TEXT = 'raised'; RETURN 1; END", number))
			before, items := n.at(), n.log.Scripts("INSERT INTO c VALUES (1)", "INSERT INTO c VALUES (2)",
				"INSERT INTO c SELECT raises()", "INSERT INTO c VALUES (3)")
			var err error
			tries := 0
			for done := 0; tries == 0 || nodeclient.IsTransient(err); tries++ {
				require.LessOrEqual(t, tries, apply.Tries)
				before, err = n.Apply(t.Context(), before, items[done:])
				require.Equal(t, items[1].Pos, before, "%v", err)
				done = 2
			}
			require.Equal(t, apply.Tries, tries)
			require.ErrorContains(t, err, fmt.Sprintf("increment %d: Error %d", items[2].Pos.Seq, number))
			items[2].Record = nil
			_, err = n.Apply(t.Context(), before, items[2:])
			require.NoError(t, err)
			require.Equal(t, []string{"1", "2", "3"}, n.query("SELECT v FROM c ORDER BY v"))
		})
	}
}

// An increment that ends its own session, by a statement that it puts together, is a FAIL as well.
func TestAnIncrementThatEndsItsOwnSessionIsAFail(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)", "CREATE PROCEDURE ends() BEGIN SET @q = CONCAT('KI', 'LL ', CONNECTION_ID()); "+
		"PREPARE p FROM @q; EXECUTE p; END")
	before, items := n.at(), n.log.Scripts("CALL ends()", "INSERT INTO c VALUES (1)")
	var err error
	for tries := 0; tries == 0 || nodeclient.IsTransient(err); tries++ {
		require.LessOrEqual(t, tries, apply.Tries)
		before, err = n.Apply(t.Context(), before, items)
	}
	require.ErrorContains(t, err, "it was tried alone 5 times")
	items[0].Record = nil
	_, err = n.Apply(t.Context(), before, items)
	require.NoError(t, err)
	require.Equal(t, []string{"1"}, n.query("SELECT v FROM c"))
}

// A statement whose time is up is ended at the server too, and does not hold the place any longer.
func TestAStatementThatIsGivenUpIsEnded(t *testing.T) {
	newNode(t).shared().GivenUpStatementIsEnded("INSERT INTO c SELECT sleep(3600)")
}

// A user who can do more than an increment should is named at start, with the rights to give.
func TestAUserThatMayDoTooMuchIsNamed(t *testing.T) {
	n := newNode(t)
	require.Empty(t, n.Powers())
	require.NoError(t, n.Close())
	require.NoError(t, server.Exec("mysql", "GRANT FILE ON *.* TO xmq@'%'"))
	target, err := Open(t.Context(), mysqltest.URL(n.addr, n.db), Options{})
	require.NoError(t, server.Exec("mysql", "REVOKE FILE ON *.* FROM xmq@'%'"))
	require.NoError(t, err)
	defer func() { require.NoError(t, target.Close()) }()
	require.Contains(t, target.Powers(), "FILE on the whole server")
	require.Contains(t, target.Powers(), "GRANT ALL ON")
}

// However increments fall into batches, the same ones fail and the same data comes out.
func TestTheResultDoesNotDependOnBatches(t *testing.T) {
	scripts := func(rng *rand.Rand) (all []string) {
		kinds := []func(k int) string{
			func(k int) string { return fmt.Sprintf("INSERT INTO c (v) VALUES (%d)", rng.IntN(40)) },
			func(k int) string { return fmt.Sprintf("DELETE FROM c WHERE v = %d", rng.IntN(40)) },
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT 1/3, row_count() + %d", k) },
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT 1/3, last_insert_id() + %d", k) },
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT settings(), %d", k) },
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT 1/3, coalesce(@kept, 0) + %d", k) },
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT 1/7, rand() + %d", k) },
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT raises(%d), %d", rng.IntN(3), k) },
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT v, %d FROM c ORDER BY v", k) },
			func(k int) string { return "DELETE FROM seen ORDER BY id DESC LIMIT 1" },
			func(k int) string { return fmt.Sprintf("ALTER TABLE c ADD COLUMN c%d int DEFAULT %d", rng.IntN(5), k) },
			func(k int) string { return fmt.Sprintf("UPDATE c SET c%d = %d", rng.IntN(5), k) },
			func(k int) string {
				return fmt.Sprintf("CREATE FUNCTION f%d() RETURNS int NOT DETERMINISTIC BEGIN SET @kept = %d; RETURN %d; END",
					rng.IntN(3), k, k)
			},
			func(k int) string { return fmt.Sprintf("INSERT INTO seen SELECT 1/3, f%d()", rng.IntN(3)) },
		}
		all = []string{"CREATE TABLE c (v int PRIMARY KEY)",
			"CREATE TABLE seen (id int PRIMARY KEY AUTO_INCREMENT, d decimal(20, 12), k double)",
			"CREATE FUNCTION settings() RETURNS int NOT DETERMINISTIC BEGIN SET SESSION div_precision_increment = 12, @kept " +
				"= 5; RETURN 1; END",
			"CREATE FUNCTION raises(k int) RETURNS int NOT DETERMINISTIC BEGIN IF k = 0 THEN SIGNAL SQLSTATE 'HY000' SET " +
				"MYSQL_ERRNO = 1213; END IF; RETURN k; END"}
		for k := range 40 {
			all = append(all, strings.Replace(kinds[rng.IntN(len(kinds))](k), "INSERT INTO seen ", "INSERT INTO seen (d, k) ",
				1))
		}
		return all
	}
	dump := func(t *testing.T, target nodeclient.Database) string {
		db := target.(*Database).cfg.DBName
		return strings.Join(server.Query(t, db, "SELECT * FROM c ORDER BY v"), " ") + "\n" +
			strings.Join(server.Query(t, db, "SELECT * FROM seen ORDER BY 1"), " ")
	}
	drivertest.Grouping(t, 2, func(t *testing.T) nodeclient.Database { return open(t, t.TempDir()) }, scripts, dump)
}
