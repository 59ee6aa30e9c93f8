package commands

import (
	"bytes"
	"fmt"
	"strconv"
)

// minWord is how many bytes the shortest word takes: "$0\r\n\r\n".
const minWord = 6

// Append adds c to dst as a RESP array of bulk strings. Parse reads it again, whatever bytes its words hold.
func Append(dst []byte, c Command) []byte {
	dst = number(dst, '*', len(c))
	for _, word := range c {
		dst = append(number(dst, '$', len(word)), word...)
		dst = append(dst, '\r', '\n')
	}
	return dst
}

func number(dst []byte, kind byte, n int) []byte {
	return append(strconv.AppendInt(append(dst, kind), int64(n), 10), '\r', '\n')
}

// arrays reads RESP arrays of bulk strings.
type arrays struct {
	body []byte
	at   int
}

// parseArrays reads the form of RESP arrays.
func parseArrays(body []byte) (commands []Command, err error) {
	a := &arrays{body: body}
	total := 0
	for a.at < len(body) {
		n, err := a.count('*')
		if err != nil {
			return nil, err
		}
		if total += n; total > MaxWords {
			return nil, fmt.Errorf("byte %d: %w", a.at, errWords)
		}
		if rest := len(body) - a.at; n > rest/minWord {
			return nil, fmt.Errorf("byte %d: %d words are announced but only %d bytes follow", a.at, n, rest)
		}
		c := make(Command, n)
		for i := range c {
			if c[i], err = a.word(); err != nil {
				return nil, err
			}
		}
		commands = append(commands, c)
	}
	return commands, nil
}

// word reads one bulk string.
func (a *arrays) word() ([]byte, error) {
	n, err := a.count('$')
	if err != nil {
		return nil, err
	}
	rest := a.body[a.at:]
	if n > len(rest)-2 {
		return nil, fmt.Errorf("byte %d: a word of %d bytes is announced but only %d bytes follow", a.at, n, len(rest))
	}
	if rest[n] != '\r' || rest[n+1] != '\n' {
		return nil, fmt.Errorf("byte %d: a word of %d bytes does not end with CRLF", a.at+n, n)
	}
	a.at += n + 2
	return rest[:n:n], nil
}

// count reads kind, a decimal number and CRLF. An array has 1 word or more; lengths have no sign and no leading zeros.
func (a *arrays) count(kind byte) (int, error) {
	rest := a.body[a.at:]
	if len(rest) == 0 {
		return 0, fmt.Errorf("byte %d: it ends where %q is expected", a.at, kind)
	}
	if rest[0] != kind {
		return 0, fmt.Errorf("byte %d: %q stands where %q is expected", a.at, rest[0], kind)
	}
	digits, _, found := bytes.Cut(rest[1:min(len(rest), 24)], []byte("\r\n"))
	n, err := strconv.ParseUint(string(digits), 10, 31)
	if !found || err != nil || string(digits) != strconv.FormatUint(n, 10) {
		return 0, fmt.Errorf("byte %d: no length followed by CRLF stands after %q", a.at+1, kind)
	}
	if kind == '*' && n == 0 {
		return 0, fmt.Errorf("byte %d: an array of no words is no command", a.at)
	}
	a.at += 1 + len(digits) + 2
	return int(n), nil
}
