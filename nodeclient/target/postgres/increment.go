package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"xmq/nodeclient/target/sqltext"
)

// maxArgs is how many parameters PostgreSQL takes.
const maxArgs = 65535

// statement is one statement ready to be sent.
type statement struct {
	text string
	line int
	args [][]byte // in text format; nil is NULL
	// plain and changes are what templates want to know of it.
	plain, changes bool
	prepared       bool // it was prepared right before it was sent
}

// work is an increment that has been looked at. alone says that it must be a transaction of its own, and may leave something in
// the session. asks says that it asks for numbers that a sequence has given in this session.
type work struct {
	statements []statement
	alone      bool
	asks       bool
}

// Check is an error for an increment that every node with this driver refuses before it asks its database. It needs none.
func Check(body []byte) error {
	_, err := parse(body)
	return err
}

// parse looks at an increment before it runs; doc.go describes its two forms.
func parse(body []byte) (w work, err error) {
	script := string(body)
	var args [][]byte
	object := sqltext.IsObject(body)
	if object {
		o, err := sqltext.ParseObject(body)
		if err != nil {
			return w, err
		}
		if len(o.Args) > maxArgs {
			return w, fmt.Errorf("it has %d arguments, more than the %d PostgreSQL takes", len(o.Args), maxArgs)
		}
		script = o.SQL
		for _, raw := range o.Args {
			args = append(args, argument(raw))
		}
	}
	statements, err := checkScript(script)
	if err != nil {
		return w, err
	}
	if object && len(statements) != 1 {
		return w, fmt.Errorf(`"sql" has %d statements, and arguments belong to exactly one`, len(statements))
	}
	lower := strings.ToLower(script)
	w.asks = strings.Contains(lower, "currval") || strings.Contains(lower, "lastval")
	w.alone = w.asks || strings.Contains(lower, "defer") || strings.Contains(lower, "constraints") || lasting(lower)
	for _, st := range statements {
		if err := checkPlaceholders(st, len(args), object); err != nil {
			return w, fmt.Errorf("line %d: %w", st.Line, err)
		}
		w.alone = w.alone || !plainDML[st.Keyword]
		plain, changes := kinds(st.Keyword, st.Text)
		w.statements = append(w.statements, statement{text: st.Text, line: st.Line, args: args, plain: plain, changes: changes})
	}
	return w, nil
}

// plainDML are the statements that change rows and nothing else, unless a function does.
var plainDML = map[string]bool{"INSERT": true, "UPDATE": true, "DELETE": true, "MERGE": true}

// checkPlaceholders compares the highest $n of a statement with the number of its arguments. In the body of a routine $n is
// an argument of its own.
func checkPlaceholders(st sqltext.Statement, args int, object bool) error {
	if args == 0 && (!strings.Contains(st.Text, "$") || st.Keyword == "CREATE") {
		return nil
	}
	tokens, err := sqltext.Tokens(sqltext.PostgreSQL, st.Text)
	if err != nil {
		return err
	}
	highest := 0
	for i, t := range tokens {
		if i == 0 || tokens[i-1].Text != "$" || tokens[i-1].At != t.At-1 || !t.Word {
			continue
		}
		if n, err := strconv.Atoi(t.Text); err == nil {
			highest = max(highest, n)
		}
	}
	switch {
	case highest == args:
		return nil
	case !object:
		return fmt.Errorf(`it has the placeholder $%d and no arguments: send {"sql": ..., "args": [...]}`, highest)
	}
	return fmt.Errorf("its placeholders go up to $%d, and it has %d arguments", highest, args)
}

// argument is the text of a JSON value: a string without its quotes, anything else as it stands, nil for null.
func argument(raw json.RawMessage) []byte {
	var s string
	switch {
	case string(raw) == "null":
		return nil
	case raw[0] == '"' && json.Unmarshal(raw, &s) == nil:
		return []byte(s)
	}
	return raw
}

