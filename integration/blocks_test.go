package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/nodeclient/driver/servertest/postgrestest"
	"xmq/statedb"
)

// section is a part of a page under one heading, with its blocks of shell commands.
type section struct {
	title  string
	blocks []string
}

// sections are the parts of a page that have blocks marked ```sh; what cannot be run is marked otherwise.
func sections(t *testing.T, page string) (all []section) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for part := range strings.SplitSeq(string(text), "\n## ") {
		title, body, _ := strings.Cut(part, "\n")
		s := section{title: title}
		for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(body, -1) {
			s.blocks = append(s.blocks, m[1])
		}
		if len(s.blocks) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// reader is somebody who types what a page shows, block after block, into one shell, and waits after each until all
// is applied.
type reader struct {
	t       *testing.T
	dir     string
	replace *strings.Replacer // addresses of the page by free ones
	address map[string]string // the free one for an address of a page
	in      *os.File          // of the shell
	done    *bufio.Reader     // a line after each block
	out     *lockedBuffer
	nodes   map[string][]string // the nodes that have been started, by the API of their broker
}

// newReader starts the shell in an empty folder: "go" makes or runs the binary that the other tests use, and the
// first two of the default addresses are free ones.
func newReader(t *testing.T) *reader {
	path, err := binary()
	require.NoError(t, err)
	repository, err := filepath.Abs("..")
	require.NoError(t, err)
	r := &reader{t: t, dir: t.TempDir(), out: &lockedBuffer{}, nodes: map[string][]string{}, address: map[string]string{}}
	require.NoError(t, os.Symlink(filepath.Join(repository, "configs"), filepath.Join(r.dir, "configs")))
	require.NoError(t, os.Mkdir(filepath.Join(r.dir, "bin"), 0o700))
	require.NoError(t, os.Symlink(path, filepath.Join(r.dir, "bin", "xmq")))
	var pairs []string
	for _, a := range []string{"127.0.0.1:8420", "127.0.0.1:4222", "127.0.0.1:8421", "127.0.0.1:4223"} {
		r.address[a] = freeAddr(t)
		pairs = append(pairs, a, r.address[a])
	}
	r.replace = strings.NewReplacer(pairs...)

	commands, in, err := os.Pipe()
	require.NoError(t, err)
	results, done, err := os.Pipe()
	require.NoError(t, err)
	shell := exec.Command("bash", "-o", "pipefail", "-s")
	shell.Dir, shell.Stdin, shell.Stdout, shell.Stderr = r.dir, commands, r.out, r.out
	shell.WaitDelay = time.Second // what the page has started has the shell's output as well
	shell.ExtraFiles = []*os.File{done}
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	shell.Env = []string{"PATH=" + filepath.Join(r.dir, "bin") + ":" + os.Getenv("PATH"), "HOME=" + r.dir, "TMPDIR=" +
		os.TempDir(),
		"XMQ_HTTP_ADDR=" + r.address["127.0.0.1:8420"], "XMQ_API=http://" + r.address["127.0.0.1:8420"],
		"XMQ_NATS_ADDR=" + r.address["127.0.0.1:4222"], "XMQ_BROKER=nats://" + r.address["127.0.0.1:4222"]}
	require.NoError(t, shell.Start())
	require.NoError(t, commands.Close())
	require.NoError(t, done.Close())
	r.in, r.done = in, bufio.NewReader(results)
	t.Cleanup(func() {
		_ = in.Close() // the shell ends, and with it what it has started
		_ = shell.Wait()
		_ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) // its group: what it did not end itself
		_ = results.Close()
		if t.Failed() {
			text := r.out.String()
			t.Logf("--- the shell\n%s", text[max(0, len(text)-4000):])
			logs, _ := filepath.Glob(filepath.Join(r.dir, "*", "*.log"))
			more, _ := filepath.Glob(filepath.Join(r.dir, "*.log"))
			for _, log := range append(logs, more...) {
				text, _ := os.ReadFile(log)
				t.Logf("--- %s\n%s", log, text[max(0, len(text)-2000):])
			}
		}
	})
	r.say(`
trap 'kill -9 $(jobs -p) 2>/dev/null' EXIT
trap 'failed="${failed:-$BASH_COMMAND}"' ERR
go() {
  case "$*" in
  "build -o xmq ./cmd/xmq") ln -sf bin/xmq xmq ;;
  "run ./cmd/xmq "*) shift 2; xmq "$@" ;;
  *) echo "go $*: not a command of the pages" >&2; return 1 ;;
  esac
}
`)
	return r
}

func (r *reader) say(script string) {
	_, err := r.in.WriteString(script)
	require.NoError(r.t, err)
}

