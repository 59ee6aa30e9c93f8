package commands

import (
	"bytes"
	"errors"
	"fmt"
)

// parseLines reads the form of lines.
func parseLines(body []byte) (commands []Command, err error) {
	total := 0
	for number := 1; len(body) > 0; number++ {
		line, rest, _ := bytes.Cut(body, []byte{'\n'})
		body = rest
		words, err := split(bytes.TrimSuffix(line, []byte{'\r'}))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if total += len(words); total > MaxWords {
			return nil, fmt.Errorf("line %d: %w", number, errWords)
		}
		if len(words) > 0 {
			commands = append(commands, words)
		}
	}
	return commands, nil
}

// blank reports whether b stands between words.
func blank(b byte) bool { return b == ' ' || b == '\t' || b == '\r' || b == '\v' || b == '\f' }

// split cuts a line into words.
func split(line []byte) (words Command, err error) {
	if i := bytes.IndexByte(line, 0); i >= 0 {
		return nil, fmt.Errorf(`column %d: it has a NUL byte; write \x00 in double quotes`, i+1)
	}
	for {
		line = bytes.TrimLeft(line, " \t\r\v\f")
		if len(line) == 0 {
			return words, nil
		}
		if len(words) == MaxWords {
			return nil, errWords
		}
		word, rest, err := first(line)
		if err != nil {
			return nil, err
		}
		words, line = append(words, word), rest
	}
}

// first takes the first word of a line that does not begin with a blank.
func first(line []byte) (word, rest []byte, err error) {
	end := bytes.IndexAny(line, " \t\r\v\f\"'")
	if end < 0 {
		return line, nil, nil
	}
	if blank(line[end]) {
		return line[:end], line[end:], nil
	}
	word, line = append([]byte{}, line[:end]...), line[end:]
	for len(line) > 0 && !blank(line[0]) {
		switch b := line[0]; b {
		case '"', '\'':
			if word, line, err = quoted(word, line[1:], b); err != nil {
				return nil, nil, err
			}
			if len(line) > 0 && !blank(line[0]) {
				return nil, nil, errors.New("a closing quote must be followed by a blank")
			}
		default:
			word, line = append(word, b), line[1:]
		}
	}
	return word, line, nil
}

// quoted adds what stands before the closing quote to word and returns what stands after it.
func quoted(word, line []byte, quote byte) (_, rest []byte, err error) {
	for len(line) > 0 {
		b := line[0]
		line = line[1:]
		switch {
		case b == quote:
			return word, line, nil
		case b != '\\' || len(line) == 0:
			word = append(word, b)
		case quote == '\'':
			if line[0] == '\'' {
				b, line = '\'', line[1:]
			}
			word = append(word, b)
		default:
			var n int
			b, n = escaped(line)
			word, line = append(word, b), line[n:]
		}
	}
	return nil, nil, errors.New("a quote is not closed")
}

// escaped is the byte after a backslash in double quotes, and how many bytes stand for it.
func escaped(line []byte) (b byte, n int) {
	switch line[0] {
	case 'n':
		return '\n', 1
	case 'r':
		return '\r', 1
	case 't':
		return '\t', 1
	case 'b':
		return '\b', 1
	case 'a':
		return '\a', 1
	case 'x':
		if len(line) > 2 {
			high, ok1 := hex(line[1])
			low, ok2 := hex(line[2])
			if ok1 && ok2 {
				return high<<4 | low, 3
			}
		}
	}
	return line[0], 1
}

func hex(b byte) (v byte, ok bool) {
	switch {
	case '0' <= b && b <= '9':
		return b - '0', true
	case 'a' <= b && b <= 'f':
		return b - 'a' + 10, true
	case 'A' <= b && b <= 'F':
		return b - 'A' + 10, true
	}
	return 0, false
}
