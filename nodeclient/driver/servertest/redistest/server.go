// Package redistest runs private Redis servers for tests: the installed one, on a free port of 127.0.0.1, with data
// in a folder that is removed with it.
package redistest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/servertest"
)

// Password is that of the default user.
const Password = servertest.Password

// Databases is how many logical databases a server has.
const Databases = servertest.RedisDatabases

// Server is one Redis server.
type Server struct{ *servertest.Redis }

// Start makes a new server and waits until it answers; args are added to its command line. It keeps an append-only
// file that is synced at each write unless args say otherwise. The caller stops it, also after a failed test.
func Start(args ...string) (*Server, error) {
	s, err := servertest.StartRedis(args...)
	return &Server{s}, err
}

// New is Start for one test, stopped with it.
func New(t *testing.T, args ...string) *Server {
	t.Helper()
	s, err := Start(args...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s
}

// URL is that of a logical database after addr, such as a proxy's.
func URL(addr string, db int) string { return servertest.RedisURL(addr, db) }
