package sqltext

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Bind writes args into text in the place of its ? placeholders, in their order: null, true, false and numbers as they stand,
// a string as a literal of the dialect, an object or array as a literal of its JSON text. A ? within quotes or a
// comment is no placeholder. As many placeholders as arguments must be there.
func Bind(d Dialect, text string, args []json.RawMessage) (string, error) {
	tokens, err := Tokens(d, text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	done, used := 0, 0
	for _, t := range tokens {
		if t.Text != "?" {
			continue
		}
		if used < len(args) {
			value, err := literal(d, args[used])
			if err != nil {
				return "", fmt.Errorf("argument %d: %w", used+1, err)
			}
			b.WriteString(text[done:t.At])
			b.WriteString(value)
			done = t.At + 1
		}
		used++
	}
	if used != len(args) {
		return "", fmt.Errorf("it has %d placeholders ? and %d arguments", used, len(args))
	}
	b.WriteString(text[done:])
	return b.String(), nil
}

// literal is the SQL of a JSON value. It has spaces around it where it would grow together with what stands beside it.
func literal(d Dialect, raw json.RawMessage) (string, error) {
	switch text := string(raw); {
	case text == "null", text == "true", text == "false":
		return " " + text + " ", nil
	case text == "":
		return "", fmt.Errorf("it is empty")
	case text[0] == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return "", err
		}
		return Quote(d, s)
	case text[0] == '{', text[0] == '[':
		return Quote(d, text)
	default:
		return " " + text + " ", nil
	}
}

// Quote is s as a string literal of the dialect. Only MariaDB has one for a text with a NUL byte.
func Quote(d Dialect, s string) (string, error) {
	if d == MariaDB {
		return "'" + escapes.Replace(s) + "'", nil
	}
	if strings.IndexByte(s, 0) >= 0 {
		return "", fmt.Errorf("it has a NUL byte, for which there is no literal")
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'", nil
}

// escapes are what MariaDB's lexer must not take for the end of a string, and NUL, which some clients do not survive.
var escapes = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`)
