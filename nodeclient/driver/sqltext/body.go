package sqltext

import "strings"

// body follows the body of a routine, trigger, event or package of MariaDB and MySQL, or a compound statement without
// one, by the grammar of the server: which blocks are open, and whether a statement may begin here. Most of the words
// that open and close blocks may also be names of columns (begin, end), so that a word counts only where the grammar
// has a place for it.
//
// What does not follow the grammar makes it unsure. An opener that is missed shows at the latest by an END that does
// not fit, so that a body is rather refused than cut.
type body struct {
	object string   // TRIGGER, PROCEDURE, FUNCTION, EVENT, PACKAGE; "" for a compound statement
	begun  bool     // the header is over
	fresh  bool     // a statement may begin here
	open   []string // blocks by their words; "case" is an expression, "(" a parenthesis
	parens int      // open ones of the header
	step   int      // of the header: parts of it that are over
	prev   string   // the token before: a word in upper case, a symbol, or "'" for anything quoted
	before string   // the one before that
	after  string   // the word that must follow END: IF, LOOP, ...; "END" when a label may
	wants  bool     // the head of a block (IF, ELSEIF, WHEN, WHILE, FOR) waits for its THEN or DO
	until  bool     // the condition of a REPEAT
	// handler: 1 after DECLARE, 2 after HANDLER, 3 where a condition is due, 4 after one
	handler int
	routine bool // PACKAGE: a PROCEDURE or FUNCTION waits for its BEGIN
	label   bool // the token before may be a label
	bare    bool // the statement may go without a body
	unsure  bool
}

// blockWords are the words that open a block where a statement may begin; all but BEGIN are reserved.
var blockWords = words("BEGIN IF CASE LOOP WHILE REPEAT FOR")

// characteristics are the words between the parameters of a procedure and its body.
var characteristics = words("COMMENT LANGUAGE SQL NOT DETERMINISTIC CONTAINS NO READS MODIFIES DATA " +
	"SECURITY DEFINER INVOKER")

// leading are words after which an operand must come, so that END or DO there is a name.
var leading = words("WHEN THEN ELSE CASE AND OR NOT XOR LIKE IN IS BETWEEN DIV MOD REGEXP RLIKE BINARY INTERVAL " +
	"COLLATE ESCAPE WHILE FOR UNTIL AS EVENT EXISTS")

// words is the set of the words of s.
func words(s string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(s) {
		set[w] = true
	}
	return set
}

// operand reports whether the token before may end an expression.
func (b *body) operand() bool {
	switch b.prev {
	case ")", "'":
		return true
	case "":
		return false
	}
	return !leading[b.prev] && isWord(b.prev[0])
}

// named reports whether a word after the token before is a name.
func (b *body) named() bool { return b.prev == "." || b.prev == "@" || b.prev == "AS" }

func (b *body) top() string {
	if len(b.open) == 0 {
		return ""
	}
	return b.open[len(b.open)-1]
}

func (b *body) push(block string) { b.open = append(b.open, block) }
func (b *body) pop()              { b.open = b.open[:len(b.open)-1] }

// complete reports whether a semicolon ends the statement. A header whose end was not found perhaps has a body as well.
func (b *body) complete() bool {
	if !b.begun && !b.bare {
		b.unsure = true
	}
	return len(b.open) == 0 && (b.after == "" || b.after == "END")
}

// add takes one token: a word in upper case, a symbol, ";", or "'" for anything quoted.
func (b *body) add(t string) {
	if !b.begun {
		b.header(t)
	} else {
		b.statement(t)
	}
	b.before, b.prev = b.prev, t
}

// begin says that the header ends before t, which is handled as the first token of the body, unless t is "".
func (b *body) begin(t string) {
	b.begun, b.fresh = true, true
	if t != "" {
		b.statement(t)
	}
}

func (b *body) header(t string) {
	switch t {
	case "(":
		b.parens++
		return
	case ")":
		if b.parens--; b.parens == 0 && b.step == 0 {
			b.step = 1
		}
		return
	}
	if b.parens > 0 {
		return
	}
	if b.prev == "LANGUAGE" && t != "SQL" { // JavaScript between quotes that are none to other servers
		b.unsure = true
	}
	switch b.object {
	case "TRIGGER":
		if t == "ROW" && b.prev == "EACH" && b.before == "FOR" {
			b.begin("")
		}
	case "EVENT":
		if t == "DO" && b.operand() {
			b.begin("")
		}
	case "PACKAGE":
		if (t == "AS" || t == "IS") && b.prev != "PACKAGE" && b.prev != "BODY" {
			b.push("PACKAGE")
			b.begin("")
		}
	case "PROCEDURE":
		switch {
		case b.step == 0 || t == "'" || characteristics[t]:
		case t == ":": // after a label that looks like a characteristic
			b.begin("")
		default:
			b.begin(t)
		}
	case "FUNCTION":
		switch {
		case b.step == 1 && t == "RETURNS":
			b.step = 2
		case b.step == 2 && b.prev != "." && b.prev != "RETURNS" && (blockWords[t] || t == "RETURN"):
			b.begin(t)
		case b.step == 2 && t == ":":
			b.begin("")
		case t == "SONAME":
			b.bare = true
		}
	}
}

