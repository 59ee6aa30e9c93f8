package mysql

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"xmq/nodeclient/driver/sqltext"
)

// ddl is a statement that changes the schema. The server commits before and after it, so that an intent goes before
// it; intent.go says how.
type ddl struct {
	verb    string   // CREATE TABLE
	blind   bool     // the schema may look the same after it as before it, and the data not; see blind.go
	named   bool     // the names of everything tell whether it was done
	empties string   // what it leaves empty, as it stands after FROM: whether it was empty before tells, too
	makes   string   // OR REPLACE: the name of what is there when it was done; the server may stop in the middle
	places  []string // databases that it names beside tables
	words   []string
}

// objects are the words that say what a statement is about, and whether it may be.
var objects = map[string]bool{
	"TABLE": true, "VIEW": true, "INDEX": true, "TRIGGER": true, "PROCEDURE": true, "FUNCTION": true, "SEQUENCE": true,
	"EVENT": false, "USER": false, "ROLE": false, "DATABASE": false, "SCHEMA": false, "SERVER": false, "PACKAGE": false,
	"TEMPORARY":  false,
	"TABLESPACE": false, "LOGFILE": false, "TABLES": false,
}

// parseDDL looks at CREATE, ALTER, DROP, RENAME and TRUNCATE. Marks of executed comments are not among tokens.
func parseDDL(st sqltext.Statement, tokens []sqltext.Token) (*ddl, error) {
	d := &ddl{verb: st.Keyword}
	for _, t := range tokens {
		d.words = append(d.words, name(t))
	}
	if st.Keyword == "TRUNCATE" {
		d.verb = "TRUNCATE TABLE"
		rest := tokens[1:]
		if len(rest) > 0 && rest[0].Is("TABLE") {
			rest = rest[1:]
		}
		d.empties, _ = object(rest)
		d.places = qualifiers(rest)
		return d, nil
	}
	at := slices.IndexFunc(tokens, func(t sqltext.Token) bool {
		_, known := objects[strings.ToUpper(t.Text)]
		return t.Word && known
	})
	if at < 0 {
		return nil, fmt.Errorf("%s %s: it cannot be told what it changes", st.Keyword, st.Second)
	}
	kind := strings.ToUpper(tokens[at].Text)
	d.verb += " " + kind
	switch {
	case kind == "TEMPORARY":
		return nil, errors.New("a temporary table lives in one connection only and would be gone after a restart")
	case kind == "TABLES":
		return nil, fmt.Errorf("%s: write %s TABLE, with one table in each increment", d.verb, st.Keyword)
	case !objects[kind]:
		return nil, fmt.Errorf("%s changes the server, not the data of one database", d.verb)
	}
	is := func(i int, words ...string) bool {
		for k, w := range words {
			if i+k >= len(tokens) || !tokens[i+k].Is(w) {
				return false
			}
		}
		return true
	}
	has := func(words ...string) bool {
		for i := range tokens {
			if is(i, words...) {
				return true
			}
		}
		return false
	}
	switch st.Keyword {
	case "CREATE":
		if is(1, "OR", "REPLACE") {
			text, last := object(tokens[at+1:])
			if kind != "INDEX" { // which is part of its table
				d.makes = last
			}
			if kind == "TABLE" {
				d.empties = text
			}
		}
		if kind == "TABLE" && (has("SELECT") || has("VALUES") && !has("PARTITION")) {
			return nil, errors.New("CREATE TABLE ... SELECT changes schema and data in one statement; CREATE TABLE first, " +
				"INSERT ... SELECT in the next increment")
		}
		if kind == "FUNCTION" && has("SONAME") {
			return nil, errors.New("SONAME loads a library of one server")
		}
	case "DROP":
		d.named = kind != "INDEX" // which is part of its table
		if slices.ContainsFunc(tokens, func(t sqltext.Token) bool { return t.Text == "," }) {
			return nil, fmt.Errorf("%s of several at once may stop in the middle; make each an increment", d.verb)
		}
	case "RENAME":
		d.blind = swaps(tokens[at+1:])
	case "ALTER":
		if has("DISCARD") || has("IMPORT") {
			return nil, errors.New("it exchanges files of one server")
		}
		d.blind = kind == "TABLE" && blind(tokens[at+1:])
		if kind == "TABLE" {
			d.empties = emptied(tokens[at+1:])
		}
	}
	d.places = qualifiers(tokens[at+1:])
	// bodies have points of their own
	if kind == "VIEW" || kind == "PROCEDURE" || kind == "FUNCTION" || kind == "TRIGGER" {
		d.places = qualifiers(headOf(tokens[at+1:]))
	}
	if on := slices.IndexFunc(tokens, func(t sqltext.Token) bool { return t.Is("ON") }); kind == "TRIGGER" && on > 0 {
		d.places = append(d.places, qualifiers(headOf(tokens[on+1:]))...)
	}
	if kind == "TABLE" || kind == "SEQUENCE" {
		err := checkEngine(tokens)
		return d, err
	}
	return d, nil
}

