package sqltext

import (
	"slices"
	"strings"
)

// Structure is an error for an increment that no server of the dialect can read, whatever its version and its tables: a
// first word that begins no statement, a parenthesis without its other half, an UPDATE without SET. It is no parser:
// of what it does not know it says nothing.
func Structure(d Dialect, body []byte) error {
	pieces, err := Pieces(body)
	if err != nil {
		return err
	}
	for _, p := range pieces {
		statements, err := p.Statements(d)
		if err != nil {
			return p.In(err)
		}
		for _, st := range statements {
			if err := structure(d, st); err != nil {
				return p.In(err)
			}
		}
	}
	return nil
}

// name is how people call it.
func (d Dialect) name() string {
	return [...]string{SQLite: "SQLite", PostgreSQL: "PostgreSQL", MariaDB: "MariaDB and MySQL"}[d]
}

// verbs are the words with which the statements of a dialect begin, those of all its versions.
var verbs = [...]map[string]bool{
	SQLite: words("ALTER ANALYZE ATTACH BEGIN COMMIT CREATE DELETE DETACH DROP END EXPLAIN INSERT PRAGMA REINDEX " +
		"RELEASE REPLACE ROLLBACK SAVEPOINT SELECT UPDATE VACUUM VALUES WITH"),
	PostgreSQL: words("ABORT ALTER ANALYSE ANALYZE BEGIN CALL CHECKPOINT CLOSE CLUSTER COMMENT COMMIT COPY CREATE " +
		"DEALLOCATE DECLARE DELETE DISCARD DO DROP END EXECUTE EXPLAIN FETCH GRANT IMPORT INSERT LISTEN LOAD LOCK MERGE " +
		"MOVE NOTIFY PREPARE REASSIGN REFRESH REINDEX RELEASE REPACK RESET REVOKE ROLLBACK SAVEPOINT SECURITY SELECT SET " +
		"SHOW START TABLE TRUNCATE UNLISTEN UPDATE VACUUM VALUES WAIT WITH"),
	MariaDB: words("ALTER ANALYZE BACKUP BEGIN BINLOG CACHE CALL CASE CHANGE CHECK CHECKSUM CLONE CLOSE COMMIT CREATE " +
		"DEALLOCATE DECLARE DELETE DESC DESCRIBE DO DROP EXECUTE EXPLAIN FETCH FLUSH FOR GET GOTO GRANT HANDLER HELP IF " +
		"IMPORT INSERT INSTALL ITERATE KILL LEAVE LOAD LOCK LOOP OPEN OPTIMIZE PREPARE PURGE RAISE RELEASE RENAME REPAIR " +
		"REPEAT REPLACE RESET RESIGNAL RESTART RETURN REVOKE ROLLBACK SAVEPOINT SELECT SET SHOW SHUTDOWN SIGNAL " +
		"SLAVE START STOP TABLE TRUNCATE UNINSTALL UNLOCK UPDATE USE VALUES WHILE WITH XA"),
}

// rowVerbs are those with which a query in parentheses begins.
var rowVerbs = words("SELECT VALUES TABLE WITH")

// Meant is the verb of the dialect that the word was meant to be: the one that is an edit away; "" when there is none,
// or the word is one.
func Meant(d Dialect, word string) string { return near(word, verbs[d]) }

// seconds are the words that may follow a verb, as far as they are known: one that is no such word, and an edit away
// from one, is a slip. No name can stand there.
var seconds = [...]map[string]map[string]bool{
	PostgreSQL: {
		"INSERT": words("INTO"), "DELETE": words("FROM"), "MERGE": words("INTO"), "REFRESH": words("MATERIALIZED"),
		"COMMENT": words("ON"), "CREATE": objectsOfPostgres, "ALTER": objectsOfPostgres, "DROP": objectsOfPostgres,
	},
	MariaDB: {"CREATE": objectsOfMariaDB, "ALTER": objectsOfMariaDB, "DROP": objectsOfMariaDB},
}

