package integration

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// floors is the plan of the house: which rooms of ours a room may import, and why not others.
var floors = map[string][]string{
	"broker/event":        nil, // the language: imports nobody, so that everybody can speak it
	"broker/form":         nil, // what the bodies of increments look like
	"broker/secret":       nil, // URLs as people may read them
	"broker/disk":         nil, // the ground both stores stand on
	"broker/version":      nil, // which release this is
	"broker/bus":          {"broker/event", "broker/secret"},
	"dumpflow":            {"broker/event"},
	"nodeclient/producer": {"broker/event", "broker/bus"},
	"increments":          {"broker/event", "broker/disk"},
	"statedb":             {"broker/event", "broker/disk", "dumpflow"}, // dumpflow for the record of a DUMP, which it keeps
	"worker":              {"broker/event", "broker/form", "increments", "statedb", "dumpflow"},
	"broker/failpoint":    nil, // names of the places at which a test lets a process die
	"nodeclient":          {"broker/event", "broker/form", "broker/bus", "broker/failpoint", "broker/version", "dumpflow"},
	"nodeclient/target": {"nodeclient", "broker/secret", "nodeclient/target/exec", "nodeclient/target/file", "nodeclient/target/kv", "nodeclient/target/mysql", "nodeclient/target/postgres",
		"nodeclient/target/redis", "nodeclient/target/sqlite", "nodeclient/target/sqltext", "nodeclient/target/webhook"},
	"nodeclient/target/sqltext":               {"broker/form"},
	"nodeclient/target/batch":                 {"nodeclient", "broker/event"},
	"nodeclient/target/hold":                  {"nodeclient", "broker/event"},
	"nodeclient/target/room":                  {"nodeclient"},
	"nodeclient/target/files":                 nil,
	"nodeclient/target/spool":                 nil,
	"nodeclient/target/sqlite":                {"nodeclient", "broker/event", "broker/failpoint", "nodeclient/target/batch", "nodeclient/target/files", "nodeclient/target/room", "nodeclient/target/sqltext"},
	"nodeclient/target/frames":                {"broker/event"},
	"nodeclient/target/postgres":              {"nodeclient", "broker/event", "broker/form", "broker/failpoint", "nodeclient/target/batch", "nodeclient/target/frames", "nodeclient/target/hold", "nodeclient/target/program", "nodeclient/target/room", "nodeclient/target/spool", "nodeclient/target/sqltext"},
	"nodeclient/target/mysql":                 {"nodeclient", "broker/event", "broker/failpoint", "nodeclient/target/batch", "nodeclient/target/frames", "nodeclient/target/hold", "nodeclient/target/room", "nodeclient/target/spool", "nodeclient/target/sqltext"},
	"nodeclient/target/command":               nil,
	"nodeclient/target/redis":                 {"nodeclient", "broker/event", "broker/failpoint", "nodeclient/target/batch", "nodeclient/target/command", "nodeclient/target/frames", "nodeclient/target/hold"},
	"nodeclient/target/kv":                    {"nodeclient", "broker/disk", "broker/event", "broker/failpoint", "nodeclient/target/batch", "nodeclient/target/command", "nodeclient/target/files", "nodeclient/target/frames", "nodeclient/target/room"},
	"nodeclient/target/program":               nil,
	"nodeclient/target/hook":                  {"nodeclient", "broker/event", "nodeclient/target/frames"},
	"nodeclient/target/webhook":               {"nodeclient", "broker/event", "broker/secret", "nodeclient/target/frames", "nodeclient/target/hook"},
	"nodeclient/target/exec":                  {"nodeclient", "broker/event", "nodeclient/target/frames", "nodeclient/target/hook", "nodeclient/target/program"},
	"nodeclient/target/file":                  {"nodeclient", "broker/event", "broker/failpoint", "nodeclient/target/files", "nodeclient/target/room"},
	"broker/door":                             {"broker/event"},
	"broker/door/http":                        {"broker/event", "broker/door", "broker/form"},
	"broker/door/nats":                        {"broker/event", "broker/door"},
	"broker":                                  {"broker/event", "broker/disk", "broker/bus", "broker/secret", "broker/version", "broker/door", "broker/door/http", "broker/door/nats", "increments", "statedb", "dumpflow", "worker"},
	"configs":                                 {"broker", "broker/secret", "nodeclient"},
	"cmd/xmq":                                 {"*"},
	"cmd/xmq/shop":                            nil,
	"integration":                             {"*"},
	"integration/report":                      nil,
	"integration/bench":                       {"*"},                            // measures everything
	"broker/disk/disktest":                    {"broker/disk"},                  // for tests
	"broker/bus/bustest":                      {"broker/bus", "broker/event"},   // for tests
	"nodeclient/target/targettest":            {"nodeclient", "broker/event"},   // for tests
	"nodeclient/target/servertest":            nil,                              // for tests
	"nodeclient/target/postgres/postgrestest": {"nodeclient/target/servertest"}, // for tests
	"nodeclient/target/webhook/webhooktest":   nil,                              // for tests
	"nodeclient/target/mysql/mysqltest":       {"nodeclient/target/servertest"}, // for tests
	"nodeclient/target/redis/redistest":       {"nodeclient/target/servertest"}, // for tests
}

