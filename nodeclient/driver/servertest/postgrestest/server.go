// Package postgrestest runs private PostgreSQL servers for tests: of this machine's newest installed version, on a
// free port of 127.0.0.1, with data in a folder that is removed with them.
package postgrestest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/servertest"
)

// Password is that of both roles: postgres, who may do everything, and xmq, who may log in and create databases.
const Password = servertest.Password

// Server is one PostgreSQL server.
type Server struct{ *servertest.Postgres }

// Start makes a new server and waits until it answers. The caller stops it, also after a failed test.
func Start() (*Server, error) {
	s, err := servertest.StartPostgres()
	return &Server{s}, err
}

// New is Start for one test, stopped with it.
func New(t *testing.T) *Server {
	t.Helper()
	s, err := Start()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s
}

// URL is that of a database at addr, such as a proxy's.
func URL(role, addr, database string) string { return servertest.PostgresURL(role, addr, database) }

// Query returns the rows of a script's last statement, columns joined by "|", NULL as "NULL".
func (s *Server) Query(t *testing.T, database, script string) []string {
	t.Helper()
	rows, err := s.Read(database, script)
	require.NoError(t, err)
	return rows
}

// Create makes an empty database that the role xmq owns.
func (s *Server) Create(t *testing.T, database string) {
	t.Helper()
	require.NoError(t, s.Make(database))
}
