package servertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Postgres is one PostgreSQL server of this machine's newest installed version. It has two roles, both with Password:
// postgres, who may do everything, and xmq, who may log in and create databases.
type Postgres struct {
	*Server
	bin string
}

// StartPostgres makes a new server and waits until it answers; settings ("fsync=on") overrule those for tests, which
// are fast and keep nothing through a crash of the machine. The caller stops it, also after a failed test.
func StartPostgres(settings ...string) (*Postgres, error) {
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(installed) == 0 {
		return nil, errors.New("the programs of a PostgreSQL server are missing under /usr/lib/postgresql: run " +
			".ci/servers as root, or install postgresql-15")
	}
	base, err := New("pg", "postgres")
	if err != nil {
		return nil, err
	}
	bin := filepath.Dir(installed[len(installed)-1])
	s := &Postgres{base, bin}
	s.Launch = func() *exec.Cmd {
		args := []string{"-D", filepath.Join(s.Dir(), "data"), "-h", "127.0.0.1", "-p", s.Port(), "-c",
			"unix_socket_directories=",
			"-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "max_connections=60", "-c", "autovacuum=off",
			"-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "full_page_writes=off"}
		for _, setting := range settings {
			args = append(args, "-c", setting)
		}
		return s.Command(s.Program("postgres"), args...)
	}
	s.Answers = func() error { return s.Exec("postgres", "SELECT 1") }
	if err = s.initialise(); err == nil {
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

// Program is the path of one that came with the server, such as pg_dump.
func (s *Postgres) Program(name string) string { return filepath.Join(s.bin, name) }

// initialise makes the data folder.
func (s *Postgres) initialise() error {
	password := filepath.Join(s.Dir(), "password")
	if err := os.WriteFile(password, []byte(Password), 0o644); err != nil {
		return err
	}
	out, err := s.Command(s.Program("initdb"), "--pgdata", filepath.Join(s.Dir(), "data"), "--username=postgres",
		"--pwfile="+password, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C.UTF-8", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

// Halt stops the server, its sessions told so.
func (s *Postgres) Halt() error { return s.End(syscall.SIGINT) }

// URL is that of a database for the role xmq.
func (s *Postgres) URL(database string) string { return PostgresURL("xmq", s.Addr(), database) }

// PostgresURL is that of a database at addr, such as a proxy's.
func PostgresURL(role, addr, database string) string {
	return "postgres://" + role + ":" + escaped() + "@" + addr + "/" + database + "?sslmode=disable"
}

// Exec runs a script as postgres.
func (s *Postgres) Exec(database, script string) error {
	_, err := s.Read(database, script)
	return err
}

// Read returns the rows of a script's last statement, columns joined by "|", NULL as "NULL".
func (s *Postgres) Read(database, script string) (rows []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	c, err := pgconn.Connect(ctx, PostgresURL("postgres", s.Addr(), database))
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

// Make makes an empty database that the role xmq owns.
func (s *Postgres) Make(database string) error {
	return s.Exec("postgres", `CREATE DATABASE "`+database+`" OWNER xmq`)
}
