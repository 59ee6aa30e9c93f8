package postgres

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/snapstream"
)

// Whatever a snapshot says in place of a definition or a value, and wherever it is cut: no other statement of it
// reaches the server, and none at all before the whole of it was judged.
func TestNoStatementOfASnapshotReachesTheLiveDatabase(t *testing.T) {
	source, n := newNode(t), newNode(t)
	source.run("CREATE TABLE t (a serial)", "INSERT INTO t VALUES (1)",
		"CREATE VIEW v AS SELECT a, 'a long text that another statement fits into, of more than sixty bytes' AS b FROM t")
	n.run("CREATE TABLE live (a int)", "INSERT INTO live VALUES (42)")
	genuine, at := source.taken()
	r, h, err := stream.NewReader(bytes.NewReader(genuine))
	require.NoError(t, err)
	archive, err := io.ReadAll(r)
	require.NoError(t, err)
	framed := func(f snapstream.Format, preface, archive string) []byte {
		var b bytes.Buffer
		w, err := f.NewWriter(&b, snapstream.Head{Pos: at, Preface: []byte(preface)})
		require.NoError(t, err)
		require.NoError(t, w.Fill(strings.NewReader(archive)))
		require.NoError(t, w.End())
		return b.Bytes()
	}
	first := stream
	first.Version = 1
	good := string(archive)
	swapped := func(old, sql string) string {
		require.Contains(t, good, old)
		require.LessOrEqual(t, len(sql), len(old))
		return strings.Replace(good, old, sql+strings.Repeat(" ", len(old)-len(sql)), 1)
	}
	drop := `DROP DATABASE ` + n.db + ` WITH (FORCE)`
	i := strings.Index(good, "CREATE VIEW public.v AS")
	view := good[i : i+strings.Index(good[i:], ";\n")+2]
	for name, forged := range map[string][]byte{
		"a statement for the sequences": framed(first, drop, good),
		"a statement after a sequence":  framed(first, "SELECT pg_catalog.setval('public.t_a_seq', 1, 't');\n"+drop, good),
		"a call in a sequence": framed(first, "SELECT pg_catalog.setval('public.t_a_seq', pg_backend_pid(), 't');",
			good),
		"no JSON":               framed(stream, drop, good),
		"a statement as a view": framed(stream, string(h.Preface), swapped(view, drop)),
		"a view of another name": framed(stream, string(h.Preface),
			swapped(view, "CREATE VIEW public.w AS SELECT 1;")),
		"a statement after a view": framed(stream, string(h.Preface),
			swapped(view, "CREATE VIEW v AS SELECT 1; "+drop)),
		"another statement for the rows": framed(stream, string(h.Preface),
			swapped("COPY public.t (a) FROM stdin;\n", "COPY public.t (a) TO stdout;")),
		"another value of the sequence": framed(stream, string(h.Preface),
			swapped("SELECT pg_catalog.setval('public.t_a_seq', 1, false);\n", "SELECT pg_reload_conf();")),
		"another setting of the strings": framed(stream, string(h.Preface),
			swapped("standard_conforming_strings = 'on'", "standard_conforming_strings = 'of'")),
		"an archive cut within its table": framed(stream, string(h.Preface), good[:len(good)/4]),
	} {
		for what, snapshot := range map[string][]byte{"whole": forged, "cut": forged[:len(forged)-8]} {
			_, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
			require.Error(t, err, "%s, %s", name, what)
			require.NotContains(t, err.Error(), "SQLSTATE", "%s, %s: the server has heard of it", name, what)
			require.Equal(t, "42", n.value("SELECT a FROM live"), "%s, %s", name, what)
			require.Empty(t, leftovers(t), "%s, %s", name, what)
		}
	}
	// as earlier versions wrote it
	n.load(framed(first, "SELECT pg_catalog.setval('public.t_a_seq', '7', 't');", good), at)
	require.Equal(t, "7|t", n.value("SELECT last_value, is_called FROM t_a_seq"))
}

