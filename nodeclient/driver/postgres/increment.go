package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"xmq/broker/form"
	"xmq/broker/units"
	"xmq/nodeclient/driver/sqltext"
)

// statement is one statement ready to be sent.
type statement struct {
	text  string
	where string   // for people
	args  [][]byte // in text format, but bytes; nil is NULL
	// types and formats of the arguments, as the protocol numbers them; nil when the server finds all types itself.
	types   []uint32
	formats []int16
	// plain and changes are what templates want to know of it.
	plain, changes bool
	prepared       bool // it was prepared right before it was sent
}

// work is an increment that has been looked at. alone says that it must be a transaction of its own, and may leave
// something in the session. asks says that it asks for numbers that a sequence has given in this session, sets that
// it may set one.
type work struct {
	statements []statement
	alone      bool
	sets       bool // it may set a sequence
	asks       bool
	traces     traces // of its own words
	creates    bool   // it may make what leaves them later
}

// Check is an error for an increment that every node with this driver refuses before it asks its database, and for one
// that no server could read. It needs none.
func Check(body []byte) error {
	if err := sqltext.Structure(sqltext.PostgreSQL, body); err != nil {
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
	for _, p := range pieces {
		if err := w.add(p); err != nil {
			return w, p.In(err)
		}
	}
	return w, nil
}

// add looks at a piece of an increment.
func (w *work) add(p sqltext.Piece) error {
	statements, err := checkPiece(p)
	if err != nil {
		return err
	}
	lower := strings.ToLower(p.Text)
	w.asks = w.asks || hasAsker(lower)
	w.sets = w.sets || strings.Contains(lower, "setval")
	w.alone = w.alone || w.asks || strings.Contains(lower, "defer") || strings.Contains(lower, "constraints") ||
		lasting(lower)
	plain := !slices.ContainsFunc(statements, func(st sqltext.Statement) bool { return !plainDML[st.Keyword] })
	if !plain && mayTrace(lower) || strings.Contains(lower, "current_setting") || strings.Contains(lower, "'set ") ||
		strings.Contains(lower, "dblink_") {
		w.alone = true
		w.creates = w.creates || strings.Contains(lower, "create")
		w.traces.add(lower)
	}
	for _, st := range statements {
		if err := checkPlaceholders(st, len(p.Args), p.Object); err != nil {
			return fmt.Errorf("line %d: %w", st.Line, err)
		}
		s := statement{text: st.Text, where: st.Where()}
		s.plain, s.changes = kinds(st.Keyword, st.Text)
		if err := s.take(p.Args); err != nil {
			return err
		}
		w.alone = w.alone || !plainDML[st.Keyword]
		w.statements = append(w.statements, s)
	}
	return nil
}

// What the protocol says of an argument that is bytes.
const (
	typeBytes = 17 // bytea
	formatRaw = 1
)

// take gives a statement its arguments: as text, of whatever type the server finds them to be, but bytes, which
// are of no other.
func (s *statement) take(args []form.Arg) error {
	for i, a := range args {
		switch {
		case a.Kind == form.Null:
			s.args = append(s.args, nil)
			continue
		case a.Kind == form.Blob && s.types == nil: // a statement is prepared for arguments whose types the server finds
			s.types, s.formats, s.plain = make([]uint32, len(args)), make([]int16, len(args)), false
		case a.Kind != form.Blob && strings.IndexByte(a.Text, 0) >= 0:
			return fmt.Errorf(`argument %d: it has a NUL, which no text of PostgreSQL can hold; send bytes as `+
				`{"base64": ...}`, i+1)
		}
		if a.Kind == form.Blob {
			s.types[i], s.formats[i] = typeBytes, formatRaw
		}
		s.args = append(s.args, []byte(a.Text))
	}
	return nil
}

// plainDML are the statements that change rows and nothing else, unless a function does.
var plainDML = map[string]bool{"INSERT": true, "UPDATE": true, "DELETE": true, "MERGE": true}

// checkPlaceholders compares the highest $n of a statement with the number of its arguments. In the body of a routine
// $n is an argument of its own.
func checkPlaceholders(st sqltext.Statement, args int, object bool) error {
	if args == 0 && (!strings.Contains(st.Text, "$") || st.Keyword == "CREATE") {
		return nil
	}
	tokens, err := sqltext.Tokens(sqltext.PostgreSQL, st.Text)
	if err != nil {
		return err
	}
	highest, seen := 0, make([]bool, args)
	for i, t := range tokens {
		if i == 0 || tokens[i-1].Text != "$" || tokens[i-1].At != t.At-1 || !t.Word {
			continue
		}
		if n, err := strconv.Atoi(t.Text); err == nil {
			highest = max(highest, n)
			if 0 < n && n <= args {
				seen[n-1] = true
			}
		}
	}
	marks := slices.ContainsFunc(tokens, func(t sqltext.Token) bool { return t.Text == "?" })
	switch unused := slices.Index(seen, false); {
	case highest == 0 && args > 0 && marks:
		return errors.New("it has ? as placeholders: write $1 and $2")
	case highest > args && !object:
		return fmt.Errorf(`it has the placeholder $%d and no arguments: send {"sql": ..., "args": [...]}`, highest)
	case highest != args:
		return fmt.Errorf("its placeholders go up to $%d, and it has %s", highest, units.Of(uint64(args), "argument"))
	case unused >= 0:
		return fmt.Errorf("argument %d has no placeholder: the server could not tell its type", unused+1)
	}
	return nil
}

// checkPiece cuts a script and strips one outer BEGIN ... COMMIT. Refused, as a FAIL:
//
//   - a NUL byte, which no text of PostgreSQL can hold
//   - an open quote, comment or body
//   - transaction control, and every mention of xmq_position as a name, also in a $$ body
//   - what checkStatement refuses, and set_config
//
// It is a check of words, not of meaning.
func checkPiece(p sqltext.Piece) ([]sqltext.Statement, error) {
	text := p.Text
	if strings.IndexByte(text, 0) >= 0 {
		return nil, errors.New(`it has a NUL byte; write bytea as '\x00'`)
	}
	statements, err := p.Statements(sqltext.PostgreSQL)
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
		return nil, errors.New("it mentions xmq_position, the table in which XMQ keeps its position")
	}
	if strings.Contains(lower, "pg_temp") && sqltext.Mentions(sqltext.PostgreSQL, text, "pg_temp") {
		return nil, errors.New("it mentions pg_temp, the schema of temporary objects, which live in one connection only " +
			"and would be gone after a restart")
	}
	if strings.Contains(lower, `u&"`) && escapes(text) {
		return nil, errors.New(`it has a name with escapes (U&"..."), which hides what it means; write the name itself`)
	}
	if strings.Contains(lower, "set_config") && sqltext.Mentions(sqltext.PostgreSQL, text, "set_config") {
		return nil, errors.New("it calls set_config, which changes the connection for the increments after it")
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

// checkStatement refuses what stays in the connection after the increment, so that the same increment would mean
// something else after a restart, and what reads or writes files of one server.
func checkStatement(st sqltext.Statement) error {
	switch st.Keyword {
	case "COPY":
		return errors.New("COPY moves data between the database and a file or the client; write INSERT")
	case "SET":
		if st.Second != "CONSTRAINTS" && !local(st) {
			return fmt.Errorf("SET %s changes the connection for the increments after it, not the data; name schemas in "+
				"full and leave it out", st.Second)
		}
	case "RESET", "DISCARD", "LISTEN", "UNLISTEN", "PREPARE", "EXECUTE", "DEALLOCATE", "DECLARE", "FETCH", "MOVE", "CLOSE",
		"LOAD":
		return fmt.Errorf("%s works on the connection, not on the data, and would be gone after a restart", st.Keyword)
	case "VACUUM", "CHECKPOINT":
		return fmt.Errorf("%s cannot run in a transaction, and an increment is one; it changes no data: each node's "+
			"administrator runs it", st.Keyword)
	case "REINDEX", "CLUSTER":
		return checkRebuild(st)
	case "REASSIGN":
		return errors.New("REASSIGN is about roles, which belong to the server and not to the data")
	case "GRANT", "REVOKE":
		if !sqltext.Mentions(sqltext.PostgreSQL, st.Text, "on") {
			return fmt.Errorf("%s of a role is about the server, not the data of one database: each node's administrator "+
				"does it", st.Keyword)
		}
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
var outside = []string{"DATABASE", "SYSTEM", "TABLESPACE", "SUBSCRIPTION", "ROLE", "USER", "GROUP", "OWNED"}

// checkOutside refuses what belongs to the server, and what cannot run in a transaction.
func checkOutside(st sqltext.Statement) error {
	tokens, _ := sqltext.Tokens(sqltext.PostgreSQL, st.Text) // it was read to its end before
	// of a foreign server, an object of the database
	mapping := st.Second == "USER" && len(tokens) > 2 && tokens[2].Is("MAPPING")
	if slices.Contains(outside, st.Second) && !mapping {
		return fmt.Errorf("%s %s is about the server, not the data of one database; most of it cannot run in a "+
			"transaction, and an "+
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
		return fmt.Errorf("%s ... CONCURRENTLY cannot run in a transaction, and an increment is one: leave CONCURRENTLY out",
			st.Keyword)
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
		return fmt.Errorf("%s of a whole database cannot run in a transaction, and an increment is one: name one table or "+
			"index", st.Keyword)
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
