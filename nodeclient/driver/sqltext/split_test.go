package sqltext

import (
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// split returns the texts of all scripts and the error.
func split(d Dialect, text string, limit int) (texts []string, err error) {
	for s, err := range Split(strings.NewReader(text), d, limit) {
		if err != nil {
			return texts, err
		}
		texts = append(texts, s.Text)
	}
	return texts, nil
}

func TestSplit(t *testing.T) {
	both := []Dialect{SQLite, PostgreSQL, MariaDB}
	for _, c := range []struct {
		name string
		in   []Dialect
		text string
		want []string
	}{
		{"nothing", both, " ;; \n-- only a comment\n/* and another; */;", nil},
		{"statements", both, "a;b ; c", []string{"a;", "b;", "c;"}},
		{"the last semicolon may be missing", both, "SELECT 1\n", []string{"SELECT 1;"}},
		{"comments around go, inside stay", both, "-- x;\nSELECT /* ; */ 1 -- ;\n ; -- end", []string{"SELECT /* ; */ 1;"}},
		{"single quotes", both, "SELECT ';''--;/*';SELECT 2", []string{"SELECT ';''--;/*';", "SELECT 2;"}},
		{"double quotes", both, `SELECT ";"";";b`, []string{`SELECT ";"";";`, "b;"}},
		{"backticks", []Dialect{SQLite, MariaDB}, "SELECT `;``;`;b", []string{"SELECT `;``;`;", "b;"}},
		{"brackets", []Dialect{SQLite}, "SELECT [;'];b", []string{"SELECT [;'];", "b;"}},
		{"array brackets", []Dialect{PostgreSQL}, "SELECT a[1];b", []string{"SELECT a[1];", "b;"}},
		{"backslash is plain", []Dialect{SQLite, PostgreSQL}, `SELECT '\';b`, []string{`SELECT '\';`, "b;"}},
		{"backslash escapes", []Dialect{MariaDB}, `SELECT '\';', "\";";b`, []string{`SELECT '\';', "\";";`, "b;"}},
		{"E strings", []Dialect{PostgreSQL}, `SELECT E'\';', e'\\';b`, []string{`SELECT E'\';', e'\\';`, "b;"}},
		{"no E string after a longer word", []Dialect{PostgreSQL}, `SELECT NAME'\';b`, []string{`SELECT NAME'\';`, "b;"}},
		{"dollar quotes", []Dialect{PostgreSQL}, "SELECT $$;'$$, $a$;$$;$a$, $1;b",
			[]string{"SELECT $$;'$$, $a$;$$;$a$, $1;", "b;"}},
		{"dollar inside a name", []Dialect{PostgreSQL}, "SELECT a$b$;c", []string{"SELECT a$b$;", "c;"}},
		{"nested comments", []Dialect{PostgreSQL}, "a /* /* ; */ ; */ b;c", []string{"a /* /* ; */ ; */ b;", "c;"}},
		{"comments do not nest", []Dialect{SQLite, MariaDB}, "a /* /* ; */ b;c", []string{"a /* /* ; */ b;", "c;"}},
		{"hash comments", []Dialect{MariaDB}, "a # ;\n+ b;c", []string{"a # ;\n+ b;", "c;"}},
		{"dashes without a space subtract", []Dialect{MariaDB}, "SELECT 5--1;b", []string{"SELECT 5--1;", "b;"}},
		{"dashes always comment", []Dialect{SQLite, PostgreSQL}, "SELECT 5--1;b\n;c", []string{"SELECT 5;", "c;"}},
		{"executed comments", []Dialect{MariaDB}, "/*!40101 SET a = ';' */;/*M!100000 b */", []string{"SET a = ';';", "b;"}},
		{"a byte order mark", both, "\xEF\xBB\xBFSELECT 1", []string{"SELECT 1;"}},
		{"a transaction", both, "a; BEGIN; b; c ; COMMIT; d;", []string{"a;", "b;\nc;", "d;"}},
		{"its other words", both, "START TRANSACTION; a; COMMIT WORK; begin work; b; commit", []string{"a;", "b;"}},
		{"END commits", []Dialect{SQLite, PostgreSQL}, "BEGIN TRANSACTION; a; END TRANSACTION; BEGIN; b; END",
			[]string{"a;", "b;"}},
		{"SQLite's kinds", []Dialect{SQLite}, "BEGIN IMMEDIATE; a; COMMIT TRANSACTION", []string{"a;"}},
		{"an empty transaction", both, "BEGIN;; COMMIT; a", []string{"a;"}},
		{"a rolled back transaction", both, "BEGIN; a; ROLLBACK; b; BEGIN; c; COMMIT", []string{"b;", "c;"}},
		{"aborted", []Dialect{PostgreSQL}, "BEGIN; a; ABORT; b", []string{"b;"}},
		{"a trigger", []Dialect{SQLite},
			"CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET x = CASE WHEN 1 THEN 2 END; DELETE FROM b; END; c",
			[]string{"CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET x = CASE WHEN 1 THEN 2 END; DELETE FROM b; END;",
				"c;"}},
		{"a trigger in a transaction, without its last semicolon", []Dialect{SQLite},
			"BEGIN; CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END; COMMIT",
			[]string{"CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END;"}},
		{"names are not objects", []Dialect{SQLite},
			"CREATE TABLE trigger_log (begin, end); CREATE INDEX trigger ON t (a); b",
			[]string{"CREATE TABLE trigger_log (begin, end);", "CREATE INDEX trigger ON t (a);", "b;"}},
		{"a PostgreSQL function", []Dialect{PostgreSQL},
			"CREATE OR REPLACE FUNCTION f() RETURNS trigger AS $f$ BEGIN; END; $f$ LANGUAGE plpgsql; b",
			[]string{"CREATE OR REPLACE FUNCTION f() RETURNS trigger AS $f$ BEGIN; END; $f$ LANGUAGE plpgsql;", "b;"}},
		{"a body of standard SQL", []Dialect{PostgreSQL},
			"CREATE PROCEDURE p() BEGIN ATOMIC INSERT INTO a VALUES (CASE 1 WHEN 1 THEN 2 END); SELECT 1; END; b",
			[]string{"CREATE PROCEDURE p() BEGIN ATOMIC INSERT INTO a VALUES (CASE 1 WHEN 1 THEN 2 END); SELECT 1; END;", "b;"}},
		{"a PostgreSQL trigger has no body", []Dialect{PostgreSQL},
			"CREATE TRIGGER t BEFORE UPDATE ON a EXECUTE FUNCTION f(); b",
			[]string{"CREATE TRIGGER t BEFORE UPDATE ON a EXECUTE FUNCTION f();", "b;"}},
		{"a rule", []Dialect{PostgreSQL}, "CREATE RULE r AS ON INSERT TO a DO (b; c); d",
			[]string{"CREATE RULE r AS ON INSERT TO a DO (b; c);", "d;"}},
		{"pg_dump's first line", []Dialect{PostgreSQL}, "\\restrict abc;def\n\nSELECT 1;\n\\unrestrict abc",
			[]string{"SELECT 1;"}},
		{"a MariaDB procedure", []Dialect{MariaDB},
			"CREATE PROCEDURE p() BEGIN IF a THEN b; END IF; CASE x WHEN 1 THEN c; END CASE; SET y = CASE WHEN 1 THEN 2 END; " +
				"w: WHILE 1 DO BEGIN d; END; END WHILE w; END; e",
			[]string{"CREATE PROCEDURE p() BEGIN IF a THEN b; END IF; CASE x WHEN 1 THEN c; END CASE; SET y = CASE WHEN 1 " +
				"THEN 2 END; w: WHILE 1 DO BEGIN d; END; END WHILE w; END;", "e;"}},
		{"its definer", []Dialect{MariaDB},
			"CREATE DEFINER=`a`@`%` TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN b; END; c",
			[]string{"CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN b; END;", "c;"}},
		{"a body of one statement", []Dialect{MariaDB}, "CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET b = 1; c",
			[]string{"CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET b = 1;", "c;"}},
		{"an anonymous block is no transaction", []Dialect{MariaDB}, "BEGIN NOT ATOMIC a; b; END; c",
			[]string{"BEGIN NOT ATOMIC a; b; END;", "c;"}},
		{"DELIMITER", []Dialect{MariaDB}, "a;\nDELIMITER //\nCREATE PROCEDURE p() BEGIN x; END//\nb; c //\ndelimiter ;\nd;",
			[]string{"a;", "CREATE PROCEDURE p() BEGIN x; END;", "b; c;", "d;"}},
		{"DELIMITER inside a word", []Dialect{MariaDB}, "DELIMITER $$\nSELECT '$$'; END$$ b$$",
			[]string{"SELECT '$$'; END;", "b;"}},
		{"mysqldump's trigger", []Dialect{MariaDB}, "DELIMITER ;;\n/*!50003 CREATE*/ /*!50003 TRIGGER t BEFORE INSERT ON " +
			"a FOR EACH ROW BEGIN\n x; END */;;\nDELIMITER ;\nb",
			[]string{"CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN\n x; END;", "b;"}},
	} {
		for _, d := range c.in {
			t.Run(fmt.Sprintf("%s/%d", c.name, d), func(t *testing.T) {
				got, err := split(d, c.text, 1000)
				require.NoError(t, err)
				require.Equal(t, c.want, got)
			})
		}
	}
}

func TestSplitErrorsNameTheLine(t *testing.T) {
	for _, c := range []struct {
		d    Dialect
		text string
		want string
	}{
		{SQLite, "a;\nb 'c\n;", "line 2: a quote is not closed"},
		{SQLite, "\n\n[a", "line 3: a quote is not closed"},
		{MariaDB, "a\n/* b", "line 2: a comment is not closed"},
		{PostgreSQL, "/* /* */", "line 1: a comment is not closed"},
		{PostgreSQL, "a;\n$x$ $y$", "line 2: a quote is not closed"},
		{MariaDB, "\n/*!40000 a;", "line 2: a comment is not closed"},
		{SQLite, "a;\nBEGIN;\nb;", "line 2: the transaction that begins here is not ended by COMMIT"},
		{SQLite, "\nCREATE TRIGGER t AFTER INSERT ON a BEGIN b;\nCOMMIT;",
			"line 2: the body of this CREATE TRIGGER T is not closed"},
		{MariaDB, "CREATE PROCEDURE p() BEGIN IF a THEN b; END IF;",
			"line 1: the body of this CREATE PROCEDURE P is not closed"},
		{SQLite, "BEGIN;\na;\nBEGIN;", `line 3: "BEGIN" cannot stand inside the transaction that begins in line 1`},
		{SQLite, "BEGIN; SAVEPOINT s;\nCOMMIT", `line 1: "SAVEPOINT s" cannot stand inside`},
		{SQLite, "BEGIN; a; ROLLBACK TO s", `"ROLLBACK TO s" cannot stand inside`},
		{SQLite, "BEGIN; a; ROLLBACK TRANSACTION TO s", `"ROLLBACK TRANSACTION TO s" cannot stand inside`},
		{MariaDB, "BEGIN; a; COMMIT AND CHAIN", `"COMMIT AND CHAIN" cannot stand inside`},
		{PostgreSQL, "a;\n COMMIT", `line 2: "COMMIT" stands outside a transaction`},
		{PostgreSQL, "BEGIN; a; PREPARE TRANSACTION 'x'", `"PREPARE TRANSACTION 'x'" cannot stand inside`},
		{PostgreSQL, "\nCOPY a (b) FROM stdin;\n1\n", `line 2: the data of this COPY is not ended by \.`},
		{PostgreSQL, "\nCOPY a (b) FROM stdin WITH (FORMAT csv);\n1\n\\.\n",
			"line 2: COPY ... FROM stdin is taken in the form"},
		{PostgreSQL, "\\connect x\n", "line 1: \\connect chooses a database"},
		{MariaDB, "a;\nDELIMITER\nb", "line 2: DELIMITER needs one word"},
		{MariaDB, "DELIMITER " + strings.Repeat("x", 17), "a delimiter of 17 bytes is longer than 16"},
		{SQLite, "a;\n" + strings.Repeat("x", 101), "line 2: a statement or comment is longer than the limit of 100 bytes"},
		{SQLite, "BEGIN;" + strings.Repeat("xxxxxxxxx;", 11) + "COMMIT",
			"line 1: the transaction that begins here is longer than the limit"},
	} {
		t.Run(c.text, func(t *testing.T) {
			_, err := split(c.d, c.text, 100)
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := split(SQLite, "", 100)
	require.NoError(t, err)
	for s, err := range Split(iotest.ErrReader(iotest.ErrTimeout), SQLite, 100) {
		require.ErrorIs(t, err, iotest.ErrTimeout)
		require.Zero(t, s)
	}
}

func TestScriptsKnowTheirLines(t *testing.T) {
	var lines []int
	for s, err := range Split(strings.NewReader("a;\n\n-- x\nb\n;\nBEGIN;\nc;\nCOMMIT;\n'\n'; d"), SQLite, 100) {
		require.NoError(t, err)
		lines = append(lines, s.Line)
	}
	require.Equal(t, []int{1, 4, 6, 9, 10}, lines)
}

// endless yields statements without end and counts what was asked of it.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, "INSERT INTO t VALUES ('x');\n")
	e.read += n
	return n, nil
}

func TestSplitReadsNoFurtherThanItMust(t *testing.T) {
	r, n := &endless{}, 0
	for _, err := range Split(r, SQLite, 1000) {
		require.NoError(t, err)
		if n++; n == 10_000 {
			break
		}
	}
	require.Less(t, r.read, 10_001*28+chunk)

	s := newScanner(&endless{}, SQLite, 1000)
	for range 10_000 {
		_, err := s.next()
		require.NoError(t, err)
	}
	require.LessOrEqual(t, cap(s.buf), 4*chunk, "the file is not gathered in memory")
}

func TestAnOpenQuoteDoesNotSwallowTheFile(t *testing.T) {
	r := &endless{}
	for _, err := range Split(readers{strings.NewReader("SELECT '"), r}, SQLite, 1000) {
		if err != nil { // each 'x' closes the quote before it and opens one: only ; in quotes, one long statement
			require.ErrorContains(t, err, "longer than the limit of 1000 bytes")
		}
	}
	require.Less(t, r.read, 1<<20)
}

type readers [2]interface{ Read([]byte) (int, error) }

func (r readers) Read(b []byte) (int, error) {
	if n, _ := r[0].Read(b); n > 0 {
		return n, nil
	}
	return r[1].Read(b)
}

func TestIncrement(t *testing.T) {
	text := func(d Dialect, s string) string {
		all, err := Increment(d, s)
		require.NoError(t, err)
		var texts []string
		for _, st := range all {
			texts = append(texts, st.Text)
		}
		return strings.Join(texts, "|")
	}
	require.Equal(t, "a|b", text(SQLite, "a; b"))
	require.Equal(t, "a|b", text(SQLite, "-- x\nBEGIN; a; b; COMMIT;"))
	require.Equal(t, "", text(SQLite, "BEGIN; COMMIT;"))
	require.Equal(t, "BEGIN NOT ATOMIC a; END", text(MariaDB, "BEGIN NOT ATOMIC a; END"))
	for control, s := range map[string]string{
		"line 1: COMMIT": "a; COMMIT", "line 2: BEGIN": "a;\nBEGIN; b; COMMIT", "line 1: BEGIN": "BEGIN; a",
		"line 3: BEGIN": "BEGIN;\na;\nBEGIN; COMMIT; END", "line 1: ROLLBACK": "BEGIN; a; ROLLBACK; COMMIT",
		"line 1: SAVEPOINT": "/* x */ savepoint a", "line 1: RELEASE": "release a", "line 1: END": "a; end",
	} {
		_, err := Increment(SQLite, s)
		require.ErrorContains(t, err, control)
	}
}

func TestTransactionControl(t *testing.T) {
	for _, c := range []struct {
		d    Dialect
		text string
		want string
		line int
	}{
		{SQLite, "a; b", "", 0},
		{SQLite, "a;\n /* b */ Commit", "COMMIT", 2},
		{SQLite, "SELECT 'COMMIT'; -- COMMIT;\n", "", 0},
		{SQLite, "CREATE TRIGGER t AFTER INSERT ON a BEGIN b; END; ROLLBACK", "ROLLBACK", 1},
		{SQLite, ";\xEF\xBB\xBFCOMMIT", "COMMIT", 1},
		{SQLite, "COMMIT; 'open", "COMMIT", 1},
		{MariaDB, "/*!40000 COMMIT */", "COMMIT", 1},
		{MariaDB, "XA START 'x'", "XA", 1},
		{MariaDB, "SET autocommit = 1", "AUTOCOMMIT", 1},
		{MariaDB, "END", "", 0},
		{PostgreSQL, "START TRANSACTION READ ONLY", "START", 1},
		{PostgreSQL, "PREPARE p AS SELECT 1", "", 0},
	} {
		got, line, found := TransactionControl(c.d, c.text)
		require.Equal(t, c.want, got, c.text)
		require.Equal(t, c.line, line, c.text)
		require.Equal(t, c.want != "", found, c.text)
	}
}

func TestUnwrap(t *testing.T) {
	require.Equal(t, "a;\nb;\n", Unwrap(SQLite, "BEGIN; a; b; COMMIT"))
	for _, s := range []string{"a; b", "BEGIN; a", "BEGIN; a; ROLLBACK", "BEGIN; BEGIN; a; COMMIT; COMMIT", "a; COMMIT",
		"BEGIN; 'a", ""} {
		require.Equal(t, s, Unwrap(SQLite, s))
	}
}

func TestFirstKeyword(t *testing.T) {
	for text, want := range map[string]string{"": "", " ; /* a */ -- b\n select 1": "SELECT", "(SELECT 1)": "", "'a'": "",
		"-- a": ""} {
		require.Equal(t, want, FirstKeyword(SQLite, text), text)
	}
	require.Equal(t, "INSERT", FirstKeyword(MariaDB, "/*!50000 insert */"))
}

func TestMentions(t *testing.T) {
	for _, s := range []string{"SELECT * FROM a", "x -- a\n", "/* xmq */", "'is xmq in here'", "xmqs", "'xmq"} {
		require.False(t, Mentions(SQLite, s, "xmq"), s)
	}
	for _, s := range []string{"SELECT * FROM XMQ", "main.xmq", `"Xmq"`, "[xmq]", "`xmq`", "'xmq'"} {
		require.True(t, Mentions(SQLite, s, "xmq"), s)
	}
	for text, want := range map[string]bool{
		"DO $$ BEGIN DELETE FROM Xmq; END $$":                            true,
		"DO $a$ EXECUTE $b$ DELETE FROM xmq $b$ $a$":                     true,
		"SELECT $a$ $b$ $c$ $d$ xmqs $d$ $c$ $b$ $a$":                    true, // too deep to be read
		"SELECT $$ -- xmq\n 'not xmq here' $$":                           false,
		"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$": false,
	} {
		require.Equal(t, want, Mentions(PostgreSQL, text, "xmq"), text)
	}
}

var seeds = []string{
	"a;b", "BEGIN; a; COMMIT", "SELECT ';'';' -- ;\n;", "CREATE TRIGGER t BEGIN a; END; b", "$a$;$a$;$1", "E'\\';'",
	"/* /* */ ; */",
	"/*!40000 a; */ b", "DELIMITER //\nEND// a;b//",
	"CREATE PROCEDURE p() BEGIN IF a THEN b; END IF; CASE x WHEN 1 THEN 2; END CASE; END; z",
	"[a];`b`;\"c\"", "\\restrict x\nSELECT 1", "COPY a FROM stdin", "\xEF\xBB\xBFa", "5--1;# x\n;", "a;;;",
	"BEGIN NOT ATOMIC a; END; b", "(;);", "DELIMITER $x\nEND$xa$$x",
}

// FuzzSplit: no panic; byte by byte equals all at once; what Split yields splits into itself again.
func FuzzSplit(f *testing.F) {
	for _, s := range seeds {
		for d := range uint8(3) {
			f.Add(s, d)
		}
	}
	f.Fuzz(func(t *testing.T, text string, dialect uint8) {
		d := Dialect(dialect % 3)
		const limit = 1 << 10
		if len(text) > limit {
			return
		}
		whole, err := split(d, text, limit)
		var pieces []string
		var pieceErr error
		for s, err := range Split(iotest.OneByteReader(strings.NewReader(text)), d, limit) {
			if pieceErr = err; err == nil {
				pieces = append(pieces, s.Text)
			}
		}
		require.Equal(t, whole, pieces)
		require.Equal(t, fmt.Sprint(err), fmt.Sprint(pieceErr))

		Unwrap(d, text)
		TransactionControl(d, text)
		FirstKeyword(d, text)
		Mentions(d, text, "a")
		lower := strings.ToLower(text)
		for _, other := range []string{"delimiter", "!", "copy", "set", "pragma"} { // becomes another text
			if strings.Contains(lower, other) {
				return
			}
		}
		for _, s := range whole {
			again, err := Increment(d, s)
			require.NoError(t, err, s)
			var joined []string
			for _, st := range again {
				joined = append(joined, st.Text+";")
			}
			require.Equal(t, s, strings.Join(joined, "\n"))
		}
	})
}
