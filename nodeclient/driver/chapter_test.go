package driver

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The table of error classes in README.md names exactly the codes that the drivers let pass.
func TestTheChapterNamesEveryCode(t *testing.T) {
	chapter, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for driver, code := range map[string]string{
		"postgres": `\b[0-9][0-9A-Z]{4}\b`, "mysql": `\b[0-9]{4}\b`, "sqlite": `SQLITE_[A-Z]+`, "redis": `"[A-Z]+"`,
	} {
		source, err := os.ReadFile(driver + "/class.go")
		require.NoError(t, err)
		named := map[string]string{}
		for _, c := range regexp.MustCompile(`(\w+) += (\d{4})\n`).FindAllStringSubmatch(string(source), -1) {
			named[c[1]] = c[2]
		}
		text := strings.ReplaceAll(string(source), "func classOf(", "func transient(")
		_, table, found := strings.Cut(text, "\nfunc transient(")
		require.True(t, found, driver)
		table, _, _ = strings.Cut(table, "\n}\n")
		var passing []string
		passes := regexp.MustCompile(`(?s)case ([^:]+?):[^\n]*\n\t\treturn (true|transient)\n`)
		for _, branch := range passes.FindAllStringSubmatch(table, -1) {
			list := regexp.MustCompile(`\b[a-z]\w+\b`).ReplaceAllStringFunc(branch[1], func(w string) string {
				if number, ok := named[w]; ok {
					return number
				}
				return w
			})
			for _, c := range regexp.MustCompile(code).FindAllString(list, -1) {
				passing = append(passing, strings.Trim(strings.TrimPrefix(c, "SQLITE_"), `"`))
			}
		}
		require.NotEmpty(t, passing, driver)
		_, row, found := strings.Cut(string(chapter), "\n| `"+driver+"` | ")
		require.True(t, found, driver)
		row, _, _ = strings.Cut(row, " | ")
		row, _, _ = strings.Cut(row, ";")
		row = strings.TrimPrefix(row, "SQLSTATE ")
		told := strings.Split(row, ", ")
		slices.Sort(passing)
		slices.Sort(told)
		require.Equal(t, slices.Compact(passing), told, driver)
	}
}
