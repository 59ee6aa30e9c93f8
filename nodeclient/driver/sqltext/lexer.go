package sqltext

import (
	"bytes"
	"errors"
	"strings"
)

// kind is what a token is to the splitter. Everything that is no other kind is a symbol of one byte.
type kind uint8

const (
	space kind = iota
	comment
	quoted    // a string or a quoted identifier, quotes included
	word      // a keyword, name or number
	semicolon // ;
	symbol
	hint // the opening or closing mark of an executed comment, MariaDB's /*!40101 ... */
)

// lookahead is how many bytes next must see to tell a token by its beginning.
const lookahead = len(never)

var (
	errQuote   = errors.New("a quote is not closed")
	errComment = errors.New("a comment is not closed")
)

// lexer tells tokens. Its only state is whether it is inside an executed comment.
type lexer struct {
	dialect  Dialect
	hinted   bool
	product  product // whose executed comments are told from others; 0: all of them are executed
	escaping bool    // PostgreSQL: standard_conforming_strings is off
}

// next returns the kind and length of the token that b, which is not empty, begins with. eof says that
// nothing follows b; before that, 0 asks for more bytes and b has at least lookahead of them.
func (l *lexer) next(b []byte, eof bool) (kind, int, error) {
	c := b[0]
	switch {
	case isSpace(c):
		n := 1
		for n < len(b) && isSpace(b[n]) {
			n++
		}
		return space, n, nil
	case bytes.HasPrefix(b, []byte("\xEF\xBB\xBF")): // a byte order mark, which SQLite reads as a space anywhere
		return space, 3, nil
	case c == ';':
		return semicolon, 1, nil
	case c == '-' && l.dashComment(b), c == '#' && l.dialect == MariaDB:
		return lineComment(b, eof)
	case c == '/' && len(b) > 1 && b[1] == '*':
		return l.blockComment(b, eof)
	case c == '*' && l.hinted && len(b) > 1 && b[1] == '/':
		l.hinted = false
		return hint, 2, nil
	case c == '\'' && l.dialect == PostgreSQL:
		return continued(b, 0, l.escaping, eof)
	case c == '\'' || c == '"':
		return quote(b, c, l.dialect == MariaDB, eof)
	case c == '`' && l.dialect != PostgreSQL:
		return quote(b, c, false, eof)
	case c == '[' && l.dialect == SQLite:
		return until(b, 1, []byte{']'}, eof)
	case c == '$' && l.dialect == PostgreSQL:
		return dollar(b, eof)
	case isWord(c):
		return l.word(b, eof)
	}
	return symbol, 1, nil
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '$' || c >= 0x80
}

// dashComment: MariaDB wants a space or control character after the dashes, so that 5--1 is six.
func (l *lexer) dashComment(b []byte) bool {
	if len(b) < 2 || b[1] != '-' {
		return false
	}
	return l.dialect != MariaDB || len(b) == 2 || b[2] <= ' '
}

func lineComment(b []byte, eof bool) (kind, int, error) {
	if n := bytes.IndexByte(b, '\n'); n >= 0 {
		return comment, n + 1, nil
	}
	if eof {
		return comment, len(b), nil
	}
	return comment, 0, nil
}

// never is how a comment begins that no server executes: mariadb-dump speaks to its own client by it.
const never = "/*M!999999"

