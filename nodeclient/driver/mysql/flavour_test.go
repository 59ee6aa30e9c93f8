package mysql

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/servertest/mysqltest"
)

// A server says which it is, and which is none is refused for good.
func TestTheFlavourIsReadFromTheVersion(t *testing.T) {
	for version, name := range map[string]string{
		"10.11.6-MariaDB-0+deb12u1": "MariaDB", "10.6.0-MariaDB": "MariaDB", "12.0.2-MariaDB-ubu2404-log": "MariaDB",
		"8.4.0": "MySQL", "8.4.3-3": "MySQL", "9.7.4-2": "MySQL",
	} {
		f, err := flavourOf(version)
		require.NoError(t, err, version)
		require.Equal(t, name, f.name, version)
	}
	for version, why := range map[string]string{
		"10.5.99-MariaDB": "it is MariaDB 10.5.99-MariaDB, and a target needs 10.6 or later",
		"8.0.43":          "it is MySQL 8.0.43, and a target needs 8.4 or later", "5.7.44-log": "needs 8.4", "": "needs 8.4",
		"8.0.11-TiDB-v8.5.0": "tested with MariaDB and MySQL only", "8.4.6-Vitess": "tested with MariaDB and MySQL only",
		"x.y.z": "needs 8.4",
	} {
		_, err := flavourOf(version)
		require.ErrorContains(t, err, why, version)
		require.False(t, nodeclient.IsTransient(openError(nil, true, err)), version)
	}
}

// The one of the server at hand.
func TestTheServerIsOfItsFlavour(t *testing.T) {
	require.Equal(t, either("MariaDB", "MySQL"), newNode(t).flavour.name)
}

// A snapshot is for servers of the flavour that wrote it.
func TestASnapshotIsForServersOfItsFlavour(t *testing.T) {
	n := newNode(t)
	require.True(t, n.Loads(either("mysql-dump/1", "mysql8-dump/1")))
	require.False(t, n.Loads(either("mysql8-dump/1", "mysql-dump/1")))
}

// MySQL's JSON has numbers of many types, and a copy keeps their text; MariaDB's is a text.
func TestACopyKeepsTheTextOfJSON(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE j (v json)", "INSERT INTO j VALUES (json_object('price', CAST(1.10 AS decimal(10, 2)), 'at', "+
		"CAST('2024-02-29 12:00:00' AS datetime))), ('[1e2, 1.10, \"\\\\u00e9\"]')")
	copied := restoredNode(t, n.takenBytes(), n.at())
	require.Equal(t, either([]string{`{"price": 1.10, "at": "2024-02-29 12:00:00"}`, `[1e2, 1.10, "\u00e9"]`},
		[]string{`{"at": "2024-02-29 12:00:00.000000", "price": 1.1}`, `[100.0, 1.1, "é"]`}),
		copied.query("SELECT v FROM j"))
}

// takenBytes is taken at the present position.
func (n *node) takenBytes() []byte {
	n.Helper()
	snapshot, at := n.taken()
	require.Equal(n, n.at(), at)
	return snapshot
}

// What an administrator has made MySQL lets only an administrator replace: a restore says so before anything is
// decided.
func TestWhatAnAdministratorHasMade(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)", "INSERT INTO c VALUES (1)")
	snapshot, at := n.taken()
	for _, thing := range []struct{ kind, name, script string }{
		{"VIEW", "w", "CREATE VIEW w AS SELECT 1 AS one"}, {"FUNCTION", "f", "CREATE FUNCTION f() RETURNS int RETURN 1"},
		{"TRIGGER", "tr", "CREATE TRIGGER tr BEFORE INSERT ON c FOR EACH ROW SET @a = 1"},
	} {
		require.NoError(t, server.Exec(n.db, thing.script))
		if onMySQL {
			_, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
			require.ErrorContains(t, err, thing.name+" belongs to root@localhost")
			require.ErrorContains(t, err, "DROP "+thing.kind+" `"+thing.name+"`, or GRANT SYSTEM_USER ON *.* TO that user")
			require.False(t, nodeclient.IsTransient(err))
			require.Empty(t, leftovers(t, server, n.db))
			require.Equal(t, "1", n.value("SELECT v FROM c"))
			require.NoError(t, server.Exec(n.db, "DROP "+thing.kind+" "+thing.name))
		}
		n.load(snapshot, at)
		require.Empty(t, n.query("SELECT table_name FROM information_schema.views WHERE table_schema = database()"))
	}
}

