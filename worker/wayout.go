package worker

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"xmq/broker/event"
	"xmq/statedb"
)

// Way is what kind of end there is to what a refusal or an alert tells of. The words are stored with alerts.
type Way string

// The ways out.
const (
	WayNone    Way = ""        // the text says itself what to do
	WayEmpty   Way = "empty"   // its database is empty, and the log cannot be applied from its beginning
	WayTrimmed Way = "trimmed" // its data is of this log, which cannot feed it from there any more
	WayLost    Way = "lost"    // its copy is lost: its position is gone, or of another hand
	WayOther   Way = "other"   // its data is of another history
	WayAhead   Way = "ahead"   // its data is of this log, and more of it than the broker has
	WayData    Way = "data"    // its text says what helps, and another copy does as well
	WayTopics  Way = "topics"  // it follows other topics than before
	WayOrdered Way = "ordered" // an operator ordered it to join again
)

// Situation is what a way out depends on, as it is now.
type Situation struct {
	Log    event.LogID
	First  uint64            // sequence that the log begins with
	Head   uint64            // and that it ends with
	Copies []*statedb.Client // clients that have a copy. Read only
	// Refused reports that the database of a client was refused since it was last fed: its copy is of another hand, or the
	// client cannot be fed itself. nil: nobody was.
	Refused func(id string) bool
	Started int64  // of the broker, ns since 1970: whoever was heard since then in a session agrees with this log
	Taken   uint64 // an operator has accepted this log against databases that stand up to there; 0: none
}

// Stranded is a client that cannot go on from where its database stands.
type Stranded struct {
	ID     string
	Kind   string // of its database; "" when that is not known
	Topics []string
	Role   statedb.Role
	Known  bool   // the broker has a record of it
	Acked  uint64 // after which it would go on
	Way    Way
}

// Out says in a sentence what helps now: another copy to load, where one is known, and else what helps without one. It
// is the one place that names --from: nobody is told to join from a node that does not exist.
func (s *Stranded) Out(g Situation) string {
	if s.Way == WayNone {
		return ""
	}
	t := s.target(g)
	if t == nil {
		return s.alone(g)
	}
	text := fmt.Sprintf("Start its node with --from %s", t.ID)
	switch s.Way {
	case WayAhead:
		text = fmt.Sprintf("Put the newer data directory of the broker back; where there is none, start its node with "+
			"--from %s", t.ID)
	case WayTopics:
		text = fmt.Sprintf("Or run xmq client forget %s --reason TEXT, and start its node with --from %s", s.ID, t.ID)
	case WayData:
		text = "Else start its node with --from " + t.ID
	}
	if s.Way != WayEmpty && s.Way != WayTrimmed && s.Way != WayOrdered {
		text += " --replace"
	}
	text += ": it loads the copy of " + t.ID
	switch {
	case t.State == statedb.Failed && t.LastError != nil:
		text += fmt.Sprintf(", which has failed at increment %d and has to be mended first", t.LastError.Seq)
	case away(t):
		text += ", whose node has to run"
	}
	if s.Way == WayOrdered {
		text += fmt.Sprintf(". To take the order back: xmq client seek %s %d --reason TEXT", s.ID, s.Acked+1)
	}
	return text
}

// away reports that the node of a client is not there, as far as its record says.
func away(c *statedb.Client) bool { return c.Stopped != 0 || c.Silent != 0 }

