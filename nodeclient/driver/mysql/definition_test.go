package mysql

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient/driver/internal/snapstream"
)

// framed is a snapshot of the given records.
func (n *node) framed(at event.Position, records ...string) []byte {
	n.Helper()
	var b bytes.Buffer
	w, err := n.flavour.stream.NewWriter(&b, snapstream.Head{Pos: at, Preface: []byte("utf8mb4 utf8mb4_general_ci")})
	require.NoError(n, err)
	_, err = w.Write([]byte(strings.Join(records, "")))
	require.NoError(n, err)
	require.NoError(n, w.End())
	return b.Bytes()
}

func recordOf(kind byte, body string) string {
	return string(binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(body)))) + body
}

func scriptOf(t *testing.T, sc script) string {
	b, err := json.Marshal(sc)
	require.NoError(t, err)
	return recordOf(scriptRecord, string(b))
}

// Whatever a snapshot says in place of a definition, a value or a row, and wherever it is cut: no other statement of
// it reaches the server, and none at all before the whole of it was judged.
func TestNoStatementOfASnapshotReachesTheLiveDatabase(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE live (a int)", "INSERT INTO live VALUES (42)")
	n.run("CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)")
	genuine, at := n.taken()
	r, _, err := n.flavour.stream.NewReader(bytes.NewReader(genuine))
	require.NoError(t, err)
	var data bytes.Buffer
	_, err = data.ReadFrom(r)
	require.NoError(t, err)
	live := quoteName(n.db) + ".live"
	drop := "DROP TABLE " + live
	table := recordOf(tableRecord, "x\x00CREATE TABLE `x` (\n  `a` int(11) DEFAULT NULL\n) ENGINE=InnoDB")
	view := script{Kind: "VIEW", Name: "v", Mode: n.flavour.sqlMode, Collation: n.flavour.collation}
	with := func(sc script, kind, name, sql string) string {
		sc.Kind, sc.Name, sc.SQL = kind, name, sql
		return scriptOf(t, sc)
	}
	for name, evil := range map[string]string{
		"a statement as a sequence":    recordOf(sequenceRecord, drop),
		"a statement in a sequence":    recordOf(sequenceRecord, "CREATE SEQUENCE `q`; "+drop+"; DO setval(`q`, 1, 0, 0)"),
		"a statement after a sequence": recordOf(sequenceRecord, "CREATE SEQUENCE `q`; DO setval(`q`, 1, 0, 0); "+drop),
		"a sequence elsewhere": recordOf(sequenceRecord, "CREATE SEQUENCE "+quoteName(n.db)+
			".`q`; DO setval(`q`, 1, 0, 0)"),
		"a call in a sequence":      recordOf(sequenceRecord, "CREATE SEQUENCE `q`; DO setval(`q`, (SELECT 1), 0, 0)"),
		"a statement as a table":    recordOf(tableRecord, "x\x00"+drop),
		"a statement after a table": recordOf(tableRecord, "x\x00CREATE TABLE `x` (a int); "+drop),
		"a table elsewhere":         recordOf(tableRecord, "x\x00CREATE TABLE "+quoteName(n.db)+".`x` (a int)"),
		"a table of another name":   recordOf(tableRecord, "x\x00CREATE TABLE `y` (a int)"),
		"a table that reads":        recordOf(tableRecord, "x\x00CREATE TABLE `x` (a int) AS SELECT * FROM live"),
		"a table that points elsewhere": recordOf(tableRecord, "x\x00CREATE TABLE `x` (a int, FOREIGN KEY (a) REFERENCES "+
			live+" (a)) ENGINE=InnoDB"),
		"a table of another engine": recordOf(tableRecord, "x\x00CREATE TABLE `x` (a int) ENGINE=CONNECT"),
		"a replacing table":         recordOf(tableRecord, "live\x00CREATE OR REPLACE TABLE `live` (a int)"),
		"a hidden comment":          recordOf(tableRecord, "x\x00CREATE TABLE `x` (a int) /*!50000 AS SELECT 1 */"),
		"a script read otherwise": scriptOf(t,
			script{Kind: "PROCEDURE", Name: "p", Mode: "NO_BACKSLASH_ESCAPES", Collation: n.flavour.collation,
				SQL: "CREATE PROCEDURE `p`() SELECT '\\'; " + drop + "; -- '"}),
		"a script of a mode in bits": scriptOf(t,
			script{Kind: "PROCEDURE", Name: "p", Mode: "4", Collation: n.flavour.collation,
				SQL: "CREATE PROCEDURE `p`() SELECT 1"}),
		"a statement as rows":    table + recordOf(rowsRecord, drop),
		"a statement after rows": table + recordOf(rowsRecord, "INSERT INTO `x` (`a`) VALUES (1); "+drop),
		"a call in rows":         table + recordOf(rowsRecord, "INSERT INTO `x` (`a`) VALUES (load_file('x'))"),
		"a question in rows":     table + recordOf(rowsRecord, "INSERT INTO `x` (`a`) SELECT a FROM "+live),
		"rows elsewhere":         table + recordOf(rowsRecord, "INSERT INTO "+live+" (`a`) VALUES (1)"),
		"rows that end otherwise": table + recordOf(rowsRecord,
			"INSERT INTO `x` (`a`) VALUES ('\\') ON DUPLICATE KEY UPDATE a = 1"),
		"a statement as a view":    with(view, "VIEW", "v", drop),
		"a statement after a view": with(view, "VIEW", "v", "CREATE OR REPLACE VIEW `v` AS select 1 AS `one`; "+drop),
		"a view elsewhere": with(view, "VIEW", "v", "CREATE OR REPLACE VIEW "+quoteName(n.db)+
			".`v` AS select 1 AS `one`"),
		"a statement after a procedure": with(view, "PROCEDURE", "p", "CREATE OR REPLACE PROCEDURE `p`() SELECT 1; "+drop),
		"a hidden end of a body": with(view, "PROCEDURE", "p",
			"CREATE OR REPLACE PROCEDURE `p`() BEGIN SELECT 1 AS a; END; "+drop+"; BEGIN NOT ATOMIC DO 1; END"),
		"a default that is more": with(view, "DEFAULT", "t", "ALTER TABLE `t` ALTER COLUMN `a` SET DEFAULT 1; "+drop),
		"a trigger of another name": with(view, "TRIGGER", "tr",
			"CREATE OR REPLACE TRIGGER other BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1"),
		"a kind nobody knows": with(view, "EVENT", "e", "CREATE EVENT e ON SCHEDULE EVERY 1 SECOND DO "+drop),
	} {
		whole := n.framed(at, evil, data.String())
		if strings.HasPrefix(evil, string(scriptRecord)) {
			whole = n.framed(at, data.String(), evil)
		}
		for what, snapshot := range map[string][]byte{"whole": whole, "cut": whole[:len(whole)-8]} {
			_, err := n.Restore(t.Context(), at, event.AllTopics, bytes.NewReader(snapshot))
			require.Error(t, err, "%s, %s", name, what)
			require.Equal(t, "42", n.value("SELECT a FROM live"), "%s, %s", name, what)
			require.Empty(t, leftovers(t, server, n.db), "%s, %s", name, what)
		}
	}
}

