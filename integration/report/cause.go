package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

const (
	maxRepeated   = 10  // failed tests named again
	maxLines      = 12  // lines of the error of each
	maxColumns    = 200 // of each line
	maxLinesInAll = 36  // of the repetition: the end of an output that continuous integration keeps is about 40 lines
)

// failure is a test, or a package without a failed test, and the first lines of its error.
type failure struct {
	name  string
	cause []string
}

var (
	message = regexp.MustCompile(`^\s*\S+\.go:\d+: `) // how package testing begins a message
	crash   = regexp.MustCompile(`^(panic: |fatal error: |WARNING: DATA RACE)`)
	framing = regexp.MustCompile(`^\s*(=== |--- )`)
	library = regexp.MustCompile(`^(testing\.|runtime\.|panic\()|^\t\S*/go/src/`) // frames that are nobody's error
)

// repeat names the failed tests with the first lines of their errors. The more there are, the fewer lines each has.
func repeat(out io.Writer, broken []failure) {
	if len(broken) == 0 {
		return
	}
	shown := broken[:min(len(broken), maxRepeated)]
	each := min(maxLines, maxLinesInAll/len(shown)-1)
	for _, f := range shown {
		fmt.Fprintln(out, "FAILED", f.name)
		for _, l := range shorten(f.cause, each) {
			fmt.Fprintf(out, "    %.*s\n", maxColumns, l)
		}
	}
	if more := len(broken) - len(shown); more > 0 {
		fmt.Fprintf(out, "and %d more failed: each is above, in full\n", more)
	}
}

// cause returns the lines of a test's output that say why it failed.
func cause(output []string) []string {
	lines, _ := find(output)
	return lines
}

// find looks for a crash, then for the first failed comparison of testify. Without either nothing in the output tells
// an error from a remark, and the last message is the likeliest: most tests end at their first error. found says that
// the output has one of the first two.
func find(output []string) (lines []string, found bool) {
	for _, l := range strings.Split(strings.Join(output, ""), "\n") {
		if l = strings.TrimRight(l, " \t\r"); l != "" && !framing.MatchString(l) {
			lines = append(lines, l)
		}
	}
	last := 0
	for i, l := range lines {
		if crash.MatchString(l) {
			return slices.DeleteFunc(lines[i:], library.MatchString), true
		}
		if message.MatchString(l + " ") {
			last = i
		}
	}
	for i, l := range lines {
		if !strings.HasPrefix(strings.TrimSpace(l), "Error Trace:") {
			continue
		}
		block := lines[max(i-1, 0):]
		for j := 2; j < len(block); j++ {
			if message.MatchString(block[j] + " ") {
				block = block[:j]
			}
		}
		return block, true
	}
	return lines[min(last, max(len(lines)-maxLines, 0)):], false
}

// shorten leaves n lines: of a failed comparison what was compared and, last, the test's own words about it.
func shorten(lines []string, n int) (short []string) {
	var words string
	for _, l := range lines {
		field, _, _ := strings.Cut(strings.TrimSpace(l), ":")
		switch field {
		case "Test":
		case "Error Trace":
			if n < maxLines {
				continue
			}
			short = append(short, l)
		case "Messages":
			words = l
		default:
			short = append(short, l)
		}
	}
	if words != "" {
		return append(short[:min(len(short), n-1)], words)
	}
	return short[:min(len(short), n)]
}