// headOf is the name that tokens begin with, IF [NOT] EXISTS before it left out, and what is to be read with it.
func headOf(tokens []sqltext.Token) []sqltext.Token {
	for _, words := range [][]string{{"IF", "NOT", "EXISTS"}, {"IF", "EXISTS"}} {
		if is(tokens, words...) {
			tokens = tokens[len(words):]
		}
	}
	if len(tokens) > 2 && tokens[1].Text == "." {
		return tokens[:3]
	}
	return tokens[:min(1, len(tokens))]
}

// object is the name of a thing that tokens begin with, as it stands, and its last part without quotes.
func object(tokens []sqltext.Token) (text, last string) {
	for _, t := range headOf(tokens) {
		text, last = text+t.Text, name(t)
	}
	return text, last
}

// qualifiers are the names before a point, but for numbers and the name of what tokens begin with, which stands before
// columns.
func qualifiers(tokens []sqltext.Token) (all []string) {
	_, own := object(tokens)
	for i := 1; i < len(tokens); i++ {
		before := tokens[i-1]
		number := before.Word && strings.Trim(before.Text, "0123456789") == ""
		if tokens[i].Text == "." && (before.Word || before.Quoted) && !number && (i == 1 || name(before) != own) {
			all = append(all, name(before))
		}
	}
	return all
}

// emptied is what an ALTER TABLE empties, of which tokens are those after the word TABLE: "" for nothing.
func emptied(tokens []sqltext.Token) string {
	for i := range tokens {
		if !is(tokens[i:], "TRUNCATE", "PARTITION") {
			continue
		}
		table, _ := object(tokens)
		var parts []string
		for _, t := range tokens[i+2:] {
			if t.Is("ALL") {
				return table
			}
			if t.Text != "," {
				parts = append(parts, t.Text)
			}
		}
		return table + " PARTITION (" + strings.Join(parts, ", ") + ")"
	}
	return ""
}

// name is a token without its quotes, in lower case.
func name(t sqltext.Token) string {
	text := t.Text
	if t.Quoted && len(text) > 1 {
		text = strings.ReplaceAll(text[1:len(text)-1], "``", "`")
	}
	return strings.ToLower(text)
}

// swaps reports whether a RENAME TABLE gives a name to one table and takes it from another, so that the names may be
// the same after it.
func swaps(tokens []sqltext.Token) bool {
	seen := map[string]int{}
	for _, t := range tokens {
		if !t.Is("TO") && (t.Word || t.Quoted) {
			seen[name(t)]++
		}
	}
	for _, n := range seen {
		if n > 1 {
			return true
		}
	}
	return false
}

// engines without transactions, or with their data elsewhere, that may stand after ENGINE without =.
var engines = []string{"MYISAM", "ARIA", "MEMORY", "HEAP", "ARCHIVE", "CSV", "MERGE", "MRG_MYISAM", "BLACKHOLE",
	"FEDERATED", "FEDERATEDX", "CONNECT", "SPIDER", "S3",
	"ROCKSDB", "COLUMNSTORE", "MROONGA", "SPHINX", "OQGRAPH", "SEQUENCE", "TOKUDB", "NDB", "NDBCLUSTER",
	"PERFORMANCE_SCHEMA"}

func checkEngine(tokens []sqltext.Token) error {
	depth := 0
	for i, t := range tokens {
		switch t.Text {
		case "(":
			depth++
		case ")":
			depth--
		}
		if t.Is("SYSTEM") && i+1 < len(tokens) && tokens[i+1].Is("VERSIONING") && (i == 0 || !tokens[i-1].Is("DROP")) {
			return errors.New("SYSTEM VERSIONING keeps a history that a snapshot cannot carry")
		}
		if !t.Is("ENGINE") || depth > 0 || i+1 == len(tokens) {
			continue
		}
		next := tokens[i+1]
		equal := next.Text == "=" && i+2 < len(tokens)
		if equal {
			next = tokens[i+2]
		}
		if engine := name(next); equal && engine != "innodb" || slices.Contains(engines, strings.ToUpper(engine)) {
			return fmt.Errorf("the engine %s knows no transactions of InnoDB, so that its data and the position could part; "+
				"leave ENGINE out", engine)
		}
	}
	return nil
}
