package postgres

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/servertest/postgrestest"
	"xmq/nodeclient/driver/sqltext"
)

// dumped is what pg_dump writes of a node's database, without XMQ's own table and without what differs each time.
func (n *node) dumped(options ...string) string {
	n.Helper()
	pgDump, err := findProgram(n.Context(), "pg_dump", major(n.pg))
	require.NoError(n, err)
	args := append([]string{"--exclude-table=public.xmq_position", "--host=127.0.0.1", "--port=" + server.Port(),
		"--username=xmq"}, options...)
	cmd := exec.CommandContext(n.Context(), pgDump, append(args, n.cfg.Database)...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+postgrestest.Password)
	out, err := cmd.Output()
	require.NoError(n, err)
	var kept []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, `\`+"restrict") && !strings.HasPrefix(line, `\`+"unrestrict") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// published are the increments of a script, all of which the driver takes.
func published(t *testing.T, script string) (all []string) {
	t.Helper()
	splitter := sqltext.Splitter{Dialect: sqltext.PostgreSQL, Limit: 1 << 20, LeaveOutDatabases: true}
	for s, err := range splitter.Scripts(strings.NewReader(script)) {
		require.NoError(t, err)
		require.NoError(t, Check([]byte(s.Text)), s.Text)
		all = append(all, s.Text)
	}
	return all
}

// What pg_dump writes goes in as it is, with COPY and with INSERT, and gives the same database, whoever owns that of
// the dump.
func TestADumpOfPgDumpMakesTheSameDatabase(t *testing.T) {
	n := newNode(t)
	n.run(schema...)
	n.run(`CREATE TABLE tabs ("a\b" text, c text, d bytea); INSERT INTO tabs VALUES (E'\t\n\r\\N\\', '', '\x0009ff5c'),
		(NULL, '\N', NULL), ('.', '\.', '')`,
		"CREATE TABLE given (id int GENERATED ALWAYS AS IDENTITY, v int GENERATED ALWAYS AS (id * 2) STORED); INSERT "+
			"INTO given DEFAULT VALUES",
		"CREATE TABLE z_last (n int); CREATE FUNCTION a_first() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM "+
			"public.z_last'",
		"CREATE FUNCTION lines() RETURNS text LANGUAGE sql AS $$ SELECT '\n;' $$; CREATE RULE r AS ON DELETE TO tabs "+
			"DO ALSO (SELECT 1; SELECT 2)")
	for _, options := range [][]string{nil, {"--inserts"}, {"--column-inserts", "--rows-per-insert=3"}} {
		dump := n.dumped(options...)
		m := newNode(t)
		increments := published(t, strings.ReplaceAll(dump, "OWNER TO xmq;", "OWNER TO \"who is not here\";"))
		m.run(increments...)
		require.Equal(t, dump, m.dumped(options...))
		require.Equal(t, n.contents(), m.contents())
	}
}

// The search path of a dump holds for the increments after it, one at a time, and for nothing else.
func TestSettingsOfADumpHoldForTheirIncrementAlone(t *testing.T) {
	n := newNode(t)
	n.run(append(published(t, "CREATE SCHEMA other; SET search_path = other; SET check_function_bodies = false; "+
		"CREATE TABLE c (v int); "+
		"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT v FROM nowhere'; INSERT INTO c VALUES (1);"),
		"CREATE TABLE c (v int)",
		"INSERT INTO c VALUES (2), (3)")...)
	require.Equal(t, []string{"1|2"}, n.query("SELECT (SELECT count(*) FROM other.c), (SELECT count(*) FROM public.c)"))
	require.ErrorContains(t, n.fails(0, "CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT v FROM nowhere'"),
		"nowhere")
	for _, refused := range []string{"SET LOCAL work_mem = 1", "SET LOCAL search_path = (SELECT 1)", "SET LOCAL ROLE x",
		"SET search_path = x"} {
		require.ErrorContains(t, n.fails(0, refused), "changes the connection", refused)
	}
}
