package sqltext

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Warning is a place where replicas may come to differ although each does what it is told, or where nodes may all fail.
type Warning struct {
	Line int
	// Statement is its place in a {"tx"}, from 1, to whose text the line belongs; 0 elsewhere.
	Statement int
	What      string // as it stands there: "now()"
	Why       string // what happens, and what to write instead
}

func (w Warning) String() string {
	return fmt.Sprintf("%s: %s: %s", Statement{Line: w.Line, Number: w.Statement}.Where(), w.What, w.Why)
}

// Lint warns of what makes replicas differ, as far as words show it: clocks, random values, what one server says of
// itself, sequences that cannot be put back, and rows taken or gathered in an order that nobody has given; and of what
// only a superuser may do. It judges nothing: a text that cannot be read is searched up to there. The body of an
// increment with arguments is searched, too; what they are is no matter of the lint.
func Lint(d Dialect, text string) (all []Warning) {
	pieces, err := Pieces([]byte(text))
	if err != nil {
		return nil
	}
	for _, p := range pieces {
		for _, w := range lintScript(d, p.Text) {
			w.Statement = p.Number
			all = append(all, w)
		}
	}
	return all
}

func lintScript(d Dialect, text string) (all []Warning) {
	for st, err := range Statements(d, text) {
		if err != nil {
			return all
		}
		for _, w := range lint(d, st.Text) {
			w.Line += st.Line - 1
			all = append(all, w)
		}
	}
	return all
}

// lint looks at one statement; lines are counted from its first.
func lint(d Dialect, text string) []Warning {
	l := linter{dialect: d, tokens: meaningful(d, text)}
	for i := range l.tokens {
		l.word(i)
	}
	l.order()
	l.numbered()
	slices.SortStableFunc(l.all, func(a, b Warning) int { return a.Line - b.Line })
	return l.all
}

type linter struct {
	dialect Dialect
	tokens  []token
	all     []Warning
}

func (l *linter) warn(line int, what, why string) {
	l.all = append(l.all, Warning{Line: line, What: what, Why: why})
}

// is reports whether the token with index i is the word or symbol w.
func (l *linter) is(i int, w string) bool {
	return i >= 0 && i < len(l.tokens) && l.tokens[i].kind != quoted && strings.EqualFold(l.tokens[i].text, w)
}

// word looks at one token.
func (l *linter) word(i int) {
	t := l.tokens[i]
	if t.kind == quoted {
		l.quoted(i)
		return
	}
	if t.kind != word || l.is(i-1, ".") && !l.is(i-2, "pg_catalog") { // a column, or a function of somebody's schema
		return
	}
	d, upper := l.dialect, strings.ToUpper(t.text)
	called := l.is(i+1, "(") && !l.table(i)
	switch {
	case l.is(i-1, "@") && l.is(i-2, "@"):
		if d == MariaDB && !pinned[upper] {
			l.warn(t.line, "@@"+t.text, ownServer)
		}
	case l.is(i-1, "@"):
	case called && volatileCall(d, upper) != "":
		l.warn(t.line, t.text+"()", volatileCall(d, upper))
	case called && d == SQLite && dates[upper] && asksNow(upper, l.tokens[i+1:]):
		l.warn(t.line, t.text+"('now')", ownClock)
	case called && d == PostgreSQL && upper == "AGE" && arguments(l.tokens[i+1:]) == 1:
		l.warn(t.line, t.text+"()", ownClock)
	case i < 10 && l.is(0, "CREATE") && l.is(i-1, "=") && l.is(i-2, "DEFINER"): // a right, not data
	case bare[d][upper] != "" && !called:
		l.warn(t.line, t.text, bare[d][upper])
	case d == PostgreSQL && upper == "CACHE" && (l.is(0, "CREATE") || l.is(0, "ALTER")) && l.many(i+1):
		l.warn(t.line, "CACHE "+l.tokens[i+1].text, ownCache)
	case d == MariaDB && upper == "SEQUENCE" && l.is(0, "CREATE") && l.caches(i):
		l.warn(t.line, "SEQUENCE without NOCACHE", noCache)
	case d == MariaDB && upper == "CACHE" && l.is(0, "ALTER") && l.is(1, "SEQUENCE") && l.many(i+1):
		l.warn(t.line, "CACHE "+l.tokens[i+1].text, noCache)
	case d == PostgreSQL && upper == "TRIGGER" && l.is(0, "ALTER") && l.is(1, "TABLE") && l.is(i+1, "ALL") &&
		(l.is(i-1, "DISABLE") || l.is(i-1, "ENABLE")):
		l.warn(t.line, "TRIGGER ALL", onlySuperuser)
	case d == PostgreSQL && i == 0 && upper == "GRANT" && l.lends():
		l.warn(t.line, "GRANT on a sequence", ownWriter)
	}
}

