package sqltext

import (
	"slices"
	"strings"
)

// cutRows cuts a multi-row INSERT or REPLACE ... VALUES between rows, into statements of at most limit bytes where
// the rows let it, without what stands between the rows; one when that is enough. nil: it is no such statement.
func cutRows(d Dialect, text string, limit int) []string {
	tokens, err := Tokens(d, text)
	if err != nil || len(tokens) == 0 || !tokens[0].Is("INSERT") && !tokens[0].Is("REPLACE") {
		return nil
	}
	values := slices.IndexFunc(tokens, func(t Token) bool { return t.Is("VALUES") || t.Is("VALUE") })
	if values < 0 || slices.ContainsFunc(tokens[:values], func(t Token) bool { return t.Is("SELECT") || t.Mark }) {
		return nil
	}
	head := text[:tokens[values].At+len(tokens[values].Text)] + " "
	var all []string
	piece, depth, begin := strings.Builder{}, 0, 0
	for i, t := range tokens[values+1:] {
		switch {
		case t.Text == "(":
			if depth++; depth == 1 {
				begin = t.At
			}
		case t.Text == ")":
			if depth--; depth > 0 {
				continue
			}
			row := text[begin : t.At+1]
			if piece.Len() > len(head) && piece.Len()+len(row)+1 > limit {
				all = append(all, piece.String())
				piece.Reset()
			}
			if piece.Len() == 0 {
				piece.WriteString(head)
			} else {
				piece.WriteByte(',')
			}
			piece.WriteString(row)
		case depth == 0 && (t.Text != "," || i == 0): // ON DUPLICATE KEY UPDATE, RETURNING
			return nil
		}
	}
	if piece.Len() > 0 {
		all = append(all, piece.String())
	}
	return all
}
