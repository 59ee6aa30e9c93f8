package mysql

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"xmq/nodeclient/driver/sqltext"
)

// work is an increment that has been looked at.
type work struct {
	statements []sqltext.Statement
	touches    []touch // of the statements, but for a change of the schema
	resets     string  // ", @a = NULL" for each variable it names, and the settings that hold for it alone
	counts     bool    // it asks how many rows the statement before has changed: nothing may be sent in between
	plain      bool    // it is one INSERT, UPDATE, DELETE or REPLACE that asks nothing of what came before it
	leaks      bool    // what it calls may change the session: it gets one of its own
	asks       bool    // it may ask what an earlier increment has left in the session: it gets a new one
	ddl        *ddl    // it changes the schema; then that is its only statement
}

// names that no increment may use, with the reason.
var names = [...]struct{ name, why string }{
	{"xmq_position", "it mentions xmq_position, the table in which XMQ keeps its position"},
	{"xmq_position_new", "it mentions xmq_position_new, which becomes the table in which XMQ keeps its position"},
	{"xmq_at", "it mentions @xmq_at, in which XMQ notes how far a batch has come"},
	{"get_lock", "it calls GET_LOCK, and XMQ holds the database for its node by a lock of that kind"},
	{"release_lock", "it calls RELEASE_LOCK, and XMQ holds the database for its node by a lock of that kind"},
	{"release_all_locks", "it calls RELEASE_ALL_LOCKS, and XMQ holds the database for its node by a lock of that kind"},
	{"load_file", "it reads a file of one server"},
}

// Check is an error for an increment that every node with this driver refuses before it asks its database, and for one
// that no server could read. It needs none.
func Check(body []byte) error {
	if err := sqltext.Structure(sqltext.MariaDB, body); err != nil {
		return err
	}
	_, err := parse(body)
	return err
}

// parse looks at an increment before it runs; doc.go describes its forms.
func parse(body []byte) (w work, err error) {
	pieces, err := sqltext.Pieces(body)
	if err != nil {
		return w, err
	}
	all := 0
	for _, p := range pieces {
		n, err := w.add(p)
		if err != nil {
			return w, p.In(err)
		}
		all += n
	}
	if w.ddl != nil && len(w.statements) != 1 {
		return w, fmt.Errorf("it changes the schema (%s) beside %d other statements, and the server commits around such a "+
			"change: make it an increment of its own, without BEGIN and COMMIT around others", w.ddl.verb, len(w.statements)-1)
	}
	if all == 1 && len(w.statements) == 1 && w.resets == "" && !w.counts {
		text := w.statements[0].Text
		w.plain = slices.ContainsFunc([]string{"INSERT ", "UPDATE ", "DELETE ", "REPLACE "}, func(verb string) bool {
			return len(text) > len(verb) && strings.EqualFold(text[:len(verb)], verb)
		})
	}
	return w, nil
}

// add looks at a piece of an increment, and returns how many statements it has, settings included.
func (w *work) add(p sqltext.Piece) (n int, err error) {
	bound, err := p.Bound(sqltext.MariaDB)
	if err != nil {
		return 0, err
	}
	statements, err := bound.Statements(sqltext.MariaDB)
	if err != nil {
		return 0, err
	}
	if err := checkNames(p.Text); err != nil { // what an argument says is data
		return 0, err
	}
	for _, st := range statements {
		if settings := travelling(st); settings != "" && len(w.statements) == 0 {
			w.resets += settings
			w.leaks = true
			continue
		}
		err := w.check(st)
		if err == nil {
			err = sqltext.Unbound(sqltext.MariaDB, st)
		}
		if err != nil {
			return 0, fmt.Errorf("line %d: %w", st.Line, err)
		}
		w.statements = append(w.statements, st)
	}
	return len(statements), nil
}

// travels are the settings that a dump makes for all its statements, and an increment, at its beginning, for itself.
var travels = []string{"foreign_key_checks", "unique_checks", "sql_mode", "time_zone", "collation_connection"}

// travelling is ", name = value" for each setting of a statement that makes only such settings; "" for any other.
func travelling(st sqltext.Statement) string {
	if st.Keyword != "SET" {
		return ""
	}
	tokens, err := sqltext.Tokens(sqltext.MariaDB, st.Text)
	if err != nil || len(tokens)%4 != 0 {
		return ""
	}
	all := ""
	for i := 0; i < len(tokens); i += 4 {
		setting, value := strings.ToLower(tokens[i+1].Text), tokens[i+3]
		switch {
		case i > 0 && tokens[i].Text != ",", !slices.Contains(travels, setting), tokens[i+2].Text != "=":
			return ""
		case !value.Word && !value.Quoted:
			return ""
		case value.Is("DEFAULT"), strings.EqualFold(strings.Trim(value.Text, `'"`), "SYSTEM"): // of this server
			return ""
		case setting == "sql_mode" && sqltext.OtherReading(value.Text) != "":
			return ""
		}
		all += ", " + setting + " = " + value.Text
	}
	return all
}

func checkNames(script string) error {
	lower := strings.ToLower(script)
	for _, n := range names {
		if strings.Contains(lower, n.name) && sqltext.Mentions(sqltext.MariaDB, script, n.name) {
			return errors.New(n.why)
		}
	}
	return nil
}

