package postgres

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/snapstream"
)

// roles makes roles that may do nothing, for one test.
func roles(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		require.NoError(t, server.Exec("postgres", "CREATE ROLE "+quoteName(name)))
	}
	t.Cleanup(func() {
		for _, name := range names {
			// which rights in a database that is still there may prevent
			_ = server.Exec("postgres", "DROP ROLE "+quoteName(name))
		}
	})
}

// loadSaying is load that returns what was left out.
func (n *node) loadSaying(snapshot []byte, at event.Position) string {
	n.Helper()
	r, err := n.Restore(n.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.NoError(n, err)
	require.NoError(n, r.Switch(n.Context()))
	return r.(nodeclient.LeftOut).LeftOut()
}

// acls is every right of a database to what increments make.
var acls = []string{
	"SELECT relname, relacl FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'app'::regnamespace) " +
		"AND relacl IS NOT NULL ORDER BY 1",
	"SELECT attname, attacl FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid >= 16384 ORDER BY 1",
	"SELECT proname, proacl FROM pg_proc WHERE proacl IS NOT NULL AND oid >= 16384 ORDER BY 1",
	"SELECT typname, typacl FROM pg_type WHERE typacl IS NOT NULL ORDER BY 1",
	"SELECT nspname, nspacl FROM pg_namespace WHERE nspname IN ('public', 'app') ORDER BY 1",
	"SELECT lomacl FROM pg_largeobject_metadata ORDER BY oid",
	"SELECT defaclobjtype, defaclnamespace::regnamespace, defaclacl FROM pg_default_acl ORDER BY 1, 2",
}

// Who may read what is data, since increments said so: a copy has the same rights, of roles that are there.
func TestACopyHasTheRightsThatIncrementsGave(t *testing.T) {
	roles(t, "app_ro", `We"ird; Rôle`)
	n := newNode(t)
	n.run("CREATE SCHEMA app", "CREATE TABLE acct (id int PRIMARY KEY, n int)", `CREATE TABLE app."O'dd ""t" (a serial)`,
		"CREATE FUNCTION f(a int, b text DEFAULT ')') RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE "+
			"PROCEDURE p() LANGUAGE sql AS 'SELECT 1'",
		"CREATE TYPE mood AS ENUM ('x')", "CREATE DOMAIN positive AS int CHECK (VALUE > 0)", "SELECT "+
			"lo_from_bytea(4711, '\\x00')", "CREATE VIEW v AS SELECT 1 AS one",
		"GRANT SELECT ON acct TO app_ro WITH GRANT OPTION", `GRANT UPDATE (n), INSERT (n, id) ON acct TO "We""ird; Rôle"`,
		`GRANT ALL ON app."O'dd ""t" TO app_ro`,
		`GRANT USAGE ON SEQUENCE app."O'dd ""t_a_seq" TO app_ro`, "REVOKE ALL ON FUNCTION f FROM PUBLIC",
		"GRANT EXECUTE ON FUNCTION f TO app_ro", "GRANT EXECUTE ON PROCEDURE p TO app_ro",
		"GRANT USAGE ON TYPE mood TO app_ro", "REVOKE USAGE ON DOMAIN positive FROM PUBLIC", "GRANT SELECT ON "+
			"LARGE OBJECT 4711 TO app_ro", "GRANT SELECT ON v TO PUBLIC",
		"GRANT USAGE ON SCHEMA app TO app_ro", "REVOKE USAGE ON SCHEMA public FROM PUBLIC", "REVOKE DELETE ON "+
			"acct FROM xmq",
		"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app_ro", "ALTER DEFAULT PRIVILEGES IN SCHEMA app "+
			"GRANT ALL ON SEQUENCES TO app_ro",
		"ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
	snapshot, at := n.taken()
	copied := newNode(t)
	require.Empty(t, copied.loadSaying(snapshot, at))
	for _, sql := range acls {
		want := n.query(sql)
		require.NotEmpty(t, want, sql)
		require.Equal(t, want, copied.query(sql), sql)
	}
	next := at
	for _, m := range []*node{n, copied} {
		_, err := m.Apply(t.Context(), next, after(next, "CREATE TABLE app.later (a serial)"))
		require.NoError(t, err)
	}
	require.Equal(t, n.query(acls[0]), copied.query(acls[0]), "what is made later gets the same")
}

// A right of a role that is not there is left out and named; all others come along.
func TestRightsOfRolesThatAreNotThereAreNamed(t *testing.T) {
	roles(t, "stays", "goes")
	n := newNode(t)
	n.run("CREATE TABLE t (a int)", "GRANT SELECT ON t TO stays", "GRANT SELECT ON t TO goes", "ALTER DEFAULT "+
		"PRIVILEGES GRANT SELECT ON TABLES TO goes")
	snapshot, at := n.taken()
	require.NoError(t, server.Exec(n.db, "DROP OWNED BY goes; DROP ROLE goes"))
	copied := newNode(t)
	require.Contains(t, copied.loadSaying(snapshot, at), "the rights of the roles goes, which are not on this server")
	require.Equal(t, "{xmq=arwdDxt/xmq,stays=r/xmq}", copied.value("SELECT relacl FROM pg_class WHERE relname = 't'"))
}

// A grant in a snapshot gives a right to what its entry names and does nothing else.
func TestARightOfASnapshotIsThatAlone(t *testing.T) {
	for _, e := range []entry{
		{kind: "ACL", name: "TABLE t", namespace: "public", sql: "GRANT SELECT ON TABLE public.t TO app;\n"},
		{kind: "ACL", name: "TABLE t", namespace: "public", sql: "GRANT SELECT(a),UPDATE(\"b\") ON TABLE " +
			"public.t TO app WITH GRANT OPTION;\nREVOKE ALL ON TABLE public.t FROM PUBLIC;\n"},
		{kind: "ACL", name: "TABLE t", namespace: "public", sql: "SET SESSION AUTHORIZATION b;\nGRANT SELECT " +
			"ON TABLE public.t TO app;\nRESET SESSION AUTHORIZATION;\n"},
		{kind: "ACL", name: "SCHEMA app", sql: "GRANT USAGE ON SCHEMA app TO app;\n"},
		{kind: "ACL", name: "LARGE OBJECT 1", sql: "GRANT SELECT ON LARGE OBJECT 1 TO app;\n"},
		{kind: "ACL", name: "FUNCTION f(a integer)", namespace: "public", sql: "REVOKE GRANT OPTION FOR ALL ON " +
			"FUNCTION public.f(a integer) FROM app;\n"},
		{kind: "DEFAULT ACL", name: "DEFAULT PRIVILEGES FOR TABLES", namespace: "app", sql: "ALTER DEFAULT " +
			"PRIVILEGES FOR ROLE xmq IN SCHEMA app GRANT SELECT ON TABLES TO app;\n"},
	} {
		all, err := e.rights()
		require.NoError(t, err, e.sql)
		require.NotEmpty(t, all)
	}
	for _, sql := range []string{
		"GRANT postgres TO xmq;\n",
		"GRANT SELECT TO xmq;\n",
		"GRANT ALL ON DATABASE live TO app;\n",
		"GRANT CREATE ON TABLESPACE pg_default TO app;\n",
		"GRANT SET ON PARAMETER log_statement TO app;\n",
		"GRANT SELECT ON ALL TABLES IN SCHEMA public TO app;\n",
		"GRANT SELECT ON TABLE public.other TO app;\n",
		"GRANT SELECT ON TABLE secret.t TO app;\n",
		"GRANT SELECT ON TABLE live.public.t TO app;\n",
		"GRANT SELECT ON TABLE public.t, public.u TO app;\n",
		"GRANT SELECT ON TABLE public.t TO app, b;\n",
		"GRANT SELECT ON TABLE public.t TO app GRANTED BY postgres;\n",
		"GRANT SELECT ON TABLE public.t TO app; DROP DATABASE live;\n",
		"DROP TABLE public.t;\n",
		"SET SESSION AUTHORIZATION postgres, x;\n",
		"ALTER DEFAULT PRIVILEGES FOR ROLE xmq GRANT SELECT ON TABLES TO app;\n",
		"ALTER ROLE app SUPERUSER;\n",
	} {
		_, err := entry{kind: "ACL", name: "TABLE t", namespace: "public", sql: sql}.rights()
		require.Error(t, err, sql)
	}
	for _, sql := range []string{
		"ALTER DEFAULT PRIVILEGES FOR ROLE xmq IN SCHEMA other GRANT SELECT ON TABLES TO app;\n",
		"ALTER DEFAULT PRIVILEGES FOR ROLE xmq, b GRANT SELECT ON TABLES TO app;\n",
		"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app;\n",
		"ALTER DEFAULT PRIVILEGES FOR ROLE xmq GRANT postgres TO app;\n",
		"GRANT SELECT ON TABLE public.t TO app;\n",
	} {
		_, err := entry{kind: "DEFAULT ACL", name: "DEFAULT PRIVILEGES FOR TABLES", namespace: "app", sql: sql}.rights()
		require.Error(t, err, sql)
	}
}

// The owner is another role on each server: what is said of it is said of the one here.
func TestTheOwnerOfACopyIsTheRoleOfItsNode(t *testing.T) {
	e := entry{kind: "ACL", name: "TABLE t", namespace: "public", owner: "theirs", sql: "REVOKE ALL ON TABLE " +
		"public.t FROM theirs;\nGRANT SELECT ON TABLE public.t TO app;\n"}
	all, err := e.rights()
	require.NoError(t, err)
	require.Equal(t, `REVOKE ALL ON TABLE public.t FROM "mine"`,
		strings.TrimSuffix(strings.TrimSpace(all[0].statement("mine")), ";"))
	require.Equal(t, `GRANT SELECT ON TABLE public.t TO "app"`,
		strings.TrimSuffix(strings.TrimSpace(all[1].statement("mine")), ";"))
}

// What only the administrator of the newcomer's database has set is there after a DUMP.
func TestTheSettingsOfADatabaseOutliveADump(t *testing.T) {
	roles(t, "reader")
	n, source := newNode(t), newNode(t)
	source.run("CREATE SCHEMA app", "CREATE TABLE app.item (id int)")
	snapshot, at := source.taken()
	require.NoError(t, server.Exec("postgres", fmt.Sprintf(`ALTER DATABASE %[1]s SET search_path = app, "we ird", "$user";
		ALTER DATABASE %[1]s SET work_mem = '7MB'; ALTER DATABASE %[1]s SET default_transaction_read_only = off;
		ALTER DATABASE %[1]s CONNECTION LIMIT 17; COMMENT ON DATABASE %[1]s IS 'ours; --';
		REVOKE ALL ON DATABASE %[1]s FROM PUBLIC; GRANT CONNECT ON DATABASE %[1]s TO reader WITH GRANT OPTION`, n.db)))
	what := "SELECT setconfig FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE setrole " +
		"= 0 AND datname = '" + n.db + "'; "
	rest := "SELECT datconnlimit, shobj_description(oid, 'pg_database'), datacl FROM pg_database WHERE datname " +
		"= '" + n.db + "'"
	settings, attributes := server.Query(t, "postgres", what), server.Query(t, "postgres", rest)
	require.Len(t, settings, 1)
	for range 2 { // and once more over its own copy
		require.Empty(t, n.loadSaying(snapshot, at))
		require.Equal(t, settings, server.Query(t, "postgres", what))
		require.Equal(t, attributes, server.Query(t, "postgres", rest))
	}
	_, err := n.Apply(t.Context(), at, after(at, "INSERT INTO item VALUES (2)"))
	require.ErrorContains(t, err, "42P01", "its increments mean what they mean at the source")

	require.NoError(t, server.Exec("postgres", "ALTER DATABASE "+n.db+" SET log_min_duration_statement = 5; "+
		"ALTER ROLE reader IN DATABASE "+n.db+" SET app.tenant = 'it''s'"))
	require.Contains(t, n.loadSaying(snapshot, at), "SET app.tenant, SET log_min_duration_statement, which "+
		"only an administrator may give")
	require.Equal(t, settings, server.Query(t, "postgres", what), "the others are there")
}

// Functions in checks, generated columns and indexes name things as increments found them.
func TestWhatNamesThingsWithoutASchemaIsLoaded(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE item (id int PRIMARY KEY)", "INSERT INTO item VALUES (1), (2)",
		"CREATE FUNCTION known(i int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN EXISTS (SELECT FROM "+
			"item WHERE id = i); END $$",
		"CREATE FUNCTION doubled(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 2 * i + "+
			"(SELECT 0 FROM item LIMIT 1); END $$",
		"CREATE TABLE z_use (i int CHECK (known(i)), d int GENERATED ALWAYS AS (doubled(i)) STORED)",
		"CREATE INDEX ON z_use (doubled(i))", "INSERT INTO z_use VALUES (1), (2)")
	snapshot, at := n.taken()
	require.Equal(t, []string{"1|2", "2|4"}, restoredNode(t, snapshot, at).query("SELECT i, d FROM z_use ORDER BY 1"))
}

// A materialized view whose rows are older than its query's comes along as it is, or not at all.
func TestAMaterializedViewIsCopiedAsItIsOrNotAtAll(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE item (id int, j json)", "INSERT INTO item VALUES (1, '{}')", "CREATE MATERIALIZED VIEW "+
		"mv AS SELECT *, count(*) OVER () FROM item",
		"CREATE MATERIALIZED VIEW \"of it\" AS SELECT count FROM mv", "CREATE MATERIALIZED VIEW bare AS SELECT "+
			"1 AS one WITH NO DATA")
	snapshot, at := n.taken()
	copied := restoredNode(t, snapshot, at)
	require.Equal(t, n.query("SELECT * FROM mv"), copied.query("SELECT * FROM mv"))
	require.Equal(t, "f", copied.value("SELECT relispopulated FROM pg_class WHERE relname = 'bare'"))

	n.run("INSERT INTO item VALUES (2, NULL)")
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	err = s.WriteTo(t.Context(), &bytes.Buffer{})
	require.NoError(t, s.Close())
	require.ErrorContains(t, err, "the materialized view public.mv holds other rows than its query gives now")
	require.ErrorContains(t, err, "materialized_views=refresh")

	n.opts.RefreshViews = true
	snapshot, at = n.taken()
	require.Len(t, restoredNode(t, snapshot, at).query("SELECT * FROM mv"), 2)
	n.opts.RefreshViews = false
	fresh := []string{"REFRESH MATERIALIZED VIEW mv", `REFRESH MATERIALIZED VIEW "of it"`}
	n.run(fresh...)
	n.taken()

	// A row is compared, not a column that has the name of one.
	n.run("CREATE MATERIALIZED VIEW named AS SELECT 1 AS r, count(*) FROM item", "INSERT INTO item VALUES (3, NULL)")
	n.run(fresh...)
	s, err = n.Snapshot(t.Context())
	require.NoError(t, err)
	err = s.WriteTo(t.Context(), &bytes.Buffer{})
	require.NoError(t, s.Close())
	require.ErrorContains(t, err, "the materialized view public.named holds other rows than its query gives now")

	rest, refresh, err := viewsOption("postgres://xmq@db/shop?sslmode=disable&materialized_views=refresh")
	require.NoError(t, err)
	require.True(t, refresh)
	require.Equal(t, "postgres://xmq@db/shop?sslmode=disable", rest)
	_, _, err = viewsOption("postgres://xmq@db/shop?materialized_views=yes")
	require.ErrorContains(t, err, "refresh only")
}

