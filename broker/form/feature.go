package form

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// Features is a set of features.
type Features uint8

// The features. Their names stand in hellos: never use one again for something else.
const (
	Settings Features = 1 << iota // settings at the beginning of a script, which hold for it alone
	Args                          // arguments, in SQLite
	Bytes                         // {"base64": ...} among the arguments
	Tx                            // {"tx": ...}
)

// features are all of them, in the order in which they are shown. The part of a name before the dot says whom a feature
// concerns: one driver, or all of databases that speak SQL.
var features = [...]struct {
	is         Features
	name, what string
}{
	{Settings, "sql.settings", "settings for one increment"},
	{Args, "sqlite.args", `{"sql", "args"} in SQLite`},
	{Bytes, "sql.bytes", `arguments {"base64"}`},
	{Tx, "sql.tx", `{"tx"}`},
}

// speakSQL are the drivers whom the features sql.* concern, by their names in hellos.
var speakSQL = []string{"sqlite", "postgres", "mysql"}

// Known are the names of the features that nodes of this build know.
func Known() (names []string) {
	for _, f := range features {
		names = append(names, f.name)
	}
	return names
}

// Lacking are the features that concern a node with this driver and that it does not name.
func Lacking(driver string, named []string) (lacks Features) {
	for _, f := range features {
		scope, _, _ := strings.Cut(f.name, ".")
		if (scope == driver || scope == "sql" && slices.Contains(speakSQL, driver)) && !slices.Contains(named, f.name) {
			lacks |= f.is
		}
	}
	return lacks
}

// String names the features for people: "sql.tx ({"tx"})".
func (s Features) String() string {
	var all []string
	for _, f := range features {
		if s&f.is != 0 {
			all = append(all, f.name+" ("+f.what+")")
		}
	}
	return strings.Join(all, ", ")
}

// Needs are the features without which a node would do something else with body than nodes that know them. It does
// not allocate for what is no JSON. A body that no node takes may need anything.
func Needs(body []byte) (needs Features) {
	if !Is(body) {
		return settings(body)
	}
	if !utf8.Valid(body) || !json.Valid(body) {
		return 0
	}
	c := cursor{b: body}
	_ = c.members(func(name string, value []byte) error { // of which none fails
		switch {
		case name == "tx":
			needs |= Tx
		case name == "sql":
			needs |= Args
		case name == "args" && value[0] == '[':
			args := cursor{b: value}
			return args.elements(func(arg []byte) error {
				if n, _ := packed(arg); n > 0 {
					needs |= Bytes
				}
				return nil
			})
		}
		return nil
	})
	return needs
}

// lasting are the settings with which a script may begin.
var lasting = [...]string{"foreign_key_checks", "unique_checks", "sql_mode", "time_zone", "collation_connection"}

// settings looks at the first statement of a script, after a BEGIN.
func settings(script []byte) Features {
	word, rest := firstWord(script)
	if strings.EqualFold(word, "BEGIN") || strings.EqualFold(word, "START") {
		if _, after, found := bytes.Cut(rest, []byte(";")); found {
			word, rest = firstWord(after)
		}
	}
	begins := func(names ...string) bool {
		second, _ := firstWord(rest)
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(second, n) })
	}
	if strings.EqualFold(word, "PRAGMA") && begins("foreign_keys") ||
		strings.EqualFold(word, "SET") && (begins("LOCAL") || begins(lasting[:]...)) {
		return Settings
	}
	return 0
}

// firstWord is the word that b begins with, after spaces, comments and semicolons, and what follows it; "" when
// something else comes.
func firstWord(b []byte) (word string, rest []byte) {
	for {
		b = bytes.TrimLeft(b, " \t\r\n\f\v;")
		b = bytes.TrimPrefix(b, []byte("\xEF\xBB\xBF"))
		end := ""
		switch {
		case bytes.HasPrefix(b, []byte("--")), bytes.HasPrefix(b, []byte("#")):
			end = "\n"
		case bytes.HasPrefix(b, []byte("/*")):
			end = "*/"
		}
		if end == "" {
			break
		}
		at := bytes.Index(b[1:], []byte(end))
		if at < 0 {
			return "", nil
		}
		b = b[1+at+len(end):]
	}
	n := 0
	for n < len(b) && (b[n] == '_' || 'a' <= b[n]|0x20 && b[n]|0x20 <= 'z') {
		n++
	}
	return string(b[:n]), b[n:]
}