// Procedures may make temporary tables, on MySQL where the server runs for that; where not, the FAIL says how.
func TestProceduresWithTemporaryTables(t *testing.T) {
	n := newNode(t)
	if onMySQL {
		n.run("CREATE PROCEDURE p() BEGIN CREATE TEMPORARY TABLE x (v int); INSERT INTO x VALUES (1); END")
		require.ErrorContains(t, n.fails(0, "CALL p()"), "start the server with xa_detach_on_prepare=OFF")
		own := mysqltest.New(t, "--xa-detach-on-prepare=OFF")
		n = nodeOn(t, own, own.Addr())
	}
	n.run("CREATE TABLE c (v int)", "CREATE PROCEDURE p() BEGIN CREATE TEMPORARY TABLE x (v int); INSERT INTO x VALUES "+
		"(1); INSERT INTO c SELECT v FROM x; END", "CALL p()", "CALL p()")
	require.Equal(t, "2", n.value("SELECT count(*) FROM c"))
}

// What an administrator sets for the whole server reaches no session of a node: an increment means the same, and a
// snapshot holds every row.
func TestGlobalsOfTheServerReachNoSession(t *testing.T) {
	own := mysqltest.New(t)
	n := nodeOn(t, own, own.Addr())
	globals := map[string]string{"sql_select_limit": "1", "max_sort_length": "64", "div_precision_increment": "0",
		"default_week_format": "3", "group_concat_max_len": "8", "lc_time_names": "'de_DE'", "sql_safe_updates": "1",
		"auto_increment_increment": "7", "unique_checks": "0", "foreign_key_checks": "0", "sql_auto_is_null": "1",
		"updatable_views_with_limit": "0", "innodb_ft_enable_stopword": "0"}
	maps.Copy(globals, either(map[string]string{"system_versioning_asof": "'2020-01-01 00:00:00'",
		"standard_compliant_cte": "0", "check_constraint_checks": "0", "old_mode": "''", "sql_if_exists": "1",
		"default_regex_flags": "'EXTENDED'", "max_recursive_iterations": "1", "system_versioning_alter_history": "'KEEP'",
		"system_versioning_insert_history": "1"},
		map[string]string{"cte_max_recursion_depth": "1", "windowing_use_high_precision": "0",
			"block_encryption_mode": "'aes-256-cbc'", "max_execution_time": "1"}))
	names := slices.Sorted(maps.Keys(globals))
	ask := "INSERT INTO seen VALUES (concat_ws('|', @@session." + strings.Join(names, ", @@session.") + "))"
	n.run("CREATE TABLE c (v int PRIMARY KEY)", "INSERT INTO c VALUES (1), (2), (3)", "CREATE TABLE seen (v text)", ask)
	for _, name := range names {
		require.NoError(t, own.Exec("mysql", "SET GLOBAL "+name+" = "+globals[name]), name)
	}
	require.NoError(t, n.reopen())
	n.run(ask)
	require.Equal(t, "1", n.value("SELECT count(DISTINCT v) FROM seen"), n.value("SELECT group_concat(v) FROM seen"))
	snapshot, at := n.taken()
	require.Equal(t, "3", restoredNode(t, snapshot, at).value("SELECT count(*) FROM c"))
}

// A node tells its broker whose server it has, so that a script is read as that server reads it.
func TestANodeTellsItsProduct(t *testing.T) {
	require.Equal(t, either("mariadb", "mysql"), newNode(t).Database.Product())
}
