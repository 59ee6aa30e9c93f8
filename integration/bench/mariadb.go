package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"xmq/nodeclient/driver/servertest"
)

// newMariaDB starts a server in earnest, nothing that was committed is lost, with an empty database b.
func newMariaDB(options ...string) (*servertest.MariaDB, error) {
	s, err := servertest.StartMariaDB(append([]string{"--debug-no-sync=0", "--innodb-flush-method=O_DIRECT",
		"--innodb-doublewrite=1", "--innodb-flush-log-at-trx-commit=1",
		"--innodb-buffer-pool-size=256M", "--innodb-log-file-size=256M"}, options...)...)
	if err != nil {
		return nil, err
	}
	if err := s.Make("b"); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func applyMariaDB() Scenario {
	const full = 50_000
	return Scenario{
		Name: "apply-mariadb", Asks: "single-row INSERTs of a full log, applied exactly once to MariaDB",
		Unit: "increments/s",
		Aim:  "2x replication",
		disk: "innodb_flush_log_at_trx_commit=1",
		ours: oursApply(full, mariaDBDatabase, createMariaDB, template("INSERT INTO t VALUES (?, ?)")),
		peers: []peer{{"replication", "innodb_flush_log_at_trx_commit=1, ROW, 16 parallel threads",
			func(ctx context.Context, _ string, p *Params) (float64, error) {
				return mariaDBReplication(ctx, applyRows(p, full))
			}}},
	}
}

const createMariaDB = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(64)) ENGINE=InnoDB"

func mariaDBDatabase(string) (string, func() error, error) {
	s, err := newMariaDB()
	if err != nil {
		return "", nil, err
	}
	return s.URL("b"), s.Stop, nil
}

// mariaDBReplication is the rate at which a replica applies n transactions of one row that stand in its relay log.
func mariaDBReplication(ctx context.Context, n int) (v float64, err error) {
	from, err := newMariaDB("--log-bin=binlog", "--binlog-format=ROW", "--server-id=1",
		"--innodb-flush-log-at-trx-commit=2")
	if err != nil {
		return 0, err
	}
	defer closing(&err, from.Stop)
	to, err := newMariaDB("--server-id=2", "--slave-parallel-threads=16", "--relay-log=relay")
	if err != nil {
		return 0, err
	}
	defer closing(&err, to.Stop)
	err = errors.Join(from.Exec("b", createMariaDB), to.Exec("b", createMariaDB),
		from.Exec("mysql", "CREATE USER replica@'%' IDENTIFIED BY 'r'; GRANT REPLICATION SLAVE ON *.* TO replica@'%'; "+
			"RESET MASTER"))
	if err == nil {
		err = to.Exec("mysql", fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%s, "+
			"MASTER_USER='replica', MASTER_PASSWORD='r'; START SLAVE IO_THREAD", from.Port()))
	}
	if err == nil {
		err = from.Exec("b", fmt.Sprintf("BEGIN NOT ATOMIC DECLARE i INT DEFAULT 1; WHILE i <= %d DO INSERT INTO t VALUES "+
			"(i, CONCAT(MD5(i), MD5(-i))); SET i = i + 1; END WHILE; END", n))
	}
	if err != nil {
		return 0, err
	}
	head, err := from.Read("mysql", "SHOW MASTER STATUS")
	if err != nil {
		return 0, err
	}
	file, rest, _ := strings.Cut(head[0], "|")
	offset, _, _ := strings.Cut(rest, "|")
	err = until(ctx, func() (bool, error) { // all of it is in the relay log
		status, err := to.Read("mysql", "SHOW SLAVE STATUS")
		return err == nil && len(status) > 0 && strings.Contains(status[0], "|"+file+"|"+offset+"|"), err
	})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := to.Exec("mysql", "START SLAVE SQL_THREAD"); err != nil {
		return 0, err
	}
	err = until(ctx, func() (bool, error) {
		rows, err := to.Read("b", "SELECT MAX(id) FROM t")
		return err == nil && rows[0] == fmt.Sprint(n), err
	})
	v = since(n, began)
	return v, errors.Join(err, to.Exec("mysql", "STOP SLAVE"))
}