// target is the client whose copy this one can load: of the same kind, with the same topics, of this log. One that
// answers comes first, then who has come the farthest.
func (s *Stranded) target(g Situation) *statedb.Client {
	if s.Kind == "webhook" { // it has nothing that could be loaded
		return nil
	}
	best := func(a, b *statedb.Client) int {
		bad := func(c *statedb.Client) int {
			switch {
			case c.State == statedb.Failed:
				return 2
			case away(c):
				return 1
			}
			return 0
		}
		return cmp.Or(bad(a)-bad(b), cmp.Compare(b.Acked.Seq, a.Acked.Seq), strings.Compare(a.ID, b.ID))
	}
	var all []*statedb.Client
	for _, c := range g.Copies {
		if c.ID != s.ID && c.Placed() && c.Seek == nil && s.trusts(c, g) && c.Acked.Log == g.Log &&
			(s.Kind == "" || c.Driver == s.Kind) &&
			slices.Equal(c.Topics, s.Topics) {
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return slices.MinFunc(all, best)
}

// trusts reports whether the copy of c is known to be one of this log. Where the log itself is in doubt a record says
// nothing: the state store is as old as the log, and the database may be ahead as well.
func (s *Stranded) trusts(c *statedb.Client, g Situation) bool {
	if g.Refused != nil && g.Refused(c.ID) || c.Acked.Seq > g.Head {
		return false
	}
	return s.Way != WayAhead && s.Way != WayOther || c.Heard >= g.Started
}

// alone is what helps where no other copy is known.
func (s *Stranded) alone(g Situation) string {
	first := max(g.First, 1)
	backup := "start its node on an empty database with --restore FILE, a backup of xmq dump"
	if first > 1 {
		backup += fmt.Sprintf(" that reaches %d or more", first-1)
	}
	none := "No other client has a copy of this log that it could load"
	switch s.Kind {
	case "":
	case "webhook":
		none = "What a webhook has received cannot be loaded from another client"
		backup = ""
	default:
		none = fmt.Sprintf("No other client has a copy of this log, in a database of kind %s and with the same topics, "+
			"that it could load", s.Kind)
	}
	var ways []string
	add := func(text string) {
		if text != "" {
			ways = append(ways, text)
		}
	}
	seek := func(seq uint64, what string) string {
		return fmt.Sprintf("xmq client seek %s %d --reason TEXT %s", s.ID, seq, what)
	}
	switch s.Way {
	case WayData, WayTopics:
		return ""
	case WayAhead:
		if g.Taken >= s.Acked { // that was done
			add("put the newer data directory of the broker back")
			add(seek(g.Head+1, "lets it go on with this log, keeping what its database has beyond it"))
			add(backup)
			break
		}
		return "Put the newer data directory of the broker back, or take this log as it is: xmq log accept --confirm " +
			"--reason TEXT"
	case WayTrimmed:
		if s.Acked+1 < first {
			add(backup)
			gone := fmt.Sprintf("increments %d to %d", s.Acked+1, first-1)
			if s.Acked+1 == first-1 {
				gone = fmt.Sprintf("increment %d", first-1)
			}
			add(seek(first, "gives up "+gone+" there, which the log does not have any more"))
			break
		}
		add(seek(s.Acked+1, "lets it go on where it stands, if the log can be read there"))
		add(backup)
	case WayOrdered:
		add(seek(s.Acked+1, "takes the order back"))
	case WayLost:
		add(backup)
		add(fmt.Sprintf("to keep what its database holds: xmq client forget %s --reason TEXT, and start its node, which "+
			"goes on from the position that stands in its database; where none stands there, first xmq client seek %s SEQ "+
			"--reason TEXT says which increment it applies next", s.ID, s.ID))
	case WayOther:
		add("put back the data directory of the broker that its data belongs to")
		add(backup)
		master := "under an ID of masters"
		if s.Role == statedb.Master {
			master = "again"
		}
		add(fmt.Sprintf("or, where this log is new and no database stands farther, remove its position (in SQL: DROP TABLE "+
			"xmq_position) and start its node %s: its data is what this log begins with", master))
	default: // WayEmpty
		switch {
		case first > 1:
			add(backup)
		case s.Known && s.Role != statedb.Master:
			add(fmt.Sprintf("to begin with increment 1: xmq client forget %s --reason TEXT, xmq client seek %s 1 --reason "+
				"TEXT, and start its node", s.ID, s.ID))
		case s.Known:
			add(fmt.Sprintf("to begin with increment 1: xmq client forget %s --reason TEXT, and start its node", s.ID))
		default:
			add(fmt.Sprintf("to begin with increment 1: xmq client seek %s 1 --reason TEXT, and start its node", s.ID))
		}
	}
	return none + ": " + strings.Join(ways, "; ")
}

// Told puts what to do after what has happened.
func Told(what, do string) string {
	if do == "" {
		return what
	}
	return strings.TrimRight(what, ". ") + ". " + do
}
