package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"xmq/nodeclient/driver/sqltext"
)

// Check is an error for an increment that every node with this driver refuses before it asks its database, and for one
// that SQLite cannot read. It needs no database.
func Check(body []byte) error {
	w, err := parse(body)
	if err != nil {
		return err
	}
	if err := stay(w.statements); err != nil {
		return err
	}
	return readable(w.statements)
}

// stay is an error for the first statement that makes something in another schema than main: of what an increment
// leaves in temp a node says FAIL, and no other database is attached. An increment that also drops something may have
// dropped it, which only its database knows.
func stay(all []sqltext.Statement) error {
	if slices.ContainsFunc(all, func(st sqltext.Statement) bool { return st.Keyword == "DROP" }) {
		return nil
	}
	for _, st := range all {
		switch schema := schemaMade(st); schema {
		case "", "main":
		case "temp":
			return fmt.Errorf("%s: %w", st.Where(), errTemporary)
		default:
			return fmt.Errorf("%s: it makes something in %s, which is no database here: increments reach main alone",
				st.Where(), schema)
		}
	}
	return nil
}

var errTemporary = errors.New("a temporary object lives in one connection only and would be gone after a restart")

// schemaMade is the schema that a CREATE names before the name, in lower case; "" for none.
func schemaMade(st sqltext.Statement) string {
	if st.Keyword != "CREATE" {
		return ""
	}
	tokens, err := sqltext.Tokens(sqltext.SQLite, st.Text)
	if err != nil {
		return ""
	}
	kind := slices.IndexFunc(tokens, func(t sqltext.Token) bool {
		return t.Is("TABLE") || t.Is("VIEW") || t.Is("TRIGGER") || t.Is("INDEX")
	})
	name := tokens[kind+1:]
	if len(name) > 3 && name[0].Is("IF") && name[1].Is("NOT") && name[2].Is("EXISTS") {
		name = name[3:]
	}
	if kind < 0 || len(name) < 2 || name[1].Text != "." {
		return ""
	}
	return strings.ToLower(strings.Trim(name[0].Text, "\"'`[]"))
}

// parse looks at the body of an increment; doc.go describes its forms.
func parse(body []byte) (w work, err error) {
	pieces, err := sqltext.Pieces(body)
	if err != nil {
		return w, err
	}
	for _, p := range pieces {
		if err := w.add(p); err != nil {
			return w, p.In(err)
		}
	}
	w.plain = !slices.ContainsFunc(w.statements,
		func(st sqltext.Statement) bool { return !slices.Contains(mixes, st.Keyword) })
	w.unchecked = len(w.statements) > 0 && unchecked(w.statements[0])
	return w, nil
}

// add looks at a piece of an increment.
func (w *work) add(p sqltext.Piece) error {
	statements, err := checkPiece(p)
	if err != nil {
		return err
	}
	w.statements = append(w.statements, statements...)
	lower := strings.ToLower(p.Text)
	w.defers = w.defers || strings.Contains(lower, "defer")
	w.asks = w.asks || asks(lower)
	return nil
}

// checkPiece looks at a part of an increment before it runs and strips one outer BEGIN ... COMMIT. Refused, as a FAIL:
//
//   - a NUL byte, after which SQLite would read nothing and say nothing
//   - an open quote or trigger body
//   - a placeholder for which there is no argument
//   - transaction control: BEGIN, COMMIT, END, ROLLBACK, SAVEPOINT, RELEASE
//   - ATTACH and DETACH, and every mention of the tables xmq_position and sqlite_dbpage as a name
//   - load_extension and total_changes as a name
//   - what would stay in the connection and be gone after a restart: temporary objects, and every PRAGMA but
//     user_version, application_id, defer_foreign_keys, and foreign_keys (which counts as the first statement only, and
//     then holds for the increment alone, as a dump wants it)
//
// It is a check of words, not of meaning.
func checkPiece(p sqltext.Piece) ([]sqltext.Statement, error) {
	if strings.IndexByte(p.Text, 0) >= 0 {
		return nil, errors.New("it has a NUL byte, where SQLite would stop reading; write blobs as x'00'")
	}
	bound, err := p.Bound(sqltext.SQLite)
	if err != nil {
		return nil, err
	}
	statements, err := bound.Statements(sqltext.SQLite)
	if err != nil {
		return nil, err
	}
	for _, st := range statements {
		err := checkStatement(st)
		if err == nil {
			err = sqltext.Unbound(sqltext.SQLite, st)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", st.Line, err)
		}
	}
	lower := strings.ToLower(p.Text) // what an argument says is data
	if strings.Contains(lower, positionTable) && sqltext.Mentions(sqltext.SQLite, p.Text, positionTable) {
		return nil, errors.New("it mentions xmq_position, the table in which XMQ keeps its position")
	}
	if strings.Contains(lower, dbpage) && sqltext.Mentions(sqltext.SQLite, p.Text, dbpage) {
		return nil, errors.New("it mentions sqlite_dbpage, the pages of the file: what is written there SQLite does not " +
			"check, so that one increment could damage every copy")
	}
	if strings.Contains(lower, loads) && sqltext.Mentions(sqltext.SQLite, p.Text, loads) {
		return nil, errors.New("it calls load_extension, which no node allows: an extension is code, and no data")
	}
	if strings.Contains(lower, "total_changes") && sqltext.Mentions(sqltext.SQLite, p.Text, "total_changes") {
		return nil, errors.New("it calls total_changes, which counts since the connection was opened: after a restart it " +
			"is another number")
	}
	return statements, nil
}

// loads is the function that SQLite refuses unless a program allows it.
const loads = "load_extension"

// dbpage is the module of SQLite whose rows are the pages of the file.
const dbpage = "sqlite_dbpage"

// unchecked reports whether a statement is PRAGMA foreign_keys = OFF.
func unchecked(st sqltext.Statement) bool {
	tokens, err := sqltext.Tokens(sqltext.SQLite, st.Text)
	return err == nil && len(tokens) == 4 && tokens[0].Is("PRAGMA") && tokens[1].Is("FOREIGN_KEYS") &&
		tokens[2].Text == "=" &&
		(tokens[3].Is("OFF") || tokens[3].Is("0") || tokens[3].Is("FALSE") || tokens[3].Is("NO"))
}

func checkStatement(st sqltext.Statement) error {
	switch st.Keyword {
	case "VACUUM":
		return errors.New("VACUUM cannot run in a transaction, and an increment is one; it changes no data: run it on " +
			"each file while its node is stopped")
	case "ATTACH", "DETACH":
		return fmt.Errorf("%s would reach other files than this database", st.Keyword)
	case "CREATE":
		if st.Second == "TEMP" || st.Second == "TEMPORARY" {
			return errTemporary
		}
	case "PRAGMA":
		switch st.Second {
		case "USER_VERSION", "APPLICATION_ID", "DEFER_FOREIGN_KEYS", "FOREIGN_KEYS":
		default:
			return fmt.Errorf("PRAGMA %s changes a connection, not the data; only user_version, application_id, "+
				"defer_foreign_keys and foreign_keys may stand in an increment", strings.ToLower(st.Second))
		}
	}
	return nil
}
