package exec

import "strings"

// Words are what the commands of an exec: URL hold that may name files; of what is no such URL, none. The first word
// of a command is left out unless it holds a slash: a shell looks for it in PATH.
func Words(rawURL string) (words []string) {
	c, err := parse(rawURL)
	if err != nil {
		return nil
	}
	for _, command := range []string{c.apply, c.dump, c.load, c.position} {
		for i, word := range strings.FieldsFunc(command,
			func(r rune) bool { return strings.ContainsRune(" \t\n;|&<>()'\"`$={}", r) }) {
			if i > 0 || strings.Contains(word, "/") {
				words = append(words, word)
			}
		}
	}
	return words
}
