package sqltext

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLintSeesWhatNodesAnswerDifferently(t *testing.T) {
	for _, c := range []struct {
		d    Dialect
		text string
		want []string // "line what"
	}{
		{SQLite, "INSERT INTO t VALUES (random(), 'random()', datetime('now'))", []string{"1 random()", "1 datetime('now')"}},
		{SQLite, "SELECT 1;\n-- now()\nINSERT INTO t\nVALUES (CURRENT_TIMESTAMP)", []string{"4 CURRENT_TIMESTAMP"}},
		{SQLite, "INSERT INTO t VALUES (date('2024-01-01'), strftime('%Y', 'NOW'), unixepoch(), t.random, x.random())", []string{"1 strftime('now')", "1 unixepoch('now')"}},
		{SQLite, "CREATE TRIGGER x AFTER INSERT ON t BEGIN\nUPDATE t SET r = Random(); END", []string{"2 Random()"}},
		{SQLite, `INSERT INTO "now" (date, now) VALUES (1, 2)`, nil},
		{SQLite, "UPDATE t SET a = 1 LIMIT 3", []string{"1 UPDATE with LIMIT"}},
		{SQLite, "DELETE FROM t ORDER BY id LIMIT 3", nil},
		{PostgreSQL, "INSERT INTO t VALUES (now(), gen_random_uuid(), nextval('s'))", []string{"1 now()", "1 gen_random_uuid()", "1 nextval()"}},
		{PostgreSQL, "CREATE TABLE t (id bigserial,\nat timestamptz DEFAULT now(), n int GENERATED ALWAYS AS IDENTITY)", []string{"1 bigserial", "2 now()", "2 IDENTITY"}},
		{PostgreSQL, "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $f$\nSELECT 1;\nSELECT random() $f$", []string{"3 random()"}},
		{PostgreSQL, "INSERT INTO t VALUES ('now()', E'\\'random()', $$text$$)", nil},
		{MariaDB, "INSERT INTO t VALUES (NOW(), RAND(), UUID(), SYSDATE())", []string{"1 UUID()", "1 SYSDATE()"}},
		{MariaDB, "CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY)", []string{"1 AUTO_INCREMENT"}},
		{MariaDB, "DELETE FROM t\nLIMIT 1", []string{"2 DELETE with LIMIT"}},
		{MariaDB, "SELECT 'not closed; UUID()", nil},
	} {
		var got []string
		for _, w := range Lint(c.d, c.text) {
			got = append(got, fmt.Sprint(w.Line, " ", w.What))
			require.Contains(t, w.String(), ": ")
		}
		require.Equal(t, c.want, got, c.text)
	}
}

func FuzzLint(f *testing.F) {
	for _, seed := range []string{"SELECT now()", "$a$ random() $a$", "$$$$", "date(", "/*!1 UUID() */", "'now"} {
		f.Add(uint8(1), seed)
	}
	f.Fuzz(func(t *testing.T, d uint8, text string) {
		for _, w := range Lint(Dialect(d%3), text) {
			require.Positive(t, w.Line)
			require.NotEmpty(t, w.What)
		}
	})
}
