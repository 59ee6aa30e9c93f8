package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/sqltext"
)

// keysName is where a copy without rows tells which keys of a table the server has made itself.
func keysName(database string) string { return database + "_xmq_keys" }

// clause is a part of a CREATE TABLE, between commas: KEY or CONSTRAINT ... FOREIGN KEY.
type clause struct {
	name     string // quoted
	columns  string // the list, without white space
	from, to int    // in the text, without the comma
}

// clauses are the keys of a CREATE TABLE that have nothing but columns, and its foreign keys.
func clauses(create string) (keys, foreign []clause) {
	tokens, err := sqltext.Tokens(sqltext.MariaDB, create)
	if err != nil {
		return nil, nil
	}
	depth, begin := 0, 0
	for i, t := range tokens {
		switch {
		case t.Text == "(":
			if depth++; depth == 1 {
				begin = i + 1
			}
		case depth == 1 && (t.Text == "," || t.Text == ")"):
			one := tokens[begin:i]
			if c, ok := keyClause(one); ok {
				keys = append(keys, c)
			} else if len(one) > 4 && one[0].Is("CONSTRAINT") && one[2].Is("FOREIGN") && one[3].Is("KEY") {
				end := slices.IndexFunc(one, func(t sqltext.Token) bool { return t.Text == ")" })
				last := one[len(one)-1]
				foreign = append(foreign, clause{one[1].Text, texts(one[4 : end+1]), one[0].At, last.At + len(last.Text)})
			}
			begin = i + 1
			if t.Text == ")" {
				return keys, foreign
			}
		case t.Text == ")":
			depth--
		}
	}
	return nil, nil
}

// keyClause is KEY `name` (`column`, ...), and nothing else: so the server writes those that it makes.
func keyClause(one []sqltext.Token) (clause, bool) {
	if len(one) < 5 || !one[0].Is("KEY") || !one[1].Quoted || one[2].Text != "(" {
		return clause{}, false
	}
	end := slices.IndexFunc(one, func(t sqltext.Token) bool { return t.Text == ")" })
	if end != len(one)-1 {
		return clause{}, false
	}
	return clause{one[1].Text, texts(one[2 : end+1]), one[0].At, one[end].At + 1}, true
}

func texts(all []sqltext.Token) (s string) {
	for _, t := range all {
		s += t.Text
	}
	return s
}

// doubtful are the keys that the server may have made for a foreign key of the same name and columns, each with that
// foreign key.
func doubtful(create string) (all [][2]clause) {
	keys, foreign := clauses(create)
	for _, key := range keys {
		i := slices.IndexFunc(foreign, func(f clause) bool { return f.name == key.name && f.columns == key.columns })
		if i >= 0 {
			all = append(all, [2]clause{key, foreign[i]})
		}
	}
	return all
}

// generated is a CREATE TABLE in which the server makes those keys that it has made in table, too. Such a key ends as
// soon as another one begins with its columns, and one that is written does not: a copy in which it is written would
// keep it. SHOW CREATE TABLE tells no difference; a copy of the table does, which gets such other keys. A server that
// refuses the copy leaves the definition as it is.
func (d *dump) generated(ctx context.Context, table, create string) (string, error) {
	all := doubtful(create)
	if len(all) == 0 {
		return create, nil
	}
	s, err := d.db.connect(ctx, d.db.cfg.DBName)
	if err != nil {
		return "", err
	}
	defer s.close()
	database := quoteName(keysName(d.db.cfg.DBName))
	copied := database + "." + quoteName(table)
	script := "SET SESSION lock_wait_timeout = " + lockSeconds + "; DROP DATABASE IF EXISTS " + database +
		"; CREATE DATABASE " + database + "; CREATE TABLE " + copied + " LIKE " + quoteName(table) + "; ALTER TABLE " + copied
	for i, one := range all {
		script += fmt.Sprintf("%s ADD INDEX xmq_key_%d %s", strings.Repeat(",", min(i, 1)), i, one[0].columns)
	}
	rows, err := s.query(ctx, script+"; SHOW CREATE TABLE "+copied)
	if err == nil {
		keys, _ := clauses(rows[0][1])
		all = slices.DeleteFunc(all, func(one [2]clause) bool {
			return slices.ContainsFunc(keys, func(k clause) bool { return k.name == one[0].name })
		})
		create = swapped(create, all)
	}
	var dropped error
	if !s.dead {
		dropped = s.do(ctx, "DROP DATABASE IF EXISTS "+database)
	}
	if s.dead || ctx.Err() != nil {
		return "", nodeclient.Transient(fmt.Errorf("look which keys the server has made: %w", errors.Join(err, dropped)))
	}
	return create, nil
}

// swapped is a CREATE TABLE in which foreign keys stand where their keys stood, so that the server makes the keys
// there.
func swapped(create string, all [][2]clause) string {
	type edit struct {
		from, to int
		text     string
	}
	var edits []edit
	for _, one := range all {
		key, foreign := one[0], one[1]
		comma := strings.LastIndexByte(create[:foreign.from], ',') // it has its key before it, at least
		edits = append(edits, edit{key.from, key.to, create[foreign.from:foreign.to]}, edit{comma, foreign.to, ""})
	}
	slices.SortFunc(edits, func(a, b edit) int { return b.from - a.from }) // from the end, so that offsets stay
	for _, e := range edits {
		create = create[:e.from] + e.text + create[e.to:]
	}
	return create
}
