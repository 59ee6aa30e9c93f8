package worker

import (
	"fmt"

	"xmq/statedb"
)

// plea is what the node of a client asks for in vain: the snapshot of a target that is not there. The node lives and
// has no session, so its client is neither stopped nor gone, and where its data stands is not known.
type plea struct {
	target string // "" for none
	text   string // why it is not served
	since  int64  // ns since 1970
	silent int    // ticks since it asked last
	raised bool   // the alert join/ID tells of it
}

// plead takes an answer to the node's own request that named no DUMP.
func (m *Machine) plead(n *Notice) {
	target, r := n.Dump.Target, n.Requester
	switch {
	case r.Backup || m.Connected(): // another process asks than the one that works
	case !n.Away:
		m.pleaOver()
	case !m.known: // no record and no alert for each
		m.rules.ClientQuota.inVain(m.c.ID, fmt.Sprintf("node %s waits for the snapshot of %s: %s", m.c.ID, target, n.Text),
			m.now, int64(m.pleaTicks())*int64(m.rules.Tick))
	default:
		if m.plea.target != target {
			m.pleaOver()
			m.plea = plea{target: target, since: m.now}
			m.clear("offline")
		}
		m.plea.text, m.plea.silent = n.Text, 0
		m.cameToJoin(n)
	}
}

// pleaTicks is for how long a node asks in vain before that is told, and how rarely it may ask.
func (m *Machine) pleaTicks() int { return max(m.rules.SilentTicks, 60) } // nodes wait 30 ticks between two tries

// tickPlea raises the alert of a node that has asked in vain for a while, and ends what is not asked any more.
func (m *Machine) tickPlea() {
	p := &m.plea
	if p.target == "" {
		return
	}
	if p.silent++; p.silent > m.pleaTicks() {
		m.pleaOver()
		return
	}
	if !p.raised && m.now-p.since >= int64(m.pleaTicks())*int64(m.rules.Tick) {
		p.raised = true
		m.raise("join", statedb.Warning, 0, fmt.Sprintf("client %s waits for the snapshot of %s: %s", m.c.ID, p.target,
			p.text))
	}
}

// pleads reports that the node asks in vain now.
func (m *Machine) pleads() bool { return m.plea.target != "" && !m.Connected() }

// pleaOver is called when the node is served, or asks no more.
func (m *Machine) pleaOver() {
	if m.plea.raised {
		m.clear("join")
	}
	m.plea = plea{}
}
