package sqltext

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// session follows what the SET statements of a dump make of the session of whoever runs it, so far as nodes must know.
type session struct {
	dialect Dialect
	values  map[string]string // settings that travel, by their names in lower case, where they are not what nodes have
	kept    map[string]string // user variables that hold the value a setting had

	escaping bool // PostgreSQL: standard_conforming_strings is off
}

// fate is what becomes of a statement.
type fate uint8

const (
	published fate = iota // it is part of an increment
	leftOut               // it speaks to the session of a client, or of a server, and changes no data
	database              // it chooses, makes or drops databases
	owner                 // it says who owns something
)

// travelling are the settings that change what later statements mean, with the values at which nodes have them.
var travelling = map[Dialect]map[string][]string{
	PostgreSQL: {"check_function_bodies": {"on", "true", "1", "yes", "default"}, "search_path": {"default"}},
	MariaDB: {"foreign_key_checks": {"1", "on", "default"}, "unique_checks": {"1", "on", "default"},
		"sql_mode":  {"default"},
		"time_zone": {"+00:00", "default"}, "collation_connection": {"default"}},
}

// clientOnly are the settings that say how a client and its session work, not what statements mean. A list of
// values is all
// that may stand there; none is any.
var clientOnly = map[Dialect]map[string][]string{
	PostgreSQL: {"statement_timeout": nil, "lock_timeout": nil, "idle_in_transaction_session_timeout": nil,
		"transaction_timeout": nil,
		"client_min_messages": nil, "row_security": nil, "escape_string_warning": nil, "synchronous_commit": nil,
		"maintenance_work_mem": nil, "work_mem": nil, "extra_float_digits": nil, "bytea_output": nil,
		"client_encoding": {"utf8", "utf-8", "unicode"}, "default_tablespace": {""}, "default_table_access_method": {"heap"},
		"default_with_oids": {"false", "off"}, "xmloption": {"content"}, "timezone": {"utc"}, "datestyle": {"iso",
			"iso, mdy"},
		"intervalstyle": {"postgres"}},
	MariaDB: {"sql_notes": nil, "note_verbosity": nil, "autocommit": nil, "sql_log_bin": nil, "sql_quote_show_create": nil,
		"gtid_purged": nil, "character_set_results": nil, "wait_timeout": nil, "net_read_timeout": nil,
		"net_write_timeout":  nil,
		"max_allowed_packet": nil, "lock_wait_timeout": nil, "innodb_lock_wait_timeout": nil, "sql_warnings": nil,
		"names": {"utf8", "utf8mb3", "utf8mb4", "default"}, "character_set_client": {"utf8", "utf8mb3", "utf8mb4", "default"},
		"character_set_connection": {"utf8", "utf8mb3", "utf8mb4", "default"}},
}

// otherReading are the modes of MariaDB and MySQL under which a text is read in another way than here.
var otherReading = []string{"ANSI", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ORACLE", "MSSQL", "DB2", "POSTGRESQL",
	"MAXDB"}

// modes is a list of modes as people and dumps write it. The server takes others, too: a number, whose bits are modes,
// and names with escapes or with spaces after them.
var modes = regexp.MustCompile(`^(?:[A-Z][A-Z0-9_]*(?:,[A-Z][A-Z0-9_]*)*)?$`)

// OtherReading is the part of a value of sql_mode, as it stands in a SET, under which MariaDB or MySQL may read a
// text in another way than here: one mode, or all of it when it is no plain list of modes. "" when there is none.
func OtherReading(value string) string {
	list := strings.ToUpper(value)
	if n := len(list); n > 1 && (list[0] == '\'' || list[0] == '"') && list[n-1] == list[0] {
		list = list[1 : n-1]
	}
	if !modes.MatchString(list) {
		return value
	}
	for mode := range strings.SplitSeq(list, ",") {
		if slices.Contains(otherReading, mode) {
			return mode
		}
	}
	return ""
}

// routine begins what check_function_bodies is about.
var routine = regexp.MustCompile(`(?i)^CREATE\s+(OR\s+REPLACE\s+)?(FUNCTION|PROCEDURE)\b`)

// prefix are the statements that give an increment, which begins with st, the settings that hold here.
func (s *session) prefix(st Statement) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		switch s.dialect {
		case PostgreSQL:
			if name == "check_function_bodies" && (st.Keyword != "CREATE" || !routine.MatchString(st.Text)) {
				continue
			}
			b.WriteString("SET LOCAL " + name + " = " + s.values[name] + ";\n")
		case MariaDB:
			b.WriteString("SET " + name + " = " + s.values[name] + ";\n")
		case SQLite:
			b.WriteString("PRAGMA " + name + " = " + s.values[name] + ";\n")
		}
	}
	return b.String()
}

// take looks at a statement that begins with SET, SELECT set_config or PRAGMA.
func (s *session) take(st Statement) (fate, error) {
	tokens, err := Tokens(s.dialect, st.Text)
	if err != nil {
		return published, nil // whoever cuts it says so
	}
	tokens = slices.DeleteFunc(tokens, func(t Token) bool { return t.Mark })
	switch {
	case s.dialect == SQLite && st.Keyword == "PRAGMA" && len(tokens) == 4 && tokens[1].Is("FOREIGN_KEYS"):
		return s.set("foreign_keys", []string{strings.ToLower(tokens[3].Text)}, st), nil
	case s.dialect == PostgreSQL && st.Keyword == "SELECT":
		return s.config(tokens, st), nil
	case s.dialect == PostgreSQL && st.Keyword == "SET":
		return s.postgres(tokens, st), nil
	case s.dialect == MariaDB && st.Keyword == "SET":
		return s.mariadb(tokens, st)
	}
	return published, nil
}

