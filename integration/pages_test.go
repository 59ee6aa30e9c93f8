package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"xmq/configs"
	"xmq/nodeclient/driver"
)

// pages are all Markdown files of the repository.
func pages(t *testing.T) (all []string) {
	out, err := exec.Command("git", "-C", "..", "ls-files", "--cached", "--others", "--exclude-standard", "*.md").Output()
	require.NoError(t, err)
	for name := range strings.Lines(string(out)) {
		all = append(all, filepath.Join("..", strings.TrimSpace(name)))
	}
	require.NotEmpty(t, all)
	return all
}

// anchors are what can stand after a # in a link to this page: its headings, as GitHub writes them.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	drop := regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	for _, h := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		all[strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")] = true
	}
	return all
}

// prose is a page without its blocks of code.
func prose(text string) string {
	text = regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
	return regexp.MustCompile("(?m)^(?: {4}|\t).*$").ReplaceAllString(text, "")
}

// Every link in every page leads to a file that is there, and to a heading that is there.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	links := 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(prose(string(text)), -1) {
			links++
			if strings.HasPrefix(m[1], "https://") {
				continue // of others
			}
			link, err := url.Parse(m[1])
			require.NoError(t, err)
			require.Empty(t, link.Scheme, "%s: %s", page, m[1])
			to := page
			if link.Path != "" {
				to = filepath.Join(filepath.Dir(page), link.Path)
			}
			there, err := os.ReadFile(to)
			if info, statErr := os.Stat(to); statErr == nil && info.IsDir() && link.Fragment == "" {
				continue
			}
			require.NoError(t, err, "%s links to it", page)
			if link.Fragment != "" {
				require.True(t, anchors(prose(string(there)))[link.Fragment], "%s links to %s: no heading has that anchor", page,
					m[1])
			}
		}
	}
	require.Greater(t, links, 40)
}

// Every block says in which language it is: sh can be run, and is, where a test runs the page; text cannot.
func TestEveryBlockSaysWhatItIs(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		open, empty := false, true
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "```") {
				open = !open
				require.False(t, open && line == "```\n", "%s: a block without its language", page)
			}
			require.False(t, !open && empty && strings.HasPrefix(line, "    "), "%s: a block without ``` and its language: %s",
				page, line)
			empty = line == "\n"
		}
		require.False(t, open, page)
	}
}

// README has one purpose: a reader decides in two minutes and runs it in five.
func TestReadmeIsShort(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	require.LessOrEqual(t, len(text), 8<<10, "move a chapter beside its code and link it")
}

// What CONTRIBUTING.md calls package.Name is declared in a package of that name.
func TestContributingNamesRealThings(t *testing.T) {
	text, err := os.ReadFile("../.github/CONTRIBUTING.md")
	require.NoError(t, err)
	folders := map[string][]string{} // by the name of the package
	for _, p := range packages(t) {
		folders[filepath.Base(p.ImportPath)] = append(folders[filepath.Base(p.ImportPath)], p.Dir)
	}
	names := 0
	for _, m := range regexp.MustCompile("`([a-z]+)\\.([A-Za-z]+)`").FindAllStringSubmatch(prose(string(text)), -1) {
		if m[0] == "`t.Skip`" {
			continue
		}
		names++
		declared := false
		for _, dir := range folders[m[1]] {
			files, err := filepath.Glob(filepath.Join(dir, "*.go"))
			require.NoError(t, err)
			for _, file := range files {
				parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
				require.NoError(t, err)
				declared = declared || declares(parsed, m[2])
			}
		}
		require.True(t, declared, "CONTRIBUTING.md names %s", m[0])
	}
	require.Greater(t, names, 15)
}

// declares says whether a file declares a function, method, type, variable or constant.
func declares(file *ast.File, name string) bool {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.Name == name {
				return true
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.Name == name {
						return true
					}
				case *ast.ValueSpec:
					for _, n := range spec.Names {
						if n.Name == name {
							return true
						}
					}
				}
			}
		}
	}
	return false
}