// An extension that only an administrator may make comes from where one has made it, or its lack is told before
// anything is loaded.
func TestAnExtensionOfAnAdministratorIsLookedFor(t *testing.T) {
	const extension = "pg_buffercache" // comes with every server and is not trusted
	n := newNode(t)
	if server.Query(t, "postgres", "SELECT count(*) FROM pg_available_extensions WHERE name = "+
		"'"+extension+"'")[0] == "0" {
		t.Fatal("the extensions that come with PostgreSQL are missing: install postgresql-contrib")
	}
	require.NoError(t, server.Exec(n.db, "CREATE EXTENSION "+extension))
	n.run("CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)")
	snapshot, at := n.taken()

	bare := newNode(t)
	bare.run("CREATE TABLE old (a int)")
	_, err := bare.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	require.ErrorContains(t, err, "the snapshot has the extension "+extension+", which only an administrator may make")
	require.Equal(t, "0", bare.value("SELECT count(*) FROM old"))

	own := newNode(t)
	require.NoError(t, server.Exec(own.db, "CREATE EXTENSION "+extension))
	require.Empty(t, own.loadSaying(snapshot, at))
	require.Equal(t, "1", own.value("SELECT count(*) FROM t"))
	require.Equal(t, extension, own.value("SELECT extname FROM pg_extension WHERE extname <> 'plpgsql'"))

	require.NoError(t, server.Exec("template1", "CREATE EXTENSION "+extension))
	defer func() { require.NoError(t, server.Exec("template1", "DROP EXTENSION "+extension)) }()
	// what else stands there would come to stand beside the data
	require.NoError(t, server.Exec("template1", "CREATE TABLE beside (a int)"))
	_, err = bare.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
	gone := server.Exec("template1", "DROP TABLE beside")
	require.NoError(t, gone)
	require.ErrorContains(t, err, "template1 has it, but holds other things too")
	require.Equal(t, "0", bare.value("SELECT count(*) FROM old"))

	require.Empty(t, bare.loadSaying(snapshot, at))
	require.Equal(t, "1", bare.value("SELECT count(*) FROM t"))

	_, err = own.notMine(t.Context(), []string{"no_such_extension"})
	require.ErrorContains(t, err, "the extension no_such_extension, which is not installed on this server")
}

