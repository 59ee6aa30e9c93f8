package worker

import (
	"fmt"

	"xmq/statedb"
)

// joinWait is what the node of a client asks for in vain: the snapshot of a target that is not there. The node lives
// and has no session, so its client is neither stopped nor gone, and where its data stands is not known.
type joinWait struct {
	target string // "" for none
	text   string // why it is not served
	since  int64  // ns since 1970
	silent int    // ticks since it asked last
	raised bool   // the alert join/ID tells of it
}

// heardInVain takes an answer to the node's own request that named no DUMP.
func (m *Machine) heardInVain(n *Notice) {
	target, r := n.Dump.Target, n.Requester
	switch {
	case r.Backup || m.Connected(): // another process asks than the one that works
	case !n.Away:
		m.joinWaitOver()
	case !m.known: // no record and no alert for each
		v := m.newcomer(Condition{Is: IsWaiting, By: target, Text: n.Text}, n.Process)
		m.rules.ClientQuota.inVain(v, fmt.Sprintf("node %s waits for the snapshot of %s: %s", v.ID, target, n.Text),
			int64(m.joinWaitTicks())*int64(m.rules.Tick))
	default:
		if m.joinWait.target != target {
			m.joinWaitOver()
			m.joinWait = joinWait{target: target, since: m.now}
			m.clear("offline")
		}
		m.joinWait.text, m.joinWait.silent = n.Text, 0
		m.cameToJoin(n)
	}
}

// joinWaitTicks is for how long a node asks in vain before that is told, and how rarely it may ask.
func (m *Machine) joinWaitTicks() int { return max(m.rules.SilentTicks, 60) } // nodes wait 30 ticks between two tries

// tickJoinWait raises the alert of a node that has asked in vain for a while, and ends what is not asked any more.
func (m *Machine) tickJoinWait() {
	w := &m.joinWait
	if w.target == "" {
		return
	}
	if w.silent++; w.silent > m.joinWaitTicks() {
		m.joinWaitOver()
		return
	}
	if !w.raised && m.now-w.since >= int64(m.joinWaitTicks())*int64(m.rules.Tick) {
		w.raised = true
		m.raise("join", statedb.Warning, 0, fmt.Sprintf("client %s waits for the snapshot of %s: %s", m.client.ID, w.target,
			w.text))
	}
}

// waitsToJoin reports that the node asks in vain now.
func (m *Machine) waitsToJoin() bool { return m.joinWait.target != "" && !m.Connected() }

// joinWaitOver is called when the node is served, or asks no more.
func (m *Machine) joinWaitOver() {
	if m.joinWait.raised {
		m.clear("join")
	}
	m.joinWait = joinWait{}
}