// many reports whether the token with index i is a number above 1.
func (l *linter) many(i int) bool {
	if i >= len(l.tokens) {
		return false
	}
	n, err := strconv.ParseUint(l.tokens[i].text, 10, 64)
	return err == nil && n > 1
}

// caches reports whether the CREATE SEQUENCE of MariaDB whose second word is the token with index i takes numbers in
// advance, as it does unless it says otherwise.
func (l *linter) caches(i int) bool {
	if !l.is(i-1, "CREATE") && !l.is(i-1, "REPLACE") && !l.is(i-1, "TEMPORARY") {
		return false
	}
	for k := range l.tokens {
		if l.is(k, "NOCACHE") || l.is(k, "CACHE") && !l.many(k+1) {
			return false
		}
	}
	return true
}

// lends reports whether a GRANT lets a role take numbers of sequences.
func (l *linter) lends() bool {
	takes := false
	for i := range l.tokens {
		switch {
		case l.is(i, "USAGE"), l.is(i, "UPDATE"), l.is(i, "ALL") && i == 1:
			takes = true
		case l.is(i, "ON"):
			return takes && (l.is(i+1, "SEQUENCE") || l.is(i+1, "ALL") && l.is(i+2, "SEQUENCES"))
		}
	}
	return false
}

// table reports whether the word with index i is the name of a table or an index, whose columns follow.
func (l *linter) table(i int) bool {
	return slices.ContainsFunc([]string{"INTO", "TABLE", "EXISTS", "REFERENCES", "ON", "INDEX", "KEY"},
		func(w string) bool {
			return l.is(i-1, w)
		})
}

// quoted looks into a string: bodies of functions, and PostgreSQL's words for the clock.
func (l *linter) quoted(i int) {
	t := l.tokens[i]
	if l.dialect != PostgreSQL {
		return
	}
	body := ""
	switch text := content(t.text); {
	case t.text[0] == '$':
		body = dollarBody(t.text)
	case t.text[0] == '"':
		return
	case l.is(0, "DO") || l.is(i-1, "AS") && l.is(0, "CREATE"):
		body = text
	default:
		if relative(text) {
			l.warn(t.line, "'"+text+"'", ownClock)
		}
	}
	for _, w := range lintScript(l.dialect, body) {
		w.Line += t.line - 1
		l.all = append(l.all, w)
	}
}

// content is what a string literal of PostgreSQL says, as far as a lint needs it.
func content(literal string) string {
	if at := strings.IndexByte(literal, '\''); at >= 0 && len(literal) > at+1 {
		return strings.ReplaceAll(literal[at+1:len(literal)-1], "''", "'")
	}
	return literal
}

// query is one level of parentheses of a statement.
type query struct {
	opener   string // the word before its parenthesis, in upper case
	ranks    string // the function whose window it is, when its answer depends on the order of rows
	line     int
	selects  bool // it has a SELECT that reads a table
	from     bool
	ordered  bool
	limited  int // line of its LIMIT or FETCH FIRST
	distinct int // line of its DISTINCT ON
}