// config takes SELECT pg_catalog.set_config('search_path', ”, false).
func (s *session) config(tokens []Token, st Statement) fate {
	if len(tokens) > 2 && tokens[2].Text == "." {
		tokens = tokens[2:]
	}
	if len(tokens) != 9 || !tokens[1].Is("SET_CONFIG") || !tokens[7].Is("FALSE") {
		return published
	}
	return s.set(strings.Trim(tokens[3].Text, "'"), []string{tokens[5].Text}, st)
}

// postgres takes SET [SESSION] name {TO | =} value, ...
func (s *session) postgres(tokens []Token, st Statement) fate {
	tokens = tokens[1:]
	if len(tokens) > 0 && tokens[0].Is("SESSION") &&
		!(len(tokens) > 1 && (tokens[1].Is("AUTHORIZATION") || tokens[1].Is("CHARACTERISTICS"))) {
		tokens = tokens[1:]
	}
	if len(tokens) < 3 || tokens[1].Text != "=" && !tokens[1].Is("TO") {
		return published
	}
	var values []string
	for _, t := range tokens[2:] {
		if t.Text != "," {
			values = append(values, t.Text)
		}
	}
	return s.set(strings.ToLower(tokens[0].Text), values, st)
}

// mariadb takes SET with its list of assignments, when all of them are known.
func (s *session) mariadb(tokens []Token, st Statement) (fate, error) {
	result := published
	for _, a := range assignments(tokens[1:]) {
		if a.variable {
			system := a.value
			if strings.HasPrefix(system, "@@") {
				system = strings.ToLower(system[strings.LastIndexAny(system, "@.")+1:])
				s.kept[a.name] = s.values[system]
				result = leftOut
				continue
			}
			return published, nil // variables of the data's own
		}
		value := a.value
		if old, known := s.kept[strings.TrimPrefix(value, "@")]; known && value != "" && value[0] == '@' {
			value = old
			if value == "" {
				value = "DEFAULT"
			}
		} else if strings.HasPrefix(value, "@") && !strings.HasPrefix(value, "@@") {
			value = "DEFAULT" // what an earlier part of the dump has kept
		}
		if a.global && a.name != "gtid_purged" {
			return published, nil
		}
		if a.name == "sql_mode" {
			if mode := OtherReading(value); mode != "" {
				return published, errAt(st.Line, "sql_mode %.60s changes how the text itself is read, or may do so: dump "+
					"without it", mode)
			}
		}
		if s.set(a.name, []string{value}, st) == published {
			return published, nil
		}
		result = leftOut
	}
	return result, nil
}

// set notes the value of a setting.
func (s *session) set(name string, values []string, _ Statement) fate {
	plain := make([]string, len(values))
	for i, v := range values {
		plain[i] = strings.ToLower(strings.Trim(v, `'"`))
	}
	value := strings.Join(plain, ", ")
	if s.dialect == SQLite {
		if delete(s.values, name); value == "off" || value == "0" {
			s.values[name] = "OFF"
		}
		return leftOut
	}
	if s.dialect == PostgreSQL && name == "standard_conforming_strings" {
		s.escaping = value == "off" || value == "false" || value == "0"
		return leftOut
	}
	if allowed, known := clientOnly[s.dialect][name]; known && (allowed == nil || slices.Contains(allowed, value)) {
		return leftOut
	}
	defaults, known := travelling[s.dialect][name]
	if !known {
		return published
	}
	if slices.Contains(defaults, value) {
		delete(s.values, name)
	} else {
		s.values[name] = strings.Join(values, ", ")
	}
	return leftOut
}

// assignment is one of SET a = 1, @@session.b = 2, @c = 3, NAMES d.
type assignment struct {
	name, value      string // in lower case; as it stands
	variable, global bool
}

func assignments(tokens []Token) (all []assignment) {
	depth, begin := 0, 0
	for i := 0; i <= len(tokens); i++ {
		if i < len(tokens) {
			switch tokens[i].Text {
			case "(":
				depth++
			case ")":
				depth--
			}
			if tokens[i].Text != "," || depth > 0 {
				continue
			}
		}
		all = append(all, assign(tokens[begin:i]))
		begin = i + 1
	}
	return all
}

func assign(tokens []Token) (a assignment) {
	at := func(i int) string {
		if i < len(tokens) {
			return tokens[i].Text
		}
		return ""
	}
	i := 0
	switch {
	case at(0) == "@" && at(1) != "@":
		a.variable, i = true, 1
	case at(0) == "@":
		i = 2
	}
	for ; i+1 < len(tokens) && (tokens[i].Is("SESSION") || tokens[i].Is("LOCAL") || tokens[i].Is("GLOBAL") ||
		tokens[i].Text == "."); i++ {
		a.global = a.global || tokens[i].Is("GLOBAL")
	}
	a.name = strings.ToLower(strings.Trim(at(i), "`"))
	i++
	if a.name == "names" {
		a.value = at(i)
		return a
	}
	if at(i) == ":" {
		i++
	}
	if at(i) == "=" {
		i++
	}
	for ; i < len(tokens); i++ {
		a.value += tokens[i].Text
	}
	if a.variable {
		a.name = strings.ToLower(a.name)
	}
	if strings.HasPrefix(a.value, "@") && !strings.HasPrefix(a.value, "@@") {
		a.value = strings.ToLower(a.value)
	}
	return a
}