func TestEachEntryIsTheDefinitionOfWhatItNames(t *testing.T) {
	for _, e := range []entry{
		{kind: "TABLE", name: "t", namespace: "public", sql: "CREATE TABLE public.t (\n    a integer\n);\nALTER TABLE " +
			"ONLY public.t ALTER COLUMN a SET STATISTICS 3;\n"},
		{kind: "TABLE", name: "t", namespace: "public", sql: "CREATE TABLE public.t (\n    a integer GENERATED ALWAYS AS " +
			"(1) STORED\n)\nPARTITION BY RANGE (a);\n"},
		{kind: "FUNCTION", name: "f(integer)", namespace: "public", sql: "CREATE FUNCTION public.f(i integer) RETURNS " +
			"integer\n    LANGUAGE sql\n    BEGIN ATOMIC\n SELECT CASE WHEN (1 = 1) THEN 1 ELSE CASE WHEN true THEN 2 END " +
			"END AS \"case\";\nEND;\n"},
		{kind: "TABLE DATA", name: "t", copy: "COPY public.\"T\"\"x\" (a, \"b c\") FROM stdin;\n", data: true},
		{kind: "TABLE DATA", name: "t", copy: "COPY public.t  FROM stdin;\n", data: true},
		{kind: "COMMENT", name: "TABLE t", sql: "COMMENT ON TABLE public.t IS 'x; DROP';\n"},
		{kind: "ACL", name: "TABLE t", sql: "anything, which nobody runs"},
	} {
		require.NoError(t, e.check(), e.sql+e.copy)
	}
	for _, e := range []entry{
		{kind: "TABLE", name: "t", namespace: "public", sql: "CREATE TABLE public.t AS SELECT pg_reload_conf();\n"},
		{kind: "TABLE", name: "t", namespace: "public", sql: "CREATE TABLE public.t (a) AS SELECT pg_reload_conf();\n"},
		{kind: "TABLE", name: "t", namespace: "public", sql: "CREATE TABLE live.public.t (a int);\n"},
		{kind: "TABLE", name: "t", namespace: "public", sql: "CREATE TABLE other.t (a int);\n"},
		{kind: "TABLE", name: "t", namespace: "public", sql: "ALTER DATABASE live RENAME TO gone;\n"},
		{kind: "TABLE", name: "t", namespace: "public", sql: "DO $$ BEGIN END $$;\n"},
		{kind: "TABLE", name: "t", namespace: "public", sql: "CREATE TABLE public.t (a int);\n",
			copy: "COPY public.t FROM stdin;\n"},
		{kind: "TABLE", name: "t", namespace: "public", sql: "CREATE TABLE public.t (a int); SET role = postgres;\n"},
		{kind: "TABLE DATA", name: "t", copy: "COPY public.t FROM '/etc/passwd';\n", data: true},
		{kind: "TABLE DATA", name: "t", copy: "COPY public.t FROM PROGRAM 'id';\n", data: true},
		{kind: "TABLE DATA", name: "t", data: true},
		{kind: "SCHEMA", name: "s", sql: "CREATE SCHEMA s CREATE TABLE x (a int);\n"},
		{kind: "MATERIALIZED VIEW", name: "m", namespace: "public", sql: "CREATE MATERIALIZED VIEW public.m AS SELECT " +
			"pg_reload_conf();\n"},
		{kind: "FUNCTION", name: "f()", namespace: "public", sql: "CREATE FUNCTION public.f() RETURNS integer LANGUAGE " +
			"sql BEGIN ATOMIC SELECT 1 case; END; ALTER ROLE xmq SUPERUSER; SELECT CASE WHEN true THEN 1 END END;\n"},
		{kind: "FUNCTION", name: "f()", namespace: "public", sql: "CREATE FUNCTION public.f() RETURNS integer LANGUAGE " +
			"sql BEGIN ATOMIC SELECT 1; END; DROP TABLE live"},
		{kind: "SEQUENCE SET", name: "q", sql: "SELECT pg_catalog.setval('q', 1, true); SELECT 1;\n"},
		{kind: "SEARCHPATH", name: "SEARCHPATH", sql: "SELECT pg_catalog.set_config('role', 'postgres', false);\n"},
		{kind: "ENCODING", name: "ENCODING", sql: "SET client_encoding = 'SJIS';\n"},
		{kind: "COMMENT", name: "TABLE t", sql: "COMMENT ON DATABASE live IS 'x';\n"},
		{kind: "BLOB COMMENTS", name: "BLOB COMMENTS", data: true},
		{kind: "BLOB METADATA", name: "1", sql: "1'); SELECT 1; --\n"},
		{kind: "SUBSCRIPTION", name: "s", sql: "CREATE SUBSCRIPTION s CONNECTION 'host=elsewhere' PUBLICATION p;\n"},
	} {
		require.Error(t, e.check(), e.sql+e.copy)
	}
}

// A session that holds a table keeps increments waiting for a second and no longer, and is named.
func TestALockOfAnotherHoldsIncrementsForASecondOnly(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)", "CREATE TABLE other (v int)")
	holder, err := n.connect(t.Context(), n.db)
	require.NoError(t, err)
	defer closeConn(holder)
	require.NoError(t, execute(t.Context(), holder, "BEGIN; LOCK TABLE other IN ACCESS EXCLUSIVE MODE"))
	_, err = n.Snapshot(t.Context())
	require.True(t, nodeclient.IsTransient(err), err)
	pid, err2 := query(t.Context(), holder, "SELECT pg_backend_pid()")
	require.NoError(t, err2)
	require.ErrorContains(t, err, "pid "+pid[0][0]+" holds the table other exclusively")
	n.run("INSERT INTO c VALUES (1)")
	require.NoError(t, execute(t.Context(), holder, "COMMIT"))
	snapshot, at := n.taken()
	require.Equal(t, "1", restoredNode(t, snapshot, at).value("SELECT count(*) FROM c"))
}

// The order of texts is part of the data: the copy has the collation provider and the locale of the source.
func TestACopyHasTheCollationOfItsSource(t *testing.T) {
	n := newNode(t)
	require.NoError(t, n.Database.Close())
	require.NoError(t, server.Exec("postgres", "DROP DATABASE "+n.db))
	require.NoError(t, server.Exec("postgres", "CREATE DATABASE "+n.db+
		" OWNER xmq TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"))
	require.NoError(t, n.reopen())
	n.run("CREATE TABLE word (w text)", "INSERT INTO word VALUES ('apple'), ('Zebra')")
	snapshot, at := n.taken()
	copied := restoredNode(t, snapshot, at)
	require.Equal(t, "apple", copied.value("SELECT min(w) FROM word"))
	what := "SELECT datlocprovider, daticulocale, datcollate, datctype, encoding FROM pg_database WHERE datname = " +
		"current_database()"
	require.Equal(t, n.value(what), copied.value(what))
}