// A snapshot that a node of revision 33d23b1 wrote, in the first format, loads as it is.
func TestASnapshotOfTheFirstFormatIsLoaded(t *testing.T) {
	first, err := os.ReadFile("testdata/first.snapshot")
	require.NoError(t, err)
	_, h, err := stream.NewReader(bytes.NewReader(first))
	require.NoError(t, err)
	require.Equal(t, uint32(1), h.Version)
	require.Equal(t, uint64(8), h.Pos.Seq)
	n := newNode(t)
	require.Empty(t, n.loadSaying(first, h.Pos))
	require.Equal(t, h.Pos, n.at())
	require.Equal(t, []string{"1|Zoë|1.50", "2|NULL|2"}, n.query("SELECT * FROM item ORDER BY id"))
	require.Equal(t, []string{"1|Zoë|1.50"}, n.query("SELECT * FROM cheap"))
	require.Equal(t, []string{"3|18"}, n.query(`SELECT nextval('item_id_seq'), nextval('"o''dd"')`))
	require.Equal(t, "2", n.value("SELECT count FROM mv"))
	require.Equal(t, "{xmq=arwdDxt/xmq,=r/xmq}", n.value("SELECT relacl FROM pg_class WHERE relname = 'item'"))
}

// What is said in place of a grant is not done: it is left out and named, and the rest is loaded.
func TestAForgedGrantIsLeftOut(t *testing.T) {
	source, n := newNode(t), newNode(t)
	source.run("CREATE TABLE t (a int)", "GRANT SELECT ON t TO PUBLIC")
	n.run("CREATE TABLE live (a int)")
	genuine, at := source.taken()
	r, h, err := stream.NewReader(bytes.NewReader(genuine))
	require.NoError(t, err)
	archive, err := io.ReadAll(r)
	require.NoError(t, err)
	const grant = "GRANT SELECT ON TABLE public.t TO PUBLIC;\n"
	for _, forged := range []string{"GRANT xmq TO pg_monitor;\n", "DROP TABLE public.t;\n", "ALTER ROLE xmq " +
		"CONNECTION LIMIT 0;\n", "GRANT ALL ON DATABASE postgres TO xmq;\n"} {
		require.Contains(t, string(archive), grant)
		var b bytes.Buffer
		w, err := stream.NewWriter(&b, snapstream.Head{Pos: at, Preface: h.Preface})
		require.NoError(t, err)
		require.NoError(t, w.Fill(strings.NewReader(strings.Replace(string(archive), grant,
			strings.Repeat(" ", len(grant)-len(forged))+forged, 1))))
		require.NoError(t, w.End())
		require.Contains(t, n.loadSaying(b.Bytes(), at), "rights to TABLE t, which are written as no right to "+
			"that alone", forged)
		require.Equal(t, "0", n.value("SELECT count(*) FROM t"), forged)
		require.Equal(t, []string{"0|-1"}, server.Query(t, "postgres", "SELECT (SELECT count(*) FROM "+
			"pg_auth_members WHERE member = 'pg_monitor'::regrole AND roleid = 'xmq'::regrole), "+
			"rolconnlimit FROM pg_roles WHERE rolname = 'xmq'"), forged)
	}
}
