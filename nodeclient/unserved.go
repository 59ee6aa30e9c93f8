package nodeclient

import (
	"errors"
	"time"

	"xmq/broker/bus"
	"xmq/broker/event"
)

// unservedFor is for how long nobody may serve the group before that is told: a broker that is started again is away
// for less.
const unservedFor = 2 * time.Second

// unserved notes that nobody listened to what was said, as the network knows it.
type unserved struct {
	since time.Time // zero: somebody did, as far as is known
	told  bool
}

// again notes it once more; it returns whether it is to be told now.
func (u *unserved) again(now time.Time) (tell bool) {
	if u.since.IsZero() {
		u.since = now
	}
	tell = !u.told && now.Sub(u.since) >= unservedFor
	u.told = u.told || tell
	return tell
}

// ask says an event in such a way that the network can answer that nobody listens. A broker answers as to any event.
func (a *Agent) ask(e event.Event) error {
	err := a.conn.Ask(event.Subject(a.opts.Group, event.Up, a.opts.ID), inboxOfAsk(a.opts.ID), e.Append(nil))
	if errors.Is(err, bus.ErrNobody) {
		a.nobody(bus.Msg{})
	}
	return err
}

func inboxOfAsk(id string) string { return event.InboxPrefix(id) + ".asked" }

// listenUnserved hears that nobody listens to what is asked.
func (a *Agent) listenUnserved() (bus.Subscription, error) {
	return a.conn.Subscribe(inboxOfAsk(a.opts.ID), a.nobody)
}

func (a *Agent) nobody(m bus.Msg) { inVain(m, a.vain) }

// inVain fills the slot of vain when m says that nobody listened.
func inVain(m bus.Msg, vain chan<- struct{}) {
	if bus.Unanswered(m) {
		select {
		case vain <- struct{}{}:
		default:
		}
	}
}

// unservedError says that nobody serves the group.
func (a *Agent) unservedError() error {
	return &bus.Unserved{Group: a.opts.Group, Server: a.conn.Server()}
}
