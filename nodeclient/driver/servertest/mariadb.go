package servertest

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

// MariaDB is one server of MariaDB, or of MySQL, which speaks the same. It has two users: root, who may do everything
// and has no password, and xmq with Password, who owns the databases of Make and what a restore puts beside them.
type MariaDB struct {
	*Server
	limit string // the variable that limits a statement's time, which the server's user root has not
}

// StartMariaDB makes a new server and waits until it answers; options are further ones of its command line, which
// overrule those for tests: they are fast and keep nothing through a crash of the machine. The caller stops it, also
// after a failed test.
func StartMariaDB(options ...string) (*MariaDB, error) {
	daemon, err := exec.LookPath("mariadbd")
	if err != nil { // not in the PATH of everybody
		daemon, err = exec.LookPath("/usr/sbin/mariadbd")
	}
	install, err2 := exec.LookPath("mariadb-install-db")
	if err := cmp.Or(err, err2); err != nil {
		return nil, fmt.Errorf("the programs of a MariaDB server are missing: run .ci/servers as root, or install "+
			"mariadb-server: %w", err)
	}
	base, err := New("my", "mysql")
	if err != nil {
		return nil, err
	}
	s := &MariaDB{Server: base, limit: "max_statement_time"}
	own := []string{"--sync-frm=0", "--debug-no-sync", "--innodb-log-file-size=32M", "--lc-messages-dir=/usr/share/mysql"}
	return s.start(daemon, append(own, options...), install, "--auth-root-authentication-method=normal", "--skip-test-db",
		"--skip-name-resolve", "--innodb-log-file-size=32M")
}

// StartMySQL is StartMariaDB with the mysqld of a MySQL.
func StartMySQL(daemon string, options ...string) (*MariaDB, error) {
	base, err := New("my", "mysql")
	if err != nil {
		return nil, err
	}
	s := &MariaDB{Server: base, limit: "max_execution_time"}
	own := []string{"--innodb-redo-log-capacity=32M", "--mysqlx=OFF", "--secure-file-priv="}
	return s.start(daemon, append(own, options...), daemon, "--initialize-insecure", "--innodb-redo-log-capacity=32M")
}

// start makes the data folder, runs the server on it and makes the user xmq.
func (s *MariaDB) start(daemon string, options []string, install string, installing ...string) (_ *MariaDB, err error) {
	s.Launch = func() *exec.Cmd {
		args := []string{"--no-defaults", "--datadir=" + s.folder(), "--bind-address=127.0.0.1", "--port=" + s.Port(),
			"--socket=" + s.socket(),
			"--pid-file=" + filepath.Join(s.Dir(), "pid"), "--tmpdir=" + s.Dir(), "--skip-name-resolve", "--skip-log-bin",
			"--performance-schema=OFF",
			"--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=2", "--innodb-flush-method=nosync",
			"--innodb-doublewrite=0",
			"--innodb-fast-shutdown=2", "--max-connections=100", "--character-set-server=utf8mb4"}
		return s.Command(daemon, append(args, options...)...)
	}
	s.Answers = func() error { return s.Exec("mysql", "DO 1") }
	if err = s.initialise(install, installing); err == nil {
		err = s.Run()
	}
	if err == nil {
		err = s.Exec("mysql", "CREATE USER xmq@'%' IDENTIFIED BY '"+Password+"'")
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *MariaDB) socket() string { return filepath.Join(s.Dir(), "sock") }
func (s *MariaDB) folder() string { return filepath.Join(s.Dir(), "data") }

// initialise makes the data folder, with a root who has no password yet.
func (s *MariaDB) initialise(install string, options []string) error {
	out, err := s.Command(install, append([]string{"--no-defaults", "--datadir=" + s.folder(),
		"--innodb-flush-method=nosync"}, options...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(install), err, out)
	}
	return nil
}

// Halt stops the server, its sessions told so.
func (s *MariaDB) Halt() error { return s.End(syscall.SIGTERM) }

// URL is that of a database for the user xmq.
func (s *MariaDB) URL(database string) string { return MariaDBURL(s.Addr(), database) }

// MariaDBURL is that of a database at addr, such as a proxy's, for the user xmq.
func MariaDBURL(addr, database string) string {
	return "mysql://xmq:" + escaped() + "@" + addr + "/" + database
}

// Exec runs a script as root.
func (s *MariaDB) Exec(database, script string) error {
	_, err := s.Read(database, script)
	return err
}

// Connect opens a pool of sessions as root, without the time limit that a test may have given the server. The caller
// closes it.
func (s *MariaDB) Connect(database string) (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.User = "root"
	cfg.Net = "unix"
	cfg.Addr = s.socket()
	cfg.DBName = database
	cfg.MultiStatements = true
	cfg.Logger = &mysql.NopLogger{}
	cfg.Params = map[string]string{"time_zone": "'+00:00'", s.limit: "0"}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// Read returns the rows of a script's last result, columns joined by "|", NULL as "NULL".
func (s *MariaDB) Read(database, script string) (all []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	db, err := s.Connect(database)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }() // the answer is here already
	rows, err := db.QueryContext(ctx, script)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // it was read to its end
	for more := true; more; more = rows.NextResultSet() {
		all = nil
		columns, err := rows.Columns()
		if err != nil {
			return nil, err
		}
		values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		for rows.Next() {
			if err := rows.Scan(into...); err != nil {
				return nil, err
			}
			text := make([]string, len(values))
			for i, v := range values {
				if text[i] = v.String; !v.Valid {
					text[i] = "NULL"
				}
			}
			all = append(all, strings.Join(text, "|"))
		}
	}
	return all, rows.Err()
}

// Make makes an empty database that the user xmq may do everything with.
func (s *MariaDB) Make(database string) error {
	pattern := strings.NewReplacer("_", `\_`, "%", `\%`).Replace(database)
	return s.Exec("mysql", "CREATE DATABASE `"+database+"`; GRANT ALL ON `"+pattern+"`.* TO xmq@'%'; GRANT ALL ON `"+
		pattern+`\_xmq\_%`+"`.* TO xmq@'%'")
}
