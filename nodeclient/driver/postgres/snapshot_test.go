package postgres

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/internal/snapstream"
	"xmq/nodeclient/driver/servertest/postgrestest"
)

// taken is a snapshot in memory.
func (n *node) taken() ([]byte, event.Position) { return drivertest.Taken(n.T, n.Database) }

// restoredNode is a new node with the snapshot.
func restoredNode(t *testing.T, snapshot []byte, at event.Position) *node {
	t.Helper()
	n := newNode(t)
	n.load(snapshot, at)
	return n
}

func (n *node) load(snapshot []byte, at event.Position) {
	drivertest.Load(n.T, n.Database, snapshot, at)
}

// fill makes a table of about mib MiB.
func (n *node) fill(mib int) {
	n.Helper()
	n.run("CREATE TABLE big (id serial PRIMARY KEY, v text)",
		fmt.Sprintf("INSERT INTO big (v) SELECT repeat(md5(i::text), 32) FROM generate_series(1, %d) i", mib*1024))
}

// TestXE07: "MVCC target: increments flow during a long copy, yet the snapshot holds exactly its position".
func TestXE07(t *testing.T) {
	n := newNode(t)
	n.fill(3)
	n.run("CREATE TABLE c (v int); INSERT INTO c VALUES (0)")
	sum := "SELECT md5(string_agg(id || v, ',' ORDER BY id)) FROM big"
	want, at := n.value(sum), n.at()
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	require.True(t, s.Online())
	snapshot, increments := drivertest.WrittenDuring(t, s, func() {
		n.run("UPDATE c SET v = v + 1; UPDATE big SET v = 'new' WHERE id % 16 = (SELECT v % 16 FROM c); DELETE FROM big " +
			"WHERE id % 50 = 7; INSERT INTO big (v) VALUES ('more')")
	})
	require.Equal(t, fmt.Sprint(increments), n.value("SELECT v FROM c"), "increments flowed")

	copied := restoredNode(t, snapshot, at)
	require.Equal(t, at, copied.at())
	require.Equal(t, "0", copied.value("SELECT v FROM c"))
	require.Equal(t, want, copied.value(sum))
	require.Equal(t, "3072", copied.value("SELECT last_value FROM big_id_seq"),
		"sequences too hold the position, though they know no snapshots")
}

// TestSS11: "the data is one moment: writes during a dump do not appear", with a writer beside the dump that
// is no node.
func TestSS11(t *testing.T) {
	n, copied := newNode(t), newNode(t)
	n.fill(2)
	n.run("CREATE TABLE c (v int)")
	n.shared().SnapshotIsOneMoment(func() {
		require.NoError(t, server.Exec(n.db, "INSERT INTO c VALUES (1)"))
	}, copied.shared())
}

// TestXD13: "MVCC target: pause is short and does not grow with data size": opening a snapshot asks the same few
// questions of a small and of a large database, and reads none of its rows.
func TestXD13(t *testing.T) {
	p := newProxy(t, server.Addr())
	opening := func(mib int) (trips int, rows string) {
		n := nodeOn(t, server, p.Addr())
		n.fill(mib)
		read := "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'big'"
		before := n.value(read)
		trips = p.counted(func() {
			s, err := n.Snapshot(t.Context())
			require.NoError(t, err)
			require.NoError(t, s.Close())
		})
		closeConn(n.spare.take()) // a session says what it has read when it ends
		sessions := "SELECT count(*) FROM pg_stat_activity WHERE datname = '" + n.db + "' AND application_name = 'xmq'"
		// it has said what it read
		require.Eventually(t, func() bool { return server.Query(t, "postgres", sessions)[0] == "1" }, patience, tick)
		require.Equal(t, before, n.value(read), "no row was read")
		return trips, n.value("SELECT count(*) FROM big")
	}
	small, few := opening(1)
	large, many := opening(24)
	require.Equal(t, "1024|24576", few+"|"+many)
	require.Equal(t, small, large, "round trips before increments flow again")
}

// A snapshot that comes on a connection kept ready costs neither a login nor a program; one that has died meanwhile
// is replaced.
func TestASnapshotIsOpenedOnAConnectionKeptReady(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	opened := func() uint32 {
		s, err := n.Snapshot(t.Context())
		require.NoError(t, err)
		pid := s.(*snapshot).pg.PID()
		require.NoError(t, s.WriteTo(t.Context(), io.Discard))
		require.NoError(t, s.Close())
		return pid
	}
	first := opened()
	require.Equal(t, first, opened())
	server.Query(t, "postgres", fmt.Sprintf("SELECT pg_terminate_backend(%d, 5000)", first))
	require.NotEqual(t, first, opened())
	require.NoError(t, n.Close())
	mine := "SELECT count(*) FROM pg_stat_activity WHERE datname = '" + n.db + "'"
	require.Eventually(t, func() bool { return server.Query(t, "postgres", mine)[0] == "0" }, patience, tick)
}

