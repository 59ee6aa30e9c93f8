package server

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"xmq/broker/event"
	"xmq/broker/monitor"
	"xmq/broker/secret"
	"xmq/statedb"
)

// Config is every knob of a broker. Default fills in the defaults, Validate says in one sentence what is wrong.
// Package configs loads it from YAML, environment and flags under the names in the tags; Meanings are what flags and
// example files say.
type Config struct {
	Data   string `yaml:"data"`
	Create bool   `yaml:"create"`
	// SetAside is an order of the moment: a sealed segment that is sound is not touched by it.
	SetAside bool `yaml:"set_aside"`

	Group string `yaml:"group"`

	NATSAddr  string   `yaml:"nats_addr"`
	NATSURL   string   `yaml:"nats_url"`
	HTTPAddr  string   `yaml:"http_addr"`
	HTTPHosts []string `yaml:"http_hosts"`
	HTTPAlias string   `yaml:"http_alias"`
	RESPAddr  string   `yaml:"resp_addr"`
	Pprof     string   `yaml:"pprof"`

	HTTPConns           int   `yaml:"http_conns"`
	HTTPConnsPerAddress int   `yaml:"http_conns_per_address"`
	NATSConnsPerAddress int   `yaml:"nats_conns_per_address"`
	InflightBytes       int64 `yaml:"inflight_bytes"`

	Insecure bool `yaml:"insecure_i_know"`

	Workers int      `yaml:"workers"`
	Masters []string `yaml:"masters"`
	// MaxClients bounds records: those that are there stay when it is lowered.
	MaxClients int `yaml:"max_clients"`

	MaxIncrement int   `yaml:"max_increment"`
	QueueCount   int   `yaml:"queue_count"`
	QueueBytes   int   `yaml:"queue_bytes"`
	RingBytes    int   `yaml:"ring_bytes"`
	MemoryLimit  int64 `yaml:"memory_limit"`
	TurnRecords  int   `yaml:"turn_records"`
	TurnBytes    int   `yaml:"turn_bytes"`
	MaxRecords   int64 `yaml:"max_records"`

	Tick          time.Duration `yaml:"tick"`
	Silent        time.Duration `yaml:"silent"`
	Lease         time.Duration `yaml:"lease"`
	DumpLimit     time.Duration `yaml:"dump_limit"`
	MaxDumps      int           `yaml:"max_dumps"`
	SnapshotTTL   time.Duration `yaml:"snapshot_ttl"`
	SnapshotReuse bool          `yaml:"snapshot_reuse"`
	SaveEvery     time.Duration `yaml:"save_every"`

	Idempotency Idempotency `yaml:"idempotency"`

	AlertsKeep int `yaml:"alerts_keep"`

	Retention monitor.Retention `yaml:"retention"`
	Hooks     monitor.Hooks     `yaml:"hooks"`
	Watch     monitor.Watch     `yaml:"watch"`
}

