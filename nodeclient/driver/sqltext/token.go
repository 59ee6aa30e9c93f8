package sqltext

import "strings"

// Token is one token of a text that is neither space nor comment. The marks of MariaDB's executed comments are tokens
// too, with what stands between them.
type Token struct {
	Text   string // as it stands, quotes included
	At     int    // offset in the text
	Word   bool   // a keyword, name or number, not quoted
	Quoted bool   // a string or a quoted name
	Mark   bool   // the opening or closing mark of an executed comment
}

// Is reports whether the token is the word w, written in upper case, in any case.
func (t Token) Is(w string) bool { return t.Word && strings.EqualFold(t.Text, w) }

// Tokens returns the tokens of text. In a text that cannot be read to its end they are those before the trouble, and
// err is the trouble.
func Tokens(d Dialect, text string) (all []Token, err error) {
	s := textScanner(d, text)
	for {
		k, n, ended, _, err := s.token()
		if err != nil || ended {
			return all, err
		}
		if k != space && k != comment {
			all = append(all, Token{Text: text[s.at : s.at+n], At: s.at, Word: k == word, Quoted: k == quoted, Mark: k == hint})
		}
		s.pass(n)
	}
}
