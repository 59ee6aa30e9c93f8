package mysql

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/servertest/mysqltest"
	"xmq/nodeclient/driver/sqltext"
)

// dumped is what the server's own dump program writes of a node's database, without XMQ's table.
func (n *node) dumped(options ...string) string {
	n.Helper()
	program, err := exec.LookPath(either("mariadb-dump", "mysqldump"))
	require.NoError(n, err)
	args := append([]string{"--no-defaults", "--skip-dump-date", "--routines", "--triggers", "--no-tablespaces",
		"--protocol=tcp",
		"--ignore-table=" + n.db + ".xmq_position", "--host=127.0.0.1", "--port=" + server.Port(), "--user=xmq"}, options...)
	cmd := exec.CommandContext(n.Context(), program, append(args, n.db)...)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+mysqltest.Password)
	out, err := cmd.Output()
	require.NoError(n, err)
	return strings.ReplaceAll(string(out), n.db, "DB")
}

// published are the increments of a script, all of which the driver takes.
func published(t *testing.T, script string) (all []string) {
	t.Helper()
	splitter := sqltext.Splitter{Dialect: sqltext.MariaDB, MySQL: onMySQL, Limit: 1 << 20, LeaveOutDatabases: true}
	for s, err := range splitter.Scripts(strings.NewReader(script)) {
		require.NoError(t, err)
		require.NoError(t, Check([]byte(s.Text)), s.Text)
		all = append(all, s.Text)
	}
	return all
}

// What the server's own dump program writes goes in as it is and gives the same database, whoever has defined what is
// in that of the dump.
func TestADumpOfTheServersOwnProgramMakesTheSameDatabase(t *testing.T) {
	n := newNode(t)
	n.run(schema...)
	for _, options := range [][]string{{"--hex-blob"}, {"--skip-extended-insert", "--complete-insert"}, {"--skip-opt",
		"--hex-blob"}} {
		dump := n.dumped(options...)
		m := newNode(t)
		// a default may name its sequence with the database
		script := strings.ReplaceAll(dump, "`DB`", "`"+m.db+"`")
		require.Contains(t, script, "DEFINER=`xmq`@`%`")
		m.run(published(t, strings.ReplaceAll(script, "DEFINER=`xmq`@`%`", "DEFINER=`gone`@`localhost`"))...)
		// the program itself writes FLOAT with six digits only
		require.Equal(t, dump, m.dumped(options...))
	}
}

// Settings of a dump hold for their increment alone, also for a change of the schema, which stores some of them.
func TestSettingsOfADumpHoldForTheirIncrementAlone(t *testing.T) {
	n := newNode(t)
	n.run(published(t, "SET @OLD=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0, UNIQUE_CHECKS=0, "+
		"SQL_MODE='TRADITIONAL,NO_AUTO_VALUE_ON_ZERO';\n"+
		"CREATE TABLE child (id int AUTO_INCREMENT PRIMARY KEY, up int, FOREIGN KEY (up) REFERENCES parent (id));\n"+
		"INSERT INTO child VALUES (0, 7);\nCREATE PROCEDURE p() SELECT 1;\nCREATE TABLE parent (id int PRIMARY "+
		"KEY);\nSET FOREIGN_KEY_CHECKS=@OLD;\n")...)
	require.Equal(t, []string{"0|7"}, n.query("SELECT id, up FROM child"))
	require.Contains(t, n.value("SELECT sql_mode FROM information_schema.routines WHERE routine_schema = "+
		"database() AND routine_name = 'p'"), "NO_AUTO_VALUE_ON_ZERO")
	require.ErrorContains(t, n.fails(0, "INSERT INTO child VALUES (1, 8)"), "1452")
	for _, refused := range []string{"SET sql_mode = 'ANSI_QUOTES'; SELECT 1", "SET foreign_key_checks = (SELECT " +
		"0); SELECT 1", "SELECT 1; SET unique_checks = 0",
		"SET foreign_key_checks = 0, autocommit = 0; SELECT 1", "SET GLOBAL time_zone = '+01:00'",
		"SET sql_mode = 4; SELECT 1", "SET sql_mode = 'ANSI_QUOTES '; SELECT 1", // which are ANSI_QUOTES, too
		`SET sql_mode = 'NO_BACK\SLASH_ESCAPES'; SELECT 1`, "SET sql_mode = 0x100000; SELECT 1"} {
		require.ErrorContains(t, n.fails(0, refused), "changes the connection", refused)
	}
}

// Arguments become literals of the text, so no setting may let the server read that text otherwise than it was checked.
func TestNoSettingLetsAnArgumentEndItsLiteral(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v varchar(99))")
	for _, mode := range []string{"1048576", "'NO_BACKSLASH_ESCAPES '", "'NO_BACKSLASH_ESC\\\\APES'"} {
		err := n.fails(0, `{"tx": [{"sql": "SET sql_mode = `+mode+`"}, {"sql": "INSERT INTO c VALUES (?)", `+
			`"args": ["'), (0), ('"]}]}`)
		require.ErrorContains(t, err, "changes the connection", mode)
	}
	require.Equal(t, "0", n.value("SELECT count(*) FROM c"))
	n.run(`{"tx": [{"sql": "SET @a = ?", "args": ["xmq_at"]}, {"sql": "INSERT INTO c VALUES (@a)"}]}`)
	require.Equal(t, "xmq_at", n.value("SELECT v FROM c"))
	require.ErrorContains(t, n.fails(1, "INSERT INTO c VALUES ('x')",
		`{"tx": [{"sql": "SET @? = 0", "args": ["xmq_at"]}, {"sql": "INSERT INTO nowhere VALUES (1)"}]}`), "@",
		"an argument is no name of a variable")
}
