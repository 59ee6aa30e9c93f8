package configs

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/monitor"
	"xmq/broker/server"
)

var update = flag.Bool("update", false, "write the example files anew")

// The examples hold every key, each with its default: what they say is what happens.
func TestExamplesEqualTheDefaults(t *testing.T) {
	broker, node := DefaultBroker(), DefaultNode()
	for name, cfg := range map[string]any{"broker": &broker, "node": &node} {
		var want strings.Builder
		title := "xmq " + name
		if name == "broker" {
			shipped := broker
			shipped.Create = false
			cfg, title = &shipped, title+". One value is not the default: create, so that a disk that is not mounted is "+
				"never taken for a first start"
		}
		require.NoError(t, WriteExample(&want, title, cfg))
		path := name + ".example.yaml"
		if *update {
			require.NoError(t, os.WriteFile(path, []byte(want.String()), 0o644))
		}
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want.String(), string(got), "%s is not what WriteExample writes: go test ./configs -args -update "+
			"writes it anew", path)
	}
	changedBroker, changedNode := Broker{}, Node{}
	require.NoError(t, Load(&changedBroker, Source{File: "broker.example.yaml"}))
	require.NoError(t, Load(&changedNode, Source{File: "node.example.yaml"}))
	// an empty list and none are the same
	changedBroker.Hooks.Command, changedBroker.HTTPHosts, changedNode.Topics = nil, nil, nil
	require.False(t, changedBroker.Create)
	changedBroker.Create = true
	require.Equal(t, broker, changedBroker)
	require.Equal(t, node, changedNode)
}

// Every knob says what it means.
func TestEveryKnobHasAMeaning(t *testing.T) {
	for _, cfg := range []any{new(Broker), new(Node)} {
		seen := map[string]bool{}
		for _, f := range Fields(cfg) {
			require.NotEmpty(t, f.Doc, f.Key)
			require.False(t, seen[f.Flag()], "two knobs are called --%s", f.Flag())
			seen[f.Flag()] = true
		}
	}
}

// Every meaning is that of a knob: one whose knob was renamed or taken away is told nowhere.
func TestEveryMeaningIsOfAKnob(t *testing.T) {
	for _, cfg := range []any{Broker{}, Node{}, server.Config{}, server.Idempotency{}, monitor.Retention{},
		monitor.Hooks{}, monitor.Watch{}} {
		names := map[string]bool{}
		for _, field := range reflect.VisibleFields(reflect.TypeOf(cfg)) {
			names[field.Tag.Get("yaml")] = true
		}
		meanings := cfg.(explained).Meanings()
		require.NotEmpty(t, meanings)
		for name := range meanings {
			require.True(t, names[name], "%T has a meaning of %s, and no such knob", cfg, name)
		}
	}
}

