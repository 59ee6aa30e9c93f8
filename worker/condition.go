package worker

import (
	"cmp"
	"strings"
	"time"

	"xmq/statedb"
)

// Is says in a word what is so with a client: its state, and what keeps it from going on.
type Is string

// What is so. The words are stable in JSON.
const (
	IsFollowing  Is = "following"
	IsRetrying   Is = "retrying"      // its database is away or busy; its node tries again
	IsBlocked    Is = "blocked"       // increments have been at its database for long
	IsHeld       Is = "held"          // its node does not know what the next increment needs
	IsSnapshot   Is = "snapshotting"  // its increments wait until its snapshot is open
	IsLoading    Is = "loading"       // it loads a snapshot
	IsWaiting    Is = "waiting"       // for another node's snapshot
	IsRegistered Is = "registered"    // an operator has named it, and its node has not come
	IsStopped    Is = "stopped"       // its node said goodbye
	IsGone       Is = "gone"          // its node is silent and has not said goodbye
	IsFailed     Is = "failed"        // an increment failed
	IsFatal      Is = "fatal"         // its copy is lost
	IsNeedsDump  Is = "needs_dump"    // it cannot be fed from where it stands
	IsReturning  Is = "returning"     // the broker was started a moment ago, and its node has not come back yet
	IsAbsent     Is = "not_connected" // its node is not there, and nobody knows since when
)

// Condition is what is so with a client, since when, and what comes next.
type Condition struct {
	Is    Is        `json:"is"`
	Since time.Time `json:"since,omitzero"` // zero when that is not known
	Next  time.Time `json:"next,omitzero"`  // retrying: when its node tries again; zero when that is not known
	By    string    `json:"by,omitempty"`   // whose snapshot it waits for or loads
	Text  string    `json:"text,omitempty"` // blocked: by what, in the words of its node; waiting: why it is not served
}

// Severity is how bad it is that it is so; "" for well.
func (i Is) Severity() statedb.Severity {
	switch i {
	case IsFailed, IsFatal, IsNeedsDump, IsHeld:
		return statedb.Critical
	case IsRetrying, IsBlocked, IsGone, IsAbsent:
		return statedb.Warning
	case IsStopped, IsRegistered:
		return statedb.Note
	}
	return ""
}

// condition is what is so with this client now.
func (m *Machine) condition() Condition {
	c, t := &m.client, m.client.LastError
	since := at(c.Updated)
	if t != nil {
		since = at(t.Began())
	}
	switch { // what only a person or a DUMP ends comes first, then the node that is not there
	case c.Join != nil && m.joinHeard <= m.rules.SilentTicks && c.Join.Opened:
		return Condition{Is: IsLoading, By: c.Join.Target}
	case c.Join != nil && m.joinHeard <= m.rules.SilentTicks:
		return Condition{Is: IsWaiting, By: c.Join.Target}
	case c.State == statedb.Fatal:
		return Condition{Is: IsFatal, Since: since}
	case c.State == statedb.NeedsDump:
		return Condition{Is: IsNeedsDump, Since: since}
	case c.State == statedb.Failed:
		return Condition{Is: IsFailed, Since: since}
	case m.waitsToJoin():
		return Condition{Is: IsWaiting, Since: at(m.joinWait.since), By: m.joinWait.target, Text: m.joinWait.text}
	case c.Registered && !m.presence.open:
		return Condition{Is: IsRegistered, Since: at(c.Created)}
	case c.Join != nil:
		return Condition{Is: IsGone, Since: m.lastWord(int64(m.joinHeard) * int64(m.rules.Tick)), By: c.Join.Target}
	case m.isAway():
		return Condition{Is: IsRetrying, Since: since}
	case !m.presence.open && c.Stopped != 0:
		return Condition{Is: IsStopped, Since: at(c.Stopped)}
	case !m.Connected() && m.presence.awaited && !m.presence.missed():
		return Condition{Is: IsReturning}
	case !m.Connected() && m.presence.expected():
		return Condition{Is: IsGone, Since: m.lastWord(m.presence.silence())}
	case !m.Connected():
		return Condition{Is: IsAbsent}
	case t != nil && t.Class == classHeld:
		return Condition{Is: IsHeld, Since: since}
	case t != nil && t.Class == classRetry:
		return Condition{Is: IsRetrying, Since: since, Next: at(m.nextTry)}
	case m.slow:
		return Condition{Is: IsBlocked, Since: at(m.slowSince), Text: m.slowText}
	case c.State == statedb.Draining || c.State == statedb.Dumping:
		return Condition{Is: IsSnapshot}
	}
	return Condition{Is: IsFollowing}
}

// lastWord is when the node was last heard; where no record says it, what its silence in ns comes to.
func (m *Machine) lastWord(silence int64) time.Time {
	if m.client.Heard != 0 {
		return at(m.client.Heard)
	}
	return at(m.now - silence)
}

// isAway reports that the node lives and waits for its database, without a session.
func (m *Machine) isAway() bool {
	t := m.client.LastError
	return !m.waiting.Zero() && !m.presence.open && !m.presence.missed() && t != nil && t.Class == classRetry
}

// Placed reports that the client's position is known: its lag is a number.
func (v *View) Placed() bool { return v.Lag != nil }

// at is ns since 1970 as the outside reads it; the zero time for 0.
func at(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// ByTrouble orders views as people look for them: the worst first, of equals who is farthest behind.
func ByTrouble(a, b View) int {
	lag := func(v *View) uint64 {
		if v.Lag == nil {
			return 0
		}
		return *v.Lag
	}
	return cmp.Or(cmp.Compare(b.Condition.Is.Severity().Rank(), a.Condition.Is.Severity().Rank()),
		cmp.Compare(lag(&b), lag(&a)), strings.Compare(a.ID, b.ID))
}