// TRUNCATE and ALTER TABLE know no snapshots: between the opening of a snapshot and pg_dump's first look they have
// to wait, or the copy would lack rows that its position promises.
func TestTruncateWaitsForTheDump(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int); INSERT INTO c VALUES (1)")
	at := n.at()
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	batch := n.log.Scripts("TRUNCATE c")
	applied := make(chan error, 1)
	go func() {
		_, err := n.Apply(context.Background(), at, batch)
		applied <- err
	}()
	waits := "SELECT count(*) FROM pg_stat_activity WHERE datname = '" + n.db + "' AND wait_event_type = 'Lock'"
	require.Eventually(t, func() bool { return server.Query(t, "postgres", waits)[0] == "1" }, patience, tick)
	require.NoError(t, s.Close())
	require.NoError(t, <-applied)
	require.Equal(t, "0", n.value("SELECT count(*) FROM c"))
}

// schema is a database of the kind people have.
var schema = []string{
	`CREATE TYPE mood AS ENUM ('sad', 'so-so', 'glücklich')`,
	`CREATE DOMAIN positive AS numeric(30, 10) CHECK (VALUE > 0)`,
	`CREATE TABLE "Customer" (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text NOT NULL, feels mood,
		born timestamptz, extra jsonb, raw bytea, empty text, price positive, twice numeric GENERATED ALWAYS AS (price * 2)
		STORED, tags text[], UNIQUE (name))`,
	`CREATE TABLE bill (no serial PRIMARY KEY, customer bigint NOT NULL REFERENCES "Customer" ON DELETE CASCADE, at ` +
		`timestamptz NOT NULL, paid boolean DEFAULT false, span int4range)`,
	`CREATE TABLE journal (n bigserial, what text)`,
	`CREATE TABLE part (d date NOT NULL, v int) PARTITION BY RANGE (d); CREATE TABLE part_2024 PARTITION OF part FOR ` +
		`VALUES FROM ('2024-01-01') TO ('2025-01-01')`,
	`CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
		INSERT INTO journal (what) VALUES (TG_OP || ';' || coalesce(NEW.no::text, '-')); RETURN NEW; END $f$;
		CREATE TRIGGER noted AFTER INSERT OR UPDATE ON bill FOR EACH ROW EXECUTE FUNCTION note()`,
	`CREATE FUNCTION total(c bigint) RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT count(*) FROM bill WHERE ` +
		`customer = c; END`,
	`CREATE VIEW unpaid AS SELECT c.name, b.no, total(c.id) FROM "Customer" c JOIN bill b ON b.customer = c.id WHERE ` +
		`NOT b.paid`,
	`CREATE MATERIALIZED VIEW counted AS SELECT customer, count(*) FROM bill GROUP BY customer`,
	`CREATE INDEX bill_at ON bill (at DESC) WHERE NOT paid`,
	`BEGIN; INSERT INTO "Customer" (name, feels, born, extra, empty, price, tags) VALUES ('O''Brien; -- no', 'glücklich',
		'1970-01-01 12:00:00.123456+05:30', '{"a": [1, null, "x"]}', '', 12345678901234567890.0123456789, '{a,"b c",NULL}');
		INSERT INTO bill (customer, at, span) VALUES (1, '2024-02-29 23:59:59Z', '[1,5)'),
		(1, '2024-03-01 00:00:00+01', NULL); COMMIT`,
	`{"sql": "INSERT INTO \"Customer\" (name, feels, extra, raw, empty, price, born, tags) ` +
		`VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
	  "args": ["𝔘𝔫𝔦𝔠𝔬𝔡𝔢 😀 \u00e9", "so-so", {"deep": {"er": [true, 1.50]}}, "\\x` + drivertest.EveryByte() + `",
	  null, 0.0000000001, "2024-06-01T12:00:00+02:00", "{}"]}`,
	`{"sql": "UPDATE bill SET paid = $1 WHERE no = $2", "args": [true, 2]}`,
	`INSERT INTO part VALUES ('2024-05-05', 1); INSERT INTO journal (what) VALUES (''), (NULL)`,
	`REFRESH MATERIALIZED VIEW counted`,
	`SELECT lo_from_bytea(4711, '\x00ff')`,
	`ALTER SEQUENCE bill_no_seq RESTART WITH 100`,
}

// after makes items after any position.
func after(pos event.Position, scripts ...string) []event.Item {
	return drivertest.LogAt(pos).Scripts(scripts...)
}

