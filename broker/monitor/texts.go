package monitor

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"time"

	"xmq/broker/api"
	"xmq/broker/units"
	"xmq/statedb"
	"xmq/worker"
)

// fresh are the texts that the watch has made of alerts of the broker itself in its last round: numbers do not age
// while an alert stands.
type fresh struct {
	mu    sync.Mutex
	texts map[string]string // by key
}

// set keeps the text of now; "" for an alert that does not stand.
func (f *fresh) set(key, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.texts == nil {
		f.texts = map[string]string{}
	}
	if f.texts[key] = text; text == "" {
		delete(f.texts, key)
	}
}

func (f *fresh) get(key string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.texts[key]
}

// Text is the text of an alert with the numbers, and the way out, of now; the one that was stored where it has none.
// v is its client, nil when it has none that is known.
func (l *Alerts) Text(a statedb.Alert, v *worker.View, now time.Time) string {
	key, stored := a.Key, a.Text
	kind, _, _ := strings.Cut(key, "/")
	if kind == "pin" {
		return cmp.Or(l.pinText(v), stored)
	}
	if text := l.fresh.get(key); text != "" {
		return text
	}
	if v == nil {
		return stored
	}
	who, behind := WhoIs(v), ""
	if v.Lag != nil && *v.Lag > 0 {
		behind = ", " + units.Of(*v.Lag, "increment") + " behind"
	}
	since := v.Condition.Since
	switch is := v.Condition.Is; {
	case kind == "stopped" && is == worker.IsStopped:
		return fmt.Sprintf("%s was stopped at %s and has not come back for %s%s%s", who, units.Stamp(since),
			units.Span(now.Sub(since)), behind, l.holdsText(v, true))
	case kind == "offline" && is == worker.IsGone:
		last := ""
		if v.LastError != nil {
			last = ". Its last word was: " + v.LastError.Text
		}
		return fmt.Sprintf("%s has not been heard since %s, for %s, and has not said goodbye%s: look at its node and the "+
			"network between%s%s", who,
			units.Stamp(since), units.Span(now.Sub(since)), behind, last, l.holdsText(v, true))
	case kind == "retry" && is == worker.IsRetrying && v.LastError != nil:
		next := ""
		if v.Condition.Next.After(now) {
			next = " in " + units.Span(v.Condition.Next.Sub(now))
		}
		return fmt.Sprintf("%s cannot reach or use its database for %s%s, and tries again%s (xmq client retry %s hurries "+
			"it): %s%s", who, units.Span(now.Sub(since)), behind,
			next, v.ID, v.LastError.Text, l.holdsText(v, false))
	case kind == "slow" && is == worker.IsBlocked:
		return fmt.Sprintf("%s%s: %s. Look at what the database does; after its time limit the increment fails, and xmq "+
			"client skip %s --seq %d --reason TEXT "+
			"(or retry, replace) ends it now%s", who, behind, v.Condition.Text, v.ID, v.Acked+1, l.holdsText(v, false))
	case kind == "lag" && v.LagSeconds != nil:
		return fmt.Sprintf("%s is %s behind%s, at %.0f increments a second: xmq client show %s%s", who,
			units.Span(time.Duration(*v.LagSeconds*float64(time.Second))),
			strings.TrimSuffix(behind, " behind"), v.Rate, v.ID, l.holdsText(v, false))
	case kind == "fail" || kind == "fatal" || kind == "refused" || kind == "upgrade":
		away := ""
		if !v.Connected && !v.Heard.IsZero() {
			away = "; its node has not been heard since " + units.Stamp(v.Heard)
		}
		more := away + l.holdsText(v, false)
		if kind == "fail" {
			more += api.Earlier(l.State, a.Seq)
		}
		if do := l.wayOut(a, v); do != "" {
			more += ". " + do
		}
		if most := max(statedb.MaxText-len(more), statedb.MaxText/2); len(stored) > most {
			stored = strings.ToValidUTF8(stored[:most-3], "") + "..."
		}
		return stored + more
	}
	return stored
}

