package sqltext

import "strings"

// shape follows the tokens of one statement, so far as needed to say whether a semicolon ends it.
type shape struct {
	dialect Dialect
	head    []string // the words it begins with, in upper case, at most 3
	open    bool     // head may still grow
	count   int      // tokens added
	object  string   // what a CREATE makes: TABLE, TRIGGER, ...
	depth   int      // PostgreSQL: open BEGIN ATOMIC and CASE of a body
	parens  int      // PostgreSQL: CREATE RULE ... DO (a; b)
	last    string   // the token before: a word in upper case, a symbol, "'" for anything quoted; "" where nobody asks
	ended   bool     // SQLite: the last two tokens were ; END
	stdin   bool     // PostgreSQL: COPY ... FROM STDIN
	body    *body    // MariaDB
	nested  bool     // MariaDB: in the statement after SET STATEMENT ... FOR
	lost    bool     // MariaDB: that one may have a body
}

// add takes one token that is neither space nor comment.
func (s *shape) add(k kind, text []byte) {
	t := ""
	switch {
	case k == hint:
		return
	case k == word:
		if s.open || s.follows() {
			t = strings.ToUpper(string(text))
		}
	case k == semicolon:
		t = ";"
	case k == symbol:
		t = string(text[:1])
	case k == quoted:
		t = "'"
	}
	if s.open = s.open && k == word; s.open {
		s.head = append(s.head, t)
		s.open = len(s.head) < 3
	}
	s.token(k, t)
	s.count++
	s.last = t
}

// follows reports whether words after the head matter.
func (s *shape) follows() bool {
	switch s.first() {
	case "CREATE", "ALTER", "COPY":
		return true
	case "EXPLAIN":
		return s.dialect == SQLite
	case "SET":
		return s.dialect == MariaDB
	}
	return s.body != nil
}

func (s *shape) first() string {
	if len(s.head) == 0 {
		return ""
	}
	return s.head[0]
}

// anonymous: MariaDB's BEGIN NOT ATOMIC ... END is a body without a routine.
func (s *shape) anonymous() bool {
	return s.dialect == MariaDB && len(s.head) > 1 && s.head[0] == "BEGIN" && s.head[1] == "NOT"
}

// objects are what CREATE may make, by the word that says so.
var objects = words("TABLE VIEW INDEX TRIGGER PROCEDURE FUNCTION EVENT RULE USER ROLE DATABASE SCHEMA SEQUENCE " +
	"SERVER TYPE " +
	"EXTENSION DOMAIN POLICY PACKAGE")

func (s *shape) token(k kind, t string) {
	if s.first() == "COPY" && s.last == "FROM" && t == "STDIN" {
		s.stdin = true
	}
	if s.body != nil {
		s.body.add(t)
		return
	}
	if s.dialect == PostgreSQL {
		s.standard(t)
		return
	}
	if s.object == "" {
		switch s.first() {
		case "CREATE", "ALTER":
			if k == word && objects[t] && s.last != "." && s.last != "@" && s.last != "=" {
				s.object = t
				s.enter(t)
			}
			return
		case "EXPLAIN":
			if t == "TRIGGER" && (s.last == "CREATE" || s.last == "TEMP" || s.last == "TEMPORARY") {
				s.object = t
			}
			return
		}
	}
	if s.dialect == SQLite { // the rule of sqlite3_complete: a trigger ends with ; END ;
		s.ended = t == "END" && s.last == ";"
	} else if s.count < 2 || s.first() == "SET" {
		s.compound(t)
	}
}

// standard counts what keeps PostgreSQL's statement open: parentheses, as psql does, BEGIN ATOMIC, and CASE in it.
func (s *shape) standard(t string) {
	switch {
	case t == "(":
		s.parens++
	case t == ")" && s.parens > 0:
		s.parens--
	case s.last == ".", s.last == "AS": // a name
	case t == "ATOMIC" && s.last == "BEGIN", t == "CASE" && s.depth > 0:
		s.depth++
	case t == "END" && s.depth > 0:
		s.depth--
	}
}

// enter begins the body of what MariaDB's CREATE makes.
func (s *shape) enter(object string) {
	if s.dialect != MariaDB {
		return
	}
	alters := s.first() == "ALTER"
	switch object {
	case "TRIGGER", "PROCEDURE", "FUNCTION", "PACKAGE":
		if alters {
			return
		}
	case "EVENT":
	default:
		return
	}
	s.body = &body{object: object, bare: alters}
	s.body.add(object)
}

// compound begins the body of a compound statement that stands by itself, or after a label.
func (s *shape) compound(t string) {
	switch {
	case s.count == 0 && t != "BEGIN" && blockWords[t]:
		s.body = &body{}
		s.body.begin(t)
		s.body.prev = t
	case s.count == 1 && s.anonymous():
		s.body = &body{}
		s.body.begin("BEGIN")
		s.body.prev = "NOT"
	case s.count == 1 && t == ":":
		s.body = &body{}
		s.body.begin("")
	case t == "FOR" && len(s.head) > 1 && s.head[1] == "STATEMENT":
		s.nested = true
	case s.nested && (t == "CREATE" || blockWords[t]):
		s.lost = true
	}
}

// unsure reports whether this package cannot tell where the statement ends.
func (s *shape) unsure() bool { return s.lost || s.body != nil && s.body.unsure }

// complete reports whether the statement may end after the tokens so far: by a semicolon or by the end of
// the text.
func (s *shape) complete() bool {
	switch {
	case s.dialect == SQLite:
		return s.object != "TRIGGER" || s.ended
	case s.dialect == PostgreSQL:
		return s.depth <= 0 && s.parens <= 0
	}
	return s.body == nil || s.body.complete()
}

// control returns the word with which the statement controls a transaction; "" when it does not.
func (s *shape) control() string {
	second := ""
	if len(s.head) > 1 {
		second = s.head[1]
	}
	switch first := s.first(); first {
	case "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE":
		return first
	case "BEGIN":
		if !s.anonymous() {
			return first
		}
	case "END":
		if s.dialect != MariaDB {
			return first
		}
	case "START":
		if second == "TRANSACTION" {
			return first
		}
	case "ABORT":
		if s.dialect == PostgreSQL {
			return first
		}
	case "PREPARE":
		if s.dialect == PostgreSQL && second == "TRANSACTION" {
			return first
		}
	case "XA":
		if s.dialect == MariaDB {
			return first
		}
	case "SET":
		if s.dialect == MariaDB && second == "AUTOCOMMIT" {
			return second
		}
	}
	return ""
}
