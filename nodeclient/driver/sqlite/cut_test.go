package sqlite

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/sqltext"
)

// bodies are statements with semicolons in them, as hard to cut as the grammar allows.
var bodies = []string{
	"CREATE TABLE a (n int, end int, begin int, trigger text, [;b] int, `;c` int, \";d\" int)",
	"CREATE TABLE end (x)",
	"CREATE TRIGGER t1 AFTER INSERT ON a BEGIN UPDATE a SET end = CASE WHEN end THEN begin END; DELETE FROM end; END",
	"CREATE TRIGGER end BEFORE DELETE ON a WHEN OLD.end BEGIN SELECT 1 AS end; INSERT INTO end " +
		"SELECT CASE begin WHEN 1 THEN end END end FROM a; END",
	"CREATE TEMP TRIGGER IF NOT EXISTS t2 AFTER INSERT ON main.a BEGIN /* END; */ SELECT 'END;'; -- ; END ;\n END",
	"EXPLAIN CREATE TRIGGER t3 AFTER INSERT ON a BEGIN DELETE FROM a; DELETE FROM a; END",
	"EXPLAIN QUERY PLAN SELECT trigger FROM a",
	"INSERT INTO a (trigger) VALUES ('\\'), ('a'';b'), (x'3b'), (\xEF\xBB\xBF ';')",
	"CREATE VIEW v AS SELECT trigger AS begin FROM a",
}

// A script is cut where SQLite cuts it: what the statements make one by one is what they make in one text.
func TestAScriptIsCutWhereSQLiteCutsIt(t *testing.T) {
	script := "CREATE TABLE passed (n int);\n"
	for _, s := range bodies {
		script += s + ";\nINSERT INTO passed VALUES (1); -- ;\n"
	}
	script += "INSERT INTO passed VALUES (2) /* the end; of the text"
	made := func(texts ...string) (all []string) {
		db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "db"))
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		db.SetMaxOpenConns(1)
		for _, text := range texts {
			_, err := db.ExecContext(t.Context(), text)
			require.NoError(t, err, text)
		}
		for _, ask := range []string{
			"SELECT coalesce(sql, '') FROM sqlite_schema UNION ALL SELECT sql FROM temp.sqlite_schema",
			"SELECT coalesce(trigger, '') FROM a", "SELECT n FROM passed",
		} {
			rows, err := db.QueryContext(t.Context(), ask)
			require.NoError(t, err)
			for rows.Next() {
				var text string
				require.NoError(t, rows.Scan(&text))
				all = append(all, text)
			}
			require.NoError(t, rows.Err())
			require.NoError(t, rows.Close())
		}
		return all
	}
	var cut []string
	for st, err := range sqltext.Statements(sqltext.SQLite, script) {
		require.NoError(t, err)
		cut = append(cut, st.Text)
	}
	require.Len(t, cut, 2+2*len(bodies))
	for i, s := range bodies {
		require.Equal(t, s, cut[1+2*i])
	}
	require.Equal(t, made(script), made(cut...))
}
