package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/servertest/postgrestest"
	"xmq/nodeclient/driver/sqltext"
)

// bodies are statements with semicolons in them, as hard to cut as the grammar allows.
var bodies = []string{
	"CREATE TABLE a (n int, \"end\" int, begin int, t text)",
	"INSERT INTO a (t) VALUES (E'a'\n'b\\'; c'), ('d' -- it's\n -- ;\n';\\')",
	"INSERT INTO a (t) SELECT E'x\\\\' || 'y;\\' || $$;'$$ || $a$;$$;$a$ || U&'d\\0061;' AS end",
	"CREATE FUNCTION f1() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT n AS end FROM a; SELECT CASE " +
		"WHEN true THEN CASE 1 WHEN 1 THEN 2 END END AS case; END",
	"CREATE OR REPLACE PROCEDURE begin() BEGIN ATOMIC INSERT INTO a (begin) VALUES (1); INSERT INTO " +
		"a (begin) SELECT a.\"end\" FROM a; END",
	"CREATE FUNCTION f2(int) RETURNS int LANGUAGE sql AS 'SELECT $1; SELECT $1'",
	"CREATE FUNCTION f3() RETURNS int LANGUAGE sql RETURN CASE WHEN true THEN 1 END",
	"DO $x$ BEGIN PERFORM $$ ; $$; END $x$ LANGUAGE plpgsql",
	"CREATE RULE r AS ON DELETE TO a DO ALSO (DELETE FROM a WHERE n = 1; DELETE FROM a WHERE n = 2)",
	"CREATE VIEW v AS SELECT a.n[1:2] AS x FROM (SELECT ARRAY[1, 2] AS n) a WHERE ';' <> '\\' /* /* " +
		"; */ ; */ AND 1 <> -1 -- ;\n AND true",
	"CREATE SCHEMA s CREATE TABLE s.b (n int) CREATE VIEW s.w AS SELECT 1 AS end",
	"CREATE FUNCTION \"é$\"(a$b int) RETURNS int LANGUAGE sql AS $é$SELECT a$b; SELECT 1$é$",
}

// A script is cut where the server cuts it: what the statements make one by one is what they make when the server
// gets them all in
// one text.
func TestAScriptIsCutWhereTheServerCutsIt(t *testing.T) {
	script := "CREATE TABLE passed (n serial);\n"
	for _, s := range bodies {
		script += s + ";\nINSERT INTO passed DEFAULT VALUES; -- ;\n"
	}
	whole, cut := database(t.Name()+"/whole"), database(t.Name()+"/cut")
	server.Create(t, whole)
	server.Create(t, cut)
	require.NoError(t, server.Exec(whole, script))

	c, err := pgconn.Connect(t.Context(), postgrestest.URL("postgres", server.Addr(), cut))
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close(t.Context())) }()
	n := 0
	for st, err := range sqltext.Statements(sqltext.PostgreSQL, script) {
		require.NoError(t, err)
		_, err := c.ExecParams(t.Context(), st.Text, nil, nil, nil, nil).Close() // which takes one statement only
		require.NoError(t, err, st.Text)
		n++
	}
	require.Equal(t, 1+2*len(bodies), n)
	for _, sql := range []string{
		"SELECT proname, prosrc, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = " +
			"'public'::regnamespace ORDER BY 1",
		"SELECT definition FROM pg_rules WHERE schemaname = 'public'",
		"SELECT pg_get_viewdef('v'), pg_get_viewdef('s.w')", "SELECT * FROM a", "SELECT * FROM passed",
	} {
		require.Equal(t, server.Query(t, whole, sql), server.Query(t, cut, sql), sql)
	}
}
