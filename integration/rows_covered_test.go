package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// conformance is the page of the rows that bind.
func conformance(t *testing.T) string {
	text, err := os.ReadFile("CONFORMANCE.md")
	require.NoError(t, err)
	return string(text)
}

// rowID is the id of a row.
const rowID = `\b[A-Z]{2}-\d+\b`

// tests are the names of all test functions, of subtests that have a row's id as their name, and the ids in the first
// comment line of each scenario script.
func tests(t *testing.T) string {
	var all strings.Builder
	functions := regexp.MustCompile(`(?m)^func (Test\w+)|t\.Run\("([^"]+)"|\{"([A-Z]{2}-\d+)[" :]|"([A-Z]{2}-\d+)":`)
	scripts := regexp.MustCompile(`^# ((?:[A-Z]{2}-\d+(?:, )?)+): `)
	err := filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		isTest, isScript := strings.HasSuffix(path, "_test.go"), strings.HasPrefix(path, "../worker/testdata/")
		if err != nil || d.IsDir() || !isTest && !isScript {
			return err
		}
		text, err := os.ReadFile(path)
		if isScript {
			for _, m := range scripts.FindAllStringSubmatch(string(text), 1) {
				fmt.Fprintln(&all, "script", m[1])
			}
			return err
		}
		for _, m := range functions.FindAllStringSubmatch(string(text), -1) {
			fmt.Fprintln(&all, "test", strings.Join(m[1:], " "))
		}
		return err
	})
	require.NoError(t, err)
	return all.String()
}

// Every row of CONFORMANCE.md has its test: under its id, or under a name that the page gives. No test or script has
// an id that the page does not know.
func TestEveryRowHasItsTest(t *testing.T) {
	all, page := tests(t), conformance(t)
	elsewhere := map[string]string{}
	_, list, found := strings.Cut(page, "\n### Rows without a test of that name\n")
	require.True(t, found)
	for _, m := range regexp.MustCompile(`(?m)^\| (`+rowID+`) \| (.*) \|$`).FindAllStringSubmatch(list, -1) {
		elsewhere[m[1]] = m[2]
	}
	rows, list, _ := strings.Cut(page, "\n### Rows without")
	require.NotEmpty(t, list)
	ids := map[string]bool{}
	var missing []string
	for _, m := range regexp.MustCompile(`(?m)^\| (([A-Z]{2})-(\d+)) \|`).FindAllStringSubmatch(rows, -1) {
		id, group := m[1], m[2]
		require.False(t, ids[id], "%s stands twice in CONFORMANCE.md", id)
		ids[id] = true
		n, err := strconv.Atoi(m[3])
		require.NoError(t, err)
		has := regexp.MustCompile(fmt.Sprintf(`(?:Test|And)%s%02d|\b%s\b`, group, n, id)).MatchString(all)
		if !has && elsewhere[id] == "" {
			missing = append(missing, id)
		}
		require.False(t, has && elsewhere[id] != "", "%s has a test of its name and is listed as a row without one", id)
	}
	require.Greater(t, len(ids), 100)
	require.Empty(t, missing, "rows without a test")
	for id := range elsewhere {
		require.True(t, ids[id], "%s is listed as a row without a test of its name, and is no row", id)
	}
	for _, m := range regexp.MustCompile(`(?m)^script (.*)$`).FindAllStringSubmatch(all, -1) {
		for id := range strings.SplitSeq(m[1], ", ") {
			require.True(t, ids[id], "the script of %s: CONFORMANCE.md has no such row", id)
		}
	}
	for _, m := range regexp.MustCompile(`(?:Test|And)([A-Z]{2})(\d\d)`).FindAllStringSubmatch(all, -1) {
		id := m[1] + "-" + strings.TrimPrefix(m[2], "0")
		require.True(t, ids[id], "a test is named after %s: CONFORMANCE.md has no such row", id)
	}
}
