package sqltext

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Warning is a place where replicas may come to differ although each does what it is told.
type Warning struct {
	Line int
	What string // as it stands there: "now()"
	Why  string // what happens, and what to write instead
}

func (w Warning) String() string { return fmt.Sprintf("line %d: %s: %s", w.Line, w.What, w.Why) }

// Why something differs.
const (
	ownClock  = "every node asks its own clock: write the time itself"
	ownDice   = "every node throws its own dice: write the value itself"
	ownServer = "it is different on every server: write the value itself"
	ownCount  = "its numbers jump ahead where a transaction was rolled back, and nodes then differ: write the keys themselves"
	ownOrder  = "which rows come first is not said, and nodes may choose differently: add ORDER BY on something unique"
)

// calls are functions that do not answer the same on every node, by dialect. What a driver pins is not among them: NOW() and
// RAND() of MariaDB answer by the increment's broker time.
var calls = map[Dialect]map[string]string{
	SQLite: {"RANDOM": ownDice, "RANDOMBLOB": ownDice, "SQLITE_VERSION": ownServer},
	PostgreSQL: {"NOW": ownClock, "CLOCK_TIMESTAMP": ownClock, "STATEMENT_TIMESTAMP": ownClock, "TRANSACTION_TIMESTAMP": ownClock, "TIMEOFDAY": ownClock,
		"RANDOM": ownDice, "SETSEED": ownDice, "GEN_RANDOM_UUID": ownDice, "UUID_GENERATE_V1": ownDice, "UUID_GENERATE_V1MC": ownDice, "UUID_GENERATE_V4": ownDice, "GEN_RANDOM_BYTES": ownDice,
		"NEXTVAL": ownCount, "PG_BACKEND_PID": ownServer, "TXID_CURRENT": ownServer, "PG_CURRENT_XACT_ID": ownServer, "VERSION": ownServer,
		"INET_CLIENT_ADDR": ownServer, "INET_SERVER_ADDR": ownServer, "PG_POSTMASTER_START_TIME": ownServer},
	MariaDB: {"SYSDATE": ownClock, "UUID": ownDice, "UUID_SHORT": ownDice, "SYS_GUID": ownDice, "RANDOM_BYTES": ownDice,
		"NEXTVAL": ownCount, "CONNECTION_ID": ownServer, "USER": ownServer, "SESSION_USER": ownServer, "SYSTEM_USER": ownServer, "VERSION": ownServer, "LOAD_FILE": ownServer},
}

// bare are words that answer without being called.
var bare = map[Dialect]map[string]string{
	SQLite: {"CURRENT_TIMESTAMP": ownClock, "CURRENT_DATE": ownClock, "CURRENT_TIME": ownClock},
	PostgreSQL: {"CURRENT_TIMESTAMP": ownClock, "CURRENT_DATE": ownClock, "CURRENT_TIME": ownClock, "LOCALTIME": ownClock, "LOCALTIMESTAMP": ownClock,
		"SERIAL": ownCount, "BIGSERIAL": ownCount, "SMALLSERIAL": ownCount, "IDENTITY": ownCount, "TABLESAMPLE": ownDice},
	MariaDB: {"AUTO_INCREMENT": ownCount},
}

// dates are SQLite's functions of time: they ask the clock for 'now', or when they are given nothing.
var dates = map[string]bool{"DATE": true, "TIME": true, "DATETIME": true, "JULIANDAY": true, "UNIXEPOCH": true, "STRFTIME": true}

// Lint warns of what makes replicas differ, as far as words show it. It judges nothing: a text that cannot be read is searched up to
// there.
func Lint(d Dialect, text string) (all []Warning) {
	for st, err := range Statements(d, text) {
		if err != nil {
			return all
		}
		for _, w := range lint(d, st.Text) {
			w.Line += st.Line - 1
			all = append(all, w)
		}
	}
	return all
}

// lint looks at one statement; lines are counted from its first.
func lint(d Dialect, text string) (all []Warning) {
	tokens := meaningful(d, text)
	ordered, limited := false, 0
	for i, t := range tokens {
		upper := strings.ToUpper(t.text)
		called := t.kind == word && i+1 < len(tokens) && tokens[i+1].text == "("
		if i > 0 && tokens[i-1].text == "." { // a column, or a function of somebody's schema
			continue
		}
		switch {
		case t.kind == quoted && d == PostgreSQL && t.text[0] == '$': // the body of a function
			for _, w := range Lint(d, dollarBody(t.text)) {
				w.Line += t.line - 1
				all = append(all, w)
			}
		case t.kind != word:
		case called && calls[d][upper] != "":
			all = append(all, Warning{t.line, t.text + "()", calls[d][upper]})
		case called && d == SQLite && dates[upper] && asksNow(tokens[i+1:]):
			all = append(all, Warning{t.line, t.text + "('now')", ownClock})
		case bare[d][upper] != "" && !called:
			all = append(all, Warning{t.line, t.text, bare[d][upper]})
		case upper == "ORDER":
			ordered = true
		case upper == "LIMIT":
			limited = t.line
		}
	}
	if first := FirstKeyword(d, text); limited > 0 && !ordered && (first == "UPDATE" || first == "DELETE") {
		all = append(all, Warning{limited, first + " with LIMIT", ownOrder})
	}
	return all
}

// asksNow reports whether the arguments that begin with ( are none, or name 'now'.
func asksNow(args []token) bool {
	depth := 0
	for i, t := range args {
		switch {
		case t.text == "(":
			depth++
		case t.text == ")":
			if depth--; depth == 0 {
				return i == 1
			}
		case strings.EqualFold(t.text, "'now'"):
			return true
		}
	}
	return false
}

// token is one token and the line it stands in.
type token struct {
	kind kind
	text string
	line int
}

// meaningful are the tokens of text but spaces and comments, up to what cannot be read.
func meaningful(d Dialect, text string) (all []token) {
	s := textScanner(d, text)
	for {
		k, n, ended, _, err := s.token()
		if err != nil && !errors.Is(err, io.EOF) || ended {
			return all
		}
		if k != space && k != comment {
			all = append(all, token{k, text[s.at : s.at+n], s.line})
		}
		s.pass(n)
	}
}
