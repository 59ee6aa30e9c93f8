package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func presenceRules() *Rules {
	return &Rules{Tick: time.Second, SilentTicks: 3, Pacer: &Pacer{}}
}

// ticks lets n of them pass and returns after which one the node fell silent; 0 for none.
func (p *presence) ticks(n int) (fell int) {
	for i := range n {
		p.tick()
		p.count()
		if p.fellSilent() {
			fell = i + 1
		}
	}
	return fell
}

// A node is connected while it is in a session and speaks; it is missed from the tick on at which it has been silent
// for long, once, until it speaks again.
func TestANodeIsMissedWhenItFallsSilent(t *testing.T) {
	rules := presenceRules()
	p := newPresence(rules)
	require.False(t, p.connected() || p.expected() || p.missed(), "never seen")
	require.Zero(t, p.ticks(10), "nobody waits for it")

	p.begin()
	p.heard()
	p.count()
	require.True(t, p.connected())
	require.EqualValues(t, 1, rules.Pacer.clients.Load())
	require.Equal(t, 3, p.ticks(10))
	require.True(t, p.missed())
	require.False(t, p.connected())
	require.Zero(t, rules.Pacer.clients.Load())
	require.EqualValues(t, 10*time.Second, p.silence())

	p.heard()
	require.True(t, p.connected(), "its session goes on")
	require.Zero(t, p.silence())
}

// Who says goodbye is not missed; whose session is ended to begin anew is, and so is who was here before the broker was
// restarted.
func TestOnlyWhoShouldComeBackIsMissed(t *testing.T) {
	for name, c := range map[string]struct {
		left   func(p *presence)
		missed bool
	}{
		"goodbye":   {(*presence).end, false},
		"reopen":    {(*presence).reopen, true},
		"forgotten": {(*presence).forget, false},
		"reopened without a session": {func(p *presence) {
			p.end()
			p.reopen()
		}, false},
		"a restart": {func(p *presence) {
			rules := p.rules
			*p = newPresence(rules)
			p.restore(int64(time.Minute), true)
		}, true},
		"a restart after its goodbye": {func(p *presence) {
			rules := p.rules
			*p = newPresence(rules)
			p.restore(int64(time.Minute), false)
		}, false},
	} {
		p := newPresence(presenceRules())
		p.begin()
		p.heard()
		c.left(&p)
		require.False(t, p.connected(), name)
		p.ticks(5)
		require.Equal(t, c.missed, p.missed(), name)
		require.Equal(t, c.missed, p.expected(), name)
	}
}

// Silence of before a restart is added to that of now, until the node speaks.
func TestSilenceGoesOnAfterARestart(t *testing.T) {
	p := newPresence(presenceRules())
	p.restore(int64(time.Minute), true)
	p.ticks(2)
	require.EqualValues(t, time.Minute+2*time.Second, p.silence())
	p.heard()
	p.ticks(1)
	require.EqualValues(t, time.Second, p.silence())
}

// A node that was told to speak rarely may be silent for longer, also for its lease on a DUMP.
func TestWhoMaySpeakRarelyMayBeSilentForLonger(t *testing.T) {
	rules := presenceRules()
	rules.Pacer.clients.Store(100 * heartbeats)
	p := newPresence(rules)
	p.begin()
	require.EqualValues(t, 100_000, p.heartbeatInterval())
	p.heard()
	p.ticks(250)
	require.True(t, p.connected())
	require.True(t, p.spoke(3))
	p.ticks(50)
	require.False(t, p.connected())
	require.True(t, p.spoke(3), "the tick at which it counts as silent is the last one of its lease")
	p.ticks(1)
	require.False(t, p.spoke(3))
}
