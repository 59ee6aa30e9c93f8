package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/broker/bus"
	"xmq/dumpflow"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/servertest/mysqltest"
	"xmq/nodeclient/driver/servertest/redistest"
)

// The size of the larger database; `make measure` says 1024.
var measured = flag.Int("measure", 64, "MiB of the larger database of TestMeasureDUMP")

// rowBytes is how large the rows are with which a database is filled; random, so that nothing can be saved by
// compression.
const rowBytes = 8 << 10

// filled is a place with so many MiB of random rows.
type filled struct {
	name string
	fill func(t *testing.T, s *site, mib int) (target string)
	late func(t *testing.T, s *site, mib int) // fills through the node that runs; nil for none
}

// rowsOf calls put with chunks of random rows of together 1 MiB, mib times.
func rowsOf(t *testing.T, mib int, put func(first int, rows [][]byte) error) {
	t.Helper()
	buf := make([]byte, 1<<20)
	var rows [][]byte
	for at := 0; at < len(buf); at += rowBytes {
		rows = append(rows, buf[at:at+rowBytes])
	}
	for i := range mib {
		_, err := rand.Read(buf)
		require.NoError(t, err)
		require.NoError(t, put(i*len(rows), rows))
	}
}

func fillings(t *testing.T) []filled {
	return []filled{{name: "sqlite", fill: fillSQLite}, {name: "postgres", fill: fillPostgres},
		{name: "mysql", fill: fillMySQL}, {name: "redis", fill: fillRedis}, {name: "kv", late: fillKV,
			fill: func(_ *testing.T, s *site, _ int) string { return "kv:" + filepath.Join(s.dir, "kv") }}}
}

func fillSQLite(t *testing.T, s *site, mib int) string {
	db, err := sql.Open("sqlite", "file:"+s.path("full")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
	require.NoError(t, err)
	defer db.Close()
	fillSQL(t, db, "CREATE TABLE big (id INTEGER PRIMARY KEY, v BLOB)", mib)
	return "sqlite:" + s.path("full")
}

// fillSQL inserts each MiB as one statement.
func fillSQL(t *testing.T, db *sql.DB, create string, mib int) {
	_, err := db.ExecContext(t.Context(), create)
	require.NoError(t, err)
	rowsOf(t, mib, func(first int, rows [][]byte) error {
		var args []any
		for i, row := range rows {
			args = append(args, first+i, row)
		}
		_, err := db.ExecContext(t.Context(), "INSERT INTO big VALUES "+
			strings.TrimPrefix(strings.Repeat(", (?, ?)", len(rows)), ", "), args...)
		return err
	})
}

func fillMySQL(t *testing.T, _ *site, mib int) string {
	server, err := shared.mysql()
	require.NoError(t, err)
	name := fmt.Sprint("place", shared.places.Add(1))
	server.Create(t, name)
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.DBName = "xmq", mysqltest.Password, name
	cfg.Net, cfg.Addr = "tcp", server.Addr()
	cfg.InterpolateParams, cfg.MaxAllowedPacket = true, 0
	connector, err := mysql.NewConnector(cfg)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	defer db.Close()
	fillSQL(t, db, "CREATE TABLE big (id INT PRIMARY KEY, v BLOB)", mib)
	return server.URL(name)
}

func fillPostgres(t *testing.T, _ *site, mib int) string {
	server, err := shared.postgres()
	require.NoError(t, err)
	name := fmt.Sprint("place", shared.places.Add(1))
	server.Create(t, name)
	c, err := pgx.Connect(t.Context(), server.URL(name))
	require.NoError(t, err)
	defer c.Close(context.Background())
	_, err = c.Exec(t.Context(), "CREATE TABLE big (id int PRIMARY KEY, v bytea)")
	require.NoError(t, err)
	rowsOf(t, mib, func(first int, rows [][]byte) error {
		_, err := c.CopyFrom(t.Context(), pgx.Identifier{"big"}, []string{"id", "v"},
			pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
				return []any{first + i, rows[i]}, nil
			}))
		return err
	})
	return server.URL(name)
}

