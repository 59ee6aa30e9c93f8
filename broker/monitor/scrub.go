package monitor

import (
	"context"
	"log/slog"
	"time"

	"xmq/increments"
)

// Scrubber reads the whole log slowly, for damage.
type Scrubber struct {
	Log     increments.Log
	Pause   func() time.Duration // between two readings, as it is now; 0: none is made
	Checked func()               // is called after a reading for which everything could be read
	Logger  *slog.Logger
}

// Run reads the whole log again and again, slowly: damage in a sealed segment is found, and the segment set aside,
// before a client needs it. It ends with ctx; changed is closed when
// the knobs change the next time.
func (s *Scrubber) Run(ctx context.Context, changed func() <-chan struct{}) error {
	last, begun := time.Time{}, time.Now()
	for {
		news := changed()
		wait := s.Pause()
		due := last.Add(wait)
		if last.IsZero() {
			due = begun.Add(min(scrubFirst, wait))
		}
		pause := time.NewTimer(time.Until(due))
		if wait == 0 {
			pause.Stop()
		}
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-news:
			pause.Stop()
			continue
		case <-pause.C:
		}
		report, err := s.Log.Check(ctx, 0, func(uint64) {
			select { // about 1,000 records were read
			case <-time.After(scrubPace):
			case <-ctx.Done():
			}
		})
		if err != nil && ctx.Err() == nil {
			s.Logger.Warn("the log cannot be read for damage now", "err", err)
		}
		if err == nil && len(report.Unreadable) == 0 {
			s.Checked()
		}
		for _, f := range report.Unreadable {
			s.Logger.Warn("a segment of the log cannot be read now", "segment", f.Segment, "err", f.Err)
		}
		s.Logger.Debug("the log was read for damage", "records", report.Records, "damaged", len(report.Damaged))
		last = time.Now()
	}
}

// scrubFirst is the longest wait before the first reading, scrubPace the pause after every 1,000 records: at most
// 100,000 a second.
const (
	scrubFirst = time.Minute
	scrubPace  = 10 * time.Millisecond
)
