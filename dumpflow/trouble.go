package dumpflow

import (
	"slices"
	"strings"
)

// Trouble is why one requester could not use a snapshot, or what it has left out of it, in its own words.
type Trouble struct {
	ID   string `json:"id"`
	Text string `json:"text"` // at most MaxTrouble bytes
	Time int64  `json:"time"` // ns since 1970, for people
}

// MaxTrouble is the longest text of a Trouble, in bytes, and MaxTroubles how many requesters of one DUMP are remembered
// with theirs.
const (
	MaxTrouble  = 1024
	MaxTroubles = 64
)

// ShortTrouble is text, cut to MaxTrouble bytes between two characters.
func ShortTrouble(text string) string {
	if len(text) <= MaxTrouble {
		return text
	}
	return strings.ToValidUTF8(text[:MaxTrouble-3], "") + "..."
}

// Note remembers why the requester id could not use the snapshot, in place of what was known of it. changed says that
// it was not known yet; pushed names the requester that is no longer remembered for it, "" for none.
func (d *Dump) Note(id, text string, now int64) (changed bool, pushed string) {
	text = ShortTrouble(text)
	if slices.ContainsFunc(d.NotLoaded, func(t Trouble) bool { return t.ID == id && t.Text == text }) {
		return false, ""
	}
	rest := without(d.NotLoaded, id)
	if len(rest) == MaxTroubles {
		pushed, rest = rest[0].ID, rest[1:]
	}
	d.NotLoaded = append(rest, Trouble{ID: id, Text: text, Time: now})
	return true, pushed
}

// Without remembers what the requester id has left out of the snapshot when it loaded it. It reports whether that is
// news.
func (d *Dump) Without(id, text string, now int64) bool {
	text = ShortTrouble(text)
	if slices.ContainsFunc(d.LeftOut, func(t Trouble) bool { return t.ID == id && t.Text == text }) {
		return false
	}
	d.LeftOut = append(without(d.LeftOut, id), Trouble{ID: id, Text: text, Time: now})
	d.LeftOut = d.LeftOut[max(0, len(d.LeftOut)-MaxTroubles):]
	return true
}

// without is troubles but that of id.
func without(troubles []Trouble, id string) []Trouble {
	return slices.DeleteFunc(slices.Clone(troubles), func(t Trouble) bool { return t.ID == id })
}
