package integration

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"xmq/broker/failpoint"
	"xmq/nodeclient/driver/file"
	"xmq/nodeclient/driver/kv"
	"xmq/nodeclient/driver/servertest/mysqltest"
	"xmq/nodeclient/driver/servertest/postgrestest"
	"xmq/nodeclient/driver/servertest/redistest"
	"xmq/nodeclient/driver/servertest/webhooktest"
)

// rig is one kind of database for the scenarios that every driver has to pass.
type rig struct {
	name    string
	place   func(t *testing.T) *place
	setup   []string                       // increments that come first
	body    func(k int, pad string) string // leaves the number k once
	invalid string                         // is refused by the database; "" when it takes anything
	once    bool                           // exactly once; else at least once
	steps   []string                       // the failpoints it has besides those of every node
	slow    bool                           // an increment takes milliseconds, or more where there is much data
	server  bool                           // it lives on a server that can be restarted, and needs a password
}

// place is one fresh database.
type place struct {
	target  string                         // URL with its password, if it has one
	secret  string                         // the password
	env     []string                       // of its node
	numbers func(t *testing.T) (all []int) // that bodies left, in order; it checks what else must be true of them
	restart func() error                   // kill -9 of the server, and its start; nil when it has none
}

// parts of bodies in SQL: the counter tells what is applied twice, or in another order.
const (
	sqlItem  = "INSERT INTO item SELECT n, %d, '%s' FROM total"
	sqlTotal = "UPDATE total SET n = n + 1; " + sqlItem
)

func sqlBody(k int, pad string) string { return fmt.Sprintf(sqlTotal, k, pad) }

// sqlSetup makes the tables; DDL stands alone, as MariaDB wants it.
var sqlSetup = []string{"CREATE TABLE total (n bigint)",
	"CREATE TABLE item (at bigint PRIMARY KEY, k bigint, pad text)", "INSERT INTO total VALUES (0)"}

// sqlNumbers checks rows of "at|k" and the counter.
func sqlNumbers(t *testing.T, rows []string, total string) (all []int) {
	for i, row := range rows {
		at, k, _ := strings.Cut(row, "|")
		require.Equal(t, strconv.Itoa(i+1), at, "each once, in order")
		n, err := strconv.Atoi(k)
		require.NoError(t, err)
		all = append(all, n)
	}
	require.Equal(t, strconv.Itoa(len(rows)), total)
	return all
}

var inTransaction = []string{failpoint.AppliedBeforeSeq, failpoint.SeqBeforeCommit}

// servers are the private servers of this package's tests: each is started by the first test that asks, shared, and
// stopped with the last.
type servers struct {
	postgres func() (*postgrestest.Server, error)
	mysql    func() (*mysqltest.Server, error)
	redis    func() (*redistest.Server, error)
	places   atomic.Int64 // so that each has a name of its own
	stop     []func() error
}

var shared = newServers()

func newServers() *servers {
	s := &servers{}
	s.postgres = sync.OnceValues(func() (*postgrestest.Server, error) {
		server, err := postgrestest.Start()
		if err == nil {
			s.stop = append(s.stop, server.Stop)
		}
		return server, err
	})
	s.mysql = sync.OnceValues(func() (*mysqltest.Server, error) {
		server, err := mysqltest.Start()
		if err == nil {
			s.stop = append(s.stop, server.Stop)
		}
		return server, err
	})
	s.redis = sync.OnceValues(func() (*redistest.Server, error) {
		server, err := redistest.Start("--databases", "512")
		if err == nil {
			s.stop = append(s.stop, server.Stop)
		}
		return server, err
	})
	return s
}

// close stops them.
func (s *servers) close() (err error) {
	for _, stop := range s.stop {
		err = errors.Join(err, stop())
	}
	return err
}

// rigs are all drivers.
func rigs() []rig {
	return []rig{sqliteRig(), fileRig(), kvRig(), postgresRig(), mysqlRig(), redisRig(), webhookRig(),
		execRig("exec", false), execRig("exec with a position", true)}
}

// running makes the restart of a server.
func running(kill, run func() error) func() error {
	return func() error {
		if err := kill(); err != nil {
			return err
		}
		return run()
	}
}

func sqliteRig() rig {
	return rig{name: "sqlite", setup: sqlSetup, body: sqlBody, invalid: "UPDATE total SET n = n + 1; INSERT INTO " +
		"nowhere VALUES (1)", once: true, steps: inTransaction,
		place: func(t *testing.T) *place { return sqlitePlace(filepath.Join(t.TempDir(), "db")) }}
}

func sqlitePlace(path string) *place {
	return &place{target: "sqlite:" + path, numbers: func(t *testing.T) []int {
		rows := query(t, path, "SELECT group_concat(at || '|' || k, ' ') FROM (SELECT * FROM item ORDER BY at)")
		return sqlNumbers(t, strings.Fields(rows), query(t, path, "SELECT n FROM total"))
	}}
}

func postgresRig() rig {
	return sqlRig("postgres", postgrestest.Password, func() (sqlServer, error) { return shared.postgres() })
}

func mysqlRig() rig {
	return sqlRig("mysql", mysqltest.Password, func() (sqlServer, error) { return shared.mysql() })
}

// sqlServer is a private server of a database that takes SQL.
type sqlServer interface {
	Create(t *testing.T, db string)
	URL(db string) string
	Query(t *testing.T, db, sql string) []string
	Kill() error
	Run() error
}

