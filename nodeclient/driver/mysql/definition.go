package mysql

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"xmq/broker/event"
	"xmq/nodeclient/driver/internal/snapstream"
	"xmq/nodeclient/driver/sqltext"
)

// piece is a record of a snapshot that was found to be what its kind names, and nothing else.
type piece struct {
	kind        byte
	name        string   // of the sequence, or of the table
	create      string   // CREATE SEQUENCE or CREATE TABLE
	next, cycle string   // of a sequence
	tuples      []byte   // of rows
	checksum    checksum // of rows, or of the whole table
	script      script
}

// checkAll reads a whole snapshot and judges every record of it, before any of it reaches the server. Its errors wrap
// event.ErrDamaged, or are those of records.
func checkAll(records *snapstream.Reader) error {
	table, open := "", false
	var sum checksum
	for {
		kind, body, err := readRecord(records)
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read the snapshot: %w", err)
		}
		p, err := parseRecord(kind, body, table, open)
		if err != nil {
			return fmt.Errorf("%w: %w", err, event.ErrDamaged)
		}
		switch kind {
		case tableRecord:
			table, open, sum = p.name, true, checksum{}
		case rowsRecord:
			sum.rows += p.checksum.rows
			sum.sum += p.checksum.sum
		case checksumRecord:
			if sum.rows != p.checksum.rows {
				return fmt.Errorf("the table %s has %d rows, expected were %d: %w", table, sum.rows, p.checksum.rows,
					event.ErrDamaged)
			}
			if sum != p.checksum {
				return fmt.Errorf("the table %s has other rows than were counted: %w", table, event.ErrDamaged)
			}
			table, open = "", false
		}
	}
	if open {
		return fmt.Errorf("the snapshot ends within the table %s: %w", table, event.ErrDamaged)
	}
	return nil
}

// parseRecord judges one record. open says that the rows of table come.
func parseRecord(kind byte, body []byte, table string, open bool) (p piece, err error) {
	p = piece{kind: kind, name: table}
	switch {
	case kind == sequenceRecord && !open:
		err = p.sequence(string(body))
	case kind == tableRecord && !open:
		err = p.table(string(body))
	case kind == rowsRecord && open:
		err = p.rows(body)
	case kind == checksumRecord && open && len(body) == 16:
		p.checksum = checksum{binary.LittleEndian.Uint64(body), binary.LittleEndian.Uint64(body[8:])}
	case kind == scriptRecord && !open:
		if json.Unmarshal(body, &p.script) != nil {
			return p, errors.New("a script of the snapshot cannot be read")
		}
		err = p.script.check()
	default:
		return p, fmt.Errorf("a record of the kind %q stands in the wrong place", kind)
	}
	return p, err
}

// setval is how a sequence's record ends.
var setval = regexp.MustCompile("(?s)^(.*); DO setval\\((`(?:[^`]|``)+`), (-?[0-9]+), 0, ([0-9]+)\\)$")

// sequence takes CREATE SEQUENCE and the values, which are data.
func (p *piece) sequence(body string) error {
	m := setval.FindStringSubmatch(body)
	if m == nil {
		return errors.New("a record of a sequence is not CREATE SEQUENCE with its values")
	}
	c, err := newCursor(m[1])
	if err == nil && (!c.word("CREATE") || !c.word("SEQUENCE") || !c.name(&p.name) || quoteName(p.name) != m[2]) {
		err = errors.New("it does not begin with CREATE SEQUENCE and its name alone")
	}
	if err == nil {
		err = c.plain()
	}
	if err != nil {
		return fmt.Errorf("the sequence %s is not defined as such: %w", m[2], err)
	}
	p.create, p.next, p.cycle = m[1], m[3], m[4]
	return nil
}

// table takes CREATE TABLE, of InnoDB, that reads nothing and names nothing of another database.
func (p *piece) table(body string) error {
	name, create, _ := strings.Cut(body, "\x00")
	var named string
	c, err := newCursor(create)
	if err == nil && (!c.word("CREATE") || !c.word("TABLE") || !c.name(&named) || named != name || !c.at("(")) {
		err = errors.New("it does not begin with CREATE TABLE and its name alone")
	}
	if err == nil {
		err = c.plain()
	}
	if err != nil {
		return fmt.Errorf("the table %s is not defined as such: %w", name, err)
	}
	p.name, p.create = name, create
	return nil
}

