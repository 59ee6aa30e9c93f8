package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// chapter is the text of a README and its blocks of code by language.
func chapter(t *testing.T, path string) (text string, blocks map[string][]string) {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	blocks = map[string][]string{}
	for _, m := range regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		blocks[m[1]] = append(blocks[m[1]], m[2])
	}
	return string(b), blocks
}

// The chapter of the doors lists every code.
func TestTheChapterOfTheDoorsNamesEveryCode(t *testing.T) {
	text, _ := chapter(t, "../door/README.md")
	source, err := os.ReadFile("../door/door.go")
	require.NoError(t, err)
	codes := regexp.MustCompile(`Code += "([a-z_]+)"`).FindAllStringSubmatch(string(source), -1)
	require.NotEmpty(t, codes)
	for _, c := range codes {
		require.True(t, regexp.MustCompile("\\| [^|]*`"+c[1]+"`[^|]* \\|").MatchString(text), c[1])
	}
}

// What the chapter of the doors shows works as it stands there: a key is sent twice and stored once, a refusal is
// told, and a reader sees every increment.
func TestTheProgramsOfTheChapterOfTheDoorsWork(t *testing.T) {
	_, blocks := chapter(t, "../door/README.md")
	r := startBroker(t, testConfig(t))
	here := func(s string) string { return strings.ReplaceAll(s, "127.0.0.1:8420", r.HTTPAddr()) }
	run := func(dir, name string, args ...string) string {
		path, err := exec.LookPath(name)
		require.NoError(t, err, "make servers installs it")
		c := exec.CommandContext(t.Context(), path, args...)
		c.Dir = dir
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s: %s", name, out)
		return string(out)
	}
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(here(text)), 0o600))
	}
	for language, n := range map[string]int{"go": 2, "python": 2, "sh": 3} {
		require.Len(t, blocks[language], n, language)
	}
	seen := r.stores.log.Head().Seq
	told := func(out, key string) {
		seen++
		require.Contains(t, out, fmt.Sprint(seen), "%s: both times the same sequence", key)
		require.Equal(t, seen, r.stores.log.Head().Seq, "%s: stored once", key)
	}

	_, err := exec.LookPath("curl")
	require.NoError(t, err, "make servers installs it")
	write("send.sh", blocks["sh"][0])
	for range 2 {
		require.Contains(t, run(dir, "sh", "send.sh"), fmt.Sprintf(`"seq":%d,`, seen+1), "both times the same sequence")
	}
	seen++
	require.Equal(t, seen, r.stores.log.Head().Seq, "stored once")

	write("p.py", blocks["python"][0]+blocks["python"][1]+`
assert publish("py", "a body") == publish("py", "a body")
try:
    publish("py", "another body")
    raise SystemExit("nothing was refused")
except ValueError as e:
    assert "key" in str(e), e
class Enough(Exception): pass
def do(item):
    print(item["seq"], item["text"])
    if item["text"] == "a body": raise Enough
try: follow(0, do)
except Enough: pass
`)
	told(run(dir, "python3", "p.py"), "python")

	write("body", "a body of curl")
	write("other", "another body")
	loop := strings.Replace(blocks["sh"][2], "while lines", "i=0; while [ $i -lt 1 ] && lines", 1)
	loop = strings.Replace(loop, "\ndone", "\n  i=1\ndone", 1)
	write("p.sh", "set -e\n"+blocks["sh"][1]+"publish sh body\npublish sh body\npublish sh other | grep key_reused >&2\n"+
		loop)
	out := run(dir, "sh", "p.sh")
	told(out, "sh")
	require.Contains(t, out, "a body of curl", "the loop has read it")

	write("go.mod", "module chapter\n\ngo 1.26\n")
	write("main.go", `package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

`+blocks["go"][0]+blocks["go"][1]+`
func main() {
	one, err := publish("go", "a body of go")
	two, again := publish("go", "a body of go")
	if err != nil || again != nil || one != two {
		panic(fmt.Sprint(one, err, two, again))
	}
	if _, err := publish("go", "another body"); err == nil {
		panic("nothing was refused")
	}
	err = follow(0, func(seq uint64, text string) {
		if text == "a body of go" {
			fmt.Println(seq)
			os.Exit(0)
		}
	})
	panic(err)
}
`)
	told(run(dir, "go", "run", "."), "go")
}
