package main

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves the flags of a command line behind the command they belong to and in front of its arguments,
// because the library stops looking for flags at the first argument, and people type both
// `xmq client skip --reason x node1` and `xmq client skip node1 --reason x`. What stands behind "--" is an argument,
// and so is a lone "-". args[0] is the program. Flags nobody knows are moved too, and refused by the library. Who asks
// a command for its help gets it whatever else is typed: the library would take an argument for a topic of the help.
func flagsFirst(commands []*cli.Command, args []string) []string {
	var path, flags, rest []string
	var help bool
	path, args = append(path, args[0]), args[1:]
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if word == "--" {
			rest, args = append(rest, args...), nil
			continue
		}
		if len(word) > 1 && word[0] == '-' {
			flags = append(flags, word)
			help = help || word == "-h" || word == "--help"
			if len(args) > 0 && takesValue(commands, word) {
				flags, args = append(flags, args[0]), args[1:]
			}
			continue
		}
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(word) })
		if i < 0 || len(rest) > 0 {
			rest = append(rest, word)
			continue
		}
		path, commands = append(path, word), below(commands[i])
	}
	if leaf := len(commands) == 1 && commands[0].Name == ""; help && leaf {
		return append(path, "--help")
	}
	if len(rest) > 0 {
		rest = slices.Insert(rest, 0, "--")
	}
	return slices.Concat(path, flags, rest)
}

// below is where flags and subcommands of c are found: its subcommands, and itself under no name.
func below(c *cli.Command) []*cli.Command {
	return append([]*cli.Command{{Flags: c.Flags}}, c.Subcommands...)
}

// takesValue reports whether the next word belongs to the flag written as word, in any of the commands.
func takesValue(commands []*cli.Command, word string) bool {
	name := strings.TrimPrefix(word[1:], "-")
	for _, c := range commands {
		for _, f := range c.Flags {
			d, _ := f.(cli.DocGenerationFlag)
			if slices.Contains(f.Names(), name) && d != nil && d.TakesValue() {
				return true
			}
		}
		if takesValue(c.Subcommands, word) {
			return true
		}
	}
	return false
}

// withManners makes every command answer wrong flags and stray arguments in one way. path is the command as people
// type it. A command without ArgsUsage takes no arguments.
func withManners(c *cli.Command, path string) {
	c.HideHelpCommand = len(c.Subcommands) == 0 // "help" may be a client or a file
	c.Description = folded(c.Description, 117)  // the library indents it by 3
	c.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return wrongFlag(path, c.Flags, err) }
	subcommands := slices.Clone(c.Subcommands) // the library adds its help
	c.Before = func(ctx *cli.Context) error {
		first := ctx.Args().First()
		switch {
		case first == "" || c.ArgsUsage != "" || ctx.Command.Command(first) != nil:
			return nil
		case len(subcommands) > 0:
			return usage("there is no command %q%s: run `%s --help`", path+" "+first, meant(first, commandNames(subcommands)),
				path)
		}
		return usage("%s takes no arguments, but got %q", path, first)
	}
	for _, sub := range subcommands {
		withManners(sub, path+" "+sub.Name)
	}
}

// folded breaks the lines of text that are longer than columns, and leaves all others as they are.
func folded(text string, columns int) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if utf8.RuneCountInString(line) > columns {
			lines[i] = strings.TrimSuffix(wrapped(line, "", "", columns), "\n")
		}
	}
	return strings.Join(lines, "\n")
}

// wrongFlag says in our words what the library found wrong with the flags of the command path.
func wrongFlag(path string, flags []cli.Flag, err error) error {
	text := err.Error()
	if name, found := strings.CutPrefix(text, "flag provided but not defined: -"); found {
		return usage("%s has no flag %s%s: run `%s --help`", path, dashed(name), meantFlag(name, flags), path)
	}
	if name, found := strings.CutPrefix(text, "flag needs an argument: -"); found {
		return usage("%s: --%s needs a value", path, name)
	}
	text = strings.Replace(text, " for flag -", " for -", 1)
	if value, name, found := strings.Cut(text, " for -"); found { // invalid value "x" for flag -seq: parse error
		name, _, _ = strings.Cut(name, ":")
		if digits, err := strconv.Unquote(strings.TrimPrefix(value, "invalid value ")); err == nil && onlyDigits(digits) {
			return usage("%s: --%s %s has no unit: write %ss", path, name, digits, digits)
		}
		return usage("%s: --%s does not take the %s", path, name,
			strings.TrimPrefix(strings.TrimPrefix(value, "invalid "), "boolean "))
	}
	return usage("%s: %s", path, text)
}
