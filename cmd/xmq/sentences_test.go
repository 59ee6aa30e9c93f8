package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/worker"
)

// A number of things is written by units.Of or units.Do, which know that one is no plural. What is said of a limit, and
// what is never one, stays as it is.
func TestNoTextCountsOneOfSeveral(t *testing.T) {
	counted := regexp.MustCompile(`%d (?:increments?|statements|tables|nodes|clients|others|DUMPs|ticks|owners)\b`)
	limit := regexp.MustCompile(`(?:at most|more than|all|the|of|last) %d |knows %d clients|only after %d ticks`)
	for _, dir := range []string{".", "../../worker", "../../broker/server", "../../broker/monitor", "../../broker/api",
		"../../nodeclient"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			for i, line := range strings.Split(string(text), "\n") {
				if m := counted.FindString(limit.ReplaceAllString(line, "")); m != "" &&
					!strings.HasPrefix(strings.TrimSpace(line), "//") {
					if strings.HasPrefix(m, "%d increment") && !strings.HasPrefix(m, "%d increments") {
						continue
					}
					t.Errorf("%s:%d: %q: let units.Of or units.Do write it", path, i+1, m)
				}
			}
		}
	}
}

// Two sentences have a mark between them, on every screen that is kept as a file.
func TestNoScreenRunsSentencesTogether(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	together := regexp.MustCompile(`[a-z0-9)] (?:Trying|Waiting|Look|Start|See|Make|Restore|Gone for good|To ` +
		`pass)\b|\b1 [a-z]+s (?:wait|run|follow|behind)|\?\.`)
	for _, path := range files {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		flat := strings.Join(strings.Fields(string(text)), " ")
		require.NotRegexp(t, together, flat, path)
	}
}

// Who looks up a word of a screen in the chapter for the night finds it: the chapter has each state, and no other, and
// its rows call no state by another name.
func TestTheChapterForTheNightHasTheWordsOfTheScreens(t *testing.T) {
	b, err := os.ReadFile("../../configs/OPERATING.md")
	require.NoError(t, err)
	_, text, _ := strings.Cut(string(b), "\n## At 3 a.m.\n")
	text, _, _ = strings.Cut(text, "\n## ")
	states, rest, _ := strings.Cut(text, "| you see |")
	source, err := os.ReadFile("../../worker/condition.go")
	require.NoError(t, err)
	var want, got []string
	for _, m := range regexp.MustCompile(`(?m)^\tIs[A-Z]\w* +Is = "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		want = append(want, isWords(worker.Is(m[1])))
	}
	require.NotEmpty(t, want)
	for _, m := range regexp.MustCompile("(?m)^\\| (`.*`) \\|").FindAllStringSubmatch(states, -1) {
		for _, word := range strings.Split(m[1], ", ") {
			got = append(got, strings.Trim(word, "`"))
		}
	}
	require.ElementsMatch(t, want, got)
	for _, m := range regexp.MustCompile("(?m)^\\| a client ((?:`[a-z_ ]+`(?: or )?)+)").FindAllStringSubmatch(rest, -1) {
		for _, word := range strings.Split(m[1], " or ") {
			require.Contains(t, want, strings.Trim(word, "` "))
		}
	}
	require.NotRegexp(t, "`\\([a-z]+\\)`", rest, "a state that no screen shows")
}
