package nodeclient

import (
	"context"
	"errors"
	"time"

	"xmq/broker/event"
)

// Blocked is a target that can tell who keeps the Apply that is under way from going on.
type Blocked interface {
	// Blocker says in a few words who that is: "blocked by session 17 (psql, role root, idle in transaction for 50s)".
	// "" when nobody can be seen. It is for people, and holds no secret and no data. Unlike the other methods it is
	// called while Apply runs. It opens and closes a connection of its own and ends with ctx; an error that wraps
	// context.DeadlineExceeded says that the database does not answer that one either.
	Blocker(ctx context.Context) (string, error)
}

// Advancing is a target whose Apply may take several transactions.
type Advancing interface {
	// Durable is the sequence up to which Apply has committed, also while it runs; 0 before the first commit.
	Durable() uint64
}

// When a target is asked who blocks it: from this long after a batch came to the database, and again after each such
// time. And how long it may take to find out.
const (
	lookAfter = 5 * time.Second
	lookTime  = 4 * time.Second
)

// Placed is a target whose data lies on a file system of this machine.
type Placed interface {
	// Space is how much of it is free and how much there is, in bytes. It is called while Apply runs.
	Space() (free, total uint64, err error)
}

// spaceTicks is how many ticks lie between two looks at the disk of the database.
const spaceTicks = 10

// measure looks how full the disk of the database is, beside everything else.
func (a *Agent) measure(work context.Context) {
	t, is := a.db.(Placed)
	if !is || a.measuring {
		return
	}
	if a.toMeasure--; a.toMeasure > 0 {
		return
	}
	a.measuring, a.toMeasure = true, spaceTicks
	a.running.Go(func() {
		free, total, err := t.Space()
		a.tell(work, func(s *session) {
			if a.measuring = false; err == nil && total > 0 {
				s.disk = &event.Disk{Free: free, Total: total}
			}
		})
	})
}

// look asks the target who blocks it, beside the Apply that is under way: the loop waits for nothing. One question at a
// time.
func (a *Agent) look(work context.Context, s *session) {
	if t, is := a.db.(Advancing); is {
		s.advanced(t.Durable())
	}
	t, is := a.db.(Blocked)
	if !is || a.asking || !s.wonders() {
		return
	}
	a.asking = true
	batch := s.batch
	a.running.Go(func() {
		ctx, cancel := context.WithTimeout(work, lookTime)
		defer cancel()
		who, err := t.Blocker(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			who = "and the database does not answer a second connection either"
		}
		a.tell(work, func(s *session) {
			a.asking = false
			if s.batch == batch && len(s.atDatabase) > 0 && (err == nil || who != "") {
				s.blocker = who
			}
		})
	})
}

// advanced takes note that a part of what is at the database is durable: only the rest is slow, since now, and the
// broker hears of it before the outcome of all comes.
func (s *session) advanced(seq uint64) {
	n := s.durable
	for n < len(s.atDatabase) && s.atDatabase[n].Pos.Seq <= seq {
		n++
	}
	if n > s.durable && n < len(s.atDatabase) { // with the last one the outcome comes
		s.durable, s.atDatabaseTicks, s.blocker = n, 0, ""
		if s.phase == following {
			s.report(event.NoCode)
		}
	}
}

// stands is the position that is durable: further than pos while a part of what is at the database is.
func (s *session) stands() event.Position {
	if s.durable > 0 && len(s.atDatabase) > 0 {
		return s.atDatabase[s.durable-1].Pos
	}
	return s.pos
}

// wonders reports that it is time to ask who blocks the database.
func (s *session) wonders() bool {
	every := max(1, int(lookAfter/s.rules.tick))
	return len(s.atDatabase) > 0 && s.atDatabaseTicks >= every && s.atDatabaseTicks%every == 0
}