// sqlRig has a database of its own on one server for each place.
func sqlRig(name, password string, started func() (sqlServer, error)) rig {
	return rig{name: name, setup: sqlSetup, body: sqlBody, invalid: "UPDATE total SET n = n + 1; INSERT INTO " +
		"nowhere VALUES (1)", once: true, steps: inTransaction, server: true,
		place: func(t *testing.T) *place {
			server, err := started()
			require.NoError(t, err)
			db := fmt.Sprint("place", shared.places.Add(1))
			server.Create(t, db)
			return &place{target: server.URL(db), secret: password, restart: running(server.Kill, server.Run),
				numbers: func(t *testing.T) []int {
					return sqlNumbers(t, server.Query(t, db, "SELECT at, k FROM item ORDER BY at"),
						server.Query(t, db, "SELECT n FROM total")[0])
				}}
		}}
}

// redisRig: an increment of two commands, of which the second tells what is applied twice.
func redisRig() rig {
	return rig{name: "redis", once: true, steps: []string{failpoint.SeqBeforeCommit}, server: true,
		body: func(k int, pad string) string {
			return fmt.Sprintf("RPUSH item %d\nINCR total\nSET pad:%d \"%s\"", k, k, pad)
		},
		invalid: "INCR total\nRPUSH total x",
		place: func(t *testing.T) *place {
			server, err := shared.redis()
			require.NoError(t, err)
			db := 2 * int(shared.places.Add(1))
			return &place{target: server.URL(db), secret: redistest.Password, restart: running(server.Kill, server.Run),
				numbers: func(t *testing.T) (all []int) {
					c := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: redistest.Password, DB: db})
					defer c.Close()
					items, err := c.LRange(t.Context(), "item", 0, -1).Result()
					require.NoError(t, err)
					total, err := c.Get(t.Context(), "total").Int()
					require.NoError(t, err)
					require.Len(t, items, total)
					return readNumbers(t, items)
				}}
		}}
}

// kvRig: the order shows in a counter that is set from the number before, INCR fails where it would not fit.
func kvRig() rig {
	return rig{name: "kv", once: true, steps: []string{failpoint.SeqBeforeCommit},
		body:    func(k int, pad string) string { return fmt.Sprintf("INCR total\nSET item:%08d \"%s\"", k, pad) },
		invalid: "INCR total\nSET text abc\nINCR text",
		place: func(t *testing.T) *place {
			path := filepath.Join(t.TempDir(), "kv")
			return &place{target: "kv:" + path, numbers: func(t *testing.T) (all []int) {
				still := filepath.Join(t.TempDir(), "copy") // the database belongs to its node
				require.NoError(t, os.CopyFS(still, os.DirFS(path)))
				db, err := kv.Open(still)
				require.NoError(t, err)
				defer db.Close()
				require.NoError(t, db.Scan([]byte("item:"), []byte("item;"), 0, func(key, _ []byte) error {
					k, err := strconv.Atoi(strings.TrimPrefix(string(key), "item:"))
					all = append(all, k)
					return err
				}))
				total, err := db.Get([]byte("total"))
				require.NoError(t, err)
				require.Equal(t, strconv.Itoa(len(all)), string(total))
				return all
			}}
		}}
}

// numberBody is a body for drivers that take any bytes.
func numberBody(k int, pad string) string { return fmt.Sprintf("%d %s", k, pad) }

// readNumbers reads bodies of numberBody.
func readNumbers(t *testing.T, bodies []string) (all []int) {
	for _, b := range bodies {
		k, err := strconv.Atoi(b[:strings.IndexByte(b+" ", ' ')])
		require.NoError(t, err)
		all = append(all, k)
	}
	return all
}

func fileRig() rig {
	return rig{name: "file", body: numberBody, once: true, steps: []string{failpoint.SeqBeforeCommit},
		place: func(t *testing.T) *place {
			path := filepath.Join(t.TempDir(), "increments")
			return &place{target: "file:" + path, numbers: func(t *testing.T) []int {
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				var bodies []string
				for record, err := range file.Records(bytes.NewReader(b)) {
					require.NoError(t, err)
					bodies = append(bodies, string(record.Body()))
				}
				return readNumbers(t, bodies)
			}}
		}}
}

func webhookRig() rig {
	return rig{name: "webhook", body: numberBody, invalid: "bad", place: func(t *testing.T) *place {
		r := webhooktest.New(t)
		return &place{target: r.Target(""), numbers: func(t *testing.T) []int { return readNumbers(t, r.Bodies()) }}
	}}
}

func execRig(name string, keep bool) rig {
	return rig{name: name, body: numberBody, invalid: "bad", once: keep, slow: true, place: func(t *testing.T) *place {
		dir := t.TempDir()
		script, err := filepath.Abs("../nodeclient/driver/exec/testdata/copy.sh")
		require.NoError(t, err)
		command := "cd " + dir + " && sh " + script
		target := "dump=" + url.QueryEscape(command) + "&load=" + url.QueryEscape(command)
		if keep {
			target += "&position=" + url.QueryEscape(command)
			command = "export KEEP=1; " + command
		}
		return &place{target: "exec:" + url.PathEscape(command) + "?" + target, numbers: func(t *testing.T) []int {
			b, err := os.ReadFile(filepath.Join(dir, "live", "data"))
			require.NoError(t, err)
			return readNumbers(t, slices.Collect(strings.Lines(string(b))))
		}}
	}}
}