// rows takes the tuples of literals out of INSERT INTO table (...) VALUES ..., whose head the receiver writes anew.
func (p *piece) rows(body []byte) error {
	begin := "INSERT INTO " + quoteName(p.name) + " ("
	fail := fmt.Errorf("a record of rows of the table %s holds something else than literals", p.name)
	rest, ok := strings.CutPrefix(string(body), begin)
	if !ok {
		return fail
	}
	for {
		n := quotedLen(rest, '`')
		if n == 0 {
			return fail
		}
		rest = rest[n:]
		if after, more := strings.CutPrefix(rest, ", "); more {
			rest = after
			continue
		}
		break
	}
	if rest, ok = strings.CutPrefix(rest, ") VALUES "); !ok {
		return fail
	}
	p.tuples = body[len(body)-len(rest):]
	for {
		n := tupleLen(rest)
		if n == 0 {
			return fail
		}
		p.checksum.add([]byte(rest[:n]))
		if rest = rest[n:]; rest == "" {
			return nil
		}
		if rest[0] != ',' {
			return fail
		}
		rest = rest[1:]
	}
}

// quotedLen is how long the quoted thing is that s begins with; 0 for none. A backslash escapes in a string.
func quotedLen(s string, q byte) int {
	if s == "" || s[0] != q {
		return 0
	}
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && q == '\'':
			i++
		case s[i] != q:
		case q == '`' && i+1 < len(s) && s[i+1] == q:
			i++
		default:
			return i + 1
		}
	}
	return 0
}

// literal is a number, NULL, or what stands before the quote of a string.
var literal = regexp.MustCompile(`^(?:NULL|[-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?|_[a-z0-9]+')|^'`)

// tupleLen is how long the tuple of literals is that s begins with; 0 for none. tuple writes it.
func tupleLen(s string) int {
	if s == "" || s[0] != '(' {
		return 0
	}
	for at := 1; at < len(s); at++ {
		n := len(literal.FindString(s[at:min(len(s), at+512)]))
		if n == 0 {
			return 0
		}
		if at += n; s[at-1] == '\'' {
			if n = quotedLen(s[at-1:], '\''); n == 0 {
				return 0
			}
			at += n - 1
		}
		if at == len(s) {
			return 0
		}
		if s[at] == ')' {
			return at + 1
		}
		if s[at] != ',' {
			return 0
		}
	}
	return 0
}

// check judges a script by its head: it makes one thing of its kind, with its name alone. That nothing comes after
// it, the server judges, in a session that takes one statement at a time. A trigger's head loses the names of
// databases.
func (sc *script) check() error {
	if err := sc.readable(); err != nil {
		return err
	}
	_, create := sc.parts()
	c, err := newCursor(create)
	if len(c.all) == 0 {
		return fmt.Errorf("the %s %s cannot be read: %w", strings.ToLower(sc.Kind), sc.Name, err)
	}
	var name string
	ok := false
	switch sc.Kind {
	case "DEFAULT": // ALTER TABLE t ALTER COLUMN c SET DEFAULT ...
		var column string
		ok = err == nil && c.word("ALTER") && c.word("TABLE") && c.name(&name) && c.word("ALTER") && c.word("COLUMN") &&
			c.name(&column) &&
			c.word("SET") && c.word("DEFAULT") && c.plain() == nil
	case "VIEW":
		ok = c.create()
		if ok && c.word("ALGORITHM") {
			ok = c.symbol("=") && c.any()
		}
		if ok && c.word("SQL") {
			ok = c.word("SECURITY") && c.any()
		}
		if ok && c.word("JSON") { // MySQL's
			c.word("RELATIONAL")
			ok = c.word("DUALITY")
		}
		ok = ok && c.word("VIEW") && c.name(&name) && (c.at("(") || c.word("AS"))
	case "PROCEDURE", "FUNCTION":
		ok = c.create()
		if ok && sc.Kind == "FUNCTION" {
			c.word("AGGREGATE")
		}
		ok = ok && c.word(sc.Kind) && c.name(&name) && c.at("(")
	case "TRIGGER":
		sc.SQL, err = unqualified(sc.SQL, sc.Name)
		return err
	}
	if !ok || name != sc.Name {
		return fmt.Errorf("the script of the %s %s does not make that and nothing else", strings.ToLower(sc.Kind), sc.Name)
	}
	return nil
}

// parts are the two statements of a script that cannot replace what is there; drop is "" for one that can.
func (sc *script) parts() (drop, create string) {
	drop = "DROP " + sc.Kind + " IF EXISTS " + quoteName(sc.Name)
	if create, two := strings.CutPrefix(sc.SQL, drop+"; "); two {
		return drop, create
	}
	return "", sc.SQL
}

