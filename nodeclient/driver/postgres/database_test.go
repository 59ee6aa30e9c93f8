package postgres

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/integration/shorttest"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/servertest/postgrestest"
)

// server is shared by the tests that do not hurt it; each has databases of its own.
var server *postgrestest.Server

func TestMain(m *testing.M) {
	shorttest.Main(m, func() (stop func() error, err error) {
		server, err = postgrestest.Start()
		return server.Stop, err
	},
		"TestEachEntryIsTheDefinitionOfWhatItNames", "TestARightOfASnapshotIsThatAlone",
		"TestTheOwnerOfACopyIsTheRoleOfItsNode", "TestAProgramOfAnotherVersionIsPassedOver",
		"TestTheFormatOfASnapshotStays")
}

// database is the name that belongs to a folder of the suite.
func database(dir string) string { return drivertest.NameOf(dir) }

// open opens the database of a folder, made when it is not there.
func open(t *testing.T, dir string) *Database {
	t.Helper()
	name := database(dir)
	if len(server.Query(t, "postgres", "SELECT 1 FROM pg_database WHERE datname = '"+name+"'")) == 0 {
		server.Create(t, name)
	}
	target, err := Open(t.Context(), server.URL(name), Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = target.Close() })
	return target
}

// factory: the table is there, since an increment that makes one is a transaction of its own.
var factory = drivertest.Factory{
	Open: func(t *testing.T, dir string) nodeclient.Database { return open(t, dir) },
	Setup: func(t *testing.T, dir string) {
		require.NoError(t, server.Exec(database(dir), "CREATE TABLE n (at bigserial PRIMARY KEY, k bigint, pad bytea); "+
			"GRANT ALL ON n TO public; GRANT ALL ON SEQUENCE n_at_seq TO public; ALTER TABLE n OWNER TO xmq"))
	},
	Body: func(k uint64) []byte {
		return fmt.Appendf(nil, "INSERT INTO n (k, pad) VALUES (%d, decode(repeat('00', 1000), 'hex'));", k)
	},
	Earlier: func(t *testing.T, dir string) {
		require.NoError(t, server.Exec(database(dir), "ALTER TABLE xmq_position DROP COLUMN topics"))
	},
	Invalid: []byte("CREATE TABLE half (a int); INSERT INTO nowhere VALUES (1)"),
	Applied: func(t *testing.T, dir string) []uint64 {
		if server.Query(t, database(dir), "SELECT to_regclass('n') IS NULL")[0] == "t" {
			return nil
		}
		return drivertest.Numbers(t, server.Query(t, database(dir), "SELECT k FROM n ORDER BY at"))
	},
}

func TestTheDriverPassesTheConformanceSuite(t *testing.T) { drivertest.Run(t, factory) }

// Nothing of a restore is left when all is said and done.
func leftovers(t *testing.T) []string {
	return server.Query(t, "postgres", "SELECT datname FROM pg_database WHERE datname LIKE '%xmq_restore' OR datname "+
		"LIKE '%xmq_old'")
}

// A password stands in no error, whatever is wrong with the URL.
func TestAWrongURLIsRefusedWithoutItsPassword(t *testing.T) {
	server.Create(t, "there")
	good := server.URL("there")
	for name, url := range map[string]string{
		"port":     strings.Replace(good, server.Addr(), "127.0.0.1:77777", 1),
		"escape":   strings.Replace(good, "%40", "%4", 1),
		"database": server.URL("nowhere"),
		"password": strings.Replace(good, "%20", "%21", 1),
		"hosts":    strings.Replace(good, server.Addr(), server.Addr()+",127.0.0.1:1", 1),
		"long":     server.URL(strings.Repeat("x", 60)),
		"main":     server.URL("postgres"),
	} {
		_, err := Open(t.Context(), url, Options{})
		drivertest.RefusesURL(t, name, err)
	}
	_, err := Open(t.Context(), strings.Replace(good, server.Addr(), "127.0.0.1:1", 1), Options{})
	drivertest.NotThereYet(t, err)
	_, err = Open(t.Context(), good, Options{Password: func() (string, error) { return "of before", nil }})
	drivertest.NotThereYet(t, err)
	require.ErrorContains(t, err, "is read again at each try")
}

// patience is how long a test waits for what must come; tick is how often it looks.
const (
	patience = 2 * time.Minute
	tick     = 5 * time.Millisecond
)
