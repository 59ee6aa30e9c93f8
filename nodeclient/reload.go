package nodeclient

import (
	"slices"
	"time"
)

// reloaded are the knobs that Reload changes, by their names in a configuration file.
var reloaded = []string{"apply_limit", "batch_bytes", "batch_records", "dump_rate", "exit_on_fail", "rejoin"}

// Reloads reports whether Reload changes the knob.
func Reloads(key string) bool { return slices.Contains(reloaded, key) }

// live are the options that can change while an agent runs.
type live struct {
	applyLimit               time.Duration
	dumpRate                 int64
	batchRecords, batchBytes int
	exitOnFail, stay         bool
}

func (o *Options) live() *live {
	return &live{applyLimit: o.ApplyLimit, dumpRate: o.DumpRate, batchRecords: o.BatchRecords, batchBytes: o.BatchBytes,
		exitOnFail: o.ExitOnFail, stay: o.Stay}
}

// Reload takes over from o what Reloads names; everything else stays as it was at the start. What is at the database,
// and a snapshot on its way, go on as they began. On an error, which says in one sentence what is wrong with o,
// nothing has changed. It is for concurrent use with everything.
func (a *Agent) Reload(o Options) error {
	o, err := o.WithDefaults()
	if err != nil {
		return err
	}
	a.live.Store(o.live())
	select {
	case a.reloaded <- struct{}{}:
	default:
	}
	return nil
}

// obey lets the session follow the options of now.
func (a *Agent) obey(s *session) {
	l := a.live.Load()
	s.rules.rejoin, s.rules.exitOnFail = !l.stay, l.exitOnFail
	s.rules.batchRecords, s.rules.batchBytes = l.batchRecords, l.batchBytes
	if t, is := a.db.(BatchLimiter); is {
		s.rules.batchRecords = min(s.rules.batchRecords, t.BatchLimit())
	}
}