var (
	objectsOfPostgres = words("ACCESS AGGREGATE ASSERTION CAST COLLATION CONSTRAINT CONVERSION DATABASE DEFAULT DOMAIN " +
		"EVENT EXTENSION FOREIGN FUNCTION GLOBAL GROUP INDEX LANGUAGE LARGE LOCAL MATERIALIZED OPERATOR OR OWNED POLICY " +
		"PROCEDURAL PROCEDURE PROPERTY PUBLICATION RECURSIVE ROLE ROUTINE RULE SCHEMA SEQUENCE SERVER STATISTICS " +
		"SUBSCRIPTION SYSTEM TABLE TABLESPACE TEMP TEMPORARY TEXT TRANSFORM TRIGGER TRUSTED TYPE UNIQUE UNLOGGED USER VIEW")
	objectsOfMariaDB = words("AGGREGATE ALGORITHM COLUMN CATALOG CONSTRAINT DATABASE DEFINER EVENT EXTERNAL FULLTEXT " +
		"FUNCTION IGNORE INDEX INSTANCE JSON KEY LIBRARY LOGFILE MATERIALIZED OFFLINE ONLINE OR PACKAGE PREPARE PRIMARY " +
		"PROCEDURE RESOURCE ROLE SCHEMA SEQUENCE SERVER SPATIAL SQL TABLE TABLES TABLESPACE TEMPORARY TRIGGER UNDO UNIQUE " +
		"USER VECTOR VIEW VIEWS")
)

// needs are words of which a statement has one, by its verb.
var needs = map[string][]string{
	"UPDATE":  {"SET"},
	"DELETE":  {"FROM"},
	"INSERT":  {"VALUES", "SELECT", "VALUE", "SET", "TABLE", "DEFAULT"},
	"REPLACE": {"VALUES", "SELECT", "VALUE", "SET", "TABLE", "DEFAULT"},
	"MERGE":   {"USING"},
}

// more are the verbs after which something must stand.
var more = words("INSERT UPDATE DELETE REPLACE MERGE CREATE ALTER DROP CALL DO SET WITH VALUES TABLE RENAME TRUNCATE " +
	"GRANT REVOKE COMMENT REFRESH")

// structure looks at one statement.
func structure(d Dialect, st Statement) error {
	tokens, err := Tokens(d, st.Text)
	if err != nil || len(tokens) == 0 {
		return err
	}
	at := func(t Token, format string, args ...any) error {
		return errAt(st.Line+strings.Count(st.Text[:t.At], "\n"), format, args...)
	}
	if tokens[0].Mark {
		return nil // some servers read what stands there
	}
	first := tokens[0]
	for i := 0; first.Text == "(" && i+1 < len(tokens); i++ {
		first = tokens[i+1]
	}
	verb := strings.ToUpper(first.Text)
	known := verbs[d]
	if first.At > 0 {
		known = rowVerbs
	}
	switch {
	case d == MariaDB && len(tokens) > 1 && tokens[1].Text == ":": // a label
		return nil
	case !first.Word || !known[verb]:
		return at(first, "%.40q begins no statement of %s%s", first.Text, d.name(), did(near(verb, known)))
	case first.At > 0:
	case len(tokens) == 1 && more[verb]:
		return at(first, "nothing follows %s", verb)
	case len(tokens) > 1 && tokens[1].Word:
		if all := seconds[d][verb]; all != nil && !all[strings.ToUpper(tokens[1].Text)] {
			if meant := near(tokens[1].Text, all); meant != "" {
				return at(tokens[1], "%q cannot follow %s%s", tokens[1].Text, verb, did(meant))
			}
		}
	}
	if d == MariaDB {
		if err := foreign(tokens, at); err != nil {
			return err
		}
		if slices.ContainsFunc(tokens, elsewhere) {
			return nil
		}
	}
	if all := needs[verb]; all != nil && !slices.ContainsFunc(tokens, func(t Token) bool {
		return slices.ContainsFunc(all, t.Is)
	}) {
		return at(first, "this %s has no %s", verb, strings.Join(all[:min(len(all), 2)], " and no "))
	}
	return paired(tokens, at)
}

