package sqlite

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/sqltext"
)

// dumpText is what the shell's .dump writes: a child before its parent, and more than one increment takes.
func dumpText() string {
	var b strings.Builder
	b.WriteString("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n" +
		"CREATE TABLE child (id INTEGER PRIMARY KEY AUTOINCREMENT, up INT NOT NULL REFERENCES parent (id), \"it's\" " +
		"TEXT, raw BLOB);\n")
	for i := range 3000 {
		fmt.Fprintf(&b, "INSERT INTO child VALUES(%d,%d,'a;''b\n--%s',X'00ff3b');\n", i, i%10, strings.Repeat("x", 200))
	}
	b.WriteString("CREATE TABLE parent (id INTEGER PRIMARY KEY, n REAL);\n")
	for i := range 10 {
		fmt.Fprintf(&b, "INSERT INTO parent VALUES(%d,%d.5);\n", i, i)
	}
	b.WriteString("DELETE FROM sqlite_sequence;\nINSERT INTO sqlite_sequence VALUES('child',4000);\n" +
		"CREATE TRIGGER t AFTER INSERT ON child BEGIN UPDATE parent SET n = CASE WHEN n > 0 THEN n END; DELETE FROM " +
		"parent WHERE id < 0; END;\n" +
		"CREATE VIEW v AS SELECT count(*) AS n FROM child;\nCREATE INDEX i ON child (up);\nCOMMIT;\n")
	return b.String()
}

// What .dump writes goes in as it is, in increments of bounded size, and gives the database that SQLite makes of it.
func TestADumpOfTheShellMakesTheSameDatabase(t *testing.T) {
	n := newNode(t)
	splitter := sqltext.Splitter{Dialect: sqltext.SQLite, Limit: 1 << 20, Longest: 8 << 20}
	count := 0
	for s, err := range splitter.Scripts(strings.NewReader(dumpText())) {
		require.NoError(t, err)
		require.NoError(t, Check([]byte(s.Text)))
		require.LessOrEqual(t, len(s.Text), 256<<10+100)
		n.run(s.Text)
		count++
	}
	require.Greater(t, count, 2)

	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	_, err = db.ExecContext(t.Context(), dumpText())
	require.NoError(t, err)
	for _, ask := range []string{"SELECT group_concat(name || coalesce(sql, ''), char(10) ORDER BY name) FROM " +
		"sqlite_schema WHERE name NOT LIKE 'xmq%' AND name NOT LIKE '%xmq_position%'",
		"SELECT group_concat(id || up || \"it's\" || hex(raw), char(10) ORDER BY id) FROM child",
		"SELECT group_concat(id || n, char(10) ORDER BY id) FROM parent",
		"SELECT seq FROM sqlite_sequence", "SELECT n FROM v"} {
		require.Equal(t, query[string](t, db, ask), query[string](t, n.db, ask))
	}
	require.ErrorContains(t, n.fails(0, "INSERT INTO child (up) VALUES (77)"), "FOREIGN KEY",
		"foreign keys are checked again")
	require.ErrorContains(t, n.fails(1, "PRAGMA foreign_keys = OFF; INSERT INTO parent VALUES (77, 0)",
		"PRAGMA foreign_keys = OFF; INSERT INTO nowhere VALUES (1)"), "nowhere")
	require.Equal(t, 1, query[int](t, n.db, "PRAGMA foreign_keys"))
}
