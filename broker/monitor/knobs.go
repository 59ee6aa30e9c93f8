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
	Every       time.Duration `yaml:"every" doc:"how often retention looks for segments to delete"`
	KeepRecords int64         `yaml:"keep_records" doc:"keep so many of the newest increments when everybody has them; xmq log trim frees them"`
	KeepAge     time.Duration `yaml:"keep_age" doc:"how long to keep what everybody has; xmq log trim frees it"`
	MaxRecords  int64         `yaml:"max_records" doc:"keep at most so many increments; 0 for no limit"`
	MaxBytes    int64         `yaml:"max_bytes" doc:"keep at most so many bytes: beyond it the client that holds them must DUMP again, or input is refused when its is the last copy; -1 for half of the disk at the first start, 0 for no limit"`
	MaxAge      time.Duration `yaml:"max_age" doc:"keep increments at most so long; 0 for no limit"`
	MaxAbsence  time.Duration `yaml:"max_absence" doc:"a client silent for longer holds nothing any more; 0 for no limit"`
	PinAlert    int64         `yaml:"pin_alert" doc:"alert when one client, DUMP or reader keeps so many increments from being deleted; 0 for never"`
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
	Every    time.Duration `yaml:"every" doc:"how often disk and stores are looked at"`
	Scrub    time.Duration `yaml:"scrub" doc:"pause between two slow readings of the log that look for damage; 0 for none"`
	SlowSync time.Duration `yaml:"slow_sync" doc:"alert when one sync in 100 of the log's disk takes longer; 0 for never"`
	Lag      time.Duration `yaml:"lag" doc:"alert when a client is behind for longer; 0 for never"`
	Stopped  time.Duration `yaml:"stopped" doc:"alert when a stopped node has not come back for so long; 0 for never"`
	Backup   time.Duration `yaml:"backup" doc:"note when nobody has taken a backup with xmq dump for so long; 0 for never"`
	Checked  time.Duration `yaml:"checked" doc:"note when the log has not been read for damage for so long; 0 for never"`
	Ballast  bool          `yaml:"ballast" doc:"keep 64 MiB in reserve, so that a full disk can be started from"`
	MinFree  int64         `yaml:"min_free" doc:"bytes to leave free on the disk; -1 for the larger of 5 % and 256 MiB"`
}
