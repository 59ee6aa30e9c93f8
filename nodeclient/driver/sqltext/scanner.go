package sqltext

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Statement is one statement of a text.
type Statement struct {
	Text    string // from its first to its last token, without the delimiter and the comments around it
	Line    int    // where it begins, from 1
	Keyword string // the word it begins with, in upper case; "" when it begins with something else
	Second  string // the word after that; "" when something else follows
	// Control is the word with which it controls a transaction (BEGIN, START, COMMIT, END, ROLLBACK, SAVEPOINT,
	// RELEASE; ABORT and PREPARE in PostgreSQL; XA and AUTOCOMMIT in MariaDB); "" when it does not.
	Control string

	Number int // of the statement in a {"tx"}, from 1; 0 in a script

	holes bool // it has what may be a placeholder
	stdin bool // it is a COPY whose data follows
	some  bool // a part of it is executed by newer servers only
}

const chunk = 32 << 10 // bytes asked of the reader at once, at least

// scanner cuts statements out of a reader (or, with r nil, out of buf alone). Between statements it holds
// no more than what it has read ahead.
type scanner struct {
	lex   lexer
	r     io.Reader
	limit int // bytes of one statement
	buf   []byte
	eof   bool
	at    int // next token
	line  int // of at
	start int // first token of the statement, -1 before it
	end   int // after its last token
	delim []byte

	// Of a script that a client would read: marks of executed comments go, and lines to the client are passed where
	// they change no data.
	client bool
	leave  bool // USE and \connect are passed
	counts *Counts
	holes  bool   // of the statement, see there
	marks  []span // of the statement
	some   bool   // one of them is executed by newer servers only
}

func newScanner(r io.Reader, d Dialect, limit int) *scanner {
	return &scanner{lex: lexer{dialect: d}, r: r, limit: limit, line: 1, start: -1, delim: []byte{';'}}
}

func textScanner(d Dialect, text string) *scanner {
	s := newScanner(nil, d, len(text))
	s.buf, s.eof = []byte(text), true
	return s
}

// errAt says where: every error of this package names a line.
func errAt(line int, format string, args ...any) error {
	return fmt.Errorf("line %d: "+format, append([]any{line}, args...)...)
}

// fill reads more after what is still needed, at least as much as there is, so that a long token costs no
// more than twice its length.
func (s *scanner) fill() error {
	from := s.at
	if s.start >= 0 {
		from = s.start
		s.start, s.end = 0, s.end-from
	}
	s.buf = s.buf[:copy(s.buf, s.buf[from:])]
	s.at -= from
	if len(s.buf) > 2*s.limit+chunk {
		return s.tooLong(s.line)
	}
	have := len(s.buf)
	s.buf = append(s.buf, make([]byte, max(chunk, have))...)
	n, err := io.ReadAtLeast(s.r, s.buf[have:], 1)
	s.buf = s.buf[:have+n]
	if errors.Is(err, io.EOF) {
		s.eof, err = true, nil
	}
	if err != nil {
		return errAt(s.line, "read the next line: %w", err)
	}
	return nil
}

func (s *scanner) tooLong(line int) error {
	return errAt(line, "a statement or comment is longer than the limit of %d bytes", s.limit)
}

// token finds the next token at s.at without passing it. ended reports the end of the text, delimited that
// the token is a delimiter set by DELIMITER.
func (s *scanner) token() (k kind, n int, ended, delimited bool, err error) {
	custom := len(s.delim) > 1 || s.delim[0] != ';'
	for {
		b := s.buf[s.at:]
		if len(b) >= lookahead+len(s.delim) || s.eof {
			if len(b) == 0 {
				return 0, 0, true, false, nil
			}
			if custom && bytes.HasPrefix(b, s.delim) {
				return symbol, len(s.delim), false, true, nil
			}
			k, n, err := s.lex.next(b, s.eof)
			if err != nil {
				return 0, 0, false, false, errAt(s.line, "%w", err)
			}
			if custom && k == word && n > 0 {
				if len(b) < n+len(s.delim) && !s.eof {
					n = 0
				} else if i := bytes.Index(b[:min(len(b), n+len(s.delim)-1)], s.delim); i >= 0 {
					n = i
				}
			}
			if n > 0 {
				return k, n, false, false, nil
			}
		}
		if err := s.fill(); err != nil {
			return 0, 0, false, false, err
		}
	}
}

