package nodeclient

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"xmq/broker/bus"
	"xmq/broker/event"
)

// awayEvery is after how many ticks the broker is told again that the database of a node is away.
const awayEvery = 5

// Away opens a database that may be away: until open succeeds, fails for good or ctx ends it is called again, after
// longer and longer waits of up to o.MaxBackoff ticks, and the broker is told meanwhile that this node lives, and why
// it does not begin. It opens no session, so nobody's state changes. An order for the client ends a wait. The error is
// that of the last try.
func Away(ctx context.Context, conn bus.Conn, o Options, open func(context.Context) error) error {
	host, _ := os.Hostname() // only for people
	self := event.Session{Instance: event.Instance(random()), Turn: 1, Token: newToken()}
	hurry := make(chan struct{}, 1)
	sub, err := conn.Subscribe(event.Subject(o.Group, event.Down, o.ID), func(m bus.Msg) {
		e, err := event.Decode(m.Data)
		if err == nil && e.Session == self && e.Code == event.Reopen {
			select {
			case hurry <- struct{}{}:
			default:
			}
		}
	})
	if err != nil {
		return fmt.Errorf("node %s: subscribe: %w", o.ID, err)
	}
	defer sub.Stop()
	vain := make(chan struct{}, 1)
	asked, err := conn.Subscribe(inboxOfAsk(o.ID), func(m bus.Msg) { inVain(m, vain) })
	if err != nil {
		return fmt.Errorf("node %s: subscribe: %w", o.ID, err)
	}
	defer asked.Stop()
	var nobody unserved
	served := true // as far as is known of what was said last
	since := time.Now()
	for wait, told := 1, ""; ; wait = min(2*wait, o.MaxBackoff) {
		err := open(ctx)
		if err == nil {
			if told != "" {
				o.Log.Info("the database is there", "client", o.ID, "after", time.Since(since).Round(time.Second))
			}
			return nil
		}
		if !IsTransient(err) || ctx.Err() != nil {
			return err
		}
		if told != err.Error() {
			told = err.Error()
			o.Log.Warn("the database does not answer, trying until it does", "client", o.ID, "err", err)
		}
		say := func() {
			e := event.Event{Kind: event.IncrReq, State: event.None, Code: event.Busy, Group: o.Group, ID: o.ID, Session: self,
				Text: short(told), Body: event.Hello{Target: o.Driver, Topics: o.Topics, Stateless: o.Stateless, Away: true,
					Host: host, Pid: os.Getpid(),
					Address: o.Address}.Encode()}
			served = true
			// said again when it is lost
			err := conn.Ask(event.Subject(o.Group, event.Up, o.ID), inboxOfAsk(o.ID), e.Append(nil))
			if errors.Is(err, bus.ErrNobody) {
				inVain(bus.Msg{}, vain)
			}
		}
		say()
		tick := time.NewTicker(o.Tick)
		for left, n := wait, 0; left > 0; left-- {
			select {
			case <-ctx.Done():
				tick.Stop()
				return err
			case <-hurry:
				o.Log.Info("an operator has ordered something: the database is tried now", "client", o.ID)
				left, wait = 1, 1
			case <-vain:
				served = false
				if nobody.again(time.Now()) {
					o.Log.Warn((&bus.Unserved{Group: o.Group, Server: conn.Server()}).Error()+" It keeps trying", "client", o.ID,
						"event", "unserved")
				}
				left++
			case <-tick.C:
				if served {
					nobody = unserved{}
				}
				if n++; n%awayEvery == 0 {
					say()
				}
			}
		}
		tick.Stop()
	}
}