func (l *lexer) blockComment(b []byte, eof bool) (kind, int, error) {
	if l.dialect == MariaDB && !l.hinted {
		if bytes.HasPrefix(b, []byte(never)) {
			if k, n, err := plainComment(b, eof); n == 0 || err != nil || !bytes.Contains(b[len(never):n], []byte("/*")) {
				return k, n, err
			}
		}
		n := 0
		if bytes.HasPrefix(b, []byte("/*!")) {
			n = 3
		} else if bytes.HasPrefix(b, []byte("/*M!")) {
			n = 4
		}
		if n > 0 {
			for n < len(b) && '0' <= b[n] && b[n] <= '9' {
				n++
			}
			if n == len(b) && !eof {
				return hint, 0, nil
			}
			if l.product.executes(b[:n]) == no {
				return plainComment(b, eof)
			}
			l.hinted = true
			return hint, n, nil
		}
	}
	depth := 1
	for i := 2; i+1 < len(b); i++ {
		switch {
		case b[i] == '*' && b[i+1] == '/':
			if depth--; depth == 0 {
				return comment, i + 2, nil
			}
			i++
		case l.dialect == PostgreSQL && b[i] == '/' && b[i+1] == '*':
			depth++
			i++
		}
	}
	switch {
	case !eof:
		return comment, 0, nil
	case l.dialect == SQLite: // the end of the text ends it
		return comment, len(b), nil
	}
	return comment, 0, errComment
}

// continued: a string of PostgreSQL, whose quote is at from, with all its parts: after a line break another quote goes
// on with it, by the same rule for backslashes. Line comments are space there.
func continued(b []byte, from int, backslash, eof bool) (kind, int, error) {
	for {
		k, n, err := quote(b[from:], '\'', backslash, eof)
		if n == 0 {
			return k, 0, err
		}
		end := from + n
		lines := false
		for from = end; ; {
			for from < len(b) && isSpace(b[from]) {
				lines = lines || b[from] == '\n' || b[from] == '\r'
				from++
			}
			if from+1 >= len(b) && !eof {
				return quoted, 0, nil
			}
			if !bytes.HasPrefix(b[from:], []byte("--")) {
				break
			}
			_, n, _ := lineComment(b[from:], eof) // which has no errors
			if n == 0 {
				return quoted, 0, nil
			}
			lines = true // but at the end of the text, where no quote comes
			from += n
		}
		if !lines || from == len(b) || b[from] != '\'' {
			return quoted, end, nil
		}
	}
}

// quote: a doubled quote stands for itself; with backslash set a backslash takes the byte after it along.
func quote(b []byte, q byte, backslash, eof bool) (kind, int, error) {
	for i := 1; i < len(b); i++ {
		switch {
		case b[i] == '\\' && backslash:
			i++
		case b[i] != q:
		case i+1 < len(b) && b[i+1] == q:
			i++
		case i+1 < len(b) || eof:
			return quoted, i + 1, nil
		}
	}
	if eof {
		return quoted, 0, errQuote
	}
	return quoted, 0, nil
}

// until: a quote without escapes that ends with end, looked for from offset from on.
func until(b []byte, from int, end []byte, eof bool) (kind, int, error) {
	if n := bytes.Index(b[from:], end); n >= 0 {
		return quoted, from + n + len(end), nil
	}
	if eof {
		return quoted, 0, errQuote
	}
	return quoted, 0, nil
}

// dollar: PostgreSQL's $$ and $tag$ strings; $1 is a parameter and a symbol to us.
func dollar(b []byte, eof bool) (kind, int, error) {
	n := 1
	for n < len(b) && isWord(b[n]) && b[n] != '$' && (n > 1 || b[n] < '0' || b[n] > '9') {
		n++
	}
	if n == len(b) && !eof {
		return quoted, 0, nil
	}
	if n == len(b) || b[n] != '$' {
		return symbol, 1, nil
	}
	return until(b, n+1, b[:n+1], eof)
}

// dollarBody is what stands between the tags of such a string.
func dollarBody(t string) string {
	tag := strings.IndexByte(t[1:], '$') + 2
	return t[tag : len(t)-tag]
}

func (l *lexer) word(b []byte, eof bool) (kind, int, error) {
	n := 1
	for n < len(b) && isWord(b[n]) {
		n++
	}
	if n == len(b) && !eof {
		return word, 0, nil
	}
	if l.dialect == PostgreSQL && n == 1 && b[0]|0x20 == 'e' && n < len(b) && b[n] == '\'' {
		return continued(b, 1, true, eof)
	}
	return word, n, nil
}
