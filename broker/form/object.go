package form

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxDepth is how many objects and arrays may stand within each other in a body.
const MaxDepth = 100

// Most is how many statements a {"tx"} may have, and how many arguments each of them: as many as PostgreSQL and MySQL
// take.
const Most = 65535

// Kind says what an argument is.
type Kind uint8

// The kinds of arguments.
const (
	Null   Kind = iota
	Bool        // Text is true or false
	Number      // Text is the number as it stood there
	String      // Text is its text
	Blob        // Text is its bytes
	JSON        // Text is the JSON of an object or array, as it stood there
)

// Arg is one argument.
type Arg struct {
	Kind Kind
	Text string
}

// Statement is one statement with its arguments, as it was sent.
type Statement struct {
	SQL  string
	Args []Arg
}

// Is reports whether body is to be read by Parse: no SQL begins with {.
func Is(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte{'{'})
}

// Parse reads a body that begins with {. tx says that it has the form {"tx": ...}, of one statement or more; else
// it is one. Nothing of the result is borrowed from body. Its errors are sentences that name what is wrong, and
// the statement and argument.
func Parse(body []byte) (all []Statement, tx bool, err error) {
	if err := readable(body); err != nil {
		return nil, false, err
	}
	c := cursor{b: body}
	var list []byte
	var one Statement
	said, beside := false, false
	err = c.fields(func(name string, v []byte) (err error) {
		switch name {
		case "sql":
			said, beside = true, true
			one.SQL, err = text("sql", v)
		case "args":
			beside = true
			one.Args, err = arguments(v)
		case "tx":
			list = v
		default:
			err = fmt.Errorf(`the field %.40q is not known%s: write {"sql": ..., "args": [...]} or {"tx": [...]}`, name,
				meant(name))
		}
		return err
	})
	switch {
	case err != nil:
		return nil, false, err
	case list == nil && !said:
		return nil, false, errors.New(`it has neither "sql" nor "tx"`)
	case list == nil:
		return []Statement{one}, false, nil
	case beside:
		return nil, false, errors.New(`"tx" stands beside "sql" or "args": put them into its list`)
	case list[0] != '[':
		return nil, false, errors.New(`"tx" is a list of {"sql": ..., "args": [...]}`)
	}
	c = cursor{b: list}
	err = c.elements(func(v []byte) error {
		st, err := element(v)
		if err == nil && len(all) == Most {
			err = fmt.Errorf("more than %d statements are no increment: cut it", Most)
		}
		if err != nil {
			return fmt.Errorf("statement %d: %w", len(all)+1, err)
		}
		all = append(all, st)
		return nil
	})
	if err == nil && len(all) == 0 {
		err = errors.New(`"tx" has no statements`)
	}
	return all, true, err
}

// element reads one statement of a tx.
func element(v []byte) (st Statement, err error) {
	if v[0] != '{' {
		return st, errors.New(`it is not {"sql": ..., "args": [...]}`)
	}
	said := false
	c := cursor{b: v}
	err = c.fields(func(name string, v []byte) (err error) {
		switch name {
		case "sql":
			said = true
			st.SQL, err = text("sql", v)
		case "args":
			st.Args, err = arguments(v)
		default:
			err = fmt.Errorf(`the field %.40q is not known%s: write {"sql": ..., "args": [...]}`, name, meant(name))
		}
		return err
	})
	if err == nil && !said {
		err = errors.New(`it has no "sql"`)
	}
	return st, err
}

// meant asks whether a field is meant that looks like this one.
func meant(name string) string {
	for _, field := range []string{"sql", "args", "tx"} {
		if lower := strings.ToLower(name); lower == field || strings.HasPrefix(lower, field) ||
			strings.HasPrefix(field, lower) && len(lower) > 1 {
			return fmt.Sprintf(" (did you mean %q?)", field)
		}
	}
	return ""
}

// readable is an error for what is no JSON, or no text, or too deep.
func readable(body []byte) error {
	const begin = "it begins with {, as no SQL does, so it has to be JSON"
	switch {
	case !utf8.Valid(body):
		return fmt.Errorf("%s: it is not UTF-8; send bytes as {\"base64\": ...}", begin)
	case !json.Valid(body):
		var raw json.RawMessage
		err := json.Unmarshal(body, &raw)
		if wrong := (*json.SyntaxError)(nil); errors.As(err, &wrong) {
			err = fmt.Errorf("%w, at byte %d", err, wrong.Offset)
		}
		return fmt.Errorf(`%s: {"sql": ..., "args": [...]} or {"tx": [...]}: %w`, begin, err)
	case LoneSurrogate(body):
		return fmt.Errorf("%s: it holds half a surrogate pair, which is no character", begin)
	case depth(body) > MaxDepth:
		return fmt.Errorf("%s: more than %d objects and arrays stand within each other", begin, MaxDepth)
	}
	return nil
}

// text is the value of a field that is a string.
func text(field string, v []byte) (string, error) {
	if v[0] != '"' {
		return "", fmt.Errorf("%q is not a string", field)
	}
	return unquote(v)
}

// arguments reads the value of "args"; null is none.
func arguments(v []byte) (args []Arg, err error) {
	if string(v) == "null" {
		return nil, nil
	}
	if v[0] != '[' {
		return nil, errors.New(`"args" is not a list: arguments have no names, they stand in the order of the placeholders`)
	}
	args = []Arg{}
	c := cursor{b: v}
	err = c.elements(func(v []byte) error {
		a, err := argument(v)
		if err == nil && len(args) == Most {
			err = fmt.Errorf("a statement has at most %d", Most)
		}
		if err != nil {
			return fmt.Errorf("argument %d: %w", len(args)+1, err)
		}
		args = append(args, a)
		return nil
	})
	return args, err
}

