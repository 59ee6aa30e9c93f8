package configs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"xmq/broker/secret"
	"xmq/broker/server"
	"xmq/nodeclient"
)

// Broker is what `xmq broker` is told.
type Broker struct {
	server.Config `yaml:",inline"`
	Accept        string `yaml:"accept"`
	LogLevel      string `yaml:"log_level"`
}

// Meanings say what each knob does: the texts of the flags and of the example files.
func (Broker) Meanings() map[string]string {
	return map[string]string{
		"accept": "refuse, with 422, what the nodes of this dialect would refuse: sqlite, postgres, mariadb or " +
			"mysql; empty takes anything",
		"log_level": "least severe messages on stderr: debug, info, warn or error",
	}
}

// DefaultBroker is a broker that is told nothing.
func DefaultBroker() Broker { return Broker{Config: server.Default(), LogLevel: "info"} }

// Node is what `xmq node` is told.
type Node struct {
	ID                 string   `yaml:"id"`
	Broker             string   `yaml:"broker"`
	Group              string   `yaml:"group"`
	Target             string   `yaml:"target"`
	TargetPasswordFile string   `yaml:"target_password_file"`
	Topics             []string `yaml:"topics"`
	Data               string   `yaml:"data"`

	From       string `yaml:"from"`
	Replace    bool   `yaml:"replace"`
	Rejoin     bool   `yaml:"rejoin"`
	Reuse      bool   `yaml:"reuse"`
	Restore    string `yaml:"restore"`
	At         uint64 `yaml:"at"`
	ExitOnFail bool   `yaml:"exit_on_fail"`

	WindowRecords int           `yaml:"window_records"`
	WindowBytes   int           `yaml:"window_bytes"`
	BatchRecords  int           `yaml:"batch_records"`
	BatchBytes    int           `yaml:"batch_bytes"`
	Tick          time.Duration `yaml:"tick"`
	Heartbeat     int           `yaml:"heartbeat"`
	Silence       int           `yaml:"silence"`
	MaxBackoff    int           `yaml:"max_backoff"`
	Compress      bool          `yaml:"compress"`
	ApplyLimit    time.Duration `yaml:"apply_limit"`
	DumpRate      int64         `yaml:"dump_rate"`
	LogLevel      string        `yaml:"log_level"`
}

// Meanings say what each knob does: the texts of the flags and of the example files.
func (Node) Meanings() map[string]string {
	return map[string]string{
		"id":     "this node's name: 1 to 31 lower-case letters, digits, hyphens (required)",
		"broker": "URL of the broker's NATS server",
		"group":  "name of the broker's subjects: the group of its configuration",
		"target": "the database: sqlite:PATH, postgres://USER@HOST:PORT/DATABASE, mysql://USER@HOST:PORT/DATABASE, " +
			"redis://USER@HOST:PORT/NUMBER, kv:PATH, file:PATH, webhook:URL or exec:COMMAND (required)",
		"target_password_file": "a file whose first line is the password of the target URL, which then has a user " +
			"and no password",
		"topics": "apply only increments of these topics; empty for all",
		"data": "where earlier builds looked for relative paths; what lies there alone is still taken, with a " +
			"warning",
		"from":           "join by DUMP from this node when the database is empty or the broker says so",
		"replace":        "a DUMP may replace a database that is not a copy of this log",
		"rejoin":         "with from: DUMP again when the broker says so; false stops the node instead",
		"reuse":          "with from: a complete snapshot the broker keeps will do; false wants a new one",
		"restore":        "load this backup file (xmq dump) into an empty database before starting",
		"at":             "explicit position: the next increment applied is this one; 0 for none",
		"exit_on_fail":   "end with code 1 when an increment fails, rather than wait for an operator",
		"window_records": "most increments sent by the broker and not yet applied; more hides latency, costs memory",
		"window_bytes":   "most bytes sent by the broker and not yet applied",
		"batch_records":  "most increments in one transaction",
		"batch_bytes":    "most bytes in one transaction",
		"tick":           "length of one tick, the unit of heartbeat, silence and max_backoff",
		"heartbeat":      "ticks between heartbeats",
		"silence":        "ticks of the broker's silence after which a new session is opened",
		"max_backoff":    "longest wait in ticks between tries of a DUMP or of the database",
		"compress":       "get increments compressed: for a node on a slow line",
		"apply_limit": "how long one increment may be at the database before it is a FAIL, unless it names a limit " +
			"itself; 0 for no limit; webhook: and exec: have a timeout of their own",
		"dump_rate": "bytes a second of a snapshot sent or fetched; 0 for no limit",
		"log_level": "least severe messages on stderr: debug, info, warn or error",
	}
}

