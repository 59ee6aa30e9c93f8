// Command report reads the JSON of `go test -json` and prints what a person wants of it: failures in full, a line a
// package, the count, and every skipped test by name. It exits 1 when a test failed or, with CI set, was skipped: a
// test that did not run has not passed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

type line struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

func main() { os.Exit(report(os.Stdin, os.Stdout, os.Getenv("CI") != "")) }

func report(in io.Reader, out io.Writer, strict bool) int {
	var passed, failed int
	var skipped, broken []string
	output := map[string][]string{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var l line
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			fmt.Fprintln(out, lines.Text()) // not of the test runner: shown as it is
			continue
		}
		key := l.Package + " " + l.Test
		switch l.Action {
		case "output", "build-output":
			if l.Action == "build-output" {
				fmt.Fprint(out, l.Output)
			}
			output[key] = append(output[key], l.Output)
			if _, figure, found := strings.Cut(l.Output, "measured: "); found { // a test that measures and does not judge
				fmt.Fprint(out, "      ", figure)
			}
		case "pass", "fail", "skip":
			if l.Test == "" {
				if l.Action != "skip" {
					fmt.Fprintf(out, "%-4s  %-40s %6.1fs\n", l.Action, l.Package, l.Elapsed)
				}
				if l.Action == "fail" {
					broken = append(broken, l.Package)
					dump(out, output[key])
				}
				continue
			}
			switch l.Action {
			case "pass":
				passed++
			case "fail":
				failed++
				dump(out, output[key])
			case "skip":
				skipped = append(skipped, key)
				dump(out, output[key])
			}
			delete(output, key)
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(out, err)
		return 1
	}
	slices.Sort(skipped)
	for _, s := range skipped {
		fmt.Fprintln(out, "SKIPPED", s)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, len(skipped))
	if failed > 0 || len(broken) > 0 || passed == 0 || strict && len(skipped) > 0 {
		return 1
	}
	return 0
}

func dump(out io.Writer, text []string) {
	for _, t := range text {
		fmt.Fprint(out, t)
	}
}
