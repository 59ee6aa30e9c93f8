package integration

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/failpoint"
	"xmq/nodeclient/target/file"
	"xmq/nodeclient/target/postgres/postgrestest"
	"xmq/nodeclient/target/webhook/webhooktest"
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
}

// place is one fresh database.
type place struct {
	target  string                          // URL with its password, if it has one
	secret  string                          // the password
	env     []string                        // of its node
	numbers func(t *testing.T) (all []int) // that bodies left, in order; it checks what else must be true of them
	restart func() error                    // kill -9 of the server, and its start; nil when it has none
}

// parts of bodies in SQL: the counter tells what is applied twice, or in another order.
const (
	sqlItem  = "INSERT INTO item SELECT n, %d, '%s' FROM total"
	sqlTotal = "UPDATE total SET n = n + 1; " + sqlItem
)

func sqlBody(k int, pad string) string { return fmt.Sprintf(sqlTotal, k, pad) }

// sqlSetup makes the tables; DDL stands alone, as MariaDB wants it.
var sqlSetup = []string{"CREATE TABLE total (n bigint)", "CREATE TABLE item (at bigint PRIMARY KEY, k bigint, pad text)", "INSERT INTO total VALUES (0)"}

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

// rigs are all drivers. Servers are started for the test that asks and end with it.
func rigs(t *testing.T) []rig {
	return []rig{sqliteRig(), fileRig(), postgresRig(t), webhookRig(), execRig("exec", false), execRig("exec with a position", true)}
}

func sqliteRig() rig {
	return rig{name: "sqlite", setup: sqlSetup, body: sqlBody, invalid: "UPDATE total SET n = n + 1; INSERT INTO nowhere VALUES (1)", once: true, steps: inTransaction,
		place: func(t *testing.T) *place {
			path := filepath.Join(t.TempDir(), "db")
			return &place{target: "sqlite:" + path, numbers: func(t *testing.T) []int {
				rows := query(t, path, "SELECT group_concat(at || '|' || k, ' ') FROM (SELECT * FROM item ORDER BY at)")
				return sqlNumbers(t, strings.Fields(rows), query(t, path, "SELECT n FROM total"))
			}}
		}}
}

func postgresRig(t *testing.T) rig {
	server := postgrestest.New(t)
	names := 0
	return rig{name: "postgres", setup: sqlSetup, body: sqlBody, invalid: "UPDATE total SET n = n + 1; INSERT INTO nowhere VALUES (1)", once: true, steps: inTransaction,
		place: func(t *testing.T) *place {
			names++
			db := fmt.Sprint("place", names)
			server.Create(t, db)
			return &place{target: server.URL(db), secret: postgrestest.Password, numbers: func(t *testing.T) []int {
				return sqlNumbers(t, server.Query(t, db, "SELECT at, k FROM item ORDER BY at"), server.Query(t, db, "SELECT n FROM total")[0])
			}, restart: func() error {
				if err := server.Kill(); err != nil {
					return err
				}
				return server.Run()
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
	return rig{name: "file", body: numberBody, once: true, steps: []string{failpoint.SeqBeforeCommit}, place: func(t *testing.T) *place {
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
	return rig{name: name, body: numberBody, invalid: "bad", once: keep, place: func(t *testing.T) *place {
		dir := t.TempDir()
		script, err := filepath.Abs("../nodeclient/target/exec/testdata/copy.sh")
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
