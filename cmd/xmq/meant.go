package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"xmq/configs"
)

// otherWords are flags of other programs, or of other commands, with what they may mean here.
var otherWords = map[string][]string{
	"f": {"sql", "follow"}, "file": {"sql"}, "broker": {"api"}, "url": {"api"}, "host": {"api"}, "api": {"broker"},
	"topic":  {"topics"},
	"topics": {"topic"}, "name": {"id"}, "dir": {"data"}, "output": {"o"}, "out": {"o"},
}

// meant asks whether one of names is meant by a word that is none of them; empty when none is near.
func meant(word string, names []string) string {
	for _, name := range names {
		if len(word) > 1 && strings.HasPrefix(name, word) {
			return fmt.Sprintf(", did you mean %q?", name)
		}
	}
	if best, near := configs.Nearest(word, names); near && len(word) > 2 {
		return fmt.Sprintf(", did you mean %q?", best)
	}
	return ""
}

// meantFlag does so for a flag.
func meantFlag(word string, flags []cli.Flag) string {
	var names []string
	for _, f := range flags {
		names = append(names, f.Names()...)
	}
	for _, other := range otherWords[word] {
		for _, name := range names {
			if name == other {
				return fmt.Sprintf(", did you mean %s?", dashed(name))
			}
		}
	}
	text := meant(word, names)
	return strings.ReplaceAll(strings.Replace(text, `"`, "--", 1), `"`, "")
}

// dashed is a flag as people type it.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

func commandNames(all []*cli.Command) (names []string) {
	for _, c := range all {
		names = append(names, c.Name)
	}
	return names
}

func onlyDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
