package mysql

import (
	"context"
	"slices"
	"strings"

	"xmq/nodeclient/driver/sqltext"
)

// calls is what stands in the functions, procedures and triggers of a database, as far as it can change the session
// for the increments after the one that calls it. The server undoes none of it: after a restart of the node the same
// increment would mean something else. Where there is anything to call, each increment is pinned anew.
type calls struct {
	any     bool   // there is something to call
	resets  string // ", @a = NULL" for each variable of the session that a body names
	opaque  bool   // a body makes temporary tables or cannot be read: the session ends after each increment
	dynamic bool   // a procedure puts statements together, which may name any variable: a CALL gets a session of its own
}

// learn reads what can be called in the database of s.
func (t *Database) learn(ctx context.Context, s *session) error {
	rows, err := s.query(ctx, "SELECT routine_definition IS NULL, coalesce(routine_definition, '') FROM "+
		"information_schema.routines WHERE routine_schema = database() "+
		"UNION ALL SELECT action_statement IS NULL, coalesce(action_statement, '') FROM information_schema.triggers WHERE "+
		"trigger_schema = database()")
	if err != nil {
		return err
	}
	s.calls = calls{any: len(rows) > 0}
	for _, row := range rows {
		s.calls.read(row[1], row[0] == "0")
	}
	return nil
}

// read looks at a body.
func (c *calls) read(body string, readable bool) {
	tokens, err := meaningful(body)
	if !readable || err != nil {
		c.opaque = true
		return
	}
	for i, t := range tokens {
		c.opaque = c.opaque || t.Is("TEMPORARY") || t.Is("INSERT_ID") // which the next INSERT would take
		c.dynamic = c.dynamic || t.Is("EXECUTE") || t.Is("PREPARE")
		if name := variable(body, tokens, i); name != "" && !strings.Contains(c.resets+",", ", @"+name+" = NULL,") {
			c.resets += ", @" + name + " = NULL"
		}
	}
}

// meaningful is the tokens of a text but for the marks of executed comments, whose content is among them.
func meaningful(text string) ([]sqltext.Token, error) {
	tokens, err := sqltext.Tokens(sqltext.MariaDB, text)
	return slices.DeleteFunc(tokens, func(t sqltext.Token) bool { return t.Mark }), err
}

// asks says what tokens ask the session for, that an earlier increment may have left there.
type asks struct {
	last   bool // for the last number that a sequence has given: nothing but a new session knows of none
	counts bool // for how many rows the statement before has found or changed
}

func (a *asks) add(b asks) { a.last, a.counts = a.last || b.last, a.counts || b.counts }

func asksOf(tokens []sqltext.Token) (a asks) {
	for i, t := range tokens {
		a.last = a.last || t.Is("LASTVAL") || t.Is("PREVIOUS") && i+1 < len(tokens) && tokens[i+1].Is("VALUE")
		a.counts = a.counts || t.Is("ROW_COUNT") || t.Is("FOUND_ROWS") || t.Is("DIAGNOSTICS")
	}
	return a
}

// callable reports whether a change of the schema changes what can be called.
func (d *ddl) callable() bool {
	for _, kind := range []string{" TRIGGER", " FUNCTION", " PROCEDURE"} {
		if strings.HasSuffix(d.verb, kind) {
			return true
		}
	}
	return false
}