func (s *scanner) pass(n int) {
	s.line += bytes.Count(s.buf[s.at:s.at+n], []byte{'\n'})
	s.at += n
}

// next returns the next statement; io.EOF after the last one.
func (s *scanner) next() (Statement, error) {
	sh := shape{dialect: s.lex.dialect, open: true}
	line := 0
	s.start, s.holes, s.marks, s.some = -1, false, nil, false
	for {
		k, n, ended, delimited, err := s.token()
		if err != nil {
			return Statement{}, err
		}
		if s.start < 0 && !ended && !delimited {
			if directive, err := s.directive(k, n); err != nil {
				return Statement{}, err
			} else if directive {
				continue
			}
		}
		custom := len(s.delim) > 1 || s.delim[0] != ';'
		ends := ended || delimited || k == semicolon && !custom
		whole := !ends || custom || sh.complete()
		switch {
		case ended && s.start < 0:
			return Statement{}, io.EOF
		case ends && !custom && sh.unsure():
			return Statement{}, errAt(line, "it cannot be told where this %s ends: use DELIMITER, "+
				"a line DELIMITER // before it, // after it, and then a line DELIMITER ;", strings.Join(sh.head, " "))
		case ended && !whole && sh.parens > 0 && sh.depth <= 0:
			return Statement{}, errAt(line, "a parenthesis of this %s is not closed", strings.Join(sh.head, " "))
		case ended && !whole:
			return Statement{}, errAt(line, "the body of this %s is not closed with END", strings.Join(sh.head, " "))
		case ended && s.lex.hinted:
			return Statement{}, errAt(line, "%w", errComment)
		case ended, delimited, ends && whole && !s.lex.hinted:
			if k == semicolon && s.lex.dialect == SQLite && sh.first() == "CREATE" {
				s.end = s.at // SQLite keeps the text of an index up to here, spaces too
			}
			st, err := s.cut(&sh, line)
			s.pass(n)
			if err != nil || s.start >= 0 {
				return st, err
			}
		case k == space || k == comment:
			if k == comment && s.client && s.start >= 0 && versioned(s.buf[s.at:s.at+n]) {
				s.marks = append(s.marks, span{s.at - s.start, s.at - s.start + n})
			}
			s.pass(n)
		default:
			if k == symbol && s.buf[s.at] == '\\' {
				if err := s.escaped(); err != nil {
					return Statement{}, err
				}
			}
			if s.start < 0 {
				s.start, line = s.at, s.line
			}
			if k == hint && s.client {
				s.marks = append(s.marks, span{s.at - s.start, s.at - s.start + n})
				s.some = s.some || s.lex.hinted && s.lex.product.executes(s.buf[s.at:s.at+n]) == some
			}
			s.holes = s.holes || s.hole(k)
			sh.add(k, s.buf[s.at:s.at+n])
			s.pass(n)
			s.end = s.at
		}
	}
}

// hole reports whether the token at s.at, of kind k, may begin a placeholder.
func (s *scanner) hole(k kind) bool {
	lite := s.lex.dialect == SQLite
	switch s.buf[s.at] {
	case '?':
		return k == symbol
	case ':', '@':
		return k == symbol && lite
	case '$':
		return k == word && lite
	}
	return false
}

