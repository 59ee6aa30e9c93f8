package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rows are the rows of the conformance table that bind what is built so far. What belongs to later milestones (RESP, relay, keys,
// brokers that replace each other, the key-value table) is not here yet.
var rows = map[string][]int{
	"XR": {1, 2, 3, 4, 5, 6},
	"XS": {1, 2, 3, 4, 5, 6},
	"XC": {1, 2, 3, 4, 5, 6, 7, 8},
	"XI": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
	"XE": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14},
	"XB": {1, 2, 3, 4, 5, 6, 7},
	"XQ": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
	"XN": {1, 2, 4, 6, 7, 8},
	"XD": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 25, 26, 27, 28},
	"SS": {7, 9, 10, 11, 12, 14, 20, 21, 22, 23, 24, 26, 27, 28, 29, 31, 32, 33, 34, 35},
	"RS": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	"FD": {1},
}

// elsewhere names the tests of rows that say the same as others.
var elsewhere = map[string]string{
	"XC-7":  "TestXR04LinksAreCut TestXR06LogIsReclaimed",
	"XE-3":  "TestWholePath TestXE04",
	"XE-6":  "TestXE04",
	"XB-3":  "TestXE04",
	"XB-6":  "TestXD06 TestXD07",
	"XD-1":  "TestXR06LogIsReclaimed",
	"XD-22": "TestXD05FailedStorageStopsTheBroker TestXB05BrokerKilledUnderLoad",
	"XD-27": "TestXR03FailuresAreTold",
	"SS-9":  "TestXE09DumpDelaysNobody",
	"SS-21": "TestXC04AndSS21InRandomHistories",
	"SS-26": "TestXE09DumpDelaysNobody",
	"SS-34": "TestXD23PositionsAreTheTruth",
}

// tests are the names of all test functions, and of subtests and scripts that carry a row in their name.
func tests(t *testing.T) string {
	var all strings.Builder
	err := filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if strings.Contains(path, "testdata") {
			fmt.Fprintf(&all, "script %s\n", strings.ReplaceAll(strings.TrimSuffix(d.Name(), ".txt"), "_", " "))
		}
		if !strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "rows_covered_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)|t\.Run\("([^"]+)"|\{"([A-Z]{2}-\d+)[" :]|"([A-Z]{2}-\d+)":`).FindAllStringSubmatch(string(text), -1) {
			fmt.Fprintln(&all, "test", strings.Join(m[1:], " "))
		}
		return err
	})
	require.NoError(t, err)
	return all.String()
}

// Every row has its test, under its id or named above.
func TestEveryRowHasItsTest(t *testing.T) {
	all := tests(t)
	var missing []string
	for group, numbers := range rows {
		for _, n := range numbers {
			id := fmt.Sprintf("%s-%d", group, n)
			found := regexp.MustCompile(fmt.Sprintf(`\bTest%s%02d|\b%s\b`, group, n, id)).MatchString(all)
			for name := range strings.FieldsSeq(elsewhere[id]) {
				require.Regexp(t, `\b`+name, all, "the test of row %s", id)
				found = true
			}
			if !found {
				missing = append(missing, id)
			}
		}
	}
	require.Empty(t, missing, "rows without a test")
}

// Every test that README.md names as the proof of a promise exists.
func TestReadmeNamesRealTests(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	names := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, names)
	all := tests(t)
	for _, n := range names {
		require.Regexp(t, `\b`+n[1], all, "README.md names it")
	}
}
