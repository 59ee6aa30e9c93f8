// Command report reads the JSON of `go test -json` and prints what a person wants of it: failures in full, a line a
// package, the count, and every skipped test by name. After the counts it names each failed test again with the first
// lines of its error, in as few lines as continuous integration keeps of a long output. It exits 1 when a test failed
// or, with CI set, was skipped: a test that did not run has not passed.
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
	Action, Package, Test, Output, ImportPath, FailedBuild string
	Elapsed                                                float64
}

func main() { os.Exit(report(os.Stdin, os.Stdout, os.Getenv("CI") != "")) }

func report(in io.Reader, out io.Writer, strict bool) int {
	var passed, failed int
	var skipped []string
	var broken []failure
	builds := map[string][]string{}
	output := map[string][]string{} // what a test or a package wrote; of tests only those that have not ended
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
		case "build-output":
			fmt.Fprint(out, l.Output)
			builds[l.ImportPath] = append(builds[l.ImportPath], l.Output)
		case "output":
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
					dump(out, output[key])
					broken = append(broken, unfinished(out, l.Package, output)...)
					if text := append(builds[l.FailedBuild], output[key]...); !slices.ContainsFunc(broken, func(f failure) bool {
						return strings.HasPrefix(f.name, key)
					}) {
						broken = append(broken, failure{strings.TrimSpace(key), cause(text)})
					}
				}
				continue
			}
			switch l.Action {
			case "pass":
				passed++
			case "fail":
				failed++
				dump(out, output[key])
				// A test says nothing of its own when only tests within it failed.
				if c, said := find(output[key]); said || !slices.ContainsFunc(broken, func(f failure) bool {
					return strings.HasPrefix(f.name, key+"/")
				}) {
					broken = append(broken, failure{key, c})
				}
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
	repeat(out, broken)
	if failed > 0 || len(broken) > 0 || passed == 0 || strict && len(skipped) > 0 {
		return 1
	}
	return 0
}

// unfinished shows what the tests wrote that had not ended when their package did: at a time limit or an exit.
func unfinished(out io.Writer, pkg string, output map[string][]string) (found []failure) {
	var keys []string
	for key := range output {
		if strings.HasPrefix(key, pkg+" ") && key != pkg+" " {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		dump(out, output[key])
		if c, said := find(output[key]); said {
			found = append(found, failure{key, c})
		}
		delete(output, key)
	}
	return found
}

func dump(out io.Writer, text []string) {
	for _, t := range text {
		fmt.Fprint(out, t)
	}
}
