package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"xmq/nodeclient/driver/sqltext"
)

// makes says with which words the statements begin that pg_dump writes for each kind of entry. The first one makes
// the thing; those after it change it.
var makes = map[string][]string{
	"SCHEMA":          {"CREATE SCHEMA"},
	"EXTENSION":       {"CREATE EXTENSION IF NOT EXISTS", "CREATE EXTENSION"},
	"TYPE":            {"CREATE TYPE", "ALTER TYPE"},
	"SHELL TYPE":      {"CREATE TYPE"},
	"DOMAIN":          {"CREATE DOMAIN"},
	"FUNCTION":        {"CREATE FUNCTION", "ALTER FUNCTION"},
	"PROCEDURE":       {"CREATE PROCEDURE", "ALTER PROCEDURE"},
	"AGGREGATE":       {"CREATE AGGREGATE"},
	"OPERATOR":        {"CREATE OPERATOR"},
	"OPERATOR CLASS":  {"CREATE OPERATOR CLASS"},
	"OPERATOR FAMILY": {"CREATE OPERATOR FAMILY", "ALTER OPERATOR FAMILY"},
	"ACCESS METHOD":   {"CREATE ACCESS METHOD"},
	"CAST":            {"CREATE CAST"},
	"TRANSFORM":       {"CREATE TRANSFORM"},
	"COLLATION":       {"CREATE COLLATION"},
	"CONVERSION":      {"CREATE CONVERSION", "CREATE DEFAULT CONVERSION"},
	"PROCEDURAL LANGUAGE": {"CREATE LANGUAGE", "CREATE PROCEDURAL LANGUAGE", "CREATE TRUSTED LANGUAGE",
		"CREATE TRUSTED PROCEDURAL LANGUAGE", "CREATE OR REPLACE PROCEDURAL LANGUAGE",
		"CREATE OR REPLACE TRUSTED PROCEDURAL LANGUAGE", "CREATE OR REPLACE LANGUAGE", "CREATE OR REPLACE TRUSTED LANGUAGE"},
	"TEXT SEARCH PARSER":        {"CREATE TEXT SEARCH PARSER"},
	"TEXT SEARCH DICTIONARY":    {"CREATE TEXT SEARCH DICTIONARY"},
	"TEXT SEARCH TEMPLATE":      {"CREATE TEXT SEARCH TEMPLATE"},
	"TEXT SEARCH CONFIGURATION": {"CREATE TEXT SEARCH CONFIGURATION", "ALTER TEXT SEARCH CONFIGURATION"},
	"FOREIGN DATA WRAPPER":      {"CREATE FOREIGN DATA WRAPPER"},
	"SERVER":                    {"CREATE SERVER"},
	"USER MAPPING":              {"CREATE USER MAPPING FOR"},
	"TABLE":                     {"CREATE TABLE", "CREATE UNLOGGED TABLE", "ALTER TABLE"},
	"FOREIGN TABLE":             {"CREATE FOREIGN TABLE", "ALTER FOREIGN TABLE", "ALTER TABLE"},
	"TABLE ATTACH":              {"ALTER TABLE"},
	"INDEX ATTACH":              {"ALTER INDEX"},
	"VIEW": {"CREATE VIEW", "CREATE OR REPLACE VIEW", "CREATE RECURSIVE VIEW", "ALTER TABLE",
		"ALTER VIEW"},
	"MATERIALIZED VIEW":      {"CREATE MATERIALIZED VIEW", "ALTER TABLE", "ALTER MATERIALIZED VIEW"},
	"MATERIALIZED VIEW DATA": {"REFRESH MATERIALIZED VIEW"},
	"SEQUENCE":               {"CREATE SEQUENCE", "CREATE UNLOGGED SEQUENCE", "ALTER TABLE", "ALTER SEQUENCE"},
	"SEQUENCE OWNED BY":      {"ALTER SEQUENCE"},
	"DEFAULT":                {"ALTER TABLE", "ALTER FOREIGN TABLE", "ALTER VIEW"},
	"CONSTRAINT":             {"ALTER TABLE", "ALTER FOREIGN TABLE", "ALTER INDEX"},
	"CHECK CONSTRAINT":       {"ALTER TABLE", "ALTER FOREIGN TABLE", "ALTER DOMAIN"},
	"FK CONSTRAINT":          {"ALTER TABLE", "ALTER FOREIGN TABLE"},
	"INDEX":                  {"CREATE INDEX", "CREATE UNIQUE INDEX", "ALTER TABLE", "ALTER INDEX"},
	"STATISTICS":             {"CREATE STATISTICS", "ALTER STATISTICS"},
	"RULE":                   {"CREATE RULE", "CREATE OR REPLACE RULE", "CREATE OR REPLACE VIEW", "ALTER TABLE"},
	"TRIGGER":                {"CREATE TRIGGER", "CREATE CONSTRAINT TRIGGER", "ALTER TABLE", "ALTER TRIGGER"},
	"EVENT TRIGGER":          {"CREATE EVENT TRIGGER", "ALTER EVENT TRIGGER"},
	"POLICY":                 {"CREATE POLICY"},
	"ROW SECURITY":           {"ALTER TABLE"},
	"COMMENT":                {"COMMENT ON"},
	"SECURITY LABEL":         {"SECURITY LABEL"},
}

