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
	b.WriteString(virtualText)
	b.WriteString("DELETE FROM sqlite_sequence;\nINSERT INTO sqlite_sequence VALUES('child',4000);\n" +
		"CREATE TRIGGER t AFTER INSERT ON child BEGIN UPDATE parent SET n = CASE WHEN n > 0 THEN n END; DELETE FROM " +
		"parent WHERE id < 0; END;\n" +
		"CREATE VIEW v AS SELECT count(*) AS n FROM child;\nCREATE INDEX i ON child (up);\nCOMMIT;\n")
	return b.String()
}

// virtualText is what .dump writes for virtual tables that hold rows: full text, and a tree of rectangles.
var virtualText = "PRAGMA writable_schema=ON;\n" + virtual("ft", "fts5(a)") +
	shadow("'ft_data'(id INTEGER PRIMARY KEY, block BLOB)", "ft_data", "1,X'0204'", "10,X'000000000101010001010101'",
		"137438953473,X'00000024063068656c6c6f0102020105776f726c64010203010178020202010179020203040a0a06'") +
	shadow("'ft_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID", "ft_idx", "1,X'',2") +
	shadow("'ft_content'(id INTEGER PRIMARY KEY, c0)", "ft_content", "1,'hello world'", "2,'x y'") +
	shadow("'ft_docsize'(id INTEGER PRIMARY KEY, sz BLOB)", "ft_docsize", "1,X'02'", "2,X'02'") +
	shadow("'ft_config'(k PRIMARY KEY, v) WITHOUT ROWID", "ft_config", "'version',4") + virtual("r", "rtree(id,x0,x1)") +
	shadow(`"r_rowid"(rowid INTEGER PRIMARY KEY,nodeno)`, "r_rowid", "1,1") +
	shadow(`"r_node"(nodeno INTEGER PRIMARY KEY,data)`, "r_node", "1,X'0000000100000000000000014000000040400000"+
		strings.Repeat("00", 820-20)+"'") +
	shadow(`"r_parent"(nodeno INTEGER PRIMARY KEY,parentnode)`, "r_parent") + "PRAGMA writable_schema=OFF;\n"

// virtual is how .dump makes a virtual table.
func virtual(name, module string) string {
	return "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table','" + name + "','" + name +
		"',0,'CREATE VIRTUAL TABLE " + name + " using " + module + "');\n"
}

// shadow is how .dump makes a table in which a virtual one keeps its rows.
func shadow(definition, name string, rows ...string) string {
	text := "CREATE TABLE IF NOT EXISTS " + definition + ";\n"
	for _, row := range rows {
		text += "INSERT INTO " + name + " VALUES(" + row + ");\n"
	}
	return text
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

	file := filepath.Join(t.TempDir(), "db")
	db, err := sql.Open("sqlite", file)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	_, err = db.ExecContext(t.Context(), dumpText())
	require.NoError(t, err)
	require.NoError(t, db.Close()) // who wrote into the schema reads it again
	db, err = sql.Open("sqlite", file)
	require.NoError(t, err)
	for _, d := range []*sql.DB{db, n.db} {
		_, err := d.ExecContext(t.Context(), "INSERT INTO ft(ft, rank) VALUES ('integrity-check', 1)")
		require.NoError(t, err)
	}
	n.run("INSERT INTO ft VALUES ('hello again')", "INSERT INTO r VALUES (2, 3, 4)")
	_, err = db.ExecContext(t.Context(), "INSERT INTO ft VALUES ('hello again'); INSERT INTO r VALUES (2, 3, 4)")
	require.NoError(t, err)
	for _, ask := range []string{"SELECT group_concat(name || coalesce(sql, ''), char(10) ORDER BY name) FROM " +
		"sqlite_schema WHERE name NOT LIKE 'xmq%' AND name NOT LIKE '%xmq_position%'",
		"SELECT group_concat(id || up || \"it's\" || hex(raw), char(10) ORDER BY id) FROM child",
		"SELECT group_concat(id || n, char(10) ORDER BY id) FROM parent",
		"SELECT group_concat(rowid || a) FROM ft('hello')", "SELECT group_concat(id || x0) FROM r WHERE x1 > 2",
		"SELECT group_concat(id || hex(block)) FROM ft_data", "SELECT hex(data) FROM r_node",
		"SELECT seq FROM sqlite_sequence", "SELECT n FROM v"} {
		require.Equal(t, query[string](t, db, ask), query[string](t, n.db, ask))
	}
	require.ErrorContains(t, n.fails(0, "INSERT INTO child (up) VALUES (77)"), "FOREIGN KEY",
		"foreign keys are checked again")
	require.ErrorContains(t, n.fails(1, "PRAGMA foreign_keys = OFF; INSERT INTO parent VALUES (77, 0)",
		"PRAGMA foreign_keys = OFF; INSERT INTO nowhere VALUES (1)"), "nowhere")
	require.Equal(t, 1, query[int](t, n.db, "PRAGMA foreign_keys"))
}
