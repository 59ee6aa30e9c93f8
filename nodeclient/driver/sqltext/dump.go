package sqltext

import (
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
)

// Splitter cuts a script into increments as Split does, and understands what dump programs and clients write beside
// SQL:
//
//   - settings that change what later statements mean (search_path, foreign_key_checks, sql_mode, ...) stand before
//     every increment for which they hold; those that only concern the session are left out
//   - the data of COPY ... FROM stdin becomes INSERTs, in increments of about 256 KiB
//   - an INSERT or REPLACE ... VALUES that is longer than the limit is cut between rows
//   - executed comments of MariaDB and MySQL become plain SQL, or nothing, by what every server of the product does
//   - tables of MyISAM and Aria become tables of InnoDB, since nodes need transactions
//   - SET AUTOCOMMIT = 0 and its COMMIT make no transaction, nor does the one around a .dump of SQLite that is longer
//     than the limit
//   - who owns or defines what is made is left out, as a DUMP leaves it out: it belongs to the role of each node. In
//     PostgreSQL that is so in a dump, whose functions are not checked; any other ALTER ... OWNER TO is an increment
//   - rows that a .dump writes into sqlite_schema, for virtual tables, become CREATE VIRTUAL TABLE
type Splitter struct {
	Dialect Dialect
	MySQL   bool // executed comments are read as MySQL does, not as MariaDB
	Limit   int  // bytes of an increment, where the script lets it
	Longest int  // bytes of a statement or transaction in the script; 0 for the limit
	// LeaveOutDatabases passes over USE, \connect and CREATE, ALTER and DROP of databases.
	LeaveOutDatabases bool
	Counts            Counts // what became of the script, when it has been read
}

// Counts are statements that have become no increment of their own.
type Counts struct {
	Settings  int `json:"settings_left_out,omitempty"`  // concern a session, or stand before increments
	Databases int `json:"databases_left_out,omitempty"` // choose, make or drop databases
	Cut       int `json:"cut_between_rows,omitempty"`   // were longer than the limit
	Owners    int `json:"owners_left_out,omitempty"`    // name who owns or defines what is made
	Engines   int `json:"engines_changed,omitempty"`    // make tables of MyISAM or Aria, which nodes make of InnoDB
}

// Add adds what became of another script.
func (c *Counts) Add(other Counts) {
	c.Settings += other.Settings
	c.Databases += other.Databases
	c.Cut += other.Cut
	c.Owners += other.Owners
	c.Engines += other.Engines
}

// Scripts yields the increments of r; see Split. It is used once.
func (sp *Splitter) Scripts(r io.Reader) iter.Seq2[Script, error] {
	longest := sp.Longest
	if longest == 0 {
		longest = sp.Limit
	}
	c := &cutter{sp: sp, scanner: newScanner(sp.Dialect.lines(r), sp.Dialect, longest),
		session: session{dialect: sp.Dialect, values: map[string]string{}, kept: map[string]string{}}}
	c.scanner.client, c.scanner.leave, c.scanner.counts = true, sp.LeaveOutDatabases, &sp.Counts
	if c.scanner.lex.product = mariaDB; sp.MySQL {
		c.scanner.lex.product = mySQL
	}
	return func(yield func(Script, error) bool) {
		for {
			script, err := c.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(script, err) || err != nil {
				return
			}
		}
	}
}

// cutter makes increments of the statements of a scanner.
type cutter struct {
	sp      *Splitter
	scanner *scanner
	session session
	ready   []Script // cut already
	data    *copying // COPY whose data is being read
	manual  bool     // SET AUTOCOMMIT = 0 holds: COMMIT may stand alone
	first   int      // statements before the first BEGIN
	begin   int      // line of the open transaction's BEGIN
	dump    bool     // that is the one around a .dump of SQLite
	virtual []string // names of the virtual tables in it so far
	script  builder
}

// next returns the next script that has text; io.EOF after the last one.
func (c *cutter) next() (Script, error) {
	for len(c.ready) == 0 {
		if err := c.step(); err != nil {
			return Script{}, err
		}
	}
	script := c.ready[0]
	c.ready = c.ready[1:]
	return script, nil
}

// step takes the next statement, or the next rows of COPY.
func (c *cutter) step() error {
	if c.data != nil {
		return c.rows()
	}
	st, err := c.scanner.next()
	if errors.Is(err, io.EOF) && c.begin > 0 {
		return errAt(c.begin, "the transaction that begins here is not ended by COMMIT")
	}
	if err != nil {
		return err
	}
	c.first++
	switch {
	case st.stdin:
		if c.data, err = newCopying(st); err != nil {
			return err
		}
		c.scanner.start = -1 // the statement is read
		line, err := c.scanner.rest()
		if err != nil {
			return err
		}
		c.scanner.skip(len(line)) // psql reads the data from the next line on
		return nil
	case st.Control == "" || st.Control == "AUTOCOMMIT":
		return c.statement(st)
	}
	return c.control(st)
}

