package sqltext

import (
	"bytes"
	"strconv"
	"strings"
)

// product says whose dump a text of MariaDB's dialect is, for comments that only some servers execute.
type product uint8

const (
	anyProduct product = iota
	mariaDB
	mySQL
)

// verdict says whether every server of a product that XMQ runs on executes a comment.
type verdict uint8

const (
	yes verdict = iota
	no
	some // newer ones only
)

// The oldest versions that XMQ runs on, as executed comments write them.
const (
	oldestMariaDB = 100600
	oldestMySQL   = 80400
)

// executes judges an opening mark: /*!40101, /*M!100616.
func (p product) executes(opening []byte) verdict {
	digits := strings.TrimLeft(string(opening), "/*M!")
	own := bytes.HasPrefix(opening, []byte("/*M!"))
	n := 0
	if digits != "" {
		v, err := strconv.Atoi(digits)
		if err != nil {
			return some
		}
		n = v
	}
	switch {
	case p == anyProduct:
		return yes
	case p == mySQL && (own || n >= 100000): // a plain comment; a version of MariaDB
		return no
	case p == mySQL && n <= oldestMySQL:
		return yes
	case p == mariaDB && !own && n >= 50700 && n <= 99999: // a version of MySQL
		return no
	case p == mariaDB && n <= oldestMariaDB:
		return yes
	case p == mariaDB && n == 999999:
		return no
	}
	return some
}

// plainComment is a comment up to the first */.
func plainComment(b []byte, eof bool) (kind, int, error) {
	n := bytes.Index(b, []byte("*/"))
	switch {
	case n >= 0:
		return comment, n + 2, nil
	case eof:
		return comment, 0, errComment
	}
	return comment, 0, nil
}

// versioned reports whether a comment is one that some servers execute.
func versioned(comment []byte) bool {
	return bytes.HasPrefix(comment, []byte("/*!")) || bytes.HasPrefix(comment, []byte("/*M!"))
}

// span is a part of a statement, by offsets in its text.
type span struct{ from, to int }

// without is text without the marks of executed comments, whose content stands in it plainly, and without those
// comments that are not executed.
func without(text string, marks []span) string {
	if len(marks) == 0 {
		return text
	}
	var b strings.Builder
	at := 0
	for _, m := range marks {
		if m.from >= len(text) { // after its last token
			break
		}
		b.WriteString(text[at:m.from])
		at = m.to
		for at < len(text) && text[at] == ' ' {
			at++
		}
		if so := b.String(); so != "" && so[len(so)-1] != ' ' {
			b.WriteByte(' ') // a comment is one
		}
	}
	b.WriteString(text[at:])
	return strings.TrimSpace(b.String())
}
