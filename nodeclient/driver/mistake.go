package driver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"xmq/nodeclient/driver/sqltext"
)

var texts = map[string]sqltext.Dialect{"sqlite": sqltext.SQLite, "postgres": sqltext.PostgreSQL,
	"mariadb": sqltext.MariaDB,
	"mysql":   sqltext.MariaDB}

// mistake is an error for what people send by accident: text in another encoding, JSON that is no increment, a text
// that does nothing. A node would try some of it, and blame something else.
func mistake(dialect string, body []byte) error {
	if err := encoding(dialect, body); err != nil {
		return err
	}
	text := strings.TrimLeft(string(body), " \t\r\n")
	switch {
	case text == "":
		return errors.New("it is blank: there is nothing to do")
	case strings.HasPrefix(text, "\uFEFF") && strings.HasPrefix(strings.TrimLeft(text, "\uFEFF \t\r\n"), "{"):
		return errors.New("a byte order mark stands before its {: leave that out")
	case text[0] == '{':
		return nil
	case text[0] == '[' && json.Valid(body):
		return errors.New(`it is a JSON list: several statements that belong together are {"tx": [{"sql": ..., "args": ` +
			`[...]}, ...]}, ` +
			"and many increments are sent to POST /v1/increments/batch, each on a line")
	case text[0] == '"' && json.Valid(body):
		return errors.New(`it is a JSON string: send the SQL itself, or {"sql": ..., "args": [...]}`)
	}
	for st, err := range sqltext.Statements(texts[dialect], text) {
		if err != nil || st.Text != "" {
			return nil // which the driver judges
		}
	}
	if strings.Trim(text, "; \t\r\n\uFEFF") == "" {
		return errors.New("it holds no statement: there is nothing to do")
	}
	return errors.New("it is only a comment: there is nothing to do. If there was more, its line breaks were lost on " +
		"the way here " +
		"(curl: --data-binary @FILE keeps them)")
}

const sendUTF8 = "send it as UTF-8"

// UTF16 is an error for a text that begins as one in UTF-16 does, with a byte order mark or without.
func UTF16(text []byte) error {
	switch {
	case bytes.HasPrefix(text, []byte{0xFF, 0xFE}), bytes.HasPrefix(text, []byte{0xFE, 0xFF}):
		return errors.New("it is UTF-16, by its byte order mark: " + sendUTF8)
	case wide(text, 0), wide(text, 1):
		return errors.New("it is UTF-16, since every other byte is NUL: " + sendUTF8)
	}
	return nil
}

// OnlySQL reports whether databases of these kinds, one at least, take nothing but SQL.
func OnlySQL(kinds []string) bool {
	return len(kinds) > 0 && !slices.ContainsFunc(kinds, func(kind string) bool { _, sql := Dialect(kind); return !sql })
}

// encoding is an error for a body that is no UTF-8. MariaDB, MySQL and SQLite have strings of any bytes.
func encoding(dialect string, body []byte) error {
	if err := UTF16(body); err != nil || dialect != "postgres" || utf8.Valid(body) {
		return err
	}
	at := 0
	for at < len(body) {
		r, n := utf8.DecodeRune(body[at:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		at += n
	}
	line := 1 + bytes.Count(body[:at], []byte{'\n'})
	return fmt.Errorf("line %d: its byte %d, 0x%02x, is no UTF-8 (is it Latin-1?): %s", line, at+1, body[at], sendUTF8)
}

// wide reports whether a text has a NUL in every other byte, from the one at first on.
func wide(body []byte, first int) bool {
	if len(body) < 4 || len(body)%2 != 0 {
		return false
	}
	nul, all := 0, min(len(body), 64)/2
	for i := first; i < 2*all; i += 2 {
		if body[i] == 0 {
			nul++
		}
		if body[i^1] == 0 {
			return false
		}
	}
	return 2*nul > all
}
