package sqltext

import (
	"fmt"
	"strings"
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
		{SQLite, "INSERT INTO t VALUES (date('2024-01-01'), strftime('%Y', 'NOW'), unixepoch(), t.random, x.random())",
			[]string{"1 strftime('now')", "1 unixepoch('now')"}},
		{SQLite, "CREATE TRIGGER x AFTER INSERT ON t BEGIN\nUPDATE t SET r = Random(); END", []string{"2 Random()"}},
		{SQLite, `INSERT INTO "now" (date, now) VALUES (1, 2)`, nil},
		{SQLite, "UPDATE t SET a = 1 LIMIT 3", []string{"1 UPDATE with LIMIT"}},
		{SQLite, "DELETE FROM t ORDER BY id LIMIT 3", nil},
		{PostgreSQL, "INSERT INTO t VALUES (now(), gen_random_uuid(), nextval('s'))", []string{"1 now()",
			"1 gen_random_uuid()"}},
		{PostgreSQL, "CREATE TABLE t (id bigserial,\nat timestamptz DEFAULT now(), n int GENERATED ALWAYS AS IDENTITY)",
			[]string{"2 now()"}},
		{PostgreSQL, "CREATE SEQUENCE s CACHE 1; ALTER SEQUENCE s\nCACHE 20; CREATE TABLE t (id int GENERATED " +
			"ALWAYS AS IDENTITY (CACHE 2))",
			[]string{"2 CACHE 20", "2 CACHE 2"}},
		{PostgreSQL, "INSERT INTO t (cache, n) VALUES (1, 2); CREATE TABLE cache (cache int, \"cache\" numeric(20, 2))", nil},
		{PostgreSQL, "GRANT USAGE ON SEQUENCE s TO app; GRANT ALL PRIVILEGES ON ALL SEQUENCES IN SCHEMA public TO app; " +
			"GRANT SELECT ON SEQUENCE s TO app",
			[]string{"1 GRANT on a sequence", "1 GRANT on a sequence"}},
		{PostgreSQL, "ALTER TABLE a DISABLE TRIGGER USER;\nALTER TABLE ONLY public.a DISABLE TRIGGER ALL; ALTER TABLE " +
			"a\nENABLE TRIGGER ALL; DROP TRIGGER all_rows ON a", []string{"2 TRIGGER ALL", "3 TRIGGER ALL"}},
		{PostgreSQL, "GRANT ALL ON TABLE sequence TO app; GRANT USAGE ON SCHEMA s TO app; " +
			"REVOKE USAGE ON SEQUENCE s FROM app", nil},
		{PostgreSQL, "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $f$\nSELECT 1;\nSELECT random() $f$",
			[]string{"3 random()"}},
		{PostgreSQL, "INSERT INTO t VALUES ('now()', E'\\'random()', $$text$$)", nil},
		{MariaDB, "INSERT INTO t VALUES (NOW(), RAND(), UUID(), SYSDATE())", []string{"1 UUID()", "1 SYSDATE()"}},
		{MariaDB, "CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY)", nil},
		{MariaDB, "CREATE SEQUENCE s NOCACHE; CREATE OR REPLACE SEQUENCE s START 1 CACHE 0; " +
			"CREATE TABLE sequence (n int)", nil},
		{MariaDB, "CREATE SEQUENCE IF NOT EXISTS s START 5; CREATE OR REPLACE SEQUENCE s CACHE 10;\n" +
			"ALTER SEQUENCE s CACHE 20",
			[]string{"1 SEQUENCE without NOCACHE", "1 SEQUENCE without NOCACHE", "2 CACHE 20"}},
		{MariaDB, "DELETE FROM t\nLIMIT 1", []string{"2 DELETE with LIMIT"}},
		{MariaDB, "SELECT 'not closed; UUID()", nil},

		{SQLite, "INSERT INTO t VALUES (strftime('%s'), unixepoch('subsec'), datetime(1, 'unixepoch', 'localtime'))",
			[]string{"1 strftime('now')", "1 unixepoch('now')"}},
		{SQLite, "INSERT INTO date (time) VALUES (strftime('%s', 'now'), timediff('now', 1))",
			[]string{"1 strftime('now')", "1 timediff('now')"}},
		{SQLite, "INSERT INTO t SELECT group_concat(n), count(n) FROM (SELECT n FROM s LIMIT 2) ORDER BY 1",
			[]string{"1 group_concat without ORDER BY", "1 LIMIT without ORDER BY"}},
		{PostgreSQL, "ALTER TABLE t ADD COLUMN a int,\nADD COLUMN id bigserial; ALTER TABLE t ADD id int GENERATED ALWAYS " +
			"AS IDENTITY; ALTER TABLE t ADD COLUMN x int DEFAULT (nextval('s'))",
			[]string{"2 ADD COLUMN with bigserial", "2 ADD COLUMN with IDENTITY", "2 ADD COLUMN with nextval"}},
		{PostgreSQL, "ALTER TABLE t ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (START WITH 1); ALTER TABLE ONLY t " +
			"ALTER COLUMN id SET DEFAULT nextval('s'); ALTER TABLE t ADD CONSTRAINT serial UNIQUE (a), ADD serial int", nil},
		{PostgreSQL, "UPDATE t SET n = nextval('s'); UPDATE t SET n = nextval('s') WHERE n IS NULL; " +
			"UPDATE t SET n = nextval('s') WHERE id = 5; UPDATE t SET n = q.n FROM (SELECT k, nextval('s') AS n FROM " +
			"(SELECT k FROM t ORDER BY k) o) q WHERE q.k = t.k", []string{"1 UPDATE with nextval", "1 UPDATE with nextval"}},
		{PostgreSQL, "CREATE TABLE n AS SELECT nextval('s') AS n, k FROM t; CREATE TABLE n AS SELECT nextval('s') AS n, k " +
			"FROM t ORDER BY k; CREATE TABLE n (id int DEFAULT nextval('s'))", []string{"1 CREATE with nextval"}},
		{MariaDB, "UPDATE t SET n = NEXTVAL(s); UPDATE t SET n = NEXT VALUE FOR s; UPDATE t SET n = NEXTVAL(s) ORDER BY " +
			"id; ALTER TABLE t ADD COLUMN id int AUTO_INCREMENT UNIQUE",
			[]string{"1 UPDATE with NEXTVAL", "1 UPDATE with NEXT"}},
		{PostgreSQL, "INSERT INTO s SELECT id FROM q LIMIT 1", []string{"1 LIMIT without ORDER BY"}},
		{PostgreSQL, "INSERT INTO s SELECT id FROM q\nFETCH FIRST 1 ROW ONLY", []string{"2 LIMIT without ORDER BY"}},
		{PostgreSQL, "INSERT INTO s SELECT id FROM q", []string{"1 INSERT ... SELECT without ORDER BY"}},
		{PostgreSQL, "INSERT INTO s (a, b) SELECT 1, 2", nil},
		{PostgreSQL, "INSERT INTO s SELECT id FROM q ORDER BY id LIMIT 1", nil},
		{PostgreSQL, "INSERT INTO s VALUES ((SELECT n FROM q LIMIT 1)) ON CONFLICT DO NOTHING",
			[]string{"1 LIMIT without ORDER BY"}},
		{PostgreSQL, "WITH x AS (SELECT n FROM q ORDER BY n) INSERT INTO s SELECT n FROM x",
			[]string{"1 INSERT ... SELECT without ORDER BY"}},
		{PostgreSQL, "WITH x AS (SELECT n FROM q LIMIT 1 FOR UPDATE) DELETE FROM q USING x",
			[]string{"1 LIMIT without ORDER BY"}},
		{PostgreSQL, "DELETE FROM q WHERE EXISTS (SELECT 1 FROM r LIMIT 1)", nil},
		{PostgreSQL, "CREATE TABLE s AS SELECT DISTINCT ON (a) a, b FROM q", []string{"1 DISTINCT ON without ORDER BY"}},
		{PostgreSQL, "UPDATE s SET n = (SELECT row_number() OVER (PARTITION BY a) FROM q)",
			[]string{"1 row_number without ORDER BY"}},
		{PostgreSQL, "UPDATE s SET n = (SELECT row_number() OVER (ORDER BY a) + sum(b) OVER (PARTITION BY c) FROM q)", nil},
		{PostgreSQL, "UPDATE s SET n = (SELECT string_agg(a, ',') || array_agg(b ORDER BY b) FROM q)",
			[]string{"1 string_agg without ORDER BY"}},
		{PostgreSQL, "INSERT INTO t VALUES ('now'::timestamptz, DATE 'Today', E'tomorrow 12:00', 'nowhere', \"now\")",
			[]string{"1 'now'", "1 'Today'", "1 'tomorrow 12:00'"}},
		{PostgreSQL, "INSERT INTO track VALUES ('Now Voyager', 'Today I Am', 'Here and Now', '12:00 today', 'now CET')",
			[]string{"1 '12:00 today'", "1 'now CET'"}},
		{PostgreSQL, "UPDATE t SET a = age(b), c = age(d, e)", []string{"1 age()"}},
		{PostgreSQL, "CREATE FUNCTION f() RETURNS t LANGUAGE sql AS '\nSELECT now() - ''today''::date'",
			[]string{"2 now()", "2 'today'"}},
		{PostgreSQL, "DO 'BEGIN PERFORM random(); END'", []string{"1 random()"}},
		{PostgreSQL, "INSERT INTO t SELECT pg_catalog.now(), my.now(), pg_typeof(1), pg_relation_size('t'), ctid, " +
			"current_user",
			[]string{"1 now()", "1 pg_relation_size()", "1 ctid", "1 current_user"}},
		{MariaDB, "CREATE DEFINER = CURRENT_USER VIEW v AS SELECT CURRENT_USER", []string{"1 CURRENT_USER"}},
		{MariaDB, "INSERT INTO user (n) VALUES (@@hostname), (@@server_id), (@@sql_mode), (@version), (@@session.timestamp)",
			[]string{"1 @@hostname", "1 @@server_id"}},
		{MariaDB, "INSERT INTO s SELECT GROUP_CONCAT(n), NEXT VALUE FOR q FROM t ORDER BY 1",
			[]string{"1 group_concat without ORDER BY"}},
	} {
		var got []string
		for _, w := range Lint(c.d, c.text) {
			got = append(got, fmt.Sprint(w.Line, " ", w.What))
			require.Contains(t, w.String(), ": ")
		}
		require.Equal(t, c.want, got, c.text)
	}
}

