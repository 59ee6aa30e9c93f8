package sqltext

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"xmq/broker/form"
	"xmq/broker/units"
)

// Bind writes args into text in the place of its placeholders, as literals of the dialect. Placeholders are ?, in
// their order, and in SQLite also ?1 or $1, by their numbers. What stands within quotes or a comment is none. Each
// argument must have its place.
//
// A number is written as it was sent, and is what the database makes of such a literal; a string, and the JSON of
// an object or array, is a string; bytes are a binary string.
func Bind(d Dialect, text string, args []form.Arg) (string, error) {
	tokens, err := Tokens(d, text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	done, used, highest := 0, 0, 0
	seen := make([]bool, len(args))
	for i, t := range tokens {
		name, n := placeholder(d, text, tokens, i)
		switch {
		case name == "":
			continue
		case n < 0:
			return "", fmt.Errorf("the placeholder %s has a name, and arguments have none: write ? or ?1", name)
		case n == 0:
			used++
			n = used
		default:
			highest = max(highest, n)
		}
		if used > 0 && highest > 0 {
			return "", errors.New("it has placeholders with a number and without one: which argument is meant cannot be told")
		}
		if n > len(args) {
			continue
		}
		value, err := literal(d, args[n-1])
		if err != nil {
			return "", fmt.Errorf("argument %d: %w", n, err)
		}
		seen[n-1] = true
		b.WriteString(text[done:t.At])
		b.WriteString(value)
		done = t.At + len(name)
	}
	if highest > len(args) {
		return "", fmt.Errorf("its placeholders go up to ?%d, and it has %s", highest,
			units.Of(uint64(len(args)), "argument"))
	}
	if highest == 0 && used != len(args) {
		return "", fmt.Errorf("it has %s ? and %s", units.Of(uint64(used), "placeholder"),
			units.Of(uint64(len(args)), "argument"))
	}
	for i, there := range seen {
		if !there {
			return "", fmt.Errorf("argument %d has no placeholder", i+1)
		}
	}
	b.WriteString(text[done:])
	return b.String(), nil
}

// placeholder is the placeholder that the token with index i begins, "" for none: n is its number, 0 for a plain
// one, -1 when it has a name.
func placeholder(d Dialect, text string, tokens []Token, i int) (name string, n int) {
	t := tokens[i]
	next := Token{} // what is written together with it
	if i+1 < len(tokens) && tokens[i+1].At == t.At+len(t.Text) && tokens[i+1].Word {
		next = tokens[i+1]
	}
	switch {
	case t.Quoted || t.Mark:
		return "", 0
	case d == SQLite && t.Text == "?" && next.Word && '0' <= next.Text[0] && next.Text[0] <= '9':
		digits := len(next.Text) - len(strings.TrimLeft(next.Text, "0123456789"))
		return numbered(text[t.At:][:1+digits])
	case t.Text == "?":
		return "?", 0
	case d == SQLite && t.Word && t.Text[0] == '$':
		return numbered(t.Text)
	case d == SQLite && (t.Text == ":" || t.Text == "@") && next.Word:
		return t.Text + next.Text, -1
	}
	return "", 0
}

// numbered reads ?1 or $1.
func numbered(name string) (string, int) {
	n, err := strconv.Atoi(name[1:])
	if err != nil || n < 1 {
		return name, -1
	}
	return name, n
}

// literal is the SQL of an argument. It has spaces around it where it would grow together with what stands beside it.
func literal(d Dialect, a form.Arg) (string, error) {
	switch a.Kind {
	case form.Null:
		return " null ", nil
	case form.Bool, form.Number:
		return " " + a.Text + " ", nil
	case form.Blob:
		return blob(d, a.Text)
	}
	s, err := Quote(d, a.Text)
	if err != nil {
		return "", err
	}
	if d == SQLite { // x'41' would be bytes, and FROM 'a' the name of a table
		return " (" + s + ") ", nil
	}
	return " " + s + " ", nil // x'41' would be bytes there, too, and @'a' a variable
}

// blob is a literal of bytes: one that MySQL takes for a string of bytes also where it looks for a number.
func blob(d Dialect, b string) (string, error) {
	switch d {
	case MariaDB:
		return " _binary x'" + hex.EncodeToString([]byte(b)) + "' ", nil
	case SQLite:
		return " x'" + hex.EncodeToString([]byte(b)) + "' ", nil
	}
	return "", errors.New("bytes are no literal here")
}

// Quote is s as a string of the dialect. A text with a NUL byte has a literal in MariaDB only; SQLite is given its
// bytes.
func Quote(d Dialect, s string) (string, error) {
	if d == MariaDB {
		return "'" + escapes.Replace(s) + "'", nil
	}
	if strings.IndexByte(s, 0) >= 0 {
		if d == SQLite { // the sign takes the affinity away that CAST gives, since a literal has none
			return "+CAST(x'" + hex.EncodeToString([]byte(s)) + "' AS TEXT)", nil
		}
		return "", errors.New("it has a NUL byte, for which there is no literal")
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'", nil
}

// escapes are what MariaDB's lexer must not take for the end of a string, and NUL, which some clients do not survive.
var escapes = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`)