// What one server wrote is judged right: names, comments and values that look like SQL, and what the server adds by
// itself.
func TestDefinitionsThatPeopleHaveAreTakenForWhatTheyAre(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE `a``b.c; DROP` (`x.y` int COMMENT 'was ENGINE=InnoDB AUTO_INCREMENT=99; SELECT', n int "+
		"AUTO_INCREMENT PRIMARY KEY, d decimal(5,2) DEFAULT 1.25, "+
		"s varchar(99) DEFAULT 'it''s \\\\ a; (b),(c)', j json, CHECK (d > .5 AND d < 10.0)) COMMENT='ENGINE=InnoDB "+
		"AUTO_INCREMENT=7'",
		"INSERT INTO `a``b.c; DROP` (`x.y`, d, s, j) VALUES (-1, 0.75, '),(''\\\\', '{\"a\": [1, null]}'), (NULL, 9.99, "+
			"NULL, NULL)",
		"CREATE TABLE child (p int, FOREIGN KEY (p) REFERENCES `a``b.c; DROP` (n))",
		"CREATE TABLE part (p int) PARTITION BY RANGE (p) (PARTITION low VALUES LESS THAN (10), PARTITION high VALUES "+
			"LESS THAN MAXVALUE)",
		"CREATE VIEW v (one) AS SELECT `x.y` FROM `a``b.c; DROP`",
		"CREATE FUNCTION f(i int) RETURNS int DETERMINISTIC RETURN i + 1",
		"CREATE PROCEDURE p() BEGIN SELECT 1; END")
	snapshot, at := n.taken()
	copied := restoredNode(t, snapshot, at)
	for _, show := range []string{"TABLE `a``b.c; DROP`", "TABLE child", "TABLE part", "VIEW v", "FUNCTION f",
		"PROCEDURE p"} {
		require.Equal(t, n.query("SHOW CREATE "+show), copied.query("SHOW CREATE "+show), show)
	}
	require.Equal(t, n.query("SELECT * FROM `a``b.c; DROP`"), copied.query("SELECT * FROM `a``b.c; DROP`"))
}