// Every knob stands in the list of OPERATING.md, and nothing else does.
func TestEveryKnobStandsInItsList(t *testing.T) {
	text, err := os.ReadFile("../configs/OPERATING.md")
	require.NoError(t, err)
	_, list, found := strings.Cut(string(text), "\n## All knobs, by topic\n")
	require.True(t, found)
	broker, node := configs.DefaultBroker(), configs.DefaultNode()
	for role, cfg := range map[string]any{"broker": &broker, "node": &node} {
		_, table, found := strings.Cut(list, "\n| "+role+" | knobs |\n")
		require.True(t, found, role)
		table, _, _ = strings.Cut(table, "\n\n")
		var listed, known []string
		for _, m := range regexp.MustCompile("`([a-z_.]+)`").FindAllStringSubmatch(table, -1) {
			listed = append(listed, m[1])
		}
		for _, f := range configs.Fields(cfg) {
			known = append(known, f.Key)
		}
		require.ElementsMatch(t, known, listed, role)
	}
}

// Every test that a page names exists.
func TestPagesNameRealTests(t *testing.T) {
	all, names := tests(t), 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		if filepath.Base(page) == "CHANGELOG.md" {
			continue // of then, not of now
		}
		for _, n := range regexp.MustCompile("(?:`|T=|-run )(Test\\w+)").FindAllStringSubmatch(string(text), -1) {
			require.True(t, regexp.MustCompile(`\b`+n[1]).MatchString(all), "%s names %s, which is no test", page, n[1])
			names++
		}
	}
	require.Greater(t, names, 30)
}

// Every test that make check leaves out exists.
func TestTheMakefileNamesRealTests(t *testing.T) {
	text, err := os.ReadFile("../Makefile")
	require.NoError(t, err)
	all, left := tests(t), 0
	for _, line := range regexp.MustCompile(`(?m)^LONG .*$`).FindAllString(string(text), -1) {
		for _, name := range regexp.MustCompile(`Test\w+`).FindAllString(line, -1) {
			require.True(t, regexp.MustCompile(`\b`+name+`\b`).MatchString(all), "the Makefile leaves out %s, which is no test",
				name)
			left++
		}
	}
	require.Positive(t, left)
}

// Lines of the pages are as long as those of the code. A row of a table cannot be folded.
func TestLinesOfPagesAreShort(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			long := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 120
			require.False(t, long && !strings.HasPrefix(line, "|"), "%s:%d has more than 120 columns: %s", page, n, line)
		}
	}
}

// Lines of the code are short, too, so that two versions of a file fit beside each other and no reader scrolls. A tab
// counts as one column. There is no exception: what is too long for the tag of a field does not belong into one.
func TestLinesOfCodeAreShort(t *testing.T) {
	out, err := exec.Command("git", "-C", "..", "ls-files", "--cached", "--others", "--exclude-standard", "*.go").Output()
	require.NoError(t, err)
	files := 0
	for name := range strings.Lines(string(out)) {
		name = strings.TrimSpace(name)
		text, err := os.ReadFile(filepath.Join("..", name))
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		require.NoError(t, err)
		files++
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			line = strings.TrimSuffix(line, "\n")
			long := utf8.RuneCountInString(line) > 120
			require.False(t, long, "%s:%d has more than 120 columns: %s", name, n, line)
		}
	}
	require.Greater(t, files, 100)
}

// The knob of a node's database names every form of a URL that the drivers take.
func TestTheKnobOfTheDatabaseNamesEveryDriver(t *testing.T) {
	node := configs.DefaultNode()
	for _, f := range configs.Fields(&node) {
		if f.Key == "target" {
			require.Contains(t, f.Doc, driver.URLs)
			return
		}
	}
	require.Fail(t, "a node has no knob target")
}
