package worker

import "time"

// presence is whether the node of one client is there, as far as its broker hears of it. It counts ticks: the clock of
// the system is never asked, and the time for which the broker itself was away does not count as silence.
//
// Invariant: a node is connected only in an open session.
type presence struct {
	rules *Rules

	open bool // a session of the node has begun since this broker started
	// it was here before the broker was restarted, or its session was ended to begin anew; it is not back yet
	awaited bool

	silent      int   // ticks since its last word, or since the broker started
	silentSince int64 // ns of silence before the broker started; 0 as soon as it was heard
	silentAfter int   // so many ticks without a word make it silent

	toldInterval time.Duration // how rarely it may speak, as it was told last; 0 for as usual
	counted      bool          // the broker's Pacer counts it: it is connected, or expected back
}

func newPresence(rules *Rules) presence {
	return presence{rules: rules, silentAfter: rules.silentAfter(0)}
}

// restore is the presence of a client that the broker knew before it was started: silent for so long, in ns; expected
// back unless it said goodbye.
func (p *presence) restore(silence int64, expected bool) {
	p.silentSince, p.awaited = silence, expected
}

// begin opens the session.
func (p *presence) begin() { p.open, p.awaited = true, false }

// end closes the session for good: nobody waits for another one.
func (p *presence) end() { p.open = false }

// reopen closes the session and expects another one: a node that does not open one is missed as any that falls silent.
func (p *presence) reopen() { p.awaited, p.open = p.expected(), false }

// forget is for a client whose record is removed.
func (p *presence) forget() { p.open, p.awaited = false, false }

// heard notes a word of the node.
func (p *presence) heard() {
	p.silent, p.silentSince, p.silentAfter = 0, 0, p.rules.silentAfter(p.toldInterval)
}

// tick notes that one tick has passed. After the first one all clients of the broker are counted, and each may speak as
// rarely as before the restart.
func (p *presence) tick() {
	if p.silent++; p.awaited && p.silent == 1 {
		p.silentAfter = p.rules.silentAfter(p.toldInterval)
	}
}

// expected reports whether the node should be heard: it is in a session, or should come back to one.
func (p *presence) expected() bool { return p.open || p.awaited }

// connected reports whether the node is in a session and was heard lately.
func (p *presence) connected() bool { return p.open && p.silent < p.silentAfter }

// missed reports whether the node is expected and silent.
func (p *presence) missed() bool { return p.expected() && p.silent >= p.silentAfter }

// fellSilent reports whether the node is missed since this very tick.
func (p *presence) fellSilent() bool { return p.expected() && p.silent == p.silentAfter }

// spoke reports whether the node is in a session and was heard within so many ticks, or within the longer interval it
// may be silent for when it was told one.
func (p *presence) spoke(within int) bool {
	if p.toldInterval > 0 {
		within = max(within, p.silentAfter)
	}
	return p.open && p.silent <= within
}

// silence is for how long nothing was heard of the node while a broker ran, in ns.
func (p *presence) silence() int64 { return p.silentSince + int64(p.silent)*int64(p.rules.Tick) }

// heartbeatInterval is how rarely the node may speak from now on, in milliseconds, as an event tells it; 0 for as
// usual.
func (p *presence) heartbeatInterval() uint32 {
	p.toldInterval = p.rules.Pacer.interval()
	return uint32(p.toldInterval / time.Millisecond)
}

// count makes the broker's Pacer count the node while it is connected or expected back.
func (p *presence) count() {
	if here := p.expected() && p.silent < p.silentAfter; here != p.counted {
		p.counted = here
		p.rules.Pacer.count(here)
	}
}
