package integration

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// layers says which packages of ours a package may import, and why not others.
var layers = map[string][]string{
	"broker/event":        nil, // the language: imports nobody, so that everybody can speak it
	"broker/form":         nil, // what the bodies of increments look like
	"broker/secret":       nil, // URLs as people may read them
	"broker/disk":         nil, // one home each for fail-stop LevelDB, file locks, free space, fsync of folders
	"broker/version":      nil, // which release this is
	"broker/units":        nil, // numbers as people read them
	"broker/bus":          {"broker/event", "broker/secret"},
	"dumpflow":            {"broker/event", "broker/disk"},
	"nodeclient/producer": {"broker/event", "broker/bus"},
	"increments":          {"broker/event"},
	"increments/segments": {"broker/event", "broker/disk", "increments"},
	"statedb":             {"broker/event", "dumpflow"}, // dumpflow for the record of a DUMP, which it keeps
	"statedb/leveldb":     {"broker/event", "broker/disk", "dumpflow", "statedb"},
	"worker":              {"broker/event", "broker/form", "broker/units", "increments", "statedb", "dumpflow"},
	"broker/failpoint":    nil, // names of the places at which a test lets a process die
	"nodeclient": {"broker/event", "broker/form", "broker/bus", "broker/failpoint", "broker/units", "broker/version",
		"dumpflow"},
	"nodeclient/driver": {"nodeclient", "broker/disk", "broker/secret", "nodeclient/driver/exec", "nodeclient/driver/file",
		"nodeclient/driver/kv", "nodeclient/driver/mysql", "nodeclient/driver/postgres",
		"nodeclient/driver/redis", "nodeclient/driver/sqlite", "nodeclient/driver/sqltext", "nodeclient/driver/webhook"},
	"nodeclient/driver/sqltext":            {"broker/form", "broker/units"},
	"nodeclient/driver/internal/apply":     {"nodeclient", "broker/event"},
	"nodeclient/driver/internal/hold":      {"nodeclient", "broker/event"},
	"nodeclient/driver/internal/freespace": {"nodeclient", "broker/disk", "broker/units"},
	"nodeclient/driver/internal/files":     nil,
	"nodeclient/driver/internal/spool":     nil,
	"nodeclient/driver/sqlite": {"nodeclient", "broker/disk", "broker/event", "broker/failpoint",
		"nodeclient/driver/internal/apply", "nodeclient/driver/internal/files", "nodeclient/driver/internal/freespace",
		"nodeclient/driver/sqltext"},
	"nodeclient/driver/internal/snapstream": {"broker/event"},
	"nodeclient/driver/postgres": {"nodeclient", "broker/event", "broker/form", "broker/failpoint", "broker/units",
		"nodeclient/driver/internal/apply", "nodeclient/driver/internal/snapstream", "nodeclient/driver/internal/hold",
		"nodeclient/driver/internal/subprocess", "nodeclient/driver/internal/freespace", "nodeclient/driver/internal/spool",
		"nodeclient/driver/sqltext"},
	"nodeclient/driver/mysql": {"nodeclient", "broker/event", "broker/failpoint", "broker/units",
		"nodeclient/driver/internal/apply", "nodeclient/driver/internal/snapstream", "nodeclient/driver/internal/hold",
		"nodeclient/driver/internal/freespace", "nodeclient/driver/internal/spool", "nodeclient/driver/sqltext"},
	"nodeclient/driver/internal/commands": nil,
	"nodeclient/driver/redis": {"nodeclient", "broker/event", "broker/failpoint", "broker/units",
		"nodeclient/driver/internal/apply", "nodeclient/driver/internal/commands", "nodeclient/driver/internal/snapstream",
		"nodeclient/driver/internal/hold"},
	"nodeclient/driver/kv": {"nodeclient", "broker/disk", "broker/event", "broker/failpoint",
		"nodeclient/driver/internal/apply", "nodeclient/driver/internal/commands", "nodeclient/driver/internal/files",
		"nodeclient/driver/internal/snapstream", "nodeclient/driver/internal/freespace"},
	"nodeclient/driver/internal/subprocess": nil,
	"nodeclient/driver/internal/external":   {"nodeclient", "broker/event", "nodeclient/driver/internal/snapstream"},
	"nodeclient/driver/webhook": {"nodeclient", "broker/event", "broker/secret", "broker/units",
		"nodeclient/driver/internal/snapstream", "nodeclient/driver/internal/external"},
	"nodeclient/driver/exec": {"nodeclient", "broker/event", "nodeclient/driver/internal/snapstream",
		"nodeclient/driver/internal/external", "nodeclient/driver/internal/subprocess"},
	"nodeclient/driver/file": {"nodeclient", "broker/disk", "broker/event", "broker/failpoint",
		"nodeclient/driver/internal/files", "nodeclient/driver/internal/freespace"},
	"broker/door":      {"broker/event"},
	"broker/door/http": {"broker/event", "broker/door", "broker/form"},
	"broker/door/nats": {"broker/event", "broker/door"},
	"broker/api": {"broker/disk", "broker/door", "broker/door/http", "broker/event", "dumpflow", "increments", "statedb",
		"worker"},
	"broker/monitor": {"broker/api", "broker/disk", "broker/door", "broker/event", "broker/secret", "broker/units",
		"dumpflow", "increments", "statedb", "worker"},
	"broker/server": {"broker/event", "broker/api", "broker/monitor", "broker/disk", "broker/bus", "broker/secret",
		"broker/version", "broker/door", "broker/door/http", "broker/door/nats", "increments", "increments/segments",
		"statedb", "statedb/leveldb", "dumpflow", "worker", "broker/units"},
	"configs": {"broker/server", "broker/secret", "nodeclient"},
	// for tests
	"configs/xmqtest": {"broker/server", "broker/bus", "broker/event", "nodeclient",
		"nodeclient/driver", "nodeclient/producer"},
	"cmd/xmq":               {"*"},
	"cmd/xmq/shop":          nil,
	"integration":           {"*"},
	"integration/report":    nil,
	"integration/shorttest": nil,                                     // for tests
	"integration/bench":     {"*"},                                   // measures everything
	"increments/logtest":    {"increments", "broker/event"},          // for tests
	"statedb/storetest":     {"statedb", "broker/event", "dumpflow"}, // for tests
	"broker/disk/disktest":  {"broker/disk"},                         // for tests
	"broker/bus/bustest":    {"broker/bus", "broker/event"},          // for tests
	// for tests
	"nodeclient/driver/drivertest":              {"nodeclient", "broker/event", "nodeclient/driver/internal/hold"},
	"nodeclient/driver/servertest":              nil,                              // for tests
	"nodeclient/driver/servertest/postgrestest": {"nodeclient/driver/servertest"}, // for tests
	"nodeclient/driver/servertest/webhooktest":  nil,                              // for tests
	"nodeclient/driver/servertest/mysqltest":    {"nodeclient/driver/servertest"}, // for tests
	"nodeclient/driver/servertest/redistest":    {"nodeclient/driver/servertest"}, // for tests
}

