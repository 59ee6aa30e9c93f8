package sqltext

import (
	"strings"
	"unicode/utf8"
)

// Shown is the beginning of a statement for people who do not own its data: every string and number in it is a
// question mark, since either may be a secret, comments are left out, and it has at most the given number of bytes.
func Shown(d Dialect, statement string, most int) string {
	tokens, err := Tokens(d, statement)
	var b strings.Builder
	end := 0
	for _, t := range tokens {
		text := t.Text
		switch {
		case t.Quoted && !(text[0] == '`' || text[0] == '"' && d != MariaDB || text[0] == '[' && d == SQLite),
			t.Word && '0' <= text[0] && text[0] <= '9':
			text = "?"
		case t.Mark:
			text = ""
		}
		if b.Len() > 0 && t.At > end {
			b.WriteByte(' ')
		}
		end = t.At + len(t.Text)
		if b.WriteString(text); b.Len() > most {
			cut := b.String()[:most]
			for !utf8.ValidString(cut) && cut != "" {
				cut = cut[:len(cut)-1]
			}
			return strings.ToValidUTF8(cut, "") + "..."
		}
	}
	if err != nil { // it was cut, or is no SQL: what stands there may be a secret
		b.WriteString("...")
	}
	return strings.ToValidUTF8(b.String(), "?")
}