// wayOut is what helps a client now that cannot go on.
func (l *Alerts) wayOut(a statedb.Alert, v *worker.View) string {
	way := worker.Way(a.Way)
	if way == worker.WayNone || way == worker.WayTopics { // which topics its node names is not known here
		return ""
	}
	s := worker.Stranded{ID: v.ID, Kind: v.Target, Topics: v.Topics, Role: v.Role, Known: true, Acked: v.Acked, Way: way}
	return s.Out(l.Situation())
}

// WhoIs names a client, and where it runs.
func WhoIs(v *worker.View) string {
	if v.Host == "" {
		return "client " + v.ID
	}
	return "client " + v.ID + " on " + v.Host
}

// holdsText is what a client holds of the log, behind what is said of it: of one that may never come back always, of
// others when it would be an alert of its own; else empty.
func (l *Alerts) holdsText(v *worker.View, away bool) string {
	head, least := l.Log.Head().Seq, l.Knobs().Retention.PinAlert
	if v.Pin == nil || !away && (least == 0 || head-min(head, *v.Pin) <= uint64(least)) {
		return ""
	}
	text := "; it holds the log from " + units.Count(*v.Pin+1)
	if *v.Pin < head {
		text += " on, " + l.sizeText(*v.Pin)
	}
	if v.LagSeconds != nil && *v.LagSeconds > 0 {
		text += ", the oldest " + units.Span(time.Duration(*v.LagSeconds*float64(time.Second))) + " old"
	}
	if away {
		text += fmt.Sprintf(". Gone for good? xmq client forget %s --reason TEXT", v.ID)
	}
	return text
}

// sizeText is how many increments follow a sequence, and about how many bytes of the disk they take.
func (l *Alerts) sizeText(seq uint64) string {
	head := l.Log.Head().Seq
	text := units.Of(head-min(head, seq), "increment")
	if st, err := l.Log.Stats(); err == nil && st.Head.Seq >= st.First { // else the number alone is said
		per := float64(st.Bytes) / float64(st.Head.Seq+1-st.First)
		text += ", about " + units.Bytes(int64(per*float64(head-min(head, seq))))
	}
	return text
}

// pinText says who holds the log, how much of it, since when, and what to do; empty when nobody does. v is the client
// whose alert it is.
func (l *Alerts) pinText(v *worker.View) string {
	h := l.Keeping.Who()
	seq, who, held := h.Pin()
	first, is := h.First()
	if !held || !is {
		return ""
	}
	what := fmt.Sprintf("holds the log from %s on: %s, growing by %.0f a second", units.Count(seq+1), l.sizeText(seq),
		l.Taken.PerSecond())
	if rec, err := api.ReadOne(l.Log, seq+1); err == nil && rec.Time > 0 {
		what += ", the oldest " + units.Span(l.Now().Sub(time.Unix(0, rec.Time))) + " old"
	}
	switch {
	case first.Client == nil:
		return fmt.Sprintf("%s %s: see how far it is with xmq snapshots; to give it up: xmq snapshots cancel %s "+
			"--reason TEXT", who, what,
			strings.TrimPrefix(who, "DUMP "))
	case v != nil && v.ID == first.Client.ID:
		who = fmt.Sprintf("%s (%s)", WhoIs(v), strings.ReplaceAll(string(v.Condition.Is), "_", " "))
	}
	id := first.Client.ID
	if v != nil && v.Connected {
		return fmt.Sprintf("%s %s: see why it does not go forward with xmq client show %s", who, what, id)
	}
	return fmt.Sprintf("%s %s: see why it does not go forward with xmq client show %s. Gone for good? xmq client "+
		"forget %s --reason TEXT", who, what, id, id)
}

// Explained reports that an alert stands which says why a client does not go forward: whatever follows from that is
// no alert of its own.
func (l *Alerts) Explained(id string) bool {
	for _, kind := range []string{"fail", "fatal", "refused", "upgrade", "stopped", "offline", "retry", "slow", "lag",
		"join"} {
		if _, stands := l.Stands(kind + "/" + id); stands {
			return true
		}
	}
	return false
}
