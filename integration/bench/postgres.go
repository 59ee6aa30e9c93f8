package bench

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"xmq/nodeclient/driver/servertest"
)

// postgresSettings are a server in earnest: nothing that was committed is lost.
func postgresSettings() []string {
	return []string{"fsync=on", "full_page_writes=on", "wal_level=logical", "max_wal_senders=4", "shared_buffers=256MB",
		"max_wal_size=4GB", "wal_retrieve_retry_interval=50ms"}
}

const postgresDisk = "fsync on, the subscriber's own synchronous_commit"

// newPostgres starts a server with an empty database b.
func newPostgres() (*servertest.Postgres, error) {
	s, err := servertest.StartPostgres(postgresSettings()...)
	if err != nil {
		return nil, err
	}
	if err := s.Make("b"); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func applyPostgres() Scenario {
	const full = 200_000
	return Scenario{
		Name: "apply-postgres", Asks: "single-row INSERTs of a full log, applied exactly once to PostgreSQL",
		Unit: "increments/s",
		Aim:  "1x logical-replication",
		disk: "fsync on", ours: oursApply(full, postgresDatabase, createText, template("INSERT INTO t VALUES ($1, $2)")),
		peers: []peer{{"logical-replication", postgresDisk, func(ctx context.Context, _ string, p *Params) (float64, error) {
			return logicalReplication(ctx, applyRows(p, full))
		}}},
	}
}

func postgresDatabase(string) (string, func() error, error) {
	s, err := newPostgres()
	if err != nil {
		return "", nil, err
	}
	return s.URL("b"), s.Stop, nil
}

// logicalReplication is the rate at which a subscriber takes n transactions of one row that wait for it.
func logicalReplication(ctx context.Context, n int) (v float64, err error) {
	from, err := newPostgres()
	if err != nil {
		return 0, err
	}
	defer closing(&err, from.Stop)
	to, err := newPostgres()
	if err != nil {
		return 0, err
	}
	defer closing(&err, to.Stop)
	link := fmt.Sprintf("host=127.0.0.1 port=%s user=postgres password='%s' dbname=b", from.Port(), servertest.Password)
	err = errors.Join(from.Exec("b", createText), to.Exec("b", createText),
		from.Exec("b", "CREATE PUBLICATION p FOR TABLE t"))
	if err == nil {
		err = to.Exec("b", fmt.Sprintf("CREATE SUBSCRIPTION s CONNECTION '%s' PUBLICATION p WITH (copy_data = false)",
			strings.ReplaceAll(link, "'", "''")))
	}
	if err == nil {
		err = to.Exec("b", "ALTER SUBSCRIPTION s DISABLE")
	}
	if err == nil { // md5 makes rows as long as ours
		err = from.Exec("b", fmt.Sprintf("DO $$ BEGIN SET synchronous_commit = off; FOR i IN 1..%d LOOP INSERT INTO t "+
			"VALUES (i, md5(i::text) || md5((-i)::text)); COMMIT; END LOOP; END $$", n))
	}
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := to.Exec("b", "ALTER SUBSCRIPTION s ENABLE"); err != nil {
		return 0, err
	}
	err = until(ctx, func() (bool, error) {
		rows, err := to.Read("b", "SELECT max(id) FROM t")
		return err == nil && rows[0] == fmt.Sprint(n), err
	})
	v = since(n, began)
	return v, errors.Join(err, to.Exec("b", "ALTER SUBSCRIPTION s DISABLE"))
}

func dumpPostgres() Scenario {
	return Scenario{
		Name: "dump-postgres", Asks: "a whole DUMP of a PostgreSQL database of random rows, through the broker into a " +
			"backup file", Unit: "MiB/s",
		Aim:  "80 % of pg_dump-zstd",
		disk: "file synced", ours: oursDump(func(_ context.Context, _ string, mib int) (string, func() error, error) {
			s, err := fullPostgres(mib)
			if err != nil {
				return "", nil, err
			}
			return s.URL("b"), s.Stop, nil
		}),
		peers: []peer{{"pg_dump-zstd", "file synced", pgDumpZstd}},
	}
}

// fullPostgres is a server with so many MiB of random rows, of which PostgreSQL compresses nothing.
func fullPostgres(mib int) (*servertest.Postgres, error) {
	s, err := newPostgres()
	if err != nil {
		return nil, err
	}
	script := "CREATE TABLE big (id int PRIMARY KEY, v bytea); ALTER TABLE big ALTER v SET STORAGE EXTERNAL; ALTER " +
		"TABLE big OWNER TO xmq;"
	var values []string
	flush := func() {
		if err == nil && len(values) > 0 {
			err = s.Exec("b", script+"INSERT INTO big VALUES "+strings.Join(values, ", "))
		}
		script, values = "", nil
	}
	_ = dumpRows(mib, func(i int, row []byte) error { // its error is ours
		if values = append(values, fmt.Sprintf(`(%d, '\x%s')`, i, hex.EncodeToString(row))); len(values) == 128 {
			flush()
		}
		return err
	})
	if flush(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// pgDumpZstd pipes the server's own pg_dump through the program zstd into a file.
func pgDumpZstd(ctx context.Context, dir string, p *Params) (v float64, err error) {
	compress, err := exec.LookPath("zstd")
	if err != nil {
		return 0, errors.New("the program zstd is missing: install it")
	}
	s, err := fullPostgres(dumpMiB(p))
	if err != nil {
		return 0, err
	}
	defer closing(&err, s.Stop)
	out, err := os.Create(filepath.Join(dir, "backup.zst"))
	if err != nil {
		return 0, err
	}
	defer closing(&err, out.Close)
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer closing(&err, r.Close)
	dump := s.Command(s.Program("pg_dump"), "-Fc", "-Z0", "-d", s.URL("b"))
	zstd := exec.CommandContext(ctx, compress, "-1", "-q")
	var words strings.Builder
	dump.Stdout = w
	zstd.Stdin = r
	zstd.Stdout = out
	dump.Stderr = &words
	zstd.Stderr = io.Discard
	began := time.Now()
	if err := errors.Join(zstd.Start(), dump.Run(), w.Close()); err != nil {
		return 0, fmt.Errorf("pg_dump: %w: %s", errors.Join(err, zstd.Wait()), words.String())
	}
	err = errors.Join(zstd.Wait(), out.Sync())
	return since(dumpMiB(p), began), err
}
