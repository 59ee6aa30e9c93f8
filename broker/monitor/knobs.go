package monitor

import "time"

// Knobs are what an operator has set, as it is now.
type Knobs struct {
	Retention  Retention
	Watch      Watch
	MaxRecords int64 // increments in one segment of the log
}

// Retention says when segments of the log are freed. Whole segments go, oldest first, when every client and
// every DUMP has passed them. The limits free them even when a client still needs them: that client must DUMP again.
type Retention struct {
	Every       time.Duration `yaml:"every"`
	KeepRecords int64         `yaml:"keep_records"`
	KeepAge     time.Duration `yaml:"keep_age"`
	MaxRecords  int64         `yaml:"max_records"`
	MaxBytes    int64         `yaml:"max_bytes"`
	MaxAge      time.Duration `yaml:"max_age"`
	MaxAbsence  time.Duration `yaml:"max_absence"`
	PinAlert    int64         `yaml:"pin_alert"`
}

// Meanings say what each knob does: the texts of the flags and of the example files.
func (Retention) Meanings() map[string]string {
	return map[string]string{
		"every":        "how often retention looks for segments to delete",
		"keep_records": "keep so many of the newest increments when everybody has them; xmq log trim frees them",
		"keep_age":     "how long to keep what everybody has; xmq log trim frees it",
		"max_records":  "keep at most so many increments; 0 for no limit",
		"max_bytes": "keep at most so many bytes: beyond it the client that holds them must DUMP again, or input " +
			"is refused when its is the last copy; -1 for half of the disk at the first start, 0 for no limit",
		"max_age":     "keep increments at most so long; 0 for no limit",
		"max_absence": "a client silent for longer holds nothing any more; 0 for no limit",
		"pin_alert": "alert when one client, DUMP or reader keeps so many increments from being deleted; 0 for " +
			"never",
	}
}

// SilenceGrain is how often the silence of a client that is away is written down.
func (r *Retention) SilenceGrain() time.Duration {
	if r.MaxAbsence > 0 {
		return min(r.MaxAbsence/20, 10*time.Minute)
	}
	return 10 * time.Minute
}

// Watch says when the broker refuses input to save itself.
type Watch struct {
	Every    time.Duration `yaml:"every"`
	Scrub    time.Duration `yaml:"scrub"`
	SlowSync time.Duration `yaml:"slow_sync"`
	Lag      time.Duration `yaml:"lag"`
	Stopped  time.Duration `yaml:"stopped"`
	Backup   time.Duration `yaml:"backup"`
	Checked  time.Duration `yaml:"checked"`
	Ballast  bool          `yaml:"ballast"`
	MinFree  int64         `yaml:"min_free"`
}

// Meanings say what each knob does: the texts of the flags and of the example files.
func (Watch) Meanings() map[string]string {
	return map[string]string{
		"every":     "how often disk and stores are looked at",
		"scrub":     "pause between two slow readings of the log that look for damage; 0 for none",
		"slow_sync": "alert when one sync in 100 of the log's disk takes longer; 0 for never",
		"lag":       "alert when a client is behind for longer; 0 for never",
		"stopped":   "alert when a stopped node has not come back for so long; 0 for never",
		"backup":    "note when nobody has taken a backup with xmq dump for so long; 0 for never",
		"checked":   "note when the log has not been read for damage for so long; 0 for never",
		"ballast":   "keep 64 MiB in reserve, so that a full disk can be started from",
		"min_free":  "bytes to leave free on the disk; -1 for the larger of 5 % and 256 MiB",
	}
}