// A trigger keeps the text with which it was made, also the name of a database that is called otherwise elsewhere.
func TestATriggerThatNamesItsDatabaseLoadsAnywhere(t *testing.T) {
	for _, head := range []string{"TRIGGER `DB`.tr BEFORE INSERT ON `DB`.item", "TRIGGER tr AFTER UPDATE ON `DB` . `item`",
		"TRIGGER tr BEFORE INSERT ON item", "TRIGGER IF NOT EXISTS `DB`.`tr` /* on */ AFTER DELETE ON `DB`.item"} {
		n := newNode(t)
		body := "FOR EACH ROW INSERT INTO log VALUES (concat('on ', 1), (SELECT count(*) FROM item i WHERE i.id > 0))"
		n.run("CREATE TABLE item (id int PRIMARY KEY, n int)", "CREATE TABLE log (s varchar(99), n int)", "CREATE "+
			strings.ReplaceAll(head, "DB", n.db)+" "+body)
		snapshot, at := n.taken()
		copied := restoredNode(t, snapshot, at)
		what := "SELECT trigger_name, event_object_table, action_timing, event_manipulation, action_statement FROM " +
			"information_schema.triggers WHERE trigger_schema = database()"
		require.Len(t, n.query(what), 1)
		require.Equal(t, n.query(what), copied.query(what), head)
		require.NotContains(t, strings.Join(copied.query("SHOW CREATE TRIGGER tr"), ""), n.db)
	}
}

// The snapshots of earlier versions have such triggers as they were made.
func TestAnEarlierTriggerIsNamedAnew(t *testing.T) {
	for text, want := range map[string]string{
		"CREATE OR REPLACE TRIGGER shop.tr BEFORE INSERT " +
			"ON shop.item FOR EACH ROW SET NEW.n = 'it\\'s'": "CREATE OR REPLACE TRIGGER `tr` BEFORE INSERT ON `item` FOR " +
			"EACH ROW SET NEW.n = 'it\\'s'",
		"CREATE OR REPLACE TRIGGER IF NOT EXISTS " +
			"tr AFTER DELETE ON item FOR EACH ROW DO 1": "CREATE OR REPLACE TRIGGER tr AFTER DELETE ON item FOR EACH ROW DO 1",
		"DROP TRIGGER IF EXISTS `tr`; " +
			"CREATE TRIGGER tr AFTER INSERT ON item FOR EACH ROW DO 1": "DROP TRIGGER IF EXISTS `tr`; CREATE TRIGGER tr AFTER " +
			"INSERT ON item FOR EACH ROW DO 1"} {
		got, err := unqualified(text, "tr")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// FuzzRows: what is taken for rows is literals, and no bytes make the judge panic.
func FuzzRows(f *testing.F) {
	for _, s := range []string{"(1,NULL)", "(_utf8mb4'a\\'',-1.5e+03),('',_binary'\\0')", "('a);'", "(now())", "(1",
		"((1))"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, values string) {
		p := piece{name: "t"}
		if p.rows([]byte("INSERT INTO `t` (`a`, `b`) VALUES "+values)) != nil {
			return
		}
		require.Equal(t, values, string(p.tuples))
		require.Positive(t, p.checksum.rows)
		require.NotContains(t, strings.ToUpper(outsideStrings(values)), "SELECT")
		require.NotContains(t, outsideStrings(values), ";")
	})
}

// outsideStrings is what stands outside the quotes.
func outsideStrings(s string) (out string) {
	for i := 0; i < len(s); i++ {
		if s[i] != '\'' {
			out += s[i : i+1]
			continue
		}
		for i++; i < len(s) && s[i] != '\''; i++ {
			if s[i] == '\\' {
				i++
			}
		}
	}
	return out
}

// What was made under a mode of another reading the target itself names, before a newcomer finds it.
func TestARoutineOfAnotherReadingIsNamedByTheTarget(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE c (v int)")
	maker, err := n.Database.connect(t.Context(), n.db) // as the node's own user
	require.NoError(t, err)
	defer maker.close()
	require.NoError(t, maker.do(t.Context(), "SET sql_mode = 'ANSI_QUOTES'; CREATE PROCEDURE odd() SELECT 1 AS \"a\""))
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.ErrorContains(t, s.WriteTo(t.Context(), &bytes.Buffer{}),
		"the procedure odd was made under the sql_mode ANSI_QUOTES")
}
