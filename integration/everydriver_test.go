package integration

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/secret"
	"xmq/configs"
	"xmq/nodeclient/driver"
)

// A driver that is added stands everywhere: in the text of the knob target, in each table of its chapter that has a row
// for every driver, and among the rigs of the tests with kills.
func TestEveryDriverStandsEverywhere(t *testing.T) {
	page, err := os.ReadFile("../nodeclient/driver/README.md")
	require.NoError(t, err)
	rows := func(head string) string {
		_, table, found := strings.Cut(string(page), "\n| "+head)
		require.True(t, found, head)
		table, _, _ = strings.Cut(table, "\n\n")
		return table
	}
	tables := map[string]string{"target URL": rows("target URL |"), "may pass, FATAL": rows("driver | may pass"),
		"carried": rows("driver | carried")}
	knob := ""
	node := configs.DefaultNode()
	for _, f := range configs.Fields(&node) {
		if f.Key == "target" {
			knob = f.Doc
		}
	}
	var rigged []string
	for _, r := range rigs() {
		rigged = append(rigged, strings.Fields(r.name)[0])
	}
	forms := regexp.MustCompile(`\b([a-z]+):(//)?[A-Z]`).FindAllStringSubmatch(driver.URLs, -1)
	require.GreaterOrEqual(t, len(forms), 8)
	for _, form := range forms {
		name := form[1]
		require.Equal(t, name, driver.Kind(name+":x"), "driver.URLs names it, and driver.drivers has no entry")
		require.Contains(t, knob, form[0], "the text of the knob target in package configs")
		require.Contains(t, rigged, name, "integration.rigs")
		if form[2] != "" {
			require.Equal(t, name+"://u:xxxxx@h/shop", secret.URL(name+"://u:word@h/shop"), "secret.databases")
		} else if name != "webhook" { // whose text after the colon is a URL again
			require.Equal(t, name+":/tmp/a@b", secret.URL(name+":/tmp/a@b"), "secret.local")
		}
		for title, table := range tables {
			require.Regexp(t, "(?m)^\\| [^|]*`"+name+"[`:]", table, "the table %q in nodeclient/driver/README.md", title)
		}
	}
}
