package worker

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"xmq/broker/event"
	"xmq/broker/units"
)

// ClientQuota counts the clients that a broker knows, over all its workers, and what was refused to IDs it does not
// know. Whoever is refused leaves no record and no alert of its own, so that strangers cost nothing. Safe for
// concurrent use; nil admits everybody.
type ClientQuota struct {
	limit  int64 // 0: none
	known  atomic.Int64
	full   atomic.Uint64
	strays atomic.Uint64

	mu    sync.Mutex
	stray Refusals            // Waits, IDs, Texts and More
	pleas map[string][2]int64 // since when IDs ask in vain, and when they did last; at most mostStrays
	lives map[string]newcomer // those that live and wait; at most mostStrays
}

// NewClientQuota admits clients until limit are known; 0 for no limit.
func NewClientQuota(limit int) *ClientQuota { return &ClientQuota{limit: int64(limit)} }

// Refusals is what was refused since the broker started.
type Refusals struct {
	Known  int      // clients
	Full   uint64   // IDs that were refused because so many clients are known, counted as often as they asked
	Strays uint64   // other refusals of IDs that are not known
	Waits  bool     // one of them waits for something, and was not refused for good
	IDs    []string // that were refused so, the first one first, at most mostStrays
	Texts  []string // why, of each the last, in one sentence
	More   bool     // there were others
}

// mostStrays is how many refused IDs are remembered: whoever invents IDs costs no memory.
const mostStrays = 16

// Refusals tells what was refused until now.
func (a *ClientQuota) Refusals() Refusals {
	r := Refusals{Known: int(a.known.Load()), Full: a.full.Load(), Strays: a.strays.Load()}
	a.mu.Lock()
	defer a.mu.Unlock()
	r.IDs, r.Texts, r.More, r.Waits = slices.Clone(a.stray.IDs), slices.Clone(a.stray.Texts), a.stray.More, a.stray.Waits
	return r
}

// restore counts a stored client: it is there, whatever the limit says now.
func (a *ClientQuota) restore() {
	if a != nil {
		a.known.Add(1)
	}
}

// take admits one client more; false when there are too many.
func (a *ClientQuota) take() bool {
	if a == nil {
		return true
	}
	if a.known.Add(1) > a.limit && a.limit > 0 {
		a.known.Add(-1)
		a.full.Add(1)
		return false
	}
	return true
}

// give notes that a client is gone.
func (a *ClientQuota) give() {
	if a != nil {
		a.known.Add(-1)
	}
}

// crowded reports that take would fail now, and counts that.
func (a *ClientQuota) crowded() bool {
	if a == nil || a.limit == 0 || a.known.Load() < a.limit {
		return false
	}
	a.full.Add(1)
	return true
}

// turnedAway notes that an ID that nobody knows was refused, and why.
func (a *ClientQuota) turnedAway(id, text string) { a.noteStray(id, text, false) }

// newcomer is a node that nobody knows, and that lives and waits.
type newcomer struct {
	view    View          // as it was heard last
	session event.Session // in which it hears that it is to try again; zero for none
	till    int64         // ns since 1970: it is silent from then on
}

// awaits notes that the node of an ID that nobody knows lives and waits, as v shows it; text says for what. It is
// expected to speak again within so many ns.
func (a *ClientQuota) awaits(v View, s event.Session, text string, within int64) {
	if a == nil {
		return
	}
	a.noteStray(v.ID, text, true)
	now := v.Heard.UnixNano()
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.lives, func(_ string, n newcomer) bool { return n.till < now })
	last, there := a.lives[v.ID]
	if there && last.view.Condition.Is == v.Condition.Is {
		v.Condition.Since = last.view.Condition.Since
	}
	if a.lives == nil {
		a.lives = map[string]newcomer{}
	}
	if there || len(a.lives) < mostStrays {
		a.lives[v.ID] = newcomer{v, s, now + within}
	}
}

// hears is the session in which the node of an ID that nobody knows hears that it is to try again; zero for none.
func (a *ClientQuota) hears(id string, now int64) event.Session {
	if a == nil {
		return event.Session{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := a.lives[id]; n.till >= now {
		return n.session
	}
	return event.Session{}
}

// Newcomers are the nodes that nobody knows and that live and wait at now, for their database or another node's
// snapshot: by ID, mostStrays at most. Nobody counts them as clients.
func (a *ClientQuota) Newcomers(now time.Time) (all []View) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(a.lives)) {
		if n := a.lives[id]; n.till >= now.UnixNano() {
			all = append(all, n.view)
		}
	}
	return all
}

func (a *ClientQuota) noteStray(id, text string, waits bool) {
	if a == nil {
		return
	}
	a.strays.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stray.Waits = a.stray.Waits || waits
	switch i := slices.Index(a.stray.IDs, id); {
	case i >= 0:
		a.stray.Texts[i] = text
	case len(a.stray.IDs) == mostStrays:
		a.stray.More = true
	default:
		a.stray.IDs, a.stray.Texts = append(a.stray.IDs, id), append(a.stray.Texts, text)
	}
}

// Forget drops which IDs were refused, when nothing is told of them any more. Those that come again are noted again.
func (a *ClientQuota) Forget() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stray = Refusals{}
}

// inVain notes that an ID that nobody knows asks for what it cannot get. It is refused as any stray is once it has
// asked for a while: a target is often started a moment later.
func (a *ClientQuota) inVain(v View, text string, after int64) {
	if a == nil {
		return
	}
	id, now := v.ID, v.Heard.UnixNano()
	a.mu.Lock()
	for other, asked := range a.pleas {
		if now-asked[1] > after {
			delete(a.pleas, other)
		}
	}
	asked, there := a.pleas[id]
	if !there {
		asked[0] = now
	}
	asked[1] = now
	if a.pleas == nil {
		a.pleas = map[string][2]int64{}
	}
	if there || len(a.pleas) < mostStrays {
		a.pleas[id] = asked
	}
	a.mu.Unlock()
	if now-asked[0] >= after {
		a.awaits(v, event.Session{}, text, after)
	}
}

// tooMany is the sentence for id when the broker is full.
func (a *ClientQuota) tooMany(id string) string {
	return fmt.Sprintf("client %s is not admitted: this broker knows %s, which is its limit (max_clients): "+
		"forget a client that is gone (xmq client forget ID --reason TEXT) or raise the limit", id,
		units.Of(uint64(a.known.Load()), "client"))
}