// named are the kinds whose entry has the name that stands after the first words of their first statement.
var named = []string{"SCHEMA", "EXTENSION", "TYPE", "SHELL TYPE", "DOMAIN", "FUNCTION", "PROCEDURE", "AGGREGATE",
	"COLLATION", "SERVER", "TABLE",
	"FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "MATERIALIZED VIEW DATA", "SEQUENCE", "INDEX", "STATISTICS"}

// shared are the things of the whole server.
var shared = []string{"DATABASE", "ROLE", "TABLESPACE", "SUBSCRIPTION"}

// fixed are the settings of an archive, as pg_dump writes them and pg_restore repeats them.
var fixed = map[string]string{
	"ENCODING":   "SET client_encoding = 'UTF8';\n",
	"STDSTRINGS": "SET standard_conforming_strings = 'on';\n",
	"SEARCHPATH": "SELECT pg_catalog.set_config('search_path', '', false);\n",
}

// left are the kinds that pg_restore leaves out, told to: rights, which the receiver gives itself, and the database
// itself.
var left = []string{"ACL", "ACL LANGUAGE", "DEFAULT ACL", "DATABASE", "DATABASE PROPERTIES"}

// ident is a name as pg_dump writes it.
const ident = `(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_]*)`

var (
	copyRows = regexp.MustCompile(`^COPY (?:` + ident + `\.)?` + ident + ` +(?:\(` + ident + `(?:, ` + ident +
		`)*\) )?FROM stdin;\n$`)
	setval    = regexp.MustCompile(`^SELECT pg_catalog\.setval\('(?:[^'\\]|'')+', -?[0-9]+, (?:true|false)\);\n$`)
	makeBlob  = regexp.MustCompile(`^SELECT pg_catalog\.lo_create\('[0-9]+'\);\n$`)
	manyBlobs = regexp.MustCompile(`^[0-9\n]*$`)
)

// contents is what a restore must know of an archive before it loads it.
type contents struct {
	rights     []right
	strange    map[string]bool // things whose rights are written as nothing known: they are left out and named
	extensions []string
	searchPath entry
	comments   []entry // on extensions
}

// edits are what is loaded otherwise than the archive says. path is a search_path; "" for that of the archive. Who may
// not make an extension may not comment on it either: its comment is there already.
func (c contents) edits(path string, made bool) (all []edit) {
	if path != "" {
		all = append(all, edit{c.searchPath, "SELECT pg_catalog.set_config('search_path', " +
			quoteText(path) + ", false);\n"})
	}
	if made {
		for _, e := range c.comments {
			all = append(all, edit{e, fixed["ENCODING"]})
		}
	}
	slices.SortFunc(all, func(a, b edit) int { return cmp.Compare(a.at, b.at) })
	return all
}

// checkArchive judges every entry of an archive, before any of it reaches the server.
func checkArchive(r io.Reader) (c contents, err error) {
	c.strange = map[string]bool{}
	err = readArchive(r, func(e entry) error {
		err := e.check()
		switch {
		case err != nil:
		case e.kind == "EXTENSION":
			c.extensions = append(c.extensions, e.name)
		case e.kind == "SEARCHPATH":
			c.searchPath = e
		case e.kind == "COMMENT" && strings.HasPrefix(e.name, "EXTENSION "):
			c.comments = append(c.comments, e)
		case (e.kind == "ACL" || e.kind == "DEFAULT ACL") && !strings.HasPrefix(e.name, "LARGE OBJECTS "): // of many
			if all, unknown := e.rights(); unknown == nil {
				c.rights = append(c.rights, all...)
			} else {
				c.strange[e.name] = true
			}
		case e.kind == "ACL":
			c.strange[e.name] = true
		}
		if err != nil {
			return fmt.Errorf("the %s %.100s is not defined as such: %w", strings.ToLower(e.kind), e.name, err)
		}
		return nil
	})
	return c, err
}

var errOther = errors.New("its SQL does something else")

// check judges one entry: it is the definition of what it names, or data.
func (e entry) check() error {
	is := func(ok bool) error {
		if !ok {
			return errOther
		}
		return nil
	}
	text, isFixed := fixed[e.kind]
	switch {
	case isFixed:
		return is(e.sql == text && e.copy == "" && !e.data)
	case e.kind == "TABLE DATA":
		return is(copyRows.MatchString(e.copy) && e.sql == "")
	case e.kind == "BLOBS":
		return is(e.sql == "" && e.copy == "")
	case e.kind == "BLOB":
		return is(makeBlob.MatchString(e.sql) && e.copy == "" && !e.data)
	case e.kind == "BLOB METADATA":
		return is(manyBlobs.MatchString(e.sql) && e.copy == "" && !e.data)
	case e.kind == "SEQUENCE SET":
		return is(setval.MatchString(e.sql) && e.copy == "" && !e.data)
	case slices.Contains(left, e.kind):
		return is(e.copy == "" && !e.data)
	case makes[e.kind] == nil:
		return errors.New("a snapshot carries nothing of this kind")
	case e.copy != "" || e.data:
		return errors.New("data comes with it")
	case (e.kind == "COMMENT" || e.kind == "SECURITY LABEL") && strings.HasPrefix(e.name, "DATABASE "):
		return nil // which pg_restore leaves out with the database
	}
	first := true
	for st, err := range sqltext.Statements(sqltext.PostgreSQL, e.sql) {
		if err != nil {
			return err
		}
		if err := e.statement(st.Text, first); err != nil {
			return err
		}
		first = false
	}
	return is(!first)
}

// statement judges one statement of a definition.
func (e entry) statement(text string, first bool) error {
	tokens, err := sqltext.Tokens(sqltext.PostgreSQL, text)
	if err != nil {
		return err
	}
	words := ""
	for _, w := range makes[e.kind] {
		if begins(tokens, w) && len(w) > len(words) {
			words = w
		}
	}
	if words == "" {
		return fmt.Errorf("it says %.60q", text)
	}
	rest := tokens[strings.Count(words, " ")+1:]
	switch e.kind {
	case "COMMENT":
		if len(rest) > 0 && slices.ContainsFunc(shared, rest[0].Is) {
			return errOther
		}
		return nil
	case "SECURITY LABEL":
		if !slices.ContainsFunc(rest, func(t sqltext.Token) bool { return t.Is("ON") }) ||
			slices.ContainsFunc(rest, func(t sqltext.Token) bool { return slices.ContainsFunc(shared, t.Is) }) {
			return errOther
		}
		return nil
	case "USER MAPPING", "CAST", "TRANSFORM", "OPERATOR":
		return nil
	}
	for len(rest) > 0 && (rest[0].Is("ONLY") || rest[0].Is("IF") || rest[0].Is("EXISTS")) {
		rest = rest[1:]
	}
	names, rest := nameOf(rest)
	if len(names) == 0 || len(names) > 2 {
		return errOther
	}
	if first && strings.HasPrefix(words, "CREATE") && slices.Contains(named, e.kind) ||
		e.kind == "MATERIALIZED VIEW DATA" {
		if name := names[len(names)-1]; e.name != name && !strings.HasPrefix(e.name, name+"(") &&
			!strings.HasPrefix(e.name, quoteName(name)+"(") {
			return fmt.Errorf("it names %.64s", name)
		}
		if len(names) == 2 && names[0] != e.namespace {
			return fmt.Errorf("it names the schema %.64s", names[0])
		}
	}
	return wellFormed(words, rest)
}

// wellFormed judges what follows the name: no query is run to make something, and a body ends where it seems to.
func wellFormed(words string, rest []sqltext.Token) error {
	switch words {
	case "CREATE SCHEMA":
		if len(rest) > 0 {
			return errOther
		}
	case "CREATE TABLE", "CREATE UNLOGGED TABLE":
		if len(rest) == 0 || rest[0].Text != "(" && !rest[0].Is("OF") && !rest[0].Is("PARTITION") {
			return errOther
		}
		if depth := 0; slices.ContainsFunc(rest, func(t sqltext.Token) bool {
			switch t.Text {
			case "(":
				depth++
			case ")":
				depth--
			}
			return depth == 0 && (t.Is("AS") || t.Is("EXECUTE"))
		}) {
			return errors.New("it runs a query")
		}
	case "CREATE MATERIALIZED VIEW":
		if n := len(rest); n < 3 || !rest[n-3].Is("WITH") || !rest[n-2].Is("NO") || !rest[n-1].Is("DATA") {
			return errors.New("it runs a query")
		}
	case "CREATE FUNCTION", "CREATE PROCEDURE":
		return bodied(rest)
	case "ALTER FUNCTION", "ALTER PROCEDURE":
		if n := len(rest); n < 6 || !begins(rest[n-4:], "DEPENDS ON EXTENSION") {
			return errOther
		}
	}
	return nil
}

// openers are the words with which a statement in a body of SQL may begin, and operands those after which CASE
// begins an expression.
var (
	openers  = strings.Fields("SELECT INSERT UPDATE DELETE MERGE WITH VALUES RETURN END TABLE")
	operands = strings.Fields("SELECT WHEN THEN ELSE BY WHERE AND OR NOT ON RETURN SET IN LIKE ILIKE BETWEEN DISTINCT " +
		"ALL HAVING USING VALUES RETURNING LIMIT OFFSET DEFAULT CASE FROM IS SIMILAR TO")
)

// bodied judges a body that stands in the text itself, BEGIN ATOMIC ... END: where CASE is a name, its end is not
// where it seems.
func bodied(rest []sqltext.Token) error {
	i := slices.IndexFunc(rest, func(t sqltext.Token) bool { return t.Is("ATOMIC") })
	if i < 0 {
		return nil
	}
	for ; i < len(rest); i++ {
		last := rest[i-1]
		switch t := rest[i]; {
		case t.Is("CASE") && (last.Quoted || last.Text == ")" || last.Text == "]" || last.Text == "." || last.Word &&
			!slices.ContainsFunc(operands, last.Is)):
			return errors.New("its body cannot be told from what follows")
		case last.Text == ";" && t.Text != "(" && !slices.ContainsFunc(openers, t.Is):
			return errors.New("its body holds more than queries and changes of rows")
		case t.Is("END") && last.Text == ";" && i+1 < len(rest):
			return errors.New("something stands after its body")
		}
	}
	return nil
}

// begins reports whether the tokens begin with the words.
func begins(tokens []sqltext.Token, words string) bool {
	all := strings.Fields(words)
	return len(tokens) >= len(all) && !slices.ContainsFunc(all, func(w string) bool {
		t := tokens[0]
		tokens = tokens[1:]
		return !t.Is(w)
	})
}

// nameOf is the parts of the name that the tokens begin with, and what follows it.
func nameOf(tokens []sqltext.Token) (names []string, rest []sqltext.Token) {
	for len(tokens) > 0 {
		switch t := tokens[0]; {
		case t.Word:
			names = append(names, strings.ToLower(t.Text))
		case t.Quoted && t.Text[0] == '"':
			names = append(names, strings.ReplaceAll(t.Text[1:len(t.Text)-1], `""`, `"`))
		default:
			return nil, tokens
		}
		if tokens = tokens[1:]; len(tokens) == 0 || tokens[0].Text != "." {
			return names, tokens
		}
		tokens = tokens[1:]
	}
	return nil, nil
}