// checkScript cuts a script and strips one outer BEGIN ... COMMIT. Refused, as a FAIL:
//
//   - a NUL byte, which no text of PostgreSQL can hold
//   - an open quote, comment or body
//   - transaction control, and every mention of xmq_position as a name, also in a $$ body
//   - what checkStatement refuses, and set_config
//
// It is a check of words, not of meaning.
func checkScript(text string) ([]sqltext.Statement, error) {
	if strings.IndexByte(text, 0) >= 0 {
		return nil, errors.New(`it has a NUL byte; write bytea as '\x00'`)
	}
	statements, err := sqltext.Increment(sqltext.PostgreSQL, text)
	if err != nil {
		return nil, err
	}
	for _, st := range statements {
		if err := checkStatement(st); err != nil {
			return nil, fmt.Errorf("line %d: %w", st.Line, err)
		}
	}
	lower := strings.ToLower(text)
	if strings.Contains(lower, "xmq_position") && sqltext.Mentions(sqltext.PostgreSQL, text, "xmq_position") {
		return nil, errors.New("it mentions xmq_position, the table in which XMQ keeps its place")
	}
	if strings.Contains(lower, "pg_temp") && sqltext.Mentions(sqltext.PostgreSQL, text, "pg_temp") {
		return nil, errors.New("it mentions pg_temp, the schema of temporary objects, which live in one connection only and would be gone after a restart")
	}
	if strings.Contains(lower, `u&"`) && escapes(text) {
		return nil, errors.New(`it has a name with escapes (U&"..."), which hides what it means; write the name itself`)
	}
	if strings.Contains(lower, "set_config") && sqltext.Mentions(sqltext.PostgreSQL, text, "set_config") {
		return nil, errors.New("it calls set_config, which changes the connection for the increments behind it")
	}
	return statements, nil
}

// escapes reports whether a quoted name with Unicode escapes stands in text, also in a $$ body.
func escapes(text string) bool {
	tokens, _ := sqltext.Tokens(sqltext.PostgreSQL, text) // it was read to its end before
	for _, t := range tokens {
		switch {
		case t.Quoted && t.Text[0] == '$' && strings.Contains(strings.ToLower(t.Text), `u&"`):
			return true
		case strings.HasPrefix(strings.ToLower(t.Text), `u&"`):
			return true
		case t.Quoted && t.Text[0] == '"' && t.At >= 2 && strings.EqualFold(text[t.At-2:t.At], "u&"):
			return true
		}
	}
	return false
}

// checkStatement refuses what stays in the connection behind the increment, so that the same increment would mean
// something else after a restart, and what reads or writes files of one server.
func checkStatement(st sqltext.Statement) error {
	switch st.Keyword {
	case "COPY":
		return errors.New("COPY moves data between the database and a file or the client; write INSERT")
	case "SET":
		if st.Second != "CONSTRAINTS" && !local(st) {
			return fmt.Errorf("SET %s changes the connection for the increments behind it, not the data; name schemas in full and leave it out", st.Second)
		}
	case "RESET", "DISCARD", "LISTEN", "UNLISTEN", "PREPARE", "EXECUTE", "DEALLOCATE", "DECLARE", "FETCH", "MOVE", "CLOSE", "LOAD":
		return fmt.Errorf("%s works on the connection, not on the data, and would be gone after a restart", st.Keyword)
	case "VACUUM", "CHECKPOINT":
		return fmt.Errorf("%s cannot run in a transaction, and an increment is one; it changes no data: each node's administrator runs it", st.Keyword)
	case "REINDEX", "CLUSTER":
		return checkRebuild(st)
	case "REASSIGN":
		return errors.New("REASSIGN is about roles, which belong to the server and not to the data")
	case "SELECT", "WITH", "TABLE", "VALUES":
		return checkInto(st.Text)
	case "DROP":
		return checkOutside(st)
	case "CREATE", "ALTER":
		if err := checkOutside(st); err != nil {
			return err
		}
		second := st.Second
		if tokens, _ := sqltext.Tokens(sqltext.PostgreSQL, st.Text); second == "OR" && len(tokens) > 3 { // OR REPLACE
			second = strings.ToUpper(tokens[3].Text)
		}
		switch second {
		case "TEMP", "TEMPORARY", "LOCAL", "GLOBAL":
			return errors.New("a temporary object lives in one connection only and would be gone after a restart")
		}
		if sqltext.Mentions(sqltext.PostgreSQL, st.Text, "unlogged") {
			return errors.New("a crash of the server empties an unlogged table, while the position stays")
		}
	}
	return nil
}