func (b *body) statement(t string) {
	label := b.label
	b.label = false
	switch {
	case b.after == "END": // a label may follow, a block's word may not
		b.after = ""
		if t != ";" {
			b.unsure = b.unsure || blockWords[t] || t != "'" && !isWord(t[0])
			return
		}
	case b.after != "":
		b.unsure = b.unsure || t != b.after
		b.after = "END"
		return
	}
	if b.handler >= 3 && b.condition(t) {
		return
	}
	switch t {
	case ";":
		b.unsure = b.unsure || b.wants || b.until || b.top() == "case" || b.top() == "("
		b.fresh = true
		return
	case "(":
		b.fresh = false
		b.push("(")
		return
	case ")":
		if b.fresh = false; b.top() == "(" {
			b.pop()
		} else {
			b.unsure = true
		}
		return
	case ":":
		b.fresh = b.fresh || label
		return
	case "=":
		b.fresh = false // := assigns
		return
	}
	if b.fresh {
		b.first(t)
	} else {
		b.later(t)
	}
}

// first takes the word with which a statement begins.
func (b *body) first(t string) {
	b.handler = 0
	switch t {
	case "NOT", "ATOMIC": // of BEGIN NOT ATOMIC
		if b.prev == "BEGIN" || b.prev == "NOT" {
			return
		}
	case "FOLLOWS", "PRECEDES":
		if b.prev == "ROW" && b.object == "TRIGGER" {
			b.step = -1 // a name comes, then the body
			return
		}
	}
	if b.step == -1 {
		b.step = 0
		return
	}
	if b.top() == "PACKAGE" {
		switch t {
		case "PROCEDURE", "FUNCTION":
			b.routine, b.fresh = true, false
			return
		case "BEGIN":
			if !b.routine { // its initialisation, which ends with it
				return
			}
			b.routine = false
		}
	}
	switch t {
	case "BEGIN", "LOOP", "REPEAT":
		b.push(t)
		return
	case "IF", "CASE":
		b.push(t)
		b.wants = t == "IF"
	case "WHILE", "FOR":
		b.push(t)
		b.wants = true
	case "ELSE":
		b.unsure = b.unsure || b.top() != "IF" && b.top() != "CASE"
		return
	case "ELSEIF":
		b.unsure = b.unsure || b.top() != "IF"
		b.wants = true
	case "WHEN":
		b.unsure = b.unsure || b.top() != "CASE"
		b.wants = true
	case "UNTIL":
		b.unsure = b.unsure || b.top() != "REPEAT"
		b.until = true
	case "END":
		b.close()
	case "DECLARE":
		b.handler = 1
	default:
		b.label = true
	}
	b.fresh = false
}

// close takes the END of a block.
func (b *body) close() {
	top := b.top()
	switch top {
	case "BEGIN", "PACKAGE":
		b.after = "END"
	case "IF", "CASE", "LOOP", "WHILE", "FOR", "REPEAT":
		b.after = top
		b.unsure = b.unsure || top == "REPEAT" && !b.until
	default:
		b.unsure = true
		return
	}
	b.until = false
	b.pop()
}

// later takes a word within a statement.
func (b *body) later(t string) {
	if b.named() {
		return
	}
	top := b.top()
	switch t {
	case "CASE":
		b.push("case")
	case "WHEN":
		if top == "CASE" {
			b.wants = true
		}
	case "THEN":
		if top == "IF" || top == "CASE" {
			b.unsure = b.unsure || !b.wants
			b.wants, b.fresh = false, true
		}
	case "ELSE":
		b.unsure = b.unsure || top == "IF" || top == "CASE"
	case "DO", "LOOP":
		if (top == "WHILE" || top == "FOR") && b.wants && b.operand() {
			b.wants, b.fresh = false, true
			if t == "LOOP" {
				b.open[len(b.open)-1] = t
			}
		}
	case "END":
		switch {
		case !b.operand():
		case top == "case":
			b.pop()
		case top == "REPEAT" && b.until:
			b.close()
		}
	case "HANDLER":
		if b.handler == 1 {
			b.handler = 2
		}
	case "FOR":
		if b.handler == 2 {
			b.handler = 3
		}
	case "CURSOR":
		b.handler = 0
	case "AS", "IS":
		if top == "PACKAGE" && b.routine {
			b.fresh = true
		}
	}
}

// condition takes a token of a handler's conditions; false when t is the first one of its statement instead.
func (b *body) condition(t string) bool {
	switch {
	case b.handler == 4 && t == ",":
		b.handler = 3
	case b.handler == 4:
		b.handler, b.fresh = 0, true
		return false
	case t == "SQLSTATE", t == "VALUE" && b.prev == "SQLSTATE", t == "NOT":
	default: // a number, a name, SQLEXCEPTION, FOUND, the string of an SQLSTATE
		b.handler = 4
	}
	return true
}
