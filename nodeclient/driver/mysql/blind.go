package mysql

import (
	"slices"
	"strings"

	"xmq/nodeclient/driver/sqltext"
)

// A change of the schema that was interrupted is settled by what the schema looks like. That fails for one that can
// look the same after it as before although the data is another, and is another again when it runs twice: rows change
// places, or columns, tables and partitions take each other's names. Those are blind, and a person is asked. All
// others show that they were done, or change nothing when they look the same (a column's own type once more, an
// index, an option), or are known by whether a table is empty (TRUNCATE, OR REPLACE). What another database looks like
// is not looked at: a change there is blind, too.

// blind reports whether an ALTER TABLE, of which tokens are those after the word TABLE, is of the first kind.
func blind(tokens []sqltext.Token) bool {
	has := func(words ...string) bool {
		for i := range tokens {
			if is(tokens[i:], words...) {
				return true
			}
		}
		return false
	}
	if has("EXCHANGE", "PARTITION") || has("ORDER", "BY") || has("RENAME") && swaps(tokens) {
		return true
	}
	var taken, given []string
	for i, action := range actions(tokens) {
		if i == 0 { // after the name of the table
			begins := []string{"ADD", "DROP", "CHANGE", "RENAME", "MODIFY", "ALTER"}
			at := slices.IndexFunc(action, func(t sqltext.Token) bool {
				return t.Word && slices.Contains(begins, strings.ToUpper(t.Text))
			})
			action = action[max(at, 0):]
		}
		goes, comes := namesOf(action)
		taken, given = append(taken, goes...), append(given, comes...)
	}
	return slices.ContainsFunc(given, func(name string) bool { return slices.Contains(taken, name) })
}

// is reports whether tokens begin with these words.
func is(tokens []sqltext.Token, words ...string) bool {
	if len(tokens) < len(words) {
		return false
	}
	for i, w := range words {
		if !tokens[i].Is(w) {
			return false
		}
	}
	return true
}

// actions are the parts of an ALTER TABLE, which have commas between them.
func actions(tokens []sqltext.Token) (all [][]sqltext.Token) {
	depth, from := 0, 0
	for i, t := range tokens {
		switch t.Text {
		case "(":
			depth++
		case ")":
			depth--
		case ",":
			if depth == 0 {
				all = append(all, tokens[from:i])
				from = i + 1
			}
		}
	}
	return append(all, tokens[from:])
}

// notColumns are the words after ADD and DROP that say what else than a column it is.
var notColumns = []string{"INDEX", "KEY", "UNIQUE", "PRIMARY", "FULLTEXT",
	"SPATIAL", "VECTOR", "CONSTRAINT", "FOREIGN", "CHECK", "PARTITION", "SYSTEM", "PERIOD"}

// namesOf are the names of columns that an action takes away, and those that it gives.
func namesOf(action []sqltext.Token) (taken, given []string) {
	if len(action) == 0 {
		return nil, nil
	}
	verb, rest := action[0], action[1:]
	if is(rest, "COLUMN") {
		rest = rest[1:]
	} else if verb.Is("RENAME") ||
		len(rest) > 0 && rest[0].Word && slices.Contains(notColumns, strings.ToUpper(rest[0].Text)) {
		return nil, nil
	}
	if is(rest, "IF", "NOT", "EXISTS") {
		rest = rest[3:]
	} else if is(rest, "IF", "EXISTS") {
		rest = rest[2:]
	}
	at := func(i int) []string {
		if i < len(rest) {
			return []string{name(rest[i])}
		}
		return nil
	}
	switch {
	case verb.Is("DROP"):
		return at(0), nil
	case verb.Is("ADD") && len(rest) > 1 && rest[0].Text == "(":
		for _, column := range actions(rest[1 : len(rest)-1]) {
			if len(column) > 0 {
				given = append(given, name(column[0]))
			}
		}
		return nil, given
	case verb.Is("ADD"):
		return nil, at(0)
	case verb.Is("CHANGE"):
		taken, given = at(0), at(1)
	case verb.Is("RENAME") && len(rest) > 1 && rest[1].Is("TO"):
		taken, given = at(0), at(2)
	}
	if slices.Equal(taken, given) { // it keeps its name
		return nil, nil
	}
	return taken, given
}
