// Package postgrestest runs private PostgreSQL servers for tests: of this machine's newest installed version, on a
// free port of 127.0.0.1, with data in a folder that is removed with them.
package postgrestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// Password is that of both roles: postgres, who may do everything, and xmq, who may log in and create databases.
const Password = "p@ss/word of:xmq"

// patience is how long a server may take to start or stop.
const patience = 30 * time.Second

// Server is one PostgreSQL server.
type Server struct {
	bin, dir, addr string
	who            *syscall.Credential // nil: this process's own
	cmd            *exec.Cmd           // nil when it does not run
	log            *os.File
}

// Start makes a new server and waits until it answers. The caller stops it, also behind a failed test.
func Start() (*Server, error) {
	s := &Server{}
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(installed) == 0 {
		return nil, errors.New("the programs of a PostgreSQL server are missing under /usr/lib/postgresql: run .ci/servers as root, or install postgresql-15")
	}
	s.bin = filepath.Dir(installed[len(installed)-1])
	if s.dir, err = os.MkdirTemp("/tmp", "xmq-pg-"); err != nil {
		return nil, err
	}
	if err = s.prepare(); err == nil {
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

// prepare makes the data folder. A server refuses to run as root, so root lets the user postgres own it.
func (s *Server) prepare() error {
	password := filepath.Join(s.dir, "password")
	if err := os.WriteFile(password, []byte(Password), 0o644); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return fmt.Errorf("a PostgreSQL server does not run as root, and there is no user to run it as: %w", err)
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		s.who = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := errors.Join(err1, err2, os.Chown(s.dir, int(uid), int(gid))); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.addr = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	if s.log, err = os.Create(filepath.Join(s.dir, "log")); err != nil {
		return err
	}
	cmd := s.program("initdb", "--pgdata", filepath.Join(s.dir, "data"), "--username=postgres", "--pwfile="+password, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

// program prepares a program that dies with this process.
func (s *Server) program(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.who, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// Run starts the server, anew after Kill or Halt, and waits until it answers. After Kill its orphans may hold the
// shared memory for a moment; it tries until they are gone.
func (s *Server) Run() error {
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		if s.cmd == nil {
			cmd := s.program("postgres", "-D", filepath.Join(s.dir, "data"), "-h", "127.0.0.1", "-p", port, "-c", "unix_socket_directories=",
				"-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "max_connections=60", "-c", "autovacuum=off",
				"-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "full_page_writes=off")
			cmd.Stdout, cmd.Stderr = s.log, s.log
			if err := cmd.Start(); err != nil {
				return err
			}
			s.cmd = cmd
		}
		if last = s.Exec("postgres", "SELECT 1"); last == nil {
			return nil
		}
		var status syscall.WaitStatus
		if pid, _ := syscall.Wait4(s.cmd.Process.Pid, &status, syscall.WNOHANG, nil); pid == s.cmd.Process.Pid {
			_ = s.cmd.Process.Release() // it has been waited for
			s.cmd = nil
		}
	}
	text, _ := os.ReadFile(s.log.Name())
	return fmt.Errorf("the server does not answer: %w\n%s", last, text[max(0, len(text)-2000):])
}

// Kill is kill -9 of the server; its sessions end by themselves.
func (s *Server) Kill() error { return s.end(syscall.SIGKILL) }

// Halt stops the server, its sessions told so.
func (s *Server) Halt() error { return s.end(syscall.SIGINT) }

func (s *Server) end(signal syscall.Signal) error {
	if s.cmd == nil {
		return nil
	}
	err := s.cmd.Process.Signal(signal)
	_ = s.cmd.Wait() // how it ends was asked for
	s.cmd = nil
	return err
}

// Stop ends the server and removes everything of it.
func (s *Server) Stop() error {
	err := s.end(syscall.SIGQUIT)
	if s.log != nil {
		err = errors.Join(err, s.log.Close())
	}
	for range 100 { // sessions may write their last files
		if rm := os.RemoveAll(s.dir); rm == nil {
			return err
		}
		<-time.After(20 * time.Millisecond)
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// Addr is host:port.
func (s *Server) Addr() string { return s.addr }

// URL is that of a database for the role xmq.
func (s *Server) URL(database string) string { return URL("xmq", s.addr, database) }

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
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := pgconn.Connect(ctx, URL("postgres", s.addr, database))
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