// check refuses what cannot be undone, what stays in the session after the increment, so that the same increment would
// mean something else after a restart, and what reads or writes files of one server. Everything else that is not known
// to change data in a transaction is refused too. It is a check of words, not of meaning.
func (w *work) check(st sqltext.Statement) error {
	tokens, err := sqltext.Tokens(sqltext.MariaDB, st.Text)
	if err != nil {
		return err
	}
	end, inside := 0, false
	for i, t := range tokens {
		if err := checkMark(t); err != nil {
			return err
		}
		if inside && strings.Contains(st.Text[end:t.At], "/*") {
			return errors.New("a comment stands inside an executed comment, which servers read in different ways")
		}
		end = t.At + len(t.Text)
		inside = inside != t.Mark
		if t.Word && t.Text[0] == '$' && strings.Contains(t.Text[1:], "$") {
			return fmt.Errorf("%s may begin a string on some servers and be a name on others; put a name into backticks", t.Text)
		}
		if t.Is("OUTFILE") || t.Is("DUMPFILE") {
			return fmt.Errorf("INTO %s writes a file of one server", strings.ToUpper(t.Text))
		}
		w.asks = w.asks || t.Is("EXECUTE") || t.Is("PREPARE") // a statement put together may name any variable
		if name := variable(st.Text, tokens, i); name != "" && !strings.Contains(w.resets+",", ", @"+name+" = NULL,") {
			w.resets += ", @" + name + " = NULL"
		}
	}
	tokens = slices.DeleteFunc(tokens, func(t sqltext.Token) bool { return t.Mark })
	asks := asksOf(tokens)
	w.counts, w.asks = w.counts || asks.counts, w.asks || asks.last
	w.leaks = w.leaks || w.asks
	w.touches = append(w.touches, touchOf(st.Keyword, tokens))
	switch st.Keyword {
	case "INSERT", "REPLACE", "UPDATE", "DELETE", "SELECT", "WITH", "VALUES", "DO":
		return nil
	case "":
		if len(tokens) > 0 && tokens[0].Text == "(" {
			return nil
		}
		return errors.New("it begins with no word of SQL")
	case "CALL", "BEGIN":
		w.leaks = true
		return nil
	case "SET":
		return checkSet(tokens)
	case "CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE":
		w.ddl, err = parseDDL(st, tokens)
		return err
	case "LOAD":
		return errors.New("LOAD reads a file of one server; write INSERT")
	case "LOCK", "UNLOCK":
		return fmt.Errorf("%s TABLES commits what runs; an increment is a transaction already", st.Keyword)
	case "USE":
		return errors.New("USE changes the database for the increments after it; a node writes to the database of its " +
			"target URL")
	case "PREPARE", "EXECUTE", "DEALLOCATE", "HANDLER", "DECLARE":
		return fmt.Errorf("%s works on the connection, not on the data, and would be gone after a restart", st.Keyword)
	case "GRANT", "REVOKE":
		return fmt.Errorf("%s belongs to one server, not to the data", st.Keyword)
	case "IF", "CASE", "LOOP", "WHILE", "REPEAT", "FOR":
		return fmt.Errorf("%s at the top of a script: put it into BEGIN NOT ATOMIC ... END", st.Keyword)
	}
	return fmt.Errorf("%s is no statement that changes the data in a transaction", st.Keyword)
}

// checkMark refuses an executed comment that not every MariaDB executes: what it hides would be read in two ways.
func checkMark(t sqltext.Token) error {
	digits := strings.TrimLeft(t.Text, "/*M!")
	if !t.Mark || digits == "" {
		return nil
	}
	if n, err := strconv.Atoi(digits); err != nil || n > 50699 || strings.HasPrefix(t.Text, "/*M") {
		return fmt.Errorf("the comment %s is executed by some servers only; write the statement plainly", t.Text)
	}
	return nil
}

// variable is the name of the user variable that the token with index i, an @, begins, as it stands; "" when it is
// none.
func variable(text string, tokens []sqltext.Token, i int) string {
	if tokens[i].Text != "@" || i+1 == len(tokens) || tokens[i+1].At != tokens[i].At+1 || i > 0 &&
		tokens[i-1].Text == "@" && tokens[i-1].At == tokens[i].At-1 {
		return ""
	}
	next := tokens[i+1]
	if next.Quoted {
		return next.Text
	}
	end := next.At
	for end < len(text) && (text[end] == '.' || text[end] == '_' || text[end] == '$' || '0' <= text[end] &&
		text[end] <= '9' || 'a' <= text[end]|0x20 && text[end]|0x20 <= 'z' || text[end] >= 0x80) {
		end++
	}
	return text[next.At:end]
}

// checkSet lets only user variables be set: SET @a = 1, @b = 2.
func checkSet(tokens []sqltext.Token) error {
	begins, depth := true, 0
	for i, t := range tokens[1:] {
		if begins && (t.Text != "@" || i+2 < len(tokens) && tokens[i+2].Text == "@") {
			return fmt.Errorf("SET %s changes the connection for the increments after it, not the data; leave it out",
				strings.ToUpper(t.Text))
		}
		switch t.Text {
		case "(":
			depth++
		case ")":
			depth--
		}
		begins = t.Text == "," && depth == 0
	}
	return nil
}