// Meanings say what each knob does: the texts of the flags and of the example files.
func (Config) Meanings() map[string]string {
	return map[string]string{
		"data": "directory of the log, the state store and staging",
		"create": "make a new log when the directory is empty; false refuses an emptied disk, and xmq init makes " +
			"the log",
		"set_aside": "start although a sealed segment of the log is damaged, and go on without its increments",
		"group":     "name of this broker's subjects; brokers in one NATS cluster need different ones",
		"nats_addr": "address of the embedded NATS server",
		"nats_url":  "URL of an external NATS server; empty for the embedded one",
		"http_addr": "address of the HTTP door and the API",
		"http_hosts": "further host names that requests to the HTTP door and the API may carry, besides localhost, " +
			"addresses and the name in http_addr",
		"http_alias": "a further path for increments, like POST /v1/increments; empty for none",
		"resp_addr":  "address of the RESP door; not in this version",
		"pprof":      "address such as 127.0.0.1:6060 of profiles under /debug/pprof/; empty for none",
		"http_conns": "most connections to the HTTP door, the API and the profiles together; 0 for as many as " +
			"files may be open",
		"http_conns_per_address": "most connections of http_conns that one address may hold, loopback included; 0 " +
			"for no limit",
		"nats_conns_per_address": "most connections to the embedded NATS server from one address, loopback " +
			"included; 0 for no limit",
		"inflight_bytes": "most bytes of requests under way at all doors together; 0 for a quarter of memory_limit",
		"insecure_i_know": "listen on addresses that other machines reach, although whoever reaches them may do " +
			"everything: for a network that is yours alone",
		"workers":       "goroutines that serve the clients",
		"masters":       "client IDs that may start without a DUMP",
		"max_clients":   "clients that this broker knows at most, over all workers; 0 for no limit",
		"max_increment": "largest body of an increment in bytes",
		"queue_count":   "most increments that wait to be written to the log",
		"queue_bytes":   "most bytes that wait to be written to the log",
		"ring_bytes": "bytes of memory that hold the newest increments, so that they are sent without reading the " +
			"disk; 0 for an eighth of memory_limit",
		"memory_limit": "memory this broker may take in bytes: a quarter is for what is under way to nodes, ring " +
			"and queue have at most a half",
		"turn_records": "most increments sent to one client before the next client has its turn",
		"turn_bytes":   "most bytes sent to one client before the next client has its turn",
		"max_records": "increments in one segment of the log, the grain of retention; a segment that holds as many " +
			"ends at the next increment",
		"tick":   "how often the broker looks for what is due of each client: repetitions, leases, limits of time",
		"silent": "a client not heard of for so long is shown as not connected",
		"lease": "how long a DUMP's target may say nothing of it before the DUMP is given up; its requesters may " +
			"be silent three times as long",
		"dump_limit": "a DUMP that takes longer is given up; 0 for never",
		"max_dumps":  "most DUMPs that run at once; who wants one more asks again later",
		"snapshot_ttl": "a complete snapshot is kept for so long: for requesters that come back, and for those " +
			"that may use it again",
		"snapshot_reuse": "a complete snapshot that is kept serves later requesters, too; false opens a new one " +
			"for each, unless its node says --reuse",
		"save_every": "acked positions are written down at least so often",
		"alerts_keep": "rows of the timeline that are kept: alerts raised and cleared, orders, clients, DUMPs, " +
			"starts and stops (xmq events)",
	}
}

// Idempotency says how long a repetition is known.
type Idempotency struct {
	Window int64 `yaml:"window"`
}

// Meanings say what each knob does: the texts of the flags and of the example files.
func (Idempotency) Meanings() map[string]string {
	return map[string]string{
		"window": "increments for which an idempotency key is known, whatever retention frees; the index takes up " +
			"to 100 bytes of disk for each",
	}
}

// Default is the configuration of a broker that is told nothing.
func Default() Config {
	return Config{
		Data: "xmq-data", Create: true, Group: "main",
		NATSAddr: "127.0.0.1:4222", HTTPAddr: "127.0.0.1:8420",
		HTTPConns: 512, HTTPConnsPerAddress: 128, NATSConnsPerAddress: 64,
		Workers: 4, Masters: []string{"master"}, MaxClients: 1024,
		MaxIncrement: 1 << 20, QueueCount: 65536, QueueBytes: 64 << 20, MemoryLimit: 512 << 20,
		TurnRecords: 2048, TurnBytes: 256 << 10, MaxRecords: 2_000_000,
		Tick: time.Second, Silent: 15 * time.Second, Lease: 15 * time.Second, DumpLimit: 24 * time.Hour, MaxDumps: 4,
		SnapshotTTL: 10 * time.Minute, SaveEvery: 200 * time.Millisecond,
		Idempotency: Idempotency{Window: 5_000_000},
		Retention:   monitor.Retention{Every: 2 * time.Second, KeepAge: time.Hour, MaxBytes: -1, PinAlert: 10_000_000},
		AlertsKeep:  statedb.DefaultEvents,
		Hooks:       monitor.Hooks{Timeout: 5 * time.Second, Repeat: time.Hour},
		Watch: monitor.Watch{Every: time.Second, Scrub: 24 * time.Hour, SlowSync: 100 * time.Millisecond,
			Lag: 5 * time.Minute, Stopped: 10 * time.Minute, Backup: 7 * 24 * time.Hour, Checked: 7 * 24 * time.Hour,
			Ballast: true, MinFree: -1},
	}
}