// contents is everything a reader can see, and what the schema does next.
func (n *node) contents() (all []string) {
	n.Helper()
	for _, sql := range []string{
		`SET timezone = 'UTC'; SELECT c.*, length(raw) FROM "Customer" c ORDER BY id`,
		`SET timezone = 'UTC'; SELECT * FROM bill ORDER BY no`, `SELECT * FROM journal ORDER BY n`, `SELECT * FROM part_2024`,
		`SELECT * FROM unpaid ORDER BY no`, `SELECT * FROM counted`, `SELECT encode(lo_get(4711), 'hex')`,
		`SELECT last_value, is_called FROM bill_no_seq`, `SELECT last_value, is_called FROM "Customer_id_seq"`,
		`SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname`,
		`SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY ` +
			`conname`,
		`SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal`,
		`SELECT tableowner, tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename`,
	} {
		all = append(all, n.query(sql)...)
	}
	return all
}

// A real schema survives being applied and being dumped, and behaves the same afterwards.
func TestARealSchemaSurvivesApplyAndDump(t *testing.T) {
	n := newNode(t)
	n.run(schema...)
	require.Equal(t, "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 😀 é|so-so|0.0000000002|1.50|NULL",
		n.value(`SELECT name, feels, twice, extra #>> '{deep,er,1}', empty FROM "Customer" WHERE raw IS NOT NULL`))
	require.Equal(t, drivertest.EveryByte(),
		n.value(`SELECT encode(raw, 'hex') FROM "Customer" WHERE raw IS NOT NULL`))
	snapshot, at := n.taken()
	copied := restoredNode(t, snapshot, at)
	require.Equal(t, n.contents(), copied.contents())
	for _, m := range []*node{n, copied} {
		next := []string{`INSERT INTO bill (customer, at) VALUES (2, '2024-01-01')`, `DELETE FROM "Customer" WHERE id = 1`,
			`INSERT INTO "Customer" (name, price) VALUES ('third', 1)`}
		before := m.at()
		_, err := m.Apply(t.Context(), before, after(before, next...)) // both go on with the same increments
		require.NoError(t, err)
	}
	require.Equal(t, n.contents(), copied.contents())
	require.Equal(t, "1", copied.value("SELECT count(*) FROM journal WHERE what = 'INSERT;100'"),
		"the sequence goes on where it was set to")
}

// TestXE13: "failure at each step leaves the old state": the switch is one transaction, so that a server killed, a
// connection cut or an answer lost in it leaves the old data or the new, whole, and the next Open tidies up.
func TestXE13TheSwitchIsOneStep(t *testing.T) {
	source := newNode(t)
	source.run("CREATE TABLE c (v text); INSERT INTO c VALUES ('new')")
	snapshot, at := source.taken()
	p := newProxy(t, server.Addr())
	for name, c := range map[string]struct {
		hinder   func()
		switched bool
	}{
		"cut before the switch": {func() { p.Do(func() { p.cutOn = "ALTER DATABASE" }) }, false},
		// the script is at the server, whole
		"answer lost in the middle": {func() { p.Do(func() { p.loseOf = "ALTER DATABASE" }) }, true},
		"answer lost at the commit": {func() { p.Do(func() { p.loseOf = "COMMIT" }) }, true},
		"away for good":             {func() { p.Refuse(true) }, false},
	} {
		n := nodeOn(t, server, p.Addr())
		n.run("CREATE TABLE c (v text); INSERT INTO c VALUES ('old')")
		old := n.at()
		r, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
		require.NoError(t, err, name)
		c.hinder()
		err = r.Switch(t.Context())
		p.Refuse(false)
		p.Do(func() { p.cutOn, p.loseOf = "", "" })
		require.Equal(t, c.switched, err == nil, "%s: %v", name, err)
		require.NoError(t, n.Close())
		require.NoError(t, n.reopen())
		want, value := old, "old"
		if c.switched {
			want, value = at, "new"
		}
		require.Equal(t, want, n.at(), name)
		require.Equal(t, value, n.value("SELECT v FROM c"), name)
		require.Empty(t, leftovers(t), name)
	}
}

// A server killed after the restore, and between the two renames, has the old data.
func TestAServerKilledInTheSwitchHasTheOldData(t *testing.T) {
	own := postgrestest.New(t)
	n := nodeOn(t, own, own.Addr())
	n.run("CREATE TABLE c (v text); INSERT INTO c VALUES ('old')")
	snapshot, at := n.taken()
	n.run("INSERT INTO c VALUES ('more')")
	then := n.at()
	_, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(t, err)
	require.NoError(t, n.Database.Close())
	c, err := pgconn.Connect(t.Context(), own.URL("postgres"))
	require.NoError(t, err)
	defer closeConn(c)
	require.NoError(t, execute(t.Context(), c, "BEGIN; ALTER DATABASE "+n.db+" RENAME TO "+oldName(n.db)))
	require.NoError(t, own.Kill())
	require.NoError(t, own.Run())
	require.NoError(t, n.reopen())
	require.Equal(t, then, n.at())
	require.Equal(t, []string{"old", "more"}, n.query("SELECT v FROM c"))
	require.Equal(t, []string{n.db}, own.Query(t, "postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'd%'"))
}

