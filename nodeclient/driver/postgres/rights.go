package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/nodeclient/driver/sqltext"
)

// A snapshot carries the rights to what it holds: who may read the tables is data, since increments made it. pg_restore
// is told to leave them out, since it fails where a role is missing; each statement is judged here and run by the
// receiver itself.

// right is one GRANT, REVOKE or ALTER DEFAULT PRIVILEGES of a snapshot.
type right struct {
	about   string    // what it is about, for people: "TABLE item"
	pieces  [3]string // the statement; its roles stand between
	grantor string    // between the first two, of default privileges; "" for none
	grantee string    // between the last two; "" for PUBLIC
	owner   string    // of the thing, at the source
}

// grantable are the kinds of things of a database to which there are rights.
var grantable = []string{"TABLE", "SEQUENCE", "FUNCTION", "PROCEDURE", "ROUTINE", "SCHEMA", "TYPE", "LANGUAGE",
	"FOREIGN DATA WRAPPER", "FOREIGN SERVER", "LARGE OBJECT"}

// defaults are the kinds of things for which there are default privileges.
var defaults = []string{"TABLES", "SEQUENCES", "FUNCTIONS", "ROUTINES", "TYPES", "SCHEMAS", "LARGE OBJECTS"}

var errRight = errors.New("it is no right to that thing alone")