// control takes a statement that begins or ends a transaction.
func (c *cutter) control(st Statement) error {
	switch {
	case begins(st) && c.begin == 0:
		c.begin = st.Line
		c.dump = c.sp.Dialect == SQLite && c.first == 2 && c.session.values["foreign_keys"] != ""
	case commits(st) && c.begin > 0:
		c.flush(c.begin)
		c.begin, c.dump, c.virtual = 0, false, nil
	case rollsBack(st) && c.begin > 0:
		c.script = builder{}
		c.begin, c.dump, c.virtual = 0, false, nil
	case commits(st) && c.manual:
		c.sp.Counts.Settings++
	case c.begin > 0:
		return errAt(st.Line, "%.80q cannot stand inside the transaction that begins in line %d", st.Text, c.begin)
	default:
		return errAt(st.Line, "%.80q stands outside a transaction", st.Text)
	}
	return nil
}

// statement takes any other statement.
func (c *cutter) statement(st Statement) error {
	fate, err := c.fate(st)
	switch {
	case err != nil:
		return err
	case fate == leftOut:
		c.sp.Counts.Settings++
		return nil
	case fate == database:
		c.sp.Counts.Databases++
		return nil
	case fate == owner:
		c.sp.Counts.Owners++
		return nil
	case st.Control == "AUTOCOMMIT":
		return errAt(st.Line, "%.80q stands outside a transaction", st.Text)
	case st.some:
		return errAt(st.Line, "a part of this statement stands in a comment that only newer servers execute; write it "+
			"plainly: %.80q", st.Text)
	}
	if c.scanner.lex.escaping {
		st.Text = standard(st.Text)
	}
	if c.dump {
		if st, err = c.virtually(st); err != nil {
			return err
		}
	}
	if c.sp.Dialect == MariaDB && st.Keyword == "CREATE" {
		if text := transactional(st.Text); text != st.Text {
			st.Text = text
			c.sp.Counts.Engines++
		}
		if text := undefined(st.Text); text != st.Text {
			st.Text = text
			c.sp.Counts.Owners++
		}
	}
	ended := c.scanner.ended(st.Text)
	size := len(c.prefix(st)) + len(ended)
	switch {
	case c.begin == 0 && size > c.sp.Limit:
		if pieces := cutRows(c.sp.Dialect, st.Text, c.sp.Limit-len(c.prefix(st))-1); len(pieces) > 0 {
			if len(pieces) > 1 { // else it fits without what stands between its rows
				c.sp.Counts.Cut++
			}
			for _, piece := range pieces {
				st.Text = piece
				c.add(st, piece+";")
				c.flush(st.Line)
			}
			return nil
		}
	case c.dump && c.script.text.Len() > 0 && c.script.text.Len()+len(ended)+1 > min(c.sp.Limit, copyBytes):
		c.flush(st.Line)
	}
	c.add(st, ended)
	if c.begin == 0 {
		c.flush(st.Line)
		return nil
	}
	if c.script.text.Len() > c.scanner.limit {
		return errAt(c.begin, "the transaction that begins here is longer than the limit of %d bytes", c.scanner.limit)
	}
	return nil
}

// rows makes an increment of the next rows of COPY, or a part of the open transaction.
func (c *cutter) rows() error {
	text, line, err := c.data.next(c.scanner, min(c.sp.Limit, copyBytes))
	if err != nil {
		return err
	}
	if text == "" {
		c.data = nil
		return nil
	}
	c.add(Statement{Text: text, Line: line, Keyword: "INSERT"}, text+";")
	if c.begin == 0 {
		c.flush(line)
	} else if c.script.text.Len() > c.scanner.limit {
		return errAt(c.begin, "the transaction that begins here is longer than the limit of %d bytes", c.scanner.limit)
	}
	return nil
}

// add puts a statement into the script that is being made, after the settings it wants.
func (c *cutter) add(st Statement, ended string) {
	if c.script.text.Len() == 0 {
		prefix := c.prefix(st)
		c.script.text.WriteString(strings.TrimSuffix(prefix, "\n"))
		c.script.lines = max(0, strings.Count(prefix, "\n")-1)
	}
	c.script.add(st, ended)
}

func (c *cutter) flush(line int) {
	if c.script.text.Len() > 0 {
		c.ready = append(c.ready, c.script.done(line))
	}
	c.script = builder{}
}

// prefix are the settings that stand before the increment that begins with st.
func (c *cutter) prefix(st Statement) string {
	if len(c.session.values) == 0 {
		return ""
	}
	return c.session.prefix(st)
}