func argument(v []byte) (Arg, error) {
	switch v[0] {
	case 'n':
		return Arg{}, nil
	case 't', 'f':
		return Arg{Bool, string(v)}, nil
	case '"':
		s, err := unquote(v)
		return Arg{String, s}, err
	case '[':
		return Arg{JSON, string(v)}, nil
	case '{':
		n, value := packed(v)
		if n == 0 {
			return Arg{JSON, string(v)}, nil
		}
		if n > 1 || value[0] != '"' {
			return Arg{}, errors.New(`{"base64": ...} is bytes: one string of base64`)
		}
		s, err := unquote(value)
		if err != nil {
			return Arg{}, err
		}
		b, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil || strings.ContainsAny(s, "\r\n") {
			return Arg{}, errors.New(`{"base64": ...} is not standard base64, with its padding and without line breaks`)
		}
		return Arg{Blob, string(b)}, nil
	}
	return Arg{Number, string(v)}, nil
}

// packed tells an object with no field but base64: how often that stands there, and its last value. 0 for anything
// else.
func packed(v []byte) (n int, value []byte) {
	if v[0] != '{' {
		return 0, nil
	}
	others := false
	c := cursor{b: v}
	_ = c.members(func(name string, v []byte) error { // of which none fails
		if name == "base64" {
			n, value = n+1, v
		} else {
			others = true
		}
		return nil
	})
	if others {
		return 0, nil
	}
	return n, value
}

// cursor walks through b, which is one value of valid JSON.
type cursor struct {
	b  []byte
	at int
}

// fields is members that refuses a name that stands there twice.
func (c *cursor) fields(f func(name string, value []byte) error) error {
	seen := ""
	return c.members(func(name string, value []byte) error {
		key := "\x00" + name + "\x00"
		if strings.Contains(seen, key) {
			return fmt.Errorf("the field %.40q stands there twice", name)
		}
		seen += key
		return f(name, value)
	})
}

// members calls f for each member of the object that b is, until one fails. Values are borrowed, without spaces
// around them.
func (c *cursor) members(f func(name string, value []byte) error) error {
	c.pass() // {
	for c.peek() != '}' {
		if c.b[c.at] == ',' {
			c.pass()
			c.peek()
		}
		name, err := unquote(c.value())
		if err != nil {
			return err
		}
		c.peek()
		c.pass() // :
		c.peek()
		if err := f(name, c.value()); err != nil {
			return err
		}
	}
	return nil
}

// elements calls f for each element of the list that b is, until one fails.
func (c *cursor) elements(f func(value []byte) error) error {
	c.pass() // [
	for c.peek() != ']' {
		if c.b[c.at] == ',' {
			c.pass()
			c.peek()
		}
		if err := f(c.value()); err != nil {
			return err
		}
	}
	return nil
}

// peek goes to the next token and returns its first byte.
func (c *cursor) peek() byte {
	for c.b[c.at] == ' ' || c.b[c.at] == '\t' || c.b[c.at] == '\r' || c.b[c.at] == '\n' {
		c.at++
	}
	return c.b[c.at]
}

// pass goes after the next token, which is one byte.
func (c *cursor) pass() {
	c.peek()
	c.at++
}

// value goes after the value that begins here, and returns it.
func (c *cursor) value() []byte {
	from, open := c.at, 0
	for c.at < len(c.b) {
		switch c.b[c.at] {
		case '"':
			c.at = closing(c.b, c.at)
			if open == 0 {
				return c.b[from:c.at]
			}
			continue
		case '{', '[':
			open++
		case '}', ']', ',', ' ', '\t', '\r', '\n':
			if open == 0 {
				return c.b[from:c.at]
			}
			if b := c.b[c.at]; b == '}' || b == ']' {
				if open--; open == 0 {
					c.at++
					return c.b[from:c.at]
				}
			}
		}
		c.at++
	}
	return c.b[from:]
}

// closing is the index after the string that begins at at.
func closing(b []byte, at int) int {
	for at++; b[at] != '"'; at++ {
		if b[at] == '\\' {
			at++
		}
	}
	return at + 1
}

// depth is how many objects and arrays stand within each other.
func depth(b []byte) (deepest int) {
	open := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = closing(b, i) - 1
		case '{', '[':
			open++
			deepest = max(deepest, open)
		case '}', ']':
			open--
		}
	}
	return deepest
}

// unquote is the text of a string.
func unquote(v []byte) (s string, err error) {
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1]), nil
	}
	err = json.Unmarshal(v, &s)
	return s, err
}

// LoneSurrogate reports whether JSON escapes half a UTF-16 pair, which a decoder would replace by another character.
func LoneSurrogate(b []byte) bool {
	for i := bytes.IndexByte(b, '\\'); i >= 0 && i+1 < len(b); {
		switch unit := escaped(b[i:]); {
		case unit >= 0xDC00 && unit < 0xE000:
			return true
		case unit >= 0xD800 && unit < 0xDC00:
			if second := escaped(b[i+6:]); second < 0xDC00 || second >= 0xE000 {
				return true
			}
			i += 12
		default:
			i += 2
		}
		next := bytes.IndexByte(b[min(i, len(b)):], '\\')
		if next < 0 {
			return false
		}
		i += next
	}
	return false
}

// escaped is the UTF-16 unit that b escapes (\uXXXX) at its beginning; 0 when it does not.
func escaped(b []byte) uint64 {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0
	}
	unit, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return unit
}
