package server

import (
	"slices"
	"strings"
)

// Reloaded are the knobs that Reload changes, by their names in a configuration file; one that ends with a point
// stands for all behind it.
var Reloaded = []string{"alerts_keep", "dump_limit", "hooks.", "max_dumps", "max_records", "retention.",
	"snapshot_reuse", "snapshot_ttl", "watch."}

// Reloads reports whether Reload changes the knob.
func Reloads(key string) bool {
	return slices.ContainsFunc(Reloaded,
		func(r string) bool { return r == key || strings.HasSuffix(r, ".") && strings.HasPrefix(key, r) })
}

// knobs is what the broker runs with now.
func (b *Broker) knobs() *Config { return b.live.Load() }

// Reload takes over from cfg what Reloaded names; everything else stays as it was at the start. On an error, which
// says in one sentence what is wrong with cfg, nothing has changed. It is for concurrent use with everything.
func (b *Broker) Reload(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	now := *b.knobs()
	now.Retention, now.Hooks, now.Watch = cfg.Retention, cfg.Hooks, cfg.Watch
	now.AlertsKeep = cfg.AlertsKeep
	now.SnapshotTTL = cfg.SnapshotTTL
	now.SnapshotReuse = cfg.SnapshotReuse
	now.MaxDumps = cfg.MaxDumps
	now.DumpLimit = cfg.DumpLimit
	if now.MaxRecords != cfg.MaxRecords {
		now.MaxRecords = cfg.MaxRecords
		b.log.Info("segments of the log get another size", "max_records", cfg.MaxRecords, "open segment ends with",
			b.stores.log.Resize(uint64(cfg.MaxRecords)))
	}
	b.live.Store(&now)
	b.stores.knobs.Store(&now)
	b.hooks.Configure(now.Hooks)
	b.stores.state.KeepEvents(now.AlertsKeep)
	b.changed.ring()
	return nil
}