// Sessions of others do not hold the switch up: they are ended, and find the new data when they come back.
func TestTheSwitchEndsSessionsOfOthers(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	snapshot, at := n.taken()
	other, err := pgconn.Connect(t.Context(), server.URL(n.db))
	require.NoError(t, err)
	defer closeConn(other)
	require.NoError(t, execute(t.Context(), other, "BEGIN; SELECT * FROM c"))
	n.load(snapshot, at)
	require.Error(t, execute(t.Context(), other, "SELECT 1"))
	require.Equal(t, at, n.at())
	require.Empty(t, leftovers(t))
}

// A role that may not create databases is told so, and nothing changes.
func TestARestoreNeedsTheRightToCreateDatabases(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	snapshot, at := n.taken()
	require.NoError(t, server.Exec("postgres", "ALTER ROLE xmq NOCREATEDB"))
	_, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(t, server.Exec("postgres", "ALTER ROLE xmq CREATEDB"))
	require.ErrorContains(t, err, `ALTER ROLE "xmq" CREATEDB`)
	require.Equal(t, at, n.at())
	n.load(snapshot, at)
}

// A snapshot whose header and data disagree is refused, and its database dropped.
func TestTheDataMustStandWhereTheHeaderSays(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	lie := s.(*snapshot)
	lie.head.Pos.Seq++
	var b bytes.Buffer
	require.NoError(t, s.WriteTo(t.Context(), &b))
	_, err = n.Restore(t.Context(), lie.head.Pos, event.AllTopics, &b)
	require.ErrorIs(t, err, event.ErrDamaged)
	require.Empty(t, leftovers(t))
}

// The password is in no argument list, and the programs' own words come back in the error.
func TestProgramsGetThePasswordByTheirEnvironment(t *testing.T) {
	n := newNode(t)
	cmd, _ := n.program(t.Context(), "pg_dump", n.db, "--version")
	require.NotContains(t, strings.Join(cmd.Args, " "), "word of")
	require.Contains(t, cmd.Env, "PGPASSWORD="+postgrestest.Password)

	n.cfg.Password = "wrong"
	s := &snapshot{db: n.Database, name: "none"}
	var err error
	s.dump, err = findProgram(t.Context(), "pg_dump", "15")
	require.NoError(t, err)
	err = s.write(t.Context(), io.Discard)
	require.ErrorContains(t, err, "password authentication failed")

	_, err = findProgram(t.Context(), "pg_dump", "7")
	require.ErrorContains(t, err, "there is no pg_dump 7")
}

// program.go looks in PATH first, and takes no other major version.
func TestAProgramOfAnotherVersionIsPassedOver(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pg_dump"), []byte("#!/bin/sh\necho 'pg_dump (PostgreSQL) 14.2'\n"),
		0o755))
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	path, err := findProgram(t.Context(), "pg_dump", "14")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "pg_dump"), path)
	path, err = findProgram(t.Context(), "pg_dump", "15")
	require.NoError(t, err)
	require.NotEqual(t, filepath.Join(dir, "pg_dump"), path)
}

// A stream as it was written on the first day of format 1.
func TestTheFormatOfASnapshotStays(t *testing.T) {
	var b bytes.Buffer
	first := stream
	first.Version = 1
	w, err := first.NewWriter(&b, snapstream.Head{Pos: event.Position{Log: 1, Seq: 2, Chain: 3}, Preface: []byte("S;")})
	require.NoError(t, err)
	_, err = w.Write([]byte("data"))
	require.NoError(t, err)
	require.NoError(t, w.End())
	require.Equal(t, golden, fmt.Sprintf("%x", b.Bytes()))
	_, h, err := stream.NewReader(&b)
	require.NoError(t, err)
	require.Equal(t, uint32(1), h.Version)
}

// golden is header, script, its checksum, one frame with "data" and the end.
const golden = "584d515047444d50" + "01000000" + "0100000000000000" + "0200000000000000" + "0300000000000000" +
	"02000000" + "533b" + "876ca7d1" +
	"04000000" + "64617461" + "2601c2ec" + "00000000" + "8ab2288c"

var _ nodeclient.Snapshot = (*snapshot)(nil)
