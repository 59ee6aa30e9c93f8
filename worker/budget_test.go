package worker

import (
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/statedb"
)

// All clients together have no more under way than the limit and a turn each; an acknowledgement makes room, a client
// with nothing under way always gets a turn, and what was under way to a silent node does not count.
func TestTheBudgetBoundsAllClientsTogether(t *testing.T) {
	rules := &Rules{TurnRecords: 10, TurnBytes: 100, SilentTicks: 5, Budget: NewBudget(250)}
	following := func(id string) *Machine {
		m := NewMachine(rules, id, nil, nil)
		m.known, m.presence.open, m.client.State = true, true, statedb.Following
		m.client.Acked = event.Start(7)
		m.rewind()
		m.window.grant(1000, 1<<20)
		return m
	}
	head := event.Position{Log: 7, Seq: 500, Chain: 1}
	turn := func(m *Machine) bool {
		f := m.feed(head)
		if f == nil {
			return false
		}
		m.Fed(event.Position{Log: 7, Seq: f.From.Seq + 1, Chain: 1}, make([]byte, 100))
		return true
	}
	turns := func(m *Machine) (n int) {
		for turn(m) {
			n++
		}
		return n
	}
	a, b := following("a"), following("b")
	require.Equal(t, 3, turns(a), "its own window would take hundreds")
	require.EqualValues(t, 300, rules.Budget.Bytes())
	require.Equal(t, 1, turns(b), "nobody starves")
	require.EqualValues(t, 400, rules.Budget.Bytes())

	a.client.Acked = a.window.sent // all of it is acknowledged
	a.rewind()
	a.account()
	require.EqualValues(t, 100, rules.Budget.Bytes())
	require.Equal(t, 2, turns(b))

	b.presence.silent = rules.SilentTicks
	b.account()
	require.Zero(t, rules.Budget.Bytes())
	require.Equal(t, 3, turns(a))
}
