package mysql

import (
	"slices"
	"strings"

	"xmq/nodeclient/driver/sqltext"
)

// touch is what the words of a statement say about the numbers that it may take from AUTO_INCREMENT or a sequence.
type touch struct {
	verb  string   // INSERT, also for REPLACE; UPDATE; SELECT for what changes no table by itself; else ""
	names []string // what may be the name of something in the database, in lower case
	into  string   // of an INSERT: its table or view, in lower case
	rows  int      // of an INSERT that does nothing but add rows of VALUES: how many; else 0
	named bool     // it names its columns
	sets  []string // the columns it names, or what an UPDATE writes between SET and WHERE
	// deletes says that it is DELETE, which leaves the counters of its tables where they are.
	deletes bool
	away    bool // of an INSERT: it names a database, too
}

// touchOf looks at a statement. Marks of executed comments are not among tokens.
func touchOf(keyword string, tokens []sqltext.Token) (t touch) {
	switch keyword {
	case "INSERT", "REPLACE":
		t.verb = "INSERT"
		if rest := t.head(tokens); keyword == "INSERT" && t.values(rest) {
			return t
		}
		t.rows = 0
	case "UPDATE":
		if slices.ContainsFunc(tokens, func(t sqltext.Token) bool { return t.Is("PORTION") }) {
			break // MariaDB's FOR PORTION OF adds rows
		}
		t.verb = keyword
		t.sets = assigned(tokens)
	case "SELECT", "DO", "SET", "VALUES":
		t.verb = "SELECT"
	case "DELETE":
		t.deletes = true
	}
	t.mention(tokens)
	return t
}

// head reads INSERT INTO name (columns), and returns what comes after it; nil when it is more than that.
func (t *touch) head(tokens []sqltext.Token) []sqltext.Token {
	i, plain := 1, true
	for ; i < len(tokens) && !tokens[i].Quoted; i++ {
		switch strings.ToUpper(tokens[i].Text) {
		case "LOW_PRIORITY", "HIGH_PRIORITY", "DELAYED", "INTO":
			continue
		case "IGNORE":
			plain = false
			continue
		}
		break
	}
	if i+2 < len(tokens) && tokens[i+1].Text == "." {
		t.away = true
		i += 2
	}
	if i >= len(tokens) {
		return nil
	}
	t.into = name(tokens[i])
	t.names = append(t.names, t.into)
	if i++; i < len(tokens) && tokens[i].Text == "(" {
		end := i + slices.IndexFunc(tokens[i:], func(t sqltext.Token) bool { return t.Text == ")" })
		if end < i {
			return nil
		}
		t.named = true
		for _, c := range tokens[i:end] {
			if c.Word || c.Quoted {
				t.sets = append(t.sets, name(c))
			}
		}
		i = end + 1
	}
	if !plain || i >= len(tokens) {
		return nil
	}
	return tokens[i:]
}

// values reads VALUES (...), (...) to the end of the statement, and reports whether it is that.
func (t *touch) values(tokens []sqltext.Token) bool {
	if len(tokens) < 3 || !tokens[0].Is("VALUES") && !tokens[0].Is("VALUE") {
		return false
	}
	depth := 0
	for i, k := range tokens[1:] {
		switch k.Text {
		case "(":
			if depth == 0 {
				t.rows++
			}
			depth++
		case ")":
			depth--
		case ",":
		default:
			if depth == 0 || i == 0 {
				return false
			}
		}
	}
	t.mention(tokens[1:])
	return depth == 0
}

// assigned is what stands between SET and WHERE, ORDER or LIMIT.
func assigned(tokens []sqltext.Token) (all []string) {
	depth, inside := 0, false
	for _, t := range tokens {
		switch {
		case t.Text == "(":
			depth++
		case t.Text == ")":
			depth--
		case depth == 0 && t.Is("SET"):
			inside = true
		case depth == 0 && (t.Is("WHERE") || t.Is("ORDER") || t.Is("LIMIT")):
			inside = false
		case inside && (t.Word || t.Quoted):
			all = append(all, name(t))
		}
	}
	return all
}

// mention adds what may be names.
func (t *touch) mention(tokens []sqltext.Token) {
	for _, k := range tokens {
		if !k.Word && !(k.Quoted && k.Text[0] == '`') || k.Word && (common(k.Text) || strings.Trim(k.Text,
			"0123456789.") == "") {
			continue
		}
		if n := name(k); !slices.Contains(t.names, n) {
			t.names = append(t.names, n)
		}
	}
}

// common reports whether a word is none that could be a name without quotes.
func common(word string) bool {
	switch word {
	case "INSERT", "insert", "INTO", "into", "VALUES", "values", "UPDATE", "update", "SET", "set", "WHERE",
		"where", "AND", "and", "OR", "or", "NOT", "not",
		"NULL", "null", "DELETE", "delete", "FROM", "from", "SELECT", "select", "IN", "in", "IS", "is", "AS",
		"as", "ON", "on", "BY", "by", "ORDER", "order", "LIMIT", "limit":
		return true
	}
	return false
}

// exact reports whether an INSERT or UPDATE leaves the counter of a table's column where the counter before it and
// the largest value of the column say: after an INSERT of rows one more than the largest value, whatever is inserted,
// or as it was.
//
// The server reserves the numbers of several rows at once, also for rows that bring their own; what IGNORE, ON
// DUPLICATE KEY and SELECT reserve without use, and a largest row that is deleted or gets another number, only the
// counter itself shows.
func (t *touch) exact(column string) bool {
	if t.verb == "UPDATE" {
		return !t.writes(column)
	}
	return t.rows == 1 || t.rows > 1 && t.named && !t.writes(column)
}

// writes reports whether an UPDATE may write a column, or an INSERT names it.
func (t *touch) writes(column string) bool { return slices.Contains(t.sets, column) }
