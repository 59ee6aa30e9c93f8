// Package mysqltest runs private MariaDB servers for tests: the installed one, or the MySQL whose mysqld
// XMQ_TEST_MYSQLD names, on a free port of 127.0.0.1, with data in a folder that is removed with them.
package mysqltest

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/servertest"
)

// Password is that of the user xmq, who owns the databases of Create and what a restore puts beside them; root has
// none.
const Password = servertest.Password

// MySQL says that the servers are MySQL's.
var MySQL = os.Getenv("XMQ_TEST_MYSQLD") != ""

// Server is one server.
type Server struct{ *servertest.MariaDB }

// Start makes a new server and waits until it answers; options are further ones of its command line. The caller stops
// it, also after a failed test.
func Start(options ...string) (*Server, error) {
	start := servertest.StartMariaDB
	if MySQL {
		start = func(options ...string) (*servertest.MariaDB, error) {
			return servertest.StartMySQL(os.Getenv("XMQ_TEST_MYSQLD"), options...)
		}
	}
	s, err := start(options...)
	return &Server{s}, err
}

// New is Start for one test, stopped with it.
func New(t *testing.T, options ...string) *Server {
	t.Helper()
	s, err := Start(options...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s
}

// URL is that of a database at addr, such as a proxy's, for the user xmq.
func URL(addr, database string) string { return servertest.MariaDBURL(addr, database) }

// Query returns the rows of a script's last result, columns joined by "|", NULL as "NULL".
func (s *Server) Query(t *testing.T, database, script string) []string {
	t.Helper()
	rows, err := s.Read(database, script)
	require.NoError(t, err)
	return rows
}

// Create makes an empty database that the user xmq may do everything with.
func (s *Server) Create(t *testing.T, database string) {
	t.Helper()
	require.NoError(t, s.Make(database))
}
