package sqltext

import (
	"errors"
	"io"
	"iter"
	"strings"
)

// Script is what becomes one increment: one statement, or all statements of one transaction.
type Script struct {
	Text string // statements, each ended by ";", one line break between them; no transaction control
	Line int    // where its first statement (of a transaction: its BEGIN) stands, from 1

	marks []mark
}

// mark says where a statement of a script stands in its text and in the input, by lines.
type mark struct{ text, input int }

// Input is the line of the input from which a line of the text comes, both from 1.
func (s Script) Input(line int) int {
	input := s.Line
	for _, m := range s.marks {
		if m.text <= line {
			input = m.input + line - m.text
		}
	}
	return input
}

// builder gathers the statements of a script.
type builder struct {
	text  strings.Builder
	lines int // line breaks in text
	marks []mark
}

// add appends a statement with its delimiter.
func (b *builder) add(st Statement, ended string) {
	if b.text.Len() > 0 {
		b.text.WriteByte('\n')
		b.lines++
	}
	before := strings.Count(ended[:strings.Index(ended, st.Text)], "\n")
	b.marks = append(b.marks, mark{1 + b.lines + before, st.Line})
	b.text.WriteString(ended)
	b.lines += strings.Count(ended, "\n")
}

func (b *builder) done(line int) Script { return Script{b.text.String(), line, b.marks} }

// Split yields the scripts of r in order: a transaction (BEGIN or START TRANSACTION to COMMIT or END) as one
// script without its control statements, any other statement as a script of its own. A transaction that is
// rolled back yields nothing, nor does an empty one. It reads r as it goes and holds one script at a time,
// at most limit bytes of text each. What dumps hold beside SQL is handled as Splitter says.
//
// The last pair has the error, if any, and names the line: an open quote, comment, body or transaction,
// savepoints and other control that cannot be part of an increment, a script beyond the limit, r's own error.
func Split(r io.Reader, d Dialect, limit int) iter.Seq2[Script, error] {
	return (&Splitter{Dialect: d, Limit: limit}).Scripts(r)
}

// ended is a statement with its delimiter: a semicolon, unless only the script's DELIMITER told where it ends. Then the
// increment has a DELIMITER as well.
func (s *scanner) ended(text string) string {
	if string(s.delim) == ";" || readable(s.lex.dialect, text) {
		return text + ";"
	}
	delim := "//"
	for strings.Contains(text, delim) {
		delim += "/"
	}
	return "DELIMITER " + delim + "\n" + text + delim + "\nDELIMITER ;"
}

// readable reports whether text can be cut into statements to its end.
func readable(d Dialect, text string) bool {
	for _, err := range Statements(d, text) {
		if err != nil {
			return false
		}
	}
	return true
}

func begins(st Statement) bool { return st.Control == "BEGIN" || st.Control == "START" }

// plain reports whether a control statement ends a transaction and does nothing else (no AND CHAIN, no TO
// SAVEPOINT, no PREPARED).
func plain(st Statement) bool {
	return st.Second == "" || (st.Second == "TRANSACTION" || st.Second == "WORK") && len(strings.Fields(st.Text)) == 2
}

func commits(st Statement) bool {
	return (st.Control == "COMMIT" || st.Control == "END") && plain(st)
}

func rollsBack(st Statement) bool {
	return (st.Control == "ROLLBACK" || st.Control == "ABORT") && plain(st)
}

// Statements yields the statements of text. The last pair has the error, if any: an open quote, comment or
// body, with its line.
func Statements(d Dialect, text string) iter.Seq2[Statement, error] {
	return func(yield func(Statement, error) bool) {
		s := textScanner(d, text)
		for {
			st, err := s.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(st, err) || err != nil {
				return
			}
		}
	}
}

// FirstKeyword returns the word the text begins with, in upper case, comments and empty statements passed
// over; "" when it begins with something else or cannot be read.
func FirstKeyword(d Dialect, text string) string {
	s := textScanner(d, text)
	for {
		k, n, ended, _, err := s.token()
		if err != nil || ended {
			return ""
		}
		switch k {
		case word:
			return strings.ToUpper(text[s.at : s.at+n])
		case space, comment, semicolon, hint:
			s.pass(n)
		default:
			return ""
		}
	}
}

// TransactionControl finds the first statement of text that controls a transaction: its word in upper case
// (see Statement) and its line. Bodies of triggers and routines are no part of the search. In a text that
// cannot be read to its end the search covers what precedes the trouble.
func TransactionControl(d Dialect, text string) (control string, line int, found bool) {
	for st, err := range Statements(d, text) {
		if err == nil && st.Control != "" {
			return st.Control, st.Line, true
		}
	}
	return "", 0, false
}

// Increment returns the statements of text as an increment, which is one transaction: one outer BEGIN ...
// COMMIT is stripped, any other transaction control is an error, as is an open quote, comment or body.
func Increment(d Dialect, text string) ([]Statement, error) {
	var all []Statement
	for st, err := range Statements(d, text) {
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	if n := len(all); n >= 2 && begins(all[0]) && commits(all[n-1]) {
		all = all[1 : n-1]
	}
	for _, st := range all {
		if st.Control != "" {
			return nil, errAt(st.Line, "%s would control the transaction in which XMQ stores the position with the data; "+
				"leave it out, an increment is a transaction already", st.Control)
		}
	}
	return all, nil
}

// Unwrap strips one outer BEGIN ... COMMIT from text and nothing else. A text that is not wrapped, has other
// transaction control inside or cannot be read is returned as it is.
func Unwrap(d Dialect, text string) string {
	if first := FirstKeyword(d, text); first != "BEGIN" && first != "START" {
		return text
	}
	all, err := Increment(d, text)
	if err != nil {
		return text
	}
	var inner strings.Builder
	for _, st := range all {
		inner.WriteString(st.Text + ";\n")
	}
	return inner.String()
}

// Mentions reports whether name (lower case) stands in text as a word or as the whole of anything quoted, in
// any case: as a table it can then be meant, in a comment or inside a longer string it cannot. PostgreSQL's
// $tag$ strings are searched like the text around them, since they hold the bodies of functions and DO; below the
// depth at which people nest them, any appearance counts.
func Mentions(d Dialect, text, name string) bool { return mentions(d, text, name, 3) }

func mentions(d Dialect, text, name string, depth int) bool {
	if depth == 0 {
		return strings.Contains(strings.ToLower(text), name)
	}
	s := textScanner(d, text)
	for {
		k, n, ended, _, err := s.token()
		if err != nil || ended {
			return false
		}
		t := text[s.at : s.at+n]
		if k == quoted && t[0] == '$' {
			if mentions(d, dollarBody(t), name, depth-1) {
				return true
			}
		} else if k == quoted && len(t) >= 2 {
			t = t[1 : len(t)-1]
		}
		if (k == word || k == quoted) && strings.EqualFold(t, name) {
			return true
		}
		s.pass(n)
	}
}