func write(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// Flags beat the environment, the environment beats the file, the file beats the defaults.
func TestPrecedence(t *testing.T) {
	cfg := DefaultBroker()
	file := write(t, "workers: 2\ndata: from-file\ngroup: file\nretention:\n  max_bytes: 5\n")
	require.NoError(t, Load(&cfg, Source{File: file,
		Env: []string{"XMQ_DATA=from-env", "XMQ_GROUP=env", "XMQ_RETENTION_MAX_AGE=3h", "PATH=/bin",
			"XMQ_TARGET=of the other role"},
		Flag: map[string][]string{"group": {"flag"}, "masters": {"a,b", "c"}}}))
	require.Equal(t, 2, cfg.Workers)
	require.Equal(t, "from-env", cfg.Data)
	require.Equal(t, "flag", cfg.Group)
	require.Equal(t, []string{"a", "b", "c"}, cfg.Masters)
	require.EqualValues(t, 5, cfg.Retention.MaxBytes)
	require.Equal(t, "3h0m0s", cfg.Retention.MaxAge.String())
}

// XN-7: "a missing required key or an unknown one stops the start; secrets are refused in world-readable files".
func TestXN07WrongConfigurationsAreRefusedWithASentence(t *testing.T) {
	for name, c := range map[string]struct{ file, env, want string }{
		"unknown key":       {file: "worker: 3\n", want: `unknown key "worker": did you mean "workers"?`},
		"unknown nested":    {file: "retention:\n  max_byte: 3\n", want: `did you mean "retention.max_bytes"?`},
		"double key":        {file: "workers: 3\nworkers: 4\n", want: "workers"},
		"tabs":              {file: "retention:\n\tmax_bytes: 3\n", want: "tab"},
		"byte order mark":   {file: "\xEF\xBB\xBFworkers: 3\n", want: "byte order mark"},
		"not YAML":          {file: "{[", want: "c.yaml"},
		"a list":            {file: "- a\n- b\n", want: "c.yaml"},
		"text for a number": {file: "workers: many\n", want: "workers"},
		"too large number":  {file: "workers: 99999999999999999999\n", want: "workers"},
		"number for a text": {file: "group: 1.10\n", want: "group: 1.1 is no text: put it in quotes"},
		"list for a number": {file: "workers: [1]\n", want: "workers: it is one value (number), not a list"},
		"map for a number":  {file: "workers: {a: 1}\n", want: "workers"},
		"no value":          {file: "workers:\n", want: "workers: it has no value"},
		"value for a group": {file: "retention: 5\n", want: "retention is a group of keys"},
		"two documents":     {file: "workers: 1\n---\nworkers: 2\n", want: "more than one document"},
		"cut list":          {file: "workers: 1\nmasters: [a\n", want: "line 2: "},
		"maybe":             {file: "create: maybe\n", want: `create: "maybe" is neither true nor false`},
		"of the other role": {file: "target: sqlite:x\n", want: "belongs to the other role"},
		"far from all":      {env: "XMQ_FOO=1", want: "--help lists all"},
		"unit missing":      {file: "tick: 5\n", want: "tick"},
		"environment":       {env: "XMQ_WORKRES=3", want: `did you mean "workers"?`},
		"environment value": {env: "XMQ_WORKERS=1e9", want: "XMQ_WORKERS"},
		"duration":          {env: "XMQ_TICK=5", want: "like 500ms"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultBroker()
			s := Source{}
			if c.file != "" {
				s.File = write(t, c.file)
			}
			if c.env != "" {
				s.Env = []string{c.env}
			}
			err := Load(&cfg, s)
			require.ErrorContains(t, err, c.want)
			require.True(t, IsConfig(err))
			require.NotContains(t, err.Error(), "\n", "one line")
		})
	}
	t.Run("empty file", func(t *testing.T) {
		cfg := DefaultBroker()
		require.NoError(t, Load(&cfg, Source{File: write(t, "")}))
		require.Equal(t, DefaultBroker(), cfg)
	})
	t.Run("large file", func(t *testing.T) {
		cfg := DefaultBroker()
		require.ErrorContains(t, Load(&cfg, Source{File: write(t, strings.Repeat("#", MaxFile+1))}), "larger than")
	})
	t.Run("password for everybody", func(t *testing.T) {
		path := write(t, "target: postgres://u:secret@host/db\n")
		node := DefaultNode()
		require.NoError(t, Load(&node, Source{File: path}))
		require.NoError(t, os.Chmod(path, 0o644))
		err := Load(&node, Source{File: path})
		require.ErrorContains(t, err, "password")
		require.NotContains(t, err.Error(), "secret")
	})
	t.Run("required keys", func(t *testing.T) {
		n := DefaultNode()
		_, err := n.Options(nil)
		require.ErrorContains(t, err, "--id")
		n.ID = "n1"
		_, err = n.Options(nil)
		require.ErrorContains(t, err, "--target")
		n.Target, n.Broker = "file:x", "nats://u:secret@h:1,http://u:secret@h"
		_, err = n.Options(nil)
		require.ErrorContains(t, err, "no URL of a NATS server")
		require.NotContains(t, err.Error(), "secret")
		n.Broker, n.Silence = "nats://h:1, tls://g", 0
		_, err = n.Options(nil)
		require.ErrorContains(t, err, "silence")
	})
}

