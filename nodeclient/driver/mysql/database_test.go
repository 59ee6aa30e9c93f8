package mysql

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/integration/shorttest"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/servertest/mysqltest"
)

// onMySQL says that the tests run on MySQL instead of MariaDB: make mysql.
var onMySQL = mysqltest.MySQL

// either is what a test says to MariaDB, or to MySQL.
func either[T any](maria, mysql T) T {
	if onMySQL {
		return mysql
	}
	return maria
}

// series is a table s with the numbers 1 to n in seq.
func series(n int) string {
	const digit = "(SELECT 0 AS i UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION " +
		"ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)"
	return "(SELECT 1 + a.i + 10 * b.i + 100 * c.i + 1000 * d.i + 10000 * e.i AS seq FROM " + digit + " a, " + digit +
		" b, " + digit + " c, " + digit + " d, " + digit + " e HAVING seq <= " + strconv.Itoa(n) + ") s"
}

// server is shared by the tests that do not hurt it; each has databases of its own.
var server *mysqltest.Server

func TestMain(m *testing.M) {
	shorttest.Main(m, func() (stop func() error, err error) {
		server, err = mysqltest.Start()
		return server.Stop, err
	},
		"TestAnEarlierTriggerIsNamedAnew", "TestTheFlavourIsReadFromTheVersion")
}

// database is the name that belongs to a folder of the suite.
func database(dir string) string { return drivertest.NameOf(dir) }

// open opens the database of a folder, made when it is not there.
func open(t *testing.T, dir string) *Database {
	t.Helper()
	name := database(dir)
	if len(server.Query(t, "mysql", "SELECT 1 FROM information_schema.schemata WHERE schema_name = '"+name+"'")) == 0 {
		server.Create(t, name)
	}
	target, err := Open(t.Context(), server.URL(name), Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = target.Close() })
	return target
}

var factory = drivertest.Factory{
	Open: func(t *testing.T, dir string) nodeclient.Database { return open(t, dir) },
	Setup: func(t *testing.T, dir string) {
		require.NoError(t, server.Exec(database(dir),
			"CREATE TABLE n (at bigint AUTO_INCREMENT PRIMARY KEY, k bigint, pad blob)"))
	},
	Body: func(k uint64) []byte {
		return fmt.Appendf(nil, "INSERT INTO n (k, pad) VALUES (%d, repeat('\\0', 1000));", k)
	},
	Earlier: func(t *testing.T, dir string) {
		require.NoError(t, server.Exec(database(dir), "ALTER TABLE xmq_position DROP COLUMN topics"))
	},
	Invalid: []byte("INSERT INTO n (k) VALUES (0); INSERT INTO nowhere VALUES (1)"),
	Applied: func(t *testing.T, dir string) []uint64 {
		if len(server.Query(t, database(dir), "SHOW TABLES LIKE 'n'")) == 0 {
			return nil
		}
		return drivertest.Numbers(t, server.Query(t, database(dir), "SELECT k FROM n ORDER BY at"))
	},
}

func TestTheDriverPassesTheConformanceSuite(t *testing.T) { drivertest.Run(t, factory) }

// leftovers are the databases of a restore or a snapshot that stand beside db.
func leftovers(t *testing.T, srv *mysqltest.Server, db string) []string {
	return srv.Query(t, "mysql", "SELECT schema_name FROM information_schema.schemata WHERE schema_name IN ('"+db+
		"_xmq_restore', '"+db+"_xmq_old', '"+db+"_xmq_keys')")
}

// A password stands in no error, whatever is wrong with the URL.
func TestAWrongURLIsRefusedWithoutItsPassword(t *testing.T) {
	server.Create(t, "there")
	good := server.URL("there")
	for name, url := range map[string]string{
		"port":      strings.Replace(good, server.Addr(), "127.0.0.1:77777", 1),
		"letters":   strings.Replace(good, server.Addr(), "127.0.0.1:port", 1),
		"escape":    strings.Replace(good, "%40", "%4", 1),
		"scheme":    strings.Replace(good, "mysql:", "postgres:", 1),
		"database":  server.URL("nowhere"),
		"none":      server.URL(""),
		"password":  strings.Replace(good, "%20", "%21", 1),
		"setting":   good + "?sql_mode=x",
		"semicolon": good + "?tls=a;b",
		"tls":       good + "?tls=maybe",
		"ca":        good + "?ca=/nowhere",
		"long":      server.URL(strings.Repeat("x", 60)),
		"own":       server.URL("mysql"),
	} {
		_, err := Open(t.Context(), url, Options{})
		if nodeclient.IsTransient(err) && name == "port" {
			drivertest.NotThereYet(t, err)
			continue
		}
		drivertest.RefusesURL(t, name, err)
	}
	_, err := Open(t.Context(), strings.Replace(good, server.Addr(), "127.0.0.1:1", 1), Options{})
	drivertest.NotThereYet(t, err)
	_, err = Open(t.Context(), good, Options{Password: func() (string, error) { return "of before", nil }})
	drivertest.NotThereYet(t, err)
	require.ErrorContains(t, err, "is read again at each try")
}

// The password may come from the environment, the way from a socket, and the scheme may name the product.
func TestOtherFormsOfTheURL(t *testing.T) {
	server.Create(t, "forms")
	t.Setenv("MYSQL_PWD", mysqltest.Password)
	for _, url := range []string{"mysql://xmq@" + server.Addr() + "/forms?tls=false", "mariadb://xmq@" + server.Addr() +
		"/forms", "mysql://xmq@localhost/forms?socket=" + server.Dir() + "/sock"} {
		target, err := Open(t.Context(), url, Options{})
		require.NoError(t, err, url)
		pos, err := target.Position(t.Context())
		require.NoError(t, err)
		require.True(t, pos.Zero())
		require.NoError(t, target.CheckSpace(t.Context(), 1))
		require.ErrorContains(t, target.CheckSpace(t.Context(), 1<<60), "make room", url)
		free, total, err := target.Space() // the server is on this machine
		require.NoError(t, err)
		require.Greater(t, total, free)
		require.NoError(t, target.Close())
		_, err = target.Position(t.Context())
		require.ErrorContains(t, err, "closed")
	}
}

// patience is how long a test waits for what must come; tick is how often it looks.
const (
	patience = 2 * time.Minute
	tick     = 5 * time.Millisecond
)
