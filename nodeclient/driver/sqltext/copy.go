package sqltext

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// copyBytes is about how long an increment of COPY's rows gets.
const copyBytes = 256 << 10

// copying makes INSERTs of the data after a COPY ... FROM stdin.
type copying struct {
	into  string // INSERT INTO t (a, b) OVERRIDING SYSTEM VALUE VALUES
	line  int    // of its COPY
	ended bool
}

// newCopying reads the statement COPY t (a, b) FROM stdin, with the data's form that pg_dump writes.
func newCopying(st Statement) (*copying, error) {
	tokens, err := Tokens(PostgreSQL, st.Text)
	if err != nil {
		return nil, errAt(st.Line, "%w", err)
	}
	from := slices.IndexFunc(tokens, func(t Token) bool { return t.Is("FROM") })
	if from < 2 || from+2 != len(tokens) || !tokens[from+1].Is("STDIN") || tokens[1].Text == "(" {
		return nil, errAt(st.Line, "COPY ... FROM stdin is taken in the form that pg_dump writes, without options: %.80q",
			st.Text)
	}
	table := st.Text[tokens[1].At:tokens[from].At]
	return &copying{into: "INSERT INTO " + strings.TrimSpace(table) + " OVERRIDING SYSTEM VALUE VALUES\n",
		line: st.Line}, nil
}

// next returns the statement with the next rows of the data, at most about limit bytes long; "" when there are no more.
func (c *copying) next(s *scanner, limit int) (text string, line int, err error) {
	var b strings.Builder
	line = s.line
	for !c.ended {
		row, err := s.rest()
		if err != nil {
			return "", 0, err
		}
		if len(row) == 0 && s.at+len(row) == len(s.buf) && s.eof {
			return "", 0, errAt(c.line, `the data of this COPY is not ended by \.`)
		}
		if string(bytes.TrimSuffix(row, []byte("\r"))) == `\.` {
			c.ended = true
			s.skip(len(row))
			break
		}
		values, err := copyRow(bytes.TrimSuffix(row, []byte("\r")))
		if err != nil {
			return "", 0, errAt(s.line, "%w", err)
		}
		if b.Len() > 0 && b.Len()+len(",\n")+len(values)+len(";") > limit {
			break
		}
		if b.Len() == 0 {
			b.WriteString(c.into)
		} else {
			b.WriteString(",\n")
		}
		b.WriteString(values)
		s.skip(len(row))
	}
	return b.String(), line, nil
}

// skip passes n bytes and the line break after them.
func (s *scanner) skip(n int) {
	if s.at+n < len(s.buf) {
		n++
	}
	s.pass(n)
}

// copyRow is a line of COPY's text form as a row of VALUES.
func copyRow(row []byte) (string, error) {
	var b strings.Builder
	b.WriteByte('(')
	if len(row) > 0 {
		for i, field := range bytes.Split(row, []byte{'\t'}) {
			if i > 0 {
				b.WriteString(", ")
			}
			if string(field) == `\N` {
				b.WriteString("NULL")
				continue
			}
			value, err := Quote(PostgreSQL, unescape(field))
			if err != nil {
				return "", err
			}
			b.WriteString(value)
		}
	} else {
		b.WriteString("''") // one column, an empty text
	}
	b.WriteByte(')')
	return b.String(), nil
}

var copyEscapes = map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}

// unescape is a field of COPY's text form without its backslashes.
func unescape(field []byte) string {
	if bytes.IndexByte(field, '\\') < 0 {
		return string(field)
	}
	out := make([]byte, 0, len(field))
	for i := 0; i < len(field); i++ {
		c := field[i]
		if c != '\\' || i+1 == len(field) {
			out = append(out, c)
			continue
		}
		i++
		c = field[i]
		base, most, at := 8, 3, i
		if c == 'x' {
			base, most, at = 16, 2, i+1
		}
		n := 0
		for n < most && at+n < len(field) && digit(field[at+n], base) {
			n++
		}
		if v, err := strconv.ParseUint(string(field[at:at+n]), base, 16); err == nil {
			out = append(out, byte(v))
			i = at + n - 1
		} else if special, known := copyEscapes[c]; known {
			out = append(out, special)
		} else {
			out = append(out, c)
		}
	}
	return string(out)
}

func digit(c byte, base int) bool {
	_, err := strconv.ParseUint(string(c), base, 8)
	return err == nil
}