// foreign is an error for what only PostgreSQL reads: $1 for an argument, which is the name of a column to MariaDB, and
// CREATE INDEX CONCURRENTLY. Both may be names; then they are refused where backticks mean the same.
func foreign(tokens []Token, at func(Token, string, ...any) error) error {
	if slices.ContainsFunc(tokens, func(t Token) bool { return t.Mark || t.Is("LANGUAGE") }) {
		return nil
	}
	for i, t := range tokens {
		if t.Word && len(t.Text) > 1 && t.Text[0] == '$' && strings.Trim(t.Text[1:], "0123456789") == "" {
			return at(t, "%s is no placeholder of MariaDB and MySQL: write ? for an argument, and `%s` for a name", t.Text,
				t.Text)
		}
		if t.Is("CONCURRENTLY") && i > 0 && tokens[i-1].Is("INDEX") && i+1 < len(tokens) && i < 6 &&
			(tokens[0].Is("CREATE") || tokens[0].Is("DROP")) && !tokens[i+1].Is("ON") && !tokens[i+1].Is("USING") {
			return at(t, "CONCURRENTLY is PostgreSQL's: leave it out; MariaDB and MySQL let others go on as far as they can")
		}
	}
	return nil
}

// elsewhere reports whether a token makes the rest hard to read: the mark of an executed comment, a body in another
// language.
func elsewhere(t Token) bool { return t.Mark || t.Is("LANGUAGE") || t.Word && t.Text[0] == '$' }

// paired looks for parentheses without their other half, and for commas where nothing stands.
func paired(tokens []Token, at func(Token, string, ...any) error) error {
	var open []Token
	for i, t := range tokens {
		before := Token{}
		if i > 0 {
			before = tokens[i-1]
		}
		switch t.Text {
		case "(":
			open = append(open, t)
		case ")":
			if len(open) == 0 {
				return at(t, "a parenthesis is closed that was not opened")
			}
			open = open[:len(open)-1]
		}
		switch {
		case t.Text == "," && (before.Text == "," || before.Text == "("), before.Text == "," && t.Text == ")":
			return at(t, "nothing stands between %q and %q", before.Text, t.Text)
		case before.Text == "*" && i == 2 && tokens[0].Is("SELECT") && t.Word && near(t.Text, words("FROM")) != "":
			return at(t, "%q cannot follow *%s", t.Text, did("FROM"))
		}
	}
	if len(open) > 0 {
		return at(open[len(open)-1], "a parenthesis is not closed")
	}
	last := tokens[len(tokens)-1]
	if last.Text == "," {
		return at(last, "nothing follows the last comma")
	}
	if n := len(tokens); n > 1 && (last.Is("FROM") || last.Is("WHERE") || last.Is("INTO")) {
		switch before := tokens[n-2]; { // names may be called so
		case before.Is("AS"), before.Text == ".", before.Text == "@", before.Text == ":":
		default:
			return at(last, "nothing follows %s", strings.ToUpper(last.Text))
		}
	}
	return nil
}

func did(meant string) string {
	if meant == "" {
		return ""
	}
	return "; did you mean " + meant + "?"
}

// near is the word of all, which are in upper case, that is one edit away from w; "" when there is none, or w is one
// itself. Of several it is the first by the alphabet.
func near(w string, all map[string]bool) string {
	w = strings.ToUpper(w)
	found := ""
	for candidate := range all {
		if candidate == w {
			return ""
		}
		if edit(w, candidate) && (found == "" || candidate < found) {
			found = candidate
		}
	}
	return found
}

// edit reports whether one letter more, less or other, or two that have changed places, make a into b.
func edit(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 || len(b) < 3 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) < len(b) {
		return a[i:] == b[i+1:]
	}
	return i < len(a) && (a[i+1:] == b[i+1:] ||
		i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:])
}