// outside says which foreign modules a room may use besides the standard library.
var outside = map[string][]string{
	"broker/event":               {"github.com/klauspost/compress"}, // frames for far nodes
	"broker/bus":                 {"github.com/nats-io/nats.go"},
	"nodeclient/producer":        {"github.com/nats-io/nats.go"}, // for the options of a connection
	"broker/disk":                {"github.com/syndtr/goleveldb"},
	"increments":                 {"github.com/syndtr/goleveldb"},
	"statedb":                    {"github.com/syndtr/goleveldb"},
	"dumpflow":                   {"github.com/klauspost/compress", "golang.org/x/sys", "golang.org/x/time"},
	"nodeclient/target/room":     {"golang.org/x/sys"},
	"nodeclient/target/spool":    {"github.com/klauspost/compress"},
	"nodeclient/target/sqlite":   {"modernc.org/sqlite", "modernc.org/libc"}, // libc for its time zone
	"nodeclient/target/postgres": {"github.com/jackc/pgx"},
	"nodeclient/target/mysql":    {"github.com/go-sql-driver/mysql"},
	"nodeclient/target/redis":    {"github.com/redis/go-redis"},
	"nodeclient/target/kv":       {"github.com/syndtr/goleveldb"},
	"broker/door/nats":           {"github.com/nats-io/nats.go"},
	"broker":                     {"github.com/nats-io/nats.go", "github.com/nats-io/nats-server", "github.com/sourcegraph/conc"},
	"configs":                    {"github.com/goccy/go-yaml"},
	"cmd/xmq":                    {"github.com/urfave/cli", "golang.org/x/sys"},
	"integration/bench":          {"github.com/nats-io/nats.go", "github.com/nats-io/nats-server", "github.com/klauspost/compress", "modernc.org/sqlite"},
	"cmd/xmq/shop":               {"modernc.org/sqlite"},
}

type pkg struct {
	ImportPath string
	Imports    []string
	Dir        string
	GoFiles    []string
}

func packages(t *testing.T) []pkg {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Dir,GoFiles", "xmq/...").Output()
	require.NoError(t, err)
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		require.NoError(t, dec.Decode(&p))
		all = append(all, p)
	}
	return all
}

// Imports go only downwards.
func TestFloors(t *testing.T) {
	for _, p := range packages(t) {
		room := strings.TrimPrefix(p.ImportPath, "xmq/")
		allowed, known := floors[room]
		require.True(t, known, "room %s has no floor: add it to the plan in this test and in README.md", room)
		testing := strings.HasSuffix(room, "test")
		for _, imp := range p.Imports {
			switch ours, is := strings.CutPrefix(imp, "xmq/"); {
			case is:
				require.True(t, slices.Contains(allowed, ours) || slices.Contains(allowed, "*"), "%s imports %s, which lies above or beside it", room, ours)
			case strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") && !testing:
				require.True(t, slices.ContainsFunc(outside[room], func(m string) bool { return strings.HasPrefix(imp, m) }), "%s uses %s: not in its plan", room, imp)
			}
		}
	}
}

// Each package has exactly one package comment.
func TestPackageComments(t *testing.T) {
	for _, p := range packages(t) {
		n := 0
		for _, f := range p.GoFiles {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.ParseComments|parser.PackageClauseOnly)
			require.NoError(t, err)
			if parsed.Doc != nil {
				n++
			}
		}
		if len(p.GoFiles) > 0 {
			require.Equal(t, 1, n, "package comments in %s", p.ImportPath)
		}
	}
}

// The top level of the repository is what users know; nothing else grows there.
func TestTopLevel(t *testing.T) {
	want := []string{"CHANGELOG.md", "LICENSE", "Makefile", "README.md", "broker", "cmd", "configs", "dumpflow", "go.mod", "go.sum", "increments", "integration", "nodeclient", "statedb", "worker"}
	out, err := exec.Command("git", "-C", "..", "ls-files").Output()
	require.NoError(t, err)
	var got []string
	for f := range strings.Lines(string(out)) {
		top, _, _ := strings.Cut(strings.TrimSpace(f), "/")
		if !strings.HasPrefix(top, ".") && !slices.Contains(got, top) {
			got = append(got, top)
		}
	}
	slices.Sort(got)
	require.Equal(t, want, got)
}

// Tests do not wait by the clock: a sleep is only allowed where time is fake.
func TestNoSleepInTests(t *testing.T) {
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "floors_test.go") {
			return err
		}
		out, err := exec.Command("grep", "-c", "time[.]Sleep(", path).Output()
		if err == nil {
			text, err := exec.Command("grep", "-c", "synctest", path).Output()
			require.NoError(t, err, "%s sleeps %s times outside a synctest bubble: %s", path, out, text)
		}
		return nil
	})
	require.NoError(t, err)
}
