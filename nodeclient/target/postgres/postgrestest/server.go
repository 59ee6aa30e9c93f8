// Package postgrestest runs private PostgreSQL servers for tests: of this machine's newest installed version, on a
// free port of 127.0.0.1, with data in a folder that is removed with them.
package postgrestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"xmq/nodeclient/target/servertest"
)

// Password is that of both roles: postgres, who may do everything, and xmq, who may log in and create databases.
const Password = "p@ss/word of:xmq"

// Server is one PostgreSQL server.
type Server struct{ *servertest.Server }

// Start makes a new server and waits until it answers. The caller stops it, also behind a failed test.
func Start() (*Server, error) {
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(installed) == 0 {
		return nil, errors.New("the programs of a PostgreSQL server are missing under /usr/lib/postgresql: run .ci/servers as root, or install postgresql-15")
	}
	base, err := servertest.New("pg", "postgres")
	if err != nil {
		return nil, err
	}
	s := &Server{base}
	bin := filepath.Dir(installed[len(installed)-1])
	s.Launch = func() *exec.Cmd {
		return s.Command(filepath.Join(bin, "postgres"), "-D", filepath.Join(s.Dir(), "data"), "-h", "127.0.0.1", "-p", s.Port(), "-c", "unix_socket_directories=",
			"-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "max_connections=60", "-c", "autovacuum=off",
			"-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "full_page_writes=off")
	}
	s.Answers = func() error { return s.Exec("postgres", "SELECT 1") }
	if err = s.initialise(bin); err == nil {
		err = s.Run()
	}
	if err == nil {
		err = s.Exec("postgres", "CREATE ROLE xmq LOGIN CREATEDB PASSWORD '"+Password+"'")
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// New is Start for one test, stopped with it.
func New(t *testing.T) *Server {
	t.Helper()
	s, err := Start()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s
}

// initialise makes the data folder.
func (s *Server) initialise(bin string) error {
	password := filepath.Join(s.Dir(), "password")
	if err := os.WriteFile(password, []byte(Password), 0o644); err != nil {
		return err
	}
	out, err := s.Command(filepath.Join(bin, "initdb"), "--pgdata", filepath.Join(s.Dir(), "data"), "--username=postgres", "--pwfile="+password, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C.UTF-8", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

// Halt stops the server, its sessions told so.
func (s *Server) Halt() error { return s.End(syscall.SIGINT) }

// URL is that of a database for the role xmq.
func (s *Server) URL(database string) string { return URL("xmq", s.Addr(), database) }

// URL is that of a database behind addr, such as a proxy's.
func URL(role, addr, database string) string {
	return "postgres://" + role + ":" + escaped + "@" + addr + "/" + database + "?sslmode=disable"
}

// escaped is Password as a URL writes it.
var escaped = strings.NewReplacer("@", "%40", "/", "%2F", ":", "%3A", " ", "%20").Replace(Password)

// Exec runs a script as postgres.
func (s *Server) Exec(database, script string) error {
	_, err := s.read(database, script)
	return err
}

// Query returns the rows of a script's last statement, columns joined by "|", NULL as "NULL".
func (s *Server) Query(t *testing.T, database, script string) []string {
	t.Helper()
	rows, err := s.read(database, script)
	require.NoError(t, err)
	return rows
}

func (s *Server) read(database, script string) (rows []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), servertest.Patience)
	defer cancel()
	c, err := pgconn.Connect(ctx, URL("postgres", s.Addr(), database))
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close(ctx) }() // the answer is here already
	results, err := c.Exec(ctx, script).ReadAll()
	if err != nil || len(results) == 0 {
		return nil, err
	}
	for _, row := range results[len(results)-1].Rows {
		for i, v := range row {
			if v == nil {
				row[i] = []byte("NULL")
			}
		}
		rows = append(rows, string(bytes.Join(row, []byte("|"))))
	}
	return rows, nil
}

// Create makes an empty database that the role xmq owns.
func (s *Server) Create(t *testing.T, database string) {
	t.Helper()
	require.NoError(t, s.Exec("postgres", `CREATE DATABASE "`+database+`" OWNER xmq`))
}
