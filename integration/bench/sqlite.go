package bench

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
	_ "modernc.org/sqlite" // the database itself
)

func applySQLite() Scenario {
	const full = 400_000
	insert := func(i int, text string) string { return fmt.Sprintf("INSERT INTO t VALUES (%d, '%s')", i, text) }
	open := func(dir string) (string, func() error, error) {
		return "sqlite:" + filepath.Join(dir, "applied.db"), func() error { return nil }, nil
	}
	return Scenario{
		Name: "apply-sqlite", Asks: "single-row INSERTs of a full log, applied exactly once to SQLite", Unit: "increments/s",
		Aim:  "1x loop",
		disk: "WAL, synchronous FULL", ours: oursApply(full, open, createText, insert),
		peers: []peer{{"loop", "WAL, synchronous FULL, 500 statements a transaction",
			func(ctx context.Context, dir string, p *Params) (float64, error) {
				return sqliteLoop(ctx, dir, applyRows(p, full), insert)
			}}},
	}
}

// createText makes the table of apply, in the words of SQLite and PostgreSQL.
const createText = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"

func openSQLite(path, synchronous string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous("+synchronous+")")
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

// sqliteLoop is what somebody would write who has the statements already.
func sqliteLoop(ctx context.Context, dir string, n int, insert func(i int, text string) string) (v float64, err error) {
	db, err := openSQLite(filepath.Join(dir, "loop.db"), "FULL")
	if err != nil {
		return 0, err
	}
	defer closing(&err, db.Close)
	bodies, began := newPayloads(32, 1), time.Now()
	if _, err := db.ExecContext(ctx, createText); err != nil {
		return 0, err
	}
	for i := 0; i < n; {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return 0, err
		}
		for end := min(i+500, n); i < end; i++ {
			if _, err := tx.ExecContext(ctx, insert(i, rowText(bodies, i))); err != nil {
				return 0, err
			}
		}
		if err := tx.Commit(); err != nil {
			return 0, err
		}
	}
	return since(n, began), nil
}

func dumpSQLite() Scenario {
	return Scenario{
		Name: "dump-sqlite", Asks: "a whole DUMP of a SQLite database of random rows, through the broker into a backup file",
		Unit: "MiB/s",
		Aim:  "80 % of vacuum-zstd",
		disk: "file synced", ours: oursDump(func(ctx context.Context, dir string, mib int) (string, func() error, error) {
			path := filepath.Join(dir, "full.db")
			return "sqlite:" + path, func() error { return nil }, fillSQLite(ctx, path, mib)
		}),
		peers: []peer{{"vacuum-zstd", "file synced", vacuumZstd}},
	}
}

func fillSQLite(ctx context.Context, path string, mib int) (err error) {
	db, err := openSQLite(path, "OFF")
	if err != nil {
		return err
	}
	defer closing(&err, db.Close)
	if _, err := db.ExecContext(ctx, "CREATE TABLE big (id INTEGER PRIMARY KEY, v BLOB)"); err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	err = dumpRows(mib, func(i int, row []byte) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO big VALUES (?, ?)", i, row)
		return err
	})
	if err != nil {
		return err
	}
	return tx.Commit()
}

// vacuumZstd makes a consistent copy with SQLite's own statement and compresses it.
func vacuumZstd(ctx context.Context, dir string, p *Params) (v float64, err error) {
	path, copied, mib := filepath.Join(dir, "full.db"), filepath.Join(dir, "copy.db"), dumpMiB(p)
	if err := fillSQLite(ctx, path, mib); err != nil {
		return 0, err
	}
	db, err := openSQLite(path, "FULL")
	if err != nil {
		return 0, err
	}
	defer closing(&err, db.Close)
	began := time.Now()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", copied); err != nil {
		return 0, err
	}
	in, err := os.Open(copied)
	if err != nil {
		return 0, err
	}
	defer closing(&err, in.Close)
	out, err := os.Create(filepath.Join(dir, "backup.zst"))
	if err != nil {
		return 0, err
	}
	defer closing(&err, out.Close)
	z, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(z, in); err != nil {
		return 0, err
	}
	if err := z.Close(); err != nil {
		return 0, err
	}
	err = out.Sync()
	return since(mib, began), err
}