// order looks for rows that are taken or numbered in an order that nobody has given.
func (l *linter) order() {
	writes := slices.ContainsFunc(l.tokens, func(t token) bool {
		return t.kind == word && slices.ContainsFunc([]string{"INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "CREATE"},
			func(w string) bool { return strings.EqualFold(t.text, w) })
	})
	open := []query{{}}
	for i, t := range l.tokens {
		q := &open[len(open)-1]
		upper := ""
		if t.kind == word && !l.is(i-1, ".") {
			upper = strings.ToUpper(t.text)
		}
		switch {
		case t.text == "(":
			before := query{line: t.line}
			if i > 0 && l.tokens[i-1].kind == word && !l.is(i-2, ".") {
				before.opener, before.line = strings.ToUpper(l.tokens[i-1].text), l.tokens[i-1].line
			}
			if before.opener == "OVER" {
				before.ranks = l.windowed(i - 1)
			}
			open = append(open, before)
		case t.text == ")" && len(open) > 1:
			open = open[:len(open)-1]
			l.closed(q, writes)
		case t.text == ";": // of a body: the next statement begins
			l.closed(q, writes)
			*q = query{opener: q.opener, line: q.line}
		case upper == "SELECT":
			q.selects = true
		case upper == "FROM":
			q.from = true
		case upper == "ORDER":
			q.ordered = true
		case upper == "LIMIT" && !l.is(i+1, "ALL"), upper == "FETCH" && (l.is(i+1, "FIRST") || l.is(i+1, "NEXT")):
			q.limited = t.line
		case upper == "DISTINCT" && l.is(i+1, "ON"):
			q.distinct = t.line
		}
	}
	l.whole(&open[0], writes)
}

// windowed is the function before the OVER with index i, when its answer depends on the order of rows.
func (l *linter) windowed(i int) string {
	depth := 0
	for i--; i >= 0; i-- {
		switch {
		case l.is(i, ")"):
			depth++
		case l.is(i, "("):
			if depth--; depth == 0 && i > 0 {
				if name := strings.ToUpper(l.tokens[i-1].text); rankers[name] {
					return name
				}
				return ""
			}
		}
	}
	return ""
}

// closed judges what stood in parentheses.
func (l *linter) closed(q *query, writes bool) {
	switch {
	case q.ordered || !writes:
	case gatherers[q.opener]:
		l.warn(q.line, strings.ToLower(q.opener)+" without ORDER BY", ownRows)
	case q.ranks != "":
		l.warn(q.line, strings.ToLower(q.ranks)+" without ORDER BY", ownRows)
	case q.distinct > 0:
		l.warn(q.distinct, "DISTINCT ON without ORDER BY", ownOrder)
	case q.limited > 0 && q.opener != "EXISTS":
		l.warn(q.limited, "LIMIT without ORDER BY", ownOrder)
	}
}

// verb is the first word of a statement, and after WITH that which changes something.
func (l *linter) verb() string {
	first := ""
	if len(l.tokens) > 0 {
		first = strings.ToUpper(l.tokens[0].text)
	}
	if first == "WITH" {
		for _, t := range l.tokens { // the verb after the common table expressions
			if u := strings.ToUpper(t.text); t.kind == word && slices.Contains([]string{"INSERT", "UPDATE", "DELETE",
				"REPLACE"}, u) {
				first = u
			}
		}
	}
	return first
}

// whole judges a statement outside of all parentheses.
func (l *linter) whole(q *query, writes bool) {
	first := l.verb()
	switch {
	case q.ordered:
	case q.limited > 0 && (first == "UPDATE" || first == "DELETE"):
		l.warn(q.limited, first+" with LIMIT", ownOrder)
	case q.distinct > 0 && writes:
		l.warn(q.distinct, "DISTINCT ON without ORDER BY", ownOrder)
	case q.limited > 0 && writes:
		l.warn(q.limited, "LIMIT without ORDER BY", ownOrder)
	case (first == "INSERT" || first == "REPLACE") && q.selects && q.from:
		l.warn(1, first+" ... SELECT without ORDER BY", ownRows)
	}
}

// numbered looks for numbers of a sequence that rows which are there already get in the order in which they lie. That
// is the order of the key where rows lie by a key, as in MariaDB, whose new columns are therefore equal everywhere.
func (l *linter) numbered() {
	verb, pg := l.verb(), l.dialect == PostgreSQL
	if l.dialect == SQLite || verb != "UPDATE" && (!pg || verb != "ALTER" && verb != "CREATE") {
		return
	}
	depth, adds, where, one := 0, false, false, false // one: WHERE has a comparison that may choose one row
	reads, ordered, drawn, what := false, false, 0, ""
	for i, t := range l.tokens {
		switch {
		case t.text == "(":
			depth++
		case t.text == ")":
			depth--
		case t.text == "," && depth == 0, l.is(i, "ADD"):
			adds = t.text != "," && !l.is(i+1, "GENERATED") && !l.is(i+1, "CONSTRAINT")
		case t.text == "=":
			one = one || where
		case t.kind != word:
		case verb == "ALTER":
			serial := strings.HasSuffix(strings.TrimRight(strings.ToUpper(t.text), "248"), "SERIAL") && // no column's name
				!l.is(i-1, "ADD") && !l.is(i-1, "COLUMN") && !l.is(i-1, "EXISTS")
			identity := l.is(i, "IDENTITY") && l.is(i-1, "AS")
			if adds && l.is(1, "TABLE") && (serial || identity || l.draws(i)) {
				l.warn(t.line, "ADD COLUMN with "+t.text, ownNumbers)
				adds = false
			}
		case l.is(i, "WHERE") && depth == 0:
			where = true
		case l.is(i, "ORDER"):
			ordered = true
		case l.is(i, "FROM"):
			reads = true
		case l.draws(i) && drawn == 0 && depth == 0:
			drawn, what = t.line, t.text
		}
	}
	switch {
	case drawn == 0 || ordered || one && verb == "UPDATE":
	case verb == "UPDATE", reads && l.is(1, "TABLE"):
		l.warn(drawn, verb+" with "+what, ownNumbers)
	}
}

// draws reports whether the word with index i takes the next number of a sequence.
func (l *linter) draws(i int) bool {
	return l.is(i, "NEXTVAL") && l.is(i+1, "(") || l.is(i, "NEXT") && l.is(i+1, "VALUE") && l.is(i+2, "FOR")
}

// asksNow reports whether the arguments that begin with ( are none, name 'now', or leave out the time.
func asksNow(function string, args []token) bool {
	n := arguments(args)
	if n == 0 || n == 1 && function == "STRFTIME" {
		return true
	}
	first := strings.ToLower(strings.Trim(args[1].text, "'\""))
	if function != "STRFTIME" && (first == "subsec" || first == "subsecond") {
		return true
	}
	depth := 0
	for _, t := range args {
		switch {
		case t.text == "(":
			depth++
		case t.text == ")":
			if depth--; depth == 0 {
				return false
			}
		case strings.EqualFold(t.text, "'now'"):
			return true
		}
	}
	return false
}

// arguments counts those of a call whose parenthesis is the first token.
func arguments(args []token) (n int) {
	depth := 0
	for i, t := range args {
		switch t.text {
		case "(", "[":
			depth++
		case ")", "]":
			depth--
		case ",":
			if depth == 1 {
				n++
			}
		}
		if depth == 0 {
			if i > 1 {
				n++
			}
			return n
		}
	}
	return n
}

// token is one token and the line it stands in.
type token struct {
	kind kind
	text string
	line int
}

// meaningful are the tokens of text but spaces and comments, up to what cannot be read.
func meaningful(d Dialect, text string) (all []token) {
	s := textScanner(d, text)
	for {
		k, n, ended, _, err := s.token()
		if err != nil && !errors.Is(err, io.EOF) || ended {
			return all
		}
		if k != space && k != comment && k != hint {
			all = append(all, token{k, text[s.at : s.at+n], s.line})
		}
		s.pass(n)
	}
}

// field is a field beside a day in a time that PostgreSQL reads: a number, a time of day, a zone.
var field = regexp.MustCompile(`^([-+0-9].*|[A-Z]{3,5}|\w+/.+|allballs|utc|gmt|[zZ]|AM|PM|am|pm)$`)

// relative reports whether PostgreSQL would read a string as a time that depends on its clock: "today 12:00", but not
// "Now Voyager".
func relative(text string) bool {
	fields := strings.Fields(text)
	asks := false
	for _, f := range fields {
		switch {
		case days[strings.ToUpper(f)]:
			asks = true
		case !field.MatchString(f):
			return false
		}
	}
	return asks
}