func fillRedis(t *testing.T, _ *site, mib int) string {
	server := redistest.New(t, "--appendonly", "no") // its own, so that its memory goes with the test
	c := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: redistest.Password})
	defer c.Close()
	rowsOf(t, mib, func(first int, rows [][]byte) error {
		_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for i, row := range rows {
				p.Set(t.Context(), fmt.Sprint("big:", first+i), row, 0)
			}
			return nil
		})
		return err
	})
	return server.URL(0)
}

// fillKV publishes, since nobody but its node writes into such a store: half a MiB is one increment of RESP commands.
func fillKV(t *testing.T, s *site, mib int) {
	rowsOf(t, mib, func(first int, rows [][]byte) error {
		for half := range slices.Chunk(rows, len(rows)/2) {
			var body bytes.Buffer
			for _, row := range half {
				key := fmt.Sprint("big:", first)
				first++
				fmt.Fprintf(&body, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key, len(row), row)
			}
			res, err := http.Post("http://"+s.http+"/v1/increments", "application/octet-stream", &body)
			if err != nil {
				return err
			}
			if err := res.Body.Close(); err != nil || res.StatusCode != 200 {
				return fmt.Errorf("status %d: %w", res.StatusCode, err)
			}
		}
		return nil
	})
}

// The pause of a target and the duration of a whole DUMP, at two sizes of each database: printed, not judged. The
// pause is what the broker reports: from the moment at which it sends the target no more increments until it hears
// that the snapshot is open.
func TestMeasureDUMP(t *testing.T) {
	opens, sizes := 100, []int{10, *measured}
	for _, f := range fillings(t) {
		for _, mib := range sizes {
			t.Run(fmt.Sprint(f.name, " ", mib, " MiB"), func(t *testing.T) { measure(t, f, mib, opens) })
		}
	}
}

func measure(t *testing.T, f filled, mib, opens int) {
	s := newSite(t)
	s.broker()
	target := f.fill(t, s, mib)
	s.start("master", "node", "--id", "master", "--broker", "nats://"+s.nats, "--target", target, "--data", s.dir)
	s.level("master")
	if f.late != nil {
		f.late(t, s, mib)
		s.level("master")
	}
	conn, err := bus.Dial("nats://"+s.nats, "backup-measure")
	require.NoError(t, err)
	defer conn.Close()
	take := func(path string, progress func()) (dumpflow.Manifest, error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		return nodeclient.Backup(ctx, conn, nodeclient.DefaultGroup, "backup-measure", "master", path, false, nil,
			func(int64) {
				if progress != nil {
					progress()
					cancel()
				}
			}, nil)
	}
	seen := map[string]float64{}
	for i := range opens {
		_, err := take(filepath.Join(s.dir, fmt.Sprint("part", i)), func() {
			var dumps []api.DumpView
			require.NoError(t, getJSON(t.Context(), "http://"+s.http+"/v1/dumps", &dumps))
			for _, d := range dumps {
				seen[d.ID.String()] = d.PauseMS
			}
		})
		require.ErrorIs(t, err, context.Canceled)
		// the target closes what nobody reads any more: that would count as pause of the next
		<-time.After(100 * time.Millisecond)
	}
	require.Len(t, seen, opens)
	pauses := slices.Sorted(maps.Values(seen))
	began := time.Now()
	m, err := take(filepath.Join(s.dir, "whole"), nil)
	require.NoError(t, err)
	took := time.Since(began).Seconds()
	t.Logf("measured: DUMP of %s, %d MiB: pause p50 %.1f ms, p99 %.1f ms of %d; all of it %.1f s, %.0f MiB/s", f.name, mib,
		pauses[opens/2], pauses[(opens-1)*99/100], opens, took, float64(m.Size)/took/(1<<20))
}
