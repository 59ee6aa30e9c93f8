package sqltext

import "strings"

// shape follows the tokens of one statement, so far as needed to say whether a semicolon ends it.
type shape struct {
	dialect Dialect
	head    []string // the words it begins with, in upper case, at most 3
	open    bool     // head may still grow
	object  string   // what a CREATE makes: TABLE, TRIGGER, ...
	depth   int      // open BEGIN and CASE of a body
	parens  int      // PostgreSQL: CREATE RULE ... DO (a; b)
	last    string   // the word before, in upper case; ";" or "" for other tokens
	ended   bool     // SQLite: the last two tokens were ; END. MariaDB: the last one was an END not counted yet
	stdin   bool     // PostgreSQL: COPY ... FROM STDIN
}

// add takes one token that is neither space nor comment.
func (s *shape) add(k kind, text []byte) {
	w := ""
	switch k {
	case hint:
		return
	case word:
		if s.open || s.follows() {
			w = strings.ToUpper(string(text))
		}
	case semicolon:
		w = ";"
	case symbol:
		if s.dialect == PostgreSQL && text[0] == '(' {
			s.parens++
		} else if s.dialect == PostgreSQL && text[0] == ')' {
			s.parens--
		}
	}
	if s.open = s.open && k == word; s.open {
		s.head = append(s.head, w)
		s.open = len(s.head) < 3
	}
	s.body(k, w)
	s.last = w
}

// follows reports whether words behind the head matter.
func (s *shape) follows() bool {
	switch s.first() {
	case "CREATE", "ALTER", "COPY":
		return true
	case "BEGIN":
		return s.anonymous()
	}
	return false
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

func (s *shape) body(k kind, w string) {
	if s.first() == "COPY" && s.last == "FROM" && w == "STDIN" {
		s.stdin = true
	}
	if s.object == "" && (s.first() == "CREATE" || s.first() == "ALTER") {
		switch w {
		case "TABLE", "VIEW", "INDEX", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "RULE", "USER", "ROLE",
			"DATABASE", "SCHEMA", "SEQUENCE", "SERVER", "TYPE", "EXTENSION", "DOMAIN", "POLICY", "PACKAGE":
			s.object = w
		}
		return
	}
	switch s.dialect {
	case SQLite: // the rule of sqlite3_complete: a trigger ends with ; END ;
		s.ended = w == "END" && s.last == ";"
	case PostgreSQL:
		switch {
		case w == "ATOMIC" && s.last == "BEGIN", w == "CASE" && s.depth > 0:
			s.depth++
		case w == "END" && s.depth > 0:
			s.depth--
		}
	case MariaDB:
		s.mariadb(w)
	}
}

// mariadb counts BEGIN and CASE up, END and END CASE down. IF, LOOP, WHILE, REPEAT and FOR are not counted,
// nor are their ENDs: an END is judged by the word behind it.
func (s *shape) mariadb(w string) {
	if !s.routine() {
		return
	}
	if s.anonymous() && s.depth == 0 && len(s.head) == 2 && s.last == "BEGIN" {
		s.depth = 1
		return
	}
	if s.ended {
		s.ended = false
		switch w {
		case "IF", "LOOP", "WHILE", "REPEAT", "FOR":
			return
		}
		s.depth--
		if w == "CASE" {
			return
		}
	}
	switch w {
	case "BEGIN", "CASE":
		s.depth++
	case "END":
		s.ended = s.depth > 0
	}
}

// routine reports whether the statement may have a body with semicolons.
func (s *shape) routine() bool {
	switch s.object {
	case "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT":
		return true
	}
	return s.anonymous()
}

// complete reports whether the statement may end behind the tokens so far: by a semicolon or by the end of
// the text. MariaDB's END must be judged first, which this does.
func (s *shape) complete() bool {
	switch s.dialect {
	case SQLite:
		return s.object != "TRIGGER" || s.ended
	case MariaDB:
		if s.ended {
			s.ended = false
			s.depth--
		}
		return s.depth <= 0
	}
	return s.depth <= 0 && s.parens <= 0
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