// rights reads the statements of an entry of the kind ACL or DEFAULT ACL.
func (e entry) rights() (all []right, err error) {
	for st, err := range sqltext.Statements(sqltext.PostgreSQL, e.sql) {
		if err != nil {
			return nil, err
		}
		tokens, err := sqltext.Tokens(sqltext.PostgreSQL, st.Text)
		if err != nil {
			return nil, err
		}
		if begins(tokens, "SET SESSION AUTHORIZATION") && len(tokens) == 4 || begins(tokens, "RESET SESSION "+
			"AUTHORIZATION") && len(tokens) == 3 {
			continue // who gave it: here it is the owner
		}
		r := right{about: e.name, owner: e.owner}
		if err := r.read(e, st.Text, tokens); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// read takes one statement apart: [ALTER DEFAULT PRIVILEGES FOR ROLE r [IN SCHEMA s]] GRANT|REVOKE ... ON thing TO|FROM
// role [WITH GRANT OPTION].
func (r *right) read(e entry, text string, tokens []sqltext.Token) error {
	of, kinds := "", grantable
	cut := 0
	if e.kind == "DEFAULT ACL" {
		kinds = defaults
		r.about = "what will be made"
		if !begins(tokens, "ALTER DEFAULT PRIVILEGES FOR ROLE") || len(tokens) < 7 {
			return errRight
		}
		cut = tokens[5].At
		names, rest := nameOf(tokens[5:])
		if len(names) != 1 || len(rest) == 0 {
			return errRight
		}
		r.grantor, r.pieces[0] = names[0], text[:cut]
		cut, tokens = tokens[5].At+len(tokens[5].Text), rest
		if begins(tokens, "IN SCHEMA") {
			if names, tokens = nameOf(tokens[2:]); len(names) != 1 || names[0] != e.namespace {
				return errRight
			}
		}
	}
	if len(tokens) == 0 || !tokens[0].Is("GRANT") && !tokens[0].Is("REVOKE") {
		return errRight
	}
	tokens = privileges(tokens[1:])
	if len(tokens) < 2 {
		return errRight
	}
	tokens = tokens[1:] // ON
	for _, k := range kinds {
		if begins(tokens, k) {
			of = k
		}
	}
	if of == "" {
		return errRight
	}
	tokens = tokens[strings.Count(of, " ")+1:]
	if e.kind != "DEFAULT ACL" {
		if tokens = thing(e, of, tokens); tokens == nil {
			return errRight
		}
	}
	if len(tokens) < 2 || !tokens[0].Is("TO") && !tokens[0].Is("FROM") {
		return errRight
	}
	role := tokens[1]
	names, rest := nameOf(tokens[1:])
	if len(names) != 1 || len(rest) > 0 && (!begins(rest, "WITH GRANT OPTION") || len(rest) != 3) {
		return errRight
	}
	if !role.Is("PUBLIC") {
		r.grantee = names[0]
	}
	r.pieces[1], r.pieces[2] = text[cut:role.At], text[role.At+len(role.Text):]
	return nil
}

// privileges passes over what is given, up to ON; nil when there is something else in it.
func privileges(tokens []sqltext.Token) []sqltext.Token {
	depth := 0
	for i, t := range tokens {
		switch {
		case t.Is("ON") && depth == 0 && i > 0:
			return tokens[i:]
		case t.Text == "(":
			depth++
		case t.Text == ")":
			depth--
		case t.Word, t.Text == ",", depth > 0 && t.Quoted && t.Text[0] == '"':
		default:
			return nil
		}
	}
	return nil
}

// thing passes over the name of the thing, which is that of the entry, and the arguments of a function; nil when it is
// another.
func thing(e entry, of string, tokens []sqltext.Token) []sqltext.Token {
	names, rest := nameOf(tokens)
	if len(names) == 0 || len(names) > 2 || len(names) == 2 && names[0] != e.namespace || len(names) == 1 &&
		e.namespace != "" {
		return nil
	}
	if !slices.ContainsFunc([]string{names[len(names)-1], quoteName(names[len(names)-1])}, func(name string) bool {
		return strings.HasSuffix(e.name, " "+name) || strings.Contains(e.name, " "+
			name+"(") || strings.Contains(e.name, " "+name+".")
	}) {
		return nil
	}
	if of != "FUNCTION" && of != "PROCEDURE" && of != "ROUTINE" {
		return rest
	}
	if len(rest) == 0 || rest[0].Text != "(" {
		return nil
	}
	for i, depth := 0, 0; i < len(rest); i++ {
		switch rest[i].Text {
		case "(":
			depth++
		case ")":
			if depth--; depth == 0 {
				return rest[i+1:]
			}
		}
	}
	return nil
}

// statement is the SQL, with the owner at the source replaced by the one here.
func (r right) statement(self string) string {
	name := func(role string) string {
		switch role {
		case "":
			return "PUBLIC"
		case r.owner:
			return quoteName(self)
		}
		return quoteName(role)
	}
	if r.grantor == "" {
		return r.pieces[1] + name(r.grantee) + r.pieces[2]
	}
	return r.pieces[0] + name(r.grantor) + r.pieces[1] + name(r.grantee) + r.pieces[2]
}

// ofOthers leaves default privileges of other roles than the node's at the source to those roles.
func ofOthers(all []right, node string) {
	for i := range all {
		if all[i].grantor != "" && node != "" && all[i].grantor != node {
			all[i].owner = ""
		}
	}
}

// give runs the rights in an open transaction and says, as one sentence, what it had to leave out; "" for nothing.
func give(ctx context.Context, c *pgconn.PgConn, what contents) (left string, err error) {
	var why []string
	if len(what.strange) > 0 {
		why = append(why, "rights to "+few(what.strange)+", which are written as no right to that alone")
	}
	rows, err := query(ctx, c, "SELECT rolname, rolname = current_user FROM pg_catalog.pg_roles")
	if err != nil {
		return "", err
	}
	there, self := map[string]bool{}, ""
	for _, row := range rows {
		if there[row[0]] = true; row[1] == "t" {
			self = row[0]
		}
	}
	missing, refused := map[string]bool{}, map[string]bool{}
	var run []right
	for _, r := range what.rights {
		if r.grantor != "" && r.grantor != r.owner && !there[r.grantor] {
			missing[r.grantor] = true
		} else if r.grantee != "" && r.grantee != r.owner && !there[r.grantee] {
			missing[r.grantee] = true
		} else {
			run = append(run, r)
		}
	}
	var script strings.Builder
	script.WriteString("SAVEPOINT rights; ")
	for _, r := range run {
		script.WriteString(r.statement(self) + "; ")
	}
	if err := execute(ctx, c, script.String()); code(err) == "" && err != nil {
		return "", err
	} else if err != nil { // one of them: which?
		if err := execute(ctx, c, "ROLLBACK TO rights"); err != nil {
			return "", err
		}
		for _, r := range run {
			err := execute(ctx, c, "SAVEPOINT one; "+r.statement(self)+"; RELEASE one")
			if code(err) == "" && err != nil {
				return "", err
			}
			if err != nil {
				refused[r.about] = true
				if err := execute(ctx, c, "ROLLBACK TO one"); err != nil {
					return "", err
				}
			}
		}
	}
	if len(missing) > 0 {
		why = append(why, "the rights of the roles "+few(missing)+", which are not on this server: make them "+
			"and GRANT anew, or make them and let the node join again")
	}
	if len(refused) > 0 {
		why = append(why, "rights to "+few(refused)+", which the role "+self+" may not give: an administrator can")
	}
	return strings.Join(why, "; "), nil
}

// few names the first of many.
func few(names map[string]bool) string {
	all := slices.Sorted(maps.Keys(names))
	if len(all) > 10 {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:10], ", "), len(all)-10)
	}
	return strings.Join(all, ", ")
}