// run types one block and waits until what it has started is where it belongs; it returns what was shown meanwhile.
func (r *reader) run(block string) string {
	r.t.Helper()
	if strings.Contains(block, "psql") && r.address["127.0.0.1:5432"] == "" {
		server := postgrestest.New(r.t)
		r.address["127.0.0.1:5432"] = server.Addr()
		_, port, _ := strings.Cut(server.Addr(), ":")
		pairs := []string{"-p 5432", "-p " + port}
		for from, to := range r.address {
			pairs = append(pairs, from, to)
		}
		r.replace = strings.NewReplacer(pairs...)
		r.say(fmt.Sprintf("sudo() { shift 2; PGHOST=127.0.0.1 PGPORT=%s PGUSER=postgres PGPASSWORD='%s' \"$@\"; }\n", port,
			postgrestest.Password))
	}
	before := len(r.out.String())
	require.NoError(r.t, os.WriteFile(filepath.Join(r.dir, "block.sh"), []byte(r.replace.Replace(block)), 0o600))
	r.say("failed=; . ./block.sh; echo \"$failed\" >&3\n")
	failed, err := r.done.ReadString('\n')
	require.NoError(r.t, err)
	require.Equal(r.t, "\n", failed, "a command of the page has failed:\n%s", block)
	for _, m := range regexp.MustCompile(`(?m)^kill .*$`).FindAllString(block, -1) {
		for api, nodes := range r.nodes { // by the names of variables, which are their IDs
			r.nodes[api] = slices.DeleteFunc(nodes, func(id string) bool {
				return slices.Contains(regexp.MustCompile(`\w+`).FindAllString(m, -1), id)
			})
		}
	}
	for _, m := range regexp.MustCompile(`xmq node --id (\w+)`).FindAllStringSubmatch(block, -1) {
		api := r.address["127.0.0.1:8420"]
		if strings.HasPrefix(m[1], "pg") {
			api = r.address["127.0.0.1:8421"]
		}
		r.nodes[api] = append(r.nodes[api], m[1])
	}
	eventually(r.t, r.settled)
	return r.out.String()[before:]
}

// settled says what still moves: something is being published, a node has not come yet, or has not applied everything
// and not failed either.
func (r *reader) settled() error {
	r.say("jobs -r | grep -c 'xmq publish' >&3\n")
	publishing, err := r.done.ReadString('\n')
	require.NoError(r.t, err)
	if publishing != "0\n" {
		return fmt.Errorf("something is being published")
	}
	for address, nodes := range r.nodes {
		if len(nodes) == 0 {
			continue // and its broker may be stopped
		}
		var p api.Positions
		response, err := http.Get("http://" + address + "/v1/positions")
		if err != nil {
			return err
		}
		err = json.NewDecoder(response.Body).Decode(&p)
		_ = response.Body.Close() // it has been read
		if err != nil {
			return err
		}
		at := map[string]string{}
		for _, c := range p.Clients {
			at[c.ID] = fmt.Sprintf("%s at %d, connected %v", c.State, c.Acked, c.Connected)
			if c.Connected && (c.State == statedb.Failed || c.State == statedb.Following && c.Acked == p.Head) {
				at[c.ID] = ""
			}
		}
		for _, id := range nodes {
			if where, here := at[id]; !here || where != "" {
				return fmt.Errorf("%s is not at %d yet: %q", id, p.Head, where)
			}
		}
	}
	return nil
}

// shows are words that the output of a section's block holds, by the heading and the number of the block: what the
// text around it says to the reader.
var shows = map[string]map[int][]string{
	"Two commands": {0: {"VERDICT: equal"}},
	"Five minutes by hand": {
		1: {`"seq":4`, `"seq":4`, `"duplicate":true`},
		2: {"node2", "1|2", "2|6"},
		5: {"node1", "UNIQUE constraint failed", "it was there already"},
	},
	"The same with PostgreSQL":       {3: {"1 | 5"}},
	"To keep a broker's data":        {1: {"of master", "at sequence 0"}},
	"When the broker's disk is lost": {0: {"1", "1"}},
}

func (r *reader) section(s section) {
	r.t.Helper()
	for i, block := range s.blocks {
		out := r.run(block)
		rest := strings.Join(strings.Fields(out), " ")
		for _, word := range shows[s.title][i] {
			_, after, found := strings.Cut(rest, word)
			require.True(r.t, found, "block %d of %q shows %q, in this order:\n%s", i+1, s.title, word, out)
			rest = after
		}
	}
}

// README's commands work, in the order of the page, in one shell in which nothing is stopped in between.
func TestReadmeRunsInTheOrderOfThePage(t *testing.T) {
	r := newReader(t)
	for _, s := range sections(t, "../README.md") {
		r.section(s)
	}
}

// Each section of README stands for itself.
func TestEverySectionOfReadmeRunsAlone(t *testing.T) {
	for _, s := range sections(t, "../README.md")[1:] { // the first one has been first in the order of the page
		t.Run(s.title, func(t *testing.T) { newReader(t).section(s) })
	}
}

// So do the commands of OPERATING.md, in the order of the page. What was published before the broker's disk was lost is
// there afterwards, in all databases, and they go on.
func TestOperatingRunsInTheOrderOfThePage(t *testing.T) {
	r, lost := newReader(t), false
	for _, s := range sections(t, "../configs/OPERATING.md") {
		if s.title == "When the broker's disk is lost" {
			r.run("echo 'CREATE TABLE kept (n INTEGER)' | xmq publish\n")
			lost = true
		}
		r.section(s)
	}
	require.True(t, lost)
	r.run("echo 'INSERT INTO kept VALUES (7)' | xmq publish\n")
	for _, id := range []string{"master", "n1"} {
		require.Equal(t, "7 1", query(t, filepath.Join(r.dir, id+".db"),
			"SELECT n || ' ' || (SELECT seq FROM xmq_position) FROM kept"), id)
	}
}