// What the manuals of MariaDB 10.6 to 12 and MySQL 8.4 and 9 call nondeterministic or bound to one server, and a
// statement may
// call. What is pinned by the driver stands in the second list.
func TestLintKnowsTheVolatileFunctionsOfMariaDBAndMySQL(t *testing.T) {
	for _, name := range strings.Fields("SYSDATE UUID UUID_SHORT UUID_v4 UUID_v7 SYS_GUID RANDOM_BYTES " +
		"CONNECTION_ID PS_CURRENT_THREAD_ID USER SESSION_USER SYSTEM_USER CURRENT_USER CURRENT_ROLE DATABASE SCHEMA " +
		"VERSION " +
		"LOAD_FILE IS_FREE_LOCK IS_USED_LOCK MASTER_POS_WAIT SOURCE_POS_WAIT MASTER_GTID_WAIT ICU_VERSION " +
		"BENCHMARK " +
		"ROLES_GRAPHML") {
		require.NotEmpty(t, Lint(MariaDB, "DO "+name+"()"), name)
	}
	for _, name := range strings.Fields("NOW CURRENT_TIMESTAMP CURDATE CURTIME UTC_TIMESTAMP UNIX_TIMESTAMP RAND " +
		"LAST_INSERT_ID " +
		"NEXTVAL ROW_COUNT FOUND_ROWS SLEEP GET_LOCK RELEASE_LOCK RELEASE_ALL_LOCKS") { // locks are refused by the driver
		require.Empty(t, Lint(MariaDB, "DO "+name+"()"), name)
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
