package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whoever reads a setting that no module has defined gets the same whatever ran before in its session: in one batch, in
// several, and after a restart.
func TestNobodyReadsTheSettingsOfAnotherIncrement(t *testing.T) {
	body := func(name, body string) string {
		return "CREATE FUNCTION " + name + " RETURNS int LANGUAGE plpgsql AS $$ BEGIN " + body + " RETURN 1; END $$; "
	}
	reads := func(call string) []string {
		return []string{"INSERT INTO seen (w) VALUES (1)", "INSERT INTO seen (v) SELECT coalesce(" + call + ", 'null')",
			"INSERT INTO reader VALUES (1)"}
	}
	plain := reads("current_setting('app.x', true)")
	for name, c := range map[string]struct {
		makes, sets string
		reads       []string
	}{
		"a function":          {body("f()", "SET app.x = '5';"), "INSERT INTO other SELECT f()", plain},
		"a function, locally": {body("f()", "SET LOCAL app.x TO '5';"), "INSERT INTO other SELECT f()", plain},
		"set_config": {"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT set_config(''app.x'', ''5'', true)'",
			"INSERT INTO other SELECT length(f())", plain},
		"a clause of a function": {"CREATE FUNCTION f() RETURNS int LANGUAGE sql SET app.x = '5' AS 'SELECT 1'",
			"INSERT INTO other SELECT f()", plain},
		"a default of an administrator": {"ALTER TABLE other ADD w text DEFAULT set_config('app.x', '5', true)",
			"INSERT INTO other VALUES (1)", plain},
		"a name put together": {body("f(k text)", "EXECUTE 'SET LOCAL app.' || k || ' = 5';"),
			"INSERT INTO other SELECT f('x')", plain},
		"a name in the increment": {body("f(k text)", "EXECUTE k;"), "INSERT INTO other SELECT f('SET app.x = 5')", plain},
		"a block":                 {"SELECT 1", "DO $$ BEGIN SET app.x = '5'; END $$", plain},
		"a block puts together":   {"SELECT 1", "DO $$ BEGIN EXECUTE 'SET app.' || 'x = 5'; END $$", plain},
		"a trigger": {body("f()", "SET app.x = '5';") + "CREATE FUNCTION tr() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN " +
			"PERFORM f(); RETURN NEW; END $$; CREATE TRIGGER tr BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION tr()",
			"INSERT INTO other VALUES (1)", plain},
		"one that fails": {body("f()", "SET app.x = '5'; RAISE 'no';"), "INSERT INTO other SELECT f()", plain},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			scripts := append([]string{c.sets}, c.reads...)
			scripts = append(append(scripts, c.sets), c.reads...)
			for _, size := range []int{0, 1, 2, len(scripts)} { // 0 is 1, and a restart
				n := newNode(t)
				n.run("CREATE TABLE seen (v text DEFAULT coalesce(current_setting('app.x', true), 'null'), w int)",
					"CREATE TABLE other (v int); CREATE TABLE reader (v int)")
				if strings.Contains(c.makes, "SET app.x = '5' AS") || strings.Contains(c.makes, "DEFAULT set_config") { // refused
					require.NoError(t, server.Exec(n.db, c.makes))
				} else {
					n.run(c.makes)
				}
				n.run("CREATE FUNCTION get() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen (v) SELECT "+
					"coalesce(current_setting('app.x', true), 'null'); RETURN NEW; END $$",
					"CREATE TRIGGER get BEFORE INSERT ON reader FOR EACH ROW EXECUTE FUNCTION get()")
				before, items := n.at(), n.log.Scripts(scripts...)
				for len(items) > 0 {
					if size == 0 {
						require.NoError(t, n.reopen())
					}
					pos, err := n.Apply(t.Context(), before, items[:min(max(size, 1), len(items))])
					for len(items) > 0 && items[0].Pos.Seq <= pos.Seq {
						items = items[1:]
					}
					if before = pos; err != nil {
						require.Contains(t, name, "fails")
						items[0].Record = nil
					}
				}
				require.Equal(t, name == "a name put together",
					strings.Contains(strings.Join(n.Notices(), " "), "a session of its own"))
				got := n.query("SELECT v FROM seen")
				require.NotContains(t, fmt.Sprint(got), "5")
				if size == 0 {
					want = got
				}
				require.Equal(t, want, got, "size %d", size)
			}
		})
	}
}

// What a text may set is found in it, or known to be unseen; what sets nothing is no trace.
func TestWhatATextMaySetIsFound(t *testing.T) {
	for text, want := range map[string]traces{
		"SET app.x = 5": {names: []string{"app.x"}},
		"SET LOCAL App.X TO 'a'; set session \"app\".\"y\" = 1;":                {names: []string{"app.x", "app.y"}},
		"PERFORM set_config('app.x', v, true)":                                  {names: []string{"app.x"}},
		"EXECUTE 'SELECT set_config(''app.x'', ''5'', true)'":                   {names: []string{"app.x"}},
		"PERFORM set_config(k, v, true)":                                        {unseen: true},
		"PERFORM set_config('app.' || k, v, true)":                              {unseen: true},
		"EXECUTE 'SET app.' || k || ' = 5'":                                     {unseen: true},
		"EXECUTE format('SET %s = 5', k)":                                       {unseen: true},
		"EXECUTE 'SET ' || k":                                                   {unseen: true},
		"SET/**/app.x = 5":                                                      {unseen: true},
		"SET app.ü = 5":                                                         {unseen: true},
		"UPDATE t SET a = 1, b = 2; UPDATE t SET (a, b) = (1, 2)":               {},
		"INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = excluded.a": {},
		"EXECUTE format('UPDATE %I SET %I = 1', t, c)":                          {},
		"ALTER TABLE t ALTER a SET DEFAULT 1, ALTER b SET NOT NULL, SET (fillfactor = 70), SET SCHEMA s": {},
		"EXECUTE format('ALTER TABLE %I SET SCHEMA %I', t, s)":                                           {},
		"REFERENCES t ON DELETE SET NULL":                                                                {},
		"SET search_path = s2, public; SET LOCAL work_mem TO '7MB'; SET TRANSACTION READ ONLY":           {},
		"v := current_setting('app.x', true)":                                                            {reads: true},
		"EXECUTE 'SHOW app.x' INTO v":                                                                    {reads: true},
		"SELECT dblink_connect('c', 'dbname=x')":                                                         {links: true},
		"-- show all\nSELECT the_show FROM shows":                                                        {},
	} {
		var got traces
		got.add(strings.ToLower(text))
		require.Equal(t, want, got, text)
	}
}