// fate says what becomes of a statement that is no transaction control.
func (c *cutter) fate(st Statement) (fate, error) {
	switch st.Keyword {
	case "SET", "SELECT", "PRAGMA":
		if c.dump && st.Second == "WRITABLE_SCHEMA" {
			return leftOut, nil // see virtually
		}
		f, err := c.session.take(st)
		if f == leftOut && st.Control == "AUTOCOMMIT" || f == leftOut && strings.Contains(strings.ToLower(st.Text),
			"autocommit") {
			c.manual = true
		}
		if c.session.dialect == PostgreSQL {
			c.scanner.lex.escaping = c.session.escaping
		}
		return f, err
	case "LOCK", "UNLOCK":
		if c.sp.Dialect == MariaDB && (st.Second == "TABLES" || st.Second == "TABLE") {
			return leftOut, nil
		}
	case "ALTER":
		if c.sp.Dialect == MariaDB && st.Second == "TABLE" && keys(st.Text) {
			return leftOut, nil
		}
		if c.session.values["check_function_bodies"] != "" && owns(st.Text) {
			return owner, nil
		}
		return c.databases(st), nil
	case "CREATE", "DROP", "USE":
		return c.databases(st), nil
	}
	return published, nil
}

// databases is the fate of a statement about databases.
func (c *cutter) databases(st Statement) fate {
	about := st.Second == "DATABASE" || c.sp.Dialect == MariaDB && (st.Second == "SCHEMA" || st.Keyword == "USE")
	if about && c.sp.Dialect != SQLite && c.sp.LeaveOutDatabases {
		return database
	}
	return published
}

// keys reports whether a statement is ALTER TABLE t {DISABLE | ENABLE} KEYS, which only MyISAM heeds.
func keys(text string) bool {
	tokens, err := Tokens(MariaDB, text)
	n := len(tokens)
	return err == nil && n > 3 && n < 7 && tokens[n-1].Is("KEYS") &&
		(tokens[n-2].Is("DISABLE") || tokens[n-2].Is("ENABLE"))
}

// owns reports whether a statement of PostgreSQL is ALTER ... OWNER TO role, and nothing more.
func owns(text string) bool {
	tokens, err := Tokens(PostgreSQL, text)
	n, depth := len(tokens), 0
	if err != nil || n < 6 || !tokens[n-3].Is("OWNER") || !tokens[n-2].Is("TO") {
		return false
	}
	for _, t := range tokens {
		switch {
		case t.Text == "(":
			depth++
		case t.Text == ")":
			depth--
		case depth == 0 && (t.Text == "," || t.Is("RENAME")): // one action of several; another that ends so
			return false
		}
	}
	return true
}

// undefined writes CREATE of a view or routine of MariaDB without DEFINER = user @ host: a node may not make anything
// in the name of another user, and does not know whether there is one.
func undefined(text string) string {
	tokens, err := Tokens(MariaDB, text)
	if err != nil {
		return text
	}
	for i := 1; i+5 < len(tokens) && i < 8; i++ {
		if tokens[i].Is("DEFINER") && tokens[i+1].Text == "=" && tokens[i+3].Text == "@" {
			return text[:tokens[i].At] + text[tokens[i+5].At:]
		}
	}
	return text
}

// transactional writes CREATE TABLE with InnoDB for MyISAM and Aria, which have no transactions.
func transactional(text string) string {
	tokens, err := Tokens(MariaDB, text)
	if err != nil || !slices.ContainsFunc(tokens[:min(len(tokens), 5)], func(t Token) bool { return t.Is("TABLE") }) {
		return text
	}
	depth := 0
	for i, t := range tokens {
		switch {
		case t.Text == "(":
			depth++
		case t.Text == ")":
			depth--
		case depth == 0 && (t.Is("MYISAM") || t.Is("ARIA")) && i > 1 &&
			(tokens[i-1].Is("ENGINE") || tokens[i-1].Text == "=" && tokens[i-2].Is("ENGINE")):
			return text[:t.At] + "InnoDB" + text[t.At+len(t.Text):]
		}
	}
	return text
}

// standard writes a statement of PostgreSQL that was meant for standard_conforming_strings = off: strings with a
// backslash become
// E strings.
func standard(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	s := textScanner(PostgreSQL, text)
	s.lex.escaping = true
	var b strings.Builder
	for {
		k, n, ended, _, err := s.token()
		if err != nil || ended {
			return b.String() + text[s.at:]
		}
		t := text[s.at : s.at+n]
		if k == quoted && t[0] == '\'' && strings.Contains(t, `\`) {
			b.WriteString(" E")
		}
		b.WriteString(t)
		s.pass(n)
	}
}
