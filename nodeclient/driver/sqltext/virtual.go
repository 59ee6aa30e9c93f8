package sqltext

import "strings"

// virtually rewrites what .dump of SQLite writes for virtual tables. It puts their rows into sqlite_schema, which
// only the shell may do, and makes the tables of the module after them as if they were ordinary ones. Here the
// module makes its tables, and what it has put there gives way to what was dumped.
func (c *cutter) virtually(st Statement) (Statement, error) {
	tokens, err := Tokens(SQLite, st.Text)
	if err != nil {
		return st, err // not reached: it was cut from a script
	}
	switch {
	case st.Keyword == "INSERT" && len(tokens) > 2 && (tokens[2].Is("SQLITE_SCHEMA") || tokens[2].Is("SQLITE_MASTER")):
		made := ""
		if len(tokens) == 26 && unquoted(tokens[16].Text) == "table" {
			made = unquoted(tokens[24].Text)
		}
		words, _ := Tokens(SQLite, made) // what cannot be read is none
		if len(words) < 2 || !words[0].Is("CREATE") || !words[1].Is("VIRTUAL") {
			return st, errAt(st.Line, "%.80q writes into SQLite's own schema, and no virtual table: nodes cannot run that",
				st.Text)
		}
		c.virtual = append(c.virtual, unquoted(tokens[18].Text))
		st.Text, st.Keyword, st.Second = made, "CREATE", "VIRTUAL"
	case st.Keyword == "CREATE" && len(tokens) > 6 && tokens[1].Is("TABLE") && tokens[2].Is("IF"):
		name := unquoted(tokens[5].Text)
		for _, of := range c.virtual {
			if len(name) > len(of)+1 && strings.EqualFold(name[:len(of)+1], of+"_") {
				st.Text += ";\nDELETE FROM " + tokens[5].Text
				break
			}
		}
	}
	return st, nil
}

// unquoted is what a string or a quoted name says.
func unquoted(text string) string {
	if len(text) < 2 || text[0] != text[len(text)-1] {
		return text
	}
	q := text[:1]
	return strings.ReplaceAll(text[1:len(text)-1], q+q, q)
}