// DefaultNode is a node that is told nothing; id and target have no default.
func DefaultNode() Node {
	return Node{Broker: "nats://127.0.0.1:4222", Group: nodeclient.DefaultGroup, Data: ".", Rejoin: true,
		WindowRecords: 262144, WindowBytes: 32 << 20, BatchRecords: 1000, BatchBytes: 4 << 20,
		Tick: time.Second, Heartbeat: 5, Silence: 30, MaxBackoff: 30, ApplyLimit: time.Minute, LogLevel: "info"}
}

// Options is what the library takes of n. Driver is set by whoever opens the target.
func (n *Node) Options(log *slog.Logger) (nodeclient.Options, error) {
	for _, required := range []struct{ key, value string }{{"id", n.ID}, {"target", n.Target}, {"broker", n.Broker}} {
		if required.value == "" {
			return nodeclient.Options{}, fmt.Errorf("%w: %s is missing: give --%s, %s or the key in a file", ErrConfig,
				required.key, required.key, "XMQ_"+strings.ToUpper(required.key))
		}
	}
	if err := CheckNATS(n.Broker); err != nil {
		return nodeclient.Options{}, fmt.Errorf("%w: broker: %w", ErrConfig, err)
	}
	for _, knob := range []struct {
		key   string
		value int
	}{{"window_records", n.WindowRecords}, {"window_bytes", n.WindowBytes}, {"batch_records", n.BatchRecords},
		{"batch_bytes", n.BatchBytes}, {"heartbeat", n.Heartbeat}, {"silence", n.Silence}, {"max_backoff", n.MaxBackoff}} {
		if knob.value < 1 {
			return nodeclient.Options{}, fmt.Errorf("%w: %s is %d: it must be at least 1", ErrConfig, knob.key, knob.value)
		}
	}
	if n.Tick <= 0 {
		return nodeclient.Options{}, fmt.Errorf("%w: tick is %s: it must be longer than 0s", ErrConfig, n.Tick)
	}
	if n.ApplyLimit < 0 {
		return nodeclient.Options{}, fmt.Errorf("%w: apply_limit is %s: it cannot be negative", ErrConfig, n.ApplyLimit)
	}
	if n.DumpRate < 0 {
		return nodeclient.Options{}, fmt.Errorf("%w: dump_rate is %d: it cannot be negative", ErrConfig, n.DumpRate)
	}
	return nodeclient.Options{Group: n.Group, ID: n.ID, Topics: n.Topics, From: n.From, Replace: n.Replace, Reuse: n.Reuse,
		Stay: !n.Rejoin, At: n.At,
		ExitOnFail: n.ExitOnFail, WindowRecords: n.WindowRecords, WindowBytes: n.WindowBytes, BatchRecords: n.BatchRecords,
		BatchBytes: n.BatchBytes,
		Tick:       n.Tick, Heartbeat: n.Heartbeat, Silence: n.Silence, MaxBackoff: n.MaxBackoff, Compress: n.Compress,
		DumpRate: n.DumpRate, ApplyLimit: n.ApplyLimit, Log: log}, nil
}

// CheckNATS refuses what is no URL of a NATS server, or no list of them with commas.
func CheckNATS(list string) error {
	for one := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" && u.Scheme != "ws" && u.Scheme != "wss" {
			return fmt.Errorf("%q is no URL of a NATS server: write it like nats://127.0.0.1:4222", secret.URL(one))
		}
	}
	return nil
}

// Logger writes to w what level lets through. When w is a terminal or not, the lines are the same.
func Logger(w io.Writer, level string) (*slog.Logger, error) {
	log, _, err := LeveledLogger(w, level)
	return log, err
}

// LeveledLogger is Logger with the level, which may be changed at any time.
func LeveledLogger(w io.Writer, level string) (*slog.Logger, *slog.LevelVar, error) {
	l := new(slog.LevelVar)
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, nil, fmt.Errorf("%w: log_level is %q: it must be debug, info, warn or error", ErrConfig, level)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), l, nil
}

// WriteExample writes an example file for cfg as it stands: every key with its value, unit and meaning.
func WriteExample(w io.Writer, title string, cfg any) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n# Every key stands here with its default. Environment: XMQ_ and the key in capitals; "+
		"command line: --key-with-hyphens.\n"+
		"# Relative paths lie in the folder in which the process was started, wherever they are written and wherever this "+
		"file lies.\n", title)
	group := ""
	for _, f := range Fields(cfg) {
		key, indent := f.Key, ""
		if g, rest, nested := strings.Cut(f.Key, "."); nested {
			if g != group {
				fmt.Fprintf(&b, "\n%s:\n", g)
			}
			group, key, indent = g, rest, "  "
		}
		fmt.Fprintf(&b, "\n%s# %s (%s)\n%s%s: %s\n", indent, f.Doc, f.Kind(), indent, key, f.Value())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// IsConfig reports whether err is of the configuration: exit code 78.
func IsConfig(err error) bool { return errors.Is(err, ErrConfig) || errors.Is(err, server.ErrConfig) }
