package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"

	sqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"xmq/nodeclient/driver/sqltext"
)

// grammar is a database in memory, whose parser is asked whether SQLite can read a statement. What it says of names
// that it does not have is nothing to it. It has a table and a view, which take the place of those of triggers: the
// body of one is not read where they are missing.
type grammar struct {
	mu   sync.Mutex
	conn driver.ConnPrepareContext
}

// The table and the view; nobody's is called so.
const (
	aTable = `"xmq grammar table"`
	aView  = `"xmq grammar view"`
)

// maxRead is the longest statement that the parser is asked about: what it makes of one takes many times its length.
const maxRead = 1 << 20

var theGrammar = sync.OnceValues(func() (*grammar, error) {
	c, err := (&sqlite.Driver{}).Open(":memory:")
	if err != nil {
		return nil, err
	}
	for _, makes := range []string{"CREATE TABLE " + aTable + " (a)", "CREATE VIEW " + aView + " AS SELECT 1"} {
		if _, err := c.(driver.ExecerContext).ExecContext(context.Background(), makes, nil); err != nil {
			return nil, err
		}
	}
	// A query is read, and no plan is made for it: that can take time without end. A PRAGMA may act when it is read.
	err = c.(sqlite.AuthorizerRegisterer).RegisterAuthorizer(
		func(action sqlite.AuthorizerActionCode, _, _, _, _ string) sqlite.AuthorizerReturnCode {
			if action == sqlite3.SQLITE_SELECT || action == sqlite3.SQLITE_PRAGMA {
				return sqlite.AuthorizerDeny
			}
			return sqlite.AuthorizerOK
		})
	return &grammar{conn: c.(driver.ConnPrepareContext)}, err
})

// readable is an error for the first statement that is no SQL to SQLite's own parser. Whatever else SQLite says (no
// such table, no such function, too long) is for the nodes' databases to say.
func readable(all []sqltext.Statement) error {
	g, err := theGrammar()
	if err != nil {
		return nil //nolint:nilerr // without a parser nothing is known
	}
	for _, st := range all {
		if said := g.read(anyTable(st)); said != "" {
			if meant := sqltext.Meant(sqltext.SQLite, st.Keyword); meant != "" {
				said += "; did you mean " + meant + "?"
			}
			return fmt.Errorf("%s: %s", st.Where(), said)
		}
	}
	return nil
}

// read is what SQLite's parser says against a statement; "" when it says nothing.
func (g *grammar) read(text string) string {
	if len(text) > maxRead {
		return ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	st, err := g.conn.PrepareContext(context.Background(), text)
	if err == nil {
		_ = st.Close() // nothing has run
		return ""
	}
	if code(err) != codeError {
		return ""
	}
	said := strings.TrimSuffix(strings.TrimPrefix(err.Error(), "SQL logic error: "), fmt.Sprintf(" (%d)", codeError))
	switch {
	case said == "incomplete input":
		return "it is not complete: something must follow its end"
	case strings.HasPrefix(said, `near "`) && strings.HasSuffix(said, ": syntax error"),
		strings.HasPrefix(said, `unrecognized token: "`):
		return said
	}
	return ""
}

// anyTable puts a table, or a view, of the grammar into CREATE TRIGGER; other statements stay as they are.
func anyTable(st sqltext.Statement) string {
	tokens, err := sqltext.Tokens(sqltext.SQLite, st.Text)
	if st.Keyword != "CREATE" || err != nil || len(tokens) < 3 || !tokens[1].Is("TRIGGER") {
		return st.Text
	}
	table := aTable
	for i, t := range tokens[:len(tokens)-1] {
		switch {
		case t.Is("INSTEAD"):
			table = aView
		case t.Is("BEGIN"):
			return st.Text
		case t.Is("ON"):
			name := tokens[i+1]
			if i+3 < len(tokens) && tokens[i+2].Text == "." {
				name = tokens[i+3]
			}
			return st.Text[:tokens[i+1].At] + table + st.Text[name.At+len(name.Text):]
		}
	}
	return st.Text
}
