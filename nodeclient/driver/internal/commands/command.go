package commands

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxWords is how many words a body may have in all.
const MaxWords = 1 << 20

// Command is a name and its arguments: one word or more, each any bytes.
type Command [][]byte

// Name is the first word in upper case, as commands are compared.
func (c Command) Name() string { return strings.ToUpper(string(c[0])) }

// String is the beginning of the command for a message: at most 200 bytes of its words, on one line.
func (c Command) String() string {
	var b []byte
	for i, word := range c {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, word[:min(len(word), 200-min(len(b), 200))]...)
		if len(b) >= 200 {
			break
		}
	}
	return strconv.Quote(string(b[:min(len(b), 200)]))
}

// Parse cuts a body into its commands, at least one. The words may lie in body: they are borrowed as long as it is.
// It takes memory in proportion to the body's own size whatever lengths stand in it. Its error is one sentence.
func Parse(body []byte) ([]Command, error) {
	parse := parseLines
	if len(body) > 0 && body[0] == '*' {
		parse = parseArrays
	}
	commands, err := parse(body)
	if err == nil && len(commands) == 0 {
		err = errors.New("it has no command")
	}
	if err != nil {
		return nil, err
	}
	return commands, nil
}

// errWords is the refusal of a body with too many words.
var errWords = fmt.Errorf("it has more than %d words", MaxWords)