// outside says which foreign modules a package may use besides the standard library.
var outside = map[string][]string{
	"broker/event":                     {"github.com/klauspost/compress"}, // frames for far nodes
	"broker/bus":                       {"github.com/nats-io/nats.go"},
	"nodeclient/producer":              {"github.com/nats-io/nats.go"}, // for the options of a connection
	"broker/disk":                      {"github.com/syndtr/goleveldb"},
	"dumpflow":                         {"github.com/klauspost/compress", "golang.org/x/sys", "golang.org/x/time"},
	"nodeclient/driver/internal/spool": {"github.com/klauspost/compress"},
	// libc for its time zone, sys for devices
	"nodeclient/driver/sqlite":   {"modernc.org/sqlite", "modernc.org/libc", "golang.org/x/sys"},
	"nodeclient/driver/postgres": {"github.com/jackc/pgx"},
	"nodeclient/driver/mysql":    {"github.com/go-sql-driver/mysql"},
	"nodeclient/driver/redis":    {"github.com/redis/go-redis"},
	"nodeclient/driver/kv":       {"github.com/syndtr/goleveldb"},
	"broker/door/nats":           {"github.com/nats-io/nats.go"},
	"broker/monitor":             {"github.com/sourcegraph/conc"},
	"broker/server": {"github.com/nats-io/nats.go", "github.com/nats-io/nats-server",
		"github.com/sourcegraph/conc"},
	"configs": {"github.com/goccy/go-yaml"},
	"cmd/xmq": {"github.com/urfave/cli", "golang.org/x/sys"},
	"integration/bench": {"github.com/nats-io/nats.go", "github.com/nats-io/nats-server",
		"github.com/klauspost/compress", "modernc.org/sqlite"},
	"cmd/xmq/shop": {"modernc.org/sqlite"},
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

// picture is the layer of each package in the drawing of the broker's package comment.
func picture(t *testing.T) map[string]int {
	text, err := os.ReadFile("../broker/server/doc.go")
	require.NoError(t, err)
	_, drawing, found := strings.Cut(string(text), "\n// # The layers of XMQ\n")
	require.True(t, found)
	drawing, _, _ = strings.Cut(drawing, "\n// # ")
	layer, drawn := -1, map[string]int{}
	for _, line := range regexp.MustCompile(`(?m)^//\t(\d| )  (.*)$`).FindAllStringSubmatch(drawing, -1) {
		if n, err := strconv.Atoi(line[1]); err == nil {
			layer = n
		}
		for name := range strings.FieldsSeq(line[2]) {
			folder, some, several := strings.Cut(strings.TrimSuffix(name, "}"), "{")
			for rest := range strings.SplitSeq(some, ",") {
				require.NotContains(t, drawn, folder+rest, "drawn twice")
				drawn[folder+rest] = layer
			}
			require.Equal(t, several, strings.HasSuffix(name, "}"), name)
		}
	}
	require.NotEmpty(t, drawn)
	return drawn
}

// The picture and the table agree: every package of the table that is not for tests alone is drawn, nothing else is,
// and what a row allows lies below.
func TestThePictureOfTheLayersIsTheTable(t *testing.T) {
	drawn := picture(t)
	for name, row := range layers {
		if strings.HasSuffix(name, "test") {
			require.NotContains(t, drawn, name, "it is for tests only")
			continue
		}
		require.Contains(t, drawn, name, "add it to the picture in broker/server/doc.go")
		for _, below := range row {
			if below != "*" {
				require.Less(t, drawn[below], drawn[name], "%s may import %s: broker/server/doc.go draws it otherwise", name, below)
			}
		}
	}
	for name := range drawn {
		require.Contains(t, layers, name, "it is drawn in broker/server/doc.go and stands in no row")
	}
}

// Imports go only downwards.
func TestImports(t *testing.T) {
	drawn := picture(t)
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, "xmq/")
		allowed, known := layers[name]
		require.True(t, known, "package %s stands in no layer: add it to the table in this test", name)
		testing := strings.HasSuffix(name, "test")
		for _, imp := range p.Imports {
			switch ours, is := strings.CutPrefix(imp, "xmq/"); {
			case is:
				require.True(t, slices.Contains(allowed, ours) || slices.Contains(allowed, "*"),
					"%s imports %s, which is not in its row", name, ours)
				require.True(t, testing || drawn[ours] < drawn[name], "%s imports %s, which is drawn beside or above it", name,
					ours)
			case strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") && !testing:
				require.True(t, slices.ContainsFunc(outside[name], func(m string) bool { return strings.HasPrefix(imp, m) }),
					"%s uses %s: not in its row", name, imp)
			}
		}
	}
}

// Each package has exactly one package comment.
func TestPackageComments(t *testing.T) {
	for _, p := range packages(t) {
		n := 0
		for _, f := range p.GoFiles {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil,
				parser.ParseComments|parser.PackageClauseOnly)
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
	want := []string{"CHANGELOG.md", "LICENSE", "Makefile", "README.md", "broker", "cmd", "configs", "dumpflow", "go.mod",
		"go.sum", "increments", "integration", "nodeclient", "statedb", "worker"}
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