// ring is how many bytes the newest increments may take.
func (c *Config) ring() int {
	if c.RingBytes == 0 {
		return int(c.MemoryLimit / 8)
	}
	return c.RingBytes
}

// inflight is how many bytes of requests may be under way.
func (c *Config) inflight() int64 {
	if c.InflightBytes == 0 {
		return c.MemoryLimit / 4
	}
	return c.InflightBytes
}

// Validate checks everything that can be checked without opening anything. Host names of addresses to listen on are
// resolved, which takes at most 5 s each.
func (c *Config) Validate() error {
	positive := []struct {
		name  string
		value int64
	}{
		{"workers", int64(c.Workers)}, {"max_increment", int64(c.MaxIncrement)}, {"queue_count", int64(c.QueueCount)},
		{"queue_bytes", int64(c.QueueBytes)}, {"turn_records", int64(c.TurnRecords)},
		{"turn_bytes", int64(c.TurnBytes)}, {"max_records", c.MaxRecords}, {"idempotency.window", c.Idempotency.Window},
		{"max_dumps", int64(c.MaxDumps)}, {"alerts_keep", int64(c.AlertsKeep)},
	}
	for _, p := range positive {
		if p.value < 1 {
			return fmt.Errorf("%s is %d: it must be at least 1", p.name, p.value)
		}
	}
	for name, d := range map[string]time.Duration{"tick": c.Tick, "save_every": c.SaveEvery,
		"retention.every": c.Retention.Every,
		"hooks.timeout":   c.Hooks.Timeout, "watch.every": c.Watch.Every} {
		if d <= 0 {
			return fmt.Errorf("%s is %s: it must be longer than 0s", name, d)
		}
	}
	for name, d := range map[string]time.Duration{"dump_limit": c.DumpLimit, "snapshot_ttl": c.SnapshotTTL,
		"retention.max_age": c.Retention.MaxAge, "retention.keep_age": c.Retention.KeepAge,
		"retention.max_absence": c.Retention.MaxAbsence, "watch.scrub": c.Watch.Scrub, "hooks.repeat": c.Hooks.Repeat,
		"watch.lag": c.Watch.Lag, "watch.stopped": c.Watch.Stopped, "watch.slow_sync": c.Watch.SlowSync,
		"watch.backup": c.Watch.Backup, "watch.checked": c.Watch.Checked} {
		if d < 0 {
			return fmt.Errorf("%s is %s: it cannot be negative", name, d)
		}
	}
	for name, v := range map[string]int64{"max_clients": int64(c.MaxClients), "ring_bytes": int64(c.RingBytes),
		"retention.max_records": c.Retention.MaxRecords, "retention.keep_records": c.Retention.KeepRecords,
		"retention.pin_alert": c.Retention.PinAlert, "http_conns": int64(c.HTTPConns),
		"http_conns_per_address": int64(c.HTTPConnsPerAddress),
		"nats_conns_per_address": int64(c.NATSConnsPerAddress), "inflight_bytes": c.InflightBytes} {
		if v < 0 {
			return fmt.Errorf("%s is %d: it cannot be negative", name, v)
		}
	}
	need := 2 * (int64(c.QueueBytes) + int64(c.RingBytes))
	if c.RingBytes == 0 { // the ring grows with the limit
		need = (8*int64(c.QueueBytes) + 2) / 3
	}
	if c.MemoryLimit < need {
		return fmt.Errorf("memory_limit is %d: it must be at least twice queue_bytes and ring_bytes together, which is %d",
			c.MemoryLimit, need)
	}
	if c.InflightBytes > c.MemoryLimit/2 {
		return fmt.Errorf("inflight_bytes is %d: it must be at most half of memory_limit, which is %d", c.InflightBytes,
			c.MemoryLimit/2)
	}
	if most := max(c.MaxIncrement, 1<<20); c.TurnBytes > most {
		return fmt.Errorf("turn_bytes is %d: it must be at most %d, so that a NATS server which carries an increment "+
			"carries a turn", c.TurnBytes, most)
	}
	if c.Data == "" {
		return fmt.Errorf("data is empty: name a directory")
	}
	if c.Workers > 1024 {
		return fmt.Errorf("workers is %d: it must be at most 1024", c.Workers)
	}
	if c.MaxIncrement > 8<<20 {
		return fmt.Errorf("max_increment is %d: it must be at most %d", c.MaxIncrement, 8<<20)
	}
	if c.Silent < 2*c.Tick || c.Lease < 2*c.Tick {
		return fmt.Errorf("silent (%s) and lease (%s) must be at least two ticks (%s)", c.Silent, c.Lease, c.Tick)
	}
	if c.RESPAddr != "" {
		return fmt.Errorf("resp_addr is %q, but this version has no RESP door: leave it empty", c.RESPAddr)
	}
	if c.HTTPAlias != "" && (c.HTTPAlias[0] != '/' || strings.ContainsAny(c.HTTPAlias, "{} ")) {
		return fmt.Errorf("http_alias is %q: it must be a plain path like /publicentry", c.HTTPAlias)
	}
	if a := c.HTTPAlias; a == "/" || strings.HasPrefix(a, "/v1") || a == "/healthz" || a == "/readyz" || a == "/metrics" ||
		strings.HasSuffix(a, "/") && a != "" {
		return fmt.Errorf("http_alias is %q: that path is the API's own, or ends with a slash", c.HTTPAlias)
	}
	if c.Retention.MaxBytes < -1 {
		return fmt.Errorf("retention.max_bytes is %d: it must be -1, 0 or a number of bytes", c.Retention.MaxBytes)
	}
	if c.Watch.MinFree < -1 {
		return fmt.Errorf("watch.min_free is %d: it must be -1, 0 or a number of bytes", c.Watch.MinFree)
	}
	if u, err := url.Parse(c.Hooks.URL); c.Hooks.URL != "" &&
		(err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		return fmt.Errorf("hooks.url is %q: it must be a URL like http://127.0.0.1:9000/alerts", secret.URL(c.Hooks.URL))
	}
	if err := event.CheckID(c.Group); err != nil {
		return fmt.Errorf("group: %w", err)
	}
	for _, m := range c.Masters {
		if err := event.CheckID(m); err != nil {
			return fmt.Errorf("masters: %w", err)
		}
	}
	for _, h := range c.HTTPHosts {
		if h == "" || strings.ContainsAny(h, "/:*[]@ \t") {
			return fmt.Errorf("http_hosts holds %q: it must be a name alone, without scheme and port, such as "+
				"broker1.example.com", h)
		}
	}
	for name, addr := range map[string]string{"nats_addr": c.NATSAddr, "http_addr": c.HTTPAddr, "pprof": c.Pprof} {
		if name == "nats_addr" && c.NATSURL != "" || name == "pprof" && addr == "" {
			continue
		}
		_, port, err := net.SplitHostPort(addr)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n > 65535 {
			return fmt.Errorf("%s is %q: it must be HOST:PORT with a port up to 65535", name, addr)
		}
		if !c.Insecure {
			if err := reached(name, addr); err != nil {
				return err
			}
		}
	}
	return nil
}