// A file that would cost the parser more than it is worth is refused before the parser sees it.
func TestADeepFileIsRefusedAtOnce(t *testing.T) {
	laughs := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'z'; c++ {
		p := string(c - 1)
		laughs += string(c) + ": &" + string(c) + " [*" + strings.TrimSuffix(strings.Repeat(p+",*", 9), ",*") + "]\n"
	}
	stairs := ""
	for i := range 600 {
		stairs += strings.Repeat(" ", i) + "a:\n"
	}
	for name, text := range map[string]string{"brackets": strings.Repeat("[", MaxFile),
		"braces": strings.Repeat("{", MaxFile), "pairs": strings.Repeat("{a: [", MaxFile/5),
		"entries": strings.Repeat("- ", MaxFile/2), "keys": strings.Repeat("? ", MaxFile/2), "stairs": stairs,
		"tags": strings.Repeat("!!a ", MaxFile/4), "laughs": laughs,
		"in a value":         "hooks:\n  command: " + strings.Repeat("[", 100_000),
		"closed in comments": strings.Repeat("[ # ]\n", MaxFile/7),
		"closed in quotes":   strings.Repeat("[ ']', ", MaxFile/7),
		"mixed":              strings.Repeat("- [", 1) + strings.Repeat("{x: [", 50), "merged": "a: 1\n<<: {b: 1}\n"} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultBroker()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := Load(&cfg, Source{File: write(t, text)})
			runtime.ReadMemStats(&after)
			require.True(t, IsConfig(err), err)
			require.Regexp(t, "nested more than 64|anchors and aliases", err.Error())
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(128<<20), "bytes allocated")
		})
	}
	cfg := DefaultBroker()
	require.NoError(t, Load(&cfg, Source{File: write(t,
		"hooks:\n  command: [a, \"[[[[\", '{{{{']  # [[[[\n# [\nmasters:\n"+strings.Repeat("  - m\n", 1000))}))
	require.Len(t, cfg.Masters, 1000)
}

// Lists keep what stands in them: a comma in a file is a comma.
func TestListsOfAFile(t *testing.T) {
	cfg := DefaultBroker()
	require.NoError(t, Load(&cfg, Source{File: write(t, "hooks:\n  command: [sh, -c, \"a, b\"]\nmasters: one\n")}))
	require.Equal(t, []string{"sh", "-c", "a, b"}, cfg.Hooks.Command)
	require.Equal(t, []string{"one"}, cfg.Masters)
}

// XN-4: "No ZeroMQ door: `door: zeromq` is refused at start."
func TestXN04ThereIsNoZeroMQDoor(t *testing.T) {
	cfg := DefaultBroker()
	require.ErrorContains(t, Load(&cfg, Source{File: write(t, "door: zeromq\n")}), "there is no ZeroMQ door")
}

// What a node cannot work with is named with its value and its bound, as the broker's knobs are.
func TestKnobsOfANodeAreRefusedWithTheirBounds(t *testing.T) {
	for says, change := range map[string]func(*Node){
		"window_records is 0: it must be at least 1":    func(n *Node) { n.WindowRecords = 0 },
		"heartbeat is -1: it must be at least 1":        func(n *Node) { n.Heartbeat = -1 },
		"tick is 0s: it must be longer than 0s":         func(n *Node) { n.Tick = 0 },
		"apply_limit is -1ns: it cannot be negative":    func(n *Node) { n.ApplyLimit = -1 },
		"dump_rate is -1: it cannot be negative":        func(n *Node) { n.DumpRate = -1 },
		"target is missing: give --target, XMQ_TARGET ": func(n *Node) { n.Target = "" },
	} {
		n := DefaultNode()
		n.ID, n.Target = "n1", "sqlite:x"
		change(&n)
		_, err := n.Options(nil)
		require.True(t, IsConfig(err), says)
		require.ErrorContains(t, err, says)
	}
}

// A file that is not there is named once.
func TestAMissingFileIsNamedOnce(t *testing.T) {
	cfg := DefaultBroker()
	err := Load(&cfg, Source{File: "missing.yaml"})
	require.EqualError(t, err, "configuration: missing.yaml: no such file or directory")
}

// XD-26: "each setting has one name; an old name is refused with the new one in the text".
func TestXD26OldNamesAreRefusedWithTheNewOne(t *testing.T) {
	for old, now := range formerly {
		n := DefaultNode()
		err := Load(&n, Source{File: write(t, old+": x\n")})
		require.ErrorContains(t, err, `"`+now+`"`, old)
	}
}

func FuzzConfig(f *testing.F) {
	example, err := os.ReadFile("broker.example.yaml")
	require.NoError(f, err)
	for _, seed := range []string{string(example), "", "a: [1, 2", "retention:\n  max_bytes: 1\n", "retention: 5", "? x",
		"&a [*a]", "workers: !!int 3"} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "c.yaml")
	f.Fuzz(func(t *testing.T, b []byte) {
		require.NoError(t, os.WriteFile(path, b, 0o600))
		cfg := DefaultBroker()
		if err := Load(&cfg, Source{File: path}); err != nil {
			require.True(t, IsConfig(err))
		}
	})
}