// unqualified takes the names of databases from the head of a trigger's script: MariaDB keeps the text as it was
// written, and the database may have another name elsewhere. What names none stays as it is.
func unqualified(text, trigger string) (string, error) {
	sc := script{Kind: "TRIGGER", Name: trigger, SQL: text}
	drop, create := sc.parts()
	fail := fmt.Errorf("the script of the trigger %s does not make that and nothing else", trigger)
	c, _ := newCursor(create) // of its body, which may be written in another mode, nothing is asked
	if !c.create() || !c.word("TRIGGER") {
		return "", fail
	}
	head := create[:c.offset()]
	if c.word("IF") && (!c.word("NOT") || !c.word("EXISTS")) { // which OR REPLACE does not bear beside it
		return "", fail
	}
	var name, table string
	from, before := c.offset(), c.i
	if _, ok := c.qualified(&name); !ok || name != trigger {
		return "", fail
	}
	head += c.alone(from, before, name)
	rest := c.offset()
	for !c.word("ON") {
		if t := c.next(); !t.Word && t.Text != "," {
			return "", fail
		}
	}
	before = c.i
	from, ok := c.qualified(&table)
	if !ok || !c.word("FOR") {
		return "", fail
	}
	c.back()
	head += create[rest:from] + c.alone(from, before, table) + create[c.offset():]
	if drop != "" {
		head = drop + "; " + head
	}
	return head, nil
}

// cursor goes through the tokens of a statement.
type cursor struct {
	text string
	all  []sqltext.Token
	i    int
}

// newCursor reads a statement. With an error it has the tokens before the trouble.
func newCursor(text string) (*cursor, error) {
	tokens, err := sqltext.Tokens(sqltext.MariaDB, text)
	return &cursor{text: text, all: tokens}, err
}

// next passes one token; the zero Token at the end.
func (c *cursor) next() (t sqltext.Token) {
	if c.i < len(c.all) {
		t = c.all[c.i]
		c.i++
	}
	return t
}

func (c *cursor) back() { c.i-- }

// offset is where the next token begins in the text.
func (c *cursor) offset() int {
	if c.i < len(c.all) {
		return c.all[c.i].At
	}
	return len(c.text)
}

// word passes the word w, if it comes.
func (c *cursor) word(w string) bool {
	if c.i == len(c.all) || !c.all[c.i].Is(w) {
		return false
	}
	c.i++
	return true
}

// any passes any word.
func (c *cursor) any() bool { return c.next().Word }

func (c *cursor) at(symbol string) bool { return c.i < len(c.all) && c.all[c.i].Text == symbol }

// symbol passes a symbol, if it comes.
func (c *cursor) symbol(s string) bool {
	if !c.at(s) {
		return false
	}
	c.i++
	return true
}

// create passes CREATE [OR REPLACE].
func (c *cursor) create() bool {
	return c.word("CREATE") && (!c.word("OR") || c.word("REPLACE"))
}

// name passes a name without a qualifier.
func (c *cursor) name(name *string) bool {
	t := c.next()
	switch {
	case t.Word:
		*name = t.Text
	case t.Quoted && t.Text[0] != '\'':
		q := t.Text[:1]
		*name = strings.ReplaceAll(t.Text[1:len(t.Text)-1], q+q, q)
	default:
		return false
	}
	return !c.at(".")
}

// qualified passes a name with or without the name of a database before it, and returns where it begins.
func (c *cursor) qualified(name *string) (from int, ok bool) {
	from = c.offset()
	if ok = c.name(name); !ok && c.symbol(".") {
		ok = c.name(name)
	}
	return from, ok
}

// alone is the text from a name on, which began at token before, up to the next token: as it stands when the name is
// alone already.
func (c *cursor) alone(from, before int, name string) string {
	if c.i-before == 1 {
		return c.text[from:c.offset()]
	}
	return quoteName(name) + " "
}

// digits is a number without point and sign.
var digits = regexp.MustCompile(`^[0-9]+$`)

// plain judges the rest of a definition: it is one statement, reads no table, has no qualified name and no engine but
// InnoDB.
func (c *cursor) plain() error {
	for last := (sqltext.Token{}); c.i < len(c.all); {
		t := c.next()
		switch {
		case t.Text == ";":
			return errors.New("another statement comes after it")
		case t.Is("SELECT"), t.Is("LIKE"):
			return fmt.Errorf("it holds %s", strings.ToUpper(t.Text))
		case t.Text == "." && (!digits.MatchString(last.Text) || c.i == len(c.all) || !c.all[c.i].Word ||
			c.all[c.i].Text[0] < '0' || c.all[c.i].Text[0] > '9'):
			return fmt.Errorf("it names something in another database (after %.64s)", last.Text)
		case last.Is("ENGINE") && t.Text != "=" && !t.Is("InnoDB"), last.Text == "=" && c.i > 2 &&
			c.all[c.i-3].Is("ENGINE") && !t.Is("InnoDB"):
			return fmt.Errorf("it has the engine %.64s", t.Text)
		}
		last = t
	}
	return nil
}

// readable refuses a script of a mode under which a server reads its text in another way than it was judged.
func (sc *script) readable() error {
	mode := sqltext.OtherReading(sc.Mode)
	if mode == "" {
		return nil
	}
	return fmt.Errorf("the %s %s was made under the sql_mode %s, under which its text means something else: make it "+
		"again without", strings.ToLower(sc.Kind), sc.Name, mode)
}