// local reports whether a statement sets, for its transaction only, what a dump sets for all its statements: SET LOCAL
// search_path and check_function_bodies, to names and literals. Such an increment is a transaction of its own.
func local(st sqltext.Statement) bool {
	if st.Keyword != "SET" || st.Second != "LOCAL" {
		return false
	}
	tokens, err := sqltext.Tokens(sqltext.PostgreSQL, st.Text)
	if err != nil || len(tokens) < 5 || !tokens[2].Is("SEARCH_PATH") && !tokens[2].Is("CHECK_FUNCTION_BODIES") ||
		tokens[3].Text != "=" && !tokens[3].Is("TO") {
		return false
	}
	return !slices.ContainsFunc(tokens[4:], func(t sqltext.Token) bool { return !t.Word && !t.Quoted && t.Text != "," })
}

// outside are what CREATE, ALTER and DROP may not be about: it belongs to the server, and most of it cannot run in a
// transaction or reaches the sessions of other databases.
var outside = []string{"DATABASE", "SYSTEM", "TABLESPACE", "SUBSCRIPTION", "ROLE", "USER", "GROUP"}

// checkOutside refuses what belongs to the server, and what cannot run in a transaction.
func checkOutside(st sqltext.Statement) error {
	tokens, _ := sqltext.Tokens(sqltext.PostgreSQL, st.Text)                     // it was read to its end before
	mapping := st.Second == "USER" && len(tokens) > 2 && tokens[2].Is("MAPPING") // of a foreign server, an object of the database
	if slices.Contains(outside, st.Second) && !mapping {
		return fmt.Errorf("%s %s is about the server, not the data of one database; most of it cannot run in a transaction, and an "+
			"increment is one", st.Keyword, st.Second)
	}
	return checkConcurrently(st)
}

// checkConcurrently refuses CONCURRENTLY of CREATE INDEX, DROP INDEX and DETACH PARTITION, where it stands unquoted.
func checkConcurrently(st sqltext.Statement) error {
	if !strings.Contains(strings.ToLower(st.Text), "concurrently") {
		return nil
	}
	tokens, err := sqltext.Tokens(sqltext.PostgreSQL, st.Text)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(tokens, func(t sqltext.Token) bool { return t.Is("CONCURRENTLY") }) {
		return fmt.Errorf("%s ... CONCURRENTLY cannot run in a transaction, and an increment is one: leave CONCURRENTLY out", st.Keyword)
	}
	return nil
}

// checkRebuild lets REINDEX and CLUSTER of one object through.
func checkRebuild(st sqltext.Statement) error {
	tokens, err := sqltext.Tokens(sqltext.PostgreSQL, st.Text)
	if err != nil {
		return err
	}
	whole := len(tokens) == 1
	for _, t := range tokens {
		whole = whole || st.Keyword == "REINDEX" && (t.Is("DATABASE") || t.Is("SYSTEM") || t.Is("SCHEMA"))
	}
	if whole {
		return fmt.Errorf("%s of a whole database cannot run in a transaction, and an increment is one: name one table or index", st.Keyword)
	}
	return checkConcurrently(st)
}

// checkInto refuses SELECT ... INTO a table that lives in one connection, or that a crash empties.
func checkInto(text string) error {
	tokens, _ := sqltext.Tokens(sqltext.PostgreSQL, text) // it was read to its end before
	for i, t := range tokens[:max(0, len(tokens)-1)] {
		if !t.Is("INTO") {
			continue
		}
		switch next := tokens[i+1]; {
		case next.Is("TEMP"), next.Is("TEMPORARY"), next.Is("LOCAL"), next.Is("GLOBAL"):
			return errors.New("a temporary object lives in one connection only and would be gone after a restart")
		case next.Is("UNLOGGED"):
			return errors.New("a crash of the server empties an unlogged table, while the position stays")
		}
	}
	return nil
}