// cut makes the statement that ends before s.at; the zero Statement when there is none.
func (s *scanner) cut(sh *shape, line int) (Statement, error) {
	if s.start < 0 {
		return Statement{}, nil
	}
	if s.end-s.start > s.limit {
		return Statement{}, s.tooLong(line)
	}
	if sh.stdin && !s.client {
		return Statement{}, errAt(line, "COPY FROM STDIN takes data that is no SQL: dump with --inserts instead")
	}
	st := Statement{Text: string(s.buf[s.start:s.end]), Line: line, Keyword: sh.first(), Control: sh.control(),
		stdin: sh.stdin, holes: s.holes}
	st.Text, st.some = without(st.Text, s.marks), s.some
	if len(sh.head) > 1 {
		st.Second = sh.head[1]
	}
	return st, nil
}

// rest returns what is left of the line at s.at, read as far as needed.
func (s *scanner) rest() ([]byte, error) {
	for {
		if end := bytes.IndexByte(s.buf[s.at:], '\n'); end >= 0 {
			return s.buf[s.at : s.at+end], nil
		}
		if s.eof {
			return s.buf[s.at:], nil
		}
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
}

// directive passes a line that speaks to a command-line client where a statement would begin: DELIMITER of
// mysql, and the two lines that pg_dump puts around everything. Other commands of clients are refused.
func (s *scanner) directive(k kind, n int) (bool, error) {
	first := s.buf[s.at : s.at+n]
	delimiter := s.lex.dialect == MariaDB && k == word && bytes.EqualFold(first, []byte("DELIMITER"))
	backslash := s.lex.dialect == PostgreSQL && k == symbol && first[0] == '\\'
	if s.lex.dialect == SQLite && k == symbol && first[0] == '.' {
		return false, s.command("sqlite3")
	}
	if use := s.lex.dialect == MariaDB && k == word && bytes.EqualFold(first, []byte("USE")); use && s.leave {
		return true, s.use()
	}
	if !delimiter && !backslash {
		return false, nil
	}
	line, err := s.rest()
	if err != nil {
		return false, err
	}
	fields := bytes.Fields(line)
	switch command := string(fields[0]); {
	case backslash && s.client && connects[command]:
		if !s.leave {
			return false, errAt(s.line, "%s chooses a database, and a node has one: leave the line out, or give --leave-out "+
				"databases", command)
		}
		s.counts.Databases++
	case backslash && s.client && idle[command]:
		s.counts.Settings++
	case backslash && string(fields[0]) != `\restrict` && string(fields[0]) != `\unrestrict`:
		return false, s.command("psql")
	case delimiter && len(fields) < 2:
		return false, errAt(s.line, "DELIMITER needs one word after it")
	case delimiter && len(fields[1]) > 16:
		return false, errAt(s.line, "a delimiter of %d bytes is longer than 16", len(fields[1]))
	case delimiter: // the client reads no further than that word
		s.delim = bytes.Clone(fields[1])
	}
	s.pass(len(line))
	return true, nil
}

// connects are the commands of psql that choose a database, idle those that only concern psql's own screen.
var (
	connects = words(`\connect \c`)
	idle     = words(`\echo \qecho \warn \timing \pset \x \t \a \set \unset`)
)

// use passes USE of MariaDB's client, which may go without a semicolon.
func (s *scanner) use() error {
	line, err := s.rest()
	if err != nil {
		return err
	}
	n := len(line)
	if end := bytes.Index(line, s.delim); end >= 0 {
		n = end + len(s.delim)
	}
	s.counts.Databases++
	s.pass(n)
	return nil
}

// command refuses what stands at s.at as a command of a client program.
func (s *scanner) command(program string) error {
	line, err := s.rest()
	if err != nil {
		return err
	}
	return errAt(s.line, "%.40q is a command of %s, not SQL", bytes.Fields(line)[0], program)
}

// escaped refuses a backslash outside quotes: a command of the client, but for MariaDB's \N, which is NULL.
func (s *scanner) escaped() error {
	switch s.lex.dialect {
	case PostgreSQL:
		return s.command("psql")
	case MariaDB:
		if s.at+1 == len(s.buf) || s.buf[s.at+1] != 'N' {
			return s.command("mariadb and mysql")
		}
	}
	return nil
}
